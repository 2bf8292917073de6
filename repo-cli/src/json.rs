//! The JSON shapes that several commands print: snapshots and nodes. docs/json.md describes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use repo_core::{ChunkKind, Content, LineageRecord, Metadata, Node, NodeKind, Snapshot, Summary, Timestamp};
use serde::Serialize;

use crate::time;

/// A name as JSON can hold it: what is not UTF-8 becomes U+FFFD.
pub fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// The bytes of a name that is not UTF-8, in base64.
pub fn exact(name: &[u8]) -> Option<String> {
    std::str::from_utf8(name).is_err().then(|| STANDARD.encode(name))
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A snapshot, as `snapshots`, `ls` and `cat` print it.
#[derive(Debug, Serialize)]
pub struct SnapshotShape {
    pub time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    pub paths: Vec<String>,
    pub hostname: String,
    pub username: String,
    pub uid: u32,
    pub gid: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    pub program_version: String,
    #[serde(skip_serializing_if = "is_false")]
    pub pinned: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    pub lineage: &'static str,
    pub series: String,
    pub sequence: u64,
    pub summary: SummaryShape,
    pub id: String,
    pub short_id: String,
}

/// The counters of a backup.
#[derive(Debug, Serialize)]
pub struct SummaryShape {
    pub backup_start: String,
    pub backup_end: String,
    #[serde(flatten)]
    pub counters: Counters,
}

/// restic's names for the counters.
#[derive(Debug, Serialize)]
pub struct Counters {
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unmodified: u64,
    pub dirs_new: u64,
    pub dirs_changed: u64,
    pub dirs_unmodified: u64,
    pub data_blobs: u64,
    pub tree_blobs: u64,
    pub data_added: u64,
    pub data_added_packed: u64,
    pub total_files_processed: u64,
    pub total_bytes_processed: u64,
}

impl From<&Summary> for Counters {
    fn from(summary: &Summary) -> Self {
        Self {
            files_new: summary.files_new,
            files_changed: summary.files_changed,
            files_unmodified: summary.files_unmodified,
            dirs_new: summary.directories_new,
            dirs_changed: summary.directories_changed,
            dirs_unmodified: summary.directories_unmodified,
            data_blobs: summary.data_chunks,
            tree_blobs: summary.tree_chunks,
            data_added: summary.added_bytes,
            data_added_packed: summary.stored_bytes,
            total_files_processed: summary.processed_files,
            total_bytes_processed: summary.processed_bytes,
        }
    }
}

impl From<&Snapshot> for SnapshotShape {
    fn from(snapshot: &Snapshot) -> Self {
        let record = snapshot.record();
        let (lineage, parent) = match record.lineage {
            LineageRecord::Full => ("full", None),
            LineageRecord::Incremental { parent } => ("incremental", Some(parent)),
            LineageRecord::Differential { base } => ("differential", Some(base)),
        };
        let id = record.id.short();
        let zone = record.zone_minutes;
        Self {
            time: time::rfc3339_ns(record.start_ns, zone),
            parent: parent.map(|id| id.short()),
            tree: record.root.tree.map(|id| id.to_string()),
            paths: record.paths.iter().map(|path| text(path)).collect(),
            hostname: record.host.clone(),
            username: record.user.clone(),
            uid: record.uid,
            gid: record.gid,
            excludes: record.excludes.clone(),
            tags: record.tags.clone(),
            original: record.origin.map(|id| id.short()),
            program_version: record.program.clone(),
            pinned: snapshot.is_pinned(),
            partial: snapshot.is_partial(),
            lineage,
            series: record.series.to_string(),
            sequence: record.sequence,
            summary: SummaryShape {
                backup_start: time::rfc3339_ns(record.start_ns, zone),
                backup_end: time::rfc3339_ns(record.end_ns, zone),
                counters: Counters::from(&record.summary),
            },
            short_id: id[..8].to_owned(),
            id,
        }
    }
}

/// A node, as `ls` and `cat tree` print it.
#[derive(Debug, Serialize)]
pub struct NodeShape {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_base64: Option<String>,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    pub uid: u32,
    pub gid: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    pub mode: u32,
    pub permissions: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub atime: Option<String>,
    pub mtime: String,
    pub ctime: String,
    pub inode: u64,
    #[serde(skip_serializing_if = "crate::progress::is_zero")]
    pub device_id: u64,
    pub links: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linktarget: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linktarget_base64: Option<String>,
}

impl NodeShape {
    /// A node and its path in the snapshot.
    pub fn new(path: &[u8], node: &Node, zone_minutes: i16) -> Self {
        let metadata = &node.metadata;
        let stamp = |time: Timestamp| time::rfc3339(time.seconds, time.nanoseconds, zone_minutes);
        let mode = go_mode(metadata);
        let target = match &node.content {
            Content::Symlink(target) => Some(target),
            _ => None,
        };
        Self {
            name: text(&node.name),
            name_base64: exact(&node.name),
            kind: kind_name(metadata.kind),
            path: text(path),
            path_base64: exact(path),
            uid: metadata.uid,
            gid: metadata.gid,
            user: text(&metadata.user),
            group: text(&metadata.group),
            size: (metadata.kind == NodeKind::File).then_some(metadata.size),
            mode,
            permissions: go_permissions(mode),
            atime: metadata.accessed.map(stamp),
            mtime: stamp(metadata.modified),
            ctime: stamp(metadata.changed),
            inode: metadata.inode,
            device_id: metadata.device,
            links: metadata.links,
            linktarget: target.map(|target| text(target)),
            linktarget_base64: target.and_then(|target| exact(target)),
        }
    }
}

/// restic's words for the kinds.
pub fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "file",
        NodeKind::Directory => "dir",
        NodeKind::Symlink => "symlink",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
        NodeKind::BlockDevice => "dev",
        NodeKind::CharDevice => "chardev",
    }
}

