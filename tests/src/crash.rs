//! Power failures: what a disk may hold after one, for every moment of a run.
//!
//! A [`Recorder`] stands in for the system's file operations and writes down what was done. [`Crashes`] then takes every prefix
//! of that log, and for each the states that a pessimistic file system may come back with, puts each into a directory, and asks
//! whether it is good. What is *good* is the caller's business.
//!
//! The model, which is worse than any journalling file system and about as bad as POSIX allows:
//! - A file's bytes are safe once the file was synced. Bytes written since may be there, missing, cut in half, or zeros.
//! - A change of a directory (a name given, moved or taken away) is safe once that directory was synced. Of all others any
//!   subset may have happened; a rename is two changes, of which one may be lost, and so is an exchange. To sync a file says nothing of its name.
//! - What the start of the recording found is safe.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use repo_core::internals::platform::files::{FileOperations, Found, SystemFiles};

/// Up to so many unsafe changes every subset is tried, beyond it a choice: 2^5 states at each moment.
const EXHAUSTIVE_CHANGES_MAX: usize = 5;
/// Of how many changes each alone is lost, if there are too many: the newest.
const SINGLE_LOSSES_MAX: usize = 6;
/// How many directories lose, or alone keep, all their changes, if there are too many.
const DIRECTORIES_MAX: usize = 8;
/// How many subsets are drawn beyond those.
const DRAWS: u64 = 3;

/// One thing that was done, by paths below the recorder's base.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Operation {
    MakeDirectory(PathBuf),
    CreateFile(PathBuf),
    Write(PathBuf, Vec<u8>),
    SyncFile(PathBuf),
    Rename(PathBuf, PathBuf),
    Exchange(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Unlink(PathBuf),
    SyncDirectory(PathBuf),
    /// Not an operation: the run has come so far.
    Mark(String),
}

impl Operation {
    fn is_sync(&self) -> bool {
        matches!(self, Self::SyncFile(_) | Self::SyncDirectory(_))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDirectory(path) => write!(f, "mkdir {}", path.display()),
            Self::CreateFile(path) => write!(f, "create {}", path.display()),
            Self::Write(path, bytes) => write!(f, "write {} bytes to {}", bytes.len(), path.display()),
            Self::SyncFile(path) => write!(f, "fsync file {}", path.display()),
            Self::Rename(from, to) => write!(f, "rename {} to {}", from.display(), to.display()),
            Self::Exchange(one, other) => write!(f, "exchange {} and {}", one.display(), other.display()),
            Self::Link(from, to) => write!(f, "link {} to {}", from.display(), to.display()),
            Self::Unlink(path) => write!(f, "unlink {}", path.display()),
            Self::SyncDirectory(path) => write!(f, "fsync directory {}", path.display()),
            Self::Mark(label) => write!(f, "mark {label}"),
        }
    }
}

/// The system's file operations below a base directory, each written down if it succeeded. What lies outside is not recorded.
#[derive(Debug)]
pub struct Recorder {
    base: PathBuf,
    can_rename: bool,
    log: Mutex<Log>,
}

impl Recorder {
    /// Records from now on; what is below `base` already counts as safe.
    pub fn new(base: &Path) -> Self {
        let log = Log { start: Disk::read(base), operations: Vec::new() };
        Self { base: base.to_owned(), can_rename: true, log: Mutex::new(log) }
    }

    /// Plays a file system that has hard links alone, such as NFS.
    pub fn without_rename(self) -> Self {
        Self { can_rename: false, ..self }
    }

    /// Says that the run has come so far: from here on a crash has [passed](Crash::has_passed) `label`.
    pub fn mark(&self, label: impl Into<String>) {
        self.log().operations.push(Operation::Mark(label.into()));
    }

    /// What was recorded until now.
    pub fn finish(&self) -> Log {
        self.log().clone()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something and writes it down, in one step, so that the log has the order in which things happened.
    fn record<T>(
        &self,
        run: impl FnOnce() -> io::Result<T>,
        paths: &[&Path],
        operation: impl FnOnce(&[PathBuf]) -> Operation,
    ) -> io::Result<T> {
        let mut log = self.log();
        let done = run()?;
        let below: Result<Vec<_>, _> = paths.iter().map(|path| path.strip_prefix(&self.base)).collect();
        if let Ok(paths) = below {
            log.operations.push(operation(&paths.into_iter().map(Path::to_owned).collect::<Vec<_>>()));
        }
        Ok(done)
    }
}

impl FileOperations for Recorder {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.record(|| SystemFiles.make_directory(path), &[path], |paths| Operation::MakeDirectory(paths[0].clone()))
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.record(|| SystemFiles.create_new(path), &[path], |paths| Operation::CreateFile(paths[0].clone()))
    }

