//! The walk over the snapshot: directories are made on the way down, what is in them goes to the workers in batches.
//!
//! A directory's own metadata is set when the last who needs it lets go of it: the walk, or a worker with one of its
//! files. So it comes after its content, without waiting for anything else, and only directories on the way from the
//! top to the walk, and those of batches under way, are in memory.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::files::{self, Large, Opened};
use super::metadata;
use super::{Lack, Purpose, Run, add, delete, local};
use crate::error::{Error, Result};
use crate::format::tree::{Extent, ExtentKind, Node, NodeKind};
use crate::ops::lookup::{self, Allowance, DEPTH_MAX, Listing};
use crate::platform::target::{self, Directory, Identity, Status};
use crate::progress::Action;
use crate::tree::{self, Extents};

/// A batch of small files holds about this much content: about one frame.
const BATCH_BYTES: u64 = 1 << 20;
/// …and at most this many entries.
const BATCH_ENTRIES: usize = 512;
/// Files over this are cut into ranges of it, which several workers write at once.
pub(super) const RANGE_BYTES: u64 = 8 << 20;
/// …each of at most this many extents.
const RANGE_EXTENTS: usize = 1024;
/// Directories this far above the walk are closed, but for every one of these many, from which they are found again.
const OPEN_LEVELS: usize = 64;
/// Descriptors that are not the batches': the levels', standard streams, the backend's.
const OTHER_DESCRIPTORS: usize = 2 * OPEN_LEVELS + 172;

/// What a worker does at a time.
#[derive(Debug)]
pub(super) enum Job {
    Batch(Vec<Small>),
    Range { file: Arc<Large>, extents: Vec<(u64, Extent)> },
}

/// Anything but a directory or a large file.
#[derive(Debug)]
pub(super) struct Small {
    pub folder: Arc<Folder>,
    pub path: Vec<u8>,
    pub node: Node,
    /// Where the walk had to open it: the first of several hard links.
    pub opened: Option<Opened>,
}

/// A directory of the target that the walk has entered.
#[derive(Debug)]
pub(super) struct Folder {
    /// `None` only where nothing is written and nothing is there.
    pub directory: Option<Directory>,
    pub record: Record,
}

/// What is kept of a directory while it is closed.
#[derive(Debug)]
pub(super) struct Record {
    pub path: Vec<u8>,
    /// What the snapshot says of it; `None` for the target itself, whose metadata is not touched.
    pub node: Option<Node>,
    /// What is made in it begins with attributes or flags that it never asked for.
    pub inherits: bool,
    /// Its own attributes have to be compared, not only set.
    pub exact: bool,
    /// Its metadata is to be left as it is.
    pub keep_metadata: bool,
}

/// The way to a directory, from the top.
struct Level<'r> {
    /// How much of the walk's path is this directory's.
    path_length: usize,
    listing: Listing<'r>,
    held: Held,
    /// As the parent tells, to be compared with what was met.
    told: Option<(u64, u64)>,
    entries: u64,
    bytes: u64,
    /// Not everything below was looked at.
    partial: bool,
}

enum Held {
    /// Made when the first thing in it is.
    Unmade(Box<Node>),
    Open(Arc<Folder>),
    Closed(Box<Record>, Identity),
    /// Could not be entered, or is not to be: what is in it is passed over.
    Absent,
}

/// The first of several hard links.
struct First {
    /// Path of its directory.
    directory: Vec<u8>,
    name: Vec<u8>,
    identity: Option<Identity>,
    left: u32,
}

/// A large file that is being cut into ranges.
struct Feed<'r> {
    file: Arc<Large>,
    extents: Extents<'r>,
    position: u64,
    rest: Option<(u64, Extent)>,
}

/// The jobs of a restore, in the order of the snapshot.
pub(super) struct Plan<'r> {
    run: &'r Run<'r>,
    allowance: Allowance,
    levels: Vec<Level<'r>>,
    path: Vec<u8>,
    links: HashMap<(u64, u64), First>,
    batch: Vec<Small>,
    batch_bytes: u64,
    batch_descriptors: usize,
    batch_descriptors_max: usize,
    feed: Option<Feed<'r>>,
    ready: VecDeque<Job>,
    failed: bool,
}

