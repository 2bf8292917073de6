//! A source of a few files in memory, each of one chunk that its letter names: what two sources share is seen at once.

use std::io;
use std::sync::Arc;

use repo_core::{Details, Entries, Metadata, NodeKind, Source, SourceDirectory, SourceEntry, SourceFile, Timestamp};

use crate::whole::noise;

/// Bytes of each file: more than what lies in its node, less than any cut.
const FILE_BYTES: usize = 700;

/// One file a letter.
#[derive(Debug, Clone)]
pub struct Letters {
    letters: String,
    /// Seconds since 1970; files of another time are read again.
    modified: i64,
}

impl Letters {
    /// The files of these letters, which must ascend.
    pub fn new(letters: &str) -> Self {
        assert!(letters.is_ascii() && letters.as_bytes().is_sorted(), "a source's entries ascend");
        Self { letters: letters.to_owned(), modified: 1_000_000 }
    }

    /// The same bytes with other times: a backup reads them again instead of taking them from the parent.
    pub fn touched(mut self) -> Self {
        self.modified += 1;
        self
    }

    /// What the file of a letter holds.
    pub fn content(letter: u8) -> Vec<u8> {
        noise(u64::from(letter), FILE_BYTES)
    }

    fn metadata(&self, kind: NodeKind) -> Metadata {
        let time = Timestamp { seconds: self.modified, nanoseconds: 0 };
        Metadata {
            modified: time,
            changed: time,
            inode: 1,
            device: 1,
            size: if kind == NodeKind::File { FILE_BYTES as u64 } else { 0 },
            ..Metadata::unknown(kind, 0o600)
        }
    }
}

impl Source for Letters {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(self.clone()))
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        vec![b"/letters".to_vec()]
    }
}

impl SourceDirectory for Letters {
    fn entries(&self) -> io::Result<Entries> {
        let metadata = self.metadata(NodeKind::File);
        let entry = move |letter| Ok(SourceEntry { name: vec![letter], metadata: metadata.clone(), descend: false });
        Ok(Box::new(self.letters.clone().into_bytes().into_iter().map(entry)))
    }

    fn open_directory(&self, _: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    fn open_file(&self, entry: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
        Ok(Box::new(Letter { content: Self::content(entry.name[0]), metadata: entry.metadata.clone() }))
    }

    fn details(&self, _: &SourceEntry) -> io::Result<Details> {
        Ok(Details::default())
    }
}

struct Letter {
    content: Vec<u8>,
    metadata: Metadata,
}

impl SourceFile for Letter {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.content.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn metadata(&mut self) -> io::Result<Metadata> {
        Ok(self.metadata.clone())
    }

    fn details(&mut self) -> io::Result<Details> {
        Ok(Details::default())
    }
}
