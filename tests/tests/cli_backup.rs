//! `init` and `backup` at the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use icecore_tests::cli::{Cli, Runs};
use serde_json::Value;

/// Names of the entries of a snapshot, without the top directory.
fn names(cli: &Cli) -> Vec<String> {
    let run = cli.run(&["ls", "latest"]).succeeds();
    run.out.lines().filter_map(|line| line.strip_prefix("/source/")).map(str::to_owned).collect()
}

fn summary(lines: &[Value]) -> &Value {
    let last = lines.last().expect("a last line");
    assert_eq!(last["message_type"], "summary");
    last
}

#[test]
fn init_says_where_and_recommends_a_recovery_kit() {
    let cli = Cli::without_repository();
    let mut init = cli.command(&["init", "--new-key-file", "key"]);
    init.env_remove("ICECORE_KEY_FILE").run().succeeds().tells("created repository").tells("key export");
    let mode = fs::metadata(cli.path("key")).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a key file is its owner's alone");
    cli.run(&["snapshots"]).succeeds().tells("0 snapshots");
}

#[test]
fn init_in_json_names_id_and_place() {
    let cli = Cli::without_repository();
    let lines = cli.json(&["init", "--new-key-file", "key"]);
    assert_eq!(lines[0]["message_type"], "initialized");
    assert_eq!(lines[0]["id"].as_str().map(str::len), Some(32));
    assert_eq!(lines[0]["repository"].as_str(), cli.path("repo").to_str());
}

#[test]
fn a_second_init_changes_nothing_and_leaves_no_key_file() {
    let cli = Cli::new();
    cli.run(&["init", "--new-key-file", "other"]).fails(1, &["exists already", "hint:"]);
    assert!(!cli.path("other").exists(), "a key that opens nothing would be mistaken for one that does");
    cli.run(&["snapshots"]).succeeds();
}

#[test]
fn a_key_file_is_never_replaced() {
    let cli = Cli::without_repository();
    cli.write("key", "precious");
    cli.run(&["init", "--new-key-file", "key"]).fails(1, &["making the key file key"]);
    assert_eq!(cli.read("key"), b"precious");
    cli.run(&["snapshots"]).fails(10, &["no repository"]);
}

#[test]
fn backup_counts_what_is_new_and_then_what_is_not() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.write("source/sub/b", vec![7; 100_000]);
    let lines = cli.json(&["backup", "source", "--tag", "x,y", "--host", "h"]);
    let first = summary(&lines);
    assert_eq!((&first["files_new"], &first["files_unmodified"]), (&2.into(), &0.into()));
    assert_eq!(first["total_bytes_processed"], 100_003);
    assert_eq!(first["snapshot_id"].as_str().map(str::len), Some(20));
    for field in [
        "files_changed",
        "dirs_new",
        "dirs_changed",
        "dirs_unmodified",
        "data_blobs",
        "tree_blobs",
        "data_added",
        "data_added_packed",
        "total_files_processed",
        "total_duration",
    ] {
        assert!(first[field].is_number(), "{field}");
    }
    assert!(first["backup_start"].is_string() && first["backup_end"].is_string());
    let lines = cli.json(&["backup", "source", "--host", "h"]);
    let second = summary(&lines);
    assert_eq!(second["files_new"], 0);
    assert_eq!(second["data_added"], 0);
    let run = cli.run(&["backup", "source"]).succeeds();
    run.tells("Files:").tells("processed 2 files, 97.659 KiB in 0:").tells(" saved");
}

#[test]
fn quiet_prints_the_snapshot_alone() {
    let cli = Cli::new();
    let run = cli.run(&["backup", "source", "-q"]).succeeds();
    assert_eq!(run.out.lines().count(), 1, "{}", run.out);
    assert_eq!(run.error, "");
    let run = cli.run(&["backup", "source", "-q", "--json"]).succeeds();
    assert_eq!(run.json().len(), 1, "no status lines either");
    cli.run(&["backup", "source", "-q", "-v"]).fails(1, &["cannot be used with"]);
}

