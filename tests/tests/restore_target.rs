//! Restoring into targets that are there already, some of them traps: nothing outside is ever touched, what differs
//! is all that is written, and what cannot be done is said.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use icecore_tests::bench::{Bench, Ears, published};
use icecore_tests::compare::{Compared, assert_same, portrait};
use icecore_tests::damage::{Damage, Kind};
use icecore_tests::privilege::{is_root, runs_again_as_nobody};
use icecore_tests::tree::Planner;
use repo_core::internals::platform::target::{Directory, Identity, Removal, open_target, remove_tree};
use repo_core::{Error, NodeKind, Overwrite, RestoreOptions, RestoreReport, Result, Snapshot};
use rustix::fs::{CWD, FileType, Mode};

fn room() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("icecore-target-").tempdir().expect("a temporary directory")
}

fn opened(path: &Path) -> Directory {
    open_target(path, true).expect("a target of ours").expect("made if need be")
}

/// Restores the source's content to `target`.
fn restore_to(
    bench: &Bench,
    snapshot: &Snapshot,
    target: &Path,
    change: impl FnOnce(&mut RestoreOptions),
) -> Result<(RestoreReport, Ears)> {
    let mut options = RestoreOptions::default();
    options.subpath = bench.source().as_os_str().as_bytes().to_vec();
    change(&mut options);
    let heard = Ears::default();
    bench.open().restore(snapshot, target, &options, &heard).map(|report| (report, heard))
}

fn restored(
    bench: &Bench,
    snapshot: &Snapshot,
    target: &Path,
    change: impl FnOnce(&mut RestoreOptions),
) -> RestoreReport {
    let (report, heard) = restore_to(bench, snapshot, target, change).expect("a restore runs to its end");
    assert_eq!((heard.problems(), report.problems), (Vec::new(), 0));
    report
}

fn without_root() -> Compared {
    Compared { root: false, ..Compared::default() }
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a fifo can be made");
}

/// A place outside the target, full of what a trap would lead to, and how it was.
struct Outside {
    path: PathBuf,
    before: icecore_tests::compare::Portrait,
}

impl Outside {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(path.join("folder")).expect("directories can be made");
        fs::write(path.join("file"), b"not to be touched").expect("a file can be written");
        fs::write(path.join("folder/inner"), b"nor this").expect("a file can be written");
        fs::set_permissions(path.join("file"), fs::Permissions::from_mode(0o640)).expect("a file of ours");
        let before = portrait(&path).expect("it can be looked at");
        Self { path, before }
    }

    fn is_untouched(&self) {
        let after = portrait(&self.path).expect("it can be looked at");
        assert_eq!(self.before.differences(&after, Compared::default()), Vec::<String>::new());
    }
}

#[test]
fn a_target_that_is_a_symlink_is_refused_and_one_below_an_own_symlink_is_not() {
    let room = room();
    fs::create_dir(room.path().join("real")).expect("a directory");
    symlink("real", room.path().join("link")).expect("a symlink");
    for path in ["link", "link/", "link/."] {
        let refused = open_target(&room.path().join(path), true).expect_err(path);
        assert!(refused.to_string().contains("inside a symlink"), "{refused}");
    }
    opened(&room.path().join("link/below")).make_directory(b"entry").expect("a directory of ours");
    assert!(room.path().join("real/below/entry").is_dir());
    let mode = fs::metadata(room.path().join("real/below")).expect("it was made").mode();
    assert_eq!(mode & 0o7777, 0o700, "what is made on the way is its owner's alone");
    assert!(open_target(&room.path().join("absent"), false).expect("no error").is_none());
    assert!(!room.path().join("absent").exists(), "looking makes nothing");
}

#[test]
fn a_symlink_of_another_user_on_the_way_to_the_target_is_refused() {
    if !is_root() {
        return;
    }
    let room = room();
    fs::create_dir(room.path().join("real")).expect("a directory");
    symlink("real", room.path().join("link")).expect("a symlink");
    std::os::unix::fs::lchown(room.path().join("link"), Some(65_534), None).expect("root gives away");
    let refused = open_target(&room.path().join("link/below"), true).expect_err("another's symlink");
    assert!(refused.to_string().contains("inside a symlink"), "{refused}");
    assert!(!room.path().join("real/below").exists());
}

