//! Losses of every kind, drawn; and the golden object, computed by a program that knows no Fourier transform.

use super::*;
use crate::format::vectors::vector;
use proptest::prelude::*;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn id(bytes: &[u8]) -> PackId {
    PackId(*blake3::hash(bytes).as_bytes())
}

/// A pack, its parity object, and where the shards of both lie.
struct Sample {
    pack: PackId,
    bytes: Vec<u8>,
    parity: Vec<u8>,
    header: ParityHeader,
}

impl Sample {
    fn new(length: usize, shard_length: u32, shards: u16) -> Self {
        let bytes = noise(length as u64, length);
        let parity = encode_shards(id(&bytes), &bytes, shard_length, shards);
        let header = ParityHeader::decode_first(&parity).unwrap();
        Self { pack: id(&bytes), bytes, parity, header }
    }

    /// Both with these shards damaged: first those of the pack, then those of parity.
    fn without(&self, lost: &[usize]) -> (Vec<u8>, Vec<u8>) {
        let (mut bytes, mut parity) = (self.bytes.clone(), self.parity.clone());
        let length = self.header.shard_length as usize;
        for number in lost {
            match number.checked_sub(self.header.data.len()) {
                // One bit in turn in each place of a shard.
                None => {
                    let start = number * length;
                    let there = length.min(bytes.len() - start);
                    bytes[start + (number * 37) % there] ^= 1 << (number % 8);
                }
                Some(spare) => parity[self.header.parity_offset(spare) + (spare * 41) % length] ^= 0x80,
            }
        }
        (bytes, parity)
    }

    fn heals(&self, stored: &[u8], parity: &[u8]) -> usize {
        let healed = heal(self.pack, stored, parity).expect("no more is lost than there is parity");
        assert!(healed.bytes == self.bytes, "other bytes under the pack's name");
        healed.lost_shards
    }
}

#[test]
fn the_golden_object_is_what_this_code_makes_and_heals_by() {
    let pack: Vec<u8> = (0..300_usize).map(|i| if i % 3 == 0 { i * i / 8 } else { 64 + 7 * i } as u8).collect();
    let golden = vector!("parity");
    assert_eq!(hex::encode(encode_shards(id(&pack), &pack, 64, 3)), hex::encode(&golden));
    assert_eq!(verify(id(&pack), 3, &golden), Ok(()));
    let mut damaged = pack.clone();
    damaged[64..256].fill(0);
    assert_eq!(heal(id(&pack), &damaged, &golden), Ok(Healed { bytes: pack, lost_shards: 3 }));
}

#[test]
fn two_hundredths_are_that_and_never_fewer_than_two_shards() {
    let mib = 1 << 20;
    for (length, percent, shards) in [
        (0, 2, 0),
        (1, 2, 2),
        (5000, 2, 2),
        (12 * mib, 0, 0),
        (12 * mib, 2, 11),
        (12 * mib, 100, 512),
        (12 * mib, 255, 512),
        (32 * mib, 2, 11),
        (1024 * mib, 2, 328),
        (1024 * mib, 100, 16384),
    ] {
        assert_eq!(shard_count(length, percent), shards, "{percent} % of {length}");
    }
    // What it costs beside the shards: the tables.
    let bytes = noise(1, 12 << 20);
    let parity = encode(id(&bytes), &bytes, shard_count(12 * mib, 2));
    assert!(parity.len() * 1000 < bytes.len() * 24, "{}", parity.len());
}

#[test]
fn a_pack_that_is_gone_heals_where_parity_is_as_large() {
    let sample = Sample::new(100_000, 2048, 49);
    assert_eq!(sample.heals(&[], &sample.parity), 49);
    let sample = Sample::new(100_000, 2048, 48);
    let lost = Unhealed::TooMuchLost { lost: 49, shards: 49, available: 48 };
    assert_eq!(heal(sample.pack, &[], &sample.parity), Err(lost));
}

#[test]
fn what_was_appended_to_a_pack_is_left_out() {
    let sample = Sample::new(10_000, 512, 2);
    assert_eq!(sample.heals(&[&sample.bytes[..], b"more"].concat(), &sample.parity), 0);
}

#[test]
fn a_pack_heals_though_a_header_of_its_parity_is_gone() {
    let sample = Sample::new(10_000, 512, 3);
    let (damaged, parity) = sample.without(&[1, 5]);
    let header = sample.header.length();
    for place in [0, 4, 8, 12, 16, 40, 63, 64, 300, header - 1] {
        let mut first = parity.clone();
        first[place] ^= 0x10;
        assert_eq!(sample.heals(&damaged, &first), 2, "byte {place}");
        let mut both = first.clone();
        let last = both.len() - 1 - place;
        both[last] ^= 1;
        assert!(matches!(heal(sample.pack, &damaged, &both), Err(Unhealed::NoParity(_))), "{place}");
    }
    // The front is cut off, as by a lost sector; or the end.
    assert_eq!(sample.heals(&damaged, &parity[100..]), 2);
    assert_eq!(sample.heals(&damaged, &parity[..parity.len() - header]), 2);
    // With the front some shards of parity go: the others are found from the end.
    let cut = sample.header.parity_offset(1);
    assert_eq!(sample.heals(&damaged, &parity[cut..]), 2);
    assert!(heal(sample.pack, &damaged, &parity[cut + 1 + 512..]).is_err());
}