    fn write(&self, path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let operation = |paths: &[PathBuf]| Operation::Write(paths[0].clone(), bytes.to_vec());
        self.record(|| SystemFiles.write(path, file, bytes), &[path], operation)
    }

    fn fsync_file(&self, path: &Path, file: &File) -> io::Result<()> {
        self.record(|| SystemFiles.fsync_file(path, file), &[path], |paths| Operation::SyncFile(paths[0].clone()))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.can_rename {
            return Err(rustix::io::Errno::INVAL.into());
        }
        let operation = |paths: &[PathBuf]| Operation::Rename(paths[0].clone(), paths[1].clone());
        self.record(|| SystemFiles.rename_no_replace(from, to), &[from, to], operation)
    }

    fn rename_exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        if !self.can_rename {
            return Err(rustix::io::Errno::INVAL.into());
        }
        let operation = |paths: &[PathBuf]| Operation::Exchange(paths[0].clone(), paths[1].clone());
        self.record(|| SystemFiles.rename_exchange(one, other), &[one, other], operation)
    }

    fn link(&self, file: &File, from: &Path, to: &Path) -> io::Result<()> {
        let operation = |paths: &[PathBuf]| Operation::Link(paths[0].clone(), paths[1].clone());
        self.record(|| SystemFiles.link(file, from, to), &[from, to], operation)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.record(|| SystemFiles.unlink(path), &[path], |paths| Operation::Unlink(paths[0].clone()))
    }

    fn fsync_directory(&self, path: &Path) -> io::Result<()> {
        self.record(|| SystemFiles.fsync_directory(path), &[path], |paths| Operation::SyncDirectory(paths[0].clone()))
    }

    fn open(&self, path: &Path) -> io::Result<(File, u64)> {
        SystemFiles.open(path)
    }

    fn read_at(&self, file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        SystemFiles.read_at(file, offset, length)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Found>> {
        SystemFiles.list(path)
    }
}

/// What happens to a process, or to its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is killed: nothing it asks for is done any more, not even reading.
    Killed,
    /// The disk is full: what would need room fails.
    Full,
}

/// File operations that are as good as others until a fault comes.
#[derive(Debug)]
pub struct Failing {
    inner: Arc<dyn FileOperations>,
    fault: Fault,
    /// How many changes are still done.
    left: AtomicUsize,
}

impl Failing {
    /// The fault comes after so many changes of the file system.
    pub fn after(changes: usize, fault: Fault, inner: Arc<dyn FileOperations>) -> Self {
        Self { inner, fault, left: AtomicUsize::new(changes) }
    }

    /// So many changes of the file system are still done.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    /// There is room again.
    pub fn end(&self) {
        self.left.store(usize::MAX, Ordering::SeqCst);
    }

    fn error(&self) -> io::Error {
        match self.fault {
            Fault::Killed => rustix::io::Errno::IO.into(),
            Fault::Full => rustix::io::Errno::NOSPC.into(),
        }
    }

    /// A change that needs room.
    fn grow(&self) -> io::Result<()> {
        let less = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).map(drop).map_err(|_| self.error())
    }

    /// A change that needs none.
    fn change(&self) -> io::Result<()> {
        if self.fault == Fault::Killed { self.grow() } else { Ok(()) }
    }

    /// What changes nothing.
    fn look(&self) -> io::Result<()> {
        if self.fault == Fault::Killed && self.left() == 0 { Err(self.error()) } else { Ok(()) }
    }
}

impl FileOperations for Failing {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.grow()?;
        self.inner.make_directory(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.grow()?;
        self.inner.create_new(path)
    }

    fn write(&self, path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.grow().inspect_err(|_| {
            // As the system does it: what there was room for was written.
            let _ = self.inner.write(path, file, &bytes[..bytes.len() / 2]);
        })?;
        self.inner.write(path, file, bytes)
    }

    fn fsync_file(&self, path: &Path, file: &File) -> io::Result<()> {
        self.grow()?;
        self.inner.fsync_file(path, file)
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.grow()?;
        self.inner.rename_no_replace(from, to)
    }