impl<'r> Plan<'r> {
    /// A walk of what `listing` lists, into `directory`. `jobs`: how many are in memory at once.
    pub fn new(
        run: &'r Run<'r>,
        directory: Option<Directory>,
        listing: Listing<'r>,
        allowance: Allowance,
        jobs: usize,
    ) -> Result<Self> {
        let descriptors = target::open_files_limit().saturating_sub(OTHER_DESCRIPTORS) / jobs.max(1);
        let inherits = directory.as_ref().is_some_and(inherits);
        let record = Record { path: Vec::new(), node: None, inherits, exact: false, keep_metadata: true };
        let folder = Folder { directory, record };
        let deletes = run.options.delete && run.purpose != Purpose::Verify;
        let single = listing.is_single();
        if deletes && !single {
            delete::surplus(run, &folder, listing.directory())?;
        }
        let top = Level {
            path_length: 0,
            listing,
            held: Held::Open(Arc::new(folder)),
            told: None,
            entries: 0,
            bytes: 0,
            partial: false,
        };
        Ok(Self {
            run,
            allowance,
            levels: vec![top],
            path: Vec::new(),
            links: HashMap::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            batch_descriptors: 0,
            batch_descriptors_max: descriptors.clamp(2, 64),
            feed: None,
            ready: VecDeque::new(),
            failed: false,
        })
    }

    /// Goes on by one entry. `false` at the end.
    fn step(&mut self) -> Result<bool> {
        self.run.check_cancelled()?;
        if self.feed.is_some() {
            self.next_range()?;
            return Ok(true);
        }
        let Some(level) = self.levels.last_mut() else {
            let more = !self.batch.is_empty();
            self.flush();
            return Ok(more);
        };
        self.path.truncate(level.path_length);
        match level.listing.next() {
            None => self.leave()?,
            Some(Ok(node)) => self.entry(node)?,
            Some(Err(error)) => self.run.survive(&self.path, error)?,
        }
        Ok(true)
    }

    fn entry(&mut self, node: Node) -> Result<()> {
        self.allowance.take(&node.metadata)?;
        let level = self.levels.last_mut().expect("an entry comes from a level");
        level.entries += 1;
        level.bytes = level.bytes.saturating_add(lookup::content_bytes(&node.metadata));
        if let Err(problem) = lookup::check_node(&node) {
            self.run.problem(&self.path, "reading the repository", &format!("an entry {problem}"));
            level.partial = true;
            return Ok(());
        }
        self.path.push(b'/');
        self.path.extend_from_slice(&node.name);
        let selected = self.run.selects(&self.path);
        let is_directory = node.metadata.kind == NodeKind::Directory;
        let on_the_way = is_directory
            && !selected
            && !self.run.options.include.is_empty()
            && self.run.options.include.may_match_below(&self.path);
        if !selected && !on_the_way {
            level.partial = true;
            return Ok(());
        }
        if !is_directory {
            return self.schedule(node);
        }
        if self.levels.len() >= DEPTH_MAX {
            return Err(Error::Limit { what: "the depth of directories".to_owned(), limit: DEPTH_MAX as u64 });
        }
        self.descend(node, selected)
    }

    fn descend(&mut self, node: Node, selected: bool) -> Result<()> {
        let subtree = lookup::subtree(&node);
        self.levels.push(Level {
            path_length: self.path.len(),
            listing: Listing::new(self.run.store, subtree),
            held: Held::Unmade(Box::new(node)),
            told: Some(subtree.map_or((0, 0), |subtree| (subtree.entries, subtree.bytes))),
            entries: 0,
            bytes: 0,
            partial: false,
        });
        self.close_far_levels()?;
        if selected {
            self.folder(self.levels.len() - 1)?;
        }
        Ok(())
    }

