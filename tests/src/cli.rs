//! The program as its users meet it: run in a room of its own, judged by its exit code and what it prints.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::privilege::{NOBODY, is_root};

/// Longer than any command here needs on any machine: what still runs then hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// The built program, beside the directory of this test's own. Cargo brings it up to date once.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a program");
        let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>").to_owned();
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // Together with this crate, so that the library is not compiled again with other features.
        build
            .args(["build", "--quiet", "-p", "repo-cli", "-p", "icecore-tests"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        build.arg("--target-dir").arg(profile.parent().expect("a profile has a directory"));
        match profile.file_name().and_then(OsStr::to_str) {
            Some("debug") | None => {}
            Some(name) => _ = build.args(["--profile", name]),
        }
        let status = build.status().expect("cargo runs");
        assert!(status.success(), "the program does not build");
        let program = profile.join("icecore");
        assert!(program.exists(), "no program at {}", program.display());
        program
    })
}

/// A directory with a repository `repo`, a key file `key`, and a source `source`.
#[derive(Debug)]
pub struct Cli {
    room: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub error: String,
}

impl Cli {
    /// A room with a repository that a key file opens.
    pub fn new() -> Self {
        let cli = Self::without_repository();
        cli.command(&["init", "--new-key-file", "key"]).env_remove("ICECORE_KEY_FILE").run().succeeds();
        cli
    }

    /// A room whose source, of so many files in one directory, takes as long to back up as somebody takes to read the list of
    /// its entries.
    pub fn of_many_files(files: usize) -> Self {
        let cli = Self::new();
        let directory = cli.path("source").join("d".repeat(200));
        fs::create_dir(&directory).expect("a directory of ours");
        for number in 0..files {
            fs::write(directory.join(format!("{number:0>200}")), "1").expect("a file of ours");
        }
        cli
    }

    /// A room where everything is named but nothing made.
    pub fn without_repository() -> Self {
        let room = tempfile::Builder::new().prefix("icecore-cli-").tempdir().expect("a temporary directory");
        fs::create_dir(room.path().join("source")).expect("a directory of ours");
        Self { room }
    }

    /// A path in the room.
    pub fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// Writes a file, and the directories it needs.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("within the room")).expect("a directory of ours");
        fs::write(path, content).expect("a file of ours");
    }

    /// Reads a file.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The program with these arguments, run in the room, with nothing of the caller's settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(program(), arguments)
    }

    /// The same as uid 65534, who then owns the room. An ordinary user is taken as he is.
    pub fn command_as_nobody(&self, arguments: &[&str]) -> Command {
        if !is_root() {
            return self.command(arguments);
        }
        // The program may lie where nobody may look.
        let copy = self.path("icecore");
        if !copy.exists() {
            fs::copy(program(), &copy).expect("copying the program");
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("a file of ours");
        }
        let given = Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(self.room.path()).status();
        assert!(given.expect("chown runs").success());
        let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        let mut command = self.command_of(Path::new("setpriv"), &[]);
        command.args(ids).args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]);
        command.arg(copy).args(arguments);
        command
    }

    fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"ICECORE_")) {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(self.room.path()).stdin(Stdio::null());
        command.env("ICECORE_REPOSITORY", self.path("repo")).env("ICECORE_KEY_FILE", self.path("key"));
        // What a command remembers stays in the room.
        command.env("XDG_STATE_HOME", self.path("state"));
        command.env("TZ", "UTC").env("TERM", "xterm").env_remove("NO_COLOR").env_remove("COLUMNS");
        command
    }

    /// Runs the program.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).run()
    }

    /// A backup of `source` that waits in its last command, when all else is done, until this signal ends it.
    pub fn interrupted_backup(&self, more: &[&str], signal: Signal) -> Run {
        let waiting = ["--json", "-vv", "backup", "source", "--command", "zz=echo begun > begun; exec sleep 100000"];
        fs::remove_file(self.path("begun")).ok();
        let mut command = self.command(&[&waiting, more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        while !self.path("begun").exists() {
            assert!(child.try_wait().expect("a child of ours").is_none(), "it ended before its command");
            thread::yield_now();
        }
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let (mut told, mut line) = (String::new(), String::new());
        // The answer to USR1 comes with all lines before it. When the directory is done, what is in it is.
        let mut is_done = false;
        while !is_done {
            kill_process(Pid::from_child(&child), Signal::USR1).expect("a child of ours");
            loop {
                line.clear();
                assert!(out.read_line(&mut line).expect("a line") > 0, "it ended early");
                told.push_str(&line);
                is_done |= line.contains("\"item\":\"/source\"");
                if line.contains("\"message_type\":\"status\"") {
                    break;
                }
            }
        }
        kill_process(Pid::from_child(&child), signal).expect("a child of ours");
        out.read_to_string(&mut told).expect("to its end");
        Run { out: told, ..end(child) }
    }

    /// Runs it with `--json` and gives the lines of standard output.
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        self.run(&[&["--json"], arguments].concat()).succeeds().json()
    }

    /// Backs up `source` and gives the new snapshot's id.
    pub fn backup(&self, more: &[&str]) -> String {
        let lines = self.json(&[&["backup", "source"], more].concat());
        lines.last().and_then(|line| line["snapshot_id"].as_str()).expect("a snapshot was made").to_owned()
    }

    /// How many snapshots there are.
    pub fn snapshots(&self) -> usize {
        self.json(&["snapshots"])[0].as_array().expect("an array").len()
    }
}

impl Default for Cli {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs a prepared command to its end.
pub trait Runs {
    fn run(&mut self) -> Run;
    /// With this on its standard input.
    fn run_with(&mut self, input: &[u8]) -> Run;
}

impl Runs for Command {
    fn run(&mut self) -> Run {
        end(self.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts"))
    }

    fn run_with(&mut self, input: &[u8]) -> Run {
        let piped = self.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("piped");
        thread::scope(|scope| {
            // A program that ends early closes the pipe: its exit code tells.
            scope.spawn(move || stdin.write_all(input).ok());
            end(child)
        })
    }
}

/// Waits for a program and takes what it printed.
pub fn end(mut child: Child) -> Run {
    fn reader(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            stream.map(|mut stream| stream.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }
    let (out, error) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let status = wait(&mut child);
    let (out, error) = (out.join().expect("reads"), error.join().expect("reads"));
    Run { code: status.code().unwrap_or(-1), out, error }
}

/// Waits for a program; one that hangs is ended and is a failure.
pub fn wait(child: &mut Child) -> std::process::ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().ok();
            panic!("the program hangs");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

impl Run {
    /// The exit code is 0.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        self.ends(0)
    }

    /// The exit code is this.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\nout: {}\nerror: {}", self.out, self.error);
        self
    }

    /// The exit code is this, and standard error has each of these.
    #[track_caller]
    pub fn fails(self, code: i32, told: &[&str]) -> Self {
        let run = self.ends(code);
        for words in told {
            assert!(run.error.contains(words), "{words:?} is missing:\n{}", run.error);
        }
        run
    }

    /// Standard output has this.
    #[track_caller]
    pub fn tells(self, words: &str) -> Self {
        assert!(self.out.contains(words), "{words:?} is missing:\n{}", self.out);
        self
    }

    /// Standard output as JSON, a value a line.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        values(&self.out)
    }

    /// Standard error as JSON, a value a line.
    #[track_caller]
    pub fn error_json(&self) -> Vec<Value> {
        values(&self.error)
    }
}

#[track_caller]
fn values(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}
