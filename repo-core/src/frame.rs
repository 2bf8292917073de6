//! Many chunks, one compressed frame; and the probe that tells what does not compress.

use std::cell::RefCell;
use std::io::Cursor;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

use crate::error::Corruption;
use crate::format::FRAME_RAW_BYTES_MAX;
use crate::format::pack::Codec;

/// The highest zstd level whose window, 2^23 bytes, the format allows.
const LEVEL_MAX: i32 = 19;

/// The default level. zstd sizes its tables for small memory; twice the entries find more in a frame of 1 MiB
/// (docs/design.md, "Level").
const LEVEL_OF_TABLES: i32 = 3;
const TABLES: [CParameter; 2] = [CParameter::HashLog(18), CParameter::ChainLog(17)];

/// Below this the probe costs about as much as compressing.
const PROBE_MIN_BYTES: usize = 64 << 10;
const PROBE_SAMPLE_BYTES: usize = 4 << 10;

/// A compressor and a decompressor with their memory, one a worker: making a context costs more than a small frame.
pub struct FrameCodec {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    stores_raw: bool,
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
            stores_raw: false,
            scratch: [Vec::new(), Vec::new()],
        }
    }

    /// From now on compresses nothing, or again what gets smaller by it. Frames of both kinds lie side by side.
    pub fn store_raw(&mut self, raw: bool) {
        self.stores_raw = raw;
    }

    /// Appends the compressed form of `raw` to `out`, or `raw` itself where that saves less than 3 %.
    pub fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Codec {
        let start = out.len();
        if self.stores_raw || looks_incompressible(raw) {
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
    if level == LEVEL_OF_TABLES {
        for table in TABLES {
            compressor.set_parameter(table).expect("zstd knows this parameter");
        }
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::testing::{noise, text};

    fn compress(raw: &[u8]) -> (Codec, Vec<u8>) {
        let mut out = Vec::new();
        let codec = FrameCodec::new(3).compress(raw, &mut out);
        (codec, out)
    }

    fn decompress(codec: Codec, stored: &[u8], raw_length: usize) -> Result<Vec<u8>, Corruption> {
        FrameCodec::new(3).decompress(codec, stored, raw_length)
    }

    #[test]
    fn text_is_compressed_and_noise_is_not() {
        let prose = text(1, 300_000);
        let (codec, stored) = compress(&prose);
        assert!(codec == Codec::Zstd && stored.len() < prose.len() / 2);
        assert_eq!(decompress(codec, &stored, prose.len()).unwrap(), prose);
        for length in [1, 100, 5_000, 70_000, 300_000] {
            let random = noise(1, length);
            assert_eq!(compress(&random), (Codec::Raw, random));
        }
    }

    #[test]
    fn the_probe_sees_start_middle_and_end() {
        let random = noise(1, 1 << 20);
        assert!(looks_incompressible(&random));
        let last = random.len() - PROBE_SAMPLE_BYTES;
        for offset in [0, last / 2, last] {
            let mut sampled = random.clone();
            sampled[offset..][..PROBE_SAMPLE_BYTES].fill(b'a');
            assert!(!looks_incompressible(&sampled), "the sample at {offset}");
        }
        // Between the samples nothing is looked at: that is the bargain.
        let mut between = random.clone();
        between[PROBE_SAMPLE_BYTES..last / 2].fill(b'a');
        assert!(looks_incompressible(&between));
        assert_eq!(compress(&between).0, Codec::Raw);
        assert!(!looks_incompressible(&random[..PROBE_MIN_BYTES - 1]));
        assert!(looks_incompressible(&random[..PROBE_MIN_BYTES]));
    }

    /// 2 % of zeros in the middle are found by no sample of a frame below 64 KiB, only by the full pass.
    #[test]
    fn what_saves_less_than_three_percent_is_stored_raw() {
        let mut raw = noise(1, 50_000);
        raw[..1_000].fill(0);
        assert_eq!(compress(&raw).0, Codec::Raw);
        raw[..5_000].fill(0);
        assert_eq!(compress(&raw).0, Codec::Zstd);
    }

    #[test]
    fn what_stands_before_in_the_buffer_stays() {
        for raw in [text(1, 10_000), noise(1, 10_000), noise(1, 100_000)] {
            let mut out = b"before".to_vec();
            let codec = FrameCodec::new(3).compress(&raw, &mut out);
            assert_eq!(out[..6], *b"before");
            assert_eq!(decompress(codec, &out[6..], raw.len()).unwrap(), raw);
        }
    }

    #[test]
    fn frames_say_their_length_and_carry_no_checksum() {
        for level in [-5, 1, 3, 19, 22] {
            let raw = text(1, 200_000);
            let mut out = Vec::new();
            FrameCodec::new(level).compress(&raw, &mut out);
            let descriptor = out[4];
            assert_eq!(descriptor & 0b100, 0, "no checksum");
            assert_ne!(descriptor >> 6, 0, "content size in four bytes or more");
            assert!(matches!(zstd_safe::get_frame_content_size(&out), Ok(Some(200_000))));
        }
    }

    /// Level 22's own window is 2^27, for which this format's readers need not have memory.
    #[test]
    fn no_level_asks_for_a_window_over_8_mib() {
        let mut out = Vec::new();
        FrameCodec::new(22).compress(&vec![0; 9 << 20], &mut out);
        let (descriptor, window) = (out[4], out[5]);
        assert_eq!(descriptor & 0b10_0000, 0, "the window is less than the content");
        assert!(10 + (window >> 3) <= 23, "2^{}", 10 + (window >> 3));
    }

    /// 64 MiB of zeros in some kilobytes, with all lengths that a liar might give.
    #[test]
    fn a_zip_bomb_is_refused_without_its_memory() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
        let mut codec = FrameCodec::new(3);
        for says in [0, 1, 1_000, 16 << 20] {
            let mut raw = Vec::new();
            codec.decompress_into(Codec::Zstd, &bomb, says, &mut raw).unwrap_err();
            assert!(raw.capacity() <= 16 << 20);
        }
        assert_eq!(codec.decompress(Codec::Zstd, &bomb, 64 << 20), Err(Corruption::OverLimit("frame length")));
        // A frame that does not say its length, made by streaming, is none of ours.
        let silent = zstd::encode_all(&[0; 1000][..], 3).unwrap();
        codec.decompress(Codec::Zstd, &silent, 1000).unwrap_err();
    }

    #[test]
    fn another_length_a_tail_or_a_cut_is_refused() {
        for (codec, stored, length) in
            [(Codec::Zstd, compress(&text(1, 5_000)).1, 5_000), (Codec::Raw, vec![7; 50], 50)]
        {
            decompress(codec, &stored, length).unwrap();
            for wrong in [0, length - 1, length + 1] {
                decompress(codec, &stored, wrong).unwrap_err();
            }
            decompress(codec, &stored[..stored.len() - 1], length).unwrap_err();
            decompress(codec, &[&stored[..], &[0]].concat(), length).unwrap_err();
            decompress(codec, &[&stored[..], &compress(&text(2, 100)).1].concat(), length).unwrap_err();
        }
    }

    #[test]
    fn a_reused_buffer_holds_the_last_frame_only() {
        let mut codec = FrameCodec::new(3);
        let mut raw = Vec::new();
        for length in [100_000, 50, 70_000] {
            let prose = text(length as u64, length);
            let (kind, stored) = compress(&prose);
            codec.decompress_into(kind, &stored, length, &mut raw).unwrap();
            assert_eq!(raw, prose);
        }
    }

    proptest! {
        #[test]
        fn damage_gives_an_error_or_other_bytes_but_never_a_panic(
            place in 0..4_000_usize, bit in 0..8_u8, cut in 0..4_000_usize
        ) {
            let mut stored = compress(&text(1, 10_000)).1;
            let place = place % stored.len();
            stored[place] ^= 1 << bit;
            if let Ok(raw) = decompress(Codec::Zstd, &stored, 10_000) {
                prop_assert_eq!(raw.len(), 10_000);
            }
            prop_assert!(decompress(Codec::Zstd, &stored[..cut % stored.len()], 10_000).is_err());
        }
    }
}
