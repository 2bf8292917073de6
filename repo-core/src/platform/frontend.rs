//! What a program in front of this library needs of the operating system: paths from raw bytes, private files, how the
//! terminal is set, pipes that may be silent, and mounts taken away. The library itself uses none of it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The path whose name is these bytes, which need not be text.
pub fn path_from_bytes(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// Makes a file that only its owner can read. It is an error if anything is there already, a dangling link too.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes a directory, and those above it that are missing, into which only their owner can look. Those that are there stay
/// as they are.
pub fn create_private_directories(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// How the terminal of this process was set, to be set so again by whoever changed it.
#[derive(Debug)]
pub struct TerminalModes {
    terminal: File,
    modes: Termios,
}

impl TerminalModes {
    /// As they are now; `None` if this process has no terminal.
    pub fn now() -> Option<Self> {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        let modes = tcgetattr(&terminal).ok()?;
        Some(Self { terminal, modes })
    }

    /// Sets the terminal as it was. What was typed and not read yet stays.
    pub fn restore(&self) -> io::Result<()> {
        Ok(tcsetattr(&self.terminal, OptionalActions::Now, &self.modes)?)
    }
}

/// Whether whoever started this process told it to ignore a signal, as `nohup` does. A system that does not tell: no.
pub fn ignores_signal(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_in_mask(&status, signal)
}

/// The field SigIgn of proc(5): a bit for each signal, the lowest for the first.
fn is_in_mask(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 1
}

/// Waits until something can be read of a pipe, or it has ended: true; or for this many milliseconds, or a signal: false.
pub fn wait_readable(pipe: &impl AsFd, milliseconds: u32) -> io::Result<bool> {
    let time = Timespec { tv_sec: (milliseconds / 1000).into(), tv_nsec: (milliseconds % 1000 * 1_000_000).into() };
    match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&time)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes away the file system that is mounted there; with `at_once` also one in use, which ends when nobody uses it any
/// more. A symlink is not followed.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] for whoever is not root, who has to ask `fusermount3`;
/// [`io::ErrorKind::ResourceBusy`]; [`io::ErrorKind::InvalidInput`] if nothing is mounted there.
#[cfg(target_os = "linux")]
pub fn unmount(path: &Path, at_once: bool) -> io::Result<()> {
    use rustix::mount::UnmountFlags;

    let flags = if at_once { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    Ok(rustix::mount::unmount(path, flags | UnmountFlags::NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_its_owners_alone_and_replaces_nothing() {
        let directory = tempfile::tempdir().expect("scratch");
        let path = directory.path().join("key");
        let file = create_private_file(&path).expect("a new file");
        assert_eq!(file.metadata().expect("metadata").permissions().mode() & 0o777, 0o600);
        assert_eq!(create_private_file(&path).expect_err("it exists").kind(), io::ErrorKind::AlreadyExists);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &link).expect("link");
        assert_eq!(create_private_file(&link).expect_err("a link").kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn private_directories_are_their_owners_alone_and_may_be_there() {
        let directory = tempfile::tempdir().expect("scratch");
        let path = directory.path().join("a/b");
        create_private_directories(&path).expect("made");
        create_private_directories(&path).expect("they are there");
        for path in [&path, &directory.path().join("a")] {
            assert_eq!(path.metadata().expect("metadata").permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn an_ignored_signal_is_the_bit_of_its_number() {
        let status =
            "Name:\ticecore\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n";
        let ignored: Vec<i32> = (-1..70).filter(|signal| is_in_mask(status, *signal)).collect();
        assert_eq!(ignored, [1, 13]);
        assert!(!is_in_mask("", 1));
    }
}
