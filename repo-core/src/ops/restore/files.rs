//! Brings one entry that is not a directory to what the snapshot says: makes it, or patches what is there.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::aside::{self, Aside, Made};
use super::metadata::{self, Subject};
use super::plan::{self, Folder};
use super::{Overwrite, Purpose, Run, add, delete, is_of_the_whole, local};
use crate::error::{Error, Result};
use crate::format::tree::{Content, Extent, ExtentKind, Node, NodeKind};
use crate::id::ChunkKind;
use crate::ops::lookup;
use crate::pipeline::lock;
use crate::platform::target::{Directory, EARLY_FLAGS, File, Identity, Status};
use crate::progress::Action;
use crate::tree;

/// How often something is tried while others change the target.
pub(super) const ATTEMPTS: usize = 8;
/// What is there is compared, and where it differs written, in pieces of this.
const PIECE_BYTES: usize = 64 << 10;
static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// A file of the target whose content is about to be restored.
#[derive(Debug)]
pub(super) struct Opened {
    /// `None` only where nothing is written and nothing is there.
    file: Option<File>,
    pub status: Option<Status>,
    fresh: bool,
    /// The content is taken for unchanged, unseen.
    kept: bool,
    /// Was there before, and has holes or may have.
    has_holes: bool,
    /// Was of another length.
    resized: bool,
    /// It takes its name when it is whole.
    aside: Option<Aside>,
}

impl Opened {
    /// Nothing is there, and nothing is to be written.
    const ABSENT: Self =
        Self { file: None, status: None, fresh: true, kept: false, has_holes: false, resized: false, aside: None };
}

/// A file that several workers write; the last of them finishes it.
#[derive(Debug)]
pub(super) struct Large {
    folder: Arc<Folder>,
    path: Vec<u8>,
    pub node: Node,
    opened: Opened,
    written: AtomicU64,
    failure: Mutex<Option<Error>>,
}

impl Large {
    pub fn new(folder: Arc<Folder>, path: Vec<u8>, node: Node, opened: Opened) -> Self {
        Self { folder, path, node, opened, written: AtomicU64::new(0), failure: Mutex::default() }
    }

    /// Notes that it cannot be restored in full.
    pub fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
    }
}

/// Lets go of a large file; the last to do so finishes it.
pub(super) fn release_large(run: &Run<'_>, file: Arc<Large>) -> Result<()> {
    let Some(file) = Arc::into_inner(file) else { return Ok(()) };
    let failure = file.failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let written = file.written.into_inner();
    finish(run, &file.folder, &file.path, &file.node, &file.opened, written, failure)
        .or_else(|error| run.survive(&file.path, error))?;
    plan::release(run, file.folder)
}

/// Writes some extents of a large file. What cannot be read is noted, and the rest goes on.
pub(super) fn write_range(run: &Run<'_>, file: &Large, extents: &[(u64, Extent)]) -> Result<()> {
    let mut patch = Patch::new(run, &file.path, &file.opened);
    for (at, extent) in extents {
        match patch.extent(*at, extent) {
            Err(error) if ends_file(&error) => {
                add(&file.written, patch.written);
                return Err(error);
            }
            Err(error) => file.fail(error),
            Ok(()) => {}
        }
    }
    add(&file.written, patch.written);
    Ok(())
}

/// Whether the snapshot's entry may take the place of what is there.
pub(super) fn may_replace(run: &Run<'_>, node: &Node, status: &Status) -> bool {
    match (run.options.overwrite, run.purpose) {
        (Overwrite::Always | Overwrite::IfChanged, _) => true,
        // What this restore has not written may be anything.
        (_, Purpose::Verify) => node.metadata.modified == status.modified,
        (Overwrite::IfNewer, _) => node.metadata.modified > status.modified,
        (Overwrite::Never, _) => false,
    }
}

