//! What the kernel wants to know of a file, from what the library knows.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};
use repo_core::{Browser, Content, Item, ItemKind, Node, NodeKind, Timestamp};

/// The unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;
/// A page: what the kernel reads at a time anyway.
const PREFERRED_BYTES: u32 = 4096;

/// As whose things are shown.
#[derive(Debug, Clone, Copy)]
pub struct Owners {
    /// Of what is in no snapshot.
    pub own: (u32, u32),
    pub all_root: bool,
}

/// The kind of what stands in a directory.
pub fn file_type(item: &Item) -> FileType {
    match item.kind() {
        ItemKind::Latest { .. } => FileType::Symlink,
        ItemKind::Entry(node) => match node.metadata.kind {
            NodeKind::File => FileType::RegularFile,
            NodeKind::Directory => FileType::Directory,
            NodeKind::Symlink => FileType::Symlink,
            NodeKind::Fifo => FileType::NamedPipe,
            NodeKind::Socket => FileType::Socket,
            NodeKind::BlockDevice => FileType::BlockDevice,
            NodeKind::CharDevice => FileType::CharDevice,
        },
        _ => FileType::Directory,
    }
}

/// Everything `stat` tells.
pub fn attributes(browser: &Browser, item: &Item, owners: Owners) -> FileAttr {
    let (mode, size, changed_ns) = match item.kind() {
        ItemKind::Entry(node) => return of_entry(browser, item, node, owners),
        ItemKind::Directory { changed_ns } => (0o555, 0, changed_ns),
        ItemKind::Snapshot(snapshot) => (0o555, 0, snapshot.record().start_ns),
        ItemKind::Latest { target, changed_ns } => (0o777, target.len() as u64, changed_ns),
        _ => (0o555, 0, 0),
    };
    let seconds = changed_ns.div_euclid(1_000_000_000);
    let time = time(Timestamp { seconds, nanoseconds: changed_ns.rem_euclid(1_000_000_000) as u32 });
    let (uid, gid) = if owners.all_root { (0, 0) } else { owners.own };
    FileAttr {
        ino: INodeNo(item.number()),
        size,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(item),
        perm: mode,
        nlink: 1,
        uid,
        gid,
        rdev: 0,
        blksize: PREFERRED_BYTES,
        flags: 0,
    }
}

fn of_entry(browser: &Browser, item: &Item, node: &Node, owners: Owners) -> FileAttr {
    let metadata = &node.metadata;
    let size = match &node.content {
        Content::Symlink(target) => target.len() as u64,
        _ => metadata.size,
    };
    let allocated = match metadata.kind {
        // One whose list is damaged can still be looked at; reading it tells.
        NodeKind::File => browser.allocated_bytes(item).unwrap_or(size),
        _ => 0,
    };
    let (uid, gid) = if owners.all_root { (0, 0) } else { (metadata.uid, metadata.gid) };
    FileAttr {
        ino: INodeNo(item.number()),
        size,
        blocks: allocated.div_ceil(BLOCK_BYTES),
        atime: time(metadata.accessed.unwrap_or(metadata.modified)),
        mtime: time(metadata.modified),
        ctime: time(metadata.changed),
        crtime: time(metadata.born.unwrap_or(metadata.changed)),
        kind: file_type(item),
        perm: (metadata.mode & 0o7777) as u16,
        // Programs count on `..` of each directory below; what was left out of the backup would be missing. One link
        // means that nobody counted.
        nlink: if metadata.kind == NodeKind::Directory { 1 } else { metadata.links.max(1) },
        uid,
        gid,
        // The kernel's 32 bits are the lower ones of those that `stat` has: 12 of major, 20 of minor.
        rdev: metadata.special_device as u32,
        blksize: PREFERRED_BYTES,
        flags: 0,
    }
}

/// A time that the system's clock could not have is the nearest one it could.
fn time(time: Timestamp) -> SystemTime {
    let part = Duration::from_nanos(time.nanoseconds.into());
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let seconds = if time.seconds < 0 { epoch.checked_sub(whole) } else { epoch.checked_add(whole) };
    seconds.and_then(|seconds| seconds.checked_add(part)).unwrap_or(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_count_their_nanoseconds_forward() {
        let since = |seconds, nanoseconds| {
            let time = time(Timestamp { seconds, nanoseconds });
            SystemTime::UNIX_EPOCH.duration_since(time).map_err(|error| error.duration())
        };
        assert_eq!(since(-2, 250_000_000), Ok(Duration::from_millis(1750)));
        assert_eq!(since(2, 250_000_000), Err(Duration::from_millis(2250)));
        assert_eq!(since(-2_000_000_000, 999_999_999), Ok(Duration::new(1_999_999_999, 1)));
    }
}
