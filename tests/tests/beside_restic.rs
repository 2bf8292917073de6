//! The same script with restic and with this program: the same exit codes, and in JSON each field that restic prints is
//! there, with the same kind of value and, where it can be the same, the same value. What differs is listed here, with why.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use icecore_tests::cli::{Cli, Run, Runs};
use icecore_tests::restic;
use serde_json::Value;

/// Fields of restic's that are not printed here, as `command field` or `command argument field`, and why.
const MISSING: &[(&str, &str)] = &[
    ("* atime", "access times are recorded with --with-atime only, and never invented"),
    ("backup summary.snapshot_id", "a dry run makes no snapshot, so it has no id"),
    ("version version.go_version", "there is no Go here"),
    ("version version.go_os", "see os"),
    ("version version.go_arch", "see arch"),
    ("cat value.version", "the repository's parameters are others"),
    ("cat value.chunker_polynomial", "cut points are drawn from a key"),
];

/// Fields whose values differ by nature or on purpose, likewise; with `*`, of any command.
const DIFFERENT: &[(&str, &str)] = &[
    ("* id", "ids are drawn, or are hashes with a key"),
    ("* short_id", "as id"),
    ("* snapshot_id", "as id"),
    ("* snapshot", "as id"),
    ("* parent", "as id"),
    ("* tree", "as id"),
    ("* original", "as id"),
    ("* source_snapshot", "as id"),
    ("* target_snapshot", "as id"),
    ("* old_snapshot_id", "as id"),
    ("* new_snapshot_id", "as id"),
    ("* created", "when this test made the key"),
    ("* backup_start", "of the run itself; of a snapshot with --time, that time"),
    ("* backup_end", "as backup_start"),
    ("* total_duration", "of the run itself"),
    ("* seconds_elapsed", "of the run itself"),
    ("* program_version", "the program"),
    ("* version", "the program, or its format"),
    ("* data_added", "small files are in the tree itself, which is packed otherwise"),
    ("* data_added_packed", "as data_added"),
    ("* data_blobs", "as data_added"),
    ("* tree_blobs", "as data_added"),
    ("* bytes", "as data_added"),
    ("* files_changed", "a file that was written a moment before the last backup is read again, and counts as changed"),
    ("* files_unmodified", "as files_changed"),
    ("restore summary.files_restored", "entries whose content was written; those that were so already are skipped"),
    ("restore summary.files_skipped", "as above"),
    ("restore summary.total_files", "every entry that was to be restored, skipped or not"),
    ("restore summary.total_bytes", "as above"),
    (
        "snapshots value[].paths[]",
        "as they were given, also if one of them is missing today: the series stays the same",
    ),
    ("snapshots value[].snapshots[].paths[]", "as above"),
    ("diff --metadata change.path", "a directory that differs in nothing but what is below it is not named"),
    ("diff --metadata change.modifier", "as above"),
    ("diff --metadata change.message_type", "as above"),
];

/// Exit codes that differ on purpose: the command, restic's, ours, and why.
const CODES: &[(&str, i32, i32, &str)] = &[
    ("snapshots", 0, 1, "an id that is no snapshot's is a mistake, not an empty answer"),
    ("ls", 0, 1, "a path that is not in the snapshot likewise"),
];

/// How each names a second repository, and the first one beside it.
const SECOND: [&[&str]; 2] = [&["--repo", "restic-2"], &["--repo", "second", "--key-file", "second.key"]];
const FROM: [&[&str]; 2] = [
    &["--from-repo", "restic", "--from-password-file", "password"],
    &["--from-repo", "repo", "--from-key-file", "key"],
];

/// A room with a source and two repositories.
struct Both {
    cli: Cli,
    restic: &'static Path,
    /// Ids of snapshots, of restic and of this program.
    ids: Mutex<[Vec<String>; 2]>,
    complaints: Mutex<Vec<String>>,
}

impl Both {
    /// `None`: there is no restic.
    fn new() -> Option<Self> {
        let restic = restic::program()?;
        let both = Self { cli: Cli::without_repository(), restic, ids: Mutex::default(), complaints: Mutex::default() };
        let made = both.cli.command(&["init", "--new-key-file", "key"]).env_remove("ICECORE_KEY_FILE").run();
        made.succeeds();
        restic::command(restic, &both.cli, &["init"]).run().succeeds();
        Some(both)
    }

    fn complain(&self, complaint: String) {
        self.complaints.lock().expect("no test panics here").push(complaint);
    }

