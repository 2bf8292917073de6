//! `LocalTree` against real trees: what it shows of them, what it leaves out, and what it does when they change
//! under its hands. The file system is asked through the standard library and `rustix`, not through what is tested.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use icecore_tests::privilege::{is_root, runs_again_as_nobody, skip};
use icecore_tests::tree::memory_place;
use repo_core::{
    Details, Entries, LocalTree, LocalTreeOptions, Metadata, NodeKind, Patterns, Source, SourceDirectory, SourceEntry,
    Unreadable,
};
use rustix::fs::{AtFlags, CWD, FileType, IFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use tempfile::TempDir;

fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("icecore-source-").tempdir().unwrap()
}

/// For trees so deep that a disk would make the test wait.
fn scratch_in_memory() -> TempDir {
    tempfile::Builder::new().prefix("icecore-source-").tempdir_in(memory_place()).unwrap()
}

fn tree(path: &Path) -> LocalTree {
    tree_with(path, LocalTreeOptions::new())
}

fn tree_with(path: &Path, options: LocalTreeOptions) -> LocalTree {
    LocalTree::new(&[path.to_owned()], options).unwrap()
}

/// Options with these patterns.
fn excluding(patterns: &[&str]) -> LocalTreeOptions {
    let mut options = LocalTreeOptions::new();
    patterns.iter().for_each(|pattern| options.excludes.add(pattern, false).unwrap());
    options
}

/// The directory of a tree that `path` is.
fn directory(tree: &LocalTree, path: &Path) -> Arc<dyn SourceDirectory> {
    let mut at = tree.root().unwrap();
    for name in path.components().skip(1) {
        let entry = entry(&*at, name.as_os_str().as_bytes());
        at = at.open_directory(&entry).unwrap();
    }
    at
}

fn entry(directory: &dyn SourceDirectory, name: &[u8]) -> SourceEntry {
    let found = directory.entries().unwrap().filter_map(Result::ok).find(|entry| entry.name == name);
    found.unwrap_or_else(|| panic!("no entry {}", String::from_utf8_lossy(name)))
}

fn names(directory: &dyn SourceDirectory) -> Vec<String> {
    directory.entries().unwrap().map(|entry| String::from_utf8(entry.unwrap().name).unwrap()).collect()
}

/// A tree below `path`, by path below it, and its problems. Walks as a backup does: depth first, without recursion, every
/// directory on the way held open as far as the source wants it.
fn shown(tree: &LocalTree, path: &Path) -> (BTreeMap<String, Metadata>, Vec<String>) {
    let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
    let top = directory(tree, path);
    let mut stack = vec![(String::new(), top.entries().unwrap(), top)];
    while let Some((above, entries, at)) = stack.last_mut() {
        match entries.next() {
            None => drop(stack.pop()),
            Some(Err(problem)) => problems.push(format!("{above}{}", String::from_utf8_lossy(&problem.name))),
            Some(Ok(entry)) => {
                let path = format!("{above}{}", String::from_utf8_lossy(&entry.name));
                let below = (entry.metadata.kind == NodeKind::Directory && entry.descend)
                    .then(|| at.open_directory(&entry).and_then(|below| Ok((below.entries()?, below))));
                found.insert(path.clone(), entry.metadata);
                match below {
                    None => {}
                    Some(Ok((entries, below))) => stack.push((format!("{path}/"), entries, below)),
                    Some(Err(_)) => problems.push(path),
                }
            }
        }
    }
    (found, problems)
}

fn shown_paths(tree: &LocalTree, path: &Path) -> Vec<String> {
    let (found, problems) = shown(tree, path);
    assert_eq!(problems, [""; 0]);
    found.into_keys().collect()
}

fn read_all(directory: &dyn SourceDirectory, entry: &SourceEntry) -> io::Result<Vec<u8>> {
    let mut file = directory.open_file(entry)?;
    let mut content = Vec::new();
    let mut buffer = [0; 1000];
    loop {
        match file.read_at(content.len() as u64, &mut buffer)? {
            0 => return Ok(content),
            count => content.extend_from_slice(&buffer[..count]),
        }
    }
}

fn make(path: &Path, kind: FileType, device: u64) -> bool {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device).is_ok()
}

