//! tar to members: extended headers of POSIX, long names and sparse files of GNU tar. Nothing that an archive says is
//! believed before it is checked, and nothing takes more memory than has been read.
//!
//! What a path may be is the caller's to judge: here it is what the archive says.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::header::{Header, number_of};
use super::sparse::{Region, Told};
use super::{ACL_ACCESS, ACL_DEFAULT, BLOCK_BYTES, acl, flags, padding, pax};
use crate::archive::malformed;
use crate::format::FILE_BYTES_MAX;
use crate::format::tree::{Metadata, NodeKind, Timestamp};
use crate::platform::source;

/// What extended headers may say of one member: all the attributes that a file can have, and some more.
const EXTENDED_BYTES_MAX: u64 = 24 << 20;
/// Headers that speak of one member, before it comes.
const EXTENDED_MAX: u32 = 64;
/// What headers say of all members.
const GLOBAL_BYTES_MAX: usize = 1 << 20;

/// One thing in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As it stands there.
    pub path: Vec<u8>,
    /// Device and inode are 0: an archive does not say them. The size is the file's, holes and all.
    pub metadata: Metadata,
    /// Ascending by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of a symbolic link where it leads, of a hard link the path of another member.
    pub link: Vec<u8>,
    /// It is another name of `link`; its metadata counts for nothing.
    pub is_hard_link: bool,
    /// Where the data of a file lies, ascending. It comes in this order from [`TarReader::read`].
    pub regions: Vec<Region>,
    /// What could not be taken over, in words.
    pub problems: Vec<String>,
}

/// Reads an archive from its beginning to its end.
#[derive(Debug)]
pub struct TarReader<R> {
    input: R,
    /// Bytes read so far.
    position: u64,
    /// Of the last member's content, what was not read yet.
    left: u64,
    /// What fills its last block.
    padding: usize,
    globals: Vec<(Vec<u8>, Vec<u8>)>,
    notes: Vec<String>,
}

/// What extended headers say of a member, as far as it is known here.
#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<i64>,
    uid: Option<i64>,
    gid: Option<i64>,
    user: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
    modified: Option<Timestamp>,
    changed: Option<Timestamp>,
    accessed: Option<Timestamp>,
    born: Option<Timestamp>,
    flags: u32,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    problems: Vec<String>,
    sparse: Option<Sparse>,
}

/// Of a sparse file in one of GNU's three ways with extended headers.
#[derive(Debug, Default)]
struct Sparse {
    /// The list lies before the data.
    is_version_1: bool,
    name: Option<Vec<u8>>,
    size: Option<i64>,
    told: Told,
    /// Of a pair, what came first.
    offset: Option<i64>,
}

impl<R: Read> TarReader<R> {
    pub fn new(input: R) -> Self {
        Self { input, position: 0, left: 0, padding: 0, globals: Vec::new(), notes: Vec::new() }
    }