/// Whether a file is large: cut into ranges, and given its length at once.
pub(super) fn is_large(node: &Node) -> bool {
    node.metadata.kind == NodeKind::File
        && (node.metadata.size > plan::RANGE_BYTES || matches!(node.content, Content::List { .. }))
}

/// Restores one entry.
pub(super) fn restore(run: &Run<'_>, folder: &Folder, path: &[u8], node: &Node, opened: Option<Opened>) -> Result<()> {
    if node.metadata.kind != NodeKind::File {
        return restore_other(run, folder, path, node);
    }
    let Some(opened) = opened.map_or_else(|| open(run, folder, path, node), |opened| Ok(Some(opened)))? else {
        return Ok(());
    };
    let (mut failure, mut position) = (None, 0);
    let mut patch = Patch::new(run, path, &opened);
    if let Content::Inline(bytes) = &node.content {
        let written = patch.data(0, bytes)?;
        patch.count(written, bytes.len() as u64);
        position = node.metadata.size;
    }
    let malformed = || Error::Malformed("a file whose extents do not add up to its size");
    for extent in tree::extents(run.store, &node.content, 0) {
        let (at, extent) = extent?;
        if at != position || extent.length > node.metadata.size - at {
            failure = Some(malformed());
            break;
        }
        position += extent.length;
        match patch.extent(at, &extent) {
            Err(error) if ends_file(&error) => return Err(error),
            Err(error) => failure = failure.or(Some(error)),
            Ok(()) => {}
        }
    }
    if position != node.metadata.size && failure.is_none() {
        failure = Some(malformed());
    }
    let (written, end) = (patch.written, patch.end);
    if opened.fresh
        && end != node.metadata.size
        && let Some(file) = &opened.file
    {
        file.set_length(node.metadata.size).map_err(local(path, "setting the length"))?;
    }
    finish(run, folder, path, node, &opened, written, failure)
}

/// An error after which no more is written to the file: all but those of single chunks.
fn ends_file(error: &Error) -> bool {
    matches!(error, Error::Local { .. } | Error::Cancelled)
}

/// Whether the whole run ends by it.
pub(super) fn ends_run(error: &Error) -> bool {
    match error {
        Error::Local { source, .. } => is_of_the_whole(source),
        error => matches!(error, Error::Cancelled | Error::Limit { .. }),
    }
}

/// Makes or opens the file whose content is to be restored. `None`: nothing is to be done, and that has been told.
pub(super) fn open(run: &Run<'_>, folder: &Folder, path: &[u8], node: &Node) -> Result<Option<Opened>> {
    let Some(directory) = &folder.directory else { return Ok(Some(Opened::ABSENT)) };
    let name = &node.name;
    if aside::is_for(run, node) {
        match aside::open(run, directory, path, node)? {
            Made::Stays => return Ok(None),
            Made::Aside(opened) => return Ok(Some(opened)),
            Made::InPlace => {}
        }
    }
    for _ in 0..ATTEMPTS {
        if run.writes()
            && let Some(file) = directory.create_file(name).map_err(local(path, "making the file"))?
        {
            return fresh(path, node, file, None).map(Some);
        }
        let Some(status) = directory.status(name).map_err(local(path, "looking at the file"))? else {
            match run.purpose {
                Purpose::Restore => continue,
                Purpose::DryRun => return Ok(Some(Opened::ABSENT)),
                Purpose::Verify => {
                    run.problem(path, "verifying", "is missing");
                    return Ok(None);
                }
            }
        };
        if !may_replace(run, node, &status) {
            skip(run, path, node);
            return Ok(None);
        }
        if status.kind != NodeKind::File || status.links > 1 && run.purpose != Purpose::Verify {
            match run.purpose {
                Purpose::Restore => {
                    clear_way(run, directory, path, name, &status)?;
                    continue;
                }
                Purpose::DryRun => return Ok(Some(Opened::ABSENT)),
                Purpose::Verify => {
                    run.problem(path, "verifying", "is not a file");
                    return Ok(None);
                }
            }
        }
        match open_existing(run, directory, node, &status) {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) if run.writes() && !is_of_the_whole(&error) => {
                // Not to be opened, or just being replaced: made anew instead.
                clear_way(run, directory, path, name, &status)?;
            }
            Err(error) if run.purpose == Purpose::Verify && error.kind() == io::ErrorKind::PermissionDenied => {
                add(&run.counters.unreadable_files, 1);
                return Ok(None);
            }
            Err(error) => return Err(local(path, "opening the file")(error)),
        }
    }
    Err(local(path, "making the file")(io::Error::other("something else keeps changing it")))
}

