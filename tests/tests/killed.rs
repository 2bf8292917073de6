//! A backup that is ended in its middle, by SIGKILL or by its caller: no snapshot is harmed, and the next run goes on
//! where it was.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use icecore_tests::bench::options;
use icecore_tests::process;
use icecore_tests::whole::{self, Known};
use repo_core::{BackupReport, Error, Event, InitOptions, Local, Mode, Prefix, Progress, Repository, SnapshotFilter};

/// 192 MiB: about 16 packs.
const LARGE_FILES: u64 = 48;
/// The largest pack: 12 MiB and a quarter, one more frame, its table and padding.
const PACK_BYTES_MAX: u64 = 17 << 20;
/// A process may be done before it is seen to be half done, on a machine that is busy.
const ATTEMPTS: usize = 5;

/// What the processes do that are killed.
#[test]
fn another_process() {
    process::work();
}

/// A repository with a first snapshot of another source.
fn begin(room: &Path) -> Known {
    let (vault, small) = (room.join("vault"), room.join("small"));
    let repository = Repository::init(Arc::new(Local::new(&vault)), &whole::secret(), &InitOptions::default()).unwrap();
    whole::write_edition(&small, 0);
    let mut known = Known::default();
    known.add(&whole::back_up(&repository, &small).unwrap(), &small);
    known
}

fn stored_bytes(vault: &Path) -> u64 {
    process::packs(vault).iter().map(|(_, bytes)| bytes).sum()
}

/// Starts a backup and kills it when as many packs are there. `false`: it was done before.
fn was_killed(vault: &Path, source: &Path, packs: usize) -> bool {
    let mut child = process::start("another_process", vault, source, None);
    let mut has_ended = false;
    process::wait_for(|| {
        has_ended = child.try_wait().unwrap().is_some();
        has_ended || process::packs(vault).len() >= packs
    });
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(!has_ended || status.success(), "the process failed by itself");
    !status.success()
}

#[test]
fn after_sigkill_the_next_run_uploads_what_was_not_yet_durable_and_at_most_a_pack_more() {
    let source = whole::roomy(1 << 30);
    whole::write_large(source.path(), 1000, LARGE_FILES);
    let (total, pack_count) = {
        let room = whole::roomy(1 << 30);
        begin(room.path());
        let before = process::packs(&room.path().join("vault"));
        let report = whole::back_up(&whole::open(&room.path().join("vault")).unwrap(), source.path()).unwrap();
        (report.summary.stored_bytes, process::packs(&room.path().join("vault")).len() - before.len())
    };
    assert!(pack_count >= 12, "{pack_count} packs are too few to be killed between");
    for quarter in 1..=3 {
        let killed = (0..ATTEMPTS).any(|_| is_killed_and_goes_on(source.path(), total, quarter * pack_count / 4));
        assert!(killed, "the process was always done before it could be killed");
    }
}

/// `false` if the process was done before it could be killed.
fn is_killed_and_goes_on(source: &Path, total: u64, packs: usize) -> bool {
    let room = whole::roomy(1 << 30);
    let vault = room.path().join("vault");
    let mut known = begin(room.path());
    let (before, packs_before) = (stored_bytes(&vault), process::packs(&vault).len());
    if !was_killed(&vault, source, packs_before + packs) {
        return false;
    }

    let repository = whole::open(&vault).unwrap();
    known.are_whole(&repository, known.0.keys().copied()).unwrap();
    known.are_restored(&repository).unwrap();
    whole::is_whole(&repository).unwrap();
    assert_eq!(repository.snapshots(&SnapshotFilter::default()).unwrap().snapshots.len(), 1);
    let durable = process::packs(&vault);
    let durable_bytes = stored_bytes(&vault) - before;
    assert!(durable.len() >= packs_before + packs);

    let report = whole::back_up(&repository, source).unwrap();
    let uploaded = stored_bytes(&vault) - before - durable_bytes;
    assert_eq!(uploaded, report.summary.stored_bytes);
    let bound = total.saturating_sub(durable_bytes) + PACK_BYTES_MAX;
    assert!(uploaded <= bound, "{uploaded} bytes were uploaded, {durable_bytes} of {total} were there, {packs} packs");
    let after = process::packs(&vault);
    assert!(durable.iter().all(|pack| after.contains(pack)), "a pack that was there is gone");

    known.add(&report, source);
    known.are_whole(&repository, known.0.keys().copied()).unwrap();
    known.are_restored(&repository).unwrap();
    let check = whole::check(&repository).unwrap();
    assert!(check.is_whole(), "{:?}", check.errors);
    // All packs are in an index now; of the dead nothing is left but its session, which expires.
    assert!(matches!(&check.notes[..], [note] if note.starts_with("session ")), "{:?}", check.notes);
    assert_eq!(whole::temporary_files(vault.as_path()), 0, "temporary files of the dead");
    true
}

