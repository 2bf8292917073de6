//! `init --weak-store`, and who may prune such a repository, at the command line.

use std::fs::File;

use icecore_tests::cli::{Cli, Runs};

/// A room with a weak repository, of which nothing needs anything.
fn weak() -> Cli {
    let cli = Cli::without_repository();
    let init = ["init", "--weak-store", "--new-key-file", "key"];
    let run = cli.command(&init).env_remove("ICECORE_KEY_FILE").run().succeeds();
    run.tells("This is a weak repository").tells("clocks: ").tells("7 days").tells("one owner: ");
    cli.write("source/a", "one");
    let snapshot = cli.backup(&[]);
    cli.run(&["forget", &snapshot, "--undelete-within", "0"]).succeeds();
    cli
}

#[test]
fn the_owner_prunes_and_is_told_what_that_rests_on() {
    let cli = weak();
    let config = cli.json(&["cat", "config"]).pop().expect("a line");
    assert_eq!((&config["put_if_absent"], config["gc_owner"].as_str().map(str::len)), (&false.into(), Some(32)));
    let dry = cli.json(&["prune", "-n"]).pop().expect("a summary");
    let run = cli.run(&["prune"]).succeeds();
    run.tells("this is a weak repository").tells("clocks: ").tells("one owner: ").tells("deleted ");
    let done = cli.json(&["prune"]).pop().expect("a summary");
    for summary in [dry, done] {
        let rules = &summary["weak_store"];
        assert_eq!((&rules["fence_idle_seconds"], &rules["sign_valid_seconds"]), (&604_800.into(), &86_400.into()));
        assert_eq!(rules["assumes"].as_array().map(Vec::len), Some(2));
    }
    cli.backup(&[]);
    cli.run(&["check", "--read-data"]).succeeds();
    cli.run(&["key", "add", "--new-key-file", "second"]).succeeds();
    cli.run(&["prune", "--fence-idle", "100h"]).fails(1, &["7 days"]);
}

#[test]
fn others_back_up_and_do_no_more_until_they_take_ownership() {
    let cli = weak();
    let other = ["--state-dir", "elsewhere"];
    let run = |arguments: &[&str]| cli.run(&[&other, arguments].concat());
    run(&["backup", "source"]).succeeds();
    let hint = "icecore prune --take-ownership";
    run(&["prune"]).fails(1, &["is a weak one", "is not its owner", hint]);
    run(&["key", "add", "--new-key-file", "second"]).fails(1, &["is not its owner", hint]);
    run(&["prune", "-n"]).succeeds().tells("nothing was changed");
    cli.run(&["--no-state", "prune"]).fails(1, &["is not its owner"]);
    cli.run(&["--no-state", "prune", "--take-ownership"]).fails(1, &["--state-dir"]);

    run(&["prune", "--take-ownership"])
        .succeeds()
        .tells("this client is the owner of this weak repository now")
        .tells("make sure that it never goes on")
        .tells("deleted ");
    run(&["prune", "--take-ownership"]).succeeds().tells("was the owner of this weak repository already");
    cli.run(&["prune"]).fails(1, &["is not its owner"]);
    cli.run(&["check", "--read-data"]).succeeds();
}

#[test]
fn one_command_of_the_owner_prunes_at_a_time() {
    let cli = weak();
    let config = cli.json(&["cat", "config"]).pop().expect("a line");
    let id = config["id"].as_str().expect("a name");
    cli.run(&["prune"]).succeeds();
    let lock = cli.path("state/icecore").join(id).join("owner.lock");
    let held = File::options().write(true).open(lock).expect("it was held before");
    held.lock().expect("nobody has it");
    cli.run(&["prune"]).fails(1, &["another command of this client"]);
    cli.run(&["prune", "-n"]).succeeds();
    drop(held);
    cli.run(&["prune"]).succeeds();
}

#[test]
fn other_repositories_have_no_owner() {
    let cli = Cli::new();
    cli.run(&["prune", "--take-ownership"]).fails(1, &["no weak one"]);
    let config = cli.json(&["cat", "config"]).pop().expect("a line");
    assert_eq!((&config["put_if_absent"], &config["gc_owner"]), (&true.into(), &serde_json::Value::Null));
    let summary = cli.json(&["prune"]).pop().expect("a summary");
    assert!(summary.get("weak_store").is_none());
}