/// A file that was just made.
pub(super) fn fresh(path: &[u8], node: &Node, file: File, aside: Option<Aside>) -> Result<Opened> {
    if node.metadata.flags & EARLY_FLAGS != 0 {
        // They count for what is written after. If they cannot be set, that is told with the other flags.
        let _ = file.attributes().set_flags(node.metadata.flags & EARLY_FLAGS);
    }
    if is_large(node) {
        file.set_length(node.metadata.size).map_err(local(path, "setting the length"))?;
    }
    let status = Some(file.status().map_err(local(path, "looking at the file"))?);
    Ok(Opened { file: Some(file), status, aside, ..Opened::ABSENT })
}

fn open_existing(run: &Run<'_>, directory: &Directory, node: &Node, status: &Status) -> io::Result<Opened> {
    let size = node.metadata.size;
    let same = status.size == size && status.modified == node.metadata.modified;
    let kept = same && run.options.overwrite == Overwrite::IfChanged && run.purpose != Purpose::Verify;
    let writes = run.writes() && !kept;
    let (file, status) = match directory.open_file(&node.name, status, writes) {
        Err(error) if run.writes() && error.kind() == io::ErrorKind::PermissionDenied => {
            directory.unlock(&node.name, status)?;
            directory.open_file(&node.name, status, writes)?
        }
        other => other?,
    };
    if run.writes() {
        // Append-only or immutable: neither content nor metadata could be set. (Opened to write, it is not.)
        file.attributes().remove_protection()?;
    }
    let resized = status.size != size && !kept;
    if resized && writes {
        file.set_length(size)?;
    }
    let has_holes = !kept && run.purpose != Purpose::Verify && file.has_hole(0, size)?;
    Ok(Opened { file: Some(file), status: Some(status), fresh: false, kept, has_holes, resized, aside: None })
}

/// Puts content where it is not yet.
struct Patch<'a> {
    run: &'a Run<'a>,
    path: &'a [u8],
    opened: &'a Opened,
    scratch: Vec<u8>,
    /// Bytes written so far; or, where nothing is written, bytes that differ.
    written: u64,
    /// How far the file has been written, if it was empty before.
    end: u64,
}

impl<'a> Patch<'a> {
    fn new(run: &'a Run<'a>, path: &'a [u8], opened: &'a Opened) -> Self {
        Self { run, path, opened, scratch: Vec::new(), written: 0, end: 0 }
    }

    fn count(&mut self, written: u64, length: u64) {
        self.written += written;
        self.run.bytes(written, length - written);
    }

    fn extent(&mut self, at: u64, extent: &Extent) -> Result<()> {
        self.run.check_cancelled()?;
        if self.opened.kept {
            self.count(0, extent.length);
            return Ok(());
        }
        let written = match (extent.kind, &self.opened.file) {
            // A dry run with nothing there: all of it would be written, whatever it is.
            (_, None) => extent.length,
            (ExtentKind::Data(id), Some(_)) => {
                let bytes = self.run.store.get(ChunkKind::Data, &id)?;
                if bytes.len() as u64 != extent.length {
                    return Err(Error::Malformed("a file's chunk of another length than recorded"));
                }
                self.data(at, &bytes)?
            }
            (ExtentKind::Zero, Some(_)) if !self.run.options.sparse => self.zeros(at, extent.length)?,
            (ExtentKind::Zero | ExtentKind::Hole, Some(file)) => self.hole(file, at, extent.length)?,
        };
        self.count(written, extent.length);
        Ok(())
    }

