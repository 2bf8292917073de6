//! The main job on files of your own: makes a repository, backs `PATH` up into it, checks every byte, restores it
//! elsewhere, and compares what came back with what is there.
//!
//! `cargo run --release -p repo-core --example main_job -- PATH`
//!
//! `PATH` is only read. Everything else lies in a temporary directory beside it (or in the system's, if there is no
//! writing beside it), which takes about one and a half times the room of `PATH` and is gone at the end. The comparison
//! uses nothing of the library: names, kinds, sizes, contents, modes, times, link targets, hard links, devices,
//! extended attributes, and owners where this user may set them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use repo_core::{
    BackupOptions, CheckOptions, Error, Event, InitOptions, Local, LocalTree, LocalTreeOptions, Progress, Repository,
    RestoreOptions, Result, Secret, system,
};

/// Differences that are printed one by one.
const SHOWN_MAX: usize = 20;

pub fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: main_job PATH");
        return ExitCode::FAILURE;
    };
    match run(Path::new(&path)) {
        Ok(found) if found.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does it all, and says what differs: nothing, unless something of `path` could not be read or changed meanwhile.
pub fn run(path: &Path) -> Result<Vec<String>> {
    let path = fs::canonicalize(path).map_err(failed("finding it", path))?;
    let Some(parent) = path.parent() else {
        return Err(Error::Usage("choose something below /".into()));
    };
    let prefix = ".icecore-main-job-";
    let scratch = tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
    let scratch = scratch.or_else(|_| tempfile::Builder::new().prefix(prefix).tempdir());
    let scratch = scratch.map_err(failed("making a temporary directory", &path))?;
    let (place, target) = (scratch.path().join("repository"), scratch.path().join("restored"));
    let began_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);

    let mut steps = Steps(Instant::now());
    let (secret, _key_file) = Secret::generate_key()?;
    let repository = Repository::init(Arc::new(Local::new(&place)), &secret, &InitOptions::new().label("main job"))?;
    steps.done("init", format!("a repository in {}, opened by a random key", place.display()));

    // Where the system's temporary directory is a part of PATH, the repository must not swallow itself.
    let options = LocalTreeOptions::new().leave_out(scratch.path());
    let source = LocalTree::new(std::slice::from_ref(&path), options)?;
    let options = BackupOptions::new().host(system::host_name());
    let report = repository.backup(&source, &options, &Problems)?;
    let Some(snapshot) = report.snapshot else { return Err(Error::Bug("a backup without a snapshot".into())) };
    let summary = report.summary;
    steps.done("backup", format!("{} files of {}", summary.processed_files, size(summary.processed_bytes)));

    let stored = size(stored_bytes(&place).map_err(failed("measuring it", &place))?);
    let check = repository.check(&CheckOptions::new().read_data(), &Problems)?;
    check.errors.iter().for_each(|error| println!("  damaged: {error}"));
    steps.done(
        "check",
        format!("{} chunks in {} packs, each byte read; the repository takes {stored}", check.chunks, check.packs),
    );

    // As the user would after a disaster: from the place and the secret alone.
    drop(repository);
    let repository = Repository::open(Arc::new(Local::new(&place)), &secret)?;
    let mut options = RestoreOptions::new().subpath(path.as_os_str().as_bytes());
    if !rustix::process::geteuid().is_root() {
        options = options.without_ownership(); // It takes root, and each entry would be a problem.
    }
    let report = repository.restore(&snapshot, &target, &options, &Problems)?;
    steps.done("restore", format!("{} entries, {}", report.restored_files, size(report.restored_bytes)));

    let restored = if path.is_dir() { target } else { target.join(path.file_name().unwrap_or_default()) };
    let mut comparison = Comparison::new([&path, &restored], scratch.path(), began_ns);
    comparison.compare().map_err(failed("comparing", &path))?;
    comparison.compare_links();
    let mut found: Vec<String> = check.errors.iter().map(ToString::to_string).collect();
    found.extend(comparison.differences);
    let verdict = if found.is_empty() { "nothing differs".into() } else { format!("{} differ", found.len()) };
    let owners = if comparison.is_root { "" } else { " (owners left out: setting them takes root)" };
    steps.done("compare", format!("{} entries: {verdict}{owners}", comparison.entries));
    found.iter().take(SHOWN_MAX).for_each(|difference| println!("  {difference}"));
    Ok(found)
}

fn failed<'p>(what: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> Error + 'p {
    move |source| Error::Local { path: path.to_owned(), what, source }
}

/// Prints each step with the time it took.
struct Steps(Instant);

