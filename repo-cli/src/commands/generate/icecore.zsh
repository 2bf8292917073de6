#compdef icecore
# Completions of icecore for zsh. The program is given the words up to the cursor.
_icecore() {
    local line value help
    local -a values helps open_values open_helps
    for line in "${(@f)$(command "${words[1]}" complete --shell zsh -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2> /dev/null)}"; do
        [[ -n $line ]] || continue
        value=${line%%$'\t'*}
        help=${value}
        [[ $line == *$'\t'* ]] && help="${value}  -- ${line#*$'\t'}"
        # What goes on after this has no blank behind it.
        if [[ $value == *[/:=] ]]; then
            open_values+=("$value")
            open_helps+=("$help")
        else
            values+=("$value")
            helps+=("$help")
        fi
    done
    (( ${#values} )) && compadd -V icecore -l -d helps -a values
    (( ${#open_values} )) && compadd -V icecore-open -l -S '' -d open_helps -a open_values
    return 0
}
if [[ ${funcstack[1]-} == _icecore ]]; then
    _icecore "$@"
else
    compdef _icecore icecore
fi