    fn rename_exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.grow()?;
        self.inner.rename_exchange(one, other)
    }

    fn link(&self, file: &File, from: &Path, to: &Path) -> io::Result<()> {
        self.grow()?;
        self.inner.link(file, from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        self.inner.unlink(path)
    }

    fn fsync_directory(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        self.inner.fsync_directory(path)
    }

    fn open(&self, path: &Path) -> io::Result<(File, u64)> {
        self.look()?;
        self.inner.open(path)
    }

    fn read_at(&self, file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.look()?;
        self.inner.read_at(file, offset, length)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Found>> {
        self.look()?;
        self.inner.list(path)
    }
}

/// What a run did, on what it found.
#[derive(Clone, Debug)]
pub struct Log {
    start: Disk,
    operations: Vec<Operation>,
}

impl Log {
    /// How many operations it has, marks included.
    pub fn operations(&self) -> usize {
        self.operations.len()
    }

    /// Every fsync, in order, in words.
    pub fn syncs(&self) -> Vec<String> {
        self.operations.iter().filter(|operation| operation.is_sync()).map(Operation::to_string).collect()
    }

    /// The same run, had its `n`-th fsync (from 0) been forgotten; and how many operations came before it. Until there the
    /// two runs are the same.
    pub fn without_sync(&self, n: usize) -> (Self, usize) {
        let syncs = self.operations.iter().enumerate().filter(|(_, operation)| operation.is_sync());
        let position = syncs.map(|(position, _)| position).nth(n).expect("there are so many");
        let mut log = self.clone();
        log.operations.remove(position);
        (log, position)
    }
}

/// A moment at which the power failed, and what was lost.
#[derive(Debug)]
pub struct Crash {
    operations: usize,
    last: String,
    passed: BTreeSet<String>,
    loss: String,
}

impl Crash {
    /// Whether the run had come to this mark.
    pub fn has_passed(&self, label: &str) -> bool {
        self.passed.contains(label)
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "power failure after {} operations ({}); {}", self.operations, self.last, self.loss)
    }
}

/// The crashes of a run to look at.
#[derive(Debug)]
pub struct Crashes<'a> {
    log: &'a Log,
    first: usize,
    ignored: Option<PathBuf>,
}

/// What says whether a state is good. It may write into the directory, which is its own.
pub type Check<'c> = dyn FnMut(&Crash, &Path) -> Result<(), String> + 'c;

/// Shows every crash of a run to `check`, each in a directory of its own, and panics with the first that is bad.
/// Returns how many there were.
pub fn for_each_crash(log: &Log, check: &mut Check<'_>) -> usize {
    Crashes::of(log).check(check)
}

impl<'a> Crashes<'a> {
    /// All of them.
    pub fn of(log: &'a Log) -> Self {
        Self { log, first: 0, ignored: None }
    }

    /// Only crashes after so many operations.
    pub fn after(self, operations: usize) -> Self {
        Self { first: operations, ..self }
    }

    /// Takes states that differ in this directory alone as the same: for a directory whose files nobody reads.
    pub fn ignoring(self, path: impl Into<PathBuf>) -> Self {
        Self { ignored: Some(path.into()), ..self }
    }

    /// See [`for_each_crash`].
    pub fn check(&self, check: &mut Check<'_>) -> usize {
        match self.run(check) {
            Ok(count) => count,
            Err(bad) => panic!("{bad}"),
        }
    }

    /// The first crash that is bad, in words, if there is one.
    pub fn find_bad(&self, check: &mut Check<'_>) -> Option<String> {
        self.run(check).err()
    }

    fn run(&self, check: &mut Check<'_>) -> Result<usize, String> {
        let operations = &self.log.operations;
        let mut disk = self.log.start.clone();
        let mut passed = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut checked = 0;
        for count in 0..=operations.len() {
            match count.checked_sub(1).map(|last| &operations[last]) {
                None => {}
                Some(Operation::Mark(label)) => {
                    passed.insert(label.clone());
                    // What was good before may not be good enough from here on.
                    seen.clear();
                }
                Some(operation) => disk.apply(operation),
            }
            if count < self.first || is_within_a_run_of_directories(operations, count) {
                continue;
            }
            for (loss, state) in disk.states(count as u64, self.ignored.as_deref()) {
                if !seen.insert(state.digest(self.ignored.as_deref())) {
                    continue;
                }
                let last = count.checked_sub(1).map_or("nothing".to_owned(), |last| operations[last].to_string());
                let crash = Crash { operations: count, last, passed: passed.clone(), loss };
                let directory = scratch();
                state.write(directory.path());
                check(&crash, directory.path()).map_err(|problem| format!("{crash}: {problem}"))?;
                checked += 1;
            }
        }
        Ok(checked)
    }
}

