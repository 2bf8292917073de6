//! The program on a terminal: the status line, what is left of it afterwards, Ctrl-C, and how passwords are asked for.
//! Nothing here is a matter of luck: a backup that lists its entries into a pipe waits for whoever reads the pipe.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout};
use std::time::Duration;

use icecore_tests::cli::Cli;
use icecore_tests::process::wait_for;
use icecore_tests::terminal::{Terminal, screen};
use rustix::process::{Pid, Signal, kill_process};

/// Enough that the list of them (`-vv`) fills a pipe twenty times over.
const FILES: usize = 3000;

/// Waits until a program has written to its pipe, so that it is in the middle of its work.
fn wait_for_output(output: &ChildStdout) {
    wait_for(|| rustix::io::ioctl_fionread(output).expect("a pipe of ours") >= 4096);
}

/// Reads a pipe to its end; as long as `is_waiting`, one piece for each time the terminal changes.
fn read_slowly(mut output: ChildStdout, terminal: &Terminal, is_waiting: impl Fn(&str) -> bool) -> String {
    let (mut text, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let mut before = terminal.written();
    while is_waiting(&before) {
        match output.read(&mut buffer).expect("a pipe of ours") {
            0 => break,
            length => text.extend_from_slice(&buffer[..length]),
        }
        // Not every piece brings a change.
        (0..100).take_while(|_| terminal.written() == before).for_each(|_| pause(5));
        before = terminal.written();
    }
    output.read_to_end(&mut text).expect("a pipe of ours");
    String::from_utf8(text).expect("names of ours")
}

fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Whether a thread of this name runs in the program.
fn has_thread(child: &Child, name: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).expect("a child of ours");
    tasks.flatten().any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
}

#[test]
fn a_first_backup_tells_how_much_is_done_and_how_long_the_rest_takes() {
    let cli = Cli::of_many_files(FILES);
    let terminal = Terminal::new();
    let mut child = terminal.start_beside(cli.command(&["backup", "-vv", "source"]));
    let output = child.stdout.take().expect("piped");
    wait_for_output(&output);
    wait_for(|| !has_thread(&child, "scan"));
    pause(1100); // before that no end is guessed
    // Directories are entries too.
    let total = format!("total {} files 2.930 KiB, ETA 0:", FILES + 2);
    let is_told = |line: &str| line.contains("% ") && line.contains(&total);
    let out = read_slowly(output, &terminal, |written| !written.split("\x1b[J").any(is_told));
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(0));
    assert!(written.split("\x1b[J").any(is_told), "{written:?}");
    assert_eq!(screen(&written), [""; 0], "the line is gone");
    assert_eq!(out.matches("new        ").count(), FILES + 2);
    assert!(out.contains("snapshot ") && !out.contains('\x1b'), "{out}");
}

#[test]
fn without_a_scan_a_first_backup_has_no_total_and_a_second_one_the_first_ones() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    let status_of = |arguments: &[&str]| {
        let terminal = Terminal::new();
        let child = terminal.start(&cli.command(arguments));
        let (status, written) = terminal.end(child);
        assert_eq!(status.code(), Some(0), "{written}");
        written
    };
    let written = status_of(&["backup", "--no-scan", "source"]);
    assert!(written.contains("[0:0") && !written.contains('%') && !written.contains("total"), "{written:?}");
    let shown = screen(&written).join("\n");
    assert!(shown.contains("1 new") && shown.contains(" saved") && !shown.contains("[0:0"), "{shown}");
    let written = status_of(&["backup", "--no-scan", "source"]);
    assert!(written.contains("total 2 files 3 B"), "{written:?}");
}

