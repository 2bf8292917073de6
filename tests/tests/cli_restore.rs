//! `restore`, `dump` and `ls` at the command line: how a snapshot is chosen, and what comes back.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use icecore_tests::cli::{Cli, Runs};
use icecore_tests::compare::{Compared, assert_same};
use icecore_tests::privilege::is_root;

fn grown() -> Cli {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.write("source/sub/b.txt", vec![9; 200_000]);
    cli.write("source/sub/c.log", "log");
    symlink("a", cli.path("source/link")).expect("a link of ours");
    cli
}

#[test]
fn what_was_backed_up_comes_back() {
    let cli = grown();
    cli.backup(&[]);
    let run = cli.run(&["restore", "latest", "--target", "out", "--verify"]).succeeds();
    run.tells("restoring snapshot").tells("Summary: Restored").tells("verified 6 entries");
    assert_same(&cli.path("source"), &cli.path("out/source"), Compared::default());
    let lines = cli.json(&["restore", "latest", "--target", "out"]);
    let summary = lines.last().expect("a last line");
    assert_eq!(summary["message_type"], "summary");
    assert_eq!((&summary["files_restored"], &summary["bytes_restored"]), (&0.into(), &0.into()), "all was there");
    for field in ["total_files", "files_skipped", "files_deleted", "total_bytes", "bytes_skipped", "seconds_elapsed"] {
        assert!(summary[field].is_number(), "{field}");
    }
}

#[test]
fn a_part_may_be_restored_by_path_or_by_pattern() {
    let cli = grown();
    cli.backup(&[]);
    cli.run(&["restore", "latest:/source/sub", "-t", "part"]).succeeds();
    assert_eq!(cli.read("part/c.log"), b"log");
    assert!(!cli.path("part/a").exists());
    cli.run(&["restore", "latest", "-t", "in", "--include", "*.log"]).succeeds();
    assert!(cli.path("in/source/sub/c.log").exists() && !cli.path("in/source/a").exists());
    cli.run(&["restore", "latest", "-t", "ex", "--iexclude", "*.LOG"]).succeeds();
    assert!(!cli.path("ex/source/sub/c.log").exists() && cli.path("ex/source/a").exists());
    cli.run(&["restore", "latest", "-t", "x", "-i", "a", "-e", "b"]).fails(1, &["cannot be used together"]);
    cli.run(&["restore", "latest", "-t", "x", "-i", "["]).fails(1, &["bad pattern"]);
    cli.run(&["restore", "latest:/nope", "-t", "x"]).fails(1, &["/nope", "hint:"]);
}

#[test]
fn an_include_that_lets_nothing_in_is_told_even_quietly() {
    let cli = grown();
    cli.backup(&[]);
    for more in [&[][..], &["-q"], &["--dry-run"]] {
        let run = cli.run(&[&["restore", "latest", "-t", "none", "--include", "/nope"], more].concat());
        run.fails(0, &["warning: --include let nothing in", "icecore ls"]);
    }
    let run = cli.run(&["restore", "latest", "-t", "none", "--iinclude", "nope", "--json"]).succeeds();
    assert_eq!(run.error_json()[0]["message_type"], "note");
    for more in [&[][..], &["--include", "*.log"], &["--exclude", "*"]] {
        let run = cli.run(&[&["restore", "latest", "-t", "some"], more].concat()).succeeds();
        assert!(!run.error.contains("let nothing in"), "{more:?}: {}", run.error);
    }
}

