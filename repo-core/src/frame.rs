//! Many chunks, one compressed frame; and the probe that tells what does not compress.

use std::cell::RefCell;
use std::io::Cursor;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::error::Corruption;
use crate::format::FRAME_RAW_BYTES_MAX;
use crate::format::pack::Codec;

/// The highest zstd level whose window, 2^23 bytes, the format allows.
const LEVEL_MAX: i32 = 19;

/// Below this the probe costs about as much as compressing.
const PROBE_MIN_BYTES: usize = 64 << 10;
const PROBE_SAMPLE_BYTES: usize = 4 << 10;

/// A compressor and a decompressor with their memory, one a worker: making a context costs more than a small frame.
pub struct FrameCodec {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    /// What [`Self::take_scratch`] lends.
    scratch: [Vec<u8>; 2],
}

impl std::fmt::Debug for FrameCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameCodec")
    }
}

impl FrameCodec {
    /// `level` is zstd's, 1 to 19; others are taken to the nearest.
    pub fn new(level: i32) -> Self {
        Self {
            compressor: compressor(level.clamp(1, LEVEL_MAX)),
            decompressor: Decompressor::new().expect("a context without dictionary has nothing to refuse"),
            scratch: [Vec::new(), Vec::new()],
        }
    }

    /// Appends the compressed form of `raw` to `out`, or `raw` itself where that saves less than 3 %.
    pub fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Codec {
        let start = out.len();
        if looks_incompressible(raw) {
            out.extend_from_slice(raw);
            return Codec::Raw;
        }
        // With this much room zstd compresses straight into `out`, and cannot fail for want of it.
        out.reserve(zstd_safe::compress_bound(raw.len()));
        let mut place = Cursor::new(&mut *out);
        place.set_position(start as u64);
        match self.compressor.compress_to_buffer(raw, &mut place) {
            Ok(length) if saves_enough(length, raw.len()) => Codec::Zstd,
            _ => {
                out.truncate(start);
                out.extend_from_slice(raw);
                Codec::Raw
            }
        }
    }

    /// Exactly `raw_length` bytes, else an error; never allocates more.
    pub fn decompress(&mut self, codec: Codec, stored: &[u8], raw_length: usize) -> Result<Vec<u8>, Corruption> {
        let mut raw = Vec::new();
        self.decompress_into(codec, stored, raw_length, &mut raw)?;
        Ok(raw)
    }

    /// Like [`decompress`](Self::decompress), into a buffer that serves many times.
    pub fn decompress_into(
        &mut self,
        codec: Codec,
        stored: &[u8],
        raw_length: usize,
        raw: &mut Vec<u8>,
    ) -> Result<(), Corruption> {
        if raw_length > FRAME_RAW_BYTES_MAX as usize {
            return Err(Corruption::OverLimit("frame length"));
        }
        raw.clear();
        match codec {
            Codec::Raw if stored.len() == raw_length => {
                raw.extend_from_slice(stored);
                return Ok(());
            }
            Codec::Raw => return Err(Corruption::Malformed("frame length")),
            Codec::Zstd => {}
        }
        check_zstd_frame(stored, raw_length)?;
        // zstd stops at the buffer's end and at the length that the frame says, which was just compared (a "zip bomb").
        // It decodes straight into the buffer, so that no window is allocated either, whatever the frame asks for.
        raw.reserve_exact(raw_length);
        match self.decompressor.decompress_to_buffer(stored, raw) {
            Ok(length) if length == raw_length => Ok(()),
            _ => Err(Corruption::Malformed("zstd frame")),
        }
    }

    /// Two empty buffers that keep their memory; give them back with [`Self::return_scratch`].
    pub(crate) fn take_scratch(&mut self) -> [Vec<u8>; 2] {
        std::mem::take(&mut self.scratch)
    }

    pub(crate) fn return_scratch(&mut self, mut scratch: [Vec<u8>; 2]) {
        scratch.iter_mut().for_each(Vec::clear);
        self.scratch = scratch;
    }
}

/// One whole zstd frame and nothing behind it, that says the length which the table says.
fn check_zstd_frame(stored: &[u8], raw_length: usize) -> Result<(), Corruption> {
    let says_length =
        matches!(zstd_safe::get_frame_content_size(stored), Ok(Some(length)) if length == raw_length as u64);
    let one_frame = zstd_safe::find_frame_compressed_size(stored) == Ok(stored.len());
    if says_length && one_frame { Ok(()) } else { Err(Corruption::Malformed("zstd frame")) }
}

/// Frames say their length, which decoding checks; they carry no checksum, since GCM authenticates them.
fn compressor(level: i32) -> Compressor<'static> {
    let mut compressor = Compressor::new(level).expect("a context without dictionary has nothing to refuse");
    compressor.include_checksum(false).expect("zstd knows this parameter");
    compressor.include_contentsize(true).expect("zstd knows this parameter");
    compressor
}

/// Whether compression saves at least 3 %: less is not worth decompressing.
fn saves_enough(stored_length: usize, raw_length: usize) -> bool {
    stored_length as u64 * 100 <= raw_length as u64 * 97
}

thread_local! {
    /// One small context a thread, since the probe is asked for every larger chunk.
    static PROBE: RefCell<Compressor<'static>> = RefCell::new(compressor(1));
}

/// Whether three 4 KiB samples, from start, middle and end, say that `raw` does not compress: together they save less
/// than 3 % at level 1. Used to let such chunks fill frames of their own. Never says so of less than 64 KiB.
pub fn looks_incompressible(raw: &[u8]) -> bool {
    if raw.len() < PROBE_MIN_BYTES {
        return false;
    }
    let last = raw.len() - PROBE_SAMPLE_BYTES;
    let mut out = [0; PROBE_SAMPLE_BYTES];
    let compressed_bytes = [0, last / 2, last].map(|offset| {
        let sample = &raw[offset..][..PROBE_SAMPLE_BYTES];
        // No room for more than the sample itself: that is an error, and says as much as "no smaller".
        PROBE.with_borrow_mut(|probe| probe.compress_to_buffer(sample, &mut out[..])).unwrap_or(PROBE_SAMPLE_BYTES)
    });
    !saves_enough(compressed_bytes.iter().sum(), 3 * PROBE_SAMPLE_BYTES)
}
