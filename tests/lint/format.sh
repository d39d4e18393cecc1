#!/bin/bash
# Every C file is as clang-format writes it.
. "$(dirname -- "$0")/common.bash"

git ls-files -z -- '*.c' '*.h' '*.cpp' | xargs -0 -P "$(nproc)" -n 32 clang-format --dry-run -Werror || {
    complain "run ./dev format"
}
exit "$status"
