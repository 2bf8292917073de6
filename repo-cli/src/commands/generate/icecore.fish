# Completions of icecore for fish. The program is given the words up to the cursor.
function __icecore_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    command $words[1] complete --shell fish -- $words (commandline --current-token --cut-at-cursor) 2>/dev/null
end
complete --command icecore --no-files --keep-order --arguments '(__icecore_complete)'