    /// Keeps descriptors and leaves in memory for the nearest levels only.
    fn close_far_levels(&mut self) -> Result<()> {
        let Some(far) = self.levels.len().checked_sub(OPEN_LEVELS) else { return Ok(()) };
        for at in far.saturating_sub(OPEN_LEVELS)..far {
            let level = &mut self.levels[at];
            level.listing.put_aside();
            if at % OPEN_LEVELS == 0 {
                continue;
            }
            level.held = match std::mem::replace(&mut level.held, Held::Absent) {
                // While a worker holds it, its descriptor is open anyway; the next turn tries again.
                Held::Open(folder) => match Arc::try_unwrap(folder) {
                    Err(folder) => Held::Open(folder),
                    Ok(Folder { directory: None, record }) => Held::Open(Arc::new(Folder { directory: None, record })),
                    Ok(Folder { directory: Some(directory), record }) => {
                        let status = directory.own_status().map_err(local(&record.path, "looking at the directory"))?;
                        Held::Closed(Box::new(record), status.identity)
                    }
                },
                other => other,
            };
        }
        Ok(())
    }

    /// Leaves the directory at the end of the way.
    fn leave(&mut self) -> Result<()> {
        let at = self.levels.len() - 1;
        if matches!(self.levels[at].held, Held::Closed(..)) {
            self.folder(at)?;
        }
        let level = self.levels.pop().expect("the caller saw it");
        let partial = level.partial || level.listing.is_damaged();
        if let Some(told) = level.told
            && !partial
            && told != (level.entries, level.bytes)
        {
            let message = "this directory does not hold as much as its record says";
            self.run.problem(&self.path, "reading the repository", message);
        }
        if let Some(above) = self.levels.last_mut() {
            above.partial |= partial;
            above.entries = above.entries.saturating_add(level.entries);
            above.bytes = above.bytes.saturating_add(level.bytes);
        }
        match level.held {
            Held::Open(folder) => release(self.run, folder),
            _ => Ok(()),
        }
    }

    /// The directory at `at` on the way, made or opened, with those above it. `None`: it is to be passed over.
    fn folder(&mut self, at: usize) -> Result<Option<Arc<Folder>>> {
        let mut from = at;
        while from > 0 && !matches!(self.levels[from].held, Held::Open(_) | Held::Absent) {
            from -= 1;
        }
        for at in from + 1..=at {
            let parent = match &self.levels[at - 1].held {
                Held::Open(folder) => Some(folder.clone()),
                _ => None,
            };
            let path = self.path[..self.levels[at].path_length].to_vec();
            let held = std::mem::replace(&mut self.levels[at].held, Held::Absent);
            let entered = match (parent, held) {
                (None, _) => Ok(None),
                (Some(parent), Held::Unmade(node)) => self.make(&parent, *node, path.clone(), at),
                (Some(parent), Held::Closed(record, identity)) => reopen(&parent, *record, identity).map(Some),
                (Some(_), Held::Open(folder)) => {
                    self.levels[at].held = Held::Open(folder);
                    continue;
                }
                (Some(_), Held::Absent) => Ok(None),
            };
            match entered {
                Ok(Some(folder)) => self.levels[at].held = Held::Open(Arc::new(folder)),
                Ok(None) => self.levels[at].partial = true,
                Err(error) => {
                    self.levels[at].partial = true;
                    self.run.survive(&path, error)?;
                }
            }
        }
        Ok(match &self.levels[at].held {
            Held::Open(folder) => Some(folder.clone()),
            _ => None,
        })
    }

