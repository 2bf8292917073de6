//! A repository in memory, walked, listed and read by pieces.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::testing::Counting;
use super::{BrowseOptions, Browser, Item, ItemKind};
use crate::backend::{Backend, Prefix};
use crate::crypto::Secret;
use crate::error::Error;
use crate::format::gc::Forgotten;
use crate::id::{ObjectName, PackKind, SnapshotId};
use crate::ops::backup::BackupOptions;
use crate::progress::Silent;
use crate::repository::{InitOptions, Repository, SnapshotFilter};
use crate::walk::local::{LocalTree, LocalTreeOptions};

struct Room {
    scratch: tempfile::TempDir,
    place: Arc<Counting>,
    repository: Repository,
    secret: Secret,
}

impl Room {
    fn new() -> Self {
        let (secret, _) = Secret::generate_key().unwrap();
        let place = Arc::new(Counting::default());
        let repository = Repository::init(place.clone(), &secret, &InitOptions::new()).unwrap();
        Self { scratch: tempfile::tempdir().unwrap(), place, repository, secret }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        let path = self.scratch.path().join("source").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn backup(&self, host: &str, time_ns: i64) -> SnapshotId {
        let source = LocalTree::new(&[self.scratch.path().join("source")], LocalTreeOptions::new()).unwrap();
        let options = BackupOptions::new().host(host).time_ns(time_ns);
        let report = self.repository.backup(&source, &options, &Silent).unwrap();
        assert_eq!(report.summary.problems, 0);
        report.snapshot.unwrap().id()
    }

    /// By a repository opened anew: nothing is cached.
    fn browser(&self) -> Browser {
        let repository = Repository::open(self.place.clone(), &self.secret).unwrap();
        repository.browse(options()).unwrap()
    }

    /// The newest snapshot's item of that path below the source.
    fn item(&self, browser: &Browser, path: &str) -> Item {
        let whole = self.scratch.path().join("source").join(path);
        follow(browser, Path::new("snapshots/latest").join(whole.strip_prefix("/").unwrap()).to_str().unwrap())
            .unwrap_or_else(|| panic!("{path} is there"))
    }
}

fn options() -> BrowseOptions {
    BrowseOptions::new(|snapshot| format!("t{}", snapshot.record().start_ns))
}

/// What is at a path from the top; `latest` is followed.
fn follow(browser: &Browser, path: &str) -> Option<Item> {
    let mut at = browser.top();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let found = browser.find(&at, name.as_bytes()).unwrap()?;
        at = match found.kind() {
            ItemKind::Latest { target, .. } => browser.find(&at, target).unwrap()?,
            _ => found,
        };
    }
    Some(at)
}

fn names(browser: &Browser, directory: &Item) -> Vec<String> {
    let mut names = Vec::new();
    let mut from = Some(Vec::new());
    while let Some(name) = from {
        let listed = browser.list(directory, &name).unwrap();
        assert!(listed.left_out.is_empty());
        names.extend(listed.items.iter().map(|item| String::from_utf8(item.name().to_vec()).unwrap()));
        from = listed.next;
    }
    names
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    crate::crypto::testing::noise(seed, length)
}

#[test]
fn snapshots_that_come_and_go_are_shown_and_hidden_by_the_next_refresh() {
    let room = Room::new();
    fs::write(room.path("a"), "one").unwrap();
    let first = room.backup("laptop", 1_000_000_000);
    let browser = room.browser();
    let shown = |path: &str| names(&browser, &follow(&browser, path).unwrap());
    assert_eq!(shown("/"), ["hosts", "ids", "snapshots", "tags"]);
    assert_eq!(shown("snapshots"), ["latest", "t1000000000"]);
    let old = follow(&browser, "hosts/laptop/latest").unwrap();
    let second = room.backup("server", 2_000_000_000);
    assert_eq!(shown("hosts"), ["laptop"], "not before it is looked for");
    assert!(browser.refresh().unwrap().is_empty());
    assert_eq!(shown("hosts"), ["laptop", "server"]);
    assert_eq!(shown("ids").len(), 2);
    let forgotten = Forgotten {
        snapshot: first,
        at_ms: 0,
        purge_after_ms: u64::MAX,
        reason: String::new(),
        by: String::new(),
        extensions: Vec::new(),
    };
    room.repository.write_forgotten(&forgotten).unwrap();
    browser.refresh().unwrap();
    assert_eq!(shown("hosts"), ["server"]);
    assert_eq!(shown("ids"), [&second.short()[..8]]);
    // Who is in it stays in it.
    assert!(!browser.list(&old, b"").unwrap().items.is_empty());
    // And nothing was read again of what is known.
    let before = room.place.read.load(Ordering::SeqCst);
    browser.refresh().unwrap();
    assert_eq!(room.place.read.load(Ordering::SeqCst), before);
}

