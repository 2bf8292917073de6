//! docs/format.md in code: structs to bytes and back. No I/O, no keys, no time.
//! Every decoder is bounded by its input (invariant 8) and accepts one spelling of each value only.

pub mod config;
pub mod header;
pub mod index;
pub mod key_slot;
pub mod keyring;
pub mod list;
pub mod marker;
pub mod pack;
pub mod session;
pub mod snapshot;
pub mod tree;

/// The version of the whole format. 0 until the first release: readable by the same build's format only.
pub const FORMAT_VERSION: u32 = 0;

/// Fields of later versions: `(tag, bytes)`, ascending by tag. Bit 15 of a tag means "refuse if unknown".
pub type Extensions = Vec<(u16, Vec<u8>)>;
