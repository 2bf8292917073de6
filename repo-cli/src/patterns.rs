//! Exclude and include flags, and files of patterns, made into the library's patterns.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use clap::Args;
use repo_core::Patterns;

use crate::exit::{Failure, Outcome};
use crate::names;

/// What is left out.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is left out")]
pub struct Excludes {
    /// Leave out what matches; may be repeated
    ///
    /// `*`, `?` and `[a-z]` stand for letters of one name, `**` for any number of directories. A pattern that begins
    /// with / is a whole path, any other matches at any depth; with a directory goes all below it. ! takes back.
    #[arg(short, long, value_name = "PATTERN")]
    pub exclude: Vec<String>,

    /// The same, letter case ignored
    #[arg(long, value_name = "PATTERN")]
    pub iexclude: Vec<String>,

    /// File of such patterns, one a line; `#` begins a comment line, $VAR stands for a variable, $$ for a $
    #[arg(long, value_name = "FILE")]
    pub exclude_file: Vec<PathBuf>,

    /// The same, letter case ignored
    #[arg(long, value_name = "FILE")]
    pub iexclude_file: Vec<PathBuf>,
}

/// What alone is let in.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is let in")]
pub struct Includes {
    /// Let in only what matches; may be repeated; patterns as for --exclude
    #[arg(short, long, value_name = "PATTERN")]
    pub include: Vec<String>,

    /// The same, letter case ignored
    #[arg(long, value_name = "PATTERN")]
    pub iinclude: Vec<String>,

    /// File of such patterns, one a line
    #[arg(long, value_name = "FILE")]
    pub include_file: Vec<PathBuf>,

    /// The same, letter case ignored
    #[arg(long, value_name = "FILE")]
    pub iinclude_file: Vec<PathBuf>,
}

impl Excludes {
    /// The patterns, and their text for the record.
    pub fn read(&self) -> Outcome<(Patterns, Vec<String>)> {
        read([(&self.exclude, &self.exclude_file, false), (&self.iexclude, &self.iexclude_file, true)])
    }
}

impl Includes {
    /// The patterns, and their text.
    pub fn read(&self) -> Outcome<(Patterns, Vec<String>)> {
        read([(&self.include, &self.include_file, false), (&self.iinclude, &self.iinclude_file, true)])
    }
}

fn read(sets: [(&Vec<String>, &Vec<PathBuf>, bool); 2]) -> Outcome<(Patterns, Vec<String>)> {
    let mut patterns = Patterns::new();
    let mut texts = Vec::new();
    for (plain, files, ignore_case) in sets {
        for pattern in plain {
            patterns.add(pattern, ignore_case).map_err(|bad| Failure::told(bad.to_string()))?;
            texts.push(pattern.clone());
        }
        for file in files {
            for pattern in file_patterns(file)? {
                let named = |bad| Failure::told(format!("{}: {bad}", names::path(file)));
                patterns.add_bytes(&pattern, ignore_case).map_err(named)?;
                texts.push(String::from_utf8_lossy(&pattern).into_owned());
            }
        }
    }
    Ok((patterns, texts))
}

/// The patterns in a file. A variable that is not set is refused: left empty, it would make `$CACHE/*` a pattern for
/// everything.
fn file_patterns(path: &Path) -> Outcome<Vec<Vec<u8>>> {
    let contents = fs::read(path).map_err(|error| Failure::file("reading the patterns in", path, &error))?;
    let missing = RefCell::new(None);
    let patterns = Patterns::lines(&contents, |name| {
        let value = env::var_os(name).map(OsString::into_encoded_bytes);
        if value.is_none() {
            missing.replace(Some(name.to_owned()));
        }
        value
    });
    match missing.into_inner() {
        Some(name) => Err(Failure::with_hint(
            format!("{}: the variable {name} is not set", names::path(path)),
            "write $$ for a dollar sign",
        )),
        None => Ok(patterns),
    }
}
