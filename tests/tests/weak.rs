//! Weak repositories: on places that do not decide which of two writers is first. Clocks are the tests' own, so that a week
//! passes when it is told to, and where it is told to: between two calls of a writer too.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use icecore_tests::simulate::scenes::{Window, back_up, forget_host, read_all};
use icecore_tests::whole;
use repo_core::internals::pipeline;
use repo_core::internals::store::{self, Sealing, Session, SessionKind, WriterOptions, gc};
use repo_core::internals::world::{self, Stay, World};
use repo_core::{
    Backend, BackendError, Bytes, Capabilities, Doubled, Error, InitOptions, Listed, ObjectName, OpenOptions, OwnerId,
    ParityOptions, PasswordCost, Prefix, PruneOptions, PruneReport, Put, Removal, Repository, RotateOptions, Secret,
    Silent, SnapshotFilter, SnapshotId, Span, Unused,
};

const HOUR: i64 = 3600 * 1_000_000_000;
const DAY: i64 = 24 * HOUR;

const OWNER: OwnerId = OwnerId([0x11; 16]);
const OTHER: OwnerId = OwnerId([0x22; 16]);

/// Two clocks: one that can be set, and one that stands still while a virtual machine is paused.
#[derive(Debug)]
struct Clocks {
    wall_ns: AtomicI64,
    boot_ns: AtomicI64,
}

impl Clocks {
    fn pass(&self, ns: i64) {
        self.wall_ns.fetch_add(ns, Ordering::SeqCst);
        self.boot_ns.fetch_add(ns, Ordering::SeqCst);
    }
}

impl World for Clocks {
    fn now_ns(&self) -> i64 {
        self.wall_ns.load(Ordering::SeqCst)
    }
    fn since_boot_ns(&self) -> i64 {
        self.boot_ns.load(Ordering::SeqCst)
    }
    fn process_id(&self) -> u32 {
        1
    }
    fn process_is_alive(&self, process: u32) -> bool {
        process == 1
    }
}

type Hook = Box<dyn FnOnce() + Send>;

/// Where the last of two writers stands, if it decides nothing; and where something may happen just before a write, or
/// just after.
struct Place {
    clocks: Arc<Clocks>,
    objects: Mutex<BTreeMap<ObjectName, (Bytes, i64)>>,
    decides: bool,
    tells_ages: bool,
    before: Mutex<Option<(Prefix, Hook)>>,
    after: Mutex<Option<(Prefix, Hook)>>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

impl Place {
    fn run(hook: &Mutex<Option<(Prefix, Hook)>>, name: &ObjectName) {
        let is_due = |hook: &mut (Prefix, Hook)| hook.0.contains(name);
        // Not while it is held: the hook writes too.
        let due = hook.lock().unwrap().take_if(is_due);
        if let Some((_, hook)) = due {
            hook();
        }
    }

    fn insert(&self, name: &ObjectName, bytes: Bytes) {
        self.objects.lock().unwrap().insert(*name, (bytes, self.clocks.now_ns()));
    }
}

impl Backend for Place {
    fn place(&self) -> String {
        "a weak place".into()
    }
    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }
    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        if !self.decides {
            return Err(BackendError::io("writing", name, io::ErrorKind::Unsupported.into()));
        }
        Self::run(&self.before, name);
        let there = self.objects.lock().unwrap().get(name).map(|(there, _)| there.clone());
        if let Some(there) = there {
            return Ok(Put::Exists(there));
        }
        self.insert(name, bytes);
        Self::run(&self.after, name);
        Ok(Put::Created)
    }
    fn put_over(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        Self::run(&self.before, name);
        self.insert(name, bytes);
        Self::run(&self.after, name);
        Ok(())
    }
    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        let objects = self.objects.lock().unwrap();
        let (bytes, _) =
            objects.get(name).ok_or_else(|| BackendError::io("reading", name, io::ErrorKind::NotFound.into()))?;
        let (offset, length) = span.within(bytes.len() as u64);
        Ok(bytes.slice(offset as usize..(offset + length) as usize))
    }
    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        let names: Vec<_> =
            self.objects.lock().unwrap().iter().map(|(name, (bytes, _))| (*name, bytes.len() as u64)).collect();
        for (name, size) in names.into_iter().filter(|(name, _)| prefix.contains(name)) {
            if each(Listed::Object { name, size }).is_break() {
                break;
            }
        }
        Ok(())
    }
    fn age(&self, name: &ObjectName) -> Result<Option<Duration>, BackendError> {
        if !self.tells_ages {
            return Ok(None);
        }
        let objects = self.objects.lock().unwrap();
        let (_, put_ns) =
            objects.get(name).ok_or_else(|| BackendError::io("reading", name, io::ErrorKind::NotFound.into()))?;
        Ok(Some(Duration::from_nanos((self.clocks.now_ns() - put_ns).max(0) as u64)))
    }
    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        let gone = self.objects.lock().unwrap().remove(name);
        Ok(gone.map_or(Removal::Absent, |_| Removal::Removed))
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { put_if_absent: self.decides }
    }
}

