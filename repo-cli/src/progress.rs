//! What a running verb tells, made into a status line, JSON lines and messages; and Ctrl-C and USR1, made into its questions.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use repo_core::{Action, Event, Progress, Source};
use serde::Serialize;

use crate::exit::{Failure, Outcome};
use crate::interrupt;
use crate::json;
use crate::names;
use crate::numbers::{self, share};
use crate::output::Output;

mod line;
mod scan;

use line::{Moment, Total};
use scan::Scan;

/// Ten times a second is as often as an eye, or a script, can follow.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// How long the status may stand still while nothing happens.
const TICK: Duration = Duration::from_millis(250);

/// Names shown at once: more push the screen up.
const NAMES_MAX: usize = 4;

/// What is reported on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Backup,
    Restore,
    Check,
    Prune,
    Copy,
    Mirror,
    Repair,
    /// A directory is read, and what differs is told by the verb.
    Compare,
}

/// Hears a verb.
#[derive(Debug)]
pub struct Reporter<'o> {
    output: &'o Output,
    task: Task,
    started: Instant,
    /// Set by a signal, or by a source that failed.
    stop: Arc<AtomicBool>,
    counts: Counts,
    scan: OnceLock<Scan>,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Counts {
    total_files: AtomicU64,
    total_bytes: AtomicU64,
    /// Handled, whatever was done with them.
    files: AtomicU64,
    /// Read, written or verified.
    bytes: AtomicU64,
    unchanged_files: AtomicU64,
    unchanged_bytes: AtomicU64,
    deleted_files: AtomicU64,
    problems: AtomicU64,
}

#[derive(Debug)]
struct Current {
    paths: Vec<Vec<u8>>,
    stage: &'static str,
    shown: Option<Instant>,
}

impl<'o> Reporter<'o> {
    /// From now on Ctrl-C and TERM are an answer to [`Progress::is_cancelled`]; a second one ends the program at once.
    pub fn new(output: &'o Output, task: Task) -> Outcome<Self> {
        let stop = interrupt::stop_flag().map_err(|error| Failure::told(format!("listening for Ctrl-C: {error}")))?;
        let current = Mutex::new(Current { paths: Vec::new(), stage: "", shown: None });
        let (counts, scan) = (Counts::default(), OnceLock::new());
        Ok(Self { output, task, started: Instant::now(), stop, counts, scan, current })
    }

    /// The flag that ends the verb: for a source that cannot go on.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Since the verb began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts what a source holds, beside the verb and until it ends, for a status line with a total.
    pub fn scan(&self, source: Box<dyn Source>) {
        self.scan.get_or_init(|| Scan::start(source, self.stop_flag()));
    }

    /// Runs the verb. Meanwhile the status line is drawn also when nothing happens; afterwards it is gone, and
    /// results may come.
    pub fn watch<T>(&mut self, verb: impl FnOnce(&Self) -> T) -> T {
        let result = interrupt::while_answering(
            || self.answer(),
            || match self.output.has_status() {
                true => self.ticking(verb),
                false => verb(self),
            },
        );
        self.scan.take();
        self.output.clear_status();
        result
    }

