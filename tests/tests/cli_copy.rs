//! `copy`, `init` after another repository's parameters, `mirror` and `cross-check`, at the command line.

use icecore_tests::cli::{Cli, Runs};
use icecore_tests::whole::noise;

/// A room with a source repository `repo` of two snapshots and an empty `second`, of a key each.
fn room() -> Cli {
    let cli = Cli::new();
    cli.write("source/file", noise(1, 300 << 10));
    cli.backup(&["--tag", "old", "--host", "h"]);
    cli.write("source/other", "text");
    cli.backup(&["--tag", "new", "--host", "h"]);
    cli.run(&["-r", "second", "init", "--new-key-file", "second.key"]).succeeds();
    cli
}

const SECOND: [&str; 4] = ["-r", "second", "--key-file", "second.key"];
const FROM: [&str; 4] = ["--from-repo", "repo", "--from-key-file", "key"];

fn copy(cli: &Cli, more: &[&str]) -> icecore_tests::cli::Run {
    cli.run(&[&SECOND[..], &["copy"], &FROM, more].concat())
}

fn tags(cli: &Cli, place: &[&str]) -> Vec<String> {
    let list = &cli.json(&[place, &["snapshots"]].concat())[0];
    let tag = |snapshot: &serde_json::Value| snapshot["tags"][0].as_str().expect("a tag").to_owned();
    list.as_array().expect("an array").iter().map(tag).collect()
}

#[test]
fn a_copy_restores_from_the_second_repository_and_a_second_copy_does_nothing() {
    let cli = room();
    copy(&cli, &[]).succeeds().tells("saved, a copy of").tells("copied 2 snapshots, 0 there already");
    copy(&cli, &["-v"]).succeeds().tells("is there already, as").tells("copied 0 snapshots, 2 there already");
    assert_eq!(tags(&cli, &SECOND), ["old", "new"]);
    cli.run(&[&SECOND[..], &["restore", "latest", "--target", "back"]].concat()).succeeds();
    assert_eq!(cli.read("back/source/file"), noise(1, 300 << 10));
    cli.run(&[&SECOND[..], &["check", "--read-data"]].concat()).succeeds();
    let shown = cli.json(&[&SECOND[..], &["snapshots"]].concat());
    assert!(shown[0][0]["original"].is_string() && shown[0][1]["parent"] == shown[0][0]["id"], "{shown:?}");
}

#[test]
fn what_is_copied_is_chosen_by_ids_or_filters() {
    let cli = room();
    copy(&cli, &["--tag", "new"]).succeeds();
    assert_eq!(tags(&cli, &SECOND), ["new"]);
    copy(&cli, &["latest", "latest~1"]).succeeds();
    assert_eq!(tags(&cli, &SECOND).len(), 2);
    copy(&cli, &["0123", "--tag", "new"]).fails(1, &["ids are given already"]);
    copy(&cli, &["0123"]).fails(1, &["no snapshot"]);
}

#[test]
fn several_targets_are_filled_in_one_pass_each_with_a_secret_of_its_own() {
    let cli = room();
    for name in ["third", "fourth"] {
        let key = format!("{name}.key");
        cli.run(&["-r", name, "init", "--new-key-file", &key]).succeeds();
    }
    // Without a secret of its own it opens with that of --repo.
    cli.run(&["-r", "fifth", "--key-file", "second.key", "init"]).succeeds();
    let also = [
        "--also",
        "third",
        "--also-key-file",
        "third.key",
        "--also",
        "fifth",
        "--also",
        "fourth",
        "--also-key-file",
        "fourth.key",
    ];
    let lines = cli.json(&[&SECOND[..], &["copy", "--quiet"], &FROM, &also].concat());
    let summary = lines.last().expect("a summary");
    assert_eq!(summary["message_type"], "summary");
    let targets = summary["targets"].as_array().expect("an array");
    assert_eq!(targets.len(), 4);
    assert!(targets.iter().all(|target| target["copied"] == 2 && target["present"] == 0), "{summary}");
    assert!(summary["bytes_read"].as_u64().is_some_and(|bytes| (300 << 10..310 << 10).contains(&bytes)), "{summary}");
    assert_eq!(lines.iter().filter(|line| line["message_type"] == "copied").count(), 8);
    copy(&cli, &["--also-key-file", "third.key", "--also", "third"]).fails(1, &["comes before any --also"]);
    copy(&cli, &["--also", "third", "--also-key-file", "a", "--also-key-file", "b"]).fails(1, &["second secret"]);
    copy(&cli, &["--also", "third"]).fails(12, &["third: wrong password or key"]);
    copy(&cli, &["--also", "second"]).fails(1, &["named twice"]);
}

#[test]
fn a_wrong_or_missing_secret_of_either_side_is_code_12_and_says_which() {
    let cli = room();
    let from_wrong = ["copy", "--from-repo", "repo", "--from-key-file", "second.key"];
    cli.run(&[&SECOND[..], &from_wrong].concat()).fails(12, &["the repository to copy from: wrong password or key"]);
    cli.run(&[&["-r", "second", "copy"], &FROM[..]].concat()).fails(12, &["wrong password or key"]);
    cli.run(&[&SECOND[..], &["copy"]].concat()).fails(1, &["no repository to copy from", "--from-repo"]);
    cli.run(&[&SECOND[..], &["copy", "--from-repo", "nowhere"]].concat()).fails(10, &["no repository at nowhere"]);
    let mut by_variables = cli.command(&[&SECOND[..], &["copy"]].concat());
    by_variables.env("ICECORE_FROM_REPOSITORY", "repo").env("ICECORE_FROM_KEY_FILE", "key");
    by_variables.run().succeeds().tells("copied 2 snapshots");
}

