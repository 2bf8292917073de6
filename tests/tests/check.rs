//! Check: what each level must find and must not, which files it says are touched, which packs it reads and in which order.
//! What is touched is compared with what cannot be read back, file by file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use icecore_tests::bench::{Bench, Ears, options, published};
use icecore_tests::damage::{Damage, Kind, damage, of_kind};
use icecore_tests::tree::Dice;
use repo_core::internals::{seal, store};
use repo_core::{
    Backend, BackendError, Bytes, Capabilities, CheckLevel, CheckOptions, CheckReport, ChunkKind, Damaged, Error,
    Event, InitOptions, Listed, LocalTree, LocalTreeOptions, Loss, Memory, Mode, NodeKind, ObjectName, PackId, Prefix,
    Progress, Put, Removal, Repository, Secret, Silent, Snapshot, SnapshotFilter, SnapshotId, Span, Subset,
    VerifiedPacks,
};

const LEVELS: [CheckLevel; 4] = [CheckLevel::Names, CheckLevel::Trees, CheckLevel::Packs, CheckLevel::Data];

/// A repository of several snapshots, in memory, whose packs hold files of their own each.
struct Specimen {
    bench: Bench,
    secret: Secret,
    place: Arc<Memory>,
}

type FileName = (SnapshotId, Vec<u8>);

impl Specimen {
    /// Each snapshot adds files of random bytes, and so packs.
    fn of(snapshots: usize) -> Self {
        let place = Arc::new(Memory::default());
        let secret = Secret::Key([7; 32].into());
        let repository = Repository::init(place.clone(), &secret, &InitOptions::default()).expect("it can be made");
        // Each sealing thread has a pack of its own: one thread, one data pack a snapshot.
        let repository = repository.with_threads(1);
        let bench = Bench::in_memory();
        let mut dice = Dice::new(11);
        for number in 0..snapshots {
            for file in 0..4 {
                bench.write(&format!("part-{number}/file-{file}"), dice.bytes(150_000 + 1000 * file));
            }
            bench.write(&format!("part-{number}/large"), dice.bytes(2 << 20));
            let source = LocalTree::new(&[bench.source()], LocalTreeOptions::default()).expect("the source is there");
            repository.backup(&source, &options(Mode::Incremental), &Silent).expect("a backup is made");
        }
        Self { bench, secret, place }
    }

    fn open(&self) -> Repository {
        Repository::open(self.place.clone(), &self.secret).expect("it opens")
    }

    fn check(&self, options: &CheckOptions) -> CheckReport {
        self.open().check(options, &Silent).expect("a check runs to its end")
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.open().snapshots(&SnapshotFilter::default()).expect("they are listed").snapshots
    }

    fn packs(&self) -> Vec<PackId> {
        let name = |name: ObjectName| match name {
            ObjectName::Pack(_, id) => Some(id),
            _ => None,
        };
        let mut packs: Vec<_> = icecore_tests::damage::objects(&*self.place).into_iter().filter_map(name).collect();
        packs.sort_unstable();
        packs
    }

    /// Files of all snapshots, as long as there was no damage.
    fn files(&self) -> BTreeSet<FileName> {
        let repository = self.open();
        let mut files = BTreeSet::new();
        for snapshot in self.snapshots() {
            let listed = repository.list(&snapshot, b"", true, &mut |path, node| {
                if node.metadata.kind == NodeKind::File {
                    files.insert((snapshot.id(), path.to_vec()));
                }
                ControlFlow::Continue(())
            });
            listed.expect("the trees are whole");
        }
        files
    }

    /// Those that do not read back.
    fn unreadable(&self, files: &BTreeSet<FileName>) -> BTreeSet<FileName> {
        let repository = self.open();
        let snapshots: BTreeMap<_, _> = self.snapshots().into_iter().map(|one| (one.id(), one)).collect();
        let reads = |(id, path): &FileName| {
            let mut bytes = Vec::new();
            repository.read(&snapshots[id], path).is_ok_and(|mut file| file.read_to_end(&mut bytes).is_ok())
        };
        files.iter().filter(|file| !reads(file)).cloned().collect()
    }
}

/// Files that a report says have lost content.
fn touched(report: &CheckReport) -> BTreeSet<FileName> {
    let all = report.damage.iter().flat_map(|damage| &damage.touched);
    all.filter(|touched| touched.loss == Loss::Content)
        .map(|touched| (touched.snapshot, touched.path.clone()))
        .collect()
}

