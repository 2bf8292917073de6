//! The assembly: takes the steps of the walk in their order, and lets every target's tree grow by them.

use crossbeam_channel::Receiver;

use super::branch::Branch;
use super::fetch::Fetched;
use super::memo::{Memos, key_of};
use super::walk::{Item, Reply};
use crate::error::{Error, Result};
use crate::format::snapshot::Root;
use crate::format::tree::{Content, Extent, ExtentKind, Node, Xattrs};
use crate::id::{ChunkId, ChunkKind};
use crate::ops::lookup;
use crate::platform::target::as_path;
use crate::progress::{Action, Event, Progress};

/// What has grown in one target.
#[derive(Debug)]
pub struct Grown {
    pub root: Root,
    /// New chunks.
    pub stored: Vec<ChunkId>,
    pub data_chunks: u64,
    pub tree_chunks: u64,
    pub added_bytes: u64,
    /// Contents that were read in the source, the same for all targets.
    pub read_chunks: u64,
    pub read_bytes: u64,
}

/// One snapshot on its way into all targets that lack it.
pub struct Assembly<'a, 'scope, 's> {
    branches: Vec<Branch<'a, 'scope, 's>>,
    memos: &'a Memos,
    progress: &'a dyn Progress,
    open: Vec<OpenDirectory>,
    file: Option<OpenFile>,
    /// Of the innermost open directory, beginning with `/` where it is not the top.
    path: Vec<u8>,
    problems: u64,
    read_chunks: u64,
    read_bytes: u64,
}

struct OpenDirectory {
    node: Node,
    xattrs: Vec<Xattrs>,
    /// Whether all of it is in the trees so far.
    is_whole: bool,
    path_length: usize,
}

struct OpenFile {
    node: Node,
    xattrs: Vec<Xattrs>,
    is_whole: bool,
    was_read: bool,
}

impl<'a, 'scope, 's> Assembly<'a, 'scope, 's> {
    pub fn new(branches: Vec<Branch<'a, 'scope, 's>>, memos: &'a Memos, progress: &'a dyn Progress) -> Self {
        let (open, file, path) = (Vec::new(), None, Vec::new());
        Self { branches, memos, progress, open, file, path, problems: 0, read_chunks: 0, read_bytes: 0 }
    }

    /// Takes every step.
    pub fn take_all(&mut self, items: Receiver<Item>) -> Result<()> {
        for item in items {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            self.take(item)?;
        }
        match self.open.is_empty() && self.file.is_none() {
            true => Ok(()),
            false => Err(Error::Bug("the walk ended inside a directory".into())),
        }
    }

    /// What has grown in each target, and how many entries could not be read.
    pub fn finish(self) -> Result<(Vec<Grown>, u64)> {
        let (read_chunks, read_bytes) = (self.read_chunks, self.read_bytes);
        let grown = self
            .branches
            .into_iter()
            .map(|branch| branch.finish().map(|grown| Grown { read_chunks, read_bytes, ..grown }));
        Ok((grown.collect::<Result<_>>()?, self.problems))
    }

    fn take(&mut self, item: Item) -> Result<()> {
        self.branches.iter_mut().for_each(Branch::keep_alive);
        match item {
            Item::Enter { node, xattr } => self.enter(node, xattr),
            Item::Leave { is_whole } => self.leave(is_whole),
            Item::Plain { node, xattr } => {
                let Some(xattrs) = self.xattrs(&node, xattr)? else { return Ok(()) };
                let contents = vec![node.content.clone(); self.branches.len()];
                self.add(&node, xattrs, contents, Action::Unchanged)
            }
            Item::Same { node, xattr } => self.same(&node, xattr),
            Item::Begin { node, xattr } => {
                let xattrs = self.xattrs(&node, xattr)?;
                self.with_path(&node.name, |progress, path| progress.report(Event::Started { path }));
                self.branches.iter_mut().for_each(Branch::begin);
                let is_whole = xattrs.is_some();
                self.file = Some(OpenFile { node, xattrs: xattrs.unwrap_or_default(), is_whole, was_read: false });
                Ok(())
            }
            Item::Part(extents) => extents.into_iter().try_for_each(|(extent, reply)| self.extent(extent, reply)),
            Item::End => self.end(),
            Item::Problem { name, error } => {
                self.lose(&name, &error);
                Ok(())
            }
            Item::Failed(error) => Err(error),
        }
    }