#[test]
fn no_operation_takes_a_path_for_a_name() {
    let room = room();
    fs::write(room.path().join("secret"), b"x").expect("a file");
    let target = opened(&room.path().join("target"));
    target.make_directory(b"inner").expect("a directory");
    let slashed = b"inner/../../secret";
    let absolute = room.path().join("secret").as_os_str().as_bytes().to_vec();
    for name in [&b""[..], b".", b"..", b"../secret", slashed, &absolute, b"nul\0"] {
        assert!(target.status(name).is_err(), "{name:?}");
        assert!(target.open_directory(name).is_err(), "{name:?}");
        assert!(target.make_directory(name).is_err(), "{name:?}");
        assert!(target.create_file(name).is_err(), "{name:?}");
        assert!(target.make_symlink(name, b"x").is_err(), "{name:?}");
        assert!(target.read_symlink(name).is_err(), "{name:?}");
        assert!(target.make_special(name, NodeKind::Fifo, 0).is_err(), "{name:?}");
        assert!(target.remove(name).is_err(), "{name:?}");
        assert!(target.remove_directory(name).is_err(), "{name:?}");
        assert!(target.pin(name).is_err(), "{name:?}");
        let anything = Identity { device: 0, inode: 0 };
        assert!(target.link(name, &target, b"inner", anything).is_err(), "{name:?}");
        assert!(target.link(b"new", &target, name, anything).is_err(), "{name:?}");
    }
    assert!(target.open_below(b"inner/..").is_err());
    assert!(room.path().join("secret").exists());
}

#[test]
fn a_directory_is_opened_beyond_the_longest_path_and_never_through_a_symlink() {
    let room = room();
    let top = opened(&room.path().join("target"));
    let name = [b'n'; 200];
    let mut path = Vec::new();
    let mut directory = top.open_below(b"").expect("the target itself");
    for _ in 0..60 {
        directory = directory.make_directory(&name).expect("a directory");
        path.extend_from_slice(&name);
        path.push(b'/');
    }
    let identity = |directory: &Directory| directory.own_status().expect("an open directory").identity;
    assert_eq!(identity(&top.open_below(&path).expect("12,000 bytes of path")), identity(&directory));
    symlink(room.path(), room.path().join("target/link")).expect("a symlink");
    assert!(top.open_below(b"link").is_err());
    assert!(top.open_below(b"link/target").is_err());
    let mut gone = 0;
    let all = remove_tree(&top, &name, b"/n", false, &mut |_| false, &mut |_, removal| {
        assert!(matches!(removal, Removal::Removed), "{removal:?}");
        gone += 1;
    });
    assert!(all && gone == 60);
}

#[test]
fn removing_a_tree_follows_no_symlink_and_keeps_what_is_to_be_kept() {
    let room = room();
    let outside = Outside::new(room.path().join("outside"));
    let target = opened(&room.path().join("target"));
    let tree = room.path().join("target/tree");
    fs::create_dir_all(tree.join("a/b")).expect("directories");
    fs::create_dir_all(tree.join("c/d")).expect("directories");
    fs::write(tree.join("a/b/keep"), b"x").expect("a file");
    fs::write(tree.join("a/b/go"), b"x").expect("a file");
    symlink(&outside.path, tree.join("c/link")).expect("a symlink");
    symlink(outside.path.join("file"), tree.join("c/d/link")).expect("a symlink");
    fs::set_permissions(tree.join("c/d"), fs::Permissions::from_mode(0o0)).expect("a directory of ours");
    let mut keep = |path: &[u8]| path.ends_with(b"/keep");
    let mut told = Vec::new();
    let gone = remove_tree(&target, b"tree", b"/tree", true, &mut |path| path.ends_with(b"/keep"), &mut |_, _| ());
    assert!(!gone && tree.join("a/b/go").exists(), "a dry run removes nothing");
    let gone = remove_tree(&target, b"tree", b"/tree", false, &mut keep, &mut |path, removal| {
        told.push((String::from_utf8_lossy(path).into_owned(), format!("{removal:?}")));
    });
    assert!(!gone);
    told.sort();
    let told: Vec<_> = told.iter().map(|(path, removal)| (path.as_str(), removal.as_str())).collect();
    let expected = [
        ("/tree", "Kept"),
        ("/tree/a", "Kept"),
        ("/tree/a/b", "Kept"),
        ("/tree/a/b/go", "Removed"),
        ("/tree/a/b/keep", "Kept"),
        ("/tree/c", "Removed"),
        ("/tree/c/d", "Removed"),
        ("/tree/c/d/link", "Removed"),
        ("/tree/c/link", "Removed"),
    ];
    assert_eq!(told, expected);
    outside.is_untouched();
}

