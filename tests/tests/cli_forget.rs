//! `forget`, `undelete` and `tag` at the command line: what they print, what they change, and their exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use icecore_tests::cli::{Cli, Runs};
use serde_json::{Value, json};

/// A room with a snapshot of host `h` for each of these times; their ids.
fn with_snapshots(times: &[&str]) -> (Cli, Vec<String>) {
    let cli = Cli::new();
    cli.write("source/letter", "Dear reader");
    let backup = |time: &&str| cli.backup(&["--host", "h", "--time", time]);
    let ids = times.iter().map(backup).collect();
    (cli, ids)
}

const DAYS: [&str; 4] = ["2026-01-01 09:00:00", "2026-01-01 21:00:00", "2026-01-02 09:00:00", "2026-01-03 09:00:00"];

/// The first eight digits.
fn short(id: &str) -> &str {
    &id[..8]
}

fn shown(cli: &Cli) -> Vec<String> {
    let list = cli.json(&["snapshots"]).remove(0);
    list.as_array().expect("an array").iter().map(|one| one["id"].as_str().expect("text").to_owned()).collect()
}

fn ids_of(list: &Value) -> Vec<&str> {
    list.as_array().expect("an array").iter().map(|one| one["id"].as_str().expect("text")).collect()
}

#[test]
fn a_policy_tells_what_stays_and_why_and_what_goes() {
    let (cli, ids) = with_snapshots(&DAYS);
    let run = cli.run(&["forget", "--keep-daily", "2", "--keep-last", "1"]).succeeds();
    let lines: Vec<&str> = run.out.lines().map(str::trim_end).collect();
    assert_eq!(lines[0], "Applying Policy: keep 1 latest, 2 daily snapshots");
    assert_eq!(lines[1], "keep 2 snapshots:");
    assert!(lines[2].starts_with("ID        Time                 Host  Tags  Reasons         Paths"), "{}", lines[2]);
    assert!(lines[4].starts_with(&format!("{}  2026-01-02 09:00:00  h           daily snapshot", short(&ids[2]))));
    assert!(lines[5].starts_with(&format!("{}  2026-01-03 09:00:00  h           last snapshot", short(&ids[3]))));
    assert!(lines[6].trim_start().starts_with("daily snapshot"), "every rule is told: {}", lines[6]);
    let at = lines.iter().position(|line| *line == "remove 2 snapshots:").expect("what goes");
    assert!(lines[at + 3].starts_with(short(&ids[0])) && lines[at + 4].starts_with(short(&ids[1])));
    let last = lines.last().expect("lines");
    assert!(last.starts_with("removed 2 snapshots; `icecore undelete` brings back"), "{last}");
    assert_eq!(shown(&cli), ids[2..]);
    cli.run(&["forget", "--keep-daily", "2"]).succeeds().tells("no snapshots were removed");
    cli.run(&["-q", "forget", "--keep-last", "1"]).succeeds();
    assert_eq!(shown(&cli), ids[3..]);
}

#[test]
fn a_dry_run_changes_nothing_and_tells_what_would_be_freed() {
    let (cli, ids) = with_snapshots(&DAYS[..2]);
    cli.write("source/secret", (0..90_000u32).flat_map(|n| (n ^ n << 13).to_le_bytes()).collect::<Vec<u8>>());
    let big = cli.backup(&["--host", "h", "--time", DAYS[2]]);
    fs::remove_file(cli.path("source/secret")).expect("ours");
    cli.backup(&["--host", "h", "--time", DAYS[3]]);
    let run = cli.run(&["forget", "-n", "--keep-last", "1"]).succeeds();
    let run = run.tells("Would have removed the following snapshots:").tells("Unique").tells(", once it is pruned");
    let row = run.out.lines().find(|line| line.starts_with(short(&big)) && line.contains("KiB")).expect("a row");
    assert!(!row.contains("  0 B  "), "{row}");
    for id in &ids {
        let row = run.out.lines().find(|line| line.starts_with(short(id))).expect("a row");
        assert!(row.contains("  0 B  "), "they have nothing of their own: {row}");
    }
    assert_eq!(cli.snapshots(), 4);
    let lines = cli.json(&["forget", "-n", "--keep-last", "1", "--measure"]);
    assert_eq!((lines.len(), &lines[1]["message_type"]), (2, &json!("freed")));
    let freed = lines[1]["freed_bytes"].as_u64().expect("a number");
    let unique: u64 =
        lines[1]["unique"].as_array().expect("an array").iter().filter_map(|one| one["bytes"].as_u64()).sum();
    assert!(unique > 0 && freed >= unique, "{lines:?}");
    cli.run(&["forget", "-n", "--keep-last", "9"]).succeeds().tells("Would have removed nothing");
}

