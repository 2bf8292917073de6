//! What a person sees on a terminal, kept as files: `tests/transcripts/terminal`, one for each screen and width. What is in
//! the middle of its work is held there: a list of entries goes into a pipe that nobody reads on, or the repository is
//! read a KiB a second.

use std::fs;
use std::io::Read;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use icecore_tests::cli::{Cli, Runs};
use icecore_tests::privilege::skip;
use icecore_tests::process::wait_for;
use icecore_tests::terminal::{Terminal, screen};
use icecore_tests::transcript::{self, Stable};
use regex::{Captures, Regex};

/// A common terminal, and a narrow one.
const WIDTHS: [u16; 2] = [80, 40];

/// Enough that the list of them (`-vv`) fills a pipe many times over.
const FILES: usize = 2000;

/// The screens of one file, each with what was done before it.
struct Screens {
    name: String,
    width: u16,
    stable: Stable,
    text: String,
}

impl Screens {
    fn new(name: &str, width: u16, cli: &Cli) -> Self {
        let stable = Stable::new(&cli.path(""));
        Self { name: name.to_owned(), width, stable, text: String::new() }
    }

    /// A screen, which fits the terminal in each line of the status.
    fn add(&mut self, said: &str, lines: &[String]) {
        let numbers = Regex::new(r"(?-u)[0-9]+(?:\.[0-9]+)?(?: [KM]iB)?").expect("a pattern of ours");
        self.text += &format!("-- {said}\n");
        for line in lines {
            let is_status = line.starts_with('[');
            assert!(!is_status || line.chars().count() < usize::from(self.width), "too wide: {line}");
            // The terminal's echo of Ctrl-C goes with the status, if there is one at that moment.
            let mut line = self.stable.of(line.trim_start_matches("^C"));
            if is_status {
                let hidden = numbers.replace_all(&line, |number: &Captures<'_>| match number[0].ends_with('B') {
                    true => "# B",
                    false => "#",
                });
                line = done_and_total(&hidden.replace("[#:#]", "[m:ss]"));
            }
            self.text += &format!("{line}\n");
        }
    }

    fn hold(self) {
        let path = transcript::directory().join("terminal").join(format!("{}-{}.txt", self.name, self.width));
        transcript::same(&path, &fs::read_to_string(&path).unwrap_or_default(), &self.text);
    }
}

/// The first two parts of a status line: what comes after them hangs on how fast it goes, and how much of that there is
/// room for on how long the numbers are.
fn done_and_total(line: &str) -> String {
    let mut parts = line.split(", ");
    let done = parts.next().expect("a first part").trim_end_matches([',', '…']);
    match parts.next() {
        Some(total) if !total.ends_with('…') => format!("{done}, {total}"),
        _ if line.contains('…') => format!("{done}…"),
        _ => done.to_owned(),
    }
}

/// The last status that was drawn whole and has this, once there is one.
fn status_with(terminal: &Terminal, words: &str) -> Vec<String> {
    let whole = |written: &str| -> Option<Vec<String>> {
        let (drawn, _) = written.rsplit_once("\x1b[J")?;
        let status = drawn.rsplit("\x1b[J").next()?;
        // What erases it begins by going back.
        let status = &status[..status.rfind('\r').unwrap_or(status.len())];
        let lines = screen(&status.replace('\n', "\r\n"));
        // Other lines may have been printed before it.
        status.contains(words).then(|| lines.into_iter().skip_while(|line| !line.starts_with('[')).collect())
    };
    terminal.waits_for(words, |written| whole(written).is_some());
    whole(&terminal.written()).expect("it was there")
}

/// Reads a pipe piece by piece until the status has this: who waits for his pipe cannot draw.
fn read_until(output: &mut ChildStdout, terminal: &Terminal, words: &str) {
    let mut buffer = vec![0; 16 << 10];
    while !terminal.written().rsplit_once("\x1b[J").is_some_and(|(drawn, _)| drawn.contains(words)) {
        let before = terminal.written();
        assert_ne!(output.read(&mut buffer).expect("a pipe of ours"), 0, "it ended without {words:?}: {before:?}");
        // Not every piece brings a change.
        (0..100)
            .take_while(|_| terminal.written() == before)
            .for_each(|_| std::thread::sleep(Duration::from_millis(5)));
    }
}

/// Whether a thread of this name runs in the program.
fn has_thread(child: &Child, name: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).expect("a child of ours");
    tasks.flatten().any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
}

/// The last screen: what Ctrl-C leaves, of a program whose `output` then is read on, if that is a pipe.
fn end_by_ctrl_c(mut screens: Screens, terminal: Terminal, child: Child, output: Option<ChildStdout>) {
    terminal.types("\x03");
    if let Some(mut output) = output {
        output.read_to_end(&mut Vec::new()).expect("a pipe of ours");
    }
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(130), "{written:?}");
    screens.add("Ctrl-C; exit code 130", &screen(&written));
    screens.hold();
}

#[test]
fn a_backup_in_the_middle_of_its_work_and_after_ctrl_c() {
    let cli = Cli::of_many_files(FILES);
    for width in WIDTHS {
        let mut screens = Screens::new("backup", width, &cli);
        let terminal = Terminal::of_columns(width);
        let mut child = terminal.start_piped(&cli.command(&["backup", "-vv", "source"]));
        let mut output = child.stdout.take().expect("piped");
        wait_for(|| rustix::io::ioctl_fionread(&output).expect("a pipe of ours") >= 4096);
        wait_for(|| !has_thread(&child, "scan"));
        read_until(&mut output, &terminal, "%  ");
        screens.add("icecore backup -vv source | (somebody who does not read on)", &status_with(&terminal, "%  "));
        end_by_ctrl_c(screens, terminal, child, Some(output));
    }
    assert_eq!(cli.snapshots(), 0);
}

