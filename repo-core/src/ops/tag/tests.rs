//! Retagging and bringing back, also while packs are condemned and while somebody else forgets.

use std::io::{Cursor, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::backend::{Backend, Capabilities, Listed, Memory, Prefix, Put, Removal, Span};
use crate::crypto::Secret;
use crate::error::BackendError;
use crate::format::gc::Mark;
use crate::id::{GcStage, ObjectName, PackKind};
use crate::ops::backup::BackupOptions;
use crate::ops::prune::PruneOptions;
use crate::pipeline::lock;
use crate::progress::Silent;
use crate::repository::{InitOptions, Selector, SnapshotFilter};
use crate::store::gc;
use crate::walk::reader::ReaderSource;

const FILE: &[u8] = b"/data";

/// A place where something happens right after a snapshot was published.
#[derive(Debug, Default)]
struct Meddler {
    inner: Memory,
    after_publish: Mutex<Option<(ObjectName, Bytes)>>,
}

impl Backend for Meddler {
    fn place(&self) -> String {
        self.inner.place()
    }
    fn prepare(&self) -> Result<(), BackendError> {
        self.inner.prepare()
    }
    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        let put = self.inner.put_new(name, bytes)?;
        if matches!(name, ObjectName::Snapshot(_))
            && let Some((name, bytes)) = lock(&self.after_publish).take()
        {
            self.inner.put_new(&name, bytes)?;
        }
        Ok(put)
    }
    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
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
    repository: Repository,
    place: Arc<Meddler>,
}

impl Bench {
    fn new() -> Self {
        let place = Arc::new(Meddler::default());
        let (secret, _) = Secret::generate_key().unwrap();
        Self { repository: Repository::init(place.clone(), &secret, &InitOptions::new()).unwrap(), place }
    }

    fn backup(&self, content: &[u8]) -> Snapshot {
        let source = ReaderSource::new(Path::new("/data"), Cursor::new(content.to_vec()));
        let options = BackupOptions::new().host("a").tag("one");
        self.repository.backup(&source, &options, &Silent).unwrap().snapshot.unwrap()
    }

    fn tag(&self, snapshot: &Snapshot, options: TagOptions) -> TagReport {
        self.repository.tag(std::slice::from_ref(snapshot), &options, &Silent).unwrap()
    }

    fn forget(&self, snapshot: &Snapshot) {
        let record = self.forgotten(snapshot.id());
        self.repository.write_forgotten(&record).unwrap();
    }

    fn forgotten(&self, snapshot: SnapshotId) -> Forgotten {
        let (reason, by) = ("a test".to_owned(), "nobody".to_owned());
        Forgotten { snapshot, at_ms: 1, purge_after_ms: u64::MAX, reason, by, extensions: Vec::new() }
    }

    fn undelete(&self, snapshot: &Snapshot) -> Result<Snapshot> {
        self.repository.undelete(&snapshot.id().short(), &Silent)
    }

    fn shown(&self) -> Vec<Snapshot> {
        self.repository.snapshots(&SnapshotFilter::new()).unwrap().snapshots
    }

