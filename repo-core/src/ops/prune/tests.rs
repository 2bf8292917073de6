//! Prune on a repository in memory: what goes, what stays, what is continued.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{PruneOptions, PruneReport, Unused};
use crate::backend::{Backend, Memory, Prefix};
use crate::error::Error;
use crate::format::gc::{Damaged, Forgotten};
use crate::id::{Doubled, GcStage, ObjectName, PackId, SnapshotId};
use crate::ops::backup::BackupOptions;
use crate::ops::check::CheckOptions;
use crate::progress::Silent;
use crate::repository::{InitOptions, Repository, RotateOptions};
use crate::seal;
use crate::store::{Session, SessionKind, gc};
use crate::walk::reader::ReaderSource;

pub(super) use crate::format::index::{ChunkRow, FrameRow, IndexBlock, PackRow};

pub(super) struct Place {
    pub(super) backend: Arc<Memory>,
    pub(super) repository: Repository,
    secret: crate::crypto::Secret,
}

/// Bytes that neither compress nor repeat.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut stream = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut bytes = vec![0; length];
    stream.fill(&mut bytes);
    bytes
}

impl Place {
    pub(super) fn new() -> Self {
        let backend = Arc::new(Memory::new());
        let (secret, _) = crate::crypto::Secret::generate_key().unwrap();
        let repository = Repository::init(backend.clone(), &secret, &InitOptions::new()).unwrap().with_threads(1);
        Self { backend, repository, secret }
    }

    pub(super) fn backup(&self, name: &str, bytes: &[u8]) -> SnapshotId {
        let source = ReaderSource::new(name.as_ref(), std::io::Cursor::new(bytes.to_vec()));
        self.repository.backup(&source, &BackupOptions::new(), &Silent).unwrap().snapshot.unwrap().id()
    }

    pub(super) fn forget(&self, snapshot: SnapshotId, purge_after_ms: u64) {
        let record = Forgotten {
            snapshot,
            at_ms: 0,
            purge_after_ms,
            reason: String::new(),
            by: String::new(),
            extensions: Vec::new(),
        };
        self.repository.write_forgotten(&record).unwrap();
    }

    pub(super) fn prune(&self, options: &PruneOptions) -> PruneReport {
        self.repository.prune(options, &Silent).unwrap()
    }

    fn names(&self, prefix: Prefix) -> BTreeSet<String> {
        self.repository.objects(prefix).unwrap().into_iter().map(|(name, _)| name.to_string()).collect()
    }

    /// Turns a bit in the table of a data pack.
    pub(super) fn break_table(&self, pack: PackId) {
        let name = ObjectName::Pack(crate::id::PackKind::Data, pack);
        let mut bytes = self.backend.get(&name, crate::backend::Span::All).unwrap().to_vec();
        let in_the_table = bytes.len() - 100;
        bytes[in_the_table] ^= 1;
        self.backend.remove(&name).unwrap();
        self.backend.put_new(&name, bytes.into()).unwrap();
    }

    /// Records that a pack holds nothing any more.
    pub(super) fn write_off(&self, pack: PackId) {
        let record = Damaged { pack, chunks: Vec::new(), at_ms: 1, extensions: Vec::new() };
        let (name, bytes) = gc::seal_damage_record(&self.repository.inner.keys, 0, &record).unwrap();
        self.backend.put_new(&name, bytes).unwrap();
    }

    fn remove_index(&self) {
        for (name, _) in self.repository.objects(Prefix::Indexes).unwrap() {
            self.backend.remove(&name).unwrap();
        }
    }

    /// Index objects leave out one chunk of this pack.
    pub(super) fn halve_index(&self, pack: PackId) {
        let keys = &self.repository.inner.keys;
        for (name, _) in self.repository.objects(Prefix::Indexes).unwrap() {
            let mut blocks = Vec::new();
            let bytes = self.backend.get(&name, crate::backend::Span::All).unwrap();
            seal::open_index(keys, &bytes, &mut |block| blocks.push(block)).unwrap();
            for block in &mut blocks {
                let IndexBlock { packs, frames, chunks } = block;
                let is_of_it = |frame: u16| packs[usize::from(frames[usize::from(frame)].pack)].id == pack;
                if let Some(first) = chunks.iter().position(|chunk| is_of_it(chunk.frame)) {
                    chunks.remove(first);
                }
            }
            self.backend.remove(&name).unwrap();
            let (id, bytes) = seal::seal_index(keys, SnapshotId([8; 16]), 0, &blocks).unwrap();
            self.backend.put_new(&ObjectName::Index(id), bytes).unwrap();
        }
    }

