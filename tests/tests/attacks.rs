//! The heart under attack: sources and places that fail, shrink, grow and race. Whatever happens, a snapshot that is
//! published is whole, and what was given is what comes back.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use repo_core::{
    Backend, BackendError, BackupOptions, BackupReport, Bytes, Capabilities, CheckOptions, Details, Entries, Error,
    Event, InitOptions, Listed, Memory, Metadata, NodeKind, ObjectName, PasswordCost, Prefix, Progress, Put,
    ReaderSource, Removal, Repository, Secret, Silent, Source, SourceDirectory, SourceEntry, SourceFile, Span,
    Timestamp,
};

type Data = Arc<dyn Fn(u64) -> u8 + Send + Sync>;

/// A file of a made-up source.
#[derive(Clone)]
struct Fake {
    uid: u32,
    /// What the listing says.
    listed_size: u64,
    /// What the open file says and has.
    size: u64,
    /// Where its data begins; before that is a hole.
    data_from: u64,
    changed: i64,
    data: Data,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Reading fails, or panics, at this offset.
    fails_at: Option<u64>,
    panics_at: Option<u64>,
}

fn fake(size: u64, seed: u64) -> Fake {
    Fake {
        uid: 0,
        listed_size: size,
        size,
        data_from: 0,
        changed: 1_000,
        data: Arc::new(move |at| {
            (at / 8 + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).to_le_bytes()[(at % 8) as usize]
        }),
        xattrs: Vec::new(),
        fails_at: None,
        panics_at: None,
    }
}

impl Fake {
    fn content(&self) -> Vec<u8> {
        (0..self.size).map(|at| if at < self.data_from { 0 } else { (self.data)(at) }).collect()
    }

    fn metadata(&self, size: u64) -> Metadata {
        let time = Timestamp { seconds: self.changed, nanoseconds: 0 };
        Metadata {
            uid: self.uid,
            modified: Timestamp { seconds: 1_000, nanoseconds: 0 },
            changed: time,
            inode: 7,
            device: 1,
            size,
            ..Metadata::unknown(NodeKind::File, 0o644)
        }
    }
}

/// One flat directory of files.
#[derive(Clone, Default)]
struct Flat(Arc<BTreeMap<Vec<u8>, Fake>>);

impl Flat {
    fn of(files: impl IntoIterator<Item = (String, Fake)>) -> Self {
        Self(Arc::new(files.into_iter().map(|(name, file)| (name.into_bytes(), file)).collect()))
    }
}

impl Source for Flat {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(self.clone()))
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        vec![b"/flat".to_vec()]
    }
}

impl SourceDirectory for Flat {
    fn entries(&self) -> io::Result<Entries> {
        let files = self.0.clone();
        let names: Vec<Vec<u8>> = files.keys().cloned().collect();
        Ok(Box::new(names.into_iter().map(move |name| {
            let metadata = files[&name].metadata(files[&name].listed_size);
            Ok(SourceEntry { name, metadata, descend: true })
        })))
    }

    fn open_directory(&self, _: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    fn open_file(&self, entry: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
        Ok(Box::new(self.0[&entry.name].clone()))
    }

    fn details(&self, entry: &SourceEntry) -> io::Result<Details> {
        Ok(Details { xattrs: self.0[&entry.name].xattrs.clone(), ..Details::default() })
    }
}

impl SourceFile for Fake {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let end = (offset + buffer.len() as u64).min(self.size);
        let inside = |at: &u64| (offset..end.max(offset + 1)).contains(at);
        assert!(!self.panics_at.as_ref().is_some_and(inside), "the source panics, as it was told to");
        if self.fails_at.as_ref().is_some_and(inside) {
            return Err(io::Error::other("no such sector"));
        }
        for at in offset..end {
            buffer[(at - offset) as usize] = if at < self.data_from { 0 } else { (self.data)(at) };
        }
        Ok(end.saturating_sub(offset) as usize)
    }