    /// What was met and is no failure, since this was last asked.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// The next member; what was not read of the last one is passed over. `None` at the archive's end, after which the
    /// input was read to its own end, so that its checksum or its producer's failure does not go unnoticed.
    pub fn next_member(&mut self) -> io::Result<Option<Member>> {
        let begin = self.position;
        self.advance().map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => malformed(format!("{error} (in the archive after byte {begin})")),
            _ => error,
        })
    }

    /// The next bytes of the last member's data; 0 at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.some(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(cut_short());
        }
        self.left -= count as u64;
        Ok(count)
    }

    fn advance(&mut self) -> io::Result<Option<Member>> {
        self.pass()?;
        let mut extended = self.with_globals()?;
        let (mut headers, mut bytes) = (0, 0);
        loop {
            let Some(block) = self.block()? else {
                return Err(malformed("the archive ends without the mark of its end: a part of it is missing"));
            };
            let Some(header) = Header::decode(&block)? else {
                return match headers {
                    0 => self.end().map(|()| None),
                    _ => Err(malformed("the archive ends after an extended header")),
                };
            };
            match header.kind {
                b'x' | b'X' | b'g' | b'L' | b'K' => {
                    headers += 1;
                    bytes += self.content_of(&header)?;
                    if headers > EXTENDED_MAX || bytes > EXTENDED_BYTES_MAX {
                        return Err(malformed("more extended headers than any file needs"));
                    }
                    self.extend(&header, &mut extended)?;
                }
                // A volume's label.
                b'V' => {
                    self.content_of(&header)?;
                    self.pass()?;
                }
                b'M' => {
                    return Err(malformed("the archive begins in the middle of a file: it is one of several volumes"));
                }
                _ => return self.member(header, &block, extended).map(Some),
            }
        }
    }

    /// Reads what the next member's content is preceded by.
    fn extend(&mut self, header: &Header, extended: &mut Extended) -> io::Result<()> {
        let bytes = self.whole()?;
        let text = || bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        match header.kind {
            b'L' => extended.path = Some(text()),
            b'K' => extended.link = Some(text()),
            b'g' => {
                let records = pax::records(&bytes)?;
                self.globals.extend(records.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
                // Of several with one key the last counts.
                let last: BTreeMap<_, _> = std::mem::take(&mut self.globals).into_iter().collect();
                self.globals = last.into_iter().collect();
                if self.globals.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > GLOBAL_BYTES_MAX {
                    return Err(malformed("a global extended header over 1 MiB"));
                }
                *extended = self.with_globals()?;
            }
            _ => pax::records(&bytes)?.into_iter().try_for_each(|(key, value)| extended.take(key, value))?,
        }
        Ok(())
    }

    fn with_globals(&self) -> io::Result<Extended> {
        let mut extended = Extended::default();
        self.globals.iter().try_for_each(|(key, value)| extended.take(key, value))?;
        Ok(extended)
    }

    fn member(&mut self, header: Header, block: &[u8; BLOCK_BYTES], mut extended: Extended) -> io::Result<Member> {
        let sparse = extended.sparse.take();
        let name = sparse.as_ref().and_then(|sparse| sparse.name.clone());
        let path = name.or(extended.path.take()).unwrap_or_else(|| header.name.clone());
        let kind = match header.kind {
            b'2' => NodeKind::Symlink,
            b'3' => NodeKind::CharDevice,
            b'4' => NodeKind::BlockDevice,
            b'5' | b'D' => NodeKind::Directory,
            b'6' => NodeKind::Fifo,
            // Before POSIX directories had no kind of their own.
            0 | b'0' if path.ends_with(b"/") => NodeKind::Directory,
            0 | b'0' | b'1' | b'7' | b'S' => NodeKind::File,
            other => {
                let shown = String::from_utf8_lossy(&path).into_owned();
                self.notes.push(format!("{shown}: of the unknown kind {:?}, taken for a file", char::from(other)));
                NodeKind::File
            }
        };
        let is_hard_link = header.kind == b'1';
        let stored = extended.size.unwrap_or(header.size);
        let has_content = kind == NodeKind::File && !is_hard_link || header.kind == b'D';
        let stored = if has_content { stored } else { 0 };
        self.content_of(&Header { size: stored, ..Header::default() })?;
        let (size, regions) = match sparse {
            Some(sparse) if kind == NodeKind::File && !is_hard_link => self.sparse(sparse)?,
            _ if header.kind == b'S' => self.old_sparse(block)?,
            _ if kind == NodeKind::File => (self.left, whole(self.left)),
            _ => (0, Vec::new()),
        };
        if size > FILE_BYTES_MAX {
            return Err(malformed("a file longer than any can be"));
        }
        Ok(Member {
            metadata: extended.metadata(&header, kind, size)?,
            path,
            link: extended.link.unwrap_or(header.link),
            is_hard_link,
            regions,
            xattrs: extended.xattrs.into_iter().collect(),
            problems: extended.problems,
        })
    }

    /// Of a sparse file with extended headers: its size, and where its data lies.
    fn sparse(&mut self, mut sparse: Sparse) -> io::Result<(u64, Vec<Region>)> {
        if sparse.is_version_1 {
            self.read_map(&mut sparse.told)?;
        }
        let size = sparse.size.and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| malformed("a sparse file without its size"))?;
        Ok((size, sparse.told.check(size, self.left)?))
    }

    /// The list before the data: the number of regions, then two numbers for each, a line each, in whole blocks.
    fn read_map(&mut self, told: &mut Told) -> io::Result<()> {
        const WRONG: &str = "the list of data in a sparse file is malformed";
        let (mut text, mut numbers, mut count) = (Vec::new(), 0u64, None::<u64>);
        let mut offset = 0;
        while count.is_none_or(|count| numbers < 2 * count) {
            let mut block = [0; BLOCK_BYTES];
            if self.left < BLOCK_BYTES as u64 {
                return Err(malformed(WRONG));
            }
            self.exactly(&mut block)?;
            self.left -= BLOCK_BYTES as u64;
            for byte in block {
                if byte != b'\n' {
                    text.push(byte);
                    continue;
                }
                if count.is_some_and(|count| numbers >= 2 * count) {
                    break;
                }
                let number = pax::decimal(&text).and_then(|number| i64::try_from(number).ok());
                let number = number.ok_or_else(|| malformed(WRONG))?;
                text.clear();
                if count.is_none() {
                    count = Some(number as u64);
                    continue;
                }
                match numbers % 2 {
                    0 => offset = number,
                    _ => told.add(offset, number)?,
                }
                numbers += 1;
            }
            // A number has 19 digits at most; what follows the last line of a block is none.
            if text.len() > BLOCK_BYTES {
                return Err(malformed(WRONG));
            }
        }
        Ok(())
    }

    /// Of GNU's own kind of member: four regions and the size in the header, more in blocks behind it.
    fn old_sparse(&mut self, block: &[u8; BLOCK_BYTES]) -> io::Result<(u64, Vec<Region>)> {
        const PAIR_BYTES: usize = 24;
        const IN_HEADER: usize = 386;
        const IS_EXTENDED: usize = 482;
        const SIZE: usize = 483;
        const IS_EXTENDED_AGAIN: usize = 504;
        let mut told = Told::default();
        let mut take = |pairs: &[u8]| {
            pairs.chunks_exact(PAIR_BYTES).take_while(|pair| pair[12] != 0).try_for_each(|pair| {
                let number = |field| number_of(field).ok_or_else(|| malformed("a list of data that is no numbers"));
                told.add(number(&pair[..12])?, number(&pair[12..])?)
            })
        };
        take(&block[IN_HEADER..IS_EXTENDED])?;
        let mut is_extended = block[IS_EXTENDED] != 0;
        while is_extended {
            let mut more = [0; BLOCK_BYTES];
            self.exactly(&mut more)?;
            take(&more[..IS_EXTENDED_AGAIN])?;
            is_extended = more[IS_EXTENDED_AGAIN] != 0;
        }
        let size = number_of(&block[SIZE..SIZE + 12]).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| malformed("a sparse file without its size"))?;
        Ok((size, told.check(size, self.left)?))
    }

    /// Takes note of what follows a header.
    fn content_of(&mut self, header: &Header) -> io::Result<u64> {
        let size = u64::try_from(header.size).map_err(|_| malformed("a negative size"))?;
        if size > FILE_BYTES_MAX {
            return Err(malformed("a size larger than any file"));
        }
        self.left = size;
        self.padding = padding(size);
        Ok(size)
    }

    /// The content that is left, bounded by whoever asks; grows as it comes.
    fn whole(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 8 << 10];
        loop {
            match self.read(&mut buffer)? {
                0 => break,
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        self.pass()?;
        Ok(bytes)
    }

    /// Passes over what is left of a member.
    fn pass(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8 << 10];
        while self.read(&mut buffer)? > 0 {}
        let padding = std::mem::take(&mut self.padding);
        self.exactly(&mut buffer[..padding])
    }

    /// After the first block of zeros, which a second should follow.
    fn end(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let mut is_zero = true;
        loop {
            match self.some(&mut buffer)? {
                0 => break,
                count => is_zero &= buffer[..count].iter().all(|byte| *byte == 0),
            }
        }
        if !is_zero {
            self.notes.push("something follows the end of the archive; it was left out".to_owned());
        }
        Ok(())
    }

    /// A block; `None` if the input ends before it.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK_BYTES]>> {
        let mut block = [0; BLOCK_BYTES];
        let count = self.some(&mut block)?;
        if count == 0 {
            return Ok(None);
        }
        self.exactly(&mut block[count..])?;
        Ok(Some(block))
    }

    fn exactly(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.some(buffer)? {
                0 => return Err(cut_short()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.input.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let count = result?;
                    self.position += count as u64;
                    return Ok(count);
                }
            }
        }
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short")
}

