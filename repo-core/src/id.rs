//! Names: bytes that know what they name, and the grammar of object names.
//! What an object holds is `format`'s business; where it lies is `backend`'s.

use std::fmt;
use std::str::FromStr;

/// Writes `bytes` as lower-case hexadecimal digits.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `N` bytes from `2 * N` lower-case hexadecimal digits; anything else is `None`: stored names have one
/// spelling (invariant 8).
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub struct $name(pub [u8; $length]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl $name {
            /// The one spelling that names of objects have.
            fn exact(text: &str) -> Result<Self, NotAnId> {
                parse_hex(text).map(Self).ok_or(NotAnId)
            }
        }

        /// For what people type: capital digits mean the same. `Display` writes lower-case ones.
        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                Self::exact(&text.to_ascii_lowercase())
            }
        }
    };
}

/// The text is not an id, which is a fixed count of hexadecimal digits, nor the name of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of hexadecimal digits")]
pub struct NotAnId;

id!(
    /// A chunk's name: the keyed BLAKE3 hash of its plaintext, under a key of its [`ChunkKind`] (invariant 4).
    ChunkId, 32
);
id!(
    /// A pack's name: the BLAKE3 hash of the whole object (invariant 4).
    PackId, 32
);
id!(
    /// An index object's name: the BLAKE3 hash of the whole object.
    IndexId, 32
);
id!(
    /// A key slot's name, random.
    SlotId, 16
);
id!(
    /// A repository's own name, random; bound into every key.
    RepositoryId, 16
);
id!(
    /// The client that alone reclaims space in a weak repository ([`InitOptions::weak_store`](crate::InitOptions::weak_store)):
    /// a random number that it has made up and keeps.
    OwnerId, 16
);
id!(
    /// The name of a series: the snapshots of one source on one host.
    SeriesId, 16
);
id!(
    /// A session's and its snapshot's name: 48 bits of Unix milliseconds, big-endian, then 80 random bits.
    /// People see and type the random part only ([`SnapshotId::short`]): the time part is shared by all of the same minute.
    SnapshotId, 16
);

impl SnapshotId {
    /// Makes the name of a session that starts at `unix_ms` from ten random bytes.
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        Self(bytes)
    }

    /// When the session started, in Unix milliseconds, by the writer's clock.
    pub fn started_ms(&self) -> u64 {
        self.0[..6].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte))
    }

    /// The 20 hexadecimal digits that people use; commands show the first eight.
    pub fn short(&self) -> String {
        self.to_string()[12..].to_owned()
    }

    /// Whether `prefix` begins this id as people see it, or, with more digits than the time has, its full form. Capital
    /// digits mean the same.
    pub fn matches(&self, prefix: &str) -> bool {
        let (full, prefix) = (self.to_string(), prefix.to_ascii_lowercase());
        full[12..].starts_with(&prefix) || prefix.len() > 12 && full.starts_with(&prefix)
    }
}

/// What a chunk holds. Each kind has its own naming key, so that bytes of one kind never pass for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum ChunkKind {
    /// A slice of a file's content.
    Data = 0,
    /// A node of a directory's Merkle B-tree.
    Tree = 1,
    /// A node of a large file's chunk list.
    List = 2,
    /// Extended attributes too large for their node.
    Xattr = 3,
}

impl ChunkKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Data, Self::Tree, Self::List, Self::Xattr];

    /// The kind with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The kind of pack that holds such chunks.
    pub fn pack_kind(self) -> PackKind {
        match self {
            Self::Data => PackKind::Data,
            Self::Tree | Self::List | Self::Xattr => PackKind::Meta,
        }
    }
}

/// Data packs may lie in a cold tier; metadata packs are always at hand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum PackKind {
    /// Contents of files.
    Data = 1,
    /// Trees, chunk lists, large extended attributes.
    Meta = 2,
}

/// The small objects of which a second copy is kept under `r/`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Doubled {
    /// `format`
    Format,
    /// `keys/<slot>`
    KeySlot(SlotId),
    /// `keyring/<generation>`
    Keyring(u64),
    /// `config/<generation>`
    Config(u64),
    /// `snapshots/<id>`
    Snapshot(SnapshotId),
}

