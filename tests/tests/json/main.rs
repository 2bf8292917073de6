//! docs/json.md is true: with `--json` every command prints what it describes and nothing else, and all that it describes is
//! printed by some run here. The other files run the commands, each in rooms of its own.

mod daily;
mod damaged;
mod places;
mod reclaiming;
mod running;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use icecore_tests::cli::{Cli, Run, Runs};
use icecore_tests::schema::Schema;
use icecore_tests::whole::noise;
use serde_json::Value;

/// What no run here shows, and why.
const UNSEEN: [(&str, &str); 5] = [
    ("shape made.append_only.clients_remove[]", "clients remove nothing, and the list says so by being empty"),
    ("key rotate: keys_rotated.left[]", "a storage must refuse to remove what it had put"),
    ("key rotate: keys_rotated.unfinished", "the storage must fail after the keys are rotated, and before all is tidy"),
    ("repair index: summary.lying[]", "a lie can be written with the keys alone, as tests/repair.rs does"),
    ("repair packs: summary.packs[].outcome = \"read_again\"", "a disk must fail to read something and then not"),
];

fn schema() -> Schema {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
    let page = fs::read_to_string(&path).expect("the page is there");
    Schema::parse(&page).unwrap_or_else(|mistake| panic!("docs/json.md:{mistake}"))
}

/// A room whose every run is held to the page.
struct Room<'s> {
    cli: Cli,
    schema: &'s Schema,
}

impl<'s> Room<'s> {
    /// With a repository.
    fn new(schema: &'s Schema) -> Self {
        Self { cli: Cli::new(), schema }
    }

    /// A command that does what it should: its lines.
    #[track_caller]
    fn does(&self, arguments: &[&str]) -> Vec<Value> {
        self.ends(0, arguments).json()
    }

    /// A command that ends with this code.
    #[track_caller]
    fn ends(&self, code: i32, arguments: &[&str]) -> Run {
        self.ends_as(code, arguments, |_| {})
    }

    /// The same, after a change to how it is started.
    #[track_caller]
    fn ends_as(&self, code: i32, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Run {
        let mut command = self.cli.command(&[arguments, &["--json"]].concat());
        change(&mut command);
        let run = command.run().ends(code);
        self.hold(arguments, &run);
        self.schema.check_out(self.name(arguments), &run.out).unwrap_or_else(|why| panic!("{arguments:?}\n{why}"));
        run
    }

    /// A command that prints bytes and no JSON.
    #[track_caller]
    fn prints(&self, arguments: &[&str]) {
        let run = self.cli.run(&[arguments, &["--json"]].concat()).succeeds();
        self.hold(arguments, &run);
        self.schema.check_bytes(self.name(arguments), &run.out).unwrap_or_else(|why| panic!("{arguments:?}\n{why}"));
    }

    /// The section of a command.
    #[track_caller]
    fn name(&self, arguments: &[&str]) -> &'s str {
        self.schema.command_of(arguments).unwrap_or_else(|| panic!("{arguments:?} has no section"))
    }

    /// Standard error is as described, and its last line, and no other, says why a command failed.
    #[track_caller]
    fn hold(&self, arguments: &[&str], run: &Run) {
        let name = self.name(arguments);
        self.schema.ended(name, run.code);
        self.schema.check_error(name, &run.error).unwrap_or_else(|why| panic!("{arguments:?}\n{why}"));
        let lines = run.error_json();
        let ends: Vec<_> = lines.iter().filter(|line| line["message_type"] == "exit_error").collect();
        match run.code {
            0 => assert_eq!(ends, [&Value::Null; 0], "{arguments:?}"),
            code => {
                assert_eq!(ends, [lines.last().expect("a last line")], "{arguments:?}");
                assert_eq!(ends[0]["code"], code, "{arguments:?}");
                assert!(ends[0]["message"].as_str().is_some_and(|message| !message.is_empty()), "{arguments:?}");
            }
        }
    }

    /// Backs up `source`, and gives the snapshot's id.
    #[track_caller]
    fn backup(&self, more: &[&str]) -> String {
        let lines = self.does(&[&["backup", "source"], more].concat());
        text(&lines.last().expect("a summary")["snapshot_id"])
    }
}

/// A value that is a string.
#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}