fn whole(size: u64) -> Vec<Region> {
    if size == 0 { Vec::new() } else { vec![Region { start: 0, end: size }] }
}

impl Extended {
    /// One record. An empty value takes back what was said for all members.
    fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let wrong = || malformed(format!("{} in an extended header is malformed", String::from_utf8_lossy(key)));
        let number = || -> io::Result<Option<i64>> {
            let (is_negative, digits) = match value.strip_prefix(b"-") {
                Some(rest) => (true, rest),
                None => (false, value),
            };
            if value.is_empty() {
                return Ok(None);
            }
            let number = pax::decimal(digits).and_then(|number| i64::try_from(number).ok()).ok_or_else(wrong)?;
            Ok(Some(if is_negative { -number } else { number }))
        };
        let time = || if value.is_empty() { Ok(None) } else { pax::time(value).map(Some).ok_or_else(wrong) };
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"uname" => self.user = text(),
            b"gname" => self.group = text(),
            b"mtime" => self.modified = time()?,
            b"ctime" => self.changed = time()?,
            b"atime" => self.accessed = time()?,
            b"LIBARCHIVE.creationtime" => self.born = time()?,
            b"SCHILY.fflags" => self.flags = flags::from_words(value),
            b"SCHILY.acl.access" => self.list(ACL_ACCESS, value),
            b"SCHILY.acl.default" => self.list(ACL_DEFAULT, value),
            _ => {
                if let Some(rest) = key.strip_prefix(b"GNU.sparse.") {
                    return self.sparse.get_or_insert_default().take(rest, value, number);
                }
                if let Some(name) = pax::attribute_name(key) {
                    self.xattrs.insert(name, value.to_vec());
                }
            }
        }
        Ok(())
    }

    /// An access control list as text; where it stands as an attribute too, that is exact.
    fn list(&mut self, name: &[u8], text: &[u8]) {
        if self.xattrs.contains_key(name) || text.is_empty() {
            return;
        }
        match acl::from_text(text) {
            // One that says no more than the mode is none.
            Some(value) if name == ACL_DEFAULT || acl::is_extended(&value) => {
                _ = self.xattrs.insert(name.to_vec(), value)
            }
            Some(_) => {}
            None => self.problems.push("its access control list names somebody without a number".to_owned()),
        }
    }

    fn metadata(&mut self, header: &Header, kind: NodeKind, size: u64) -> io::Result<Metadata> {
        let modified = self.modified.unwrap_or(Timestamp { seconds: header.modified, nanoseconds: 0 });
        let device = |number: i64| u32::try_from(number).map_err(|_| malformed("a device number over 2^32"));
        let special_device = match kind {
            NodeKind::CharDevice | NodeKind::BlockDevice => {
                source::device_number(device(header.major)?, device(header.minor)?)
            }
            _ => 0,
        };
        Ok(Metadata {
            uid: owner(self.uid.unwrap_or(header.uid))?,
            gid: owner(self.gid.unwrap_or(header.gid))?,
            user: self.user.take().unwrap_or_else(|| header.user.clone()),
            group: self.group.take().unwrap_or_else(|| header.group.clone()),
            modified,
            changed: self.changed.unwrap_or(modified),
            born: self.born,
            accessed: self.accessed,
            size,
            special_device,
            flags: self.flags,
            ..Metadata::unknown(kind, header.mode & 0o7777)
        })
    }
}

