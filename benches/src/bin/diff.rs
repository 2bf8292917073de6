//! How long does it take to say what differs between two snapshots of very many files?
//!
//! A made-up tree of a thousand directories is backed up into a repository in memory, and again with every N-th file
//! changed. Then the two are compared, several times, with the index loaded.

use std::error::Error;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use repo_core::{
    BackupOptions, Details, Entries, InitOptions, Memory, Metadata, Mode, NodeKind, Repository, Secret, Silent, Source,
    SourceDirectory, SourceEntry, SourceFile, Timestamp,
};

const USAGE: &str = "\
Usage: diff [FILES [CHANGED]]

Compares two snapshots of so many files (default 1000000), of which so many changed (default 100),
and prints the milliseconds of each of nine comparisons, and the median of all but the first:
those find in the cache what the first one opened.
";

const DIRECTORIES: u64 = 1000;
const COMPARISONS: usize = 9;

/// The whole tree, or with a number one directory of it.
#[derive(Clone, Copy)]
struct Tree {
    files: u64,
    /// Every so-manieth file has the content of the second version; 0: none.
    changed_every: u64,
    directory: Option<u64>,
}

/// An open file: what it holds, and what is said of it.
struct File([u8; 16], Metadata);

fn metadata(kind: NodeKind, inode: u64, version: i64) -> Metadata {
    let time = Timestamp { seconds: 1_600_000_000 + version, nanoseconds: 0 };
    Metadata {
        uid: 1000,
        gid: 1000,
        user: b"somebody".to_vec(),
        group: b"somebody".to_vec(),
        modified: time,
        changed: time,
        inode,
        device: 1,
        size: if kind == NodeKind::File { 16 } else { 0 },
        ..Metadata::unknown(kind, if kind == NodeKind::Directory { 0o755 } else { 0o644 })
    }
}

impl Tree {
    fn version(&self, file: u64) -> u64 {
        u64::from(self.changed_every > 0 && file.is_multiple_of(self.changed_every))
    }

    fn file(&self, file: u64) -> SourceEntry {
        let version = i64::try_from(self.version(file)).unwrap_or_default();
        SourceEntry {
            name: format!("file-{file:09}").into_bytes(),
            metadata: metadata(NodeKind::File, DIRECTORIES + file, version),
            descend: true,
        }
    }

    fn directory(number: u64) -> SourceEntry {
        SourceEntry {
            name: format!("directory-{number:04}").into_bytes(),
            metadata: metadata(NodeKind::Directory, number, 0),
            descend: true,
        }
    }
}

/// The number at the end of a name.
fn number(entry: &SourceEntry) -> io::Result<u64> {
    let text = String::from_utf8_lossy(&entry.name);
    text.rsplit('-').next().and_then(|digits| digits.parse().ok()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl Source for Tree {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(*self))
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        vec![b"/".to_vec()]
    }
}

impl SourceDirectory for Tree {
    fn entries(&self) -> Result<Entries, io::Error> {
        let (tree, each) = (*self, self.files / DIRECTORIES);
        Ok(match self.directory {
            None => Box::new((0..DIRECTORIES).map(|number| Ok(Self::directory(number)))),
            Some(number) => Box::new((number * each..(number + 1) * each).map(move |file| Ok(tree.file(file)))),
        })
    }

    fn open_directory(&self, entry: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(Self { directory: Some(number(entry)?), ..*self }))
    }

    fn open_file(&self, entry: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
        let file = number(entry)?;
        let mut content = [0; 16];
        content[..8].copy_from_slice(&file.to_le_bytes());
        content[8..].copy_from_slice(&self.version(file).to_le_bytes());
        Ok(Box::new(File(content, entry.metadata.clone())))
    }

    fn details(&self, _entry: &SourceEntry) -> io::Result<Details> {
        Ok(Details::default())
    }
}

impl SourceFile for File {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.0[(offset as usize).min(16)..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn metadata(&mut self) -> io::Result<Metadata> {
        Ok(self.1.clone())
    }

    fn details(&mut self) -> io::Result<Details> {
        Ok(Details::default())
    }
}

fn measure(files: u64, changed: u64) -> Result<(), Box<dyn Error>> {
    let (secret, _key_file) = Secret::generate_key()?;
    let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    let mut snapshots = Vec::new();
    for changed_every in [0, files / changed.max(1)] {
        let mut options = BackupOptions::new().without_verification();
        options.mode = Mode::Incremental;
        let report = repository.backup(&Tree { files, changed_every, directory: None }, &options, &Silent)?;
        snapshots.push(report.snapshot.ok_or("no snapshot was made")?);
    }
    let mut milliseconds = Vec::new();
    for _ in 0..COMPARISONS {
        let begin = Instant::now();
        let mut differences = 0;
        let report = repository.diff((&snapshots[0], b""), (&snapshots[1], b""), &mut |_| {
            differences += 1;
            ControlFlow::Continue(())
        })?;
        milliseconds.push(begin.elapsed().as_secs_f64() * 1e3);
        assert_eq!(report.changed_files, changed, "the comparison found what was changed");
    }
    println!("{files} files, {changed} of them changed; milliseconds: {milliseconds:.1?}");
    let (first, again) = milliseconds.split_at_mut(1);
    again.sort_by(f64::total_cmp);
    println!("first: {:.1} ms; again, median: {:.1} ms", first[0], again[again.len() / 2]);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => measure(1_000_000, 100),
        [files] if files != "--help" => measure(files.parse()?, 100),
        [files, changed] => measure(files.parse()?, changed.parse()?),
        _ => {
            eprint!("{USAGE}");
            std::process::exit(2);
        }
    }
}
