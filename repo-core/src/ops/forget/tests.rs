//! Plans, what they free, and carrying them out; on repositories in memory and on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::freed::Freed;
use super::group::GroupBy;
use super::guard::{Guard, Uncounted};
use super::plan::{ForgetOptions, ForgetPlan};
use super::policy::{Policy, Reason};
use crate::backend::{Backend, Local, Memory};
use crate::crypto::Secret;
use crate::error::{Error, Result};
use crate::format::tree::Timestamp;
use crate::id::{ChunkId, ChunkKind, PackKind, SnapshotId};
use crate::ops::backup::BackupOptions;
use crate::ops::tag::TagOptions;
use crate::platform::host;
use crate::progress::Silent;
use crate::repository::{InitOptions, Repository, Selector, Snapshot, SnapshotFilter};
use crate::tree::{self, Visitor};
use crate::walk::reader::ReaderSource;

const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;

struct Bench {
    repository: Repository,
}

impl Bench {
    fn new() -> Self {
        Self::at(Arc::new(Memory::new()))
    }

    fn at(backend: Arc<dyn Backend>) -> Self {
        let (secret, _) = Secret::generate_key().unwrap();
        Self { repository: Repository::init(backend, &secret, &InitOptions::new()).unwrap() }
    }

    /// A snapshot of one file made of these blocks, so many days old.
    fn backup(&self, host: &str, blocks: &[u64], days: i64) -> Snapshot {
        self.backup_with(BackupOptions::new().host(host).time_ns(host::now_ns() - days * DAY_NS), blocks)
    }

    fn backup_with(&self, options: BackupOptions, blocks: &[u64]) -> Snapshot {
        let content: Vec<u8> = blocks.iter().flat_map(|seed| block(*seed)).collect();
        let time = Timestamp { seconds: 1, nanoseconds: 0 };
        let source = ReaderSource::new(Path::new("/data"), std::io::Cursor::new(content)).modified(time);
        self.repository.backup(&source, &options, &Silent).unwrap().snapshot.unwrap()
    }

    fn plan(&self, options: ForgetOptions) -> Result<ForgetPlan> {
        self.repository.plan_forget(&options, &Silent)
    }

    fn shown(&self) -> BTreeSet<SnapshotId> {
        self.repository.snapshots(&SnapshotFilter::new()).unwrap().snapshots.iter().map(Snapshot::id).collect()
    }
}

/// 400 KiB that no other seed has.
fn block(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 400 << 10];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn keep_last(count: u32) -> ForgetOptions {
    ForgetOptions::new().policy(Policy::new().keep_last(count))
}

fn by_id(snapshot: &Snapshot) -> ForgetOptions {
    ForgetOptions::new().id(Selector::Id(snapshot.id().short()))
}

fn ids<'s>(snapshots: impl IntoIterator<Item = &'s Snapshot>) -> BTreeSet<SnapshotId> {
    snapshots.into_iter().map(Snapshot::id).collect()
}

#[test]
fn a_policy_forgets_in_each_group_what_no_rule_keeps() {
    let bench = Bench::new();
    let [old_a, new_a, old_b] = [("a", 2), ("a", 1), ("b", 3)].map(|(host, days)| bench.backup(host, &[1], days));
    let plan = bench.plan(keep_last(1)).unwrap();
    assert_eq!(plan.groups.len(), 2);
    assert_eq!(ids(plan.remove()), ids([&old_a]));
    assert_eq!(plan.groups[0].keep[0].1, [Reason::Last]);
    assert_eq!(bench.shown(), ids([&old_a, &new_a, &old_b]), "a plan changes nothing");
    let report = bench.repository.forget(&plan, &Silent).unwrap();
    assert_eq!((report.forgotten, report.failed.len()), (vec![old_a.id()], 0));
    assert_eq!(bench.shown(), ids([&new_a, &old_b]));
    assert_eq!(bench.plan(keep_last(1)).unwrap().remove().count(), 0, "and once more does nothing");
    // As one group, the newest of all is the last.
    let together = keep_last(1).group_by(GroupBy::new(false, false, false));
    assert_eq!(ids(bench.plan(together).unwrap().remove()), ids([&old_b]));
}

