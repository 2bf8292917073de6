//! AES-256-GCM under the keys of one object. The only place that makes a nonce.

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use zeroize::Zeroizing;

use super::SecretKey;
use crate::error::Corruption;

/// What a message inside an object is. The number is the nonce's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Domain {
    Box = 0,
    Frame = 1,
    Footer = 2,
}

/// Synthetic part of a nonce, stored before the ciphertext.
const IV_LENGTH: usize = 8;
/// GCM's tag, stored after the ciphertext.
const TAG_LENGTH: usize = 16;
/// Bytes that a message grows by: synthetic nonce part before, tag after.
pub const SEAL_OVERHEAD: usize = IV_LENGTH + TAG_LENGTH;

/// The keys of one object.
pub struct ObjectKeys {
    cipher: Aes256Gcm,
    pad_seed: SecretKey,
    iv_key: SecretKey,
}

impl fmt::Debug for ObjectKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectKeys(hidden)")
    }
}

impl ObjectKeys {
    pub(super) fn new(object_key: &[u8; 32], pad_seed: SecretKey, iv_key: SecretKey) -> Self {
        Self { cipher: Aes256Gcm::new(object_key.into()), pad_seed, iv_key }
    }

    /// Seals `message[8..len-16]` in place: `iv8 ‖ ciphertext ‖ tag16`.
    ///
    /// A nonce must never serve twice under one key: whoever calls this gives each (domain, ordinal) to one message of
    /// the object. Should two objects have one key all the same (a cloned machine, a generator of random numbers that is
    /// stuck), then the synthetic part, a keyed hash of all that is sealed, still parts different messages.
    ///
    /// # Panics
    /// If `message` has no room for the 24 bytes, or `ordinal` is not below 2^24.
    pub fn seal_in_place(&self, domain: Domain, ordinal: u32, associated: &[u8], message: &mut [u8]) {
        let (iv, rest) = message.split_at_mut(IV_LENGTH);
        let (text, tag_place) = rest.split_at_mut(rest.len().checked_sub(TAG_LENGTH).expect("room for the tag"));
        let prefix = nonce_prefix(domain, ordinal);
        let mut hasher = blake3::Hasher::new_keyed(&self.iv_key);
        hasher.update(&prefix).update(associated).update(text);
        iv.copy_from_slice(&hasher.finalize().as_bytes()[..IV_LENGTH]);
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce(prefix, iv), associated, text.into())
            .expect("messages and associated data are far below GCM's limit of 64 GiB");
        tag_place.copy_from_slice(&tag);
    }

    /// Opens `iv8 ‖ ciphertext ‖ tag16` in place and returns the plaintext's slice of it.
    /// Nothing is decrypted unless the tag is right.
    pub fn open_in_place<'m>(
        &self,
        domain: Domain,
        ordinal: u32,
        associated: &[u8],
        message: &'m mut [u8],
    ) -> Result<&'m mut [u8], Corruption> {
        if message.len() < SEAL_OVERHEAD {
            return Err(Corruption::Truncated);
        }
        if ordinal >= 1 << 24 {
            return Err(Corruption::OverLimit("frame ordinal"));
        }
        let (iv, rest) = message.split_at_mut(IV_LENGTH);
        let (text, tag) = rest.split_at_mut(rest.len() - TAG_LENGTH);
        let tag = Tag::try_from(&*tag).expect("split off with a tag's length");
        self.cipher
            .decrypt_inout_detached(&nonce(nonce_prefix(domain, ordinal), iv), associated, (&mut *text).into(), &tag)
            .map_err(|_| Corruption::Authentication)?;
        Ok(text)
    }

    /// Fills `pad` with bytes that nobody without the key can tell from ciphertext.
    pub(crate) fn fill_padding(&self, pad: &mut [u8]) {
        blake3::Hasher::new_keyed(&self.pad_seed).update(b"pad").finalize_xof().fill(pad);
    }

    /// A number in `[0, bound)`, even to 2^-40, that nobody without the key can guess. The same for the same object.
    pub(crate) fn padding_step(&self, bound: u64) -> u64 {
        let hash = blake3::Hasher::new_keyed(&self.pad_seed).update(b"step").finalize();
        let draw = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 bytes"));
        ((u128::from(draw) * u128::from(bound)) >> 64) as u64
    }
}

fn nonce_prefix(domain: Domain, ordinal: u32) -> [u8; 4] {
    assert!(ordinal < 1 << 24, "an ordinal has 24 bits");
    let [low, middle, high, _] = ordinal.to_le_bytes();
    [domain as u8, low, middle, high]
}

fn nonce(prefix: [u8; 4], iv: &[u8]) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&prefix);
    bytes[4..].copy_from_slice(iv);
    bytes.into()
}

/// Seals a key slot's body: GCM with a nonce of zeros.
///
/// Safe for one message a key: every slot draws a new salt, and the salt is part of the key's derivation.
pub(super) fn seal_once(key: &[u8; 32], associated: &[u8], message: &mut [u8]) {
    let (text, tag_place) = message.split_at_mut(message.len().checked_sub(TAG_LENGTH).expect("room for the tag"));
    let tag = Aes256Gcm::new(key.into())
        .encrypt_inout_detached(&[0; 12].into(), associated, text.into())
        .expect("a slot is far below GCM's limit of 64 GiB");
    tag_place.copy_from_slice(&tag);
}

