//! How long objects are made, so that their lengths tell little.

use crate::crypto::ObjectKeys;

/// Objects from this length on are padded to a multiple of [`QUANTUM_BYTES`] only: Padmé would cost them up to 3 %.
const PADME_BELOW_BYTES: u64 = 4 << 20;
/// Many chunks share a large pack, so that its length to 64 KiB tells nothing of one of them.
const QUANTUM_BYTES: u64 = 64 << 10;

/// Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PoPETs 2019):
/// the next length whose binary form has as few leading digits as its exponent has. At most 12 % more, usually 3.
pub(super) fn padme(length: u64) -> u64 {
    length.next_multiple_of(padme_step(length))
}

/// The distance of allowed lengths about `length`.
fn padme_step(length: u64) -> u64 {
    let Some(exponent) = length.checked_ilog2() else { return 1 };
    let digits = exponent.checked_ilog2().map_or(0, |log| log + 1);
    1 << (exponent - digits)
}

/// The length of a pack or index object whose content takes `length` bytes.
///
/// A small one first grows by a random part of a step: otherwise someone who can place a file beside a secret in one
/// frame could read from the rounded length how well both compress together.
pub(super) fn padded_object_length(length: u64, keys: &ObjectKeys) -> u64 {
    if length < PADME_BELOW_BYTES {
        padme(length + keys.padding_step(padme_step(length)))
    } else {
        length.next_multiple_of(QUANTUM_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::testing;
    use crate::format::header::ObjectType;
    use crate::format::keyring::Purpose;

    #[test]
    fn padme_gives_the_lengths_of_the_format_description() {
        for (length, padded) in [
            (0, 0),
            (1, 1),
            (2, 2),
            (3, 3),
            (7, 7),
            (9, 10),
            (100, 104),
            (1000, 1024),
            (65_537, 67_584),
            (1_000_000, 1_015_808),
            (4_194_305, 4_325_376),
            (33_554_433, 34_603_008),
        ] {
            assert_eq!(padme(length), padded, "{length}");
        }
    }

    fn keys(counter: u64) -> ObjectKeys {
        let keys = testing::keys().with_randomness(testing::stuck);
        keys.new_object(Purpose::Index, ObjectType::Index, &[0; 16], counter).unwrap().1
    }

    /// Without the random step each length has one stored length, and a byte more or less at the right place shows.
    #[test]
    fn near_lengths_share_stored_lengths() {
        let stored = |length| -> std::collections::BTreeSet<u64> {
            (0..200).map(|counter| padded_object_length(length, &keys(counter))).collect()
        };
        // About these lengths a step of Padmé is 2 KiB.
        let both = [104 << 10, 106 << 10].into();
        assert_eq!(stored(103 << 10), both);
        assert_eq!(stored((103 << 10) + 512), both);
    }

    proptest! {
        #[test]
        fn padme_is_a_fixed_point_that_costs_at_most_an_eighth(length in 1_u64..1 << 40) {
            let padded = padme(length);
            prop_assert!(padded >= length && (padded - length) * 8 <= length);
            prop_assert_eq!(padme(padded), padded);
        }

        #[test]
        fn objects_take_padded_lengths_only(length in 1_u64..1 << 27, counter in any::<u64>()) {
            let padded = padded_object_length(length, &keys(counter));
            prop_assert!(padded >= length);
            if length < 4 << 20 {
                prop_assert_eq!(padme(padded), padded);
                prop_assert!((padded - length) * 4 <= length);
            } else {
                prop_assert!(padded.is_multiple_of(64 << 10) && padded - length < 64 << 10);
            }
        }
    }
}
