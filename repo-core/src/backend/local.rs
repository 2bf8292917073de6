//! Objects as files of a directory: temporary file, fsync, rename without replacing, fsync of the directory.
//! An object's path is its name below the root. How a file system does each step is `platform::files`' business.

mod ballast;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{Backend, Capabilities, Listed, Prefix, Put, Removal, Span};
use crate::error::BackendError;
use crate::id::{ObjectName, PackId, PackKind};
use crate::platform::files::{FileOperations, FoundKind, SystemFiles, no_such_operation};
use crate::platform::host;

/// The folders below the root, parents before children; the shards of the packs come on top.
const FOLDERS: [&str; 19] = [
    "keys",
    "keyring",
    "config",
    "index",
    "snapshots",
    "sessions",
    "gc",
    "forgotten",
    "damaged",
    "parity",
    "packs",
    "packs/d",
    "packs/m",
    TEMPORARY,
    "r",
    "r/keys",
    "r/keyring",
    "r/config",
    "r/snapshots",
];

/// Where files lie before they have a name. Never listed.
const TEMPORARY: &str = "tmp";

/// 2 GiB: twice what one object key may seal (docs/format.md), so that no object is refused, but a file that somebody blew up
/// is refused before memory is asked for.
const READ_BYTES_MAX: u64 = 2 << 30;

/// One day: to write one object never takes as long, so that an older temporary file of another boot or machine is nobody's.
const STALE_AFTER_NS: i64 = 24 * 3600 * 1_000_000_000;

/// How often a step is tried again after another process came between: each time lost, one took a name that was free or
/// removed one that was taken.
const ATTEMPTS_MAX: usize = 16;

/// A directory of this machine, on a file system that has either a rename that never replaces, or hard links.
///
/// From its first write on it keeps 4 MiB in `tmp/` where 16 are free, for a prune on a full disk.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
    operations: Arc<dyn FileOperations>,
    /// Runs before this place's first write.
    clean_up: Once,
    /// Names whose directory could not be synced after they were given. See [`Local::confirm`].
    doubtful: Mutex<BTreeSet<ObjectName>>,
}

impl Local {
    /// Nothing is read or made yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::on(root.into(), Arc::new(SystemFiles))
    }

    /// The same, by other file operations than the system's: for crash and fault tests.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn with_operations(root: impl Into<PathBuf>, operations: Arc<dyn FileOperations>) -> Self {
        Self::on(root.into(), operations)
    }

    fn on(root: PathBuf, operations: Arc<dyn FileOperations>) -> Self {
        Self { root, operations, clean_up: Once::new(), doubtful: Mutex::default() }
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.to_string())
    }
}

impl Backend for Local {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        self.make_with_parents(&self.root).map_err(|error| BackendError::io("preparing", self.place(), error))?;
        let folders = FOLDERS.into_iter().map(String::from).chain(shards());
        for folder in folders {
            let path = self.root.join(&folder);
            self.make_directory(&path).map_err(|error| BackendError::io("preparing", path.display(), error))?;
        }
        // Also of directories that were there already: who made them may have died before this step.
        for folder in ["", "packs", "packs/d", "packs/m", "r"] {
            let path = self.root.join(folder);
            self.operations
                .fsync_directory(&path)
                .map_err(|error| BackendError::io("preparing", path.display(), error))?;
        }
        Ok(())
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        self.clean_up.call_once(|| {
            self.remove_stale_temporaries();
            self.keep_ballast();
        });
        self.write_new(name, &bytes).map_err(|error| BackendError::io("writing", name, error))
    }

    /// By the rename that replaces, which every file system has.
    fn put_over(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        self.clean_up.call_once(|| {
            self.remove_stale_temporaries();
            self.keep_ballast();
        });
        self.write_over(name, &bytes).map_err(|error| BackendError::io("writing", name, error))
    }

    /// Its bytes were synced before it got its name.
    fn make_durable(&self, name: &ObjectName) -> Result<(), BackendError> {
        self.confirm(name, &self.path(name)).map_err(|error| BackendError::io("writing", name, error))
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        self.read(name, span).map_err(|error| BackendError::io("reading", name, error))
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        // A missing folder is an empty one: tools that copy files often leave empty directories behind.
        // A missing root is an error: a disk that is not mounted must not look like a repository without objects.
        if prefix != Prefix::All {
            self.operations.list(&self.root).map_err(|error| BackendError::io("listing", self.place(), error))?;
        }
        let _: ControlFlow<()> = self.list_folder(prefix.folder(), each)?;
        Ok(())
    }

    fn age(&self, name: &ObjectName) -> Result<Option<Duration>, BackendError> {
        let modified = self.operations.open(&self.path(name)).and_then(|(file, _)| file.metadata()?.modified());
        let modified = modified.map_err(|error| BackendError::io("reading", name, error))?;
        // A file of the future is a new one.
        Ok(Some(SystemTime::now().duration_since(modified).unwrap_or_default()))
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        self.unlink(name).map_err(|error| BackendError::io("removing", name, error))
    }

    fn replace_damaged(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        self.clean_up.call_once(|| self.remove_stale_temporaries());
        self.exchange(name, &bytes).map_err(|error| BackendError::io("replacing", name, error))
    }

    /// One disk, which loses sectors.
    fn default_parity_percent(&self) -> u8 {
        2
    }

    fn release_reserve(&self) -> bool {
        self.give_up_ballast()
    }

    fn keep_reserve(&self) {
        self.keep_ballast();
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { put_if_absent: true }
    }
}

