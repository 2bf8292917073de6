//! `rewrite` and `recover` at the command line: what they print, what they change, and their exit codes.

use std::fs;

use icecore_tests::cli::Cli;
use icecore_tests::whole::noise;
use serde_json::{Value, json};

/// Two snapshots with a secret that should not be there.
fn with_secret() -> (Cli, [String; 2]) {
    let cli = Cli::new();
    cli.write("source/docs/letter", "Dear reader");
    cli.write("source/secret/key", noise(1, 50_000));
    let first = cli.backup(&["--host", "h"]);
    cli.write("source/docs/letter", "Dear other reader");
    let second = cli.backup(&["--host", "h"]);
    (cli, [first, second])
}

fn listed(cli: &Cli) -> Vec<Value> {
    cli.json(&["snapshots"])[0].as_array().expect("an array").clone()
}

#[test]
fn paths_are_dropped_from_all_snapshots_and_the_old_ones_stay_unless_forgotten() {
    let (cli, ids) = with_secret();
    let dry = cli.run(&["rewrite", "--exclude", "secret", "--dry-run"]).succeeds();
    dry.tells("would be rewritten, without 2 entries (1 file, 48.828 KiB)")
        .tells("would modify 2 snapshots; nothing was");
    assert_eq!(cli.snapshots(), 2);
    let lines = cli.json(&["rewrite", "--exclude", "/source/secret"]);
    assert_eq!(lines.len(), 3);
    for (line, old) in lines.iter().zip(&ids) {
        assert_eq!((&line["message_type"], &line["old_snapshot_id"]), (&json!("changed"), &json!(old)));
        assert_eq!((&line["removed_files"], &line["removed_entries"]), (&json!(1), &json!(2)));
        assert_eq!((&line["removed_bytes"], &line["forgotten"]), (&json!(50_000), &json!(false)));
    }
    assert_eq!((&lines[2]["changed_snapshots"], &lines[2]["snapshots"]), (&json!(2), &json!(2)));
    let all = listed(&cli);
    assert_eq!(all.len(), 4);
    let new = all.iter().find(|one| one["original"] == ids[1].as_str()).expect("it names the old one");
    assert_eq!((&new["tags"], &new["excludes"]), (&json!(["rewrite"]), &json!(["/source/secret"])));
    let id = new["id"].as_str().expect("an id");
    assert!(!cli.run(&["ls", "--recursive", id]).succeeds().out.contains("secret"));
    cli.run(&["dump", id, "/source/docs/letter"]).succeeds().tells("Dear other reader");
    cli.run(&["check", "--read-data"]).succeeds();
}

#[test]
fn what_is_forgotten_can_be_brought_back_for_a_week() {
    let (cli, ids) = with_secret();
    let run = cli.run(&["rewrite", "--exclude", "secret", "--forget", &ids[0]]).succeeds();
    run.tells("modified 1 snapshot").tells("`icecore undelete` brings the old ones back");
    assert_eq!(cli.snapshots(), 2);
    cli.run(&["prune", "--max-unused", "0"]).succeeds();
    cli.run(&["undelete"]).succeeds().tells("1 snapshot").tells(&ids[0][..8]);
    let line = cli.json(&["undelete", &ids[0]]).remove(0);
    let back = line["new_snapshot_id"].as_str().expect("an id");
    assert!(cli.run(&["ls", "--recursive", back]).succeeds().out.contains("secret/key"));
}

#[test]
fn without_a_window_it_is_gone_after_a_prune() {
    let (cli, _) = with_secret();
    let packs =
        |cli: &Cli| -> u64 { cli.json(&["list", "packs"]).iter().filter_map(|pack| pack["size"].as_u64()).sum() };
    let run = cli.run(&["rewrite", "-e", "secret", "--forget", "--undelete-within", "0"]).succeeds();
    run.tells("modified 2 snapshots").tells("the next `icecore prune` takes what was left out");
    let before = packs(&cli);
    cli.run(&["prune", "--max-unused", "0"]).succeeds();
    let after = packs(&cli);
    assert!(after + 45_000 < before, "{before} bytes in packs became {after}");
    let raw = &cli.json(&["stats", "--mode", "raw-data"])[0];
    assert!(raw["total_size"].as_u64() < Some(50_000), "{raw}");
    cli.run(&["check", "--read-data"]).succeeds();
}

