//! `backup --as-path`: a path is stored as if it lay elsewhere, in every respect; and what cannot be is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use icecore_tests::cli::{Cli, Runs};
use serde_json::Value;

fn summary(cli: &Cli, arguments: &[&str]) -> Value {
    cli.json(&[&["backup"], arguments].concat()).pop().expect("a summary")
}

fn paths(cli: &Cli, of: &str) -> Vec<String> {
    let listed = cli.run(&["ls", "latest", "--recursive", of]).succeeds().out;
    listed.lines().filter(|line| line.starts_with('/')).map(str::to_owned).collect()
}

#[test]
fn a_directory_is_stored_as_if_it_lay_at_the_path_given() {
    let cli = Cli::new();
    cli.write("mnt/volume/index.html", "hello");
    cli.write("mnt/volume/deep/er/page", "more");
    summary(&cli, &["--as-path", "/icecore-none/such/www", "mnt/volume"]);
    let snapshots = cli.json(&["snapshots", "latest"]);
    assert_eq!(snapshots[0][0]["paths"], serde_json::json!(["/icecore-none/such/www"]));
    let www = "/icecore-none/such/www";
    let below = ["", "/deep", "/deep/er", "/deep/er/page", "/index.html"].map(|name| format!("{www}{name}"));
    assert_eq!(paths(&cli, "/"), [&["/icecore-none".to_owned(), "/icecore-none/such".to_owned()], &below[..]].concat());
    cli.run(&["restore", "latest:/icecore-none/such/www", "-t", "back", "--verify"]).succeeds();
    assert_eq!(cli.read("back/deep/er/page"), b"more");
    // What is made up is the same each time.
    let again = summary(&cli, &["--as-path", "/icecore-none/./such//www/", "mnt/volume", "--skip-if-unchanged"]);
    assert_eq!(again["snapshot_id"], Value::Null, "{again}");
}

#[test]
fn a_file_can_be_stored_as_another_and_a_directory_as_the_top() {
    let cli = Cli::new();
    cli.write("mnt/volume/a", "one");
    cli.write("mnt/volume/b/c", "two");
    summary(&cli, &["--as-path", "/icecore-file", "mnt/volume/a"]);
    assert_eq!(cli.run(&["dump", "latest", "/icecore-file"]).succeeds().out, "one");
    summary(&cli, &["--as-path", "/", "mnt/volume"]);
    assert_eq!(paths(&cli, "/"), ["/a", "/b", "/b/c"]);
    assert_eq!(cli.json(&["snapshots", "latest"])[0][0]["paths"], serde_json::json!(["/"]));
    let here = cli.command(&["backup", "--as-path", "/icecore-here", "."]).current_dir(cli.path("mnt")).run();
    here.succeeds();
    assert_eq!(cli.run(&["dump", "latest", "/icecore-here/volume/b/c"]).succeeds().out, "two");
    cli.run(&["backup", "--as-path", "/", "mnt/volume/a"]).fails(1, &["mnt/volume/a"]);
}

#[test]
fn patterns_are_held_against_paths_as_they_are_stored() {
    let cli = Cli::new();
    cli.write("mnt/volume/keep", "x");
    cli.write("mnt/volume/skip", "x");
    let real = cli.path("mnt/volume/keep");
    let real = real.to_str().expect("a path of ours");
    let excludes = ["--exclude", "/icecore-none/www/skip", "--exclude", real];
    summary(&cli, &[&["--as-path", "/icecore-none/www", "mnt/volume"], &excludes[..]].concat());
    assert_eq!(paths(&cli, "/icecore-none/www"), ["/icecore-none/www", "/icecore-none/www/keep"]);
}

#[test]
fn files_are_unchanged_wherever_they_are_mounted_this_time() {
    let cli = Cli::new();
    // Files of a while ago, reached by two ways, as two snapshots of one volume are.
    let old = Path::new(env!("CARGO_MANIFEST_DIR"));
    for mount in ["monday", "tuesday"] {
        symlink(old, cli.path(mount)).expect("a link in our room");
    }
    let first = summary(&cli, &["--as-path", "/srv/www", "monday/src"]);
    let second = summary(&cli, &["--as-path", "/srv/www", "tuesday/src"]);
    assert!(first["files_new"].as_u64().is_some_and(|files| files > 5), "{first}");
    assert_eq!(second["files_unmodified"], first["files_new"], "{second}");
    assert_eq!((&second["files_new"], &second["files_changed"]), (&0.into(), &0.into()));
}

#[test]
fn it_belongs_with_backups_of_that_path_and_directories_on_the_way_are_those_of_this_machine() {
    let cli = Cli::new();
    cli.write("real/www/page", "x");
    fs::set_permissions(cli.path("real"), fs::Permissions::from_mode(0o710)).expect("a directory of ours");
    let www = cli.path("real/www");
    let www = www.to_str().expect("a path of ours");
    let first = summary(&cli, &[www])["snapshot_id"].as_str().expect("a snapshot").to_owned();
    fs::rename(cli.path("real/www"), cli.path("elsewhere")).expect("within our room");
    cli.run(&["backup", "--as-path", www, "elsewhere"])
        .succeeds()
        .tells(&format!("compared with snapshot {}", &first[..8]));
    cli.run(&["restore", "latest", "-t", "back"]).succeeds();
    let real = cli.path("back").join(cli.path("real").strip_prefix("/").expect("absolute"));
    assert_eq!(fs::metadata(&real).expect("it was restored").permissions().mode() & 0o7777, 0o710);
    assert_eq!(fs::read(real.join("www/page")).expect("it was restored"), b"x");
}

#[test]
fn rules_of_git_count_where_the_directory_lies() {
    let cli = Cli::new();
    cli.write("repo/.git/HEAD", "ref: refs/heads/main\n");
    cli.write("repo/.gitignore", "/sub/*.o\n");
    cli.write("repo/sub/a.o", "x");
    cli.write("repo/sub/a.c", "x");
    summary(&cli, &["--git-ignore", "--as-path", "/icecore-none/other", "repo/sub"]);
    assert_eq!(paths(&cli, "/icecore-none/other"), ["/icecore-none/other", "/icecore-none/other/a.c"]);
}

#[test]
fn what_cannot_be_stored_as_another_is_refused() {
    let cli = Cli::new();
    cli.write("source/a", "x");
    for (arguments, told) in [
        (&["--as-path", "/x", "source", "key"][..], "one backup for each path"),
        (&["--as-path", "srv/www", "source"], "must be absolute"),
        (&["--as-path", "/srv/../www", "source"], "without .."),
        (&["--as-path", "/x", "--stdin"], "--stdin-filename"),
        (&["--as-path", "/x", "--stdin-from-command", "true"], "--stdin-filename"),
        (&["--as-path", "/x", "missing"], "No such file"),
        (&["--as-path", "/x"], "nothing to back up"),
    ] {
        cli.run(&[&["backup"], arguments].concat()).fails(1, &[told]);
    }
    assert_eq!(cli.snapshots(), 0);
}
