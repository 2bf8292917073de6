//! Records in any order, given back sorted: in memory as long as they are few, else in sorted runs in a file, which are
//! merged. What is in a record is the caller's business.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::platform::files;

/// What is held in memory before it is sorted and written.
const RUN_BYTES: usize = 32 << 20;
/// What is read at once of each run.
const READ_BYTES: usize = 64 << 10;
/// Bytes of a record in memory besides its key and what it says.
const SPAN_BYTES: usize = size_of::<Span>();

/// Takes records, then gives them in order of their keys; of one key in the order in which they came.
#[derive(Debug)]
pub struct Spool {
    directory: Option<PathBuf>,
    run_bytes: usize,
    /// Keys and what they stand for, back to back.
    bytes: Vec<u8>,
    spans: Vec<Span>,
    sequence: u64,
    file: Option<File>,
    /// Where each run lies in the file, `start..end`.
    runs: Vec<(u64, u64)>,
}

/// One record in memory.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    key_length: u32,
    length: u32,
    sequence: u64,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub key: Vec<u8>,
    /// The how-manieth it was.
    pub sequence: u64,
    pub value: Vec<u8>,
}

/// The next record of each run, with the run's number; the least first.
type Heads = BinaryHeap<Reverse<(Record, usize)>>;

impl Spool {
    /// An empty one. Without a directory everything stays in memory.
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            run_bytes: RUN_BYTES,
            bytes: Vec::new(),
            spans: Vec::new(),
            sequence: 0,
            file: None,
            runs: Vec::new(),
        }
    }

    /// What the next record's number will be.
    pub fn next_sequence(&self) -> u64 {
        self.sequence
    }

    /// Takes a record.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let limit = |_| Error::Limit { what: "the length of a record".to_owned(), limit: u32::MAX.into() };
        let (key_length, length) =
            (u32::try_from(key.len()).map_err(limit)?, u32::try_from(value.len()).map_err(limit)?);
        self.spans.push(Span { start: self.bytes.len(), key_length, length, sequence: self.sequence });
        self.sequence += 1;
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        if self.bytes.len() + self.spans.len() * SPAN_BYTES >= self.run_bytes && self.directory.is_some() {
            self.write_run().map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    /// All records in order. May be asked for again.
    pub fn sorted(&mut self) -> Result<Sorted<'_>> {
        if self.runs.is_empty() {
            self.sort();
            return Ok(Sorted { spool: self, next: 0, heap: BinaryHeap::new(), readers: Vec::new() });
        }
        let begun = self.begin();
        let (heap, readers) = begun.map_err(|source| self.failed(source))?;
        Ok(Sorted { spool: self, next: 0, heap, readers })
    }

    /// Readers of all runs, and the first record of each.
    fn begin(&mut self) -> io::Result<(Heads, Vec<RunReader>)> {
        if !self.spans.is_empty() {
            self.write_run()?;
        }
        let mut readers: Vec<_> = self.runs.iter().map(|(start, end)| RunReader::new(*start, *end)).collect();
        let mut heap = BinaryHeap::new();
        if let Some(file) = &self.file {
            for (index, reader) in readers.iter_mut().enumerate() {
                heap.extend(reader.next(file)?.map(|record| Reverse((record, index))));
            }
        }
        Ok((heap, readers))
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |span: &Span| &bytes[span.start..span.start + span.key_length as usize];
        self.spans.sort_unstable_by(|one, other| key(one).cmp(key(other)).then(one.sequence.cmp(&other.sequence)));
    }

    fn record(&self, span: &Span) -> (&[u8], &[u8]) {
        let record = &self.bytes[span.start..][..span.key_length as usize + span.length as usize];
        record.split_at(span.key_length as usize)
    }

    /// Sorts what is in memory and appends it to the file.
    fn write_run(&mut self) -> io::Result<()> {
        self.sort();
        if self.file.is_none() {
            let directory = self.directory.as_ref().ok_or(io::ErrorKind::NotFound)?;
            self.file = Some(files::create_nameless(directory)?);
        }
        let mut file = self.file.as_ref().expect("it was just made");
        let start = self.runs.last().map_or(0, |(_, end)| *end);
        file.seek(SeekFrom::Start(start))?;
        let mut out = io::BufWriter::with_capacity(1 << 20, file);
        let mut end = start;
        for span in &self.spans {
            let (key, value) = self.record(span);
            out.write_all(&span.key_length.to_le_bytes())?;
            out.write_all(&span.length.to_le_bytes())?;
            out.write_all(&span.sequence.to_le_bytes())?;
            out.write_all(key)?;
            out.write_all(value)?;
            end += (HEAD_BYTES + key.len() + value.len()) as u64;
        }
        out.flush()?;
        drop(out);
        self.runs.push((start, end));
        self.bytes.clear();
        self.spans.clear();
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Error {
        let path = self.directory.clone().unwrap_or_default();
        Error::Local { path, what: "keeping the entries of the stream for a while", source }
    }
}

