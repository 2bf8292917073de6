//! Restores with wishes: files that appear whole, other owners, going on after an end, a mirror behind the repository.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use icecore_tests::bench::{Bench, Ears, published};
use icecore_tests::cli::Cli;
use icecore_tests::compare::{Compared, assert_same};
use icecore_tests::damage::{Damage, Kind};
use icecore_tests::privilege::{is_root, runs_again_as_nobody};
use icecore_tests::tree::Planner;
use icecore_tests::whole::noise;
use repo_core::{Error, Event, Overwrite, Owner, Progress, RestoreOptions, RestoreReport, Result, Snapshot};

fn options(bench: &Bench) -> RestoreOptions {
    RestoreOptions::new().subpath(bench.source().as_os_str().as_bytes())
}

fn restore(bench: &Bench, snapshot: &Snapshot, target: &Path, options: &RestoreOptions) -> (RestoreReport, Ears) {
    let heard = Ears::default();
    let report = bench.open().restore(snapshot, target, options, &heard).expect("a restore runs to its end");
    (report, heard)
}

fn without_root() -> Compared {
    Compared { root: false, ..Compared::default() }
}

/// Names below a directory that a restore gave to files that are not whole.
fn unfinished(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".icecore-") {
            found.push(name);
        } else if entry.file_type().expect("a kind").is_dir() {
            // What its mode closes was finished before.
            found.extend(fs::read_dir(entry.path()).map(|_| unfinished(&entry.path())).unwrap_or_default());
        }
    }
    found
}

fn everything_appears_whole() {
    let bench = Bench::new();
    let planned = Planner::new(bench.path(), &[512, 32 << 10, 128 << 10, 1 << 20, 9 << 20]).everything();
    bench.grow(&planned);
    let snapshot = published(&bench.backup()).clone();
    let target = bench.path().join("target");
    for turn in 0..2 {
        let (report, heard) = restore(&bench, &snapshot, &target, &options(&bench).atomic());
        assert_eq!((heard.problems(), report.problems), (Vec::new(), 0), "turn {turn}");
        assert_same(&bench.source(), &target, without_root());
        assert_eq!(unfinished(&target), Vec::<String>::new());
    }
    let (again, _) = restore(&bench, &snapshot, &target, &options(&bench).atomic().overwrite(Overwrite::IfChanged));
    assert!(again.restored_bytes < 5_000, "what is unchanged is not made anew, but files of several names: {again:?}");
    assert_same(&bench.source(), &target, without_root());
}

#[test]
fn everything_appears_whole_with_its_metadata() {
    everything_appears_whole();
}

#[test]
fn everything_of_nobody_appears_whole() {
    if !runs_again_as_nobody("everything_of_nobody_appears_whole") {
        everything_appears_whole();
    }
}

