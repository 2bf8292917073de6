//! `icecore check` at the command line: flags, what is printed of damage, JSON, advice, and what this client remembers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use icecore_tests::cli::{Cli, Run, Runs};
use icecore_tests::tree::Dice;
use serde_json::Value;

/// Two snapshots; the second adds `source/b`.
fn two_snapshots() -> (Cli, [String; 2]) {
    let cli = Cli::new();
    let mut dice = Dice::new(3);
    cli.write("source/a", dice.bytes(300_000));
    let first = cli.backup(&["--tag", "one"]);
    cli.write("source/b", dice.bytes(300_000));
    let second = cli.backup(&["--tag", "two"]);
    (cli, [first, second])
}

/// The packs of a kind (`d`, `m`), the oldest first.
fn packs(cli: &Cli, kind: &str) -> Vec<PathBuf> {
    let mut packs = Vec::new();
    for shard in fs::read_dir(cli.path(&format!("repo/packs/{kind}"))).expect("packs are there").flatten() {
        packs.extend(fs::read_dir(shard.path()).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    packs.sort_by_key(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).expect("it is there"));
    packs
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("ours");
    let at = bytes.len() / 10;
    bytes[at] ^= 1;
    fs::remove_file(path).expect("ours");
    fs::write(path, bytes).expect("ours");
}

/// The pack of `source/b`, damaged, and its name.
fn damaged() -> (Cli, [String; 2], String) {
    let (cli, ids) = two_snapshots();
    let pack = packs(&cli, "d").pop().expect("two at least");
    flip(&pack);
    let name = pack.file_name().and_then(|name| name.to_str()).expect("hexadecimal digits").to_owned();
    (cli, ids, name)
}

fn summary(run: &Run) -> Value {
    run.json().pop().expect("a summary")
}

fn remembered(cli: &Cli) -> PathBuf {
    let found = fs::read_dir(cli.path("state/icecore")).expect("a memory").flatten();
    let mut found = found.map(|entry| entry.path().join("verified"));
    found.find(|path| path.exists()).expect("of one repository")
}

#[test]
fn each_level_looks_as_deep_as_it_says() {
    let (cli, ..) = damaged();
    for level in ["names", "trees"] {
        cli.run(&["check", "--level", level]).succeeds().tells("no errors were found");
    }
    cli.run(&["check"]).succeeds();
    for level in ["packs", "data"] {
        cli.run(&["check", "--level", level]).fails(1, &["the repository is damaged"]);
    }
    cli.run(&["check", "--read-data"]).fails(1, &["the repository is damaged"]);
    assert_eq!(summary(&cli.run(&["check", "--json", "-q", "--level", "packs"]).ends(1))["level"], "packs");
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let cli = Cli::new();
    for arguments in [
        &["--level", "trees", "--read-data"][..],
        &["--level", "names", "--time-budget", "1m"],
        &["--level", "trees", "--read-data-subset", "1/2"],
        &["--read-data", "--read-data-subset", "1/2"],
        &["--read-data-subset", "3/2"],
        &["--read-data-subset", "0%"],
        &["--time-budget", "10"],
        &["--level", "deep"],
        &["latest", "--tag", "one"],
        &["nonsense"],
    ] {
        cli.run(&[&["check"], arguments].concat()).ends(1);
    }
}

#[test]
fn people_read_which_files_of_which_snapshots_are_touched() {
    let (cli, [first, second], pack) = damaged();
    let run = cli.run(&["check", "--read-data"]).ends(1);
    let line = format!("  {}: /source/b", &second[..8]);
    assert!(run.error.lines().any(|other| other == line), "{line:?} is missing:\n{}", run.error);
    assert!(run.error.contains(&pack) && !run.error.contains(&first[..8]), "{}", run.error);
    assert!(!run.error.contains("source/a"), "{}", run.error);
    assert!(run.error.contains(&format!("snapshot {} cannot be restored in full", &second[..8])));
}

#[test]
fn json_names_each_damaged_object_with_its_files_and_snapshots() {
    let (cli, [_, second], pack) = damaged();
    let run = cli.run(&["check", "--read-data", "--json", "-q"]).ends(1);
    let lines = run.json();
    let damage: Vec<_> = lines.iter().filter(|line| line["message_type"] == "damage").collect();
    let [damage] = damage[..] else { panic!("{lines:?}") };
    assert_eq!(damage["kind"], "data pack");
    assert!(damage["object"].as_str().is_some_and(|name| name.starts_with("packs/d/") && name.ends_with(&pack)));
    assert_eq!(damage["snapshots"], serde_json::json!([second]));
    assert_eq!(damage["touched_count"], 1);
    let touched = serde_json::json!([{"snapshot": second, "path": "/source/b", "lost": "content"}]);
    assert_eq!(damage["touched"], touched);
    let summary = summary(&run);
    assert_eq!((&summary["num_errors"], &summary["broken_packs"]), (&1.into(), &serde_json::json!([pack])));
    assert_eq!(summary["broken_snapshots"], serde_json::json!([second]));
    assert_eq!((&summary["suggest_repair_index"], &summary["suggest_prune"]), (&false.into(), &false.into()));
    assert_eq!((&summary["level"], &summary["packs_left"]), (&"data".into(), &0.into()));
    let told = run.error_json();
    assert!(told.iter().any(|line| line["message_type"] == "error" && line["message"] == damage["message"]));
    assert_eq!(told.last().expect("an end")["message_type"], "exit_error");
}

/// Every command that the advice names exists: `--help` of its first words succeeds.
#[test]
fn advice_names_only_commands_that_there_are() {
    let (cli, ..) = damaged();
    fs::remove_file(&packs(&cli, "m")[0]).expect("ours");
    let index = fs::read_dir(cli.path("repo/index")).expect("an index").flatten().next().expect("one").path();
    flip(&index);
    for level in ["names", "trees", "packs", "data"] {
        let run = cli.run(&["check", "--level", level]).ends(1);
        let hint = run.error.lines().find(|line| line.starts_with("hint:")).expect("advice");
        let commands: Vec<_> = hint.split('`').skip(1).step_by(2).collect();
        assert!(!commands.is_empty(), "{hint}");
        for command in commands {
            let mut words = command.split(' ');
            assert_eq!(words.next(), Some("icecore"), "{hint}");
            let verb: Vec<_> = words.take_while(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())).collect();
            cli.run(&[&verb[..], &["--help"]].concat()).succeeds();
        }
    }
}