struct Bench {
    place: Arc<Place>,
    clocks: Arc<Clocks>,
    _stay: Stay,
}

impl Bench {
    fn of(decides: bool, tells_ages: bool) -> Self {
        let clocks =
            Arc::new(Clocks { wall_ns: AtomicI64::new(1_800_000_000_000_000_000), boot_ns: AtomicI64::new(5 * HOUR) });
        let place = Arc::new(Place {
            clocks: clocks.clone(),
            objects: Mutex::default(),
            decides,
            tells_ages,
            before: Mutex::default(),
            after: Mutex::default(),
        });
        let stay = world::enter(clocks.clone(), [7; 32]);
        let bench = Self { place, clocks, _stay: stay };
        let options = InitOptions::new().weak_store(OWNER);
        Repository::init(bench.place.clone(), &whole::secret(), &options).unwrap();
        bench
    }

    fn new() -> Self {
        Self::of(false, true)
    }

    /// With what is left of a snapshot that is forgotten, its window over: the packs of `letters`.
    fn with_garbage(decides: bool, letters: &str) -> Self {
        let bench = Self::of(decides, true);
        back_up(&bench.client(), "old", letters).unwrap();
        forget_host(&bench.client(), "old", Window::Over).unwrap();
        bench
    }

    /// One that may back up, and no more.
    fn client(&self) -> Repository {
        whole::open_on(self.place.clone())
    }

    fn of_owner(&self, owner: OwnerId) -> Repository {
        let options = OpenOptions::new().owner(owner);
        Repository::open_with(self.place.clone(), &whole::secret(), &options).unwrap().with_threads(1)
    }

    fn owner(&self) -> Repository {
        self.of_owner(OWNER)
    }

    fn prune(&self) -> PruneReport {
        self.owner().prune(&options(), &Silent).unwrap()
    }

