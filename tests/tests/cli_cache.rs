//! `cache` and `unlock`: what this machine keeps is shown, what can be made again is removed when it is old, and how new a
//! repository was is forgotten by nobody but its owner.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use icecore_tests::cli::{Cli, Runs};
use serde_json::Value;

/// A repository of which both is known: how new it was, and what was checked.
fn known() -> (Cli, String) {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    cli.run(&["check", "--read-data"]).succeeds();
    let shown = cli.json(&["cache"]).remove(0);
    let id = shown["repositories"][0]["id"].as_str().expect("an id").to_owned();
    (cli, id)
}

fn file(cli: &Cli, id: &str, name: &str) -> PathBuf {
    cli.path("state/icecore").join(id).join(name)
}

/// All that is kept was last written so many days ago.
fn age(cli: &Cli, id: &str, days: u64) {
    for entry in fs::read_dir(cli.path("state/icecore").join(id)).expect("a directory") {
        let file = fs::File::options().write(true).open(entry.expect("an entry").path()).expect("a file");
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600)).expect("a time");
    }
}

fn one(cli: &Cli, more: &[&str]) -> Value {
    let shown = cli.json(&[&["cache"], more].concat()).remove(0);
    assert_eq!(shown["repositories"].as_array().map(Vec::len), Some(1), "{shown}");
    shown["repositories"][0].clone()
}

#[test]
fn what_is_kept_is_shown_without_a_key_or_a_repository() {
    let (cli, id) = known();
    let shown = one(&cli, &[]);
    assert_eq!((&shown["knows_how_new"], &shown["knows_what_was_checked"]), (&true.into(), &true.into()));
    assert_eq!(shown["old"], false);
    let sizes = ["heads", "verified"].map(|name| fs::metadata(file(&cli, &id, name)).expect("kept").len());
    assert_eq!(shown["size"], sizes.iter().sum::<u64>());
    assert!(one(&cli, &["--no-size"]).get("size").is_none());
    let mut command = cli.command(&["cache"]);
    let run = command.env_remove("ICECORE_KEY_FILE").env_remove("ICECORE_REPOSITORY").run().succeeds();
    let run = run.tells(&id[..10]).tells("how new it was").tells("what was checked").tells("1 repository known");
    assert!(run.out.contains("Size") && !cli.run(&["cache", "--no-size"]).succeeds().out.contains("Size"));
    let nowhere = cli.json(&["cache", "--state-dir", "nowhere"]).remove(0);
    assert_eq!(nowhere["repositories"].as_array().map(Vec::len), Some(0));
    assert!(!cli.path("nowhere").exists(), "a look makes nothing");
}

#[test]
fn cleanup_removes_what_is_old_and_can_be_made_again_and_nothing_else() {
    let (cli, id) = known();
    fs::write(file(&cli, &id, "heads.999999.new"), "half").expect("a file");
    fs::write(file(&cli, &id, "of somebody else"), "x").expect("a file");
    let names = |cli: &Cli| -> Vec<bool> {
        let all = ["heads", "verified", "heads.999999.new", "of somebody else"];
        all.iter().map(|name| file(cli, &id, name).exists()).collect()
    };
    cli.run(&["cache", "--cleanup"]).succeeds().tells("removed 0 files");
    assert_eq!(names(&cli), [true; 4]);
    age(&cli, &id, 31);
    assert_eq!(one(&cli, &[])["old"], true);
    assert_eq!(one(&cli, &["--max-age", "32"])["old"], false);
    cli.run(&["cache", "--cleanup", "--max-age", "32"]).succeeds().tells("removed 1 file,");
    assert_eq!(names(&cli), [true, true, false, true], "a writer that died left it");
    let run = cli.json(&["cache", "--cleanup"]).remove(0);
    assert_eq!(
        (&run["removed"][0]["file"], &run["removed"][0]["repository"]),
        (&"verified".into(), &id.as_str().into())
    );
    assert_eq!(names(&cli), [true, false, false, true]);
    cli.run(&["check"]).succeeds();
}

#[test]
fn how_new_a_repository_was_is_forgotten_only_by_its_name() {
    let (cli, id) = known();
    let status = std::process::Command::new("cp").args(["-a"]).arg(cli.path("repo")).arg(cli.path("older")).status();
    assert!(status.expect("cp runs").success());
    cli.write("source/a", "two");
    cli.backup(&[]);
    fs::remove_dir_all(cli.path("repo")).expect("ours");
    fs::rename(cli.path("older"), cli.path("repo")).expect("ours");
    age(&cli, &id, 400);
    cli.run(&["cache", "--cleanup", "--max-age", "0"]).succeeds();
    cli.run(&["snapshots"]).ends(13);
    cli.run(&["cache", "--forget-repository", "ffff"]).fails(1, &["nothing is kept of a repository \"ffff\""]);
    cli.run(&["cache", "--forget-repository", ""]).fails(1, &["nothing is kept"]);
    cli.run(&["snapshots"]).ends(13);
    let upper = id[..12].to_ascii_uppercase();
    let shown = cli.json(&["cache", "--forget-repository", &upper]).remove(0);
    assert_eq!(
        (shown["removed"][0]["file"].as_str(), shown["repositories"].as_array().map(Vec::len)),
        (Some("heads"), Some(0))
    );
    cli.run(&["snapshots"]).succeeds();
}

#[test]
fn a_link_in_the_place_of_a_memory_is_not_followed() {
    let (cli, id) = known();
    cli.write("precious/verified", "mine");
    let other = cli.path("state/icecore").join("ab".repeat(16));
    std::os::unix::fs::symlink(cli.path("precious"), &other).expect("a link");
    fs::remove_file(file(&cli, &id, "verified")).expect("kept");
    std::os::unix::fs::symlink(cli.path("precious/verified"), file(&cli, &id, "verified")).expect("a link");
    cli.run(&["cache", "--cleanup", "--max-age", "0"]).succeeds();
    assert_eq!(one(&cli, &[])["knows_what_was_checked"], false);
    assert_eq!(cli.read("precious/verified"), b"mine");
}

#[test]
fn unlock_says_that_there_is_nothing_to_unlock() {
    let cli = Cli::without_repository();
    cli.run(&["unlock"]).succeeds().tells("there are no locks");
    cli.run(&["unlock", "--remove-all"]).succeeds().tells("there are no locks");
    let line = cli.json(&["unlock"]).remove(0);
    assert_eq!((&line["message_type"], &line["removed_locks"]), (&"unlocked".into(), &0.into()));
    assert_eq!(cli.run(&["-q", "unlock"]).succeeds().out, "");
    cli.run(&["--append-only", "unlock"]).succeeds();
}