    fn content(&self, snapshot: &Snapshot) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.repository.read(snapshot, FILE).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn count(&self, prefix: Prefix) -> usize {
        let mut count = 0;
        self.place
            .list(prefix, &mut |_| {
                count += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        count
    }

    /// Opens a cycle that condemns every pack.
    fn condemn_all(&self) {
        let mut packs = Vec::new();
        for kind in [PackKind::Data, PackKind::Meta] {
            self.place
                .list(Prefix::Packs(kind), &mut |listed| {
                    if let Listed::Object { name: ObjectName::Pack(_, id), .. } = listed {
                        packs.push(id);
                    }
                    ControlFlow::Continue(())
                })
                .unwrap();
        }
        packs.sort_unstable();
        let by = SnapshotId([9; 16]);
        let (roots, expired, extensions) = (Vec::new(), Vec::new(), Vec::new());
        let mark = Mark { cycle: 1, by, created_ms: 1, packs, roots, expired, extensions };
        let bytes = gc::seal_step(&self.repository.inner.keys, 1, GcStage::Mark, by, &mark.encode()).unwrap();
        self.place.put_new(&ObjectName::Gc(1, GcStage::Mark), bytes).unwrap();
    }
}

fn long(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; 300 << 10];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_retagged_snapshot_is_the_same_under_another_id() {
    let bench = Bench::new();
    let old = bench.backup(&long(1));
    let report = bench.tag(&old, TagOptions::new().add_tag("two").remove_tag("one").by("me@here"));
    let (id, new) = &report.changed[0];
    assert_eq!((*id, new.record.origin, report.failed.len()), (old.id(), Some(old.id()), 0));
    assert_eq!(new.record.tags, ["two"]);
    let expected =
        SnapshotRecord { id: new.id(), origin: new.record.origin, tags: vec!["two".into()], ..old.record.clone() };
    assert_eq!(new.record, expected, "nothing else differs");
    assert_eq!(bench.shown(), std::slice::from_ref(new));
    assert_eq!(bench.content(new), long(1));
    assert_eq!(bench.count(Prefix::Sessions), 0);
    let record = bench.repository.read_forgotten(old.id()).unwrap();
    assert_eq!((record.purge_after_ms, record.by.as_str()), (record.at_ms, "me@here"));
    // It is the head of its series, as the old one was.
    assert_eq!(bench.backup(&long(1)).record.sequence, old.record.sequence + 1);
}

#[test]
fn tags_are_set_added_removed_and_what_has_them_already_stays_as_it_is() {
    let bench = Bench::new();
    let old = bench.backup(b"x");
    for same in [TagOptions::new(), TagOptions::new().add_tag("one"), TagOptions::new().remove_tag("two").pin(false)] {
        assert!(bench.tag(&old, same).changed.is_empty());
    }
    assert_eq!(bench.shown(), std::slice::from_ref(&old));
    let tags = |options: TagOptions| {
        let now = bench.shown().remove(0);
        bench.tag(&now, options).changed.remove(0).1.record.tags
    };
    assert_eq!(tags(TagOptions::new().set_tags(["a", "b"])), ["a", "b"]);
    assert_eq!(tags(TagOptions::new().add_tag("c").add_tag("c").remove_tag("a")), ["b", "c"]);
    assert!(tags(TagOptions::new().set_tags([] as [&str; 0])).is_empty());
    assert_eq!(bench.shown().len(), 1);
}

#[test]
fn a_pin_is_set_and_taken_off() {
    let bench = Bench::new();
    let old = bench.backup(b"x");
    let pinned = bench.tag(&old, TagOptions::new().pin(true)).changed.remove(0).1;
    assert_eq!(pinned.record.flags & FLAG_PINNED, FLAG_PINNED);
    let free = bench.tag(&pinned, TagOptions::new().pin(false)).changed.remove(0).1;
    assert_eq!(free.record.flags & FLAG_PINNED, 0);
    assert_eq!(bench.shown(), [free]);
}

#[test]
fn many_are_retagged_in_one_go() {
    let bench = Bench::new();
    let all: Vec<_> = (0..70).map(|number| bench.backup(&[number])).collect();
    let report = bench.repository.tag(&all, &TagOptions::new().add_tag("x"), &Silent).unwrap();
    assert_eq!((report.changed.len(), report.failed.len()), (70, 0));
    let shown = bench.shown();
    assert!(shown.len() == 70 && shown.iter().all(|snapshot| snapshot.record.tags == ["one", "x"]));
    assert_eq!(bench.count(Prefix::Sessions), 0);
}

/// Somebody forgets the snapshot between its new version's publication and its own forget record: what one client removed,
/// another must not bring back.
#[test]
fn what_is_forgotten_while_it_is_retagged_stays_forgotten() {
    let bench = Bench::new();
    let old = bench.backup(b"x");
    bench.forget(&old);
    let name = ObjectName::Forgotten(old.id());
    let record = bench.place.get(&name, Span::All).unwrap();
    bench.place.remove(&name).unwrap();
    *lock(&bench.place.after_publish) = Some((name, record));
    let report = bench.tag(&old, TagOptions::new().add_tag("two"));
    assert_eq!((report.changed.len(), report.failed.len()), (0, 1));
    assert_eq!(bench.shown(), []);
    let forgotten = bench.repository.forgotten().unwrap();
    assert_eq!(forgotten.len(), 1, "one of the two can be brought back");
}

#[test]
fn what_was_forgotten_before_is_not_retagged() {
    let bench = Bench::new();
    let old = bench.backup(b"x");
    bench.forget(&old);
    let report = bench.tag(&old, TagOptions::new().add_tag("two"));
    assert!(matches!(report.failed[0].1, Error::NoSnapshot { .. }));
    assert_eq!((bench.shown().len(), bench.count(Prefix::Sessions)), (0, 0));
}

#[test]
fn a_forgotten_snapshot_comes_back_whole_under_another_id_and_once() {
    let bench = Bench::new();
    let old = bench.backup(&long(1));
    bench.forget(&old);
    let listed = bench.repository.forgotten().unwrap();
    assert_eq!((listed.len(), listed[0].snapshot.id(), listed[0].reason.as_str()), (1, old.id(), "a test"));
    let back = bench.undelete(&old).unwrap();
    assert_eq!((back.record.origin, bench.content(&back)), (Some(old.id()), long(1)));
    assert_eq!(bench.shown(), std::slice::from_ref(&back));
    assert!(matches!(bench.undelete(&old), Err(Error::NoSnapshot { .. })), "it is back already");
    // Forgotten again, it comes back again.
    bench.forget(&back);
    assert_eq!(bench.undelete(&back).unwrap().record.origin, Some(back.id()));
    assert_eq!(bench.count(Prefix::Sessions), 0);
}

#[test]
fn only_forgotten_snapshots_are_brought_back_and_retagged_ones_are_not() {
    let bench = Bench::new();
    let shown = bench.backup(b"x");
    assert!(matches!(bench.undelete(&shown), Err(Error::NoSnapshot { .. })));
    bench.tag(&shown, TagOptions::new().add_tag("two"));
    assert!(matches!(bench.undelete(&shown), Err(Error::NoSnapshot { .. })), "it lives on");
    let [one, two] = [b"y", b"z"].map(|content| bench.backup(content));
    bench.forget(&one);
    bench.forget(&two);
    let any = bench.repository.undelete("", &Silent);
    assert!(matches!(any, Err(Error::AmbiguousSnapshot { candidates: 2, .. })), "{any:?}");
}

#[test]
fn what_has_lost_a_chunk_does_not_come_back() {
    let bench = Bench::new();
    let old = bench.backup(&long(1));
    bench.forget(&old);
    let mut packs = Vec::new();
    bench
        .place
        .list(Prefix::Packs(PackKind::Data), &mut |listed| {
            if let Listed::Object { name, .. } = listed {
                packs.push(name);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    packs.iter().for_each(|name| _ = bench.place.remove(name).unwrap());
    assert!(matches!(bench.undelete(&old), Err(Error::ChunkLost { .. })));
    assert_eq!((bench.shown().len(), bench.count(Prefix::Sessions)), (0, 0));
}

/// While a cycle is open, a new snapshot may not rely on what it condemns, although it is all still there.
#[test]
fn what_lies_in_condemned_packs_is_neither_brought_back_nor_retagged() {
    let bench = Bench::new();
    let forgotten = bench.backup(&long(1));
    let shown = bench.backup(&long(2));
    bench.forget(&forgotten);
    bench.condemn_all();
    assert!(matches!(bench.undelete(&forgotten), Err(Error::ChunkLost { .. })));
    let report = bench.tag(&shown, TagOptions::new().add_tag("two"));
    assert!(matches!(report.failed[0].1, Error::ChunkLost { .. }));
    assert_eq!(bench.shown(), [shown], "and the old one is as it was");
}

/// Two trees that share a part of which something is gone: the first failure must not make the second look whole.
#[test]
fn a_part_that_was_found_lacking_once_is_looked_at_again() {
    let bench = Bench::new();
    let [one, two] = [1, 2].map(|_| bench.backup(&long(1)));
    bench.condemn_all();
    let all = [one.clone(), two.clone()];
    let report = bench.repository.tag(&all, &TagOptions::new().add_tag("x"), &Silent).unwrap();
    assert_eq!((report.changed.len(), report.failed.len()), (0, 2));
    let latest = bench.repository.snapshot(&Selector::Latest { back: 0 }, &SnapshotFilter::new()).unwrap();
    assert!(latest == two || latest == one);
}

#[test]
fn within_its_window_a_forgotten_snapshot_outlives_a_prune_and_after_it_not() {
    let bench = Bench::new();
    let [old, new] = [1, 2].map(|seed| bench.backup(&long(seed)));
    bench.forget(&old);
    let report = bench.repository.prune(&PruneOptions::new(), &Silent).unwrap();
    assert_eq!(report.expired_snapshots, []);
    let back = bench.undelete(&old).unwrap();
    assert_eq!(bench.content(&back), long(1));
    let over = Forgotten { purge_after_ms: 1, ..bench.forgotten(back.id()) };
    bench.repository.write_forgotten(&over).unwrap();
    // The first version is still in its window, and holds the same data; it is gone when that is over too.
    bench.repository.prune(&PruneOptions::new(), &Silent).unwrap();
    assert!(matches!(bench.undelete(&back), Err(Error::NoSnapshot { .. })));
    assert_eq!(bench.content(&bench.undelete(&old).unwrap()), long(1));
    assert!(bench.shown().contains(&new));
}

#[test]
fn a_retagged_snapshot_and_its_data_outlive_the_prune_that_takes_the_old_one() {
    let bench = Bench::new();
    let old = bench.backup(&long(1));
    let new = bench.tag(&old, TagOptions::new().add_tag("two")).changed.remove(0).1;
    let report = bench.repository.prune(&PruneOptions::new(), &Silent).unwrap();
    assert_eq!(report.expired_snapshots, [old.id()]);
    assert_eq!((bench.shown(), bench.content(&new)), (vec![new.clone()], long(1)));
}
