#!/bin/bash
# What a file may include and call: foreign libraries only behind their doors (the table in HACKING.md), rooms only what
# they may know. tests/ may look behind every door, to play the other side; benches may use what they compare with.
. "$(dirname -- "$0")/common.bash"

mapfile -t files < <(git ls-files -- 'proto/*.[ch]' 'daemon/*.[ch]' 'client/*.[ch]')

# --- doors ------------------------------------------------------------------------------------------------------------

n_doors=0
signs=()
while IFS=$'\t' read -r foreign door sign _; do
    mapfile -t doors < <(quoted "$door")
    while IFS= read -r word; do
        signs+=("$word")
        n_doors=$((n_doors + 1))
        mapfile -t users < <(grep -lF -- "$word" "${files[@]}" || :)
        for user in "${users[@]}"; do
            [[ " ${doors[*]} " == *" $user "* ]] ||
                complain "$user:$(grep -nF -m 1 -- "$word" "$user" | cut -d : -f 1): $word is for ${doors[*]} ($foreign)"
        done
        for file in "${doors[@]}"; do
            [[ " ${users[*]} " == *" $file "* ]] ||
                complain "HACKING.md: $file is no door to $foreign: there is no $word in it"
        done
    done < <(quoted "$sign")
done < <(hacking_table Doors)
[ "$n_doors" -gt 8 ] || complain "HACKING.md: the table under \"Doors\" cannot be read"

# --- the C library ----------------------------------------------------------------------------------------------------

# C, POSIX and Linux headers that glibc and the kernel bring. All others are foreign and need a door.
libc='(arpa/inet|assert|ctype|dirent|endian|errno|fcntl|fnmatch|ftw|getopt|glob|grp|inttypes|limits|locale|malloc'
libc+='|math|netdb|netinet/in|netinet/tcp|poll|pthread|pwd|regex|sched|semaphore|setjmp|signal|spawn|std[a-z]+|string'
libc+='|strings|sys/[a-z]+|sysexits|syslog|termios|threads|time|unistd|wchar|linux/[a-z_]+)\.h'
while IFS=: read -r file line header; do
    header=${header#*<}
    for sign in "${signs[@]}"; do
        [[ "<$header" != "$sign"* ]] || continue 2
    done
    complain "$file:$line: <$header is foreign: give it a door in HACKING.md, or, a header of libc, a place in doors.sh"
done < <(grep -nE '^#include <' "${files[@]}" | grep -vE "<$libc>" || :)

# --- rooms ------------------------------------------------------------------------------------------------------------

may_include() { # ROOM PATTERN
    complain_each "$1 may include $2 only" < <(
        grep -nE '^#include "' "${files[@]}" | grep "^$1" | grep -vE "#include \"($2)[a-z0-9-]+\.h\"" || :)
}
may_include proto/ 'proto/'
may_include daemon/ 'proto/|daemon/'
may_include client/lib/ 'proto/|client/lib/'
may_include client/tools/ 'proto/|client/lib/|client/tools/'
may_include client/python/ 'client/python/'
exit "$status"
