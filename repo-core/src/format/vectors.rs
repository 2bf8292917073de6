//! The golden vectors of docs/vectors against the code: for each structure a value written out here, and its bytes,
//! which were computed from docs/format.md by another program. A failure here means: the format changed.

use super::config::{ChunkerParameters, Config, FrameParameters};
use super::gc::{Damaged, Done, Forgotten, Mark, Pending, Plan, Successor, Tombstone};
use super::header::{Header, ObjectType};
use super::index::{ChunkRow, FrameRow, IndexBlock, PackRow};
use super::key_slot::{Derivation, KeySlot, SlotBody};
use super::keyring::{Epoch, Keyring, SlotEntry};
use super::list::{ListChild, ListNode};
use super::marker::Marker;
use super::mirror::MirrorMark;
use super::pack::{ChunkRecord, Codec, Footer, FrameRecord, Trailer};
use super::session::Session;
use super::snapshot::{FLAG_INCOMPLETE, FLAG_PARTIAL, FLAG_PINNED, LineageRecord, Root, SnapshotRecord, Summary};
use super::tree::{
    Child, Content, Extent, ExtentKind, Metadata, Node, NodeKind, Subtree, Timestamp, TreeNode, Xattrs,
    decode_tree_node, decode_xattrs, encode_branch, encode_leaf, encode_node, encode_xattrs,
};
use super::xattrs::XattrList;
use crate::error::Corruption;
use crate::id::{ChunkId, ChunkKind, OwnerId, PackId, PackKind, RepositoryId, SeriesId, SlotId, SnapshotId};

/// The bytes of a vector file: hexadecimal digits, and `#` with what they mean.
pub(crate) fn parse(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
        .filter(|letter| !letter.is_whitespace())
        .collect();
    hex::decode(digits).expect("a vector file holds hexadecimal digits")
}

macro_rules! vector {
    ($name:literal) => {
        $crate::format::vectors::parse(include_str!(concat!("../../../docs/vectors/", $name, ".hex")))
    };
}
pub(crate) use vector;

/// Counting bytes, as the vectors are filled with.
pub(super) fn counting<const N: usize>(start: u8) -> [u8; N] {
    std::array::from_fn(|i| start.wrapping_add(i as u8))
}

fn snapshot_id(unix_ms: u64) -> SnapshotId {
    SnapshotId::new(unix_ms, counting(0xa0))
}

fn writer() -> SnapshotId {
    snapshot_id(1_700_000_000_000)
}

const IDS: [u8; 3] = [0x01, 0x42, 0x33];

fn id(number: usize) -> ChunkId {
    ChunkId(counting(IDS[number]))
}

/// Both directions.
fn check<T: PartialEq + std::fmt::Debug>(
    golden: &[u8],
    value: &T,
    encoded: impl AsRef<[u8]>,
    decode: impl Fn(&[u8]) -> Result<T, Corruption>,
) {
    assert_eq!(hex::encode(encoded), hex::encode(golden));
    assert_eq!(decode(golden).as_ref(), Ok(value));
}

#[test]
fn header() {
    let value = Header {
        object_type: ObjectType::DataPack,
        padded: true,
        key_epoch: 0,
        salt: counting(0x40),
        commitment: counting(0x80),
    };
    check(&vector!("header"), &value, value.encode(), Header::decode);
}

#[test]
fn marker() {
    let value = Marker { min_reader: 0, repository: RepositoryId(counting(0x10)), created_ms: 1_700_000_000_000 };
    check(&vector!("marker"), &value, value.encode(), Marker::decode);
}

#[test]
fn mirror() {
    let value = MirrorMark { repository: RepositoryId(counting(0x10)), created_ms: 1_700_000_000_000 };
    check(&vector!("mirror"), &value, value.encode(), MirrorMark::decode);
}

#[test]
fn key_slots() {
    let password = KeySlot {
        derivation: Derivation::Argon2id { memory_kib: 65536, passes: 3, lanes: 4 },
        repository: RepositoryId(counting(0x10)),
        slot: SlotId(counting(0x20)),
        salt: counting(0x30),
        created_ms: 1_700_000_000_001,
        commitment: counting(0x50),
        sealed: counting::<272>(0).to_vec(),
    };
    let file = KeySlot { derivation: Derivation::Raw, ..password.clone() };
    check(&vector!("key_slot_argon2id"), &password, password.encode(), KeySlot::decode);
    check(&vector!("key_slot_raw"), &file, file.encode(), KeySlot::decode);
}

