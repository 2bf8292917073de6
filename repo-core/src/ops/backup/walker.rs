//! The walk: source ⋈ parent, entry by entry. What is unchanged is taken from the parent; what is not is handed to the
//! reading threads; the order of entries is kept by the channel to the assembly.

mod intake;
mod known;
mod large;
mod moved;

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::Run;
use super::reading::{FileJob, FileResult, Job, Piece, Reading, UNIT_BYTES};
use crate::error::{Error, Result};
use crate::format::snapshot::Root;
use crate::format::tree::{Metadata, Node, NodeKind, Xattrs};
use crate::progress::Event;
use crate::store::Index;
use crate::walk::{Details, Entries, EntryStream, SourceDirectory, SourceEntry, Unreadable};

use known::{Before, Known, Nodes, started_ns};
use moved::Moves;

/// Small files that share a buffer, at most.
const UNIT_FILES: usize = 256;
/// Entries after which a begun unit is sent, full or not: the assembly may wait for its first file.
const UNIT_ITEMS: usize = 1024;
/// Deeper trees are named and left out (limit of the format).
const DEPTH_MAX: usize = 4096;

/// How an entry compares with the parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    New,
    Changed,
    Unmodified,
}

/// What the assembly gets, in the order of the tree.
pub enum Item {
    Enter {
        name: Vec<u8>,
        metadata: Metadata,
        attributes: Attributes,
        before: Option<Box<Node>>,
    },
    Leave,
    /// Taken from the parent whole, from this path or another.
    Ready {
        node: Node,
        status: Status,
    },
    /// A link, a device, a fifo, a socket.
    Special {
        entry: SourceEntry,
        details: Details,
        status: Status,
    },
    File {
        name: Vec<u8>,
        status: Status,
        result: Receiver<FileResult>,
    },
    LargeBegin {
        name: Vec<u8>,
        status: Status,
        owner: u32,
    },
    LargePart(Receiver<Vec<Piece>>),
    LargeHole(Piece),
    /// It changed while it was read; what came so far does not count.
    LargeRestart,
    LargeEnd {
        metadata: Metadata,
        details: Details,
        read_bytes: u64,
    },
    LargeFailed(Unreadable),
    /// Another name of what came before under `target`; of a stream of entries alone.
    Link {
        path: Vec<u8>,
        target: Vec<u8>,
    },
    Problem(Unreadable),
    Failed(Error),
}

/// Extended attributes: from the parent's node, or read now.
pub enum Attributes {
    Known(Xattrs),
    Read(Details),
}

/// The assembly is gone, or a failure was sent to it.
struct Stop;

type Walk<T = ()> = Result<T, Stop>;

pub struct Walker<'r> {
    run: &'r Run<'r>,
    reading: &'r Reading<'r>,
    view: &'r Index,
    items: Sender<Item>,
    jobs: Sender<Job>,
    unit: Vec<FileJob>,
    unit_bytes: u64,
    /// Entries since the open unit began.
    unit_items: usize,
    moves: Moves,
}

/// A directory being walked.
struct Level<'r> {
    directory: Arc<dyn SourceDirectory>,
    entries: Entries,
    /// What the parent has under this path.
    parent: Option<Nodes<'r>>,
    /// What the partial snapshot that the run goes on from has there.
    resumed: Option<Nodes<'r>>,
    /// What the parent has where this directory was then, if that is known to be elsewhere.
    origin: Option<Nodes<'r>>,
    /// The directory itself, if it is not what the parent has under this path.
    elsewhere: Option<Metadata>,
    /// The file system it lies on; `None` of the top.
    device: Option<u64>,
    /// Whether inode numbers mean anything there, if that was asked.
    numbers_last: Option<bool>,
}

impl<'r> Walker<'r> {
    pub fn new(
        run: &'r Run<'r>,
        reading: &'r Reading<'r>,
        view: &'r Index,
        items: Sender<Item>,
        jobs: Sender<Job>,
    ) -> Self {
        let moves = match run.lineage.parent {
            Some(_) if !run.options.ignore_inode => Moves::Unsought { bytes: 0 },
            _ => Moves::Never,
        };
        Self { run, reading, view, items, jobs, unit: Vec::new(), unit_bytes: 0, unit_items: 0, moves }
    }

    /// Walks the whole source, or takes what comes of a stream of entries. An error reaches the assembly as an item.
    pub fn walk(mut self, stream: Option<Box<dyn EntryStream>>) {
        // The parent's counts are the best guess there is; looking at everything twice to know would cost more.
        if let Some(parent) = &self.run.lineage.parent {
            let Root { entries: files, bytes, .. } = parent.record.root;
            self.run.progress.report(Event::Total { files, bytes });
        }
        let walked = match stream {
            Some(stream) => self.take_in(stream),
            None => self.walk_all(),
        };
        let Err(Stop) = walked else { return };
    }

