//! The record of one named thing: name, metadata, content. Hand-written, since there is one for each file there is:
//! fields that say nothing are left out, and a usual file takes 60 to 100 bytes, of which 32 are its chunk's id.

use super::cursor::{Cursor, put_string, put_varint, put_varint_i64};
use super::xattrs::{Xattrs, check_xattrs, put_xattrs, take_xattrs};
use super::{
    CHUNK_BYTES_MAX, Extensions, FILE_BYTES_MAX, INLINE_BYTES_MAX, INLINE_XATTR_BYTES_MAX, LINK_TARGET_BYTES_MAX,
    LIST_LEVEL_MAX, NAME_BYTES_MAX, NODE_EXTENTS_MAX, OWNER_BYTES_MAX, TREE_NODE_BYTES_MAX, check_extensions,
};
use crate::error::Corruption;
use crate::id::ChunkId;

/// One named thing with its metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Raw bytes; never empty, `.`, `..`, nor with `/` or NUL.
    pub name: Vec<u8>,
    /// What the file system says of it.
    pub metadata: Metadata,
    /// What it holds.
    pub content: Content,
    /// Extended attributes, POSIX ACLs among them.
    pub xattrs: Xattrs,
    /// Fields of later versions.
    pub extensions: Extensions,
}

/// The kinds of things that have names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum NodeKind {
    /// A regular file.
    File = 0,
    /// A directory.
    Directory = 1,
    /// A symbolic link.
    Symlink = 2,
    /// A named pipe.
    Fifo = 3,
    /// A Unix socket.
    Socket = 4,
    /// A block device.
    BlockDevice = 5,
    /// A character device.
    CharDevice = 6,
}

/// Seconds and nanoseconds since 1970 UTC; the nanoseconds are below 10^9 and count forward, also before 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Below 10^9.
    pub nanoseconds: u32,
}

/// What the file system says of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// Which kind of thing it is.
    pub kind: NodeKind,
    /// Permission bits with setuid, setgid and sticky: 0o7777.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Names of uid and gid where they are known, else empty.
    pub user: Vec<u8>,
    /// The name of gid, as `user`.
    pub group: Vec<u8>,
    /// mtime: when its content changed.
    pub modified: Timestamp,
    /// ctime: when anything of it changed; recorded, never restored.
    pub changed: Timestamp,
    /// When it was made, where the file system tells; recorded, never restored.
    pub born: Option<Timestamp>,
    /// Only on request.
    pub accessed: Option<Timestamp>,
    /// Its number in its file system; recorded, never restored.
    pub inode: u64,
    /// The file system it was on; recorded, never restored.
    pub device: u64,
    /// Hard links; together with (device, inode) it makes link groups.
    pub links: u32,
    /// Bytes; 0 for what is not a file. Only a file with a list has it in its record: elsewhere it is the sum of its
    /// content, so that the two cannot differ.
    pub size: u64,
    /// Of a block or character device.
    pub special_device: u64,
    /// inode flags that were set (chattr): FS_IOC_GETFLAGS, the settable ones.
    pub flags: u32,
    /// The file changed while it was read, three times over.
    pub unstable: bool,
}

/// What an entry holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Nothing: an empty file, a fifo, a socket, a device, an empty directory.
    None,
    /// A file of at most 512 bytes.
    Inline(Vec<u8>),
    /// A file of at most 64 extents.
    Extents(Vec<Extent>),
    /// A larger file: the root of its chunk list.
    List {
        /// Its top node.
        root: ChunkId,
        /// The level of the top node; leaves have 0.
        depth: u8,
        /// Data extents in all.
        chunks: u64,
    },
    /// A directory that is not empty: the root node of its tree.
    Directory(Subtree),
    /// A symlink's target.
    Symlink(Vec<u8>),
}

/// A directory's tree, or a part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subtree {
    /// Its top node.
    pub root: ChunkId,
    /// Entries below at every depth.
    pub entries: u64,
    /// Bytes of file content below.
    pub bytes: u64,
}

/// A piece of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// In bytes, never 0.
    pub length: u64,
    /// What is there.
    pub kind: ExtentKind,
}