    /// Returns how many bytes were written.
    fn data(&mut self, at: u64, bytes: &[u8]) -> Result<u64> {
        let run = self.run;
        let Some(file) = &self.opened.file else { return Ok(bytes.len() as u64) };
        if self.opened.kept {
            return Ok(0);
        }
        if self.opened.fresh && !run.options.sparse {
            file.write_at(at, bytes).map_err(local(self.path, "writing"))?;
            self.end = at + bytes.len() as u64;
            return Ok(bytes.len() as u64);
        }
        let (mut offset, mut written) = (at, 0);
        for piece in bytes.chunks(PIECE_BYTES) {
            let length = piece.len() as u64;
            if run.options.sparse && piece.iter().all(|byte| *byte == 0) {
                written += self.hole(file, offset, length)?;
            } else if self.opened.fresh || !self.holds(file, offset, piece)? {
                written += length;
                if run.writes() {
                    file.write_at(offset, piece).map_err(local(self.path, "writing"))?;
                    self.end = offset + length;
                }
            }
            offset += length;
        }
        Ok(written)
    }

    /// Whether the file has these bytes there already, all of them as data.
    fn holds(&mut self, file: &File, at: u64, bytes: &[u8]) -> Result<bool> {
        self.scratch.resize(PIECE_BYTES, 0);
        let there = &mut self.scratch[..bytes.len()];
        let count = file.read_at(at, there).map_err(local(self.path, "reading what is there"))?;
        if count < bytes.len() || there != bytes {
            return Ok(false);
        }
        // A written zero is not a hole.
        let hole =
            self.opened.has_holes && file.has_hole(at, bytes.len() as u64).map_err(local(self.path, "seeking"))?;
        Ok(!hole)
    }

    fn zeros(&mut self, at: u64, length: u64) -> Result<u64> {
        let (mut offset, mut written) = (at, 0);
        while offset < at + length {
            self.run.check_cancelled()?;
            let piece = (at + length - offset).min(PIECE_BYTES as u64);
            written += self.data(offset, &ZEROS[..usize::try_from(piece).expect("at most a piece")])?;
            offset += piece;
        }
        Ok(written)
    }

    fn hole(&mut self, file: &File, at: u64, length: u64) -> Result<u64> {
        let run = self.run;
        if self.opened.fresh {
            return Ok(length);
        }
        let end = at + length;
        let next = |from: u64| {
            let data = file.next_data(from).map_err(local(self.path, "seeking"))?;
            Ok::<_, Error>(data.filter(|data| *data < end))
        };
        let Some(mut data) = next(at)? else { return Ok(0) };
        if run.purpose == Purpose::DryRun {
            return Ok(length);
        }
        if run.writes() && file.punch(at, length).is_ok() {
            return Ok(length);
        }
        // No holes on this file system, or only looking: zeros at least.
        let mut written = 0;
        loop {
            run.check_cancelled()?;
            let piece = &ZEROS[..usize::try_from((end - data).min(PIECE_BYTES as u64)).expect("at most a piece")];
            self.scratch.resize(PIECE_BYTES, 0);
            let there = &mut self.scratch[..piece.len()];
            let count = file.read_at(data, there).map_err(local(self.path, "reading what is there"))?;
            if there[..count] != piece[..count] {
                written += piece.len() as u64;
                if run.writes() {
                    file.write_at(data, piece).map_err(local(self.path, "writing"))?;
                }
            }
            data += piece.len() as u64;
            match file.next_data(data).map_err(local(self.path, "seeking"))? {
                Some(more) if more < end => data = more,
                _ => return Ok(written),
            }
        }
    }
}