    fn walk_all(&mut self) -> Walk {
        let root = match self.run.source.root() {
            Ok(root) => root,
            Err(error) => {
                return self.fail(Error::Local { path: "/".into(), what: "opening the source", source: error });
            }
        };
        let entries = match root.entries() {
            Ok(entries) => entries,
            Err(error) => {
                return self.fail(Error::Local { path: "/".into(), what: "reading the source", source: error });
            }
        };
        let (parent, resumed) = (&self.run.lineage.parent, &self.run.lineage.resumed);
        let [parent, resumed] = [parent, resumed].map(|snapshot| snapshot.as_ref().map(|known| self.top(known)));
        let (origin, elsewhere, device, numbers_last) = (None, None, None, None);
        let mut levels =
            vec![Level { directory: root, entries, parent, resumed, origin, elsewhere, device, numbers_last }];
        while let Some(level) = levels.last_mut() {
            if self.run.progress.is_cancelled() {
                return self.fail(Error::Cancelled);
            }
            match level.entries.next() {
                None => {
                    levels.pop();
                    if !levels.is_empty() {
                        self.send(Item::Leave)?;
                    }
                }
                Some(Err(unreadable)) => self.problem(unreadable)?,
                Some(Ok(entry)) => {
                    let before = self.find_before(&mut level.parent, &entry);
                    let resumed = self.find_before(&mut level.resumed, &entry);
                    self.weigh(&mut levels, &entry, before.as_ref())?;
                    let depth = levels.len();
                    let Some(level) = levels.last_mut() else { break };
                    let moved = self.find_moved(level, &entry, before.as_ref());
                    let directory = level.directory.clone();
                    let known = Known { before, resumed, moved };
                    if entry.metadata.kind == NodeKind::Directory {
                        if let Some(below) = self.enter(directory.as_ref(), entry, known, depth)? {
                            levels.push(below);
                        }
                    } else {
                        self.leaf(&directory, entry, known)?;
                    }
                }
            }
        }
        self.send_unit()
    }