    fn next_data(&mut self, offset: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
        Ok((offset < size).then_some((offset.max(self.data_from), size)))
    }

    fn metadata(&mut self) -> io::Result<Metadata> {
        Ok(Fake::metadata(self, self.size))
    }

    fn details(&mut self) -> io::Result<Details> {
        Ok(Details { xattrs: self.xattrs.clone(), ..Details::default() })
    }
}

/// A place that fails the n-th `put_new`, loses its answer, or does something before the packs or the index are listed.
#[derive(Debug, Default)]
struct Faulty {
    inner: Memory,
    puts: AtomicU64,
    /// Every put from this one on fails; negative: none.
    fails_from: AtomicI64,
    loses_answer_of: AtomicI64,
    before_list: Mutex<Option<(Prefix, Hook)>>,
}

struct Hook(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

impl Faulty {
    fn new() -> Arc<Self> {
        let faulty = Self::default();
        faulty.fails_from.store(-1, Ordering::SeqCst);
        faulty.loses_answer_of.store(-1, Ordering::SeqCst);
        Arc::new(faulty)
    }

    fn snapshots(&self) -> usize {
        let mut count = 0;
        let counted = self.inner.list(Prefix::Snapshots, &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        });
        counted.unwrap();
        count
    }

    fn heal(&self) {
        self.puts.store(0, Ordering::SeqCst);
        self.fails_from.store(-1, Ordering::SeqCst);
        self.loses_answer_of.store(-1, Ordering::SeqCst);
    }
}

impl Backend for Faulty {
    fn place(&self) -> String {
        "faulty".into()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        let number = self.puts.fetch_add(1, Ordering::SeqCst) as i64;
        let from = self.fails_from.load(Ordering::SeqCst);
        if from >= 0 && number >= from {
            return Err(BackendError::io("writing", name, io::Error::other("the place is full")));
        }
        let put = self.inner.put_new(name, bytes)?;
        Ok(if self.loses_answer_of.load(Ordering::SeqCst) == number { Put::Unknown } else { put })
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        self.inner.get(name, span)
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        let mut hook = self.before_list.lock().unwrap();
        let due = matches!(&*hook, Some((at, _)) if *at == prefix).then(|| hook.take()).flatten();
        drop(hook);
        if let Some((_, Hook(act))) = due {
            act();
        }
        self.inner.list(prefix, each)
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        self.inner.remove(name)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { put_if_absent: true }
    }
}

fn secret() -> Secret {
    Secret::generate_key().unwrap().0
}

fn repository() -> Repository {
    Repository::init(Arc::new(Memory::new()), &secret(), &InitOptions::new()).unwrap()
}

fn options() -> BackupOptions {
    BackupOptions::new().host("host").memory_bytes(1)
}

fn back_up(repository: &Repository, source: &dyn Source) -> BackupReport {
    repository.backup(source, &options(), &Silent).unwrap()
}

fn assert_whole(repository: &Repository) {
    let report = repository.check(&CheckOptions::new().read_data(), &Silent).unwrap();
    assert!(report.is_whole(), "{:?}", report.errors);
}

fn read(repository: &Repository, report: &BackupReport, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = repository.read(report.snapshot.as_ref().unwrap(), name.as_bytes()).unwrap();
    io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    bytes
}

/// The source comes back byte for byte.
fn assert_kept(repository: &Repository, report: &BackupReport, source: &Flat) {
    for (name, file) in source.0.iter() {
        let name = String::from_utf8_lossy(name);
        assert!(read(repository, report, &name) == file.content(), "{name} came back differently");
    }
}

#[test]
fn a_file_a_frame_and_an_owner_a_file_fit_into_the_index() {
    let repository = repository();
    let files =
        (0..30_000).map(|number| (format!("{number:05}"), Fake { uid: number % 2, ..fake(520, number.into()) }));
    let source = Flat::of(files);
    let report = back_up(&repository, &source);
    assert_eq!(report.summary.data_chunks, 30_000);
    assert_whole(&repository);
}

