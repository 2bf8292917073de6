//! The tests' own comparer: two directory trees by everything that a backup must bring back, without one line of the
//! library that is tested. It says what differs in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, IFlags, Mode, OFlags, SeekFrom, StatxFlags};
use rustix::io::Errno;

use crate::tree::grow::{names, open_directory, through};

/// A path below the root of a tree, raw bytes, without a leading `/`; empty for the root.
pub type Relative = Vec<u8>;

/// A tree as it was when it was looked at; it may be changed or removed since.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Portrait {
    pub entries: BTreeMap<Relative, Entry>,
    /// The sets of paths that are names of one thing, where it has more than one.
    pub link_groups: BTreeSet<BTreeSet<Relative>>,
}

/// One entry, with all that must come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: FileType,
    pub mode: u32,
    pub owner: (u32, u32),
    pub modified: (i64, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of files and directories: the flags that a user can set.
    pub flags: u32,
    /// Of devices: major and minor.
    pub device: (u32, u32),
    /// Of symlinks.
    pub target: Vec<u8>,
    /// Of files: bytes, BLAKE3 of the content, and `start..end` of each run of data.
    pub size: u64,
    pub content: Option<[u8; 32]>,
    pub data: Vec<(u64, u64)>,
}

/// What is compared. The default is everything.
#[derive(Debug, Clone, Copy)]
pub struct Compared {
    pub owners: bool,
    pub xattrs: bool,
    pub flags: bool,
    pub holes: bool,
    /// Of the root directory itself, its times, mode, owner and attributes.
    pub root: bool,
}

impl Default for Compared {
    fn default() -> Self {
        Self { owners: true, xattrs: true, flags: true, holes: true, root: true }
    }
}

/// Looks at the tree at `path` without following symlinks or opening anything but files and directories.
pub fn portrait(path: &Path) -> io::Result<Portrait> {
    let mut look = Look::default();
    let parent = open_directory(CWD, path)?;
    look.entry(&parent, b".", Vec::new())?;
    look.directory(&parent, &Vec::new())?;
    look.portrait.link_groups = look.groups.into_values().filter(|group| group.len() > 1).collect();
    Ok(look.portrait)
}

/// What differs between two trees on disk, in words; nothing if nothing does.
pub fn differences(before: &Path, after: &Path, compared: Compared) -> Vec<String> {
    let look = |path: &Path| portrait(path).unwrap_or_else(|error| panic!("looking at {}: {error}", path.display()));
    look(before).differences(&look(after), compared)
}