/// What every report must be, whatever it found.
fn assert_consistent(report: &CheckReport) {
    assert_eq!(report.errors.len(), report.damage.len());
    let mut objects = BTreeSet::new();
    for (error, damage) in report.errors.iter().zip(&report.damage) {
        assert!(!matches!(error, Error::Bug(_)), "{error}");
        assert_eq!(error.to_string(), damage.problem);
        assert!(objects.insert(damage.object), "{:?} is named twice", damage.object);
        assert!(damage.touched.len() as u64 <= damage.touched_count);
        let snapshots: BTreeSet<_> = damage.snapshots.iter().copied().collect();
        assert!(damage.touched.iter().all(|touched| snapshots.contains(&touched.snapshot)));
        assert!(snapshots.iter().all(|id| report.damaged_snapshots.contains(id)), "{damage:?}");
        if let Damaged::Object(ObjectName::Pack(_, id)) = damage.object {
            assert!(report.damaged_packs.contains(&id));
        }
    }
    assert_eq!(report.is_whole(), report.damaged_packs.is_empty() && report.damage.is_empty());
}

/// Whether a level must find it; `None`: it depends on where in the pack the bit lies.
fn finds(level: CheckLevel, kind: Kind, how: Damage) -> Option<bool> {
    let is_pack = matches!(kind, Kind::DataPack | Kind::MetaPack);
    match how {
        // The index is made again from the packs.
        Damage::Delete if kind == Kind::Index => Some(false),
        Damage::Delete | Damage::Truncate { .. } => Some(true),
        Damage::Flip { .. } if !is_pack || level >= CheckLevel::Packs => Some(true),
        Damage::Flip { .. } if level == CheckLevel::Names || kind == Kind::DataPack => Some(false),
        // Its head is needed for every frame, its end only by who has no index.
        Damage::Flip { at_percent: 0 | 10 } => Some(true),
        Damage::Flip { at_percent: 100 } => Some(false),
        Damage::Flip { .. } => None,
    }
}

fn matrix(kind: Kind) {
    let whole = Specimen::of(2);
    for how in Damage::ALL {
        let name = of_kind(&*whole.place, kind)[0];
        let bytes = whole.place.get(&name, Span::All).expect("it is there");
        damage(&*whole.place, &name, how);
        for level in LEVELS {
            let report = whole.check(&CheckOptions::new().level(level));
            assert_consistent(&report);
            let found = report.errors.iter().any(|error| error.to_string().contains(&name.to_string()));
            if let Some(expected) = finds(level, kind, how) {
                assert_eq!(found, expected, "{level:?}: {name} {how}: {:?}", report.errors);
            }
            let others = report.errors.iter().filter(|error| !error.to_string().contains(&name.to_string()));
            assert_eq!(others.map(ToString::to_string).collect::<Vec<_>>(), [""; 0], "{level:?}: {name} {how}");
        }
        whole.place.remove(&name).expect("it can be removed");
        whole.place.put_new(&name, bytes).expect("it is healed");
    }
    for level in LEVELS {
        assert!(whole.check(&CheckOptions::new().level(level)).is_whole(), "healed, and yet {level:?} finds damage");
    }
}

#[test]
fn each_level_finds_what_it_must_in_a_data_pack_and_no_more() {
    matrix(Kind::DataPack);
}

#[test]
fn each_level_finds_what_it_must_in_a_pack_of_metadata_and_no_more() {
    matrix(Kind::MetaPack);
}

#[test]
fn each_level_finds_what_it_must_in_an_index_object() {
    matrix(Kind::Index);
}

#[test]
fn each_level_finds_what_it_must_in_small_objects() {
    for kind in [Kind::Format, Kind::Keyring, Kind::Config, Kind::KeySlot, Kind::Snapshot] {
        matrix(kind);
    }
}

