//! What this client remembers of a repository from one command to the next. Small files of its own, never in the repository
//! and never in a cache; each may be lost at any time, at the cost of what it remembers.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, process};

use repo_core::RepositoryId;
use repo_core::system::{create_private_directories, create_private_file};

/// Far more than any of these files has: a foreign one is not read into memory whole.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A directory of memories.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
}

/// A file that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub name: String,
    pub bytes: u64,
    pub modified: SystemTime,
}

impl State {
    /// Of one repository: below `given`, else below `$ICECORE_STATE_DIR`, `$XDG_STATE_HOME/icecore` or
    /// `~/.local/state/icecore`. `None`: no place is known.
    pub fn of(given: Option<&Path>, repository: RepositoryId) -> Option<Self> {
        Some(Self { directory: root(given)?.join(repository.to_string()) })
    }

    /// Of the places where repositories were met.
    pub fn of_places(given: Option<&Path>) -> Option<Self> {
        Some(Self { directory: root(given)?.join("places") })
    }

    /// The directory that all of these lie below.
    pub fn top(given: Option<&Path>) -> Option<PathBuf> {
        root(given)
    }

    /// Those of repositories, by the repository's id. What else lies there is not ours.
    pub fn of_repositories(given: Option<&Path>) -> io::Result<Vec<(RepositoryId, Self)>> {
        let Some(top) = root(given) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in present(fs::read_dir(top))?.into_iter().flatten() {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(id) = id.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                found.push((id, Self { directory: entry.path() }));
            }
        }
        found.sort_unstable_by_key(|(id, _)| *id);
        Ok(found)
    }

    /// The files that are kept, by name; links and directories are none of ours.
    pub fn kept(&self) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for entry in present(fs::read_dir(&self.directory))?.into_iter().flatten() {
            let entry = entry?;
            // One that went since it was listed is not kept.
            let Some(of) = present(entry.metadata())?.filter(fs::Metadata::is_file) else { continue };
            let Ok(name) = entry.file_name().into_string() else { continue };
            kept.push(Kept { name, bytes: of.len(), modified: of.modified()? });
        }
        kept.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Ok(kept)
    }

    /// Forgets it; whether it was there.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        Ok(present(fs::remove_file(self.path(name)))?.is_some())
    }

    /// Of this client itself.
    pub fn of_client(given: Option<&Path>) -> Option<Self> {
        Some(Self { directory: root(given)? })
    }

    /// Nobody else who asks for the same writes until what is returned is dropped.
    pub fn hold(&self, name: &str) -> io::Result<File> {
        let file = self.lock_file(name)?;
        file.lock()?;
        Ok(file)
    }

    /// The same without waiting; `None`: somebody else has it.
    pub fn try_hold(&self, name: &str) -> io::Result<Option<File>> {
        let file = self.lock_file(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock_file(&self, name: &str) -> io::Result<File> {
        create_private_directories(&self.directory)?;
        let path = self.path(&format!("{name}.lock"));
        match create_private_file(&path) {
            // Opened for writing, since some network file systems lock nothing else exclusively.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::options().write(true).open(&path),
            made => made,
        }
    }

    /// Where a memory lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What was written last; `None` if nothing was.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Replaces it at once: who reads meanwhile gets the old or the new, and so does who reads after a crash.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        create_private_directories(&self.directory)?;
        let fresh = self.directory.join(format!("{name}.{}.new", process::id()));
        // Of a process that died with the same number.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = create_private_file(&fresh).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, self.path(name))?;
            // Without it a power failure could bring the old one back, which knows less.
            File::open(&self.directory)?.sync_all()
        });
        if written.is_err() {
            fs::remove_file(&fresh).ok();
        }
        written
    }
}

/// `None` for what is not there.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn root(given: Option<&Path>) -> Option<PathBuf> {
    let variable = || env::var_os("ICECORE_STATE_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    match given.map(Path::to_owned).or_else(variable) {
        Some(directory) => Some(directory),
        None => Some(home()?.join("icecore")),
    }
}

/// By the XDG base directory specification, which takes a relative path for none.
fn home() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")))
}