/// Directories made one after the other differ in nothing but their names: of a long run the ends and a few between are looked at.
fn is_within_a_run_of_directories(operations: &[Operation], count: usize) -> bool {
    let is_made = |operation: &Operation| matches!(operation, Operation::MakeDirectory(_));
    count >= 2
        && !count.is_multiple_of(100)
        && operations.get(count - 2..=count).is_some_and(|near| near.iter().all(is_made))
}

/// A new directory, in memory where the system has that: thousands are made, and none has to outlive anything.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("the workbench has room")
}

/// The place of a directory or file in [`Disk::nodes`].
type NodeNumber = usize;
type Names = BTreeMap<OsString, NodeNumber>;

/// A file system with what is safe and what is not.
#[derive(Clone, Debug)]
struct Disk {
    /// The base directory is the first. None is ever taken out.
    nodes: Vec<DiskNode>,
    /// Changes of directories that no sync has covered, oldest first.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum DiskNode {
    Directory { safe: Names, now: Names },
    File { safe: Vec<u8>, since: Vec<Vec<u8>> },
}

#[derive(Clone, Debug)]
struct Change {
    directory: NodeNumber,
    name: OsString,
    /// What the name stands for afterwards.
    node: Option<NodeNumber>,
    /// In words.
    text: String,
}

/// What may have happened to bytes that were written but not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tear {
    Whole,
    Missing,
    Half,
    Zeros,
    HalfZeros,
    LastWriteMissing,
}

impl Tear {
    const ALL: [Self; 6] =
        [Self::Whole, Self::Missing, Self::Half, Self::Zeros, Self::HalfZeros, Self::LastWriteMissing];

    fn apply(self, safe: &[u8], since: &[Vec<u8>]) -> Vec<u8> {
        let tail = since.concat();
        let half = &tail[..tail.len() / 2];
        let torn = match self {
            Self::Whole => tail,
            Self::Missing => Vec::new(),
            Self::Half => half.to_vec(),
            Self::Zeros => vec![0; tail.len()],
            Self::HalfZeros => [half, &vec![0; tail.len() - half.len()]].concat(),
            Self::LastWriteMissing => since.split_last().map_or(Vec::new(), |(_, before)| before.concat()),
        };
        [safe, &torn].concat()
    }
}

impl Disk {
    fn read(base: &Path) -> Self {
        let mut disk = Self { nodes: Vec::new(), changes: Vec::new() };
        disk.read_node(base);
        disk
    }

