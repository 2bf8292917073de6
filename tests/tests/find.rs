//! Entries found in snapshots: by name, time, size and kind; by the chunks they need; and the history of one.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use icecore_tests::cli::Cli;
use icecore_tests::whole::noise;
use serde_json::Value;

/// Three snapshots: the second has another `notes.txt` and no `old.txt`, the third is as the second.
fn three_versions() -> Cli {
    let cli = Cli::new();
    cli.write("source/docs/notes.txt", "one");
    cli.write("source/docs/Old.TXT", "old");
    cli.write("source/docs/deep/er/large.bin", noise(1, 300_000));
    cli.write("source/empty/nothing.rs", "");
    symlink("notes.txt", cli.path("source/docs/link.txt")).expect("ours");
    cli.backup(&[]);
    cli.write("source/docs/notes.txt", "another");
    std::fs::remove_file(cli.path("source/docs/Old.TXT")).expect("ours");
    cli.backup(&[]);
    cli.backup(&[]);
    cli
}

/// By snapshot, the newest first: the paths below `source` that were found.
fn found(cli: &Cli, arguments: &[&str]) -> Vec<BTreeSet<String>> {
    let lines = cli.json(&[&["find"], arguments].concat());
    let groups = lines[0].as_array().expect("an array").clone();
    let paths = |group: &Value| -> BTreeSet<String> {
        let matches = group["matches"].as_array().expect("matches");
        assert_eq!(group["hits"], matches.len());
        let path = |one: &Value| one["path"].as_str().expect("a path").trim_start_matches("/source/").to_owned();
        matches.iter().map(path).collect()
    };
    groups.iter().map(paths).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn patterns_find_names_paths_and_what_lies_below_in_every_snapshot() {
    let cli = three_versions();
    let later = set(&["docs/notes.txt", "docs/link.txt"]);
    assert_eq!(found(&cli, &["*.txt"]), [later.clone(), later.clone(), later.clone()]);
    let first = set(&["docs/notes.txt", "docs/link.txt", "docs/Old.TXT"]);
    assert_eq!(found(&cli, &["-i", "*.txt"]), [later.clone(), later.clone(), first.clone()]);
    assert_eq!(found(&cli, &["old.txt", "-i"]), [set(&["docs/Old.TXT"])], "snapshots without a find are left out");
    assert_eq!(found(&cli, &["-i", "*.txt", "--reverse"]), [first, later.clone(), later.clone()]);
    let below = set(&["docs/deep", "docs/deep/er", "docs/deep/er/large.bin"]);
    assert_eq!(found(&cli, &["deep", "-s", "latest"]), [below]);
    assert_eq!(found(&cli, &["/source/empty/*", "-s", "latest", "-s", "latest"]), [set(&["empty/nothing.rs"])]);
    assert_eq!(found(&cli, &["/empty"]).len(), 0);
    assert_eq!(found(&cli, &["*.rs", "notes*", "-s", "latest"]), [set(&["empty/nothing.rs", "docs/notes.txt"])]);
}

#[test]
fn kind_size_and_time_narrow_the_search() {
    let cli = three_versions();
    let newest = |more: &[&str]| found(&cli, &[&["*", "-s", "latest"], more].concat()).pop().unwrap_or_default();
    assert_eq!(newest(&["--type", "symlink"]), set(&["docs/link.txt"]));
    assert_eq!(newest(&["--larger-than", "100k"]), set(&["docs/deep/er/large.bin"]));
    assert_eq!(newest(&["--smaller-than", "7"]), set(&["docs/notes.txt", "empty/nothing.rs"]));
    assert_eq!(newest(&["--type", "dir", "--larger-than", "0"]), set(&[]));
    assert_eq!(newest(&["--newest", "2020-01-01"]), set(&[]));
    assert!(newest(&["--oldest", "2020-01-01", "--type", "file"]).contains("docs/notes.txt"));
    assert_eq!(newest(&["--oldest", "2100-01-01"]), set(&[]));
}

#[test]
fn chunks_trees_and_packs_lead_to_the_files_that_need_them() {
    let cli = three_versions();
    let tree = &cli.json(&["cat", "tree", "latest:/source/docs/deep/er"])[0];
    assert_eq!(tree["nodes"][0]["name"], "large.bin");
    let packs = cli.json(&["list", "packs"]);
    let pack = |kind: &str| {
        let mut all = packs.iter().filter_map(|pack| pack["id"].as_str());
        all.find(|id| cli.json(&["cat", "pack", id])[0]["kind"] == kind).expect("a pack").to_owned()
    };
    let data = pack("data");
    let chunk =
        cli.json(&["cat", "pack", &data])[0]["frames"][0]["chunks"][0]["id"].as_str().expect("an id").to_owned();
    for (flag, id) in [("--blob", &chunk), ("--pack", &data)] {
        let lines = cli.json(&["find", flag, id]);
        let hits = lines[0].as_array().expect("an array");
        assert_eq!(hits.len(), 3, "one a snapshot: {hits:?}");
        assert!(hits.iter().all(|hit| hit["path"] == "/source/docs/deep/er/large.bin" && hit["id"] == id.as_str()));
    }
    let located = cli.json(&["find", "--blob", &chunk, "--show-pack-id"]);
    assert_eq!(located[0][0]["packs"], serde_json::json!([data]));
    cli.run(&["find", "--blob", &chunk, "--show-pack-id"]).succeeds().tells(&format!("{chunk} is in pack {data}\n"));
    cli.run(&["find", "x", "--show-pack-id"]).fails(1, &["--show-pack-id", "--blob or --tree"]);
    let run = cli.run(&["find", "--blob", &chunk]).succeeds();
    assert_eq!(run.out.lines().count(), 3);
    assert!(run.out.starts_with("file /source/docs/deep/er/large.bin in snapshot "), "{}", run.out);
    let id = cli.json(&["snapshots"])[0][0]["tree"].as_str().expect("an id").to_owned();
    assert_eq!(cli.json(&["find", "--tree", &id])[0].as_array().map(Vec::len), Some(0), "the top is no entry");
    cli.run(&["find", "--blob", "nonsense"]).fails(1, &["\"nonsense\" is not the id of a blob"]);
    cli.run(&["find", "--pack", &"0".repeat(64)]).fails(1, &["000"]);
}

#[test]
fn history_tells_when_a_file_came_changed_and_went() {
    let cli = three_versions();
    let changes = |arguments: &[&str]| -> Vec<String> {
        let lines = cli.json(&[&["find", "--history"], arguments].concat());
        lines.iter().map(|line| line["change"].as_str().expect("a change").to_owned()).collect()
    };
    assert_eq!(changes(&["/source/docs/notes.txt"]), ["added", "changed"]);
    assert_eq!(changes(&["source/docs/Old.TXT"]), ["added", "removed"]);
    assert_eq!(changes(&["/source/docs/Old.TXT", "--reverse"]), ["removed", "added"]);
    assert_eq!(changes(&["/source/docs/deep/er/large.bin"]), ["added"]);
    let run = cli.run(&["find", "--history", "/source/docs/notes.txt"]).succeeds();
    assert_eq!(run.out.lines().count(), 2);
    assert!(run.out.contains("  added              3 B"), "{}", run.out);
    cli.run(&["find", "--history", "/nowhere"]).fails(1, &["/nowhere is in none of 3 snapshots"]);
}

#[test]
fn text_names_the_snapshot_before_what_it_has() {
    let cli = three_versions();
    let run = cli.run(&["find", "notes.txt", "-s", "latest", "-s", "latest~2"]).succeeds();
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), 5, "{}", run.out);
    assert!(lines[0].starts_with("Found matching entries in snapshot "));
    assert_eq!((lines[1], lines[2], lines[4]), ("/source/docs/notes.txt", "", "/source/docs/notes.txt"));
    let long = cli.run(&["find", "notes.txt", "-s", "latest", "-l"]).succeeds().out;
    assert!(long.contains("-rw-r--r--") && long.contains("         7 "), "{long}");
    cli.run(&["find"]).fails(1, &["PATTERN"]);
    cli.run(&["find", "["]).fails(1, &["["]);
    assert_eq!(cli.run(&["find", "not-there"]).succeeds().out, "");
}