    fn names(&self, prefix: Prefix) -> Vec<ObjectName> {
        self.client().objects(prefix).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    fn shown(&self) -> usize {
        let list = self.client().snapshots(&SnapshotFilter::new()).unwrap();
        assert!(list.unreadable.is_empty(), "{:?}", list.unreadable);
        list.snapshots.len()
    }

    fn register(&self, repository: &Repository) -> Session {
        let keys = store::of(repository).unwrap().keys().clone();
        Session::register(repository.backend(), &keys, SessionKind::Backup, "test").unwrap()
    }

    /// Everything that is shown comes back, and a check finds nothing that matters.
    fn assert_whole(&self) {
        read_all(&self.client()).unwrap();
        whole::is_whole(&self.client()).unwrap();
    }
}

fn options() -> PruneOptions {
    PruneOptions::new().max_unused(Unused::Unlimited)
}

/// What is under a session's name.
fn cell(repository: &Repository, session: SnapshotId) -> gc::Cell {
    let keys = store::of(repository).unwrap().keys().clone();
    gc::read_cell(repository.backend().as_ref(), &keys, session).unwrap()
}

/// Publishes the tree of the newest snapshot that there is under the session's name.
fn publish(repository: &Repository, session: Session) -> Result<(), Error> {
    let store = store::of(repository)?;
    let newest = repository.snapshots(&SnapshotFilter::new())?.snapshots.pop().expect("one is there");
    let tree = Sealing::new(&store, session.id(), writer_options()).finish(newest.record().root, &store.view())?;
    session.publish(&tree, newest.record().clone()).map(drop)
}

fn writer_options() -> WriterOptions {
    WriterOptions {
        threads: 1,
        level: 1,
        verify: false,
        dry_run: false,
        frame_target_bytes: 1 << 16,
        pack_data_bytes: 1 << 16,
        pack_meta_bytes: 1 << 16,
        isolate_owners: false,
        parity_percent: 0,
    }
}

#[test]
fn what_is_stored_comes_back_without_a_place_that_decides_anything() {
    for (decides, tells_ages) in [(false, true), (false, false), (true, true)] {
        let bench = Bench::of(decides, tells_ages);
        let owner = bench.owner();
        assert_eq!((owner.config().gc_owner(), owner.config().put_if_absent), (Some(OWNER), false));
        back_up(&bench.client(), "one", "abc").unwrap();
        back_up(&bench.client(), "two", "bcd").unwrap();
        assert_eq!(bench.shown(), 2);
        let key = Secret::Key([9; 32].into());
        owner.add_key(&key, "another", PasswordCost::Default).unwrap();
        Repository::open(bench.place.clone(), &key).unwrap();
        forget_host(&bench.client(), "one", Window::Over).unwrap();
        let report = bench.prune();
        assert_eq!(report.expired_snapshots.len(), 1);
        let rules = report.weak_store.expect("it is said what it rests on");
        assert_eq!((rules.fence_idle.as_secs(), rules.sign_valid.as_secs()), (7 * 24 * 3600, 24 * 3600));
        assert_eq!(bench.shown(), 1);
        bench.assert_whole();
        assert_eq!(bench.names(Prefix::Sessions), []);
    }
}

#[test]
fn a_writer_that_was_silent_for_less_than_a_week_is_waited_for_dead_or_not() {
    for (decides, tells_ages) in [(false, true), (false, false), (true, true)] {
        let bench = Bench::of(decides, tells_ages);
        back_up(&bench.client(), "kept", "b").unwrap();
        back_up(&bench.client(), "old", "a").unwrap();
        forget_host(&bench.client(), "old", Window::Over).unwrap();
        let client = bench.client();
        let session = bench.register(&client);
        let id = session.id();
        bench.clocks.pass(7 * DAY - 1);
        let report = bench.prune();
        assert_eq!(report.waiting_for.iter().map(|writer| writer.session).collect::<Vec<_>>(), [id]);
        assert_eq!((report.deleted_packs, cell(&client, id)), (0, gc::Cell::Empty));
        bench.clocks.pass(1);
        let report = bench.prune();
        assert_eq!((report.fenced.len(), report.waiting_for.len()), (1, 0));
        assert!(report.deleted_packs > 0);
        assert_eq!(cell(&client, id), gc::Cell::Tombstone);
        assert!(matches!(publish(&client, session), Err(Error::Fenced)));
        assert_eq!(cell(&client, id), gc::Cell::Tombstone);
        bench.assert_whole();
    }
}

#[test]
fn a_writer_that_died_on_this_machine_is_waited_for_too() {
    let bench = Bench::with_garbage(false, "a");
    let client = bench.client();
    // Of a process that is not there.
    let clocks = Arc::new(Dead(bench.clocks.clone()));
    let session = {
        let keys = store::of(&client).unwrap().keys().clone();
        let (backend, clocks) = (client.backend().clone(), clocks.clone());
        std::thread::spawn(move || {
            let _stay = world::enter(clocks, [8; 32]);
            let session = Session::register(&backend, &keys, SessionKind::Backup, "test").unwrap();
            let id = session.id();
            std::mem::forget(session);
            id
        })
        .join()
        .unwrap()
    };
    assert_eq!(bench.prune().waiting_for.len(), 1);
    assert_eq!(cell(&client, session), gc::Cell::Empty);
}

#[derive(Debug)]
struct Dead(Arc<Clocks>);

impl World for Dead {
    fn now_ns(&self) -> i64 {
        self.0.now_ns()
    }
    fn process_id(&self) -> u32 {
        2
    }
    fn process_is_alive(&self, _: u32) -> bool {
        false
    }
}

#[test]
fn who_was_silent_for_more_than_a_day_by_either_clock_publishes_nothing_under_that_name() {
    let passes: [fn(&Clocks); 2] = [
        |clocks| {
            clocks.wall_ns.fetch_add(DAY + 1, Ordering::SeqCst);
        },
        |clocks| {
            clocks.boot_ns.fetch_add(DAY + 1, Ordering::SeqCst);
            // Set back meanwhile.
            clocks.wall_ns.fetch_sub(HOUR, Ordering::SeqCst);
        },
    ];
    for pass in passes {
        for decides in [false, true] {
            let bench = Bench::of(decides, true);
            back_up(&bench.client(), "one", "a").unwrap();
            let client = bench.client();
            let session = bench.register(&client);
            let id = session.id();
            pass(&bench.clocks);
            assert!(matches!(publish(&client, session), Err(Error::Fenced)));
            assert_eq!(cell(&client, id), gc::Cell::Empty, "nothing was sent");
            assert_eq!(bench.names(Prefix::Sessions), []);
            // One who was not is not hindered.
            let session = bench.register(&client);
            bench.clocks.pass(DAY);
            publish(&client, session).unwrap();
            assert_eq!(bench.shown(), 2);
        }
    }
}

/// A backup of what was garbage, in whose last put everybody sleeps for so long; and then the owner prunes, if he does.
fn sleeps_in_its_last_put(decides: bool, ns: i64, prunes: bool) -> (Bench, Result<(), Error>) {
    let bench = Bench::with_garbage(decides, "a");
    let (clocks, owner) = (bench.clocks.clone(), bench.owner());
    let hook = move || {
        clocks.pass(ns);
        if prunes {
            owner.prune(&options(), &Silent).unwrap();
        }
    };
    *bench.place.before.lock().unwrap() = Some((Prefix::Snapshots, Box::new(hook)));
    let result = back_up(&bench.client(), "new", "a");
    assert!(bench.place.before.lock().unwrap().is_none(), "it slept");
    (bench, result)
}

#[test]
fn who_slept_in_the_last_put_until_it_was_fenced_takes_it_back() {
    for decides in [false, true] {
        let (bench, result) = sleeps_in_its_last_put(decides, 8 * DAY, true);
        // What it had found was deleted meanwhile: it stores that again, and publishes under another name.
        result.unwrap();
        assert_eq!(bench.shown(), 1);
        assert_eq!(bench.names(Prefix::Sessions), []);
        assert_eq!(bench.names(Prefix::Snapshots).len(), 2, "the tombstone, and the new one");
        bench.assert_whole();
    }
}

#[test]
fn who_slept_in_the_last_put_for_more_than_a_day_takes_it_back_and_publishes_under_another_name() {
    for decides in [false, true] {
        let (bench, result) = sleeps_in_its_last_put(decides, DAY + 1, false);
        result.unwrap();
        assert_eq!(bench.shown(), 1);
        assert_eq!(bench.names(Prefix::Snapshots).len(), 3, "the old one, a tombstone, and the new one");
        bench.assert_whole();
    }
}

#[test]
fn a_shorter_sleep_in_the_last_put_is_no_matter() {
    let (bench, result) = sleeps_in_its_last_put(false, DAY, true);
    result.unwrap();
    assert_eq!((bench.shown(), bench.names(Prefix::Snapshots).len()), (1, 2));
    bench.prune();
    assert_eq!((bench.shown(), bench.names(Prefix::Snapshots).len()), (1, 1));
    bench.assert_whole();
}

#[test]
fn a_tombstone_that_came_right_after_the_put_is_seen() {
    let bench = Bench::new();
    back_up(&bench.client(), "one", "a").unwrap();
    let client = bench.client();
    let session = bench.register(&client);
    let (place, name) = (bench.place.clone(), ObjectName::Snapshot(session.id()));
    let keys = store::of(&client).unwrap().keys().clone();
    let tombstone = gc::tombstone(&keys, session.id(), 1, session.id()).unwrap();
    let hook = move || place.insert(&name, tombstone);
    *bench.place.after.lock().unwrap() = Some((Prefix::Snapshots, Box::new(hook)));
    assert!(matches!(publish(&client, session), Err(Error::Fenced)));
    assert_eq!(bench.shown(), 1);
}

/// A failed write of the last put leaves the session, so that nobody deletes anything before a week is over: it may land.
#[test]
fn while_a_put_may_be_on_its_way_its_session_stays() {
    let bench = Bench::new();
    back_up(&bench.client(), "one", "a").unwrap();
    let failing = Arc::new(Lossy(bench.place.clone()));
    let client = whole::open_on(failing);
    let session = bench.register(&client);
    let id = session.id();
    assert!(publish(&client, session).is_err());
    assert_eq!(cell(&bench.client(), id), gc::Cell::Tombstone);
    assert_eq!(bench.names(Prefix::Sessions), [ObjectName::Session(id)]);
}

/// Of a snapshot nobody hears whether it was written; it was not.
#[derive(Debug)]
struct Lossy(Arc<Place>);

impl Backend for Lossy {
    fn place(&self) -> String {
        self.0.place()
    }
    fn prepare(&self) -> Result<(), BackendError> {
        self.0.prepare()
    }
    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        self.0.put_new(name, bytes)
    }
    fn put_over(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        // Type 4, and not a tombstone.
        if matches!(name, ObjectName::Snapshot(_)) && bytes[4] == 4 {
            return Err(BackendError::io("writing", name, io::ErrorKind::TimedOut.into()));
        }
        self.0.put_over(name, bytes)
    }
    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        self.0.get(name, span)
    }
    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.0.list(prefix, each)
    }
    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        self.0.remove(name)
    }
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
}