/// The content is there as far as it can be: sets the metadata and tells.
fn finish(
    run: &Run<'_>,
    folder: &Folder,
    path: &[u8],
    node: &Node,
    opened: &Opened,
    written: u64,
    failure: Option<Error>,
) -> Result<()> {
    if let (Some(file), Some(now), true) = (&opened.file, opened.status, run.writes()) {
        let subject = Subject {
            path,
            node,
            attributes: file.attributes(),
            now,
            exact: !opened.fresh || folder.record.inherits,
            // Without its time an incomplete file is not taken for unchanged by the next run.
            complete: failure.is_none(),
        };
        metadata::apply(run, &subject)?;
        if let (Some(aside), None) = (&opened.aside, &failure) {
            // Else a power failure could leave the name to a file without its content.
            file.make_durable().map_err(local(path, "making the content durable"))?;
            aside::take_name(run, folder, path, node, aside)?;
        }
    }
    let changed = written > 0 || opened.resized;
    let replaces = opened.aside.as_ref().is_some_and(|aside| aside.replaces);
    match failure {
        Some(error) if ends_file(&error) => return run.survive(path, error),
        Some(error) => {
            let state = if opened.aside.is_some() { "not restored" } else { "incomplete" };
            let message = format!("{state}, a part of its content could not be read: {error}");
            run.problem(path, "reading the repository", &message);
        }
        None if run.purpose == Purpose::Verify && changed => {
            run.problem(path, "verifying", "differs from the snapshot");
        }
        None if opened.fresh && !replaces => run.done(path, Action::New, written),
        None if replaces => run.done(path, Action::Modified, written),
        None if changed => run.done(path, Action::Modified, written),
        None => run.done(path, Action::Unchanged, lookup::content_bytes(&node.metadata)),
    }
    Ok(())
}

/// Tells that what is there stays.
pub(super) fn skip(run: &Run<'_>, path: &[u8], node: &Node) {
    if run.purpose != Purpose::Verify {
        let bytes = lookup::content_bytes(&node.metadata);
        run.bytes(0, bytes);
        run.done(path, Action::Unchanged, bytes);
    }
}

/// Removes what is in the way: a directory only if it is empty, or with `delete`.
pub(super) fn clear_way(run: &Run<'_>, directory: &Directory, path: &[u8], name: &[u8], status: &Status) -> Result<()> {
    if status.kind != NodeKind::Directory {
        return match directory.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(local(path, "removing what is in the way")(error))
            }
            _ => Ok(()),
        };
    }
    if run.options.delete && !delete::tree(run, directory, name, path)? {
        let error = io::Error::other("something in it is to stay or could not be removed");
        return Err(local(path, "removing the directory in the way")(error));
    }
    match directory.remove_directory(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(local(path, "removing the directory in the way")(error))
        }
        _ => Ok(()),
    }
}