#[test]
fn a_password_opens_either_side() {
    let cli = room();
    cli.write("password", "of the source\n");
    cli.run(&["key", "add", "--new-password-file", "password"]).succeeds();
    let from = ["copy", "--from-repo", "repo", "--from-password-file", "password"];
    cli.run(&[&SECOND[..], &from].concat()).succeeds();
    let mut from = cli.command(&[&SECOND[..], &["copy", "--from-repo", "repo"]].concat());
    from.env("ICECORE_FROM_PASSWORD", "of nobody").run().fails(12, &["the repository to copy from"]);
}

#[test]
fn damage_of_the_source_is_code_3() {
    let cli = room();
    let packs = cli.json(&["list", "packs"]);
    for pack in packs {
        let id = pack["id"].as_str().expect("an id");
        let path = cli.path(&format!("repo/packs/d/{}/{id}", &id[..2]));
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::remove_file(&path).expect("ours");
        std::fs::write(&path, bytes).expect("ours");
    }
    let run = copy(&cli, &[]);
    run.fails(3, &["/file", "reading it from the source", "was not copied", "could not be read in full", "hint:"]);
    assert!(tags(&cli, &SECOND).is_empty());
    let run = cli.run(&[&["--json"], &SECOND[..], &["copy", "--quiet"], &FROM].concat()).ends(3);
    let lines = run.json();
    assert_eq!(lines.iter().filter(|line| line["message_type"] == "damaged").count(), 2);
    assert!(run.error_json().iter().any(|line| line["during"] == "copy"));
}

#[test]
fn init_takes_the_sizes_of_another_repository_when_asked_to() {
    let cli = room();
    let init = ["-r", "fourth", "init", "--new-key-file", "fourth.key"];
    cli.run(&[&init[..], &FROM].concat()).fails(1, &["--copy-chunker-params"]);
    cli.run(&[&init[..], &FROM, &["--copy-chunker-params"]].concat()).succeeds();
    let chunker =
        |place: &str, key: &str| cli.json(&["-r", place, "--key-file", key, "cat", "config"])[0]["chunker"].clone();
    assert_eq!(chunker("fourth", "fourth.key"), chunker("repo", "key"));
}

#[test]
fn a_mirror_needs_no_key_refuses_writers_and_is_promoted() {
    let cli = room();
    let keyless = |arguments: &[&str]| {
        let mut command = cli.command(arguments);
        command.env_remove("ICECORE_KEY_FILE").run()
    };
    keyless(&["mirror", "usb"]).succeeds().tells("mirrored ");
    keyless(&["mirror", "usb"]).succeeds().tells("mirrored 0 objects");
    cli.run(&["-r", "usb", "restore", "latest", "--target", "back"]).succeeds();
    assert_eq!(cli.read("back/source/other"), b"text");
    cli.run(&["-r", "usb", "check", "--read-data"]).succeeds();
    cli.run(&["-r", "usb", "backup", "source"]).fails(1, &["is a mirror", "hint:", "--promote"]);
    keyless(&["mirror", "source"]).fails(1, &["is not empty"]);
    keyless(&["mirror", "--promote", "second"]).fails(1, &["is no mirror"]);
    keyless(&["-r", "nowhere", "mirror", "usb"]).fails(10, &["no repository"]);
    keyless(&["mirror", "--promote", "usb"]).succeeds().tells("a repository of its own");
    cli.run(&["-r", "usb", "backup", "source"]).succeeds();
    keyless(&["mirror", "usb"]).fails(1, &["is not empty"]);
}

#[test]
fn two_copies_are_compared_without_a_key_and_heal_each_other() {
    let cli = room();
    cli.run(&["mirror", "usb"]).succeeds();
    let compare = |more: &[&str]| {
        let mut command = cli.command(&[&["cross-check", "usb"], more].concat());
        command.env_remove("ICECORE_KEY_FILE").run()
    };
    compare(&[]).succeeds().tells("both copies are whole and the same");
    let pack = cli.json(&["list", "packs"])[0]["id"].as_str().expect("an id").to_owned();
    let kind = if cli.path(&format!("repo/packs/d/{}/{pack}", &pack[..2])).exists() { "d" } else { "m" };
    let path = |place: &str| cli.path(&format!("{place}/packs/{kind}/{}/{pack}", &pack[..2]));
    let damage = |place: &str| {
        let mut bytes = std::fs::read(path(place)).expect("it is there");
        bytes[100] ^= 1;
        std::fs::remove_file(path(place)).expect("ours");
        std::fs::write(path(place), bytes).expect("ours");
    };
    let whole = std::fs::read(path("repo")).expect("it is there");
    damage("repo");
    compare(&["--dry-run"]).fails(1, &["1 object damaged"]).tells("can be healed in");
    compare(&[]).succeeds().tells("healed in").tells(&pack);
    assert_eq!(std::fs::read(path("repo")).expect("it is there"), whole);
    damage("repo");
    damage("usb");
    compare(&[]).fails(1, &["2 objects could not be healed", "damaged in both"]);
    std::fs::write(path("repo"), &whole).expect("ours");
    compare(&[]).succeeds();
    cli.backup(&[]);
    let run = compare(&["--json", "--quiet"]).ends(3);
    let summary = run.json().pop().expect("a summary");
    assert!(summary["only_here"].as_array().is_some_and(|names| !names.is_empty()), "{summary}");
    assert_eq!(summary["only_there"].as_array().map(Vec::len), Some(0));
    cli.run(&["-r", "second", "cross-check", "usb"]).fails(1, &["another repository"]);
}