#[test]
fn overwriting_and_deleting_are_as_asked() {
    let cli = grown();
    cli.backup(&[]);
    cli.run(&["restore", "latest", "-t", "out"]).succeeds();
    cli.write("out/source/a", "changed");
    cli.write("out/source/more", "more");
    cli.run(&["restore", "latest", "-t", "out", "--overwrite", "never"]).succeeds();
    assert_eq!(cli.read("out/source/a"), b"changed");
    cli.run(&["restore", "latest", "-t", "out", "--dry-run", "--delete"]).succeeds().tells("Would restore");
    assert_eq!(cli.read("out/source/a"), b"changed");
    assert!(cli.path("out/source/more").exists());
    cli.run(&["restore", "latest", "-t", "out", "--delete"]).succeeds().tells("deleted 1");
    assert_eq!(cli.read("out/source/a"), b"one");
    assert!(!cli.path("out/source/more").exists());
    cli.run(&["restore", "latest", "-t", "out", "--overwrite", "sometimes"]).fails(1, &["possible values"]);
}

#[test]
fn a_target_that_is_none_is_refused() {
    let cli = grown();
    cli.backup(&[]);
    cli.write("file", "precious");
    fs::create_dir(cli.path("real")).expect("a directory of ours");
    symlink("real", cli.path("link")).expect("a link of ours");
    cli.run(&["restore", "latest", "-t", "file"]).fails(1, &["file"]);
    assert_eq!(cli.read("file"), b"precious");
    cli.run(&["restore", "latest", "-t", "link"]).fails(1, &["link"]);
    assert_eq!(fs::read_dir(cli.path("real")).expect("a directory").count(), 0, "nothing was written through the link");
    cli.run(&["restore", "latest", "-t", "repo/new"]).fails(1, &["inside the repository", "hint:"]);
    assert!(!cli.path("repo/new").exists());
    cli.run(&["restore", "latest"]).fails(1, &["--target"]);
}

#[test]
fn a_target_that_cannot_be_written_is_a_clear_error() {
    let cli = grown();
    cli.backup(&[]);
    fs::create_dir(cli.path("shut")).expect("a directory of ours");
    cli.command_as_nobody(&["snapshots"]).output().expect("runs");
    let shut = std::os::unix::fs::PermissionsExt::from_mode(0o500);
    fs::set_permissions(cli.path("shut"), shut).expect("a directory of ours");
    let run = Runs::run(&mut cli.command_as_nobody(&["restore", "latest", "-t", "shut/new"]));
    assert!(matches!(run.code, 1 | 3), "{run:?}");
    assert!(run.error.contains("shut"), "{run:?}");
}

#[test]
fn an_ordinary_user_is_told_how_to_restore_what_others_own() {
    let cli = grown();
    cli.backup(&[]);
    if !is_root() {
        return;
    }
    let restore = |more: &[&str]| {
        let arguments = [&["restore", "latest", "-t", "out"], more].concat();
        Runs::run(&mut cli.command_as_nobody(&arguments))
    };
    restore(&[]).fails(3, &["owner or group could not be set", "hint:", "--no-ownership"]);
    let run = restore(&["--no-ownership"]).succeeds();
    assert_eq!(run.error, "");
}

#[test]
fn a_snapshot_is_chosen_by_word_prefix_id_or_time() {
    let cli = Cli::new();
    let mut ids = Vec::new();
    for (text, time) in [("old", "2020-01-01 10:00"), ("mid", "2020-01-02 10:00"), ("new", "2020-01-03 10:00")] {
        cli.write("source/a", text);
        ids.push(cli.backup(&["--time", time, "--full"]));
    }
    let dumped = |name: &[&str]| {
        let arguments = [&["dump"], name, &["source/a"]].concat();
        cli.run(&arguments).succeeds().out
    };
    assert_eq!(dumped(&["latest"]), "new");
    assert_eq!(dumped(&["latest~1"]), "mid");
    assert_eq!(dumped(&["latest~2"]), "old");
    assert_eq!(dumped(&[&ids[0]]), "old");
    assert_eq!(dumped(&[&ids[1][..8]]), "mid");
    cli.run(&["dump", "latest~3", "source/a"]).fails(1, &["no snapshot", "hint:"]);
    cli.run(&["dump", "latest~x", "source/a"]).fails(1, &["not the id of a snapshot", "hint:"]);
    cli.run(&["dump", "XYZ", "source/a"]).fails(1, &["not the id of a snapshot"]);
    cli.run(&["dump", "", "source/a"]).fails(1, &["not the id of a snapshot"]);
    cli.run(&["dump", &ids[0], "source/a", "--host", "h"]).fails(1, &["an id is given already"]);
    cli.run(&["ls", &ids[0], "--at", "2020-01-02"]).fails(1, &["an id is given already"]);
    cli.run(&["ls", "--at", "noon"]).fails(1, &["is no time"]);
    cli.run(&["snapshots", "latest:/source"]).fails(1, &["no meaning here"]);
}