    fn assert_whole(&self, snapshots: u64) {
        let report = self.repository.check(&CheckOptions::new().read_data(), &Silent).unwrap();
        assert!(report.is_whole(), "{:?}", report.errors);
        assert_eq!(report.snapshots, snapshots);
    }
}

pub(super) fn all() -> PruneOptions {
    PruneOptions::new().max_unused(Unused::Bytes(0))
}

#[test]
fn what_only_an_expired_snapshot_needed_goes_and_the_rest_stays() {
    let place = Place::new();
    let first = place.backup("/a", &noise(1, 3 << 20));
    place.backup("/b", &noise(2, 3 << 20));
    let before = place.names(Prefix::All).len();
    assert!(place.prune(&all()).deleted_packs == 0, "nothing is unused");
    assert_eq!(place.names(Prefix::Gc), BTreeSet::new(), "and no cycle was begun for it");
    place.forget(first, 0);
    let report = place.prune(&all());
    assert_eq!(report.expired_snapshots, [first]);
    assert!(report.deleted_packs >= 2 && report.freed_bytes > 3 << 20, "{report:?}");
    place.assert_whole(1);
    assert!(place.names(Prefix::All).len() < before + 3);
    assert_eq!(place.names(Prefix::Gc).len(), 4, "the steps of the last cycle stay");
    let bytes: u64 = place.repository.objects(Prefix::All).unwrap().iter().map(|(_, size)| size).sum();
    assert!(bytes < 4 << 20, "{bytes}");
    assert_eq!(place.prune(&all()).deleted_packs, 0);
}

#[test]
fn a_forgotten_snapshot_keeps_its_data_until_its_window_is_over() {
    let place = Place::new();
    let first = place.backup("/a", &noise(1, 1 << 20));
    place.forget(first, u64::MAX);
    assert!(place.repository.snapshots(&Default::default()).unwrap().snapshots.is_empty(), "it is not shown");
    let report = place.prune(&all());
    assert_eq!((report.deleted_packs, report.expired_snapshots.len()), (0, 0));
    assert!(!place.names(Prefix::Snapshots).is_empty());
}

#[test]
fn what_lives_in_a_pack_of_mostly_dead_chunks_moves() {
    let place = Place::new();
    let (kept, gone) = (noise(1, 1 << 20), noise(2, 6 << 20));
    let both = place.backup("/both", &[kept.clone(), gone].concat());
    place.backup("/kept", &kept);
    place.forget(both, 0);
    let report = place.prune(&all());
    assert!(report.repack_packs >= 1 && report.written_bytes > 0, "{report:?}");
    place.assert_whole(1);
    let stored: u64 = place.repository.objects(Prefix::All).unwrap().iter().map(|(_, size)| size).sum();
    assert!(stored < 3 << 20, "{stored}");
}

#[test]
fn a_dry_run_tells_the_same_and_changes_nothing() {
    let place = Place::new();
    let first = place.backup("/a", &noise(1, 1 << 20));
    place.backup("/b", &noise(2, 1 << 20));
    place.forget(first, 0);
    let before = place.names(Prefix::All);
    let planned = place.prune(&all().dry_run());
    assert_eq!(place.names(Prefix::All), before);
    assert_eq!((planned.deleted_packs, planned.freed_bytes), (0, 0));
    let done = place.prune(&all());
    assert_eq!(
        (planned.unused_packs, planned.repack_packs, planned.expired_snapshots),
        (done.unused_packs, done.repack_packs, done.expired_snapshots)
    );
}

