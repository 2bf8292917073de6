//! Small files that say something of the tree they lie in, read whole: ignore files, and what makes a directory a
//! work tree of git.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

use crate::format::tree::NodeKind;

use super::{kind_of, open_for_reading, path_bytes, pread};

/// What lies under `name`, which may be a path below `directory`; the last link is not followed. `None`: nothing.
pub fn kind_at(directory: impl AsFd, name: &CStr) -> io::Result<Option<NodeKind>> {
    match rustix::fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::TYPE) {
        Ok(found) => kind_of(&found).map(Some),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The content of the file `name`, which may be a path below `directory`. `None`: there is nothing of that name.
///
/// Errors: what is not a file, and a file of more than `limit_bytes`.
pub fn read_small_file(directory: impl AsFd, name: &CStr, limit_bytes: usize) -> io::Result<Option<Vec<u8>>> {
    let directory = directory.as_fd();
    match kind_at(directory, name)? {
        None => return Ok(None),
        Some(NodeKind::File) => {}
        Some(NodeKind::Symlink) => return Err(io::Error::other("a symbolic link, which is not followed here")),
        Some(_) => return Err(io::Error::other("not a file")),
    }
    let file = open_for_reading(directory, name)?;
    let found = rustix::fs::statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    if kind_of(&found)? != NodeKind::File {
        return Err(super::replaced());
    }
    let mut content = Vec::new();
    loop {
        let filled = content.len();
        if filled > limit_bytes {
            return Err(io::Error::other(format!("larger than {limit_bytes} bytes")));
        }
        // As much as is there and no more, but for the last piece.
        content.resize((filled + (16 << 10)).min(limit_bytes + 1), 0);
        let count = pread(&file, &mut content[filled..], filled as u64)?;
        content.truncate(filled + count);
        if count == 0 {
            return Ok(Some(content));
        }
    }
}

/// The same place by a path without links.
pub fn real_path(path: &Path) -> io::Result<Vec<u8>> {
    Ok(path_bytes(&std::fs::canonicalize(path)?).to_vec())
}
