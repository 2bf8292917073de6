//! Flags of `backup` that say what the walk of the local tree obeys and how it takes what it is given.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use repo_core::LocalTreeOptions;

use crate::exit::{Failure, Outcome};
use crate::names;

/// What the walk of the local tree is asked for.
#[derive(Debug, Clone, Args)]
pub struct TreeFlags {
    /// Obey files of this name as git obeys .gitignore, in each directory from there on down; may be repeated
    ///
    /// A file further down counts before one further up, of two names the later. What such a file matches is left out,
    /// and not entered. A line that cannot be understood, or a file that cannot be read (or is larger than 1 MiB), leaves
    /// nothing out, is named, and the exit code is 3.
    #[arg(long, value_name = "NAME", help_heading = "What is left out")]
    ignore_file: Vec<OsString>,

    /// Leave out what .gitignore files and .git/info/exclude say, within work trees of git
    ///
    /// The .git directory itself is stored. A file that matches is left out even if git tracks it. Files of
    /// --ignore-file count before those of git; a user's own excludes file (core.excludesFile) is not asked.
    #[arg(long, help_heading = "What is left out")]
    git_ignore: bool,

    /// Store the content of block devices among the paths given, each as a file of the device's size
    ///
    /// Without it a device is stored as what it is, a node with a number. Devices found in directories always are. A
    /// device should be at rest, such as a snapshot of a volume: what is written to it meanwhile is not noticed. It is
    /// read whole each time, and what is stored already is not stored again. restore --sparse leaves holes for zeros.
    #[arg(long, help_heading = None)]
    read_devices: bool,
}

impl TreeFlags {
    /// Tells the walk.
    pub fn apply(&self, tree: &mut LocalTreeOptions) {
        tree.ignore_files = self.ignore_file.iter().map(|name| name.as_encoded_bytes().to_vec()).collect();
        tree.git_ignore = self.git_ignore;
        tree.read_devices = self.read_devices;
    }
}

/// Whether these paths can be stored as if they lay at `at`: said before a password is asked for.
pub fn check_as_path(at: &Path, paths: &[PathBuf], is_stream: bool) -> Outcome {
    let hint = |message: &str, hint| Err(Failure::with_hint(message, hint));
    if is_stream {
        return hint(
            "--as-path is for a path, or for --from-tar",
            "--stdin-filename and --command NAME=COMMAND name what is read from a stream",
        );
    }
    if paths.len() > 1 {
        return hint("--as-path stores a single path as another", "make one backup for each path");
    }
    if !at.is_absolute() || at.components().any(|name| name == Component::ParentDir) {
        let message = format!("--as-path {}: the path must be absolute and without ..", names::path(at));
        return Err(Failure::with_hint(message, "give it as backups of that place do: /srv/www"));
    }
    Ok(())
}