/// A written zero is not a hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtentKind {
    /// The content of this chunk.
    Data(ChunkId),
    /// Zeros that were written.
    Zero,
    /// Nothing was ever written there.
    Hole,
}

/// The shortest record: one letter, kinds, presence, mode, owner, time.
pub(super) const RECORD_BYTES_MIN: usize = 9;

/// Which fields a record has. What is absent has the value named here.
mod presence {
    /// Else the group is the owner's number.
    pub const GROUP: u16 = 1 << 0;
    /// Else no name.
    pub const USER_NAME: u16 = 1 << 1;
    /// The group's name is the user's. Not together with [`GROUP_NAME`]; if neither, no name.
    pub const SAME_NAME: u16 = 1 << 2;
    pub const GROUP_NAME: u16 = 1 << 3;
    /// Else the time of modification.
    pub const CHANGED: u16 = 1 << 4;
    /// Else unknown.
    pub const BORN: u16 = 1 << 5;
    /// Else unknown.
    pub const ACCESSED: u16 = 1 << 6;
    /// Else 0.
    pub const INODE: u16 = 1 << 7;
    /// Else 0.
    pub const DEVICE: u16 = 1 << 8;
    /// Else 1.
    pub const LINKS: u16 = 1 << 9;
    /// Else 0.
    pub const SPECIAL_DEVICE: u16 = 1 << 10;
    /// Else 0.
    pub const FLAGS: u16 = 1 << 11;
    /// The field itself.
    pub const UNSTABLE: u16 = 1 << 12;
    /// Else none. Not together with [`XATTR_CHUNK`].
    pub const XATTRS: u16 = 1 << 13;
    pub const XATTR_CHUNK: u16 = 1 << 14;
    /// Else none.
    pub const EXTENSIONS: u16 = 1 << 15;
}

impl NodeKind {
    fn from_number(number: u8) -> Result<Self, Corruption> {
        Ok(match number {
            0 => Self::File,
            1 => Self::Directory,
            2 => Self::Symlink,
            3 => Self::Fifo,
            4 => Self::Socket,
            5 => Self::BlockDevice,
            6 => Self::CharDevice,
            _ => return Err(Corruption::Unknown { field: "kind of a node", value: number.into() }),
        })
    }
}

impl Content {
    fn number(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Inline(_) => 1,
            Self::Extents(_) => 2,
            Self::List { .. } => 3,
            Self::Directory(_) => 4,
            Self::Symlink(_) => 5,
        }
    }

    /// The sum of what it holds, but for a list, whose sum only its nodes know.
    fn sum(&self) -> Result<u64, Corruption> {
        match self {
            Self::Inline(bytes) => Ok(bytes.len() as u64),
            Self::Extents(extents) => extents.iter().try_fold(0, |bytes, extent| add_extent(bytes, *extent)),
            _ => Ok(0),
        }
    }
}

impl Node {
    /// Whether the node may stand in a tree. Decoders refuse what fails here, so a writer that takes entries from
    /// somewhere else asks before it encodes.
    pub fn check(&self) -> Result<(), Corruption> {
        check_name(&self.name)?;
        self.metadata.check()?;
        self.check_content()?;
        if let Xattrs::Inline(xattrs) = &self.xattrs {
            check_xattrs(xattrs, INLINE_XATTR_BYTES_MAX)?;
        }
        check_extensions(&self.extensions)
    }