/// The oracle is reading each file back.
#[test]
fn exactly_the_files_that_cannot_be_read_are_touched() {
    let specimen = Specimen::of(3);
    let files = specimen.files();
    let mut partly = 0;
    for name in of_kind(&*specimen.place, Kind::DataPack) {
        let bytes = specimen.place.get(&name, Span::All).expect("it is there");
        for how in Damage::ALL {
            damage(&*specimen.place, &name, how);
            let expected = specimen.unreadable(&files);
            for level in LEVELS {
                let report = specimen.check(&CheckOptions::new().level(level));
                assert_consistent(&report);
                if finds(level, Kind::DataPack, how) == Some(true) {
                    assert_eq!(touched(&report), expected, "{level:?}: {name} {how}");
                    assert_eq!(report.damage[0].touched_count, expected.len() as u64);
                    let snapshots: BTreeSet<_> = expected.iter().map(|(id, _)| *id).collect();
                    assert_eq!(report.damaged_snapshots, snapshots.into_iter().collect::<Vec<_>>(), "{level:?} {how}");
                }
            }
            partly += usize::from(!expected.is_empty() && matches!(how, Damage::Flip { at_percent: 10 | 55 }));
            let parts: BTreeSet<_> = expected.iter().map(|(_, path)| path.clone()).collect();
            assert!(parts.len() < 8, "one bit costs the files of one frame, or of one pack at most: {how}");
            specimen.place.remove(&name).ok();
            specimen.place.put_new(&name, bytes.clone()).expect("it is healed");
        }
    }
    assert!(partly > 0, "some bit was turned in a frame");
}

/// All is lost, and yet every entry that can still be read is looked at, and nothing is named without its directory.
#[test]
fn a_lost_pack_of_metadata_names_the_directories_whose_entries_are_gone() {
    let specimen = Specimen::of(1);
    let name = of_kind(&*specimen.place, Kind::MetaPack)[0];
    damage(&*specimen.place, &name, Damage::Delete);
    for level in LEVELS {
        let report = specimen.check(&CheckOptions::new().level(level));
        assert_consistent(&report);
        assert_eq!(report.errors.len(), 1, "{:?}", report.errors);
        let top = specimen.snapshots()[0].record().root.entries;
        let [touched] = report.damage[0].touched.as_slice() else { panic!("{:?}", report.damage) };
        assert_eq!((touched.path.as_slice(), &touched.loss), (&b"/"[..], &Loss::Entries { from: vec![], count: top }));
        assert_eq!(report.damaged_snapshots.len(), 1);
    }
}

/// Thousands of entries in many leaves; the frame with some of them is lost. All others are still looked at: another
/// damaged pack's files are named in the rest.
#[test]
fn a_lost_part_of_a_directory_hides_nothing_of_its_rest() {
    let specimen = Specimen::of(1);
    let mut dice = Dice::new(5);
    for number in 0..9000 {
        // Names that do not compress, so that the directory fills several frames.
        let name: String = dice.bytes(60).iter().map(|byte| format!("{byte:02x}")).collect();
        specimen.bench.write(&format!("wide/{number:05}-{name}"), [number as u8; 9]);
    }
    for number in [0, 4500, 8999] {
        specimen.bench.write(&format!("wide/{number:05}"), dice.bytes(100_000));
    }
    let source = LocalTree::new(&[specimen.bench.source()], LocalTreeOptions::default()).expect("the source is there");
    let before: BTreeSet<_> = specimen.packs().into_iter().collect();
    // With one thread frames lie in the order in which they were filled.
    let repository = specimen.open().with_threads(1);
    let report = repository.backup(&source, &options(Mode::Incremental), &Silent).expect("a backup is made");
    let snapshot = published(&report).clone();
    let new: Vec<_> = icecore_tests::damage::objects(&*specimen.place)
        .into_iter()
        .filter(|name| matches!(name, ObjectName::Pack(_, id) if !before.contains(id)))
        .collect();
    for name in &new {
        let how = match Kind::of(name) {
            // The first leaves are in the first frame, and the branch above them all in the last.
            Some(Kind::MetaPack) => Damage::Flip { at_percent: 10 },
            _ => Damage::Delete,
        };
        damage(&*specimen.place, name, how);
    }
    let report = specimen.check(&CheckOptions::new());
    assert_consistent(&report);
    let wide = [specimen.bench.source().as_os_str().as_encoded_bytes(), b"/wide"].concat();
    let all = report.damage.iter().flat_map(|damage| &damage.touched);
    let mut lost = 0;
    for touched in all {
        assert_eq!(touched.snapshot, snapshot.id());
        if let Loss::Entries { count, .. } = touched.loss {
            assert_eq!(touched.path, wide);
            lost += count;
        }
    }
    assert!(0 < lost && lost < 9000, "{lost} entries of 9003 were lost");
    let files = touched(&report);
    let behind = (snapshot.id(), [&wide[..], b"/08999"].concat());
    assert!(files.contains(&behind), "what comes behind the damage is looked at: {files:?}");
}

