//! Key hierarchy, object keys, AEAD, Argon2id, randomness. Everything secret is wiped when dropped.
//! What the bytes mean is `format`'s business; chunks and objects are `seal`'s.

mod aead;
mod argon;
mod keys;
mod recovery;
mod secret;
mod slot;
#[cfg(test)]
pub(crate) mod testing;

pub use aead::{Domain, ObjectKeys, SEAL_OVERHEAD};
pub use argon::PasswordCost;
pub use keys::{Keys, new_epoch_keys};
pub(crate) use keys::{keyring_object, new_keyring_object};
pub use secret::Secret;
pub use slot::{new_slot, open_slot};

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// 32 secret bytes, wiped when dropped.
type SecretKey = Zeroizing<[u8; 32]>;

/// `N` bytes from the operating system.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}

/// Fills `bytes` from the operating system.
fn fill_random(bytes: &mut [u8]) -> Result<()> {
    #[cfg(feature = "internals")]
    if crate::world::fill_random(bytes) {
        return Ok(());
    }
    getrandom::fill(bytes).map_err(|error| Error::Randomness(error.to_string()))
}

/// DK of docs/format.md: the subkey of `key` for one purpose, by BLAKE3's key derivation mode.
/// The context separates this format from every other use of BLAKE3.
fn derive(purpose: &str, key: &[u8; 32]) -> SecretKey {
    Zeroizing::new(blake3::derive_key(&context(purpose), key))
}

fn context(purpose: &str) -> String {
    format!("repo-core 2026 v1 {purpose}")
}
