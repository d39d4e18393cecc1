#!/bin/bash
# clang-tidy over all C files that are built, by .clang-tidy (and those of tests/ and client/lib/): no warnings.
. "$(dirname -- "$0")/common.bash"
need_build

# What it finds is on its standard output; the other counts the warnings in system headers.
git ls-files -z -- 'proto/*.c' 'daemon/*.c' 'client/*.c' 'tests/unit/*.c' |
    xargs -0 -n 2 -P "$(nproc)" clang-tidy --quiet -p "$build" 2>"$build/tidy.log" ||
    complain "mend the code, or run it again if it was ended from outside; $build/tidy.log has what clang-tidy said besides"
exit "$status"