#[test]
fn slot_body() {
    let value = SlotBody { root_key: counting(0x60).into(), keyring_generation: 1, label: "laptop".into() };
    check(&vector!("slot_body"), &value, &value.encode().unwrap()[..], SlotBody::decode);
}

pub(super) fn sample_config() -> Config {
    Config {
        generation: 1,
        previous_digest: [0; 32],
        incompatible: 0,
        read_only_compatible: 0,
        compatible: 0,
        chunker: ChunkerParameters {
            algorithm: 1,
            normalization: 1,
            min_bytes: 32 << 10,
            average_bytes: 128 << 10,
            max_bytes: 512 << 10,
        },
        frame: FrameParameters { target_bytes: 1 << 20, isolation: 1 },
        level: 3,
        pack_data_bytes: 32 << 20,
        pack_meta_bytes: 8 << 20,
        padding: 1,
        put_if_absent: true,
        label: "home".into(),
        extensions: vec![(5, vec![1, 2])],
    }
}

#[test]
fn config() {
    let value = sample_config();
    check(&vector!("config"), &value, value.encode(), Config::decode);
}

#[test]
fn config_of_a_weak_repository() {
    let value = sample_config().with_gc_owner(OwnerId(counting(0x11)));
    check(&vector!("config_weak"), &value, value.encode(), Config::decode);
}

pub(super) fn sample_keyring() -> Keyring {
    let keys = [(1, 0x20), (2, 0x21), (3, 0x22), (4, 0x23), (5, 0x24), (6, 0x26), (8, 0x27), (10, 0x25)];
    let slot = |id, kind, label: &str, created_ms| SlotEntry {
        slot: SlotId(counting(id)),
        role: 0,
        kind,
        label: label.into(),
        created_ms,
    };
    Keyring {
        generation: 2,
        previous_digest: counting(0x70),
        repository: RepositoryId(counting(0x10)),
        marker_digest: counting(0x90),
        root_secret: counting(0),
        epochs: vec![Epoch {
            epoch: 0,
            keys: keys.map(|(purpose, key)| (purpose, counting(key))).to_vec(),
            created_ms: 1_700_000_000_000,
            gc_from: 0,
            state: 0,
        }],
        slots: vec![slot(0x20, 1, "laptop", 1_700_000_000_001), slot(0x21, 2, "", 1_700_000_000_002)],
        extensions: Vec::new(),
    }
}

#[test]
fn keyring() {
    let value = sample_keyring();
    check(&vector!("keyring"), &value, value.encode(), Keyring::decode);
}

fn base() -> SnapshotId {
    snapshot_id(1_699_990_000_000)
}

#[test]
fn steps_of_a_cycle() {
    let (one, two) = (PackId(counting(0x55)), PackId(counting(0x66)));
    let mark = Mark {
        cycle: 7,
        by: writer(),
        created_ms: 1_700_000_000_000,
        packs: vec![one, two],
        roots: vec![writer()],
        expired: vec![base()],
        extensions: Vec::new(),
    };
    check(&vector!("mark"), &mark, mark.encode(), Mark::decode);
    let pending = Pending { cycle: 7, sessions: vec![base(), writer()], extensions: Vec::new() };
    check(&vector!("pending"), &pending, pending.encode(), Pending::decode);
    let plan =
        Plan { cycle: 7, mark_digest: counting(0x70), delete: vec![one], rescued: vec![two], extensions: Vec::new() };
    check(&vector!("plan"), &plan, plan.encode(), Plan::decode);
    let done =
        Done { cycle: 7, plan_digest: counting(0x90), freed_bytes: 5384, retained: vec![two], extensions: Vec::new() };
    check(&vector!("done"), &done, done.encode(), Done::decode);
}

#[test]
fn tombstone() {
    let value = Tombstone { session: writer(), cycle: 7, by: base(), at_ms: 1_700_000_000_000, extensions: Vec::new() };
    check(&vector!("tombstone"), &value, value.encode(), Tombstone::decode);
}

