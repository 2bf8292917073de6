//! The backends keep the contract, and `Local` what is asked of a directory beyond it.

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use icecore_tests::contract;
use repo_core::internals::backend::Backend;
use repo_core::internals::platform::files::{FileOperations, Found, SystemFiles};
use repo_core::{
    BackendError, BackendErrorKind, BackupOptions, Bytes, Capabilities, CheckOptions, Error, InitOptions, Listed,
    Local, Memory, ObjectName, OpenOptions, OwnerId, PasswordCost, Prefix, PruneOptions, Put, ReaderSource, Removal,
    Repository, Secret, Silent, SnapshotFilter, Span,
};
use rustix::io::Errno;

#[test]
fn memory_keeps_the_contract() {
    contract::run(&|| Arc::new(Memory::new()));
}

#[test]
fn local_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    contract::run(&fresh(&directory, Local::new));
}

#[test]
fn local_keeps_the_contract_without_privileges() {
    run_as_nobody("local_keeps_the_contract", "022");
}

/// On file systems that cannot rename without replacing, such as NFS.
#[test]
fn local_keeps_the_contract_by_hard_links() {
    let directory = tempfile::tempdir().unwrap();
    contract::run(&fresh(&directory, |root| Local::with_operations(root, Failing::always(Step::Rename, Errno::INVAL))));
}

/// FAT has no hard links, and says that they are not permitted; some FUSE file systems do not know the rename either.
#[test]
fn a_file_system_on_which_two_writers_could_both_be_first_gets_no_repository() {
    for error in [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS] {
        let directory = tempfile::tempdir().unwrap();
        let operations = Failing::always(Step::RenameAndLink, error);
        let local = Local::with_operations(directory.path().join("repo"), operations);
        let refused =
            Repository::init(Arc::new(local), &Secret::Key([42; 32].into()), &InitOptions::new()).unwrap_err();
        let told = refused.to_string();
        assert!(told.contains("neither hard links nor a rename that never replaces"), "{error}: {told}");
        assert!(matches!(&refused, Error::Backend(error) if error.is_unsupported()), "{refused:?}");
        let mut objects = 0;
        walk(directory.path(), &mut |path, metadata| {
            objects += usize::from(metadata.is_file() && path.file_name() != Some("ballast".as_ref()));
        });
        assert_eq!(objects, 0);
    }
    // Another failure of the link is itself.
    let directory = tempfile::tempdir().unwrap();
    let full = Local::with_operations(directory.path(), Failing::always(Step::RenameAndLink, Errno::NOSPC));
    full.prepare().unwrap();
    let refused = full.put_new(&contract::names()[0], vec![1].into()).unwrap_err();
    assert_eq!((refused.kind, refused.is_unsupported()), (BackendErrorKind::Full, false));
}

/// Unless it is made a weak one, which asks for a rename that replaces, and looks before and after.
#[test]
fn a_weak_repository_does_with_a_file_system_that_only_knows_a_rename_that_replaces() {
    let directory = tempfile::tempdir().unwrap();
    let local = || {
        let operations = Failing::always(Step::RenameAndLink, Errno::PERM);
        Arc::new(Local::with_operations(directory.path().join("repo"), operations))
    };
    let (secret, owner) = (Secret::Key([42; 32].into()), OwnerId::generate().unwrap());
    Repository::init(local(), &secret, &InitOptions::new().weak_store(owner)).unwrap();
    let repository = Repository::open_with(local(), &secret, &OpenOptions::new().owner(owner)).unwrap();
    let source = ReaderSource::new("/a".as_ref(), std::io::Cursor::new(b"Dear reader".to_vec()));
    repository.backup(&source, &BackupOptions::new(), &Silent).unwrap();
    repository.prune(&PruneOptions::new(), &Silent).unwrap();
    assert!(repository.check(&CheckOptions::new().read_data(), &Silent).unwrap().is_whole());
    assert_eq!(fs::read_dir(directory.path().join("repo/tmp")).unwrap().count(), 0, "nothing is left over");
}

