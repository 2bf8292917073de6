//! Every call that a verb makes to its place goes wrong once, in every way in which such a call can: the verb ends, says so or
//! has done its work, every snapshot that was there is still there and comes back byte for byte, check finds no damage, and the
//! verb run again ends where an undisturbed run does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use icecore_tests::damage::{self, Damage, Kind};
use icecore_tests::faulty::{self, Call, Fault, Faulty, Objects};
use icecore_tests::simulate::Letters;
use icecore_tests::simulate::scenes::{self, Window};
use icecore_tests::whole::{self, in_words};
use repo_core::{
    CopyOptions, Corruption, CrossOptions, Error, ForgetOptions, InitOptions, MirrorOptions, ObjectName, PackKind,
    ParityOptions, PasswordCost, Patterns, PruneOptions, RecoverOptions, RepairIndexOptions, RepairPacksOptions,
    RepairSnapshotsOptions, Repository, Result, RewriteOptions, Secret, Silent, Snapshot, SnapshotFilter, SnapshotId,
    TagOptions, cross_check, mirror,
};

/// More calls than this are tried in steps, so that about as many remain.
const CALLS_MAX: usize = 300;
/// No case works for so long; one that does hangs.
const HANGS_AFTER: Duration = Duration::from_secs(120);

/// Two places of which the second is the target of copies and mirrors, or the other half of a pair.
type Places = [Arc<Faulty>; 2];

/// What a verb is tried on, and what it may change.
#[derive(Clone, Copy)]
struct Verb {
    name: &'static str,
    /// What is there before.
    start: fn() -> [Objects; 2],
    run: fn(&Places) -> Result<()>,
    /// Which of the two places fails.
    fails: usize,
    /// Hosts whose snapshots the verb may take out of sight.
    hides: &'static [&'static str],
    /// Hosts whose snapshots have lost content before it began.
    broken: &'static [&'static str],
    /// There is damage before it began: check is clean after the verb has done its work, and not before.
    mends: bool,
    /// It removes or publishes something on the ground that what it wrote is durable: on a place whose syncs lie nothing is
    /// promised.
    trusts_syncs: bool,
}

const VERB: Verb = Verb {
    name: "",
    start: base,
    run: |_| Ok(()),
    fails: 0,
    hides: &[],
    broken: &[],
    mends: false,
    trusts_syncs: false,
};

// ---- What is there before

/// Does something to a repository in memory, as a process of this number.
fn then(objects: Objects, process: u8, change: impl FnOnce(&Repository)) -> Objects {
    let place = Faulty::new(objects, None);
    let _stay = faulty::enter(process);
    change(&whole::open_on(place.clone()));
    place.objects()
}

fn new_repository(process: u8, parity_percent: u8) -> Objects {
    let place = Faulty::new(Objects::new(), None);
    let _stay = faulty::enter(process);
    let options = InitOptions::default().parity_percent(parity_percent);
    Repository::init(place.clone(), &whole::secret(), &options).expect("an empty place");
    place.objects()
}

fn back_up_all(repository: &Repository, hosts: &[&str]) {
    for host in hosts {
        scenes::back_up(repository, host, host).expect("a backup that is alone");
    }
}

fn forget_host(repository: &Repository, host: &str, window: Window) {
    scenes::forget_host(repository, host, window).expect("memory writes");
}

/// Snapshots whose hosts are called as their files: two that share a file, and one that was forgotten.
fn base() -> [Objects; 2] {
    let objects = then(new_repository(1, 10), 2, |repository| {
        back_up_all(repository, &["ab", "ac", "cd"]);
        forget_host(repository, "cd", Window::Open);
    });
    [objects, Objects::new()]
}

/// The same without parity.
fn without_parity() -> [Objects; 2] {
    let objects = then(new_repository(1, 0), 2, |repository| {
        back_up_all(repository, &["ab", "ac", "cd"]);
        forget_host(repository, "cd", Window::Open);
    });
    [objects, Objects::new()]
}

/// One snapshot is to go with all that is its own, and of another's pack one half is needed.
fn reclaimable() -> [Objects; 2] {
    let [objects, other] = base();
    let objects = then(objects, 3, |repository| {
        back_up_all(repository, &["ef", "eg"]);
        forget_host(repository, "ab", Window::Over);
        forget_host(repository, "ef", Window::Over);
    });
    [objects, other]
}

