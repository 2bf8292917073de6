//! What a program in front of this library needs of the operating system: paths from raw bytes, and private files.
//! The library itself uses neither.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
}