    fn read_node(&mut self, path: &Path) -> NodeNumber {
        let number = self.nodes.len();
        if path.is_dir() {
            self.nodes.push(DiskNode::Directory { safe: Names::new(), now: Names::new() });
            let mut names = Names::new();
            for entry in fs::read_dir(path).expect("the base can be read") {
                let entry = entry.expect("the base can be read");
                names.insert(entry.file_name(), self.read_node(&entry.path()));
            }
            self.nodes[number] = DiskNode::Directory { safe: names.clone(), now: names };
        } else {
            let safe = fs::read(path).expect("the base can be read");
            self.nodes.push(DiskNode::File { safe, since: Vec::new() });
        }
        number
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::MakeDirectory(path) => {
                self.nodes.push(DiskNode::Directory { safe: Names::new(), now: Names::new() });
                self.change(path, Some(self.nodes.len() - 1));
            }
            Operation::CreateFile(path) => {
                self.nodes.push(DiskNode::File { safe: Vec::new(), since: Vec::new() });
                self.change(path, Some(self.nodes.len() - 1));
            }
            Operation::Write(path, bytes) => match self.node(path) {
                DiskNode::File { since, .. } => since.push(bytes.clone()),
                DiskNode::Directory { .. } => panic!("bytes written to the directory {}", path.display()),
            },
            Operation::SyncFile(path) => match self.node(path) {
                DiskNode::File { safe, since } => safe.extend(since.drain(..).flatten()),
                DiskNode::Directory { .. } => panic!("{} synced as a file", path.display()),
            },
            Operation::Rename(from, to) => {
                let node = self.find(from);
                self.change(to, Some(node));
                self.change(from, None);
            }
            Operation::Exchange(one, other) => {
                let (first, second) = (self.find(one), self.find(other));
                self.change(other, Some(first));
                self.change(one, Some(second));
            }
            Operation::Link(from, to) => {
                let node = self.find(from);
                self.change(to, Some(node));
            }
            Operation::Unlink(path) => self.change(path, None),
            Operation::SyncDirectory(path) => self.sync_directory(path),
            Operation::Mark(_) => {}
        }
    }

    fn sync_directory(&mut self, path: &Path) {
        let number = self.find(path);
        let (covered, changes): (Vec<_>, Vec<_>) =
            self.changes.drain(..).partition(|change| change.directory == number);
        self.changes = changes;
        let DiskNode::Directory { safe, .. } = &mut self.nodes[number] else {
            panic!("{} synced as a directory", path.display())
        };
        for change in covered {
            set(safe, &change);
        }
    }

    fn change(&mut self, path: &Path, node: Option<NodeNumber>) {
        let directory = self.find(path.parent().expect("the base itself is never changed"));
        let name = path.file_name().expect("a path below the base").to_owned();
        let text = format!("{}{}", if node.is_some() { '+' } else { '-' }, path.display());
        let change = Change { directory, name, node, text };
        match &mut self.nodes[directory] {
            DiskNode::Directory { now, .. } => set(now, &change),
            DiskNode::File { .. } => panic!("{} has a file above it", path.display()),
        }
        self.changes.push(change);
    }

    fn node(&mut self, path: &Path) -> &mut DiskNode {
        let number = self.find(path);
        &mut self.nodes[number]
    }

    fn find(&self, path: &Path) -> NodeNumber {
        self.try_find(path).unwrap_or_else(|| panic!("the log speaks of {}, which is not there", path.display()))
    }

    fn try_find(&self, path: &Path) -> Option<NodeNumber> {
        path.components().try_fold(0, |number, component| match (&self.nodes[number], component) {
            (DiskNode::Directory { now, .. }, Component::Normal(name)) => now.get(name).copied(),
            _ => None,
        })
    }

    /// What the disk may hold if the power fails now, each with what was lost, in words; the same state may come twice.
    fn states(&self, seed: u64, ignored: Option<&Path>) -> Vec<(String, State)> {
        let is_torn = self.nodes.iter().any(|node| matches!(node, DiskNode::File { since, .. } if !since.is_empty()));
        let tears = if is_torn { &Tear::ALL[..] } else { &[Tear::Whole] };
        let mut states = Vec::new();
        for kept in self.subsets(seed, ignored) {
            let names = self.names(&kept);
            let lost: Vec<_> =
                self.changes.iter().zip(&kept).filter(|(_, kept)| !**kept).map(|(change, _)| &*change.text).collect();
            for tear in tears {
                let mut state = State::default();
                self.gather(0, &names, *tear, Path::new(""), &mut state);
                states.push((format!("unsynced bytes {tear:?}, lost {lost:?}"), state));
            }
        }
        states
    }

    /// Which of the unsafe changes happened: all subsets if they are few, else those in which mistakes show.
    fn subsets(&self, seed: u64, ignored: Option<&Path>) -> BTreeSet<Vec<bool>> {
        let count = self.changes.len();
        let ignored = ignored.and_then(|path| self.try_find(path));
        let varied: Vec<usize> = (0..count).filter(|i| Some(self.changes[*i].directory) != ignored).collect();
        let all_but = |lost: &dyn Fn(usize) -> bool| (0..count).map(|i| !lost(i)).collect::<Vec<bool>>();
        let is_varied = |i: usize| Some(self.changes[i].directory) != ignored;
        let mut subsets = BTreeSet::from([vec![true; count], vec![false; count]]);
        if varied.len() <= EXHAUSTIVE_CHANGES_MAX {
            for bits in 0..1_usize << varied.len() {
                subsets
                    .insert(all_but(&|i| varied.iter().position(|v| *v == i).is_some_and(|bit| bits >> bit & 1 == 1)));
            }
            return subsets;
        }
        for single in varied.iter().rev().take(SINGLE_LOSSES_MAX) {
            subsets.insert(all_but(&|i| i == *single));
        }
        subsets.insert(all_but(&|i| is_varied(i) && Some(&i) != varied.last()));
        let directories: BTreeSet<_> = varied.iter().map(|i| self.changes[*i].directory).collect();
        for directory in directories.iter().rev().take(DIRECTORIES_MAX) {
            subsets.insert(all_but(&|i| self.changes[i].directory == *directory));
            subsets.insert(all_but(&|i| is_varied(i) && self.changes[i].directory != *directory));
        }
        for draw in 0..DRAWS {
            subsets.insert(all_but(&|i| is_varied(i) && is_drawn(seed, draw, i as u64)));
        }
        subsets
    }

    /// The names of every directory, had these of the unsafe changes happened.
    fn names(&self, kept: &[bool]) -> Vec<Names> {
        let mut names: Vec<Names> = self
            .nodes
            .iter()
            .map(|node| match node {
                DiskNode::Directory { safe, .. } => safe.clone(),
                DiskNode::File { .. } => Names::new(),
            })
            .collect();
        for (change, _) in self.changes.iter().zip(kept).filter(|(_, kept)| **kept) {
            set(&mut names[change.directory], change);
        }
        names
    }

    fn gather(&self, number: NodeNumber, names: &[Names], tear: Tear, path: &Path, state: &mut State) {
        match &self.nodes[number] {
            DiskNode::File { safe, since } => {
                state.0.insert(path.to_owned(), Some(tear.apply(safe, since)));
            }
            DiskNode::Directory { .. } => {
                state.0.insert(path.to_owned(), None);
                for (name, child) in &names[number] {
                    self.gather(*child, names, tear, &path.join(name), state);
                }
            }
        }
    }
}

