//! What was moved since the parent is not read again, and what only looks like it is. What a source was asked for is
//! counted by the source (`icecore_tests::counting`), and what was stored is restored and compared each time.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use icecore_tests::bench::{Bench, options, published};
use icecore_tests::compare::assert_same;
use icecore_tests::counting::{CountingSource, Readings};
use icecore_tests::privilege;
use icecore_tests::tree::{self, Dice};
use repo_core::{
    Action, BackupOptions, BackupReport, Event, LocalTree, LocalTreeOptions, Mode, Progress, Silent, Streams,
};

/// What a file of these tests holds: more than the search for it costs in so small a tree.
const FILE_BYTES: u64 = 20_000;

/// Writes files of different content into a directory of the source.
fn fill(bench: &Bench, directory: &str, names: &[&str], seed: u64) {
    let mut dice = Dice::new(seed);
    for name in names {
        bench.write(&format!("{directory}/{name}"), dice.bytes(FILE_BYTES));
    }
}

fn rename(bench: &Bench, from: &str, to: &str) {
    let (from, to) = (bench.source().join(from), bench.source().join(to));
    fs::create_dir_all(to.parent().expect("a file lies in a directory")).expect("directories can be made");
    fs::rename(from, to).expect("the file system renames");
}

fn default_options() -> BackupOptions {
    options(Mode::Incremental)
}

/// Backs up with all ctimes told an hour older, so that files are trusted at once; restores and compares.
fn backup(bench: &Bench, options: &BackupOptions) -> (BackupReport, Readings) {
    let source = CountingSource::aged(bench.local_tree(), 3600).numbers_last(true);
    let report = bench.open().backup(&source, options, &Silent).expect("a backup is made");
    assert_eq!(report.summary.problems, 0);
    let restored = bench.restore(published(&report));
    assert_same(&bench.source(), &restored.tree, restored.compared);
    (report, source.readings())
}

/// Sets the time of modification to what it is in all files of a test that should look alike.
fn set_mtime(path: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let file = File::options().write(true).open(path).expect("the file is there");
    file.set_times(FileTimes::new().set_modified(time)).expect("times can be set");
}

#[test]
fn a_renamed_directory_is_not_read_again_however_deep_its_files_lie() {
    let bench = Bench::new();
    fill(&bench, "old", &["a", "b"], 1);
    fill(&bench, "old/below/further", &["c", "d"], 2);
    std::os::unix::fs::symlink("a", bench.source().join("old/link")).expect("links can be made");
    let (first, _) = backup(&bench, &default_options());
    rename(&bench, "old", "elsewhere/new");
    let (second, readings) = backup(&bench, &default_options());
    assert_eq!((readings.opened(), readings.bytes()), (vec![], 0));
    let summary = second.summary;
    assert_eq!((summary.files_new, summary.read_bytes), (4, 0), "new under their paths, and nothing of them was read");
    assert_eq!((summary.files_changed, summary.files_unmodified), (0, 0));
    assert_eq!((summary.data_chunks, summary.processed_bytes), (0, first.summary.processed_bytes));
    // Their ctimes tell that attributes are as they were, but for what was renamed itself, and what is new above it.
    let asked_at_most = 2 + second.summary.directories_changed;
    assert!(readings.details <= asked_at_most, "{} times, and not of what lies below", readings.details);
    let (third, readings) = backup(&bench, &default_options());
    assert_eq!((third.summary.files_unmodified, readings.bytes()), (4, 0), "then they are known where they are");
}

#[test]
fn a_renamed_directory_that_streams_are_put_into_is_not_read_again_either() {
    let bench = Bench::in_memory();
    fill(&bench, "old", &["a", "b"], 1);
    let back_up = || {
        let tree = CountingSource::aged(bench.local_tree(), 3600).numbers_last(true);
        let streams = Streams::new().add(&bench.source().join("new/dump"), &b"dump"[..]).expect("a name");
        let source = streams.beside(tree).expect("the name is free");
        bench.open().backup(&source, &default_options(), &Silent).expect("a backup is made").summary
    };
    assert_eq!(back_up().read_bytes, 2 * FILE_BYTES + 4);
    rename(&bench, "old", "new");
    assert_eq!(back_up().read_bytes, 4, "the stream alone");
}