#[test]
fn more_frames_than_a_pack_may_have_are_two_packs() {
    let repository = repository().with_threads(1);
    // Eight bytes again and again: a frame of a few dozen bytes each.
    let tiny = |number: u64| Fake {
        uid: number as u32 % 2,
        data: Arc::new(move |at| (number + 1).to_le_bytes()[at as usize % 8]),
        ..fake(520, 0)
    };
    let source = Flat::of((0..70_000).map(|number| (format!("{number:05}"), tiny(number))));
    let report = back_up(&repository, &source);
    assert_eq!(report.summary.data_chunks, 70_000);
    let report = back_up(&repository, &source);
    assert_eq!(report.summary.files_unmodified, 70_000, "all of it is found again");
}

#[test]
fn tens_of_thousands_of_chunks_of_a_few_bytes_do_not_fill_one_frame() {
    let repository = repository();
    let sparse = |number: u64| Fake { data_from: 4096, ..fake(4096 + 8, number) };
    let source = Flat::of((0..40_000).map(|number| (format!("{number:05}"), sparse(number))));
    let report = back_up(&repository, &source);
    assert_eq!(report.summary.data_chunks, 40_000);
    assert_eq!(read(&repository, &report, "39999"), source.0[&b"39999"[..]].content());
    assert_whole(&repository);
}

#[test]
fn chunks_as_large_as_the_format_allows_are_cut_and_kept() {
    let mut large = InitOptions::new();
    (large.chunker.min_bytes, large.chunker.average_bytes, large.chunker.max_bytes) = (1 << 20, 4 << 20, 16 << 20);
    let repository = Repository::init(Arc::new(Memory::new()), &secret(), &large).unwrap();
    // One that is cut at its largest alone, since it never varies, and one that is not.
    let constant = Fake { data: Arc::new(|_| 9), ..fake((16 << 20) + 5, 0) };
    let source = Flat::of([("a".into(), constant), ("b".into(), fake(20 << 20, 1)), ("c".into(), fake(600, 2))]);
    let report = back_up(&repository, &source);
    assert_kept(&repository, &report, &source);
}

#[test]
fn files_at_every_limit_come_back() {
    const UNIT: u64 = 1 << 20;
    let chunk = 512 << 10;
    let sizes = [0, 1, 511, 512, 513, 4097, chunk - 1, chunk, chunk + 1, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT - 1];
    let sizes = sizes.into_iter().chain([2 * UNIT, 2 * UNIT + 1, 4 * UNIT, 4 * UNIT + 7]);
    let mut files = Vec::new();
    for size in sizes {
        files.push((format!("{size}"), fake(size, size)));
        files.push((format!("{size}-constant"), Fake { data: Arc::new(|_| 1), ..fake(size, 0) }));
        files.push((format!("{size}-zero"), Fake { data: Arc::new(|_| 0), ..fake(size, 0) }));
        files.push((format!("{size}-sparse"), Fake { data_from: size / 3, ..fake(size, size) }));
        files.push((format!("{size}-hole"), Fake { data_from: size, ..fake(size, size) }));
    }
    let source = Flat::of(files);
    for threads in [1, 16] {
        let repository = repository().with_threads(threads);
        let report = back_up(&repository, &source);
        assert_kept(&repository, &report, &source);
        assert_eq!(report.summary.problems, 0);
    }
}

#[test]
fn a_small_file_that_became_huge_since_it_was_listed_costs_no_more_than_a_buffer() {
    let repository = repository();
    let source = Flat::of([("log".into(), Fake { listed_size: 700, ..fake(1 << 42, 3) })]);
    let report = back_up(&repository, &source);
    let node = repository.node(report.snapshot.as_ref().unwrap(), b"log").unwrap();
    assert!(node.metadata.unstable, "what is not all of the file is said to be so");
    assert!(node.metadata.size >= 700);
    assert_whole(&repository);
}