/// Writing.
impl Local {
    /// The order is the promise: bytes durable, then the name, then the name durable. Never a look whether the name is free
    /// and then a rename: between the two another writer may take it.
    fn write_new(&self, name: &ObjectName, bytes: &[u8]) -> io::Result<Put> {
        let target = self.path(name);
        for _ in 0..ATTEMPTS_MAX {
            let temporary = self.write_temporary(bytes)?;
            match self.give_name(&temporary, &target) {
                Ok(()) => {
                    self.confirm(name, &target)?;
                    return Ok(Put::Created);
                }
                Err(error) => {
                    self.discard(&temporary);
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        return Err(error);
                    }
                }
            }
            // The name is taken, perhaps by a writer who died before he synced it: what the caller builds on it must stand.
            self.confirm(name, &target)?;
            match self.read(name, Span::All) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                there => return Ok(Put::Exists(there?)),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the name comes and goes"))
    }

    /// A durable file without a name of its own; it is gone again if any step fails.
    fn write_temporary(&self, bytes: &[u8]) -> io::Result<Temporary> {
        let (path, mut file) = self.create_temporary()?;
        // An fsync that failed once may succeed the next time without having written anything: never asked twice of one file.
        let written =
            self.operations.write(&path, &mut file, bytes).and_then(|()| self.operations.fsync_file(&path, &file));
        let temporary = Temporary { path, file };
        match written {
            Ok(()) => Ok(temporary),
            Err(error) => {
                self.discard(&temporary);
                Err(error)
            }
        }
    }

    fn create_temporary(&self) -> io::Result<(PathBuf, File)> {
        let folder = self.root.join(TEMPORARY);
        for _ in 0..ATTEMPTS_MAX {
            let path = folder.join(temporary_name());
            match self.operations.create_new(&path) {
                // A clone of this machine at the same place, or a process that once had our id: the next name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.restore_folder(&folder)?,
                result => return Ok((path, result?)),
            }
        }
        Err(io::Error::other("no temporary file can be made"))
    }