#[test]
fn a_forgotten_snapshot_is_neither_found_nor_compared_with() {
    let bench = Bench::new();
    let first = bench.backup("a", &[1], 2);
    let second = bench.backup("a", &[1], 1);
    bench.repository.forget(&bench.plan(by_id(&second)).unwrap(), &Silent).unwrap();
    let latest = bench.repository.snapshot(&Selector::Latest { back: 0 }, &SnapshotFilter::new()).unwrap();
    assert_eq!(latest, first);
    let by_name = bench.repository.snapshot(&Selector::Id(second.id().short()), &SnapshotFilter::new());
    assert!(matches!(by_name, Err(Error::NoSnapshot { .. })));
    assert_eq!(bench.backup("a", &[1], 0).record.sequence, second.record.sequence);
}

#[test]
fn without_rules_and_ids_nothing_is_forgotten_and_all_of_a_filter_only_if_that_is_said() {
    let bench = Bench::new();
    let [a, b] = ["a", "b"].map(|host| bench.backup(host, &[1], 1));
    let refused = |options| matches!(bench.plan(options), Err(Error::Usage(_)));
    assert!(refused(ForgetOptions::new()));
    assert!(refused(ForgetOptions::new().remove_all()), "a filter is needed");
    assert!(refused(keep_last(1).id(Selector::Latest { back: 0 })), "a policy or ids");
    assert!(refused(ForgetOptions::new().remove_all().id(Selector::Latest { back: 0 })));
    let all_of_a = ForgetOptions::new().remove_all().filter(SnapshotFilter::new().host("a"));
    assert_eq!(ids(bench.plan(all_of_a).unwrap().remove()), ids([&a]));
    // With rules, "all" means nothing: a group that would be emptied is refused as ever.
    let tagged = ForgetOptions::new().policy(Policy::new().keep_tags(["x"])).remove_all();
    let error = bench.plan(tagged).unwrap_err().to_string();
    assert!(error.contains("last snapshot of the group (host [a], paths [/data])"), "{error}");
    assert_eq!(bench.shown(), ids([&a, &b]));
}

#[test]
fn a_pinned_snapshot_is_forgotten_by_nothing() {
    let bench = Bench::new();
    let old = bench.backup("a", &[1], 2);
    let new = bench.backup("a", &[1], 1);
    let report = bench.repository.tag(&[old], &TagOptions::new().pin(true), &Silent).unwrap();
    let pinned = &report.changed[0].1;
    let plan = bench.plan(keep_last(1)).unwrap();
    assert_eq!(plan.remove().count(), 0);
    assert_eq!(plan.groups[0].keep.last().unwrap().1, [Reason::Pinned]);
    let named = bench.plan(by_id(pinned)).unwrap();
    assert_eq!((named.remove().count(), ids(&named.pinned)), (0, ids([pinned])));
    let all = ForgetOptions::new().remove_all().filter(SnapshotFilter::new().host("a"));
    assert_eq!(ids(bench.plan(all).unwrap().remove()), ids([&new]));
}

#[test]
fn a_snapshot_that_cannot_be_read_stays_and_is_named() {
    let memory = Arc::new(Memory::new());
    let bench = Bench::at(memory.clone());
    let snapshots = [3, 2, 1].map(|days| bench.backup("a", &[1], days));
    let name = crate::id::Doubled::Snapshot(snapshots[2].id());
    for object in [crate::id::ObjectName::from(name), crate::id::ObjectName::SecondCopy(name)] {
        memory.remove(&object).unwrap();
        memory.put_new(&object, bytes::Bytes::from_static(b"not a snapshot")).unwrap();
    }
    let plan = bench.plan(keep_last(1)).unwrap();
    assert_eq!(plan.unreadable.len(), 1);
    assert_eq!(ids(plan.remove()), ids([&snapshots[0]]));
}