#[test]
fn a_restore_in_the_middle_of_its_work_and_after_ctrl_c() {
    let cli = Cli::of_many_files(FILES);
    cli.backup(&[]);
    for width in WIDTHS {
        let mut screens = Screens::new("restore", width, &cli);
        let terminal = Terminal::of_columns(width);
        let target = format!("back-{width}");
        let mut child = terminal.start_piped(&cli.command(&["restore", "-vv", "latest", "--target", &target]));
        let mut output = child.stdout.take().expect("piped");
        read_until(&mut output, &terminal, "%  ");
        screens.add(
            "icecore restore -vv latest --target back | (somebody who does not read on)",
            &status_with(&terminal, "%  "),
        );
        end_by_ctrl_c(screens, terminal, child, Some(output));
    }
}

#[test]
fn a_check_in_the_middle_of_its_work_and_after_ctrl_c() {
    let cli = Cli::new();
    let bytes: Vec<u8> =
        (0..60_000u32).flat_map(|number| blake3::hash(&number.to_le_bytes()).as_bytes()[..4].to_vec()).collect();
    cli.write("source/noise", bytes);
    cli.backup(&[]);
    for width in WIDTHS {
        let mut screens = Screens::new("check", width, &cli);
        let terminal = Terminal::of_columns(width);
        let child = terminal.start(&cli.command(&["check", "--read-data", "--limit-download", "100"]));
        screens.add("icecore check --read-data (of a slow place)", &status_with(&terminal, "%  data:"));
        end_by_ctrl_c(screens, terminal, child, None);
    }
}

#[test]
fn a_table_gives_way_in_its_paths() {
    let cli = Cli::new();
    let name = "letters to the whole family, and their answers.txt";
    let source = ["backup", "--stdin", "--stdin-filename", name, "--host", "laptop", "--time", "2024-05-17"];
    cli.command(&source).run_with(b"Dear Bob").succeeds();
    let mut screens = Screens::new("snapshots", 80, &cli);
    let terminal = Terminal::of_columns(80);
    let child = terminal.start(&cli.command(&["snapshots"]));
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(0), "{written:?}");
    let shown = screen(&written);
    assert!(shown.iter().all(|line| line.chars().count() <= 80), "{shown:?}");
    screens.add("icecore snapshots", &shown);
    screens.hold();
}

/// Each password that is tried takes Argon2's time.
#[test]
fn a_password_that_was_wrong_and_then_right() {
    let cli = Cli::without_repository();
    cli.write("password", "the right one");
    let by_password = |arguments: &[&str]| {
        let mut command = cli.command(arguments);
        command.env_remove("ICECORE_KEY_FILE");
        command
    };
    by_password(&["init", "--password-file", "password"]).run().succeeds();
    let mut screens = Screens::new("password", 80, &cli);
    let terminal = Terminal::of_columns(80);
    let child = terminal.start(&by_password(&["backup", "source", "--host", "laptop"]));
    terminal.answers("enter password for repository: ", 1, "a wrong one\r");
    terminal.answers("enter password for repository: ", 2, "the right one\r");
    let (status, written) = terminal.end(child);
    assert_eq!(status.code(), Some(0), "{written:?}");
    assert!(!written.contains("one"), "{written:?}");
    screens.add("icecore backup source --host laptop; a wrong password, and the right one", &screen(&written));
    screens.hold();
}

/// A terminal multiplexer of the test's own, which ends with it.
struct Tmux<'c> {
    cli: &'c Cli,
}

impl Tmux<'_> {
    fn does(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        transcript::environment(&mut command, &self.cli.path(""));
        // Its path is short: a socket's may have 108 letters.
        command.args(["-u", "-f", "/dev/null", "-S", "tmux"]).args(arguments).env_remove("TMUX").stdin(Stdio::null());
        command.output().expect("tmux runs")
    }

    fn screen(&self) -> Vec<String> {
        let shown = self.does(&["capture-pane", "-p", "-t", "0"]);
        let lines =
            String::from_utf8_lossy(&shown.stdout).lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        lines.into_iter().filter(|line| !line.is_empty()).collect()
    }

    /// Types a command, and gives the screen once the next prompt is there.
    fn runs(&self, line: &str, prompts: usize) -> Vec<String> {
        self.waits_for_prompt(prompts - 1);
        assert!(self.does(&["send-keys", "-t", "0", line, "Enter"]).status.success());
        self.waits_for_prompt(prompts);
        self.screen()
    }

    fn waits_for_prompt(&self, prompts: usize) {
        let is_ready = || {
            self.screen().iter().filter(|line| line.starts_with('%')).count() == prompts
                && self.screen().last().is_some_and(|line| line == "%")
        };
        wait_for(|| {
            let ready = is_ready();
            if !ready {
                std::thread::sleep(Duration::from_millis(20));
            }
            ready
        });
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.does(&["kill-server"]);
    }
}

#[test]
fn a_session_in_tmux() {
    if !Command::new("tmux").arg("-V").output().is_ok_and(|run| run.status.success()) {
        return skip("tmux", "tmux is not installed");
    }
    let cli = Cli::new();
    cli.write("source/todo.txt", "water the plants");
    let tmux = Tmux { cli: &cli };
    let shell = "env PS1='% ' ICECORE_REPOSITORY=repo ICECORE_KEY_FILE=key sh";
    let started = tmux.does(&["new-session", "-d", "-x", "80", "-y", "40", shell]);
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    tmux.runs("icecore backup source --host laptop", 2);
    let shown = tmux.runs("icecore backup nowhere", 3);
    let mut screens = Screens::new("tmux", 80, &cli);
    screens.add("a session at a shell in tmux", &shown);
    screens.hold();
}