/// Fails, with the differences, unless two trees are the same.
pub fn assert_same(before: &Path, after: &Path, compared: Compared) {
    let differences = differences(before, after, compared);
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

impl Portrait {
    /// What differs in `after`, in words.
    pub fn differences(&self, after: &Self, compared: Compared) -> Vec<String> {
        let differing = self.differing(after, compared);
        differing.into_iter().map(|(path, difference)| format!("{}: {difference}", shown(&path))).collect()
    }

    /// What differs in `after`, each with its path; a link group with the first of its paths.
    pub fn differing(&self, after: &Self, compared: Compared) -> Vec<(Relative, String)> {
        let mut found = Vec::new();
        for (path, entry) in &self.entries {
            match after.entries.get(path) {
                None => found.push((path.clone(), "missing".to_owned())),
                Some(other) if path.is_empty() && !compared.root && other.kind == entry.kind => {}
                Some(other) => {
                    let differences = entry.differences(other, compared);
                    found.extend(differences.into_iter().map(|difference| (path.clone(), difference)));
                }
            }
        }
        let extra = after.entries.keys().filter(|path| !self.entries.contains_key(*path));
        found.extend(extra.map(|path| (path.clone(), "extra".to_owned())));
        for group in self.link_groups.symmetric_difference(&after.link_groups) {
            let which = if self.link_groups.contains(group) { "no longer one thing" } else { "newly one thing" };
            let names: Vec<_> = group.iter().map(|path| shown(path)).collect();
            let first = group.first().cloned().unwrap_or_default();
            found.push((first, format!("hard links: {which}: {}", names.join(", "))));
        }
        found
    }
}

impl Entry {
    fn differences(&self, other: &Self, compared: Compared) -> Vec<String> {
        if self.kind != other.kind {
            return vec![format!("kind: {:?} became {:?}", self.kind, other.kind)];
        }
        let mut found = Vec::new();
        let mut compare = |what: &str, before: &dyn fmt::Debug, after: &dyn fmt::Debug| {
            let (before, after) = (format!("{before:?}"), format!("{after:?}"));
            if before != after {
                found.push(format!("{what}: {before} became {after}"));
            }
        };
        compare("mode", &format_args!("{:04o}", self.mode), &format_args!("{:04o}", other.mode));
        compare("modified", &self.modified, &other.modified);
        compare("device number", &self.device, &other.device);
        compare("link target", &shown(&self.target), &shown(&other.target));
        compare("size", &self.size, &other.size);
        compare("content", &self.content.map(hex::encode), &other.content.map(hex::encode));
        if compared.owners {
            compare("owner", &self.owner, &other.owner);
        }
        if compared.flags {
            compare("flags", &self.flags, &other.flags);
        }
        if compared.holes {
            compare("runs of data", &self.data, &other.data);
        }
        if compared.xattrs {
            let names: BTreeSet<_> = self.xattrs.keys().chain(other.xattrs.keys()).collect();
            for name in names {
                let value = |entry: &Self| entry.xattrs.get(name).map(|value| shown(value));
                compare(&format!("attribute {}", shown(name)), &value(self), &value(other));
            }
        }
        found
    }
}

/// The inode flags that `chattr` can set and that say something about the entry itself.
const FLAGS: IFlags = IFlags::SYNC
    .union(IFlags::IMMUTABLE)
    .union(IFlags::APPEND)
    .union(IFlags::NODUMP)
    .union(IFlags::NOATIME)
    .union(IFlags::DIRSYNC)
    .union(IFlags::TOPDIR)
    .union(IFlags::NOCOW);

#[derive(Default)]
struct Look {
    portrait: Portrait,
    groups: BTreeMap<(u32, u32, u64), BTreeSet<Relative>>,
}

impl Look {
    fn directory(&mut self, directory: &OwnedFd, path: &Relative) -> io::Result<()> {
        for (name, kind) in names(directory)? {
            let mut below = path.clone();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(&name);
            self.entry(directory, &name, below.clone())?;
            if kind == FileType::Directory {
                self.directory(&open_directory(directory, name.as_slice())?, &below)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, parent: &OwnedFd, name: &[u8], path: Relative) -> io::Result<()> {
        let seen = rustix::fs::statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
        let kind = FileType::from_raw_mode(seen.stx_mode.into());
        let mut entry = Entry {
            kind,
            mode: u32::from(seen.stx_mode) & 0o7777,
            owner: (seen.stx_uid, seen.stx_gid),
            modified: (seen.stx_mtime.tv_sec, seen.stx_mtime.tv_nsec),
            xattrs: xattrs(&through(parent, name))?,
            flags: 0,
            device: (seen.stx_rdev_major, seen.stx_rdev_minor),
            target: Vec::new(),
            size: 0,
            content: None,
            data: Vec::new(),
        };
        match kind {
            FileType::Symlink => entry.target = rustix::fs::readlinkat(parent, name, Vec::new())?.into_bytes(),
            FileType::Directory => {
                entry.flags = flags(&open_directory(parent, name)?)?;
            }
            FileType::RegularFile => {
                let open = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, name, open, Mode::empty())?;
                entry.flags = flags(&file)?;
                entry.size = seen.stx_size;
                entry.data = runs(&file, seen.stx_size)?;
                entry.content = Some(content(&File::from(file), &entry)?);
            }
            _ => {}
        }
        if kind != FileType::Directory && seen.stx_nlink > 1 {
            let inode = (seen.stx_dev_major, seen.stx_dev_minor, seen.stx_ino);
            self.groups.entry(inode).or_default().insert(path.clone());
        }
        self.portrait.entries.insert(path, entry);
        Ok(())
    }
}

fn flags(file: &OwnedFd) -> io::Result<u32> {
    match rustix::fs::ioctl_getflags(file) {
        Ok(flags) => Ok(flags.intersection(FLAGS).bits()),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL) => Ok(0), // a file system without flags
        Err(error) => Err(error.into()),
    }
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut buffer = vec![0; 1 << 16];
    let length = match rustix::fs::llistxattr(path, &mut buffer[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let names = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
            value.truncate(length);
            Ok((name.to_vec(), value))
        })
        .collect()
}

/// The runs of data that the file system admits to.
fn runs(file: &OwnedFd, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut runs = Vec::new();
    let mut offset = 0;
    while offset < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        runs.push((start, end));
        offset = end;
    }
    Ok(runs)
}

/// BLAKE3 of the offsets and bytes of all blocks that are not zero: the same wherever the holes lie, and 5 GiB of
/// nothing take no time. Small holes are read as well, so that a file system that lies about them is found out.
fn content(file: &File, entry: &Entry) -> io::Result<[u8; 32]> {
    const HOLE_READ_BYTES: u64 = 64 << 20;
    const BLOCK_BYTES: u64 = 4096;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 * BLOCK_BYTES as usize];
    let mut offset = 0;
    while offset < entry.size {
        let run = entry.data.iter().find(|(_, end)| *end > offset);
        let hole_end = run.map_or(entry.size, |(start, _)| start / BLOCK_BYTES * BLOCK_BYTES);
        if hole_end.saturating_sub(offset) > HOLE_READ_BYTES {
            offset = hole_end;
            continue;
        }
        let wanted = buffer.len().min((entry.size - offset) as usize);
        file.read_exact_at(&mut buffer[..wanted], offset)?;
        for block in buffer[..wanted].chunks(BLOCK_BYTES as usize) {
            if block.iter().any(|byte| *byte != 0) {
                hasher.update(&offset.to_le_bytes()).update(block);
            }
            offset += block.len() as u64;
        }
    }
    Ok(*hasher.finalize().as_bytes())
}

/// Raw bytes for people.
pub fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