    fn enter(&mut self, node: Node, xattr: Reply) -> Result<()> {
        let xattrs = self.xattrs(&node, xattr)?;
        let path_length = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(&node.name);
        self.branches.iter_mut().for_each(Branch::enter);
        let is_whole = xattrs.is_some();
        self.open.push(OpenDirectory { node, xattrs: xattrs.unwrap_or_default(), is_whole, path_length });
        Ok(())
    }

    fn leave(&mut self, is_whole: bool) -> Result<()> {
        let directory = self.open.pop().ok_or_else(|| Error::Bug("a directory ended that had not begun".into()))?;
        self.path.truncate(directory.path_length);
        let key = lookup::subtree(&directory.node).map(|subtree| subtree.root);
        let mut contents = Vec::new();
        for branch in &mut self.branches {
            let subtree = branch.leave()?;
            if let (Some(key), Some(subtree), true) = (key, subtree, is_whole && directory.is_whole) {
                self.memos.trees.set(key, branch.number, subtree);
            }
            contents.push(subtree.map_or(Content::None, Content::Directory));
        }
        if !(is_whole && directory.is_whole) {
            self.spoil();
            return Ok(());
        }
        self.add(&directory.node, directory.xattrs, contents, Action::Unchanged)
    }

    /// Something that every target has, or that was lost earlier.
    fn same(&mut self, node: &Node, xattr: Reply) -> Result<()> {
        let Some(xattrs) = self.xattrs(node, xattr)? else { return Ok(()) };
        let mut contents = Vec::new();
        for branch in &self.branches {
            let content = match lookup::subtree(node) {
                Some(subtree) => self.memos.trees.get(&subtree.root, branch.number).map(Content::Directory),
                None => key_of(&node.content).and_then(|key| self.memos.files.get(&key, branch.number)),
            };
            contents.extend(content);
        }
        if contents.len() < self.branches.len() {
            self.lose(&node.name, &lost_before());
            return Ok(());
        }
        if let Some(subtree) = lookup::subtree(node) {
            self.progress.report(Event::Bytes { count: subtree.bytes });
        }
        self.add(node, xattrs, contents, Action::Unchanged)
    }