/// Keeps a writer alive for so many hours, asked every hour.
fn work(bench: &Bench, repository: &Repository, session: SnapshotId, hours: i64) -> Result<(), Error> {
    let store = store::of(repository)?;
    let sealing = Sealing::new(&store, session, writer_options());
    pipeline::scope(|scope| {
        let mut writer = sealing.start(scope)?;
        for _ in 0..hours {
            bench.clocks.pass(HOUR);
            (0..256).for_each(|_| writer.keep_alive());
        }
        writer.finish()
    })
}

#[test]
fn a_run_of_a_month_gives_signs_for_all_its_sessions_and_publishes() {
    for tells_ages in [true, false] {
        let bench = Bench::of(false, tells_ages);
        back_up(&bench.client(), "one", "a").unwrap();
        back_up(&bench.client(), "old", "b").unwrap();
        forget_host(&bench.client(), "old", Window::Over).unwrap();
        let client = bench.client();
        let (one, two) = (bench.register(&client), bench.register(&client));
        work(&bench, &client, one.id(), 30 * 24).unwrap();
        assert_eq!(bench.prune().waiting_for.len(), 2, "it lives");
        publish(&client, one).unwrap();
        publish(&client, two).unwrap();
        assert_eq!(bench.shown(), 3);
        assert_eq!(bench.names(Prefix::Sessions), [], "its signs went with it");
    }
}