/// Bytes of a record in a run before its key: two lengths and its number.
const HEAD_BYTES: usize = 4 + 4 + 8;

/// Records in order.
#[derive(Debug)]
pub struct Sorted<'s> {
    spool: &'s Spool,
    /// Of those in memory.
    next: usize,
    /// The next record of each run.
    heap: Heads,
    readers: Vec<RunReader>,
}

impl Iterator for Sorted<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(file) = self.spool.file.as_ref() else {
            let span = self.spool.spans.get(self.next)?;
            self.next += 1;
            let (key, value) = self.spool.record(span);
            return Some(Ok(Record { key: key.to_vec(), sequence: span.sequence, value: value.to_vec() }));
        };
        let Reverse((record, index)) = self.heap.pop()?;
        match self.readers[index].next(file) {
            Ok(next) => self.heap.extend(next.map(|next| Reverse((next, index)))),
            Err(source) => {
                self.heap.clear();
                return Some(Err(self.spool.failed(source)));
            }
        }
        Some(Ok(record))
    }
}

/// Reads one run. All of them share a file, whose position is set before each read.
#[derive(Debug)]
struct RunReader {
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    /// Of the buffer, what was taken.
    taken: usize,
}

impl RunReader {
    fn new(position: u64, end: u64) -> Self {
        Self { position, end, buffer: Vec::new(), taken: 0 }
    }

    fn next(&mut self, file: &File) -> io::Result<Option<Record>> {
        if self.taken == self.buffer.len() && self.position == self.end {
            return Ok(None);
        }
        let head: [u8; HEAD_BYTES] = self.take(file, HEAD_BYTES)?.try_into().expect("as many as were asked for");
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let sequence = u64::from_le_bytes(head[8..].try_into().expect("eight bytes"));
        let (key_length, length) = (number(0), number(4));
        let key = self.take(file, key_length)?.to_vec();
        let value = self.take(file, length)?.to_vec();
        Ok(Some(Record { key, sequence, value }))
    }

    fn take(&mut self, mut file: &File, count: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.taken < count {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            let wanted = (count - self.buffer.len()).max(READ_BYTES) as u64;
            file.seek(SeekFrom::Start(self.position))?;
            let read = file.take(wanted.min(self.end - self.position)).read_to_end(&mut self.buffer)?;
            self.position += read as u64;
            if self.buffer.len() < count {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.taken += count;
        Ok(&self.buffer[self.taken - count..self.taken])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(directory: Option<PathBuf>, run_bytes: usize) -> Spool {
        let mut spool = Spool { run_bytes, ..Spool::new(directory) };
        for number in 0..5000u32 {
            // Keys come again and again, in no order.
            let key = (number.wrapping_mul(2_654_435_761) % 1000).to_be_bytes();
            spool.put(&key[..1 + (key[3] % 4) as usize], format!("value {number}").as_bytes()).unwrap();
        }
        spool
    }

    #[test]
    fn runs_on_disk_give_what_memory_gives_and_as_often_as_asked() {
        let scratch = tempfile::tempdir().unwrap();
        let mut memory = filled(None, 1000);
        let expected: Vec<_> = memory.sorted().unwrap().map(Result::unwrap).collect();
        assert_eq!(expected.len(), 5000);
        assert!(expected.is_sorted_by(|a, b| (&a.key, a.sequence) < (&b.key, b.sequence)));
        for run_bytes in [1000, 20_000, 1 << 20] {
            let mut spool = filled(Some(scratch.path().to_owned()), run_bytes);
            assert_eq!(spool.runs.is_empty(), run_bytes == 1 << 20);
            for _ in 0..2 {
                let read: Vec<_> = spool.sorted().unwrap().map(Result::unwrap).collect();
                assert!(read == expected, "{run_bytes}");
            }
        }
        assert_eq!(scratch.path().read_dir().unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn a_record_longer_than_a_buffer_comes_back() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spool = Spool { run_bytes: 100, ..Spool::new(Some(scratch.path().to_owned())) };
        let long = vec![7; 3 * READ_BYTES];
        spool.put(b"b", &long).unwrap();
        spool.put(b"a", b"short").unwrap();
        let values: Vec<_> = spool.sorted().unwrap().map(|record| record.unwrap().value).collect();
        assert!(values == [b"short".to_vec(), long]);
    }
}
