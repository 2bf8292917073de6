//! What a tree shows, one wish a call: `LocalTreeOptions::new().exclude_caches().one_file_system()`.

use std::path::PathBuf;

use super::LocalTreeOptions;
use crate::walk::filter::Patterns;

impl LocalTreeOptions {
    /// Leaves out what matches.
    pub fn excludes(mut self, patterns: Patterns) -> Self {
        self.excludes = patterns;
        self
    }

    /// Leaves directories that hold a file of this name empty but for it; with a `head`, only if the file begins with it.
    pub fn exclude_if_present(mut self, name: impl Into<Vec<u8>>, head: impl Into<Vec<u8>>) -> Self {
        self.exclude_if_present.push((name.into(), head.into()));
        self
    }

    /// Obeys files of this name, as git does `.gitignore`: in the directories given and below them, each leaves out what
    /// its patterns match from there on. A file further down counts before one further up, of two names the later.
    /// What cannot be read or understood leaves nothing out and is a problem of the backup.
    pub fn ignore_file(mut self, name: impl Into<Vec<u8>>) -> Self {
        self.ignore_files.push(name.into());
        self
    }

    /// Leaves out what git's `.gitignore` files and `.git/info/exclude` say, within work trees of git and nowhere else; the
    /// `.git` of a work tree stays. Patterns alone are asked: what git tracks although they match it is left out too.
    /// Files of [`ignore_file`](Self::ignore_file) count before those of git.
    pub fn git_ignore(mut self) -> Self {
        self.git_ignore = true;
        self
    }

    /// Stores the one path that is given as if it lay at this one, which is absolute and has no `..`. Patterns are held
    /// against paths as they are stored. Directories on the way are those that this machine has there, or made up.
    pub fn as_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.as_path = Some(path.into());
        self
    }

    /// Reads block devices that are given as paths (links to them too) as files of their size, instead of storing the
    /// device's node. Those found in directories stay nodes. A device should be at rest: what is written to it while it
    /// is read is not noticed.
    pub fn read_devices(mut self) -> Self {
        self.read_devices = true;
        self
    }

    /// Leaves out files over this many bytes.
    pub fn exclude_larger_than_bytes(mut self, bytes: u64) -> Self {
        self.exclude_larger_than_bytes = Some(bytes);
        self
    }

    /// Stays on the file systems of the paths given.
    pub fn one_file_system(mut self) -> Self {
        self.one_file_system = true;
        self
    }

    /// Leaves out this directory, and says so: a repository that lies inside what it is to hold.
    pub fn leave_out(mut self, directory: impl Into<PathBuf>) -> Self {
        self.leave_out.push(directory.into());
        self
    }

    /// Tells access times, so that they are recorded and restored.
    pub fn with_atime(mut self) -> Self {
        self.with_atime = true;
        self
    }
}
