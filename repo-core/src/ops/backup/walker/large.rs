//! Large files and streams: read by the walk itself, segment by segment, and only named by the reading threads, so that cuts
//! carry over from one segment to the next.

use bytes::Bytes;
use crossbeam_channel::bounded;

use super::super::reading::{ATTEMPTS, Job, Stability, hole, read_fully};
use super::{Item, Status, Stop, Walk, Walker};
use crate::error::Error;
use crate::pipeline::Budgeted;
use crate::progress::Event;
use crate::walk::{SourceDirectory, SourceEntry, SourceFile, Unreadable};

impl Walker<'_> {
    /// Reads a large file here, segment by segment, and lets the reading threads name its chunks.
    pub(super) fn large(
        &mut self,
        directory: &dyn SourceDirectory,
        entry: &SourceEntry,
        status: Status,
        is_stream: bool,
    ) -> Walk {
        self.send_unit()?;
        let failed = |during| {
            let name = entry.name.clone();
            move |error| Item::LargeFailed(Unreadable { name, during, error })
        };
        self.send(Item::LargeBegin { name: entry.name.clone(), status, owner: entry.metadata.uid })?;
        let mut file = match directory.open_file(entry) {
            Ok(file) => file,
            Err(error) if is_stream => return self.fail(Error::Stream(error)),
            Err(error) => return self.send(failed("opening the file")(error)),
        };
        let mut read_bytes = 0;
        for attempt in 1.. {
            let mut metadata = match file.metadata() {
                Ok(metadata) => metadata,
                Err(error) => return self.send(failed("looking at the file")(error)),
            };
            let length = match self.segments(file.as_mut(), metadata.size, is_stream)? {
                Ok((length, read)) => {
                    read_bytes += read;
                    length
                }
                // A producer that Ctrl-C ended too did not fail.
                Err(_) if is_stream && self.run.progress.is_cancelled() => return self.fail(Error::Cancelled),
                Err(error) if is_stream => return self.fail(Error::Stream(error)),
                Err(error) => return self.send(failed("reading the file")(error)),
            };
            let stability = match file.metadata() {
                _ if is_stream => Stability::Same,
                Ok(after) => Stability::of(&metadata, &after, length),
                Err(error) => return self.send(failed("looking at the file again")(error)),
            };
            if stability == Stability::Changed && attempt < ATTEMPTS {
                self.send(Item::LargeRestart)?;
                continue;
            }
            metadata.size = length;
            metadata.unstable = stability == Stability::Changed;
            return match file.details() {
                Ok(details) => self.send(Item::LargeEnd { metadata, details, read_bytes }),
                Err(error) => self.send(failed("reading the file's attributes")(error)),
            };
        }
        unreachable!("the last attempt returns")
    }

    /// Sends all data and holes of a file of `size` bytes; a stream is read to its end.
    /// Returns its length and the bytes that were read.
    pub(super) fn segments(
        &mut self,
        file: &mut dyn SourceFile,
        size: u64,
        is_stream: bool,
    ) -> Walk<std::io::Result<(u64, u64)>> {
        let size = if is_stream { u64::MAX } else { size };
        let (mut position, mut read_bytes) = (0, 0);
        while position < size {
            let region = if is_stream { Ok(Some((0, u64::MAX))) } else { file.next_data(position, size) };
            let (start, end) = match region {
                Err(error) => return Ok(Err(error)),
                Ok(None) => (size, size),
                Ok(Some((start, end))) => (start.clamp(position, size), end.min(size)),
            };
            if start > position {
                self.send(Item::LargeHole(hole(start - position)))?;
                self.run.progress.report(Event::Bytes { count: start - position });
            }
            let read = match self.data(file, start, end)? {
                Err(error) => return Ok(Err(error)),
                Ok(read) => read,
            };
            read_bytes += read;
            position = start + read;
            if read < end - start {
                break; // a stream's end, or the file became shorter
            }
        }
        Ok(Ok((position, read_bytes)))
    }

    /// Sends the data of `start..end`, cut as one piece of data. Returns the bytes that were there.
    pub(super) fn data(&mut self, file: &mut dyn SourceFile, start: u64, end: u64) -> Walk<std::io::Result<u64>> {
        let mut carry = Vec::new();
        let mut position = start;
        while position < end {
            if self.run.progress.is_cancelled() {
                return self.fail(Error::Cancelled).map(|()| Ok(0));
            }
            let permit = self.reading.budget.take(self.reading.segments.capacity());
            let mut buffer = self.reading.segments.take();
            buffer.append(&mut carry);
            let kept = buffer.len();
            let wanted = (end - position).min((self.reading.segments.capacity() - kept) as u64) as usize;
            buffer.resize(kept + wanted, 0);
            let read = match read_fully(file, position, &mut buffer[kept..]) {
                Ok(read) => read,
                Err(error) => return Ok(Err(error)),
            };
            buffer.truncate(kept + read);
            position += read as u64;
            self.run.progress.report(Event::Bytes { count: read as u64 });
            let is_end = position == end || read < wanted;
            let cuts = self.reading.cuts(&buffer, is_end);
            let consumed = cuts.last().map_or(0, |cut| cut.end);
            carry.extend_from_slice(&buffer[consumed..]);
            buffer.truncate(consumed);
            let (reply, pieces) = bounded(1);
            let segment = Bytes::from_owner(Budgeted::new(buffer, self.reading.segments.clone(), permit));
            self.jobs.send(Job::Segment { segment, cuts, reply }).map_err(|_| Stop)?;
            self.send(Item::LargePart(pieces))?;
            if is_end {
                break;
            }
        }
        Ok(Ok(position - start))
    }
}
