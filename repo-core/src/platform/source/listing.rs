//! The names of one directory, in order. All of them lie in one piece of memory: a directory of 10^6 entries
//! costs its names and 16 bytes each, and nothing else is known of an entry until its turn comes.

use std::cmp::Ordering;
use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{RawDir, SeekFrom};
use rustix::io::Errno;

/// Bytes that one `getdents64` may fill: about a thousand entries a call.
const BUFFER_BYTES: usize = 32 << 10;

/// Names of a directory, ascending by raw bytes, without `.` and `..`.
#[derive(Debug, Default)]
pub struct Listing {
    /// The names in the order in which they came, each followed by a NUL.
    arena: Vec<u8>,
    order: Vec<Place>,
    broken: Option<io::Error>,
}

/// A name's place in the arena, with its first eight bytes so that most comparisons need not go there.
#[derive(Debug, Clone, Copy)]
struct Place {
    head: u64,
    /// Start << 16 | length.
    packed: u64,
}

impl Place {
    fn new(start: usize, name: &[u8]) -> io::Result<Self> {
        let length = u16::try_from(name.len()).map_err(|_| io::Error::other("a name of over 64 KiB"))?;
        let mut head = [0; 8];
        let shared = name.len().min(8);
        head[..shared].copy_from_slice(&name[..shared]);
        Ok(Self { head: u64::from_be_bytes(head), packed: (start as u64) << 16 | u64::from(length) })
    }

    fn range(self) -> std::ops::Range<usize> {
        let start = (self.packed >> 16) as usize;
        start..start + (self.packed & 0xffff) as usize
    }
}

impl Listing {
    /// Reads a directory from its beginning. No other reading of the same open directory may go on meanwhile:
    /// they would share one position.
    pub fn read(directory: BorrowedFd<'_>) -> io::Result<Self> {
        rustix::fs::seek(directory, SeekFrom::Start(0))?;
        let mut listing = Self::default();
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => listing.push(entry.file_name())?,
                Err(Errno::INTR) => {}
                // What came before is shown all the same, and the failure is told at the end.
                Err(error) if !listing.order.is_empty() => {
                    listing.broken = Some(error.into());
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        listing.sort();
        Ok(listing)
    }

    /// A listing of these names.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a CStr>) -> io::Result<Self> {
        let mut listing = Self::default();
        for name in names {
            listing.push(name)?;
        }
        listing.sort();
        Ok(listing)
    }

    fn push(&mut self, name: &CStr) -> io::Result<()> {
        let name = name.to_bytes();
        if name != b"." && name != b".." {
            self.order.push(Place::new(self.arena.len(), name)?);
            self.arena.extend_from_slice(name);
            self.arena.push(0);
        }
        Ok(())
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        let compare = |a: &Place, b: &Place| match a.head.cmp(&b.head) {
            Ordering::Equal => arena[a.range()].cmp(&arena[b.range()]),
            order => order,
        };
        self.order.sort_unstable_by(compare);
        // A directory that changes while it is read may show a name twice.
        self.order.dedup_by(|a, b| compare(a, b) == Ordering::Equal);
        self.order.shrink_to_fit();
        self.arena.shrink_to_fit();
    }

    /// The name at a position of the order.
    pub fn name(&self, position: usize) -> Option<&CStr> {
        let range = self.order.get(position)?.range();
        Some(CStr::from_bytes_with_nul(&self.arena[range.start..=range.end]).expect("pushed with its NUL"))
    }

    /// Why the listing is not whole, if it is not. Told once.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.broken.take()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use proptest::prelude::*;

    use super::*;

    fn names(listing: &Listing) -> Vec<Vec<u8>> {
        (0..).map_while(|position| listing.name(position)).map(|name| name.to_bytes().to_vec()).collect()
    }

    proptest! {
        #[test]
        fn names_come_back_once_each_in_raw_byte_order(given in prop::collection::vec(prop::collection::vec(1u8..=255, 1..14), 0..60)) {
            let given: Vec<CString> = given.into_iter().map(|name| CString::new(name).unwrap()).collect();
            let mut expected: Vec<Vec<u8>> = given.iter().map(|name| name.to_bytes().to_vec()).collect();
            expected.sort();
            expected.dedup();
            expected.retain(|name| name != b"." && name != b"..");
            prop_assert_eq!(names(&Listing::of(given.iter().map(CString::as_c_str)).unwrap()), expected);
        }
    }

    #[test]
    fn names_that_agree_in_eight_bytes_are_told_apart_by_the_rest() {
        let listing = Listing::of([c"12345678b", c"12345678", c"12345678a", c"1234567"]).unwrap();
        assert_eq!(names(&listing), [&b"1234567"[..], b"12345678", b"12345678a", b"12345678b"]);
    }

    #[test]
    fn reading_a_directory_twice_through_one_descriptor_gives_the_same() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b", "a", "c"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let opened = std::fs::File::open(directory.path()).unwrap();
        for _ in 0..2 {
            let listing = Listing::read(std::os::fd::AsFd::as_fd(&opened)).unwrap();
            assert_eq!(names(&listing), [b"a", b"b", b"c"]);
        }
    }
}
