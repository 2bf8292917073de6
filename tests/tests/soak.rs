//! Real processes at work on one repository at once, stopped, continued and killed at random: everything that was committed
//! and not forgotten restores, and every byte checks. Short by default; for minutes with
//! `ICECORE_SOAK_SECONDS=600 cargo test -p icecore-tests --release --test soak -- --nocapture`. `ICECORE_SOAK_SEED` repeats a
//! choice of commands, though not what the system makes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use icecore_tests::cli::{Cli, Run, end};
use icecore_tests::tree::Dice;
use icecore_tests::whole::noise;
use rustix::process::{Pid, Signal, kill_process};

/// Without `ICECORE_SOAK_SECONDS`.
const SECONDS: u64 = 5;
/// Sources, each of one writer at a time.
const SOURCES: usize = 3;
/// Commands at once.
const AT_ONCE: usize = 5;

/// What a command was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Backup(usize),
    Prune,
    Forget,
    Check,
}

struct Running {
    verb: Verb,
    child: Child,
    stopped: bool,
    killed: bool,
}

struct Soak {
    cli: Cli,
    dice: Dice,
    running: Vec<Running>,
    /// By snapshot: the files that were backed up.
    committed: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// What each source holds now.
    sources: Vec<BTreeMap<String, Vec<u8>>>,
    counts: BTreeMap<&'static str, u64>,
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

impl Soak {
    fn new(seed: u64) -> Self {
        Self {
            cli: Cli::new(),
            dice: Dice::new(seed),
            running: Vec::new(),
            committed: BTreeMap::new(),
            sources: vec![BTreeMap::new(); SOURCES],
            counts: BTreeMap::new(),
        }
    }

