//! Makes a repository of many chunks, for measurements of what an index of them costs.
//!
//! Two snapshots of one stream, each by the real backup, and everything of a two hundred and fifty-sixth of its usual size:
//! chunks, frames and packs. So chunks, frames and packs are as many, and each index as large, as with so many chunks of
//! the usual size. The second snapshot has none of the first half of the first, and three quarters of its second half, piece
//! by piece: without the first snapshot half of the packs hold nothing that is needed, and the others a quarter too much.

use std::error::Error;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use blake3::{Hasher, OutputReader};
use repo_core::{BackupOptions, ChunkerParameters, InitOptions, Local, ReaderSource, Repository, Secret, Silent};

const USAGE: &str = "\
Usage: many_chunks DIR CHUNKS

Makes a repository in DIR with about so many chunks of content in two snapshots. Its password is
that of ICECORE_PASSWORD. Takes about 650 bytes of disk a chunk.
";

/// Smaller than usual by so much.
const FACTOR: u32 = 256;
const CHUNK_BYTES: u32 = (128 << 10) / FACTOR;
const FRAME_BYTES: u32 = (1 << 20) / FACTOR;
/// The least there is; 48 KiB would be in proportion.
const PACK_BYTES: u32 = 64 << 10;
/// What is as in the other snapshot, or not: an eighth of a pack.
const PIECE_BYTES: u64 = PACK_BYTES as u64 / 8;
/// What the chunker makes of noise, on the average.
const MEAN_CHUNK_BYTES: u64 = CHUNK_BYTES as u64 * 9 / 8;

/// Noise, piece by piece.
struct Stream {
    /// The first snapshot is 0, the second 1.
    version: u64,
    pieces: u64,
    piece: u64,
    noise: OutputReader,
    left: u64,
}

impl Stream {
    fn new(version: u64, pieces: u64) -> Self {
        Self { version, pieces, piece: 0, noise: Hasher::new().finalize_xof(), left: 0 }
    }

    fn begin_piece(&mut self) {
        let is_new = self.piece < self.pieces / 2 || self.piece.is_multiple_of(4);
        let version = if is_new { self.version } else { 0 };
        self.noise = Hasher::new().update(&version.to_le_bytes()).update(&self.piece.to_le_bytes()).finalize_xof();
        self.left = PIECE_BYTES;
        self.piece += 1;
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            if self.piece == self.pieces {
                return Ok(0);
            }
            self.begin_piece();
        }
        let length = self.left.min(buffer.len() as u64);
        self.noise.fill(&mut buffer[..length as usize]);
        self.left -= length;
        Ok(length as usize)
    }
}

fn make(directory: &str, chunks: u64) -> Result<(), Box<dyn Error>> {
    let password = std::env::var("ICECORE_PASSWORD").map_err(|_| "ICECORE_PASSWORD is not set")?;
    let secret = Secret::password(password);
    let mut options =
        InitOptions::new().frame_target_bytes(FRAME_BYTES).pack_data_bytes(PACK_BYTES).level(1).parity_percent(0);
    options.chunker = ChunkerParameters {
        min_bytes: options.chunker.min_bytes / FACTOR,
        average_bytes: options.chunker.average_bytes / FACTOR,
        max_bytes: options.chunker.max_bytes / FACTOR,
        ..options.chunker
    };
    let repository = Repository::init(Arc::new(Local::new(directory)), &secret, &options)?;
    // Of 13 chunks 8 are of the first snapshot, and 5 new in the second.
    let pieces = (chunks * MEAN_CHUNK_BYTES * 8 / 13).div_ceil(PIECE_BYTES);
    let options = BackupOptions::new().without_verification();
    for version in [0, 1] {
        let source = ReaderSource::new(Path::new("stream"), Stream::new(version, pieces));
        let report = repository.backup(&source, &options, &Silent)?;
        eprintln!("snapshot {version}: {:?}", report.summary);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, chunks] = arguments.as_slice() else {
        eprint!("{USAGE}");
        std::process::exit(2);
    };
    make(directory, chunks.parse()?)
}
