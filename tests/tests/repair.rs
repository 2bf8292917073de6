//! Repair: each source of healing alone brings a damaged repository back to a clean check, what nothing brings back is named
//! and left out on request, and a repair that is cut off at any moment leaves everything restorable and runs again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use icecore_tests::bench::options;
use icecore_tests::crash::{Crash, Crashes, Recorder};
use icecore_tests::damage::{Damage, Kind, damage, damage_both, objects, of_kind, second_copy};
use icecore_tests::whole::{self, Contents, Known, noise};
use repo_core::internals::format::index::{ChunkRow, FrameRow, IndexBlock, PackRow};
use repo_core::internals::seal;
use repo_core::internals::store;
use repo_core::{
    Backend, BackendError, BackupReport, Bytes, Capabilities, ChunkId, Error, IndexId, InitOptions, Listed, Local,
    LostPart, Memory, Mode, ObjectName, PackId, PackKind, PackOutcome, Prefix, Put, ReaderSource, Removal,
    RepairIndexOptions, RepairPacksOptions, RepairPacksReport, RepairSnapshotsOptions, Repository, Selector, Silent,
    Snapshot, SnapshotFilter, SnapshotId, Span, Timestamp,
};
use tempfile::TempDir;

/// A repository with two snapshots, and what their files were.
struct Bench {
    place: Arc<Memory>,
    source: TempDir,
    known: Known,
    ids: Vec<SnapshotId>,
}

impl Bench {
    fn new() -> Self {
        Self::with(InitOptions::default())
    }

    fn with(init: InitOptions) -> Self {
        let place = Arc::new(Memory::default());
        Repository::init(place.clone(), &whole::secret(), &init).expect("a repository can be made");
        let source = tempfile::tempdir().expect("a temporary directory");
        let mut bench = Self { place, source, known: Known::default(), ids: Vec::new() };
        for edition in 0..2 {
            whole::write_edition(bench.source.path(), edition);
            bench.back_up();
        }
        bench
    }

    fn open(&self) -> Repository {
        Repository::open(self.place.clone(), &whole::secret()).expect("it opens").with_threads(2)
    }

    fn back_up(&mut self) -> BackupReport {
        let report = whole::back_up(&self.open(), self.source.path()).expect("a backup is made");
        self.ids.push(self.known.add(&report, self.source.path()));
        report
    }

    fn reads_back(&self) {
        self.known.are_whole(&self.open(), self.ids.iter().copied()).expect("every snapshot is whole");
    }

    fn is_clean(&self) {
        whole::is_whole(&self.open()).expect("a clean check");
        self.reads_back();
    }

    /// A copy of every object, elsewhere.
    fn mirror(&self) -> Arc<Memory> {
        let mirror = Arc::new(Memory::default());
        for name in objects(&*self.place) {
            let bytes = self.place.get(&name, Span::All).expect("what is listed is there");
            assert_eq!(mirror.put_new(&name, bytes).expect("memory takes it"), Put::Created);
        }
        mirror
    }

    fn repair_packs(&self, options: &RepairPacksOptions) -> RepairPacksReport {
        self.open().repair_packs(options, &Silent).expect("packs are repaired")
    }

    fn repair_index(&self) {
        self.open().repair_index(&RepairIndexOptions::new(), &Silent).expect("the index is repaired");
    }

    /// Stores everything a second time, in other packs.
    fn store_again(&mut self) {
        let repository = self.open();
        let view = store::of(&repository).expect("the index loads").view();
        view.report().listed_packs.keys().for_each(|pack| view.distrust(*pack));
        let report = repository
            .backup(&whole::tree(self.source.path()), &options(Mode::Full), &Silent)
            .expect("a backup is made");
        self.ids.push(self.known.add(&report, self.source.path()));
    }

    fn pack_names(&self, kind: PackKind) -> Vec<ObjectName> {
        let kind = if kind == PackKind::Data { Kind::DataPack } else { Kind::MetaPack };
        of_kind(&*self.place, kind)
    }

    fn snapshot(&self, id: SnapshotId) -> Snapshot {
        self.open().snapshot(&Selector::Id(id.to_string()), &SnapshotFilter::default()).expect("it is there")
    }
}

fn outcomes(report: &RepairPacksReport) -> Vec<PackOutcome> {
    report.packs.iter().map(|pack| pack.outcome).collect()
}

fn pack_id(name: &ObjectName) -> PackId {
    let ObjectName::Pack(_, id) = name else { panic!("{name} is no pack") };
    *id
}

fn flip() -> Damage {
    Damage::Flip { at_percent: 40 }
}

// ---- The index

type EntrySet = BTreeSet<(ChunkId, PackId, [u32; 4], u32, u32)>;

/// All places of all chunks.
fn entries(repository: &Repository) -> EntrySet {
    let mut entries = EntrySet::new();
    let view = store::of(repository).expect("the index loads").view();
    view.each_row(|chunk| {
        let (pack, place) = view.frames()[chunk.frame as usize];
        let record = place.record;
        let frame = [place.ordinal, record.offset, record.stored_length, record.raw_length];
        entries.insert((*chunk.id, view.packs()[pack as usize].id, frame, chunk.offset, chunk.length));
    });
    entries
}

