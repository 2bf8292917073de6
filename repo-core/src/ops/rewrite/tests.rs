//! Rewritten trees are those that a backup without the paths would have made; nobody's data is lost on the way.

use std::fs;
use std::io::Read;
use std::ops::ControlFlow;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::backend::{Backend, Capabilities, Listed, Memory, Prefix, Put, Removal, Span};
use crate::crypto::Secret;
use crate::error::BackendError;
use crate::id::{ObjectName, PackKind};
use crate::ops::backup::{BackupOptions, BackupReport};
use crate::ops::forget::policy::Policy;
use crate::ops::prune::PruneOptions;
use crate::ops::tag::TagOptions;
use crate::progress::Silent;
use crate::repository::{InitOptions, Selector};
use crate::walk::local::{LocalTree, LocalTreeOptions};

/// A place that counts what is read of contents.
#[derive(Debug, Default)]
struct Watched {
    inner: Memory,
    content_reads: AtomicU64,
}

impl Backend for Watched {
    fn place(&self) -> String {
        self.inner.place()
    }
    fn prepare(&self) -> Result<(), BackendError> {
        self.inner.prepare()
    }
    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        self.inner.put_new(name, bytes)
    }
    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        if matches!(name, ObjectName::Pack(PackKind::Data, _)) {
            self.content_reads.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.get(name, span)
    }
    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.inner.list(prefix, each)
    }
    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        self.inner.remove(name)
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

