//! Writing trees: everything below one root descriptor, never through a symlink.
//!
//! A name here is always one component; it is checked in this file, whoever calls, so that no mistake above can name
//! something outside. What a restore wants, and in which order, is `ops::restore`'s business.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat};
use rustix::io::Errno;

use crate::format::tree::{NodeKind, Timestamp};

mod attributes;
mod removal;

use attributes::Reach;
pub use attributes::{Attributes, EARLY_FLAGS, PROTECTING_FLAGS};
pub use removal::{Removal, remove_tree};

/// Symlinks that are followed in the parents of the target's own path, as the kernel counts.
const LINKS_MAX: usize = 40;
/// A path is opened in pieces of at most this many bytes: the kernel takes 4,096 with the final NUL.
const PATH_PIECE_MAX: usize = 3072;
const OPEN_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const OPEN_PINNED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Raw bytes as the path they are.
pub fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// How many descriptors this process may have open.
pub fn open_files_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Whether this process acts as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An inode of this machine: two names with the same identity are one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
}

/// One look at something in the target, without following links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub identity: Identity,
    pub kind: NodeKind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u64,
    pub size: u64,
    pub modified: Timestamp,
    pub special_device: u64,
}

impl Status {
    fn of(stat: &Stat) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => NodeKind::File,
            FileType::Directory => NodeKind::Directory,
            FileType::Symlink => NodeKind::Symlink,
            FileType::Fifo => NodeKind::Fifo,
            FileType::Socket => NodeKind::Socket,
            FileType::BlockDevice => NodeKind::BlockDevice,
            FileType::CharacterDevice => NodeKind::CharDevice,
            FileType::Unknown => return Err(io::Error::other("of an unknown kind")),
        };
        // The widths of these fields differ between architectures.
        #[allow(clippy::unnecessary_cast)]
        Ok(Self {
            identity: Identity { device: stat.st_dev as u64, inode: stat.st_ino as u64 },
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: stat.st_nlink as u64,
            size: stat.st_size as u64,
            modified: Timestamp { seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as u32 },
            special_device: stat.st_rdev as u64,
        })
    }
}

/// One component of a path, or an error: nothing else is ever given to the kernel as a name.
fn component(name: &[u8]) -> io::Result<&[u8]> {
    let bad = name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0));
    if bad { Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of an entry")) } else { Ok(name) }
}

/// A directory of the target, by its descriptor.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
}

/// Opens the directory that a restore writes below, making it and its parents (0700) if `create`; `None` if it is not
/// there and is not to be made.
///
/// Parents in the path may be symlinks of the user or of root. The last component may not be one: what it points to
/// could be changed under the restore, and was perhaps not meant.
pub fn open_target(path: &Path, create: bool) -> io::Result<Option<Directory>> {
    let split = |bytes: &[u8]| -> Vec<Vec<u8>> {
        bytes.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec).collect()
    };
    let bytes = path.as_os_str().as_bytes();
    let top = |absolute: bool| -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(fs::openat(CWD, if absolute { "/" } else { "." }, flags, Mode::empty())?)
    };
    let mut fd = top(bytes.starts_with(b"/"))?;
    let mut pending = VecDeque::from(split(bytes));
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        let opened = match fs::openat(&fd, &*name, OPEN_PINNED, Mode::empty()) {
            Err(Errno::NOENT) if !create => return Ok(None),
            Err(Errno::NOENT) => {
                match fs::mkdirat(&fd, &*name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                fs::openat(&fd, &*name, OPEN_PINNED, Mode::empty())?
            }
            other => other?,
        };
        let stat = fs::fstat(&opened)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => fd = opened,
            FileType::Symlink => {
                let trusted = stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw();
                links += 1;
                if pending.is_empty() {
                    return Err(io::Error::other("inside a symlink: the target itself is one"));
                }
                if !trusted || links > LINKS_MAX {
                    return Err(io::Error::other("inside a symlink that another user controls"));
                }
                let target = fs::readlinkat(&opened, "", Vec::new())?.into_bytes();
                if target.starts_with(b"/") {
                    fd = top(true)?;
                }
                split(&target).into_iter().rev().for_each(|part| pending.push_front(part));
            }
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    Ok(Some(Directory { fd: fs::openat(&fd, ".", OPEN_DIRECTORY, Mode::empty())? }))
}