/// A second repository, in which one of the first's snapshots is already.
fn with_target() -> [Objects; 2] {
    let [objects, _] = base();
    let target = new_repository(4, 0);
    let _stay = faulty::enter(5);
    let places = [Faulty::new(objects, None), Faulty::new(target, None)];
    copy(&places, "ab").expect("a copy that is alone");
    places.map(|place| place.objects())
}

/// A mirror that is behind: since it was made a snapshot came and one went.
fn with_mirror() -> [Objects; 2] {
    let [objects, _] = reclaimable();
    let places = [Faulty::new(objects, None), Faulty::new(Objects::new(), None)];
    mirror_all(&places).expect("a mirror that is alone");
    let [objects, mirrored] = places.map(|place| place.objects());
    let objects = then(objects, 6, |repository| {
        repository.prune(&scenes::thorough(), &Silent).expect("a prune that is alone");
        back_up_all(repository, &["ah"]);
    });
    [objects, mirrored]
}

/// A pair of which each has damage that the other has not.
fn damaged_pair() -> [Objects; 2] {
    let [objects, _] = base();
    let places = [Faulty::new(objects, None), Faulty::new(Objects::new(), None)];
    mirror_all(&places).expect("a mirror that is alone");
    let packs = damage::of_kind(&*places[0], Kind::DataPack);
    damage::damage(&*places[0], &packs[0], FLIP);
    damage::damage(&*places[1], &packs[1], FLIP);
    let index = damage::of_kind(&*places[0], Kind::Index)[0];
    damage::damage(&*places[0], &index, FLIP);
    damage::damage(&*places[1], &damage::of_kind(&*places[0], Kind::Config)[0], FLIP);
    places.map(|place| place.objects())
}

const FLIP: Damage = Damage::Flip { at_percent: 40 };

fn damaged(start: [Objects; 2], change: impl FnOnce(&Faulty)) -> [Objects; 2] {
    let [objects, other] = start;
    let place = Faulty::new(objects, None);
    change(&place);
    [place.objects(), other]
}

fn without_index() -> [Objects; 2] {
    damaged(base(), |place| {
        let objects = damage::of_kind(place, Kind::Index);
        damage::damage(place, &objects[0], FLIP);
        damage::damage(place, &objects[1], Damage::Delete);
    })
}

fn without_copies() -> [Objects; 2] {
    damaged(base(), |place| {
        let snapshots = damage::of_kind(place, Kind::Snapshot);
        damage::damage(place, &snapshots[0], Damage::Delete);
        damage::damage(place, &damage::second_copy(&snapshots[1]).expect("it has one"), FLIP);
        damage::damage(place, &damage::of_kind(place, Kind::Config)[0], FLIP);
    })
}

fn with_damaged_packs() -> [Objects; 2] {
    damaged(base(), |place| {
        damage::damage(place, &damage::of_kind(place, Kind::DataPack)[0], FLIP);
        damage::damage(place, &damage::of_kind(place, Kind::MetaPack)[0], FLIP);
    })
}

/// Tables are damaged, and there is no parity: what is in the packs is read by the index.
fn with_damaged_tables() -> [Objects; 2] {
    damaged(without_parity(), |place| {
        for kind in [Kind::DataPack, Kind::MetaPack] {
            damage::damage(place, &damage::of_kind(place, kind)[0], Damage::Flip { at_percent: 100 });
        }
    })
}

/// The only pack of a file is gone.
fn with_losses() -> [Objects; 2] {
    let [objects, other] = without_parity();
    let before: BTreeSet<_> = objects.keys().copied().collect();
    let objects = then(objects, 3, |repository| back_up_all(repository, &["cx"]));
    let is_new = |name: &&ObjectName| matches!(name, ObjectName::Pack(PackKind::Data, _)) && !before.contains(*name);
    let lost = *objects.keys().find(is_new).expect("its own file is in a pack of its own");
    damaged([objects, other], |place| damage::damage(place, &lost, Damage::Delete))
}

