//! What goes in comes out: random trees and one of everything that must not be lost, by content and by metadata, as
//! root and as nobody, on disk and in memory; what a backup reads is what its mode says; and what was stored once is
//! not stored again, wherever it comes from.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use icecore_tests::bench::{Bench, options, published};
use icecore_tests::compare::{assert_same, differences, portrait};
use icecore_tests::counting::CountingSource;
use icecore_tests::privilege;
use icecore_tests::tree::{self, Dice, Planned, Planner, edit};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use repo_core::{Action, Event, LineageRecord, Listed, Mode, Prefix, Progress, ReaderSource, Selector, SnapshotFilter};

/// Sizes of the default format at which something changes: least, mean and largest chunk, and a frame.
const BORDERS: [u64; 4] = [32 << 10, 128 << 10, 512 << 10, 1 << 20];

fn planner(bench: &Bench) -> Planner {
    Planner::new(bench.path(), &BORDERS)
}

/// Backs up, checks every byte, restores, compares.
fn comes_back(bench: &Bench, planned: &Planned) {
    bench.grow(planned);
    let report = bench.backup();
    bench.check_is_clean();
    let restored = bench.restore(published(&report));
    assert_same(&bench.source(), &restored.tree, restored.compared);
}

#[test]
fn everything_comes_back_on_disk() {
    let bench = Bench::new();
    comes_back(&bench, &planner(&bench).everything());
}

#[test]
fn everything_comes_back_in_a_file_system_in_memory() {
    let bench = Bench::within(&tree::memory_place());
    comes_back(&bench, &planner(&bench).everything());
}

#[test]
fn everything_comes_back_from_a_repository_in_memory() {
    let bench = Bench::in_memory();
    comes_back(&bench, &planner(&bench).everything());
}

#[test]
fn everything_comes_back_for_nobody() {
    if privilege::runs_again_as_nobody("everything_comes_back_for_nobody") {
        return;
    }
    let bench = Bench::new();
    comes_back(&bench, &planner(&bench).everything());
}

