//! How a backup is asked for, one wish a call: `BackupOptions::new().tag("nightly").full()`.

use std::path::PathBuf;

use super::{Alike, BackupOptions, Mode};
use crate::id::SnapshotId;

impl BackupOptions {
    /// The defaults: compared with the newest of the series, every frame opened again before it leaves, no host, no
    /// user, no tags, the clock's time.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compares with the newest snapshot of the series (the default); without one everything is read.
    pub fn incremental(mut self) -> Self {
        self.mode = Mode::Incremental;
        self
    }

    /// Compares with the last full snapshot of the series; without one everything is read.
    pub fn differential(mut self) -> Self {
        self.mode = Mode::Differential;
        self
    }

    /// Compares with nothing: reads every byte. What is stored already is not stored again.
    pub fn full(mut self) -> Self {
        self.mode = Mode::Full;
        self
    }

    /// Compares with this snapshot, of whatever series.
    pub fn parent(mut self, parent: SnapshotId) -> Self {
        self.mode = Mode::Parent(parent);
        self
    }

    /// The machine that is recorded. Together with the source's paths it names the series, unless
    /// [`series`](Self::series) does; the library asks the system for neither.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Who makes the backup, for the record.
    pub fn user(mut self, name: impl Into<String>, uid: u32, gid: u32) -> Self {
        self.user = name.into();
        self.uid = uid;
        self.gid = gid;
        self
    }

    /// One more tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// What was left out, for the record alone: leaving it out is the source's business.
    pub fn excludes(mut self, patterns: impl IntoIterator<Item = String>) -> Self {
        self.excludes = patterns.into_iter().collect();
        self
    }

    /// The snapshot's time instead of the clock's, in nanoseconds since 1970 UTC.
    pub fn time_ns(mut self, time_ns: i64) -> Self {
        self.time_ns = Some(time_ns);
        self
    }

    /// The time zone that is recorded, in minutes east of Greenwich.
    pub fn zone_minutes(mut self, zone_minutes: i16) -> Self {
        self.zone_minutes = zone_minutes;
        self
    }

    /// Reads and compares, stores nothing. The report says what would have been added.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Publishes no snapshot if the tree is the same as the one it is compared with.
    pub fn skip_if_unchanged(mut self) -> Self {
        self.skip_if_unchanged = true;
        self
    }

    /// Does not open again what was just sealed: saves processor time, and leaves failing memory unnoticed.
    pub fn without_verification(mut self) -> Self {
        self.verify = false;
        self
    }

    /// Takes a file with another inode number as unchanged if all else is as it was: for file systems that make
    /// these numbers up. A file that was replaced by another of the same size, mtime and ctime is then missed,
    /// until a full backup reads it.
    pub fn ignore_inode(mut self) -> Self {
        self.ignore_inode = true;
        self
    }

    /// Takes a file with another ctime as unchanged if all else is as it was. What changes a file and sets its mtime back
    /// is then missed, until a full backup reads it: only ctime, which no program can set, tells of that.
    pub fn ignore_ctime(mut self) -> Self {
        self.ignore_ctime = true;
        self
    }

    /// The name and version of the program, for the record.
    pub fn program(mut self, program: impl Into<String>) -> Self {
        self.program = program.into();
        self
    }

    /// Bytes of plaintext under way at once, at least 16 MiB. Packs being made, the index and the list of the run's own
    /// chunks come on top.
    pub fn memory_bytes(mut self, memory_bytes: usize) -> Self {
        self.memory_bytes = memory_bytes;
        self
    }

    /// The zstd level, 1 to 19, instead of the repository's; 0 compresses no data, and metadata as fast as can be. Frames
    /// of any level lie side by side.
    pub fn level(mut self, level: i8) -> Self {
        self.level = Some(level);
        self
    }

    /// A name for the series instead of host and paths: for a source whose paths differ from run to run.
    pub fn series(mut self, name: impl Into<String>) -> Self {
        self.series = Some(name.into());
        self
    }

    /// Compares with the newest snapshot (or last full one) that has this in common with the new one, of whatever series.
    /// Its place among its own series stays as it is.
    pub fn alike(mut self, alike: Alike) -> Self {
        self.alike = Some(alike);
        self
    }

    /// Files read at once, 1 to 1024, instead of one for each of the repository's threads: more for places that answer
    /// slowly, one for a disk whose head should not jump. Each takes 1 MiB of [`memory_bytes`](Self::memory_bytes); files
    /// over 1 MiB are read one after another whatever this says.
    pub fn read_threads(mut self, threads: usize) -> Self {
        self.read_threads = Some(threads);
        self
    }

    /// The mean size of new data packs, 1 to 128 MiB, instead of the repository's. Each sealing thread holds one and a
    /// quarter of it in memory; above 1 GiB in all, fewer threads seal.
    pub fn pack_data_bytes(mut self, bytes: u32) -> Self {
        self.pack_data_bytes = Some(bytes);
        self
    }

    /// Where a source whose entries come in any order, such as [`TarSource`](crate::TarSource), keeps their metadata once
    /// it takes more than 32 MiB.
    pub fn spool_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spool_directory = Some(directory.into());
        self
    }
}

impl Alike {
    /// Any snapshot is alike.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those of the same host.
    pub fn host(mut self) -> Self {
        self.host = true;
        self
    }

    /// Only those of the same paths.
    pub fn paths(mut self) -> Self {
        self.paths = true;
        self
    }

    /// Only those with the same tags.
    pub fn tags(mut self) -> Self {
        self.tags = true;
        self
    }
}