#[test]
fn forgotten() {
    let successor = Successor { snapshot: writer(), begun_ms: 1_699_990_000_000, stored_ms: 1_700_000_000_000 };
    let value = Forgotten {
        snapshot: base(),
        at_ms: 1_700_000_000_000,
        purge_after_ms: 1_700_604_800_000,
        reason: "now a0a1a2a3".into(),
        by: "anna@büro".into(),
        extensions: successor.extensions(),
    };
    check(&vector!("forgotten"), &value, value.encode(), Forgotten::decode);
    assert_eq!(Successor::of(&value), Some(successor));
}

#[test]
fn damaged() {
    let value = Damaged {
        pack: PackId(counting(0xc0)),
        chunks: vec![id(0), id(2)],
        at_ms: 1_700_000_000_000,
        extensions: Vec::new(),
    };
    check(&vector!("damaged"), &value, value.encode(), Damaged::decode);
}

#[test]
fn session() {
    let value = Session {
        id: writer(),
        kind: 0,
        started_ms: 1_700_000_000_000,
        lease_s: 259_200,
        host: "büro".into(),
        boot: counting(0xb0),
        process: 4711,
        program: "icecore 0.1.0".into(),
        extensions: Vec::new(),
    };
    check(&vector!("session"), &value, value.encode(), Session::decode);
}

pub(crate) fn sample_snapshot() -> SnapshotRecord {
    SnapshotRecord {
        id: writer(),
        series: SeriesId(counting(0xc0)),
        sequence: 7,
        lineage: LineageRecord::Incremental { parent: snapshot_id(1_699_990_000_000) },
        flags: FLAG_PINNED | FLAG_INCOMPLETE,
        origin: Some(snapshot_id(1_690_000_000_000)),
        parent_digest: counting(0xd0),
        config_generation: 1,
        keyring_generation: 2,
        start_ns: 1_700_000_000_123_456_789,
        end_ns: 1_700_000_060_000_000_000,
        zone_minutes: -210,
        host: "büro".into(),
        user: "anna".into(),
        uid: 1000,
        gid: 100,
        paths: vec![b"/home/anna".to_vec(), b"/srv/\xff".to_vec()],
        excludes: vec!["*.tmp".into()],
        tags: vec!["daily".into(), "v1".into()],
        program: "icecore 0.1.0".into(),
        root: Root { tree: Some(ChunkId(counting(0xe0))), entries: 300, bytes: 1 << 33 },
        summary: Summary {
            files_new: 1,
            files_changed: 2,
            files_unmodified: 3,
            directories_new: 4,
            directories_changed: 5,
            directories_unmodified: 6,
            data_chunks: 250,
            tree_chunks: 251,
            added_bytes: 65535,
            stored_bytes: 65536,
            read_bytes: 0xffff_ffff,
            processed_files: 0x1_0000_0000,
            processed_bytes: u64::MAX,
            problems: 0,
        },
        extensions: Vec::new(),
    }
}

#[test]
fn snapshots_of_each_lineage() {
    let incremental = sample_snapshot();
    let differential = SnapshotRecord {
        lineage: LineageRecord::Differential { base: snapshot_id(1_699_990_000_000) },
        flags: FLAG_INCOMPLETE | FLAG_PARTIAL,
        origin: None,
        ..incremental.clone()
    };
    let full = SnapshotRecord {
        lineage: LineageRecord::Full,
        flags: 0,
        origin: None,
        root: Root { tree: None, entries: 0, bytes: 0 },
        ..incremental.clone()
    };
    check(&vector!("snapshot_incremental"), &incremental, incremental.encode(), SnapshotRecord::decode);
    check(&vector!("snapshot_differential"), &differential, differential.encode(), SnapshotRecord::decode);
    check(&vector!("snapshot_full"), &full, full.encode(), SnapshotRecord::decode);
}

pub(super) fn sample_footer() -> Footer {
    let frame = |offset, stored_length, raw_length, codec, first_chunk| FrameRecord {
        offset,
        stored_length,
        raw_length,
        codec,
        first_chunk,
    };
    let chunk = |number, offset, length| ChunkRecord { id: id(number), offset, length, kind: ChunkKind::Data };
    Footer {
        writer: writer(),
        data_end: 1228,
        frames: vec![frame(80, 124, 300, Codec::Zstd, 0), frame(204, 1024, 1000, Codec::Raw, 2)],
        chunks: vec![chunk(0, 0, 200), chunk(1, 200, 100), chunk(2, 0, 1000)],
    }
}