/// Random trees, each backed up, edited, and backed up again: both snapshots come back, the first as it was.
fn random_trees_come_back(cases: u32, bench: impl Fn() -> Bench) {
    let strategy = planner(&bench()).strategy();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let trial = |(planned, seed): (Planned, u64)| {
        let bench = bench();
        bench.grow(&planned);
        let before = portrait(&bench.source()).expect("a tree can be looked at");
        let first = bench.backup();
        // What is edited must be editable; what the edit does to flags is part of it.
        tree::soften(&bench.source());
        let edits = edit(&bench.source(), seed, 6);
        let second = bench.backup();
        bench.check_is_clean();
        let restored = bench.restore(published(&first));
        let after = portrait(&restored.tree).expect("a tree can be looked at");
        prop_assert_eq!(before.differences(&after, restored.compared), Vec::<String>::new());
        let restored = bench.restore(published(&second));
        let differences = differences(&bench.source(), &restored.tree, restored.compared);
        prop_assert_eq!(differences, Vec::<String>::new(), "after {:?}", edits);
        Ok(())
    };
    let outcome = TestRunner::new(config).run(&(strategy, any::<u64>()), trial);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn random_trees_come_back_on_disk() {
    random_trees_come_back(8, Bench::new);
}

#[test]
fn random_trees_come_back_in_a_file_system_in_memory() {
    random_trees_come_back(24, || Bench::within(&tree::memory_place()));
}

#[test]
fn random_trees_come_back_from_a_repository_in_memory() {
    random_trees_come_back(24, Bench::in_memory);
}

#[test]
fn random_trees_come_back_for_nobody() {
    if privilege::runs_again_as_nobody("random_trees_come_back_for_nobody") {
        return;
    }
    random_trees_come_back(12, Bench::in_memory);
}

#[test]
fn an_incremental_backup_reads_what_changed_since_the_newest_snapshot_and_nothing_else() {
    let bench = Bench::in_memory();
    let mut dice = Dice::new(1);
    let large = dice.bytes(3 << 20);
    for name in ["small", "deep/down/small"] {
        bench.write(name, dice.bytes(3000));
    }
    bench.write("large", &large);

    let (first, read) = bench.backup_counting(Mode::Incremental);
    assert_eq!(published(&first).record().lineage, LineageRecord::Full, "there is nothing to compare with");
    assert_eq!(read.opened(), ["small", "large", "small"]);
    assert_eq!(read.bytes(), 6000 + (3 << 20), "every byte once");

    let (second, read) = bench.backup_counting(Mode::Incremental);
    assert_eq!(published(&second).record().lineage, LineageRecord::Incremental { parent: published(&first).id() });
    assert_eq!((read.opened(), read.bytes()), (vec![], 0), "nothing changed, nothing is opened");

    bench.write("deep/down/small", dice.bytes(3000));
    bench.write("new", dice.bytes(10));
    let (third, read) = bench.backup_counting(Mode::Incremental);
    assert_eq!(published(&third).record().lineage, LineageRecord::Incremental { parent: published(&second).id() });
    assert_eq!((read.opened(), read.bytes()), (vec!["small".to_owned(), "new".to_owned()], 3010));
}

#[test]
fn a_differential_backup_reads_again_what_changed_after_the_last_full_and_an_incremental_does_not() {
    let bench = Bench::in_memory();
    let mut dice = Dice::new(2);
    bench.write("never changed", dice.bytes(100_000));
    bench.write("changed once", dice.bytes(100_000));
    let (full, _) = bench.backup_counting(Mode::Full);
    bench.write("changed once", dice.bytes(100_000));
    let (_, read) = bench.backup_counting(Mode::Incremental);
    assert_eq!(read.opened(), ["changed once"]);

    let (differential, read) = bench.backup_counting(Mode::Differential);
    assert_eq!((read.opened(), read.bytes()), (vec!["changed once".to_owned()], 100_000));
    assert_eq!(published(&differential).record().lineage, LineageRecord::Differential { base: published(&full).id() });
    let (_, read) = bench.backup_counting(Mode::Differential);
    assert_eq!(read.opened(), ["changed once"], "again, for the base is the same");
    let (_, read) = bench.backup_counting(Mode::Incremental);
    assert_eq!(read.opened(), Vec::<String>::new());
}

#[test]
fn a_full_backup_reads_every_byte_and_stores_none_again() {
    let bench = Bench::in_memory();
    let mut dice = Dice::new(3);
    (0..10).for_each(|number| bench.write(&format!("file {number}"), dice.bytes(50_000 * number)));
    let (_, first) = bench.backup_counting(Mode::Incremental);
    let stored = stored_bytes(&bench);
    let (report, second) = bench.backup_counting(Mode::Full);
    assert_eq!(published(&report).record().lineage, LineageRecord::Full);
    assert_eq!(second, first);
    assert_eq!(second.bytes(), 50_000 * 45);
    assert!(stored_bytes(&bench) - stored < 64 << 10, "a snapshot, and no content");
}

#[test]
fn a_file_that_only_its_ctime_tells_was_changed_is_read_again() {
    let bench = Bench::in_memory();
    bench.write("file", vec![1; 5000]);
    bench.backup_counting(Mode::Incremental);
    let path = bench.source().join("file");
    let file = OpenOptions::new().write(true).open(&path).expect("a file of ours");
    let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("it has a date");
    file.write_all_at(&[2], 2500).expect("it can be written");
    file.set_modified(modified).expect("its date comes back");
    let (report, read) = bench.backup_counting(Mode::Incremental);
    assert_eq!(read.opened(), ["file"]);
    let restored = bench.restore(published(&report));
    assert_same(&bench.source(), &restored.tree, restored.compared);
}

#[test]
fn a_ctime_less_than_two_seconds_before_the_reading_is_not_trusted() {
    let bench = Bench::in_memory();
    // The machine may be slow: tried again until the first backup did begin within two seconds of the told ctime.
    for attempt in 0..20 {
        let name = format!("attempt {attempt}");
        bench.write(&name, "written a moment ago");
        let written_ns = i128::from(
            fs::metadata(bench.source().join(&name)).map(|metadata| ctime_ns(&metadata)).expect("it was written"),
        );
        let told = |seconds| CountingSource::aged(bench.local_tree(), seconds);
        let report = bench.backup_from(&told(1), Mode::Incremental);
        let started_ns = i128::from(published(&report).id().started_ms()) * 1_000_000;
        let told_age_ns = started_ns - (written_ns - 1_000_000_000);
        if told_age_ns > 1_900_000_000 {
            continue;
        }
        let again = told(1);
        bench.backup_from(&again, Mode::Incremental);
        assert!(again.readings().opened().contains(&name), "a ctime {told_age_ns} ns before the reading was trusted");
        return;
    }
    panic!("twenty times it took a second from writing a file to reading it");
}

fn ctime_ns(metadata: &fs::Metadata) -> i64 {
    metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec()
}

#[test]
fn one_byte_at_the_head_of_64_mib_adds_less_than_one() {
    let bench = Bench::in_memory();
    let mut content = Dice::new(4).bytes(64 << 20);
    bench.write("file", &content);
    bench.backup();
    let before = stored_bytes(&bench);
    assert!(before > 64 << 20, "random bytes do not compress");
    content.insert(0, 7);
    bench.write("file", &content);
    let report = bench.backup();
    let added = stored_bytes(&bench) - before;
    assert!(added < 1 << 20, "{added} bytes were added");
    let restored = bench.restore(published(&report));
    assert_same(&bench.source(), &restored.tree, restored.compared);
}

#[test]
fn the_same_bytes_are_stored_once_from_a_file_from_a_stream_and_shifted_inside_an_archive() {
    const LENGTH: u64 = 24 << 20;
    let bench = Bench::in_memory();
    let content = Dice::new(5).bytes(LENGTH);
    bench.write("file", &content);
    bench.backup();
    let mut before = stored_bytes(&bench);
    let mut adds_little = |what: &str| {
        let now = stored_bytes(&bench);
        let added = now - before;
        before = now;
        assert!(added * 100 < LENGTH * 5, "{what} added {added} bytes of {LENGTH}");
    };

    // A reader that gives odd portions, as pipes do.
    let stream =
        |bytes: Vec<u8>| ReaderSource::new(Path::new("/stdin"), Portions(io::Cursor::new(bytes), Dice::new(6)));
    let report = bench.backup_from(&stream(content.clone()), Mode::Incremental);
    adds_little("the same as a stream");
    assert_eq!(read_back(&bench, &report, b"/stdin"), content);

    // As tar does it: a header of 512 bytes, other files before, padding behind.
    let mut archive = Dice::new(7).text(512 + 1536 + 512);
    archive.extend_from_slice(&content);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    let report = bench.backup_from(&stream(archive.clone()), Mode::Incremental);
    adds_little("the same inside an archive");
    assert_eq!(read_back(&bench, &report, b"/stdin"), archive);
}

/// Gives between 1 and 70,000 bytes at a time.
struct Portions(io::Cursor<Vec<u8>>, Dice);

impl Read for Portions {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let portion = (1 + self.1.below(70_000) as usize).min(buffer.len());
        self.0.read(&mut buffer[..portion])
    }
}