#[test]
fn a_hard_link_is_made_only_to_the_inode_that_was_meant() {
    let room = room();
    let target = opened(&room.path().join("target"));
    let made = target.create_file(b"first").expect("made").expect("new").status().expect("open").identity;
    target.link(b"second", &target, b"first", made).expect("both are ours");
    fs::write(room.path().join("secret"), b"x").expect("a file");
    fs::remove_file(room.path().join("target/first")).expect("a file of ours");
    fs::hard_link(room.path().join("secret"), room.path().join("target/first")).expect("a link of ours");
    assert!(target.link(b"third", &target, b"first", made).is_err());
    fs::remove_file(room.path().join("target/first")).expect("a file of ours");
    symlink("second", room.path().join("target/first")).expect("a symlink");
    assert!(target.link(b"third", &target, b"first", made).is_err());
    assert!(target.status(b"third").expect("no error").is_none());
}

/// A source that has something under each name at which the target has a trap.
fn trapped() -> (Bench, Snapshot) {
    let bench = Bench::in_memory();
    bench.write("parent/child", "content of the child");
    bench.write("parent/folder/inner", "from the snapshot");
    bench.write("file", vec![7; 300_000]);
    bench.write("linked", "was linked to the outside");
    bench.write("piped", "was a fifo");
    bench.write("filled", "was a directory");
    bench.write("folder/entry", "below what was a file");
    bench.write("one", "of two names");
    fs::hard_link(bench.source().join("one"), bench.source().join("other")).expect("a link");
    symlink("nowhere", bench.source().join("symlink")).expect("a symlink");
    fifo(&bench.source().join("fifo"));
    let snapshot = published(&bench.backup()).clone();
    (bench, snapshot)
}

fn set_traps(bench: &Bench, target: &Path) -> Outside {
    let outside = Outside::new(bench.path().join("outside"));
    fs::create_dir(target).expect("a directory");
    symlink(&outside.path, target.join("parent")).expect("a symlink");
    symlink(outside.path.join("file"), target.join("file")).expect("a symlink");
    fs::hard_link(outside.path.join("file"), target.join("linked")).expect("a link");
    fs::hard_link(outside.path.join("file"), target.join("one")).expect("a link");
    fs::hard_link(outside.path.join("folder/inner"), target.join("other")).expect("a link");
    fs::hard_link(outside.path.join("file"), target.join("fifo")).expect("a link");
    fifo(&target.join("piped"));
    fs::write(target.join("folder"), b"in the way").expect("a file");
    symlink(outside.path.join("file"), target.join("symlink")).expect("a symlink");
    // Its links are counted in what must not change.
    Outside { before: portrait(&outside.path).expect("it can be looked at"), ..outside }
}

fn traps_are_replaced() {
    let (bench, snapshot) = trapped();
    let target = bench.path().join("target");
    let outside = set_traps(&bench, &target);
    restored(&bench, &snapshot, &target, |_| ());
    outside.is_untouched();
    assert_same(&bench.source(), &target, without_root());
    let again = restored(&bench, &snapshot, &target, |options| options.verify = true);
    assert_eq!(again.verified_files, again.total_files);
}

#[test]
fn what_is_in_the_way_is_replaced_and_never_followed() {
    traps_are_replaced();
}

#[test]
fn what_is_in_the_way_is_replaced_and_never_followed_by_nobody() {
    if !runs_again_as_nobody("what_is_in_the_way_is_replaced_and_never_followed_by_nobody") {
        traps_are_replaced();
    }
}

#[test]
fn a_dry_run_over_traps_touches_nothing_at_all() {
    let (bench, snapshot) = trapped();
    let target = bench.path().join("target");
    let outside = set_traps(&bench, &target);
    let before = portrait(&target).expect("it can be looked at");
    let report = restored(&bench, &snapshot, &target, |options| {
        options.dry_run = true;
        options.delete = true;
    });
    assert!(report.restored_files >= 9, "{report:?}");
    assert_eq!(before.differences(&portrait(&target).expect("still there"), Compared::default()), Vec::<String>::new());
    outside.is_untouched();
    let absent = bench.path().join("absent");
    let report = restored(&bench, &snapshot, &absent, |options| options.dry_run = true);
    assert_eq!((report.restored_files, report.skipped_files), (report.total_files, 0));
    assert!(!absent.exists());
}

