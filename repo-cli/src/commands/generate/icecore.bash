# Completions of icecore for bash. The program is given the line up to the cursor, and splits it as bash does.
_icecore() {
    local IFS=$'\n'
    COMPREPLY=($(command "${COMP_WORDS[0]}" complete --shell bash --breaks "$COMP_WORDBREAKS" -- "${COMP_LINE:0:COMP_POINT}" 2> /dev/null))
    # What goes on after this has no blank behind it.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/:=] ]]; then
        compopt -o nospace 2> /dev/null
    fi
}
if ((BASH_VERSINFO[0] > 4 || BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] >= 4)); then
    complete -o nosort -F _icecore icecore
else
    complete -F _icecore icecore
fi
