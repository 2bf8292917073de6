//! Trees of entries that came in any order: each is kept under its path until all have come, then they are sorted and
//! built like those of a walk. A path that comes twice is what it was last; directories that did not come are made up;
//! hard links become a group. What would lie below something that is no directory is refused.
//!
//! Paths of hard links are kept in memory; everything else is the spool's.

use std::collections::HashMap;
use std::io;
use std::iter::Peekable;

use super::super::spool::{Record, Spool};
use super::super::walker::{Attributes, Status};
use super::Assembly;
use crate::error::{Error, Result};
use crate::format::snapshot::Root;
use crate::format::tree::{Content, Metadata, Node, NodeKind, Subtree, Xattrs, decode_node, encode_node};
use crate::store::Store;
use crate::tree::{self, Nodes};

/// Paths of hard links that are kept: some million of them.
const LINK_BYTES_MAX: usize = 512 << 20;
/// What a hard link takes besides its paths.
const LINK_BYTES: usize = 128;

/// What a record says.
const NODE: u8 = 0;
const LINK: u8 = 1;

/// The entries so far.
#[derive(Debug)]
pub struct Unordered {
    spool: Spool,
    /// The snapshot that the run is compared with.
    parent: Option<Root>,
    groups: Vec<Group>,
    /// The group of each path that is a hard link now.
    linked: HashMap<Vec<u8>, usize>,
    /// The open group of each path that others are linked to.
    targets: HashMap<Vec<u8>, usize>,
    link_bytes: usize,
}

/// Several names of one thing.
#[derive(Debug)]
struct Group {
    /// The key of what they were linked to.
    target: Vec<u8>,
    /// The first link's number: what came under the key after it is something else.
    first: u64,
    /// Links that are still such.
    links: u32,
    /// The number and the record of what they are names of.
    node: Option<(u64, Vec<u8>)>,
    /// Whether that still has its own name.
    has_target: bool,
}

impl Unordered {
    pub fn new(spool: Spool, parent: Option<Root>) -> Self {
        let (linked, targets) = (HashMap::new(), HashMap::new());
        Self { spool, parent, groups: Vec::new(), linked, targets, link_bytes: 0 }
    }

    /// Takes an entry whose name is its whole path.
    pub fn put(&mut self, mut node: Node) -> Result<()> {
        let key = key_of(&node.name);
        let last = key.rsplit(|byte| *byte == 0).next().unwrap_or_default();
        node.name = last.to_vec();
        // What no tree can hold must not get as far as an encoder.
        node.check().map_err(|problem| refused(&key, &format!("cannot be stored: {problem}")))?;
        self.forget(&key);
        let mut value = vec![NODE];
        encode_node(&node, &mut value);
        self.spool.put(&key, &value)
    }

    /// Takes a further name of what came under `target`.
    pub fn link(&mut self, path: Vec<u8>, target: Vec<u8>) -> Result<()> {
        let (key, target) = (key_of(&path), key_of(&target));
        if key == target {
            return Err(refused(&key, "is a hard link to itself"));
        }
        let group = match self.linked.get(&target).or_else(|| self.targets.get(&target)) {
            Some(group) => *group,
            None => {
                let first = self.spool.next_sequence();
                self.groups.push(Group { target: target.clone(), first, links: 0, node: None, has_target: false });
                self.targets.insert(target.clone(), self.groups.len() - 1);
                self.link_bytes += 2 * target.len() + LINK_BYTES;
                self.groups.len() - 1
            }
        };
        // Linked to what was linked to it: it is that already.
        if self.groups[group].target == key && self.targets.get(&key) == Some(&group) {
            return Ok(());
        }
        self.forget(&key);
        self.link_bytes += key.len() + LINK_BYTES;
        if self.link_bytes > LINK_BYTES_MAX {
            return Err(Error::Limit { what: "the paths of hard links".to_owned(), limit: LINK_BYTES_MAX as u64 });
        }
        self.groups[group].links += 1;
        let value = [&[LINK][..], &(group as u64).to_le_bytes()].concat();
        self.spool.put(&key, &value)?;
        self.linked.insert(key, group);
        Ok(())
    }

    /// What comes under this key now is something new.
    fn forget(&mut self, key: &[u8]) {
        if self.groups.is_empty() {
            return;
        }
        self.targets.remove(key);
        if let Some(group) = self.linked.remove(key) {
            self.groups[group].links -= 1;
        }
    }

    /// Finds what the links of each group are names of.
    fn resolve(&mut self) -> Result<()> {
        let mut wanted: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (index, group) in self.groups.iter().enumerate() {
            wanted.entry(group.target.clone()).or_default().push(index);
        }
        if wanted.is_empty() {
            return Ok(());
        }
        for record in self.spool.sorted()? {
            let Record { key, sequence, value } = record?;
            for index in wanted.get(&key).into_iter().flatten() {
                let group = &mut self.groups[*index];
                // Of one key in the order in which they came: the last before the first link is it.
                if sequence < group.first && value.first() == Some(&NODE) {
                    group.node = Some((sequence, value.clone()));
                    group.has_target = true;
                } else {
                    group.has_target = false;
                }
            }
        }
        for group in &self.groups {
            let Some((_, value)) = &group.node else {
                let message = "is linked to, and does not come in the archive before its link";
                return Err(refused(&group.target, message));
            };
            if node_of(value)?.metadata.kind == NodeKind::Directory {
                return Err(refused(&group.target, "is a directory, and a hard link leads to it"));
            }
        }
        Ok(())
    }
}

