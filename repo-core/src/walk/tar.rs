//! A tar archive as a source: its members in the order in which they come. Which paths and links are let in is judged here;
//! how an archive is written is `archive`'s business.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Details, EntryStream, Source, SourceDirectory, StreamedEntry};
use crate::archive::compression;
use crate::archive::malformed;
use crate::archive::tar::{Member, TarReader};
use crate::format::tree::NodeKind;
use crate::platform::source;

/// Names within one another (docs/format.md, limits).
const DEPTH_MAX: usize = 4096;

/// The members of a tar archive that comes from a reader; compressed by gzip or zstd, or not.
///
/// It can be read once. What breaks off, or says what no honest archive says, ends the backup, and no snapshot is
/// published: absolute paths (but see [`strip_leading_slash`](Self::strip_leading_slash)), paths with `..`, entries below
/// something that is no directory, hard links to what did not come before, headers that contradict themselves.
pub struct TarSource {
    reader: Mutex<Option<Box<dyn io::Read + Send>>>,
    /// The directory below which everything lies, its names.
    below: Vec<Vec<u8>>,
    judge: Judge,
    notes: Arc<Mutex<BTreeSet<String>>>,
}

/// What is let in.
#[derive(Debug, Clone, Default)]
struct Judge {
    below: Vec<u8>,
    strip_leading_slash: bool,
    with_atime: bool,
}

impl TarSource {
    /// The archive that is read from `reader`. Its paths are those of the snapshot, from its top on.
    pub fn new(reader: impl io::Read + Send + 'static) -> Self {
        Self {
            reader: Mutex::new(Some(Box::new(reader))),
            below: Vec::new(),
            judge: Judge::default(),
            notes: Arc::default(),
        }
    }

    /// Puts everything below this directory of the snapshot, and names the snapshot by it. `.` and `..` are taken out.
    pub fn below(mut self, directory: &Path) -> Self {
        self.below.clear();
        for name in source::path_bytes(directory).split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(self.below.pop()),
                name => self.below.push(name.to_vec()),
            }
        }
        self.judge.below = self.below.join(&b'/');
        self
    }

    /// Takes absolute paths for relative ones, in names and in hard links, instead of refusing them.
    pub fn strip_leading_slash(mut self) -> Self {
        self.judge.strip_leading_slash = true;
        self
    }

    /// Takes over access times, where the archive tells them.
    pub fn with_atime(mut self) -> Self {
        self.judge.with_atime = true;
        self
    }
}

impl fmt::Debug for TarSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TarSource").field("judge", &self.judge).finish_non_exhaustive()
    }
}

impl Source for TarSource {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "an archive is read in its own order"))
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        vec![[b"/", self.judge.below.as_slice()].concat()]
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn in_any_order(&self) -> Option<Box<dyn EntryStream>> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        let state = reader.map_or(State::Gone, State::Unread);
        Some(Box::new(Stream { state, judge: self.judge.clone(), notes: self.notes.clone() }))
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

struct Stream {
    state: State,
    judge: Judge,
    notes: Arc<Mutex<BTreeSet<String>>>,
}

enum State {
    Unread(Box<dyn io::Read + Send>),
    Open(TarReader<Box<dyn io::Read + Send>>),
    /// Read before, or failed.
    Gone,
}

impl Stream {
    fn reader(&mut self) -> io::Result<&mut TarReader<Box<dyn io::Read + Send>>> {
        if matches!(self.state, State::Unread(_))
            && let State::Unread(reader) = std::mem::replace(&mut self.state, State::Gone)
        {
            self.state = State::Open(TarReader::new(compression::undone(reader)?));
        }
        match &mut self.state {
            State::Open(reader) => Ok(reader),
            _ => Err(io::Error::other("a stream can be read only once")),
        }
    }
}

impl EntryStream for Stream {
    fn next(&mut self) -> io::Result<Option<StreamedEntry>> {
        loop {
            let reader = self.reader()?;
            let member = reader.next_member();
            let notes = reader.take_notes();
            self.notes.lock().unwrap_or_else(PoisonError::into_inner).extend(notes);
            let Some(member) = member? else { return Ok(None) };
            if let Some(entry) = self.judge.entry(member)? {
                return Ok(Some(entry));
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader()?.read(buffer)
    }
}

impl Judge {
    /// What an archive's member is in the snapshot; `None`: its top, which has no entry.
    fn entry(&self, member: Member) -> io::Result<Option<StreamedEntry>> {
        let shown = String::from_utf8_lossy(&member.path).into_owned();
        let refuse = |problem: &str| malformed(format!("{shown}: {problem}"));
        let path = self.path(&member.path).map_err(refuse)?;
        let hard_link = match member.is_hard_link {
            true => Some(self.path(&member.link).map_err(|problem| {
                refuse(&format!("a hard link to {}: {problem}", String::from_utf8_lossy(&member.link)))
            })?),
            false => None,
        };
        let mut metadata = member.metadata;
        if path.is_empty() {
            return match metadata.kind {
                NodeKind::Directory if hard_link.is_none() => Ok(None),
                _ => Err(refuse("has no name")),
            };
        }
        if path == self.below && metadata.kind != NodeKind::Directory {
            return Err(refuse("has no name"));
        }
        if metadata.kind == NodeKind::Symlink && (member.link.is_empty() || member.link.contains(&0)) {
            return Err(refuse("a symbolic link that leads nowhere"));
        }
        if !self.with_atime {
            metadata.accessed = None;
        }
        let details = Details {
            link_target: if metadata.kind == NodeKind::Symlink { member.link } else { Vec::new() },
            xattrs: member.xattrs,
            flags: metadata.flags,
            problems: member.problems,
        };
        let data = member.regions.iter().map(|region| (region.start, region.end)).collect();
        Ok(Some(StreamedEntry { path, metadata, details, data, hard_link }))
    }

    /// A path in the snapshot: names with `/` between them; empty for the top.
    fn path(&self, path: &[u8]) -> Result<Vec<u8>, &'static str> {
        if path.contains(&0) {
            return Err("a path with a NUL");
        }
        if path.starts_with(b"/") && !self.strip_leading_slash {
            return Err("an absolute path; it can be taken without its leading / if that is asked for");
        }
        let mut names: Vec<&[u8]> = self.below.split(|byte| *byte == b'/').collect();
        names.extend(path.split(|byte| *byte == b'/'));
        names.retain(|name| !matches!(*name, b"" | b"."));
        if names.contains(&&b".."[..]) {
            return Err("a path with ..");
        }
        if names.len() > DEPTH_MAX {
            return Err("more than 4096 directories within one another");
        }
        Ok(names.join(&b'/'))
    }
}
