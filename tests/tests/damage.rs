//! Damage of every sort to every kind of object, and what check, restore and backup make of it: check names the object,
//! restore brings back what is whole and names the rest, backup mends or refuses clearly. Never a panic, never a wrong
//! byte, and never a word about what is not damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use icecore_tests::bench::{Bench, Ears, options, published};
use icecore_tests::compare::{Compared, Portrait, assert_same, portrait};
use icecore_tests::damage::{Damage, Kind, damage, damage_both, of_kind, second_copy};
use icecore_tests::tree::Dice;
use repo_core::{
    Backend, CheckOptions, Error, InitOptions, LocalTree, LocalTreeOptions, Memory, Mode, ObjectName, Put, Repository,
    RestoreOptions, Result, Secret, Selector, Snapshot, SnapshotFilter, SnapshotId, Source, SourceDirectory, Span,
};
use tempfile::TempDir;

/// A repository with two snapshots, one session that was cut off, and what its trees were.
struct Specimen {
    room: TempDir,
    objects: Vec<(ObjectName, Vec<u8>)>,
    snapshots: [Snapshot; 2],
    trees: [Portrait; 2],
}

/// A copy of it, to be damaged.
struct Patient {
    specimen: &'static Specimen,
    place: Arc<Memory>,
    room: TempDir,
}

/// What a restore brought.
#[derive(Debug)]
struct Brought {
    error: Option<String>,
    problems: Vec<String>,
    /// What differs from the tree that was backed up.
    differences: Vec<String>,
    /// What differs, and no problem named it.
    unexplained: Vec<String>,
}

fn secret() -> Secret {
    Secret::Key([42; 32].into())
}

fn specimen() -> &'static Specimen {
    static SPECIMEN: OnceLock<Specimen> = OnceLock::new();
    SPECIMEN.get_or_init(|| {
        let room = tempfile::tempdir().expect("a temporary directory");
        let source = room.path().join("source");
        let mut dice = Dice::new(77);
        let write = |path: &str, content: Vec<u8>| {
            let path = source.join(path);
            fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("directories can be made");
            fs::write(path, content).expect("a file can be written");
        };
        for number in 0..40 {
            write(&format!("texts/of/some/{number:02}"), dice.text(9000 + 500 * number));
            write(&format!("noise/{number:02}"), dice.bytes(20_000 + 700 * number));
        }
        write("large", dice.bytes(3 << 20));
        write("inline", dice.bytes(300));
        let place = Arc::new(Memory::default());
        let repository = Repository::init(place.clone(), &secret(), &InitOptions::default().parity_percent(2))
            .expect("it can be made");
        let backup = || {
            let source = WithSession { inner: tree_of(&source), place: place.clone(), seen: OnceLock::new() };
            let report = repository.backup(&source, &options(Mode::Incremental), &Ears::default()).expect("backed up");
            (published(&report).clone(), source.seen.into_inner().expect("a session was registered"))
        };
        let (first, session) = backup();
        let before = portrait(&source).expect("a tree can be looked at");
        write("texts/of/some/07", dice.text(12_000));
        write("added", dice.bytes(200_000));
        let (second, _) = backup();
        let after = portrait(&source).expect("a tree can be looked at");
        let mut objects = vec![session];
        objects.extend(all_objects(&*place));
        Specimen { room, objects, snapshots: [first, second], trees: [before, after] }
    })
}

fn tree_of(source: &Path) -> LocalTree {
    LocalTree::new(&[source.to_owned()], LocalTreeOptions::default()).expect("the source is there")
}

fn all_objects(place: &dyn Backend) -> Vec<(ObjectName, Vec<u8>)> {
    let names = icecore_tests::damage::objects(place);
    let read = |name| (name, place.get(&name, Span::All).expect("what is listed can be read").to_vec());
    names.into_iter().map(read).collect()
}

/// A source that keeps a copy of the session object that a backup has while it runs: what a crash leaves behind.
struct WithSession {
    inner: LocalTree,
    place: Arc<Memory>,
    seen: OnceLock<(ObjectName, Vec<u8>)>,
}

impl Source for WithSession {
    fn root(&self) -> std::io::Result<Arc<dyn SourceDirectory>> {
        if let Some(name) = of_kind(&*self.place, Kind::Session).first() {
            let bytes = self.place.get(name, Span::All).expect("it was listed").to_vec();
            self.seen.get_or_init(|| (*name, bytes));
        }
        self.inner.root()
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        self.inner.paths()
    }
}

