//! Keys for tests: those of docs/format.md's examples, and others.

use super::{Keys, new_epoch_keys};
use crate::error::Result;
use crate::format::keyring::{Epoch, Keyring};
use crate::id::RepositoryId;

/// 00 01 … 1f
pub(crate) const ROOT_SECRET: [u8; 32] = counting_from(0);
/// 20 21 … 3f
pub(crate) const MASTER_KEY: [u8; 32] = counting_from(0x20);

pub(crate) const fn counting_from(first: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut place = 0;
    while place < 32 {
        bytes[place] = first + place as u8;
        place += 1;
    }
    bytes
}

/// A keyring of one epoch, number 0.
pub(crate) fn keyring(root_secret: [u8; 32], master_key: [u8; 32]) -> Keyring {
    let keys = new_epoch_keys(&master_key);
    Keyring {
        generation: 1,
        previous_digest: [0; 32],
        repository: RepositoryId([7; 16]),
        marker_digest: [0; 32],
        root_secret,
        epochs: vec![Epoch { epoch: 0, keys, created_ms: 0, gc_from: 0, state: 0 }],
        slots: Vec::new(),
        extensions: Vec::new(),
    }
}

/// The keys of docs/format.md's examples.
pub(crate) fn keys() -> Keys {
    Keys::from_keyring(&keyring(ROOT_SECRET, MASTER_KEY)).expect("a keyring with an epoch")
}

/// Another repository's keys.
pub(crate) fn other_keys() -> Keys {
    Keys::from_keyring(&keyring([1; 32], [2; 32])).expect("a keyring with an epoch")
}

/// A source of randomness that always gives the same.
pub(crate) fn stuck(bytes: &mut [u8]) -> Result<()> {
    bytes.fill(0x55);
    Ok(())
}

/// Bytes that do not compress, the same on every machine (xorshift64*, Vigna 2016).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// English-looking lines that compress well and differ by `seed`.
pub(crate) fn text(seed: u64, length: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "the", "backup", "of", "a", "house", "is", "never", "quite", "done", "until", "someone", "has", "read", "it",
        "back", "again",
    ];
    let mut bytes = Vec::with_capacity(length + 16);
    for draw in noise(seed, length) {
        bytes.extend_from_slice(WORDS[usize::from(draw & 15)].as_bytes());
        bytes.push(if draw & 0xf0 == 0 { b'\n' } else { b' ' });
        if bytes.len() >= length {
            break;
        }
    }
    bytes.truncate(length);
    bytes
}