/// A tar archive of entries: name, letter of the kind, content.
fn archive(entries: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, kind, content) in entries {
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000600\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", content.len()));
        put(136, "00000000000\0");
        put(148, "        ");
        put(156, &char::from(*kind).to_string());
        put(257, "ustar\x0000");
        put(329, "0000001\0");
        put(337, "0000003\0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.extend([0; 1024]);
    archive
}

/// What a tar archive has before an entry whose attributes are too large to stand beside its name in a repository.
fn attributes() -> Vec<u8> {
    let attribute = [b"SCHILY.xattr.user.large=".to_vec(), noise(3, 5000)].concat();
    // The length counts itself, four digits, and what stands beside it.
    [format!("{} ", attribute.len() + 6).into_bytes(), attribute, b"\n".to_vec()].concat()
}

#[test]
fn every_command_prints_what_is_described_and_all_of_it() {
    let schema = schema();
    let rooms: [fn(&Schema); 8] = [
        damaged::large,
        damaged::small,
        running::run,
        daily::run,
        places::run,
        places::keys,
        reclaiming::run,
        refusals,
    ];
    thread::scope(|scope| {
        let schema = &schema;
        let started = rooms.map(|room| scope.spawn(move || room(schema)));
        // All of them, so that each tells what it met.
        let ended = started.map(|thread| thread.join());
        assert!(ended.iter().all(Result::is_ok), "what is printed is not what is described");
    });
    let mut unseen: BTreeSet<_> = schema.unseen().into_iter().collect();
    if places::CANNOT_MOUNT.load(Relaxed) {
        unseen.retain(|what| !what.starts_with("mount") && !what.contains("during = \"mount\""));
    }
    let excused: BTreeSet<_> = UNSEEN.iter().map(|(what, _)| (*what).to_owned()).collect();
    let told: Vec<_> = unseen.difference(&excused).map(String::as_str).collect();
    assert!(told.is_empty(), "docs/json.md describes what was never printed:\n{}", told.join("\n"));
}

/// Each command, told what it does not understand; and without a repository, with a wrong key, and in alarm.
fn refusals(schema: &Schema) {
    let room = Room { cli: Cli::without_repository(), schema };
    for command in schema.commands() {
        let words: Vec<_> = command.split(' ').collect();
        room.ends(1, &[&words[..], &["--no-such-flag"]].concat());
    }
    let init = |arguments: &[&str]| room.ends_as(0, arguments, |command| _ = command.env_remove("ICECORE_KEY_FILE"));
    init(&["init", "--new-key-file", "key"]);
    init(&["init", "-r", "other", "--new-key-file", "other.key"]);
    init(&["init", "-r", "weak", "--new-key-file", "weak.key", "--weak-store"]);
    room.ends(1, &["init"]);
    room.ends(10, &["backup", "-r", "nowhere", "source"]);
    room.ends(10, &["snapshots", "-r", "nowhere"]);
    room.ends(12, &["snapshots", "--key-file", "other.key"]);
    room.ends(1, &["unlock", "--append-only", "more"]);
    let id = room.backup(&[]);
    room.ends(1, &["forget", "--append-only", &id]);
    for folder in ["repo/snapshots", "repo/r/snapshots"] {
        fs::remove_dir_all(room.cli.path(folder)).expect("ours");
        fs::create_dir(room.cli.path(folder)).expect("ours");
    }
    room.ends(13, &["snapshots"]);
    room.ends(0, &["snapshots", "--accept-rollback"]);
}

#[test]
fn every_command_that_help_names_has_a_section_and_no_other_has() {
    let cli = Cli::without_repository();
    cli.run(&["generate", "--man", "pages"]).succeeds();
    let pages = fs::read_dir(cli.path("pages")).expect("pages were written").flatten();
    let names = pages.map(|page| page.file_name().into_string().expect("ASCII"));
    let names = names.map(|name| name.trim_end_matches(".1").replacen("icecore-", "", 1));
    // Those with commands of their own print nothing themselves.
    let names = names.filter(|name| !["icecore", "key", "repair"].contains(&name.as_str()));
    let schema = schema();
    // The one command with a dash of its own.
    let commands: BTreeSet<String> =
        names.map(|name| if name == "cross-check" { name } else { name.replace('-', " ") }).collect();
    assert_eq!(schema.commands().into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), commands);
}
