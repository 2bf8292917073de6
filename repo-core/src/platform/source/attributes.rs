//! What is asked only of entries that changed: link target, extended attributes (POSIX ACLs and capabilities are such),
//! inode flags. What cannot be read is said in words and the rest still told.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::format::tree::{Metadata, NodeKind};

use super::handle::Identity;
use super::{explain_opening, kind_of, replaced};

/// What an entry has besides its metadata.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Of a symlink.
    pub link_target: Vec<u8>,
    /// Ascending by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Those of [`SETTABLE_FLAGS`] that are set.
    pub flags: u32,
    /// What could not be read, in words.
    pub problems: Vec<String>,
}

/// Inode flags (`FS_*_FL` of linux/fs.h) that someone may have set on purpose and that can be set again: `secrm`,
/// `unrm`, `compr`, `sync`, `immutable`, `append`, `nodump`, `noatime`, `nocomp`, `journal`, `notail`, `dirsync`,
/// `topdir`, `nocow`, `dax`, `projinherit`, `casefold`. The others tell of a file system's own bookkeeping
/// (extents, index, inline data, encryption, verity).
pub const SETTABLE_FLAGS: u32 = 0x1
    | 0x2
    | 0x4
    | 0x8
    | 0x10
    | 0x20
    | 0x40
    | 0x80
    | 0x400
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000
    | 0x80_0000
    | 0x200_0000
    | 0x2000_0000
    | 0x4000_0000;

/// Of an open file.
pub fn attributes_of_file(file: impl AsFd) -> Attributes {
    let mut attributes = Attributes::default();
    let descriptor = file.as_fd();
    read_xattrs(Target::Open(descriptor), &mut attributes);
    read_flags(descriptor, &mut attributes);
    attributes
}

/// Of the directory `name`, which must still be that of `expected`.
pub fn attributes_of_directory(parent: impl AsFd, name: &CStr, expected: &Metadata) -> io::Result<Attributes> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(parent.as_fd(), name, flags, Mode::empty()) {
        Ok(directory) => {
            check(&directory, expected)?;
            Ok(attributes_of_file(&directory))
        }
        // May not be read: the attributes can be asked for without, the flags cannot.
        Err(Errno::ACCESS) => {
            let mut attributes = attributes_of_other(parent, name, expected)?;
            attributes.problems.push(format!("inode flags could not be read: {}", io::Error::from(Errno::ACCESS)));
            Ok(attributes)
        }
        Err(error) => Err(explain_opening(error)),
    }
}

/// Of anything, without opening it: of symlinks, fifos, sockets and devices, for which opening means something.
pub fn attributes_of_other(parent: impl AsFd, name: &CStr, expected: &Metadata) -> io::Result<Attributes> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = rustix::fs::openat(parent.as_fd(), name, flags, Mode::empty()).map_err(explain_opening)?;
    check(&entry, expected)?;
    let mut attributes = Attributes::default();
    if expected.kind == NodeKind::Symlink {
        attributes.link_target = rustix::fs::readlinkat(&entry, c"", Vec::new())?.into_bytes();
    }
    read_xattrs(Target::reference(&entry), &mut attributes);
    Ok(attributes)
}

/// Of the directory that `directory` stands for, which the caller may only pass through.
pub fn attributes_of_passed(directory: impl AsFd) -> Attributes {
    let descriptor = directory.as_fd();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(descriptor, c".", flags, Mode::empty()) {
        Ok(opened) => attributes_of_file(&opened),
        Err(_) => {
            let mut attributes = Attributes::default();
            read_xattrs(Target::reference(descriptor), &mut attributes);
            attributes
        }
    }
}

fn check(entry: &OwnedFd, expected: &Metadata) -> io::Result<()> {
    let found = rustix::fs::statx(entry, c"", AtFlags::EMPTY_PATH, StatxFlags::INO.union(StatxFlags::TYPE))?;
    let same = kind_of(&found)? == expected.kind && Identity::of_statx(&found) == Identity::of(expected);
    if same { Ok(()) } else { Err(replaced()) }
}

/// How attributes are reached.
enum Target<'a> {
    Open(BorrowedFd<'a>),
    /// A descriptor that only refers to the entry has no attributes to read; its link in /proc leads to
    /// the very entry, and no further if that is itself a symbolic link.
    Reference(CString),
}

impl Target<'_> {
    fn reference(entry: impl AsFd) -> Self {
        let path = format!("/proc/self/fd/{}", entry.as_fd().as_raw_fd());
        Self::Reference(CString::new(path).expect("digits have no NUL"))
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(descriptor) => rustix::fs::flistxattr(descriptor, buffer),
            Self::Reference(path) => rustix::fs::listxattr(path, buffer),
        }
    }

    fn list_length(&self) -> Result<usize, Errno> {
        match self {
            Self::Open(descriptor) => rustix::fs::flistxattr_query(descriptor),
            Self::Reference(path) => rustix::fs::listxattr_query(path),
        }
    }

    fn get(&self, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(descriptor) => rustix::fs::fgetxattr(descriptor, name, buffer),
            Self::Reference(path) => rustix::fs::getxattr(path, name, buffer),
        }
    }

    fn get_length(&self, name: &CStr) -> Result<usize, Errno> {
        match self {
            Self::Open(descriptor) => rustix::fs::fgetxattr_query(descriptor, name),
            Self::Reference(path) => rustix::fs::getxattr_query(path, name),
        }
    }
}

/// Most lists and values are shorter: one call each.
const FIRST_TRY_BYTES: usize = 512;

/// Attributes grow while they are asked for; after so many times it is a problem.
const GROWTH_TRIES: u32 = 8;

/// Calls `read` with a buffer that is large enough.
fn whole(
    mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
    mut length: impl FnMut() -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut short = [0; FIRST_TRY_BYTES];
    match read(&mut short) {
        Ok(count) => return Ok(short[..count].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    for _ in 0..GROWTH_TRIES {
        let mut long = vec![0; length()?.max(FIRST_TRY_BYTES)];
        match read(&mut long) {
            Ok(count) => {
                long.truncate(count);
                return Ok(long);
            }
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::RANGE)
}

fn read_xattrs(target: Target<'_>, attributes: &mut Attributes) {
    let names = match whole(|buffer| target.list(buffer), || target.list_length()) {
        Ok(names) => names,
        // The file system has none: nothing is lost.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return,
        Err(error) => {
            let error = io::Error::from(error);
            attributes.problems.push(format!("extended attributes could not be listed: {error}"));
            return;
        }
    };
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        match whole(|buffer| target.get(name, buffer), || target.get_length(name)) {
            Ok(value) => attributes.xattrs.push((name.to_bytes().to_vec(), value)),
            // Removed since it was listed: the next look at the entry's ctime finds that.
            Err(Errno::NODATA) => {}
            Err(error) => {
                let (name, error) = (name.to_string_lossy(), io::Error::from(error));
                attributes.problems.push(format!("extended attribute {name} could not be read: {error}"));
            }
        }
    }
    attributes.xattrs.sort();
    attributes.xattrs.dedup_by(|a, b| a.0 == b.0);
}

fn read_flags(descriptor: BorrowedFd<'_>, attributes: &mut Attributes) {
    match rustix::fs::ioctl_getflags(descriptor) {
        Ok(flags) => attributes.flags = flags.bits() & SETTABLE_FLAGS,
        // The file system has none.
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        Err(error) => attributes.problems.push(format!("inode flags could not be read: {}", io::Error::from(error))),
    }
}