// ------------------------------------------------------------------------------------------------- what it frees

/// Every reference of a tree, however often it is shared.
#[derive(Default)]
struct All(BTreeSet<(ChunkKind, ChunkId)>);

impl Visitor for All {
    fn meet(&mut self, kind: ChunkKind, id: &ChunkId) -> Result<bool> {
        self.0.insert((kind, *id));
        Ok(true)
    }
}

impl Bench {
    fn references(&self, snapshot: &Snapshot) -> BTreeSet<(ChunkKind, ChunkId)> {
        let store = self.repository.store().unwrap();
        let mut all = All::default();
        if let Some(root) = &snapshot.record.root.tree {
            tree::references(&store, root, &mut all).unwrap();
        }
        all.0
    }

    /// The same answer from whole sets, one a snapshot.
    fn freed_naively(&self, kept: &[&Snapshot], gone: &[&Snapshot]) -> (u64, BTreeMap<SnapshotId, u64>) {
        let store = self.repository.fresh_store().unwrap();
        let view = store.view();
        let of = |snapshots: &[&Snapshot]| -> BTreeSet<_> {
            snapshots.iter().flat_map(|snapshot| self.references(snapshot)).collect()
        };
        let bytes = |chunks: BTreeSet<(ChunkKind, ChunkId)>| -> u64 {
            chunks.iter().map(|(kind, id)| view.stored_bytes(view.number(*kind, id).unwrap())).sum()
        };
        let unique = gone.iter().map(|snapshot| {
            let others: Vec<&Snapshot> =
                kept.iter().chain(gone).copied().filter(|other| other.id() != snapshot.id()).collect();
            (snapshot.id(), bytes(&of(&[*snapshot]) - &of(&others)))
        });
        (bytes(&of(gone) - &of(kept)), unique.collect())
    }
}

#[test]
fn what_is_freed_is_what_whole_sets_say() {
    let bench = Bench::new();
    let contents: [&[u64]; 6] = [&[1, 2], &[2, 3], &[3], &[1, 2], &[4], &[2, 5, 6]];
    let snapshots: Vec<_> = contents.iter().map(|blocks| bench.backup("a", blocks, 1)).collect();
    for choice in 0..64u32 {
        let (gone, kept): (Vec<_>, Vec<_>) =
            snapshots.iter().enumerate().partition(|(number, _)| choice & 1 << number != 0);
        let [gone, kept] = [gone, kept].map(|list| list.into_iter().map(|(_, one)| one).collect::<Vec<_>>());
        let Freed { bytes, unique_bytes, problems, .. } = bench.repository.freed(&kept, &gone, &Silent).unwrap();
        assert_eq!((bytes, unique_bytes.into_iter().collect()), bench.freed_naively(&kept, &gone), "{choice:b}");
        assert!(problems.is_empty());
    }
}

#[test]
fn a_plan_tells_what_it_frees_and_counts_all_that_is_shown_as_kept() {
    let bench = Bench::new();
    let old = bench.backup("a", &[2], 2);
    let new = bench.backup("a", &[1], 1);
    let other = bench.backup("b", &[2], 1);
    let only_a = || keep_last(1).filter(SnapshotFilter::new().host("a")).measure();
    let freed = |plan: ForgetPlan| plan.freed.unwrap().bytes;
    let little = freed(bench.plan(only_a()).unwrap());
    assert_eq!(little, 0, "the other host still has it");
    bench.repository.forget(&bench.plan(by_id(&other)).unwrap(), &Silent).unwrap();
    let much = freed(bench.plan(only_a()).unwrap());
    assert!(much > 300 << 10, "{much}: what is forgotten already holds nothing");
    assert_eq!(bench.shown(), ids([&old, &new]));
}

