//! Directory trees of this machine as a source. How a directory is reached, read and kept open is `platform::source`'s
//! business; which paths make up the tree is in [`named`], what of it is shown in [`directory`].

use std::collections::{BTreeSet, HashSet};
use std::ffi::CString;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::filter::{Patterns, Reached};
use super::{Source, SourceDirectory};
use crate::error::{Error, Result};
use crate::platform::source::{self, Handle, Identity, Looker, Pool};

mod directory;
mod named;
mod options;
mod relocated;
mod rules;

use directory::LocalDirectory;
use named::{Beginning, Named};
use rules::Asked;

/// What a [`LocalTree`] shows and leaves out.
///
/// Nothing of it applies to the paths that the tree was made of, only to what is below them.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LocalTreeOptions {
    /// Matched against absolute paths, also where the path that was given is relative.
    pub excludes: Patterns,
    /// Directories that hold such a file are left empty but for it: `(name, first bytes of it or empty)`.
    pub exclude_if_present: Vec<(Vec<u8>, Vec<u8>)>,
    /// Names of files whose patterns leave out what they match, by the rules of `.gitignore`.
    pub ignore_files: Vec<Vec<u8>>,
    /// What git's own ignore files say counts too, within work trees of git.
    pub git_ignore: bool,
    /// Files over this many bytes.
    pub exclude_larger_than_bytes: Option<u64>,
    /// Stay on the file systems of the given paths. A directory on which another is mounted is kept, empty.
    pub one_file_system: bool,
    /// Directories that are left out and said, by device and inode: the repository itself.
    pub leave_out: Vec<PathBuf>,
    /// Record access times.
    pub with_atime: bool,
    /// Where the one path that is given is stored, as if it lay there.
    pub as_path: Option<PathBuf>,
    /// Block devices among the paths given are read, as files of their size.
    pub read_devices: bool,
}

impl LocalTreeOptions {
    /// Everything is shown.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves out what is in directories with a `CACHEDIR.TAG` that bears the signature of
    /// the Cache Directory Tagging Specification (<https://bford.info/cachedir/>).
    pub fn exclude_caches(mut self) -> Self {
        let signature = b"Signature: 8a477f597d28d172789f06886806bc55";
        self.exclude_if_present.push((b"CACHEDIR.TAG".to_vec(), signature.to_vec()));
        self
    }
}

/// One or several paths of this machine, merged into one tree.
///
/// An absolute path stands in the tree under its full path, a relative one under its own components; `.` is the
/// content of the current directory at the top; what leads out of it by `..` counts as absolute. Directories on the way to
/// a path bear their own metadata and show only what leads on. Links are followed on the way to a path, and nowhere else.
#[derive(Debug)]
pub struct LocalTree {
    paths: Vec<Vec<u8>>,
    named: Arc<Named>,
    shared: Arc<Shared>,
    leave_out: Vec<PathBuf>,
}

/// What all directories of a tree have in common.
#[derive(Debug)]
struct Shared {
    looker: Looker,
    /// `/` and the current directory, as they were when the tree was made.
    beginnings: [Place; 2],
    excludes: Patterns,
    tags: Vec<(CString, Vec<u8>)>,
    /// `None`: no rules of the tree itself are obeyed, and none are looked for.
    rules: Option<Asked>,
    larger_than_bytes: Option<u64>,
    one_file_system: bool,
    read_devices: bool,
    notes: Mutex<BTreeSet<String>>,
}

/// A directory, and how far its absolute path has come in the patterns.
#[derive(Debug, Clone)]
struct Place {
    handle: Arc<Handle>,
    reached: Reached,
}

impl Shared {
    fn beginning(&self, of: Beginning) -> &Place {
        match of {
            Beginning::Root => &self.beginnings[0],
            Beginning::Current => &self.beginnings[1],
        }
    }

    fn beginning_mut(&mut self, of: Beginning) -> &mut Place {
        match of {
            Beginning::Root => &mut self.beginnings[0],
            Beginning::Current => &mut self.beginnings[1],
        }
    }

    fn note(&self, note: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(note);
    }
}

impl LocalTree {
    /// The tree of these paths.
    ///
    /// Errors: no path, or none that exists (one of several that does not is a problem when the tree is read);
    /// two different things under one name, such as `/a` and `a` elsewhere; several paths that are to be stored as one.
    pub fn new(paths: &[PathBuf], options: LocalTreeOptions) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::Usage("nothing to back up: no path was given".into()));
        }
        let current = source::current_directory().map_err(|source| Error::Local {
            path: PathBuf::from("."),
            what: "finding the current directory",
            source,
        })?;
        let current = source::path_bytes(&current);
        let paths = named::resolve_all(paths, current)?;
        let mut shared = Shared::new(current, &options)?;
        if let Some(at) = &options.as_path {
            let (named, path) = relocated::tree(&paths, at, &mut shared, &options.excludes)?;
            let (named, shared) = (Arc::new(named), Arc::new(shared));
            return Ok(Self { paths: vec![path], named, shared, leave_out: options.leave_out });
        }
        let shared = Arc::new(shared);
        let named = Named::tree(&paths, &shared)?;
        named.examine(&shared)?;
        let mut paths: Vec<Vec<u8>> = paths.into_iter().map(|path| path.absolute).collect();
        paths.sort();
        paths.dedup();
        Ok(Self { paths, named: Arc::new(named), shared, leave_out: options.leave_out })
    }
}

impl Shared {
    fn new(current: &[u8], options: &LocalTreeOptions) -> Result<Self> {
        let pool = Arc::new(Pool::default());
        let begin = |path: &str, shown: &[u8]| {
            let handle = Handle::beginning(&pool, &c_string(path.as_bytes())?, c_string(shown)?)?;
            Ok(Place { handle, reached: options.excludes.reach(shown) })
        };
        let begin = |path: &str, shown: &[u8]| {
            begin(path, shown).map_err(|source: io::Error| Error::Local {
                path: source::path_of(shown.to_vec()),
                what: "opening the directory",
                source,
            })
        };
        let tags = options.exclude_if_present.iter().map(|(name, head)| match c_string(name) {
            Ok(c_name) if !name.is_empty() && !name.contains(&b'/') => Ok((c_name, head.clone())),
            _ => Err(Error::Usage(format!("{:?} is not a file's name", String::from_utf8_lossy(name)))),
        });
        Ok(Self {
            looker: Looker::new(options.with_atime),
            beginnings: [begin("/", b"/")?, begin(".", current)?],
            excludes: options.excludes.clone(),
            tags: tags.collect::<Result<_>>()?,
            rules: Asked::of(options)?,
            larger_than_bytes: options.exclude_larger_than_bytes,
            one_file_system: options.one_file_system,
            read_devices: options.read_devices,
            notes: Mutex::default(),
        })
    }
}

/// A name or path as the system takes it.
fn c_string(name: &[u8]) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte in a name"))
}

impl Source for LocalTree {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        let mut left_out = HashSet::new();
        for path in &self.leave_out {
            match source::identity_of_path(path) {
                Ok(identity) => drop(left_out.insert(identity)),
                // Not there: nothing to leave out.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                // It may be there, and could not be told from what is to be read.
                Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
            }
        }
        Ok(Arc::new(LocalDirectory::top(self.shared.clone(), self.named.clone(), left_out)))
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        self.paths.clone()
    }

    fn notes(&self) -> Vec<String> {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Directories to be left out.
type LeftOut = HashSet<Identity>;