fn set(names: &mut Names, change: &Change) {
    match change.node {
        Some(node) => names.insert(change.name.clone(), node),
        None => names.remove(&change.name),
    };
}

/// A coin that falls the same way each time.
fn is_drawn(seed: u64, draw: u64, item: u64) -> bool {
    let words = [seed, draw, item].map(u64::to_le_bytes).concat();
    blake3::hash(&words).as_bytes()[0] & 1 == 1
}

/// A directory's content: files with their bytes, directories with none, parents before children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State(BTreeMap<PathBuf, Option<Vec<u8>>>);

impl State {
    fn write(&self, base: &Path) {
        for (path, content) in self.0.iter().skip(1) {
            let path = base.join(path);
            let written = match content {
                Some(bytes) => fs::write(path, bytes),
                None => fs::create_dir(path),
            };
            written.expect("the workbench has room");
        }
    }

    fn digest(&self, ignored: Option<&Path>) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (path, content) in &self.0 {
            if ignored.is_some_and(|ignored| path.starts_with(ignored) && path != ignored) {
                continue;
            }
            let path = path.as_os_str().as_encoded_bytes();
            hasher.update(&(path.len() as u64).to_le_bytes()).update(path);
            match content {
                None => hasher.update(b"d"),
                Some(bytes) => hasher.update(b"f").update(&(bytes.len() as u64).to_le_bytes()).update(bytes),
            };
        }
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run by hand over an empty base, in short words: `mkdir d`, `create f`, `write f text`, `sync f`, `fsync d`, …
    fn log(script: &[&str]) -> Log {
        let operations = script
            .iter()
            .map(|line| {
                let words: Vec<_> = line.split(' ').collect();
                let path = |i: usize| PathBuf::from(words[i].trim_matches('.'));
                match words[0] {
                    "mkdir" => Operation::MakeDirectory(path(1)),
                    "create" => Operation::CreateFile(path(1)),
                    "write" => Operation::Write(path(1), words[2].into()),
                    "sync" => Operation::SyncFile(path(1)),
                    "rename" => Operation::Rename(path(1), path(2)),
                    "link" => Operation::Link(path(1), path(2)),
                    "unlink" => Operation::Unlink(path(1)),
                    "fsync" => Operation::SyncDirectory(path(1)),
                    "mark" => Operation::Mark(words[1].into()),
                    other => panic!("{other}"),
                }
            })
            .collect();
        let start =
            Disk { nodes: vec![DiskNode::Directory { safe: Names::new(), now: Names::new() }], changes: Vec::new() };
        Log { start, operations }
    }

    /// The contents that a path may have at the end of a run: `None` if it is not there.
    fn ends(log: &Log, path: &str) -> BTreeSet<Option<String>> {
        let mut contents = BTreeSet::new();
        Crashes::of(log).after(log.operations.len()).check(&mut |_, directory| {
            contents.insert(fs::read_to_string(directory.join(path)).ok());
            Ok(())
        });
        contents
    }