    /// Makes a directory or enters the one that is there. `None`: it is passed over, which has been told.
    fn make(&mut self, parent: &Folder, node: Node, path: Vec<u8>, at: usize) -> Result<Option<Folder>> {
        let run = self.run;
        add(&run.counters.total_files, 1);
        let name = node.name.clone();
        let Some((directory, before)) = enter(run, parent, &node, &path)? else { return Ok(None) };
        let fresh = before.is_none();
        let mut record = Record { path, inherits: false, exact: !fresh, keep_metadata: false, node: Some(node) };
        if let Some(status) = &before {
            record.keep_metadata = !files::may_replace(run, record.node.as_ref().expect("set above"), status);
        }
        if let Some(directory) = &directory
            && run.writes()
        {
            if fresh && parent.record.inherits {
                // So that what is made in it begins without.
                record.exact = true;
                let _ = directory.attributes().remove_xattr(metadata::DEFAULT_ACL);
                let _ = directory.attributes().set_flags(0);
            } else if !fresh {
                if !run.is_root && before.is_some_and(|status| status.mode & 0o700 != 0o700) {
                    // If it is not ours this fails, and so will what is made in it, with a better message.
                    let _ = parent.directory.as_ref().map(|parent| parent.unlock(&name, &before.expect("looked at")));
                }
                let _ = directory.attributes().remove_protection();
                record.inherits = inherits(directory);
            }
        }
        run.done(&record.path, if fresh { Action::New } else { Action::Unchanged }, 0);
        let folder = Folder { directory, record };
        if run.options.delete && !fresh && run.purpose != Purpose::Verify {
            delete::surplus(run, &folder, self.levels[at].listing.directory())?;
        }
        Ok(Some(folder))
    }

    /// Hands on anything but a directory.
    fn schedule(&mut self, node: Node) -> Result<()> {
        let run = self.run;
        let special = !matches!(node.metadata.kind, NodeKind::File | NodeKind::Symlink);
        if special && run.options.no_special {
            return Ok(());
        }
        let Some(folder) = self.folder(self.levels.len() - 1)? else { return Ok(()) };
        add(&run.counters.total_files, 1);
        let size = lookup::content_bytes(&node.metadata);
        add(&run.counters.total_bytes, size);
        let is_file = node.metadata.kind == NodeKind::File;
        let large = files::is_large(&node);
        let linked = node.metadata.links > 1;
        if linked && self.link(&folder, &node)? {
            return release(run, folder);
        }
        if !is_file && linked {
            // Made at once, so that the next of its names can be linked to it.
            files::restore(run, &folder, &self.path, &node, None).or_else(|error| run.survive(&self.path, error))?;
            if let Some(directory) = &folder.directory {
                let status = directory.status(&node.name).map_err(local(&self.path, "looking at the entry"))?;
                self.remember(&node, status.filter(|status| status.kind == node.metadata.kind));
            }
            return release(run, folder);
        }
        let mut opened = None;
        if linked || large {
            opened = match files::open(run, &folder, &self.path, &node) {
                Ok(Some(opened)) => Some(opened),
                Ok(None) => return release(run, folder),
                Err(error) => {
                    run.survive(&self.path, error)?;
                    return release(run, folder);
                }
            };
            if linked {
                self.remember(&node, opened.as_ref().and_then(|opened| opened.status));
            }
        }
        match opened {
            Some(opened) if large => {
                self.flush();
                let extents = tree::extents(run.store, &node.content, 0);
                let file = Arc::new(Large::new(folder, self.path.clone(), node, opened));
                self.feed = Some(Feed { file, extents, position: 0, rest: None });
            }
            opened => self.add(Small { folder, path: self.path.clone(), node, opened }, size),
        }
        Ok(())
    }

    fn add(&mut self, small: Small, size: u64) {
        let other_folder = self.batch.last().is_none_or(|last| !Arc::ptr_eq(&last.folder, &small.folder));
        self.batch_descriptors += usize::from(other_folder) + usize::from(small.opened.is_some());
        self.batch_bytes += size;
        self.batch.push(small);
        if self.batch_bytes >= BATCH_BYTES
            || self.batch.len() >= BATCH_ENTRIES
            || self.batch_descriptors >= self.batch_descriptors_max
        {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.ready.push_back(Job::Batch(std::mem::take(&mut self.batch)));
        }
        (self.batch_bytes, self.batch_descriptors) = (0, 0);
    }