    /// Runs both with `--json`. In the arguments `{N}` stands for the id of the N-th snapshot, `{tool}` for a name of a
    /// directory of each one's own, `{second}` for what makes a command one of the second repository, `{from}` for what says
    /// that it is to be filled from the first.
    fn run(&self, arguments: &[&str]) -> [Run; 2] {
        let ids = self.ids.lock().expect("no test panics here").clone();
        let of = |tool: usize| -> Vec<String> {
            let own = |argument: &&str| {
                let text = argument.replace("{tool}", ["theirs", "ours"][tool]);
                ids[tool].iter().enumerate().fold(text, |text, (n, id)| text.replace(&format!("{{{n}}}"), id))
            };
            let named = arguments.iter().flat_map(|argument| match *argument {
                "{second}" => SECOND[tool].to_vec(),
                "{from}" => FROM[tool].to_vec(),
                _ => vec![*argument],
            });
            named.chain(["--json"]).map(|argument| own(&argument)).collect()
        };
        fn borrowed(arguments: &[String]) -> Vec<&str> {
            arguments.iter().map(String::as_str).collect()
        }
        let theirs = restic::command(self.restic, &self.cli, &borrowed(&of(0))).run();
        let ours = self.cli.run(&borrowed(&of(1)));
        [theirs, ours]
    }

    /// Runs both, and holds exit codes and fields against each other.
    fn compare(&self, arguments: &[&str]) -> [Vec<Value>; 2] {
        let command = arguments[0];
        let runs = self.run(arguments);
        let [theirs, ours] = [&runs[0], &runs[1]];
        let allowed = CODES.iter().any(|(name, a, b, _)| *name == command && (*a, *b) == (theirs.code, ours.code));
        if theirs.code != ours.code && !allowed {
            let (a, b) = (theirs.code, ours.code);
            self.complain(format!("{arguments:?} ends with {a} and {b}\n  {}\n  {}", theirs.error, ours.error));
        }
        let lines = runs.map(|run| lines(&run.out));
        let [their_fields, our_fields] = [&lines[0], &lines[1]].map(|lines| {
            let mut fields = BTreeMap::new();
            lines.iter().for_each(|line| collect(line, &kind_of(line), &mut fields));
            fields
        });
        for (field, values) in &their_fields {
            let name = format!("{command} {field}");
            let any = format!("* {}", field.rsplit('.').next().unwrap_or_default());
            let with = |argument: &&str| format!("{command} {argument} {field}");
            let names: Vec<String> = [name.clone(), any].into_iter().chain(arguments.iter().map(with)).collect();
            let listed = |list: &[(&str, &str)]| list.iter().any(|(known, _)| names.iter().any(|name| name == known));
            match our_fields.get(field) {
                None if listed(MISSING) => {}
                None => self.complain(format!("missing: {name} = {values:?}, of {arguments:?}")),
                Some(_) if listed(DIFFERENT) => {}
                Some(ours) if sorted(ours) != sorted(values) => {
                    self.complain(format!("different: {name} = {values:?}, here {ours:?}, of {arguments:?}"));
                }
                Some(_) => {}
            }
        }
        lines
    }

    /// Backs up with both, and remembers the ids.
    fn backup(&self, arguments: &[&str]) {
        let found = self.compare(&[&["backup"], arguments].concat());
        let mut ids = self.ids.lock().expect("no test panics here");
        for (ids, lines) in ids.iter_mut().zip(&found) {
            let summary = lines.last().expect("a summary");
            ids.push(summary["snapshot_id"].as_str().unwrap_or_else(|| panic!("{summary}")).to_owned());
        }
    }

    #[track_caller]
    fn is_silent(&self) {
        let complaints = self.complaints.lock().expect("no test panics here");
        assert!(complaints.is_empty(), "{} differences:\n{}", complaints.len(), complaints.join("\n"));
    }
}

/// The lines of JSON but those of progress, of which there may be any number.
fn lines(out: &str) -> Vec<Value> {
    let values = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    values.filter(|value| !matches!(value["message_type"].as_str(), Some("status" | "verbose_status"))).collect()
}

/// In what order things come may differ: groups, snapshots of one second.
fn sorted(values: &[Value]) -> Vec<String> {
    let mut texts: Vec<String> = values.iter().map(Value::to_string).collect();
    texts.sort();
    texts
}

fn kind_of(line: &Value) -> String {
    line["message_type"].as_str().unwrap_or("value").to_owned()
}

/// The scalars of a value under their paths, where places in arrays are not told apart.
fn collect(value: &Value, path: &str, fields: &mut BTreeMap<String, Vec<Value>>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| collect(member, &format!("{path}.{name}"), fields));
        }
        // As good as not there.
        Value::Null => {}
        Value::Array(items) => items.iter().for_each(|item| collect(item, &format!("{path}[]"), fields)),
        scalar => fields.entry(path.to_owned()).or_default().push(scalar.clone()),
    }
}

