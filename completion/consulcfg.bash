# Completion of consulcfg and its verbs for bash. What there is to complete comes from --help and from the daemon, which
# has a second to answer: nothing here knows a verb, an option or a service.

# Words of the help: verbs, options, options that take an argument (with the argument), operands.
__consulcfg_help() { # WHAT COMMAND...
    local what=$1
    shift
    timeout 1 "$@" --help 2>/dev/null | case $what in
    verbs) sed -n '/^verbs/,/^$/s/^  \([a-z]\{1,\}\) .*/\1/p' ;;
    options) sed -n '/^verbs/q; s/^  \(-[-a-z0-9]*\).*/\1/p' ;;
    arguments) sed -n '/^verbs/q; s/^  \(-[-a-z0-9]*\) \([A-Z][A-Z]*\).*/\1 \2/p' ;;
    operands) sed -n '1s/.*\[OPTIONS\] *//p; 1q' | tr -d '[]' ;;
    esac
}

__consulcfg_services() { # COMMAND...
    timeout 1 "$@" status 2>/dev/null | sed '1,/^SERVICE /d; /^ /d; s/ .*//'
}

__consulcfg_keys() { # SERVICE PREFIX COMMAND...
    local service=$1 prefix=$2
    shift 2
    timeout 1 "$@" list -t 0 --keys "$service" "$prefix" 2>/dev/null
}

# The words that may stand in the place of an operand.
__consulcfg_operand() { # KIND CURRENT SERVICE COMMAND...
    local kind=$1 current=$2 service=$3
    shift 3
    case $kind in
    SERVICE*) __consulcfg_services "$@" ;;
    KEY* | PREFIX*) __consulcfg_keys "$service" "$current" "$@" ;;
    VERB*) __consulcfg_help verbs "$@" ;;
    FILE*) compgen -f -- "$current" ;;
    GENERATION*)
        tr '|' '\n' <<<"$kind" | grep -x '[a-z]*'
        timeout 1 "$@" history "$service" 2>/dev/null | sed -n 's/^ *\([0-9]\{4,\}\) .*/\1/p'
        ;;
    esac
}

_consulcfg() {
    local current=${COMP_WORDS[COMP_CWORD]} command=("${COMP_WORDS[0]}") live i=1 word argument pending='' operands=()
    local kinds arguments

    # consulcfg-get is consulcfg get.
    live=("${COMP_WORDS[0]/%consulcfg-*/consulcfg}")
    arguments=$(__consulcfg_help arguments "${command[@]}")
    for (( ; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [ "$pending" = --socket ]; then
            live+=(--socket "${word/#\~\//$HOME/}")
        fi
        if [ -n "$pending" ]; then
            pending=
        elif [ "$word" = -- ]; then
            # The command that consulcfg-exec and others are to run.
            mapfile -t COMPREPLY < <(compgen "-$([ $((i + 1)) -eq "$COMP_CWORD" ] && echo c)f" -- "$current" | sort -u)
            return
        elif [[ $word == -* ]]; then
            argument=$(sed -n "s/^$word //p" <<<"$arguments")
            pending=${argument:+$word}
        elif [[ ${#command[@]} -eq 1 && ${command[0]} == *consulcfg ]]; then
            command+=("$word")
            arguments=$(__consulcfg_help arguments "${command[@]}")
        else
            operands+=("$word")
        fi
    done

    if [ "$pending" = --socket ]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    elif [ -n "$pending" ]; then
        COMPREPLY=()
    elif [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(__consulcfg_help options "${command[@]}")" -- "$current")
    else
        read -ra kinds <<<"$(__consulcfg_help operands "${command[@]}")"
        i=${#operands[@]}
        if ((i >= ${#kinds[@]})); then
            i=$((${#kinds[@]} - 1))
            [[ $i -ge 0 && ${kinds[i]} == *... ]] || return 0
        fi
        # Not compgen -W: keys may have any character but a newline.
        mapfile -t COMPREPLY < <(__consulcfg_operand "${kinds[i]}" "$current" "${operands[0]-}" "${live[@]}" |
            awk -v start="${current//\\/\\\\}" 'index($0, start) == 1')
    fi
}

complete -F _consulcfg consulcfg
for __consulcfg_verb in $(__consulcfg_help verbs consulcfg); do
    complete -F _consulcfg "consulcfg-$__consulcfg_verb"
done
unset __consulcfg_verb