#[test]
fn files_that_shrank_since_they_were_listed_are_what_was_there() {
    let repository = repository();
    let shrunk = |listed_size, size| Fake { listed_size, ..fake(size, 5) };
    let source =
        Flat::of([("a".into(), shrunk(900, 0)), ("b".into(), shrunk(5 << 20, 100)), ("c".into(), shrunk(900, 10))]);
    let report = back_up(&repository, &source);
    assert_kept(&repository, &report, &source);
    assert_whole(&repository);
}

#[test]
fn a_stream_is_read_however_much_its_metadata_looks_like_the_last_ones() {
    let repository = repository();
    let at = Timestamp { seconds: 1_000, nanoseconds: 0 };
    let stream = |bytes: &'static [u8]| ReaderSource::new(Path::new("dump"), bytes).modified(at);
    back_up(&repository, &stream(b""));
    let report = back_up(&repository, &stream(b"no longer empty"));
    assert_eq!(read(&repository, &report, "dump"), b"no longer empty");
}

#[test]
fn attributes_that_no_reader_accepts_are_a_problem_of_their_entry() {
    let repository = repository();
    let with = |xattrs: &[(&str, usize)]| Fake {
        xattrs: xattrs.iter().map(|(name, length)| (name.as_bytes().to_vec(), vec![7; *length])).collect(),
        ..fake(600, 1)
    };
    let source = Flat::of([
        ("fine".into(), with(&[("user.a", 100 << 10), ("user.b", 1 << 20)])),
        ("huge".into(), with(&[("user.a", 17 << 20)])),
        ("twice".into(), with(&[("user.a", 9000), ("user.a", 9000)])),
    ]);
    let report = back_up(&repository, &source);
    assert_kept(&repository, &report, &source);
    assert_eq!(report.summary.problems, 2);
    let target = tempfile::tempdir().unwrap();
    let restored = repository.restore(
        report.snapshot.as_ref().unwrap(),
        target.path(),
        &repo_core::RestoreOptions::new(),
        &Silent,
    );
    assert!(restored.is_ok(), "{restored:?}");
}

#[test]
fn new_attributes_are_kept_when_the_ctime_is_ignored_however_large() {
    let repository = repository();
    let before = Flat::of([("a".into(), fake(600, 1))]);
    let xattrs = vec![(b"user.large".to_vec(), vec![1; 8000])];
    let after = Flat::of([("a".into(), Fake { changed: 2_000, xattrs, ..fake(600, 1) })]);
    back_up(&repository, &before);
    let report = repository.backup(&after, &options().ignore_ctime(), &Silent).unwrap();
    let node = repository.node(report.snapshot.as_ref().unwrap(), b"a").unwrap();
    assert!(matches!(node.xattrs, repo_core::Xattrs::Chunk(_)), "{:?}", node.xattrs);
}

#[test]
fn a_snapshot_that_could_not_be_read_back_is_never_published() {
    let repository = repository();
    let source = Flat::of([("a".into(), fake(600, 1))]);
    let many = (0..200_000).map(|number| format!("pattern {number}"));
    for impossible in [options().excludes(many), options().zone_minutes(24 * 60), options().tag("t".repeat(2 << 20))] {
        assert!(repository.backup(&source, &impossible, &Silent).is_err());
    }
    assert_eq!(repository.snapshots(&Default::default()).unwrap().unreadable.len(), 0);
    back_up(&repository, &source);
    assert_whole(&repository);
}