#[test]
fn who_was_silent_for_too_long_gives_no_more_signs() {
    let bench = Bench::new();
    back_up(&bench.client(), "one", "a").unwrap();
    let client = bench.client();
    let session = bench.register(&client);
    work(&bench, &client, session.id(), 5).unwrap();
    let signs = bench.names(Prefix::Sessions).len();
    assert_eq!(signs, 2);
    bench.clocks.pass(DAY + 1);
    work(&bench, &client, session.id(), 48).unwrap();
    assert_eq!(bench.names(Prefix::Sessions).len(), signs);
    assert!(matches!(publish(&client, session), Err(Error::Fenced)));
}

#[test]
fn only_the_owner_prunes_and_changes_keys_and_parameters() {
    let bench = Bench::with_garbage(false, "a");
    let before = bench.place.objects.lock().unwrap().len();
    for stranger in [bench.client(), bench.of_owner(OTHER)] {
        let is_refused = |result: Result<(), Error>| match result {
            Err(Error::NotOwner { place, owner }) => assert_eq!((&place[..], owner), ("a weak place", OWNER)),
            other => panic!("{other:?}"),
        };
        is_refused(stranger.prune(&options(), &Silent).map(drop));
        let key = Secret::Key([9; 32].into());
        is_refused(stranger.add_key(&key, "another", PasswordCost::Default).map(drop));
        is_refused(stranger.change_key(&key, PasswordCost::Default).map(drop));
        let slot = stranger.keys().unwrap()[0].slot;
        is_refused(stranger.remove_key(slot));
        is_refused(stranger.rotate_keys(&RotateOptions::new().key(&key, "x", PasswordCost::Default)).map(drop));
        is_refused(stranger.repair_parity(&ParityOptions::new().percent(5), &Silent).map(drop));
        // What changes nothing may be asked by all.
        let dry = stranger.prune(&options().dry_run(), &Silent).unwrap();
        assert!(dry.weak_store.is_some() && dry.unused_packs > 0);
    }
    assert_eq!(bench.place.objects.lock().unwrap().len(), before);
    assert!(bench.prune().deleted_packs > 0);
}