/// A place that does not decide races, whatever it holds.
#[derive(Debug)]
struct Undecided(Memory);

impl Backend for Undecided {
    fn place(&self) -> String {
        "a weak place".into()
    }
    fn prepare(&self) -> Result<(), BackendError> {
        self.0.prepare()
    }
    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        panic!("{name} is written, {} bytes", bytes.len());
    }
    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        self.0.get(name, span)
    }
    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.0.list(prefix, each)
    }
    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        panic!("{name} is removed");
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { put_if_absent: false }
    }
}

#[test]
fn where_races_are_not_decided_nothing_is_made_or_written_and_all_can_be_read() {
    let secret = Secret::Key([42; 32].into());
    let is_refused = |error: Error| {
        assert!(matches!(&error, Error::NoPutIfAbsent { place } if place == "a weak place"), "{error}");
    };
    is_refused(Repository::init(Arc::new(Undecided(Memory::new())), &secret, &InitOptions::new()).unwrap_err());

    // Made elsewhere, and copied there by other means.
    let place = Arc::new(Memory::new());
    let made = Repository::init(place.clone(), &secret, &InitOptions::new()).unwrap();
    let source = || ReaderSource::new("/a".as_ref(), std::io::Cursor::new(b"Dear reader".to_vec()));
    made.backup(&source(), &BackupOptions::new(), &Silent).unwrap();
    let copy = Memory::new();
    place
        .list(Prefix::All, &mut |listed| {
            let Listed::Object { name, .. } = listed else { panic!("{listed:?}") };
            copy.put_new(&name, place.get(&name, Span::All).unwrap()).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
    let weak = Repository::open(Arc::new(Undecided(copy)), &secret).unwrap();
    assert_eq!(weak.snapshots(&SnapshotFilter::new()).unwrap().snapshots.len(), 1);
    assert!(weak.check(&CheckOptions::new().read_data(), &Silent).unwrap().is_whole());
    assert!(weak.prune(&PruneOptions::new().dry_run(), &Silent).is_ok());
    is_refused(weak.backup(&source(), &BackupOptions::new(), &Silent).unwrap_err());
    is_refused(weak.prune(&PruneOptions::new(), &Silent).unwrap_err());
    is_refused(weak.add_key(&secret, "another", PasswordCost::Default).unwrap_err());
}

#[test]
fn files_and_directories_are_their_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap(); // the umask is not the workbench's
    let root = directory.path().join("a/b");
    let local = prepared(&root);
    for name in contract::names() {
        assert_eq!(local.put_new(&name, vec![1].into()).unwrap(), Put::Created);
    }
    let mut files = 0;
    walk(&directory.path().join("a"), &mut |path, metadata| {
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.mode() & 0o7777, expected, "{}", path.display());
        // The room that is kept for a full disk is no object.
        files += usize::from(metadata.is_file() && path.file_name() != Some("ballast".as_ref()));
    });
    assert_eq!(files, contract::names().len());
}

#[test]
fn files_and_directories_are_their_owners_alone_whatever_the_umask() {
    for umask in ["000", "077", "0277", "0777"] {
        let mut shell = Command::new("sh");
        shell.args(["-c", UNDER_UMASK, umask]).arg(std::env::current_exe().unwrap());
        run_this("files_and_directories_are_their_owners_alone", &mut shell);
        run_as_nobody("files_and_directories_are_their_owners_alone", umask);
    }
}