#[test]
fn a_full_backup_reads_what_was_moved_as_everything_else() {
    let bench = Bench::in_memory();
    fill(&bench, "old", &["a", "b"], 1);
    backup(&bench, &default_options());
    rename(&bench, "old", "new");
    let (_, readings) = backup(&bench, &options(Mode::Full));
    assert_eq!(readings.bytes(), 2 * FILE_BYTES);
}

#[test]
fn the_search_begins_when_what_was_read_is_worth_the_tree_of_the_parent_and_not_before() {
    let bench = Bench::in_memory();
    let names: Vec<String> = (0..400).map(|number| format!("{number:03}")).collect();
    for name in &names {
        bench.write(&format!("many/{name}"), name);
        bench.write(&format!("old/{name}"), name);
    }
    let (first, _) = backup(&bench, &default_options());
    rename(&bench, "old", "new");
    let (_, readings) = backup(&bench, &default_options());
    let read = readings.opened();
    // A hundred bytes an entry, and 4 KiB for each file that is opened.
    let worth = first.snapshot.expect("published").record().root.entries * 100 / 4096;
    assert!((worth - 1..=worth + 1).contains(&(read.len() as u64)), "{} files were read, not {worth}", read.len());
    assert_eq!(read, names[..read.len()], "the first of the directory that was met already when the search began");
}

#[test]
fn of_a_renamed_directory_what_was_changed_added_or_renamed_itself_is_read() {
    let bench = Bench::in_memory();
    fill(&bench, "old/below", &["changed", "replaced", "renamed", "same"], 1);
    backup(&bench, &default_options());
    rename(&bench, "old", "new");
    fill(&bench, "new/below", &["changed", "added"], 2);
    rename(&bench, "new/below/renamed", "new/below/renamed-too");
    fs::remove_file(bench.source().join("new/below/replaced")).expect("it was there");
    fill(&bench, "new/below", &["replaced"], 3);
    let (_, readings) = backup(&bench, &default_options());
    assert_eq!(readings.opened(), ["added", "changed", "renamed-too", "replaced"]);
}

#[test]
fn a_directory_made_in_the_old_place_of_a_renamed_one_is_read_and_the_renamed_one_is_not() {
    let bench = Bench::in_memory();
    fill(&bench, "data", &["one", "two"], 1);
    for name in ["one", "two"] {
        set_mtime(&bench.source().join("data").join(name));
    }
    backup(&bench, &default_options());
    rename(&bench, "data", "data.old");
    // The same names, sizes and times of modification, and other content.
    fill(&bench, "data", &["one", "two"], 2);
    for name in ["one", "two"] {
        set_mtime(&bench.source().join("data").join(name));
    }
    let (report, readings) = backup(&bench, &default_options());
    let opened: Vec<_> = readings.files.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(opened.len(), 2, "{opened:?}");
    assert!(opened.iter().all(|path| path.contains("/data/")), "{opened:?}");
    assert_eq!((report.summary.files_changed, report.summary.files_new), (2, 2));
}

#[test]
fn two_directories_swapped_are_not_read_and_neither_gets_the_others_files() {
    let bench = Bench::in_memory();
    fill(&bench, "a/x", &["one", "two"], 1);
    fill(&bench, "b/x", &["one", "two"], 2);
    let (_, _) = backup(&bench, &default_options());
    for (from, to) in [("a", "c"), ("b", "a"), ("c", "b")] {
        rename(&bench, from, to);
    }
    let (report, readings) = backup(&bench, &default_options());
    assert_eq!(readings.bytes(), 0);
    assert_eq!((report.summary.files_changed, report.summary.files_new), (4, 0), "under their paths is something else");
}

#[test]
fn a_file_moved_by_itself_is_read_unless_its_ctime_is_to_be_ignored() {
    let bench = Bench::in_memory();
    fill(&bench, "from", &["file", "other"], 1);
    for name in ["from/file", "from/other"] {
        set_mtime(&bench.source().join(name));
    }
    backup(&bench, &default_options());
    rename(&bench, "from/file", "to/name");
    let (_, readings) = backup(&bench, &default_options());
    assert_eq!(readings.opened(), ["name"], "its ctime is another, as after a change");
    rename(&bench, "to/name", "to/again");
    let (report, readings) = backup(&bench, &default_options().ignore_ctime());
    assert_eq!((readings.bytes(), report.summary.files_new), (0, 1));
}