#[test]
fn no_change_of_keys_locks_everybody_out() {
    let place = Faulty::new();
    let first = secret();
    let repository = Repository::init(place.clone(), &first, &InitOptions::new()).unwrap();
    let label = "l".repeat(100 << 10);
    assert!(repository.add_key(&secret(), &label, PasswordCost::Default).is_err());
    for lost in 0..6 {
        place.puts.store(0, Ordering::SeqCst);
        place.loses_answer_of.store(lost, Ordering::SeqCst);
        let _ = repository.add_key(&secret(), "lost answer", PasswordCost::Default);
    }
    place.heal();
    Repository::open(place, &first).unwrap();
}

#[test]
fn what_a_backup_publishes_while_another_client_loads_the_index_is_not_missing() {
    for prefix in [Prefix::Indexes, Prefix::Packs(repo_core::PackKind::Data), Prefix::Packs(repo_core::PackKind::Meta)]
    {
        let place = Faulty::new();
        let first = secret();
        let writer = Repository::init(place.clone(), &first, &InitOptions::new()).unwrap();
        let reader = Repository::open(place.clone(), &first).unwrap();
        let source = Flat::of([("a".into(), fake(600, 1))]);
        let hook = Hook(Box::new(move || drop(back_up(&writer, &source))));
        *place.before_list.lock().unwrap() = Some((prefix, hook));
        assert_whole(&reader);
        let snapshots = reader.snapshots(&Default::default()).unwrap().snapshots;
        let mut file = reader.read(&snapshots[0], b"a").unwrap();
        io::Read::read_to_end(&mut file, &mut Vec::new()).unwrap();
    }
}

/// Small files, empty ones, and files of several segments between them.
fn mixed(seed: u64) -> Flat {
    let file = |number: u64| match number % 100 {
        50 => fake(9 << 20, seed + number),
        odd if odd % 3 == 0 => fake(0, 0),
        _ => fake(700 + number, seed + number),
    };
    let changed = seed as i64 + 1;
    Flat::of((0..200).map(|number| (format!("{number:03}"), Fake { changed, ..file(number) })))
}

fn one_with(seed: u64, change: impl Fn(&mut Fake)) -> Flat {
    let mut files = (*mixed(seed).0).clone();
    for name in [&b"050"[..], b"101"] {
        change(files.get_mut(name).unwrap());
    }
    Flat(Arc::new(files))
}

fn snapshot_count(repository: &Repository) -> usize {
    let list = repository.snapshots(&Default::default()).unwrap();
    assert!(list.unreadable.is_empty(), "{:?}", list.unreadable);
    list.snapshots.len()
}

#[test]
fn a_place_that_fails_at_any_write_ends_the_backup_and_publishes_nothing() {
    for threads in [1, 16] {
        let place = Faulty::new();
        let repository = Repository::init(place.clone(), &secret(), &InitOptions::new()).unwrap().with_threads(threads);
        for number in 0.. {
            place.puts.store(0, Ordering::SeqCst);
            place.fails_from.store(number, Ordering::SeqCst);
            let before = place.snapshots();
            let result = repository.backup(&mixed(number as u64 * 1000), &options(), &Silent);
            let writes = place.puts.load(Ordering::SeqCst) as i64;
            place.heal();
            match result {
                // Its second copy alone could not be written.
                Ok(_) => {
                    assert_eq!(snapshot_count(&repository), 1);
                    assert!(number >= 4 && writes - number <= 1, "{writes} writes, all failed from {number}");
                    break;
                }
                Err(Error::Backend(_)) => assert_eq!(place.snapshots(), before),
                Err(other) => panic!("write {number}: {other}"),
            }
        }
        let report = repository.check(&CheckOptions::new().read_data(), &Silent).unwrap();
        assert!(report.damaged_snapshots.is_empty() && report.damaged_packs.is_empty(), "{:?}", report.errors);
    }
}