/// Opens what [`seal_once`] made.
pub(super) fn open_once(key: &[u8; 32], associated: &[u8], message: &[u8]) -> Result<Zeroizing<Vec<u8>>, Corruption> {
    let text_length = message.len().checked_sub(TAG_LENGTH).ok_or(Corruption::Truncated)?;
    let mut text = Zeroizing::new(message[..text_length].to_vec());
    let tag = Tag::try_from(&message[text_length..]).expect("split off with a tag's length");
    Aes256Gcm::new(key.into())
        .decrypt_inout_detached(&[0; 12].into(), associated, text.as_mut_slice().into(), &tag)
        .map_err(|_| Corruption::Authentication)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> ObjectKeys {
        ObjectKeys::new(&[1; 32], Zeroizing::new([2; 32]), Zeroizing::new([3; 32]))
    }

    fn seal(domain: Domain, ordinal: u32, associated: &[u8], text: &[u8]) -> Vec<u8> {
        let mut message = [&[0; 8], text, &[0; 16]].concat();
        keys().seal_in_place(domain, ordinal, associated, &mut message);
        message
    }

    fn open(domain: Domain, ordinal: u32, associated: &[u8], message: &[u8]) -> Result<Vec<u8>, Corruption> {
        keys().open_in_place(domain, ordinal, associated, &mut message.to_vec()).map(|text| text.to_vec())
    }

    /// Computed by other implementations of BLAKE3 and AES-GCM.
    #[test]
    fn a_sealed_message_is_that_of_the_format_description() {
        let message = seal(Domain::Frame, 0x01_02_03, b"bound", b"hello");
        assert_eq!(hex::encode(message), GOLDEN);
    }

    const GOLDEN: &str = "3202211caf739b0e651c6b8f33ab4cbe9440b217ddf5f65efe42811333";

    #[test]
    fn what_was_sealed_opens() {
        for length in [0, 1, 15, 16, 17, 100_000] {
            let text = vec![7; length];
            assert_eq!(open(Domain::Box, 0, b"", &seal(Domain::Box, 0, b"", &text)).unwrap(), text);
        }
    }

    #[test]
    fn a_message_opens_at_its_own_place_only() {
        let message = seal(Domain::Frame, 1, b"bound", b"hello");
        for (domain, ordinal, associated) in [
            (Domain::Frame, 2, &b"bound"[..]),
            (Domain::Frame, 1 | 1 << 16, b"bound"),
            (Domain::Box, 1, b"bound"),
            (Domain::Footer, 1, b"bound"),
            (Domain::Frame, 1, b"boune"),
            (Domain::Frame, 1, b""),
        ] {
            assert_eq!(open(domain, ordinal, associated, &message).unwrap_err(), Corruption::Authentication);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_shortening_too() {
        let message = seal(Domain::Frame, 1, b"bound", b"hello");
        for bit in 0..message.len() * 8 {
            let mut changed = message.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            open(Domain::Frame, 1, b"bound", &changed).unwrap_err();
        }
        for length in 0..message.len() {
            open(Domain::Frame, 1, b"bound", &message[..length]).unwrap_err();
        }
    }

    #[test]
    fn a_nonce_depends_on_all_that_is_sealed() {
        let iv = |domain, ordinal, associated: &[u8], text: &[u8]| {
            <[u8; 8]>::try_from(&seal(domain, ordinal, associated, text)[..8]).unwrap()
        };
        let base = iv(Domain::Frame, 1, b"bound", b"hello");
        assert_eq!(base, iv(Domain::Frame, 1, b"bound", b"hello"));
        assert_ne!(base, iv(Domain::Frame, 1, b"bound", b"hellp"));
        assert_ne!(base, iv(Domain::Frame, 1, b"bounc", b"hello"));
        assert_ne!(base, iv(Domain::Frame, 2, b"bound", b"hello"));
        assert_ne!(base, iv(Domain::Footer, 1, b"bound", b"hello"));
    }

    #[test]
    fn an_ordinal_that_does_not_fit_the_nonce_is_refused() {
        let too_large = open(Domain::Frame, 1 << 24, b"", &[0; 24]).unwrap_err();
        assert_eq!(too_large, Corruption::OverLimit("frame ordinal"));
    }

    /// Padding of zeros, or of bytes that all repositories share, would show where the content of an object ends.
    #[test]
    fn padding_looks_random_and_depends_on_its_seed() {
        let padding = |seed: u8, length| {
            let mut pad = vec![0; length];
            ObjectKeys::new(&[1; 32], Zeroizing::new([seed; 32]), Zeroizing::new([3; 32])).fill_padding(&mut pad);
            pad
        };
        let long = padding(2, 4096);
        assert_eq!(padding(2, 1000), long[..1000], "the same for the same object");
        assert_ne!(padding(4, 1000), long[..1000]);
        let ones: u32 = long.iter().map(|byte| byte.count_ones()).sum();
        assert!((15_384..=17_384).contains(&ones), "half of 32,768 bits, within 11 standard deviations: {ones}");
        let blocks: std::collections::BTreeSet<_> = long.chunks(16).collect();
        assert_eq!(blocks.len(), 256, "nothing repeats");
    }

    #[test]
    fn keys_do_not_show_themselves() {
        assert_eq!(format!("{:?}", keys()), "ObjectKeys(hidden)");
    }

    #[test]
    fn the_random_step_of_padding_stays_below_its_bound_and_varies() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..=255 {
            let keys = ObjectKeys::new(&[1; 32], Zeroizing::new([seed; 32]), Zeroizing::new([3; 32]));
            let step = keys.padding_step(64);
            assert!(step < 64 && keys.padding_step(1) == 0);
            seen.insert(step);
        }
        assert!(seen.len() > 48, "256 draws meet most of 64 numbers");
    }
}
