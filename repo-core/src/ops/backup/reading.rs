//! Reading files: what the walk found new is read, cut and named here, on several threads.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};

use crate::chunker::Chunker;
use crate::crypto::Keys;
use crate::format::tree::{Extent, ExtentKind, Metadata};
use crate::frame;
use crate::id::ChunkKind;
use crate::pipeline::{Budget, Budgeted, Permit, Pool};
use crate::progress::{Event, Progress};
use crate::walk::{Details, SourceDirectory, SourceEntry, SourceFile};

/// Files up to this size lie in their node.
pub const INLINE_MAX_BYTES: u64 = 512;
/// Small files share a buffer of this many bytes; a file over it is read in segments, one after the other.
pub const UNIT_BYTES: usize = 1 << 20;
/// Bytes of a segment of a large file.
pub const SEGMENT_BYTES: usize = 2 << 20;
/// A file that changes while it is read is read again this often.
pub const ATTEMPTS: usize = 3;
/// Below this a chunk's compressibility is not worth a look.
const PROBE_MIN_BYTES: usize = 16 << 10;

/// What the reading threads share.
pub struct Reading<'r> {
    pub keys: Arc<Keys>,
    pub chunker: Chunker,
    pub progress: &'r dyn Progress,
    /// Plaintext under way, by the capacity of its buffers.
    pub budget: Arc<Budget>,
    /// Buffers of small files.
    pub units: Arc<Pool>,
    /// Buffers of large files' segments.
    pub segments: Arc<Pool>,
}

/// A slice of a file on its way to the store.
pub struct Piece {
    pub extent: Extent,
    /// The plaintext of a data extent.
    pub bytes: Bytes,
    pub incompressible: bool,
}

/// A file, read.
pub struct ReadFile {
    /// As it was when its reading began; size as read.
    pub metadata: Metadata,
    pub details: Details,
    pub body: Body,
    pub read_bytes: u64,
}

/// A file's content.
pub enum Body {
    Inline(Vec<u8>),
    Pieces(Vec<Piece>),
}

/// A file that could not be read.
pub struct ReadFailure {
    pub during: &'static str,
    pub error: io::Error,
}

/// What reading a file gives.
pub type FileResult = Result<ReadFile, ReadFailure>;

/// Work for a reading thread.
pub enum Job {
    /// Small files whose contents share one buffer.
    Files { files: Vec<FileJob>, permit: Permit },
    /// A segment of a large file, cut already.
    Segment { segment: Bytes, cuts: Vec<Range<usize>>, reply: Sender<Vec<Piece>> },
}

/// One small file.
pub struct FileJob {
    pub directory: Arc<dyn SourceDirectory>,
    pub entry: SourceEntry,
    pub reply: Sender<FileResult>,
}

/// A small file in the shared buffer: data and holes in order.
struct Raw {
    metadata: Metadata,
    details: Details,
    regions: Vec<Region>,
    read_bytes: u64,
}

enum Region {
    Data(Range<usize>),
    Hole(u64),
}

impl Reading<'_> {
    /// A reading thread: works until there is no more.
    pub fn work(&self, todo: &Receiver<Job>) {
        for job in todo {
            // Replies fail only if the assembly has given up; then nobody wants them.
            match job {
                Job::Files { files, permit } => self.read_files(files, permit),
                Job::Segment { segment, cuts, reply } => {
                    let pieces = cuts.into_iter().map(|cut| self.piece(segment.slice(cut))).collect();
                    let _ = reply.send(pieces);
                }
            }
        }
    }

    fn read_files(&self, files: Vec<FileJob>, permit: Permit) {
        let mut buffer = self.units.take();
        let mut results = Vec::with_capacity(files.len());
        for file in &files {
            let start = buffer.len();
            let result = read_small(file, &mut buffer);
            if result.is_err() {
                buffer.truncate(start);
            }
            results.push(result);
        }
        let shared = Bytes::from_owner(Budgeted::new(buffer, self.units.clone(), permit));
        for (file, result) in files.into_iter().zip(results) {
            let result = result.map(|raw| {
                self.progress.report(Event::Bytes { count: raw.read_bytes });
                self.name(raw, &shared)
            });
            let _ = file.reply.send(result);
        }
    }

    /// Cuts and names a small file's content.
    fn name(&self, raw: Raw, shared: &Bytes) -> ReadFile {
        let Raw { metadata, details, regions, read_bytes } = raw;
        let body = match regions.as_slice() {
            [Region::Data(range)] if range.len() as u64 <= INLINE_MAX_BYTES => {
                Body::Inline(shared[range.clone()].to_vec())
            }
            _ => {
                let mut pieces = Vec::new();
                for region in regions {
                    match region {
                        Region::Hole(length) => pieces.push(hole(length)),
                        Region::Data(range) => {
                            let data = shared.slice(range);
                            pieces.extend(self.cuts(&data, true).into_iter().map(|cut| self.piece(data.slice(cut))));
                        }
                    }
                }
                Body::Pieces(pieces)
            }
        };
        ReadFile { metadata, details, body, read_bytes }
    }

    /// Cut points of `data`; without `is_end` what might be cut differently with more data behind it is left over.
    pub fn cuts(&self, data: &[u8], is_end: bool) -> Vec<Range<usize>> {
        let mut cuts = Vec::new();
        let mut start = 0;
        while start < data.len() && (is_end || data.len() - start >= self.chunker.max_bytes()) {
            let end = start + self.chunker.cut(&data[start..]);
            cuts.push(start..end);
            start = end;
        }
        cuts
    }

    fn piece(&self, bytes: Bytes) -> Piece {
        let length = bytes.len() as u64;
        if is_zero(&bytes) {
            let extent = Extent { length, kind: ExtentKind::Zero };
            return Piece { extent, bytes: Bytes::new(), incompressible: false };
        }
        let id = self.keys.chunk_id(ChunkKind::Data, &bytes);
        let incompressible =
            bytes.len() >= PROBE_MIN_BYTES && looks_random(&bytes) && frame::looks_incompressible(&bytes);
        Piece { extent: Extent { length, kind: ExtentKind::Data(id) }, bytes, incompressible }
    }
}