fn grow(cli: &Cli) {
    cli.write("source/docs/letter.txt", "Dear reader");
    cli.write("source/docs/notes.md", "some notes");
    cli.write("source/pictures/one.jpg", vec![1; 300_000]);
    cli.write("source/empty", "");
    fs::create_dir(cli.path("source/hollow")).expect("ours");
    std::os::unix::fs::symlink("docs/letter.txt", cli.path("source/link")).expect("ours");
}

fn change(cli: &Cli) {
    cli.write("source/docs/letter.txt", "Dear reader, once more");
    cli.write("source/docs/new.txt", "new");
    fs::remove_file(cli.path("source/docs/notes.md")).expect("ours");
}

const BACKUP: [&str; 3] = ["source", "--host", "somewhere"];

#[test]
fn the_same_script_says_the_same() {
    let Some(both) = Both::new() else { return };
    grow(&both.cli);
    let backup = |more: &[&str]| both.backup(&[&BACKUP, more].concat());
    backup(&["--tag", "first", "--time", "2026-01-31 10:00:00"]);
    both.compare(&[&["backup", "--dry-run"], &BACKUP[..]].concat());
    change(&both.cli);
    backup(&["--tag", "second", "--time", "2026-02-28 11:00:00"]);
    backup(&["--tag", "second,third", "--time", "2026-03-01 12:00:00", "--exclude", "*.jpg"]);
    both.compare(&["backup", "source", "nowhere at all", "--host", "elsewhere", "--time", "2026-03-01 13:00:00"]);
    both.compare(&["backup", "nowhere at all"]);

    for arguments in [
        &["snapshots"][..],
        &["snapshots", "--latest", "1"],
        &["snapshots", "--tag", "third"],
        &["snapshots", "--host", "nobody's"],
        &["snapshots", "{1}"],
        &["snapshots", "--group-by", "host,tags"],
        &["snapshots", "ffffffff"],
        &["ls", "{1}"],
        &["ls", "{1}", "/source/docs"],
        &["ls", "{1}", "--recursive", "/source"],
        &["ls", "{1}", "/nowhere"],
        &["ls", "ffffffff"],
        &["find", "*.txt"],
        &["find", "letter.txt", "--snapshot", "{0}"],
        &["find", "--ignore-case", "LETTER*"],
        &["find", "nothing of this name"],
        &["diff", "{0}", "{1}"],
        &["diff", "{0}", "{1}", "--metadata"],
        &["diff", "{1}", "{2}"],
        &["diff", "{0}"],
        &["tag", "--add", "kept", "{0}"],
        &["tag", "--remove", "nothing", "--host", "nobody's"],
        &["stats", "{1}"],
        &["stats", "--mode", "restore-size"],
        &["stats", "--mode", "files-by-contents", "{1}"],
        &["stats", "--mode", "nonsense"],
        &["check"],
        &["check", "--read-data"],
        &["cat", "config"],
        &["list", "nonsense"],
        &["key", "list"],
        &["version"],
        &["unlock"],
    ] {
        both.compare(arguments);
    }
    both.is_silent();
}

#[test]
fn policies_keep_the_same_for_the_same_reasons() {
    let Some(both) = Both::new() else { return };
    both.cli.write("source/file", "content");
    for (number, time) in [
        "2024-12-31 23:00:00",
        "2025-06-30 12:00:00",
        "2025-12-31 08:00:00",
        "2026-01-31 10:00:00",
        "2026-01-31 10:30:00",
    ]
    .iter()
    .enumerate()
    {
        let tag = if number % 2 == 0 { "even" } else { "odd" };
        both.backup(&[&BACKUP[..], &["--tag", tag, "--time", time]].concat());
    }
    for rule in [
        &["--keep-last", "2"][..],
        &["--keep-hourly", "2"],
        &["--keep-daily", "2"],
        &["--keep-weekly", "3"],
        &["--keep-monthly", "2"],
        &["--keep-yearly", "unlimited"],
        &["--keep-within", "1y"],
        &["--keep-within-hourly", "1m"],
        &["--keep-within-daily", "2m"],
        &["--keep-within-weekly", "7m"],
        &["--keep-within-monthly", "1y6m"],
        &["--keep-within-yearly", "3y"],
        &["--keep-tag", "odd"],
        &["--keep-last", "1", "--keep-yearly", "2", "--keep-tag", "even"],
        &["--keep-last", "1", "--group-by", "host"],
        &["--keep-last", "1", "--group-by", ""],
        &["--keep-last", "1", "--tag", "even"],
        &["--keep-tag", "no such tag"],
        &["--keep-last", "nonsense"],
        &["--keep-within", "1w"],
        &[],
    ] {
        both.compare(&[&["forget", "--dry-run"], rule].concat());
    }
    both.compare(&["forget", "--keep-last", "2"]);
    both.compare(&["snapshots"]);
    both.is_silent();
}