#[test]
fn every_kind_of_entry_is_told_as_the_file_system_has_it_and_no_fifo_blocks() {
    let scratch = scratch();
    let at = |name: &str| scratch.path().join(name);
    fs::write(at("file"), "content").unwrap();
    fs::set_permissions(at("file"), Permissions::from_mode(0o6751)).unwrap();
    fs::hard_link(at("file"), at("link")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    fs::set_permissions(at("directory"), Permissions::from_mode(0o1777)).unwrap();
    symlink("nowhere/\u{e4}", at("symlink")).unwrap();
    symlink(OsStr::from_bytes(b"\xff/../x"), at("strange symlink")).unwrap();
    assert!(make(&at("fifo"), FileType::Fifo, 0));
    let _listener = UnixListener::bind(at("socket")).unwrap();
    if !make(&at("character"), FileType::CharacterDevice, rustix::fs::makedev(240, 1_048_575))
        || !make(&at("block"), FileType::BlockDevice, rustix::fs::makedev(7, 300))
    {
        skip("devices", "devices cannot be made here");
    }
    for (name, seconds, nanoseconds) in
        [("file", -86_400 * 365 * 3, 1), ("fifo", 0, 999_999_999), ("symlink", 1 << 31, 5)]
    {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, at(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    let tree = tree(scratch.path());
    let (found, problems) = shown(&tree, scratch.path());
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(found.len(), fs::read_dir(scratch.path()).unwrap().count());
    for (name, metadata) in &found {
        let real = fs::symlink_metadata(at(name)).unwrap();
        let kind = real.file_type();
        let expected = match () {
            () if kind.is_file() => NodeKind::File,
            () if kind.is_dir() => NodeKind::Directory,
            () if kind.is_symlink() => NodeKind::Symlink,
            () if kind.is_fifo() => NodeKind::Fifo,
            () if kind.is_socket() => NodeKind::Socket,
            () if kind.is_block_device() => NodeKind::BlockDevice,
            () => NodeKind::CharDevice,
        };
        assert_eq!(metadata.kind, expected, "{name}");
        assert_eq!(metadata.mode, real.mode() & 0o7777, "{name}");
        assert_eq!((metadata.uid, metadata.gid), (real.uid(), real.gid()), "{name}");
        let time = |time: &repo_core::Timestamp| (time.seconds, i64::from(time.nanoseconds));
        assert_eq!(time(&metadata.modified), (real.mtime(), real.mtime_nsec()), "{name}");
        assert_eq!(time(&metadata.changed), (real.ctime(), real.ctime_nsec()), "{name}");
        assert_eq!(metadata.accessed, None, "{name}");
        assert_eq!((metadata.device, metadata.inode), (real.dev(), real.ino()), "{name}");
        assert_eq!(u64::from(metadata.links), real.nlink(), "{name}");
        assert_eq!(metadata.size, if kind.is_file() { real.len() } else { 0 }, "{name}");
        assert_eq!(metadata.special_device, real.rdev(), "{name}");
        if let Ok(born) = real.created() {
            let born = born.duration_since(std::time::UNIX_EPOCH).unwrap();
            let told = metadata.born.expect("the file system knows");
            assert_eq!((told.seconds as u64, told.nanoseconds), (born.as_secs(), born.subsec_nanos()), "{name}");
        }
    }
    if is_root() {
        assert_eq!((&found["file"].user[..], &found["file"].group[..]), (&b"root"[..], &b"root"[..]));
    }

    let directory = directory(&tree, scratch.path());
    for (name, target) in [("symlink", "nowhere/\u{e4}".as_bytes()), ("strange symlink", b"\xff/../x")] {
        let details = directory.details(&entry(&*directory, name.as_bytes())).unwrap();
        assert_eq!(details, Details { link_target: target.to_vec(), ..Details::default() });
    }
    for entry in directory.entries().unwrap() {
        let entry = entry.unwrap();
        assert_eq!(directory.open_file(&entry).is_ok(), entry.metadata.kind == NodeKind::File);
        directory.details(&entry).unwrap();
    }
}

#[test]
fn names_come_in_raw_byte_order_whatever_their_bytes_and_length() {
    let scratch = scratch();
    let long = [b'x'; 255];
    let mut expected: Vec<&[u8]> = vec![
        b"a",
        b"a.b",
        b"a/b".split_at(1).0,
        b"\xff\xfe",
        b"\x01",
        b" ",
        "\u{e4}".as_bytes(),
        b"B",
        b"\\",
        b"-rf",
        &long,
    ];
    for name in &expected {
        fs::write(scratch.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    expected.sort();
    expected.dedup();
    let directory = directory(&tree(scratch.path()), scratch.path());
    let entries: Vec<SourceEntry> = directory.entries().unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.iter().map(|entry| entry.name.as_slice()).collect::<Vec<_>>(), expected);
    for entry in &entries {
        assert_eq!(read_all(&*directory, entry).unwrap(), entry.name);
    }
}

/// A tree far deeper than a path can be long, with something behind each directory so that the walk has to come back to
/// every one after its descriptor was closed.
#[test]
fn a_tree_of_depth_3000_is_walked_to_its_end_with_few_descriptors() {
    const DEPTH: usize = 3000;
    let scratch = scratch_in_memory();
    let mut at = rustix::fs::open(scratch.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    for level in 0..DEPTH {
        rustix::fs::mkdirat(&at, "down", Mode::RWXU).unwrap();
        let file = rustix::fs::openat(&at, "later", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        rustix::io::write(&file, level.to_string().as_bytes()).unwrap();
        at = rustix::fs::openat(&at, "down", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }

    let tree = tree(scratch.path());
    let top = directory(&tree, scratch.path());
    let mut stack: Vec<(Arc<dyn SourceDirectory>, Entries)> = vec![(top.clone(), top.entries().unwrap())];
    let mut later = 0;
    let mut most_open = 0;
    while let Some((at, entries)) = stack.last_mut() {
        match entries.next().map(Result::unwrap) {
            None => drop(stack.pop()),
            Some(entry) if entry.name == b"down" => {
                let below = at.open_directory(&entry).unwrap();
                let entries = below.entries().unwrap();
                stack.push((below, entries));
                if stack.len().is_multiple_of(500) {
                    most_open = most_open.max(fs::read_dir("/proc/self/fd").unwrap().count());
                }
            }
            Some(entry) => {
                assert_eq!(entry.name, b"later");
                let at = at.clone();
                let level = stack.len() - 1;
                assert_eq!(read_all(&*at, &entry).unwrap(), level.to_string().as_bytes());
                later += 1;
            }
        }
    }
    assert_eq!(later, DEPTH);
    assert!(most_open < 600, "{most_open} descriptors were open"); // other tests run in this process
    // The standard library would need a descriptor a level.
    assert!(Command::new("rm").arg("-rf").arg(scratch.path()).status().unwrap().success());
}

#[test]
fn a_deep_handle_alone_lives_and_dies_without_its_walk() {
    let scratch = scratch_in_memory();
    let mut at = rustix::fs::open(scratch.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..2500 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let path = scratch.path().to_owned();
    // A small stack: what recurses once a level does not fit.
    let walker = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
        let mut directory = directory(&tree(&path), &path);
        loop {
            let next = directory.entries().unwrap().next().map(Result::unwrap);
            let Some(entry) = next else { break };
            directory = directory.open_directory(&entry).unwrap();
        }
        drop(directory);
    });
    walker.unwrap().join().unwrap();
    assert!(Command::new("rm").arg("-rf").arg(scratch.path()).status().unwrap().success());
}

/// `start..end` of all runs of data.
fn data(directory: &dyn SourceDirectory, name: &str) -> Vec<(u64, u64)> {
    let entry = entry(directory, name.as_bytes());
    let mut file = directory.open_file(&entry).unwrap();
    let (mut runs, mut at) = (Vec::new(), 0);
    while let Some((start, end)) = file.next_data(at, entry.metadata.size).unwrap() {
        assert!(at <= start && start < end && end <= entry.metadata.size, "{start}..{end} after {at}");
        runs.push((start, end));
        at = end;
    }
    runs
}

#[test]
fn holes_are_told_where_they_are_and_written_zeros_are_none() {
    let scratch = scratch();
    let write = |name: &str, size: u64, at: &[u64]| {
        let file = File::create(scratch.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        at.iter().for_each(|offset| file.write_all_at(&[0; 65_536], *offset).unwrap());
        file.sync_all().unwrap();
        file
    };
    const K64: u64 = 65_536;
    write("hole", 10 * K64, &[]);
    write("zeros", 2 * K64, &[0, K64]);
    write("middle", 4 * K64, &[K64]);
    write("ends", 5 * K64 + 1, &[0, 3 * K64]);
    write("empty", 0, &[]);
    let small = write("small hole", 100, &[]);
    // Its blocks are as many as its size needs, but one of them holds the attribute.
    let hidden = write("hidden hole", 4096, &[]);
    for file in [&small, &hidden] {
        let _ = rustix::fs::fsetxattr(file, "user.large", &[7; 2000], XattrFlags::empty());
    }
    let tree = tree(scratch.path());
    let directory = directory(&tree, scratch.path());
    if data(&*directory, "hole") == [(0, 10 * K64)] {
        return skip("holes", "the file system tells of none");
    }
    assert_eq!(data(&*directory, "hole"), []);
    assert_eq!(data(&*directory, "zeros"), [(0, 2 * K64)]);
    assert_eq!(data(&*directory, "middle"), [(K64, 2 * K64)]);
    assert_eq!(data(&*directory, "ends"), [(0, K64), (3 * K64, 4 * K64)]);
    assert_eq!(data(&*directory, "empty"), []);
    assert_eq!(data(&*directory, "small hole"), []);
    assert_eq!(data(&*directory, "hidden hole"), []);
}

#[test]
fn what_is_swapped_between_look_and_opening_is_refused_and_never_waited_for() {
    let scratch = scratch();
    let at = |name: &str| scratch.path().join(name);
    fs::write(at("file"), "old").unwrap();
    fs::create_dir_all(at("directory/below")).unwrap();
    symlink("old", at("symlink")).unwrap();
    let tree = tree(scratch.path());
    let directory = directory(&tree, scratch.path());
    let [below, file, link] = ["directory", "file", "symlink"].map(|name| entry(&*directory, name.as_bytes()));

    let refused = |put: &dyn Fn(&Path), entry: &SourceEntry| {
        let name = String::from_utf8(entry.name.clone()).unwrap();
        fs::rename(at(&name), at("kept")).unwrap();
        put(&at(&name));
        assert!(directory.details(entry).is_err(), "details of {name}");
        let opened = match entry.metadata.kind {
            NodeKind::File => directory.open_file(entry).map(drop),
            NodeKind::Directory => directory.open_directory(entry).map(drop),
            _ => Err(io::Error::other("not to be opened")),
        };
        let error = opened.expect_err(&name);
        assert!(!error.to_string().contains("symbolic links"), "an error that misleads: {error}");
        if at(&name).is_dir() && !at(&name).is_symlink() {
            fs::remove_dir(at(&name)).unwrap();
        } else {
            fs::remove_file(at(&name)).unwrap();
        }
        fs::rename(at("kept"), at(&name)).unwrap();
        assert!(directory.details(entry).is_ok(), "{name} is itself again");
    };
    let a_fifo = |path: &Path| assert!(make(path, FileType::Fifo, 0));
    let a_link_to_it = |path: &Path| symlink("kept", path).unwrap();
    let another_file = |path: &Path| fs::write(path, "new").unwrap();
    let another_directory = |path: &Path| fs::create_dir(path).unwrap();
    let another_link = |path: &Path| symlink("new", path).unwrap();
    for entry in [&file, &below, &link] {
        refused(&a_fifo, entry);
        refused(&a_link_to_it, entry);
        refused(&another_file, entry);
        refused(&another_directory, entry);
        refused(&another_link, entry);
    }
    assert_eq!(read_all(&*directory, &file).unwrap(), b"old");
    assert_eq!(names(&*directory.open_directory(&below).unwrap()), ["below"]);
}

#[test]
fn a_second_look_through_the_open_file_sees_what_changed_and_not_what_took_its_name() {
    let scratch = scratch();
    let path = scratch.path().join("file");
    fs::write(&path, "old").unwrap();
    let tree = tree(scratch.path());
    let directory = directory(&tree, scratch.path());
    let entry = entry(&*directory, b"file");
    let mut file = directory.open_file(&entry).unwrap();
    assert_eq!(file.metadata().unwrap(), entry.metadata);
    let writer = fs::OpenOptions::new().write(true).open(&path).unwrap();
    writer.write_all_at(b"er and longer", 3).unwrap();
    fs::rename(&path, scratch.path().join("renamed")).unwrap();
    fs::write(&path, "another").unwrap();
    let second = file.metadata().unwrap();
    assert_eq!((second.inode, second.size), (entry.metadata.inode, 16));
    assert_ne!(second.changed, entry.metadata.changed);
}

#[test]
fn what_vanishes_after_the_names_were_read_is_a_problem_by_name_and_the_rest_goes_on() {
    let scratch = scratch();
    for name in ["a", "b", "c"] {
        fs::write(scratch.path().join(name), name).unwrap();
    }
    let directory = directory(&tree(scratch.path()), scratch.path());
    let entries = directory.entries().unwrap();
    fs::remove_file(scratch.path().join("b")).unwrap();
    let told: Vec<Result<Vec<u8>, Vec<u8>>> =
        entries.map(|entry| entry.map(|entry| entry.name).map_err(|Unreadable { name, .. }| name)).collect();
    assert_eq!(told, [Ok(b"a".to_vec()), Err(b"b".to_vec()), Ok(b"c".to_vec())]);
}

/// Makes empty files, and directories where a name ends in a slash.
fn plant(scratch: &Path, paths: &[&str]) {
    for path in paths {
        let path = (path.ends_with('/'), scratch.join(path));
        fs::create_dir_all(if path.0 { &path.1 } else { path.1.parent().unwrap() }).unwrap();
        if !path.0 {
            fs::write(&path.1, "").unwrap();
        }
    }
}

#[test]
fn patterns_leave_out_what_they_match_and_all_below() {
    let scratch = scratch();
    plant(scratch.path(), &["a/x.o", "a/x.c", "a/keep/y.o", "b/tmp/z", "b/c/tmp/z", "tmpx", "d/e/f"]);
    let anchored = format!("{}/d/e", scratch.path().display());
    let elsewhere = "/d/e";
    for (patterns, expected) in [
        (
            vec![],
            vec![
                "a",
                "a/keep",
                "a/keep/y.o",
                "a/x.c",
                "a/x.o",
                "b",
                "b/c",
                "b/c/tmp",
                "b/c/tmp/z",
                "b/tmp",
                "b/tmp/z",
                "d",
                "d/e",
                "d/e/f",
                "tmpx",
            ],
        ),
        (vec!["*.o", "tmp", elsewhere], vec!["a", "a/keep", "a/x.c", "b", "b/c", "d", "d/e", "d/e/f", "tmpx"]),
        (vec!["*.o", "!y.o", "b", "d"], vec!["a", "a/keep", "a/keep/y.o", "a/x.c", "tmpx"]),
        // Nothing below an excluded directory is reached, whatever is taken back.
        (vec!["a", "!y.o", "b", "d"], vec!["tmpx"]),
        (vec![&anchored, "a", "b/**/z", "b/c"], vec!["b", "b/tmp", "d", "tmpx"]),
        (vec!["*"], vec![]),
    ] {
        let tree = tree_with(scratch.path(), excluding(&patterns));
        assert_eq!(shown_paths(&tree, scratch.path()), expected, "{patterns:?}");
    }
}

#[test]
fn paths_that_were_named_are_never_left_out_whatever_the_patterns_say() {
    let scratch = scratch();
    plant(scratch.path(), &["all/cache/wanted/x", "all/cache/wanted/x.o", "all/cache/other", "all/big.o", "all/y.o"]);
    fs::write(scratch.path().join("all/big.o"), "four").unwrap();
    let at = |path: &str| scratch.path().join(path);
    let mut options = excluding(&["cache", "*.o"]);
    options.exclude_larger_than_bytes = Some(3);

    let tree = LocalTree::new(&[at("all"), at("all/cache/wanted"), at("all/big.o")], options.clone()).unwrap();
    let expected = ["big.o", "cache", "cache/wanted", "cache/wanted/x"];
    assert_eq!(shown_paths(&tree, &at("all")), expected, "inside a tree that is shown too");

    let tree = LocalTree::new(&[at("all/cache/wanted"), at("all/big.o")], options).unwrap();
    assert_eq!(shown_paths(&tree, &at("all")), expected, "and without it");
}

#[test]
fn directories_that_say_so_are_left_empty_but_for_what_says_it() {
    let scratch = scratch();
    plant(scratch.path(), &["cache/x", "fake/x", "marked/sub/x", "link/x", "plain/x", "directory/.nobackup/x"]);
    let at = |path: &str| scratch.path().join(path);
    fs::write(at("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n# more").unwrap();
    fs::write(at("fake/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc5").unwrap();
    fs::write(at("marked/.nobackup"), "").unwrap();
    symlink("../cache/CACHEDIR.TAG", at("link/CACHEDIR.TAG")).unwrap();
    assert!(make(&at("plain/CACHEDIR.TAG"), FileType::Fifo, 0));
    let mut options = LocalTreeOptions::new().exclude_caches();
    options.exclude_if_present.push((b".nobackup".to_vec(), Vec::new()));
    let tree = tree_with(scratch.path(), options.clone());
    let expected = [
        "cache",
        "cache/CACHEDIR.TAG",
        "directory",
        "directory/.nobackup",
        "directory/.nobackup/x",
        "fake",
        "fake/CACHEDIR.TAG",
        "fake/x",
        "link",
        "link/CACHEDIR.TAG",
        "link/x",
        "marked",
        "marked/.nobackup",
        "plain",
        "plain/CACHEDIR.TAG",
        "plain/x",
    ];
    assert_eq!(shown_paths(&tree, scratch.path()), expected);
    let named = tree_with(&at("marked"), options.clone());
    assert_eq!(shown_paths(&named, &at("marked")), [".nobackup", "sub", "sub/x"], "named itself, it is wanted");
    options.exclude_if_present.push((b"a/b".to_vec(), Vec::new()));
    assert!(LocalTree::new(&[at("marked")], options).is_err(), "a path is no name");
}

#[test]
fn files_over_the_limit_are_left_out_and_those_at_it_are_not() {
    let scratch = scratch();
    for (name, size) in [("under", 9), ("at", 10), ("over", 11)] {
        fs::write(scratch.path().join(name), vec![0; size]).unwrap();
    }
    symlink("a target of more than ten bytes", scratch.path().join("symlink")).unwrap();
    let mut options = LocalTreeOptions::new();
    options.exclude_larger_than_bytes = Some(10);
    assert_eq!(shown_paths(&tree_with(scratch.path(), options), scratch.path()), ["at", "symlink", "under"]);
}

#[test]
fn directories_on_the_way_bear_their_own_metadata_and_show_only_what_leads_on() {
    let scratch = scratch();
    plant(scratch.path(), &["on/the/way/a/1", "on/the/way/b", "on/the/way/c", "on/other", "unrelated"]);
    let at = |path: &str| scratch.path().join(path);
    fs::set_permissions(at("on/the"), Permissions::from_mode(0o1751)).unwrap();
    let paths = [at("on/the/way/b"), at("./on//the/x/../way/a/"), at("on/the/way/a")];
    let tree = LocalTree::new(&paths, LocalTreeOptions::new()).unwrap();
    let (found, problems) = shown(&tree, scratch.path());
    assert_eq!(problems, [""; 0]);
    let expected = ["on", "on/the", "on/the/way", "on/the/way/a", "on/the/way/a/1", "on/the/way/b"];
    assert_eq!(found.keys().collect::<Vec<_>>(), expected);
    for (path, metadata) in found {
        let real = fs::metadata(at(&path)).unwrap();
        assert_eq!((metadata.inode, metadata.mode), (real.ino(), real.mode() & 0o7777), "{path}");
    }
    let recorded: Vec<PathBuf> = tree.paths().iter().map(|path| PathBuf::from(OsStr::from_bytes(path))).collect();
    assert_eq!(recorded, [at("on/the/way/a"), at("on/the/way/b")], "each once, absolute and cleaned");
    // The root of the machine is a name on the way like any other.
    assert_eq!(names(&*tree.root().unwrap()).len(), 1);
}

#[test]
fn links_are_followed_on_the_way_to_a_path_and_nowhere_else() {
    let scratch = scratch();
    plant(scratch.path(), &["real/sub/x", "real/y"]);
    symlink("real", scratch.path().join("link")).unwrap();
    let at = |path: &str| scratch.path().join(path);
    assert_eq!(
        shown_paths(&tree(scratch.path()), scratch.path()),
        ["link", "real", "real/sub", "real/sub/x", "real/y"]
    );

    let through = tree(&at("link/sub"));
    let (found, _) = shown(&through, scratch.path());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["link", "link/sub", "link/sub/x"]);
    assert_eq!(found["link"].kind, NodeKind::Directory);
    assert_eq!(found["link"].inode, fs::metadata(at("real")).unwrap().ino());
    let parent = directory(&through, scratch.path());
    assert!(parent.details(&entry(&*parent, b"link")).unwrap().link_target.is_empty());

    let itself = tree(&at("link"));
    assert_eq!(shown(&itself, scratch.path()).0["link"].kind, NodeKind::Symlink, "the end of a path is not followed");
    for paths in [[at("link"), at("link/sub")], [scratch.path().to_owned(), at("link/sub")]] {
        let refused = LocalTree::new(&paths, LocalTreeOptions::new()).expect_err("a link and a directory at once");
        assert!(refused.to_string().contains("symbolic link"), "{refused}");
    }
}

#[test]
fn a_path_that_is_missing_is_a_problem_among_others_and_an_error_alone() {
    let scratch = scratch();
    plant(scratch.path(), &["here"]);
    let at = |path: &str| scratch.path().join(path);
    let both = [at("gone"), at("here"), at("missing/below")];
    let tree = LocalTree::new(&both, LocalTreeOptions::new()).unwrap();
    let (found, problems) = shown(&tree, scratch.path());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["here"]);
    assert_eq!(problems, ["gone", "missing"]);
    for paths in [&both[..1], &both[2..], &[at("here/below")], &[]] {
        assert!(LocalTree::new(paths, LocalTreeOptions::new()).is_err(), "{paths:?}");
    }
}

/// Runs a test again with `place` as the current directory, which belongs to the whole process.
fn runs_again_in(place: &Path, test: &str) -> bool {
    if std::env::var_os("ICECORE_TEST_INSIDE").is_some() {
        return false;
    }
    let run = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("ICECORE_TEST_INSIDE", "1")
        .current_dir(place)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && told.contains("1 passed"), "{told}");
    true
}

#[test]
fn relative_paths_stand_under_their_own_names() {
    let scratch = scratch();
    plant(scratch.path(), &["work/a/x", "work/a/y.o", "work/b", "work/etc/z", "beside/w", "work/deep/way/v"]);
    if runs_again_in(&scratch.path().join("work"), "relative_paths_stand_under_their_own_names") {
        return;
    }
    let here = std::env::current_dir().unwrap();
    let top = |paths: &[&str], options: LocalTreeOptions| {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        LocalTree::new(&paths, options)
    };
    let plain = |paths: &[&str]| top(paths, LocalTreeOptions::new()).unwrap();
    let root = Path::new("/");

    let tree = plain(&["a", "./deep/../deep/way"]);
    assert_eq!(shown_paths(&tree, root), ["a", "a/x", "a/y.o", "deep", "deep/way", "deep/way/v"]);
    let absolute = |path: &str| here.join(path).into_os_string().as_bytes().to_vec();
    assert_eq!(tree.paths(), [absolute("a"), absolute("deep/way")]);
    assert_eq!(
        shown_paths(&plain(&["."]), root),
        ["a", "a/x", "a/y.o", "b", "deep", "deep/way", "deep/way/v", "etc", "etc/z"]
    );
    assert_eq!(plain(&["."]).paths(), [here.as_os_str().as_bytes()]);

    // What leads out of here is absolute.
    let beside = here.parent().unwrap().join("beside");
    assert_eq!(shown_paths(&plain(&["../beside"]), &beside), ["w"]);

    // Anchored patterns are about absolute paths, whatever way the path was given.
    let anchored = format!("{}/a/*.o", here.display());
    assert_eq!(shown_paths(&top(&["a"], excluding(&[&anchored])).unwrap(), root), ["a", "a/x"]);
    assert_eq!(shown_paths(&top(&["a"], excluding(&["/a/*.o"])).unwrap(), root), ["a", "a/x", "a/y.o"]);

    // One name for two things is refused, in either order; one thing under one name is not.
    for paths in [["etc", "/etc"], ["/etc", "etc"], [".", "/etc"], ["/etc", "."], ["/", "."], [".", "/"]] {
        assert!(top(&paths, LocalTreeOptions::new()).is_err(), "{paths:?}");
    }
    let first = here.components().nth(1).unwrap();
    let both = plain(&["b", here.join("a").to_str().unwrap()]);
    let mut expected = [String::from("b"), first.as_os_str().to_str().unwrap().to_owned()];
    expected.sort();
    assert_eq!(names(&*both.root().unwrap()), expected);
    assert_eq!(shown_paths(&both, &here), ["a", "a/x", "a/y.o"]);
    let content_and_more = plain(&[".", beside.to_str().unwrap()]);
    assert_eq!(names(&*content_and_more.root().unwrap()).len(), 5);
    assert_eq!(shown_paths(&content_and_more, &beside), ["w"]);
}

/// A tmpfs, mounted until dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn on(path: PathBuf) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "icecore-test"]).arg(&path).output();
        mounted.is_ok_and(|run| run.status.success()).then_some(Self(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn on_one_file_system_a_mount_point_is_kept_and_stays_empty() {
    let scratch = scratch();
    plant(scratch.path(), &["mounted/", "plain/x"]);
    let at = |path: &str| scratch.path().join(path);
    let Some(_mounted) = Mounted::on(at("mounted")) else {
        return skip("mounts", "nothing can be mounted here");
    };
    plant(scratch.path(), &["mounted/sub/y", "mounted/z"]);
    let mut options = LocalTreeOptions::new();
    assert_eq!(
        shown_paths(&tree(scratch.path()), scratch.path()),
        ["mounted", "mounted/sub", "mounted/sub/y", "mounted/z", "plain", "plain/x"]
    );
    options.one_file_system = true;
    let tree = tree_with(scratch.path(), options.clone());
    assert_eq!(shown_paths(&tree, scratch.path()), ["mounted", "plain", "plain/x"]);
    let parent = directory(&tree, scratch.path());
    let mount_point = entry(&*parent, b"mounted");
    assert!(!mount_point.descend && parent.open_directory(&mount_point).is_err());
    assert!(parent.details(&mount_point).is_ok());

    // A path on the other file system makes that one wanted, as far as the path goes.
    let tree = LocalTree::new(&[scratch.path().to_owned(), at("mounted/sub")], options).unwrap();
    let expected = ["mounted", "mounted/sub", "mounted/sub/y", "plain", "plain/x"];
    assert_eq!(shown_paths(&tree, scratch.path()), expected);
}

#[test]
fn what_an_ordinary_user_may_not_read_is_named_and_the_rest_goes_on() {
    if runs_again_as_nobody("what_an_ordinary_user_may_not_read_is_named_and_the_rest_goes_on") {
        return;
    }
    let scratch = scratch();
    plant(scratch.path(), &["closed/x", "listable/x", "open/x", "passable/x", "secret"]);
    let at = |path: &str| scratch.path().join(path);
    for (path, mode) in [("closed", 0), ("listable", 0o400), ("passable", 0o100), ("secret", 0)] {
        fs::set_permissions(at(path), Permissions::from_mode(mode)).unwrap();
    }
    let whole = tree(scratch.path());
    let (found, problems) = shown(&whole, scratch.path());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["closed", "listable", "open", "open/x", "passable", "secret"]);
    assert_eq!(problems, ["closed", "listable/x", "passable"]);
    let top = directory(&whole, scratch.path());
    let denied = top.open_file(&entry(&*top, b"secret")).map(drop).expect_err("mode 0");
    assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
    assert!(top.details(&entry(&*top, b"closed")).is_ok(), "its metadata is stored all the same");

    // What is left out is no problem; and to pass through a directory it need not be readable.
    let (_, problems) =
        shown(&tree_with(scratch.path(), excluding(&["closed", "listable", "passable"])), scratch.path());
    assert_eq!(problems, [""; 0]);
    assert_eq!(shown_paths(&tree(&at("passable/x")), scratch.path()), ["passable", "passable/x"]);
    for path in ["closed", "listable", "passable"] {
        fs::set_permissions(at(path), Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn the_repository_inside_the_source_is_left_out_and_said_once() {
    let scratch = scratch();
    plant(scratch.path(), &["data/x", "data/vault/objects/y", "data/vaults/z"]);
    let at = |path: &str| scratch.path().join(path);
    symlink("data/vault", at("link")).unwrap();
    let mut options = LocalTreeOptions::new();
    options.leave_out = vec![at("link"), at("not there")];
    let tree = tree_with(scratch.path(), options.clone());
    for _ in 0..2 {
        assert_eq!(shown_paths(&tree, scratch.path()), ["data", "data/vaults", "data/vaults/z", "data/x", "link"]);
    }
    let notes = tree.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains(at("data/vault").to_str().unwrap()), "{notes:?}");

    // Nor is it read where it was named, or something in it.
    for (named, above) in [("data/vault", "data"), ("data/vault/objects", "data"), ("link/objects", ".")] {
        let tree = tree_with(&at(named), options.clone());
        assert_eq!(shown_paths(&tree, scratch.path().join(above).components().as_path()), [""; 0], "{named}");
        assert_eq!(tree.notes().len(), 1, "{named}");
    }
}

#[test]
fn extended_attributes_and_flags_of_every_kind_are_read() {
    let scratch = scratch();
    plant(scratch.path(), &["file", "directory/"]);
    let at = |name: &str| scratch.path().join(name);
    symlink("file", at("symlink")).unwrap();
    assert!(make(&at("fifo"), FileType::Fifo, 0));
    let long = vec![b'l'; 700];
    let set = |name: &str, attribute: &str, value: &[u8]| {
        rustix::fs::lsetxattr(at(name), attribute, value, XattrFlags::empty()).is_ok()
    };
    let user = ["file", "directory"]
        .map(|name| set(name, "user.b", b"\0\xff") && set(name, "user.a", &long) && set(name, "user.empty", b""));
    let trusted = ["file", "directory", "symlink", "fifo"].map(|name| set(name, "trusted.t", name.as_bytes()));
    let flagged = ["file", "directory"].map(|name| {
        let opened = File::open(at(name)).unwrap();
        let flags = rustix::fs::ioctl_getflags(&opened).unwrap_or(IFlags::empty());
        rustix::fs::ioctl_setflags(&opened, flags | IFlags::NODUMP | IFlags::NOATIME).is_ok()
    });
    for (name, works) in [("xattrs", user[0]), ("trusted-xattrs", trusted[0]), ("flags", flagged[0])] {
        if !works {
            skip(name, "they cannot be set here");
        }
    }
    let tree = tree(scratch.path());
    let directory = directory(&tree, scratch.path());
    for (name, in_order) in [("file", 0), ("directory", 1), ("symlink", 2), ("fifo", 3)] {
        let entry = entry(&*directory, name.as_bytes());
        let details = directory.details(&entry).unwrap();
        let mut expected = Vec::new();
        if trusted[in_order] {
            expected.push((b"trusted.t".to_vec(), name.as_bytes().to_vec()));
        }
        if in_order < 2 && user[in_order] {
            expected.push((b"user.a".to_vec(), long.clone()));
            expected.push((b"user.b".to_vec(), b"\0\xff".to_vec()));
            expected.push((b"user.empty".to_vec(), Vec::new()));
        }
        let told: Vec<_> = details.xattrs.into_iter().filter(|(name, _)| !name.starts_with(b"security.")).collect();
        assert_eq!(told, expected, "{name}");
        let flags = if in_order < 2 && flagged[in_order] { (IFlags::NODUMP | IFlags::NOATIME).bits() } else { 0 };
        assert_eq!(details.flags, flags, "{name}: and none that the file system keeps for itself");
        assert_eq!(details.problems, [""; 0], "{name}");
        if name == "file" {
            assert_eq!(directory.open_file(&entry).unwrap().details().unwrap().flags, flags);
        }
    }
}

#[test]
fn reading_leaves_access_times_alone_and_tells_them_on_request() {
    let scratch = scratch();
    plant(scratch.path(), &["directory/file"]);
    let at = |path: &str| scratch.path().join(path);
    fs::write(at("directory/file"), "content").unwrap();
    // Older than the modification: the next reading would move it, also where it is moved once a day only.
    let old = Timespec { tv_sec: 1_000_000, tv_nsec: 7 };
    for path in ["directory/file", "directory"] {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let times = Timestamps { last_access: old, last_modification: now };
        rustix::fs::utimensat(CWD, at(path), &times, AtFlags::empty()).unwrap();
    }
    let mut options = LocalTreeOptions::new();
    options.with_atime = true;
    let tree = tree_with(scratch.path(), options);
    let below = directory(&tree, &at("directory"));
    let file = entry(&*below, b"file");
    assert_eq!(read_all(&*below, &file).unwrap(), b"content");
    let accessed = file.metadata.accessed.unwrap();
    assert_eq!((accessed.seconds, accessed.nanoseconds), (1_000_000, 7));
    for path in ["directory/file", "directory"] {
        assert_eq!(fs::metadata(at(path)).unwrap().atime(), 1_000_000, "{path}");
    }
}

#[test]
fn patterns_are_part_of_the_public_face() {
    let mut patterns = Patterns::new();
    assert!(patterns.is_empty());
    patterns.add("*.o", false).unwrap();
    assert!(!patterns.is_empty() && patterns.matches(b"/a/x.o") && patterns.may_match_below(b"/a"));
}