fn read_back(bench: &Bench, report: &repo_core::BackupReport, path: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut file = bench.open().read(published(report), path).expect("the file is in the snapshot");
    file.read_to_end(&mut content).expect("the file is read");
    content
}

#[test]
fn a_snapshot_is_found_again_by_its_id_and_as_the_latest() {
    let bench = Bench::new();
    bench.write("file", "first");
    let first = bench.backup();
    bench.write("file", "second");
    let second = bench.backup();
    let find = |selector: Selector| bench.open().snapshot(&selector, &SnapshotFilter::default()).expect("it is there");
    assert_eq!(find(Selector::Latest { back: 0 }).id(), published(&second).id());
    assert_eq!(find(Selector::Latest { back: 1 }).id(), published(&first).id());
    assert_eq!(find(Selector::Id(published(&first).id().short())).id(), published(&first).id());
}

#[test]
fn a_tree_that_changed_kind_everywhere_comes_back_both_ways() {
    let bench = Bench::new();
    bench.write("was file/x", "x");
    bench.write("was directory", "y");
    let first = bench.backup();
    let before = portrait(&bench.source()).expect("a tree can be looked at");
    fs::remove_dir_all(bench.source()).expect("removed");
    bench.write("was directory/z", "z");
    bench.write("was file", "w");
    let second = bench.backup();
    let restored = bench.restore(published(&second));
    assert_same(&bench.source(), &restored.tree, restored.compared);
    // The root was made anew and dated anew between the two.
    let restored = bench.restore(published(&first));
    let after = portrait(&restored.tree).expect("a tree can be looked at");
    assert_eq!(before.differences(&after, restored.compared), Vec::<String>::new());
}