    fn ticking<T>(&self, verb: impl FnOnce(&Self) -> T) -> T {
        // Ends the ticking when it is dropped, at once and whatever becomes of the verb.
        let (under_way, ended) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let tick = move || {
                while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    self.show();
                }
            };
            // Without it the line is drawn when something happens.
            thread::Builder::new().name("status".to_owned()).spawn_scoped(scope, tick).ok();
            let _under_way = under_way;
            verb(self)
        })
    }

    fn started(&self, path: &Path) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread more than there is room for goes unnamed.
        if current.paths.len() < NAMES_MAX {
            current.paths.push(path.as_os_str().as_encoded_bytes().to_vec());
        }
    }

    fn done(&self, path: &Path, action: Action, bytes: u64) {
        let name = path.as_os_str().as_encoded_bytes();
        {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            current.paths.retain(|path| path != name);
        }
        match action {
            Action::Deleted => _ = self.counts.deleted_files.fetch_add(1, Relaxed),
            Action::Unchanged => {
                self.counts.files.fetch_add(1, Relaxed);
                self.counts.unchanged_files.fetch_add(1, Relaxed);
                self.counts.unchanged_bytes.fetch_add(bytes, Relaxed);
            }
            _ => _ = self.counts.files.fetch_add(1, Relaxed),
        }
        if self.output.verbosity() >= 3 && self.task != Task::Compare {
            self.tell_entry(name, action, bytes);
        }
    }

    /// Of `-vv`. A failure to write shows when the results are written.
    fn tell_entry(&self, name: &[u8], action: Action, bytes: u64) {
        let word = match (action, self.task) {
            (Action::New, Task::Restore) => "restored",
            (Action::New, _) => "new",
            (Action::Modified, Task::Restore) => "updated",
            (Action::Modified, _) => "modified",
            (Action::Unchanged, _) => "unchanged",
            (Action::Deleted, _) => "deleted",
            (_, _) => "done",
        };
        let item = json::text(name);
        if !self.output.is_json() {
            self.output.line(&format!("{word:<9}  {} ({})", names::shown(name), numbers::size(bytes))).ok();
        } else if self.task == Task::Restore {
            self.output.json(&RestoredItem { message_type: "verbose_status", action: word, item, size: bytes }).ok();
        } else {
            self.output.json(&StoredItem { message_type: "verbose_status", action: word, item, data_size: bytes }).ok();
        }
    }

    fn problem(&self, path: &Path, during: &str, message: &str) {
        self.counts.problems.fetch_add(1, Relaxed);
        if self.output.is_json() {
            let during = match self.task {
                Task::Backup => "archival",
                Task::Restore => "restore",
                Task::Check => "check",
                Task::Prune => "prune",
                Task::Copy => "copy",
                Task::Mirror => "mirror",
                Task::Repair => "repair",
                Task::Compare => "compare",
            };
            let message = format!("{}: {message}", path.display());
            let item = json::text(path.as_os_str().as_encoded_bytes());
            let error = ErrorText { message: &message };
            self.output.error_json(&ProblemLine { message_type: "error", error, during, item });
        } else {
            let during = if during.is_empty() { String::new() } else { format!(" ({during})") };
            self.output.error_line(&format!("error: {}: {}{during}", names::path(path), names::words(message)));
        }
    }

    fn note(&self, message: &str) {
        if self.output.is_json() {
            self.output.error_json(&NoteLine { message_type: "note", message });
        } else if self.output.verbosity() > 0 {
            self.output.error_line(&format!("note: {}", names::words(message)));
        }
    }

    fn stage(&self, name: &'static str) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).stage = name;
        if self.task == Task::Check {
            self.output.say(1, &format!("checking {name}")).ok();
        }
    }

    /// Draws, if it is time to and nobody else does.
    fn show(&self) {
        let in_json = self.output.is_json() && self.output.verbosity() > 0 && self.task != Task::Compare;
        if !(self.output.has_status() || in_json) {
            return;
        }
        let Ok(mut current) = self.current.try_lock() else { return };
        if current.shown.is_some_and(|last| last.elapsed() < STATUS_INTERVAL) {
            return;
        }
        current.shown = Some(Instant::now());
        if self.output.is_json() {
            self.show_json(&current.paths);
        } else {
            self.show_lines(&current.paths, current.stage);
        }
    }

    /// To USR1: where the verb is, whatever else is shown.
    fn answer(&self) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.output.is_json() {
            return self.show_json(&current.paths);
        }
        self.output.error_line(&self.moment().line(self.task, current.stage));
        for path in &current.paths {
            self.output.error_line(&names::shown(path));
        }
    }

    /// A backup does not read what is unchanged; a restore and a check handle every byte.
    fn bytes_done(&self) -> u64 {
        let reads_what_changed = matches!(self.task, Task::Backup | Task::Compare);
        let unread = if reads_what_changed { self.counts.unchanged_bytes.load(Relaxed) } else { 0 };
        self.counts.bytes.load(Relaxed) + unread
    }

    /// What the scan found; before that, and where there is none, what the verb told.
    fn total(&self) -> Option<Total> {
        let (files, bytes) = (self.counts.total_files.load(Relaxed), self.counts.total_bytes.load(Relaxed));
        let told = (files > 0 || bytes > 0).then_some(Total { files, bytes });
        self.scan.get().and_then(Scan::total).or(told)
    }

    fn moment(&self) -> Moment {
        Moment {
            elapsed: self.elapsed(),
            done: Total { files: self.counts.files.load(Relaxed), bytes: self.bytes_done() },
            moved_bytes: self.counts.bytes.load(Relaxed),
            total: self.total(),
            problems: self.counts.problems.load(Relaxed),
        }
    }

    fn show_lines(&self, paths: &[Vec<u8>], stage: &str) {
        let mut lines = vec![self.moment().line(self.task, stage)];
        lines.extend(paths.iter().map(|path| names::shown(path).into_owned()));
        self.output.status(&lines);
    }

    /// A reader that went away is noticed when the results are written, not in the middle of a verb.
    fn show_json(&self, paths: &[Vec<u8>]) {
        let total_files = self.counts.total_files.load(Relaxed);
        let total_bytes = self.counts.total_bytes.load(Relaxed);
        let percent_done = share(self.bytes_done(), total_bytes);
        let seconds_elapsed = self.elapsed().as_secs();
        let unchanged_files = self.counts.unchanged_files.load(Relaxed);
        let files = self.counts.files.load(Relaxed);
        let result = match self.task {
            Task::Restore => self.output.json_now(&RestoreStatus {
                message_type: "status",
                seconds_elapsed,
                percent_done,
                total_files,
                files_restored: files.saturating_sub(unchanged_files),
                files_skipped: unchanged_files,
                files_deleted: self.counts.deleted_files.load(Relaxed),
                total_bytes,
                bytes_restored: self.bytes_done().saturating_sub(self.counts.unchanged_bytes.load(Relaxed)),
                bytes_skipped: self.counts.unchanged_bytes.load(Relaxed),
            }),
            _ => self.output.json_now(&Status {
                message_type: "status",
                seconds_elapsed,
                seconds_remaining: line::remaining(self.elapsed(), percent_done).map_or(0, |left| left.as_secs()),
                percent_done,
                total_files,
                files_done: files,
                total_bytes,
                bytes_done: self.bytes_done(),
                error_count: self.counts.problems.load(Relaxed),
                current_files: paths.iter().map(|path| json::text(path)).collect(),
            }),
        };
        result.ok();
    }
}