impl Directory {
    /// Whether entries may be made here.
    pub fn check_writable(&self) -> io::Result<()> {
        match fs::accessat(&self.fd, ".", fs::Access::WRITE_OK | fs::Access::EXEC_OK, AtFlags::EACCESS) {
            // A kernel without faccessat2 cannot say; the first entry will.
            Ok(()) | Err(Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// One look at this directory.
    pub fn own_status(&self) -> io::Result<Status> {
        Status::of(&fs::fstat(&self.fd)?)
    }

    /// One look at an entry; `None` if there is none.
    pub fn status(&self, name: &[u8]) -> io::Result<Option<Status>> {
        match fs::statat(&self.fd, component(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Status::of(&stat).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a directory in this one. Anything else there is an error.
    pub fn open_directory(&self, name: &[u8]) -> io::Result<Self> {
        Ok(Self { fd: fs::openat(&self.fd, component(name)?, OPEN_DIRECTORY, Mode::empty())? })
    }

    /// Makes a directory, for its owner alone; an error if the name is taken.
    pub fn make_directory(&self, name: &[u8]) -> io::Result<Self> {
        fs::mkdirat(&self.fd, component(name)?, Mode::RWXU)?;
        self.open_directory(name)
    }

    /// Opens a directory further below: names with `/` between them, however long.
    pub fn open_below(&self, path: &[u8]) -> io::Result<Self> {
        let mut directory = Self { fd: fs::openat(&self.fd, ".", OPEN_DIRECTORY, Mode::empty())? };
        let mut piece = Vec::new();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            if !piece.is_empty() && piece.len() + name.len() >= PATH_PIECE_MAX {
                directory = directory.open_piece(&piece)?;
                piece.clear();
            }
            if !piece.is_empty() {
                piece.push(b'/');
            }
            piece.extend_from_slice(component(name)?);
        }
        if piece.is_empty() { Ok(directory) } else { directory.open_piece(&piece) }
    }

    fn open_piece(&self, piece: &[u8]) -> io::Result<Self> {
        /// Set once the kernel has said that it does not know openat2 (before 5.6).
        static UNKNOWN: AtomicBool = AtomicBool::new(false);
        if !UNKNOWN.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match fs::openat2(&self.fd, piece, OPEN_DIRECTORY, Mode::empty(), resolve) {
                Err(Errno::NOSYS) => UNKNOWN.store(true, Ordering::Relaxed),
                // A rename somewhere on the machine disturbed the lookup: name by name it cannot be.
                Err(Errno::AGAIN) => {}
                other => return Ok(Self { fd: other? }),
            }
        }
        self.open_stepwise(piece)
    }

    /// As strict as openat2: each step is one name, and no step follows a link.
    fn open_stepwise(&self, piece: &[u8]) -> io::Result<Self> {
        let mut names = piece.split(|byte| *byte == b'/');
        let first = self.open_directory(names.next().unwrap_or_default())?;
        names.try_fold(first, |directory, name| directory.open_directory(name))
    }

    /// Makes a file, for its owner alone; `None` if the name is taken.
    pub fn create_file(&self, name: &[u8]) -> io::Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(&self.fd, component(name)?, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => Ok(Some(File { fd })),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the regular file that `status` told of, to read it, or to patch it if `write`.
    /// Another inode under the name, or another kind, is an error. Never blocks, never follows.
    pub fn open_file(&self, name: &[u8], status: &Status, write: bool) -> io::Result<(File, Status)> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File { fd: fs::openat(&self.fd, component(name)?, flags, Mode::empty())? };
        let now = file.status()?;
        if now.kind != NodeKind::File || now.identity != status.identity || (write && now.links > 1) {
            return Err(io::Error::other("was replaced meanwhile"));
        }
        Ok((file, now))
    }

    /// Lets this process read, write and enter an own entry that its mode or its flags keep closed.
    /// What it had is lost: for entries that are about to be restored or removed. A file with several names is left
    /// alone, since one of them may lie outside the target.
    pub fn unlock(&self, name: &[u8], status: &Status) -> io::Result<()> {
        let needed = match status.kind {
            NodeKind::Directory => 0o700,
            NodeKind::File if status.links == 1 => 0o600,
            _ => return Ok(()),
        };
        let same = |now: Status| {
            if now.identity == status.identity { Ok(()) } else { Err(io::Error::other("was replaced meanwhile")) }
        };
        if status.mode & needed != needed {
            let pinned = self.pin(name)?;
            same(pinned.status()?)?;
            pinned.attributes().set_mode(status.mode | needed)?;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, component(name)?, flags, Mode::empty())?;
        same(Status::of(&fs::fstat(&fd)?)?)?;
        Attributes::open(fd.as_fd()).remove_protection()
    }

    /// Makes a symlink.
    pub fn make_symlink(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(fs::symlinkat(target, &self.fd, component(name)?)?)
    }

    /// Where a symlink points.
    pub fn read_symlink(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(&self.fd, component(name)?, Vec::new())?.into_bytes())
    }

    /// Makes a fifo, socket or device, for its owner alone.
    pub fn make_special(&self, name: &[u8], kind: NodeKind, device: u64) -> io::Result<()> {
        let (kind, device) = match kind {
            NodeKind::Fifo => (FileType::Fifo, 0),
            NodeKind::Socket => (FileType::Socket, 0),
            NodeKind::BlockDevice => (FileType::BlockDevice, device),
            NodeKind::CharDevice => (FileType::CharacterDevice, device),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a special file")),
        };
        Ok(fs::mknodat(&self.fd, component(name)?, kind, Mode::RUSR | Mode::WUSR, device)?)
    }

    /// Gives the inode `identity`, which has the name `old` in `from`, one more name here.
    /// Whatever else stands there by now is not linked, or the link is taken back.
    pub fn link(&self, name: &[u8], from: &Self, old: &[u8], identity: Identity) -> io::Result<()> {
        let replaced = || io::Error::other("the first of its hard links was replaced meanwhile");
        if from.status(old)?.map(|status| status.identity) != Some(identity) {
            return Err(replaced());
        }
        fs::linkat(&from.fd, component(old)?, &self.fd, component(name)?, AtFlags::empty())?;
        if self.status(name)?.map(|status| status.identity) != Some(identity) {
            fs::unlinkat(&self.fd, component(name)?, AtFlags::empty())?;
            return Err(replaced());
        }
        Ok(())
    }

    /// Gives a file of this directory another name here, in one step, in place of whatever but a directory has it.
    pub fn rename(&self, old: &[u8], new: &[u8]) -> io::Result<()> {
        Ok(fs::renameat(&self.fd, component(old)?, &self.fd, component(new)?)?)
    }

    /// Removes an entry that is no directory.
    pub fn remove(&self, name: &[u8]) -> io::Result<()> {
        self.unlink(name, AtFlags::empty())
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, name: &[u8]) -> io::Result<()> {
        self.unlink(name, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, name: &[u8], flags: AtFlags) -> io::Result<()> {
        match fs::unlinkat(&self.fd, component(name)?, flags) {
            Err(Errno::PERM) => {
                // Perhaps immutable or append-only.
                if let Some(status) = self.status(name)? {
                    self.unlock(name, &status)?;
                }
                Ok(fs::unlinkat(&self.fd, name, flags)?)
            }
            other => Ok(other?),
        }
    }

    /// Holds on to an entry that cannot be opened, or must not be: a symlink, fifo, socket or device.
    pub fn pin<'a>(&'a self, name: &'a [u8]) -> io::Result<Pinned<'a>> {
        let fd = fs::openat(&self.fd, component(name)?, OPEN_PINNED, Mode::empty())?;
        let is_symlink = FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) == FileType::Symlink;
        Ok(Pinned { fd, directory: self, name, is_symlink })
    }

    /// This directory's own attributes.
    pub fn attributes(&self) -> Attributes<'_> {
        Attributes::open(self.fd.as_fd())
    }

    /// The names of all entries, in no order, some kilobytes of them in memory at a time.
    pub fn names(&self) -> io::Result<Names> {
        let fd = fs::openat(&self.fd, ".", OPEN_DIRECTORY, Mode::empty())?;
        Ok(Names { fd, buffer: vec![MaybeUninit::uninit(); 32 << 10], ready: VecDeque::new() })
    }
}

/// An entry held by a descriptor that gives no access to its content.
#[derive(Debug)]
pub struct Pinned<'a> {
    fd: OwnedFd,
    directory: &'a Directory,
    name: &'a [u8],
    is_symlink: bool,
}

impl Pinned<'_> {
    /// One look at it.
    pub fn status(&self) -> io::Result<Status> {
        Status::of(&fs::fstat(&self.fd)?)
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'_> {
        let reach = if self.is_symlink {
            Reach::Symlink { directory: self.directory.fd.as_fd(), name: self.name }
        } else {
            Reach::Pinned
        };
        Attributes::pinned(self.fd.as_fd(), reach)
    }
}