#[test]
fn two_files_swapped_come_back_as_they_are_also_if_all_but_their_inodes_is_alike() {
    for without_ctime in [false, true] {
        let bench = Bench::in_memory();
        fill(&bench, "d", &["a", "b"], 1);
        for name in ["d/a", "d/b"] {
            set_mtime(&bench.source().join(name));
        }
        let options = if without_ctime { default_options().ignore_ctime() } else { default_options() };
        backup(&bench, &options);
        for (from, to) in [("d/a", "d/c"), ("d/b", "d/a"), ("d/c", "d/b")] {
            rename(&bench, from, to);
        }
        let (report, readings) = backup(&bench, &options);
        assert_eq!(readings.bytes(), if without_ctime { 0 } else { 2 * FILE_BYTES });
        assert_eq!(report.summary.files_changed, 2);
    }
}

#[test]
fn a_new_file_that_got_the_inode_of_a_deleted_one_is_read_also_without_its_ctime() {
    let bench = Bench::in_memory();
    fill(&bench, "d", &["gone", "stays"], 1);
    set_mtime(&bench.source().join("d/gone"));
    let inode = fs::metadata(bench.source().join("d/gone")).expect("it is there").ino();
    let options = default_options().ignore_ctime();
    backup(&bench, &options);
    fs::remove_file(bench.source().join("d/gone")).expect("it was there");
    let found = (0..200).map(|number| format!("try-{number}")).find(|name| {
        fill(&bench, "e", &[name], 2);
        fs::metadata(bench.source().join("e").join(name)).expect("it was written").ino() == inode
    });
    let Some(name) = found else {
        return privilege::skip("an inode given again", "this file system gave another each time");
    };
    set_mtime(&bench.source().join("e").join(&name));
    let (_, readings) = backup(&bench, &options);
    assert!(readings.opened().contains(&name), "same size, inode and mtime, and another file");
}

#[test]
fn names_of_one_file_stay_names_of_one_file_in_a_renamed_directory() {
    let bench = Bench::in_memory();
    fill(&bench, "old", &["one"], 1);
    fs::create_dir(bench.source().join("old/below")).expect("a directory");
    fs::hard_link(bench.source().join("old/one"), bench.source().join("old/below/two")).expect("a hard link");
    backup(&bench, &default_options());
    rename(&bench, "old", "new");
    let (_, readings) = backup(&bench, &default_options());
    assert_eq!(readings.bytes(), 0);
    // A further name changes the ctime of them all: the file is read, and comes back as one.
    fs::hard_link(bench.source().join("new/one"), bench.source().join("three")).expect("a hard link");
    let (_, readings) = backup(&bench, &default_options());
    assert_eq!(readings.bytes(), 3 * FILE_BYTES);
}

#[test]
fn what_is_mounted_at_a_second_place_is_known_from_the_first() {
    let bench = Bench::in_memory();
    fill(&bench, "data/below", &["a", "b"], 1);
    fs::create_dir(bench.source().join("mounted")).expect("a directory");
    backup(&bench, &default_options());
    let (from, to) = (bench.source().join("data"), bench.source().join("mounted"));
    let _mount = match Mount::bind(&from, &to) {
        Some(mount) => mount,
        None => return privilege::skip("a bind mount", "this user may not mount"),
    };
    let source = CountingSource::aged(bench.local_tree(), 3600).numbers_last(true);
    let report = bench.backup_from(&source, Mode::Incremental);
    assert_eq!((source.readings().bytes(), report.summary.files_new), (0, 2));
}

/// A mount that ends with the test.
struct Mount<'p>(&'p Path);

impl<'p> Mount<'p> {
    fn bind(from: &Path, to: &'p Path) -> Option<Self> {
        let done = Command::new("mount").arg("--bind").args([from, to]).status();
        done.is_ok_and(|status| status.success()).then_some(Self(to))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0).status().ok();
    }
}

