//! `icecore stats`

use std::collections::HashMap;

use clap::{Args, ValueEnum};
use repo_core::{Error, RawStats, Snapshot, SnapshotId, SnapshotStats, StatsMode, StatsReport};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::interrupt::Stop;
use crate::names;
use crate::numbers;
use crate::output::{Output, Table};
use crate::problems;
use crate::selection::{self, Filters};
use crate::time;

/// Count what snapshots have: what they restore to, how much of it is different, and what it takes in the repository.
///
/// Without ids, all snapshots that --host, --tag and --path choose. `raw-data` also says how well the data compresses, how often
/// equal content was stored once, and what each snapshot alone refers to: what would come back if it were forgotten.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore stats latest\n  icecore stats --mode raw-data --host myhost"))]
pub struct Stats {
    /// Only these: latest, latest~N, or the first digits of an id
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// What to count
    #[arg(long, value_name = "MODE", value_enum, default_value = "restore-size")]
    mode: Mode,

    #[command(flatten)]
    filters: Filters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Entries and bytes that a restore of each snapshot writes
    RestoreSize,
    /// Files that differ in content, wherever they are
    FilesByContents,
    /// Chunks of files that differ in content, once for each path
    BlobsPerFile,
    /// What the snapshots take in the repository
    RawData,
}

impl Mode {
    fn of_core(self) -> StatsMode {
        match self {
            Self::RestoreSize => StatsMode::RestoreSize,
            Self::FilesByContents => StatsMode::FilesByContents,
            Self::BlobsPerFile => StatsMode::ChunksPerFile,
            Self::RawData => StatsMode::RawData,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::RestoreSize => "restore-size",
            Self::FilesByContents => "files-by-contents",
            Self::BlobsPerFile => "blobs-per-file",
            Self::RawData => "raw-data",
        }
    }
}

#[derive(Serialize)]
struct Shape {
    total_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    total_file_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    total_blob_count: u64,
    snapshots_count: usize,
    #[serde(flatten)]
    raw: Option<RawShape>,
    snapshots: Vec<SnapshotShape>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct RawShape {
    total_uncompressed_size: u64,
    compression_ratio: f64,
    compression_progress: f64,
    compression_space_saving: f64,
    total_restore_size: u64,
    deduplication_ratio: f64,
}

#[derive(Serialize)]
struct SnapshotShape {
    id: String,
    file_count: u64,
    restore_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_size: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Stats {
    pub fn run(self, context: &Context) -> Outcome {
        let repository = context.open()?;
        let list = selection::chosen(&repository, &self.ids, &self.filters)?;
        let stop = Stop::listen()?;
        let report = repository
            .stats(&list.snapshots, self.mode.of_core(), &stop)
            .map_err(|error| Failure::from_verb(error, "nothing was changed"))?;
        let output = &context.output;
        match output.is_json() {
            true => output.json(&shape(&report, &list.unreadable))?,
            false => self.print(output, &list.snapshots, &report)?,
        }
        problems::unreadable(output, "stats", list.unreadable.iter().chain(&report.problems));
        match list.unreadable.len() + report.problems.len() {
            0 => Ok(()),
            count => {
                let parts = numbers::count(count as u64, "part");
                Err(Failure::incomplete(format!("{parts} could not be read; what is below is not counted")))
            }
        }
    }

    fn print(&self, output: &Output, snapshots: &[Snapshot], report: &StatsReport) -> Outcome {
        output.say(1, &format!("Stats in {} mode:", self.mode.name()))?;
        let line = |name: &str, value: String| output.line(&format!("{:>27} {value}", format!("{name}:")));
        line("Snapshots processed", snapshots.len().to_string())?;
        if report.total_chunks > 0 {
            line("Total Blob Count", report.total_chunks.to_string())?;
        }
        if report.total_files > 0 {
            line("Total File Count", report.total_files.to_string())?;
        }
        if let Some(raw) = &report.raw {
            line("Total Uncompressed Size", numbers::size(raw.plain_bytes))?;
            line("Compression Ratio", format!("{:.2}x", raw.compression_ratio()))?;
            line("Compression Space Saving", format!("{:.2}%", saving(raw)))?;
            line("Total Restore Size", numbers::size(raw.restore_bytes))?;
            line("Deduplication Ratio", format!("{:.2}x", raw.deduplication_ratio()))?;
        }
        line("Total Size", numbers::size(report.total_bytes))?;
        let has_table = self.mode == Mode::RawData || self.mode == Mode::RestoreSize && output.verbosity() > 1;
        match has_table && output.verbosity() > 0 && !snapshots.is_empty() {
            true => print_snapshots(output, snapshots, &report.snapshots),
            false => Ok(()),
        }
    }
}

fn print_snapshots(output: &Output, snapshots: &[Snapshot], stats: &[SnapshotStats]) -> Outcome {
    let known: HashMap<SnapshotId, &SnapshotStats> = stats.iter().map(|one| (one.id, one)).collect();
    let has_unique = stats.iter().any(|one| one.unique_bytes.is_some());
    let mut heading = vec!["ID", "Time", "Host", "Files", "Restore Size"];
    if has_unique {
        heading.push("Unique Size");
    }
    let mut table = Table::new(heading, 2);
    for snapshot in snapshots {
        let Some(one) = known.get(&snapshot.id()) else { continue };
        let record = snapshot.record();
        let mut cells = vec![
            vec![snapshot.id().short()[..8].to_owned()],
            vec![time::shown(record.start_ns)],
            vec![names::words(&record.host).into_owned()],
            vec![one.entries.to_string()],
            vec![numbers::size(one.restore_bytes)],
        ];
        if has_unique {
            cells.push(vec![one.unique_bytes.map_or_else(|| "?".to_owned(), numbers::size)]);
        }
        table.row(cells);
    }
    output.line("")?;
    table.print(output)
}

fn shape(report: &StatsReport, unreadable: &[Error]) -> Shape {
    let raw = report.raw.as_ref().map(|raw| RawShape {
        total_uncompressed_size: raw.plain_bytes,
        compression_ratio: raw.compression_ratio(),
        // Every frame was given to the compressor; those that it could not shrink are stored as they are.
        compression_progress: 100.0,
        compression_space_saving: saving(raw),
        total_restore_size: raw.restore_bytes,
        deduplication_ratio: raw.deduplication_ratio(),
    });
    let snapshots = report.snapshots.iter().map(|one| SnapshotShape {
        id: one.id.short(),
        file_count: one.entries,
        restore_size: one.restore_bytes,
        unique_size: one.unique_bytes,
    });
    Shape {
        total_size: report.total_bytes,
        total_file_count: report.total_files,
        total_blob_count: report.total_chunks,
        snapshots_count: report.snapshots.len(),
        raw,
        snapshots: snapshots.collect(),
        problems: unreadable.iter().chain(&report.problems).map(ToString::to_string).collect(),
    }
}

/// Percent of the chunks' size that compression saves.
fn saving(raw: &RawStats) -> f64 {
    match raw.plain_bytes {
        0 => 0.0,
        plain => (1.0 - raw.stored_bytes as f64 / plain as f64) * 100.0,
    }
}