#[test]
fn json_is_one_array_in_restics_shape() {
    let (cli, ids) = with_snapshots(&DAYS);
    let lines = cli.json(&["forget", "--keep-daily", "2"]);
    assert_eq!(lines.len(), 1);
    let groups = lines[0].as_array().expect("an array");
    assert_eq!(groups.len(), 1);
    let group = &groups[0];
    assert_eq!((&group["tags"], &group["host"]), (&Value::Null, &json!("h")));
    assert_eq!(group["paths"].as_array().map(Vec::len), Some(1));
    assert_eq!(ids_of(&group["keep"]), [&ids[3], &ids[2]], "the newest first");
    assert_eq!(ids_of(&group["remove"]), [&ids[1], &ids[0]]);
    let reasons = group["reasons"].as_array().expect("an array");
    assert_eq!(reasons.len(), 2);
    assert_eq!(reasons[0]["snapshot"]["id"], json!(ids[3]));
    assert_eq!(reasons[0]["matches"], json!(["daily snapshot"]));
    assert_eq!(cli.json(&["forget", short(&ids[3])]), Vec::<Value>::new(), "nothing where ids are given");
    assert_eq!(shown(&cli), [ids[2].clone()]);
    let ungrouped = cli.json(&["forget", "--keep-last", "1", "--group-by", ""]);
    assert_eq!((&ungrouped[0][0]["host"], &ungrouped[0][0]["paths"]), (&json!(""), &Value::Null));
}

#[test]
fn groups_are_judged_alone_and_never_emptied() {
    let (cli, _) = with_snapshots(&DAYS[..2]);
    cli.backup(&["--host", "other", "--time", DAYS[0], "--tag", "t"]);
    cli.run(&["forget", "--keep-last", "1"]).succeeds();
    assert_eq!(cli.snapshots(), 2);
    let refused = cli.run(&["forget", "--keep-tag", "t"]);
    refused.fails(1, &["refusing to forget the last snapshot of the group (host [h], paths ["]);
    assert_eq!(cli.snapshots(), 2, "of no group was anything removed");
    cli.run(&["forget", "--keep-tag", "t", "--group-by", "tags", "--tag", "t"]).succeeds();
    cli.run(&["forget", "--keep-last", "1", "--group-by", ""]).succeeds();
    assert_eq!(cli.snapshots(), 1);
}

#[test]
fn without_a_rule_nothing_goes_but_by_a_filter_and_the_word_for_it() {
    let (cli, ids) = with_snapshots(&DAYS[..2]);
    cli.backup(&["--host", "other"]);
    cli.run(&["forget"]).fails(1, &["no policy was specified, no snapshots will be removed"]);
    cli.run(&["forget", "--keep-last", "0"]).fails(1, &["no policy was specified"]);
    cli.run(&["forget", "--unsafe-allow-remove-all"]).fails(1, &["needs a filter"]);
    cli.run(&["forget", "--keep-last", "1", short(&ids[0])]).fails(1, &["a policy chooses among many"]);
    cli.run(&["forget", "--host", "h", short(&ids[0])]).fails(1, &["an id is given already"]);
    cli.run(&["forget", short(&ids[0]), "ffffffffffffffffffff"]).fails(1, &["no snapshot ffff"]);
    assert_eq!(cli.snapshots(), 3, "and none of these did anything");
    cli.run(&["forget", "--unsafe-allow-remove-all", "--host", "h"]).succeeds().tells("removed 2 snapshots");
    cli.run(&["forget", "latest"]).succeeds().tells("removed 1 snapshot;");
    assert_eq!(cli.snapshots(), 0);
}

#[test]
fn numbers_and_durations_that_mean_nothing_are_refused() {
    let (cli, _) = with_snapshots(&DAYS[..1]);
    cli.run(&["forget", "--keep-last", "-1"]).fails(1, &["unlimited"]);
    for bad in ["1w", "7", "-1d", ""] {
        cli.run(&["forget", &format!("--keep-within={bad}")]).ends(1);
    }
    cli.run(&["forget", "--keep-last", "1", "--undelete-within", "1m"]).fails(1, &["in days and hours"]);
    cli.run(&["forget", "--keep-last", "1", "--guard-min-age", "3d"]).fails(1, &["--guard"]);
    cli.run(&["forget", "--keep-last", "1", "--group-by", "user"]).fails(1, &["host, paths and tags"]);
}