#[test]
fn what_is_new_in_a_directory_that_gives_attributes_has_those_of_the_snapshot_alone() {
    let bench = Bench::in_memory();
    bench.write("giving/old", "old");
    bench.write("giving/new", "new");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        bench.source().join("giving/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("a fifo can be made");
    let snapshot = published(&bench.backup()).clone();
    let target = bench.path().join("target");
    fs::create_dir_all(target.join("giving")).expect("ours");
    // Of docs: version 2; owner, group and others as in a mode, and one more user.
    let entry =
        |tag: u16, rights: u16, id: u32| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat();
    let all = u32::MAX;
    let entries = [entry(1, 6, all), entry(2, 7, 2), entry(4, 5, all), entry(16, 7, all), entry(32, 0, all)].concat();
    let acl = [&2u32.to_le_bytes()[..], &entries].concat();
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(target.join("giving"), "system.posix_acl_default", &acl, flags).is_err() {
        icecore_tests::privilege::skip("acls", "this file system has no access lists");
        return;
    }
    restore(&bench, &snapshot, &target, &options(&bench));
    assert_same(&bench.source(), &target, without_root());
}

#[test]
fn who_has_the_old_file_open_reads_the_old_content_to_its_end() {
    let bench = Bench::in_memory();
    let (small, large) = (noise(1, 100_000), noise(2, 20_000_000));
    bench.write("small", &small);
    bench.write("large", &large);
    let snapshot = published(&bench.backup()).clone();
    let target = bench.path().join("target");
    fs::create_dir(&target).expect("ours");
    let mut readers = Vec::new();
    for name in ["small", "large"] {
        fs::write(target.join(name), name.repeat(1000)).expect("ours");
        readers.push((name, fs::File::open(target.join(name)).expect("ours")));
    }
    fs::hard_link(target.join("small"), bench.path().join("other name")).expect("ours");
    let (report, _) = restore(&bench, &snapshot, &target, &options(&bench).atomic());
    assert_eq!(report.restored_files, 2);
    for (name, mut reader) in readers {
        let mut content = String::new();
        reader.read_to_string(&mut content).expect("the old inode");
        assert_eq!(content, name.repeat(1000), "nothing was written in place");
    }
    assert_eq!(fs::read(target.join("small")).expect("restored"), small);
    assert_eq!(fs::read(target.join("large")).expect("restored"), large);
}

#[test]
fn a_file_that_cannot_be_read_in_full_does_not_take_its_name() {
    let bench = Bench::new();
    bench.write("inline", b"in the tree itself");
    bench.write("lost", vec![3; 100_000]);
    let snapshot = published(&bench.backup()).clone();
    bench.damage(Kind::DataPack, Damage::Delete);
    let target = bench.path().join("target");
    fs::create_dir(&target).expect("ours");
    fs::write(target.join("lost"), "as it was").expect("ours");
    let (report, heard) = restore(&bench, &snapshot, &target, &options(&bench).atomic());
    assert_eq!(report.problems, 1);
    assert!(heard.problems()[0].contains("/lost: ") && heard.problems()[0].contains("not restored"), "{heard:?}");
    assert_eq!(fs::read(target.join("lost")).expect("still there"), b"as it was");
    assert_eq!(fs::read(target.join("inline")).expect("restored"), b"in the tree itself");
    assert_eq!(unfinished(&target), Vec::<String>::new());
}

/// Says stop after so many bytes of content.
struct StopAfter(AtomicU64);

impl Progress for StopAfter {
    fn report(&self, event: Event<'_>) {
        if let Event::Bytes { count } = event {
            let left = self.0.load(Ordering::Relaxed);
            self.0.store(left.saturating_sub(count), Ordering::Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn a_restore_that_was_stopped_leaves_nothing_half_named_and_goes_on_without_reading_what_is_done() {
    let bench = Bench::in_memory();
    for file in 0..40 {
        bench.write(&format!("file{file:02}"), noise(file, 500_000));
    }
    bench.write("large", noise(99, 30_000_000));
    let snapshot = published(&bench.backup()).clone();
    let target = bench.path().join("target");
    for atomic in [true, false] {
        let mut wanted = options(&bench).overwrite(Overwrite::IfChanged);
        wanted.atomic = atomic;
        fs::remove_dir_all(&target).ok();
        let stop = StopAfter(AtomicU64::new(25_000_000));
        let stopped: Result<RestoreReport> = bench.open().restore(&snapshot, &target, &wanted, &stop);
        assert!(matches!(stopped, Err(Error::Cancelled)));
        assert_eq!(unfinished(&target), Vec::<String>::new());
        let begun = fs::read_dir(&target).expect("begun").count();
        assert!(begun > 0);
        assert!(!atomic || !target.join("large").exists(), "it was not whole");
        let (report, _) = restore(&bench, &snapshot, &target, &wanted);
        assert!(report.skipped_bytes >= 10_000_000, "{report:?}");
        assert!(report.restored_bytes < 50_000_000, "{report:?}");
        assert_same(&bench.source(), &target, without_root());
    }
}

#[test]
fn owners_become_whom_they_are_mapped_to() {
    if !is_root() {
        return;
    }
    let bench = Bench::in_memory();
    for (name, owner) in [("one", 1001), ("two", 1002), ("root", 0)] {
        bench.write(name, name);
        std::os::unix::fs::chown(bench.source().join(name), Some(owner), Some(owner)).expect("root gives away");
    }
    let snapshot = published(&bench.backup()).clone();
    let target = bench.path().join("target");
    let wanted = options(&bench)
        .map_user(Owner::Id(1001), 2001)
        .map_user(Owner::Name(b"root".to_vec()), 2000)
        .map_user(Owner::Id(0), 9999)
        .map_group(Owner::Id(1002), 2002);
    restore(&bench, &snapshot, &target, &wanted);
    let owner = |name: &str| {
        let metadata = fs::metadata(target.join(name)).expect("restored");
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(owner("one"), (2001, 1001));
    assert_eq!(owner("two"), (1002, 2002));
    assert_eq!(owner("root"), (2000, 0), "the first pair that fits");
}

#[test]
fn a_mirror_gives_what_the_repository_cannot() {
    let cli = Cli::new();
    cli.write("source/text", "of some length ".repeat(100));
    cli.write("source/large", noise(5, 3_000_000));
    cli.backup(&[]);
    cli.run(&["mirror", "mirror"]).succeeds();
    let packs = |kind: &str| fs::read_dir(cli.path(&format!("repo/packs/{kind}"))).map(Iterator::count).unwrap_or(0);
    assert!(packs("d") + packs("m") > 0);
    // Every pack of the repository is damaged in its middle, and one kind of object is gone.
    for path in files_below(&cli.path("repo/packs")) {
        let mut bytes = fs::read(&path).expect("ours");
        let middle = bytes.len() / 2;
        bytes[middle - 100..middle + 100].fill(0);
        fs::remove_file(&path).expect("ours");
        fs::write(&path, bytes).expect("ours");
    }
    fs::remove_dir_all(cli.path("repo/snapshots")).expect("ours");
    fs::remove_dir_all(cli.path("repo/r")).expect("ours");
    cli.run(&["restore", "latest", "--target", "lost"]).ends(13);
    let run = cli.run(&["restore", "latest:/source", "--target", "back", "--mirror", "mirror"]).succeeds();
    assert!(run.error.contains("came from the mirror") && run.error.contains("repair packs --from"), "{}", run.error);
    assert_same(&cli.path("source"), &cli.path("back"), without_root());
    // All of it, where nothing is left of the first.
    fs::rename(cli.path("repo"), cli.path("gone")).expect("ours");
    cli.run(&["restore", "latest:/source", "--target", "again", "--mirror", "mirror"]).succeeds();
    assert_same(&cli.path("source"), &cli.path("again"), without_root());
    cli.run(&["restore", "latest", "--target", "none", "--mirror", "nowhere"]).fails(1, &["no mirror at nowhere"]);
}

fn files_below(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("ours").map(|entry| entry.expect("ours").path()) {
        match entry.is_dir() {
            true => files.extend(files_below(&entry)),
            false => files.push(entry),
        }
    }
    files
}

#[test]
fn owners_and_going_on_from_the_command_line() {
    let cli = Cli::new();
    cli.write("source/file", "content");
    cli.backup(&[]);
    let restore = |more: &[&str]| cli.run(&[&["restore", "latest:/source", "--target", "back"], more].concat());
    restore(&["--map-user", "nonsense"]).fails(1, &["--map-user nonsense: not FROM:TO", "1000:1001"]);
    restore(&["--map-group", "1:no such group at all"]).fails(1, &["this machine has no such group"]);
    restore(&["--map-user", "1:2", "--no-ownership"]).fails(1, &["cannot be used with"]);
    restore(&["--numeric-owners", "--atomic"]).succeeds();
    restore(&["--resume"]).succeeds().tells("skipped 1 (7 B)");
    if is_root() {
        restore(&["--map-user", "0:root,7:1000", "--map-group", "root:12"]).succeeds();
        assert_eq!(fs::metadata(cli.path("back/file")).expect("restored").gid(), 12);
    }
}
