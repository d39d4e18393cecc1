#!/bin/bash
# One noun, one pair, one prefix: X.c has X.h, what it offers is named x_…. The public header, the version script and
# the library name the same functions.
. "$(dirname -- "$0")/common.bash"
need_build

# --- pairs ------------------------------------------------------------------------------------------------------------

while IFS= read -r file; do
    case $file in
    daemon/main.c | client/tools/main.c) continue ;;
    client/tools/cmd-*.c) continue ;;   # verbs, declared together in commands.h
    client/lib/typed.c) continue ;;     # implements a part of consulcfg.h
    esac
    [ -e "${file%.c}.h" ] || complain "$file:1: there is no ${file%.c}.h: a file is a pair"
done < <(git ls-files -- 'proto/*.c' 'daemon/*.c' 'client/*.c')

# --- prefixes ---------------------------------------------------------------------------------------------------------

# Of X.c: x, x_… and, for all of a kind, xs_….
allows() { # PREFIX SYMBOL
    case $1:$2 in
    opened:openings_*) return 0 ;;        # the set of what is opened: "openeds" is no word
    image_builder:image_build) return 0 ;; # builds in one go, without a builder in sight
    std:* | main:main) return 0 ;;
    esac
    [[ $2 == "$1" || $2 == "$1"_* || $2 == "$1"s_* ]]
}

check_prefix() { # FILE SYMBOL
    local prefix=${1##*/}
    prefix=${prefix%.[ch]}
    allows "${prefix//-/_}" "$2" || complain "$1: $2 begins with another word than ${prefix//-/_}"
}

n_symbols=0
for object in "$build"/proto/libproto.a.p/*.c.o "$build"/daemon/libdaemon.a.p/*.c.o; do
    room=${object#"$build"/}
    file=${room%%/*}/${object##*/}
    file=${file%.o}
    [ -e "$file" ] || continue # of a file that was renamed since
    while IFS= read -r symbol; do
        n_symbols=$((n_symbols + 1))
        check_prefix "$file" "$symbol"
    done < <(nm -g --defined-only "$object" | awk '$2 ~ /[TDBR]/ && $3 !~ /^__/ { print $3 }')
done
[ "$n_symbols" -gt 100 ] || complain "$build: $n_symbols symbols in proto/ and daemon/; run ./dev build"

while IFS=: read -r file _ symbol; do
    [[ $symbol == le[0-9]* ]] || check_prefix "$file" "$symbol" # le.h is about le16, le32, le64
done < <(git grep -nE '^(ALWAYS_INLINE )?static inline .*[( *][a-z0-9_]+\(' -- 'proto/*.h' 'daemon/*.h' |
    sed -E 's/^([^:]*:[0-9]+):(ALWAYS_INLINE )?static inline [^(]*[ *]([a-z0-9_]+)\(.*/\1:\3/')

# --- the library ------------------------------------------------------------------------------------------------------

header=$(gcc -fpreprocessed -dD -E -P client/lib/consulcfg.h | grep -oE '\bccfg_[a-z0-9_]+\(' | tr -d '(' | grep -v '_fn$' | sort -u)
script=$(grep -oE '^[[:space:]]*ccfg_[a-z0-9_]+;' client/lib/libconsulcfg.sym | tr -d ' \t;' | sort -u)
library=$(nm -D --defined-only "$build/client/libconsulcfg.so.0" |
    awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }' | sort -u)
[ -n "$header" ] || complain "client/lib/consulcfg.h: no functions found"
complain_each "only one of consulcfg.h and libconsulcfg.sym names it" < <(
    comm -3 <(echo "$header") <(echo "$script") | tr -d '\t')
complain_each "only one of consulcfg.h and the library that was built has it" < <(
    comm -3 <(echo "$header") <(echo "$library") | tr -d '\t')
exit "$status"