#[test]
fn every_rule_has_its_flag() {
    let (cli, ids) = with_snapshots(&["2025-01-31 10:00:00", "2026-01-02 10:00:00", "2026-01-02 10:00:30"]);
    let kept = |rules: &[&str]| {
        let lines = cli.json(&[&["forget", "-n"], rules].concat());
        ids_of(&lines[0][0]["keep"]).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let newest = [ids[2].clone()];
    let with_oldest = [ids[2].clone(), ids[0].clone()];
    for period in ["minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "half-yearly", "yearly"] {
        assert_eq!(kept(&[&format!("--keep-{period}"), "1"]), newest, "{period}");
        assert_eq!(kept(&[&format!("--keep-{period}"), "2"]), with_oldest, "{period}");
        assert_eq!(kept(&[&format!("--keep-{period}"), "unlimited"]), with_oldest, "{period}");
        assert_eq!(kept(&[&format!("--keep-within-{period}"), "1m"]), newest, "{period}");
        assert_eq!(kept(&[&format!("--keep-within-{period}"), "2y"]), with_oldest, "{period}");
    }
    for letter in ["-l", "-H", "-d", "-w", "-m", "-y"] {
        assert_eq!(kept(&[letter, "1"]), newest, "{letter}");
    }
    assert_eq!(kept(&["--keep-within", "1h"]).len(), 2);
    assert_eq!(kept(&["--keep-last", "1", "--keep-tag", ""]).len(), 3, "all are untagged");
    let as_of = kept(&["--keep-last", "1", "--as-of", "2026-01-01"]);
    assert_eq!(as_of.len(), 3, "later ones stay, and the newest as of then");
}

#[test]
fn under_a_guard_what_the_storage_does_not_confirm_stays_and_takes_no_place() {
    let (cli, ids) = with_snapshots(&DAYS);
    let now = cli.backup(&["--host", "h"]);
    let guard = ["forget", "--keep-last", "1", "--guard", "--guard-min-age", "0"];
    let run = cli.run(&guard).succeeds().tells("no snapshots were removed");
    assert_eq!(run.out.matches("time differs from the storage's, not counted").count(), 4);
    cli.run(&["forget", "--keep-last", "1", "--guard"]).succeeds().tells("written too recently, not counted");
    // What is there and true counts: with another one, the first goes. The dated ones do not.
    cli.backup(&["--host", "h"]);
    cli.run(&guard).succeeds().tells("removed 1 snapshot;");
    assert!(!shown(&cli).contains(&now) && ids.iter().all(|id| shown(&cli).contains(id)));
}

#[test]
fn a_forgotten_snapshot_comes_back_under_another_id_and_restores() {
    let (cli, ids) = with_snapshots(&DAYS[..2]);
    cli.run(&["undelete"]).succeeds().tells("0 snapshots");
    cli.run(&["forget", short(&ids[0])]).succeeds();
    cli.run(&["restore", short(&ids[0]), "--target", "t"]).fails(1, &["no snapshot"]);
    cli.run(&["undelete"]).succeeds().tells(short(&ids[0])).tells("by id").tells("1 snapshot");
    let listed = cli.json(&["undelete"]).remove(0);
    assert_eq!((&listed[0]["id"], &listed[0]["forgotten"]["reason"]), (&json!(ids[0]), &json!("by id")));
    let (time, until) = (&listed[0]["forgotten"]["time"], &listed[0]["forgotten"]["until"]);
    assert!(time.as_str() < until.as_str(), "a week: {time} {until}");
    let lines = cli.json(&["undelete", short(&ids[0])]);
    assert_eq!((&lines[0]["message_type"], &lines[0]["old_snapshot_id"]), (&json!("undeleted"), &json!(ids[0])));
    let back = lines[0]["new_snapshot_id"].as_str().expect("text").to_owned();
    assert_eq!(shown(&cli), [back.clone(), ids[1].clone()], "at its old time");
    cli.run(&["restore", &back, "--target", "t"]).succeeds();
    assert_eq!(cli.read("t/source/letter"), b"Dear reader");
    let told = ["no snapshot", "can be brought back", "hint: `icecore undelete` without an id lists"];
    let run = cli.run(&["undelete", short(&ids[0])]).fails(1, &told);
    assert!(!run.error.contains("icecore snapshots"), "it does not show them: {}", run.error);
    cli.run(&["forget", &back]).succeeds();
    let run = cli.run(&["undelete", short(&back), "ffffffff"]).ends(3);
    assert!(run.out.contains("is back as") && run.error.contains("1 snapshot not brought back"), "{run:?}");
}

#[test]
fn tags_change_under_a_new_id_and_the_old_one_is_gone() {
    let (cli, ids) = with_snapshots(&DAYS[..2]);
    cli.run(&["tag"]).fails(1, &["nothing is to be changed", "hint:"]);
    cli.run(&["tag", "--set", "a", "--add", "b"]).ends(1);
    let lines = cli.json(&["tag", "--add", "a,b", "--add", "c", short(&ids[0])]);
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["message_type"], &lines[0]["old_snapshot_id"]), (&json!("changed"), &json!(ids[0])));
    assert_eq!(lines[1], json!({"message_type": "summary", "changed_snapshots": 1}));
    let new = lines[0]["new_snapshot_id"].as_str().expect("text");
    let list = cli.json(&["snapshots", "--tag", "a,b,c"]).remove(0);
    assert_eq!((ids_of(&list), &list[0]["original"]), (vec![new], &json!(ids[0])));
    assert_eq!(cli.snapshots(), 2);
    cli.run(&["tag", "--add", "a", new]).succeeds().tells("no snapshots were modified");
    cli.run(&["tag", "--set", "", "--host", "h"]).succeeds().tells("modified 1 snapshot");
    assert_eq!(ids_of(&cli.json(&["snapshots", "--tag", ""])[0]).len(), 2);
    cli.run(&["undelete"]).succeeds().tells("0 snapshots");
    cli.run(&["check", "--read-data"]).succeeds();
}