#[test]
fn numbers_of_a_file_system_that_makes_them_up_are_not_believed() {
    let bench = Bench::in_memory();
    fill(&bench, "old", &["a", "b"], 1);
    backup(&bench, &default_options());
    rename(&bench, "old", "new");
    let source = CountingSource::aged(bench.local_tree(), 3600).numbers_last(false);
    bench.backup_from(&source, Mode::Incremental);
    assert_eq!(source.readings().bytes(), 2 * FILE_BYTES);
    rename(&bench, "new", "newer");
    let (_, readings) = backup(&bench, &default_options().ignore_inode());
    assert_eq!(readings.bytes(), 2 * FILE_BYTES, "nor those that were to be ignored");
}

#[test]
fn a_file_too_young_to_be_trusted_is_not_trusted_under_another_path() {
    let bench = Bench::in_memory();
    fill(&bench, "old", &["a", "b"], 1);
    let source = || CountingSource::new(bench.local_tree()).numbers_last(true);
    bench.backup_from(&source(), Mode::Incremental);
    rename(&bench, "old", "new");
    let again = source();
    bench.backup_from(&again, Mode::Incremental);
    assert_eq!(again.readings().bytes(), 2 * FILE_BYTES);
}

#[test]
fn moved_directories_are_found_on_the_file_systems_of_this_machine() {
    for place in [std::env::temp_dir(), tree::memory_place()] {
        let bench = Bench::within(&place);
        fill(&bench, "old", &["a", "b"], 1);
        let source = || CountingSource::aged(bench.local_tree(), 3600);
        bench.backup_from(&source(), Mode::Incremental);
        rename(&bench, "old", "new");
        let again = source();
        bench.backup_from(&again, Mode::Incremental);
        let is_born = fs::metadata(bench.source()).expect("it is there").created().is_ok();
        let found = Command::new("stat").args(["-f", "-c", "%T"]).arg(bench.source()).output().expect("stat runs");
        let kind = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        match is_born && ["ext2/ext3", "xfs", "btrfs", "tmpfs"].contains(&kind.as_str()) {
            true => assert_eq!(again.readings().bytes(), 0, "on {kind}"),
            false => privilege::skip("moved directories", &format!("{kind} at {} keeps no numbers", place.display())),
        }
    }
}

#[test]
fn a_directory_that_another_path_given_leads_to_is_known_by_the_parent_that_is_named() {
    let bench = Bench::in_memory();
    fill(&bench, "here/data", &["a", "b"], 1);
    let (first, _) = backup(&bench, &default_options());
    rename(&bench, "here/data", "data");
    let tree = LocalTree::new(&[bench.source().join("data")], LocalTreeOptions::default()).expect("it is there");
    let source = CountingSource::aged(tree, 3600).numbers_last(true);
    bench.backup_from(&source, Mode::Parent(published(&first).id()));
    assert_eq!(source.readings().bytes(), 0);
}

/// Adds up what a backup tells of its way.
#[derive(Default)]
struct Sums {
    bytes: AtomicU64,
    new: AtomicU64,
}

impl Progress for Sums {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Bytes { count } => _ = self.bytes.fetch_add(count, Relaxed),
            Event::Done { action, bytes, .. } => {
                self.new.fetch_add((action == Action::New).into(), Relaxed);
                let unread = if action == Action::Unchanged { bytes } else { 0 };
                self.bytes.fetch_add(unread, Relaxed);
            }
            _ => {}
        }
    }
}

#[test]
fn what_a_backup_tells_of_its_way_adds_up_with_moved_files_too() {
    let bench = Bench::in_memory();
    fill(&bench, "old", &["a", "b"], 1);
    fill(&bench, "stays", &["c"], 2);
    backup(&bench, &default_options());
    rename(&bench, "old", "new");
    let sums = Sums::default();
    let source = CountingSource::aged(bench.local_tree(), 3600).numbers_last(true);
    let report = bench.open().backup(&source, &default_options(), &sums).expect("a backup is made");
    assert_eq!(source.readings().bytes(), 0);
    assert_eq!(sums.bytes.load(Relaxed), report.summary.processed_bytes);
    assert_eq!(sums.new.load(Relaxed), 3, "two files and their directory");
}