/// What a chunk holds, in a word.
pub fn chunk_kind(kind: ChunkKind) -> &'static str {
    match kind {
        ChunkKind::Data => "data",
        ChunkKind::Tree => "tree",
        ChunkKind::List => "list",
        ChunkKind::Xattr => "xattr",
    }
}

/// The mode as Go's `os.FileMode` numbers it, which restic's JSON made a convention: the low nine bits are the usual
/// ones, kind and setuid, setgid, sticky are bits of Go's own.
fn go_mode(metadata: &Metadata) -> u32 {
    let kind = match metadata.kind {
        NodeKind::File => 0,
        NodeKind::Directory => 1 << 31,
        NodeKind::Symlink => 1 << 27,
        NodeKind::BlockDevice => 1 << 26,
        NodeKind::CharDevice => 1 << 26 | 1 << 21,
        NodeKind::Fifo => 1 << 25,
        NodeKind::Socket => 1 << 24,
    };
    let special = [(0o4000, 23), (0o2000, 22), (0o1000, 20)];
    let special = special.iter().filter(|(bit, _)| metadata.mode & bit != 0).map(|(_, shift)| 1 << shift);
    metadata.mode & 0o777 | kind | special.sum::<u32>()
}

/// The letters of such a mode: one for each bit set from the top, or `-`, then `rwxrwxrwx`.
fn go_permissions(mode: u32) -> String {
    let mut letters: String =
        "dalTLDpSugct?".chars().enumerate().filter(|(bit, _)| mode & (1 << (31 - bit)) != 0).map(|(_, c)| c).collect();
    if letters.is_empty() {
        letters.push('-');
    }
    letters.extend("rwxrwxrwx".chars().enumerate().map(|(bit, c)| if mode & (0o400 >> bit) != 0 { c } else { '-' }));
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(kind: NodeKind, mode: u32) -> Metadata {
        Metadata::unknown(kind, mode)
    }

    #[test]
    fn modes_are_numbered_and_spelled_as_restics_readers_expect() {
        let cases = [
            (NodeKind::File, 0o644, 0o644, "-rw-r--r--"),
            (NodeKind::Directory, 0o755, 2_147_484_141, "drwxr-xr-x"),
            (NodeKind::Symlink, 0o777, 134_218_239, "Lrwxrwxrwx"),
            (NodeKind::File, 0o4755, 8_389_101, "urwxr-xr-x"),
            (NodeKind::Directory, 0o1777, 2_148_532_735, "dtrwxrwxrwx"),
            (NodeKind::CharDevice, 0o600, 69_206_400, "Dcrw-------"),
        ];
        for (kind, mode, number, letters) in cases {
            let go = go_mode(&metadata(kind, mode));
            assert_eq!((go, go_permissions(go).as_str()), (number, letters));
        }
    }
}