#[test]
fn what_is_planted_under_an_objects_name_is_never_read_nor_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (root, secret) = (directory.path().join("root"), directory.path().join("secret"));
    let local = prepared(&root);
    fs::write(&secret, "not an object").unwrap();
    type Plant<'a> = &'a dyn Fn(&Path);
    let plants: [(&str, Plant<'_>); 4] = [
        ("symlink", &|path| symlink(&secret, path).unwrap()),
        ("dangling symlink", &|path| symlink("nowhere", path).unwrap()),
        ("directory", &|path| fs::create_dir(path).unwrap()),
        ("pipe", &|path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        }),
    ];
    for (i, (what, plant)) in plants.into_iter().enumerate() {
        let name = ObjectName::Keyring(i as u64);
        plant(&root.join(name.to_string()));
        for span in [Span::All, Span::Range { offset: 0, length: 1 }, Span::Suffix(1)] {
            let error = local.get(&name, span).expect_err(what);
            assert!(!error.is_absent(), "{what}: {error}");
        }
        let error = local.put_new(&name, vec![1].into()).expect_err(what);
        assert_eq!(error.kind, BackendErrorKind::Final, "{what}: {error}");
        assert_eq!(list(&local, Prefix::Keyrings), [Listed::Foreign { name: name.to_string() }], "{what}");
        let path = root.join(name.to_string());
        assert!(!path.symlink_metadata().unwrap().is_file(), "{what} was replaced");
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
    }
    assert_eq!(fs::read(&secret).unwrap(), b"not an object");
    assert_eq!(temporaries(&root), 0);
}

#[test]
fn foreign_names_are_reported_and_temporary_files_are_not() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let local = prepared(&root);
    let id = "ab".repeat(32);
    let foreign = [
        "README".to_owned(),
        "keys/x".to_owned(),
        format!("packs/d/00/{id}"),
        format!("packs/d/{id}"),
        format!("index/{}", id.to_uppercase()),
        format!("r/index/{id}"),
        "lost+found".to_owned(),
    ];
    for name in &foreign {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    fs::create_dir_all(root.join("packs/m/zz/deep")).unwrap();
    fs::write(root.join("tmp/abc"), "x").unwrap();
    fs::write(root.join("keys").join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
    let mut expected: Vec<String> = foreign.to_vec();
    // A directory of no meaning is one foreign name, whatever it holds.
    expected.retain(|name| !name.starts_with("r/index"));
    expected.extend(["r/index", "packs/m/zz", "keys/\u{fffd}"].map(String::from));
    expected.sort();
    let mut seen: Vec<String> = list(&local, Prefix::All)
        .into_iter()
        .map(|listed| match listed {
            Listed::Foreign { name } => name,
            Listed::Object { name, .. } => panic!("{name} is no object"),
        })
        .collect();
    seen.sort();
    assert_eq!(seen, expected);
}

#[test]
fn removing_never_removes_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let local = prepared(&root);
    let name = ObjectName::Keyring(1);
    fs::create_dir(root.join(name.to_string())).unwrap();
    assert!(local.remove(&name).is_err());
    assert!(root.join(name.to_string()).is_dir());
    assert_eq!(local.remove(&ObjectName::Keyring(2)).unwrap(), Removal::Absent);
}

#[test]
fn a_file_blown_up_is_refused_before_memory_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let local = prepared(directory.path());
    let name = ObjectName::Config(1);
    let file = fs::File::create(directory.path().join(name.to_string())).unwrap();
    file.set_len(1 << 42).unwrap();
    assert_eq!(local.get(&name, Span::All).unwrap_err().kind, BackendErrorKind::Final);
    assert_eq!(local.get(&name, Span::Suffix(3)).unwrap(), vec![0; 3]);
    assert!(matches!(local.put_new(&name, vec![1].into()), Err(error) if error.kind == BackendErrorKind::Final));
}

/// Before it has its name, an object that failed was never there, and may be tried again.
#[test]
fn a_step_that_fails_before_the_name_leaves_nothing_behind() {
    for step in [Step::Write, Step::SyncFile, Step::Rename] {
        let directory = tempfile::tempdir().unwrap();
        prepared(directory.path());
        let local = Local::with_operations(directory.path(), Failing::times(step, Errno::IO, 1));
        let error = local.put_new(&ObjectName::Format, b"whole".to_vec().into()).expect_err("it failed");
        assert_eq!((error.kind, &*error.object), (BackendErrorKind::Final, "format"), "{step:?}");
        assert_eq!(temporaries(directory.path()), 0, "{step:?}");
        assert_eq!(list(&local, Prefix::All), [], "{step:?}");
        assert_eq!(local.put_new(&ObjectName::Format, b"whole".to_vec().into()).unwrap(), Put::Created);
    }
}

