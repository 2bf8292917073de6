//! Nodes of a directory's Merkle B-tree: the ordered entries of one directory, in chunks of kind `Tree`.
//! Where a node is split is `crate::tree`'s business.

use crate::error::Corruption;
use crate::id::ChunkId;

use super::Extensions;

/// One named thing with its metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Raw bytes; never empty, `.`, `..`, nor with `/` or NUL.
    pub name: Vec<u8>,
    pub metadata: Metadata,
    pub content: Content,
    pub xattrs: Xattrs,
    pub extensions: Extensions,
}

/// The kinds of things that have names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum NodeKind {
    File = 0,
    Directory = 1,
    Symlink = 2,
    Fifo = 3,
    Socket = 4,
    BlockDevice = 5,
    CharDevice = 6,
}

/// Seconds and nanoseconds since 1970 UTC; the nanoseconds are below 10^9 and count forward, also before 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// What the file system says of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metadata {
    pub kind: NodeKind,
    /// Permission bits with setuid, setgid and sticky: 0o7777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Names of uid and gid where they are known, else empty.
    pub user: Vec<u8>,
    pub group: Vec<u8>,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub born: Option<Timestamp>,
    /// Only on request.
    pub accessed: Option<Timestamp>,
    pub inode: u64,
    pub device: u64,
    /// Hard links; together with (device, inode) it makes link groups.
    pub links: u32,
    /// Bytes; 0 for what is not a file.
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
    List { root: ChunkId, depth: u8, chunks: u64 },
    /// A directory that is not empty: the root node of its tree.
    Directory(Subtree),
    /// A symlink's target.
    Symlink(Vec<u8>),
}

/// A directory's tree, or a part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subtree {
    pub root: ChunkId,
    /// Entries below at every depth; bytes of file content below.
    pub entries: u64,
    pub bytes: u64,
}

/// A piece of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    pub length: u64,
    pub kind: ExtentKind,
}

/// A written zero is not a hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtentKind {
    Data(ChunkId),
    Zero,
    Hole,
}

/// Extended attributes, POSIX ACLs among them; ascending by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Xattrs {
    /// At most 4 KiB in sum.
    Inline(Vec<(Vec<u8>, Vec<u8>)>),
    /// The id of a chunk of kind `Xattr` ([`encode_xattrs`]).
    Chunk(ChunkId),
}

/// A node of the B-tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeNode {
    Leaf(Vec<Node>),
    /// Level at least 1.
    Branch {
        level: u8,
        children: Vec<Child>,
    },
}

/// A child of a branch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Child {
    pub subtree: Subtree,
    pub first_name: Vec<u8>,
}

/// Appends a node's record, as it stands in a leaf without its length, to `out`.
pub fn encode_node(_node: &Node, _out: &mut Vec<u8>) {
    todo!()
}

/// A leaf of already encoded records, ascending by name.
pub fn encode_leaf<'a>(_records: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    todo!()
}

/// A branch.
pub fn encode_branch(_level: u8, _children: &[Child]) -> Vec<u8> {
    todo!()
}

/// Either kind of node. Names must ascend strictly; sums must not overflow.
pub fn decode_tree_node(_bytes: &[u8]) -> Result<TreeNode, Corruption> {
    todo!()
}

/// The content of a chunk of kind `Xattr`.
pub fn encode_xattrs(_xattrs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    todo!()
}

/// Names must ascend strictly.
pub fn decode_xattrs(_bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Corruption> {
    todo!()
}
