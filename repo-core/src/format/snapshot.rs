//! A snapshot: a published tree with time, host, paths, tags and lineage. Complete in itself.

use serde::{Deserialize, Serialize};

use super::{Extensions, PAYLOAD_BYTES_MAX, check_extensions, refuse_unknown};
use crate::codec;
use crate::error::Corruption;
use crate::id::{ChunkId, SeriesId, SnapshotId};

/// Payload of `snapshots/<id>`. Times are nanoseconds since 1970 UTC; sizes bytes. Paths are raw bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Its name, which was its session's.
    pub id: SnapshotId,
    /// Which source on which host this is one of.
    pub series: SeriesId,
    /// The parent's sequence plus one; 0 for the first.
    pub sequence: u64,
    /// What it was compared with.
    pub lineage: LineageRecord,
    /// Bit 0 pinned, bit 1 incomplete, bit 2 partial.
    pub flags: u32,
    /// The snapshot it was copied or rewritten from.
    pub origin: Option<SnapshotId>,
    /// BLAKE3 of the parent's stored object, or zeros.
    pub parent_digest: [u8; 32],
    /// The parameters it was made with.
    pub config_generation: u64,
    /// The keyring that was newest when it was made.
    pub keyring_generation: u64,
    /// When the reading began.
    pub start_ns: i64,
    /// When the reading ended: what `At` selects by.
    pub end_ns: i64,
    /// East of Greenwich.
    pub zone_minutes: i16,
    /// The machine it was taken of.
    pub host: String,
    /// Who took it.
    pub user: String,
    /// Who took it, as a number.
    pub uid: u32,
    /// The group of who took it.
    pub gid: u32,
    /// What the source was made of.
    pub paths: Vec<Vec<u8>>,
    /// The patterns that were left out, for people.
    pub excludes: Vec<String>,
    /// What the user called it.
    pub tags: Vec<String>,
    /// The program that wrote it, with its version.
    pub program: String,
    /// The top of the tree.
    pub root: Root,
    /// What the backup counted.
    pub summary: Summary,
    /// Fields of later versions.
    pub extensions: Extensions,
}

/// What a snapshot was compared with. Provenance, never a data dependency.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LineageRecord {
    /// With nothing: every byte was read.
    Full,
    /// With the newest of its series, or the one that was named.
    Incremental {
        /// That one.
        parent: SnapshotId,
    },
    /// With the last full one of its series.
    Differential {
        /// That one.
        base: SnapshotId,
    },
}

/// The top of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Root {
    /// None: an empty top level.
    pub tree: Option<ChunkId>,
    /// Entries below, at every depth.
    pub entries: u64,
    /// Bytes of file content below.
    pub bytes: u64,
}

/// restic's counters, kept with the snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Files that what it was compared with has not.
    pub files_new: u64,
    /// Files that differ.
    pub files_changed: u64,
    /// Files that were taken over without being read.
    pub files_unmodified: u64,
    /// Directories that what it was compared with has not.
    pub directories_new: u64,
    /// Directories of which any record differs, at any depth.
    pub directories_changed: u64,
    /// Directories that are the same through and through.
    pub directories_unmodified: u64,
    /// New chunks of file content.
    pub data_chunks: u64,
    /// New chunks of trees, lists and attributes.
    pub tree_chunks: u64,
    /// Plaintext bytes of new chunks.
    pub added_bytes: u64,
    /// What they took in packs.
    pub stored_bytes: u64,
    /// Bytes that were read of files.
    pub read_bytes: u64,
    /// Files in the snapshot.
    pub processed_files: u64,
    /// Bytes of the files in the snapshot.
    pub processed_bytes: u64,
    /// Entries that could not be read in full.
    pub problems: u64,
}