#[test]
fn very_verbose_names_every_entry() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    for more in ["-vv", "-v=2", "--verbose=2"] {
        cli.run(&["backup", "source", "--full", more]).succeeds().tells("/source/a (3 B)");
    }
    let lines = cli.json(&["backup", "source", "-vv", "--full"]);
    let item = lines.iter().find(|line| line["item"] == "/source/a").expect("named");
    assert_eq!((&item["message_type"], &item["action"]), (&"verbose_status".into(), &"new".into()));
    let quiet = cli.run(&["backup", "source", "-v"]).succeeds();
    assert!(!quiet.out.contains("/source/a"));
}

#[test]
fn a_repository_is_made_on_demand() {
    let cli = Cli::without_repository();
    cli.run(&["backup", "source", "--new-key-file", "key"]).fails(1, &["needs --init"]);
    cli.run(&["backup", "source", "--init", "--new-key-file", "key"])
        .succeeds()
        .tells("created repository")
        .tells("saved");
    // And used when it is there.
    cli.run(&["backup", "source", "--init"]).succeeds();
    assert_eq!(cli.snapshots(), 2);
}

#[test]
fn a_dry_run_stores_nothing() {
    let cli = Cli::new();
    cli.write("source/a", vec![1; 50_000]);
    let packs = cli.run(&["list", "packs"]).succeeds().out;
    cli.run(&["backup", "source", "--dry-run"]).succeeds().tells("Would add").tells("nothing was stored");
    assert_eq!(cli.json(&["backup", "source", "-n"]).last().expect("a summary")["dry_run"], true);
    assert_eq!(cli.snapshots(), 0);
    assert_eq!(cli.run(&["list", "packs"]).out, packs);
}

#[test]
fn an_unchanged_source_may_be_skipped() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    cli.run(&["backup", "source", "--skip-if-unchanged"]).succeeds().tells("nothing changed");
    assert_eq!(cli.snapshots(), 1);
    cli.write("source/a", "two");
    cli.run(&["backup", "source", "--skip-if-unchanged"]).succeeds().tells("saved");
}

#[test]
fn excludes_are_taken_from_flags_and_files() {
    let cli = Cli::new();
    for name in ["keep", "a.tmp", "B.TMP", "deep/c.log", "big", "cache/x", "mark/x", "own"] {
        cli.write(&format!("source/{name}"), name);
    }
    cli.write("source/big", vec![0; 5000]);
    cli.write("source/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# cache");
    cli.write("source/mark/.nobackup", "yes");
    cli.write("patterns", "# a comment\n\n*.$SUFFIX\n");
    cli.write("ipatterns", "OWN\n");
    let mut backup = cli.command(&[
        "backup",
        "source",
        "--exclude",
        "a.tmp",
        "--iexclude",
        "b.tmp",
        "--exclude-file",
        "patterns",
        "--iexclude-file",
        "ipatterns",
        "--exclude-caches",
        "--exclude-if-present",
        ".nobackup:yes",
        "--exclude-larger-than",
        "4k",
    ]);
    backup.env("SUFFIX", "log").run().succeeds();
    assert_eq!(names(&cli), ["cache", "cache/CACHEDIR.TAG", "deep", "keep", "mark", "mark/.nobackup"]);
    let recorded = &cli.json(&["snapshots"])[0][0]["excludes"];
    assert!(recorded.as_array().is_some_and(|list| list.contains(&"*.log".into())), "{recorded}");
}

#[test]
fn a_variable_that_is_not_set_is_not_taken_for_an_empty_one() {
    let cli = Cli::new();
    cli.write("patterns", "$ICECORE_NO_SUCH_VARIABLE/*\n");
    let run = cli.run(&["backup", "source", "--exclude-file", "patterns"]);
    run.fails(1, &["ICECORE_NO_SUCH_VARIABLE is not set", "hint:"]);
}

#[test]
fn what_cannot_be_understood_is_refused_before_anything_is_read() {
    let cli = Cli::new();
    cli.run(&["backup", "source", "--exclude", "["]).fails(1, &["bad pattern"]);
    cli.run(&["backup"]).fails(1, &["nothing to back up", "hint:"]);
    cli.run(&["backup", "source", "--exclude-larger-than", "much"]).fails(1, &["is no size"]);
    cli.run(&["backup", "source", "--time", "yesterday"]).fails(1, &["is no time"]);
    cli.run(&["backup", "source", "--full", "--differential"]).fails(1, &["cannot be used with"]);
    cli.run(&["backup", "source", "--stdin"]).fails(1, &["cannot be used with"]);
    cli.run(&["backup", "source", "--parent", "zz"]).fails(1, &["not the id of a snapshot"]);
    cli.run(&["backup", "source", "--parent", "abcdef"]).fails(1, &["no snapshot"]);
    cli.run(&["backup", "source", "--compression", "20"]).fails(1, &["from 1 to 19"]);
    cli.run(&["backup", "source", "--no-such-flag"]).fails(1, &["unexpected argument"]);
    assert_eq!(cli.snapshots(), 0);
}

