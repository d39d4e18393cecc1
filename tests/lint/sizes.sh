#!/bin/bash
# A file is below 600 lines, a line of C has at most 100 columns, a function at most 70 lines: it fits a screen. One
# that is better whole says why, in front of it or inside: /* long: reason */ A message stays in one piece, however long,
# so that it can be searched for: what stands between quotes does not count.
# Functions are found by the braces that clang-format puts into the first column.
. "$(dirname -- "$0")/common.bash"

mapfile -t c_files < <(git ls-files -- '*.c' '*.h' '*.cpp')
mapfile -t files < <(git ls-files -- '*.c' '*.h' '*.cpp' '*.py' '*.sh' '*.build' dev)

complain_each "600 lines or more; split it by what it knows" < <(
    wc -l "${files[@]}" | awk '$1 >= 600 && $2 != "total" { print $2 ":" $1 }')

complain_each "a function of more than 70 lines; split it, or say why not: /* long: reason */" < <(
    awk 'FNR == 1 { begin = 0; is_excused = 0 }
        /\/\* long: [^ ]/ { is_excused = 1 }
        /^\{$/ { begin = FNR }
        /^\}/ {
            if (begin && FNR - begin - 1 > 70 && !is_excused)
                print FILENAME ":" begin
            begin = is_excused = 0
        }' "${c_files[@]}")

complain_each "more than 100 columns; run ./dev format" < <(
    for file in "${c_files[@]}"; do
        expand -t 8 "$file" | sed 's/"[^"]*"/""/g' | grep -nE '^.{101,}$' | sed "s|:.*||; s|^|$file:|" || :
    done)
exit "$status"