impl Patient {
    fn new() -> Self {
        let specimen = specimen();
        let place = Arc::new(Memory::default());
        place.prepare().expect("a place in memory is always ready");
        for (name, bytes) in &specimen.objects {
            assert_eq!(place.put_new(name, bytes.clone().into()).expect("memory takes it"), Put::Created);
        }
        Self { specimen, place, room: tempfile::tempdir().expect("a temporary directory") }
    }

    fn source(&self) -> PathBuf {
        self.specimen.room.path().join("source")
    }

    fn open(&self) -> Result<Repository> {
        Repository::open(self.place.clone(), &secret())
    }

    /// What a check says is wrong, each in words; a repository that does not open says it at once.
    fn check(&self) -> Vec<String> {
        let options = CheckOptions::new().read_data();
        match self.open().and_then(|repository| repository.check(&options, &Ears::default())) {
            Ok(report) => report.errors.iter().map(|error| sane(error).to_string()).collect(),
            Err(error) => vec![sane(&error).to_string()],
        }
    }

    /// Restores the first or second snapshot of the specimen, and compares.
    fn restore(&self, which: usize) -> Brought {
        let id = Selector::Id(self.specimen.snapshots[which].id().to_string());
        self.restore_tree(&id, &self.specimen.trees[which])
    }

    fn restore_tree(&self, snapshot: &Selector, tree: &Portrait) -> Brought {
        let target = tempfile::tempdir_in(self.room.path()).expect("a temporary directory");
        let source = self.source();
        let mut options = RestoreOptions::default();
        options.subpath = source.as_os_str().as_encoded_bytes().to_vec();
        let heard = Ears::default();
        let outcome = self.open().and_then(|repository| {
            let snapshot = repository.snapshot(snapshot, &SnapshotFilter::default())?;
            repository.restore(&snapshot, target.path(), &options, &heard)
        });
        let after = portrait(target.path()).expect("a tree can be looked at");
        let problems = heard.problem_paths();
        let named = |path: &[u8]| {
            let whole = [b"/", path].concat(); // below what was restored
            problems.iter().any(|problem| {
                whole == *problem || (whole.starts_with(problem) && whole[problem.len()..].starts_with(b"/"))
            })
        };
        let (mut differences, mut unexplained) = (Vec::new(), Vec::new());
        for (path, difference) in tree.differing(&after, Compared { root: false, ..Compared::default() }) {
            let words = format!("{}: {difference}", icecore_tests::compare::shown(&path));
            if !named(&path) {
                unexplained.push(words.clone());
            }
            differences.push(words);
        }
        if let Ok(report) = &outcome {
            assert_eq!(report.problems as usize, heard.problems().len(), "every problem told is counted");
        }
        let error = outcome.err().map(|error| sane(&error).to_string());
        Brought { error, problems: heard.problems(), differences, unexplained }
    }

    /// Backs up the source again, as it is now: as it was at the second snapshot. Then restores that.
    fn backup(&self) -> Result<Brought, String> {
        let heard = Ears::default();
        let source = tree_of(&self.source());
        let backup = |repository: Repository| repository.backup(&source, &options(Mode::Incremental), &heard);
        let report = self.open().and_then(backup).map_err(|error| sane(&error).to_string())?;
        assert_eq!(heard.problems(), Vec::<String>::new(), "nothing is wrong with the source");
        let id = Selector::Id(published(&report).id().to_string());
        Ok(self.restore_tree(&id, &self.specimen.trees[1]))
    }
}

impl Brought {
    fn is_whole(&self) -> bool {
        self.error.is_none() && self.problems.is_empty() && self.differences.is_empty()
    }

    /// Whole, or every difference is explained: by an error for all, or by a problem for each.
    fn is_honest(&self) -> bool {
        match (&self.error, self.problems.as_slice()) {
            (Some(_), _) => true,
            (None, []) => self.differences.is_empty(),
            (None, _) => self.unexplained.is_empty() && !self.differences.is_empty(),
        }
    }
}

/// No error may be a bug of the library.
fn sane(error: &Error) -> &Error {
    assert!(!matches!(error, Error::Bug(_)), "{error}");
    error
}

/// One cell of the matrix: what is damaged, and how.
#[derive(Clone, Copy)]
struct Case {
    kind: Kind,
    how: Damage,
    /// The second copy too.
    both: bool,
}

impl Case {
    /// Nothing can be opened any more.
    fn is_fatal(self) -> bool {
        self.both && matches!(self.kind, Kind::Format | Kind::KeySlot | Kind::Keyring | Kind::Config)
    }

    fn is_pack(self) -> bool {
        matches!(self.kind, Kind::DataPack | Kind::MetaPack)
    }

