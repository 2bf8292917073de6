//! `prune`, and `forget --prune`, at the command line: what they print, what they delete, and their exit codes.

use std::fs;
use std::path::PathBuf;

use icecore_tests::cli::{Cli, Run};
use icecore_tests::whole::noise;
use serde_json::Value;

/// A room with two snapshots, of which the first alone needs a large file.
fn with_garbage() -> (Cli, String) {
    let cli = Cli::new();
    cli.write("source/letter", "Dear reader");
    cli.write("source/large", noise(1, 3 << 20));
    let first = cli.backup(&["--host", "h", "--time", "2026-01-01 09:00:00"]);
    fs::remove_file(cli.path("source/large")).expect("ours");
    cli.write("source/other", noise(2, 200_000));
    cli.backup(&["--host", "h", "--time", "2026-01-02 09:00:00"]);
    (cli, first)
}

fn packs(cli: &Cli) -> Vec<PathBuf> {
    let list = cli.run(&["list", "packs"]).succeeds();
    list.out.lines().map(PathBuf::from).collect()
}

fn summary(run: &Run) -> Value {
    let line = run.json().pop().expect("a line");
    assert_eq!(line["message_type"], "summary", "{line}");
    line
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn what_nothing_needs_goes_and_the_rest_restores() {
    let (cli, first) = with_garbage();
    cli.run(&["forget", &first, "--undelete-within", "0"]).succeeds();
    let before = packs(&cli).len();
    let dry = cli.run(&["prune", "-n"]).succeeds();
    let dry = dry.tells("to repack:").tells("this removes:").tells("to delete:").tells("remaining:");
    dry.tells("unused size after prune:")
        .tells("would remove 1 forgotten snapshot for good")
        .tells("nothing was changed");
    assert_eq!(packs(&cli).len(), before);

    let run = cli.run(&["prune", "--max-unused", "0"]).succeeds();
    let run = run.tells("removed 1 forgotten snapshot for good").tells("deleted ");
    assert!(!run.out.contains("nothing was changed"));
    assert!(packs(&cli).len() < before);
    cli.run(&["check", "--read-data"]).succeeds().tells("no errors were found");
    cli.run(&["restore", "latest:/source", "-t", "back"]).succeeds();
    assert_eq!(cli.read("back/other"), noise(2, 200_000));
    cli.run(&["prune"]).succeeds().tells("nothing was deleted");
    assert_eq!(cli.run(&["-q", "prune"]).succeeds().out, "");
}

#[test]
fn the_summary_adds_up_in_restics_shape() {
    let (cli, first) = with_garbage();
    cli.run(&["forget", &first, "--undelete-within", "0"]).succeeds();
    let dry = summary(&cli.run(&["--json", "-q", "prune", "--dry-run"]).succeeds());
    let done = summary(&cli.run(&["--json", "-q", "prune"]).succeeds());
    for key in ["blobs", "bytes", "packfiles"] {
        assert_eq!(dry[key], done[key], "what is said is done");
    }
    let (blobs, bytes, files) = (&done["blobs"], &done["bytes"], &done["packfiles"]);
    let sum = |of: &Value, parts: &[&str]| parts.iter().map(|part| number(&of[*part])).sum::<u64>();
    assert_eq!(sum(blobs, &["used", "unused", "duplicate"]), number(&blobs["total"]));
    assert_eq!(sum(bytes, &["used", "unused"]), number(&bytes["total"]));
    for of in [blobs, bytes] {
        assert_eq!(sum(of, &["remove", "repack_remove"]), number(&of["remove_total"]));
        assert_eq!(sum(of, &["remaining", "remove_total"]), number(&of["total"]));
    }
    assert_eq!(sum(files, &["used", "partly_used", "unused"]), number(&files["total"]));
    assert_eq!(sum(files, &["keep", "repack", "remove"]), number(&files["total"]));
    assert!(number(&bytes["remove"]) > 3 << 20, "{bytes}");
    assert_eq!((&dry["dry_run"], &done["dry_run"]), (&true.into(), &false.into()));
    assert_eq!(done["expired_snapshots"][0].as_str(), Some(&first[..]));
    assert_eq!(number(&done["freed_bytes"]), number(&bytes["remove"]) + number(&bytes["repack"]));
    assert_eq!(number(&done["deleted_packs"]), number(&files["remove_total"]));
    assert_eq!((&done["waiting_for"], &done["held_snapshots"]), (&Value::Array(vec![]), &0.into()));
}

#[test]
fn a_forgotten_snapshot_keeps_its_room_for_its_window_and_prune_says_how_much_until_when() {
    let (cli, _) = with_garbage();
    let before = packs(&cli).len();
    let run = cli.run(&["forget", "--keep-last", "1", "--prune"]).succeeds();
    let run = run.tells("1 snapshot has been removed, running prune").tells("1 forgotten snapshot keeps 3.0");
    run.tells("--undelete-within 0 goes with the next prune").tells("nothing was deleted");
    assert_eq!(packs(&cli).len(), before);
    let said = summary(&cli.run(&["--json", "-q", "prune", "-n"]).succeeds());
    assert_eq!(number(&said["held_snapshots"]), 1);
    assert!((3 << 20..4 << 20).contains(&number(&said["held_bytes"])), "{said}");
    assert!(said["held_until"].as_str().is_some_and(|time| time.contains('T')));
}

#[test]
fn forget_prunes_only_if_something_was_removed_and_a_dry_run_passes_through() {
    let (cli, first) = with_garbage();
    let before = packs(&cli);
    let run = cli.run(&["forget", "--keep-last", "5", "--prune"]).succeeds();
    assert!(!run.out.contains("prune"), "{}", run.out);
    let dry = ["forget", "-n", "--keep-last", "1", "--prune"];
    let run = cli.run(&dry).succeeds().tells("with --undelete-within 0 it would go").tells("nothing was changed");
    assert!(run.out.contains("to delete:             0 chunks / 0 B"), "{}", run.out);
    let run = cli.run(&[&dry[..], &["--undelete-within", "0"]].concat()).succeeds();
    let run = run.tells("would remove 1 forgotten snapshot for good");
    assert!(!run.out.contains("to delete:             0 chunks / 0 B"), "{}", run.out);
    assert_eq!((packs(&cli), cli.snapshots()), (before.clone(), 2));

    let told =
        cli.json(&["-q", "forget", "--keep-last", "1", "--prune", "--undelete-within", "0", "--max-unused", "0"]);
    assert_eq!(told.len(), 2, "restic's array, then prune's summary");
    assert_eq!(told[0][0]["remove"][0]["id"], first);
    assert!(number(&told[1]["freed_bytes"]) > 3 << 20);
    assert!(packs(&cli).len() < before.len());
    cli.run(&["check", "--read-data"]).succeeds();
}

#[test]
fn snapshots_that_vanished_are_an_alarm_with_an_exit_code_of_its_own() {
    let (cli, first) = with_garbage();
    cli.run(&["forget", &first, "--undelete-within", "0", "--prune"]).succeeds();
    let third = cli.backup(&["--host", "h", "--time", "2026-01-03 09:00:00"]);
    cli.write("source/more", noise(3, 100_000));
    cli.backup(&["--host", "h", "--time", "2026-01-04 09:00:00"]);
    cli.run(&["forget", &third, "--undelete-within", "0", "--prune"]).succeeds();
    for folder in ["repo/snapshots", "repo/r/snapshots"] {
        for entry in fs::read_dir(cli.path(folder)).expect("ours") {
            fs::remove_file(entry.expect("ours").path()).expect("ours");
        }
    }
    // This machine remembers them, and is alarmed already; the repository itself is asked here.
    fs::remove_dir_all(cli.path("state")).expect("ours");
    let before = packs(&cli);
    cli.run(&["prune"]).fails(13, &["gone without having been forgotten", "hint:", "--accept-lost-snapshots"]);
    let told = cli.run(&["--json", "prune"]).ends(13).error_json().pop().expect("a line");
    assert_eq!((&told["message_type"], &told["code"]), (&"exit_error".into(), &13.into()));
    assert_eq!(packs(&cli), before);
    cli.run(&["prune", "--accept-lost-snapshots"]).succeeds();
    assert!(packs(&cli).is_empty());
}

#[test]
fn limits_that_make_no_sense_are_refused_and_restics_flags_are_understood() {
    let (cli, _) = with_garbage();
    for bad in [["--max-unused", "100%"], ["--max-repack-size", "much"], ["--fence-idle", "5"]] {
        cli.run(&["prune", bad[0], bad[1]]).ends(1);
    }
    cli.run(&["prune", "--repack-small", "--repack-smaller-than", "1M"]).ends(1);
    let understood =
        ["prune", "--repack-uncompressed", "--unsafe-recover-no-free-space", "x", "--repack-cacheable-only"];
    cli.run(&understood).succeeds();
    cli.run(&["prune", "--max-unused", "unlimited", "--max-repack-size", "0", "--fence-idle", "12h"]).succeeds();
}

#[test]
fn small_packs_are_merged_on_request() {
    let cli = Cli::new();
    for number in 0..4 {
        cli.write("source/file", noise(10 + number, 100_000));
        cli.backup(&["--threads", "1"]);
    }
    let before = packs(&cli).len();
    cli.run(&["prune", "--threads", "1"]).succeeds();
    assert_eq!(packs(&cli).len(), before);
    let run = cli.run(&["prune", "--threads", "1", "--repack-small"]).succeeds().tells("moved ");
    assert!(packs(&cli).len() < before / 2, "{} of {before} are left\n{}", packs(&cli).len(), run.out);
    cli.run(&["check", "--read-data"]).succeeds();
}