    fn extent(&mut self, extent: Extent, reply: Reply) -> Result<()> {
        let Some(file) = &mut self.file else { return Err(no_file()) };
        let owner = file.node.metadata.uid;
        let ExtentKind::Data(id) = extent.kind else {
            return self.branches.iter_mut().try_for_each(|branch| branch.gap(extent, owner));
        };
        let Some(fetched) = receive(reply)? else {
            // The targets have it, or it was lost earlier in this snapshot.
            for branch in &mut self.branches {
                match self.memos.chunks.get(&id, branch.number) {
                    Some(id) => branch.chunk(id, None, extent.length, owner)?,
                    None if !file.is_whole => {}
                    None => {
                        file.is_whole = false;
                        let name = file.node.name.clone();
                        self.lose(&name, &lost_before());
                        return Ok(());
                    }
                }
            }
            return Ok(());
        };
        file.was_read = true;
        let fetched = match fetched {
            Ok(fetched) if fetched.bytes.len() as u64 == extent.length => fetched,
            wrong => {
                let error = wrong.err().unwrap_or(Error::Malformed("a chunk of another length than its file says"));
                // Once for a file, however many of its chunks are lost.
                if std::mem::replace(&mut file.is_whole, false) {
                    let name = file.node.name.clone();
                    self.lose(&name, &error);
                }
                return Ok(());
            }
        };
        self.read_chunks += 1;
        self.read_bytes += extent.length;
        for branch in &mut self.branches {
            match fetched.ids.get(branch.number) {
                Some(here) => {
                    branch.chunk(*here, Some((&fetched.bytes, fetched.incompressible)), extent.length, owner)?;
                    self.memos.chunks.set(id, branch.number, *here);
                }
                None => branch.bytes(&fetched.bytes, owner)?,
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let OpenFile { node, xattrs, is_whole, was_read } = self.file.take().ok_or_else(no_file)?;
        let mut contents = Vec::new();
        let key = key_of(&node.content);
        for branch in &mut self.branches {
            let content = branch.end(node.metadata.uid)?;
            if let (Some(key), true) = (key, is_whole && branch.cuts_anew()) {
                self.memos.files.set(key, branch.number, content.clone());
            }
            contents.push(content);
        }
        match (is_whole, was_read) {
            (false, _) => Ok(()),
            (true, true) => self.add(&node, xattrs, contents, Action::New),
            (true, false) => self.add(&node, xattrs, contents, Action::Unchanged),
        }
    }

    /// Adds an entry to the open directory of every target.
    fn add(&mut self, node: &Node, xattrs: Vec<Xattrs>, contents: Vec<Content>, action: Action) -> Result<()> {
        let bytes = match &node.content {
            Content::Directory(_) => 0,
            _ => node.metadata.size,
        };
        for ((branch, xattrs), content) in self.branches.iter_mut().zip(xattrs).zip(contents) {
            branch.push(&Node { content, xattrs, ..node.clone() })?;
        }
        self.progress.report(Event::Bytes { count: bytes });
        self.with_path(&node.name, |progress, path| progress.report(Event::Done { path, action, bytes }));
        Ok(())
    }

    /// An entry's attributes as each target has them; `None` if they are lost, which has been said.
    fn xattrs(&mut self, node: &Node, reply: Reply) -> Result<Option<Vec<Xattrs>>> {
        let Xattrs::Chunk(id) = &node.xattrs else { return Ok(Some(vec![node.xattrs.clone(); self.branches.len()])) };
        let mut found = Vec::new();
        match receive(reply)? {
            Some(Ok(fetched)) => {
                for branch in &mut self.branches {
                    let here = branch.put(ChunkKind::Xattr, &fetched.bytes)?;
                    self.memos.chunks.set(*id, branch.number, here);
                    found.push(Xattrs::Chunk(here));
                }
            }
            Some(Err(error)) => {
                self.lose(&node.name, &error);
                return Ok(None);
            }
            None => {
                let known = self.branches.iter().filter_map(|branch| self.memos.chunks.get(id, branch.number));
                found.extend(known.map(Xattrs::Chunk));
            }
        }
        if found.len() < self.branches.len() {
            self.lose(&node.name, &lost_before());
            return Ok(None);
        }
        Ok(Some(found))
    }

    /// An entry that cannot be read: it is named, and this snapshot will not be published.
    fn lose(&mut self, name: &[u8], error: &Error) {
        self.problems += 1;
        self.spoil();
        if let Some(file) = &mut self.file {
            file.is_whole = false;
        }
        let message = error.to_string();
        self.with_path(name, |progress, path| {
            progress.report(Event::Problem { path, during: "reading it from the source", message: &message });
        });
    }

    /// The open directory lacks something: nobody may take it for the source's.
    fn spoil(&mut self) {
        if let Some(directory) = self.open.last_mut() {
            directory.is_whole = false;
        }
    }

    fn with_path(&mut self, name: &[u8], tell: impl FnOnce(&dyn Progress, &std::path::Path)) {
        let length = self.path.len();
        if !name.is_empty() {
            self.path.push(b'/');
            self.path.extend_from_slice(name);
        }
        tell(self.progress, as_path(&self.path));
        self.path.truncate(length);
    }
}

fn receive(reply: Reply) -> Result<Option<Result<Fetched>>> {
    let Some(reply) = reply else { return Ok(None) };
    reply.recv().map(Some).map_err(|_| Error::Bug("a reading thread ended early".into()))
}

fn lost_before() -> Error {
    Error::Malformed("it needs a part of the source that could not be read")
}

fn no_file() -> Error {
    Error::Bug("a part of a file that had not begun".into())
}