    /// What leaves no trace: an index, made again from the packs; a session; parity, but for a note; a snapshot with both
    /// its copies.
    fn is_silent(self) -> bool {
        let kind = matches!(self.kind, Kind::Index | Kind::Session | Kind::Parity)
            || (self.kind == Kind::Snapshot && self.both);
        self.how == Damage::Delete && kind
    }

    /// What the errors must say.
    fn words(self, name: &ObjectName) -> String {
        match (self.kind, self.both, self.how) {
            (Kind::Format, true, Damage::Delete) => "no repository".to_owned(),
            (Kind::KeySlot, true, Damage::Delete) => "none of 0 key slots".to_owned(),
            _ => name.to_string(),
        }
    }

    fn test(self, which: usize) {
        let Self { kind, how, both } = self;
        let patient = Patient::new();
        let name = of_kind(&*patient.place, kind)[which];
        let case = format!("{name} {how}{}", if both { ", both copies" } else { "" });
        if both {
            damage_both(&*patient.place, &name, how)
        } else {
            damage(&*patient.place, &name, how)
        }

        let found = patient.check();
        if self.is_silent() {
            assert_eq!(found, Vec::<String>::new(), "{case}: check");
        } else {
            assert!(found.iter().any(|error| error.contains(&self.words(&name))), "{case}: check found {found:#?}");
            let others = found.iter().filter(|error| !error.contains(&self.words(&name)));
            let others: Vec<_> = others.filter(|error| !(self.is_pack() && error.starts_with("chunk "))).collect();
            assert!(others.is_empty(), "{case}: check names what is whole: {others:#?}");
        }

        for snapshot in [0, 1] {
            let brought = patient.restore(snapshot);
            let is_its_own = kind == Kind::Snapshot && both && name == ObjectName::Snapshot(id_of(snapshot));
            if self.is_fatal() {
                assert!(brought.error.as_ref().is_some_and(|error| error.contains(&self.words(&name))), "{case}");
            } else if is_its_own {
                let error = brought.error.unwrap_or_default();
                assert!(error.contains("no snapshot") || error.contains(&name.to_string()), "{case}: {error}");
            } else if self.is_pack() {
                assert!(brought.is_honest(), "{case}: restore {snapshot}: {brought:#?}");
            } else {
                assert!(brought.is_whole(), "{case}: restore {snapshot}: {brought:#?}");
            }
        }

        match patient.backup() {
            Err(error) => {
                assert!(self.is_fatal() && error.contains(&self.words(&name)), "{case}: backup refuses: {error}");
            }
            Ok(brought) => {
                assert!(!self.is_fatal(), "{case}: a backup without keys or parameters");
                // A bit that turned inside a pack is not seen by a backup that has no need to read it.
                let is_hidden = self.is_pack() && matches!(how, Damage::Flip { .. });
                let is_good = if is_hidden { brought.is_honest() } else { brought.is_whole() };
                assert!(is_good, "{case}: what was backed up after it: {brought:#?}");
            }
        }
    }
}

fn id_of(snapshot: usize) -> SnapshotId {
    specimen().snapshots[snapshot].id()
}

fn matrix(kind: Kind) {
    for how in Damage::ALL {
        Case { kind, how, both: false }.test(0);
        if kind.is_doubled() {
            Case { kind, how, both: true }.test(0);
        }
    }
}

#[test]
fn a_damaged_format_object() {
    matrix(Kind::Format);
}

#[test]
fn a_damaged_key_slot() {
    matrix(Kind::KeySlot);
}

#[test]
fn a_damaged_keyring() {
    matrix(Kind::Keyring);
}

#[test]
fn a_damaged_config() {
    matrix(Kind::Config);
}

#[test]
fn a_damaged_data_pack() {
    matrix(Kind::DataPack);
}

#[test]
fn a_damaged_pack_of_metadata() {
    matrix(Kind::MetaPack);
}

#[test]
fn a_damaged_index() {
    matrix(Kind::Index);
}

#[test]
fn a_damaged_snapshot() {
    matrix(Kind::Snapshot);
}

#[test]
fn a_damaged_session() {
    matrix(Kind::Session);
}

#[test]
fn a_damaged_parity_object() {
    matrix(Kind::Parity);
}

#[test]
fn the_specimen_has_everything_and_is_whole() {
    let patient = Patient::new();
    for kind in Kind::ALL {
        assert!(!of_kind(&*patient.place, kind).is_empty(), "there is no {kind:?} to damage");
    }
    assert_eq!(patient.check(), Vec::<String>::new());
    assert!(patient.restore(0).is_whole() && patient.restore(1).is_whole());
    assert!(patient.backup().expect("a backup is made").is_whole());
}