#[test]
fn a_writer_at_work_is_waited_for_and_the_next_run_continues() {
    let place = Place::new();
    let first = place.backup("/a", &noise(1, 1 << 20));
    place.forget(first, 0);
    let inner = &place.repository.inner;
    let session = Session::register(&inner.backend, &inner.keys, SessionKind::Backup, "test").unwrap();
    let report = place.prune(&all());
    assert_eq!(report.waiting_for.iter().map(|writer| writer.session).collect::<Vec<_>>(), [session.id()]);
    assert_eq!(report.deleted_packs, 0);
    assert!(place.names(Prefix::Gc).len() == 2, "mark and pending are set");
    // A new writer relies on nothing that is marked.
    let view = place.repository.fresh_store().unwrap().view();
    let marked = place.repository.objects(Prefix::Packs(crate::id::PackKind::Data)).unwrap();
    assert!(marked.iter().all(|(name, _)| matches!(name, ObjectName::Pack(_, id) if view.is_condemned(id))));

    session.give_up().unwrap();
    let report = place.prune(&all());
    assert!(report.continued && report.waiting_for.is_empty() && report.deleted_packs > 0, "{report:?}");
    place.assert_whole(0);
}

#[test]
fn a_silent_writer_is_fenced_and_cannot_publish() {
    let place = Place::new();
    let first = place.backup("/a", &noise(1, 1 << 20));
    place.forget(first, 0);
    let inner = &place.repository.inner;
    let session = Session::register(&inner.backend, &inner.keys, SessionKind::Backup, "test").unwrap();
    let id = session.id();
    let report = place.prune(&all().fence_idle(Duration::ZERO));
    assert_eq!(report.fenced.len(), 1);
    assert!(report.waiting_for.is_empty() && report.deleted_packs > 0);
    assert!(place.names(Prefix::Sessions).is_empty());
    let shown = place.repository.snapshots(&Default::default()).unwrap();
    assert!(shown.snapshots.is_empty() && shown.unreadable.is_empty(), "a fence is no snapshot");
    assert!(matches!(place.repository.read_published(id), Ok(None)));
    place.assert_whole(0);
}

#[test]
fn a_snapshot_that_vanished_stops_everything_unless_that_is_accepted() {
    let place = Place::new();
    let first = place.backup("/a", &noise(1, 1 << 20));
    let second = place.backup("/b", &noise(2, 1 << 20));
    place.forget(first, 0);
    place.prune(&all());
    for name in [ObjectName::Snapshot(second), ObjectName::SecondCopy(Doubled::Snapshot(second))] {
        place.backend.remove(&name).unwrap();
    }
    let packs = place.names(Prefix::Packs(crate::id::PackKind::Data));
    let refused = place.repository.prune(&all(), &Silent).unwrap_err();
    assert!(matches!(refused, Error::SnapshotsVanished { count: 1, first } if first == second));
    assert_eq!(place.names(Prefix::Packs(crate::id::PackKind::Data)), packs);
    assert!(place.prune(&all().accept_lost_snapshots()).deleted_packs > 0);
}

#[test]
fn anything_that_cannot_be_read_stops_everything() {
    for damage in ["snapshots/", "packs/m", "index/"] {
        let place = Place::new();
        let first = place.backup("/a", &noise(1, 1 << 20));
        place.backup("/b", &noise(2, 1 << 20));
        let objects = place.repository.objects(Prefix::All).unwrap();
        for (name, _) in objects.iter().filter(|(name, _)| name.to_string().contains(damage)) {
            let mut bytes = place.backend.get(name, crate::backend::Span::All).unwrap().to_vec();
            bytes[100] ^= 1; // beyond the header, in what is sealed
            place.backend.remove(name).unwrap();
            place.backend.put_new(name, bytes.into()).unwrap();
        }
        place.forget(first, 0);
        let before = place.names(Prefix::Packs(crate::id::PackKind::Data));
        assert!(place.repository.prune(&all(), &Silent).is_err(), "{damage}");
        assert_eq!(place.names(Prefix::Packs(crate::id::PackKind::Data)), before, "{damage}");
    }
}