/// The system reports a lost write once. A second attempt that finds the name and syncs without an error must not say that the
/// object is safe; another name may.
#[test]
fn an_object_whose_directory_could_not_be_synced_is_never_called_safe() {
    let directory = tempfile::tempdir().unwrap();
    prepared(directory.path());
    let local = Local::with_operations(directory.path(), Failing::times(Step::SyncDirectory, Errno::IO, 1));
    let name = ObjectName::Keyring(1);
    for attempt in 0..3 {
        assert!(local.put_new(&name, vec![1].into()).is_err(), "attempt {attempt}");
    }
    assert_eq!(local.put_new(&ObjectName::Keyring(2), vec![1].into()).unwrap(), Put::Created);
    assert_eq!(temporaries(directory.path()), 0);
}

/// A full disk and one without inodes: said by kind and name, and nothing is left of the attempt.
#[test]
fn a_full_disk_leaves_nothing_behind() {
    for (what, options, fills) in [("space", "size=1m", true), ("inodes", "size=16m,nr_inodes=540", false)] {
        let Some(disk) = SmallDisk::mount(options) else { return };
        let local = prepared(&disk.0.path().join("r"));
        let name = |i: u64| ObjectName::Keyring(i);
        let size = if fills { 2 << 20 } else { 1 };
        let mut written = 0;
        let error = loop {
            match local.put_new(&name(written), vec![7; size].into()) {
                Ok(put) => assert_eq!(put, Put::Created),
                Err(error) => break error,
            }
            written += 1;
            assert!(written < 1000, "{what} never ran out");
        };
        assert_eq!((error.kind, error.object), (BackendErrorKind::Full, name(written).to_string()), "{what}");
        assert_eq!(temporaries(&disk.0.path().join("r")), 0, "{what}");
        assert_eq!(contract::listed(&local, Prefix::All).len(), written as usize, "{what}");
        assert!(local.get(&name(written), Span::All).unwrap_err().is_absent(), "{what}");
        if fills {
            assert_eq!(local.put_new(&name(written), vec![7; 10].into()).unwrap(), Put::Created);
        } else {
            local.remove(&name(0)).unwrap();
            assert_eq!(local.put_new(&name(written), vec![7; 10].into()).unwrap(), Put::Created);
        }
    }
}

/// A tmpfs of its own, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(directory.path()).output();
        if status.is_ok_and(|output| output.status.success()) {
            return Some(Self(directory));
        }
        warn("NOT TESTED: a full disk. That needs the right to mount a tmpfs.");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(), "unmounted");
    }
}

/// A step of writing that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Write,
    SyncFile,
    Rename,
    /// Neither is there, the link with the error that is given.
    RenameAndLink,
    SyncDirectory,
}

/// The system's files, of which one step fails so many times.
#[derive(Debug)]
struct Failing {
    step: Step,
    error: Errno,
    times: AtomicUsize,
}

impl Failing {
    fn always(step: Step, error: Errno) -> Arc<Self> {
        Self::times(step, error, usize::MAX)
    }

    fn times(step: Step, error: Errno, times: usize) -> Arc<Self> {
        Arc::new(Self { step, error, times: times.into() })
    }

    fn fail(&self, step: Step) -> std::io::Result<()> {
        let fails = step == self.step
            && self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |times| times.checked_sub(1)).is_ok();
        if fails { Err(self.error.into()) } else { Ok(()) }
    }
}

