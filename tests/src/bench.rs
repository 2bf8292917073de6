//! A bench to work at: a repository that opens with a raw key, a tree to back up, room to restore to, and ears for
//! what a verb tells. Everything lies in one temporary directory and is gone with the bench.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use repo_core::{
    Backend, BackupOptions, BackupReport, CheckOptions, CheckReport, Event, InitOptions, Local, LocalTree,
    LocalTreeOptions, Memory, Mode, Progress, Repository, RestoreOptions, RestoreReport, Result, Secret, Snapshot,
    Source,
};
use tempfile::TempDir;

use crate::compare::Compared;
use crate::counting::{CountingSource, Readings};
use crate::damage::{self, Damage, Kind};
use crate::privilege;
use crate::tree::{self, Planned};

/// Everything a whole-repository test needs.
#[derive(Debug)]
pub struct Bench {
    room: TempDir,
    backend: Arc<dyn Backend>,
    secret: Secret,
    restored: Mutex<u32>,
}

/// A restored tree.
#[derive(Debug)]
pub struct Restored {
    /// What came back of [`Bench::source`].
    pub tree: PathBuf,
    /// What can be compared: not the root itself, where it is the target.
    pub compared: Compared,
    pub report: RestoreReport,
    pub heard: Ears,
}

/// What was heard of a verb: problems and notes, in words.
#[derive(Debug, Default)]
pub struct Ears {
    pub problems: Mutex<Vec<String>>,
    /// Their paths alone, raw bytes.
    pub problem_paths: Mutex<Vec<Vec<u8>>>,
    pub notes: Mutex<Vec<String>>,
}

impl Progress for Ears {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Problem { path, during, message } => {
                let problem = format!("{}: {during}: {message}", path.display());
                self.problems.lock().expect("no listener panics").push(problem);
                let path = path.as_os_str().as_encoded_bytes().to_vec();
                self.problem_paths.lock().expect("no listener panics").push(path);
            }
            Event::Note { message } => self.notes.lock().expect("no listener panics").push(message.to_owned()),
            _ => {}
        }
    }
}

impl Ears {
    /// The problems so far.
    pub fn problems(&self) -> Vec<String> {
        self.problems.lock().expect("no listener panics").clone()
    }

    /// The paths of the problems so far.
    pub fn problem_paths(&self) -> Vec<Vec<u8>> {
        self.problem_paths.lock().expect("no listener panics").clone()
    }
}

impl Bench {
    /// A bench whose repository is a directory.
    pub fn new() -> Self {
        Self::at(Self::room(None), |room| Arc::new(Local::new(room.join("repository"))))
    }

    /// A bench whose repository is in memory.
    pub fn in_memory() -> Self {
        Self::at(Self::room(None), |_| Arc::new(Memory::default()))
    }

    /// A bench in a directory of the caller's choice: another file system may hold other things.
    pub fn within(place: &Path) -> Self {
        Self::at(Self::room(Some(place)), |room| Arc::new(Local::new(room.join("repository"))))
    }

    fn room(place: Option<&Path>) -> TempDir {
        let place = place.map_or_else(std::env::temp_dir, Path::to_owned);
        tempfile::Builder::new().prefix("icecore-bench-").tempdir_in(place).expect("a temporary directory")
    }

    fn at(room: TempDir, backend: impl FnOnce(&Path) -> Arc<dyn Backend>) -> Self {
        let backend = backend(room.path());
        let secret = Secret::Key([42; 32].into());
        Repository::init(backend.clone(), &secret, &InitOptions::default()).expect("a repository can be made");
        Self { room, backend, secret, restored: Mutex::new(0) }
    }

    /// The directory that everything lies in.
    pub fn path(&self) -> &Path {
        self.room.path()
    }

    /// The tree that is backed up. Not there until it is grown or made.
    pub fn source(&self) -> PathBuf {
        self.path().join("source")
    }

    /// Grows the source.
    pub fn grow(&self, planned: &Planned) {
        tree::grow(&self.source(), planned).expect("the tree was planned within what the place can do");
    }

