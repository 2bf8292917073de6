//! Transcripts: files of Markdown with console sessions in them, as a person has them, held against what the program does.
//!
//! A block of `sh` is what a session starts from: it is run unseen, and every command in it must succeed. In a block of
//! `console` each line that begins with `$ ` is a command (`> ` goes on with it), run by one shell for the whole file; below
//! it stand its exit code (`? 3`, if it is not 0) and what it prints, on either stream. What differs from run to run is
//! replaced by [`Stable`], letter for letter, so that tables stay as they are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::{Captures, Regex};

use crate::cli;

/// Set to `write`, the files are written anew instead of compared: read the difference before it is kept.
pub const VARIABLE: &str = "ICECORE_TEST_TRANSCRIPTS";
/// What a session's room is called in its transcript; as long as every room's own path.
const ROOM: &str = "/home/ann/work/of/this/afternoon";
const STEP: &str = "<<<step>>>";
const STATUS: &str = "<<<status ";

/// Where the files are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts")
}

/// One line of a file, or a command with what stands below it.
enum Part<'t> {
    Line(&'t str),
    Unseen(Vec<&'t str>),
    Step(Vec<&'t str>),
}

/// Holds one file's sessions against the program.
#[track_caller]
pub fn holds(name: &str) {
    let path = directory().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parts = parse(&text);
    let answers = run(name, &parts);
    let mut answers = answers.into_iter();
    let mut now = String::new();
    for part in &parts {
        match part {
            Part::Line(line) => now += &format!("{line}\n"),
            Part::Unseen(lines) => now += &format!("{}\n", lines.join("\n")),
            Part::Step(lines) => {
                now += &format!("{}\n{}", lines.join("\n"), answers.next().expect("an answer for each command"));
            }
        }
    }
    same(&path, &text, &now);
}

/// Compares a file with what it should say, or writes it if that was asked for.
#[track_caller]
pub fn same(path: &Path, before: &str, now: &str) {
    if before == now {
        return;
    }
    if std::env::var(VARIABLE).is_ok_and(|value| value == "write") {
        return fs::write(path, now).expect("writing a transcript");
    }
    let both = before.lines().zip(now.lines());
    let first = both.take_while(|(before, now)| before == now).count();
    let around = |text: &str| text.lines().skip(first.saturating_sub(6)).take(18).collect::<Vec<_>>().join("\n");
    panic!(
        "{} differs from line {} on ({VARIABLE}=write writes it anew)\n-- expected\n{}\n-- but now\n{}",
        path.display(),
        first + 1,
        around(before),
        around(now)
    );
}

/// What stands below a command in the file is passed over.
fn parse(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        match line {
            "```sh" => {
                let mut block = vec![line];
                block.extend(lines.by_ref().take_while(|line| *line != "```"));
                block.push("```");
                parts.push(Part::Unseen(block));
            }
            "```console" => {
                parts.push(Part::Line(line));
                let mut has_command = false;
                while let Some(line) = lines.next_if(|line| *line != "```") {
                    if line.starts_with("$ ") {
                        let mut command = vec![line];
                        while let Some(more) = lines.next_if(|line| line.starts_with("> ")) {
                            command.push(more);
                        }
                        parts.push(Part::Step(command));
                        has_command = true;
                    }
                    assert!(has_command, "a session begins with a command: {line}");
                }
            }
            line => parts.push(Part::Line(line)),
        }
    }
    parts
}

/// What stands below each command.
fn run(name: &str, parts: &[Part<'_>]) -> Vec<String> {
    let (scratch, room) = room();
    let mut script = format!(". '{}'\n", directory().join("prelude.sh").display());
    for part in parts {
        match part {
            Part::Line(_) => {}
            Part::Unseen(lines) => {
                let block = lines[1..lines.len() - 1].join("\n");
                script += &format!("set -e\n{{\n{block}\n}} > \"$UNSEEN\" 2>&1\nset +e\n");
            }
            Part::Step(lines) => {
                let command: Vec<&str> = lines.iter().map(|line| &line[2..]).collect();
                script += &format!("echo '{STEP}'\n{{\n{}\n}}\n", command.join("\n"));
                script += &format!("printf '\\n{STATUS}%s>>>\\n' $?\n");
            }
        }
    }
    let said = scratch.path().join("said");
    let unseen = scratch.path().join("unseen");
    let out = File::options().create(true).append(true).open(&said).expect("a file of ours");
    let mut command = Command::new("sh");
    environment(&mut command, &room);
    command.args(["-c", &script]).env("UNSEEN", &unseen);
    command.stdout(out.try_clone().expect("a descriptor")).stderr(out);
    let status = cli::wait(&mut command.spawn().expect("a shell"));
    let said = String::from_utf8_lossy(&fs::read(&said).expect("a file of ours")).into_owned();
    let before = fs::read(&unseen).unwrap_or_default();
    assert!(status.success(), "{name}: {status}\n{said}\n{}", String::from_utf8_lossy(&before));
    let mut stable = Stable::new(&room);
    let begin = format!("{STEP}\n");
    let answers = said.split(begin.as_str()).skip(1).map(|answer| {
        let (printed, status) = answer.rsplit_once(&format!("\n{STATUS}")).expect("each command has a status");
        let code = status.split(">>>").next().expect("a number");
        let code = if code == "0" { String::new() } else { format!("? {code}\n") };
        let end = if printed.is_empty() || printed.ends_with('\n') { "" } else { "\n" };
        code + &stable.of(printed) + end
    });
    answers.collect()
}

/// A directory whose path is as long as [`ROOM`].
fn room() -> (tempfile::TempDir, PathBuf) {
    let whole = tempfile::Builder::new().prefix("ts-").rand_bytes(6).tempdir().expect("a temporary directory");
    let short = |whole: &Path| whole.as_os_str().len() + 2 <= ROOM.len();
    // Where temporary directories have long names there is still this one.
    let scratch = match short(whole.path()) {
        true => whole,
        false => {
            tempfile::Builder::new().prefix("ts-").rand_bytes(6).tempdir_in("/tmp").expect("a temporary directory")
        }
    };
    let left = ROOM.len() - scratch.path().as_os_str().len() - 1;
    let room = scratch.path().join("r".repeat(left));
    fs::create_dir(&room).expect("a directory of ours");
    (scratch, room)
}

/// Nothing of the caller's settings, and nothing of this machine.
pub fn environment(command: &mut Command, room: &Path) {
    let program = cli::program().parent().expect("a program lies in a directory");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"ICECORE_")) {
        command.env_remove(name);
    }
    command.current_dir(room).stdin(Stdio::null()).env("PATH", path).env("HOME", room);
    command.env("XDG_STATE_HOME", room.join("state")).env("TZ", "UTC").env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
    for name in ["NO_COLOR", "COLUMNS", "LINES", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMUX"] {
        command.env_remove(name);
    }
}