/// It could hold what a live snapshot lacks, and parity or a mirror could bring that back.
#[test]
fn a_written_off_pack_without_a_table_goes_when_nothing_that_lives_can_be_in_it_alone() {
    let place = Place::new();
    let first = place.backup("/a", &noise(1, 1 << 20));
    let pack = super::plan_tests::only(super::plan_tests::data_packs(&place));
    let is_there = || super::plan_tests::data_packs(&place).contains(&pack);
    place.break_table(pack);
    place.remove_index();
    let second = place.backup("/b", &noise(2, 1 << 20));
    let other = super::plan_tests::data_packs(&place).into_iter().find(|other| *other != pack).unwrap();
    place.prune(&all());
    assert!(is_there(), "nobody wrote it off");
    place.write_off(pack);
    assert!(place.prune(&all()).lost_chunks > 0);
    assert!(is_there(), "a snapshot lacks what may be in it");
    assert_eq!(place.prune(&all().dry_run()).unused_packs, 0, "nor is a cycle begun for it again and again");
    place.forget(first, u64::MAX);
    place.prune(&all());
    assert!(is_there(), "one that can be brought back");

    place.backend.remove(&ObjectName::Forgotten(first)).unwrap();
    place.forget(first, 0);
    place.write_off(other);
    place.prune(&all());
    assert!(is_there(), "what another lacks may be in it");
    place.backend.remove(&ObjectName::Damaged(other, 0)).unwrap();
    let planned = place.prune(&all().dry_run());
    assert_eq!((planned.packs - planned.used_packs, planned.unused_packs), (1, 1), "{planned:?}");
    assert!(planned.unused_packs_bytes > 1 << 20 && planned.packs_bytes > 2 << 20, "{planned:?}");
    let report = place.prune(&all());
    assert!(!is_there() && report.deleted_packs == 1 && report.freed_bytes > 1 << 20, "{report:?}");
    assert_eq!(place.names(Prefix::Damaged), BTreeSet::new());
    place.assert_whole(1);
    place.forget(second, 0);
    place.prune(&all());
    place.assert_whole(0);
}

#[test]
fn a_cycle_that_was_cut_off_after_any_step_is_continued() {
    for last in GcStage::ALL {
        let place = Place::new();
        let first = place.backup("/a", &noise(1, 1 << 20));
        place.backup("/b", &noise(2, 1 << 20));
        let objects = |place: &Place| place.repository.objects(Prefix::All).unwrap();
        place.forget(first, 0);
        let before: Vec<_> = objects(&place)
            .into_iter()
            .map(|(name, _)| (name, place.backend.get(&name, crate::backend::Span::All).unwrap()))
            .collect();
        place.prune(&all());
        // As if the run had died right after it wrote this step: everything that it deleted is back.
        for stage in GcStage::ALL.into_iter().filter(|stage| *stage > last) {
            place.backend.remove(&ObjectName::Gc(1, stage)).unwrap();
        }
        if last < GcStage::Done {
            for (name, bytes) in before {
                place.backend.put_new(&name, bytes).unwrap();
            }
        }
        let report = place.prune(&all());
        assert_eq!(report.continued, last < GcStage::Done, "{last:?}");
        place.assert_whole(1);
        assert_eq!(place.names(Prefix::Snapshots).len(), 1);
    }
}

/// A backend that fences whoever is about to publish, once, and says what it does to the packs then.
#[derive(Debug)]
struct Fencing {
    inner: Arc<Memory>,
    repository: std::sync::Mutex<Option<Repository>>,
    /// Whether everything that no snapshot refers to is reclaimed at that moment.
    reclaims: bool,
    /// Whether a snapshot's second copy finds no room.
    refuses_second_copies: bool,
}

