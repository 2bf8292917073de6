//! Writes a backend: a whole repository in one file, to which objects are only ever appended.
//!
//! `cargo run -p repo-core --example write_a_backend`
//!
//! A backend knows names and bytes, nothing of keys or of what the bytes mean. What it owes its callers are the six
//! promises of [`Backend`]; each is marked below where it is kept.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use repo_core::{
    Backend, BackendError, BackendErrorKind, BackupOptions, Bytes, Capabilities, CheckOptions, InitOptions, Listed,
    ObjectName, Prefix, Put, ReaderSource, Removal, Repository, Result, Secret, Silent, Span,
};

/// A record is `kind, length of the name, length of the bytes, name, bytes, BLAKE3 of all that`.
const HEAD_LENGTH: u64 = 1 + 2 + 8;
const HASH_LENGTH: u64 = 32;
const WRITTEN: u8 = 1;
const REMOVED: u8 = 2;

/// All objects in one file, in the order they were written. One process at a time has it open.
#[derive(Debug)]
struct OneFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Where the bytes of each object lie.
    objects: BTreeMap<ObjectName, (u64, u64)>,
    /// Where the next record goes: behind the last whole one.
    end: u64,
    /// A write failed, and what the file holds is not known: nothing more is promised until it is opened again.
    is_broken: bool,
}

/// A whole record.
struct Record {
    kind: u8,
    name: ObjectName,
    /// Where its bytes lie.
    place: (u64, u64),
    /// Where the next begins.
    end: u64,
}

impl OneFile {
    /// Opens the file, or makes it, and reads which objects it has.
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // Of two processes each would write over the other's records.
        file.try_lock().map_err(|_| io::Error::new(io::ErrorKind::ResourceBusy, "another process has it open"))?;
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // The file's name must be as durable as what is promised to lie in it.
            File::open(directory)?.sync_all()?;
        }
        let mut state = State { file, objects: BTreeMap::new(), end: 0, is_broken: false };
        while let Some(record) = state.record_at(state.end)? {
            match record.kind {
                WRITTEN => drop(state.objects.insert(record.name, record.place)),
                _ => drop(state.objects.remove(&record.name)),
            }
            state.end = record.end;
        }
        // Promise 1, all or nothing: a record that a crash cut short does not count, and the next takes its place. In the
        // middle of the file the same sight would be damage, so what is cut off is kept beside it.
        if state.file.metadata()?.len() > state.end {
            let mut torn = File::create(path.with_extension(format!("torn-{}", state.end)))?;
            (&state.file).seek(SeekFrom::Start(state.end))?;
            io::copy(&mut &state.file, &mut torn)?;
            torn.sync_all()?;
            state.file.set_len(state.end)?;
        }
        // What can be read from now on is durable, also what a process wrote that was killed before it synced.
        state.file.sync_all()?;
        Ok(Self { path: path.to_owned(), state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The record at an offset, if it is whole.
    fn record_at(&self, offset: u64) -> io::Result<Option<Record>> {
        let left = self.file.metadata()?.len().saturating_sub(offset);
        if left < HEAD_LENGTH + HASH_LENGTH {
            return Ok(None);
        }
        let mut head = [0; HEAD_LENGTH as usize];
        self.file.read_exact_at(&mut head, offset)?;
        let name_length = u64::from(u16::from_le_bytes([head[1], head[2]]));
        let length = u64::from_le_bytes(head[3..].try_into().expect("eight bytes"));
        // A length is believed only as far as there are bytes.
        let Some(content_length) = length.checked_add(name_length + HEAD_LENGTH) else { return Ok(None) };
        if content_length > left - HASH_LENGTH {
            return Ok(None);
        }
        let mut content = vec![0; content_length as usize];
        self.file.read_exact_at(&mut content, offset)?;
        let mut hash = [0; HASH_LENGTH as usize];
        self.file.read_exact_at(&mut hash, offset + content_length)?;
        if blake3::hash(&content) != hash {
            return Ok(None);
        }
        let name = std::str::from_utf8(&content[HEAD_LENGTH as usize..][..name_length as usize]);
        let name = name.ok().and_then(|name| name.parse().ok());
        let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a record without a name"))?;
        let place = (offset + HEAD_LENGTH + name_length, length);
        Ok(Some(Record { kind: head[0], name, place, end: offset + content_length + HASH_LENGTH }))
    }

    fn append(&mut self, kind: u8, name: &ObjectName, bytes: &[u8]) -> io::Result<(u64, u64)> {
        if self.is_broken {
            return Err(io::Error::other("an earlier write failed; open it again"));
        }
        let text = name.to_string();
        let mut record = vec![kind];
        record.extend_from_slice(&(text.len() as u16).to_le_bytes());
        record.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        record.extend_from_slice(text.as_bytes());
        record.extend_from_slice(bytes);
        let hash = blake3::hash(&record);
        record.extend_from_slice(hash.as_bytes());
        // Promises 1 and 5, durable when it returns. A failed sync is never asked again: it may then say yes without
        // having written anything.
        self.is_broken = true;
        self.file.write_all_at(&record, self.end)?;
        self.file.sync_data()?;
        self.is_broken = false;
        let place = (self.end + HEAD_LENGTH + text.len() as u64, bytes.len() as u64);
        self.end += record.len() as u64;
        Ok(place)
    }

    fn read(&self, name: &ObjectName, span: Span) -> io::Result<Bytes> {
        // Promise 4: what is missing is an error that says so, never empty bytes.
        let (start, size) = *self.objects.get(name).ok_or(io::ErrorKind::NotFound)?;
        let (offset, length) = span.within(size);
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, start + offset)?;
        Ok(bytes.into())
    }
}