#[test]
fn a_damaged_second_copy_is_named_and_harms_nothing() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_doubled()) {
        for how in Damage::ALL {
            let patient = Patient::new();
            // The newest: of the first snapshot a session is left, so its second copy might be on its way.
            let copy = second_copy(of_kind(&*patient.place, kind).last().expect("one")).expect("it is kept twice");
            damage(&*patient.place, &copy, how);
            let found = patient.check();
            assert!(found.len() == 1 && found[0].contains(&copy.to_string()), "{copy} {how}: {found:#?}");
            assert!(patient.restore(0).is_whole() && patient.restore(1).is_whole(), "{copy} {how}");
            assert!(patient.backup().expect("a backup is made").is_whole(), "{copy} {how}");
        }
    }
}

#[test]
fn each_pack_in_turn_may_be_lost_and_the_next_backup_makes_it_good() {
    for kind in [Kind::DataPack, Kind::MetaPack] {
        let count = of_kind(&*Patient::new().place, kind).len();
        assert!(count > 1, "two backups made two packs of {kind:?} at least");
        (0..count).for_each(|which| Case { kind, how: Damage::Delete, both: false }.test(which));
    }
}

#[test]
fn all_indexes_may_be_lost_at_once() {
    let patient = Patient::new();
    for name in of_kind(&*patient.place, Kind::Index) {
        damage(&*patient.place, &name, Damage::Delete);
    }
    assert_eq!(patient.check(), Vec::<String>::new());
    assert!(patient.restore(0).is_whole() && patient.restore(1).is_whole());
    assert!(patient.backup().expect("a backup is made").is_whole());
    assert!(!of_kind(&*patient.place, Kind::Index).is_empty(), "the backup wrote them anew");
}

/// Chunks that are stored are not uploaded again, and that this one is damaged shows only where the parent is read. There
/// the backup must say so, and store again what the damaged pack holds of it: a hole is not inherited.
#[test]
fn a_backup_that_meets_a_damaged_tree_of_its_parent_says_so_and_mends_it() {
    let patient = Patient::new();
    let name = of_kind(&*patient.place, Kind::MetaPack)[0];
    damage(&*patient.place, &name, Damage::Flip { at_percent: 10 });
    let heard = Ears::default();
    let source = tree_of(&patient.source());
    let repository = patient.open().expect("it opens");
    repository.backup(&source, &options(Mode::Incremental), &heard).expect("a backup is made");
    let notes = heard.notes.into_inner().expect("no listener panics");
    assert!(notes.iter().any(|note| note.contains(&name.to_string())), "{notes:?}");
    assert!(patient.backup().expect("a backup is made").is_whole());
}

/// What a person can do about a damaged pack without any further verb: take away what check named, and back up.
#[test]
fn taking_away_what_check_named_lets_the_next_backup_mend_it() {
    for kind in [Kind::DataPack, Kind::MetaPack] {
        for at_percent in [0, 10, 55, 100] {
            let patient = Patient::new();
            let name = of_kind(&*patient.place, kind)[0];
            damage(&*patient.place, &name, Damage::Flip { at_percent });
            let found = patient.check();
            let is_named = |name: &ObjectName| found.iter().any(|error| error.starts_with(&name.to_string()));
            let named: Vec<_> = of_kind(&*patient.place, kind).into_iter().filter(is_named).collect();
            assert_eq!(named, [name]);
            patient.place.remove(&name).expect("it can be removed");
            assert!(patient.backup().expect("a backup is made").is_whole(), "{kind:?} at {at_percent} %");
        }
    }
}

/// The same through a directory's own listing, sizes and reads.
#[test]
fn a_truncated_pack_in_a_directory_is_named_and_made_good() {
    let bench = Bench::new();
    bench.write("file", Dice::new(8).bytes(300_000));
    let first = bench.backup();
    let pack = bench.damage(Kind::DataPack, Damage::Truncate { keep_percent: 50 });
    let found = bench.check().errors;
    assert!(found.iter().any(|error| error.to_string().contains(&pack.to_string())), "{found:?}");
    let restored = bench.try_restore(published(&first)).expect("a restore goes on");
    assert!(restored.heard.problems().iter().any(|problem| problem.contains("/file")), "{restored:?}");
    let again = bench.backup();
    let restored = bench.restore(published(&again));
    assert_same(&bench.source(), &restored.tree, restored.compared);
}
