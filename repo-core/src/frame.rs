//! Many chunks, one compressed frame; and the probe that tells what does not compress.

use crate::error::Corruption;
use crate::format::pack::Codec;

/// A compressor and a decompressor with their memory, one a worker: making a context costs more than a small frame.
pub struct FrameCodec {}

impl std::fmt::Debug for FrameCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameCodec")
    }
}

impl FrameCodec {
    pub fn new(_level: i32) -> Self {
        todo!()
    }

    /// Appends the compressed form of `raw` to `out`, or `raw` itself where that saves less than 3 %.
    pub fn compress(&mut self, _raw: &[u8], _out: &mut Vec<u8>) -> Codec {
        todo!()
    }

    /// Exactly `raw_length` bytes, else an error; never allocates more.
    pub fn decompress(&mut self, _codec: Codec, _stored: &[u8], _raw_length: usize) -> Result<Vec<u8>, Corruption> {
        todo!()
    }
}

/// Whether three 4 KiB samples say that `raw` does not compress. Used to let such chunks fill frames of their own.
pub fn looks_incompressible(_raw: &[u8]) -> bool {
    todo!()
}
