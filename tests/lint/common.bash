# Sourced by the scripts beside it. They run from the root of the tree, say FILE:LINE and what to do for each fault,
# and nothing when all is well.
# shellcheck shell=bash disable=SC2034 # the scripts use what is set here
set -eu -o pipefail
export LC_ALL=C.UTF-8
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
build="build-dev"
status=0 # what the scripts exit with

complain() {
    printf '%s\n' "$*" >&2
    status=1
}

# The tree may belong to another user, as in a container.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=$PWD
if [ -z "$(git ls-files -- daemon)" ]; then
    complain ".: git does not list the files of this tree; lint needs a checkout"
    exit 1
fi

# Complains about each line of standard input, in front of what to do.
complain_each() { # WHAT-TO-DO
    local line
    while IFS= read -r line; do
        complain "$line: $1"
    done
}

need_build() {
    if [ ! -e "$build/compile_commands.json" ]; then
        complain "$build: there is no developer build; run ./dev build"
        exit 1
    fi
}

# The cells of a table of HACKING.md, one row a line, separated by tabs.
hacking_table() { # HEADING
    awk -F' *[|] *' -v heading="## $1" '
        /^## / { inside = $0 == heading; row = 0 }
        inside && /^[|]/ && ++row > 2 { print $2 "\t" $3 "\t" $4 "\t" $5 }' HACKING.md
}

# What stands between backquotes.
quoted() { # TEXT
    # shellcheck disable=SC2016 # backquotes as they are
    grep -o '`[^`]*`' <<<"$1" | tr -d '`'
}