    fn check_content(&self) -> Result<(), Corruption> {
        let fits = match &self.content {
            Content::None => self.metadata.kind != NodeKind::Symlink,
            Content::Inline(_) | Content::Extents(_) | Content::List { .. } => self.metadata.kind == NodeKind::File,
            Content::Directory(_) => self.metadata.kind == NodeKind::Directory,
            Content::Symlink(_) => self.metadata.kind == NodeKind::Symlink,
        };
        if !fits {
            return Err(Corruption::Malformed("content of a node"));
        }
        let (count, least, most) = match &self.content {
            Content::Inline(bytes) => (bytes.len(), 1, INLINE_BYTES_MAX),
            Content::Extents(extents) => (extents.len(), 1, NODE_EXTENTS_MAX),
            Content::List { depth, .. } => ((*depth).into(), 0, LIST_LEVEL_MAX.into()),
            Content::Symlink(target) => (target.len(), 0, LINK_TARGET_BYTES_MAX),
            Content::None | Content::Directory(_) => (0, 0, 0),
        };
        if count < least {
            return Err(Corruption::Malformed("content of a node"));
        }
        if count > most {
            return Err(Corruption::OverLimit("content of a node"));
        }
        if let Content::Directory(subtree) = &self.content
            && subtree.entries == 0
        {
            return Err(Corruption::Malformed("directory: no entries"));
        }
        if let Content::List { .. } = self.content {
            // The one size that is written down; what a list sums up to is the reader's to compare.
            return if self.metadata.size <= FILE_BYTES_MAX {
                Ok(())
            } else {
                Err(Corruption::OverLimit("length of a file"))
            };
        }
        self.content.sum().map(drop)
    }
}

impl Metadata {
    /// An entry of which nothing but its kind and mode is known: of root, at the beginning of 1970, with one name, and without
    /// numbers that a file system gave it. What a source does know is set on it.
    pub fn unknown(kind: NodeKind, mode: u32) -> Self {
        Self {
            kind,
            mode,
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
            modified: Timestamp::default(),
            changed: Timestamp::default(),
            born: None,
            accessed: None,
            inode: 0,
            device: 0,
            links: 1,
            size: 0,
            special_device: 0,
            flags: 0,
            unstable: false,
        }
    }

    fn check(&self) -> Result<(), Corruption> {
        let times = [Some(self.modified), Some(self.changed), self.born, self.accessed];
        if times.iter().flatten().any(|time| time.nanoseconds >= 1_000_000_000) {
            return Err(Corruption::Malformed("time"));
        }
        if self.mode > 0o7777 {
            return Err(Corruption::Malformed("mode"));
        }
        if self.user.len().max(self.group.len()) > OWNER_BYTES_MAX {
            return Err(Corruption::OverLimit("name of an owner"));
        }
        Ok(())
    }

    fn presence(&self) -> u16 {
        let bit = |present: bool, bit: u16| if present { bit } else { 0 };
        let same = !self.user.is_empty() && self.group == self.user;
        bit(self.gid != self.uid, presence::GROUP)
            | bit(!self.user.is_empty(), presence::USER_NAME)
            | bit(same, presence::SAME_NAME)
            | bit(!same && !self.group.is_empty(), presence::GROUP_NAME)
            | bit(self.changed != self.modified, presence::CHANGED)
            | bit(self.born.is_some(), presence::BORN)
            | bit(self.accessed.is_some(), presence::ACCESSED)
            | bit(self.inode != 0, presence::INODE)
            | bit(self.device != 0, presence::DEVICE)
            | bit(self.links != 1, presence::LINKS)
            | bit(self.special_device != 0, presence::SPECIAL_DEVICE)
            | bit(self.flags != 0, presence::FLAGS)
            | bit(self.unstable, presence::UNSTABLE)
    }
}

/// A name of one entry: never empty, `.` or `..`, without `/` and NUL. What would pass here could be written outside a
/// restore's target.
pub fn check_name(name: &[u8]) -> Result<(), Corruption> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Corruption::OverLimit("name"));
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Corruption::Malformed("name"));
    }
    Ok(())
}

/// Appends a node's record, as it stands in a leaf without its length, to `out`. The node must pass [`Node::check`].
///
/// `name ‖ u8 kind + 16 × kind of content ‖ u16 presence ‖ mode ‖ uid ‖ gid? ‖ user? ‖ group? ‖ modified ‖ changed? ‖ born? ‖
/// accessed? ‖ inode? ‖ device? ‖ links? ‖ special device? ‖ flags? ‖ content ‖ xattrs? ‖ extensions?`.
/// Integers are of variable length, byte strings begin with theirs. A time is signed seconds (`changed` from `modified`,
/// `born` and `accessed` from `changed`: small numbers) and nanoseconds.
pub fn encode_node(node: &Node, out: &mut Vec<u8>) {
    debug_assert_eq!(node.check(), Ok(()), "a node that no reader accepts: {:?}", node.name);
    encode_unchecked(node, out);
}

