//! zip, outwards, to a stream that cannot go back (PKWARE's APPNOTE 6.3.10, and Info-ZIP's extra fields).
//!
//! Files are deflated; their lengths follow them in data descriptors. What is larger than the old fields hold is told by
//! ZIP64. Times and owners are in Info-ZIP's fields `UT` and `ux`, modes in the upper half of the external attributes. A
//! name that is not UTF-8 stands as it is, without the flag that says it were.
//!
//! The directory at the archive's end is kept in memory until then: about 100 bytes an entry, and its name.

use std::io::{self, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use super::malformed;
use crate::calendar;
use crate::format::tree::{Metadata, NodeKind, Timestamp};

/// Files from here on get ZIP64 at once: deflating can make them a little longer.
const LARGE_BYTES: u64 = 0xf000_0000;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const HAS_DESCRIPTOR: u16 = 1 << 3;
const IS_UTF8: u16 = 1 << 11;
/// What a reader must know: directories and deflate, or ZIP64.
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;
/// Made on Unix.
const MADE_BY: u16 = 3 << 8 | VERSION_64;
const TOO_LARGE: u32 = u32::MAX;

/// Writes an archive.
pub struct ZipWriter<W: Write> {
    out: W,
    position: u64,
    /// The directory's records so far.
    directory: Vec<u8>,
    entries: u64,
    file: Option<File>,
}

/// The file whose content is being given.
struct File {
    record: Record,
    deflate: DeflateEncoder<Vec<u8>>,
    crc: Crc,
    is_large: bool,
}

/// What the directory says of an entry.
struct Record {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    date: u32,
    crc: u32,
    stored_bytes: u64,
    bytes: u64,
    attributes: u32,
    offset: u64,
    /// Times and owner.
    extra: Vec<u8>,
}

impl<W: Write> ZipWriter<W> {
    pub fn new(out: W) -> Self {
        Self { out, position: 0, directory: Vec::new(), entries: 0, file: None }
    }

    /// Begins an entry: a file, whose content then comes, a directory, or a symlink with its target.
    pub fn entry(&mut self, path: &[u8], metadata: &Metadata, target: &[u8]) -> io::Result<()> {
        self.end_file()?;
        let slash: &[u8] = if metadata.kind == NodeKind::Directory { b"/" } else { b"" };
        let name = [path, slash].concat();
        if name.len() > usize::from(u16::MAX) {
            return Err(malformed("a path is too long for a zip archive"));
        }
        let is_text = std::str::from_utf8(&name).is_ok() && !name.is_ascii();
        let kind_bits = match metadata.kind {
            NodeKind::Directory => 0o040_000,
            NodeKind::Symlink => 0o120_000,
            _ => 0o100_000,
        };
        let is_file = metadata.kind == NodeKind::File && metadata.size > 0;
        let mut crc = Crc::new();
        crc.update(target);
        let record = Record {
            name,
            flags: if is_text { IS_UTF8 } else { 0 } | if is_file { HAS_DESCRIPTOR } else { 0 },
            method: if is_file { DEFLATED } else { STORED },
            date: dos_date(metadata.modified),
            crc: crc.sum(),
            stored_bytes: target.len() as u64,
            bytes: target.len() as u64,
            attributes: (kind_bits | metadata.mode) << 16 | if slash.is_empty() { 0 } else { 0x10 },
            offset: self.position,
            extra: extra(metadata),
        };
        let is_large = is_file && metadata.size >= LARGE_BYTES;
        let local = record.local(is_large);
        self.put(&local)?;
        if is_file {
            let deflate = DeflateEncoder::new(Vec::new(), Compression::default());
            self.file = Some(File { record, deflate, crc: Crc::new(), is_large });
            return Ok(());
        }
        self.put(target)?;
        self.note(&record);
        Ok(())
    }

    /// A part of the last file's content.
    pub fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return if bytes.is_empty() { Ok(()) } else { Err(io::Error::other("content of what has none")) };
        };
        file.crc.update(bytes);
        file.record.bytes += bytes.len() as u64;
        file.deflate.write_all(bytes)?;
        let ready = std::mem::take(file.deflate.get_mut());
        file.record.stored_bytes += ready.len() as u64;
        self.put(&ready)
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_file()?;
        let (offset, length) = (self.position, self.directory.len() as u64);
        let directory = std::mem::take(&mut self.directory);
        self.put(&directory)?;
        let end = end(offset, length, self.entries);
        self.put(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn end_file(&mut self) -> io::Result<()> {
        let Some(File { mut record, deflate, crc, is_large }) = self.file.take() else { return Ok(()) };
        let last = deflate.finish()?;
        record.stored_bytes += last.len() as u64;
        record.crc = crc.sum();
        self.put(&last)?;
        if !is_large && record.bytes.max(record.stored_bytes) >= u64::from(TOO_LARGE) {
            return Err(io::Error::other("a file is larger than its size says"));
        }
        let mut descriptor = b"PK\x07\x08".to_vec();
        descriptor.extend_from_slice(&record.crc.to_le_bytes());
        for bytes in [record.stored_bytes, record.bytes] {
            match is_large {
                true => descriptor.extend_from_slice(&bytes.to_le_bytes()),
                false => descriptor.extend_from_slice(&(bytes as u32).to_le_bytes()),
            }
        }
        self.put(&descriptor)?;
        self.note(&record);
        Ok(())
    }

    fn note(&mut self, record: &Record) {
        record.central(&mut self.directory);
        self.entries += 1;
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

impl Record {
    fn local(&self, is_large: bool) -> Vec<u8> {
        let follows = self.flags & HAS_DESCRIPTOR != 0;
        let mut extra = Vec::new();
        if is_large {
            // Says that the descriptor has long numbers; what they are comes there.
            put_field(&mut extra, 1, &[0; 16]);
        }
        extra.extend_from_slice(&self.extra);
        let size = |bytes: u64| {
            if is_large {
                TOO_LARGE
            } else if follows {
                0
            } else {
                bytes as u32
            }
        };
        let mut out = b"PK\x03\x04".to_vec();
        out.extend_from_slice(&if is_large { VERSION_64 } else { VERSION }.to_le_bytes());
        self.common(&mut out, if follows { 0 } else { self.crc }, size(self.stored_bytes), size(self.bytes));
        out.extend_from_slice(&(extra.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&extra);
        out
    }

    fn central(&self, out: &mut Vec<u8>) {
        let mut long = Vec::new();
        let mut short = |bytes: u64| match u32::try_from(bytes).ok().filter(|bytes| *bytes != TOO_LARGE) {
            Some(bytes) => bytes,
            None => {
                long.extend_from_slice(&bytes.to_le_bytes());
                TOO_LARGE
            }
        };
        // In this order the long numbers stand.
        let (bytes, stored_bytes, offset) = (short(self.bytes), short(self.stored_bytes), short(self.offset));
        let mut extra = Vec::new();
        if !long.is_empty() {
            put_field(&mut extra, 1, &long);
        }
        extra.extend_from_slice(&self.extra);
        out.extend_from_slice(b"PK\x01\x02");
        out.extend_from_slice(&MADE_BY.to_le_bytes());
        out.extend_from_slice(&if long.is_empty() { VERSION } else { VERSION_64 }.to_le_bytes());
        self.common(out, self.crc, stored_bytes, bytes);
        out.extend_from_slice(&(extra.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0; 6]); // no comment, first disk, no text
        out.extend_from_slice(&self.attributes.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&extra);
    }

    /// What both kinds of records have in the middle.
    fn common(&self, out: &mut Vec<u8>, crc: u32, stored_bytes: u32, bytes: u32) {
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.method.to_le_bytes());
        for number in [self.date, crc, stored_bytes, bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
    }
}

/// The end of the directory that begins at `offset`; in both forms where the short one cannot say it.
fn end(offset: u64, length: u64, entries: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let is_large = entries >= u64::from(u16::MAX) || offset.max(length) >= u64::from(TOO_LARGE);
    if is_large {
        out.extend_from_slice(b"PK\x06\x06");
        out.extend_from_slice(&44u64.to_le_bytes());
        out.extend_from_slice(&MADE_BY.to_le_bytes());
        out.extend_from_slice(&VERSION_64.to_le_bytes());
        out.extend_from_slice(&[0; 8]); // this disk, and that of the directory
        for number in [entries, entries, length, offset] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(b"PK\x06\x07");
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(offset + length).to_le_bytes());
        out.extend_from_slice(&1u32.to_le_bytes());
    }
    let entries = u16::try_from(entries).unwrap_or(u16::MAX);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        out.extend_from_slice(&entries.to_le_bytes());
    }
    for number in [length, offset] {
        out.extend_from_slice(&u32::try_from(number).unwrap_or(TOO_LARGE).to_le_bytes());
    }
    out.extend_from_slice(&[0; 2]);
    out
}

fn put_field(out: &mut Vec<u8>, id: u16, bytes: &[u8]) {
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Info-ZIP's fields: the time in seconds where 32 bits hold it, and the owner.
fn extra(metadata: &Metadata) -> Vec<u8> {
    let mut out = Vec::new();
    if let Ok(seconds) = i32::try_from(metadata.modified.seconds) {
        put_field(&mut out, 0x5455, &[&[1][..], &seconds.to_le_bytes()].concat());
    }
    let (uid, gid) = (metadata.uid.to_le_bytes(), metadata.gid.to_le_bytes());
    put_field(&mut out, 0x7875, &[&[1, 4][..], &uid, &[4], &gid].concat());
    out
}

/// Date and time as DOS has them, in steps of two seconds, from 1980 to 2107; of UTC, since an archive has no zone.
fn dos_date(time: Timestamp) -> u32 {
    let (first, last) = (315_532_800, 4_354_819_199);
    let seconds = time.seconds.clamp(first, last);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = calendar::date(days);
    let date = (year - 1980) << 9 | month << 5 | day;
    let time = ((second / 3600) << 11) | ((second / 60 % 60) << 5) | (second % 60 / 2);
    (date << 16 | time) as u32
}

impl<W: Write> std::fmt::Debug for ZipWriter<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ZipWriter").field("position", &self.position).field("entries", &self.entries).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_dos_are_those_of_the_calendar() {
        let at = |seconds| dos_date(Timestamp { seconds, nanoseconds: 0 });
        let date = |year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32| {
            (((year - 1980) << 9 | month << 5 | day) << 16) | (hour << 11) | (minute << 5) | (second / 2)
        };
        assert_eq!(at(0), date(1980, 1, 1, 0, 0, 0));
        assert_eq!(at(951_782_399), date(2000, 2, 28, 23, 59, 58));
        assert_eq!(at(951_782_400), date(2000, 2, 29, 0, 0, 0));
        assert_eq!(at(1_700_000_000), date(2023, 11, 14, 22, 13, 20));
        assert_eq!(at(i64::MAX), date(2107, 12, 31, 23, 59, 58));
    }

    #[test]
    fn what_does_not_fit_short_fields_stands_in_long_ones() {
        assert_eq!(end(10, 20, 3).len(), 22);
        let large = end(1 << 40, 20, 3);
        assert_eq!(large.len(), 56 + 20 + 22);
        assert!(large.windows(8).any(|bytes| bytes == (1u64 << 40).to_le_bytes()));
        assert_eq!(end(10, 20, 65_535).len(), 56 + 20 + 22);
    }
}
