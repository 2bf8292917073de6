# Completions of icecore for PowerShell. The program is given the words up to the cursor.
Register-ArgumentCompleter -Native -CommandName icecore -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $before = @($commandAst.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursorPosition } | ForEach-Object {
        if ($_ -is [System.Management.Automation.Language.StringConstantExpressionAst]) { $_.Value } else { $_.Extent.Text }
    })
    # An empty word is lost on its way to a native command: --empty says that there is one.
    $arguments = @('complete', '--shell', 'powershell')
    if ($wordToComplete -eq '') { $arguments += '--empty' }
    $arguments += '--'
    $arguments += $before
    if ($wordToComplete -ne '') { $arguments += $wordToComplete }
    & $before[0] @arguments 2> $null | ForEach-Object {
        $value, $help = $_ -split "`t", 2
        if (-not $help) { $help = $value }
        $text = if ($value -match '[\s''"`$;|&(){}]') { "'" + $value.Replace("'", "''") + "'" } else { $value }
        [System.Management.Automation.CompletionResult]::new($text, $value, 'ParameterValue', $help)
    }
}