/// Bit of `flags`: kept whatever a policy says.
pub const FLAG_PINNED: u32 = 1;
/// Bit of `flags`: something that belongs to it was lost, and it was published without that.
pub const FLAG_INCOMPLETE: u32 = 2;
/// Bit of `flags`: the backup was ended before it had come to the end of its source. Directories that were begun have what
/// was done by then, and nothing says what would have followed.
pub const FLAG_PARTIAL: u32 = 4;
/// All that there are.
const FLAGS: u32 = FLAG_PINNED | FLAG_INCOMPLETE | FLAG_PARTIAL;

#[cfg(test)]
impl SnapshotRecord {
    /// Of nothing, by nobody, at the beginning of 1970: what tests set their fields on.
    pub fn blank(id: SnapshotId) -> Self {
        Self {
            id,
            series: SeriesId([0; 16]),
            sequence: 0,
            lineage: LineageRecord::Full,
            flags: 0,
            origin: None,
            parent_digest: [0; 32],
            config_generation: 1,
            keyring_generation: 1,
            start_ns: 0,
            end_ns: 0,
            zone_minutes: 0,
            host: String::new(),
            user: String::new(),
            uid: 0,
            gid: 0,
            paths: Vec::new(),
            excludes: Vec::new(),
            tags: Vec::new(),
            program: String::new(),
            root: Root { tree: None, entries: 0, bytes: 0 },
            summary: Summary::default(),
            extensions: Vec::new(),
        }
    }
}

impl SnapshotRecord {
    /// The payload, by the codec's rules. A writer checks its length against `PAYLOAD_BYTES_MAX`.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The id is the caller's to compare with the name.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let record: Self = codec::decode(bytes, PAYLOAD_BYTES_MAX, "snapshot")?;
        refuse_unknown("snapshot flag", (record.flags & !FLAGS).into())?;
        let root = &record.root;
        let rooted = match root.tree {
            None => root.entries == 0 && root.bytes == 0,
            Some(_) => root.entries > 0,
        };
        // RFC 9557 and POSIX allow offsets below a day.
        if !rooted || record.zone_minutes.unsigned_abs() >= 24 * 60 {
            return Err(Corruption::Malformed("snapshot"));
        }
        check_extensions(&record.extensions)?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::sample_snapshot;
    use super::*;

    fn with(change: impl FnOnce(&mut SnapshotRecord)) -> Result<(), Corruption> {
        let mut record = sample_snapshot();
        change(&mut record);
        SnapshotRecord::decode(&record.encode()).map(|read| assert_eq!(read, record))
    }

    #[test]
    fn an_empty_root_counts_nothing_and_another_something() {
        const MALFORMED: Result<(), Corruption> = Err(Corruption::Malformed("snapshot"));
        let root = |tree, entries, bytes| with(|record| record.root = Root { tree, entries, bytes });
        let tree = Some(ChunkId([1; 32]));
        assert_eq!(root(None, 0, 0), Ok(()));
        assert_eq!(root(None, 1, 0), MALFORMED);
        assert_eq!(root(None, 0, 1), MALFORMED);
        assert_eq!(root(tree, 1, 0), Ok(()));
        assert_eq!(root(tree, 0, 0), MALFORMED);
    }

    #[test]
    fn flags_zones_and_lengths_have_bounds() {
        let unknown = Err(Corruption::Unknown { field: "snapshot flag", value: 8 });
        assert_eq!(with(|record| record.flags = 7), Ok(()));
        assert_eq!(with(|record| record.flags = 15), unknown);
        for (minutes, valid) in [(1439, true), (-1439, true), (1440, false), (-1440, false), (i16::MIN, false)] {
            assert_eq!(with(|record| record.zone_minutes = minutes).is_ok(), valid);
        }
        let long = vec![b'p'; PAYLOAD_BYTES_MAX];
        assert_eq!(with(|record| record.paths = vec![long]), Err(Corruption::OverLimit("snapshot")));
        assert_eq!(with(|record| record.paths = vec![Vec::new(); 100_000]), Ok(()));
    }
}