fn encode_unchecked(node: &Node, out: &mut Vec<u8>) {
    let metadata = &node.metadata;
    let mut present = metadata.presence();
    present |= match &node.xattrs {
        Xattrs::Inline(xattrs) if xattrs.is_empty() => 0,
        Xattrs::Inline(_) => presence::XATTRS,
        Xattrs::Chunk(_) => presence::XATTR_CHUNK,
    };
    if !node.extensions.is_empty() {
        present |= presence::EXTENSIONS;
    }
    put_string(out, &node.name);
    out.push(metadata.kind as u8 | node.content.number() << 4);
    out.extend_from_slice(&present.to_le_bytes());
    encode_metadata(metadata, present, out);
    encode_content(node, out);
    match &node.xattrs {
        Xattrs::Inline(xattrs) if xattrs.is_empty() => {}
        Xattrs::Inline(xattrs) => put_xattrs(out, xattrs),
        Xattrs::Chunk(id) => out.extend_from_slice(&id.0),
    }
    if !node.extensions.is_empty() {
        put_varint(out, node.extensions.len() as u64);
        for (tag, bytes) in &node.extensions {
            put_varint(out, (*tag).into());
            put_string(out, bytes);
        }
    }
}

fn encode_metadata(metadata: &Metadata, present: u16, out: &mut Vec<u8>) {
    let has = |bit: u16| present & bit != 0;
    let put_time = |out: &mut Vec<u8>, time: Timestamp, origin: i64| {
        put_varint_i64(out, time.seconds.wrapping_sub(origin));
        put_varint(out, time.nanoseconds.into());
    };
    put_varint(out, metadata.mode.into());
    put_varint(out, metadata.uid.into());
    if has(presence::GROUP) {
        put_varint(out, metadata.gid.into());
    }
    if has(presence::USER_NAME) {
        put_string(out, &metadata.user);
    }
    if has(presence::GROUP_NAME) {
        put_string(out, &metadata.group);
    }
    put_time(out, metadata.modified, 0);
    if has(presence::CHANGED) {
        put_time(out, metadata.changed, metadata.modified.seconds);
    }
    for time in [metadata.born, metadata.accessed].into_iter().flatten() {
        put_time(out, time, metadata.changed.seconds);
    }
    if has(presence::INODE) {
        put_varint(out, metadata.inode);
    }
    if has(presence::DEVICE) {
        put_varint(out, metadata.device);
    }
    if has(presence::LINKS) {
        put_varint(out, metadata.links.into());
    }
    if has(presence::SPECIAL_DEVICE) {
        put_varint(out, metadata.special_device);
    }
    if has(presence::FLAGS) {
        put_varint(out, metadata.flags.into());
    }
}

/// `Inline`, `Symlink`: the byte string. `Extents`: count, then `u8 kind ‖ length ‖ id if data` each. `List`:
/// `root[32] ‖ u8 depth ‖ chunks ‖ size`. `Directory`: `root[32] ‖ entries ‖ bytes`.
fn encode_content(node: &Node, out: &mut Vec<u8>) {
    match &node.content {
        Content::None => {}
        Content::Inline(bytes) | Content::Symlink(bytes) => put_string(out, bytes),
        Content::Extents(extents) => {
            put_varint(out, extents.len() as u64);
            for extent in extents {
                let (number, id) = match &extent.kind {
                    ExtentKind::Data(id) => (0, Some(id)),
                    ExtentKind::Zero => (1, None),
                    ExtentKind::Hole => (2, None),
                };
                out.push(number);
                put_varint(out, extent.length);
                if let Some(id) = id {
                    out.extend_from_slice(&id.0);
                }
            }
        }
        Content::List { root, depth, chunks } => {
            out.extend_from_slice(&root.0);
            out.push(*depth);
            put_varint(out, *chunks);
            put_varint(out, node.metadata.size);
        }
        Content::Directory(subtree) => {
            out.extend_from_slice(&subtree.root.0);
            put_varint(out, subtree.entries);
            put_varint(out, subtree.bytes);
        }
    }
}