    /// Gives a finished file its name, unless anything has it. Makes the folder again if it is missing.
    fn give_name(&self, temporary: &Temporary, target: &Path) -> io::Result<()> {
        match self.give_name_once(temporary, target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.restore_folder(parent(target))?;
                self.give_name_once(temporary, target)
            }
            result => result,
        }
    }

    fn give_name_once(&self, temporary: &Temporary, target: &Path) -> io::Result<()> {
        match self.operations.rename_no_replace(&temporary.path, target) {
            Err(error) if no_such_operation(&error) => {
                self.operations.link(&temporary.file, &temporary.path, target).map_err(undecided)?;
                self.discard(temporary);
                Ok(())
            }
            result => result,
        }
    }

    /// As [`write_new`](Self::write_new), but that the last of several writers stands: for weak repositories alone.
    fn write_over(&self, name: &ObjectName, bytes: &[u8]) -> io::Result<()> {
        let target = self.path(name);
        let temporary = self.write_temporary(bytes)?;
        let renamed = match self.operations.rename_over(&temporary.path, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self
                .restore_folder(parent(&target))
                .and_then(|()| self.operations.rename_over(&temporary.path, &target)),
            result => result,
        };
        renamed.inspect_err(|_| self.discard(&temporary))?;
        self.confirm(name, &target)
    }

    /// Exchanges the file under a name for a new one, to repair it. Never a rename over it, which would bring back a name
    /// that another process has just removed.
    fn exchange(&self, name: &ObjectName, bytes: &[u8]) -> io::Result<()> {
        let target = self.path(name);
        // A look only, to say "absent" before anything is written; the exchange itself decides.
        self.operations.open(&target)?;
        let temporary = self.write_temporary(bytes)?;
        if let Err(error) = self.operations.rename_exchange(&temporary.path, &target) {
            self.discard(&temporary);
            return Err(if no_such_operation(&error) {
                io::Error::new(io::ErrorKind::Unsupported, "this file system cannot exchange two files in one step")
            } else {
                error
            });
        }
        // The old bytes now have the temporary name. They stay there until the new ones are safe under theirs.
        self.confirm(name, &target)?;
        self.discard(&temporary);
        Ok(())
    }

    /// Makes the directory of `target` durable, after `name` was given or found taken.
    ///
    /// A failure is remembered, and is the answer for this name from then on: the system reports a lost write once, so that a
    /// second attempt would find the name taken, sync without an error, and promise what the disk does not hold. The file is
    /// left: another writer may have found it, and rely on it.
    fn confirm(&self, name: &ObjectName, target: &Path) -> io::Result<()> {
        let doubtful = || self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        if doubtful().contains(name) {
            return Err(io::Error::other("written before, but its directory could not be synced"));
        }
        self.operations.fsync_directory(parent(target)).inspect_err(|_| {
            doubtful().insert(*name);
        })
    }

    /// Takes a temporary name away. If that fails, a later process does it.
    fn discard(&self, temporary: &Temporary) {
        let _ = self.operations.unlink(&temporary.path);
    }

    /// Removes what writers left that are certainly dead: processes of this boot that run no more, and, of other boots or
    /// machines, files older than a day. If a clock lies so much that a live writer's file goes, his rename fails; no object is harmed.
    fn remove_stale_temporaries(&self) {
        let folder = self.root.join(TEMPORARY);
        let now_ns = host::now_ns();
        for found in self.operations.list(&folder).unwrap_or_default() {
            let Some((boot, process)) = found.name.to_str().and_then(parse_temporary_name) else { continue };
            let stale = if boot == boot_tag() {
                !host::process_is_alive(process)
            } else {
                now_ns.saturating_sub(found.modified_ns) > STALE_AFTER_NS
            };
            if stale && found.kind == FoundKind::File {
                let _ = self.operations.unlink(&folder.join(&found.name));
            }
        }
    }

    fn unlink(&self, name: &ObjectName) -> io::Result<Removal> {
        let path = self.path(name);
        let removal = match self.operations.unlink(&path) {
            Ok(()) => Removal::Removed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Removal::Absent,
            Err(error) => return Err(error),
        };
        match self.operations.fsync_directory(parent(&path)) {
            // Absent too is synced: whoever removed it may have died before that. Without a directory there is nothing to sync.
            Err(error) if removal == Removal::Absent && error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
        Ok(removal)
    }
}