impl Backend for Fencing {
    fn place(&self) -> String {
        "fencing".into()
    }
    fn prepare(&self) -> Result<(), crate::error::BackendError> {
        Ok(())
    }
    fn put_new(
        &self,
        name: &ObjectName,
        bytes: bytes::Bytes,
    ) -> Result<crate::backend::Put, crate::error::BackendError> {
        if let ObjectName::Snapshot(id) = name
            && let Some(repository) = self.repository.lock().unwrap().take()
        {
            let inner = &repository.inner;
            gc::fence(self.inner.as_ref(), &inner.keys, *id, 1, SnapshotId([9; 16])).unwrap();
            if self.reclaims {
                self.inner.remove(&ObjectName::Session(*id)).unwrap();
                let report = repository.prune(&all().fence_idle(Duration::ZERO), &Silent).unwrap();
                assert!(report.deleted_packs > 0, "{report:?}");
            }
        }
        if self.refuses_second_copies && matches!(name, ObjectName::SecondCopy(Doubled::Snapshot(_))) {
            return Err(crate::error::BackendError::io("writing", name, std::io::ErrorKind::StorageFull.into()));
        }
        self.inner.put_new(name, bytes)
    }
    fn get(&self, name: &ObjectName, span: crate::backend::Span) -> Result<bytes::Bytes, crate::error::BackendError> {
        self.inner.get(name, span)
    }
    fn list(
        &self,
        prefix: Prefix,
        each: &mut dyn FnMut(crate::backend::Listed) -> std::ops::ControlFlow<()>,
    ) -> Result<(), crate::error::BackendError> {
        self.inner.list(prefix, each)
    }
    fn remove(&self, name: &ObjectName) -> Result<crate::backend::Removal, crate::error::BackendError> {
        self.inner.remove(name)
    }
    fn capabilities(&self) -> crate::backend::Capabilities {
        self.inner.capabilities()
    }
}

/// A repository on `Fencing`, with another handle on the same objects for the fence.
fn fencing(reclaims: bool) -> (Arc<Memory>, Repository) {
    let memory = Arc::new(Memory::new());
    let (secret, _) = crate::crypto::Secret::generate_key().unwrap();
    let other = Repository::init(memory.clone(), &secret, &InitOptions::new()).unwrap().with_threads(1);
    let backend = Arc::new(Fencing {
        inner: memory.clone(),
        repository: Some(other).into(),
        reclaims,
        refuses_second_copies: false,
    });
    (memory, Repository::open(backend, &secret).unwrap().with_threads(1))
}

#[test]
fn a_fenced_backup_publishes_under_another_name_without_uploading_again() {
    let (memory, repository) = fencing(false);
    let source = ReaderSource::new("/a".as_ref(), std::io::Cursor::new(noise(1, 2 << 20)));
    let report = repository.backup(&source, &BackupOptions::new(), &Silent).unwrap();
    assert!(report.snapshot.is_some());
    assert_eq!(repository.snapshot_ids().unwrap().len(), 2, "the fence and the snapshot");
    let packs = repository.objects(Prefix::Packs(crate::id::PackKind::Data)).unwrap();
    assert_eq!(packs.len(), 1, "a stream is read once, and what it gave is still there");
    assert!(repository.check(&CheckOptions::new().read_data(), &Silent).unwrap().is_whole());
    assert_eq!(repository.snapshots(&Default::default()).unwrap().snapshots.len(), 1);
    assert_eq!(repository.objects(Prefix::Sessions).unwrap(), []);
    drop(memory);
}

#[test]
fn a_fenced_stream_whose_packs_were_reclaimed_publishes_nothing() {
    let (_memory, repository) = fencing(true);
    let source = ReaderSource::new("/a".as_ref(), std::io::Cursor::new(noise(1, 2 << 20)));
    let refused = repository.backup(&source, &BackupOptions::new(), &Silent);
    assert!(matches!(refused, Err(Error::Fenced)), "{refused:?}");
    assert!(repository.snapshots(&Default::default()).unwrap().snapshots.is_empty());
    assert!(repository.check(&CheckOptions::new().read_data(), &Silent).unwrap().is_whole());
}