    fn set_of(contents: &[Option<&str>]) -> BTreeSet<Option<String>> {
        contents.iter().map(|content| content.map(String::from)).collect()
    }

    #[test]
    fn bytes_not_synced_may_be_torn_in_every_way() {
        let log = log(&["create f", "fsync .", "write f abc", "write f d"]);
        let torn = ["", "ab", "abc", "abcd", "\0\0\0\0", "ab\0\0"].map(Some);
        assert_eq!(ends(&log, "f"), set_of(&torn));
    }

    #[test]
    fn bytes_synced_stay_and_only_those_after_them_are_torn() {
        let log = log(&["create f", "fsync .", "write f abc", "sync f", "write f xy"]);
        let torn = ["abc", "abcx", "abcxy", "abc\0\0", "abcx\0"].map(Some);
        assert_eq!(ends(&log, "f"), set_of(&torn));
    }

    #[test]
    fn a_synced_file_may_still_lose_its_name_until_the_directory_is_synced() {
        let mut script = vec!["create f", "write f abc", "sync f"];
        assert_eq!(ends(&log(&script), "f"), set_of(&[None, Some("abc")]));
        script.push("fsync .");
        assert_eq!(ends(&log(&script), "f"), set_of(&[Some("abc")]));
    }

    #[test]
    fn a_rename_of_a_file_not_synced_may_show_it_empty() {
        let log = log(&["mkdir t", "mkdir d", "fsync .", "create t/f", "write t/f abc", "rename t/f d/f", "fsync d"]);
        assert!(ends(&log, "d/f").contains(&Some(String::new())));
        assert!(!ends(&log, "d/f").contains(&None));
    }

    #[test]
    fn a_rename_between_directories_may_be_done_by_half() {
        let start = ["mkdir t", "mkdir d", "fsync .", "create t/f", "write t/f a", "sync t/f", "fsync t"];
        let log = log(&[&start[..], &["rename t/f d/f"]].concat());
        let mut seen = BTreeSet::new();
        Crashes::of(&log).after(log.operations.len()).check(&mut |_, directory| {
            seen.insert((directory.join("t/f").exists(), directory.join("d/f").exists()));
            Ok(())
        });
        assert_eq!(seen.len(), 4, "there, here, both or neither: {seen:?}");
    }

    #[test]
    fn what_was_taken_away_may_come_back_until_the_directory_is_synced() {
        let mut script = vec!["create f", "write f abc", "sync f", "fsync .", "unlink f"];
        assert_eq!(ends(&log(&script), "f"), set_of(&[None, Some("abc")]));
        script.push("fsync .");
        assert_eq!(ends(&log(&script), "f"), set_of(&[None]));
    }

    #[test]
    fn a_directory_whose_name_is_lost_takes_all_below_with_it() {
        let mut script = vec!["mkdir d", "create d/f", "write d/f abc", "sync d/f", "fsync d"];
        assert_eq!(ends(&log(&script), "d/f"), set_of(&[None, Some("abc")]));
        script.push("fsync .");
        assert_eq!(ends(&log(&script), "d/f"), set_of(&[Some("abc")]));
    }

    #[test]
    fn a_second_link_keeps_the_file_when_the_first_goes() {
        let start = ["mkdir t", "mkdir d", "fsync .", "create t/f", "write t/f abc", "sync t/f"];
        let log = log(&[&start[..], &["link t/f d/f", "unlink t/f", "fsync d"]].concat());
        assert_eq!(ends(&log, "d/f"), set_of(&[Some("abc")]));
        assert_eq!(ends(&log, "t/f"), set_of(&[None, Some("abc")]));
    }

    #[test]
    fn changes_not_synced_may_happen_in_any_order() {
        let names = ["a", "b", "c"];
        let log = log(&["create a", "create b", "create c"]);
        let mut seen = BTreeSet::new();
        Crashes::of(&log).after(3).check(&mut |_, directory| {
            seen.insert(names.map(|name| directory.join(name).exists()));
            Ok(())
        });
        assert_eq!(seen.len(), 8);
    }