/// A node's record, whole.
pub fn decode_node(record: &[u8]) -> Result<Node, Corruption> {
    let mut cursor = Cursor::new(record);
    let name = cursor.string(NAME_BYTES_MAX, "name")?.to_vec();
    let kinds = cursor.u8()?;
    let kind = NodeKind::from_number(kinds & 15)?;
    let present = cursor.u16()?;
    let mut metadata = decode_metadata(&mut cursor, kind, present)?;
    let content = decode_content(&mut cursor, kinds >> 4, &mut metadata)?;
    let xattrs = match present & (presence::XATTRS | presence::XATTR_CHUNK) {
        0 => Xattrs::Inline(Vec::new()),
        presence::XATTRS => Xattrs::Inline(take_xattrs(&mut cursor, INLINE_XATTR_BYTES_MAX)?),
        presence::XATTR_CHUNK => Xattrs::Chunk(ChunkId(cursor.array()?)),
        _ => return Err(Corruption::Malformed("presence of attributes")),
    };
    let extensions = if present & presence::EXTENSIONS == 0 { Vec::new() } else { decode_extensions(&mut cursor)? };
    cursor.finish()?;
    let node = Node { name, metadata, content, xattrs, extensions };
    // One spelling a value: a field that is there must not have the value that its absence means.
    let attributes =
        !matches!(&node.xattrs, Xattrs::Inline(xattrs) if present & presence::XATTRS != 0 && xattrs.is_empty());
    let derived = presence::XATTRS | presence::XATTR_CHUNK | presence::EXTENSIONS;
    if node.metadata.presence() != present & !derived || !attributes {
        return Err(Corruption::Malformed("presence of a field"));
    }
    node.check()?;
    Ok(node)
}

fn decode_metadata(cursor: &mut Cursor<'_>, kind: NodeKind, present: u16) -> Result<Metadata, Corruption> {
    fn time(cursor: &mut Cursor<'_>, origin: i64) -> Result<Timestamp, Corruption> {
        let seconds = origin.wrapping_add(cursor.varint_i64()?);
        Ok(Timestamp { seconds, nanoseconds: cursor.varint_u32()? })
    }
    let has = |bit: u16| present & bit != 0;
    let mode = cursor.varint_u32()?;
    let uid = cursor.varint_u32()?;
    let gid = if has(presence::GROUP) { cursor.varint_u32()? } else { uid };
    let mut owner = |bit| -> Result<Vec<u8>, Corruption> {
        Ok(if has(bit) { cursor.string(OWNER_BYTES_MAX, "name of an owner")?.to_vec() } else { Vec::new() })
    };
    let user = owner(presence::USER_NAME)?;
    let mut group = owner(presence::GROUP_NAME)?;
    if has(presence::SAME_NAME) {
        group.clone_from(&user);
    }
    let modified = time(cursor, 0)?;
    let changed = if has(presence::CHANGED) { time(cursor, modified.seconds)? } else { modified };
    let born = if has(presence::BORN) { Some(time(cursor, changed.seconds)?) } else { None };
    let accessed = if has(presence::ACCESSED) { Some(time(cursor, changed.seconds)?) } else { None };
    Ok(Metadata {
        kind,
        mode,
        uid,
        gid,
        user,
        group,
        modified,
        changed,
        born,
        accessed,
        inode: if has(presence::INODE) { cursor.varint()? } else { 0 },
        device: if has(presence::DEVICE) { cursor.varint()? } else { 0 },
        links: if has(presence::LINKS) { cursor.varint_u32()? } else { 1 },
        size: 0,
        special_device: if has(presence::SPECIAL_DEVICE) { cursor.varint()? } else { 0 },
        flags: if has(presence::FLAGS) { cursor.varint_u32()? } else { 0 },
        unstable: has(presence::UNSTABLE),
    })
}

