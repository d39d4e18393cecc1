#!/bin/bash
# Every shell script is clean for shellcheck.
. "$(dirname -- "$0")/common.bash"

mapfile -t scripts < <(git grep -lIE '^#!/bin/(ba)?sh' -- ':!tests/corpus')
shellcheck --format=gcc --external-sources --source-path=SCRIPTDIR "${scripts[@]}" tests/lint/common.bash ||
    complain "mend the scripts, or say why not: # shellcheck disable=CODE  # reason"
exit "$status"
