//! Which packs are read, and in which order.

use super::options::{CheckOptions, Subset};
use super::packs::Listed;
use crate::crypto;
use crate::error::Result;
use crate::id::PackId;
use crate::platform::host;

/// Those that the options ask for, the least recently verified first; never verified is the longest ago.
pub fn choose(mut packs: Vec<Listed>, options: &CheckOptions) -> Result<Vec<Listed>> {
    if let Some(subset) = options.subset {
        packs = subset.of(packs, &crypto::random()?);
    }
    let verified = options.verified.as_ref();
    let now_ns = options.time_ns.unwrap_or_else(host::now_ns);
    packs.sort_by_cached_key(|pack| {
        (verified.and_then(|verified| verified.time_ns(&pack.id, options.level, now_ns)), pack.id)
    });
    Ok(packs)
}

impl Subset {
    /// The packs of the subset; `seed` draws them, where they are drawn.
    fn of(self, mut packs: Vec<Listed>, seed: &[u8; 32]) -> Vec<Listed> {
        // A name is a hash, so its first bytes spread evenly over any number of parts.
        let number = |id: &PackId| u64::from_le_bytes(id.0[..8].try_into().expect("a name has 32 bytes"));
        let shuffle = |packs: &mut Vec<Listed>| {
            packs.sort_by_cached_key(|pack| *blake3::keyed_hash(seed, &pack.id.0).as_bytes());
        };
        match self {
            Self::Part { part, of } => packs.retain(|pack| number(&pack.id) % u64::from(of) == u64::from(part - 1)),
            Self::Percent(share) => {
                shuffle(&mut packs);
                packs.truncate(((packs.len() as f64 * share / 100.0).ceil() as usize).max(1));
            }
            Self::Bytes(bytes) => {
                shuffle(&mut packs);
                let mut sum = 0u64;
                let enough = packs.iter().position(|pack| {
                    sum = sum.saturating_add(pack.size);
                    sum >= bytes
                });
                packs.truncate(enough.map_or(packs.len(), |last| last + 1));
            }
        }
        packs
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::PackKind;
    use crate::ops::check::{CheckLevel, VerifiedPacks};

    fn packs(count: u8) -> Vec<Listed> {
        let name = |number: u8| PackId(*blake3::hash(&[number]).as_bytes());
        (0..count)
            .map(|number| Listed { id: name(number), kind: PackKind::Data, size: 1000 + u64::from(number) })
            .collect()
    }

    proptest! {
        #[test]
        fn the_parts_together_are_all_packs_and_none_is_in_two(count in 0u8..60, of in 1u32..300) {
            let mut all: Vec<_> = (1..=of).flat_map(|part| Subset::Part { part, of }.of(packs(count), &[0; 32])).collect();
            all.sort_unstable();
            let mut expected = packs(count);
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
        }

        #[test]
        fn a_sample_has_the_size_it_should_and_no_pack_twice(count in 1u8..60, share in 0.01f64..100.0, seed: [u8; 32]) {
            let mut sample = Subset::Percent(share).of(packs(count), &seed);
            prop_assert_eq!(sample.len(), (f64::from(count) * share / 100.0).ceil() as usize);
            sample.sort_unstable();
            sample.dedup();
            prop_assert_eq!(sample.len(), (f64::from(count) * share / 100.0).ceil() as usize);
        }

        #[test]
        fn a_sample_by_size_ends_with_the_pack_that_makes_it_enough(count in 1u8..60, bytes in 1u64..80_000, seed: [u8; 32]) {
            let sample = Subset::Bytes(bytes).of(packs(count), &seed);
            let sum: u64 = sample.iter().map(|pack| pack.size).sum();
            let last = sample.last().expect("at least one").size;
            prop_assert!(sum - last < bytes);
            prop_assert!(sum >= bytes || sample.len() == usize::from(count));
        }
    }

    #[test]
    fn a_sample_is_drawn_by_its_seed_and_not_by_names() {
        let ids =
            |seed| Subset::Percent(10.0).of(packs(100), &[seed; 32]).iter().map(|pack| pack.id).collect::<Vec<_>>();
        assert_ne!(ids(1), ids(2));
        assert_eq!(ids(1), ids(1));
    }

    #[test]
    fn the_least_recently_verified_come_first_and_never_is_the_longest_ago() {
        let packs = packs(4);
        let verified = VerifiedPacks::new();
        verified.note(packs[0].id, CheckLevel::Packs, 30);
        verified.note(packs[1].id, CheckLevel::Packs, 10);
        verified.note(packs[2].id, CheckLevel::Data, 20);
        let order = |level| {
            let options = CheckOptions::new().level(level).verified(&verified).time_ns(100);
            let chosen = choose(packs.clone(), &options).expect("no randomness is needed");
            chosen
                .iter()
                .map(|pack| packs.iter().position(|other| other == pack).expect("of these"))
                .collect::<Vec<_>>()
        };
        assert_eq!(order(CheckLevel::Packs), [3, 1, 2, 0]);
        // Hashed only is not decoded.
        let data = order(CheckLevel::Data);
        assert_eq!(data[3], 2, "{data:?}");
    }
}
