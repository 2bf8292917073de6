//! The file operations of `Local`, behind one small trait, so that a recorder can replay and tear them.
//! Which of them make an object durable, and in what order, is `backend::local`'s business.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};

/// Files are the owner's alone: an object's size and time tell something even where its bytes do not.
const FILE_MODE: u32 = 0o600;
/// Directories too: their names are names of objects.
const DIRECTORY_MODE: u32 = 0o700;

/// What `Local` asks of a file system. Every path is used as given; no operation follows a symlink in its last component.
pub trait FileOperations: Send + Sync + fmt::Debug {
    /// Makes a directory of mode 0700, whatever the umask; `AlreadyExists` if anything has the name.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes and opens an empty file of mode 0600, whatever the umask; `AlreadyExists` if anything has the name.
    fn create_new(&self, path: &Path) -> io::Result<File>;

    /// Makes a file of mode 0600 with `length` bytes that are allocated and mean nothing, if `free` bytes are free before;
    /// `StorageFull` if not, `AlreadyExists` if anything has the name. Whoever stands in for a file system need not have it:
    /// nothing that is durable depends on such a file.
    fn allocate(&self, _path: &Path, _length: u64, _free: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Appends all of `bytes` to a file that `create_new` opened under `path`.
    fn write(&self, path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file's bytes durable; says nothing of its name.
    fn fsync_file(&self, path: &Path, file: &File) -> io::Result<()>;

    /// Moves a file to a name that nothing has, in one step; `AlreadyExists` if anything has it.
    /// [`no_such_operation`] tells whether the file system has no such step.
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Moves a file to a name, in one step, whatever has that. Whoever stands in for a file system need not have it: only weak
    /// repositories ask for it.
    fn rename_over(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Exchanges what two names stand for, in one step; `NotFound` if either is free.
    /// [`no_such_operation`] tells whether the file system has no such step.
    fn rename_exchange(&self, one: &Path, other: &Path) -> io::Result<()>;

    /// Gives the open `file`, which is at `from`, the further name `to`; `AlreadyExists` if anything has it.
    fn link(&self, file: &File, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a file's name away.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Makes durable which names a directory has.
    fn fsync_directory(&self, path: &Path) -> io::Result<()>;

    /// Opens a regular file for reading and tells its size; anything else under the name is an error.
    fn open(&self, path: &Path) -> io::Result<(File, u64)>;

    /// Reads exactly `length` bytes from `offset`; `UnexpectedEof` if they are no longer there.
    fn read_at(&self, file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// What a directory holds, in no order. What vanishes meanwhile may be missing.
    fn list(&self, path: &Path) -> io::Result<Vec<Found>>;
}

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub name: OsString,
    pub kind: FoundKind,
    /// In bytes; of files alone it means anything.
    pub size: u64,
    /// In nanoseconds since 1970 UTC, by the file system's clock.
    pub modified_ns: i64,
}

/// What a name stands for, the name itself looked at: a symlink is `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundKind {
    Directory,
    File,
    Other,
}

/// Whether a file system said that it has no such operation, and not that this one failed.
pub fn no_such_operation(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error
        .raw_os_error()
        .is_some_and(|code| [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP].map(Errno::raw_os_error).contains(&code))
}

/// The operating system's own files.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemFiles;

impl FileOperations for SystemFiles {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        rustix::fs::mkdir(path, Mode::from_raw_mode(DIRECTORY_MODE))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(directory) => set_mode(&File::from(directory), DIRECTORY_MODE),
            // The umask took away what is needed to open it; nobody had the time to make it anything else.
            Err(rustix::io::Errno::ACCESS) => {
                Ok(rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(DIRECTORY_MODE), AtFlags::empty())?)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(FILE_MODE))?);
        set_mode(&file, FILE_MODE)?;
        Ok(file)
    }

    fn allocate(&self, path: &Path, length: u64, free: u64) -> io::Result<()> {
        let place = rustix::fs::statvfs(path.parent().unwrap_or(path))?;
        if place.f_bavail.saturating_mul(place.f_frsize) < free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut file = self.create_new(path)?;
        let allocated = match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fill(&mut file, length),
            result => result.map_err(io::Error::from),
        };
        allocated.inspect_err(|_| drop(self.unlink(path)))
    }

    fn write(&self, _path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn fsync_file(&self, _path: &Path, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::rename(from, to)?)
    }

    fn rename_exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }

    fn link(&self, file: &File, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
            Ok(()) => Ok(()),
            // A network file system that lost its first answer says "exists" of what it has just made.
            // The file was linked nowhere else, so a second link is this one.
            Err(_) if file.metadata()?.nlink() == 2 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlink(path)?)
    }

    fn fsync_directory(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        File::from(rustix::fs::open(path, flags, Mode::empty())?).sync_all()
    }

    fn open(&self, path: &Path) -> io::Result<(File, u64)> {
        // NONBLOCK: to open a pipe that somebody laid here must not wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::LOOP) => return Err(io::Error::other("a symbolic link, not a file")),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok((file, metadata.len()))
    }

    fn read_at(&self, file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        while bytes.len() < length {
            let position = offset + bytes.len() as u64;
            match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), position) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut short while it was read")),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The allocator may have given more than was asked for, and a growing file would have filled it.
        bytes.truncate(length);
        Ok(bytes)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Found>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => FoundKind::Directory,
                FileType::RegularFile => FoundKind::File,
                _ => FoundKind::Other,
            };
            found.push(Found {
                name: OsString::from_vec(name.to_bytes().to_vec()),
                kind,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                modified_ns: (stat.st_mtime as i64)
                    .saturating_mul(1_000_000_000)
                    .saturating_add_unsigned(stat.st_mtime_nsec as u64),
            });
        }
        Ok(found)
    }
}

/// A file in `directory` that has no name, or has lost it: gone with whoever opened it, whatever becomes of him.
pub fn create_nameless(directory: &Path) -> io::Result<File> {
    use rustix::io::Errno;
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, directory, flags, Mode::from_raw_mode(FILE_MODE)) {
        Ok(file) => return Ok(file.into()),
        // The file system, or the kernel, has no such files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = directory.join(format!("icecore-{:016x}", u64::from_le_bytes(random)));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, &path, flags, Mode::from_raw_mode(FILE_MODE))?;
    rustix::fs::unlinkat(CWD, &path, AtFlags::empty())?;
    Ok(file.into())
}

/// Writes so many bytes that no file system stores in less.
fn fill(file: &mut File, length: u64) -> io::Result<()> {
    let mut output = blake3::Hasher::new().finalize_xof();
    let mut block = vec![0; 64 << 10];
    let mut left = length;
    while left > 0 {
        let part = &mut block[..left.min(64 << 10) as usize];
        output.fill(part);
        file.write_all(part)?;
        left -= part.len() as u64;
    }
    Ok(())
}

/// Gives what was just made the mode that the umask may have narrowed.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    if file.metadata()?.mode() & 0o777 == mode {
        return Ok(());
    }
    match rustix::fs::fchmod(file, Mode::from_raw_mode(mode)) {
        // FAT and some network file systems have no modes of their own: whoever mounts them chooses one for all files.
        Err(rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        result => Ok(result?),
    }
}
