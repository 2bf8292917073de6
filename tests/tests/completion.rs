//! Completions and manual pages: the scripts are understood by their shells and complete commands, flags, snapshots and paths in
//! them; they ask nothing, and say nothing where nothing is known. The pages are read without a warning.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use icecore_tests::cli::{Cli, Run, Runs, program};
use icecore_tests::privilege::skip;

/// A repository with a snapshot of a few names that shells take apart.
fn filled() -> (Cli, String) {
    let cli = Cli::new();
    cli.write("source/plain/file.txt", "one");
    cli.write("source/plain/other", "two");
    cli.write("source/two words/in it", "three");
    cli.write("source/a$b:c", "four");
    let id = cli.backup(&["--host", "here"]);
    (cli, id)
}

/// Whether a program is here.
fn has(name: &str) -> bool {
    let run = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

/// A program with the room's settings, which finds `icecore`.
fn shell(cli: &Cli, name: &str) -> Command {
    let mut command = Command::new(name);
    let own = program().parent().expect("it lies in a directory");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::join_paths(std::iter::once(own.to_owned()).chain(std::env::split_paths(&path)));
    command.env_clear().env("PATH", all.expect("a path")).env("HOME", cli.path("home")).env("TERM", "dumb");
    command.env("ICECORE_REPOSITORY", cli.path("repo")).env("ICECORE_KEY_FILE", cli.path("key")).env("TZ", "UTC");
    command.env("XDG_STATE_HOME", cli.path("state")).env("LC_ALL", "C.UTF-8");
    command.current_dir(cli.path("")).stdin(Stdio::null());
    command
}

fn script(cli: &Cli, flag: &str, name: &str) -> String {
    cli.run(&["generate", flag, name]).succeeds().tells(name);
    String::from_utf8(cli.read(name)).expect("a script is text")
}

/// What bash has for a line with the cursor at its end: it calls the function that is registered, with its own variables.
fn by_bash(cli: &Cli, line: &str) -> Vec<String> {
    let drive = r#"
        source ./icecore.bash || exit 9
        [[ $(complete -p icecore) == *'-F _icecore icecore' ]] || exit 8
        COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
        # As bash splits it: at blanks, and at colons and equal signs.
        COMP_WORDS=() rest=$1
        while [[ $rest =~ ^[[:space:]]*([:=]+|[^[:space:]:=]+)(.*)$ ]]; do
            COMP_WORDS+=("${BASH_REMATCH[1]}")
            rest=${BASH_REMATCH[2]}
        done
        [[ $1 == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _icecore icecore "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let run = shell(cli, "bash").args(["--norc", "--noprofile", "-c", drive, "bash", line]).run().succeeds();
    assert_eq!(run.error, "", "{line}");
    lines(&run)
}

fn lines(run: &Run) -> Vec<String> {
    run.out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_snapshots_and_paths_in_them() {
    let (cli, id) = filled();
    script(&cli, "--bash-completion", "icecore.bash");
    assert!(shell(&cli, "bash").args(["-n", "icecore.bash"]).run().succeeds().error.is_empty());
    let short = &id[..8];
    assert_eq!(by_bash(&cli, "icecore sna"), ["snapshots"]);
    assert_eq!(by_bash(&cli, "icecore stats --mo"), ["--mode"]);
    assert_eq!(by_bash(&cli, "icecore stats --mode=raw"), ["raw-data"]);
    assert_eq!(by_bash(&cli, "icecore ls "), ["latest", short]);
    assert_eq!(by_bash(&cli, &format!("icecore forget {}", &id[..3])), [short]);
    assert_eq!(by_bash(&cli, &format!("icecore forget {}", &id[..12])), [&id[..12]]);
    assert_eq!(by_bash(&cli, "icecore restore latest:"), ["/source/"]);
    assert_eq!(by_bash(&cli, "icecore restore latest:/source/pl"), ["/source/plain/"]);
    assert_eq!(
        by_bash(&cli, &format!("icecore ls {short}:/source/plain/")),
        ["/source/plain/file.txt", "/source/plain/other"]
    );
    assert_eq!(by_bash(&cli, "icecore ls latest:/source/tw"), ["/source/two\\ words/"]);
    assert_eq!(by_bash(&cli, "icecore ls latest:/source/two\\ words/"), ["/source/two\\ words/in\\ it"]);
    assert_eq!(by_bash(&cli, "icecore ls latest:/source/a"), ["/source/a\\$b:c"]);
    assert_eq!(by_bash(&cli, "icecore dump latest /source/pl"), ["/source/plain/"]);
    assert_eq!(by_bash(&cli, "icecore ls latest:/source /pl"), ["/plain/"]);
    assert_eq!(by_bash(&cli, "icecore backup sou"), ["source/"]);
    assert_eq!(by_bash(&cli, "icecore ls latest:/nowhere/"), [""; 0]);
}

#[test]
fn the_repository_of_the_line_is_asked_and_nobody_else() {
    let (cli, id) = filled();
    script(&cli, "--bash-completion", "icecore.bash");
    let other = Cli::new();
    let place = other.path("repo").display().to_string();
    let key = other.path("key").display().to_string();
    assert_eq!(by_bash(&cli, &format!("icecore -r {place} --key-file {key} ls ")), [""; 0], "there is none yet");
    assert_eq!(by_bash(&cli, "icecore ls --no-lock "), ["latest", &id[..8]]);
    assert_eq!(by_bash(&cli, "icecore --repo ./repo ls "), ["latest", &id[..8]]);
    // Nothing is asked where no key is named, and nothing is said where it is wrong.
    let words = ["complete", "--shell", "zsh", "--", "icecore", "ls", ""];
    let mute = |run: Run| assert_eq!((run.out, run.error, run.code), (String::new(), String::new(), 0));
    mute(cli.command(&words).env_remove("ICECORE_KEY_FILE").run());
    mute(cli.command(&words).env("ICECORE_KEY_FILE", cli.path("nowhere")).run());
    mute(cli.command(&words).env("ICECORE_KEY_FILE", &key).run());
    mute(cli.command(&words).env("ICECORE_REPOSITORY", cli.path("nowhere")).run());
    mute(cli.run(&["complete", "--shell", "fish", "--"]));
    // Nothing is remembered either.
    assert!(!other.path("state").exists() || cli.path("state").exists());
    let before = fs::read_dir(cli.path("state/icecore/places")).expect("one place").count();
    cli.command(&words).env("ICECORE_REPOSITORY", &place).env("ICECORE_KEY_FILE", &key).run().succeeds();
    assert_eq!(fs::read_dir(cli.path("state/icecore/places")).expect("one place").count(), before);
}

#[test]
fn zsh_understands_its_script_and_completes() {
    let (cli, id) = filled();
    let text = script(&cli, "--zsh-completion", "_icecore");
    assert!(text.starts_with("#compdef icecore\n"));
    if !has("zsh") {
        return skip("zsh", "zsh is not installed");
    }
    assert_eq!(shell(&cli, "zsh").args(["-f", "-n", "_icecore"]).run().succeeds().error, "");
    // What zsh has inside a completion, given to the function itself.
    let drive = r#"
        compdef() { :; }
        compadd() {
            local name=${@[-1]}
            print -rl -- "${(@P)name}"
        }
        source ./_icecore
        words=("${@[1,-2]}" "$@[-1]") CURRENT=$# PREFIX=$@[-1]
        _icecore
    "#;
    let by_zsh = |words: &[&str]| {
        let run = shell(&cli, "zsh").args(["-f", "-c", drive, "zsh", "icecore"]).args(words).run().succeeds();
        assert_eq!(run.error, "", "{words:?}");
        lines(&run)
    };
    assert_eq!(by_zsh(&["sna"]), ["snapshots"]);
    assert_eq!(by_zsh(&["ls", ""]), ["latest", &id[..8]]);
    assert_eq!(by_zsh(&["ls", "latest:/source/pl"]), ["latest:/source/plain/"]);
    assert_eq!(by_zsh(&["ls", "latest:/source/two\\ words/"]), ["latest:/source/two words/in it"]);
}

#[test]
fn fish_understands_its_script_and_completes() {
    let (cli, id) = filled();
    script(&cli, "--fish-completion", "icecore.fish");
    if !has("fish") {
        return skip("fish", "fish is not installed");
    }
    fs::create_dir_all(cli.path("home")).expect("ours");
    assert_eq!(shell(&cli, "fish").args(["--no-config", "--no-execute", "icecore.fish"]).run().succeeds().error, "");
    let by_fish = |line: &str| {
        let drive = "source ./icecore.fish; complete --do-complete $argv[1]";
        let run = shell(&cli, "fish").args(["--no-config", "-c", drive, line]).run().succeeds();
        assert_eq!(run.error, "", "{line}");
        lines(&run).iter().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(by_fish("icecore sna"), ["snapshots"]);
    assert_eq!(by_fish("icecore ls "), ["latest", &id[..8]]);
    assert_eq!(by_fish("icecore ls latest:/source/pl"), ["latest:/source/plain/"]);
}

#[test]
fn scripts_go_where_they_are_told_and_only_one_to_standard_output() {
    let cli = Cli::without_repository();
    let bash = cli.run(&["generate", "--bash-completion", "-"]).succeeds().out;
    assert!(bash.contains("complete -o nosort -F _icecore icecore"), "{bash}");
    cli.run(&["generate", "--powershell-completion", "-"]).succeeds().tells("Register-ArgumentCompleter -Native");
    cli.run(&["generate", "--bash-completion", "-", "--fish-completion", "-"]).fails(1, &["only one"]);
    cli.run(&["generate", "--zsh-completion", "no/such/file"]).fails(1, &["no/such/file"]);
    cli.run(&["generate"]).fails(1, &["--bash-completion"]);
    assert!(!cli.run(&["--help"]).succeeds().out.contains("  complete"), "it is the scripts' own");
    // An empty word is lost on its way from PowerShell.
    let words = ["complete", "--shell", "powershell", "--empty", "--", "icecore", "repair"];
    cli.run(&words).succeeds().tells("snapshots\t");
}

#[test]
fn every_command_has_a_page_that_is_read_without_a_warning() {
    let cli = Cli::without_repository();
    cli.run(&["generate", "--man", "pages"]).succeeds().tells("manual pages to pages");
    let mut names: Vec<String> = fs::read_dir(cli.path("pages"))
        .expect("pages")
        .map(|page| page.expect("a page").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    for name in
        ["icecore.1", "icecore-backup.1", "icecore-repair-packs.1", "icecore-key-rotate.1", "icecore-generate.1"]
    {
        assert!(names.contains(&name.to_owned()), "{name}: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("complete") || name.contains("help")), "{names:?}");
    let page = String::from_utf8(cli.read("pages/icecore-forget.1")).expect("a page is text");
    assert!(page.contains("keep\\-daily") && page.contains("Exit codes") && page.contains("icecore(1)"), "{page}");
    assert!(!page.contains("limit\\-upload"), "what every command has is on one page");
    assert!(String::from_utf8_lossy(&cli.read("pages/icecore.1")).contains("limit\\-upload"));
    if !has("groff") {
        return skip("man", "groff is not installed");
    }
    for name in &names {
        let path = Path::new("pages").join(name);
        let run = shell(&cli, "groff").args(["-man", "-Kutf8", "-Tutf8", "-ww", "-z"]).arg(&path).run().succeeds();
        assert_eq!(run.error, "", "{name}");
    }
    if has("mandoc") {
        for name in &names {
            let lint = shell(&cli, "mandoc").args(["-Tlint", "-Werror"]).arg(Path::new("pages").join(name)).run();
            assert_eq!(lint.code, 0, "{name}: {}", lint.out);
        }
    }
    let shown = shell(&cli, "groff")
        .args(["-man", "-Kutf8", "-Tascii", "-P-cbou"])
        .arg("pages/icecore-tag.1")
        .run()
        .succeeds()
        .out;
    assert!(shown.contains("--pin") && shown.contains("icecore-tag"), "{shown}");
}