/// The names in a directory.
#[derive(Debug)]
pub struct Names {
    fd: OwnedFd,
    buffer: Vec<MaybeUninit<u8>>,
    ready: VecDeque<Vec<u8>>,
}

impl Iterator for Names {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            let mut entries = fs::RawDir::new(&self.fd, &mut self.buffer);
            loop {
                match entries.next() {
                    None => return None,
                    Some(Err(error)) => return Some(Err(error.into())),
                    Some(Ok(entry)) => {
                        let name = entry.file_name().to_bytes();
                        if name != b"." && name != b".." {
                            self.ready.push_back(name.to_vec());
                        }
                    }
                }
                if entries.is_buffer_empty() {
                    break;
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

/// An open regular file of the target.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
}

impl File {
    /// One look at it.
    pub fn status(&self) -> io::Result<Status> {
        Status::of(&fs::fstat(&self.fd)?)
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'_> {
        Attributes::open(self.fd.as_fd())
    }

    /// Fills the buffer from `offset` on, or as much of it as there is; returns how much.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::pread(&self.fd, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }

    /// Writes all of it at `offset`.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::pwrite(&self.fd, &bytes[written..], offset + written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Brings its content to where a power failure leaves it.
    pub fn make_durable(&self) -> io::Result<()> {
        Ok(fs::fdatasync(&self.fd)?)
    }

    /// Cuts it, or lengthens it by a hole.
    pub fn set_length(&self, length: u64) -> io::Result<()> {
        Ok(fs::ftruncate(&self.fd, length)?)
    }

    /// Makes a hole; the length of the file stays.
    pub fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        Ok(fs::fallocate(&self.fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length)?)
    }

    /// Whether a hole begins or lies in this range, which must be within the file.
    pub fn has_hole(&self, offset: u64, length: u64) -> io::Result<bool> {
        match fs::seek(&self.fd, SeekFrom::Hole(offset)) {
            Ok(hole) => Ok(hole < offset.saturating_add(length)),
            // The file system knows no holes; or the file was cut meanwhile.
            Err(Errno::INVAL | Errno::NXIO) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the next byte from `offset` on is that is not in a hole; `None` if there is none.
    pub fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match fs::seek(&self.fd, SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data)),
            Err(Errno::NXIO) => Ok(None),
            // The file system knows no holes.
            Err(Errno::INVAL) => Ok(Some(offset)),
            Err(error) => Err(error.into()),
        }
    }
}