#[test]
fn nothing_is_drawn_where_nobody_looks_or_wants_it() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    for (arguments, term) in [(&["-q"][..], "xterm"), (&["--json"], "xterm"), (&["-v"], "dumb")] {
        let terminal = Terminal::new();
        let mut command = cli.command(&[&["backup", "source"], arguments].concat());
        command.env("TERM", term);
        let mut child = terminal.start_beside(command);
        let mut out = String::new();
        child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        let (status, written) = terminal.end(child);
        assert_eq!((status.code(), written.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(out.contains("snapshot") && !out.contains('\x1b'), "{out}");
    }
    let run = cli.run(&["backup", "-vv", "source", "missing"]).fails(3, &["error: /", "warning:"]);
    assert!(!(run.out + &run.error).contains('\x1b'));
}

#[test]
fn problems_stand_whole_where_the_status_line_was() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    let terminal = Terminal::new();
    let child = terminal.start(&cli.command(&["backup", "source", "missing"]));
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(3));
    assert!(written.contains("[0:0"), "{written:?}");
    let shown = screen(&written);
    assert!(shown.iter().any(|line| line.starts_with("error: /missing: ")), "{shown:?}");
    assert!(shown.last().is_some_and(|line| line.starts_with("warning: 1 entry could not be read")), "{shown:?}");
    assert!(!shown.iter().any(|line| line.contains("[0:0")), "{shown:?}");
}

#[test]
fn no_color_is_obeyed() {
    let cli = Cli::without_repository();
    for (value, is_colored) in [(None, true), (Some("1"), false)] {
        let terminal = Terminal::new();
        let mut command = cli.command(&["snapshots"]);
        value.map(|value| command.env("NO_COLOR", value));
        let child = terminal.start(&command);
        let (status, written) = terminal.end(child);
        assert_eq!(status.code(), Some(10));
        assert!(screen(&written).iter().any(|line| line.starts_with("error: ")), "{written:?}");
        assert_eq!(written.contains("\x1b["), is_colored, "{written:?}");
    }
}

#[test]
fn time_goes_on_while_nothing_happens_and_an_interrupt_leaves_no_line_behind() {
    let cli = Cli::new();
    let terminal = Terminal::new();
    let mut child = terminal.start_beside(cli.command(&["backup", "--stdin"]));
    // Nothing was sent, so nothing has happened.
    terminal.waits_for("the third second", |written| written.contains("[0:02]"));
    kill_process(Pid::from_child(&child), Signal::INT).expect("a child of ours");
    drop(child.stdin.take());
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(130));
    let shown = screen(&written);
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].starts_with("warning: interrupted; "), "{shown:?}");
}

#[test]
fn ctrl_c_at_the_keyboard_ends_backup_and_scan_and_leaves_the_terminal_as_it_was() {
    let cli = Cli::of_many_files(FILES);
    let terminal = Terminal::new();
    let before = terminal.modes();
    let mut child = terminal.start_piped(&cli.command(&["backup", "-vv", "source"]));
    let output = child.stdout.take().expect("piped");
    wait_for_output(&output);
    terminal.types("\x03");
    let out = read_slowly(output, &terminal, |written| !written.contains("interrupted"));
    assert!(out.matches("new        ").count() < FILES, "it was ended before its end");
    let after = terminal.modes();
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(130), "{written:?}");
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!((after.input_modes, after.output_modes), (before.input_modes, before.output_modes));
    let shown = screen(&written);
    assert!(shown.iter().any(|line| line.contains("warning: interrupted; ")), "{shown:?}");
    assert!(!shown.iter().any(|line| line.contains("[0:0")), "{shown:?}");
    assert_eq!(cli.snapshots(), 0);
}

#[test]
fn a_wrong_password_is_asked_for_three_times_and_never_shown() {
    let cli = Cli::new(); // opened by a key file alone, so no password is tried the slow way
    let terminal = Terminal::new();
    let child = terminal.start(cli.command(&["snapshots"]).env_remove("ICECORE_KEY_FILE"));
    for nth in 1..=3 {
        terminal.answers("enter password for repository: ", nth, "guess\r");
    }
    terminal.waits_for("the end", |written| written.contains("hint:"));
    assert!(terminal.echoes());
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(12), "{written:?}");
    assert_eq!(written.matches("wrong password; try again").count(), 2, "{written:?}");
    assert!(!written.contains("guess"), "{written:?}");
}

#[test]
fn a_prompt_that_is_left_gives_the_terminal_back() {
    let cli = Cli::new();
    for (key, code, told) in [("\x03", 130, "interrupted; no password"), ("\x04", 1, "no password was entered")] {
        let terminal = Terminal::new();
        let before = terminal.modes();
        let child = terminal.start(cli.command(&["snapshots"]).env_remove("ICECORE_KEY_FILE"));
        terminal.answers("enter password for repository: ", 1, key);
        terminal.waits_for("the end", |written| written.contains(told));
        assert_eq!(terminal.modes().local_modes, before.local_modes);
        assert_eq!(terminal.modes().input_modes, before.input_modes);
        let (status, written) = terminal.end(child);
        assert_eq!(status.code(), Some(code), "{written:?}");
    }
}