/// An object's name. `Display` and `FromStr` are the grammar of docs/format.md; nothing else is an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum ObjectName {
    /// `format`: what makes a place a repository. Written last by `init`.
    Format,
    /// `keys/<slot>`: the root key, wrapped by one secret.
    KeySlot(SlotId),
    /// `keyring/<generation>`: the keys by epoch and purpose.
    Keyring(u64),
    /// `config/<generation>`: parameters.
    Config(u64),
    /// `packs/d/<2>/<id>` or `packs/m/<2>/<id>`.
    Pack(PackKind, PackId),
    /// `index/<id>`
    Index(IndexId),
    /// `snapshots/<id>`
    Snapshot(SnapshotId),
    /// `sessions/<id>`
    Session(SnapshotId),
    /// `sessions/<id>.r<number>`: the session said again that it lives.
    Renewal(SnapshotId, u16),
    /// `gc/<cycle>.<stage>`: one step of reclaiming space.
    Gc(u64, GcStage),
    /// `forgotten/<snapshot>`: the snapshot is no longer shown, and goes when its window is over.
    Forgotten(SnapshotId),
    /// `damaged/<pack>.<number>`: what a pack no longer holds.
    Damaged(PackId, u16),
    /// `parity/<2>/<pack>.<shards>`: what a damaged pack can be healed from.
    Parity(PackId, u16),
    /// `mirror`: the place takes nothing but from the repository that it is a mirror of.
    Mirror,
    /// `r/…`: a second copy.
    SecondCopy(Doubled),
}

/// The steps of one cycle of reclaiming space, in their order; each is one object, written once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GcStage {
    /// What may be deleted.
    Mark,
    /// Which writers were at work when the mark had been set.
    Pending,
    /// What is deleted.
    Plan,
    /// It is.
    Done,
}

impl GcStage {
    /// All stages, in their order.
    pub const ALL: [Self; 4] = [Self::Mark, Self::Pending, Self::Plan, Self::Done];

    /// As it stands in names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Pending => "pending",
            Self::Plan => "plan",
            Self::Done => "done",
        }
    }
}

impl From<Doubled> for ObjectName {
    fn from(doubled: Doubled) -> Self {
        match doubled {
            Doubled::Format => Self::Format,
            Doubled::KeySlot(id) => Self::KeySlot(id),
            Doubled::Keyring(generation) => Self::Keyring(generation),
            Doubled::Config(generation) => Self::Config(generation),
            Doubled::Snapshot(id) => Self::Snapshot(id),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("format"),
            Self::KeySlot(id) => write!(f, "keys/{id}"),
            Self::Keyring(generation) => write!(f, "keyring/{generation:016x}"),
            Self::Config(generation) => write!(f, "config/{generation:016x}"),
            Self::Pack(kind, id) => {
                let kind = match kind {
                    PackKind::Data => 'd',
                    PackKind::Meta => 'm',
                };
                write!(f, "packs/{kind}/{:02x}/{id}", id.0[0])
            }
            Self::Index(id) => write!(f, "index/{id}"),
            Self::Snapshot(id) => write!(f, "snapshots/{id}"),
            Self::Session(id) => write!(f, "sessions/{id}"),
            Self::Renewal(id, number) => write!(f, "sessions/{id}.r{number:04x}"),
            Self::Gc(cycle, stage) => write!(f, "gc/{cycle:016x}.{}", stage.name()),
            Self::Forgotten(id) => write!(f, "forgotten/{id}"),
            Self::Damaged(id, number) => write!(f, "damaged/{id}.{number:04x}"),
            Self::Parity(id, shards) => write!(f, "parity/{:02x}/{id}.{shards:04x}", id.0[0]),
            Self::Mirror => f.write_str("mirror"),
            Self::SecondCopy(doubled) => write!(f, "r/{}", Self::from(*doubled)),
        }
    }
}

/// Four digits.
fn parse_number(text: &str) -> Result<u16, NotAnId> {
    parse_hex::<2>(text).map(u16::from_be_bytes).ok_or(NotAnId)
}

