//! The chunker: whatever is cut, the pieces are the whole, and none is too long or too short.

use repo_core::internals::chunker::Chunker;
use repo_core::internals::format::config::ChunkerParameters;

/// The first two bytes choose the parameters, the rest is cut.
pub fn chunker(data: &[u8]) -> bool {
    let [choice, seed, rest @ ..] = data else { return false };
    // The smallest parameters there are, so that a small input has many cuts.
    let parameters = ChunkerParameters {
        algorithm: 1,
        normalization: choice & 3,
        min_bytes: 64 << (choice >> 2 & 1),
        average_bytes: 256 << (choice >> 3 & 1),
        max_bytes: 1024 << (choice >> 4 & 3),
    };
    parameters.check().expect("these are within the bounds");
    let chunker = Chunker::new(parameters, &gear(*seed));
    let mut left = rest;
    while !left.is_empty() {
        let length = chunker.cut(left);
        assert!(length > 0 && length <= left.len() && length <= parameters.max_bytes as usize);
        assert!(length >= parameters.min_bytes as usize || length == left.len(), "only the tail may be short");
        // What lies beyond the longest chunk has no say: a buffer of that size is enough.
        let window = &left[..left.len().min(chunker.max_bytes())];
        assert_eq!(chunker.cut(window), length);
        left = &left[length..];
    }
    true
}

/// A table as random as a repository's own.
fn gear(seed: u8) -> [u64; 256] {
    let mut bytes = [0; 2048];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    std::array::from_fn(|entry| u64::from_le_bytes(bytes[entry * 8..][..8].try_into().expect("8 bytes")))
}