/// Replaces every index object by one that says something else. `change` gets the block of each.
fn forge_index(bench: &Bench, change: impl Fn(&mut [IndexBlock])) {
    let repository = bench.open();
    let keys = store::of(&repository).expect("the index loads").keys().clone();
    let mut blocks = Vec::new();
    for name in of_kind(&*bench.place, Kind::Index) {
        let bytes = bench.place.get(&name, Span::All).expect("it is there");
        let before = blocks.len();
        seal::open_index(&keys, &bytes, &mut |block| blocks.push(block)).expect("an honest index");
        assert_eq!(blocks.len(), before + 1, "a small index has one block");
        bench.place.remove(&name).expect("memory lets it go");
    }
    change(&mut blocks);
    for (number, block) in blocks.into_iter().enumerate() {
        let (id, forged) = seal::seal_index(&keys, SnapshotId([7; 16]), number as u64, &[block]).expect("sealed");
        bench.place.put_new(&ObjectName::Index(id), forged).expect("memory takes it");
    }
}

/// The one lie that loading the index sees through by itself.
const MORE_THAN_PACKS_HAVE: &str = "packs of chunks, more than the packs have";

type Lie = (&'static str, fn(&mut [IndexBlock]));

/// What one who has the keys may have index objects say; each is well-formed.
const LIES: [Lie; 11] = [
    ("offsets of chunks", |blocks| each_chunk(blocks, |chunk| chunk.offset /= 2)),
    ("lengths of chunks", |blocks| each_chunk(blocks, |chunk| chunk.length = chunk.length.div_ceil(2))),
    ("offsets of frames", |blocks| each_frame(blocks, |frame| frame.offset += 1)),
    ("stored lengths of frames", |blocks| each_frame(blocks, |frame| frame.stored_length -= 1)),
    ("lengths of frames", |blocks| each_frame(blocks, |frame| frame.raw_length += 1)),
    ("numbers of frames", |blocks| each_frame(blocks, |frame| frame.ordinal += 1)),
    ("frames of chunks", |blocks| {
        for IndexBlock { packs, frames, chunks } in blocks {
            let kind = |frame: u16| packs[usize::from(frames[usize::from(frame)].pack)].kind;
            for chunk in chunks {
                let others = (0..frames.len() as u16).rev().filter(|frame| kind(*frame) == kind(chunk.frame));
                chunk.frame = others.max_by_key(|frame| *frame != chunk.frame).expect("its own at least");
                (chunk.offset, chunk.length) = (0, 1);
            }
        }
    }),
    ("packs of chunks", |blocks| swap_packs(blocks, 0)),
    // Whoever loads the index then asks the packs' tables.
    (MORE_THAN_PACKS_HAVE, |blocks| swap_packs(blocks, 1)),
    ("names of chunks, so that none is known", |blocks| {
        each_chunk(blocks, |chunk| chunk.id.0[0] ^= 0x80);
        blocks.iter_mut().for_each(|block| block.chunks.sort_unstable_by_key(|chunk| chunk.id));
    }),
    ("that the packs are empty", |blocks| {
        for block in blocks {
            block.packs.iter_mut().for_each(|pack| pack.chunk_count = 0);
            (block.frames, block.chunks) = (Vec::new(), Vec::new());
        }
    }),
];

/// Has each of two objects say that its chunks lie in the first packs of the other. How many chunks a pack has depends on
/// where content is cut, so each says that too: `missing` fewer than it claims.
fn swap_packs(blocks: &mut [IndexBlock], missing: u32) {
    let [one, other] = blocks else { panic!("two backups, two objects") };
    std::mem::swap(&mut one.packs, &mut other.packs);
    std::mem::swap(&mut one.frames, &mut other.frames);
    for IndexBlock { packs, frames, chunks } in blocks {
        let mut claimed = vec![0; packs.len()];
        for chunk in chunks {
            let kind = chunk.kind.pack_kind();
            let frame = frames.iter().position(|frame| packs[usize::from(frame.pack)].kind == kind);
            chunk.frame = frame.expect("both backups wrote packs of both kinds") as u16;
            (chunk.offset, chunk.length) = (0, 1);
            claimed[usize::from(frames[usize::from(chunk.frame)].pack)] += 1;
        }
        let told = packs.iter_mut().zip(claimed).filter(|(_, claimed)| *claimed > 0);
        told.for_each(|(pack, claimed)| pack.chunk_count = claimed - missing);
    }
}

fn each_chunk(blocks: &mut [IndexBlock], change: impl Fn(&mut ChunkRow)) {
    blocks.iter_mut().for_each(|block| block.chunks.iter_mut().for_each(&change));
}

fn each_frame(blocks: &mut [IndexBlock], change: impl Fn(&mut FrameRow)) {
    blocks.iter_mut().for_each(|block| block.frames.iter_mut().for_each(&change));
}

#[test]
fn no_lie_of_an_index_object_blocks_a_restore_and_repair_finds_it() {
    for (what, lie) in LIES {
        let bench = Bench::new();
        let honest = entries(&bench.open());
        forge_index(&bench, lie);
        assert!(of_kind(&*bench.place, Kind::Index).len() > 1, "two backups, two objects");
        assert_eq!(entries(&bench.open()) == honest, what == MORE_THAN_PACKS_HAVE, "{what}: it lies");
        bench.reads_back();
        bench.known.are_restored(&bench.open()).unwrap_or_else(|problem| panic!("{what}: {problem}"));
        let report = bench.open().repair_index(&RepairIndexOptions::new().read_all_packs(), &Silent).unwrap();
        assert_eq!(report.lying.len() as u64, report.objects, "{what}: every object lied");
        assert_eq!(entries(&bench.open()), honest, "{what}");
        bench.is_clean();
    }
}

#[test]
fn no_damage_of_index_objects_blocks_a_restore_and_repair_removes_it() {
    for how in Damage::ALL {
        let bench = Bench::new();
        let honest = entries(&bench.open());
        for name in of_kind(&*bench.place, Kind::Index) {
            damage(&*bench.place, &name, how);
        }
        let garbage = ObjectName::Index(IndexId([9; 32]));
        bench.place.put_new(&garbage, noise(5, 3000).into()).unwrap();
        bench.reads_back();
        let dry = bench.open().repair_index(&RepairIndexOptions::new().dry_run(), &Silent).unwrap();
        assert!(bench.place.get(&garbage, Span::All).is_ok(), "a dry run changes nothing");
        let report = bench.open().repair_index(&RepairIndexOptions::new(), &Silent).unwrap();
        assert_eq!((dry.written, dry.damaged.len()), (report.written, report.damaged.len()));
        assert_eq!(report.removed, report.damaged.len() as u64, "{how}");
        assert!(bench.place.get(&garbage, Span::All).is_err(), "{how}");
        assert_eq!(entries(&bench.open()), honest, "{how}");
        bench.is_clean();
        let again = bench.open().repair_index(&RepairIndexOptions::new().read_all_packs(), &Silent).unwrap();
        assert_eq!((again.written, again.removed), (0, 0), "there is nothing left to do");
    }
}

#[test]
fn losing_every_index_object_gives_back_the_same_entries() {
    let bench = Bench::new();
    let honest = entries(&bench.open());
    of_kind(&*bench.place, Kind::Index).iter().for_each(|name| damage(&*bench.place, name, Damage::Delete));
    let report = bench.open().repair_index(&RepairIndexOptions::new(), &Silent).unwrap();
    assert_eq!(
        report.indexed_packs as usize,
        objects(&*bench.place).iter().filter(|n| matches!(n, ObjectName::Pack(..))).count()
    );
    let view = store::of(&bench.open()).unwrap().view();
    assert!(view.report().unindexed.is_empty(), "from index objects, not from packs' own tables");
    assert_eq!(entries(&bench.open()), honest);
    bench.is_clean();
}

#[test]
fn what_the_index_says_of_packs_that_are_gone_goes_and_the_rest_stays() {
    let bench = Bench::new();
    let gone = bench.pack_names(PackKind::Data)[0];
    let left: EntrySet = entries(&bench.open()).into_iter().filter(|entry| entry.1 != pack_id(&gone)).collect();
    damage(&*bench.place, &gone, Damage::Delete);
    assert_eq!(store::of(&bench.open()).unwrap().view().report().missing_packs.len(), 1);
    let report = bench.open().repair_index(&RepairIndexOptions::new(), &Silent).unwrap();
    assert_eq!((report.stale.len(), report.removed), (1, 1));
    let repository = bench.open();
    assert!(store::of(&repository).unwrap().view().report().missing_packs.is_empty());
    assert_eq!(entries(&repository), left);
}

#[test]
fn what_is_known_of_a_pack_without_a_table_outlives_the_object_that_said_it() {
    let bench = Bench::new();
    let name = bench.pack_names(PackKind::Data)[0];
    // The table is at the end; the frames are not.
    damage(&*bench.place, &name, Damage::Flip { at_percent: 100 });
    // The object that speaks of it speaks of a pack that is gone, too, and so has to go itself.
    let ghost = PackId([1; 32]);
    forge_index(&bench, |blocks| {
        for block in blocks {
            let row = PackRow { id: ghost, ..block.packs[0] };
            block.packs.push(row);
        }
    });
    let before = entries(&bench.open());
    let report = bench.open().repair_index(&RepairIndexOptions::new(), &Silent).unwrap();
    assert!(!report.stale.is_empty() && report.removed > 0);
    assert_eq!(entries(&bench.open()), before);
    bench.reads_back();
}

// ---- A store that does not answer

/// A place whose packs cannot be read in a way that can be chosen.
#[derive(Debug)]
struct Trouble {
    inner: Arc<dyn Backend>,
    with_packs: Mutex<Option<io::ErrorKind>>,
    /// The first reading of each pack as a whole turns a bit.
    turns_bits: AtomicBool,
    seen: Mutex<BTreeSet<ObjectName>>,
    changed: Mutex<Vec<ObjectName>>,
}

impl Trouble {
    fn new(inner: Arc<dyn Backend>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            with_packs: Mutex::default(),
            turns_bits: AtomicBool::new(false),
            seen: Mutex::default(),
            changed: Mutex::default(),
        })
    }
}

