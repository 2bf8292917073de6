//! Block devices that are read as if they were files: an image of a volume, as large as it is.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom, StatxFlags};
use rustix::io::Errno;

use crate::format::tree::{Metadata, NodeKind};
use crate::platform::host;

use super::{Identity, Looker, OpenFile, kind_of, replaced};

impl Looker {
    /// The device `name`, links followed (names of volumes are links), as a file of its size. `None`: no block device.
    ///
    /// Writing to a device leaves no time behind that could be trusted. So it was modified now, whenever that is asked,
    /// and no earlier image of it is taken for the same.
    pub fn look_at_device(&self, directory: impl AsFd, name: &CStr) -> io::Result<Option<Metadata>> {
        let directory = directory.as_fd();
        if !is_block_device(directory, name)? {
            return Ok(None);
        }
        let device = open(directory, name)?;
        let node = self.look_through(&device)?;
        if node.kind != NodeKind::BlockDevice {
            return Err(replaced());
        }
        let size = rustix::fs::seek(&device, SeekFrom::End(0))?;
        let now = host::now();
        Ok(Some(Metadata {
            kind: NodeKind::File,
            modified: now,
            changed: now,
            born: None,
            accessed: None,
            links: 1,
            size,
            special_device: 0,
            ..node
        }))
    }
}

impl OpenFile {
    /// Opens the device `name`, which must be that of `expected`. `None`: it is no block device.
    pub fn open_device(directory: impl AsFd, name: &CStr, expected: &Metadata) -> io::Result<Option<Self>> {
        let directory = directory.as_fd();
        if !is_block_device(directory, name)? {
            return Ok(None);
        }
        let descriptor = open(directory, name)?;
        let found = rustix::fs::statx(&descriptor, c"", AtFlags::EMPTY_PATH, StatxFlags::INO.union(StatxFlags::TYPE))?;
        if kind_of(&found)? != NodeKind::BlockDevice || Identity::of_statx(&found) != Identity::of(expected) {
            return Err(replaced());
        }
        Ok(Some(Self { descriptor }))
    }
}

fn is_block_device(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match rustix::fs::statx(directory, name, AtFlags::NO_AUTOMOUNT, StatxFlags::TYPE) {
        Ok(found) => Ok(kind_of(&found)? == NodeKind::BlockDevice),
        // A link that leads nowhere is a link.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn open(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}
