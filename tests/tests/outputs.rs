//! `backup --command`: what several commands print, each as a file of one snapshot, beside paths or alone.

use std::fs;
use std::process::{Command, Stdio};

use icecore_tests::cli::{Cli, Run, Runs, end};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// A backup of these commands and whatever else.
fn backup(cli: &Cli, commands: &[&str], more: &[&str]) -> Run {
    let mut command = cli.command(&["backup"]);
    commands.iter().for_each(|given| _ = command.args(["--command", given]));
    command.args(more).run()
}

fn restored(cli: &Cli, to: &str) {
    cli.run(&["restore", "latest", "--target", to]).succeeds();
}

fn shapes(cli: &Cli) -> Vec<Value> {
    cli.json(&["snapshots"])[0].as_array().expect("an array").clone()
}

#[test]
fn several_commands_are_files_of_one_snapshot_and_restored_as_printed() {
    let cli = Cli::new();
    let commands = ["long=seq 1 7000000", "empty=true", "/dumps/b.sql=printf 'x=%s' y"];
    let run = backup(&cli, &commands, &["--json"]).succeeds();
    let lines = run.json();
    let summary = lines.last().expect("a summary");
    let long = Command::new("seq").args(["1", "7000000"]).output().expect("seq runs").stdout;
    assert!(long.len() > 50 << 20);
    assert_eq!((&summary["message_type"], &summary["files_new"]), (&"summary".into(), &3.into()));
    assert_eq!(summary["total_bytes_processed"], long.len() as u64 + 3, "{summary}");
    restored(&cli, "out");
    assert!(cli.read("out/long") == long, "50 MiB are the same");
    assert_eq!(cli.read("out/empty"), b"");
    assert_eq!(cli.read("out/dumps/b.sql"), b"x=y");
    let [shape] = shapes(&cli).try_into().expect("one snapshot");
    assert_eq!(shape["paths"], serde_json::json!(["/dumps/b.sql", "/empty", "/long"]));
}

#[test]
fn the_next_backup_of_the_same_names_follows_it_and_stores_only_what_is_new() {
    let cli = Cli::new();
    let long = "long=seq 1 1000000";
    let first = backup(&cli, &[long, "short=echo one"], &["--json"]).succeeds().json().pop().expect("a summary");
    // In another order: the names are what counts.
    let second = backup(&cli, &["short=echo two", long], &["--json"]).succeeds().json().pop().expect("a summary");
    assert_eq!((&second["files_changed"], &second["files_new"]), (&2.into(), &0.into()));
    assert!(second["data_added"].as_u64() < Some(20_000), "{second}");
    assert_eq!(shapes(&cli)[1]["parent"], first["snapshot_id"]);
    restored(&cli, "out");
    assert_eq!(cli.read("out/short"), b"two\n");
}

#[test]
fn paths_and_commands_are_one_snapshot() {
    let cli = Cli::new();
    cli.write("source/own", "own");
    cli.write("source/sub/left.out", "no");
    let commands = ["source/printed=echo printed", "source/sub/new.out=echo below", "away=echo away"];
    let both = ["source", "--exclude", "*.out"];
    backup(&cli, &commands, &both).succeeds();
    restored(&cli, "out");
    assert_eq!(cli.read("out/source/own"), b"own");
    assert_eq!(cli.read("out/source/printed"), b"printed\n");
    assert_eq!(cli.read("out/source/sub/new.out"), b"below\n");
    assert_eq!(cli.read("out/away"), b"away\n");
    assert!(!cli.path("out/source/sub/left.out").exists());
    let again = backup(&cli, &commands, &[&both[..], &["--json"]].concat()).succeeds().json().pop().expect("a summary");
    assert_eq!((&again["files_new"], &again["total_files_processed"]), (&0.into(), &4.into()));
}

