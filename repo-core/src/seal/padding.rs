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
