//! The programs under `repo-core/examples` do what they say, and what readers are told to build on holds.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use icecore_tests::contract;

#[allow(dead_code)]
#[path = "../../repo-core/examples/embed_in_a_service.rs"]
mod embed_in_a_service;
#[allow(dead_code)]
#[path = "../../repo-core/examples/main_job.rs"]
mod main_job;
#[allow(dead_code)]
#[path = "../../repo-core/examples/not_a_directory.rs"]
mod not_a_directory;
#[allow(dead_code)]
#[path = "../../repo-core/examples/write_a_backend.rs"]
mod write_a_backend;

#[test]
fn a_service_awaits_watches_and_cancels() {
    embed_in_a_service::main().expect("it ends well");
}

#[test]
fn rows_of_a_table_are_backed_up() {
    not_a_directory::main().expect("it ends well");
}

#[test]
fn a_backend_of_the_readers_own_bears_a_repository() {
    write_a_backend::main().expect("it ends well");
}

#[test]
fn the_backend_that_readers_copy_keeps_every_promise() {
    let scratch = tempfile::tempdir().expect("scratch");
    let count = AtomicU32::new(0);
    contract::run(&|| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        write_a_backend::place(&scratch.path().join(format!("place-{number}")))
    });
}

#[test]
fn the_main_job_finds_no_difference_and_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().expect("scratch");
    let tree = scratch.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).expect("directories");
    fs::write(tree.join("a/empty"), "").expect("a file");
    fs::write(tree.join("a/b/text"), "some words\n".repeat(100_000)).expect("a file");
    fs::hard_link(tree.join("a/b/text"), tree.join("second name")).expect("a link");
    symlink("nowhere", tree.join("dangling")).expect("a symlink");
    assert_eq!(main_job::run(&tree).expect("it ends well"), [""; 0]);
    assert_eq!(main_job::run(&tree.join("a/b/text")).expect("of one file"), [""; 0]);
    let left: Vec<_> = fs::read_dir(scratch.path()).expect("a listing").flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, [tree]);
}

/// What the comparison must say, and what was done to the tree.
type Change = (&'static str, fn(&Path));

#[test]
fn the_main_jobs_comparison_sees_what_differs() {
    let changes: [Change; 7] = [
        ("is not in the restored tree", |tree| fs::remove_file(tree.join("text")).expect("removed")),
        ("only in the restored tree", |tree| fs::write(tree.join("more"), "").expect("written")),
        ("content differs", |tree| rewrite(&tree.join("text"), "wor!s")),
        ("size", |tree| rewrite(&tree.join("text"), "words and more")),
        ("mode", |tree| {
            fs::set_permissions(tree.join("text"), fs::Permissions::from_mode(0o600)).expect("a mode");
        }),
        ("mtime", |tree| {
            let file = fs::File::options().write(true).open(tree.join("text")).expect("a file");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
        }),
        ("hard links differ", |tree| {
            fs::remove_file(tree.join("second")).expect("removed");
            fs::copy(tree.join("text"), tree.join("second")).expect("copied");
            let modified = fs::metadata(tree.join("text")).and_then(|of| of.modified()).expect("a time");
            let copy = fs::File::options().write(true).open(tree.join("second")).expect("a file");
            copy.set_modified(modified).expect("a time");
        }),
    ];
    for (expected, change) in changes {
        let scratch = tempfile::tempdir().expect("scratch");
        let trees = ["left", "right"].map(|name| scratch.path().join(name));
        for tree in &trees {
            fs::create_dir(tree).expect("a directory");
            fs::write(tree.join("text"), "words").expect("a file");
            fs::set_permissions(tree.join("text"), fs::Permissions::from_mode(0o644)).expect("a mode");
            fs::hard_link(tree.join("text"), tree.join("second")).expect("a link");
            let file = fs::File::options().write(true).open(tree.join("text")).expect("a file");
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).expect("a time");
        }
        let compare = || {
            let nowhere = scratch.path().join("nowhere");
            let mut comparison = main_job::Comparison::new([&trees[0], &trees[1]], &nowhere, i64::MAX);
            comparison.compare().expect("both can be read");
            comparison.compare_links();
            comparison.differences.join("\n")
        };
        assert_eq!(compare(), "");
        change(&trees[1]);
        assert!(compare().contains(expected), "{expected}: {}", compare());
    }
}

/// Other content, the same time.
fn rewrite(path: &Path, content: &str) {
    let modified = fs::metadata(path).and_then(|of| of.modified()).expect("a time");
    fs::write(path, content).expect("written");
    fs::File::options().write(true).open(path).and_then(|file| file.set_modified(modified)).expect("a time");
}