#[test]
fn the_parts_of_a_subset_read_every_pack_once() {
    let specimen = Specimen::of(4);
    let all = specimen.packs();
    for of in [1, 2, 3, 7] {
        let mut read = Vec::new();
        for part in 1..=of {
            let verified = VerifiedPacks::new();
            let options = CheckOptions::new().level(CheckLevel::Packs).subset(Subset::Part { part, of });
            let report = specimen.check(&options.verified(&verified));
            let part: Vec<_> = all.iter().filter(|id| is_known(&verified, id)).copied().collect();
            assert_eq!((report.read_packs, report.unread_packs), (part.len() as u64, 0));
            read.extend(part);
        }
        read.sort_unstable();
        assert_eq!(read, all, "of {of}");
    }
}

fn is_known(verified: &VerifiedPacks, id: &PackId) -> bool {
    verified.time_ns(id, CheckLevel::Packs, i64::MAX).is_some()
}

#[test]
fn a_sample_reads_as_much_as_was_asked_for() {
    let specimen = Specimen::of(4);
    let count = specimen.packs().len() as u64;
    let read = |subset| {
        let report = specimen.check(&CheckOptions::new().read_data().subset(subset));
        (report.read_packs, report.read_bytes)
    };
    assert_eq!(read(Subset::Percent(100.0)).0, count);
    assert_eq!(read(Subset::Percent(50.0)).0, count.div_ceil(2));
    assert_eq!(read(Subset::Percent(0.001)).0, 1);
    assert_eq!(read(Subset::Bytes(1)).0, 1);
    let (packs, bytes) = read(Subset::Bytes(3 << 20));
    assert!(bytes >= 3 << 20 && packs < count, "{packs} of {count} packs, {bytes} bytes");
    assert_eq!(read(Subset::Bytes(u64::MAX)).0, count);
}

#[test]
fn damage_outside_of_the_subset_is_not_looked_for() {
    let specimen = Specimen::of(4);
    let name = of_kind(&*specimen.place, Kind::DataPack)[0];
    damage(&*specimen.place, &name, Damage::Flip { at_percent: 10 });
    let finds =
        |part| !specimen.check(&CheckOptions::new().read_data().subset(Subset::Part { part, of: 5 })).is_whole();
    assert_eq!((1..=5).filter(|part| finds(*part)).count(), 1);
}

/// So many packs may be read.
fn budget(packs: i64) -> impl Fn() -> bool + Send + Sync + 'static {
    let left = AtomicI64::new(packs);
    move || left.fetch_sub(1, Ordering::SeqCst) <= 0
}

/// Each run reads two packs and is forgotten but for the bytes that it kept. Over the runs every pack has its turn before
/// any has its second, and the second round has the order of the first.
#[test]
fn the_least_recently_verified_pack_comes_first_across_runs() {
    let specimen = Specimen::of(4);
    let (all, id) = (specimen.packs(), specimen.open().id());
    let rounds = all.len() as i64;
    let mut kept = VerifiedPacks::new().encode(id);
    let mut order = Vec::new();
    for run in 1..=rounds {
        let verified = VerifiedPacks::decode(&kept, id).expect("kept as it was");
        let options = CheckOptions::new().level(CheckLevel::Packs).until(budget(2)).time_ns(run * 10);
        let report = specimen.check(&options.verified(&verified));
        assert_eq!((report.read_packs, report.unread_packs), (2, all.len() as u64 - 2));
        let mut read: Vec<_> = all.iter().filter(|id| time(&verified, id) == Some(run * 10)).copied().collect();
        assert_eq!(read.len(), 2);
        order.append(&mut read);
        kept = verified.encode(id);
    }
    assert_eq!(order.len(), 2 * all.len());
    let (first, second) = order.split_at(all.len());
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), all.len(), "every pack once");
    // Packs of one run have one time, and their names decide.
    assert_eq!(first, second);
}

fn time(verified: &VerifiedPacks, id: &PackId) -> Option<i64> {
    verified.time_ns(id, CheckLevel::Packs, i64::MAX)
}