#[test]
fn a_check_of_some_snapshots_says_nothing_of_the_others_files() {
    let (cli, [first, second], _) = damaged();
    cli.run(&["check", "--read-data", &first]).succeeds().tells("checked 1 snapshot,");
    cli.run(&["check", "--read-data", "--tag", "one"]).succeeds();
    cli.run(&["check", "--read-data", "--path", "source"]).fails(1, &[&second[..8]]);
    for which in [&["latest"][..], &[&second], &["--tag", "two"], &[&first, &second]] {
        cli.run(&[&["check", "--read-data"], which].concat()).fails(1, &[&second[..8]]);
    }
    cli.run(&["check", "--tag", "three"]).fails(1, &["no snapshot"]);
    // A check that leaves out most must be asked for.
    cli.command(&["check", "--read-data"]).env("ICECORE_HOST", "elsewhere").run().ends(1);
}

#[test]
fn the_parts_of_a_subset_find_the_damage_once() {
    let (cli, ..) = damaged();
    let found = (1..=3).filter(|part| cli.run(&["check", "--read-data-subset", &format!("{part}/3")]).code == 1);
    assert_eq!(found.count(), 1);
    cli.run(&["check", "--read-data-subset", "100%"]).ends(1);
    cli.run(&["check", "--read-data-subset", "1T"]).ends(1);
    let one = cli.run(&["check", "--read-data-subset", "1%", "--json", "-q"]);
    assert_eq!(summary(&one)["packs_read"], 1);
}

#[test]
fn a_budget_that_is_over_leaves_packs_and_is_no_failure() {
    let (cli, _) = two_snapshots();
    let run = cli.run(&["check", "--time-budget", "0s"]).succeeds();
    assert!(run.out.contains("the time was over with") && run.out.contains("no errors were found"), "{}", run.out);
    let none = summary(&cli.run(&["check", "--time-budget", "0s", "--json", "-q"]).succeeds());
    assert_eq!(
        (&none["packs_read"], &none["packs_left"], &none["level"]),
        (&0.into(), &none["packs"], &"packs".into())
    );
    let all = summary(&cli.run(&["check", "--time-budget", "1h", "--json", "-q"]).succeeds());
    assert_eq!((&all["packs_read"], &all["packs_left"]), (&all["packs"], &0.into()));
}

#[test]
fn what_was_read_is_remembered_for_this_user_alone() {
    let (cli, _) = two_snapshots();
    cli.run(&["check"]).succeeds();
    let places = || fs::read_dir(cli.path("state/icecore")).expect("a memory").flatten().map(|entry| entry.path());
    assert!(places().all(|path| !path.join("verified").exists()), "nothing was read that could be remembered");
    cli.run(&["check", "--time-budget", "1h"]).succeeds();
    let memory = remembered(&cli);
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&memory), 0o600);
    for directory in memory.ancestors().skip(1).take(3) {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    let names = fs::read_dir(memory.parent().expect("a directory")).expect("ours").flatten();
    assert!(names.map(|entry| entry.file_name()).all(|name| !name.to_string_lossy().ends_with(".new")), "none stays");
    let count = packs(&cli, "d").len() + packs(&cli, "m").len();
    assert_eq!(fs::metadata(&memory).expect("ours").len() as usize, 8 + 16 + 48 * count + 32);

    cli.run(&["check", "--read-data", "--state-dir", "elsewhere"]).succeeds();
    assert!(cli.path("elsewhere").read_dir().expect("made").next().is_some());
    cli.command(&["check", "--read-data"]).env("ICECORE_STATE_DIR", cli.path("third")).run().succeeds();
    assert!(cli.path("third").exists());
}

#[test]
fn a_memory_of_no_use_is_noted_and_begins_anew() {
    let (cli, _) = two_snapshots();
    cli.run(&["check", "--read-data"]).succeeds();
    let memory = remembered(&cli);
    let whole = fs::read(&memory).expect("ours");
    let foreign = Cli::new();
    foreign.backup(&[]);
    foreign.run(&["check", "--read-data"]).succeeds();
    for bytes in [b"nonsense".to_vec(), whole[..whole.len() - 1].to_vec(), Vec::new(), foreign_memory(&foreign)] {
        fs::write(&memory, bytes).expect("ours");
        cli.run(&["check", "--read-data"]).succeeds().tells("is of no use");
        assert_eq!(fs::read(&memory).expect("ours").len(), whole.len(), "written anew");
    }
    // One that cannot be written is no failure either: the repository is what was asked about.
    fs::remove_file(&memory).expect("ours");
    fs::create_dir_all(memory.join("in-the-way")).expect("ours");
    cli.run(&["check", "--read-data"]).succeeds().tells("is not remembered");
}

fn foreign_memory(cli: &Cli) -> Vec<u8> {
    fs::read(remembered(cli)).expect("ours")
}
