//! What must be true of a repository whatever happened to a writer: it opens, every published snapshot reads back to
//! the bytes that were backed up, and `check` finds nothing wrong. Says what is not so in words, since crash tests ask
//! it of thousands of states.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use repo_core::{
    Backend, BackupReport, CheckOptions, CheckReport, Corruption, Error, Local, LocalTree, LocalTreeOptions, Mode,
    ObjectName, Repository, RestoreOptions, Secret, Silent, Snapshot, SnapshotFilter, SnapshotId,
};

use crate::bench::options;

/// The files of a tree: path and bytes.
pub type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// What should be in a repository: every snapshot with the files that were there when it was made.
#[derive(Debug, Clone, Default)]
pub struct Known(pub BTreeMap<SnapshotId, Contents>);

/// The key that every repository of these tests opens with.
pub fn secret() -> Secret {
    Secret::Key([42; 32].into())
}

/// Opens a repository in a directory.
pub fn open(place: &Path) -> Result<Repository, Error> {
    Repository::open(Arc::new(Local::new(place)), &secret())
}

/// Opens a repository of one thread, so that a run does the same each time.
pub fn open_on(backend: Arc<dyn Backend>) -> Repository {
    Repository::open(backend, &secret()).expect("the repository opens").with_threads(1)
}

/// Every file below a directory, read by the test itself.
pub fn contents(root: &Path) -> Contents {
    let mut contents = Contents::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("the source can be read") {
            let path = entry.expect("the source can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let bytes = fs::read(&path).expect("the source can be read");
                contents.insert(path.as_os_str().as_bytes().to_vec(), bytes);
            }
        }
    }
    contents
}

/// A few files below `root`, of every size that is treated differently; each edition differs from the one before in
/// one small file, one large one and one new one.
pub fn write_edition(root: &Path, edition: u64) {
    let write = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("below the root")).expect("directories can be made");
        fs::write(path, bytes).expect("files can be written");
    };
    if edition == 0 {
        write("empty", b"");
        write("same/large", &noise(1, 150_000));
    }
    write("small", format!("edition {edition}").as_bytes());
    let mut large = noise(2, 200_000);
    large.extend(noise(100 + edition, 9_000));
    write("large", &large);
    write(&format!("new/{edition}"), &noise(200 + edition, 5_000));
}

/// Bytes that neither compress nor repeat, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A directory as a source.
pub fn tree(root: &Path) -> LocalTree {
    LocalTree::new(&[root.to_owned()], LocalTreeOptions::default()).expect("the source is there")
}

/// Backs up a directory.
pub fn back_up(repository: &Repository, root: &Path) -> Result<BackupReport, Error> {
    repository.backup(&tree(root), &options(Mode::Incremental), &Silent)
}

impl Known {
    /// Adds the snapshot of a backup of `root`, which has not changed since.
    pub fn add(&mut self, report: &BackupReport, root: &Path) -> SnapshotId {
        let id = report.snapshot.as_ref().expect("a snapshot was published").id();
        self.0.insert(id, contents(root));
        id
    }

    /// Whether every snapshot of `required` is there and every one that is there is known and whole.
    pub fn are_whole(
        &self,
        repository: &Repository,
        required: impl IntoIterator<Item = SnapshotId>,
    ) -> Result<(), String> {
        let list = repository.snapshots(&SnapshotFilter::default()).map_err(in_words("listing snapshots"))?;
        if let Some(error) = list.unreadable.first() {
            return Err(format!("a snapshot is there and cannot be read: {error}"));
        }
        for id in required {
            if !list.snapshots.iter().any(|snapshot| snapshot.id() == id) {
                return Err(format!("the snapshot {id} is gone"));
            }
        }
        for snapshot in &list.snapshots {
            let known = self.0.get(&snapshot.id());
            reads_back(repository, snapshot, known.ok_or_else(|| format!("nobody made {}", snapshot.id()))?)?;
        }
        Ok(())
    }
}

