//! The content of one file of a snapshot, as a stream.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::extents;
use crate::error::{Corruption, Error, Result};
use crate::format::tree::{Content, Extent, ExtentKind};
use crate::id::ChunkKind;
use crate::store::Store;

/// Extents looked up at a time: 1,024 are about 50 KB, and 128 MiB of a file.
const LOOKED_UP_EXTENTS: usize = 1024;

/// A file of a snapshot: `Read` and `Seek`. Holds one frame at a time.
///
/// A read that meets a lost or damaged chunk fails with an [`io::Error`] that wraps the library's; the position stays,
/// and seeking behind the chunk reads on.
#[derive(Debug)]
pub struct StoredFile {
    store: Arc<Store>,
    content: Content,
    size: u64,
    position: u64,
    /// What follows, as far as it has been looked up.
    extents: VecDeque<(u64, Extent)>,
    /// Where the chunk at hand begins, and its bytes.
    chunk: Option<(u64, Bytes)>,
}

/// What is at the position.
enum Piece {
    Bytes(Bytes),
    Zeros(u64),
}

impl StoredFile {
    /// Of a file's node, whose content and kind fit each other.
    pub(crate) fn new(store: Arc<Store>, content: Content, size: u64) -> Self {
        Self { store, content, size, position: 0, extents: VecDeque::new(), chunk: None }
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What is from the position to the end of the extent it is in; `None` at the end of the file.
    fn piece(&mut self) -> Result<Option<Piece>> {
        if self.position >= self.size {
            return Ok(None);
        }
        if let Content::Inline(bytes) = &self.content {
            let start = usize::try_from(self.position).unwrap_or(usize::MAX);
            return Ok(bytes.get(start..).map(|rest| Piece::Bytes(Bytes::copy_from_slice(rest))));
        }
        let (start, extent) = self.extent()?;
        let skip = self.position - start;
        match extent.kind {
            ExtentKind::Zero | ExtentKind::Hole => Ok(Some(Piece::Zeros(extent.length - skip))),
            ExtentKind::Data(id) => {
                let bytes = match &self.chunk {
                    Some((at, bytes)) if *at == start => bytes.clone(),
                    _ => {
                        self.chunk = None;
                        let bytes = self.store.get(ChunkKind::Data, &id)?;
                        if bytes.len() as u64 != extent.length {
                            let problem = Corruption::Malformed("extent: its chunk has another length").to_string();
                            return Err(Error::ChunkLost { id, problem });
                        }
                        self.chunk = Some((start, bytes.clone()));
                        bytes
                    }
                };
                let skip = usize::try_from(skip).expect("less than the chunk's length");
                Ok(Some(Piece::Bytes(bytes.slice(skip..))))
            }
        }
    }

    /// The extent that holds the position.
    fn extent(&mut self) -> Result<(u64, Extent)> {
        let holds =
            |(start, extent): &(u64, Extent), position: u64| *start <= position && position - *start < extent.length;
        while self.extents.front().is_some_and(|(start, extent)| start.saturating_add(extent.length) <= self.position) {
            self.extents.pop_front();
        }
        if !self.extents.front().is_some_and(|front| holds(front, self.position)) {
            self.extents.clear();
            for extent in extents(&self.store, &self.content, self.position).take(LOOKED_UP_EXTENTS) {
                match extent {
                    Ok(extent) => self.extents.push_back(extent),
                    // What comes before the damage can still be read.
                    Err(_) if !self.extents.is_empty() => break,
                    Err(error) => return Err(error),
                }
            }
        }
        match self.extents.front() {
            Some(front) if holds(front, self.position) => Ok(*front),
            _ => Err(Error::Path { path: "".into(), problem: "ends before its size" }),
        }
    }
}

impl io::Read for StoredFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let left = self.size.saturating_sub(self.position);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = match self.piece().map_err(io::Error::other)? {
            None => 0,
            Some(Piece::Bytes(bytes)) => {
                let count = bytes.len().min(most);
                buffer[..count].copy_from_slice(&bytes[..count]);
                count
            }
            Some(Piece::Zeros(length)) => {
                let count = usize::try_from(length).unwrap_or(usize::MAX).min(most);
                buffer[..count].fill(0);
                count
            }
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl io::Seek for StoredFile {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let position = match to {
            io::SeekFrom::Start(position) => Some(position),
            io::SeekFrom::End(by) => self.size.checked_add_signed(by),
            io::SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position =
            position.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the file's first byte"))?;
        Ok(self.position)
    }
}