/// Reads the content and sets the size, which follows from it.
fn decode_content(cursor: &mut Cursor<'_>, number: u8, metadata: &mut Metadata) -> Result<Content, Corruption> {
    let content = match number {
        0 => Content::None,
        1 => Content::Inline(cursor.string(INLINE_BYTES_MAX, "inline content")?.to_vec()),
        2 => {
            let count = cursor.varint()?;
            let count = cursor.count(count, 2, NODE_EXTENTS_MAX, "count of extents")?;
            let mut extents = Vec::with_capacity(count);
            for _ in 0..count {
                extents.push(decode_extent(cursor)?);
            }
            Content::Extents(extents)
        }
        3 => {
            let (root, depth, chunks) = (ChunkId(cursor.array()?), cursor.u8()?, cursor.varint()?);
            metadata.size = cursor.varint()?;
            return Ok(Content::List { root, depth, chunks });
        }
        4 => Content::Directory(Subtree {
            root: ChunkId(cursor.array()?),
            entries: cursor.varint()?,
            bytes: cursor.varint()?,
        }),
        5 => Content::Symlink(cursor.string(LINK_TARGET_BYTES_MAX, "link target")?.to_vec()),
        _ => return Err(Corruption::Unknown { field: "kind of content", value: number.into() }),
    };
    metadata.size = content.sum()?;
    Ok(content)
}

fn decode_extent(cursor: &mut Cursor<'_>) -> Result<Extent, Corruption> {
    let number = cursor.u8()?;
    let length = cursor.varint()?;
    let kind = match number {
        0 => ExtentKind::Data(ChunkId(cursor.array()?)),
        1 => ExtentKind::Zero,
        2 => ExtentKind::Hole,
        _ => return Err(Corruption::Unknown { field: "kind of an extent", value: number.into() }),
    };
    Ok(Extent { length, kind })
}

fn decode_extensions(cursor: &mut Cursor<'_>) -> Result<Extensions, Corruption> {
    let count = cursor.varint()?;
    let count = cursor.count(count, 2, u16::MAX.into(), "count of extensions")?;
    if count == 0 {
        return Err(Corruption::Malformed("presence of a field"));
    }
    let mut extensions = Vec::with_capacity(count);
    for _ in 0..count {
        let tag = u16::try_from(cursor.varint()?).map_err(|_| Corruption::Malformed("tag of an extension"))?;
        extensions.push((tag, cursor.string(TREE_NODE_BYTES_MAX, "extension")?.to_vec()));
    }
    Ok(extensions)
}

/// Checks an extent and adds its length to the `bytes` before it.
pub(super) fn add_extent(bytes: u64, extent: Extent) -> Result<u64, Corruption> {
    if extent.length == 0 {
        return Err(Corruption::Malformed("extent"));
    }
    if matches!(extent.kind, ExtentKind::Data(_)) && extent.length > CHUNK_BYTES_MAX.into() {
        return Err(Corruption::OverLimit("length of a chunk"));
    }
    add_file_bytes(bytes, extent.length)
}

/// Adds to a sum that must stay a file's length.
pub(super) fn add_file_bytes(bytes: u64, more: u64) -> Result<u64, Corruption> {
    bytes.checked_add(more).filter(|sum| *sum <= FILE_BYTES_MAX).ok_or(Corruption::OverLimit("length of a file"))
}

#[cfg(test)]
mod tests {
    use super::super::vectors::sample_nodes;
    use super::*;

    /// Encodes what `change` made of a golden node without asking first, and reads it.
    fn with(number: usize, change: impl FnOnce(&mut Node)) -> Result<(), Corruption> {
        let mut node = sample_nodes().swap_remove(number);
        change(&mut node);
        let mut record = Vec::new();
        encode_unchecked(&node, &mut record);
        assert_eq!(node.check().is_ok(), decode_node(&record).is_ok(), "writers and readers agree on {node:?}");
        decode_node(&record).map(|read| assert_eq!(read, node))
    }

