//! Ctrl-C and TERM: what is told, what is kept, and that the next run works.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use icecore_tests::cli::{Cli, end, wait};
use rustix::process::{Pid, Signal, kill_process};

/// A backup of standard input that is under way, and will not end before its input does.
fn under_way(cli: &Cli) -> Child {
    let mut command = cli.command(&["--json", "backup", "--stdin"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let input: Vec<u8> = (0..4_000_000u32).flat_map(u32::to_le_bytes).collect();
    child.stdin.as_mut().expect("piped").write_all(&input).expect("the program reads");
    // The first line of status is told from within the backup.
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    assert!(line.contains("\"status\""), "{line}");
    child
}

#[test]
fn an_interrupted_backup_says_what_is_kept_and_the_next_one_works() {
    let cli = Cli::new();
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = under_way(&cli);
        kill_process(Pid::from_child(&child), signal).expect("a child of ours");
        // What has been asked for is noticed when there is something to read.
        drop(child.stdin.take());
        let run = end(child).ends(130);
        let last = run.error_json().pop().expect("a last line");
        assert_eq!((&last["message_type"], &last["code"]), (&"exit_error".into(), &130.into()));
        assert!(last["message"].as_str().is_some_and(|text| text.contains("what was stored is kept")), "{last}");
        assert_eq!(cli.snapshots(), 0);
    }
    cli.write("source/a", "one");
    cli.backup(&[]);
    cli.run(&["check", "--read-data"]).succeeds();
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let cli = Cli::new();
    let mut child = under_way(&cli);
    // Its input stays open: only a second signal can end it. One that comes before the first was taken counts as one.
    while child.try_wait().expect("a child of ours").is_none() {
        kill_process(Pid::from_child(&child), Signal::INT).ok();
        std::thread::yield_now();
    }
    assert_eq!(wait(&mut child).code(), Some(130));
    cli.backup(&[]);
}

#[test]
fn usr1_is_answered_with_the_progress_and_ends_nothing() {
    let cli = Cli::new();
    for flags in [["--json", "--quiet"].as_slice(), &["--quiet"]] {
        let mut command = cli.command(&[flags, &["backup", "--stdin"]].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let is_json = flags.contains(&"--json");
        let out: Box<dyn Read> = match is_json {
            true => Box::new(child.stdout.take().expect("piped")),
            false => Box::new(child.stderr.take().expect("piped")),
        };
        let input = vec![7; 4_000_000];
        child.stdin.as_mut().expect("piped").write_all(&input).expect("the program reads, so it is at work");
        kill_process(Pid::from_child(&child), Signal::USR1).expect("a child of ours");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("an answer, before the input ends");
        assert!(line.starts_with(if is_json { "{\"message_type\":\"status\"" } else { "[0:" }), "{line}");
        drop(child.stdin.take());
        assert_eq!(wait(&mut child).code(), Some(0));
    }
    assert_eq!(cli.snapshots(), 2);
}
