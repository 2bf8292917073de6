//! Entries to tar. What the 512 bytes of a header cannot say exactly is said by an extended header before it, in words
//! that both GNU tar and bsdtar understand; what they can say is in them alone.

use std::io::{self, Write};

use super::header::{self, Header, OWNER_BYTES_MAX};
use super::sparse::{self, MapSize, Region};
use super::{ACL_ACCESS, ACL_DEFAULT, BLOCK_BYTES, acl, flags, padding, pax};
use crate::format::tree::{Metadata, NodeKind, Timestamp};
use crate::platform::source;

/// One thing to be written.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Without `/` at either end.
    pub path: &'a [u8],
    pub metadata: &'a Metadata,
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
    pub shape: Shape<'a>,
}

/// What follows the header.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'a> {
    /// Of a file its content, of anything else nothing.
    Whole,
    /// A list of regions, then their data: this many bytes.
    Sparse { stored_bytes: u64 },
    /// Nothing: it is another name of a path that came before.
    HardLink(&'a [u8]),
    /// Nothing: a symbolic link to this.
    Symlink(&'a [u8]),
}

/// Writes an archive. Content is given after each entry, exactly as much as its header says.
#[derive(Debug)]
pub struct TarWriter<W: Write> {
    out: W,
    /// Of the last entry's content, what is still to come.
    left: u64,
    /// What fills its last block.
    padding: usize,
}

/// The name under which a sparse file's data lies, for programs that know nothing of holes.
const SPARSE_DIRECTORY: &[u8] = b"GNUSparseFile.0/";
/// The name of extended headers; programs that do not know them extract files of this name.
const EXTENDED_DIRECTORY: &[u8] = b"PaxHeaders.0/";
/// The last number that octal can say in a header's field of 12 bytes.
const OCTAL_12_MAX: i64 = 0o77_777_777_777;
/// The same of a field of 8 bytes.
const OCTAL_8_MAX: i64 = 0o7_777_777;

impl<W: Write> TarWriter<W> {
    pub fn new(out: W) -> Self {
        Self { out, left: 0, padding: 0 }
    }

    /// Begins an entry. Sockets, which no archive can hold, are the caller's to leave out.
    pub fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.fill()?;
        let header = header_of(entry);
        let extended = extended_of(entry, &header);
        if !extended.is_empty() {
            let name = [EXTENDED_DIRECTORY, last_name(entry.path)].concat();
            let size = extended.len() as i64;
            let before = Header { kind: b'x', name, mode: 0o644, size, ..Header::default() };
            self.out.write_all(&before.encode())?;
            self.out.write_all(&extended)?;
            self.zeros(padding(extended.len() as u64))?;
        }
        self.out.write_all(&header.encode())?;
        self.left = header.size as u64;
        self.padding = padding(self.left);
        Ok(())
    }

    /// A part of the last entry's content.
    pub fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left =
            self.left.checked_sub(bytes.len() as u64).ok_or_else(|| io::Error::other("more than the header says"))?;
        self.out.write_all(bytes)
    }

    /// Begins the list of a sparse file's regions, which its data follows: then each region, then the list's end.
    pub fn map_begins(&mut self, size: &MapSize) -> io::Result<()> {
        self.content(format!("{}\n", size.regions()).as_bytes())
    }

    /// The next region.
    pub fn map_region(&mut self, region: Region) -> io::Result<()> {
        self.content(sparse::lines(region).as_bytes())
    }

    /// Fills the list's last block.
    pub fn map_ends(&mut self, size: &MapSize) -> io::Result<()> {
        self.content(&[0; BLOCK_BYTES][..size.padding()])
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.fill()?;
        self.zeros(2 * BLOCK_BYTES)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other("less than the header says"));
        }
        let padding = std::mem::take(&mut self.padding);
        self.zeros(padding)
    }

    fn zeros(&mut self, count: usize) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK_BYTES][..count])
    }
}