#[test]
fn only_what_passes_the_filter_is_shown() {
    let room = Room::new();
    fs::write(room.path("a"), "one").unwrap();
    room.backup("laptop", 1);
    room.backup("server", 2);
    let options = options().filter(SnapshotFilter::new().host("server"));
    let browser = room.repository.browse(options.templates(vec!["%h".parse().unwrap()])).unwrap();
    assert_eq!(names(&browser, &browser.top()), ["server"]);
}

#[test]
fn a_large_directory_comes_page_by_page_and_whole_from_any_name() {
    let room = Room::new();
    let expected: Vec<String> = (0..5000).map(|number| format!("file-{number:05}")).collect();
    expected.iter().for_each(|name| fs::write(room.path(name), "").unwrap());
    room.backup("h", 1);
    let browser = room.browser();
    let directory = room.item(&browser, "");
    let first = browser.list(&directory, b"").unwrap();
    assert!(first.next.is_some() && first.items.len() < 5000, "{} at once", first.items.len());
    assert_eq!(names(&browser, &directory), expected);
    for from in ["file-01234", "file-01233x", "file-04999", "zzz"] {
        let next = browser.list(&directory, from.as_bytes()).unwrap().items;
        let wanted = expected.iter().find(|name| name.as_str() >= from);
        assert_eq!(next.first().map(|item| item.name().to_vec()), wanted.map(|name| name.clone().into_bytes()));
    }
    let numbers: BTreeSet<u64> = (0..5000).map(|n| room.item(&browser, &format!("file-{n:05}")).number()).collect();
    assert_eq!(numbers.len(), 5000);
    assert!(browser.find(&directory, b"file-5").unwrap().is_none());
    assert!(matches!(browser.find(&room.item(&browser, "file-00000"), b"x"), Err(Error::Path { .. })));
}

#[test]
fn any_range_of_any_file_is_what_was_backed_up() {
    let room = Room::new();
    let mut sparse = vec![0; 3_000_000];
    sparse[1_000_000..1_100_000].copy_from_slice(&noise(1, 100_000));
    let files = [
        ("empty", vec![]),
        ("inline", b"a few".to_vec()),
        ("small", noise(2, 70_000)),
        ("large", noise(3, 12_000_000)),
    ];
    files.iter().for_each(|(name, bytes)| fs::write(room.path(name), bytes).unwrap());
    fs::write(room.path("zeros"), &sparse).unwrap();
    room.backup("h", 1);
    let browser = room.browser();
    for (name, bytes) in files.iter().map(|(name, bytes)| (*name, bytes)).chain([("zeros", &sparse)]) {
        let item = room.item(&browser, name);
        let mut dice = 7u64;
        for round in 0..60 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let offset = (dice >> 20) as usize % (bytes.len() + 10);
            let length = [1, 4096, 131_072, 3_000_000][round % 4];
            let wanted = &bytes[offset.min(bytes.len())..(offset + length).min(bytes.len())];
            assert!(browser.read(&item, offset as u64, length).unwrap() == wanted, "{name} {offset} {length}");
        }
        assert!(browser.read(&item, u64::MAX, usize::MAX).unwrap().is_empty());
        browser.read_ahead(&item, 0, u64::MAX);
    }
    assert!(matches!(browser.read(&browser.top(), 0, 1), Err(Error::Path { .. })));
}

/// A restore that reads the whole file for each small piece would do for every other test.
#[test]
fn four_kilobytes_of_a_large_file_cost_the_frames_they_are_in() {
    let room = Room::new();
    fs::write(room.path("large"), noise(5, 40_000_000)).unwrap();
    room.backup("h", 1);
    let browser = room.browser();
    let item = room.item(&browser, "large");
    let read = |offset| {
        let before = room.place.read.load(Ordering::SeqCst);
        assert_eq!(browser.read(&item, offset, 4096).unwrap().len(), 4096);
        room.place.read.load(Ordering::SeqCst) - before
    };
    let cost = read(25_000_000);
    assert!((4096..4_000_000).contains(&cost), "{cost} bytes for 4 KiB");
    assert_eq!(read(25_000_100), 0, "what was just read is kept");
}

#[test]
fn names_of_one_file_have_one_number_and_other_files_have_others() {
    let room = Room::new();
    fs::write(room.path("a"), "one").unwrap();
    fs::create_dir_all(room.path("deep/er")).unwrap();
    fs::hard_link(room.path("a"), room.path("deep/er/b")).unwrap();
    fs::write(room.path("c"), "one").unwrap();
    room.backup("h", 1);
    let browser = room.browser();
    let number = |path| room.item(&browser, path).number();
    assert_eq!(number("a"), number("deep/er/b"));
    assert_eq!(number("a"), number("a"));
    assert_ne!(number("a"), number("c"));
    let by_id = names(&browser, &follow(&browser, "ids").unwrap());
    let elsewhere = follow(&browser, &format!("ids/{}{}", by_id[0], room.path("a").display())).unwrap();
    assert_ne!(elsewhere.number(), number("a"), "each place of a snapshot is a tree of its own");
}

