//! Owner, mode, times, extended attributes and inode flags of one inode, always through a descriptor that holds it.
//! In which order they are set is `ops::restore`'s business.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{self, AtFlags, CWD, Gid, IFlags, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::format::tree::Timestamp;

/// Extended attributes are asked for again this often while others change them.
const RETRIES: usize = 8;

/// FS_IMMUTABLE_FL | FS_APPEND_FL: nothing can be written, linked or removed while one of them is set.
pub const PROTECTING_FLAGS: u32 = IFlags::IMMUTABLE.union(IFlags::APPEND).bits();

/// FS_NOCOW_FL | FS_COMPR_FL: they count only for what is written while they are set.
pub const EARLY_FLAGS: u32 = IFlags::NOCOW.union(IFlags::COMPRESSED).bits();

/// What chattr can set. The others (extents, encrypted, verity, indexed, inline) are the file system's own.
const SETTABLE_FLAGS: u32 = IFlags::APPEND
    .union(IFlags::COMPRESSED)
    .union(IFlags::DIRSYNC)
    .union(IFlags::IMMUTABLE)
    .union(IFlags::JOURNALING)
    .union(IFlags::NOATIME)
    .union(IFlags::NOCOW)
    .union(IFlags::NODUMP)
    .union(IFlags::NOTAIL)
    .union(IFlags::PROJECT_INHERIT)
    .union(IFlags::SECURE_REMOVAL)
    .union(IFlags::SYNC)
    .union(IFlags::TOPDIR)
    .union(IFlags::UNRM)
    .bits();

/// The attributes of one inode.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    fd: BorrowedFd<'a>,
    reach: Reach<'a>,
}

/// What the descriptor is good for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reach<'a> {
    /// Everything.
    Open,
    /// It only pins the inode, which has to be reached through the kernel's own link to it.
    Pinned,
    /// It pins a symlink, which such a link would follow: extended attributes are reached by directory and name.
    Symlink { directory: BorrowedFd<'a>, name: &'a [u8] },
}

impl<'a> Attributes<'a> {
    pub(super) fn open(fd: BorrowedFd<'a>) -> Self {
        Self { fd, reach: Reach::Open }
    }

    pub(super) fn pinned(fd: BorrowedFd<'a>, reach: Reach<'a>) -> Self {
        Self { fd, reach }
    }

    fn is_open(&self) -> bool {
        matches!(self.reach, Reach::Open)
    }

    /// The one way to reach a pinned inode with calls that take no such descriptor.
    fn kernel_link(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    /// Sets owner and group; `None` leaves one as it is.
    pub fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        // All ones is "leave as it is" to the kernel, and no owner.
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL.into());
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        let result = match self.reach {
            Reach::Open => fs::fchown(self.fd, uid, gid),
            _ => fs::chownat(self.fd, "", uid, gid, AtFlags::EMPTY_PATH),
        };
        Ok(result?)
    }

    /// Sets the permission bits, setuid, setgid and sticky among them. Not for symlinks, which have none.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        let result = match self.reach {
            Reach::Open => fs::fchmod(self.fd, mode),
            Reach::Pinned => fs::chmodat(CWD, self.kernel_link(), mode, AtFlags::empty()),
            Reach::Symlink { .. } => Err(Errno::OPNOTSUPP),
        };
        Ok(result?)
    }

    /// The permission bits as they are now.
    pub fn mode(&self) -> io::Result<u32> {
        Ok(fs::fstat(self.fd)?.st_mode & 0o7777)
    }

    /// Sets mtime, and atime if there is one.
    pub fn set_times(&self, modified: Timestamp, accessed: Option<Timestamp>) -> io::Result<()> {
        let time = |time: Timestamp| Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
        let times = Timestamps {
            last_access: accessed.map_or(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, time),
            last_modification: time(modified),
        };
        let result = match self.reach {
            Reach::Open => fs::futimens(self.fd, &times),
            _ => fs::utimensat(self.fd, "", &times, AtFlags::EMPTY_PATH),
        };
        Ok(result?)
    }

    /// The names of its extended attributes; none where the file system knows none.
    pub fn xattr_names(&self) -> io::Result<Vec<Vec<u8>>> {
        let list = grown(|buffer| match self.reach {
            Reach::Open => fs::flistxattr(self.fd, buffer),
            Reach::Pinned => fs::listxattr(self.kernel_link(), buffer),
            Reach::Symlink { directory, name } => fs::llistxattr(name_below(directory, name), buffer),
        });
        match list {
            Ok(list) => Ok(list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()),
            Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The value of an extended attribute; `None` if there is no such.
    pub fn xattr(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let value = grown(|buffer| match self.reach {
            Reach::Open => fs::fgetxattr(self.fd, key, buffer),
            Reach::Pinned => fs::getxattr(self.kernel_link(), key, buffer),
            Reach::Symlink { directory, name } => fs::lgetxattr(name_below(directory, name), key, buffer),
        });
        match value {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets an extended attribute.
    pub fn set_xattr(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let flags = XattrFlags::empty();
        let result = match self.reach {
            Reach::Open => fs::fsetxattr(self.fd, key, value, flags),
            Reach::Pinned => fs::setxattr(self.kernel_link(), key, value, flags),
            Reach::Symlink { directory, name } => fs::lsetxattr(name_below(directory, name), key, value, flags),
        };
        Ok(result?)
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, key: &[u8]) -> io::Result<()> {
        let result = match self.reach {
            Reach::Open => fs::fremovexattr(self.fd, key),
            Reach::Pinned => fs::removexattr(self.kernel_link(), key),
            Reach::Symlink { directory, name } => fs::lremovexattr(name_below(directory, name), key),
        };
        Ok(result?)
    }

    /// The inode flags that chattr can set; `None` where the file system has none, or for what cannot be opened.
    pub fn flags(&self) -> io::Result<Option<u32>> {
        if !self.is_open() {
            return Ok(None);
        }
        match fs::ioctl_getflags(self.fd) {
            Ok(flags) => Ok(Some(flags.bits() & SETTABLE_FLAGS)),
            Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the inode flags that chattr can set to `flags`, and leaves the file system's own as they are.
    pub fn set_flags(&self, flags: u32) -> io::Result<()> {
        if !self.is_open() {
            return Err(Errno::OPNOTSUPP.into());
        }
        let now = fs::ioctl_getflags(self.fd)?.bits();
        let wanted = now & !SETTABLE_FLAGS | flags & SETTABLE_FLAGS;
        if wanted != now {
            fs::ioctl_setflags(self.fd, IFlags::from_bits_retain(wanted))?;
        }
        Ok(())
    }

    /// Makes what is immutable or append-only writable.
    pub fn remove_protection(&self) -> io::Result<()> {
        match self.flags()? {
            Some(flags) if flags & PROTECTING_FLAGS != 0 => self.set_flags(flags & !PROTECTING_FLAGS),
            _ => Ok(()),
        }
    }
}

/// A name in a directory that a descriptor holds, as a path.
fn name_below(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Calls `read` with a buffer that is large enough: 64 KiB is the most that Linux gives for either question.
fn grown(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 512];
    for _ in 0..RETRIES {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
    Err(Errno::RANGE)
}