    fn enter(
        &mut self,
        directory: &dyn SourceDirectory,
        entry: SourceEntry,
        known: Known,
        depth: usize,
    ) -> Walk<Option<Level<'r>>> {
        let Known { before, resumed, moved } = known;
        let [before, resumed] =
            [before, resumed].map(|known| known.filter(|known| known.node.metadata.kind == NodeKind::Directory));
        let mut is_told = false;
        let below = if depth >= DEPTH_MAX {
            let error = std::io::Error::other("deeper than 4096 directories");
            self.problem(Unreadable { name: entry.name.clone(), during: "descending", error })?;
            None
        } else if entry.descend {
            match directory.open_directory(&entry).and_then(|below| below.entries().map(|entries| (below, entries))) {
                Ok(below) => Some(below),
                Err(error) => {
                    self.problem(Unreadable { name: entry.name.clone(), during: "reading the directory", error })?;
                    is_told = true;
                    None
                }
            }
        } else {
            None
        };
        let moved = moved.filter(|_| below.as_ref().is_some_and(|(directory, _)| directory.numbers_last()));
        let mut metadata = entry.metadata.clone();
        let is_known = |known: &&Before| self.attributes_are_known(&entry.metadata, known);
        let attributes = match before.as_ref().filter(is_known).or(moved.as_ref().filter(is_known)) {
            Some(Before { node, .. }) => {
                metadata.flags = node.metadata.flags;
                Attributes::Known(node.xattrs.clone())
            }
            // Who may not open it may not ask for its attributes either: one entry, one problem.
            None if is_told => {
                let details = directory.details(&entry).unwrap_or_default();
                Attributes::Read(Details { problems: Vec::new(), ..details })
            }
            None => Attributes::Read(self.details(directory, &entry)?),
        };
        let [parent, resumed, origin] = [&before, &resumed, &moved].map(|known| self.below(known.as_ref()));
        let is_elsewhere = moved::is_elsewhere(&entry.metadata, before.as_ref());
        let (elsewhere, device) = (is_elsewhere.then(|| entry.metadata.clone()), Some(entry.metadata.device));
        let before = before.map(|known| Box::new(known.node));
        self.send(Item::Enter { name: entry.name, metadata, attributes, before })?;
        let Some((directory, entries)) = below else {
            self.send(Item::Leave)?;
            return Ok(None);
        };
        Ok(Some(Level { directory, entries, parent, resumed, origin, elsewhere, device, numbers_last: None }))
    }

    fn leaf(&mut self, directory: &Arc<dyn SourceDirectory>, mut entry: SourceEntry, known: Known) -> Walk {
        let Known { before, resumed, moved } = known;
        let status = if before.is_some() { Status::Changed } else { Status::New };
        // A stream is known by reading it alone.
        if !self.is_stream(directory.as_ref(), &entry) {
            let mut here = [before, resumed].into_iter().flatten();
            let unchanged = here.find(|known| self.is_unchanged(&entry.metadata, known));
            let known = unchanged.map(|known| (known, Status::Unmodified)).or(moved.map(|known| (known, status)));
            if let Some((known, status)) = known {
                match self.ready(directory.as_ref(), entry, known, status)? {
                    None => return Ok(()),
                    Some(back) => entry = back,
                }
            }
        }
        match entry.metadata.kind {
            NodeKind::File if self.is_stream(directory.as_ref(), &entry) => {
                self.large(directory.as_ref(), &entry, status, true)
            }
            NodeKind::File if entry.metadata.size > UNIT_BYTES as u64 => {
                self.large(directory.as_ref(), &entry, status, false)
            }
            NodeKind::File => self.small(directory, entry, status),
            _ => match directory.details(&entry) {
                Ok(details) => self.send(Item::Special { entry, details, status }),
                Err(error) => self.problem(Unreadable { name: entry.name, during: "looking at the entry", error }),
            },
        }
    }

    /// Takes a node from a snapshot before, of this path or another; only what cannot have changed with the times is looked
    /// at again. Gives the entry back if its attributes have changed to what only the assembly can store or say.
    fn ready(
        &mut self,
        directory: &dyn SourceDirectory,
        entry: SourceEntry,
        known: Before,
        status: Status,
    ) -> Walk<Option<SourceEntry>> {
        let mut metadata = entry.metadata.clone();
        let attributes_are_known = self.attributes_are_known(&entry.metadata, &known);
        let mut node = Node { name: entry.name.clone(), ..known.node };
        metadata.flags = node.metadata.flags;
        metadata.size = node.metadata.size;
        if !attributes_are_known {
            // ctime was to be ignored, and differs: the content is taken, the attributes are not.
            let details = self.details(directory, &entry)?;
            metadata.flags = details.flags;
            match inline_xattrs(&details) {
                Some(inline) if details.problems.is_empty() => node.xattrs = inline,
                _ => return Ok(Some(entry)),
            }
        }
        node.metadata = metadata;
        if status != Status::Unmodified {
            // Says of a file that was moved what reading it would have said.
            self.run.progress.report(Event::Bytes { count: node.metadata.size });
        }
        self.send(Item::Ready { node, status }).map(|()| None)
    }

    fn details(&mut self, directory: &dyn SourceDirectory, entry: &SourceEntry) -> Walk<Details> {
        directory.details(entry).or_else(|error| {
            self.problem(Unreadable { name: entry.name.clone(), during: "reading the entry's attributes", error })?;
            Ok(Details::default())
        })
    }

    fn small(&mut self, directory: &Arc<dyn SourceDirectory>, entry: SourceEntry, status: Status) -> Walk {
        if self.unit_bytes + entry.metadata.size > UNIT_BYTES as u64 {
            self.send_unit()?;
        }
        let (reply, result) = bounded(1);
        let name = entry.name.clone();
        self.unit_bytes += entry.metadata.size;
        self.unit.push(FileJob { directory: directory.clone(), entry, reply });
        self.send(Item::File { name, status, result })?;
        if self.unit.len() >= UNIT_FILES { self.send_unit() } else { Ok(()) }
    }

    fn send_unit(&mut self) -> Walk {
        if self.unit.is_empty() {
            return Ok(());
        }
        let files = std::mem::take(&mut self.unit);
        self.unit_bytes = 0;
        self.unit_items = 0;
        let permit = self.reading.budget.take(self.reading.units.capacity());
        self.jobs.send(Job::Files { files, permit }).map_err(|_| Stop)
    }

    fn is_stream(&self, directory: &dyn SourceDirectory, entry: &SourceEntry) -> bool {
        self.run.source.is_stream() || directory.is_stream(entry)
    }

    fn problem(&mut self, unreadable: Unreadable) -> Walk {
        if self.run.source.is_stream() {
            return self.fail(Error::Stream(unreadable.error));
        }
        self.send(Item::Problem(unreadable))
    }

    fn fail(&mut self, error: Error) -> Walk {
        // Files that were announced are still answered: the assembly must come to the error, and not stumble before it.
        self.send_unit()?;
        let _ = self.items.send(Item::Failed(error));
        Err(Stop)
    }

    /// Sends an item; before it would wait, the open unit goes out, since the assembly may wait for that.
    fn send(&mut self, item: Item) -> Walk {
        if !self.unit.is_empty() {
            self.unit_items += 1;
            if self.unit_items >= UNIT_ITEMS {
                self.send_unit()?;
            }
        }
        match self.items.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Stop),
            Err(TrySendError::Full(item)) => {
                self.send_unit()?;
                self.items.send(item).map_err(|_| Stop)
            }
        }
    }
}

/// Attributes that fit into the node.
fn inline_xattrs(details: &Details) -> Option<Xattrs> {
    super::assembly::fits_inline(&details.xattrs).then(|| Xattrs::Inline(details.xattrs.clone()))
}
