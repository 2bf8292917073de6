//! Packs: round trips, every way of damage, nonces.

use std::collections::HashMap;

use proptest::prelude::*;

use super::padding::padme;
use super::*;
use crate::crypto::testing;
use crate::crypto::{Keys, SEAL_OVERHEAD};
use crate::error::{Corruption, Error};
use crate::format::pack::{Codec, Footer, FrameRecord};
use crate::frame::FrameCodec;
use crate::id::{ChunkKind, PackKind, SnapshotId};

const WRITER: SnapshotId = SnapshotId([1; 16]);

fn builder(keys: &Keys) -> PackBuilder {
    PackBuilder::new(keys, PackKind::Data, WRITER, 0, Vec::with_capacity(1 << 20)).unwrap()
}

/// Pushes one frame of these chunks, with the self-check.
fn push(keys: &Keys, pack: &mut PackBuilder, chunks: &[Vec<u8>]) -> FrameRecord {
    let parts: Vec<_> = chunks
        .iter()
        .map(|bytes| Part { id: keys.chunk_id(ChunkKind::Data, bytes), kind: ChunkKind::Data, bytes })
        .collect();
    pack.push_frame(keys, &mut FrameCodec::new(3), &parts, &chunks.concat(), true).unwrap()
}

fn seal(keys: &Keys, frames: &[Vec<Vec<u8>>]) -> SealedPack {
    let mut pack = builder(keys);
    for chunks in frames {
        push(keys, &mut pack, chunks);
    }
    pack.finish().unwrap()
}

fn opened(keys: &Keys, bytes: &[u8]) -> Result<(PackKeys, Footer), Corruption> {
    let pack = PackKeys::open(keys, PackKind::Data, bytes)?;
    let footer = pack.open_footer(bytes, bytes.len() as u64)?;
    Ok((pack, footer))
}

fn open_frame(pack: &PackKeys, bytes: &[u8], ordinal: u32, record: FrameRecord) -> Result<Vec<u8>, Corruption> {
    let sealed = bytes[record.offset as usize..][..record.stored_length as usize].to_vec();
    pack.open_frame(&mut FrameCodec::new(3), FramePlace { ordinal, record }, sealed)
}