/// Reading.
impl Local {
    fn read(&self, name: &ObjectName, span: Span) -> io::Result<Bytes> {
        let (file, size) = self.operations.open(&self.path(name))?;
        let (offset, length) = span.within(size);
        if length > READ_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than any object"));
        }
        let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(self.operations.read_at(&file, offset, length)?.into())
    }

    /// Lists a folder and those in it; `folder` is below the root, without slashes at its ends, or empty.
    fn list_folder(
        &self,
        folder: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, BackendError> {
        let path = self.root.join(folder);
        let entries = match self.operations.list(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => Vec::new(),
            Err(error) => return Err(BackendError::io("listing", path.display(), error)),
        };
        for entry in entries {
            let local_name = entry.name.to_string_lossy();
            let full = if folder.is_empty() { local_name.into_owned() } else { format!("{folder}/{local_name}") };
            // A name that is not UTF-8 was altered on the way and must not pass for one that is.
            let in_grammar = entry.name.to_str().is_some();
            let listed = match entry.kind {
                FoundKind::Directory if in_grammar && full == TEMPORARY => continue,
                FoundKind::Directory if in_grammar && is_folder(&full) => {
                    if self.list_folder(&full, each)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    continue;
                }
                FoundKind::File if in_grammar => match full.parse() {
                    Ok(name) => Listed::Object { name, size: entry.size },
                    Err(_) => Listed::Foreign { name: full },
                },
                _ => Listed::Foreign { name: full },
            };
            if each(listed).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Directories.
impl Local {
    /// Makes a directory and above it what is missing, and all of it durable.
    fn make_with_parents(&self, path: &Path) -> io::Result<()> {
        let made = match self.make_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && parent(path) != path => {
                self.make_with_parents(parent(path))?;
                self.make_directory(path)?
            }
            result => result?,
        };
        match self.operations.fsync_directory(parent(path)) {
            // A directory that others made may lie where we can neither read nor sync. Its name is then their affair.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !made => Ok(()),
            result => result,
        }
    }

    /// Makes a directory unless one is there; whether it did. Not durable until its parent is synced.
    fn make_directory(&self, path: &Path) -> io::Result<bool> {
        match self.operations.make_directory(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder below the root again that somebody removed, and those above it. Never the root: where that is missing,
    /// a disk is not mounted, and what is written would lie beneath it.
    fn restore_folder(&self, folder: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = folder.ancestors().take_while(|path| *path != self.root).collect();
        missing.reverse();
        for path in missing {
            self.make_directory(path)?;
            self.operations.fsync_directory(parent(path))?;
        }
        Ok(())
    }
}

/// A file that has its bytes, durably, but not yet its name.
struct Temporary {
    path: PathBuf,
    file: File,
}

/// What a file system means that has no hard links (FAT says that it is not permitted): of two writers both would be first.
fn undecided(error: io::Error) -> io::Error {
    if no_such_operation(&error) || error.kind() == io::ErrorKind::PermissionDenied {
        let problem =
            "this file system has neither hard links nor a rename that never replaces, and a repository needs one";
        return io::Error::new(io::ErrorKind::Unsupported, problem);
    }
    error
}

/// The directory that holds a path.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// The folders of packs: each by the first byte of the pack's id.
fn shards() -> impl Iterator<Item = String> {
    ["packs/d", "packs/m"].into_iter().flat_map(|packs| (0..=0xff_u8).map(move |shard| format!("{packs}/{shard:02x}")))
}

/// Whether a directory is one of ours.
fn is_folder(name: &str) -> bool {
    FOLDERS.contains(&name) || is_shard(name)
}

/// A shard is what the grammar of object names puts in between, so the grammar is asked.
fn is_shard(name: &str) -> bool {
    let is_shard_of = |digits: &str, object: fn(PackId) -> ObjectName| {
        let byte = u8::from_str_radix(digits, 16).ok()?;
        let full = object(PackId([byte; 32])).to_string();
        Some(full.rsplit_once('/')?.0 == name)
    };
    match name.rsplit_once('/') {
        Some(("packs/d", digits)) => is_shard_of(digits, |id| ObjectName::Pack(PackKind::Data, id)),
        Some(("packs/m", digits)) => is_shard_of(digits, |id| ObjectName::Pack(PackKind::Meta, id)),
        // Made when they are first needed, unlike those of packs.
        Some(("parity", digits)) => is_shard_of(digits, |id| ObjectName::Parity(id, 0)),
        _ => None,
    }
    .unwrap_or(false)
}

/// What tells this boot's temporary files from others', as text.
fn boot_tag() -> String {
    host::boot_id()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name that no other living writer makes: boot, process, and a count in the process.
fn temporary_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}-{}", boot_tag(), host::process_id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The boot and the process of a name that [`temporary_name`] made.
fn parse_temporary_name(name: &str) -> Option<(&str, u32)> {
    let mut parts = name.split('-');
    let (boot, process, count) = (parts.next()?, parts.next()?, parts.next()?);
    count.parse::<u64>().ok()?;
    (boot.len() == 16 && parts.next().is_none()).then_some((boot, process.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> (tempfile::TempDir, Local) {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::new(directory.path().join("repository"));
        local.prepare().unwrap();
        (directory, local)
    }

    #[test]
    fn the_folders_are_those_that_object_names_need() {
        let (_directory, local) = local();
        for kind in [PackKind::Data, PackKind::Meta] {
            for byte in [0, 0x0a, 0xff] {
                let name = ObjectName::Pack(kind, PackId([byte; 32]));
                assert!(parent(&local.path(&name)).is_dir(), "{name}");
            }
        }
        assert!(is_folder("packs/m/0a") && is_folder("parity/0a") && is_folder("r/keys") && is_folder("tmp"));
        for name in
            ["packs/m/0A", "parity/0A", "packs/m/+a", "packs/x/00", "packs/m/000", "packs/m/0a/00", "r/packs", ""]
        {
            assert!(!is_folder(name), "{name}");
        }
    }

    #[test]
    fn the_first_write_removes_temporary_files_of_the_dead_and_no_others() {
        let (_directory, local) = local();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        let tmp = local.root.join(TEMPORARY);
        let write = |name: &str, age_s: u64| {
            let file = File::create(tmp.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age_s)).unwrap();
        };
        let (ours, other) = (boot_tag(), "0123456789abcdef");
        let (dead_here, alive) = (format!("{ours}-{dead}-0"), format!("{ours}-{}-77777", host::process_id()));
        let (fresh, old) = (format!("{other}-{dead}-0"), format!("{other}-{dead}-1"));
        write(&dead_here, 0);
        write(&alive, 1_000_000);
        write(&fresh, 3600);
        write(&old, 100_000);
        write("somebody's", 1_000_000);
        local.prepare().unwrap();
        assert!(local.list(Prefix::All, &mut |listed| panic!("{listed:?}")).is_ok());
        assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 5, "neither prepare nor list removes any");

        local.put_new(&ObjectName::Format, Bytes::new()).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut expected = vec![alive, fresh, "somebody's".to_owned(), "ballast".to_owned()];
        expected.sort();
        assert_eq!(left, expected);
    }

    #[test]
    fn folders_removed_by_hand_come_back_but_never_the_root() {
        let (directory, local) = local();
        let name = ObjectName::Pack(PackKind::Data, PackId([7; 32]));
        for folder in ["packs", "tmp"] {
            std::fs::remove_dir_all(local.root.join(folder)).unwrap();
        }
        assert!(local.list(Prefix::Packs(PackKind::Data), &mut |listed| panic!("{listed:?}")).is_ok());
        assert_eq!(local.remove(&name).unwrap(), Removal::Absent);
        assert_eq!(local.put_new(&name, Bytes::from_static(b"x")).unwrap(), Put::Created);
        assert_eq!(local.get(&name, Span::All).unwrap(), "x");

        let nowhere = Local::new(directory.path().join("not mounted"));
        assert!(nowhere.put_new(&name, Bytes::new()).is_err());
        for prefix in [Prefix::All, Prefix::Snapshots] {
            assert!(nowhere.list(prefix, &mut |_| ControlFlow::Continue(())).unwrap_err().is_absent());
        }
        assert!(!nowhere.root.exists());
    }

    #[test]
    fn a_missing_path_to_the_root_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::new(directory.path().join("a/b/c"));
        local.prepare().unwrap();
        local.prepare().unwrap();
        assert_eq!(local.put_new(&ObjectName::Format, Bytes::new()).unwrap(), Put::Created);
    }
}