    /// Notes the first of several hard links.
    fn remember(&mut self, node: &Node, status: Option<Status>) {
        if status.is_none() && self.run.writes() {
            return;
        }
        let split = self.path.len() - node.name.len() - 1;
        let first = First {
            directory: self.path[..split].to_vec(),
            name: node.name.clone(),
            identity: status.map(|status| status.identity),
            left: node.metadata.links - 1,
        };
        self.links.insert((node.metadata.device, node.metadata.inode), first);
    }

    /// Makes a further name of what this restore has made already. `false`: it is the first, or has to be made for itself.
    fn link(&mut self, folder: &Folder, node: &Node) -> Result<bool> {
        let run = self.run;
        let key = (node.metadata.device, node.metadata.inode);
        let Some(first) = self.links.get_mut(&key) else { return Ok(false) };
        first.left -= 1;
        let (identity, last) = (first.identity, first.left == 0);
        let (directory, name) = (first.directory.clone(), first.name.clone());
        if last {
            self.links.remove(&key);
        }
        let Some(parent) = &folder.directory else {
            run.done(&self.path, Action::New, 0);
            return Ok(true);
        };
        let result = files::link(run, parent, &self.path, node, identity, || {
            let Held::Open(top) = &self.levels[0].held else { return Err(io::ErrorKind::NotFound.into()) };
            let from = top.directory.as_ref().ok_or(io::ErrorKind::NotFound)?.open_below(&directory)?;
            Ok((from, name.clone()))
        });
        match result {
            Ok(linked) => Ok(linked),
            Err(error) => {
                run.survive(&self.path, error)?;
                Ok(true)
            }
        }
    }

    /// Cuts the next range off the large file.
    fn next_range(&mut self) -> Result<()> {
        let feed = self.feed.as_mut().expect("the caller saw it");
        let size = feed.file.node.metadata.size;
        let (mut extents, mut length, mut ended) = (Vec::new(), 0, false);
        while length < RANGE_BYTES && extents.len() < RANGE_EXTENTS {
            let next = feed.rest.take().map(Ok).or_else(|| feed.extents.next());
            let (at, extent) = match next {
                Some(Ok((at, extent))) if at == feed.position && extent.length <= size - at => (at, extent),
                Some(Ok(_)) => {
                    feed.file.fail(Error::Malformed("a file whose extents do not add up to its size"));
                    ended = true;
                    break;
                }
                Some(Err(error)) => {
                    feed.file.fail(error);
                    ended = true;
                    break;
                }
                None => {
                    if feed.position != size {
                        feed.file.fail(Error::Malformed("a file whose extents do not add up to its size"));
                    }
                    ended = true;
                    break;
                }
            };
            let mut extent = extent;
            // A run of zeros may be of any length, and several workers may share it.
            if extent.kind == ExtentKind::Zero && extent.length > RANGE_BYTES {
                let rest = Extent { length: extent.length - RANGE_BYTES, ..extent };
                feed.rest = Some((at + RANGE_BYTES, rest));
                extent.length = RANGE_BYTES;
            }
            feed.position = at + extent.length;
            length += if extent.kind == ExtentKind::Hole { 0 } else { extent.length };
            extents.push((at, extent));
        }
        if !extents.is_empty() {
            self.ready.push_back(Job::Range { file: feed.file.clone(), extents });
        }
        if ended && let Some(feed) = self.feed.take() {
            files::release_large(self.run, feed.file)?;
        }
        Ok(())
    }
}