#[test]
fn footer() {
    let value = sample_footer();
    check(&vector!("footer"), &value, value.encode(), Footer::decode);
}

#[test]
fn trailer() {
    let value = Trailer { footer_length: 4120, object_length: 5384 };
    check(&vector!("trailer"), &value, value.encode(), Trailer::decode);
}

pub(super) fn sample_block() -> IndexBlock {
    let pack = |id, length, chunk_count, kind| PackRow {
        id: PackId(counting(id)),
        length,
        chunk_count,
        writer: writer(),
        kind,
    };
    let frame = |pack, ordinal, offset, stored_length, raw_length, codec| FrameRow {
        pack,
        ordinal,
        offset,
        stored_length,
        raw_length,
        codec,
    };
    let chunk = |id, frame, offset, length, kind| ChunkRow { id: ChunkId(counting(id)), frame, offset, length, kind };
    IndexBlock {
        packs: vec![pack(0x55, 5384, 3, PackKind::Data), pack(0x66, 9000, 1, PackKind::Meta)],
        frames: vec![
            frame(0, 0, 80, 124, 300, Codec::Zstd),
            frame(0, 1, 204, 1024, 1000, Codec::Raw),
            frame(1, 7, 4000, 90, 512, Codec::Zstd),
        ],
        chunks: vec![
            chunk(0x01, 0, 0, 200, ChunkKind::Data),
            chunk(0x33, 1, 0, 1000, ChunkKind::Data),
            chunk(0x42, 0, 200, 100, ChunkKind::Data),
            chunk(0x99, 2, 0, 512, ChunkKind::Tree),
        ],
    }
}

#[test]
fn index_block() {
    let value = sample_block();
    check(&vector!("index_block"), &value, value.encode(), IndexBlock::decode);
    assert_eq!(value.encode().len(), IndexBlock::length(2, 3, 4));
}

/// A node of which everything is at its default but what `change` sets.
fn node(name: &[u8], kind: NodeKind, mode: u32, content: Content, change: impl FnOnce(&mut Node)) -> Node {
    let modified = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };
    let mut node = Node {
        name: name.to_vec(),
        metadata: Metadata { modified, changed: modified, ..Metadata::unknown(kind, mode) },
        content,
        xattrs: Xattrs::Inline(Vec::new()),
        extensions: Vec::new(),
    };
    change(&mut node);
    node
}

fn time(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp { seconds, nanoseconds }
}

fn set_times(node: &mut Node, time: Timestamp) {
    node.metadata.modified = time;
    node.metadata.changed = time;
}

fn data(id: ChunkId, length: u64) -> Extent {
    Extent { length, kind: ExtentKind::Data(id) }
}

fn usual_file() -> Node {
    node(b"Makefile", NodeKind::File, 0o644, Content::Extents(vec![data(id(0), 70_000)]), |node| {
        let metadata = &mut node.metadata;
        (metadata.uid, metadata.gid) = (1000, 1000);
        (metadata.user, metadata.group) = (b"anna".to_vec(), b"anna".to_vec());
        metadata.modified = time(1_700_000_000, 123_456_789);
        metadata.changed = time(1_700_000_100, 5);
        metadata.born = Some(time(1_700_000_099, 999_999_999));
        (metadata.inode, metadata.device, metadata.size) = (1_234_567, 2049, 70_000);
    })
}

fn file_with_everything() -> Node {
    node(b"a b", NodeKind::File, 0o4755, Content::Inline(b"hello".to_vec()), |node| {
        node.metadata = Metadata {
            kind: NodeKind::File,
            mode: 0o4755,
            uid: 0,
            gid: u32::MAX,
            user: b"root".to_vec(),
            group: "würfel".into(),
            modified: time(-1, 999_999_999),
            changed: time(6_442_450_943, 0),
            born: Some(time(-1, 1)),
            accessed: Some(time(6_442_450_944, 2)),
            inode: u64::MAX,
            device: 1 << 32,
            links: 3,
            size: 5,
            special_device: 0,
            flags: 0x10,
            unstable: true,
        };
        node.xattrs = Xattrs::Inline(vec![(b"user.a".to_vec(), b"\0\xff".to_vec()), (b"user.b".to_vec(), Vec::new())]);
        node.extensions = vec![(7, b"x".to_vec())];
    })
}

