//! Partial snapshots: a backup that is ended early and keeps what it has. What is in one, who may take it for a whole one
//! (nobody), what becomes of it, and that the next backup goes on from it.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use icecore_tests::bench::{Bench, options, published};
use icecore_tests::cli::{Cli, Runs};
use icecore_tests::counting::CountingSource;
use icecore_tests::whole::contents;
use repo_core::{
    BackupOptions, BackupReport, Error, Event, ForgetOptions, Mode, Policy, Progress, Repository, Selector, Silent,
    Snapshot, SnapshotFilter, Source, Streams,
};
use rustix::process::Signal;

/// Cancels when a path that ends so is done, or `big` begun.
struct EndAt(&'static str, AtomicBool);

impl Progress for EndAt {
    fn report(&self, event: Event<'_>) {
        let is_reached = match event {
            Event::Done { path, .. } => path.ends_with(self.0),
            Event::Started { path } => path.ends_with(self.0) && path.ends_with("big"),
            _ => false,
        };
        if is_reached {
            self.1.store(true, SeqCst);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.1.load(SeqCst)
    }
}

fn keeping() -> BackupOptions {
    let mut options = options(Mode::Incremental);
    options.keep_partial = true;
    options
}

/// A backup of the bench's source, with its files told as old enough to be trusted, that ends when this path is reached;
/// and the names of files that it opened.
fn ended_at(bench: &Bench, path: &'static str, options: &BackupOptions) -> (Result<BackupReport, Error>, Vec<String>) {
    let source = CountingSource::aged(bench.local_tree(), 3600);
    let report = bench.open().backup(&source, options, &EndAt(path, AtomicBool::new(false)));
    (report, source.readings().opened())
}

fn partial_at(bench: &Bench, path: &'static str) -> Snapshot {
    let report = ended_at(bench, path, &keeping()).0.expect("something is kept");
    let snapshot = published(&report).clone();
    assert!(snapshot.is_partial());
    snapshot
}

/// Files of a snapshot below the source.
fn files(bench: &Bench, snapshot: &Snapshot) -> Vec<String> {
    let mut files = Vec::new();
    let root = bench.source();
    let each = &mut |path: &[u8], node: &repo_core::Node| {
        let path = Path::new(std::str::from_utf8(path).expect("our names")).strip_prefix(&root).map(Path::to_owned);
        if let (Ok(path), repo_core::NodeKind::File) = (path, node.metadata.kind) {
            files.push(path.to_str().expect("our names").to_owned());
        }
        ControlFlow::Continue(())
    };
    bench.open().list(snapshot, b"", true, each).expect("it can be read");
    files
}

/// `a/one`, `a/two`, `b/big` of more than is read at once, `c`.
fn grown() -> Bench {
    let bench = Bench::new();
    bench.write("a/one", "1");
    bench.write("a/two", "2".repeat(100_000));
    bench.write("b/big", icecore_tests::whole::noise(5, 9_000_000));
    bench.write("c", "3");
    bench
}

fn latest(repository: &Repository) -> Result<Snapshot, Error> {
    repository.snapshot(&Selector::Latest { back: 0 }, &SnapshotFilter::new())
}

#[test]
fn what_was_done_is_kept_and_nothing_else_and_it_restores_as_it_is() {
    for (end, whole) in [("a/one", 1), ("a/two", 2), ("b/big", 2), ("source/a", 2)] {
        let bench = grown();
        let snapshot = partial_at(&bench, end);
        assert_eq!(files(&bench, &snapshot), ["a/one", "a/two"][..whole], "ended at {end}");
        let mut wanted = contents(&bench.source());
        wanted.retain(|path, _| path.ends_with(b"/one") || whole == 2 && path.ends_with(b"/two"));
        let restored = bench.restore(&snapshot);
        assert_eq!(
            contents(&restored.tree).into_values().collect::<Vec<_>>(),
            wanted.into_values().collect::<Vec<_>>()
        );
        bench.check_is_clean();
    }
}

#[test]
fn without_anything_done_or_without_being_asked_nothing_is_published() {
    let bench = Bench::new();
    bench.write("big", icecore_tests::whole::noise(5, 9_000_000));
    for (end, options) in [("big", keeping()), ("nowhere", keeping())] {
        let progress = EndAt(end, AtomicBool::new(end == "nowhere"));
        let result = bench.open().backup(&bench.local_tree(), &options, &progress);
        assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    }
    let bench = grown();
    let mut dry = keeping();
    dry.dry_run = true;
    for options in [options(Mode::Incremental), dry] {
        assert!(matches!(ended_at(&bench, "a/two", &options).0, Err(Error::Cancelled)));
    }
    assert_eq!(bench.open().snapshots(&SnapshotFilter::new()).expect("a list").snapshots.len(), 0);
}

#[test]
fn a_first_backup_goes_on_from_what_is_kept_of_it() {
    let bench = grown();
    let partial = partial_at(&bench, "a/two");
    let (report, opened) = ended_at(&bench, "nowhere", &keeping());
    let report = report.expect("it is complete");
    assert_eq!(opened, ["big", "c"], "the others are known");
    assert!(!published(&report).is_partial());
    assert_eq!(report.parent, Some(partial.id()));
    assert_eq!(contents(&bench.restore(published(&report)).tree).len(), 4);
    bench.check_is_clean();
}

#[test]
fn a_later_backup_is_compared_with_the_last_complete_one_and_what_is_kept_is_not_read_again() {
    let bench = grown();
    let complete = bench.backup_counting(Mode::Incremental).0;
    bench.write("a/one", "changed");
    bench.write("c", "changed too");
    let partial = partial_at(&bench, "a/two");
    let (report, opened) = ended_at(&bench, "nowhere", &keeping());
    let report = report.expect("it is complete");
    assert_eq!(opened, ["c"], "`one` is in the partial one, `two` and `big` in the complete one");
    assert_eq!(report.parent, Some(published(&complete).id()));
    assert!(published(&report).record().sequence > partial.record().sequence);
    let restored = contents(&bench.restore(published(&report)).tree);
    assert!(restored.values().any(|content| content == b"changed") && restored.len() == 4);
    // Once a complete one is newer, nobody looks at the partial one again, and full is full.
    let (_, opened) = ended_at(&bench, "nowhere", &options(Mode::Full));
    assert_eq!(opened.len(), 4);
}

#[test]
fn only_its_id_selects_a_partial_snapshot() {
    let bench = grown();
    let partial = partial_at(&bench, "a/two");
    let repository = bench.open();
    assert!(matches!(latest(&repository), Err(Error::NoSnapshot { .. })), "half of it is not the latest");
    let complete = bench.backup();
    let newer = {
        bench.write("0", "new");
        partial_at(&bench, "source/0")
    };
    assert_eq!(latest(&repository).expect("there is one"), *published(&complete));
    let at = Selector::At { time_ns: i64::MAX };
    assert_eq!(repository.snapshot(&at, &SnapshotFilter::new()).expect("there is one"), *published(&complete));
    for snapshot in [partial, newer] {
        let selector = Selector::Id(snapshot.id().short());
        assert_eq!(repository.snapshot(&selector, &SnapshotFilter::new()).expect("by its id"), snapshot);
    }
}

/// What has the tree of a partial one is complete all the same, and nobody but its snapshot says so.
#[test]
fn nothing_is_skipped_because_of_a_partial_snapshot() {
    let bench = Bench::new();
    let mut skipping = keeping();
    skipping.skip_if_unchanged = true;
    let backup = |end| {
        // Directories of a disk may change while they are looked at.
        let time = repo_core::Timestamp { seconds: 5, nanoseconds: 0 };
        let streams = Streams::new().modified(time).add("d/a".as_ref(), &b"one"[..]).expect("a name");
        let source = streams.add("d/b".as_ref(), &b"two"[..]).expect("a name");
        let report = bench.open().backup(&source, &skipping, &EndAt(end, AtomicBool::new(false)));
        report.expect("there is something to keep").snapshot
    };
    let partial = backup("d/b").expect("it was ended after its last file");
    assert!(partial.is_partial());
    let complete = backup("nowhere").expect("it is complete, and nothing else is");
    assert!(!complete.is_partial());
    assert_eq!(complete.record().root, partial.record().root);
    assert_eq!(backup("nowhere"), None, "now there is a complete one");
    assert!(backup("d/b").expect("asked for").is_partial(), "what was interrupted says so, even if nothing differs");
}

#[test]
fn a_stream_that_fails_is_no_partial_snapshot_and_one_that_was_cut_off_is_not_in_it() {
    struct Ends(Arc<AtomicBool>, bool);
    impl Read for Ends {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1 {
                self.0.store(true, SeqCst);
                buffer.fill(7);
                return Ok(buffer.len());
            }
            Err(io::Error::other("exit status 1"))
        }
    }
    struct Flag(Arc<AtomicBool>);
    impl Progress for Flag {
        fn report(&self, _: Event<'_>) {}
        fn is_cancelled(&self) -> bool {
            self.0.load(SeqCst)
        }
    }
    let bench = grown();
    for is_cancelled in [false, true] {
        let stop = Arc::new(AtomicBool::new(false));
        let streams = Streams::new().add("a".as_ref(), &b"whole"[..]).expect("a name");
        let streams = streams.add("~".as_ref(), Ends(stop.clone(), is_cancelled)).expect("a name");
        let source = streams.beside(bench.local_tree()).expect("names that are free");
        assert!(!source.is_stream());
        let result = bench.open().backup(&source, &keeping(), &Flag(stop));
        match is_cancelled {
            false => assert!(matches!(result, Err(Error::Stream(_))), "{result:?}"),
            // How far the assembly had come is the machine's business: it may have been nowhere.
            true => match result {
                Err(Error::Cancelled) => {}
                result => {
                    let report = result.expect("cancelled, or kept");
                    assert!(published(&report).is_partial());
                    let mut names = Vec::new();
                    let each = &mut |path: &[u8], _: &repo_core::Node| {
                        names.push(path.to_vec());
                        ControlFlow::Continue(())
                    };
                    bench.open().list(published(&report), b"", false, each).expect("it can be read");
                    assert!(!names.contains(&b"/~".to_vec()));
                }
            },
        }
    }
    bench.check_is_clean();
}

#[test]
fn a_policy_keeps_a_partial_snapshot_while_no_complete_one_is_newer_and_counts_it_nowhere() {
    let bench = grown();
    let repository = bench.open();
    let first = published(&bench.backup()).id();
    let second = published(&bench.backup()).id();
    bench.write("0", "new");
    let partial = partial_at(&bench, "source/0").id();
    let plan = |policy| repository.plan_forget(&ForgetOptions::new().policy(policy), &Silent).expect("a plan");
    let gone = |plan: &repo_core::ForgetPlan| plan.remove().map(Snapshot::id).collect::<Vec<_>>();
    assert_eq!(gone(&plan(Policy::new().keep_last(2))), [], "two complete ones stay");
    assert_eq!(gone(&plan(Policy::new().keep_last(1))), [first]);
    let third = published(&bench.backup()).id();
    assert_eq!(gone(&plan(Policy::new().keep_last(3))), [partial]);
    assert_eq!(gone(&plan(Policy::new().keep_last(1))), [partial, second, first]);
    repository.forget(&plan(Policy::new().keep_last(1)), &Silent).expect("they are forgotten");
    let left = repository.snapshots(&SnapshotFilter::new()).expect("a list").snapshots;
    assert_eq!(left.iter().map(Snapshot::id).collect::<Vec<_>>(), [third]);
}

#[test]
fn an_interrupted_backup_leaves_a_partial_snapshot_that_says_so_everywhere() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.write("source/sub/b", "two".repeat(1_000_000));
    for signal in [Signal::INT, Signal::TERM] {
        let run = cli.interrupted_backup(&["--keep-partial"], signal).ends(130);
        let summary = run.json().pop().expect("a summary");
        assert_eq!((&summary["message_type"], &summary["partial"]), (&"summary".into(), &true.into()));
        let id = summary["snapshot_id"].as_str().expect("it was made").to_owned();
        let told = run.error_json().pop().expect("a last line");
        assert_eq!((&told["message_type"], &told["code"]), (&"exit_error".into(), &130.into()));
        let message = told["message"].as_str().expect("words");
        assert!(message.contains(&id[..8]) && message.contains("partial") && message.contains("goes on"), "{message}");

        let shape = cli.json(&["snapshots"])[0].as_array().expect("an array").last().expect("one").clone();
        assert_eq!((&shape["id"], &shape["partial"]), (&id.as_str().into(), &true.into()));
        cli.run(&["snapshots"]).succeeds().tells("partial");
        cli.run(&["snapshots", "--compact"]).succeeds().tells("(partial)");
        let newest = cli.json(&["snapshots", "--latest", "1"]);
        assert_eq!(newest[0].as_array().map(Vec::len), Some(0), "who asks for the latest means a complete one");
        cli.run(&["restore", "latest", "--target", "no"]).fails(1, &["partial is named by its id"]);
        let listed = cli.run(&["ls", &id]).succeeds().out;
        assert!(listed.contains("/source/sub/b") && !listed.contains("/zz"), "{listed}");
        let to = format!("out-{signal:?}");
        cli.run(&["restore", &id, "--target", &to]).succeeds();
        assert_eq!(cli.read(&format!("{to}/source/a")), b"one");
        assert_eq!(cli.read(&format!("{to}/source/sub/b")), cli.read("source/sub/b"));
    }
    cli.run(&["check", "--read-data"]).succeeds();
    let finished = cli.json(&["backup", "source", "--command", "zz=echo done"]).pop().expect("a summary");
    assert!(finished["partial"].is_null(), "{finished}");
    cli.run(&["restore", "latest", "--target", "whole"]).succeeds();
    assert_eq!(cli.read("whole/zz"), b"done\n");
    cli.run(&["forget", "--keep-last", "9", "--dry-run"]).succeeds().tells("2 partial snapshots");
    cli.run(&["forget", "--keep-last", "9"]).succeeds().tells("removed 2 snapshots");
    assert_eq!(cli.snapshots(), 1);
}

#[test]
fn without_the_flag_an_interrupt_leaves_no_snapshot() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    let run = cli.interrupted_backup(&[], Signal::INT).fails(130, &["no snapshot was made"]);
    assert!(!run.out.contains("summary"), "{}", run.out);
    assert_eq!(cli.snapshots(), 0);
    for other in [&["--stdin"][..], &["--from-tar", "-"], &["source", "--dry-run"]] {
        cli.command(&[&["backup", "--keep-partial"], other].concat()).run().fails(1, &["cannot be used with"]);
    }
}
