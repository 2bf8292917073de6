//! The only door between plaintext and stored bytes (invariant 5): small sealed objects ("boxes"), packs, padding.

mod boxes;
mod index;
mod pack;
#[cfg(test)]
mod pack_tests;
mod padding;

pub use boxes::{has_checksum, key_epoch, open_box, open_keyring, seal_box, seal_keyring};
pub use index::{open_index, seal_index};
pub use pack::{FramePlace, PackBuilder, PackKeys, Part, SealedPack, has_name, open_pack};
// Packs are opened whole or frame by frame; each chunk alone is of use to tests and fuzz targets only.
#[cfg(any(test, feature = "internals"))]
pub use pack::verify_chunks;