impl Backend for Trouble {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        self.inner.prepare()
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        self.changed.lock().unwrap().push(*name);
        self.inner.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        let ObjectName::Pack(..) = name else { return self.inner.get(name, span) };
        if let Some(kind) = *self.with_packs.lock().unwrap() {
            return Err(BackendError::io("reading", name, kind.into()));
        }
        let bytes = self.inner.get(name, span)?;
        if span == Span::All && self.turns_bits.load(Ordering::Relaxed) && self.seen.lock().unwrap().insert(*name) {
            let mut turned = bytes.to_vec();
            turned[100] ^= 1;
            return Ok(turned.into());
        }
        Ok(bytes)
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.inner.list(prefix, each)
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        self.changed.lock().unwrap().push(*name);
        self.inner.remove(name)
    }

    fn replace_damaged(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        self.changed.lock().unwrap().push(*name);
        self.inner.replace_damaged(name, bytes)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[test]
fn a_store_that_does_not_answer_is_not_a_lost_chunk() {
    let bench = Bench::new();
    let trouble = Trouble::new(bench.place.clone());
    let repository = Repository::open(trouble.clone(), &whole::secret()).unwrap();
    let store = store::of(&repository).unwrap();
    let (mut kind, mut id) = (None, None);
    store.view().each_row(|chunk| (kind, id) = (Some(chunk.kind), Some(*chunk.id)));
    let (kind, id) = (kind.unwrap(), id.unwrap());
    for unanswered in [io::ErrorKind::TimedOut, io::ErrorKind::PermissionDenied] {
        *trouble.with_packs.lock().unwrap() = Some(unanswered);
        let error = store.get(kind, &id).unwrap_err();
        assert!(matches!(&error, Error::Backend(error) if error.source.kind() == unanswered), "{error}");
        // And a repair does not take it for damage.
        let report = Repository::open(trouble.clone(), &whole::secret())
            .unwrap()
            .repair_packs(&RepairPacksOptions::new(), &Silent);
        assert!(unanswered == io::ErrorKind::TimedOut || report.is_err(), "{report:?}");
    }
    // A sector that the disk has lost, and a pack that is gone, are damage.
    for lost in [io::ErrorKind::Other, io::ErrorKind::NotFound] {
        *trouble.with_packs.lock().unwrap() = Some(lost);
        let error = store.get(kind, &id).unwrap_err();
        assert!(matches!(error, Error::ChunkLost { .. }), "{error}");
    }
    *trouble.with_packs.lock().unwrap() = None;
    store.get(kind, &id).unwrap();
}

// ---- Small objects

#[test]
fn a_lost_copy_of_a_small_object_is_written_again_from_the_other() {
    let kinds = [Kind::Format, Kind::KeySlot, Kind::Keyring, Kind::Config, Kind::Snapshot];
    for kind in kinds {
        for how in Damage::ALL {
            for second in [false, true] {
                let bench = Bench::new();
                let first = of_kind(&*bench.place, kind)[0];
                let name = if second { second_copy(&first).unwrap() } else { first };
                let whole = bench.place.get(&name, Span::All).unwrap();
                damage(&*bench.place, &name, how);
                let dry = bench.open().repair_objects(true, &Silent).unwrap();
                assert_ne!(bench.place.get(&name, Span::All).ok(), Some(whole.clone()));
                let report = bench.open().repair_objects(false, &Silent).unwrap();
                assert_eq!((report.written.as_slice(), dry.written.as_slice()), (&[name][..], &[name][..]), "{how}");
                assert_eq!(bench.place.get(&name, Span::All).unwrap(), whole, "{name} {how}");
                assert_eq!(bench.open().repair_objects(false, &Silent).unwrap().written, []);
                bench.is_clean();
            }
        }
    }
}

#[test]
fn what_has_no_whole_copy_is_named_and_a_forgotten_snapshot_gets_no_copy_back() {
    let bench = Bench::new();
    let names = of_kind(&*bench.place, Kind::Snapshot);
    damage_both(&*bench.place, &names[0], flip());
    let report = bench.open().repair_objects(false, &Silent).unwrap();
    assert_eq!(report.unmended.len(), 2);
    assert_eq!(report.written, []);

    let bench = Bench::new();
    let snapshot = bench.snapshot(bench.ids[0]);
    let forgotten = ObjectName::Forgotten(snapshot.id());
    bench.place.put_new(&forgotten, Bytes::from_static(b"whatever it says")).unwrap();
    let copy = second_copy(&ObjectName::Snapshot(snapshot.id())).unwrap();
    damage(&*bench.place, &copy, Damage::Delete);
    assert_eq!(bench.open().repair_objects(false, &Silent).unwrap().written, []);
    assert!(bench.place.get(&copy, Span::All).is_err());
}

// ---- Packs, by each source alone

#[test]
fn a_pack_that_was_read_wrongly_is_read_again_and_nothing_is_written() {
    let bench = Bench::new();
    let trouble = Trouble::new(bench.place.clone());
    trouble.turns_bits.store(true, Ordering::Relaxed);
    let repository = Repository::open(trouble.clone(), &whole::secret()).unwrap();
    let report = repository.repair_packs(&RepairPacksOptions::new(), &Silent).unwrap();
    assert!(!report.packs.is_empty() && outcomes(&report).iter().all(|outcome| *outcome == PackOutcome::ReadAgain));
    assert_eq!(*trouble.changed.lock().unwrap(), []);
    bench.is_clean();
}

#[test]
fn chunks_that_another_pack_holds_are_not_lost() {
    for how in [flip(), Damage::Truncate { keep_percent: 10 }, Damage::Delete] {
        let mut bench = Bench::new();
        let before: BTreeSet<_> = bench.pack_names(PackKind::Data).into_iter().collect();
        bench.store_again();
        let newest = bench.pack_names(PackKind::Data).into_iter().find(|name| !before.contains(name)).unwrap();
        damage(&*bench.place, &newest, how);
        let report = bench.repair_packs(&RepairPacksOptions::new());
        assert_eq!(outcomes(&report), [PackOutcome::Replaced], "{how}");
        assert!(report.packs[0].chunks_elsewhere > 0);
        assert_eq!((report.rescued_chunks, report.lost_chunks), (0, 0), "{how}: all are in the old packs");
        bench.repair_index();
        bench.is_clean();
        assert_eq!(bench.repair_packs(&RepairPacksOptions::new()).packs, [], "there is nothing more to say of it");
    }
}

#[test]
fn parity_brings_a_pack_back_as_it_was() {
    let mut init = InitOptions::default();
    init.parity_percent = Some(20);
    for how in [flip(), Damage::Truncate { keep_percent: 99 }] {
        let bench = Bench::with(init.clone());
        let name = bench.pack_names(PackKind::Data)[0];
        let whole = bench.place.get(&name, Span::All).unwrap();
        damage(&*bench.place, &name, how);
        let dry = bench.repair_packs(&RepairPacksOptions::new().dry_run());
        assert_ne!(bench.place.get(&name, Span::All).unwrap(), whole);
        let report = bench.repair_packs(&RepairPacksOptions::new());
        assert_eq!(outcomes(&report), [PackOutcome::HealedByParity], "{how}");
        assert_eq!(dry.packs, report.packs);
        assert_eq!(bench.place.get(&name, Span::All).unwrap(), whole);
        bench.is_clean();
    }
}

#[test]
fn a_mirror_brings_a_pack_back_as_it_was_and_a_wrong_one_changes_nothing() {
    let bench = Bench::new();
    let mirror = bench.mirror();
    let wrong = bench.mirror();
    let name = bench.pack_names(PackKind::Data)[0];
    let whole = bench.place.get(&name, Span::All).unwrap();
    damage(&*wrong, &name, Damage::Flip { at_percent: 50 });
    damage(&*bench.place, &name, flip());
    let damaged = bench.place.get(&name, Span::All).unwrap();
    let report = bench.repair_packs(&RepairPacksOptions::new().mirror(wrong).dry_run());
    assert_eq!(outcomes(&report), [PackOutcome::Lost]);
    assert_eq!(bench.place.get(&name, Span::All).unwrap(), damaged);
    let report = bench.repair_packs(&RepairPacksOptions::new().mirror(mirror));
    assert_eq!(outcomes(&report), [PackOutcome::HealedByMirror]);
    assert_eq!(bench.place.get(&name, Span::All).unwrap(), whole);
    bench.is_clean();
}

#[test]
fn a_missing_pack_comes_back_in_new_packs_alone() {
    let bench = Bench::new();
    let mirror = bench.mirror();
    let name = bench.pack_names(PackKind::Data)[0];
    damage(&*bench.place, &name, Damage::Delete);
    let report = bench.repair_packs(&RepairPacksOptions::new().mirror(mirror));
    assert_eq!(outcomes(&report), [PackOutcome::Replaced]);
    assert!(report.rescued_chunks > 0 && report.lost_chunks == 0);
    assert!(bench.place.get(&name, Span::All).is_err(), "no name is given twice");
    bench.reads_back();
    bench.repair_index();
    bench.is_clean();
    assert_eq!(of_kind(&*bench.place, Kind::Session), []);
}

#[test]
fn the_next_backup_stores_again_what_is_recorded_as_lost() {
    for kind in [PackKind::Data, PackKind::Meta] {
        for how in Damage::ALL {
            let mut bench = Bench::new();
            // Back to the first edition, which is all in the first packs.
            let name = bench.pack_names(kind)[0];
            damage(&*bench.place, &name, how);
            let report = bench.repair_packs(&RepairPacksOptions::new());
            assert_eq!(report.packs.len(), 1, "{kind:?} {how}");
            assert_eq!(report.packs[0].pack, pack_id(&name));
            let recorded = objects(&*bench.place).iter().any(|name| matches!(name, ObjectName::Damaged(..)));
            assert_eq!(recorded, how != Damage::Delete, "{kind:?} {how}");
            bench.repair_index();
            bench.back_up();
            let last = *bench.ids.last().unwrap();
            whole::reads_back(&bench.open(), &bench.snapshot(last), &bench.known.0[&last]).unwrap();
            let problems = whole::check(&bench.open()).unwrap();
            for id in &problems.damaged_snapshots {
                assert!(*id != last, "{kind:?} {how}");
            }
        }
    }
}

/// A source that is the same whenever it is read: the directories above a real one change with everything that runs.
fn stream() -> ReaderSource {
    ReaderSource::new(Path::new("/deep/down/stream"), io::Cursor::new(noise(3, 700_000))).modified(Timestamp::default())
}

#[test]
fn a_damaged_pack_is_clean_after_repair_and_a_backup_whose_source_is_still_there() {
    for kind in [Kind::DataPack, Kind::MetaPack] {
        for how in Damage::ALL {
            let place = Arc::new(Memory::default());
            let repository = Repository::init(place.clone(), &whole::secret(), &InitOptions::default()).unwrap();
            let first = repository.backup(&stream(), &options(Mode::Incremental), &Silent).unwrap().snapshot.unwrap();
            damage(&*place, &of_kind(&*place, kind)[0], how);
            let open = || Repository::open(place.clone(), &whole::secret()).unwrap();
            open().repair_packs(&RepairPacksOptions::new(), &Silent).unwrap();
            open().repair_index(&RepairIndexOptions::new(), &Silent).unwrap();
            open().backup(&stream(), &options(Mode::Incremental), &Silent).unwrap();
            whole::is_whole(&open()).unwrap_or_else(|problem| panic!("{kind:?} {how}: {problem}"));
            let files = files_of(&open(), &first);
            assert!(files.values().eq([&noise(3, 700_000)]), "{kind:?} {how}: the old snapshot is whole again too");
        }
    }
}

#[test]
fn what_can_be_read_of_a_damaged_pack_is_stored_again() {
    let mut bench = Bench::new();
    // Many files of their own frames: a bit costs one frame.
    for number in 0..12u64 {
        std::fs::write(bench.source.path().join(format!("big{number}")), noise(900 + number, 900_000)).unwrap();
    }
    bench.back_up();
    let sizes = bench.open().objects(Prefix::Packs(PackKind::Data)).unwrap();
    let (name, _) = *sizes.iter().max_by_key(|(_, size)| *size).unwrap();
    damage(&*bench.place, &name, Damage::Flip { at_percent: 50 });
    let report = bench.repair_packs(&RepairPacksOptions::new());
    assert_eq!(outcomes(&report), [PackOutcome::Lost]);
    assert!(report.rescued_chunks > report.lost_chunks && report.lost_chunks > 0, "{report:?}");
    assert_eq!(report.damaged_snapshots, [*bench.ids.last().unwrap()]);
    assert!(report.losses.iter().all(|entry| entry.part == LostPart::Content));
    // The pack itself is of no use any more: without it nothing else is lost.
    damage(&*bench.place, &name, Damage::Delete);
    let last = *bench.ids.last().unwrap();
    let lost: BTreeSet<Vec<u8>> = report.losses.iter().map(|entry| entry.path.clone()).collect();
    assert!(!lost.is_empty() && lost.len() < 4, "{lost:?}");
    let kept: Contents = bench.known.0[&last].clone().into_iter().filter(|(path, _)| !lost.contains(path)).collect();
    let (repository, snapshot) = (bench.open(), bench.snapshot(last));
    for (path, expected) in kept {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut repository.read(&snapshot, &path).unwrap(), &mut bytes).unwrap();
        assert!(bytes == expected, "{}", String::from_utf8_lossy(&path));
    }
}