#[test]
fn paths_come_from_lists_in_three_spellings() {
    let cli = Cli::new();
    for name in ["one", "two", "three", "*"] {
        cli.write(&format!("source/{name}"), name);
    }
    let listed = |flag: &str, list: &[u8]| {
        cli.command(&["backup", "-q", flag, "-"]).run_with(list).succeeds();
        let run = cli.run(&["ls", "latest"]).succeeds();
        run.out.lines().filter_map(|line| line.strip_prefix("/source/").map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(listed("--files-from", b"# comment\n source/t* \n\n"), ["three", "two"]);
    assert_eq!(listed("--files-from-verbatim", b"source/*\n"), ["*"]);
    assert_eq!(listed("--files-from-raw", b"source/one\0source/*\0"), ["*", "one"]);
    cli.command(&["backup", "--files-from", "-"]).run_with(b"nope*\n").fails(1, &["nothing matches"]);
    cli.command(&["backup", "--files-from-raw", "-"]).run_with(b"source/one").fails(1, &["not ended by a NUL"]);
    cli.run(&["backup", "--files-from", "no-such-list"]).fails(1, &["reading the list no-such-list"]);
}

#[test]
fn lineage_is_recorded_and_shown() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    let full = cli.backup(&["--full"]);
    let incremental = cli.backup(&["--incremental"]);
    cli.backup(&["--differential"]);
    cli.backup(&["--parent", &full]);
    cli.backup(&["--force"]);
    let list = &cli.json(&["snapshots"])[0];
    let kinds: Vec<_> = list.as_array().expect("an array").iter().map(|shape| shape["lineage"].as_str()).collect();
    let (all, each, last) = (Some("full"), Some("incremental"), Some("differential"));
    assert_eq!(kinds, [all, each, last, each, all]);
    assert_eq!(list[1]["parent"], full.as_str());
    assert_eq!(list[2]["parent"], full.as_str(), "a differential one names the full one, not {incremental}");
    let table = cli.run(&["snapshots"]).succeeds().out;
    for kind in ["full", "incr", "diff"] {
        assert!(table.contains(&format!("  {kind}  ")), "{kind}:\n{table}");
    }
}

#[test]
fn standard_input_becomes_a_file() {
    let cli = Cli::new();
    let content = vec![42; 300_000];
    cli.command(&["backup", "--stdin", "--stdin-filename", "db.sql"]).run_with(&content).succeeds();
    let run = cli.command(&["dump", "latest", "db.sql", "--target", "out"]).run();
    run.succeeds();
    assert_eq!(cli.read("out"), content);
    let mode = fs::metadata(cli.path("out")).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Half a dump under the name of a whole one is worse than none.
#[test]
fn a_command_that_fails_publishes_nothing() {
    let cli = Cli::new();
    let backup = |script| cli.run(&["backup", "--stdin-from-command", "--", "sh", "-c", script]);
    backup("echo half; exit 7").fails(1, &["sh failed", "no snapshot was made"]);
    backup("head -c 5000000 /dev/zero; kill -9 $$").fails(1, &["sh failed"]);
    cli.run(&["backup", "--stdin-from-command", "--", "no-such-program"]).fails(1, &["could not be run"]);
    cli.run(&["backup", "--stdin-from-command"]).fails(1, &["required"]);
    assert_eq!(cli.snapshots(), 0);
    backup("echo whole").succeeds();
    cli.run(&["dump", "latest", "stdin"]).succeeds().tells("whole\n");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_stored() {
    let cli = Cli::new();
    cli.write("source/open", "yes");
    cli.write("source/shut", "no");
    fs::set_permissions(cli.path("source/shut"), fs::Permissions::from_mode(0o000)).expect("a file of ours");
    let run = cli.command_as_nobody(&["backup", "source"]).run();
    run.fails(3, &["shut", "1 entry could not be read"]).tells("saved");
    let run = cli.command_as_nobody(&["backup", "source", "--json"]).run().ends(3);
    let errors = run.error_json();
    assert_eq!((&errors[0]["message_type"], &errors[0]["during"]), (&"error".into(), &"archival".into()));
    assert!(errors[0]["error"]["message"].is_string() && errors[0]["item"].is_string());
    let last = errors.last().expect("a last line");
    assert_eq!((&last["message_type"], &last["code"]), (&"exit_error".into(), &3.into()));
    let run = cli.command_as_nobody(&["ls", "latest"]).run().succeeds();
    assert!(run.out.contains("/source/open") && !run.out.contains("/source/shut"), "{}", run.out);
}

#[test]
fn a_directory_that_cannot_be_read_is_told_once() {
    let cli = Cli::new();
    cli.write("source/open", "yes");
    cli.write("source/shut/secret", "no");
    // Given away first: who may not look into it could not do so later.
    cli.command_as_nobody(&["snapshots"]).run().succeeds();
    fs::set_permissions(cli.path("source/shut"), fs::Permissions::from_mode(0o000)).expect("a directory of ours");
    let run = cli.command_as_nobody(&["backup", "source"]).run();
    let run = run.fails(3, &["/source/shut: Permission denied", "1 entry could not be read"]);
    assert_eq!(run.error.matches("/source/shut").count(), 1, "{}", run.error);
    let run = cli.command_as_nobody(&["ls", "latest"]).run().succeeds();
    assert!(run.out.contains("/source/shut\n") && run.out.contains("/source/open"), "{}", run.out);
    fs::set_permissions(cli.path("source/shut"), fs::Permissions::from_mode(0o700)).expect("a directory of ours");
}

#[test]
fn a_dash_is_no_path_unless_there_is_a_file_of_that_name() {
    let cli = Cli::new();
    cli.run(&["backup", "-"]).fails(1, &["no file -", "hint:", "--stdin"]);
    cli.run(&["backup", "source", "-"]).fails(1, &["no file -", "hint:", "--stdin"]);
    assert_eq!(cli.snapshots(), 0);
    cli.write("-", "text");
    cli.run(&["backup", "-"]).succeeds();
    cli.run(&["dump", "latest", "-"]).succeeds().tells("text");
    cli.run(&["backup", "--stdin-from-command", "--", "echo", "-"]).succeeds();
}

#[test]
fn one_missing_path_among_several_is_a_problem_and_alone_an_error() {
    let cli = Cli::new();
    cli.run(&["backup", "nope"]).fails(1, &["nope"]);
    assert_eq!(cli.snapshots(), 0);
    cli.run(&["backup", "source", "nope"]).fails(3, &["nope"]);
    assert_eq!(cli.snapshots(), 1);
}

#[test]
fn the_repository_is_no_part_of_its_own_backup() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    let run = cli.run(&["backup", "."]).fails(0, &["repo was left out"]);
    assert!(run.out.contains("saved"));
    let list = cli.run(&["ls", "latest"]).succeeds().out;
    assert!(list.contains("/source/a") && !list.contains("/repo/"), "{list}");
}

#[test]
fn a_time_may_be_set() {
    let cli = Cli::new();
    cli.backup(&["--time", "2020-02-29 12:30:00"]);
    cli.run(&["snapshots"]).succeeds().tells("2020-02-29 12:30:00").tells("Timestamps shown in UTC");
    cli.backup(&["--time", "2020-03-01T00:00:00+02:00"]);
    cli.run(&["snapshots"]).succeeds().tells("2020-02-29 22:00:00");
}

#[test]
fn a_repository_that_cannot_be_written_is_a_clear_error() {
    let cli = Cli::new();
    cli.write("source/a", vec![1; 10_000]);
    if icecore_tests::privilege::is_root() {
        // Root may write anywhere, so the directory is made to belong to nobody who asks.
        cli.command_as_nobody(&["snapshots"]).run().succeeds();
    }
    for name in ["repo", "repo/sessions", "repo/packs", "repo/packs/d", "repo/packs/m"] {
        if cli.path(name).exists() {
            fs::set_permissions(cli.path(name), fs::Permissions::from_mode(0o500)).expect("a directory of ours");
        }
    }
    cli.command_as_nobody(&["backup", "source"]).run().fails(1, &["hint:", "owner and mode"]);
}