    fn draw(&mut self, bound: usize) -> usize {
        self.dice.below(bound as u64) as usize
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Changes a source that nobody reads now.
    fn edit(&mut self, source: usize) {
        for _ in 0..4 {
            let name = self.draw(12).to_string();
            let path = format!("source/{source}/{name}");
            if self.draw(4) == 0 {
                self.sources[source].remove(&name);
                fs::remove_file(self.cli.path(&path)).ok();
            } else {
                // Of few seeds, so that sources share content and what was forgotten comes again.
                let bytes = {
                    let (seed, length) = (self.draw(40) as u64, 20_000 + 30_000 * self.draw(10));
                    noise(seed, length)
                };
                self.cli.write(&path, &bytes);
                self.sources[source].insert(name, bytes);
            }
        }
        // A source is never empty.
        self.cli.write(&format!("source/{source}/always"), format!("{source}"));
        self.sources[source].insert("always".to_owned(), format!("{source}").into_bytes());
    }

    fn start(&mut self) {
        let verb = match self.draw(10) {
            0..5 => {
                let source = self.draw(SOURCES);
                if self.running.iter().any(|running| running.verb == Verb::Backup(source)) {
                    return;
                }
                self.edit(source);
                Verb::Backup(source)
            }
            5..8 => Verb::Prune,
            8 => Verb::Forget,
            _ => Verb::Check,
        };
        let path = if let Verb::Backup(source) = verb { format!("source/{source}") } else { String::new() };
        let fences = self.draw(3) == 0;
        let arguments: Vec<&str> = match verb {
            Verb::Backup(_) => vec!["--json", "-q", "backup", &path, "--threads", "1"],
            // Some do not wait for who is stopped, and take his name.
            Verb::Prune if fences => {
                vec!["--json", "-q", "prune", "--max-unused", "0", "--threads", "1", "--fence-idle", "300ms"]
            }
            Verb::Prune => vec!["--json", "-q", "prune", "--max-unused", "0", "--threads", "1"],
            Verb::Forget => vec!["--json", "-q", "forget", "--keep-last", "2", "--undelete-within", "0"],
            Verb::Check => vec!["--json", "-q", "check"],
        };
        let mut command = self.cli.command(&arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        self.running.push(Running { verb, child, stopped: false, killed: false });
    }

    /// Stops, continues or kills one of those that run.
    fn disturb(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let at = self.draw(self.running.len());
        let choice = self.draw(10);
        let running = &mut self.running[at];
        let signal = match choice {
            0 | 1 => Signal::KILL,
            2..5 if !running.stopped => Signal::STOP,
            _ if running.stopped => Signal::CONT,
            _ => return,
        };
        if running.child.try_wait().expect("a child of ours").is_some() {
            return;
        }
        kill_process(Pid::from_child(&running.child), signal).expect("a child of ours");
        running.stopped = signal == Signal::STOP;
        running.killed |= signal == Signal::KILL;
        self.count(match signal {
            Signal::KILL => "killed",
            Signal::STOP => "stopped",
            _ => "continued",
        });
    }

    /// Takes those that ended.
    fn collect(&mut self) {
        for at in (0..self.running.len()).rev() {
            if self.running[at].child.try_wait().expect("a child of ours").is_some() {
                let Running { verb, child, killed, .. } = self.running.swap_remove(at);
                self.ended(verb, killed, &end(child));
            }
        }
    }

    fn ended(&mut self, verb: Verb, killed: bool, run: &Run) {
        if killed && run.code == -1 {
            // Whether it had committed shows when snapshots are listed; its source is known.
            return self.count("ended by a kill");
        }
        let acceptable = match verb {
            // 1: its name was taken while it was stopped, and it says to run again.
            Verb::Backup(_) => run.code == 0 || run.code == 1 && run.error.contains("ended by another client"),
            // 3: writers are at work.
            Verb::Prune => matches!(run.code, 0 | 3),
            Verb::Forget => run.code == 0,
            Verb::Check => run.code == 0,
        };
        assert!(acceptable, "{verb:?} ended with {}\n{}\n{}", run.code, run.out, run.error);
        match verb {
            Verb::Backup(source) if run.code == 0 => {
                let line = run.json().pop().expect("a summary");
                let id = line["snapshot_id"].as_str().expect("a snapshot was made").to_owned();
                self.committed.insert(id, self.sources[source].clone());
                self.count("backups");
            }
            Verb::Backup(_) => self.count("backups fenced"),
            Verb::Prune if run.code == 3 => self.count("prunes that left the rest"),
            Verb::Prune => self.count("prunes"),
            Verb::Forget => self.count("forgets"),
            Verb::Check => self.count("checks"),
        }
    }

    fn run(&mut self, time: Duration) {
        let started = Instant::now();
        while started.elapsed() < time {
            if self.running.len() < AT_ONCE {
                self.start();
            }
            if self.draw(3) == 0 {
                self.disturb();
            }
            thread::sleep(Duration::from_millis(5 + self.draw(30) as u64));
            self.collect();
        }
        for running in &self.running {
            kill_process(Pid::from_child(&running.child), Signal::CONT).ok();
        }
        while !self.running.is_empty() {
            self.collect();
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that is shown and was reported restores; every byte is whole; and nobody is waited for.
    fn judge(&mut self) {
        let started = Instant::now();
        self.cli.run(&["check", "--read-data"]).succeeds().tells("no errors were found");
        let shown = self.cli.json(&["snapshots"]).remove(0);
        let shown: Vec<&str> =
            shown.as_array().expect("an array").iter().filter_map(|one| one["id"].as_str()).collect();
        let mut compared = 0;
        for (number, id) in shown.iter().enumerate() {
            let target = format!("back-{number}");
            self.cli.run(&["restore", id, "-t", &target, "--verify"]).succeeds();
            if let Some(files) = self.committed.get(*id) {
                let root = deepest(&self.cli.path(&target));
                for (name, bytes) in files {
                    assert_eq!(&fs::read(root.join(name)).expect("it is restored"), bytes, "{name} of {id}");
                }
                assert_eq!(fs::read_dir(&root).expect("ours").count(), files.len(), "files of {id}");
                compared += 1;
            }
            fs::remove_dir_all(self.cli.path(&target)).expect("ours");
        }
        eprintln!("{} snapshots, {compared} compared, {:?}", shown.len(), started.elapsed());
        assert!(compared > 0, "no snapshot was compared: {:?}", self.counts);
        let pruned =
            self.cli.run(&["--json", "-q", "prune", "--max-unused", "0"]).succeeds().json().pop().expect("a line");
        assert_eq!(pruned["waiting_for"].as_array().map(Vec::len), Some(0), "the dead are not waited for: {pruned}");
        self.cli.run(&["prune", "--max-unused", "0"]).succeeds();
        self.cli.run(&["check", "--read-data"]).succeeds().tells("no errors were found");
        let left = fs::read_dir(self.cli.path("repo/sessions")).expect("ours").count();
        assert_eq!(left, 0, "sessions of the dead are left");
    }
}

impl Drop for Soak {
    /// After a failure nobody stays behind, stopped for ever.
    fn drop(&mut self) {
        for running in &mut self.running {
            running.child.kill().ok();
            running.child.wait().ok();
        }
    }
}

/// The directory that holds the files: each level above it has one entry.
fn deepest(root: &Path) -> std::path::PathBuf {
    let mut at = root.to_owned();
    while !at.join("always").exists() {
        at = fs::read_dir(&at).expect("ours").next().expect("an entry").expect("ours").path();
    }
    at
}

#[test]
fn backups_prunes_forgets_and_checks_that_are_stopped_and_killed_lose_nothing() {
    let seed = number("ICECORE_SOAK_SEED", 7);
    let mut soak = Soak::new(seed);
    // One of each source to begin with, so that something is always there to be compared.
    for source in 0..SOURCES {
        soak.edit(source);
        let path = format!("source/{source}");
        let run = soak.cli.run(&["--json", "-q", "backup", &path]).succeeds();
        soak.ended(Verb::Backup(source), false, &run);
    }
    soak.run(Duration::from_secs(number("ICECORE_SOAK_SECONDS", SECONDS)));
    soak.judge();
    eprintln!("seed {seed}: {:?}", soak.counts);
}

/// A room with a repository, a snapshot that was forgotten and may go, and a backup that is at work.
fn with_a_writer_at_work() -> (Cli, Child) {
    let cli = Cli::new();
    cli.write("source/0/first", noise(1, 3_000_000));
    let first = cli.backup(&[]);
    for file in 0..60 {
        cli.write(&format!("source/1/{file}"), noise(100 + file, 1_000_000));
    }
    let mut writer = cli
        .command(&["-q", "backup", "source/1", "--threads", "1", "--limit-upload", "4000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    while sessions(&cli) == 0 {
        assert!(writer.try_wait().expect("a child of ours").is_none(), "it ended too early");
        thread::sleep(Duration::from_millis(2));
    }
    cli.run(&["forget", &first, "--undelete-within", "0"]).succeeds();
    (cli, writer)
}

fn sessions(cli: &Cli) -> usize {
    fs::read_dir(cli.path("repo/sessions")).map_or(0, |entries| entries.count())
}

/// Its session is of this boot of this machine and its process is gone: that is known at once.
#[test]
fn a_killed_local_writer_never_delays_reclaiming() {
    let (cli, mut writer) = with_a_writer_at_work();
    // While it lives it is waited for, and named.
    let waiting = cli.run(&["prune"]).ends(3);
    assert!(waiting.out.contains(&format!("at work: process {} on ", writer.id())), "{}", waiting.out);
    assert!(waiting.error.contains("run prune again when they have ended, or use --wait"), "{}", waiting.error);
    writer.kill().expect("a child of ours");
    writer.wait().expect("a child of ours");
    assert_eq!(sessions(&cli), 1, "it left its session");

    let run = cli.run(&["prune"]).succeeds().tells("not waited for, as it is dead or silent").tells("deleted ");
    assert!(run.out.contains("went on with what an earlier prune had begun"), "{}", run.out);
    assert_eq!(sessions(&cli), 0);
    cli.run(&["check", "--read-data"]).succeeds();
}

#[test]
fn prune_waits_on_request_until_the_writer_has_ended() {
    let (cli, mut writer) = with_a_writer_at_work();
    cli.run(&["prune"]).ends(3);
    let mut command = cli.command(&["prune", "--wait"]);
    let waiting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    writer.kill().expect("a child of ours");
    writer.wait().expect("a child of ours");
    end(waiting).succeeds().tells("deleted ");
    assert_eq!(sessions(&cli), 0);
}