#[test]
fn restores_and_copies_end_alike() {
    let Some(both) = Both::new() else { return };
    grow(&both.cli);
    both.backup(&BACKUP);
    let whole = "{0}:/source";
    for more in [
        &[][..],
        &["--include", "*.txt"],
        &["--exclude", "pictures"],
        &["--dry-run"],
        &["--overwrite", "never"],
        &["--overwrite", "if-newer"],
        &["--overwrite", "if-changed"],
        &["--overwrite", "nonsense"],
        &["--delete"],
        &["--include", "*.txt", "--exclude", "*.md"],
    ] {
        both.compare(&[&["restore", whole, "--target", "{tool}"], more].concat());
        let trees = ["theirs", "ours"].map(|tool| names_below(&both.cli.path(tool)));
        assert_eq!(trees[0], trees[1], "after {more:?}");
        both.cli.write("theirs/docs/letter.txt", "changed since");
        both.cli.write("ours/docs/letter.txt", "changed since");
        both.cli.write("theirs/surplus", "x");
        both.cli.write("ours/surplus", "x");
    }
    both.compare(&["restore", "ffffffff", "--target", "{tool}"]);
    both.compare(&["restore", "latest"]);
    both.compare(&["dump", "latest", "/source/nowhere"]);
    both.is_silent();
}

#[test]
fn copies_hold_the_same_snapshots() {
    let Some(both) = Both::new() else { return };
    grow(&both.cli);
    both.backup(&[&BACKUP[..], &["--tag", "first", "--time", "2026-01-31 10:00:00"]].concat());
    change(&both.cli);
    both.backup(&[&BACKUP[..], &["--tag", "second", "--time", "2026-02-28 11:00:00"]].concat());
    both.cli.write("password", "the same for all tests");
    both.compare(&["copy", "{second}", "{from}"]); // there is none yet
    both.cli.run(&["init", "--repo", "second", "--new-key-file", "second.key"]).succeeds();
    restic::command(both.restic, &both.cli, &["init", "--repo", "restic-2"]).run().succeeds();
    for arguments in [
        &["copy", "{second}", "{from}", "{0}"][..],
        &["snapshots", "{second}"],
        &["copy", "{second}", "{from}"],
        &["snapshots", "{second}"],
        // All of it is there already.
        &["copy", "{second}", "{from}", "--tag", "second"],
        &["snapshots", "{second}"],
        &["ls", "{second}", "latest"],
        &["check", "{second}", "--read-data"],
        &["copy", "{second}", "{from}", "--host", "nobody's"],
    ] {
        both.compare(arguments);
    }
    both.is_silent();
}

fn names_below(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().map(|entry| entry.expect("ours")) {
            let path = entry.path();
            names.push(path.strip_prefix(directory).expect("below it").to_string_lossy().into_owned());
            if entry.file_type().expect("a kind").is_dir() {
                open.push(path);
            }
        }
    }
    names.sort();
    names
}

#[test]
fn what_goes_wrong_at_the_start_ends_alike() {
    let Some(both) = Both::new() else { return };
    let ends = |name: &str, prepare: &dyn Fn(&mut std::process::Command, bool)| {
        let mut theirs = restic::command(both.restic, &both.cli, &["snapshots", "--json"]);
        let mut ours = both.cli.command(&["snapshots", "--json"]);
        prepare(&mut theirs, true);
        prepare(&mut ours, false);
        let (theirs, ours) = (theirs.run(), ours.run());
        assert_eq!(theirs.code, ours.code, "{name}\n{}\n{}", theirs.error, ours.error);
        // The last line on standard error is for scripts.
        let last = |run: &Run| run.error.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        let (theirs, ours) = (last(&theirs).expect("JSON"), last(&ours).expect("JSON"));
        assert_eq!((&theirs["message_type"], &theirs["code"]), (&ours["message_type"], &ours["code"]), "{name}");
    };
    ends("no repository", &|command, _| {
        command.env("RESTIC_REPOSITORY", "nowhere").env("ICECORE_REPOSITORY", "nowhere");
    });
    ends("a wrong password", &|command, is_restic| {
        match is_restic {
            true => command.env("RESTIC_PASSWORD", "another"),
            false => {
                fs::write(both.cli.path("other-key"), [7; 32]).expect("ours");
                command.env("ICECORE_KEY_FILE", both.cli.path("other-key"))
            }
        };
    });
}