impl Iterator for Plan<'_> {
    type Item = Result<Job>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(job) = self.ready.pop_front() {
                return Some(Ok(job));
            }
            if self.failed {
                return None;
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    self.ready.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Does one job.
pub(super) fn work(run: &Run<'_>, job: Job) -> Result<()> {
    match job {
        Job::Batch(batch) => {
            for small in batch {
                run.check_cancelled()?;
                files::restore(run, &small.folder, &small.path, &small.node, small.opened)
                    .or_else(|error| run.survive(&small.path, error))?;
                release(run, small.folder)?;
            }
            Ok(())
        }
        Job::Range { file, extents } => {
            if let Err(error) = files::write_range(run, &file, &extents) {
                if files::ends_run(&error) {
                    return Err(error);
                }
                file.fail(error);
            }
            files::release_large(run, file)
        }
    }
}

/// Lets go of a directory; the last to do so sets its metadata.
pub(super) fn release(run: &Run<'_>, folder: Arc<Folder>) -> Result<()> {
    match Arc::into_inner(folder) {
        Some(folder) => metadata::finish_folder(run, &folder).or_else(|error| run.survive(&folder.record.path, error)),
        None => Ok(()),
    }
}

/// Whether what is made in this directory begins with more than it was made with.
fn inherits(directory: &Directory) -> bool {
    let attributes = directory.attributes();
    let flags = attributes.flags().ok().flatten().unwrap_or_default();
    flags != 0 || attributes.xattr(metadata::DEFAULT_ACL).is_ok_and(|acl| acl.is_some())
}

fn reopen(parent: &Folder, record: Record, identity: Identity) -> Result<Folder> {
    let replaced = || io::Error::other("the directory was replaced while it was restored");
    let open = || -> io::Result<Directory> {
        let name = record.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let directory = parent.directory.as_ref().ok_or_else(replaced)?.open_directory(name)?;
        if directory.own_status()?.identity == identity { Ok(directory) } else { Err(replaced()) }
    };
    match open() {
        Ok(directory) => Ok(Folder { directory: Some(directory), record }),
        Err(error) => Err(local(&record.path, "opening the directory again")(error)),
    }
}

/// What [`enter`] found: the directory, unless it is not there and not to be made; and what was there before.
type Entered = Option<(Option<Directory>, Option<Status>)>;

fn enter(run: &Run<'_>, parent: &Folder, node: &Node, path: &[u8]) -> Result<Entered> {
    let Some(parent) = &parent.directory else {
        return Ok(Some((None, None)));
    };
    let name = &node.name;
    for _ in 0..files::ATTEMPTS {
        if run.writes() {
            match parent.make_directory(name) {
                Ok(directory) => return Ok(Some((Some(directory), None))),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(local(path, "making the directory")(error)),
            }
        }
        let status = parent.status(name).map_err(local(path, "looking at the directory"))?;
        let opened = match (status, run.purpose) {
            (None, Purpose::Restore) => continue,
            (None, Purpose::DryRun) => return Ok(Some((None, None))),
            (None, Purpose::Verify) => Err(io::ErrorKind::NotFound.into()),
            (Some(status), purpose) if status.kind != NodeKind::Directory => {
                if !files::may_replace(run, node, &status) {
                    run.done(path, Action::Unchanged, 0);
                    return Ok(None);
                }
                match purpose {
                    Purpose::Restore => {
                        parent.remove(name).map_err(local(path, "removing what is in the way"))?;
                        continue;
                    }
                    Purpose::DryRun => return Ok(Some((None, None))),
                    Purpose::Verify => Err(io::Error::other("is not a directory")),
                }
            }
            (Some(status), _) => match parent.open_directory(name) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && run.writes() => {
                    parent.unlock(name, &status).and_then(|()| parent.open_directory(name))
                }
                other => other,
            }
            .map(|directory| (directory, status)),
        };
        match opened {
            Ok((directory, status)) => return Ok(Some((Some(directory), Some(status)))),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && run.purpose == Purpose::Verify => {
                add(&run.counters.unreadable_files, 1);
                return Ok(None);
            }
            Err(error) => return Err(local(path, "opening the directory")(error)),
        }
    }
    Err(local(path, "making the directory")(io::Error::other("something else keeps changing it")))
}

/// Tells that a device cannot be made.
pub(super) fn lack_device(run: &Run<'_>, path: &[u8], error: &io::Error) {
    run.lack(path, Lack::Device, error);
    add(&run.counters.problems, 1);
}