/// Some programs write the last numbers, such as nobody's, as negative ones.
fn owner(number: i64) -> io::Result<u32> {
    let negative = || i32::try_from(number).map(|number| number as u32);
    u32::try_from(number).or_else(|_| negative()).map_err(|_| malformed("the number of an owner is over 2^32"))
}

impl Sparse {
    fn take(&mut self, key: &[u8], value: &[u8], number: impl Fn() -> io::Result<Option<i64>>) -> io::Result<()> {
        match key {
            b"major" => self.is_version_1 = number()? == Some(1),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = number()?,
            b"offset" => self.offset = number()?,
            b"numbytes" => {
                let pair = self.offset.take().zip(number()?);
                let (offset, length) = pair.ok_or_else(|| malformed("a list of data without its offsets"))?;
                self.told.add(offset, length)?;
            }
            b"map" => {
                let mut numbers = value.split(|byte| *byte == b',').filter(|text| !text.is_empty());
                let mut next = || {
                    numbers.next().map(|text| {
                        let number = pax::decimal(text).and_then(|number| i64::try_from(number).ok());
                        number.ok_or_else(|| malformed("a list of data that is no numbers"))
                    })
                };
                while let Some(offset) = next() {
                    let length = next().ok_or_else(|| malformed("a list of data that ends in the middle"))?;
                    self.told.add(offset?, length?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