    /// Writes a file of the source, making its directories.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.source().join(path);
        fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("directories can be made");
        fs::write(path, content).expect("a file can be written");
    }

    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// The repository, opened anew: nothing is remembered from before.
    pub fn try_open(&self) -> Result<Repository> {
        Repository::open(self.backend.clone(), &self.secret)
    }

    /// The repository, opened anew.
    pub fn open(&self) -> Repository {
        self.try_open().expect("the repository opens")
    }

    /// The source, as the library sees it.
    pub fn local_tree(&self) -> LocalTree {
        LocalTree::new(&[self.source()], LocalTreeOptions::default()).expect("the source is there")
    }

    /// Backs up the source, compared with the newest snapshot.
    pub fn backup(&self) -> BackupReport {
        self.backup_from(&self.local_tree(), Mode::Incremental)
    }

    /// Backs up any source.
    pub fn backup_from(&self, source: &dyn Source, mode: Mode) -> BackupReport {
        let heard = Ears::default();
        let report = self.open().backup(source, &options(mode), &heard).expect("a backup is made");
        assert_eq!(heard.problems(), Vec::<String>::new(), "of the source");
        report
    }

    /// Backs up the source with all its ctimes told an hour older, and says what was read of it.
    pub fn backup_counting(&self, mode: Mode) -> (BackupReport, Readings) {
        let source = CountingSource::aged(self.local_tree(), 3600);
        let report = self.backup_from(&source, mode);
        (report, source.readings())
    }

    /// Restores everything into a fresh directory, whatever problems that has. Who is not root restores only the source
    /// itself: the directories above it are not his to bring back.
    pub fn try_restore(&self, snapshot: &Snapshot) -> Result<Restored> {
        let mut count = self.restored.lock().expect("no restore panics");
        *count += 1;
        let target = self.path().join(format!("restored-{count}"));
        drop(count);
        let source = self.source();
        let mut options = RestoreOptions::default();
        let tree = if privilege::is_root() {
            // A snapshot of an absolute path holds all the directories above it.
            target.join(source.strip_prefix("/").expect("temporary directories have absolute paths"))
        } else {
            options.subpath = source.as_os_str().as_encoded_bytes().to_vec();
            target.clone()
        };
        let heard = Ears::default();
        let report = self.open().restore(snapshot, &target, &options, &heard)?;
        let compared = Compared { root: privilege::is_root(), ..Compared::default() };
        Ok(Restored { tree, compared, report, heard })
    }

    /// Restores everything into a fresh directory, without any problem.
    pub fn restore(&self, snapshot: &Snapshot) -> Restored {
        let restored = self.try_restore(snapshot).expect("a snapshot is restored");
        assert_eq!(restored.heard.problems(), Vec::<String>::new(), "of the restore");
        assert_eq!(restored.report.problems, 0, "no problem counted that was not told");
        restored
    }

    /// Checks every byte.
    pub fn check(&self) -> CheckReport {
        let options = CheckOptions::new().read_data();
        self.open().check(&options, &Ears::default()).expect("a check runs to its end")
    }

    /// Checks every byte, and fails if anything is wrong.
    pub fn check_is_clean(&self) {
        let report = self.check();
        assert!(report.errors.is_empty(), "check found: {:?}", report.errors);
    }

    /// Damages the first object of a kind; its second copy stays.
    pub fn damage(&self, kind: Kind, how: Damage) -> repo_core::ObjectName {
        let name = *damage::of_kind(self.backend(), kind).first().expect("there is an object of this kind");
        damage::damage(self.backend(), &name, how);
        name
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Immutable files and closed directories would stay behind.
        tree::soften(self.room.path());
    }
}

/// Options that make two benches alike.
pub fn options(mode: Mode) -> BackupOptions {
    let mut options = BackupOptions::default();
    options.mode = mode;
    options.host = "bench".to_owned();
    options
}

/// The snapshot that a backup published.
pub fn published(report: &BackupReport) -> &Snapshot {
    report.snapshot.as_ref().expect("a snapshot was published")
}
