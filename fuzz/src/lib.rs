//! What each fuzz target does with its input. Every function returns whether something was accepted, so that a target
//! whose input never gets past the first check is noticed (`tests/seeds.rs`).
//!
//! The promise of a decoder: never a panic, no allocation that the input does not justify (the runner's limit), and what
//! it accepts encodes to the same bytes again.

mod cutting;
mod sealing;
pub mod vectors;

pub use cutting::chunker;
pub use sealing::seal;

use repo_core::internals::error::Corruption;
use repo_core::internals::format;
use repo_core::internals::format::tree::{self, TreeNode};
use repo_core::internals::id::{ObjectName, RepositoryId};
use repo_core::internals::parity;

/// A target: takes any bytes, says whether it accepted them.
pub type Target = fn(&[u8]) -> bool;

/// All targets by the names of their binaries.
pub const TARGETS: [(&str, Target); 30] = [
    ("header", header),
    ("marker", marker),
    ("mirror", mirror),
    ("key_slot", key_slot),
    ("slot_body", slot_body),
    ("config", config),
    ("keyring", keyring),
    ("session", session),
    ("damaged", damaged),
    ("mark", mark),
    ("pending", pending),
    ("plan", plan),
    ("done", done),
    ("tombstone", tombstone),
    ("forgotten", forgotten),
    ("snapshot", snapshot),
    ("footer", footer),
    ("trailer", trailer),
    ("index_block", index_block),
    ("tree_node", tree_node),
    ("list_node", list_node),
    ("xattrs", xattrs),
    ("parity", parity),
    ("client_state", client_state),
    ("known_place", known_place),
    ("verified", verified),
    ("object_name", object_name),
    ("chunker", chunker),
    ("seal", seal),
    ("tar", tar),
];

/// Decodes; what is accepted must encode to the same bytes.
fn exact<T>(data: &[u8], decode: impl Fn(&[u8]) -> Result<T, Corruption>, encode: impl Fn(&T) -> Vec<u8>) -> bool {
    let Ok(value) = decode(data) else { return false };
    assert!(encode(&value) == data, "accepted, but not the one spelling of this value");
    true
}

/// Like [`exact`], for objects that end with the hash of what is before it: also with a right hash, or nothing behind
/// that check would ever be reached.
fn hashed<T>(data: &[u8], decode: impl Fn(&[u8]) -> Result<T, Corruption>, encode: impl Fn(&T) -> Vec<u8>) -> bool {
    let mut repaired = data.to_vec();
    if let Some((covered, hash)) = repaired.split_last_chunk_mut::<32>() {
        *hash = *blake3::hash(covered).as_bytes();
    }
    exact(data, &decode, &encode) | exact(&repaired, &decode, &encode)
}

pub fn header(data: &[u8]) -> bool {
    use format::header::{HEADER_LENGTH, Header};
    // An object's first bytes are given, of which only the header is read.
    let header = &data[..data.len().min(HEADER_LENGTH)];
    exact(header, Header::decode, |value| value.encode().to_vec())
}

pub fn marker(data: &[u8]) -> bool {
    use format::marker::Marker;
    hashed(data, Marker::decode, |value| value.encode().to_vec())
}

pub fn mirror(data: &[u8]) -> bool {
    use format::mirror::MirrorMark;
    hashed(data, MirrorMark::decode, |value| value.encode().to_vec())
}