/// The reading of a snapshot ends after its recorded time, so the times asked for lie well after it.
#[test]
fn at_a_time_is_the_newest_that_was_complete_by_then() {
    let cli = Cli::new();
    for (text, time) in [("old", "2020-01-01 10:00"), ("new", "2020-01-03 10:00")] {
        cli.write("source/a", text);
        cli.backup(&["--time", time, "--full"]);
    }
    let at = |time: &str| cli.run(&["restore", "--at", time, "-t", "out"]);
    cli.run(&["ls", "--at", "2019-12-31"]).fails(1, &["no snapshot was complete at 2019-12-31 23:59:59\n", "hint:"]);
    let of_another = cli.run(&["ls", "--at", "2020-01-03", "--host", "another"]);
    of_another.fails(1, &["no snapshot was complete at 2020-01-03 23:59:59", "of the host, tags and paths asked for"]);
    at("2020-01-02 12:00").fails(0, &["complete at"]);
    assert_eq!(cli.read("out/source/a"), b"old");
    at("2020-01-03").succeeds();
    assert_eq!(cli.read("out/source/a"), b"new", "a date alone is its end");
    let list = &cli.json(&["snapshots", "--at", "2020-01-02"])[0];
    assert_eq!(list.as_array().map(Vec::len), Some(1));
}

#[test]
fn a_prefix_of_several_is_ambiguous() {
    let cli = Cli::new();
    // Of seventeen ids two begin with the same digit.
    let ids: Vec<_> = (0..17).map(|_| cli.backup(&["--full"])).collect();
    let digit = ids.iter().map(|id| &id[..1]).find(|digit| ids.iter().filter(|id| id.starts_with(*digit)).count() > 1);
    cli.run(&["ls", digit.expect("pigeons and holes")]).fails(1, &["ambiguous", "hint:"]);
}

#[test]
fn filters_choose_what_latest_means() {
    let cli = Cli::new();
    cli.write("source/a", "tagged");
    cli.backup(&["--tag", "x,y", "--host", "one"]);
    cli.write("source/a", "plain");
    cli.backup(&["--host", "two"]);
    let dumped = |more: &[&str]| cli.run(&[&["dump", "latest", "source/a"], more].concat());
    assert_eq!(dumped(&[]).succeeds().out, "plain");
    assert_eq!(dumped(&["--tag", "x"]).succeeds().out, "tagged");
    assert_eq!(dumped(&["--tag", "x,y"]).succeeds().out, "tagged");
    dumped(&["--tag", "x,z"]).fails(1, &["no snapshot"]);
    assert_eq!(dumped(&["--tag", "x,z", "--tag", "y"]).succeeds().out, "tagged");
    assert_eq!(dumped(&["--tag", ""]).succeeds().out, "plain");
    assert_eq!(dumped(&["-H", "one"]).succeeds().out, "tagged");
    assert_eq!(dumped(&["--path", "source"]).succeeds().out, "plain", "a relative path is made absolute");
    dumped(&["--path", "/elsewhere"]).fails(1, &["no snapshot"]);
    let mut with_host = cli.command(&["dump", "latest", "source/a"]);
    let run = Runs::run(with_host.env("ICECORE_HOST", "one"));
    assert_eq!(run.succeeds().out, "tagged");
    let mut without = cli.command(&["dump", "latest", "source/a", "--host", ""]);
    let run = Runs::run(without.env("ICECORE_HOST", "one"));
    assert_eq!(run.succeeds().out, "plain");
}