/// Whoever dies between a snapshot's two copies leaves its session as the sign of it.
#[test]
fn a_snapshot_whose_writer_did_not_come_to_its_second_copy_gets_it_before_its_session_goes() {
    for has_something_to_do in [false, true] {
        let place = Place::new();
        let old = place.backup("/a", &noise(1, 1 << 20));
        if has_something_to_do {
            place.forget(old, 0);
        }
        let backend = Fencing {
            inner: place.backend.clone(),
            repository: None.into(),
            reclaims: false,
            refuses_second_copies: true,
        };
        let cut_off = Repository::open(Arc::new(backend), &place.secret).unwrap().with_threads(1);
        let source = ReaderSource::new("/b".as_ref(), std::io::Cursor::new(noise(2, 1 << 20)));
        let id = cut_off.backup(&source, &BackupOptions::new(), &Silent).unwrap().snapshot.unwrap().id();
        let second = ObjectName::SecondCopy(Doubled::Snapshot(id));
        assert!(place.backend.get(&second, crate::backend::Span::All).unwrap_err().is_absent());
        assert_eq!(place.names(Prefix::Sessions).len(), 1);
        place.assert_whole(if has_something_to_do { 1 } else { 2 });

        let report = place.prune(&all());
        assert_eq!(report.deleted_packs > 0, has_something_to_do);
        place.backend.get(&second, crate::backend::Span::All).unwrap();
        assert!(place.names(Prefix::Sessions).is_empty());
        place.assert_whole(if has_something_to_do { 1 } else { 2 });
    }
}

impl Place {
    /// The keys are rotated, and the repository is opened with the new ones; the old handle comes back.
    fn rotate(&mut self) -> Repository {
        let (secret, _) = crate::crypto::Secret::generate_key().unwrap();
        let options = RotateOptions::new().key(&secret, "", crate::crypto::PasswordCost::Default);
        let rotated = self.repository.rotate_keys(&options).unwrap();
        assert!(rotated.unfinished.is_none(), "{:?}", rotated.unfinished);
        self.secret = secret;
        std::mem::replace(&mut self.repository, rotated.repository)
    }

    /// The key epochs of all objects below a prefix.
    fn epochs(&self, prefix: Prefix) -> BTreeSet<u32> {
        let header = |name| self.backend.get(&name, crate::backend::Span::Range { offset: 0, length: 80 }).unwrap();
        let names = self.repository.objects(prefix).unwrap().into_iter().map(|(name, _)| name);
        names.map(|name| crate::format::header::Header::decode(&header(name)).unwrap().key_epoch).collect()
    }

    fn content(&self, snapshot: SnapshotId, name: &str) -> Vec<u8> {
        let snapshot = self.repository.read_published(snapshot).unwrap().unwrap();
        let mut bytes = Vec::new();
        let mut file = self.repository.read(&snapshot, name.as_bytes()).unwrap();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        bytes
    }
}

#[test]
fn rekeying_runs_leave_nothing_under_old_keys_but_snapshots_and_change_no_content() {
    use crate::id::PackKind;
    let mut place = Place::new();
    let contents = [noise(1, 3 << 20), noise(2, 3 << 20), noise(3, 1 << 20)];
    let first = place.backup("/a", &contents[0]);
    let second = place.backup("/a", &contents[1]);
    place.rotate();
    let third = place.backup("/a", &contents[2]);
    let unlimited = PruneOptions::new().max_unused(Unused::Unlimited);
    assert_eq!(place.prune(&unlimited).old_packs, 0, "nobody asked");
    assert_eq!(place.epochs(Prefix::Packs(PackKind::Data)), [1, 2].into());

    let planned = place.prune(&unlimited.clone().rekey().dry_run());
    assert_eq!((planned.old_packs, planned.old_packs_left, planned.old_snapshots), (4, 0, 2));
    let limited = place.prune(&unlimited.clone().rekey().max_repack_bytes(4 << 20));
    assert!((1..4).contains(&limited.old_packs_left) && limited.old_packs == 4, "{limited:?}");
    assert!(limited.repack_bytes <= 4 << 20 && limited.deleted_packs > 0);
    place.assert_whole(3);
    let rest = place.prune(&unlimited.clone().rekey());
    assert_eq!((rest.old_packs, rest.old_packs_left), (limited.old_packs_left, 0));
    for prefix in [Prefix::Packs(PackKind::Data), Prefix::Packs(PackKind::Meta), Prefix::Indexes, Prefix::Gc] {
        assert_eq!(place.epochs(prefix), [2].into(), "{prefix:?}");
    }
    assert_eq!(place.epochs(Prefix::Snapshots), [1, 2].into());
    let nothing = place.prune(&unlimited.rekey());
    assert_eq!((nothing.old_packs, nothing.repack_packs, nothing.old_snapshots), (0, 0, 2));
    place.assert_whole(3);
    for (snapshot, content) in [first, second, third].into_iter().zip(&contents) {
        assert_eq!(place.content(snapshot, "/a"), *content);
    }
}

