//! Key hierarchy, object keys, AEAD, Argon2id, randomness. Everything secret is wiped when dropped.
//! What the bytes mean is `format`'s business; chunks and objects are `seal`'s.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::{Corruption, Error, Result};
use crate::format::header::Header;
use crate::format::key_slot::Derivation;
use crate::format::keyring::{Keyring, Purpose};
use crate::id::{ChunkId, ChunkKind};

/// What opens a repository.
#[derive(Clone)]
pub enum Secret {
    /// A password; Argon2id makes a key of it.
    Password(Zeroizing<Vec<u8>>),
    /// 32 random bytes from a key file.
    Key(Zeroizing<[u8; 32]>),
    /// The root key itself, from a recovery kit: needs no key slot.
    RootKey(Zeroizing<[u8; 32]>),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// How much work guessing a password takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PasswordCost {
    /// 64 MiB, 3 passes, 4 lanes (RFC 9106, second recommendation).
    Default,
    /// 1 GiB, 3 passes, 4 lanes.
    High,
}

/// `N` bytes from the operating system.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::Randomness(error.to_string()))?;
    Ok(bytes)
}

/// The keys of an open repository. `chunk_id` and the cutting tables derive from the root secret,
/// which lasts for the repository's life; object keys from the epoch's purpose keys.
pub struct Keys {}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(hidden)")
    }
}

impl Keys {
    /// Derives everything that a keyring's secrets give.
    pub fn from_keyring(_keyring: &Keyring) -> Result<Self> {
        todo!()
    }

    /// The epoch that new objects are sealed under.
    pub fn newest_epoch(&self) -> u32 {
        todo!()
    }

    /// A chunk's name.
    pub fn chunk_id(&self, _kind: ChunkKind, _plaintext: &[u8]) -> ChunkId {
        todo!()
    }

    /// The gear table of this repository's FastCDC.
    pub fn gear(&self) -> &[u64; 256] {
        todo!()
    }

    /// Whether a tree node that may end after `name` does: the low byte of a keyed hash is 0.
    pub fn splits_tree_after(&self, _name: &[u8]) -> bool {
        todo!()
    }

    /// The series of a host and its source.
    pub fn series(&self, _label: &[u8]) -> crate::id::SeriesId {
        todo!()
    }

    /// A fresh header with a hedged salt and its commitment, and the keys of that object.
    /// `writer` and `counter` are mixed into the salt, so that a cloned machine with stuck randomness does not repeat one.
    pub fn new_object(&self, _purpose: Purpose, _writer: &[u8; 16], _counter: u64) -> Result<(Header, ObjectKeys)> {
        todo!()
    }

    /// The keys of a stored object; refuses a header whose commitment is not theirs, before anything is decrypted.
    pub fn of_object(&self, _purpose: Purpose, _header: &Header) -> Result<ObjectKeys, Corruption> {
        todo!()
    }
}

/// The keys of one object.
pub struct ObjectKeys {}

impl fmt::Debug for ObjectKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectKeys(hidden)")
    }
}

/// What a message inside an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Domain {
    Box = 0,
    Frame = 1,
    Footer = 2,
}

/// Bytes that a message grows by: synthetic nonce part before, tag after.
pub const SEAL_OVERHEAD: usize = 8 + 16;

impl ObjectKeys {
    /// Seals `message[8..len-16]` in place: `iv8 ‖ ciphertext ‖ tag16`.
    pub fn seal_in_place(&self, _domain: Domain, _ordinal: u32, _associated: &[u8], _message: &mut [u8]) {
        todo!()
    }

    /// Opens `iv8 ‖ ciphertext ‖ tag16` in place and returns the plaintext's slice of it.
    pub fn open_in_place<'m>(
        &self,
        _domain: Domain,
        _ordinal: u32,
        _associated: &[u8],
        _message: &'m mut [u8],
    ) -> Result<&'m mut [u8], Corruption> {
        todo!()
    }
}

/// Makes the wrapping key of a slot from its secret. Takes as long as `derivation` says.
pub fn wrapping_key(_secret: &[u8], _derivation: Derivation, _salt: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>> {
    todo!()
}
