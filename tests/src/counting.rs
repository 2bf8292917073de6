//! A source that counts what is asked of it: which files a backup opened and how many of their bytes it read is
//! seen here, and not believed from a report.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use repo_core::{Details, Entries, Metadata, Source, SourceDirectory, SourceEntry, SourceFile};

/// What was read of each file, by its path below the source's root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readings {
    pub files: BTreeMap<Vec<u8>, Reading>,
    /// Directories whose entries were asked for.
    pub directories: u64,
    /// Entries whose attributes were asked for.
    pub details: u64,
}

/// What was read of one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    pub opened: u64,
    /// Bytes that `read_at` gave.
    pub bytes: u64,
}

impl Readings {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|reading| reading.bytes).sum()
    }

    /// Files that were opened, by the last part of their path, ascending.
    pub fn opened(&self) -> Vec<String> {
        let opened = self.files.iter().filter(|(_, reading)| reading.opened > 0);
        opened
            .map(|(path, _)| crate::compare::shown(path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)))
            .collect()
    }
}

/// A source around another.
#[derive(Debug)]
pub struct CountingSource<S> {
    inner: S,
    /// Seconds by which every ctime is told older than it is.
    aged_seconds: i64,
    numbers_last: Option<bool>,
    seen: Arc<Mutex<Readings>>,
}

impl<S: Source> CountingSource<S> {
    /// Counts, and changes nothing.
    pub fn new(inner: S) -> Self {
        Self { inner, aged_seconds: 0, numbers_last: None, seen: Arc::default() }
    }

    /// Tells every ctime as older than it is, so that a test need not wait until a file is old enough to be trusted.
    pub fn aged(inner: S, seconds: i64) -> Self {
        Self { aged_seconds: seconds, ..Self::new(inner) }
    }

    /// Answers for the file system whether its inode numbers last.
    pub fn numbers_last(self, answer: bool) -> Self {
        Self { numbers_last: Some(answer), ..self }
    }

    /// What was read so far.
    pub fn readings(&self) -> Readings {
        self.seen.lock().expect("no test panics while it counts").clone()
    }
}

impl<S: Source> Source for CountingSource<S> {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        let inner = self.inner.root()?;
        let (aged_seconds, numbers_last) = (self.aged_seconds, self.numbers_last);
        Ok(Arc::new(Directory { inner, path: Vec::new(), aged_seconds, numbers_last, seen: self.seen.clone() }))
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        self.inner.paths()
    }

    fn is_stream(&self) -> bool {
        self.inner.is_stream()
    }

    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }
}

struct Directory {
    inner: Arc<dyn SourceDirectory>,
    path: Vec<u8>,
    aged_seconds: i64,
    numbers_last: Option<bool>,
    seen: Arc<Mutex<Readings>>,
}

impl Directory {
    fn below(&self, entry: &SourceEntry) -> Vec<u8> {
        let mut path = self.path.clone();
        path.push(b'/');
        path.extend_from_slice(&entry.name);
        path
    }

    fn count(&self, count: impl FnOnce(&mut Readings)) {
        count(&mut self.seen.lock().expect("no test panics while it counts"));
    }

    /// The entry as the inner source told it.
    fn inner_entry(&self, entry: &SourceEntry) -> SourceEntry {
        let mut entry = entry.clone();
        entry.metadata.changed.seconds += self.aged_seconds;
        entry
    }
}

fn aged(mut metadata: Metadata, seconds: i64) -> Metadata {
    metadata.changed.seconds -= seconds;
    metadata
}

impl SourceDirectory for Directory {
    fn entries(&self) -> Result<Entries, io::Error> {
        self.count(|seen| seen.directories += 1);
        let seconds = self.aged_seconds;
        let entries = self.inner.entries()?;
        Ok(Box::new(entries.map(move |entry| {
            entry.map(|entry| SourceEntry { metadata: aged(entry.metadata.clone(), seconds), ..entry })
        })))
    }

    fn open_directory(&self, entry: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
        let inner = self.inner.open_directory(&self.inner_entry(entry))?;
        let (path, seen) = (self.below(entry), self.seen.clone());
        let (aged_seconds, numbers_last) = (self.aged_seconds, self.numbers_last);
        Ok(Arc::new(Self { inner, path, aged_seconds, numbers_last, seen }))
    }

    fn open_file(&self, entry: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
        let inner = self.inner.open_file(&self.inner_entry(entry))?;
        let path = self.below(entry);
        self.count(|seen| seen.files.entry(path.clone()).or_default().opened += 1);
        Ok(Box::new(File { inner, path, aged_seconds: self.aged_seconds, seen: self.seen.clone() }))
    }

    fn details(&self, entry: &SourceEntry) -> io::Result<Details> {
        self.count(|seen| seen.details += 1);
        self.inner.details(&self.inner_entry(entry))
    }

    fn numbers_last(&self) -> bool {
        self.numbers_last.unwrap_or_else(|| self.inner.numbers_last())
    }
}

struct File {
    inner: Box<dyn SourceFile>,
    path: Vec<u8>,
    aged_seconds: i64,
    seen: Arc<Mutex<Readings>>,
}

impl SourceFile for File {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read_at(offset, buffer)?;
        let mut seen = self.seen.lock().expect("no test panics while it counts");
        seen.files.entry(self.path.clone()).or_default().bytes += read as u64;
        Ok(read)
    }

    fn next_data(&mut self, offset: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
        self.inner.next_data(offset, size)
    }

    fn metadata(&mut self) -> io::Result<Metadata> {
        self.inner.metadata().map(|metadata| aged(metadata, self.aged_seconds))
    }

    fn details(&mut self) -> io::Result<Details> {
        self.inner.details()
    }
}