struct Bench {
    place: Arc<Watched>,
    repository: Repository,
    source: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let (secret, _) = Secret::generate_key().unwrap();
        let place = Arc::new(Watched::default());
        let repository = Repository::init(place.clone(), &secret, &InitOptions::new()).unwrap().with_threads(1);
        Self { place, repository, source: tempfile::tempdir().unwrap() }
    }

    /// A few files in directories, some of them equal, one of them large.
    fn filled() -> Self {
        let bench = Self::new();
        bench.write("docs/letter", b"Dear reader");
        bench.write("docs/old/letter", b"Dear old reader");
        bench.write("docs/old/cache/one.tmp", &noise(1, 3000));
        bench.write("large", &noise(2, 700_000));
        bench.write("twin/a/x.tmp", b"same");
        bench.write("twin/b/x.tmp", b"same");
        bench.write("only/tmp/y.tmp", b"y");
        for number in 0..600 {
            bench.write(
                &format!("many/{number:04}.{}", if number % 7 == 0 { "tmp" } else { "txt" }),
                &noise(number, 60),
            );
        }
        bench
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.source.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn path(&self, name: &str) -> Vec<u8> {
        self.source.path().join(name).into_os_string().into_encoded_bytes()
    }

    fn report(&self, excludes: Patterns, options: &BackupOptions) -> BackupReport {
        let options_of_tree = LocalTreeOptions::new().excludes(excludes);
        let tree = LocalTree::new(&[self.source.path().to_owned()], options_of_tree).unwrap();
        self.repository.backup(&tree, options, &Silent).unwrap()
    }

    fn backup(&self) -> Snapshot {
        self.report(Patterns::new(), &BackupOptions::new().host("here")).snapshot.unwrap()
    }

    fn shown(&self) -> Vec<Snapshot> {
        self.repository.snapshots(&SnapshotFilter::default()).unwrap().snapshots
    }

    fn rewrite(&self, snapshots: &[Snapshot], options: &RewriteOptions) -> RewriteReport {
        let report = self.repository.rewrite(snapshots, options, &Silent).unwrap();
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        report
    }

    fn has(&self, snapshot: &Snapshot, name: &str) -> bool {
        self.repository.entry(snapshot, &self.path(name)).unwrap().is_some()
    }

    fn content(&self, snapshot: &Snapshot, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.repository.read(snapshot, &self.path(name)).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn paths(&self, snapshot: &Snapshot) -> Vec<Vec<u8>> {
        let mut paths = Vec::new();
        let each = &mut |path: &[u8], _: &crate::format::tree::Node| {
            paths.push(path.to_vec());
            ControlFlow::Continue(())
        };
        self.repository.list(snapshot, b"", true, each).unwrap();
        paths
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn patterns(of: &[&str]) -> Patterns {
    let mut patterns = Patterns::new();
    of.iter().for_each(|pattern| patterns.add(pattern, false).unwrap());
    patterns
}

fn new_of(report: &RewriteReport) -> &Snapshot {
    assert_eq!(report.rewritten.len(), 1, "{report:?}");
    report.rewritten[0].replacement.as_ref().unwrap()
}

#[test]
fn what_stays_is_to_the_byte_what_a_backup_without_the_rest_makes() {
    let bench = Bench::filled();
    let whole = bench.backup();
    let choices: [&[&str]; 7] = [
        &["*.tmp"],
        &["docs"],
        &["docs/old"],
        &["*.tmp", "!docs/old/cache/*.tmp"],
        &["large", "many/00*"],
        &["x.tmp", "letter"],
        &["*", "!docs", "!letter"],
    ];
    for choice in choices {
        let expected = bench.report(patterns(choice), &BackupOptions::new().host("other")).snapshot.unwrap();
        let before = bench.place.content_reads.load(Ordering::Relaxed);
        let report =
            bench.repository.rewrite(from_ref(&whole), &RewriteOptions::new().exclude(patterns(choice)), &Silent);
        let report = report.unwrap();
        if expected.record.root.entries == whole.record.root.entries {
            panic!("{choice:?} leaves nothing out");
        }
        let Some(rewritten) = report.rewritten.first() else {
            assert_eq!(report.emptied, [whole.id()], "{choice:?}");
            continue;
        };
        let new = rewritten.replacement.as_ref().unwrap();
        // Of the source itself: directories above it change with whatever else is made beside it.
        let content = |snapshot: &Snapshot| bench.repository.node(snapshot, &bench.path("")).unwrap().content;
        assert_eq!(content(new), content(&expected), "{choice:?}");
        assert_eq!(bench.place.content_reads.load(Ordering::Relaxed), before, "contents are not read");
        let (old, now) = (&whole.record, &new.record);
        assert_eq!(rewritten.removed_entries, old.root.entries - now.root.entries);
        assert_eq!(rewritten.removed_bytes, old.root.bytes - now.root.bytes);
        assert_eq!(now.summary.processed_files, expected.record.summary.processed_files, "{choice:?}");
        assert_eq!(now.summary.processed_bytes, expected.record.summary.processed_bytes, "{choice:?}");
        assert_eq!((now.origin, now.series, now.sequence), (Some(whole.id()), old.series, old.sequence));
    }
    assert!(bench.has(&whole, "large"), "the old one is as it was");
    let check = bench.repository.check(&crate::ops::check::CheckOptions::new().read_data(), &Silent).unwrap();
    assert!(check.is_whole(), "{:?}", check.errors);
}

#[test]
fn includes_keep_what_matches_and_the_way_to_it() {
    let bench = Bench::filled();
    let whole = bench.backup();
    let top: Vec<Vec<u8>> = {
        let path = bench.source.path().as_os_str().as_encoded_bytes().to_vec();
        let ends = path.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0).map(|(at, _)| at);
        ends.map(|end| path[..end].to_vec()).chain([path.clone()]).collect()
    };
    let cases: [(&[&str], &[&str]); 4] = [
        (&["letter"], &["docs", "docs/letter", "docs/old", "docs/old/letter"]),
        (&["twin/a"], &["twin", "twin/a", "twin/a/x.tmp"]),
        (&["docs", "!old"], &["docs", "docs/letter"]),
        (&["y.tmp", "only"], &["only", "only/tmp", "only/tmp/y.tmp"]),
    ];
    for (include, expected) in cases {
        let report = bench.rewrite(from_ref(&whole), &RewriteOptions::new().include(patterns(include)));
        let new = new_of(&report);
        let expected: Vec<Vec<u8>> = top.iter().cloned().chain(expected.iter().map(|name| bench.path(name))).collect();
        assert_eq!(bench.paths(new), expected, "{include:?}");
        let removed = report.rewritten[0].removed_entries;
        assert_eq!(removed, whole.record.root.entries - new.record.root.entries, "{include:?}");
    }
    let both = RewriteOptions::new().include(patterns(&["a"])).exclude(patterns(&["b"]));
    assert!(matches!(bench.repository.rewrite(&[whole], &both, &Silent), Err(Error::Usage(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Whatever matches is gone, and nothing else.
    #[test]
    fn exactly_what_matches_goes(texts in prop::collection::vec("!?/?[ab*]{1,2}(/[ab*]{1,2})?", 1..4)) {
        let bench = Bench::new();
        for path in ["a/a", "a/b", "b/a/a", "b/a/b", "b/b", "ab", "ba/ab/a", "aa"] {
            bench.write(path, path.as_bytes());
        }
        let whole = bench.backup();
        let mut chosen = Patterns::new();
        for text in &texts {
            prop_assume!(chosen.add(text, false).is_ok());
        }
        // What is below something that is left out goes with it.
        let all = bench.paths(&whole);
        let is_out = |path: &[u8]| {
            let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
            ends.chain([path.len()]).any(|end| chosen.matches(&path[..end]))
        };
        let expected: Vec<_> = all.into_iter().filter(|path| !is_out(path)).collect();
        let report = bench.rewrite(from_ref(&whole), &RewriteOptions::new().exclude(chosen.clone()));
        let left = match report.rewritten.first() {
            Some(rewritten) => bench.paths(rewritten.replacement.as_ref().unwrap()),
            None if report.emptied.is_empty() => bench.paths(&whole),
            None => Vec::new(),
        };
        prop_assert_eq!(left, expected);
    }
}

#[test]
fn what_needs_no_change_is_left_and_a_second_run_makes_nothing_more() {
    let bench = Bench::filled();
    let first = bench.backup();
    fs::remove_file(bench.source.path().join("large")).unwrap();
    let second = bench.backup();
    let options = RewriteOptions::new().exclude(patterns(&["large"]));
    let report = bench.rewrite(&[first.clone(), second.clone()], &options);
    assert_eq!((report.snapshots, report.rewritten.len()), (2, 1));
    assert_eq!(report.rewritten[0].snapshot, first.id());
    let shown = bench.shown();
    assert_eq!(shown.len(), 3);
    let again = bench.rewrite(&shown, &options);
    assert!(again.rewritten[0].was_there, "{again:?}");
    assert_eq!((again.rewritten.len(), bench.shown()), (1, shown));
    // And it is completed by one that forgets.
    let report = bench.rewrite(from_ref(&first), &options.clone().forget());
    assert!(report.rewritten[0].was_there && report.rewritten[0].forgotten);
    assert_eq!(bench.shown().len(), 2);
    let gone = bench.repository.rewrite(&[first], &options.forget(), &Silent).unwrap();
    assert!(gone.rewritten.is_empty() || gone.rewritten[0].was_there, "{gone:?}");
    assert_eq!(bench.shown().len(), 2, "who holds an old list changes nothing");
}

#[test]
fn a_dry_run_says_the_same_and_writes_nothing() {
    let bench = Bench::filled();
    let whole = bench.backup();
    let objects = || bench.repository.objects(Prefix::All).unwrap();
    let before = objects();
    let options = RewriteOptions::new().exclude(patterns(&["*.tmp"])).host("there").forget();
    let dry = bench.rewrite(from_ref(&whole), &options.clone().dry_run());
    assert_eq!(objects(), before);
    let done = bench.rewrite(&[whole], &options);
    let counts = |report: &RewriteReport| {
        let one = &report.rewritten[0];
        (one.snapshot, one.removed_files, one.removed_entries, one.removed_bytes)
    };
    assert_eq!(counts(&dry), counts(&done));
    assert!(dry.rewritten[0].replacement.is_none() && !dry.rewritten[0].forgotten);
}

#[test]
fn what_was_forgotten_comes_back_within_its_window_and_no_later() {
    let bench = Bench::filled();
    let whole = bench.backup();
    let options = RewriteOptions::new().exclude(patterns(&["large"])).forget();
    let report = bench.rewrite(from_ref(&whole), &options);
    assert!(report.rewritten[0].forgotten);
    assert_eq!(bench.shown(), [new_of(&report).clone()]);
    bench.repository.prune(&PruneOptions::new(), &Silent).unwrap();
    let forgotten = bench.repository.forgotten().unwrap();
    assert_eq!(forgotten.len(), 1);
    assert_eq!(forgotten[0].snapshot.id(), whole.id());
    let back = bench.repository.undelete(&whole.id().short(), &Silent).unwrap();
    assert_eq!(bench.content(&back, "large"), noise(2, 700_000));
    assert!(bench.repository.forgotten().unwrap().is_empty(), "it lives on under another id");
    let report = bench.rewrite(from_ref(&back), &options.window_ms(0));
    assert!(report.rewritten[0].forgotten);
    bench.repository.prune(&PruneOptions::new(), &Silent).unwrap();
    assert!(matches!(bench.repository.undelete(&back.id().short(), &Silent), Err(Error::NoSnapshot { .. })));
    for snapshot in bench.shown() {
        assert_eq!(bench.content(&snapshot, "docs/letter"), b"Dear reader");
        assert!(!bench.has(&snapshot, "large"));
    }
}

#[test]
fn a_new_host_and_time_change_nothing_else_and_backups_go_on_from_there() {
    let bench = Bench::filled();
    let whole = bench.backup();
    let report = bench.rewrite(from_ref(&whole), &RewriteOptions::new().host("there").time_ns(1_000).forget());
    let new = new_of(&report);
    assert_eq!((new.record.host.as_str(), new.record.root), ("there", whole.record.root));
    let length_ns = whole.record.end_ns - whole.record.start_ns;
    assert_eq!((new.record.start_ns, new.record.end_ns), (1_000, 1_000 + length_ns));
    assert_eq!(report.rewritten[0].removed_entries, 0);
    assert!(bench.repository.forgotten().unwrap().is_empty(), "nothing of it is gone");
    let next = bench.report(Patterns::new(), &BackupOptions::new().host("there"));
    assert_eq!(next.parent, Some(new.id()));
    let elsewhere = bench.report(Patterns::new(), &BackupOptions::new().host("here"));
    assert_eq!(elsewhere.parent, None, "its own were forgotten");
    let named = bench.report(Patterns::new(), &BackupOptions::new().host("here").series("mine")).snapshot.unwrap();
    let report = bench.rewrite(from_ref(&named), &RewriteOptions::new().host("there"));
    assert_eq!(new_of(&report).record.series, named.record.series, "a series with a name stays what it is");
}

#[test]
fn what_it_was_compared_with_is_followed_to_its_new_id() {
    let bench = Bench::filled();
    let first = bench.backup();
    bench.write("docs/letter", b"Dear other reader");
    let second = bench.backup();
    assert_eq!(second.record.lineage, LineageRecord::Incremental { parent: first.id() });
    let all = [first.clone(), second.clone()];
    let report = bench.rewrite(&all, &RewriteOptions::new().exclude(patterns(&["large"])).forget());
    let [new_first, new_second] = [0, 1].map(|place: usize| report.rewritten[place].replacement.clone().unwrap());
    assert_eq!(new_second.record.lineage, LineageRecord::Incremental { parent: new_first.id() });
    assert_eq!(bench.content(&new_first, "docs/letter"), b"Dear reader");
    assert_eq!(bench.content(&new_second, "docs/letter"), b"Dear other reader");
    let next = bench.report(Patterns::new(), &BackupOptions::new().host("here"));
    assert_eq!(next.parent, Some(new_second.id()));
}

#[test]
fn pinned_snapshots_are_rewritten_beside_and_never_replaced() {
    let bench = Bench::filled();
    let whole = bench.backup();
    let pinned = bench.repository.tag(&[whole], &TagOptions::new().pin(true), &Silent).unwrap().changed.remove(0).1;
    let options = RewriteOptions::new().exclude(patterns(&["large"]));
    let refused = bench.repository.rewrite(from_ref(&pinned), &options.clone().forget(), &Silent).unwrap();
    assert!(refused.rewritten.is_empty());
    assert!(refused.failed[0].1.to_string().contains("pinned"), "{:?}", refused.failed);
    assert_eq!(bench.shown(), from_ref(&pinned));
    let beside = bench.rewrite(from_ref(&pinned), &options);
    assert!(new_of(&beside).is_pinned(), "so is what comes of it");
    assert!(bench.shown().contains(&pinned));
}

#[test]
fn nothing_left_is_said_and_changes_nothing() {
    let bench = Bench::filled();
    let whole = bench.backup();
    for everything in ["/", "*"] {
        let report = bench.rewrite(from_ref(&whole), &RewriteOptions::new().exclude(patterns(&[everything])).forget());
        assert_eq!((report.emptied.as_slice(), report.rewritten.len()), (&[whole.id()][..], 0));
    }
    let report = bench.rewrite(from_ref(&whole), &RewriteOptions::new().include(patterns(&["nowhere"])));
    assert_eq!(report.emptied, [whole.id()]);
    assert_eq!(bench.shown(), [whole]);
}

#[test]
fn counts_are_made_anew_on_request() {
    let bench = Bench::filled();
    let whole = bench.backup();
    let mut options = RewriteOptions::new();
    options.recount = true;
    assert!(bench.rewrite(from_ref(&whole), &options).rewritten.is_empty(), "they are right");
    let mut wrong = whole.record.clone();
    (wrong.summary.processed_files, wrong.summary.processed_bytes) = (3, 5);
    let mut published = Vec::new();
    let mut done = |_, result: Result<Snapshot>| published.push(result.unwrap());
    bench.repository.republish(vec![wrong], crate::repository::Old::Shown, "", &Silent, &mut done).unwrap();
    let report = bench.rewrite(&published, &options.exclude(patterns(&["large"])));
    let summary = new_of(&report).record.summary;
    let right = whole.record.summary;
    assert_eq!(
        (summary.processed_files, summary.processed_bytes),
        (right.processed_files - 1, right.processed_bytes - 700_000)
    );
}

#[test]
fn one_that_somebody_forgot_meanwhile_is_not_brought_back() {
    let bench = Bench::filled();
    let whole = bench.backup();
    let by_id = crate::ops::forget::plan::ForgetOptions::new().id(Selector::Id(whole.id().short()));
    let plan = bench.repository.plan_forget(&by_id.policy(Policy::new()), &Silent).unwrap();
    bench.repository.forget(&plan, &Silent).unwrap();
    let options = RewriteOptions::new().exclude(patterns(&["large"]));
    let report = bench.repository.rewrite(from_ref(&whole), &options, &Silent).unwrap();
    assert!(matches!(report.failed.as_slice(), [(id, Error::NoSnapshot { .. })] if *id == whole.id()), "{report:?}");
    assert!(bench.shown().is_empty());
    assert!(bench.repository.objects(Prefix::Sessions).unwrap().is_empty());
}