impl Progress for Reporter<'_> {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Total { files, bytes } => {
                self.counts.total_files.store(files, Relaxed);
                self.counts.total_bytes.store(bytes, Relaxed);
            }
            Event::Started { path } => self.started(path),
            Event::Done { path, action, bytes } => self.done(path, action, bytes),
            Event::Bytes { count } => _ = self.counts.bytes.fetch_add(count, Relaxed),
            Event::Problem { path, during, message } => self.problem(path, during, message),
            Event::Note { message } => self.note(message),
            Event::Stage { name } => self.stage(name),
            _ => {}
        }
        self.show();
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

pub fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct Status {
    message_type: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    seconds_elapsed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    seconds_remaining: u64,
    percent_done: f64,
    #[serde(skip_serializing_if = "is_zero")]
    total_files: u64,
    #[serde(skip_serializing_if = "is_zero")]
    files_done: u64,
    #[serde(skip_serializing_if = "is_zero")]
    total_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    bytes_done: u64,
    #[serde(skip_serializing_if = "is_zero")]
    error_count: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    current_files: Vec<String>,
}

#[derive(Serialize)]
struct RestoreStatus {
    message_type: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    seconds_elapsed: u64,
    percent_done: f64,
    #[serde(skip_serializing_if = "is_zero")]
    total_files: u64,
    #[serde(skip_serializing_if = "is_zero")]
    files_restored: u64,
    #[serde(skip_serializing_if = "is_zero")]
    files_skipped: u64,
    #[serde(skip_serializing_if = "is_zero")]
    files_deleted: u64,
    #[serde(skip_serializing_if = "is_zero")]
    total_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    bytes_restored: u64,
    #[serde(skip_serializing_if = "is_zero")]
    bytes_skipped: u64,
}

#[derive(Serialize)]
struct StoredItem {
    message_type: &'static str,
    action: &'static str,
    item: String,
    data_size: u64,
}

#[derive(Serialize)]
struct RestoredItem {
    message_type: &'static str,
    action: &'static str,
    item: String,
    size: u64,
}

#[derive(Serialize)]
struct ErrorText<'a> {
    message: &'a str,
}

#[derive(Serialize)]
struct ProblemLine<'a> {
    message_type: &'static str,
    error: ErrorText<'a>,
    during: &'static str,
    item: String,
}

#[derive(Serialize)]
struct NoteLine<'a> {
    message_type: &'static str,
    message: &'a str,
}