#[test]
fn dump_gives_a_file_as_it_is_and_replaces_nothing() {
    let cli = grown();
    cli.backup(&[]);
    assert_eq!(cli.run(&["dump", "latest:/source", "sub/c.log"]).succeeds().out, "log");
    cli.run(&["dump", "latest", "/source/link"]).fails(1, &["is a symbolic link"]);
    cli.run(&["dump", "latest", "/source/nope"]).fails(1, &["/source/nope"]);
    cli.write("there", "precious");
    cli.run(&["dump", "latest", "/source/a", "-t", "there"]).fails(1, &["there"]);
    assert_eq!(cli.read("there"), b"precious");
}

#[test]
fn ls_lists_all_or_one_directory() {
    let cli = grown();
    cli.backup(&[]);
    let lines = |arguments: &[&str]| -> Vec<String> {
        cli.run(&[&["ls", "latest"], arguments].concat()).succeeds().out.lines().map(str::to_owned).collect()
    };
    let (source, a, link) = ("/source", "/source/a", "/source/link");
    let (sub, b, c) = ("/source/sub", "/source/sub/b.txt", "/source/sub/c.log");
    assert_eq!(lines(&[]), [source, a, link, sub, b, c]);
    assert_eq!(lines(&["/source"]), [source, a, link, sub], "itself first, as in restic");
    assert_eq!(lines(&["/source", "--recursive"]), [source, a, link, sub, b, c]);
    assert_eq!(lines(&["source/sub/"]), [sub, b, c]);
    assert_eq!(lines(&["/source/a"]), [a]);
    assert_eq!(lines(&["--sort", "size"])[..2], [b, a]);
    assert_eq!(lines(&["source", "--reverse"]), [source, sub, link, a]);
    assert_eq!(lines(&["source/sub", "--sort", "extension"]), [sub, c, b]);
    let long = lines(&["source", "-l"]);
    assert!(long[1].starts_with("-rw") && long[1].ends_with("/source/a"), "{long:?}");
    assert!(long[2].starts_with('l') && long[2].ends_with("/source/link -> a"), "{long:?}");
    assert!(lines(&["source/sub", "-l", "--human-readable"])[1].contains("195.312 KiB"));
    cli.run(&["ls", "latest", "nope"]).fails(1, &["error: /nope is not in the snapshot", "hint:"]);
}

#[test]
fn ls_in_json_has_the_fields_that_scripts_read() {
    let cli = grown();
    fs::write(cli.path("source").join(std::ffi::OsStr::from_bytes(b"\xff")), "x").expect("a file of ours");
    cli.backup(&[]);
    let lines = cli.json(&["ls", "latest"]);
    assert_eq!((&lines[0]["message_type"], &lines[0]["struct_type"]), (&"snapshot".into(), &"snapshot".into()));
    let node = |path: &str| lines.iter().find(|line| line["path"] == path).unwrap_or_else(|| panic!("{path}"));
    let file = node("/source/a");
    assert_eq!((&file["message_type"], &file["struct_type"]), (&"node".into(), &"node".into()));
    assert_eq!((&file["name"], &file["type"], &file["size"]), (&"a".into(), &"file".into(), &3.into()));
    assert_eq!(file["permissions"].as_str().map(|letters| &letters[..3]), Some("-rw"));
    for field in ["uid", "gid", "mode", "inode"] {
        assert!(file[field].is_number(), "{field}");
    }
    assert!(file["mtime"].is_string() && file["ctime"].is_string() && file.get("atime").is_none());
    assert_eq!((&node("/source/sub")["type"], node("/source/sub").get("size")), (&"dir".into(), None));
    assert_eq!((&node("/source/link")["type"], &node("/source/link")["linktarget"]), (&"symlink".into(), &"a".into()));
    let odd = node("/source/\u{fffd}");
    assert_eq!((&odd["name_base64"], &odd["path_base64"]), (&"/w==".into(), &"L3NvdXJjZS//".into()));
}