#[test]
fn host_and_time_are_corrected_and_nothing_is_copied() {
    let (cli, ids) = with_secret();
    let run = cli.run(&["rewrite", "--new-host", "laptop", "--new-time", "2020-02-03 04:05:06", "--forget", "latest"]);
    run.succeeds().tells(&format!("{} is now ", &ids[1][..8]));
    let all = listed(&cli);
    let new = all.iter().find(|one| one["hostname"] == "laptop").expect("one of them");
    assert_eq!((&new["original"], &new["time"]), (&json!(ids[1]), &json!("2020-02-03T04:05:06Z")));
    assert!(new.get("tags").is_none_or(|tags| tags == &json!([])), "no tag is needed: the old one is gone");
    assert_eq!(all.len(), 2);
    cli.run(&["undelete"]).succeeds().tells("0 snapshots");
    cli.run(&["rewrite", "-s"]).succeeds().tells("no snapshots were modified");
}

#[test]
fn what_cannot_be_done_is_said() {
    let (cli, ids) = with_secret();
    cli.run(&["rewrite"]).fails(1, &["nothing is to be changed", "--exclude"]);
    cli.run(&["rewrite", "-e", "a", "-i", "b"]).fails(1, &["cannot be used together"]);
    cli.run(&["rewrite", "-e", "["]).fails(1, &["bad pattern"]);
    cli.run(&["rewrite", "-e", "a", "latest", "--host", "h"]).fails(1, &["ids are given already"]);
    cli.run(&["rewrite", "-e", "/", "latest"]).fails(3, &["nothing would be left", "left as it was"]);
    cli.run(&["tag", "--pin", &ids[0]]).succeeds();
    let run =
        cli.run(&["rewrite", "-e", "secret", "--forget"]).fails(3, &["it is pinned", "1 snapshot left as it was"]);
    assert!(run.out.contains("modified 1 snapshot"), "{}", run.out);
    let last = cli.json(&["rewrite", "-e", "nowhere"]).pop().expect("a summary");
    assert_eq!((&last["changed_snapshots"], &last["failed_snapshots"]), (&json!(0), &json!(0)));
}

#[test]
fn clients_that_only_add_may_rewrite_beside_and_not_forget() {
    let (cli, _) = with_secret();
    cli.run(&["--append-only", "rewrite", "-e", "secret", "--forget"]).fails(1, &["rewrite --forget", "--append-only"]);
    assert_eq!(cli.snapshots(), 2);
    cli.run(&["--append-only", "rewrite", "-e", "secret"]).succeeds();
    assert_eq!(cli.snapshots(), 4);
    cli.run(&["--append-only", "recover"]).succeeds().tells("there is nothing to recover");
}

/// Takes a snapshot away, as a damaged disk would.
fn lose(cli: &Cli, id: &str) {
    let mut removed = 0;
    let mut pending = vec![cli.path("repo")];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).expect("ours").flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(id))
                && path.to_string_lossy().contains("snapshots")
            {
                fs::remove_file(&path).expect("ours");
                removed += 1;
            }
        }
    }
    assert_eq!(removed, 2, "a snapshot has two copies");
}

#[test]
fn trees_without_a_snapshot_come_back_in_one() {
    let (cli, ids) = with_secret();
    cli.run(&["recover"]).succeeds().tells("0 trees that no snapshot has").tells("there is nothing to recover");
    lose(&cli, &ids[0]);
    let dry = cli.json(&["--no-state", "recover", "-n"]).remove(0);
    assert_eq!((&dry["dry_run"], dry["trees"].as_array().map(Vec::len)), (&json!(true), Some(1)));
    assert!(dry.get("snapshot_id").is_none() && dry["tree_blobs"].as_u64() > Some(3), "{dry}");
    let done = cli.json(&["--no-state", "recover"]).remove(0);
    assert_eq!(done["trees"], dry["trees"]);
    let (id, tree) = (done["snapshot_id"].as_str().expect("saved"), done["trees"][0].as_str().expect("an id"));
    let path = format!("/{tree}/source/docs/letter");
    cli.run(&["--no-state", "dump", id, &path]).succeeds().tells("Dear reader");
    let all = cli.json(&["--no-state", "snapshots", "--tag", "recovered"]);
    assert_eq!(all[0][0]["paths"], json!(["/recover"]));
    cli.run(&["--no-state", "recover", "-v"]).succeeds().tells("there is nothing to recover");
}
