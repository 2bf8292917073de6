//! Sealing, with the fixed keys of docs/vectors/keyring.hex: what was stored opens or is refused, what is sealed opens to
//! the same, and no changed bit opens.

use std::sync::LazyLock;

use repo_core::internals::crypto::Keys;
use repo_core::internals::format::header::ObjectType;
use repo_core::internals::format::keyring::{Keyring, Purpose};
use repo_core::internals::format::pack::Codec;
use repo_core::internals::frame::FrameCodec;
use repo_core::internals::id::{ChunkKind, ObjectName, PackKind, SnapshotId};
use repo_core::internals::seal::{
    FramePlace, PackBuilder, PackKeys, Part, open_box, open_index, seal_box, verify_chunks,
};

/// docs/vectors/keyring.hex, here as bytes since a target must not depend on where it runs.
const KEYRING: &[u8] = include_bytes!("../seeds/keyring/keyring");

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let keyring = Keyring::decode(KEYRING).expect("a golden vector");
    Keys::from_keyring(&keyring).expect("it has an epoch")
});

/// The writer of the vectors, and so the name of their session and snapshot.
const WRITER: SnapshotId =
    SnapshotId([0x01, 0x8b, 0xcf, 0xe5, 0x68, 0, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9]);

/// The first byte says what the others are.
pub fn seal(data: &[u8]) -> bool {
    let Some((what, rest)) = data.split_first() else { return false };
    match what % 7 {
        0 => stored_box(Purpose::Session, ObjectType::Session, ObjectName::Session(WRITER), rest),
        1 => stored_box(Purpose::Config, ObjectType::Config, ObjectName::Config(1), rest),
        2 => stored_pack(rest),
        3 => open_index(&KEYS, rest, &mut |_| ()).is_ok(),
        4 => stored_frame(rest),
        5 => box_of(rest),
        _ => pack_of(rest),
    }
}

/// Also with a right checksum, or no changed byte would get past it.
fn stored_box(purpose: Purpose, object_type: ObjectType, name: ObjectName, stored: &[u8]) -> bool {
    let mut repaired = stored.to_vec();
    if let Some((covered, hash)) = repaired.split_last_chunk_mut::<32>() {
        *hash = *blake3::hash(covered).as_bytes();
    }
    let open = |bytes: &[u8]| open_box(&KEYS, purpose, object_type, &name, bytes).is_ok();
    open(stored) | open(&repaired)
}

/// All of a pack that a reader looks at.
fn stored_pack(stored: &[u8]) -> bool {
    let Ok(pack) = PackKeys::open(&KEYS, PackKind::Data, stored) else { return false };
    let Ok(footer) = pack.open_footer(stored, stored.len() as u64) else { return false };
    let mut codec = FrameCodec::new(3);
    footer.frames.iter().enumerate().all(|(ordinal, record)| {
        let sealed = &stored[record.offset as usize..][..record.stored_length as usize];
        let place = FramePlace { ordinal: ordinal as u32, record: *record };
        let raw = pack.open_frame(&mut codec, place, sealed.to_vec());
        raw.and_then(|raw| verify_chunks(&KEYS, &raw, footer.chunks_of(ordinal))).is_ok()
    })
}

/// `u24 raw length ‖ u8 codec ‖ stored`: what a key holder with ill intent can make a reader decompress.
fn stored_frame(data: &[u8]) -> bool {
    let [a, b, c, codec, stored @ ..] = data else { return false };
    let raw_length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
    let codec = if codec & 1 == 0 { Codec::Raw } else { Codec::Zstd };
    let Ok(raw) = FrameCodec::new(3).decompress(codec, stored, raw_length) else { return false };
    assert_eq!(raw.len(), raw_length);
    true
}

/// Seals a payload and opens it; then with the bit flipped that its first bytes name.
fn box_of(payload: &[u8]) -> bool {
    let name = ObjectName::Session(WRITER);
    let seal = |payload| seal_box(&KEYS, Purpose::Session, ObjectType::Session, &name, &WRITER.0, payload);
    let Ok(mut sealed) = seal(payload) else { return false };
    let open = |bytes: &[u8], name| open_box(&KEYS, Purpose::Session, ObjectType::Session, name, bytes);
    assert_eq!(open(&sealed, &name).as_deref(), Ok(payload));
    assert!(open(&sealed, &ObjectName::Session(SnapshotId([0; 16]))).is_err(), "bound to its name");
    let bit = payload.iter().take(2).fold(0, |bit, byte| bit << 8 | usize::from(*byte)) % (sealed.len() * 8);
    sealed[bit / 8] ^= 1 << (bit % 8);
    assert!(open(&sealed, &name).is_err(), "bit {bit} was flipped");
    true
}

/// Packs slices of the input as chunks, several a frame, and reads them back.
fn pack_of(data: &[u8]) -> bool {
    let chunks: Vec<&[u8]> = data.chunks(97).collect();
    if chunks.is_empty() {
        return false;
    }
    let mut builder = PackBuilder::new(&KEYS, PackKind::Data, WRITER, 0, Vec::new()).expect("keys for packs");
    let mut codec = FrameCodec::new(3);
    for frame in chunks.chunks(5) {
        let kind = ChunkKind::Data;
        let parts: Vec<_> = frame.iter().map(|bytes| Part { id: KEYS.chunk_id(kind, bytes), kind, bytes }).collect();
        let raw = frame.concat();
        builder.push_frame(&KEYS, &mut codec, &parts, &raw, true).expect("a small frame opens again");
    }
    let sealed = builder.finish().expect("a small pack");
    assert!(stored_pack(&sealed.bytes), "what was packed is read back");
    true
}