/// One snapshot is gone, and its data is there.
fn without_a_snapshot() -> [Objects; 2] {
    damaged(base(), |place| {
        let snapshot = damage::of_kind(place, Kind::Snapshot)[0];
        damage::damage(place, &damage::second_copy(&snapshot).expect("it has one"), Damage::Delete);
        damage::damage(place, &snapshot, Damage::Delete);
    })
}

fn with_a_second_key() -> [Objects; 2] {
    let [objects, other] = base();
    let add = |repository: &Repository| _ = repository.add_key(&key(2), SECOND, PasswordCost::Default).expect("added");
    [then(objects, 3, add), other]
}

// ---- What is done

fn open(place: &Arc<Faulty>) -> Result<Repository> {
    Ok(Repository::open(place.clone(), &whole::secret())?.with_threads(1))
}

fn init(places: &Places) -> Result<()> {
    match Repository::init(places[0].clone(), &whole::secret(), &InitOptions::default()) {
        Ok(_) | Err(Error::RepositoryExists { .. }) => open(&places[0]).map(drop),
        Err(error) => Err(error),
    }
}

fn back_up(places: &Places) -> Result<()> {
    scenes::back_up(&open(&places[0])?, "bcx", "bcx")
}

fn forget(places: &Places) -> Result<()> {
    let repository = open(&places[0])?;
    let options = ForgetOptions::new().filter(SnapshotFilter::new().host("ab")).remove_all();
    let plan = repository.plan_forget(&options, &Silent)?;
    let report = repository.forget(&plan, &Silent)?;
    report.failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

fn undelete(places: &Places) -> Result<()> {
    let repository = open(&places[0])?;
    for one in repository.forgotten()? {
        repository.undelete(&one.snapshot.id().to_string(), &Silent)?;
    }
    Ok(())
}

fn tag(places: &Places) -> Result<()> {
    let repository = open(&places[0])?;
    let snapshots = repository.snapshots(&SnapshotFilter::new().host("ab"))?.snapshots;
    let report = repository.tag(&snapshots, &TagOptions::new().add_tag("tagged"), &Silent)?;
    report.failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// Of `ab` the first file is left out; what is left is called after it.
fn rewrite(places: &Places) -> Result<()> {
    let repository = open(&places[0])?;
    let snapshots = repository.snapshots(&SnapshotFilter::new().host("ab"))?.snapshots;
    let mut left_out = Patterns::new();
    left_out.add("/a", false).expect("a pattern");
    let options = RewriteOptions::new().exclude(left_out).host("b").forget();
    let report = repository.rewrite(&snapshots, &options, &Silent)?;
    report.failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

fn recover(places: &Places) -> Result<()> {
    let report = open(&places[0])?.recover(&RecoverOptions::new(), &Silent)?;
    report.unreadable.into_iter().next().map_or(Ok(()), Err)
}

fn prune_with(places: &Places, options: &PruneOptions) -> Result<()> {
    open(&places[0])?.prune(options, &Silent).map(drop)
}

fn repair_index(places: &Places) -> Result<()> {
    open(&places[0])?.repair_index(&RepairIndexOptions::new(), &Silent).map(drop)
}

fn repair_objects(places: &Places) -> Result<()> {
    open(&places[0])?.repair_objects(false, &Silent).map(drop)
}

fn repair_packs(places: &Places) -> Result<()> {
    open(&places[0])?.repair_packs(&RepairPacksOptions::new(), &Silent).map(drop)
}

fn repair_snapshots(places: &Places) -> Result<()> {
    let options = RepairSnapshotsOptions::new().forget();
    open(&places[0])?.repair_snapshots(&options, &Silent).map(drop)
}

fn repair_parity(places: &Places) -> Result<()> {
    open(&places[0])?.repair_parity(&ParityOptions::new().percent(30), &Silent).map(drop)
}

fn copy(places: &Places, host: &str) -> Result<()> {
    let (source, target) = (open(&places[0])?, open(&places[1])?);
    let filter = if host.is_empty() { SnapshotFilter::new() } else { SnapshotFilter::new().host(host) };
    let snapshots = source.snapshots(&filter)?.snapshots;
    let report = source.copy_to(&[&target], &snapshots, &CopyOptions::new(), &Silent)?;
    match report.damaged.is_empty() {
        true => Ok(()),
        false => Err(Error::Malformed("the source is damaged")),
    }
}

fn mirror_all(places: &Places) -> Result<()> {
    mirror(&*places[0], &*places[1], &MirrorOptions::new().delete().threads(1), &Silent).map(drop)
}

fn cross(places: &Places) -> Result<()> {
    let mut options = CrossOptions::new();
    options.threads = 1;
    cross_check(&*places[0], &*places[1], &options, &Silent).map(drop)
}

const SECOND: &str = "the second";

fn key(seed: u8) -> Secret {
    Secret::Key([seed; 32].into())
}

/// With the first key, or the one that came instead.
fn open_with_any(place: &Arc<Faulty>) -> Result<Repository> {
    match Repository::open(place.clone(), &whole::secret()) {
        Err(Error::WrongSecret { .. } | Error::Revoked) => {
            Ok(Repository::open(place.clone(), &key(3))?.with_threads(1))
        }
        other => Ok(other?.with_threads(1)),
    }
}

fn add_key(places: &Places) -> Result<()> {
    open(&places[0])?.add_key(&key(2), SECOND, PasswordCost::Default).map(drop)
}

fn remove_key(places: &Places) -> Result<()> {
    let repository = open(&places[0])?;
    let second = repository.keys()?.into_iter().find(|key| key.label == SECOND);
    second.map_or(Ok(()), |second| repository.remove_key(second.slot))
}

fn change_key(places: &Places) -> Result<()> {
    match Repository::open(places[0].clone(), &key(3)) {
        Ok(_) => Ok(()),
        Err(Error::WrongSecret { .. } | Error::Revoked) => {
            open(&places[0])?.change_key(&key(3), PasswordCost::Default).map(drop)
        }
        Err(error) => Err(error),
    }
}

// ---- What must be true

/// What a place has to show: hosts and tags of snapshots, hosts of the forgotten, labels of keys.
type View = (BTreeSet<(String, Vec<String>)>, BTreeSet<String>, BTreeSet<String>);

/// Every snapshot that is shown, by its id.
type Shown = BTreeMap<SnapshotId, String>;

fn open_to_look(place: &Arc<Faulty>) -> std::result::Result<Option<Repository>, String> {
    match open_with_any(place) {
        Ok(repository) => Ok(Some(repository)),
        Err(Error::NoRepository { .. }) => Ok(None),
        Err(error) => Err(format!("it does not open: {error}")),
    }
}

fn shown(place: &Arc<Faulty>) -> std::result::Result<Option<Shown>, String> {
    let Some(repository) = open_to_look(place)? else { return Ok(None) };
    let list = repository.snapshots(&SnapshotFilter::new()).map_err(in_words("listing"))?;
    if let Some(error) = list.unreadable.first() {
        return Err(format!("a snapshot cannot be read: {error}"));
    }
    Ok(Some(list.snapshots.iter().map(|snapshot| (snapshot.id(), snapshot.record().host.clone())).collect()))
}

fn view(place: &Arc<Faulty>) -> std::result::Result<Option<View>, String> {
    let Some(repository) = open_to_look(place)? else { return Ok(None) };
    let list = repository.snapshots(&SnapshotFilter::new()).map_err(in_words("listing"))?.snapshots;
    let tagged = |snapshot: &Snapshot| (snapshot.record().host.clone(), snapshot.record().tags.clone());
    let forgotten = repository.forgotten().map_err(in_words("listing"))?;
    let keys = repository.keys().map_err(in_words("keys"))?;
    Ok(Some((
        list.iter().map(tagged).collect(),
        forgotten.into_iter().map(|one| one.snapshot.record().host.clone()).collect(),
        keys.into_iter().map(|key| key.label).collect(),
    )))
}

/// Whether the files are there that the snapshot's host is called after, and no others.
fn reads_back(repository: &Repository, snapshot: &Snapshot) -> std::result::Result<(), String> {
    let host = &snapshot.record().host;
    let wrong = |what: String| Err(format!("{} of {host}: {what}", snapshot.id().short()));
    if snapshot.record().summary.processed_files != host.len() as u64 {
        return wrong(format!("{} files", snapshot.record().summary.processed_files));
    }
    for letter in host.bytes() {
        let mut bytes = Vec::new();
        let read = repository
            .read(snapshot, &[b'/', letter])
            .and_then(|mut file| file.read_to_end(&mut bytes).map_err(Error::Stream));
        match read {
            Err(error) => return wrong(format!("{}: {error}", char::from(letter))),
            Ok(_) if bytes != Letters::content(letter) => return wrong("other bytes came back".into()),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// How much must be true.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// What was there before comes back.
    Old,
    /// And so does what is new, and check finds no damage but that one of two copies may be missing, until a repair.
    Sound,
}

/// What must be true of a place.
fn judge(
    verb: &Verb,
    place: &Arc<Faulty>,
    before: Option<&Shown>,
    strictness: Strictness,
    is_mended: bool,
) -> std::result::Result<(), String> {
    let Some(repository) = open_to_look(place)? else {
        return if before.is_some() { Err("the repository is gone".into()) } else { Ok(()) };
    };
    let list = repository.snapshots(&SnapshotFilter::new()).map_err(in_words("listing"))?;
    if let Some(error) = list.unreadable.first() {
        return Err(format!("a snapshot cannot be read: {error}"));
    }
    let is_shown = |id: &SnapshotId| list.snapshots.iter().any(|snapshot| snapshot.id() == *id);
    for (id, host) in before.into_iter().flatten() {
        if !is_shown(id) && !verb.hides.contains(&host.as_str()) {
            return Err(format!("{} of {host} is gone", id.short()));
        }
    }
    let is_old = |snapshot: &Snapshot| before.is_some_and(|before| before.contains_key(&snapshot.id()));
    let forgotten = repository.forgotten().map_err(in_words("listing"))?;
    let held = forgotten.iter().filter(|one| one.purge_after_ms == u64::MAX).map(|one| &one.snapshot);
    for snapshot in list.snapshots.iter().filter(|one| strictness == Strictness::Sound || is_old(one)).chain(held) {
        if !verb.broken.contains(&snapshot.record().host.as_str()) {
            reads_back(&repository, snapshot)?;
        }
    }
    if strictness == Strictness::Old || verb.mends && !is_mended || !verb.broken.is_empty() {
        return Ok(());
    }
    let report = whole::check(&repository)?;
    let is_missing_copy = |error: &&Error| {
        let Error::Corrupt { object, problem: Corruption::Missing } = error else { return false };
        matches!(object, ObjectName::SecondCopy(_)) || damage::second_copy(object).is_some()
    };
    if let Some(error) = report.errors.iter().find(|error| !is_missing_copy(error)) {
        return Err(format!("check found: {error}"));
    }
    if report.errors.is_empty() || !is_mended {
        return Ok(());
    }
    // Whoever was cut off between two copies leaves that to a repair.
    repository.repair_objects(false, &Silent).map_err(in_words("repair of small objects"))?;
    whole::is_whole(&repository)
}

/// Whether check finds something if a snapshot does not come back.
fn is_honest(verb: &Verb, place: &Arc<Faulty>) -> std::result::Result<(), String> {
    let Some(repository) = open_to_look(place)? else { return Ok(()) };
    let list = repository.snapshots(&SnapshotFilter::new()).map_err(in_words("listing"))?;
    let is_lost =
        |one: &&Snapshot| !verb.broken.contains(&one.record().host.as_str()) && reads_back(&repository, one).is_err();
    match list.snapshots.iter().find(is_lost) {
        Some(lost) if whole::check(&repository)?.errors.is_empty() => {
            Err(format!("{} does not come back, and check finds nothing", lost.id().short()))
        }
        _ => Ok(()),
    }
}

// ---- Each call in turn

/// What an undisturbed run did.
struct Undisturbed {
    start: [Objects; 2],
    before: [Option<Shown>; 2],
    calls: Vec<Call>,
    views: [Option<View>; 2],
}

fn places(objects: &[Objects; 2]) -> Places {
    objects.clone().map(|objects| Faulty::new(objects, None))
}

fn undisturbed(verb: &Verb) -> Undisturbed {
    let start = (verb.start)();
    let before = places(&start).each_ref().map(|place| shown(place).expect("what is there can be listed"));
    let at_work = places(&start);
    let _stay = faulty::enter(10);
    (verb.run)(&at_work).unwrap_or_else(|error| panic!("{} undisturbed: {error}", verb.name));
    let after = places(&at_work.each_ref().map(|place| place.objects()));
    let _stay = faulty::enter(11);
    for (place, before) in after.iter().zip(&before) {
        let judged = judge(verb, place, before.as_ref(), Strictness::Sound, true);
        judged.unwrap_or_else(|problem| panic!("{} undisturbed: {problem}", verb.name));
    }
    let views = after.each_ref().map(|place| view(place).expect("what is there can be listed"));
    Undisturbed { start, before, calls: at_work[verb.fails].calls(), views }
}

/// One fault, what is there after it, and another run.
fn try_fault(verb: &Verb, run: &Undisturbed, at: usize, fault: Fault) -> std::result::Result<(), String> {
    let mut places = run.start.clone().map(|objects| Faulty::new(objects, None));
    places[verb.fails] = Faulty::new(run.start[verb.fails].clone(), Some((at, fault)));
    let result = {
        let _stay = faulty::enter(10);
        (verb.run)(&places)
    };
    if let Err(Error::Bug(problem)) = &result {
        return Err(format!("a bug: {problem}"));
    }
    let strictness = if fault == Fault::Lied { Strictness::Old } else { Strictness::Sound };
    // Half an object is damage, until the next run or a repair.
    let strictness = if fault == Fault::Torn { Strictness::Old } else { strictness };
    let judge_all = |places: &Places, is_mended| -> std::result::Result<(), String> {
        for (number, place) in places.iter().enumerate() {
            judge(verb, place, run.before[number].as_ref(), strictness, is_mended)
                .map_err(|problem| format!("place {number}: {problem}"))?;
        }
        Ok(())
    };
    let mut objects = places.each_ref().map(|place| place.objects());
    let answer = || format!("{:?}", result.as_ref().err().map(Error::to_string));
    let shows_the_same = |places: &Places| -> std::result::Result<(), String> {
        for (number, expected) in run.views.iter().enumerate() {
            let found = view(&places[number])?;
            if found != *expected {
                return Err(format!("place {number} shows {found:?} and not {expected:?}"));
            }
        }
        Ok(())
    };
    {
        let _stay = faulty::enter(11);
        let places = self::places(&objects);
        judge_all(&places, false).map_err(|problem| format!("{problem} (it said {})", answer()))?;
        if strictness == Strictness::Old {
            places.iter().try_for_each(|place| is_honest(verb, place))?;
        }
        if result.is_ok() && fault != Fault::Lied {
            shows_the_same(&places).map_err(|problem| format!("it said that it did its work: {problem}"))?;
        }
    }
    let again = self::places(&objects);
    {
        let _stay = faulty::enter(12);
        run_again(verb, &again).map_err(|error| format!("run again: {error} (it said {})", answer()))?;
    }
    objects = again.each_ref().map(|place| place.objects());
    let _stay = faulty::enter(13);
    let places = self::places(&objects);
    judge_all(&places, true).map_err(|problem| format!("after another run: {problem}"))?;
    if fault == Fault::Lied { Ok(()) } else { shows_the_same(&places) }
}

/// Half an index object could be speaking of anything: prune deletes nothing until the index is repaired.
fn run_again(verb: &Verb, places: &Places) -> Result<()> {
    match (verb.run)(places) {
        Err(Error::Corrupt { object: ObjectName::Index(_), .. }) => {
            repair_index(places)?;
            (verb.run)(places)
        }
        other => other,
    }
}

/// The same on a thread of its own, so that a panic and a wait without end are seen.
fn try_alone(verb: Verb, run: &Arc<Undisturbed>, at: usize, fault: Fault) -> std::result::Result<(), String> {
    let (send, receive) = mpsc::channel();
    let run = run.clone();
    thread::spawn(move || send.send(try_fault(&verb, &run, at, fault)));
    match receive.recv_timeout(HANGS_AFTER) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err("it hangs".into()),
        Err(RecvTimeoutError::Disconnected) => Err("it panicked".into()),
    }
}

/// Tries every fault at every call, or at one in so many.
fn try_all(verb: Verb) {
    let run = Arc::new(undisturbed(&verb));
    let step = run.calls.len().div_ceil(CALLS_MAX);
    let tried = run.calls.iter().enumerate().step_by(step);
    let cases = tried.flat_map(|(at, call)| call.faults().iter().map(move |fault| (at, call, *fault)));
    let cases: Vec<_> = cases.filter(|(_, _, fault)| !(verb.trusts_syncs && *fault == Fault::Lied)).collect();
    let failed = Mutex::new(Vec::new());
    for (at, call, fault) in &cases {
        if let Err(problem) = try_alone(verb, &run, *at, *fault) {
            failed.lock().expect("nobody panics").push(format!("call {at}, {call}, {fault:?}: {problem}"));
        }
    }
    let failed = failed.into_inner().expect("nobody panics");
    println!("{}: {} calls, one in {step} tried, {} faults", verb.name, run.calls.len(), cases.len());
    assert!(
        failed.is_empty(),
        "{}: {} of {} faults:\n{}",
        verb.name,
        failed.len(),
        cases.len(),
        failed.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
    );
}

macro_rules! faults {
    ($($test:ident: $verb:expr;)*) => {
        $(#[test]
        fn $test() {
            try_all(Verb { name: stringify!($test), ..$verb });
        })*
    };
}

faults! {
    init_survives: Verb { start: || [Objects::new(), Objects::new()], run: init, ..VERB };
    backup_survives: Verb { run: back_up, ..VERB };
    forget_survives: Verb { run: forget, hides: &["ab"], ..VERB };
    undelete_survives: Verb { run: undelete, ..VERB };
    tag_survives: Verb { run: tag, hides: &["ab"], ..VERB };
    rewrite_survives: Verb { run: rewrite, hides: &["ab"], ..VERB };
    recover_survives: Verb { start: without_a_snapshot, run: recover, ..VERB };
    prune_survives: Verb {
        start: reclaimable, run: |places| prune_with(places, &scenes::plain()), trusts_syncs: true, ..VERB
    };
    prune_that_moves_survives: Verb {
        start: reclaimable, run: |places| prune_with(places, &scenes::thorough()), trusts_syncs: true, ..VERB
    };
    repair_of_the_index_survives: Verb { start: without_index, run: repair_index, mends: true, ..VERB };
    repair_of_small_objects_survives: Verb { start: without_copies, run: repair_objects, mends: true, ..VERB };
    repair_of_packs_by_parity_survives: Verb { start: with_damaged_packs, run: repair_packs, mends: true, ..VERB };
    repair_of_packs_chunk_by_chunk_survives: Verb {
        start: with_damaged_tables, run: repair_packs, mends: true, ..VERB
    };
    repair_of_snapshots_survives: Verb {
        start: with_losses, run: repair_snapshots, hides: &["cx"], broken: &["cx"], ..VERB
    };
    repair_of_parity_survives: Verb { run: repair_parity, ..VERB };
    copy_survives_its_target: Verb { start: with_target, run: |places| copy(places, ""), fails: 1, ..VERB };
    copy_survives_its_source: Verb { start: with_target, run: |places| copy(places, ""), ..VERB };
    a_first_mirror_survives: Verb {
        start: reclaimable, run: mirror_all, fails: 1, trusts_syncs: true, ..VERB
    };
    mirror_survives_its_target: Verb {
        start: with_mirror, run: mirror_all, fails: 1, trusts_syncs: true, ..VERB
    };
    mirror_survives_its_source: Verb { start: with_mirror, run: mirror_all, trusts_syncs: true, ..VERB };
    cross_check_survives_the_first: Verb { start: damaged_pair, run: cross, mends: true, ..VERB };
    cross_check_survives_the_second: Verb { start: damaged_pair, run: cross, fails: 1, mends: true, ..VERB };
    a_key_added_survives: Verb { run: add_key, ..VERB };
    a_key_removed_survives: Verb { start: with_a_second_key, run: remove_key, ..VERB };
    a_key_changed_survives: Verb { run: change_key, trusts_syncs: true, ..VERB };
}
