#!/bin/bash
# cppcheck over all C files, warnings are errors. A false alarm is silenced where it is, with the reason:
# /* cppcheck-suppress ID ; reason */
# shellcheck disable=SC2054 # commas belong to options of cppcheck
. "$(dirname -- "$0")/common.bash"

options=(
    --quiet -j "$(nproc)" --inline-suppr --error-exitcode=1 '--template={file}:{line}: {message} [{id}]'
    --enable=warning,performance,portability --std=c11
    -I. -Itests/unit -D_GNU_SOURCE '-DCONSULCFGD_VERSION="0"'
    # libbsd's, which it does not read.
    '-DRB_GENERATE_INTERNAL(name,type,field,compare,attributes)='
    '-DRB_FOREACH(x,name,head)=while((x=next(head)))'
    # Python's.
    -DPy_BEGIN_ALLOW_THREADS= -DPy_END_ALLOW_THREADS= '-DPy_RETURN_NONE=return NULL' '-DPy_RETURN_TRUE=return NULL'
    '-DPy_RETURN_FALSE=return NULL'
    --suppress=memleak --suppress=resourceLeak # it does not know the cleanup attribute; LeakSanitizer looks
    --suppress=varFuncNullUB # NULL is an integer in C++ only
)
git ls-files -z -- '*.c' | xargs -0 cppcheck "${options[@]}" || complain "mend the code, or say why not"
exit "$status"