#[test]
fn one_command_that_fails_means_no_snapshot_and_is_named() {
    let cli = Cli::new();
    cli.write("source/own", "own");
    for (bad, how) in [
        ("b=echo half; exit 7", "the command for b failed (exit status: 7); no snapshot was made"),
        ("b=head -c 5000000 /dev/zero; kill -9 $$", "the command for b failed (signal: 9 (SIGKILL))"),
        ("b=no-such-program-anywhere", "the command for b failed (exit status: 127)"),
        // It closes its output, and fails later.
        ("b=exec >&-; sleep 0.1; exit 3", "the command for b failed (exit status: 3)"),
    ] {
        for more in [&[][..], &["source"], &["--dry-run"]] {
            backup(&cli, &["a=echo whole", bad, "c=echo never > ran"], more).fails(1, &[how]);
        }
    }
    assert_eq!(cli.snapshots(), 0);
    assert!(!cli.path("ran").exists(), "what comes after a failure is not run");
    cli.run(&["check", "--read-data"]).succeeds();
}

#[test]
fn what_commands_say_on_their_standard_error_passes_through_and_the_password_does_not_reach_them() {
    let cli = Cli::new();
    let mut command = cli.command(&["backup", "--command", "a=echo \"[$ICECORE_PASSWORD]\"; echo warned >&2"]);
    let run = command.env("ICECORE_PASSWORD", "secret").run().succeeds();
    assert!(run.error.contains("warned\n"), "{}", run.error);
    cli.run(&["dump", "latest", "a"]).succeeds().tells("[]\n");
}

#[test]
fn bad_names_are_refused_before_anything_is_run() {
    let cli = Cli::new();
    cli.write("source/file", "own");
    cli.write("top", "own");
    let run = "touch ran";
    let with = |name: &str| format!("{name}={run}");
    for names in
        [&["../a"][..], &["a/../b"], &["/"], &["."], &[""], &["a/"], &["a", "/a"], &["a", "a/b"], &["a/b", "a"]]
    {
        let given: Vec<String> = names.iter().map(|name| with(name)).collect();
        backup(&cli, &given.iter().map(String::as_str).collect::<Vec<_>>(), &[]).ends(1);
    }
    backup(&cli, &["no equals sign"], &[]).fails(1, &["there is no =", "hint:"]);
    backup(&cli, &["a="], &[]).fails(1, &["there is no command"]);
    for (name, path) in [("source", "source"), ("source/file", "source"), ("source/file/x", "source"), ("top", ".")] {
        backup(&cli, &[&with(name)], &[path]).fails(1, &["choose another name"]);
    }
    for other in [&["--stdin"][..], &["--stdin-from-command", "--", "true"], &["--from-tar", "-"]] {
        backup(&cli, &[&with("a")], other).fails(1, &["cannot be used with"]);
    }
    assert!(!cli.path("ran").exists());
    assert_eq!(cli.snapshots(), 0);
}

#[test]
fn an_interrupt_ends_a_silent_command_and_the_backup() {
    let cli = Cli::new();
    for script in ["a=echo $$ > pid; echo begun; exec sleep 100000", "a=echo $$ > pid; exec >&-; exec sleep 100000"] {
        fs::remove_file(cli.path("pid")).ok();
        let mut command = cli.command(&["backup", "--command", script]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let running = loop {
            let text = fs::read_to_string(cli.path("pid")).unwrap_or_default();
            if let Some(line) = text.strip_suffix('\n') {
                break line.parse().ok().and_then(Pid::from_raw).expect("a process");
            }
            assert!(child.try_wait().expect("a child of ours").is_none(), "it ended before its command");
            std::thread::yield_now();
        };
        kill_process(Pid::from_child(&child), Signal::INT).expect("a child of ours");
        let run = end(child).fails(130, &["interrupted"]);
        assert!(!run.error.contains("failed"), "{}", run.error);
        assert_eq!(test_kill_process(running), Err(rustix::io::Errno::SRCH), "the command is gone");
        assert_eq!(cli.snapshots(), 0);
    }
}