#[test]
fn a_directory_in_the_way_of_a_file_goes_only_if_it_is_empty_or_with_delete() {
    let (bench, snapshot) = trapped();
    let target = bench.path().join("target");
    fs::create_dir_all(target.join("filled/sub")).expect("directories");
    fs::write(target.join("filled/sub/mine"), b"x").expect("a file");
    fs::create_dir(target.join("linked")).expect("an empty directory");
    let (report, heard) = restore_to(&bench, &snapshot, &target, |_| ()).expect("the rest goes on");
    assert_eq!(report.problems, 1);
    assert!(heard.problems()[0].starts_with("/filled: "), "{:?}", heard.problems());
    assert!(target.join("filled/sub/mine").exists());
    assert!(target.join("linked").is_file());
    let report = restored(&bench, &snapshot, &target, |options| options.delete = true);
    assert_eq!(report.deleted_files, 3, "the directory and what was in it");
    assert_same(&bench.source(), &target, without_root());
}

#[test]
fn a_swapper_at_work_gets_nothing_written_outside() {
    let bench = Bench::in_memory();
    for directory in 0..8 {
        for file in 0..40 {
            bench.write(&format!("d{directory}/f{file}"), vec![directory; 2000]);
        }
    }
    let snapshot = published(&bench.backup()).clone();
    let outside = Outside::new(bench.path().join("outside"));
    let target = bench.path().join("target");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Directories become symlinks to the outside and are put back; files become links to files outside.
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (directory, aside) = (target.join(format!("d{}", turn % 8)), target.join("aside"));
                if fs::rename(&directory, &aside).is_ok() {
                    let _ = symlink(&outside.path, &directory);
                    std::thread::yield_now();
                    let _ = fs::remove_file(&directory);
                    let _ = fs::rename(&aside, &directory);
                }
                let file = directory.join(format!("f{}", turn % 40));
                if fs::remove_file(&file).is_ok() {
                    let _ = symlink(outside.path.join("file"), &file);
                }
            }
        });
        for turn in 0..20 {
            // Problems are to be expected. What must not be is an effect outside, or a panic.
            let _ = restore_to(&bench, &snapshot, &target, |options| {
                options.delete = turn % 2 == 1;
                options.verify = turn % 3 == 1;
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    outside.is_untouched();
}

#[test]
fn over_what_is_there_only_what_differs_is_written() {
    let bench = Bench::in_memory();
    let content: Vec<u8> = (0..40_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    bench.write("large", &content);
    bench.write("medium", &content[..900_000]);
    bench.write("small", b"inline");
    let snapshot = published(&bench.backup()).clone();
    let target = bench.path().join("target");
    let first = restored(&bench, &snapshot, &target, |_| ());
    assert_eq!((first.restored_bytes, first.skipped_bytes), (40_900_006, 0));
    assert_same(&bench.source(), &target, without_root());
    let inode = fs::metadata(target.join("large")).expect("restored").ino();

    let again = restored(&bench, &snapshot, &target, |_| ());
    assert_eq!((again.restored_bytes, again.restored_files, again.skipped_bytes), (0, 0, 40_900_006));

    let mut changed = content.clone();
    changed[20_000_000] ^= 1;
    changed.truncate(39_999_000);
    fs::write(target.join("large"), &changed).expect("a file of ours");
    fs::write(target.join("small"), b"inlinE, and longer").expect("a file of ours");
    let patched = restored(&bench, &snapshot, &target, |_| ());
    assert!((1_000 + 6..=2 * 65_536 + 6).contains(&patched.restored_bytes), "{patched:?}");
    assert_eq!(patched.restored_files, 2);
    assert_eq!(fs::metadata(target.join("large")).expect("restored").ino(), inode, "patched in place");
    assert_same(&bench.source(), &target, without_root());
}

#[test]
fn holes_come_back_over_data_and_written_zeros_over_holes() {
    let bench = Bench::in_memory();
    let block = 1 << 20;
    bench.write("file", vec![1; 4 * block]);
    let source = fs::File::options().write(true).open(bench.source().join("file")).expect("a file of ours");
    let punch = |file: &fs::File, from: usize| {
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(file, flags, (from * block) as u64, block as u64).expect("a file system with holes");
    };
    punch(&source, 1);
    std::os::unix::fs::FileExt::write_all_at(&source, &vec![0; block], 2 * block as u64).expect("written zeros");
    let snapshot = published(&bench.backup()).clone();
    let target = bench.path().join("target");
    fs::create_dir(&target).expect("a directory");
    // The other way round: data where a hole belongs, holes where zeros and data belong.
    fs::write(target.join("file"), vec![0; 4 * block]).expect("a file");
    let there = fs::File::options().write(true).open(target.join("file")).expect("a file of ours");
    punch(&there, 2);
    punch(&there, 3);
    restored(&bench, &snapshot, &target, |_| ());
    assert_same(&bench.source(), &target, without_root());
    let again = restored(&bench, &snapshot, &target, |_| ());
    assert_eq!((again.restored_bytes, again.skipped_bytes), (0, 4 * block as u64));

    let sparse = bench.path().join("sparse");
    restored(&bench, &snapshot, &sparse, |options| options.sparse = true);
    let blocks = |path: PathBuf| fs::metadata(path).expect("restored").blocks() * 512;
    assert_eq!(blocks(sparse.join("file")), 2 * block as u64, "zeros became a hole");
    assert_eq!(fs::read(sparse.join("file")).expect("restored"), fs::read(target.join("file")).expect("restored"));
    restored(&bench, &snapshot, &target, |options| options.sparse = true);
    assert_eq!(blocks(target.join("file")), 2 * block as u64, "also over what is there");
}

#[test]
fn overwrite_modes_decide_what_stays() {
    let bench = Bench::in_memory();
    bench.write("file", b"from the snapshot");
    let snapshot = published(&bench.backup()).clone();
    let recorded = fs::metadata(bench.source().join("file")).expect("a file of ours").modified().expect("has one");
    let target = bench.path().join("target");
    let file = target.join("file");
    let hour = std::time::Duration::from_secs(3600);
    let with = |overwrite, mtime| {
        fs::create_dir_all(&target).expect("a directory");
        fs::write(&file, b"what was here now").expect("a file");
        fs::File::options().write(true).open(&file).expect("ours").set_modified(mtime).expect("ours");
        restored(&bench, &snapshot, &target, |options| options.overwrite = overwrite);
        fs::read(&file).expect("still there") == b"from the snapshot"
    };
    assert!(with(Overwrite::Always, recorded));
    assert!(!with(Overwrite::IfChanged, recorded), "same size and mtime: unchanged");
    assert!(with(Overwrite::IfChanged, recorded - hour));
    assert!(with(Overwrite::IfNewer, recorded - hour));
    assert!(!with(Overwrite::IfNewer, recorded));
    assert!(!with(Overwrite::IfNewer, recorded + hour));
    assert!(!with(Overwrite::Never, recorded - hour));
    fs::remove_file(&file).expect("ours");
    restored(&bench, &snapshot, &target, |options| options.overwrite = Overwrite::Never);
    assert_same(&bench.source(), &target, without_root());
}

#[test]
fn delete_removes_what_the_snapshot_has_not_but_never_what_a_filter_leaves_out() {
    let bench = Bench::in_memory();
    bench.write("kept/file", b"x");
    bench.write("top", b"x");
    let snapshot = published(&bench.backup()).clone();
    let target = bench.path().join("target");
    let outside = Outside::new(bench.path().join("outside"));
    let litter = || {
        for path in ["kept/extra", "kept/deep/er", "top.log", "more/a.log", "more/b"] {
            let path = target.join(path);
            fs::create_dir_all(path.parent().expect("below the target")).expect("directories");
            fs::write(path, b"x").expect("a file");
        }
        let _ = symlink(&outside.path, target.join("kept/link"));
    };
    litter();
    let report = restored(&bench, &snapshot, &target, |options| {
        options.delete = true;
        options.exclude.add("*.log", false).expect("a pattern");
    });
    // kept/extra, kept/deep, kept/deep/er, kept/link, more/b
    assert_eq!(report.deleted_files, 5);
    assert!(target.join("top.log").exists() && target.join("more/a.log").exists() && !target.join("more/b").exists());
    outside.is_untouched();

    litter();
    let report = restored(&bench, &snapshot, &target, |options| {
        options.delete = true;
        options.include.add("/kept", false).expect("a pattern");
    });
    assert_eq!(report.deleted_files, 4);
    assert!(target.join("more/b").exists() && target.join("top.log").exists());

    restored(&bench, &snapshot, &target, |options| options.delete = true);
    assert_same(&bench.source(), &target, without_root());
    outside.is_untouched();
}

#[test]
fn includes_bring_their_parents_and_nothing_else() {
    let bench = Bench::in_memory();
    bench.write("a/b/wanted.txt", b"x");
    bench.write("a/b/other", b"x");
    bench.write("a/c/other", b"x");
    fs::set_permissions(bench.source().join("a/b"), fs::Permissions::from_mode(0o751)).expect("ours");
    let snapshot = published(&bench.backup()).clone();
    let target = bench.path().join("target");
    restored(&bench, &snapshot, &target, |options| options.include.add("*.txt", false).expect("a pattern"));
    assert!(target.join("a/b/wanted.txt").exists());
    assert!(!target.join("a/b/other").exists() && !target.join("a/c").exists());
    assert_eq!(fs::metadata(target.join("a/b")).expect("made").mode() & 0o7777, 0o751);
}

#[test]
fn a_single_file_comes_under_its_own_name() {
    let (bench, snapshot) = trapped();
    let target = bench.path().join("target");
    restored(&bench, &snapshot, &target, |options| options.subpath.extend_from_slice(b"/parent/child"));
    assert_eq!(fs::read(target.join("child")).expect("restored"), b"content of the child");
    assert_eq!(fs::read_dir(&target).expect("made").count(), 1);
    let missing = restore_to(&bench, &snapshot, &target, |options| options.subpath.extend_from_slice(b"/parent/none"));
    assert!(matches!(missing, Err(Error::Path { .. })));
}

fn everything_comes_back() {
    let bench = Bench::new();
    let planned = Planner::new(bench.path(), &[512, 32 << 10, 128 << 10, 512 << 10, 1 << 20, 8 << 20]).everything();
    bench.grow(&planned);
    let snapshot = published(&bench.backup()).clone();
    let target = bench.path().join("target");
    restored(&bench, &snapshot, &target, |_| ());
    assert_same(&bench.source(), &target, without_root());
    // Once more over it, through all that its modes and flags forbid.
    let again = restored(&bench, &snapshot, &target, |options| options.delete = true);
    assert_eq!(again.deleted_files, 0);
    assert_same(&bench.source(), &target, without_root());
    restored(&bench, &snapshot, &target, |options| {
        options.verify = true;
        options.overwrite = Overwrite::IfChanged;
    });
    assert_same(&bench.source(), &target, without_root());
}

#[test]
fn everything_comes_back_with_its_metadata() {
    everything_comes_back();
}

#[test]
fn everything_of_nobody_comes_back_with_its_metadata() {
    if !runs_again_as_nobody("everything_of_nobody_comes_back_with_its_metadata") {
        everything_comes_back();
    }
}

#[test]
fn a_damaged_pack_costs_the_files_in_it_and_no_others() {
    let bench = Bench::new();
    bench.write("inline", b"in the tree itself");
    bench.write("lost", vec![3; 100_000]);
    let snapshot = published(&bench.backup()).clone();
    bench.damage(Kind::DataPack, Damage::Delete);
    let target = bench.path().join("target");
    let (report, heard) = restore_to(&bench, &snapshot, &target, |_| ()).expect("the rest goes on");
    assert_eq!(report.problems, 1);
    assert!(heard.problems()[0].starts_with("/lost: ") && heard.problems()[0].contains("incomplete"));
    assert_eq!(fs::read(target.join("inline")).expect("restored"), b"in the tree itself");
    let left = fs::metadata(target.join("lost")).expect("what could be restored is there");
    assert_eq!(left.len(), 100_000);
    let recorded = fs::metadata(bench.source().join("lost")).expect("ours").mtime_nsec();
    assert_ne!(left.mtime_nsec(), recorded, "an incomplete file must not pass for the whole one");
}

#[test]
fn what_takes_privilege_is_told_once_a_kind_and_counted() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    for number in 0..3 {
        bench.write(&format!("roots{number}"), b"x");
        let path = bench.source().join(format!("device{number}"));
        let device = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, device).expect("root makes devices");
    }
    fs::set_permissions(bench.source().join("roots0"), fs::Permissions::from_mode(0o4755)).expect("ours");
    // The first name of a hard link lies where its owner cannot go once its directory is restored.
    bench.write("closed/first", b"x");
    bench.write("open/keep", b"x");
    fs::hard_link(bench.source().join("closed/first"), bench.source().join("open/second")).expect("a link");
    fs::set_permissions(bench.source().join("closed"), fs::Permissions::from_mode(0o644)).expect("ours");
    for entry in ["closed", "closed/first", "open", "open/keep"] {
        std::os::unix::fs::lchown(bench.source().join(entry), Some(65_534), Some(65_534)).expect("root gives away");
    }
    let report = bench.backup();
    assert!(report.snapshot.is_some());
    // The repository and the program's room are handed to nobody, who restores.
    let handed = bench.path().to_owned();
    for entry in walk(&handed.join("repository")) {
        std::os::unix::fs::lchown(&entry, Some(65_534), Some(65_534)).expect("root gives away");
    }
    fs::set_permissions(&handed, fs::Permissions::from_mode(0o777)).expect("ours");
    let inner = Handed { room: handed, source: bench.source() };
    inner.restore_as_nobody();
}

/// A repository that another user restores from, in a process of its own.
struct Handed {
    room: PathBuf,
    source: PathBuf,
}

const HANDED_ROOM: &str = "ICECORE_TEST_HANDED_ROOM";
const HANDED_SOURCE: &str = "ICECORE_TEST_HANDED_SOURCE";

impl Handed {
    fn restore_as_nobody(&self) {
        let program = self.room.join("test");
        fs::copy(std::env::current_exe().expect("a test has a program"), &program).expect("copying the test program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("ours");
        let run = std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
            .arg(&program)
            .args(["restoring_what_root_handed_over", "--exact", "--ignored", "--nocapture"])
            .env(HANDED_ROOM, &self.room)
            .env(HANDED_SOURCE, &self.source)
            .current_dir(&self.room)
            .output()
            .expect("setpriv runs");
        let told = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && told.contains("1 passed"), "{told}");
    }
}

#[test]
#[ignore = "run by another test, as another user"]
fn restoring_what_root_handed_over() {
    let room = PathBuf::from(std::env::var_os(HANDED_ROOM).expect("the other test sets it"));
    let source = PathBuf::from(std::env::var_os(HANDED_SOURCE).expect("the other test sets it"));
    let backend = std::sync::Arc::new(repo_core::Local::new(room.join("repository")));
    let secret = repo_core::Secret::Key([42; 32].into());
    let repository = repo_core::Repository::open(backend, &secret).expect("it opens");
    let filter = repo_core::SnapshotFilter::default();
    let snapshot = repository.snapshot(&repo_core::Selector::Latest { back: 0 }, &filter).expect("there is one");
    let mut options = RestoreOptions::default();
    options.subpath = source.as_os_str().as_bytes().to_vec();
    let heard = Ears::default();
    let target = room.join("target");
    let report = repository.restore(&snapshot, &target, &options, &heard).expect("runs to its end");
    let (problems, notes) = (heard.problems(), heard.notes.lock().expect("no panic").clone());
    assert_eq!(report.problems, 6, "three owners, three devices: {problems:?}");
    assert_eq!(problems.len(), 2, "each kind told once: {problems:?}");
    assert!(notes.iter().any(|note| note.contains("owner") && note.contains('3')), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("device") && note.contains('3')), "{notes:?}");
    let mode = fs::metadata(target.join("roots0")).expect("restored").mode();
    assert_eq!(mode & 0o7777, 0o755, "setuid for root does not become setuid for whoever restores");
    assert_eq!(fs::metadata(target.join("open/second")).expect("restored").nlink(), 2);
    assert_eq!(fs::metadata(target.join("closed")).expect("restored").mode() & 0o7777, 0o644, "set at the very end");
}

fn walk(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        for entry in fs::read_dir(path).expect("ours") {
            found.extend(walk(&entry.expect("ours").path()));
        }
    }
    found
}

#[test]
fn a_fifo_in_the_way_is_replaced_without_being_opened() {
    let (bench, snapshot) = trapped();
    let target = bench.path().join("target");
    fs::create_dir(&target).expect("a directory");
    fifo(&target.join("file"));
    fifo(&target.join("parent"));
    restored(&bench, &snapshot, &target, |_| ());
    assert!(target.join("file").is_file() && target.join("parent").is_dir());
    assert!(fs::symlink_metadata(target.join("fifo")).expect("restored").file_type().is_fifo());
}
