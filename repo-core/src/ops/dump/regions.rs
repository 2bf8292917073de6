//! Where the data of a file lies, as tar tells it: extents joined to regions, each but the last in whole blocks.

use crate::archive::tar::{Region, padded_bytes};
use crate::error::Result;
use crate::format::tree::{Extent, ExtentKind, Node};
use crate::store::Store;
use crate::tree;

/// The regions of a file with holes, ascending. One that ends with a hole has an empty region at its end, as GNU tar
/// writes it: programs that know only the list learn the file's size from it.
pub fn regions<'a>(store: &'a Store, node: &'a Node) -> impl Iterator<Item = Result<Region>> + 'a {
    Regions { extents: tree::extents(store, &node.content, 0), size: node.metadata.size, held: None, is_done: false }
}

struct Regions<I> {
    extents: I,
    size: u64,
    /// A region that came while another was being joined.
    held: Option<Region>,
    is_done: bool,
}

impl<I: Iterator<Item = Result<(u64, Extent)>>> Regions<I> {
    fn advance(&mut self) -> Result<Option<Region>> {
        let mut open = self.held.take();
        for extent in &mut self.extents {
            let (start, extent) = extent?;
            let end = start.saturating_add(extent.length);
            if extent.kind == ExtentKind::Hole {
                continue;
            }
            match &mut open {
                // Zeros of a hole are data where a region must fill its last block.
                Some(region) if padded_bytes(*region).max(region.end) >= start => region.end = end,
                Some(region) => {
                    self.held = Some(Region { start, end });
                    return Ok(Some(Region { start: region.start, end: padded_bytes(*region) }));
                }
                None => open = Some(Region { start, end }),
            }
        }
        if let Some(region) = open {
            let end = padded_bytes(region).min(self.size).max(region.end);
            self.is_done = end >= self.size;
            return Ok(Some(Region { start: region.start, end }));
        }
        let is_done = std::mem::replace(&mut self.is_done, true);
        Ok((!is_done).then_some(Region { start: self.size, end: self.size }))
    }
}

impl<I: Iterator<Item = Result<(u64, Extent)>>> Iterator for Regions<I> {
    type Item = Result<Region>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;

    fn joined(extents: &[(char, u64)]) -> Vec<(u64, u64)> {
        let mut position = 0;
        let extents: Vec<_> = extents
            .iter()
            .map(|(kind, length)| {
                let kind = match kind {
                    'h' => ExtentKind::Hole,
                    'z' => ExtentKind::Zero,
                    _ => ExtentKind::Data(ChunkId([1; 32])),
                };
                let start = position;
                position += length;
                Ok((start, Extent { length: *length, kind }))
            })
            .collect();
        let regions = Regions { extents: extents.into_iter(), size: position, held: None, is_done: false };
        regions.map(|region| region.map(|region| (region.start, region.end)).unwrap()).collect()
    }

    #[test]
    fn extents_are_joined_between_holes_and_written_zeros_are_data() {
        assert_eq!(joined(&[('h', 4096), ('d', 512), ('z', 512), ('d', 100)]), [(4096, 5220)]);
        assert_eq!(joined(&[('d', 512), ('h', 4096), ('d', 512)]), [(0, 512), (4608, 5120)]);
        assert_eq!(joined(&[('d', 512), ('h', 4096)]), [(0, 512), (4608, 4608)]);
        assert_eq!(joined(&[('h', 1 << 40)]), [(1 << 40, 1 << 40)]);
    }

    #[test]
    fn all_regions_but_the_last_fill_whole_blocks() {
        assert_eq!(joined(&[('d', 100), ('h', 1000), ('d', 5)]), [(0, 512), (1100, 1105)]);
        assert_eq!(joined(&[('d', 100), ('h', 412), ('d', 5), ('h', 600)]), [(0, 1024), (1117, 1117)]);
        assert_eq!(joined(&[('d', 100), ('h', 10), ('d', 5), ('h', 10)]), [(0, 125)]);
        assert_eq!(joined(&[('h', 7), ('d', 1), ('h', 511), ('d', 1), ('h', 5000)]), [(7, 1031), (5520, 5520)]);
    }
}
