//! The sealed vectors of docs/vectors open with the library: keys, boxes, slots, a pack, cuts. Those of plain structures
//! are tested beside their code.

use icecore_fuzz::vectors::{folder, name_of, read};
use repo_core::internals::chunker::Chunker;
use repo_core::internals::crypto::{Keys, Secret, new_epoch_keys, open_slot};
use repo_core::internals::format::config::ChunkerParameters;
use repo_core::internals::format::header::ObjectType;
use repo_core::internals::format::key_slot::{KeySlot, SlotBody};
use repo_core::internals::format::keyring::{Keyring, Purpose};
use repo_core::internals::frame::FrameCodec;
use repo_core::internals::id::{ChunkKind, ObjectName, PackKind};
use repo_core::internals::seal::{self, FramePlace, PackKeys};

fn keyring() -> Keyring {
    Keyring::decode(&read("keyring")).unwrap()
}

fn keys() -> Keys {
    Keys::from_keyring(&keyring()).unwrap()
}

fn counting(start: u8) -> [u8; 32] {
    std::array::from_fn(|i| start + i as u8)
}

fn body() -> SlotBody {
    SlotBody::decode(&read("slot_body")).unwrap()
}

#[test]
fn a_password_opens_its_slot_and_another_does_not() {
    let slot = KeySlot::decode(&read("sealed_slot_password")).unwrap();
    assert_eq!(open_slot(&slot, &Secret::password("correct horse")).unwrap(), Some(body()));
    assert_eq!(open_slot(&slot, &Secret::password("correct hors")).unwrap(), None);
}

#[test]
fn a_key_file_opens_its_slot() {
    let slot = KeySlot::decode(&read("sealed_slot_key_file")).unwrap();
    assert_eq!(open_slot(&slot, &Secret::Key(counting(0x80).into())).unwrap(), Some(body()));
}

#[test]
fn the_root_key_opens_the_keyring() {
    let payload = seal::open_keyring(&body().root_key, 2, &read("sealed_keyring")).unwrap();
    assert_eq!(*payload, read("keyring"));
}

#[test]
fn boxes_open_under_their_names_and_no_others() {
    let boxes = [
        ("sealed_session", "session", Purpose::Session, ObjectType::Session),
        ("sealed_config", "config", Purpose::Config, ObjectType::Config),
        ("sealed_mark", "mark", Purpose::GcMark, ObjectType::Mark),
        ("sealed_plan", "plan", Purpose::GcPlan, ObjectType::Plan),
        ("sealed_tombstone", "tombstone", Purpose::Session, ObjectType::Tombstone),
        ("sealed_forgotten", "forgotten", Purpose::GcMark, ObjectType::Forgotten),
        ("sealed_snapshot", "snapshot_incremental", Purpose::Snapshot, ObjectType::Snapshot),
    ];
    for (sealed, payload, purpose, object_type) in boxes {
        let name: ObjectName = name_of(sealed).parse().unwrap();
        let open = |name| seal::open_box(&keys(), purpose, object_type, name, &read(sealed));
        assert_eq!(open(&name), Ok(read(payload)), "{sealed}");
        assert!(open(&ObjectName::Format).is_err(), "{sealed}");
    }
}

#[test]
fn the_pack_gives_its_chunks() {
    let stored = read("sealed_pack");
    let Ok(ObjectName::Pack(PackKind::Data, id)) = name_of("sealed_pack").parse() else { panic!("a pack's name") };
    assert!(seal::has_name(&stored, &id.0));
    let pack = PackKeys::open(&keys(), PackKind::Data, &stored).unwrap();
    let footer = pack.open_footer(&stored, stored.len() as u64).unwrap();
    let mut chunks = Vec::new();
    for (ordinal, record) in footer.frames.iter().enumerate() {
        let sealed = stored[record.offset as usize..record.end() as usize].to_vec();
        let place = FramePlace { ordinal: ordinal as u32, record: *record };
        let raw = pack.open_frame(&mut FrameCodec::new(3), place, sealed).unwrap();
        seal::verify_chunks(&keys(), &raw, footer.chunks_of(ordinal)).unwrap();
        let slice = |offset: u32, length: u32| raw[offset as usize..][..length as usize].to_vec();
        chunks.extend(footer.chunks_of(ordinal).iter().map(|chunk| slice(chunk.offset, chunk.length)));
    }
    assert_eq!(chunks, [b"hello".to_vec(), b"world".repeat(40), b"icecore ".repeat(500)]);
}

/// The value of a field of derived.json, whose fields are all on lines of their own.
fn derived(field: &str) -> String {
    let text = std::fs::read_to_string(folder().join("derived.json")).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("\"{field}\": ")));
    line.unwrap_or_else(|| panic!("no field {field}")).trim_matches([',', '"']).to_owned()
}

#[test]
fn derived_keys_are_those_of_the_document() {
    let keys = keys();
    for (entry, number) in [(0, "0"), (1, "1"), (2, "2"), (255, "255")] {
        assert_eq!(format!("{:016x}", keys.gear()[entry]), derived(&format!("gear[{number}]")));
    }
    for (kind, word) in ChunkKind::ALL.into_iter().zip(["data", "tree", "list", "xattr"]) {
        assert_eq!(keys.chunk_id(kind, b"hello").to_string(), derived(&format!("id({word}, \\\"hello\\\")")));
    }
    let purposes = ["pack data", "pack meta", "index", "snapshot", "session", "gc mark", "gc plan", "config"];
    for ((_, key), purpose) in new_epoch_keys(&counting(0x20)).into_iter().zip(purposes) {
        assert_eq!(hex::encode(key), derived(&format!("DK({purpose}, master key)")));
    }
}

#[test]
fn cuts_are_where_the_document_puts_them() {
    let mut data = vec![0; 40_001];
    blake3::Hasher::new().update(b"cuts").finalize_xof().fill(&mut data);
    let text = std::fs::read_to_string(folder().join("cuts.txt")).unwrap();
    assert_eq!(text.lines().count(), 4);
    for (normalization, line) in text.lines().enumerate() {
        let parameters = ChunkerParameters {
            algorithm: 1,
            normalization: normalization as u8,
            min_bytes: 64,
            average_bytes: 256,
            max_bytes: 1024,
        };
        let chunker = Chunker::new(parameters, keys().gear());
        let mut left = &data[..];
        let mut lengths = Vec::new();
        while !left.is_empty() {
            let length = chunker.cut(left);
            lengths.push(length.to_string());
            left = &left[length..];
        }
        assert_eq!(format!("{normalization}: {}", lengths.join(" ")), line);
    }
}