fn header_of(entry: &Entry<'_>) -> Header {
    let metadata = entry.metadata;
    let is_file = metadata.kind == NodeKind::File;
    let (kind, link, size): (u8, &[u8], u64) = match (entry.shape, metadata.kind) {
        (Shape::HardLink(target), _) => (b'1', target, 0),
        (Shape::Symlink(target), _) => (b'2', target, 0),
        (Shape::Sparse { stored_bytes }, _) => (b'0', b"", stored_bytes),
        (Shape::Whole, NodeKind::CharDevice) => (b'3', b"", 0),
        (Shape::Whole, NodeKind::BlockDevice) => (b'4', b"", 0),
        (Shape::Whole, NodeKind::Directory) => (b'5', b"", 0),
        (Shape::Whole, NodeKind::Fifo) => (b'6', b"", 0),
        (Shape::Whole, _) => (b'0', b"", if is_file { metadata.size } else { 0 }),
    };
    let (major, minor) = match metadata.kind {
        NodeKind::CharDevice | NodeKind::BlockDevice => source::device_parts(metadata.special_device),
        _ => (0, 0),
    };
    Header {
        kind,
        name: match entry.shape {
            Shape::Sparse { .. } => [SPARSE_DIRECTORY, last_name(entry.path)].concat(),
            _ => written_path(entry),
        },
        link: link.to_vec(),
        mode: metadata.mode,
        uid: metadata.uid.into(),
        gid: metadata.gid.into(),
        size: i64::try_from(size).unwrap_or(i64::MAX),
        modified: metadata.modified.seconds,
        user: metadata.user.clone(),
        group: metadata.group.clone(),
        major: major.into(),
        minor: minor.into(),
    }
}

/// A directory's ends with `/`.
fn written_path(entry: &Entry<'_>) -> Vec<u8> {
    let slash: &[u8] = if entry.metadata.kind == NodeKind::Directory { b"/" } else { b"" };
    [entry.path, slash].concat()
}

fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// The records of what the header cannot say.
fn extended_of(entry: &Entry<'_>, header: &Header) -> Vec<u8> {
    let metadata = entry.metadata;
    let mut out = Vec::new();
    let path = written_path(entry);
    let link = &header.link;
    let is_sparse = matches!(entry.shape, Shape::Sparse { .. });
    let tells =
        |name: &[u8], longest: usize| name.len() > longest || std::str::from_utf8(name).is_ok() && !name.is_ascii();
    let (path_is_told, link_is_told) =
        (is_sparse || tells(&path, header::NAME_BYTES_MAX), tells(link, header::NAME_BYTES_MAX));
    let owners = [(&b"uname"[..], &metadata.user), (b"gname", &metadata.group)];
    let told = [(path_is_told, &path), (link_is_told, link)].into_iter().filter(|(is_told, _)| *is_told);
    let told = told.map(|(_, text)| text);
    let mut told = told.chain(owners.iter().map(|(_, name)| *name).filter(|name| tells(name, OWNER_BYTES_MAX)));
    if told.any(|text| std::str::from_utf8(text).is_err()) {
        // Before what it speaks of. Without it text must be UTF-8.
        pax::put(&mut out, b"hdrcharset", b"BINARY");
    }
    if is_sparse {
        pax::put(&mut out, b"GNU.sparse.major", b"1");
        pax::put(&mut out, b"GNU.sparse.minor", b"0");
        pax::put(&mut out, b"GNU.sparse.name", &path);
        pax::put(&mut out, b"GNU.sparse.realsize", metadata.size.to_string().as_bytes());
    } else if path_is_told {
        pax::put(&mut out, b"path", &path);
    }
    if link_is_told {
        pax::put(&mut out, b"linkpath", link);
    }
    if header.size > OCTAL_12_MAX {
        pax::put(&mut out, b"size", header.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], metadata.uid), (b"gid", metadata.gid)] {
        if i64::from(id) > OCTAL_8_MAX {
            pax::put(&mut out, key, id.to_string().as_bytes());
        }
    }
    for (key, name) in owners {
        if tells(name, OWNER_BYTES_MAX) {
            pax::put(&mut out, key, name);
        }
    }
    times(metadata, &mut out);
    if !matches!(entry.shape, Shape::HardLink(_)) {
        attributes(entry, &mut out);
    }
    out
}

fn times(metadata: &Metadata, out: &mut Vec<u8>) {
    let modified = metadata.modified;
    let fits = modified.nanoseconds == 0 && (0..=OCTAL_12_MAX).contains(&modified.seconds);
    let mut put = |key: &[u8], time: Timestamp| pax::put(out, key, pax::time_text(time).as_bytes());
    if !fits {
        put(b"mtime", modified);
    }
    if let Some(accessed) = metadata.accessed {
        put(b"atime", accessed);
    }
    if metadata.changed != modified {
        put(b"ctime", metadata.changed);
    }
}

fn attributes(entry: &Entry<'_>, out: &mut Vec<u8>) {
    for (name, value) in entry.xattrs {
        pax::put(out, &pax::attribute_key(name), value);
        let key: &[u8] = match name.as_slice() {
            ACL_ACCESS => b"SCHILY.acl.access",
            ACL_DEFAULT => b"SCHILY.acl.default",
            _ => continue,
        };
        if let Some(text) = acl::to_text(value) {
            pax::put(out, key, text.as_bytes());
        }
    }
    let (words, _) = flags::to_words(entry.metadata.flags);
    if !words.is_empty() {
        pax::put(out, b"SCHILY.fflags", words.as_bytes());
    }
}
