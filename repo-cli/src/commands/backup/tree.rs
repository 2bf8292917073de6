//! Flags of `backup` that say what the walk of the local tree obeys and how it takes what it is given.

use std::ffi::OsString;

use clap::Args;
use repo_core::LocalTreeOptions;

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
}

impl TreeFlags {
    /// Tells the walk.
    pub fn apply(&self, tree: &mut LocalTreeOptions) {
        tree.ignore_files = self.ignore_file.iter().map(|name| name.as_encoded_bytes().to_vec()).collect();
        tree.git_ignore = self.git_ignore;
    }
}
