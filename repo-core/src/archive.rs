//! Archives of others: tar (POSIX.1-2001, and what GNU tar and libarchive add to it) both ways, zip outwards, and the
//! compression around them. Bytes to entries and back; which entries there are, and where their content lies, is told
//! by whoever calls.
//!
//! The formats are written and read here and not by a library, because the common ones lose what a backup must keep:
//! times before 1970, names of attributes that are no text, holes in any of the four ways they are written; and they
//! take as much memory as a header asks for.

pub mod compression;
pub mod tar;
pub mod zip;

use std::io;

/// What is wrong with an archive, in words.
pub fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