impl FileOperations for Failing {
    fn make_directory(&self, path: &Path) -> std::io::Result<()> {
        SystemFiles.make_directory(path)
    }
    fn create_new(&self, path: &Path) -> std::io::Result<fs::File> {
        SystemFiles.create_new(path)
    }
    fn write(&self, path: &Path, file: &mut fs::File, bytes: &[u8]) -> std::io::Result<()> {
        let half = self.fail(Step::Write).map_or(bytes.len() / 2, |()| bytes.len());
        SystemFiles.write(path, file, &bytes[..half])?;
        if half < bytes.len() { Err(self.error.into()) } else { Ok(()) }
    }
    fn fsync_file(&self, path: &Path, file: &fs::File) -> std::io::Result<()> {
        self.fail(Step::SyncFile)?;
        SystemFiles.fsync_file(path, file)
    }
    fn rename_no_replace(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.fail(Step::Rename)?;
        self.fail(Step::RenameAndLink).map_err(|_| Errno::INVAL)?;
        SystemFiles.rename_no_replace(from, to)
    }
    fn rename_over(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        SystemFiles.rename_over(from, to)
    }
    fn rename_exchange(&self, one: &Path, other: &Path) -> std::io::Result<()> {
        self.fail(Step::Rename)?;
        SystemFiles.rename_exchange(one, other)
    }
    fn link(&self, file: &fs::File, from: &Path, to: &Path) -> std::io::Result<()> {
        self.fail(Step::RenameAndLink)?;
        SystemFiles.link(file, from, to)
    }
    fn unlink(&self, path: &Path) -> std::io::Result<()> {
        SystemFiles.unlink(path)
    }
    fn fsync_directory(&self, path: &Path) -> std::io::Result<()> {
        self.fail(Step::SyncDirectory)?;
        SystemFiles.fsync_directory(path)
    }
    fn open(&self, path: &Path) -> std::io::Result<(fs::File, u64)> {
        SystemFiles.open(path)
    }
    fn read_at(&self, file: &fs::File, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        SystemFiles.read_at(file, offset, length)
    }
    fn list(&self, path: &Path) -> std::io::Result<Vec<Found>> {
        SystemFiles.list(path)
    }
}

fn prepared(root: &Path) -> Local {
    let local = Local::new(root);
    local.prepare().unwrap();
    local
}

/// A maker of new places below one directory.
fn fresh(directory: &tempfile::TempDir, make: impl Fn(PathBuf) -> Local) -> impl Fn() -> Arc<dyn Backend> {
    let count = std::cell::Cell::new(0);
    move || {
        count.set(count.get() + 1);
        Arc::new(make(directory.path().join(count.get().to_string())))
    }
}

fn list(local: &Local, prefix: Prefix) -> Vec<Listed> {
    let mut all = Vec::new();
    let mut each = |listed| {
        all.push(listed);
        ControlFlow::Continue(())
    };
    local.list(prefix, &mut each).unwrap();
    all
}

fn temporaries(root: &Path) -> usize {
    icecore_tests::whole::temporary_files(root)
}

fn walk(path: &Path, each: &mut dyn FnMut(&Path, &fs::Metadata)) {
    let metadata = path.symlink_metadata().unwrap();
    each(path, &metadata);
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), each);
        }
    }
}

/// A shell's command: `$0` is the umask, the rest is run.
const UNDER_UMASK: &str = "umask \"$0\" && exec \"$@\"";

/// Runs one test of this file again as a user without privileges, from a copy that he can reach.
fn run_as_nobody(test: &str, umask: &str) {
    if !rustix::process::geteuid().is_root() {
        return; // The test itself runs without privileges already.
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    if Command::new("setpriv").arg("--version").output().is_err() {
        warn("NOT TESTED: without privileges. That needs setpriv (util-linux).");
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", UNDER_UMASK, umask]);
    command.arg(program).current_dir("/");
    run_this(test, &mut command);
}

fn run_this(test: &str, command: &mut Command) {
    let output = command.args(["--exact", test]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Past the test harness, which keeps what a passing test prints.
fn warn(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