/// The same id is the same number, however many of its digits are shown: the first ones, or of a snapshot those after the
/// first twelve, which are its time.
#[derive(Debug, Default)]
struct Ids(Vec<(String, usize)>);

impl Ids {
    fn number(&mut self, id: &str) -> usize {
        let begins = |long: &str, short: &str| {
            long.starts_with(&short[..8]) || long.len() == 32 && long[12..].starts_with(&short[..8])
        };
        let is_same = |known: &str| match (known.len(), id.len()) {
            // Of two snapshots the times begin alike.
            (32, 32) => known == id,
            (32, _) => begins(known, id),
            _ => begins(id, known),
        };
        let known = self.0.iter().find(|(known, _)| is_same(known)).map(|(_, number)| *number);
        let next = self.0.iter().map(|(_, number)| number + 1).max().unwrap_or(1);
        let number = known.unwrap_or(next);
        self.0.push((id.to_owned(), number));
        number
    }
}

/// Replaces what differs from run to run and from machine to machine by as many letters that do not.
#[derive(Debug)]
pub struct Stable {
    room: String,
    /// Who runs it: as a label of keys, and in sentences.
    user: [String; 2],
    ids: Ids,
    id: Regex,
    folder: Regex,
    time: Regex,
    duration: Regex,
    by_chance: Regex,
    number: Regex,
}