#[test]
fn index_objects_under_old_keys_are_written_anew_though_no_pack_is() {
    let mut place = Place::new();
    let gone = place.backup("/a", &noise(1, 1 << 20));
    place.rotate();
    let names = place.names(Prefix::Indexes);
    place.prune(&PruneOptions::new());
    assert_eq!(place.names(Prefix::Indexes), names);
    // Metadata only: the pack of data stays, and with it what the index says of it.
    place.prune(&PruneOptions { repack_meta_only: true, ..PruneOptions::new().rekey() });
    assert_eq!(place.epochs(Prefix::Indexes), [2].into());
    assert_eq!(place.epochs(Prefix::Packs(crate::id::PackKind::Data)), [1].into());
    assert_eq!(place.content(gone, "/a"), noise(1, 1 << 20));
    place.assert_whole(1);
}

/// Who was shut out and can still write to the place says nothing about what is deleted.
#[test]
fn steps_of_a_cycle_under_keys_from_before_a_rotation_count_for_nothing() {
    use crate::store::gc::{self, Condemned};
    let mut place = Place::new();
    place.backup("/a", &noise(1, 1 << 20));
    let old = place.rotate();
    let inner = &place.repository.inner;
    assert_eq!(gc::condemned(place.backend.as_ref(), &inner.keys).unwrap(), Condemned::Nothing);
    let cycles = gc::Cycles::list(place.backend.as_ref()).unwrap();
    assert_eq!((cycles.newest_done(), cycles.open()), (1, None), "the rotation's own");
    let forged = crate::format::gc::Done {
        cycle: 2,
        plan_digest: [0; 32],
        freed_bytes: 0,
        retained: Vec::new(),
        extensions: Vec::new(),
    };
    let bytes = gc::seal_step(&old.inner.keys, 2, GcStage::Done, SnapshotId([7; 16]), &forged.encode()).unwrap();
    let name = ObjectName::Gc(2, GcStage::Done);
    place.backend.put_new(&name, bytes).unwrap();
    assert_eq!(gc::condemned(place.backend.as_ref(), &inner.keys).unwrap(), Condemned::Everything);
    assert!(matches!(place.repository.prune(&all(), &Silent), Err(Error::Corrupt { object, .. }) if object == name));
    place.backend.remove(&name).unwrap();
    place.prune(&all());
}

/// A cycle that is open is ended, under whatever keys it was begun; only then do the old ones count no more.
#[test]
fn a_cycle_that_is_open_when_the_keys_are_rotated_is_continued_under_the_new_ones() {
    let mut place = Place::new();
    let first = place.backup("/a", &noise(1, 1 << 20));
    place.backup("/b", &noise(2, 1 << 20));
    place.forget(first, 0);
    let inner = place.repository.inner.clone();
    let session = Session::register(&inner.backend, &inner.keys, SessionKind::Backup, "test").unwrap();
    assert_eq!(place.prune(&all()).waiting_for.len(), 1);
    place.rotate();
    assert_eq!(place.repository.inner.keys.oldest_epoch_of_cycles(), 1);
    assert_eq!(place.epochs(Prefix::Gc), [1].into(), "it is not the rotation's to end");
    session.give_up().unwrap();
    let report = place.prune(&all());
    assert!(report.continued && report.deleted_packs > 0, "{report:?}");
    assert_eq!(place.epochs(Prefix::Gc), [2].into());
    let reopened = Repository::open(place.backend.clone(), &place.secret).unwrap();
    assert_eq!(reopened.inner.keys.oldest_epoch_of_cycles(), 2);
    place.assert_whole(1);
}
