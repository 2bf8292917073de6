//! tar, both ways.
//!
//! Sources: IEEE Std 1003.1, "pax", for headers and extended headers; the manual of GNU tar, appendices "Standard" and
//! "Storing Sparse Files"; tar(5) of libarchive for attributes and flags; star(5) for access control lists.

mod acl;
mod flags;
mod header;
mod pax;
mod read;
mod sparse;
mod write;

#[cfg(test)]
mod tests;

pub use read::{Member, TarReader};
pub use sparse::{MapSize, Region, padded_bytes};
pub use write::{Entry, Shape, TarWriter};

/// The attributes in which Linux keeps access control lists.
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// Everything lies in blocks of this many bytes.
pub const BLOCK_BYTES: usize = 512;

/// Bytes from the end of `length` bytes to the next block.
fn padding(length: u64) -> usize {
    (length.next_multiple_of(BLOCK_BYTES as u64) - length) as usize
}