#[test]
fn a_number_finds_its_item_until_it_was_given_back_as_often_as_taken() {
    let room = Room::new();
    fs::write(room.path("a"), "one").unwrap();
    room.backup("h", 1);
    let browser = room.browser();
    let item = room.item(&browser, "a");
    assert!(browser.item(item.number()).unwrap().is_none());
    browser.remember(&item);
    browser.remember(&item);
    browser.forget(item.number(), 1);
    let again = browser.item(item.number()).unwrap().expect("remembered once");
    assert_eq!((again.number(), browser.path(&again)), (item.number(), browser.path(&item)));
    assert_eq!(browser.read(&again, 0, 9).unwrap(), b"one");
    browser.forget(item.number(), 5);
    assert!(browser.item(item.number()).unwrap().is_none());
    assert_eq!(browser.remembered(), 0);
    for path in ["", "snapshots", "hosts/h"] {
        let hall = follow(&browser, path).unwrap();
        assert_eq!(browser.item(hall.number()).unwrap().expect("always there").name(), hall.name());
    }
    let hall = follow(&browser, "snapshots").unwrap();
    let latest = browser.find(&hall, b"latest").unwrap().unwrap();
    let again = browser.item(latest.number()).unwrap().expect("always there");
    assert!(matches!(again.kind(), ItemKind::Latest { target: b"t1", .. }));
    assert_eq!((again.above(), browser.path(&again)), (hall.number(), b"/snapshots/latest".to_vec()));
}

#[test]
fn a_lost_chunk_is_an_error_for_its_own_bytes_alone() {
    let room = Room::new();
    fs::write(room.path("good"), "inline").unwrap();
    fs::write(room.path("lost"), noise(9, 100_000)).unwrap();
    room.backup("h", 1);
    for (name, _) in room.repository.objects(Prefix::Packs(PackKind::Data)).unwrap() {
        assert!(matches!(name, ObjectName::Pack(..)));
        room.place.remove(&name).unwrap();
    }
    let browser = room.browser();
    assert_eq!(browser.read(&room.item(&browser, "good"), 0, 99).unwrap(), b"inline");
    let lost = browser.read(&room.item(&browser, "lost"), 0, 10);
    assert!(matches!(lost, Err(Error::ChunkLost { .. })), "{lost:?}");
}

/// A chain of directories, each held by the one below it, ends without a stack as deep.
#[test]
fn thousands_of_directories_within_one_another_are_let_go() {
    use super::Directory;
    let snapshot = super::testing::snapshot(1, 1, "h");
    let mut at = Arc::new(Directory::top(2, 1, b"top".to_vec(), snapshot.clone()));
    for depth in 1..200_000 {
        at = Arc::new(Directory {
            number: 2,
            snapshot: snapshot.clone(),
            tree: None,
            name: Vec::new(),
            above_number: 2,
            above: Some(at),
            depth,
        });
    }
    drop(at);
}

#[cfg(target_os = "linux")]
#[test]
fn holes_are_found_and_take_up_nothing() {
    use std::io::{Seek, SeekFrom, Write};

    let room = Room::new();
    let mut file = fs::File::create(room.path("sparse")).unwrap();
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    file.write_all(&noise(1, 65_536)).unwrap();
    file.set_len(4 << 20).unwrap();
    drop(file);
    fs::write(room.path("dense"), noise(2, 200_000)).unwrap();
    fs::write(room.path("inline"), "x").unwrap();
    room.backup("h", 1);
    let browser = room.browser();
    let sparse = room.item(&browser, "sparse");
    if browser.allocated_bytes(&sparse).unwrap() == 4 << 20 {
        return; // a file system without holes
    }
    assert_eq!(browser.allocated_bytes(&sparse).unwrap(), 65_536);
    assert_eq!(browser.next_data(&sparse, 0).unwrap(), Some(1 << 20));
    assert_eq!(browser.next_data(&sparse, (1 << 20) + 5).unwrap(), Some((1 << 20) + 5));
    assert_eq!(browser.next_data(&sparse, 2 << 20).unwrap(), None);
    assert_eq!(browser.next_hole(&sparse, 0).unwrap(), Some(0));
    assert_eq!(browser.next_hole(&sparse, 1 << 20).unwrap(), Some((1 << 20) + 65_536));
    assert_eq!(browser.next_hole(&sparse, 4 << 20).unwrap(), None);
    for name in ["dense", "inline"] {
        let item = room.item(&browser, name);
        let size = fs::metadata(room.path(name)).unwrap().len();
        assert_eq!(browser.allocated_bytes(&item).unwrap(), size);
        assert_eq!((browser.next_data(&item, 0).unwrap(), browser.next_hole(&item, 0).unwrap()), (Some(0), Some(size)));
    }
}
