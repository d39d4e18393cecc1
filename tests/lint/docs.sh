#!/bin/bash
# What is written is so: the map in HACKING.md, the keys in consulcfgd.conf(5), a page for each program; and nothing is
# in the tree that belongs to one machine.
. "$(dirname -- "$0")/common.bash"

# --- the map ----------------------------------------------------------------------------------------------------------

rooms=()
while IFS=$'\t' read -r room _; do
    while IFS= read -r path; do
        rooms+=("$path")
        [ -d "$path" ] || complain "HACKING.md: there is no room $path"
    done < <(quoted "$room")
done < <(hacking_table Rooms)
while IFS= read -r path; do
    [[ " ${rooms[*]}" == *" $path"* ]] || complain "$path: HACKING.md does not say what this room is"
done < <(git ls-files | sed -n 's|^\([^./][^/]*/\).*|\1|p' | sort -u)

# Files by their path from the root. Doors are doors.sh's matter.
# shellcheck disable=SC2016 # backquotes as they are
while IFS=: read -r line path; do
    [ -e "$path" ] || complain "HACKING.md:$line: there is no $path"
done < <(grep -noE '`(proto|daemon|client|tests|man|systemd)/[A-Za-z0-9_./-]+`' HACKING.md | tr -d '`')

# Tests by file and name.
# shellcheck disable=SC2016 # backquotes as they are
while IFS=: read -r file name; do
    grep -qs "${name# }" "tests/$file" || complain "tests/README.md: there is no ${name# } in tests/$file"
done < <(grep -oE '`(unit|system|fuzz)/[A-Za-z0-9_.-]+(: [a-z0-9_]+)?`' tests/README.md | tr -d '`')

# What the system tests stand on, and the benchmarks.
while IFS= read -r file; do
    grep -qF "\`${file##*/}\`" tests/README.md || complain "$file: tests/README.md does not say what it is"
done < <(git ls-files tests/support ':!*/__init__.py')
while IFS= read -r file; do
    grep -qF "## ${file##*bench-}" tests/bench/README.md || complain "$file: tests/bench/README.md has no section for it"
done < <(git ls-files 'tests/bench/bench-*')

# Links of the pages, and the benchmarks that they name.
while IFS=: read -r file target; do
    [ -e "$(dirname -- "$file")/$target" ] || complain "$file: there is no $target"
done < <(git ls-files -z -- '*.md' | xargs -0 grep -noE '\]\([^)#:]+\)' | sed -E 's/:[0-9]+:\]\((.*)\)$/:\1/')
while IFS=: read -r file name; do
    [ -x "tests/bench/bench-$name" ] || complain "$file: there is no ./dev bench $name"
done < <(git ls-files -z -- '*.md' | xargs -0 grep -oE '`\./dev bench [a-z-]+' | sed 's/`.* //')

# --- limits -----------------------------------------------------------------------------------------------------------

while IFS=: read -r line name; do
    complain "proto/limits.h:$line: $name has no reason: say it in a comment behind the number"
done < <(awk '/^#define LIMIT_/ { line = NR; name = $2; text = "" }
    line { text = text $0 }
    line && !/\\$/ { if (text !~ /\/\*/) print line ":" name; line = 0 }' proto/limits.h)

# --- messages ---------------------------------------------------------------------------------------------------------

while read -r _ name id _; do
    grep -q "^-- ${id//\"/}\$" systemd/consulcfgd.catalog ||
        complain "daemon/log-ids.h: systemd/consulcfgd.catalog does not have $name"
    grep -q "${id//\"/}" man/consulcfgd-operations.7.scd ||
        complain "daemon/log-ids.h: JOURNAL of consulcfgd-operations(7) does not have $name"
done < <(grep '^#define LOG_' daemon/log-ids.h)

# --- settings ---------------------------------------------------------------------------------------------------------

page=man/consulcfgd.conf.5.scd
known=$(
    sed -nE 's/^\t\{ "([a-z]+)", "([a-z0-9_]+)",.*/\1.\2/p' daemon/config-table.c
    grep -oE 'draft->key, "[a-z_]+"' daemon/config-rule.c | sed -E 's/.*"(.*)"/service.\1/'
    grep -oE 'draft->key, "[a-z_]+"' daemon/config-socket.c | sed -E 's/.*"(.*)"/socket.\1/'
)
documented=$(awk '
    /^# / { section = match($0, /\[[a-z]+/) ? substr($0, RSTART + 1, RLENGTH - 1) : "" }
    section && /^\*[a-z0-9_]+\*=/ {
        for (rest = $0; match(rest, /(^|, )\*[a-z0-9_]+\*=/); rest = substr(rest, RSTART + RLENGTH)) {
            key = substr(rest, RSTART, RLENGTH)
            gsub(/[^a-z0-9_]/, "", key)
            print section "." key
        }
    }' "$page")
[ "$(wc -l <<<"$known")" -gt 20 ] || complain "daemon/config-table.c: the keys cannot be read; mend docs.sh"
complain_each "a key that $page does not explain" < <(comm -23 <(sort -u <<<"$known") <(sort -u <<<"$documented"))
complain_each "$page explains a key that the daemon does not know" < <(
    comm -13 <(sort -u <<<"$known") <(sort -u <<<"$documented"))

# --- programs ---------------------------------------------------------------------------------------------------------

n_programs=0
while IFS= read -r program; do
    n_programs=$((n_programs + 1))
    [ -e "man/$program.8.scd" ] || [ -e "man/$program.1.scd" ] || grep -qF "*$program*" man/consulcfg.1.scd ||
        complain "meson.build: $program is installed and has no page in man/"
done < <(
    sed -nE "s/^foreach verb : \[(.*)\]$/\1/p" meson.build | tr ',' '\n' | sed "s/[' ]//g; s/^/consulcfg-/"
    sed -nE "s/^(.* = )?executable\('([a-z-]+)',.*/\2/p" meson.build)
[ "$n_programs" -gt 2 ] || complain "meson.build: the programs cannot be read; mend docs.sh"
while IFS= read -r file; do
    name=${file##*/}
    grep -qF "'${name%.scd}'" man/meson.build || complain "$file: man/meson.build does not install it"
done < <(git ls-files -- 'man/*.scd')

# --- news -------------------------------------------------------------------------------------------------------------

version=$(sed -nE "s/^  version: '(.*)',$/\1/p" meson.build)
grep -qsF "## ${version:-no version}" NEWS.md || complain "NEWS.md: nothing about version $version"

# --- what belongs to one machine --------------------------------------------------------------------------------------

complain_each "a directory of one machine; find it at run time" < <(
    git grep -nIE '/(home|work|Users)/[A-Za-z0-9]' | cut -d : -f 1-2)
complain_each "a package registry; the host says where its packages come from" < <(
    git grep -nIE '(docker|ghcr|quay|gcr|pypi|npmjs|crates|rubygems|proxy\.golang|artifactory)\.(io|org|com|net)' |
        cut -d : -f 1-2)
complain_each "white space at the end of the line; remove it" < <(
    git grep -nIE '[[:space:]]+$' -- ':!tests/corpus' | cut -d : -f 1-2)
exit "$status"