#[test]
fn parity_of_another_pack_is_refused() {
    let (one, other) = (Sample::new(10_000, 512, 3), Sample::new(10_001, 512, 3));
    let refused = heal(one.pack, &one.bytes, &other.parity);
    assert_eq!(refused, Err(Unhealed::NoParity(Corruption::Malformed("header: it is another object's"))));
    assert!(matches!(heal(one.pack, &one.bytes, &[]), Err(Unhealed::NoParity(Corruption::Truncated))));
}

#[test]
fn forged_parity_with_right_hashes_makes_no_other_bytes_of_a_pack() {
    let sample = Sample::new(10_000, 512, 3);
    let forged_bytes = noise(99, 10_000);
    // Everything in it is of other bytes, and only the name is this pack's.
    let forged = encode_shards(sample.pack, &forged_bytes, 512, 3);
    assert_eq!(verify(sample.pack, 3, &forged), Ok(()), "it looks right");
    assert_eq!(heal(sample.pack, &forged_bytes, &forged), Err(Unhealed::WrongResult));
    // Nor with parity shards as many as the pack has.
    let forged = encode_shards(sample.pack, &forged_bytes, 512, 20);
    assert_eq!(heal(sample.pack, &sample.bytes, &forged), Err(Unhealed::WrongResult));
}

#[test]
fn an_object_is_verified_to_its_last_byte() {
    let sample = Sample::new(3000, 512, 2);
    let verify = |bytes: &[u8]| verify(sample.pack, 2, bytes);
    assert_eq!(verify(&sample.parity), Ok(()));
    for place in 0..sample.parity.len() {
        let mut changed = sample.parity.clone();
        changed[place] ^= 4;
        assert!(verify(&changed).is_err(), "byte {place}");
        assert!(verify(&sample.parity[..place]).is_err(), "cut to {place}");
    }
    assert!(verify(&[&sample.parity[..], &[0]].concat()).is_err());
    let another = Err(Corruption::Malformed("header: it is another object's"));
    assert_eq!(super::verify(sample.pack, 3, &sample.parity), another);
    assert_eq!(super::verify(PackId([1; 32]), 2, &sample.parity), another);
}

/// Any geometry: packs that end within a shard or at its end, fewer shards than parity, more than one group of the code.
fn geometry() -> impl Strategy<Value = (usize, u32, u16)> {
    (1..40_000_usize, (1..20_u32).prop_map(|blocks| blocks * 64), 1..40_u16)
}

proptest! {
    #[test]
    fn as_many_lost_shards_as_there_are_of_parity_heal_and_one_more_is_reported(
        (length, shard_length, shards) in geometry(),
        order in any::<u64>(),
    ) {
        let sample = Sample::new(length, shard_length, shards);
        let (data, all) = (sample.header.data.len(), sample.header.data.len() + usize::from(shards));
        // All shards in an order that the draw decides.
        let mut numbers: Vec<usize> = (0..all).collect();
        numbers.sort_by_key(|number| noise(order ^ (*number as u64) << 20, 8));
        let lost = &numbers[..usize::from(shards)];
        let (stored, parity) = sample.without(lost);
        let of_data = lost.iter().filter(|number| **number < data).count();
        prop_assert_eq!(sample.heals(&stored, &parity), of_data);

        let lost = &numbers[..=usize::from(shards)];
        let (stored, parity) = sample.without(lost);
        let of_data = lost.iter().filter(|number| **number < data).count();
        if of_data > 0 {
            let available = all - lost.len() - (data - of_data);
            let expected = Unhealed::TooMuchLost { lost: of_data, shards: data, available };
            prop_assert_eq!(heal(sample.pack, &stored, &parity), Err(expected));
        } else {
            prop_assert_eq!(sample.heals(&stored, &parity), 0);
        }
    }

    #[test]
    fn a_pack_that_was_cut_short_heals_where_few_enough_shards_went(
        (length, shard_length, shards) in geometry(),
        keep in any::<prop::sample::Index>(),
    ) {
        let sample = Sample::new(length, shard_length, shards);
        let keep = keep.index(length);
        let lost = sample.header.data.len() - keep / shard_length as usize;
        let healed = heal(sample.pack, &sample.bytes[..keep], &sample.parity);
        if lost <= usize::from(shards) {
            prop_assert_eq!(healed, Ok(Healed { bytes: sample.bytes, lost_shards: lost }));
        } else {
            let shards = sample.header.data.len();
            let available = sample.header.parity.len();
            prop_assert_eq!(healed, Err(Unhealed::TooMuchLost { lost, shards, available }));
        }
    }

    #[test]
    fn no_bytes_make_healing_panic_or_give_anything_but_the_pack(
        (length, shard_length, shards) in geometry(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let sample = Sample::new(length, shard_length, shards);
        let mut parity = sample.parity.clone();
        for (place, value) in changes {
            let place = place.index(parity.len());
            parity[place] = value;
        }
        parity.truncate(cut.index(parity.len() + 1));
        let (stored, _) = sample.without(&[0]);
        if let Ok(healed) = heal(sample.pack, &stored, &parity) {
            prop_assert!(healed.bytes == sample.bytes);
        }
    }
}