    /// Beyond the few of which all subsets are tried: each loss that a mistake shows in is still there.
    #[test]
    fn of_many_changes_all_none_the_newest_and_whole_directories_are_lost() {
        let mut script = vec!["mkdir d".to_owned(), "mkdir e".to_owned(), "fsync .".to_owned()];
        script.extend((0..10).flat_map(|i| [format!("create d/{i}"), format!("create e/{i}")]));
        let log = log(&script.iter().map(String::as_str).collect::<Vec<_>>());
        let mut seen = BTreeSet::new();
        Crashes::of(&log).after(log.operations.len()).check(&mut |_, directory| {
            let count = |name| fs::read_dir(directory.join(name)).unwrap().count();
            seen.insert((count("d"), count("e"), directory.join("e/9").exists()));
            Ok(())
        });
        for state in [(10, 10, true), (0, 0, false), (10, 0, false), (0, 10, true), (10, 9, false), (0, 1, true)] {
            assert!(seen.contains(&state), "{state:?} of {seen:?}");
        }
        assert!(seen.len() > 6, "some are drawn: {seen:?}");
    }

    #[test]
    fn each_moment_shows_only_what_was_done_until_then() {
        let log = log(&["create a", "mark made", "create b", "unlink a"]);
        let mut moments = BTreeSet::new();
        for_each_crash(&log, &mut |crash, directory| {
            moments.insert((crash.operations, crash.has_passed("made")));
            assert!(crash.operations >= 3 || !directory.join("b").exists(), "{crash}");
            assert!(crash.operations >= 1 || !directory.join("a").exists(), "{crash}");
            Ok(())
        });
        // Shown once unless a mark came between: of the last moment nothing is new.
        assert_eq!(moments, BTreeSet::from([(0, false), (1, false), (2, true), (3, true)]));
    }

    #[test]
    fn a_bad_state_is_found_and_told() {
        let log = log(&["create f", "fsync .", "mark safe"]);
        let check = |crash: &Crash, directory: &Path| match crash.has_passed("safe") && !directory.join("f").exists() {
            true => Err("f is lost".to_owned()),
            false => Ok(()),
        };
        assert_eq!(Crashes::of(&log).find_bad(&mut { check }), None);
        let (without, position) = log.without_sync(0);
        assert_eq!(position, 1);
        let bad = Crashes::of(&without).after(position).find_bad(&mut { check }).unwrap();
        assert!(bad.contains("+f") && bad.ends_with("f is lost"), "{bad}");
    }

    #[test]
    fn states_that_differ_in_the_ignored_directory_alone_are_one() {
        let log = log(&["mkdir t", "fsync .", "create t/a", "create t/b", "write t/a x"]);
        let count = |crashes: Crashes<'_>| crashes.after(log.operations.len()).check(&mut |_, _| Ok(()));
        assert_eq!(count(Crashes::of(&log).ignoring("t")), 1);
        // b or not, and a not there, empty, of zeros or whole.
        assert_eq!(count(Crashes::of(&log)), 8);
    }

    /// The oracle for the recorder: with nothing lost, the model holds what the real directory holds, start included.
    #[test]
    fn with_nothing_lost_the_model_is_what_is_really_there() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("old")).unwrap();
        fs::write(base.path().join("old/file"), "old").unwrap();
        let recorder = Recorder::new(base.path());
        let at = |name: &str| base.path().join(name);
        recorder.make_directory(&at("new")).unwrap();
        let mut file = recorder.create_new(&at("new/a")).unwrap();
        recorder.write(&at("new/a"), &mut file, b"abc").unwrap();
        recorder.write(&at("new/a"), &mut file, b"def").unwrap();
        recorder.rename_no_replace(&at("new/a"), &at("old/b")).unwrap();
        recorder.link(&file, &at("old/b"), &at("c")).unwrap();
        assert!(recorder.create_new(&at("c")).is_err(), "what fails is not recorded");
        recorder.unlink(&at("old/file")).unwrap();
        recorder.make_directory(&base.path().with_extension("outside")).unwrap();
        fs::remove_dir(base.path().with_extension("outside")).unwrap();

        let log = recorder.finish();
        assert_eq!(log.operations.len(), 7);
        let mut disk = log.start.clone();
        log.operations.iter().for_each(|operation| disk.apply(operation));
        let mut whole = State::default();
        disk.gather(0, &disk.names(&vec![true; disk.changes.len()]), Tear::Whole, Path::new(""), &mut whole);
        let real = Disk::read(base.path());
        let mut expected = State::default();
        real.gather(0, &real.names(&[]), Tear::Whole, Path::new(""), &mut expected);
        assert_eq!(whole, expected);
    }
}