pub(super) fn sample_nodes() -> Vec<Node> {
    let sparse = vec![
        Extent { length: 1 << 40, kind: ExtentKind::Hole },
        data(id(1), 16 << 20),
        Extent { length: 4096, kind: ExtentKind::Zero },
    ];
    let subtree = Subtree { root: ChunkId(counting(0x77)), entries: 1_000_000, bytes: 1 << 40 };
    vec![
        usual_file(),
        file_with_everything(),
        node(b"b", NodeKind::BlockDevice, 0o660, Content::None, |node| {
            set_times(node, time(0, 0));
            node.metadata.special_device = 0x801;
        }),
        node(b"c", NodeKind::CharDevice, 0o666, Content::None, |node| {
            set_times(node, time(1 << 40, 0));
            (node.metadata.gid, node.metadata.special_device) = (5, 0x103);
        }),
        node(b"d", NodeKind::Directory, 0o1777, Content::Directory(subtree), |node| {
            (node.metadata.uid, node.metadata.gid) = (250, 250);
            node.xattrs = Xattrs::Chunk(ChunkId(counting(0x78)));
        }),
        node(b"e", NodeKind::Directory, 0o755, Content::None, |node| {
            (node.metadata.uid, node.metadata.gid, node.metadata.links) = (251, 251, 2);
        }),
        node(b"f", NodeKind::Fifo, 0, Content::None, |node| node.metadata.group = b"wheel".to_vec()),
        node(
            b"g",
            NodeKind::File,
            0o600,
            Content::List { root: ChunkId(counting(0x79)), depth: 1, chunks: 12_345 },
            |node| node.metadata.size = 1 << 34,
        ),
        node(b"\xfe", NodeKind::Socket, 0o777, Content::None, |_| {}),
        node(b"\xfe\x01", NodeKind::Symlink, 0o777, Content::Symlink(b"../x".to_vec()), |_| {}),
        node(b"\xff", NodeKind::File, 0o600, Content::Extents(sparse), |node| {
            node.metadata.size = (1 << 40) + (16 << 20) + 4096;
        }),
    ]
}

pub(super) fn encode_nodes(nodes: &[Node]) -> Vec<u8> {
    let records: Vec<Vec<u8>> = nodes
        .iter()
        .map(|node| {
            let mut record = Vec::new();
            encode_node(node, &mut record);
            record
        })
        .collect();
    encode_leaf(records.iter().map(Vec::as_slice))
}

#[test]
fn tree_leaf() {
    let nodes = sample_nodes();
    check(&vector!("tree_leaf"), &TreeNode::Leaf(nodes.clone()), encode_nodes(&nodes), decode_tree_node);
}

#[test]
fn a_usual_file_takes_less_than_90_bytes() {
    let mut record = Vec::new();
    encode_node(&usual_file(), &mut record);
    assert_eq!(record.len(), 88);
}

#[test]
fn tree_branch() {
    let child = |root, entries, bytes, name: &str| Child {
        subtree: Subtree { root: ChunkId(counting(root)), entries, bytes },
        first_name: name.into(),
    };
    let children = vec![child(0x11, 200, 1 << 35, "Makefile"), child(0x12, 1, 0, "é")];
    let encoded = encode_branch(1, &children);
    check(&vector!("tree_branch"), &TreeNode::Branch { level: 1, children }, encoded, decode_tree_node);
}

#[test]
fn list_leaf() {
    let zero = Extent { length: 1 << 20, kind: ExtentKind::Zero };
    let value = ListNode::Leaf(vec![data(id(0), 131_072), zero, Extent { length: 1 << 41, kind: ExtentKind::Hole }]);
    check(&vector!("list_leaf"), &value, value.encode(), ListNode::decode);
}

#[test]
fn list_branch() {
    let children =
        vec![ListChild { id: id(0), bytes: 1 << 30, chunks: 4096 }, ListChild { id: id(1), bytes: 7, chunks: 1 }];
    let value = ListNode::Branch { level: 1, children };
    check(&vector!("list_branch"), &value, value.encode(), ListNode::decode);
}

#[test]
fn xattrs() {
    let value: XattrList = vec![
        (b"security.capability".to_vec(), counting::<20>(1).to_vec()),
        (b"user.long".to_vec(), vec![0; 300]),
        (b"user.none".to_vec(), Vec::new()),
    ];
    check(&vector!("xattrs"), &value, encode_xattrs(&value), decode_xattrs);
}