/// A symlink, fifo, socket or device.
fn restore_other(run: &Run<'_>, folder: &Folder, path: &[u8], node: &Node) -> Result<()> {
    let Some(directory) = &folder.directory else {
        run.done(path, Action::New, 0);
        return Ok(());
    };
    let name = &node.name;
    for _ in 0..ATTEMPTS {
        if run.writes() {
            match make_other(directory, node) {
                Ok(()) => {
                    set_other(run, directory, path, node, folder.record.inherits)?;
                    run.done(path, Action::New, 0);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied
                        && matches!(node.metadata.kind, NodeKind::BlockDevice | NodeKind::CharDevice) =>
                {
                    plan::lack_device(run, path, &error);
                    return Ok(());
                }
                Err(error) => return Err(local(path, "making the entry")(error)),
            }
        }
        let Some(status) = directory.status(name).map_err(local(path, "looking at the entry"))? else {
            match run.purpose {
                Purpose::Restore => continue,
                Purpose::DryRun => run.done(path, Action::New, 0),
                Purpose::Verify => run.problem(path, "verifying", "is missing"),
            }
            return Ok(());
        };
        if !may_replace(run, node, &status) {
            skip(run, path, node);
            return Ok(());
        }
        let same = is_same(directory, node, &status).map_err(local(path, "looking at the entry"))?;
        match run.purpose {
            Purpose::Restore if same && status.links == 1 => {
                set_other(run, directory, path, node, true)?;
                run.done(path, Action::Unchanged, 0);
                return Ok(());
            }
            Purpose::Restore => clear_way(run, directory, path, name, &status)?,
            Purpose::Verify if !same => {
                run.problem(path, "verifying", "differs from the snapshot");
                return Ok(());
            }
            _ => {
                run.done(path, if same { Action::Unchanged } else { Action::Modified }, 0);
                return Ok(());
            }
        }
    }
    Err(local(path, "making the entry")(io::Error::other("something else keeps changing it")))
}

fn make_other(directory: &Directory, node: &Node) -> io::Result<()> {
    match &node.content {
        Content::Symlink(target) => directory.make_symlink(&node.name, target),
        _ => directory.make_special(&node.name, node.metadata.kind, node.metadata.special_device),
    }
}

/// Whether what is there is such a symlink, fifo, socket or device.
fn is_same(directory: &Directory, node: &Node, status: &Status) -> io::Result<bool> {
    let is_device = matches!(node.metadata.kind, NodeKind::BlockDevice | NodeKind::CharDevice);
    Ok(status.kind == node.metadata.kind
        && (!is_device || status.special_device == node.metadata.special_device)
        && match &node.content {
            Content::Symlink(target) => directory.read_symlink(&node.name)? == *target,
            _ => true,
        })
}

fn set_other(run: &Run<'_>, directory: &Directory, path: &[u8], node: &Node, exact: bool) -> Result<()> {
    let pinned = directory.pin(&node.name).map_err(local(path, "looking at the entry"))?;
    let now = pinned.status().map_err(local(path, "looking at the entry"))?;
    if now.kind != node.metadata.kind || now.links > 1 {
        return Err(local(path, "setting metadata")(io::Error::other("was replaced meanwhile")));
    }
    let subject = Subject { path, node, attributes: pinned.attributes(), now, exact, complete: true };
    metadata::apply(run, &subject)
}

/// Gives the inode `identity`, which this restore has made under the name that `first` finds, the name of `node` too.
/// `false`: that cannot be, and it has to be restored as a file of its own.
pub(super) fn link(
    run: &Run<'_>,
    directory: &Directory,
    path: &[u8],
    node: &Node,
    identity: Option<Identity>,
    first: impl Fn() -> io::Result<(Directory, Vec<u8>)>,
) -> Result<bool> {
    let size = lookup::content_bytes(&node.metadata);
    let done = |action| {
        run.bytes(0, size);
        run.done(path, action, 0);
        Ok(true)
    };
    for _ in 0..ATTEMPTS {
        let status = directory.status(&node.name).map_err(local(path, "looking at the entry"))?;
        match (status, run.purpose) {
            (Some(status), _) if Some(status.identity) == identity => return done(Action::Unchanged),
            (Some(status), _) if !may_replace(run, node, &status) => {
                skip(run, path, node);
                return Ok(true);
            }
            (Some(_), Purpose::DryRun) => return done(Action::Modified),
            (None, Purpose::DryRun) => return done(Action::New),
            (_, Purpose::Verify) => {
                run.problem(path, "verifying", "is not the hard link that the snapshot has");
                return Ok(true);
            }
            (Some(status), Purpose::Restore) => clear_way(run, directory, path, &node.name, &status)?,
            (None, Purpose::Restore) => {}
        }
        let Some(identity) = identity else { return Ok(false) };
        let linked = first().and_then(|(from, old)| directory.link(&node.name, &from, &old, identity));
        match linked {
            Ok(()) => return done(Action::New),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if is_of_the_whole(&error) => return Err(local(path, "making the hard link")(error)),
            Err(error) => {
                let message = format!("{error}; it becomes a file of its own");
                run.problem(path, "making the hard link", &message);
                return Ok(false);
            }
        }
    }
    Err(local(path, "making the hard link")(io::Error::other("something else keeps changing it")))
}