impl Backend for OneFile {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        Ok(()) // Done when it was opened.
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        // Promise 3, no name is ever replaced: from the look to the write nobody else comes between.
        let mut state = self.state();
        let put = match state.read(name, Span::All) {
            Ok(there) => Ok(Put::Exists(there)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                state.append(WRITTEN, name, &bytes).map(|place| {
                    // Promise 2: at once to be read and listed.
                    state.objects.insert(*name, place);
                    Put::Created
                })
            }
            Err(error) => Err(error),
        };
        put.map_err(|error| BackendError::io("writing", name, error))
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        self.state().read(name, span).map_err(|error| BackendError::io("reading", name, error))
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        // Promise 6, by a copy of the names. It also lets `each` call this backend, which must not find it locked.
        let names: Vec<_> = self.state().objects.iter().map(|(name, (_, size))| (*name, *size)).collect();
        for (name, size) in names.into_iter().filter(|(name, _)| prefix.contains(name)) {
            if each(Listed::Object { name, size }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        let mut state = self.state();
        if !state.objects.contains_key(name) {
            return Ok(Removal::Absent);
        }
        state.append(REMOVED, name, &[]).map_err(|error| BackendError::io("removing", name, error))?;
        state.objects.remove(name);
        Ok(Removal::Removed)
    }

    fn capabilities(&self) -> Capabilities {
        // One process has it, and in it one lock decides.
        Capabilities { put_if_absent: true }
    }
}

/// A new, empty place of this kind: for the suite of tests that asks every backend for its promises.
pub fn place(path: &Path) -> Arc<dyn Backend> {
    Arc::new(OneFile::open(path).expect("the file can be made"))
}

pub fn main() -> Result<()> {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = scratch.path().join("repository.bin");
    let (secret, _key_file) = Secret::generate_key()?;

    let repository = Repository::init(place(&path), &secret, &InitOptions::new())?;
    let text = "A line of a file that is backed up.\n".repeat(100_000);
    let source = ReaderSource::new(Path::new("/notes.txt"), io::Cursor::new(text.clone()));
    let report = repository.backup(&source, &BackupOptions::new(), &Silent)?;
    drop(repository);

    // As after a crash in the middle of a write: a torn record at the end does no harm.
    let length = std::fs::metadata(&path).expect("the file is there").len();
    let file = OpenOptions::new().append(true).open(&path).expect("the file is there");
    (&file).write_all(&[WRITTEN, 9, 0, 255, 255]).expect("five more bytes");
    let repository = Repository::open(place(&path), &secret)?;
    assert_eq!(std::fs::metadata(&path).expect("the file is there").len(), length);

    let check = repository.check(&CheckOptions::new().read_data(), &Silent)?;
    assert!(check.is_whole(), "{:?}", check.errors);
    let snapshot = report.snapshot.expect("nothing was to be skipped");
    let mut back = String::new();
    repository.read(&snapshot, b"/notes.txt")?.read_to_string(&mut back).expect("it is read back");
    assert_eq!(back, text);
    println!("{} bytes of text, {length} bytes of repository in one file", text.len());

    let missing = repository.backend().get(&ObjectName::Keyring(9), Span::All);
    assert_eq!(missing.expect_err("it is not there").kind, BackendErrorKind::Absent);
    Ok(())
}
