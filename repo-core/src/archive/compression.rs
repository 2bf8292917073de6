//! What an archive is compressed in: told by its first bytes when it is read, chosen when it is written.

use std::io::{self, Cursor, Read, Write};

use flate2::read::MultiGzDecoder;
use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use super::malformed;

/// zstd's window: what its own program accepts without being asked twice, 128 MiB.
const WINDOW_LOG_MAX: u32 = 27;

/// The level of zstd's own program.
const LEVEL: i32 = 3;

/// Writes as it is, or compressed.
pub enum Compressor<W: Write> {
    Plain(W),
    Zstd(Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// By zstd, with a checksum.
    pub fn zstd(out: W) -> io::Result<Self> {
        let mut encoder = Encoder::new(out, LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self::Zstd(encoder))
    }

    /// Ends the compressed stream.
    pub fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut out) => out.flush(),
            Self::Zstd(encoder) => encoder.finish()?.flush(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Of what is compressed nothing: each flush would cost room.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Zstd(_) => Ok(()),
        }
    }
}

impl<W: Write> std::fmt::Debug for Compressor<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Zstd(_) => "Zstd",
        })
    }
}

/// What others begin with, and the program that undoes it.
const FOREIGN: [(&[u8], &str, &str); 5] = [
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    (b"\x1f\x9d", "compress", "gzip -dc"),
    (b"LZIP", "lzip", "lzip -dc"),
];

/// The plain bytes behind a reader: gzip and zstd are undone, what has no such beginning is taken as it is.
pub fn undone(mut input: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::new();
    (&mut input).take(6).read_to_end(&mut head)?;
    let begins = |magic: &[u8]| head.starts_with(magic);
    for (magic, name, program) in FOREIGN {
        if begins(magic) {
            return Err(malformed(format!(
                "it is compressed by {name}: give it uncompressed, by `{program}` in a pipe"
            )));
        }
    }
    if begins(b"PK\x03\x04") {
        return Err(malformed("it is a zip archive, and no tar"));
    }
    let (is_zstd, is_gzip) = (begins(b"\x28\xb5\x2f\xfd"), begins(b"\x1f\x8b"));
    let whole = Cursor::new(head).chain(input);
    if is_zstd {
        let mut decoder = Decoder::new(whole)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        return Ok(Box::new(decoder));
    }
    if is_gzip {
        return Ok(Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(64 << 10, whole))));
    }
    Ok(Box::new(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        undone(Box::new(Cursor::new(bytes)))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn gzip_and_zstd_are_undone_whole_and_others_are_named() {
        let text = b"some text, ".repeat(10_000);
        let zstd = |part: &[u8]| zstd::encode_all(part, 3).unwrap();
        let gzip = |part: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(part).unwrap();
            out.finish().unwrap()
        };
        assert_eq!(read(text.clone()).unwrap(), text);
        assert_eq!(read(b"abc".to_vec()).unwrap(), b"abc");
        assert_eq!(read(Vec::new()).unwrap(), b"");
        // Several after one another are one stream, as their programs have it.
        let (first, second) = text.split_at(1234);
        assert_eq!(read([zstd(first), zstd(second)].concat()).unwrap(), text);
        assert_eq!(read([gzip(first), gzip(second)].concat()).unwrap(), text);
        for whole in [zstd(&text), gzip(&text)] {
            assert!(read(whole[..whole.len() - 3].to_vec()).is_err(), "cut short");
        }
        for (magic, name, _) in FOREIGN {
            let told = read([magic, b"more"].concat()).unwrap_err().to_string();
            assert!(told.contains(name), "{told}");
        }
    }
}