/// A hole of this length.
pub fn hole(length: u64) -> Piece {
    Piece { extent: Extent { length, kind: ExtentKind::Hole }, bytes: Bytes::new(), incompressible: false }
}

fn is_zero(bytes: &[u8]) -> bool {
    // Most data ends this at its first word.
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| *word == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}

/// A glance at 1 KiB before the real probe: text uses fewer than 120 byte values there, random data about 250.
fn looks_random(bytes: &[u8]) -> bool {
    let middle = bytes.len() / 2;
    let sample = &bytes[middle..(middle + 1024).min(bytes.len())];
    let mut seen = [false; 256];
    sample.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count() > 200
}

/// Reads a small file to the end of `buffer`, again if it changed meanwhile.
fn read_small(file: &FileJob, buffer: &mut Vec<u8>) -> Result<Raw, ReadFailure> {
    let fail = |during| move |error| ReadFailure { during, error };
    let mut open = file.directory.open_file(&file.entry).map_err(fail("opening the file"))?;
    let start = buffer.len();
    let mut read_bytes = 0;
    for attempt in 1.. {
        buffer.truncate(start);
        let mut metadata = open.metadata().map_err(fail("looking at the file"))?;
        // It may have become any size since it was listed, and memory was taken for a small file.
        let limit = metadata.size.min(UNIT_BYTES as u64);
        let regions = read_regions(open.as_mut(), limit, buffer).map_err(fail("reading the file"))?;
        read_bytes += (buffer.len() - start) as u64;
        let length = regions.iter().map(Region::length).sum::<u64>();
        let after = open.metadata().map_err(fail("looking at the file again"))?;
        let stability = Stability::of(&metadata, &after, length);
        if stability == Stability::Changed && attempt < ATTEMPTS {
            continue;
        }
        metadata.unstable = stability == Stability::Changed;
        metadata.size = length;
        let details = open.details().map_err(fail("reading the file's attributes"))?;
        return Ok(Raw { metadata, details, regions, read_bytes });
    }
    unreachable!("the last attempt returns")
}

/// What a second look at a file says of the bytes read before it.
#[derive(Debug, PartialEq, Eq)]
pub enum Stability {
    /// Nothing happened.
    Same,
    /// It grew behind what was read: a log. The bytes read are one true state of it.
    Grew,
    /// It changed.
    Changed,
}

impl Stability {
    /// Compares two looks at a file of which `length` bytes were read between them.
    pub fn of(before: &Metadata, after: &Metadata, length: u64) -> Self {
        if after.size > before.size && length == before.size {
            Self::Grew
        } else if (before.size, before.modified, before.changed) == (after.size, after.modified, after.changed)
            && length == before.size
        {
            Self::Same
        } else {
            Self::Changed
        }
    }
}

impl Region {
    fn length(&self) -> u64 {
        match self {
            Self::Data(range) => range.len() as u64,
            Self::Hole(length) => *length,
        }
    }
}

/// Reads the data of a file of `size` bytes, and notes its holes.
fn read_regions(file: &mut dyn SourceFile, size: u64, buffer: &mut Vec<u8>) -> io::Result<Vec<Region>> {
    let mut regions = Vec::new();
    let mut position = 0;
    while position < size {
        let Some((start, end)) = file.next_data(position, size)? else {
            regions.push(Region::Hole(size - position));
            break;
        };
        let (start, end) = (start.clamp(position, size), end.min(size));
        if start > position {
            regions.push(Region::Hole(start - position));
        }
        let from = buffer.len();
        buffer.resize(from + (end - start) as usize, 0);
        let read = read_fully(file, start, &mut buffer[from..])?;
        buffer.truncate(from + read);
        if read > 0 {
            regions.push(Region::Data(from..from + read));
        }
        if (read as u64) < end - start {
            break; // it became shorter
        }
        position = end;
    }
    Ok(regions)
}

/// Fills `buffer` from `offset` on, or up to the file's end.
pub fn read_fully(file: &mut dyn SourceFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(offset + filled as u64, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