#[test]
fn a_pack_that_was_written_off_and_is_whole_again_gives_its_chunks_to_new_packs() {
    let bench = Bench::new();
    let mirror = bench.mirror();
    let name = bench.pack_names(PackKind::Data)[0];
    let whole = bench.place.get(&name, Span::All).unwrap();
    damage(&*bench.place, &name, flip());
    assert_eq!(outcomes(&bench.repair_packs(&RepairPacksOptions::new())), [PackOutcome::Lost]);
    // Somebody copied it back by hand; or the mirror turned up later.
    for by_hand in [false, true] {
        if by_hand {
            bench.place.replace_damaged(&name, whole.clone()).unwrap();
        }
        let report = bench.repair_packs(&RepairPacksOptions::new().mirror(mirror.clone()));
        assert_eq!(report.lost_chunks, 0);
        assert_eq!(report.rescued_chunks > 0, !by_hand, "what was rescued is not rescued again");
    }
    damage(&*bench.place, &name, Damage::Delete);
    bench.reads_back();
}

#[test]
fn a_pack_that_nobody_knows_is_an_error() {
    let bench = Bench::new();
    let unknown = RepairPacksOptions::new().pack(PackId([3; 32]));
    assert!(matches!(bench.open().repair_packs(&unknown, &Silent), Err(Error::Usage(_))));
    let one = RepairPacksOptions::new().pack(pack_id(&bench.pack_names(PackKind::Data)[0]));
    assert_eq!(bench.repair_packs(&one).read_packs, 1);
}