#[test]
fn who_takes_ownership_goes_on_with_what_was_begun_and_the_owner_before_does_no_more() {
    let bench = Bench::with_garbage(false, "a");
    back_up(&bench.client(), "kept", "b").unwrap();
    let (before, client) = (bench.owner(), bench.client());
    let session = bench.register(&client);
    assert_eq!(before.prune(&options(), &Silent).unwrap().waiting_for.len(), 1);

    let fresh = bench.of_owner(OTHER);
    assert!(fresh.take_ownership().unwrap());
    assert!(!fresh.take_ownership().unwrap(), "it is already");
    assert_eq!(bench.client().config().gc_owner(), Some(OTHER));
    assert!(matches!(before.prune(&options(), &Silent), Err(Error::NotOwner { owner: OTHER, .. })));
    session.give_up().unwrap();
    let report = fresh.prune(&options(), &Silent).unwrap();
    assert!(report.continued && report.deleted_packs > 0);
    bench.assert_whole();
    assert!(matches!(bench.client().take_ownership(), Err(Error::Usage(_))), "nobody cannot be the owner");
}

/// In the middle of its run, right before the mark and right before the deletes, by a hook on what it writes before.
#[test]
fn an_owner_that_is_relieved_while_it_prunes_stops_before_it_deletes() {
    let bench = Bench::with_garbage(false, "a");
    let (before, fresh) = (bench.owner(), bench.of_owner(OTHER));
    let packs = bench.names(Prefix::Packs(repo_core::PackKind::Data));
    let hook = move || assert!(fresh.take_ownership().unwrap());
    *bench.place.after.lock().unwrap() = Some((Prefix::Gc, Box::new(hook)));
    assert!(matches!(before.prune(&options(), &Silent), Err(Error::NotOwner { owner: OTHER, .. })));
    assert_eq!(bench.names(Prefix::Packs(repo_core::PackKind::Data)), packs);
}

#[test]
fn no_writer_is_fenced_sooner_than_after_a_week_on_request() {
    let bench = Bench::new();
    let week = Duration::from_secs(7 * 24 * 3600);
    let asked = |idle| bench.owner().prune(&options().fence_idle(idle), &Silent);
    assert!(matches!(asked(week - Duration::from_secs(1)), Err(Error::Usage(problem)) if problem.contains("7 days")));
    asked(week).unwrap();
}

#[test]
fn what_is_weak_and_what_is_not_are_not_mixed() {
    let secret = whole::secret();
    // A place that decides nothing gets no other repository.
    let bench = Bench::new();
    bench.place.objects.lock().unwrap().clear();
    let refused = Repository::init(bench.place.clone(), &secret, &InitOptions::new()).unwrap_err();
    assert!(matches!(refused, Error::NoPutIfAbsent { .. }), "{refused}");
    assert!(bench.place.objects.lock().unwrap().is_empty());

    // Nor does one that was copied there take anything, while a weak one that was copied away keeps its rules.
    let strong = Arc::new(repo_core::Memory::new());
    let made = Repository::init(strong.clone(), &secret, &InitOptions::new()).unwrap();
    back_up(&made, "one", "a").unwrap();
    assert!(matches!(made.take_ownership(), Err(Error::Usage(_))));
    for (name, _) in made.objects(Prefix::All).unwrap() {
        bench.place.insert(&name, strong.get(&name, Span::All).unwrap());
    }
    let refused = back_up(&bench.client(), "two", "b").unwrap_err();
    assert!(matches!(&refused, Error::NoPutIfAbsent { place } if place == "a weak place"), "{refused}");
    assert_eq!(bench.shown(), 1);

    let weak = Bench::new();
    back_up(&weak.client(), "one", "a").unwrap();
    let away = Arc::new(repo_core::Memory::new());
    for name in weak.names(Prefix::All) {
        away.put_new(&name, weak.place.get(&name, Span::All).unwrap()).unwrap();
    }
    let opened = whole::open_on(away);
    assert!(matches!(opened.prune(&options(), &Silent), Err(Error::NotOwner { .. })));
    let session = weak.register(&opened);
    weak.clocks.pass(DAY + 1);
    assert!(matches!(publish(&opened, session), Err(Error::Fenced)));
}

#[test]
fn an_init_that_was_cut_off_is_completed_by_the_same_owner_alone() {
    let bench = Bench::new();
    for name in [ObjectName::Format, ObjectName::SecondCopy(Doubled::Format)] {
        bench.place.remove(&name).unwrap();
    }
    let init = |owner| Repository::init(bench.place.clone(), &whole::secret(), &InitOptions::new().weak_store(owner));
    assert!(matches!(init(OTHER), Err(Error::Usage(_))));
    assert_eq!(init(OWNER).unwrap().config().gc_owner(), Some(OWNER));
}