/// Everything in a pack, all ids verified.
fn read_all(keys: &Keys, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Corruption> {
    let (pack, footer) = opened(keys, bytes)?;
    let frame = |(ordinal, record): (usize, &FrameRecord)| {
        let raw = open_frame(&pack, bytes, ordinal as u32, *record)?;
        verify_chunks(keys, &raw, footer.chunks_of(ordinal))?;
        Ok(raw)
    };
    footer.frames.iter().enumerate().map(frame).collect()
}

/// Three frames: compressed, raw, and one of a single byte.
fn sample() -> Vec<Vec<Vec<u8>>> {
    vec![
        vec![testing::text(1, 700), testing::text(2, 1_300)],
        vec![testing::noise(3, 200)],
        vec![vec![b'x'], vec![b'y'; 4], vec![b'z']],
    ]
}

#[test]
fn a_pack_gives_its_frames_back() {
    let keys = testing::keys();
    let pack = seal(&keys, &sample());
    assert!(has_name(&pack.bytes, &pack.id.0));
    let raw: Vec<_> = sample().iter().map(|chunks| chunks.concat()).collect();
    assert_eq!(read_all(&keys, &pack.bytes).unwrap(), raw);
    let (_, footer) = opened(&keys, &pack.bytes).unwrap();
    assert_eq!(footer, pack.footer);
    assert_eq!(
        footer.frames.iter().map(|frame| frame.codec).collect::<Vec<_>>(),
        [Codec::Zstd, Codec::Raw, Codec::Raw]
    );
    assert_eq!((footer.writer, footer.chunks.len()), (WRITER, 6));
}

#[test]
fn an_empty_pack_opens() {
    let keys = testing::keys();
    let pack = seal(&keys, &[]);
    assert_eq!(read_all(&keys, &pack.bytes).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn the_builder_tells_its_length_and_chunks() {
    let keys = testing::keys();
    let mut pack = builder(&keys);
    assert_eq!(pack.length(), 80);
    let record = push(&keys, &mut pack, &sample()[0]);
    assert_eq!(pack.length() as u64, record.end());
}

#[test]
fn every_flipped_bit_of_a_pack_is_noticed() {
    let keys = testing::keys();
    let pack = seal(&keys, &sample());
    let footer_start = pack.bytes.len() - PackKeys::tail_length(&pack.bytes, pack.bytes.len() as u64).unwrap() as usize;
    for bit in 0..pack.bytes.len() * 8 {
        let mut changed = pack.bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!has_name(&changed, &pack.id.0));
        // Padding is nobody's: it changes the name, and no reader looks at it.
        let in_padding = (pack.footer.data_end as usize..footer_start).contains(&(bit / 8));
        assert_eq!(read_all(&keys, &changed).is_ok(), in_padding, "bit {bit}");
    }
}

#[test]
fn damage_in_a_larger_pack_is_noticed_where_it_is() {
    let keys = testing::keys();
    let frames: Vec<_> = (0..6).map(|seed| vec![testing::text(seed, 40_000), testing::noise(seed, 60_000)]).collect();
    let pack = seal(&keys, &frames);
    let (opened_pack, footer) = opened(&keys, &pack.bytes).unwrap();
    for place in testing::noise(9, 400).as_chunks::<4>().0 {
        let place = u32::from_le_bytes(*place) as usize % footer.data_end as usize;
        let mut changed = pack.bytes.to_vec();
        changed[place] ^= 0x10;
        for (ordinal, record) in footer.frames.iter().enumerate() {
            let inside = (u64::from(record.offset)..record.end()).contains(&(place as u64));
            assert_eq!(open_frame(&opened_pack, &changed, ordinal as u32, *record).is_err(), inside);
        }
    }
}

#[test]
fn a_pack_cut_short_anywhere_is_refused() {
    let keys = testing::keys();
    let pack = seal(&keys, &sample());
    for length in 0..pack.bytes.len() {
        assert!(opened(&keys, &pack.bytes[..length]).is_err());
    }
}

#[test]
fn frames_do_not_open_in_each_others_place() {
    let keys = testing::keys();
    // Two frames of one length and one codec, so that only their numbers part them.
    let pack = seal(&keys, &[vec![testing::noise(1, 100)], vec![testing::noise(2, 100)]]);
    let (one, footer) = opened(&keys, &pack.bytes).unwrap();
    let [first, second] = footer.frames[..] else { panic!("two frames") };
    assert_eq!(open_frame(&one, &pack.bytes, 0, second), Err(Corruption::Authentication));
    assert_eq!(open_frame(&one, &pack.bytes, 1, first), Err(Corruption::Authentication));
    let mut swapped = pack.bytes.to_vec();
    let (low, high) = swapped.split_at_mut(second.offset as usize);
    low[first.offset as usize..].swap_with_slice(&mut high[..second.stored_length as usize]);
    read_all(&keys, &swapped).unwrap_err();
    // And a frame of another pack of the same keys.
    let other = seal(&keys, &[vec![testing::noise(1, 100)], vec![testing::noise(2, 100)]]);
    assert_eq!(open_frame(&one, &other.bytes, 0, first), Err(Corruption::Authentication));
}

/// An index that lies about a frame is found out before anything is decompressed.
#[test]
fn a_frame_opens_as_it_was_recorded_only() {
    let keys = testing::keys();
    let pack = seal(&keys, &sample());
    let (opened, footer) = opened(&keys, &pack.bytes).unwrap();
    let record = footer.frames[0];
    let lies: [fn(&mut FrameRecord); 4] = [
        |record| record.raw_length += 1,
        |record| record.codec = Codec::Raw,
        |record| record.offset += 1,
        |record| record.stored_length -= 1,
    ];
    for lie in lies {
        let mut changed = record;
        lie(&mut changed);
        assert_eq!(open_frame(&opened, &pack.bytes, 0, changed), Err(Corruption::Authentication));
    }
    let short = opened.open_frame(&mut FrameCodec::new(3), FramePlace { ordinal: 0, record }, vec![0; 10]);
    assert_eq!(short, Err(Corruption::Truncated));
}

#[test]
fn a_table_does_not_open_at_another_place_or_length() {
    let keys = testing::keys();
    let pack = seal(&keys, &sample());
    let opened = PackKeys::open(&keys, PackKind::Data, &pack.bytes).unwrap();
    let length = pack.bytes.len() as u64;
    assert_eq!(opened.open_footer(&pack.bytes, length + 1), Err(Corruption::Truncated));
    // Eight bytes inserted into the padding, and the trailer made to fit.
    let mut longer = pack.bytes.to_vec();
    longer.splice(pack.footer.data_end as usize..pack.footer.data_end as usize, [0; 8]);
    let place = longer.len() - 16;
    longer[place..place + 8].copy_from_slice(&(length + 8).to_le_bytes());
    assert_eq!(opened.open_footer(&longer, length + 8), Err(Corruption::Authentication));
    let tail_length = PackKeys::tail_length(&pack.bytes[pack.bytes.len() - 24..], length).unwrap() as usize;
    let tail = &pack.bytes[pack.bytes.len() - tail_length..];
    assert_eq!(opened.open_footer(tail, length).unwrap(), pack.footer);
    assert_eq!(opened.open_footer(&tail[1..], length), Err(Corruption::Truncated));
}

#[test]
fn a_pack_of_another_kind_or_repository_is_refused() {
    let keys = testing::keys();
    let pack = seal(&keys, &sample());
    assert_eq!(PackKeys::open(&keys, PackKind::Meta, &pack.bytes).unwrap_err(), Corruption::WrongType(1));
    let refused = PackKeys::open(&testing::other_keys(), PackKind::Data, &pack.bytes[..80]).unwrap_err();
    assert_eq!(refused, Corruption::Authentication);
    assert_eq!(PackKeys::open(&keys, PackKind::Data, &pack.bytes[..79]).unwrap_err(), Corruption::Truncated);
}

#[test]
fn a_chunk_under_a_wrong_id_fails_the_self_check() {
    let keys = testing::keys();
    let bytes = b"what was read";
    let right = keys.chunk_id(ChunkKind::Data, bytes);
    let wrong = keys.chunk_id(ChunkKind::Data, b"what was hashed");
    for (id, fails) in [(right, false), (wrong, true)] {
        let part = Part { id, kind: ChunkKind::Data, bytes };
        let outcome = builder(&keys).push_frame(&keys, &mut FrameCodec::new(3), &[part], bytes, true);
        assert_eq!(matches!(outcome, Err(Error::SelfCheck(_))), fails);
        builder(&keys).push_frame(&keys, &mut FrameCodec::new(3), &[part], bytes, false).unwrap();
    }
}

#[test]
fn a_chunk_outside_its_frame_is_an_error() {
    let keys = testing::keys();
    let pack = seal(&keys, &sample());
    let mut chunks = pack.footer.chunks_of(1).to_vec();
    for (offset, length) in [(1, 200), (u32::MAX, u32::MAX), (0, 201)] {
        (chunks[0].offset, chunks[0].length) = (offset, length);
        let refused = verify_chunks(&keys, &sample()[1][0], &chunks);
        assert_eq!(refused, Err(Corruption::Malformed("chunk place")));
    }
}

#[test]
fn frames_and_counts_over_their_limits_leave_the_pack_as_it_was() {
    let keys = testing::keys();
    let mut pack = builder(&keys);
    let large = vec![0; (16 << 20) + 1];
    let part = Part { id: keys.chunk_id(ChunkKind::Data, b""), kind: ChunkKind::Data, bytes: &large };
    let outcome = pack.push_frame(&keys, &mut FrameCodec::new(1), &[part], &large, false);
    assert!(matches!(outcome, Err(Error::Limit { .. })));
    let parts = vec![Part { bytes: &large[..1], ..part }; (1 << 20) + 1];
    let outcome = pack.push_frame(&keys, &mut FrameCodec::new(1), &parts, &large[..parts.len()], false);
    assert!(matches!(outcome, Err(Error::Limit { limit: 1_048_576, .. })));
    assert_eq!(pack.length(), 80);
}

#[test]
fn large_packs_are_padded_to_64_kib_and_small_ones_by_padme() {
    let keys = testing::keys();
    for length in [1, 50_000, 3 << 20, 5 << 20, 9 << 20] {
        let pack = seal(&keys, &[vec![testing::noise(1, length)]]);
        let stored = pack.bytes.len() as u64;
        if length < 4 << 20 {
            assert_eq!(padme(stored), stored);
        } else {
            assert_eq!(stored % (64 << 10), 0);
        }
        assert_eq!(read_all(&keys, &pack.bytes).unwrap(), [testing::noise(1, length)]);
    }
}

/// Nothing that was compressed or read lies in the object as it was, nor do ids or the writer's name.
#[test]
fn no_plaintext_and_no_id_lies_in_a_pack() {
    let keys = testing::keys();
    let secret = b"a phrase that stands nowhere else".to_vec();
    let noise = testing::noise(1, 300);
    let pack = seal(&keys, &[vec![secret.clone()], vec![noise.clone()]]);
    let found = |needle: &[u8]| pack.bytes.windows(needle.len()).any(|window| window == needle);
    assert!(!found(&secret[..8]) && !found(&noise[..8]) && !found(&WRITER.0));
    assert!(!found(&pack.footer.chunks[0].id.0[..8]));
}

/// What was sealed under each pair of key and nonce; a pair may come again only with the very same bytes.
#[derive(Default)]
struct Nonces(HashMap<(Vec<u8>, [u8; 12]), Vec<u8>>);

impl Nonces {
    fn note(&mut self, keys: &Keys, pack: &SealedPack) {
        let salt = pack.bytes[..80].to_vec();
        let (_, footer) = opened(keys, &pack.bytes).unwrap();
        for (ordinal, record) in footer.frames.iter().enumerate() {
            let sealed = &pack.bytes[record.offset as usize..record.end() as usize];
            self.insert(&salt, 1, ordinal as u32, sealed);
        }
        let length = pack.bytes.len();
        let tail = PackKeys::tail_length(&pack.bytes, length as u64).unwrap() as usize;
        self.insert(&salt, 2, 0, &pack.bytes[length - tail..length - 24]);
    }

    fn insert(&mut self, key: &[u8], domain: u8, ordinal: u32, sealed: &[u8]) {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&ordinal.to_le_bytes());
        nonce[3] = domain;
        nonce[4..].copy_from_slice(&sealed[..8]);
        let before = self.0.insert((key.to_vec(), nonce), sealed.to_vec());
        assert!(before.is_none_or(|before| before == sealed), "a nonce served twice");
    }
}

#[test]
fn a_clone_with_stuck_randomness_repeats_no_key_and_nonce_for_other_data() {
    let keys = testing::keys().with_randomness(testing::stuck);
    let mut nonces = Nonces::default();
    // The same writer and counter each time: clones that know nothing of each other, frames of equal lengths.
    for seed in 0..50 {
        nonces.note(&keys, &seal(&keys, &[vec![testing::noise(seed, 64)], vec![testing::noise(seed / 2, 64)]]));
    }
    let headers: std::collections::HashSet<_> = nonces.0.keys().map(|(header, _)| header).collect();
    assert_eq!(headers.len(), 1, "the clones do share their key");
}

#[test]
fn working_randomness_gives_every_pack_its_own_key() {
    let keys = testing::keys();
    let (one, other) = (seal(&keys, &sample()), seal(&keys, &sample()));
    assert_ne!(one.bytes[16..48], other.bytes[16..48]);
    let frame = 80..80 + SEAL_OVERHEAD + 20;
    assert_ne!(one.bytes[frame.clone()], other.bytes[frame]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_frames_come_back(
        shape in proptest::collection::vec(proptest::collection::vec((1..5_000_usize, any::<bool>()), 1..6), 0..8),
        seed in any::<u32>()
    ) {
        let keys = testing::keys();
        let mut next = u64::from(seed);
        let mut chunk = |&(length, compressible): &(usize, bool)| {
            next += 1;
            if compressible { testing::text(next, length) } else { testing::noise(next, length) }
        };
        let frames: Vec<Vec<Vec<u8>>> = shape.iter().map(|chunks| chunks.iter().map(&mut chunk).collect()).collect();
        let pack = seal(&keys, &frames);
        let raw: Vec<_> = frames.iter().map(|chunks| chunks.concat()).collect();
        prop_assert_eq!(read_all(&keys, &pack.bytes).unwrap(), raw);
        prop_assert!(has_name(&pack.bytes, &pack.id.0));
    }

    #[test]
    fn any_bytes_are_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let keys = testing::keys();
        prop_assert!(opened(&keys, &bytes).is_err());
        prop_assert!(PackKeys::tail_length(&bytes, bytes.len() as u64).is_err());
        prop_assert!(open_index(&keys, &bytes, &mut |_| ()).is_err());
        prop_assert!(open_keyring(&[0; 32], 1, &bytes).is_err());
    }
}