// ---- Snapshots

#[test]
fn a_snapshot_that_lost_a_file_is_published_again_without_it() {
    let mut bench = Bench::new();
    let name = bench.pack_names(PackKind::Data);
    // Only in the newest snapshot's own pack lies what only it has.
    std::fs::write(bench.source.path().join("only"), noise(77, 50_000)).unwrap();
    bench.back_up();
    let newest = bench.pack_names(PackKind::Data).into_iter().find(|pack| !name.contains(pack)).unwrap();
    damage(&*bench.place, &newest, Damage::Delete);
    bench.repair_packs(&RepairPacksOptions::new());
    bench.repair_index();
    let last = *bench.ids.last().unwrap();

    let before = objects(&*bench.place);
    let dry = bench.open().repair_snapshots(&RepairSnapshotsOptions::new().dry_run(), &Silent).unwrap();
    assert_eq!(objects(&*bench.place), before, "a dry run changes nothing");
    let report = bench.open().repair_snapshots(&RepairSnapshotsOptions::new().forget(), &Silent).unwrap();
    assert_eq!((report.snapshots, report.repaired.len()), (3, 1));
    let repaired = &report.repaired[0];
    assert_eq!((repaired.snapshot, repaired.forgotten, &repaired.losses), (last, true, &dry.repaired[0].losses));
    let path = bench.source.path().join("only");
    assert_eq!(repaired.losses.len(), 1);
    assert_eq!(repaired.losses[0].path, path.as_os_str().as_encoded_bytes());

    // The new one has all but that, and says where it came from; the old one is hidden.
    let new = bench.snapshot(repaired.replacement.unwrap());
    assert_eq!(new.record().origin, Some(last));
    assert_eq!(new.record().flags & 2, 2, "it says that it is partial");
    let mut left = bench.known.0[&last].clone();
    left.remove(path.as_os_str().as_encoded_bytes()).unwrap();
    assert_eq!(files_of(&bench.open(), &new), left);
    let shown = bench.open().snapshots(&SnapshotFilter::default()).unwrap().snapshots;
    assert!(shown.iter().all(|snapshot| snapshot.id() != last));
    whole::is_whole(&bench.open()).unwrap();
    assert_eq!(of_kind(&*bench.place, Kind::Session), []);
    // The file comes back with the next backup.
    bench.ids.pop();
    bench.known.0.remove(&last);
    bench.known.0.insert(new.id(), left);
    let again = bench.back_up();
    assert_eq!(again.parent, Some(new.id()), "it is compared with what was repaired");
    let newest = *bench.ids.last().unwrap();
    whole::reads_back(&bench.open(), &bench.snapshot(newest), &bench.known.0[&newest]).unwrap();
}

