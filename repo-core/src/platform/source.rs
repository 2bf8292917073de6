//! Reading trees of this machine: one look at an entry, a directory's names, an open file and its holes.
//! Descriptors and their budget are in [`handle`], extended attributes and inode flags in [`attributes`].
//! What is shown and what is left out is the walk's business.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Statx, StatxFlags};
use rustix::io::Errno;

use crate::format::tree::{Metadata, NodeKind, Timestamp};
use crate::platform::host::Names;

pub mod attributes;
pub mod device;
pub mod handle;
pub mod listing;
pub mod small;

pub use attributes::{
    Attributes, attributes_of_directory, attributes_of_file, attributes_of_other, attributes_of_passed,
};
pub use handle::{Access, Handle, Identity, Links, Pool};
pub use listing::Listing;
pub use small::{kind_at, read_small_file, real_path};

/// The raw bytes of a path.
pub fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// A path of raw bytes.
pub fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// The number of a device, of which archives tell two parts.
pub fn device_number(major: u32, minor: u32) -> u64 {
    rustix::fs::makedev(major, minor)
}

/// Major and minor number of a device.
pub fn device_parts(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

/// The current directory, to which relative paths belong, as an absolute path without links.
pub fn current_directory() -> io::Result<PathBuf> {
    let path = rustix::process::getcwd(Vec::new())?.into_bytes();
    // The kernel writes "(unreachable)" before a directory outside this process's root.
    if path.starts_with(b"/") { Ok(path_of(path)) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// What is said of an entry that is no longer the one that was looked at.
pub fn replaced() -> io::Error {
    io::Error::other("something else has this name now: it was replaced while the tree was read")
}

/// File systems that keep an inode's number and birth time with the inode, and give the number to nothing else before it
/// is gone, by their numbers in `statfs(2)`: ext2 to ext4, XFS, Btrfs, F2FS, bcachefs, ZFS, tmpfs. Not among them are those
/// that number what was looked up, in whatever order it was (FAT, most of FUSE, CIFS without the server's numbers), for
/// there another file has the number after the next mount; nor those that show what lies elsewhere (overlayfs, NFS).
const KEEPING_NUMBERS: [u64; 7] =
    [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0xCA45_1A4E, 0x2FC1_2FC1, 0x0102_1994];

/// Whether the file system of a directory is known to keep inode numbers.
pub fn numbers_last(directory: impl AsFd) -> bool {
    // Its type is 32 bits that some machines extend by their sign.
    rustix::fs::fstatfs(directory).is_ok_and(|found| KEEPING_NUMBERS.contains(&(found.f_type as u64 & 0xFFFF_FFFF)))
}

/// Errors that opening by name gives if the name stands for another kind of thing than a moment ago.
fn explain_opening(error: Errno) -> io::Error {
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::ISDIR => replaced(),
        error => error.into(),
    }
}

/// Looks at entries: everything that one `statx` says, with the names of owners.
#[derive(Debug, Default)]
pub struct Looker {
    names: Names,
    with_atime: bool,
}

impl Looker {
    /// `with_atime`: record access times.
    pub fn new(with_atime: bool) -> Self {
        Self { names: Names::new(), with_atime }
    }

    /// One look at an entry of a directory, without following it and without mounting anything.
    pub fn look(&self, directory: impl AsFd, name: &CStr) -> io::Result<Metadata> {
        self.statx(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
    }

    /// A look at what a descriptor stands for.
    pub fn look_through(&self, descriptor: impl AsFd) -> io::Result<Metadata> {
        self.statx(descriptor.as_fd(), c"", AtFlags::EMPTY_PATH)
    }

    fn statx(&self, directory: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<Metadata> {
        let mut wanted = StatxFlags::BASIC_STATS.difference(StatxFlags::BLOCKS | StatxFlags::ATIME) | StatxFlags::BTIME;
        if self.with_atime {
            wanted |= StatxFlags::ATIME;
        }
        self.metadata(&rustix::fs::statx(directory, name, flags, wanted)?)
    }

    fn metadata(&self, found: &Statx) -> io::Result<Metadata> {
        let kind = kind_of(found)?;
        let has = |field: StatxFlags| found.stx_mask & field.bits() == field.bits();
        let is_device = matches!(kind, NodeKind::BlockDevice | NodeKind::CharDevice);
        Ok(Metadata {
            kind,
            mode: u32::from(found.stx_mode) & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            user: self.names.user(found.stx_uid).map_or_else(Vec::new, |name| name.as_bytes().to_vec()),
            group: self.names.group(found.stx_gid).map_or_else(Vec::new, |name| name.as_bytes().to_vec()),
            modified: timestamp(&found.stx_mtime),
            changed: timestamp(&found.stx_ctime),
            born: has(StatxFlags::BTIME).then(|| timestamp(&found.stx_btime)),
            accessed: (self.with_atime && has(StatxFlags::ATIME)).then(|| timestamp(&found.stx_atime)),
            inode: found.stx_ino,
            device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
            links: found.stx_nlink,
            size: if kind == NodeKind::File { found.stx_size } else { 0 },
            special_device: if is_device { rustix::fs::makedev(found.stx_rdev_major, found.stx_rdev_minor) } else { 0 },
            flags: 0,
            unstable: false,
        })
    }
}

fn kind_of(found: &Statx) -> io::Result<NodeKind> {
    Ok(match FileType::from_raw_mode(u32::from(found.stx_mode)) {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Directory,
        FileType::Symlink => NodeKind::Symlink,
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
        FileType::BlockDevice => NodeKind::BlockDevice,
        FileType::CharacterDevice => NodeKind::CharDevice,
        FileType::Unknown => return Err(io::Error::other("a kind of file that is not known")),
    })
}

fn timestamp(time: &rustix::fs::StatxTimestamp) -> Timestamp {
    // Some network file systems hand out more than a second of nanoseconds; the format does not hold such.
    Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec.min(999_999_999) }
}

/// The identity of whatever lies at `path`, links followed.
pub fn identity_of_path(path: &Path) -> io::Result<Identity> {
    let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::INO)?;
    Ok(Identity::of_statx(&found))
}

/// Whether `directory` holds a file `name` that begins with `head`. Links are not followed, and nothing but a
/// file is opened.
pub fn holds_file(directory: impl AsFd, name: &CStr, head: &[u8]) -> bool {
    let directory = directory.as_fd();
    let Ok(found) = rustix::fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) else {
        return false;
    };
    if !matches!(kind_of(&found), Ok(NodeKind::File)) {
        return false;
    }
    if head.is_empty() {
        return true;
    }
    let Ok(file) = open_for_reading(directory, name) else { return false };
    let mut start = vec![0; head.len()];
    let mut filled = 0;
    while filled < start.len() {
        match pread(&file, &mut start[filled..], filled as u64) {
            Ok(0) | Err(_) => return false,
            Ok(count) => filled += count,
        }
    }
    start == head
}

/// How often, and how far apart, a file is tried that another process holds a lease on (a file server does):
/// the first try asks the holder to give it up.
const LEASE_TRIES: u32 = 20;
const LEASE_PAUSE: Duration = Duration::from_millis(100);

/// Opens for reading: never through a link, never waiting (a fifo would), and without touching the access time
/// where that is allowed to this user.
fn open_for_reading(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut extra = OFlags::NOATIME;
    let mut tries = 0;
    loop {
        match rustix::fs::openat(directory, name, flags | extra, Mode::empty()) {
            Err(Errno::PERM) if !extra.is_empty() => extra = OFlags::empty(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if tries < LEASE_TRIES => {
                tries += 1;
                thread::sleep(LEASE_PAUSE);
            }
            Err(error) => return Err(explain_opening(error)),
            Ok(descriptor) => return Ok(descriptor),
        }
    }
}

fn pread(descriptor: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match rustix::io::pread(descriptor, &mut *buffer, offset) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// A file, open for reading.
#[derive(Debug)]
pub struct OpenFile {
    descriptor: OwnedFd,
}

impl OpenFile {
    /// Opens the file `name`, which must be the very file of `expected`. The caller has seen that it is a file:
    /// what is swapped in between is opened without blocking, told apart here, and not read.
    pub fn open(directory: impl AsFd, name: &CStr, expected: &Metadata) -> io::Result<Self> {
        if expected.kind != NodeKind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        let descriptor = open_for_reading(directory.as_fd(), name)?;
        let found = rustix::fs::statx(&descriptor, c"", AtFlags::EMPTY_PATH, StatxFlags::INO.union(StatxFlags::TYPE))?;
        if kind_of(&found)? != NodeKind::File || Identity::of_statx(&found) != Identity::of(expected) {
            return Err(replaced());
        }
        Ok(Self { descriptor })
    }

    /// Reads at `offset`; 0 is the end. Leaves no position behind.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        pread(&self.descriptor, buffer, offset)
    }

    /// The next run of data at or after `offset` and below `size`, as the file system tells; `None` if only a hole follows.
    ///
    /// The number of allocated blocks is not asked: blocks of attributes and those beyond the end count in it and
    /// would hide holes. For a file without holes this is one call that touches no data.
    pub fn next_data(&self, offset: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
        if offset >= size {
            return Ok(None);
        }
        match self.seek(SeekFrom::Hole(offset)) {
            Ok(hole) if hole > offset => return Ok(Some((offset, hole.min(size)))),
            Ok(_) => {}
            // Cut short meanwhile: reading will find the end.
            Err(Errno::NXIO) => return Ok(Some((offset, size))),
            // A file system that knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Some((offset, size))),
            Err(error) => return Err(error.into()),
        }
        let start = match self.seek(SeekFrom::Data(offset)) {
            Ok(start) if start >= size => return Ok(None),
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match self.seek(SeekFrom::Hole(start)) {
            // The run vanished between the two calls: taken as data, so that it is read and not supposed.
            Ok(end) if end > start => Ok(Some((start, end.min(size)))),
            Ok(_) | Err(Errno::NXIO) => Ok(Some((start, size))),
            Err(error) => Err(error.into()),
        }
    }

    fn seek(&self, to: SeekFrom) -> Result<u64, Errno> {
        rustix::fs::seek(&self.descriptor, to)
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