impl Known {
    /// Whether every snapshot that is there is restored to the files that were backed up.
    pub fn are_restored(&self, repository: &Repository) -> Result<(), String> {
        let list = repository.snapshots(&SnapshotFilter::default()).map_err(in_words("listing snapshots"))?;
        for snapshot in &list.snapshots {
            let expected = self.0.get(&snapshot.id()).ok_or_else(|| format!("nobody made {}", snapshot.id()))?;
            let target = roomy(expected.values().map(|bytes| bytes.len() as u64).sum());
            let report = repository
                .restore(snapshot, target.path(), &RestoreOptions::default(), &Silent)
                .map_err(in_words("restore"))?;
            let root = target.path().as_os_str().as_bytes();
            let restored =
                contents(target.path()).into_iter().map(|(path, bytes)| (path[root.len()..].to_vec(), bytes));
            if report.problems > 0 || restored.collect::<Contents>() != *expected {
                return Err(format!("{} is restored with other files, {} problems", snapshot.id(), report.problems));
            }
        }
        Ok(())
    }
}

/// Whether every file of a snapshot has the bytes that it had.
pub fn reads_back(repository: &Repository, snapshot: &Snapshot, contents: &Contents) -> Result<(), String> {
    let files = snapshot.record().summary.processed_files;
    if files != contents.len() as u64 {
        return Err(format!("{} has {files} files and not {}", snapshot.id(), contents.len()));
    }
    for (path, expected) in contents {
        let name = String::from_utf8_lossy(path);
        let mut file = repository.read(snapshot, path).map_err(in_words(&name))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
        if bytes != *expected {
            return Err(format!("{name} of {} reads back as other bytes", snapshot.id()));
        }
    }
    Ok(())
}

/// Checks every byte. Whatever harms nothing is in the report's notes.
pub fn check(repository: &Repository) -> Result<CheckReport, String> {
    let options = CheckOptions::new().read_data();
    repository.check(&options, &Silent).map_err(in_words("check"))
}

/// Nothing is wrong, and there is nothing to note.
pub fn is_spotless(repository: &Repository) -> Result<(), String> {
    let report = check(repository)?;
    match (report.errors.first(), report.notes.first()) {
        (Some(error), _) => Err(format!("check found: {error}")),
        (None, Some(note)) => Err(format!("check notes: {note}")),
        (None, None) => Ok(()),
    }
}

/// Nothing is wrong; there may be something to note.
pub fn is_whole(repository: &Repository) -> Result<(), String> {
    let report = check(repository)?;
    report.errors.first().map_or(Ok(()), |error| Err(format!("check found: {error}")))
}

/// Nothing is wrong, but that one of two copies may be missing: the verb was interrupted between the two, and the other
/// is whole.
pub fn is_whole_but_for_copies(repository: &Repository) -> Result<(), String> {
    let report = check(repository)?;
    let is_missing_copy = |error: &&Error| {
        let Error::Corrupt { object, problem: Corruption::Missing } = error else { return false };
        matches!(object, ObjectName::SecondCopy(_)) || crate::damage::second_copy(object).is_some()
    };
    if let Some(error) = report.errors.iter().find(|error| !is_missing_copy(error)) {
        return Err(format!("check found: {error}"));
    }
    match &report.errors[..] {
        [] | [_] => Ok(()),
        several => Err(format!("check found several copies missing: {several:?}")),
    }
}

/// Says where an error came from.
pub fn in_words<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String + '_ {
    move |error| format!("{what}: {error}")
}

/// A temporary directory in memory if so many bytes fit there, else where temporary files go.
pub fn roomy(bytes: u64) -> tempfile::TempDir {
    let free = rustix::fs::statvfs("/dev/shm").map_or(0, |place| place.f_bavail.saturating_mul(place.f_frsize));
    let place = if free > 2 * bytes { "/dev/shm".into() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("icecore-").tempdir_in(place).expect("a temporary directory")
}

/// A tree of so many files of 4 MiB that neither compress nor repeat.
pub fn write_large(root: &Path, seed: u64, files: u64) {
    fs::create_dir_all(root).expect("directories can be made");
    for file in 0..files {
        fs::write(root.join(format!("{file:04}")), noise(seed + file, 4 << 20)).expect("files can be written");
    }
}

/// How many temporary files there are in a repository's directory, without the room that it keeps for a full disk.
pub fn temporary_files(vault: &Path) -> usize {
    let names = fs::read_dir(vault.join("tmp")).expect("a directory of the repository");
    names.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() != "ballast")).count()
}