/// Every file of a snapshot, read.
fn files_of(repository: &Repository, snapshot: &Snapshot) -> Contents {
    let mut paths = BTreeMap::new();
    let listed = repository.list(snapshot, b"", true, &mut |path, node| {
        if node.metadata.kind == repo_core::NodeKind::File {
            paths.insert(path.to_vec(), Vec::new());
        }
        ControlFlow::Continue(())
    });
    listed.expect("the tree is whole");
    for (path, bytes) in &mut paths {
        let mut file = repository.read(snapshot, path).expect("it was listed");
        io::Read::read_to_end(&mut file, bytes).expect("it is whole");
    }
    paths
}

#[test]
fn directories_that_are_lost_are_left_empty_and_what_is_above_them_stays() {
    let mut bench = Bench::new();
    let before: BTreeSet<_> = bench.pack_names(PackKind::Meta).into_iter().collect();
    // Changes the directories down to the source's own, and none below it.
    std::fs::write(bench.source.path().join("top"), noise(78, 30_000)).unwrap();
    bench.back_up();
    before.iter().for_each(|name| damage(&*bench.place, name, Damage::Delete));
    bench.repair_packs(&RepairPacksOptions::new());
    bench.repair_index();
    let report = bench.open().repair_snapshots(&RepairSnapshotsOptions::new(), &Silent).unwrap();
    assert_eq!(report.repaired.len(), 3, "{report:?}");
    let last = *bench.ids.last().unwrap();
    let repaired = report.repaired.iter().find(|repaired| repaired.snapshot == last).unwrap();
    assert!(repaired.losses.iter().all(|entry| entry.part == LostPart::Entries), "{repaired:?}");
    let new = bench.snapshot(repaired.replacement.unwrap());
    let files = files_of(&bench.open(), &new);
    assert!(files.contains_key(bench.source.path().join("top").as_os_str().as_encoded_bytes()));
    assert!(files.keys().all(|path| !path.windows(6).any(|part| part == b"/same/")));
    let same = bench.source.path().join("same");
    let node = bench.open().node(&new, same.as_os_str().as_encoded_bytes()).unwrap();
    assert_eq!(node.content, repo_core::Content::None, "it is there, and empty");
    let (entries, bytes) = (new.record().root.entries, new.record().root.bytes);
    assert!(entries > files.len() as u64 && bytes >= 30_000, "{entries} entries, {bytes} bytes");
}

