//! Files with holes: where their data lies is a list of regions, written in GNU's version 1.0, and read in all four.

use std::io;

use super::padding;
use crate::archive::malformed;

/// A run of data in a file, `start..end` in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    pub start: u64,
    pub end: u64,
}

/// A list of more regions is refused: it would take more than 16 MiB.
pub const REGIONS_MAX: usize = 1 << 20;

/// What the list of a file's regions will take, before it is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct MapSize {
    regions: u64,
    line_bytes: u64,
    data_bytes: u64,
}

impl MapSize {
    /// One more region.
    pub fn add(&mut self, region: Region) {
        self.regions += 1;
        self.line_bytes += lines(region).len() as u64;
        self.data_bytes += region.end - region.start;
    }

    /// The regions so far.
    pub fn regions(&self) -> u64 {
        self.regions
    }

    /// The list itself, without what fills its last block.
    fn text_bytes(&self) -> u64 {
        self.regions.to_string().len() as u64 + 1 + self.line_bytes
    }

    /// What the member holds: the list in whole blocks, then the data.
    pub fn stored_bytes(&self) -> u64 {
        let text = self.text_bytes();
        text + padding(text) as u64 + self.data_bytes
    }

    /// What fills the list's last block.
    pub fn padding(&self) -> usize {
        padding(self.text_bytes())
    }
}

/// A region's lines of the list.
pub fn lines(region: Region) -> String {
    format!("{}\n{}\n", region.start, region.end - region.start)
}

/// Bytes up to which data must be told: GNU tar wants every region but the last in whole blocks.
pub fn padded_bytes(region: Region) -> u64 {
    let length = region.end - region.start;
    region.end.saturating_add(padding(length) as u64)
}

/// Regions as an archive tells them, none of them believed yet.
#[derive(Debug, Default)]
pub struct Told(Vec<(u64, u64)>);

impl Told {
    /// One more: offset and length.
    pub fn add(&mut self, offset: i64, length: i64) -> io::Result<()> {
        let (Ok(offset), Ok(length)) = (u64::try_from(offset), u64::try_from(length)) else {
            return Err(malformed("a list of data in a sparse file has a negative number"));
        };
        if self.0.len() >= REGIONS_MAX {
            return Err(malformed(format!("a sparse file has more than {REGIONS_MAX} runs of data")));
        }
        self.0.push((offset, length));
        Ok(())
    }

    /// The regions of a file of `size` bytes of which `stored` are in the archive: ascending, apart, within the file, and
    /// as much as is there.
    pub fn check(self, size: u64, stored: u64) -> io::Result<Vec<Region>> {
        let (mut regions, mut sum) = (Vec::<Region>::new(), 0u64);
        for (start, length) in self.0 {
            let end = start.checked_add(length).filter(|end| *end <= size);
            let end = end.ok_or_else(|| malformed("a sparse file has data behind its end"))?;
            match regions.last_mut() {
                Some(last) if start < last.end => {
                    return Err(malformed("the list of data in a sparse file does not ascend"));
                }
                _ if length == 0 => continue,
                Some(last) if start == last.end => last.end = end,
                _ => regions.push(Region { start, end }),
            }
            sum += length;
        }
        match sum == stored {
            true => Ok(regions),
            false => Err(malformed("a sparse file has another amount of data than its list says")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(i64, i64)], size: u64, stored: u64) -> io::Result<Vec<(u64, u64)>> {
        let mut told = Told::default();
        for (offset, length) in pairs {
            told.add(*offset, *length)?;
        }
        Ok(told.check(size, stored)?.iter().map(|region| (region.start, region.end)).collect())
    }

    #[test]
    fn regions_ascend_stay_within_the_file_and_add_up() {
        assert_eq!(told(&[(0, 10), (20, 5), (100, 0)], 100, 15).unwrap(), [(0, 10), (20, 25)]);
        assert_eq!(told(&[(0, 10), (10, 5)], 15, 15).unwrap(), [(0, 15)]);
        assert_eq!(told(&[], 1 << 40, 0).unwrap(), []);
        for (pairs, size, stored) in [
            (&[(0, 10), (5, 10)][..], 100, 20),
            (&[(20, 10), (0, 10)], 100, 20),
            (&[(20, 10), (5, 0)], 100, 10),
            (&[(0, 101)], 100, 101),
            (&[(i64::MAX, i64::MAX)], u64::MAX - 10, 0),
            (&[(0, 10)], 100, 11),
            (&[(-1, 10)], 100, 10),
            (&[(0, -10)], 100, 10),
        ] {
            assert!(told(pairs, size, stored).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn a_map_is_as_long_as_it_says() {
        let mut size = MapSize::default();
        let mut text = String::new();
        for index in 0..200 {
            let region = Region { start: index * 10_000, end: index * 10_000 + 4096 };
            size.add(region);
            text += &lines(region);
        }
        let text = format!("200\n{text}");
        assert_eq!(size.text_bytes(), text.len() as u64);
        assert_eq!((text.len() + size.padding()) % 512, 0);
        assert_eq!(size.stored_bytes(), (text.len() + size.padding()) as u64 + 200 * 4096);
    }

    #[test]
    fn a_region_is_told_up_to_whole_blocks() {
        assert_eq!(padded_bytes(Region { start: 100, end: 612 }), 612);
        assert_eq!(padded_bytes(Region { start: 100, end: 613 }), 1124);
    }
}