#[test]
fn a_prompt_that_is_ended_from_outside_gives_the_terminal_back() {
    let cli = Cli::new();
    for signal in [Signal::TERM, Signal::HUP] {
        let terminal = Terminal::new();
        let before = terminal.modes();
        let child = terminal.start(cli.command(&["snapshots"]).env_remove("ICECORE_KEY_FILE"));
        terminal.answers("enter password for repository: ", 1, "gue");
        kill_process(Pid::from_child(&child), signal).expect("a child of ours");
        wait_for(|| terminal.echoes());
        assert_eq!(terminal.modes().local_modes, before.local_modes);
        assert_eq!(terminal.modes().input_modes, before.input_modes);
        let (status, written) = terminal.end(child);
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status:?} {written:?}");
    }
}

/// As with `nohup`.
#[test]
fn a_signal_that_is_to_be_ignored_is_ignored_at_the_prompt_and_after_it() {
    let cli = Cli::new();
    let terminal = Terminal::new();
    let mut command = cli.command(&["snapshots"]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.env_remove("ICECORE_KEY_FILE").get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.current_dir(command.get_current_dir().expect("a room"));
    let child = terminal.start(&shell);
    for nth in 1..=3 {
        terminal
            .waits_for("the prompt", |written| written.matches("enter password").count() == nth && !terminal.echoes());
        kill_process(Pid::from_child(&child), Signal::HUP).expect("a child of ours");
        terminal.answers("enter password for repository: ", nth, "guess\r");
    }
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(12), "{status:?} {written:?}");
}

#[test]
fn passwords_that_differ_make_no_repository() {
    let cli = Cli::without_repository();
    let terminal = Terminal::new();
    let child = terminal.start(cli.command(&["init"]).env_remove("ICECORE_KEY_FILE"));
    for nth in 1..=3 {
        terminal.answers("enter password for new repository: ", nth, "one\r");
        terminal.answers("enter password again: ", nth, "other\r");
    }
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(1), "{written:?}");
    assert!(written.contains("the passwords differ; try again"), "{written:?}");
    assert!(screen(&written).iter().any(|line| line == "error: the passwords differ"), "{written:?}");
    assert!(!cli.path("repo").exists());
}

/// Each password that is tried takes Argon2's time: all that needs it is here.
#[test]
fn slips_are_forgiven_and_after_the_prompt_ctrl_c_ends_the_program_again() {
    let cli = Cli::without_repository();
    cli.write("source/a", vec![7; 1 << 20]);
    let terminal = Terminal::new();
    let child = terminal.start(cli.command(&["init"]).env_remove("ICECORE_KEY_FILE"));
    let (first, again) = ("enter password for new repository: ", "enter password again: ");
    terminal.answers(first, 1, "\r");
    terminal.answers(first, 2, "one\r");
    terminal.answers(again, 1, "other\r");
    terminal.answers(first, 3, "one\r");
    terminal.answers(again, 2, "one\r");
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(0), "{written:?}");
    assert!(written.contains("the password is empty; try again"), "{written:?}");

    let terminal = Terminal::new();
    let child = terminal.start(cli.command(&["backup", "source"]).env_remove("ICECORE_KEY_FILE"));
    terminal.answers("enter password for repository: ", 1, "other\r");
    terminal.answers("enter password for repository: ", 2, "one\r");
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(0), "{written:?}");

    // Nobody reads what is printed here: only a signal can end it.
    let terminal = Terminal::new();
    let mut child = terminal.start_piped(cli.command(&["dump", "latest", "source/a"]).env_remove("ICECORE_KEY_FILE"));
    let output = child.stdout.take().expect("piped");
    terminal.answers("enter password for repository: ", 1, "one\r");
    wait_for_output(&output);
    terminal.types("\x03");
    let (status, written) = terminal.end(child);
    assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{status:?} {written:?}");
    drop(output);
}