/// The node of a record, with the number and the count of names of its group.
fn member(groups: &[Group], index: usize, value: &[u8]) -> Result<Node> {
    let mut node = node_of(value)?;
    let group = &groups[index];
    let names = group.links + u32::from(group.has_target);
    if names > 1 {
        node.metadata.inode = index as u64 + 1;
        node.metadata.links = names;
    }
    Ok(node)
}

fn node_of(value: &[u8]) -> Result<Node> {
    decode_node(&value[1..]).map_err(|problem| Error::Bug(format!("an entry that was kept for a while: {problem}")))
}

/// Path to key: names ended by a NUL, which sorts before all that a name may have, so that keys are in the order of trees.
fn key_of(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

fn refused(key: &[u8], problem: &str) -> Error {
    let path: Vec<u8> = key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
    Error::Stream(io::Error::new(io::ErrorKind::InvalidData, format!("{}: {problem}", String::from_utf8_lossy(&path))))
}

/// The nodes of a directory of the snapshot that the run is compared with.
type Before<'a> = Option<Peekable<Nodes<'a>>>;

fn before<'a>(store: &'a Store, directory: Option<Subtree>) -> Before<'a> {
    directory.map(|subtree| tree::nodes(store, Some(&subtree)).peekable())
}

/// The node of that name. What cannot be read of an old snapshot is taken for new.
fn find(level: &mut Before<'_>, name: &[u8]) -> Option<Node> {
    let nodes = level.as_mut()?;
    loop {
        match nodes.next_if(|node| node.as_ref().map_or(true, |node| node.name.as_slice() <= name))? {
            Ok(node) if node.name == name => return Some(node),
            Ok(_) => {}
            Err(_) => {
                *level = None;
                return None;
            }
        }
    }
}

impl<'a> Assembly<'a, '_, '_> {
    /// Builds the trees of what came in any order; nothing to do for a walk.
    pub(super) fn build(&mut self) -> Result<()> {
        let Some(mut unordered) = self.unordered.take() else { return Ok(()) };
        unordered.resolve()?;
        let Unordered { mut spool, parent, groups, .. } = unordered;
        let mut targets: HashMap<u64, usize> = HashMap::new();
        for (index, group) in groups.iter().enumerate() {
            targets.extend(group.node.as_ref().map(|(sequence, _)| (*sequence, index)));
        }
        let top = parent
            .and_then(|root| root.tree.map(|tree| Subtree { root: tree, entries: root.entries, bytes: root.bytes }));
        let mut levels = vec![before(self.sink.store, top)];
        let mut leaf: Option<Vec<u8>> = None;
        let mut records = spool.sorted()?.peekable();
        while let Some(record) = records.next() {
            let Record { key, sequence, value } = record?;
            if records.peek().is_some_and(|next| next.as_ref().is_ok_and(|next| next.key == key)) {
                continue;
            }
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            self.sink.writer.keep_alive();
            if let Some(leaf) = &leaf
                && key.strip_prefix(leaf.as_slice()).is_some_and(|rest| rest.first() == Some(&0))
            {
                return Err(refused(&key, "lies below something that is no directory"));
            }
            let mut node = match value.split_first() {
                Some((&LINK, group)) => {
                    let index = group.try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX) as usize;
                    let found = groups.get(index).and_then(|group| group.node.as_ref());
                    let (_, value) = found.ok_or_else(|| Error::Bug("a link without its group".into()))?;
                    member(&groups, index, value)?
                }
                _ => match targets.get(&sequence) {
                    Some(index) => member(&groups, *index, &value)?,
                    None => node_of(&value)?,
                },
            };
            let mut names: Vec<&[u8]> = key.split(|byte| *byte == 0).collect();
            node.name = names.pop().unwrap_or_default().to_vec();
            self.open_up(&names, &mut levels)?;
            leaf = match node.metadata.kind {
                NodeKind::Directory => None,
                _ => Some(key.clone()),
            };
            self.place(node, &mut levels)?;
        }
        self.open_up(&[], &mut levels)
    }

    /// Closes and opens directories until these are open. Those that did not come are made up.
    fn open_up(&mut self, names: &[&[u8]], levels: &mut Vec<Before<'a>>) -> Result<()> {
        let common = self.open.iter().zip(names).take_while(|(open, name)| open.name == **name).count();
        while self.open.len() > common {
            levels.pop();
            self.leave()?;
        }
        for name in &names[common..] {
            let metadata = made_up();
            let (content, xattrs) = (Content::None, Xattrs::Inline(Vec::new()));
            self.place(Node { name: name.to_vec(), metadata, content, xattrs, extensions: Vec::new() }, levels)?;
        }
        Ok(())
    }

    /// Puts an entry into the innermost open directory; one that is a directory becomes that.
    fn place(&mut self, node: Node, levels: &mut Vec<Before<'a>>) -> Result<()> {
        let before_node = levels.last_mut().and_then(|level| find(level, &node.name));
        if node.metadata.kind != NodeKind::Directory {
            let status = match before_node {
                None => Status::New,
                Some(before) if before == node => Status::Unmodified,
                Some(_) => Status::Changed,
            };
            return self.add(node, status, 0);
        }
        let before_node = before_node.filter(|node| node.metadata.kind == NodeKind::Directory);
        let subtree = before_node.as_ref().and_then(|node| match &node.content {
            Content::Directory(subtree) => Some(*subtree),
            _ => None,
        });
        levels.push(before(self.sink.store, subtree));
        self.enter(node.name, node.metadata, Attributes::Known(node.xattrs), before_node.map(Box::new))
    }
}

/// A directory that only the paths below it tell of: what nobody can know is what it is most often, and the same each time.
fn made_up() -> Metadata {
    Metadata::unknown(NodeKind::Directory, 0o755)
}