#[test]
fn a_damaged_pack_is_not_remembered_as_read_and_a_pack_that_is_gone_not_at_all() {
    let specimen = Specimen::of(3);
    let verified = VerifiedPacks::new();
    let check =
        |time_ns| specimen.check(&CheckOptions::new().level(CheckLevel::Packs).verified(&verified).time_ns(time_ns));
    assert!(check(10).is_whole());
    let packs = of_kind(&*specimen.place, Kind::DataPack);
    let id = |name: &ObjectName| match name {
        ObjectName::Pack(_, id) => *id,
        _ => unreachable!("a pack"),
    };
    damage(&*specimen.place, &packs[0], Damage::Flip { at_percent: 10 });
    damage(&*specimen.place, &packs[1], Damage::Delete);
    assert!(!check(20).is_whole());
    assert_eq!((time(&verified, &id(&packs[0])), time(&verified, &id(&packs[1]))), (None, None));
    assert_eq!(time(&verified, &id(&packs[2])), Some(20));
    assert_eq!(verified.len(), specimen.packs().len() - 1);
}

/// Says stop as soon as something was read.
#[derive(Default)]
struct Impatient(AtomicBool);

impl Progress for Impatient {
    fn report(&self, event: Event<'_>) {
        if let Event::Bytes { .. } = event {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn what_was_read_before_an_interruption_is_remembered() {
    let specimen = Specimen::of(3);
    let verified = VerifiedPacks::new();
    let options = CheckOptions::new().level(CheckLevel::Packs).verified(&verified);
    let result = specimen.open().with_threads(1).check(&options, &Impatient::default());
    assert!(matches!(result, Err(Error::Cancelled)));
    assert_eq!(verified.len(), 1);
}

#[test]
fn a_check_of_one_snapshot_looks_at_it_and_its_packs_alone() {
    let specimen = Specimen::of(3);
    let snapshots: Vec<_> = specimen.snapshots().iter().map(Snapshot::id).collect();
    let all = specimen.packs().len() as u64;
    let of_first = specimen.check(&CheckOptions::new().read_data().snapshots([snapshots[0]]));
    assert_eq!(of_first.snapshots, 1);
    assert_eq!(of_first.read_packs, 2, "its one data pack, its one pack of metadata");
    let of_last = specimen.check(&CheckOptions::new().read_data().snapshots([snapshots[2]]));
    assert!(
        2 < of_last.read_packs && of_last.read_packs <= all,
        "the packs of the files that it has from the others too"
    );

    // The pack of the first, which all need; then that of the last, which only the last needs.
    let files = specimen.files();
    for name in of_kind(&*specimen.place, Kind::DataPack) {
        let bytes = specimen.place.get(&name, Span::All).expect("it is there");
        for how in [Damage::Delete, Damage::Truncate { keep_percent: 50 }, Damage::Flip { at_percent: 10 }] {
            damage(&*specimen.place, &name, how);
            let lost = specimen.unreadable(&files);
            for id in &snapshots {
                let expected: BTreeSet<_> = lost.iter().filter(|(snapshot, _)| snapshot == id).cloned().collect();
                for level in LEVELS {
                    let report = specimen.check(&CheckOptions::new().level(level).snapshots([*id]));
                    assert_consistent(&report);
                    let is_seen = finds(level, Kind::DataPack, how) == Some(true);
                    let expected = if is_seen { expected.clone() } else { BTreeSet::new() };
                    assert_eq!(touched(&report), expected, "{level:?} {how}");
                    assert_eq!(report.is_whole(), expected.is_empty(), "{level:?} {how}: {:?}", report.errors);
                    // What is wrong with the rest is not kept back.
                    let noted = report.notes.iter().any(|note| note.contains("do not need"));
                    let is_listed = !matches!(how, Damage::Flip { .. });
                    assert_eq!(noted, is_listed && expected.is_empty(), "{level:?} {how}: {:?}", report.notes);
                }
            }
            specimen.place.remove(&name).ok();
            specimen.place.put_new(&name, bytes.clone()).expect("it is healed");
        }
    }
}

#[test]
fn other_snapshots_objects_are_no_matter_of_a_check_of_one() {
    let specimen = Specimen::of(2);
    let snapshots: Vec<_> = specimen.snapshots().iter().map(Snapshot::id).collect();
    icecore_tests::damage::damage_both(
        &*specimen.place,
        &ObjectName::Snapshot(snapshots[0]),
        Damage::Flip { at_percent: 55 },
    );
    assert!(specimen.check(&CheckOptions::new().snapshots([snapshots[1]])).is_whole());
    let report = specimen.check(&CheckOptions::new().snapshots([snapshots[0]]));
    assert_consistent(&report);
    assert_eq!(report.damaged_snapshots, [snapshots[0]]);
    assert_eq!(report.damage[0].snapshots, [snapshots[0]]);
}

#[test]
fn options_without_meaning_are_refused() {
    let specimen = Specimen::of(1);
    let refused = |options: CheckOptions| matches!(specimen.open().check(&options, &Silent), Err(Error::Usage(_)));
    let packs = || CheckOptions::new().level(CheckLevel::Packs);
    assert!(refused(CheckOptions::new().subset(Subset::Percent(1.0))));
    assert!(refused(CheckOptions::new().until(|| true)));
    assert!(refused(packs().subset(Subset::Part { part: 0, of: 2 })));
    assert!(refused(packs().subset(Subset::Part { part: 3, of: 2 })));
    assert!(refused(packs().subset(Subset::Percent(f64::NAN))));
    assert!(refused(packs().subset(Subset::Percent(100.1))));
    assert!(refused(packs().subset(Subset::Bytes(0))));
    assert!(!refused(packs().subset(Subset::Part { part: 2, of: 2 }).until(|| true)));
    // A check that looked at nothing is none.
    let nobody = CheckOptions::new().snapshots([SnapshotId([1; 16])]);
    assert!(matches!(specimen.open().check(&nobody, &Silent), Err(Error::NoSnapshot { .. })));
}

/// An index that gives another place than the pack's own table. A reader asks the table; check takes the index at its word,
/// since it is what backups rely on, and names whose content it hides.
#[test]
fn an_index_that_a_pack_denies_is_found_when_the_pack_is_decoded() {
    let specimen = Specimen::of(1);
    let repository = specimen.open();
    let store = store::of(&repository).expect("it has chunks");
    let name = of_kind(&*specimen.place, Kind::Index)[0];
    let bytes = specimen.place.get(&name, Span::All).expect("it is there");
    let mut blocks = Vec::new();
    seal::open_index(store.keys(), &bytes, &mut |block| blocks.push(block)).expect("it is whole");
    let lying = blocks[0].chunks.iter_mut().find(|chunk| chunk.kind == ChunkKind::Data && chunk.length > 1);
    let lying = lying.expect("a chunk");
    lying.length -= 1;
    let writer = specimen.snapshots()[0].id();
    let (id, bytes) = seal::seal_index(store.keys(), writer, 1 << 20, &blocks).expect("sealed by who has the key");
    specimen.place.remove(&name).expect("it can be removed");
    specimen.place.put_new(&ObjectName::Index(id), bytes).expect("memory takes it");
    assert!(specimen.check(&CheckOptions::new().level(CheckLevel::Names)).is_whole());
    let report = specimen.check(&CheckOptions::new().read_data());
    assert_consistent(&report);
    assert!(report.errors.iter().any(|error| error.to_string().contains("denies")), "{:?}", report.errors);
    assert!(!report.damaged_snapshots.is_empty(), "what the index hides is as good as lost");
}

/// A place of which one object cannot be read: a bad sector.
#[derive(Debug, Default)]
struct BadSector {
    inner: Memory,
    bad: Mutex<Option<ObjectName>>,
}

impl Backend for BadSector {
    fn place(&self) -> String {
        "a disk with a bad sector".into()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        self.inner.prepare()
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        self.inner.put_new(name, bytes)
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        if *self.bad.lock().expect("nobody panics") == Some(*name) {
            return Err(BackendError::io("reading", name, io::Error::from_raw_os_error(5)));
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

/// A disk that is going bad is what a check is for: it must not end at the first sector.
#[test]
fn a_pack_that_cannot_be_read_is_damage_like_any_other() {
    let whole = Specimen::of(2);
    let place = Arc::new(BadSector::default());
    for name in icecore_tests::damage::objects(&*whole.place) {
        place.inner.put_new(&name, whole.place.get(&name, Span::All).expect("it is there")).expect("memory takes it");
    }
    for kind in [Kind::DataPack, Kind::MetaPack] {
        let bad = of_kind(&place.inner, kind)[0];
        *place.bad.lock().expect("nobody panics") = Some(bad);
        let repository = Repository::open(place.clone(), &whole.secret).expect("it opens");
        let report = repository.check(&CheckOptions::new().read_data(), &Ears::default()).expect("it goes on");
        assert_consistent(&report);
        assert!(report.errors.iter().any(|error| error.to_string().contains(&bad.to_string())), "{:?}", report.errors);
        assert_eq!(report.read_packs, whole.packs().len() as u64, "all the others were read");
        assert!(!report.damaged_snapshots.is_empty());
    }
}
