//! Planned trees made real, relative to directory descriptors, so that depth and names have no limit but the
//! file system's; and made soft again, so that they can be removed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Gid, IFlags, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use super::dice::Dice;
use super::{Attributes, Kind, Name, Piece, Planned};

/// Makes `planned`, which must be a directory, at `path`, which must not exist.
pub fn grow(path: &Path, planned: &Planned) -> io::Result<()> {
    let mut growth = Growth::default();
    let parent = path.parent().expect("a tree grows inside a directory");
    let name = path.file_name().expect("a tree's root has a name").as_bytes();
    let parent = Rc::new(open_directory(CWD, parent)?);
    growth.entry(&parent, name, planned)?;
    // Last of all: nothing can be linked to, written or dated once it is immutable.
    for (file, flags) in growth.flagged {
        let before = rustix::fs::ioctl_getflags(&file)?;
        rustix::fs::ioctl_setflags(&file, before | IFlags::from_bits_retain(flags))?;
    }
    Ok(())
}

#[derive(Default)]
struct Growth {
    /// Where each thing lies that a hard link can point to, in the order of making.
    linkable: Vec<(Rc<OwnedFd>, Name)>,
    flagged: Vec<(OwnedFd, u32)>,
}

impl Growth {
    fn entry(&mut self, parent: &Rc<OwnedFd>, name: &[u8], planned: &Planned) -> io::Result<()> {
        let node =
            |kind, major, minor| rustix::fs::mknodat(parent, name, kind, Mode::RUSR, rustix::fs::makedev(major, minor));
        match &planned.kind {
            Kind::File(pieces) => write_file(parent, name, pieces)?,
            Kind::Directory(entries) => self.directory(parent, name, entries)?,
            Kind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), parent, name)?,
            Kind::Fifo => node(FileType::Fifo, 0, 0)?,
            Kind::Socket => node(FileType::Socket, 0, 0)?,
            Kind::BlockDevice(major, minor) => node(FileType::BlockDevice, *major, *minor)?,
            Kind::CharDevice(major, minor) => node(FileType::CharacterDevice, *major, *minor)?,
            Kind::Link(_) if self.linkable.is_empty() => write_file(parent, name, &[])?,
            Kind::Link(which) => {
                let (directory, other) = &self.linkable[usize::from(*which) % self.linkable.len()];
                return Ok(rustix::fs::linkat(directory, other.as_slice(), parent, name, AtFlags::empty())?);
            }
        }
        self.dress(parent, name, planned)?;
        if !matches!(planned.kind, Kind::Directory(_)) {
            self.linkable.push((parent.clone(), name.to_vec()));
        }
        Ok(())
    }

    fn directory(&mut self, parent: &Rc<OwnedFd>, name: &[u8], entries: &BTreeMap<Name, Planned>) -> io::Result<()> {
        rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
        let directory = Rc::new(open_directory(parent, name)?);
        entries.iter().try_for_each(|(name, planned)| self.entry(&directory, name, planned))
    }

    /// Owner first, for giving away clears setuid and capabilities; times last, flags at the very end.
    fn dress(&mut self, parent: &Rc<OwnedFd>, name: &[u8], planned: &Planned) -> io::Result<()> {
        let Attributes { mode, owner, modified, xattrs, flags } = &planned.attributes;
        let is_symlink = matches!(planned.kind, Kind::Symlink(_));
        if let Some((uid, gid)) = owner {
            let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if !is_symlink {
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(*mode), AtFlags::empty())?;
        }
        for (attribute, value) in xattrs {
            let path = through(parent, name);
            rustix::fs::lsetxattr(path, attribute.as_slice(), value, XattrFlags::empty())?;
        }
        set_modified(parent, name, *modified)?;
        if *flags != 0 && matches!(planned.kind, Kind::File(_) | Kind::Directory(_)) {
            let readable = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            self.flagged.push((rustix::fs::openat(parent, name, readable, Mode::empty())?, *flags));
        }
        Ok(())
    }
}

/// Sets the time of modification; that of access stays.
pub(super) fn set_modified(
    directory: impl AsFd,
    name: impl rustix::path::Arg,
    (seconds, nanoseconds): (i64, u32),
) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    };
    Ok(rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A path to an entry of an open directory, for calls that take no descriptor; short however deep that lies.
pub(crate) fn through(directory: impl AsFd, name: &[u8]) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()));
    path.push(std::ffi::OsStr::from_bytes(name));
    path
}

/// Opens a directory, never through a symlink.
pub(crate) fn open_directory(parent: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn write_file(parent: &OwnedFd, name: &[u8], pieces: &[Piece]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
    let mut offset = 0;
    for piece in pieces {
        offset += match piece {
            Piece::Random { seed, length } => write(&file, offset, &Dice::new(*seed).bytes(*length))?,
            Piece::Text { seed, length } => write(&file, offset, &Dice::new(*seed).text(*length))?,
            Piece::Zeros { length } => write(&file, offset, &vec![0; *length as usize])?,
            Piece::Hole { length } => *length,
        };
    }
    file.set_len(offset)
}

fn write(file: &File, offset: u64, bytes: &[u8]) -> io::Result<u64> {
    file.write_all_at(bytes, offset)?;
    Ok(bytes.len() as u64)
}

/// Takes away what keeps a tree from being removed: flags that forbid it, directories that cannot be entered.
/// Does what it can and never fails: removal will say what is left.
pub fn soften(path: &Path) {
    if let Ok(parent) = open_directory(CWD, path) {
        soften_directory(&parent);
    }
}

fn soften_directory(directory: &OwnedFd) {
    release(directory);
    let _ = rustix::fs::fchmod(directory, Mode::RWXU);
    for (name, kind) in names(directory).unwrap_or_default() {
        match kind {
            FileType::Directory => {
                let _ = rustix::fs::chmodat(directory, name.as_slice(), Mode::RWXU, AtFlags::empty());
                if let Ok(child) = open_directory(directory, name.as_slice()) {
                    soften_directory(&child);
                }
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                if let Ok(file) = rustix::fs::openat(directory, name.as_slice(), flags, Mode::empty()) {
                    release(&file);
                }
            }
            _ => {}
        }
    }
}

fn release(file: &OwnedFd) {
    let forbidding = IFlags::IMMUTABLE | IFlags::APPEND;
    if let Ok(flags) = rustix::fs::ioctl_getflags(file)
        && flags.intersects(forbidding)
    {
        let _ = rustix::fs::ioctl_setflags(file, flags.difference(forbidding));
    }
}

/// The names in an open directory with their kinds, ascending by raw bytes.
pub(crate) fn names(directory: &OwnedFd) -> io::Result<Vec<(Name, FileType)>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let seen = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            names.push((name.to_vec(), FileType::from_raw_mode(seen.st_mode)));
        }
    }
    names.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(names)
}