#[test]
fn a_tree_that_cannot_be_read_makes_the_answer_a_guess_and_says_so() {
    let memory = Arc::new(Memory::new());
    let bench = Bench::at(memory.clone());
    let kept = bench.backup("a", &[1], 2);
    let gone = bench.backup("a", &[2], 1);
    let view = bench.repository.fresh_store().unwrap().view();
    let place = view.places(ChunkKind::Tree, &kept.record.root.tree.unwrap())[0];
    memory.remove(&crate::id::ObjectName::Pack(PackKind::Meta, place.pack)).unwrap();
    let freed = bench.repository.freed(&[&kept], &[&gone], &Silent).unwrap();
    assert!(!freed.problems.is_empty() && freed.bytes > 300 << 10);
}

// ------------------------------------------------------------------------------------------------- the guard

#[test]
fn under_a_guard_a_storage_that_tells_no_times_forgets_nothing() {
    let bench = Bench::new();
    for days in [30, 20, 10] {
        bench.backup("a", &[1], days);
    }
    let guarded = |guard| ForgetOptions::new().policy(Policy::new().keep_last(1).guard(guard));
    let plan = bench.plan(guarded(Guard::new())).unwrap();
    assert_eq!(plan.remove().count(), 0);
    let unwitnessed = [Reason::Uncounted(Uncounted::Unwitnessed)];
    assert!(plan.groups[0].keep.iter().all(|(_, reasons)| *reasons == unwitnessed));
}

/// What a directory says of its files' times is taken; a retagged snapshot keeps the time at which it was first written, and
/// one that says itself that it comes from an old one does not.
#[test]
fn under_a_guard_a_retagged_snapshot_is_as_old_as_its_first_version() {
    let scratch = tempfile::tempdir().unwrap();
    let bench = Bench::at(Arc::new(Local::new(scratch.path().join("r"))));
    let options = || BackupOptions::new().host("a");
    let [first, second, third] = [1, 2, 3].map(|seed| bench.backup_with(options(), &[seed]));
    let dated = bench.backup_with(options().time_ns(host::now_ns() - 30 * DAY_NS), &[4]);
    let report = bench.repository.tag(&[first], &TagOptions::new().add_tag("x"), &Silent).unwrap();
    let tagged = report.changed[0].1.clone();
    // A client's own word: published by republishing, without a forget record that names it.
    let mut forged = None;
    let record =
        crate::format::snapshot::SnapshotRecord { start_ns: host::now_ns() - 30 * DAY_NS, ..second.record.clone() };
    let keep = &mut |_, result: Result<Snapshot>| forged = Some(result.unwrap());
    bench.repository.republish(vec![record], crate::repository::Old::Shown, "", &Silent, keep).unwrap();
    let forged = forged.unwrap();
    let guard = Guard::new().min_age_ns(0);
    let plan = bench.plan(ForgetOptions::new().policy(Policy::new().keep_last(1).guard(guard))).unwrap();
    assert_eq!(plan.groups.len(), 1);
    let reasons: BTreeMap<_, _> =
        plan.groups[0].keep.iter().map(|(snapshot, reasons)| (snapshot.id(), reasons.as_slice())).collect();
    let disputed = [Reason::Uncounted(Uncounted::Disputed)];
    assert_eq!(reasons.get(&dated.id()), Some(&disputed.as_slice()));
    assert_eq!(reasons.get(&forged.id()), Some(&disputed.as_slice()));
    assert_eq!(reasons.get(&third.id()), Some(&[Reason::Last].as_slice()));
    assert_eq!(ids(plan.remove()), ids([&tagged, &second]));
    let young = bench.plan(ForgetOptions::new().policy(Policy::new().keep_last(1).guard(Guard::new()))).unwrap();
    assert_eq!(young.remove().count(), 0);
}
