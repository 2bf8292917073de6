//! Backs up something that is not a directory: here the rows of a table, each a file of its own, straight from memory.
//!
//! `cargo run -p repo-core --example not_a_directory`

use std::io;
use std::sync::Arc;

use repo_core::{
    BackupOptions, CheckOptions, Details, Entries, InitOptions, Memory, Metadata, NodeKind, Repository, Secret,
    Selector, Silent, SnapshotFilter, Source, SourceDirectory, SourceEntry, SourceFile,
};

/// A table: rows with a name and a value, ascending by name.
struct Table {
    rows: Vec<(String, Vec<u8>)>,
}

/// The table as the top level of a snapshot.
struct Rows(Vec<(String, Vec<u8>)>);

struct Row {
    value: Vec<u8>,
    metadata: Metadata,
}

impl Source for Table {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(Rows(self.rows.clone())))
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        vec![b"/tables/customers".to_vec()]
    }
}

impl SourceDirectory for Rows {
    fn entries(&self) -> io::Result<Entries> {
        let entries: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| {
                Ok(SourceEntry { name: name.clone().into_bytes(), metadata: metadata(value), descend: false })
            })
            .collect();
        Ok(Box::new(entries.into_iter()))
    }

    fn open_directory(&self, _: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    fn open_file(&self, entry: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
        let row = self.0.iter().find(|(name, _)| name.as_bytes() == entry.name);
        let (_, value) = row.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Row { value: value.clone(), metadata: metadata(value) }))
    }

    fn details(&self, _: &SourceEntry) -> io::Result<Details> {
        Ok(Details::default())
    }
}

impl SourceFile for Row {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.value.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn metadata(&mut self) -> io::Result<Metadata> {
        Ok(self.metadata.clone())
    }

    fn details(&mut self) -> io::Result<Details> {
        Ok(Details::default())
    }
}

/// A row has no owner and no times; what the table does know could stand here.
fn metadata(value: &[u8]) -> Metadata {
    Metadata { size: value.len() as u64, ..Metadata::unknown(NodeKind::File, 0o600) }
}

pub fn main() -> repo_core::Result<()> {
    let rows = (0..1000).map(|row| (format!("customer-{row:04}"), format!("row {row}\n").repeat(row).into_bytes()));
    let table = Table { rows: rows.collect() };

    let (secret, _key_file) = Secret::generate_key()?;
    let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    // Rows have no times, so nothing can be told from them: every backup reads all, and stores what is new.
    let report = repository.backup(&table, &BackupOptions::new().full(), &Silent)?;
    println!(
        "{} rows, {} bytes, stored in {}",
        report.summary.files_new, report.summary.processed_bytes, report.summary.stored_bytes
    );

    let snapshot = repository.snapshot(&Selector::Latest { back: 0 }, &SnapshotFilter::new())?;
    let mut row = repository.read(&snapshot, b"/customer-0007")?;
    let mut text = String::new();
    io::Read::read_to_string(&mut row, &mut text).expect("the row that was stored is read");
    assert_eq!(text, "row 7\n".repeat(7));

    assert!(repository.check(&CheckOptions::new().read_data(), &Silent)?.is_whole());
    Ok(())
}