    const USUAL: usize = 0;
    const EVERYTHING: usize = 1;
    const DIRECTORY: usize = 4;
    const LIST: usize = 7;
    const SYMLINK: usize = 9;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [&b""[..], b".", b"..", b"/", b"a/b", b"../x", b"a\0", b"\0"] {
            assert_eq!(with(USUAL, |node| node.name = name.to_vec()), Err(Corruption::Malformed("name")), "{name:?}");
        }
        for name in [&b"..."[..], b".a", b" ", b"\xff", b"\n", &[b'n'; NAME_BYTES_MAX]] {
            assert_eq!(with(USUAL, |node| node.name = name.to_vec()), Ok(()), "{name:?}");
        }
        let long = vec![b'n'; NAME_BYTES_MAX + 1];
        assert_eq!(with(USUAL, |node| node.name = long), Err(Corruption::OverLimit("name")));
    }

    #[test]
    fn metadata_has_bounds() {
        let time = Err(Corruption::Malformed("time"));
        for change in [
            (|node| node.metadata.modified.nanoseconds = 1_000_000_000) as fn(&mut Node),
            |node| node.metadata.changed.nanoseconds = 1_000_000_000,
            |node| node.metadata.born.as_mut().unwrap().nanoseconds = u32::MAX,
            |node| node.metadata.accessed.as_mut().unwrap().nanoseconds = 1_000_000_000,
        ] {
            assert_eq!(with(EVERYTHING, change), time);
        }
        assert_eq!(with(USUAL, |node| node.metadata.mode = 0o10000), Err(Corruption::Malformed("mode")));
        assert_eq!(with(USUAL, |node| node.metadata.mode = 0o7777), Ok(()));
        let owner = Err(Corruption::OverLimit("name of an owner"));
        assert_eq!(with(USUAL, |node| node.metadata.user = vec![b'u'; 1025]), owner);
        assert_eq!(with(USUAL, |node| node.metadata.group = vec![b'g'; 1025]), owner);
    }

    #[test]
    fn a_kind_has_its_content_only() {
        const CONTENT: Result<(), Corruption> = Err(Corruption::Malformed("content of a node"));
        assert_eq!(with(USUAL, |node| node.metadata.kind = NodeKind::Fifo), CONTENT);
        assert_eq!(with(EVERYTHING, |node| node.metadata.kind = NodeKind::Symlink), CONTENT);
        assert_eq!(with(LIST, |node| node.metadata.kind = NodeKind::Directory), CONTENT);
        assert_eq!(with(DIRECTORY, |node| node.metadata.kind = NodeKind::File), CONTENT);
        assert_eq!(with(SYMLINK, |node| node.metadata.kind = NodeKind::File), CONTENT);
        assert_eq!(with(SYMLINK, |node| node.content = Content::None), CONTENT);
    }

    #[test]
    fn contents_have_bounds() {
        let over = Err(Corruption::OverLimit("content of a node"));
        let malformed = Err(Corruption::Malformed("content of a node"));
        let inline = |length| {
            with(EVERYTHING, |node| {
                node.content = Content::Inline(vec![0; length]);
                node.metadata.size = length as u64;
            })
        };
        assert_eq!(inline(512), Ok(()));
        assert_eq!(inline(513), Err(Corruption::OverLimit("inline content")));
        assert_eq!(inline(0), malformed);
        let extents = |count, length| {
            with(USUAL, |node| {
                node.content = Content::Extents(vec![Extent { length, kind: ExtentKind::Zero }; count]);
                node.metadata.size = count as u64 * length;
            })
        };
        assert_eq!(extents(64, 1), Ok(()));
        assert_eq!(extents(65, 1), Err(Corruption::OverLimit("count of extents")));
        assert_eq!(extents(0, 1), malformed);
        assert_eq!(extents(1, 0), Err(Corruption::Malformed("extent")));
        assert_eq!(extents(2, 1 << 62), Err(Corruption::OverLimit("length of a file")));
        let depth =
            |depth| with(LIST, |node| node.content = Content::List { root: ChunkId([0; 32]), depth, chunks: 1 });
        assert_eq!(depth(6), Ok(()));
        assert_eq!(depth(7), over);
        let target = |length| with(SYMLINK, |node| node.content = Content::Symlink(vec![b't'; length]));
        assert_eq!(target(65536), Ok(()));
        assert_eq!(target(65537), Err(Corruption::OverLimit("link target")));
        let empty = |node: &mut Node| {
            node.content = Content::Directory(Subtree { root: ChunkId([0; 32]), entries: 0, bytes: 0 });
        };
        assert_eq!(with(DIRECTORY, empty), Err(Corruption::Malformed("directory: no entries")));
        assert_eq!(with(LIST, |node| node.metadata.size = 1 << 63), Err(Corruption::OverLimit("length of a file")));
    }

    #[test]
    fn attributes_over_4_kib_do_not_fit_a_record() {
        let xattr =
            |length| with(USUAL, |node| node.xattrs = Xattrs::Inline(vec![(b"user.a".to_vec(), vec![0; length])]));
        assert_eq!(xattr(4090), Ok(()));
        assert_eq!(xattr(4091), Err(Corruption::OverLimit("extended attributes")));
    }

    /// A record with a field written out that its absence says already: a second spelling of one node.
    #[test]
    fn fields_that_say_nothing_are_refused() {
        let spelled = |present: u16, fields: &[u8]| {
            let [low, high] = present.to_le_bytes();
            // Name `x`, a fifo, no mode, uid 0; modified at 0.
            let mut record = vec![1, b'x', 3, low, high, 0, 0];
            record.extend_from_slice(fields);
            decode_node(&record).map(drop)
        };
        let refused = Err(Corruption::Malformed("presence of a field"));
        assert_eq!(spelled(0, &[0, 0]), Ok(()));
        assert_eq!(spelled(presence::GROUP, &[0, 0, 0]), refused);
        assert_eq!(spelled(presence::GROUP, &[1, 0, 0]), Ok(()));
        assert_eq!(spelled(presence::USER_NAME, &[0, 0, 0]), refused);
        assert_eq!(spelled(presence::SAME_NAME, &[0, 0]), refused);
        assert_eq!(spelled(presence::GROUP_NAME, &[0, 0, 0]), refused);
        let same = presence::USER_NAME | presence::GROUP_NAME;
        assert_eq!(spelled(same, &[1, b'a', 1, b'a', 0, 0]), refused);
        assert_eq!(spelled(same, &[1, b'a', 1, b'b', 0, 0]), Ok(()));
        assert_eq!(spelled(same | presence::SAME_NAME, &[1, b'a', 1, b'b', 0, 0]), refused);
        assert_eq!(spelled(presence::CHANGED, &[0, 0, 0, 0]), refused);
        assert_eq!(spelled(presence::CHANGED, &[0, 0, 0, 1]), Ok(()));
        assert_eq!(spelled(presence::BORN, &[0, 0, 0, 0]), Ok(()));
        assert_eq!(spelled(presence::ACCESSED, &[0, 0, 0, 0]), Ok(()));
        for bit in [presence::INODE, presence::DEVICE, presence::SPECIAL_DEVICE, presence::FLAGS] {
            assert_eq!(spelled(bit, &[0, 0, 0]), refused);
            assert_eq!(spelled(bit, &[0, 0, 7]), Ok(()));
        }
        assert_eq!(spelled(presence::LINKS, &[0, 0, 1]), refused);
        assert_eq!(spelled(presence::LINKS, &[0, 0, 0]), Ok(()));
        assert_eq!(spelled(presence::XATTRS, &[0, 0, 0]), refused);
        let both = Err(Corruption::Malformed("presence of attributes"));
        assert_eq!(spelled(presence::XATTRS | presence::XATTR_CHUNK, &[0, 0, 0]), both);
        assert_eq!(spelled(presence::EXTENSIONS, &[0, 0, 0]), refused);
        assert_eq!(spelled(0, &[0, 0, 0]), Err(Corruption::Malformed("end: bytes are left over")));
    }

    #[test]
    fn unknown_kinds_are_refused_by_name() {
        let kinds = |byte| decode_node(&[1, b'x', byte, 0, 0, 0, 0, 0, 0]).map(drop);
        assert_eq!(kinds(7), Err(Corruption::Unknown { field: "kind of a node", value: 7 }));
        assert_eq!(kinds(0x60), Err(Corruption::Unknown { field: "kind of content", value: 6 }));
        let critical = Err(Corruption::Unknown { field: "critical extension", value: 0x8000 });
        assert_eq!(with(EVERYTHING, |node| node.extensions = vec![(0x8000, Vec::new())]), critical);
    }
}