impl Steps {
    fn done(&mut self, step: &str, text: String) {
        println!("{step:<8} {:>7.2} s  {text}", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

/// Prints what could not be handled.
struct Problems;

impl Progress for Problems {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Problem { path, during, message } => println!("  {}: {during}: {message}", path.display()),
            Event::Note { message } => println!("  {message}"),
            _ => {}
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// Bytes of all files below a directory.
fn stored_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { stored_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Compares two trees without the library.
#[derive(Debug)]
pub struct Comparison<'c> {
    /// What is passed over where it lies in the tree itself.
    left_out: &'c Path,
    began_ns: i64,
    tops: [&'c Path; 2],
    is_root: bool,
    entries: u64,
    pub differences: Vec<String>,
    /// Names of files with several, below the top of each side, by what they are names of.
    links: [HashMap<(u64, u64), BTreeSet<PathBuf>>; 2],
}

impl<'c> Comparison<'c> {
    pub fn new(tops: [&'c Path; 2], left_out: &'c Path, began_ns: i64) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        Self { left_out, began_ns, tops, is_root, entries: 0, differences: Vec::new(), links: Default::default() }
    }

    /// The two tops, and all below them.
    pub fn compare(&mut self) -> io::Result<()> {
        let mut pending: Vec<(PathBuf, PathBuf)> = vec![self.tops.map(Path::to_owned).into()];
        // Of the two tops only what they hold: the target is a directory of our own making.
        let mut is_top = true;
        while let Some((left, right)) = pending.pop() {
            let here = fs::symlink_metadata(&left)?;
            if !is_top || !here.is_dir() {
                self.entries += 1;
                if let Some(what) = self.difference(&left, &here, &right) {
                    let changed = here.ctime() * 1_000_000_000 + here.ctime_nsec() >= self.began_ns;
                    let meanwhile = if changed { " (it changed meanwhile)" } else { "" };
                    self.differences.push(format!("{}: {what}{meanwhile}", left.display()));
                }
            }
            is_top = false;
            if here.is_dir() && right.is_dir() {
                let (names, restored) = (self.names(&left)?, self.names(&right)?);
                for name in restored.difference(&names) {
                    self.differences.push(format!("{}: only in the restored tree", left.join(name).display()));
                }
                pending.extend(names.iter().map(|name| (left.join(name), right.join(name))));
            }
        }
        Ok(())
    }

    fn names(&self, directory: &Path) -> io::Result<BTreeSet<OsString>> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            // Then it could not be backed up either, which was said.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(BTreeSet::new()),
            Err(error) => return Err(error),
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        names.filter(|name| !name.as_ref().is_ok_and(|name| directory.join(name) == *self.left_out)).collect()
    }

    /// What differs first, if anything does.
    fn difference(&mut self, left: &Path, here: &Metadata, right: &Path) -> Option<String> {
        let Ok(there) = fs::symlink_metadata(right) else { return Some("is not in the restored tree".into()) };
        for (side, (path, metadata)) in [(left, here), (right, &there)].into_iter().enumerate() {
            if metadata.nlink() > 1 && !metadata.is_dir() {
                let below = path.strip_prefix(self.tops[side]).unwrap_or(path);
                self.links[side].entry((metadata.dev(), metadata.ino())).or_default().insert(below.to_owned());
            }
        }
        let facts = |of: &Metadata| {
            let is_device = of.mode() & 0o170_000 == 0o020_000 || of.mode() & 0o170_000 == 0o060_000;
            [
                ("kind and mode", i128::from(of.mode())),
                ("owner", if self.is_root { i128::from(of.uid()) } else { 0 }),
                ("group", if self.is_root { i128::from(of.gid()) } else { 0 }),
                ("size", if of.is_dir() { 0 } else { i128::from(of.len()) }),
                ("device", if is_device { i128::from(of.rdev()) } else { 0 }),
                ("mtime", i128::from(of.mtime()) * 1_000_000_000 + i128::from(of.mtime_nsec())),
            ]
        };
        let (expected, found) = (facts(here), facts(&there));
        if let Some(((what, before), (_, after))) = expected.iter().zip(&found).find(|(one, other)| one != other) {
            return Some(if *what == "kind and mode" {
                format!("mode {before:o}, now {after:o}")
            } else {
                format!("{what} {before}, now {after}")
            });
        }
        if here.is_symlink() && fs::read_link(left).ok() != fs::read_link(right).ok() {
            return Some("leads elsewhere".into());
        }
        if here.is_file() {
            match same_content(left, right) {
                Ok(true) => {}
                Ok(false) => return Some("content differs".into()),
                Err(error) => return Some(format!("cannot be compared: {error}")),
            }
        }
        (self.xattrs(left) != self.xattrs(right)).then(|| "extended attributes differ".into())
    }

    /// Those that this user may set.
    fn xattrs(&self, path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut list = vec![0; 64 << 10];
        let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
        let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let names =
            names.filter(|name| self.is_root || !(name.starts_with(b"security.") || name.starts_with(b"trusted.")));
        let value = |name: &[u8]| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap_or(0);
            value.truncate(length);
            value
        };
        names.map(|name| (name.to_vec(), value(name))).collect()
    }

    /// Names of one file must be names of one file again. A file may have further names outside the tree.
    pub fn compare_links(&mut self) {
        let [before, after] = self
            .links
            .each_ref()
            .map(|links| -> BTreeSet<&BTreeSet<PathBuf>> { links.values().filter(|names| names.len() > 1).collect() });
        for names in before.symmetric_difference(&after) {
            self.differences.push(format!("hard links differ: {names:?}"));
        }
    }
}

fn same_content(left: &Path, right: &Path) -> io::Result<bool> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let length = left.read(&mut one)?;
        if length == 0 {
            return Ok(right.read(&mut other)? == 0);
        }
        match right.read_exact(&mut other[..length]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        if one[..length] != other[..length] {
            return Ok(false);
        }
    }
}