impl Stable {
    /// For what is said in this room.
    pub fn new(room: &Path) -> Self {
        let regex = |pattern| Regex::new(pattern).expect("a pattern of ours");
        let user = repo_core::system::current_user();
        let user = user.name.map_or_else(|| user.uid.to_string(), |name| name.to_string());
        Self {
            room: room.display().to_string(),
            user: [format!("{user}@{}", repo_core::system::host_name()), format!(" by {user}@")],
            ids: Ids::default(),
            id: regex(r"(?-u)\b[0-9a-f]{8,64}\b"),
            folder: regex(r"(?-u)\b(packs/[dm]|parity)/[0-9a-f]{2}/"),
            // What sessions make up themselves is of years before.
            time: regex(r"(?-u)\b20(?:2[5-9]|[3-9]\d)-\d\d-\d\d \d\d:\d\d:\d\d\b"),
            // What is stored of names, times and ids compresses by more or less, and is padded.
            by_chance: regex(concat!(
                r"(?-u)to the repository: [0-9A-Za-z .(]*stored\)|added [0-9A-Za-z .(]*stored\)|frees [0-9.]+ \w+|[0-9.]+ \w+ read\b",
                r"|read [0-9]+ packs?, [0-9.]+ \w+|(?:mirrored|deleted) [0-9]+ \w+, [0-9.]+ \w+|chunks? / [0-9.]+ \w+",
                r"|unused size after prune: [ -~]*|keep [0-9.]+ \w+ until|  (?:Added|Removed): [ -~]*|parity objects? made, [ -~]*",
                r"|(?:Uncompressed Size|Compression Ratio|Space Saving|Deduplication Ratio): [ -~]*|\b[1-9][0-9]{2} B",
            )),
            number: regex(r"(?-u)\b[0-9]+(?:\.[0-9]+)? ?(?:[KM]?i?B\b|%|x\b)"),
            duration: regex(r"(?-u)\bin \d+:\d\d(?::\d\d)?\b"),
        }
    }

    /// The same text, whoever runs it where and when.
    pub fn of(&mut self, text: &str) -> String {
        let text = text.replace(&self.room, ROOM).replace(&self.user[0], "ann@laptop");
        let text = text.replace(&self.user[1], " by ann@");
        let text = self.folder.replace_all(&text, "$1/##/");
        let text = self.time.replace_all(&text, "YYYY-MM-DD hh:mm:ss");
        let text = self.duration.replace_all(&text, "in m:ss");
        let text = self.by_chance.replace_all(&text, |found: &Captures<'_>| self.without_sizes(&found[0]));
        let ids = &mut self.ids;
        let text = self.id.replace_all(&text, |id: &Captures<'_>| {
            // What nothing has is no id, but a test's own invention.
            if id[0].bytes().all(|digit| digit == b'0') {
                return id[0].to_owned();
            }
            format!("{:.<width$}", format!("id-{}", ids.number(&id[0])), width = id[0].len())
        });
        text.into_owned()
    }

    /// A `#` for the number of each size that is not 0.
    fn without_sizes(&self, text: &str) -> String {
        let hidden = self.number.replace_all(text, |size: &Captures<'_>| {
            let unit = size[0].trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
            match size[0].bytes().any(|digit| digit.is_ascii_digit() && digit != b'0') {
                true => format!("#{unit}"),
                false => size[0].to_owned(),
            }
        });
        hidden.into_owned()
    }
}