/// The repository that a client's own file says it is of: any other is refused.
fn named(data: &[u8]) -> RepositoryId {
    RepositoryId(data.get(8..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default())
}

pub fn client_state(data: &[u8]) -> bool {
    use format::client_state::ClientState;
    hashed(data, |bytes| ClientState::decode(bytes, named(bytes)), ClientState::encode)
}

pub fn known_place(data: &[u8]) -> bool {
    use format::known_place::KnownPlace;
    hashed(data, KnownPlace::decode, KnownPlace::encode)
}

pub fn verified(data: &[u8]) -> bool {
    use format::verified::{decode, encode};
    hashed(data, |bytes| decode(bytes, named(bytes)), |rows| encode(named(data), rows))
}

pub fn key_slot(data: &[u8]) -> bool {
    use format::key_slot::KeySlot;
    hashed(data, KeySlot::decode, KeySlot::encode)
}

pub fn slot_body(data: &[u8]) -> bool {
    use format::key_slot::SlotBody;
    exact(data, SlotBody::decode, |value| value.encode().expect("its label was read from a body").to_vec())
}

pub fn config(data: &[u8]) -> bool {
    use format::config::Config;
    exact(data, Config::decode, Config::encode)
}

pub fn keyring(data: &[u8]) -> bool {
    use format::keyring::Keyring;
    exact(data, Keyring::decode, Keyring::encode)
}

pub fn session(data: &[u8]) -> bool {
    use format::session::Session;
    exact(data, Session::decode, Session::encode)
}

pub fn mark(data: &[u8]) -> bool {
    use format::gc::Mark;
    exact(data, Mark::decode, Mark::encode)
}

pub fn pending(data: &[u8]) -> bool {
    use format::gc::Pending;
    exact(data, Pending::decode, Pending::encode)
}

pub fn plan(data: &[u8]) -> bool {
    use format::gc::Plan;
    exact(data, Plan::decode, Plan::encode)
}

pub fn done(data: &[u8]) -> bool {
    use format::gc::Done;
    exact(data, Done::decode, Done::encode)
}

pub fn tombstone(data: &[u8]) -> bool {
    use format::gc::Tombstone;
    exact(data, Tombstone::decode, Tombstone::encode)
}

pub fn forgotten(data: &[u8]) -> bool {
    use format::gc::Forgotten;
    exact(data, Forgotten::decode, Forgotten::encode)
}

pub fn damaged(data: &[u8]) -> bool {
    use format::gc::Damaged;
    exact(data, Damaged::decode, Damaged::encode)
}

pub fn snapshot(data: &[u8]) -> bool {
    use format::snapshot::SnapshotRecord;
    exact(data, SnapshotRecord::decode, SnapshotRecord::encode)
}

pub fn footer(data: &[u8]) -> bool {
    use format::pack::{FOOTER_STEP, Footer};
    // Padding is 4 KiB of input that says nothing: the fuzzer need not find it.
    let mut padded = data.to_vec();
    padded.resize(data.len().next_multiple_of(FOOTER_STEP), 0);
    exact(data, Footer::decode, Footer::encode) | exact(&padded, Footer::decode, Footer::encode)
}

pub fn trailer(data: &[u8]) -> bool {
    use format::pack::Trailer;
    exact(data, Trailer::decode, |value| value.encode().to_vec())
}

pub fn index_block(data: &[u8]) -> bool {
    use format::index::IndexBlock;
    exact(data, IndexBlock::decode, IndexBlock::encode)
}

pub fn tree_node(data: &[u8]) -> bool {
    exact(data, tree::decode_tree_node, |node| match node {
        TreeNode::Leaf(nodes) => {
            let records: Vec<Vec<u8>> = nodes
                .iter()
                .map(|node| {
                    let mut record = Vec::new();
                    tree::encode_node(node, &mut record);
                    record
                })
                .collect();
            tree::encode_leaf(records.iter().map(Vec::as_slice))
        }
        TreeNode::Branch { level, children } => tree::encode_branch(*level, children),
    })
}

pub fn list_node(data: &[u8]) -> bool {
    use format::list::ListNode;
    exact(data, ListNode::decode, ListNode::encode)
}

pub fn xattrs(data: &[u8]) -> bool {
    exact(data, tree::decode_xattrs, |xattrs| tree::encode_xattrs(xattrs))
}

pub fn parity(data: &[u8]) -> bool {
    use format::parity::{PARITY_HEAD_LENGTH, ParityHeader};
    let read = |object: &[u8]| {
        let header = match ParityHeader::decode_first(object) {
            Ok(header) => header,
            Err(_) => ParityHeader::decode_last(object).ok()?,
        };
        let pack = header.pack;
        // Half of the input in the place of the pack: what comes out has the pack's name, or nothing comes out.
        if let Ok(healed) = parity::heal(pack, &object[object.len() / 2..], object) {
            assert_eq!(blake3::hash(&healed.bytes), blake3::Hash::from_bytes(pack.0), "other bytes under its name");
        }
        if parity::verify(pack, header.parity.len() as u16, object).is_ok() {
            let shards = &object[header.parity_offset(0)..header.parity_offset(header.parity.len())];
            assert!(header.encode(shards) == object, "accepted, but not the one spelling of this value");
        }
        Some(())
    };
    // Also with a right hash behind as long a table as the head asks for.
    let mut repaired = data.to_vec();
    if let Some(head) = data.first_chunk::<PARITY_HEAD_LENGTH>() {
        let number =
            |at: usize, size: usize| head[at..at + size].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let data_shards = match number(8, 4) {
            0 => 0,
            length => number(16, 8).div_ceil(length).min(1 << 20),
        };
        let end = PARITY_HEAD_LENGTH + 16 * (data_shards + number(12, 2)) as usize;
        if let Some((covered, rest)) = repaired.split_at_mut_checked(end)
            && let Some(hash) = rest.first_chunk_mut::<32>()
        {
            *hash = *blake3::hash(covered).as_bytes();
        }
    }
    read(data).is_some() | read(&repaired).is_some()
}

pub fn object_name(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let Ok(name) = text.parse::<ObjectName>() else { return false };
    assert_eq!(name.to_string(), text, "one spelling of each name");
    true
}

/// An archive of others, read to its end.
pub fn tar(data: &[u8]) -> bool {
    use repo_core::internals::archive::tar::{BLOCK_BYTES, TarReader};
    let read = |bytes: &[u8]| {
        let mut archive = TarReader::new(bytes);
        let mut buffer = [0; 1000];
        loop {
            let Ok(member) = archive.next_member() else { return false };
            let Some(member) = member else { return true };
            let told: u64 = member.regions.iter().map(|region| region.end - region.start).sum();
            assert!(member.regions.is_sorted_by(|a, b| a.end < b.start), "regions are apart");
            assert!(member.regions.last().is_none_or(|last| last.end <= member.metadata.size), "and within the file");
            let mut data_bytes = 0;
            loop {
                match archive.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => data_bytes += count as u64,
                    Err(_) => return false,
                }
            }
            let is_file = member.metadata.kind == tree::NodeKind::File && !member.is_hard_link;
            assert!(!is_file || data_bytes == told, "as much data as there are regions for");
        }
    };
    // Also with right checksums, or no changed header would ever be read.
    let mut repaired = data.to_vec();
    for block in repaired.chunks_exact_mut(BLOCK_BYTES) {
        if block[257..].starts_with(b"ustar") {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    read(data) | read(&repaired)
}
