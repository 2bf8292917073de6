//! What comes of a stream of entries, in its order: content is cut, named and stored as it flows by, so that none of it
//! need be kept. Cuts fall where they fall in a directory's files: equal content is stored once, wherever it comes from.

use std::io;
use std::sync::Arc;

use super::super::reading::{UNIT_BYTES, hole};
use super::{Item, Status, Stop, Walk, Walker};
use crate::error::Error;
use crate::format::tree::{Metadata, NodeKind};
use crate::progress::Event;
use crate::walk::{Details, Entries, EntryStream, SourceDirectory, SourceEntry, SourceFile, StreamedEntry};

impl Walker<'_> {
    /// Sends everything that comes, each under its whole path.
    pub(super) fn take_in(&mut self, mut stream: Box<dyn EntryStream>) -> Walk {
        loop {
            if self.run.progress.is_cancelled() {
                return self.fail(Error::Cancelled);
            }
            let entry = match stream.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => return self.send_unit(),
                Err(error) => return self.fail(Error::Stream(error)),
            };
            let (status, size) = (Status::New, entry.metadata.size);
            match entry {
                StreamedEntry { path, hard_link: Some(target), .. } => self.send(Item::Link { path, target })?,
                entry if entry.metadata.kind != NodeKind::File => {
                    let StreamedEntry { path: name, metadata, details, .. } = entry;
                    self.send(Item::Special {
                        entry: SourceEntry { name, metadata, descend: false },
                        details,
                        status,
                    })?;
                }
                entry if size > UNIT_BYTES as u64 => self.flow(stream.as_mut(), entry)?,
                entry => self.hold(stream.as_mut(), entry)?,
            }
        }
    }

    /// A small file: read here, since the stream goes on behind it, and handed on as a file in memory.
    fn hold(&mut self, stream: &mut dyn EntryStream, entry: StreamedEntry) -> Walk {
        let StreamedEntry { path: name, metadata, details, data, .. } = entry;
        // Regions lie within the size, which is small.
        let length = data.iter().map(|(start, end)| end.saturating_sub(*start)).sum::<u64>().min(metadata.size);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0).min(UNIT_BYTES)];
        let mut filled = 0;
        while filled < bytes.len() {
            match stream.read(&mut bytes[filled..]) {
                Ok(0) => return self.fail(Error::Stream(too_short())),
                Ok(count) => filled += count,
                Err(error) => return self.fail(Error::Stream(error)),
            }
        }
        let held: Arc<dyn SourceDirectory> =
            Arc::new(Held { inner: Arc::new(Inner { metadata: metadata.clone(), details, data, bytes }) });
        self.small(&held, SourceEntry { name, metadata, descend: false }, Status::New)
    }

    /// A large file, piece by piece.
    fn flow(&mut self, stream: &mut dyn EntryStream, entry: StreamedEntry) -> Walk {
        let StreamedEntry { path: name, metadata, details, data, .. } = entry;
        self.send_unit()?;
        self.send(Item::LargeBegin { name, status: Status::New, owner: metadata.uid })?;
        let (mut position, mut read_bytes) = (0, 0);
        for (start, end) in data {
            self.gap(position, start)?;
            let mut file = Flowing(stream);
            match self.data(&mut file, start, end)? {
                Ok(read) if read == end - start => read_bytes += read,
                Ok(_) => return self.fail(Error::Stream(too_short())).and(Err(Stop)),
                Err(error) => return self.fail(Error::Stream(error)),
            }
            position = end;
        }
        self.gap(position, metadata.size)?;
        self.send(Item::LargeEnd { metadata, details, read_bytes })
    }

    fn gap(&mut self, from: u64, to: u64) -> Walk {
        if to <= from {
            return Ok(());
        }
        self.run.progress.report(Event::Bytes { count: to - from });
        self.send(Item::LargeHole(hole(to - from)))
    }
}

fn too_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a file that ends before its size")
}

/// The data of a stream's last entry, which is read in its order.
struct Flowing<'s>(&'s mut dyn EntryStream);

impl SourceFile for Flowing<'_> {
    fn read_at(&mut self, _offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn metadata(&mut self) -> io::Result<Metadata> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn details(&mut self) -> io::Result<Details> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A file in memory, as the only one of a directory.
struct Held {
    inner: Arc<Inner>,
}

struct Inner {
    metadata: Metadata,
    details: Details,
    data: Vec<(u64, u64)>,
    bytes: Vec<u8>,
}

struct HeldFile {
    inner: Arc<Inner>,
}

impl SourceDirectory for Held {
    fn entries(&self) -> io::Result<Entries> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open_directory(&self, _: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open_file(&self, _: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
        Ok(Box::new(HeldFile { inner: self.inner.clone() }))
    }

    fn details(&self, _: &SourceEntry) -> io::Result<Details> {
        Ok(self.inner.details.clone())
    }
}

impl SourceFile for HeldFile {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut before = 0;
        for (start, end) in &self.inner.data {
            if (*start..*end).contains(&offset) {
                let from = (before + offset - start) as usize;
                let count = ((end - offset) as usize).min(buffer.len());
                buffer[..count].copy_from_slice(&self.inner.bytes[from..from + count]);
                return Ok(count);
            }
            before += end - start;
        }
        Ok(0)
    }

    fn next_data(&mut self, offset: u64, _size: u64) -> io::Result<Option<(u64, u64)>> {
        let next = self.inner.data.iter().find(|(_, end)| *end > offset);
        Ok(next.map(|(start, end)| ((*start).max(offset), *end)))
    }

    fn metadata(&mut self) -> io::Result<Metadata> {
        Ok(self.inner.metadata.clone())
    }

    fn details(&mut self) -> io::Result<Details> {
        Ok(self.inner.details.clone())
    }
}