#[test]
fn what_lies_in_packs_that_nobody_may_rely_on_is_stored_again_for_a_repaired_snapshot() {
    let mut bench = Bench::new();
    std::fs::write(bench.source.path().join("only"), noise(77, 50_000)).unwrap();
    let before: BTreeSet<_> = bench.pack_names(PackKind::Data).into_iter().collect();
    bench.back_up();
    let newest = bench.pack_names(PackKind::Data).into_iter().find(|pack| !before.contains(pack)).unwrap();
    // Every other pack is written off without being damaged: what is only there may go at any time.
    let repository = bench.open();
    let keys = store::of(&repository).unwrap().keys().clone();
    let others: Vec<_> = objects(&*bench.place)
        .into_iter()
        .filter(|name| matches!(name, ObjectName::Pack(..)) && *name != newest)
        .collect();
    for name in &others {
        let record = repo_core::internals::format::gc::Damaged {
            pack: pack_id(name),
            chunks: Vec::new(),
            at_ms: 1,
            extensions: Vec::new(),
        };
        let (name, bytes) = store::gc::seal_damage_record(&keys, 0, &record).unwrap();
        bench.place.put_new(&name, bytes).unwrap();
    }
    damage(&*bench.place, &newest, Damage::Delete);
    let last = *bench.ids.last().unwrap();
    let one = RepairSnapshotsOptions::new().snapshot(last);
    let report = bench.open().repair_snapshots(&one, &Silent).unwrap();
    let new = bench.snapshot(report.repaired[0].replacement.unwrap());
    others.iter().for_each(|name| damage(&*bench.place, name, Damage::Delete));
    let mut left = bench.known.0[&last].clone();
    let lost = report.repaired[0].losses.iter().map(|entry| entry.path.clone());
    lost.for_each(|path| _ = left.remove(&path));
    assert_eq!(files_of(&bench.open(), &new), left);
}