#[test]
fn a_lost_answer_costs_the_run_or_nothing() {
    let place = Faulty::new();
    let repository = Repository::init(place.clone(), &secret(), &InitOptions::new()).unwrap();
    let mut published = 0;
    for number in 0..8 {
        place.puts.store(0, Ordering::SeqCst);
        place.loses_answer_of.store(number, Ordering::SeqCst);
        let source = mixed(number as u64 * 1000);
        let result = repository.backup(&source, &options(), &Silent);
        place.heal();
        if let Ok(report) = result {
            published += 1;
            assert_kept(&repository, &report, &source);
        }
    }
    assert!((2..8).contains(&published), "{published} of eight");
    assert_eq!(snapshot_count(&repository), published);
    assert_whole(&repository);
}

/// Cancels, or panics, at the n-th question or event.
struct Impatient {
    left: AtomicI64,
    panics: bool,
}

impl Impatient {
    fn is_at_end(&self) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) <= 0
    }
}

impl Progress for Impatient {
    fn report(&self, _: Event<'_>) {
        assert!(!(self.is_at_end() && self.panics), "the listener panics, as it was told to");
    }

    fn is_cancelled(&self) -> bool {
        self.is_at_end() && !self.panics
    }
}

#[test]
fn cancelled_or_broken_at_any_moment_nothing_is_published_and_nobody_waits_forever() {
    for (threads, panics) in [(1, false), (16, false), (1, true), (16, true)] {
        let repository = repository().with_threads(threads);
        for number in (0..20).chain([40, 100, 150, 200, 250, 300, 400]) {
            let progress = Impatient { left: AtomicI64::new(number), panics };
            match repository.backup(&mixed(number as u64 * 1000), &options(), &progress) {
                Err(Error::Cancelled) if !panics => assert_eq!(snapshot_count(&repository), 0),
                Err(Error::Bug(_)) if panics => assert_eq!(snapshot_count(&repository), 0),
                other => panic!("at {number}: {other:?}"),
            }
        }
        back_up(&repository, &mixed(1));
        assert_whole(&repository);
    }
}

#[test]
fn a_source_that_fails_is_a_problem_and_one_that_panics_an_error() {
    for threads in [1, 16] {
        let repository = repository().with_threads(threads);
        for offset in [0, 300, 3 << 20, (9 << 20) - 1] {
            let within = |file: &Fake| offset.min(file.size - 1);
            let source = one_with(1, |file| file.panics_at = Some(within(file)));
            let result = repository.backup(&source, &options(), &Silent);
            assert!(matches!(result, Err(Error::Bug(_))), "{result:?}");
            assert_eq!(snapshot_count(&repository), 0);
        }
        for offset in [0, 300, 3 << 20, (9 << 20) - 1] {
            let within = |file: &Fake| offset.min(file.size - 1);
            let source = one_with(offset + 5, |file| file.fails_at = Some(within(file)));
            let report = back_up(&repository, &source);
            assert_eq!(report.summary.problems, 2);
            let mut readable = (*source.0).clone();
            readable.retain(|_, file| file.fails_at.is_none());
            assert_kept(&repository, &report, &Flat(Arc::new(readable)));
            assert!(repository.read(report.snapshot.as_ref().unwrap(), b"050").is_err());
        }
        assert_whole(&repository);
    }
}

#[test]
fn one_handle_backs_up_reads_and_checks_at_the_same_time() {
    let repository = repository();
    let first = mixed(1);
    let report = back_up(&repository, &first);
    std::thread::scope(|scope| {
        for client in 0..2 {
            let repository = &repository;
            scope.spawn(move || {
                for round in 0..3 {
                    let source = mixed(10_000 * (client + 1) + 1000 * round);
                    let report = back_up(repository, &source);
                    assert_kept(repository, &report, &source);
                }
            });
        }
        scope.spawn(|| (0..4).for_each(|_| assert_kept(&repository, &report, &first)));
        scope.spawn(|| (0..4).for_each(|_| assert_whole(&repository)));
    });
    assert_eq!(snapshot_count(&repository), 7);
    assert_whole(&repository);
}