#[test]
fn two_backups_with_the_same_options_differ_only_where_the_keys_do() {
    let bench = Bench::in_memory();
    bench.grow(&planner(&bench).from_seed(21));
    let repository = bench.open();
    let mut options = options(Mode::Full);
    options.time_ns = Some(1_700_000_000_000_000_000);
    let heard = icecore_tests::bench::Ears::default();
    let report = |_| repository.backup(&bench.local_tree(), &options, &heard).expect("a backup is made");
    let [first, second] = [0, 1].map(report);
    assert_eq!(published(&first).record().root, published(&second).record().root);
    assert_eq!(published(&first).record().end_ns, 1_700_000_000_000_000_000);
}

/// Adds up what a backup tells of its way.
#[derive(Default)]
struct Sums {
    entries: AtomicU64,
    bytes: AtomicU64,
    total_entries: AtomicU64,
    total_bytes: AtomicU64,
}

impl Sums {
    /// Entries done, their bytes, and both as they were foretold.
    fn told(&self) -> [u64; 4] {
        [&self.entries, &self.bytes, &self.total_entries, &self.total_bytes].map(|sum| sum.load(Relaxed))
    }
}

impl Progress for Sums {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Total { files, bytes } => {
                self.total_entries.store(files, Relaxed);
                self.total_bytes.store(bytes, Relaxed);
            }
            Event::Bytes { count } => _ = self.bytes.fetch_add(count, Relaxed),
            Event::Done { action, bytes, .. } => {
                self.entries.fetch_add(1, Relaxed);
                let unread = if action == Action::Unchanged { bytes } else { 0 };
                self.bytes.fetch_add(unread, Relaxed);
            }
            _ => {}
        }
    }
}

#[test]
fn what_a_backup_tells_of_its_way_adds_up_to_the_whole_holes_and_directories_too() {
    let bench = Bench::in_memory();
    bench.write("below/small", [7; 1000]);
    let sparse = fs::File::create(bench.source().join("sparse")).expect("a file can be written");
    sparse.set_len(64 << 20).expect("a file can be written");
    sparse.write_all_at(&[9; 100_000], 40 << 20).expect("a file can be written");
    let tell = || {
        let sums = Sums::default();
        let source = CountingSource::aged(bench.local_tree(), 3600);
        let report = bench.open().backup(&source, &options(Mode::Incremental), &sums).expect("a backup is made");
        (published(&report).record().root, sums.told())
    };
    let (root, told) = tell();
    assert_eq!(root.bytes, 1000 + (64 << 20));
    assert_eq!(told, [root.entries, root.bytes, 0, 0]);
    let (root, told) = tell();
    assert_eq!(told, [root.entries, root.bytes, root.entries, root.bytes]);
}

fn stored_bytes(bench: &Bench) -> u64 {
    let mut bytes = 0;
    let listed = bench.backend().list(Prefix::All, &mut |listed| {
        if let Listed::Object { size, .. } = listed {
            bytes += size;
        }
        std::ops::ControlFlow::Continue(())
    });
    listed.expect("the place can be listed");
    bytes
}