// ---- Cut off at any moment

/// Files without a name of their own: no verb reads them.
const TEMPORARY: &str = "vault/tmp";

/// A directory with a repository that `damage` was done to, and what its snapshots were.
fn damaged_disk(parity_percent: u8, harm: impl Fn(&Local)) -> (TempDir, Known) {
    let room = || tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (disk, source) = (room(), room());
    let vault = disk.path().join("vault");
    let mut init = InitOptions::default();
    init.parity_percent = Some(parity_percent);
    let repository = Repository::init(Arc::new(Local::new(&vault)), &whole::secret(), &init).unwrap().with_threads(1);
    let mut known = Known::default();
    for edition in 0..2 {
        whole::write_edition(source.path(), edition);
        let report = whole::back_up(&repository, source.path()).unwrap();
        known.add(&report, source.path());
    }
    harm(&Local::new(&vault));
    (disk, known)
}

/// Runs a repair on a recorded disk; at every crash the same repair, run again, makes everything whole.
fn every_crash(disk: &TempDir, known: &Known, readable: bool, repair: &dyn Fn(&Repository) -> repo_core::Result<()>) {
    let recorder = Arc::new(Recorder::new(disk.path()));
    let local = Local::with_operations(disk.path().join("vault"), recorder.clone());
    let repository = Repository::open(Arc::new(local), &whole::secret()).unwrap().with_threads(1);
    repair(&repository).unwrap();
    recorder.mark("done");
    let log = recorder.finish();
    let mut check = |crash: &Crash, disk: &Path| {
        let repository = whole::open(&disk.join("vault")).map_err(whole::in_words("it does not open"))?;
        if readable {
            known.are_whole(&repository, known.0.keys().copied())?;
        }
        if crash.has_passed("done") {
            whole::is_whole(&repository)?;
        }
        repair(&repository).map_err(whole::in_words("the repair, run again"))?;
        let repository = whole::open(&disk.join("vault")).map_err(whole::in_words("it does not open"))?;
        known.are_whole(&repository, known.0.keys().copied())?;
        whole::is_whole(&repository)
    };
    let count = Crashes::of(&log).ignoring(TEMPORARY).check(&mut check);
    assert!(count > 2, "{count} states are too few to mean anything");
}

#[test]
fn a_repair_of_the_index_cut_off_by_a_power_failure_loses_nothing_and_runs_again() {
    let (disk, known) = damaged_disk(0, |place| {
        let names = of_kind(place, Kind::Index);
        damage(place, &names[0], flip());
        damage(place, &names[1], Damage::Delete);
    });
    every_crash(&disk, &known, true, &|repository| {
        repository.repair_index(&RepairIndexOptions::new(), &Silent).map(drop)
    });
}

#[test]
fn a_repair_of_small_objects_cut_off_by_a_power_failure_loses_nothing_and_runs_again() {
    let (disk, known) = damaged_disk(0, |place| {
        damage(place, &ObjectName::Format, flip());
        damage(place, &of_kind(place, Kind::Snapshot)[0], Damage::Delete);
        damage(place, &second_copy(&of_kind(place, Kind::Keyring)[0]).unwrap(), Damage::Delete);
    });
    every_crash(&disk, &known, true, &|repository| repository.repair_objects(false, &Silent).map(drop));
}

#[test]
fn a_repair_of_packs_cut_off_by_a_power_failure_loses_nothing_and_runs_again() {
    // By parity, in place.
    let (disk, known) = damaged_disk(20, |place| damage(place, &of_kind(place, Kind::DataPack)[0], flip()));
    every_crash(&disk, &known, false, &|repository| {
        repository.repair_packs(&RepairPacksOptions::new(), &Silent).map(drop)
    });
    // Chunk by chunk: of a pack whose table is gone everything can be read that the index knows.
    let (disk, known) = damaged_disk(0, |place| {
        damage(place, &of_kind(place, Kind::DataPack)[0], Damage::Flip { at_percent: 100 });
    });
    every_crash(&disk, &known, true, &|repository| {
        repository.repair_packs(&RepairPacksOptions::new(), &Silent).map(drop)
    });
}