/// Cancels when so many bytes were processed.
struct Impatient {
    left: AtomicU64,
    has_cancelled: AtomicBool,
}

impl Progress for Impatient {
    fn report(&self, event: Event<'_>) {
        if let Event::Bytes { count } = event {
            let less = |left: u64| Some(left.saturating_sub(count));
            let _ = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        }
    }

    fn is_cancelled(&self) -> bool {
        let is_cancelled = self.left.load(Ordering::SeqCst) == 0;
        self.has_cancelled.fetch_or(is_cancelled, Ordering::SeqCst);
        is_cancelled
    }
}

#[test]
fn a_cancelled_run_publishes_nothing_leaves_no_session_and_the_next_uses_what_it_uploaded() {
    let (room, source) = (whole::roomy(1 << 29), whole::roomy(1 << 29));
    let vault = room.path().join("vault");
    whole::write_large(source.path(), 2000, 24);
    let mut known = begin(room.path());
    let repository = whole::open(&vault).unwrap();
    let before = stored_bytes(&vault);
    let back_up = |progress: &dyn Progress| -> Result<BackupReport, Error> {
        repository.backup(&whole::tree(source.path()), &options(Mode::Incremental), progress)
    };

    let impatient = Impatient { left: AtomicU64::new(64 << 20), has_cancelled: AtomicBool::new(false) };
    let cancelled = back_up(&impatient);
    assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");
    assert!(impatient.has_cancelled.load(Ordering::SeqCst));
    assert_eq!(repository.objects(Prefix::Sessions).unwrap(), [], "sessions");
    known.are_whole(&repository, known.0.keys().copied()).unwrap();
    whole::is_whole(&repository).unwrap();
    let uploaded = stored_bytes(&vault) - before;
    assert!(uploaded > 24 << 20, "{uploaded} bytes were uploaded of 64 MiB");

    let report = back_up(&repo_core::Silent).unwrap();
    let rest = (96_u64 << 20) + PACK_BYTES_MAX - uploaded;
    assert!(report.summary.stored_bytes <= rest, "{} bytes for a rest of {rest}", report.summary.stored_bytes);
    known.add(&report, source.path());
    known.are_whole(&repository, known.0.keys().copied()).unwrap();
    whole::is_spotless(&repository).unwrap();
}

#[test]
fn a_run_cancelled_before_its_first_byte_leaves_no_trace() {
    let room = whole::roomy(1 << 20);
    let known = begin(room.path());
    let repository = whole::open(&room.path().join("vault")).unwrap();
    let before = repository.objects(Prefix::All).unwrap();
    let impatient = Impatient { left: AtomicU64::new(0), has_cancelled: AtomicBool::new(false) };
    let small = whole::tree(&room.path().join("small"));
    let cancelled = repository.backup(&small, &options(Mode::Full), &impatient);
    assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");
    assert_eq!(repository.objects(Prefix::All).unwrap(), before);
    known.are_whole(&repository, known.0.keys().copied()).unwrap();
    whole::is_spotless(&repository).unwrap();
}