impl FromStr for ObjectName {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if let Some(primary) = text.strip_prefix("r/") {
            return Ok(Self::SecondCopy(match primary.parse()? {
                Self::Format => Doubled::Format,
                Self::KeySlot(id) => Doubled::KeySlot(id),
                Self::Keyring(generation) => Doubled::Keyring(generation),
                Self::Config(generation) => Doubled::Config(generation),
                Self::Snapshot(id) => Doubled::Snapshot(id),
                _ => return Err(NotAnId),
            }));
        }
        match text {
            "format" => return Ok(Self::Format),
            "mirror" => return Ok(Self::Mirror),
            _ => {}
        }
        let (folder, rest) = text.split_once('/').ok_or(NotAnId)?;
        let generation = || parse_hex::<8>(rest).map(u64::from_be_bytes).ok_or(NotAnId);
        Ok(match folder {
            "keys" => Self::KeySlot(SlotId::exact(rest)?),
            "keyring" => Self::Keyring(generation()?),
            "config" => Self::Config(generation()?),
            "index" => Self::Index(IndexId::exact(rest)?),
            "snapshots" => Self::Snapshot(SnapshotId::exact(rest)?),
            "sessions" => match rest.split_once(".r") {
                Some((id, number)) => Self::Renewal(SnapshotId::exact(id)?, parse_number(number)?),
                None => Self::Session(SnapshotId::exact(rest)?),
            },
            "gc" => {
                let (cycle, stage) = rest.split_once('.').ok_or(NotAnId)?;
                let cycle = parse_hex::<8>(cycle).map(u64::from_be_bytes).ok_or(NotAnId)?;
                let stage = GcStage::ALL.into_iter().find(|known| known.name() == stage).ok_or(NotAnId)?;
                Self::Gc(cycle, stage)
            }
            "forgotten" => Self::Forgotten(SnapshotId::exact(rest)?),
            "damaged" => {
                let (id, number) = rest.split_once('.').ok_or(NotAnId)?;
                Self::Damaged(PackId::exact(id)?, parse_number(number)?)
            }
            "parity" => {
                let (shard, rest) = rest.split_once('/').ok_or(NotAnId)?;
                let (id, shards) = rest.split_once('.').ok_or(NotAnId)?;
                if id.get(..2) != Some(shard) {
                    return Err(NotAnId);
                }
                Self::Parity(PackId::exact(id)?, parse_number(shards)?)
            }
            "packs" => {
                let (kind, rest) = rest.split_once('/').ok_or(NotAnId)?;
                let (shard, id) = rest.split_once('/').ok_or(NotAnId)?;
                let kind = match kind {
                    "d" => PackKind::Data,
                    "m" => PackKind::Meta,
                    _ => return Err(NotAnId),
                };
                if id.get(..2) != Some(shard) {
                    return Err(NotAnId);
                }
                Self::Pack(kind, PackId::exact(id)?)
            }
            _ => return Err(NotAnId),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_name_reads_back_from_its_text() {
        let snapshot = SnapshotId::new(0x0102_0304_0506, [7; 10]);
        let names = [
            ObjectName::Format,
            ObjectName::KeySlot(SlotId([1; 16])),
            ObjectName::Keyring(1),
            ObjectName::Config(u64::MAX),
            ObjectName::Pack(PackKind::Data, PackId([0xab; 32])),
            ObjectName::Pack(PackKind::Meta, PackId([0; 32])),
            ObjectName::Index(IndexId([3; 32])),
            ObjectName::Snapshot(snapshot),
            ObjectName::Session(snapshot),
            ObjectName::Renewal(snapshot, 0x1f),
            ObjectName::Gc(1, GcStage::Mark),
            ObjectName::Gc(u64::MAX, GcStage::Done),
            ObjectName::Forgotten(snapshot),
            ObjectName::Damaged(PackId([0xcd; 32]), 3),
            ObjectName::Parity(PackId([0xcd; 32]), u16::MAX),
            ObjectName::Mirror,
            ObjectName::SecondCopy(Doubled::Format),
            ObjectName::SecondCopy(Doubled::Snapshot(snapshot)),
        ];
        for name in names {
            assert_eq!(name.to_string().parse(), Ok(name), "{name}");
        }
        assert_eq!(snapshot.started_ms(), 0x0102_0304_0506);
        assert!(snapshot.matches("0707") && snapshot.matches("01020304050607") && !snapshot.matches("08"));
        // The time alone is that of many snapshots, and nobody sees it.
        assert!(!snapshot.matches("0102"));
    }

    #[test]
    fn an_id_is_read_in_either_case_and_written_in_lower_case() {
        let id: PackId = "AbCdEf01".repeat(8).parse().unwrap();
        assert_eq!(id.to_string(), "abcdef01".repeat(8));
        assert_eq!("ABCDEF01".repeat(7).parse::<PackId>(), Err(NotAnId));
        assert_eq!("ABCDEFG1".repeat(8).parse::<PackId>(), Err(NotAnId));
        let snapshot = SnapshotId::new(0x0a0b_0c0d_0e0f, [0xab; 10]);
        assert!(snapshot.matches("ABab") && snapshot.matches("0A0B0C0D0E0FAB") && !snapshot.matches("AC"));
    }

    #[test]
    fn what_is_not_in_the_grammar_is_no_object() {
        let shard = format!("packs/d/00/{}", "ab".repeat(32));
        let upper = format!("keys/{}", "AB".repeat(16));
        let upper_shard = format!("packs/d/AB/{}", "AB".repeat(32));
        let upper_others = ["index", "snapshots", "sessions", "r/keys", "r/snapshots"]
            .map(|folder| format!("{folder}/{}", if folder == "index" { "AB".repeat(32) } else { "AB".repeat(16) }));
        for text in &upper_others {
            assert_eq!(text.parse::<ObjectName>(), Err(NotAnId), "{text}");
            assert!(text.to_lowercase().parse::<ObjectName>().is_ok(), "{text}");
        }
        let long = format!("snapshots/{}", "0".repeat(33));
        for text in [
            "",
            "format/",
            "tmp/x",
            "keys/../format",
            "r/sessions/0",
            "r/r/format",
            "r/mirror",
            "mirror/",
            &shard,
            &upper,
            &upper_shard,
            &long,
        ] {
            assert_eq!(text.parse::<ObjectName>(), Err(NotAnId), "{text}");
        }
    }
}