#[test]
fn a_pinned_snapshot_stays_until_it_is_unpinned() {
    let (cli, ids) = with_snapshots(&DAYS[..2]);
    let lines = cli.json(&["tag", "--pin", short(&ids[0])]);
    let pinned = lines[0]["new_snapshot_id"].as_str().expect("text").to_owned();
    let list = cli.json(&["snapshots"]).remove(0);
    assert_eq!((&list[0]["pinned"], &list[1]["pinned"]), (&json!(true), &Value::Null));
    cli.run(&["snapshots"]).succeeds().tells("pinned");
    let lines = cli.json(&["forget", "--keep-last", "1"]);
    assert_eq!(lines[0][0]["reasons"][1]["matches"], json!(["pinned"]));
    let run = cli.run(&["forget", short(&pinned), short(&ids[1])]);
    run.fails(3, &[&format!("error: {}: is pinned and stays", short(&pinned)), "1 pinned snapshot not forgotten"]);
    assert_eq!(shown(&cli), std::slice::from_ref(&pinned), "the other one went");
    let run = cli.run(&["--json", "forget", &pinned]).ends(3);
    assert_eq!((&run.error_json()[0]["item"], &run.error_json()[1]["code"]), (&json!(pinned), &json!(3)));
    let lines = cli.json(&["tag", "--unpin", &pinned]);
    let free = lines[0]["new_snapshot_id"].as_str().expect("text");
    cli.run(&["forget", free]).succeeds();
    assert_eq!(cli.snapshots(), 0);
}

#[test]
fn a_snapshot_that_could_not_be_removed_is_code_3() {
    let (cli, ids) = with_snapshots(&DAYS[..2]);
    cli.command_as_nobody(&["forget", "-n", "--keep-last", "1"]).run().succeeds();
    let folder = cli.path("repo/forgotten");
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o500)).expect("a directory of ours");
    let run = cli.command_as_nobody(&["forget", "--keep-last", "1"]).run();
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).expect("a directory of ours");
    run.fails(3, &[&format!("error: {}: ", short(&ids[0])), "1 snapshot not forgotten"]);
    assert_eq!(shown(&cli), ids);
}

#[test]
fn a_snapshot_that_cannot_be_read_stays_and_is_code_3() {
    let (cli, ids) = with_snapshots(&DAYS[..3]);
    for folder in ["repo/snapshots", "repo/r/snapshots"] {
        let names = fs::read_dir(cli.path(folder)).expect("ours").map(|entry| entry.expect("ours").path());
        let damaged: Vec<_> = names.filter(|path| path.to_string_lossy().ends_with(&ids[2])).collect();
        assert_eq!(damaged.len(), 1);
        fs::set_permissions(&damaged[0], PermissionsExt::from_mode(0o600)).expect("ours");
        fs::write(&damaged[0], "not a snapshot").expect("ours");
    }
    let run = cli.run(&["forget", "--keep-last", "1"]);
    run.fails(3, &["error: snapshots/", "1 snapshot could not be read"]).tells("removed 1 snapshot;");
}
