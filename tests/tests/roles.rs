//! Clients that can only add, and clients that have been stolen: what they write under `gc/` deletes nothing that lives, what
//! they add takes no place from what is real, and what they cannot remove is in nobody's way.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Read};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use icecore_tests::cli::{Cli, Runs};
use icecore_tests::whole::noise;
use repo_core::internals::crypto::Keys;
use repo_core::internals::format::gc::{Done, Mark, Pending, Plan};
use repo_core::internals::format::header::ObjectType;
use repo_core::internals::format::keyring::{Keyring, Purpose};
use repo_core::internals::seal;
use repo_core::internals::store::gc::seal_step;
use repo_core::{
    AppendOnly, Backend, BackendError, BackendErrorKind, BackupOptions, Bytes, CalendarSpan, Capabilities,
    CheckOptions, Doubled, Error, ForgetOptions, GcStage, GroupBy, Guard, InitOptions, Listed, Memory, ObjectName,
    PackId, Period, Policy, Prefix, PruneOptions, PruneReport, Put, ReaderSource, Removal, Repository, Secret,
    Selector, Silent, SnapshotFilter, SnapshotId, SnapshotRecord, Span, Timestamp, Unused, policy,
};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// The keys of a repository, as a stolen client has them.
fn keys(repository: &Repository) -> Arc<Keys> {
    let kit = repository.recovery_kit();
    let Secret::RootKey(root_key) = Secret::from_recovery_kit(&kit).unwrap() else { panic!("a kit is the root key") };
    let bytes = repository.backend().get(&ObjectName::Keyring(1), Span::All).unwrap();
    let payload = seal::open_keyring(&root_key, 1, &bytes).unwrap();
    Arc::new(Keys::from_keyring(&Keyring::decode(&payload).unwrap()).unwrap())
}

fn secret() -> Secret {
    Secret::generate_key().unwrap().0
}

fn backup(repository: &Repository, name: &str, content: &[u8]) -> SnapshotId {
    let source = ReaderSource::new(name.as_ref(), Cursor::new(content.to_vec()));
    repository.backup(&source, &BackupOptions::new(), &Silent).unwrap().snapshot.unwrap().id()
}

fn forget(repository: &Repository, id: SnapshotId, window_ms: u64) {
    let options = ForgetOptions::new().id(Selector::Id(id.to_string())).window_ms(window_ms);
    let plan = repository.plan_forget(&options, &Silent).unwrap();
    assert_eq!(repository.forget(&plan, &Silent).unwrap().forgotten, [id]);
}

fn listed(backend: &dyn Backend, prefix: Prefix) -> Vec<ObjectName> {
    let mut names = Vec::new();
    let result = backend.list(prefix, &mut |listed| {
        if let Listed::Object { name, .. } = listed {
            names.push(name);
        }
        ControlFlow::Continue(())
    });
    result.unwrap();
    names
}

// ---- forged steps of a cycle ----

struct Place {
    backend: Arc<Memory>,
    repository: Repository,
    keys: Arc<Keys>,
    living: [SnapshotId; 2],
    /// Forgotten, and its window is open.
    held: SnapshotId,
}

impl Place {
    fn new() -> Self {
        let backend = Arc::new(Memory::new());
        let repository = Repository::init(backend.clone(), &secret(), &InitOptions::new()).unwrap().with_threads(1);
        let expired = backup(&repository, "/gone", &noise(9, 300_000));
        let living = [backup(&repository, "/a", &noise(1, 300_000)), backup(&repository, "/b", &noise(2, 300_000))];
        let held = backup(&repository, "/held", &noise(3, 300_000));
        forget(&repository, expired, 0);
        forget(&repository, held, 7 * DAY_MS);
        let keys = keys(&repository);
        Self { backend, repository, keys, living, held }
    }

    fn packs(&self) -> Vec<PackId> {
        let of = |kind| listed(self.backend.as_ref(), Prefix::Packs(kind));
        let names = [of(repo_core::PackKind::Data), of(repo_core::PackKind::Meta)].concat();
        let packs: BTreeSet<PackId> = names
            .into_iter()
            .map(|name| if let ObjectName::Pack(_, id) = name { id } else { panic!("{name}") })
            .collect();
        packs.into_iter().collect()
    }

    fn snapshots(&self) -> Vec<SnapshotId> {
        let mut ids = vec![self.living[0], self.living[1], self.held];
        ids.sort_unstable();
        ids
    }

    fn mark(&self, cycle: u64, packs: Vec<PackId>, roots: Vec<SnapshotId>, expired: Vec<SnapshotId>) -> Mark {
        Mark { cycle, by: self.held, created_ms: 1, packs, roots, expired, extensions: Vec::new() }
    }

    /// Sealed by the real keys, and put; the digest of the object.
    fn put(&self, cycle: u64, stage: GcStage, payload: &[u8]) -> [u8; 32] {
        let bytes = seal_step(&self.keys, cycle, stage, self.held, payload).unwrap();
        let digest = *blake3::hash(&bytes).as_bytes();
        assert_eq!(self.backend.put_new(&ObjectName::Gc(cycle, stage), bytes).unwrap(), Put::Created);
        digest
    }

    fn put_mark(&self, cycle: u64, mark: &Mark) -> [u8; 32] {
        self.put(cycle, GcStage::Mark, &mark.encode())
    }

    fn put_pending(&self, cycle: u64, sessions: Vec<SnapshotId>) {
        self.put(cycle, GcStage::Pending, &Pending { cycle, sessions, extensions: Vec::new() }.encode());
    }

    fn put_plan(&self, cycle: u64, mark_digest: [u8; 32]) -> [u8; 32] {
        let plan = Plan { cycle, mark_digest, delete: self.packs(), rescued: Vec::new(), extensions: Vec::new() };
        self.put(cycle, GcStage::Plan, &plan.encode())
    }

    fn put_done(&self, cycle: u64, plan_digest: [u8; 32], retained: Vec<PackId>) {
        let done = Done { cycle, plan_digest, freed_bytes: 0, retained, extensions: Vec::new() };
        self.put(cycle, GcStage::Done, &done.encode());
    }

    fn prune(&self) -> Result<PruneReport, Error> {
        self.repository.prune(&PruneOptions::new().max_unused(Unused::Bytes(0)), &Silent)
    }

    /// What lives is there and reads back.
    fn assert_lives(&self, what: &str) {
        let report = self.repository.check(&CheckOptions::new().read_data(), &Silent).unwrap();
        assert!(report.is_whole(), "{what}: {:?}", report.errors);
        let shown: BTreeSet<SnapshotId> = self
            .repository
            .snapshots(&SnapshotFilter::default())
            .unwrap()
            .snapshots
            .iter()
            .map(|snapshot| snapshot.id())
            .collect();
        assert_eq!(shown, self.living.into(), "{what}");
    }

    /// And what was forgotten within its window comes back.
    fn assert_comes_back(&self, what: &str) {
        self.repository.undelete(&self.held.to_string(), &Silent).unwrap_or_else(|error| panic!("{what}: {error}"));
        let report = self.repository.check(&CheckOptions::new().read_data(), &Silent).unwrap();
        assert!(report.is_whole() && report.snapshots >= 3, "{what}: {:?}", report.errors);
    }
}

type Forgery = (&'static str, fn(&Place));

const FORGERIES: [Forgery; 15] = [
    ("a mark of every pack, without roots", |place| {
        _ = place.put_mark(1, &place.mark(1, place.packs(), vec![], vec![]));
    }),
    ("a mark that expires what lives", |place| {
        _ = place.put_mark(1, &place.mark(1, place.packs(), vec![], place.snapshots()));
    }),
    ("a mark that expires what lives, and nobody to wait for", |place| {
        place.put_mark(1, &place.mark(1, place.packs(), vec![], place.snapshots()));
        place.put_pending(1, vec![]);
    }),
    ("a whole cycle up to a plan that deletes everything", |place| {
        let mark = place.put_mark(1, &place.mark(1, place.packs(), vec![], place.snapshots()));
        place.put_pending(1, vec![]);
        place.put_plan(1, mark);
    }),
    ("a plan that deletes everything, of a mark that expires nothing", |place| {
        let mark = place.put_mark(1, &place.mark(1, place.packs(), place.snapshots(), vec![]));
        place.put_pending(1, vec![]);
        place.put_plan(1, mark);
    }),
    ("a plan of no mark", |place| {
        _ = place.put_plan(1, [7; 32]);
    }),
    ("a plan of another mark", |place| {
        place.put_mark(1, &place.mark(1, vec![], vec![], vec![]));
        place.put_plan(1, [7; 32]);
    }),
    ("a pending list of those that published", |place| {
        place.put_mark(1, &place.mark(1, place.packs(), vec![], vec![]));
        place.put_pending(1, place.snapshots());
    }),
    ("an end of nothing", |place| place.put_done(1, [0; 32], vec![])),
    ("an end that retains everything", |place| place.put_done(1, [0; 32], place.packs())),
    ("a mark of a cycle far ahead", |place| {
        _ = place.put_mark(1 << 40, &place.mark(1 << 40, place.packs(), vec![], place.snapshots()));
    }),
    ("an end of a cycle far ahead", |place| place.put_done(1 << 40, [0; 32], place.packs())),
    ("a mark of the last possible cycle", |place| {
        _ = place.put_mark(u64::MAX, &place.mark(u64::MAX, place.packs(), vec![], place.snapshots()));
    }),
    ("an end of the last possible cycle", |place| place.put_done(u64::MAX, [0; 32], vec![])),
    ("a whole cycle whose mark knew snapshots that never were", |place| {
        let never = vec![SnapshotId::new(1, [1; 10]), SnapshotId::new(2, [2; 10])];
        let mark = place.put_mark(1, &place.mark(1, vec![], never, vec![]));
        let plan = Plan { cycle: 1, mark_digest: mark, delete: vec![], rescued: vec![], extensions: vec![] };
        let plan = place.put(1, GcStage::Plan, &plan.encode());
        place.put_done(1, plan, vec![]);
    }),
];

#[test]
fn forged_steps_of_reclaiming_delete_nothing_that_lives_and_prune_goes_on_or_says_which_to_remove() {
    for (what, forge) in FORGERIES {
        let place = Place::new();
        forge(&place);
        // As its owner would: whatever prune names is looked at, and removed if it is no work of prune's.
        for attempt in 0.. {
            assert!(attempt < 5, "{what}: no end of it");
            match place.prune() {
                Ok(report) => {
                    assert!(report.waiting_for.is_empty(), "{what}");
                    break;
                }
                Err(Error::Corrupt { object: object @ ObjectName::Gc(..), .. }) => {
                    place.assert_lives(what);
                    place.backend.remove(&object).unwrap();
                }
                Err(Error::SnapshotsVanished { .. }) => {
                    let options = PruneOptions::new().accept_lost_snapshots();
                    place.repository.prune(&options, &Silent).unwrap();
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
        place.assert_lives(what);
        // And what is garbage goes in the end.
        place.prune().unwrap_or_else(|error| panic!("{what}: {error}"));
        place.assert_lives(what);
        place.assert_comes_back(what);
    }
}

/// Reads as its content, after doing something when it is first asked.
struct Then<F>(Option<F>, Cursor<Vec<u8>>);

impl<F: FnOnce()> Read for Then<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(act) = self.0.take() {
            act();
        }
        self.1.read(buffer)
    }
}

#[test]
fn a_writer_that_a_forged_pending_list_leaves_out_is_waited_for_all_the_same() {
    let place = Arc::new(Place::new());
    let during = place.clone();
    let act = move || {
        // The writer runs, and relies on the packs of the snapshot that expires: they hold the same content.
        during.put_mark(1, &during.mark(1, during.packs(), vec![], vec![]));
        during.put_pending(1, vec![]);
        let report = during.prune().unwrap();
        assert_eq!((report.waiting_for.len(), report.deleted_packs), (1, 0));
    };
    let source = ReaderSource::new("/again".as_ref(), Then(Some(act), Cursor::new(noise(9, 300_000))));
    let report = place.repository.backup(&source, &BackupOptions::new(), &Silent).unwrap();
    assert_eq!(report.summary.data_chunks, 0, "nothing was stored again: it relies on what is there");
    place.prune().unwrap();
    let report = place.repository.check(&CheckOptions::new().read_data(), &Silent).unwrap();
    assert!(report.is_whole() && report.snapshots >= 3, "{:?}", report.errors);
}

// ---- a handle that only adds ----

#[test]
fn through_an_append_only_handle_backups_work_and_nothing_is_taken_away() {
    let backend: Arc<Memory> = Arc::new(Memory::new());
    let secret = secret();
    let full = Repository::init(backend.clone(), &secret, &InitOptions::new()).unwrap().with_threads(1);
    let handle: Arc<dyn Backend> = Arc::new(AppendOnly::new(backend.clone()));
    let client = Repository::open(handle, &secret).unwrap().with_threads(1);
    let first = backup(&client, "/a", &noise(1, 100_000));
    backup(&client, "/a", &noise(2, 100_000));
    // Given up: its session cannot be removed, which is no failure.
    let again = || ReaderSource::new("/c".as_ref(), Cursor::new(noise(2, 100_000))).modified(Timestamp::default());
    let third = client.backup(&again(), &BackupOptions::new(), &Silent).unwrap().snapshot.unwrap();
    let unchanged = client.backup(&again(), &BackupOptions::new().skip_if_unchanged(), &Silent).unwrap();
    assert!(unchanged.snapshot.is_none(), "as {}", third.id());

    let is_denied = |error: Error| matches!(error, Error::Backend(error) if error.kind == BackendErrorKind::Denied);
    let options = ForgetOptions::new().id(Selector::Id(first.to_string()));
    let plan = client.plan_forget(&options, &Silent).unwrap();
    assert_eq!(client.forget(&plan, &Silent).map_or(1, |report| report.failed.len()), 1);
    assert!(is_denied(client.add_key(&self::secret(), "mine", repo_core::PasswordCost::Default).unwrap_err()));
    forget(&full, first, 0);
    assert!(is_denied(client.prune(&PruneOptions::new(), &Silent).unwrap_err()));
    assert!(client.check(&CheckOptions::new().read_data(), &Silent).unwrap().is_whole());

    // Sessions could not be removed. Whoever maintains the repository resolves them, and reclaims what is garbage.
    assert_eq!(listed(backend.as_ref(), Prefix::Sessions).len(), 4);
    let report = full.prune(&PruneOptions::new().max_unused(Unused::Bytes(0)).fence_idle(Duration::ZERO), &Silent);
    let report = report.unwrap();
    assert!(report.waiting_for.is_empty() && report.expired_snapshots == [first], "{report:?}");
    assert_eq!(listed(backend.as_ref(), Prefix::Sessions), []);
    let checked = full.check(&CheckOptions::new().read_data(), &Silent).unwrap();
    assert!(checked.is_whole() && checked.snapshots == 2, "{:?}", checked.errors);
}

/// A store that tells by its own clock when it got an object.
#[derive(Debug)]
struct Dated {
    inner: Memory,
    /// In milliseconds since 1970, as its clock was.
    times: Mutex<BTreeMap<ObjectName, u64>>,
    clock_ms: Mutex<u64>,
}

impl Dated {
    fn new() -> Self {
        let clock_ms = Mutex::new(now_ms());
        Self { inner: Memory::new(), times: Mutex::default(), clock_ms }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

impl Backend for Dated {
    fn place(&self) -> String {
        "dated".into()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        let put = self.inner.put_new(name, bytes)?;
        if put == Put::Created {
            self.times.lock().unwrap().insert(*name, *self.clock_ms.lock().unwrap());
        }
        Ok(put)
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        self.inner.get(name, span)
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        self.inner.list(prefix, each)
    }

    fn age(&self, name: &ObjectName) -> Result<Option<Duration>, BackendError> {
        let time_ms = self.times.lock().unwrap().get(name).copied();
        Ok(time_ms.map(|time_ms| Duration::from_millis(now_ms().saturating_sub(time_ms))))
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        self.inner.remove(name)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { put_if_absent: true }
    }
}

/// A repository with a real snapshot for each of the last days, and what a client adds through its handle.
struct History {
    store: Arc<Dated>,
    handle: AppendOnly,
    repository: Repository,
    keys: Arc<Keys>,
    sample: SnapshotRecord,
    real: BTreeSet<SnapshotId>,
    number: u64,
}

const DAYS: u64 = 40;

impl History {
    fn new() -> Self {
        let store = Arc::new(Dated::new());
        let repository = Repository::init(store.clone(), &secret(), &InitOptions::new()).unwrap().with_threads(1);
        let first = backup(&repository, "/home", b"as it was");
        let sample = repository.snapshot(&Selector::Id(first.to_string()), &SnapshotFilter::default()).unwrap();
        let sample = sample.record().clone();
        repository.backend().remove(&ObjectName::Snapshot(first)).unwrap();
        repository.backend().remove(&ObjectName::SecondCopy(Doubled::Snapshot(first))).unwrap();
        let keys = keys(&repository);
        let handle = AppendOnly::new(store.clone());
        let mut history = Self { store, handle, repository, keys, sample, real: BTreeSet::new(), number: 0 };
        for days in (0..DAYS).rev() {
            let then = now_ms() - days * DAY_MS - 1000;
            let id = history.add(then, then, then, "ours");
            history.real.insert(id);
        }
        history
    }

    /// A snapshot that says of itself what its writer likes, through the handle of clients, when the store's clock says so.
    fn add(&mut self, id_ms: u64, time_ms: u64, stored_ms: u64, host: &str) -> SnapshotId {
        self.number += 1;
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.number.to_le_bytes());
        let id = SnapshotId::new(id_ms, random);
        let time_ns = i64::try_from(time_ms).unwrap() * 1_000_000;
        let record = SnapshotRecord {
            id,
            sequence: self.number,
            host: host.into(),
            start_ns: time_ns,
            end_ns: time_ns,
            zone_minutes: if self.number.is_multiple_of(2) { 840 } else { -720 },
            ..self.sample.clone()
        };
        let name = ObjectName::Snapshot(id);
        let bytes = seal::seal_box(&self.keys, Purpose::Snapshot, ObjectType::Snapshot, &name, &id.0, &record.encode())
            .unwrap();
        *self.store.clock_ms.lock().unwrap() = stored_ms;
        assert_eq!(self.handle.put_new(&name, bytes.into()).unwrap(), Put::Created);
        id
    }

    /// Everything that a stolen client can think of, within the last hour.
    fn attack(&mut self) {
        let now = now_ms();
        for days in 0..2 * DAYS {
            let end_of_day = (now / DAY_MS).saturating_sub(days) * DAY_MS + DAY_MS - 1;
            // Dated back, by its own time alone and by its id too; dated ahead; of the host and of others.
            self.add(now, end_of_day.min(now), now - 3_600_000, "ours");
            self.add(end_of_day, end_of_day, now - 3_600_000, "ours");
            self.add(now + days * DAY_MS, now + days * DAY_MS, now - 3_600_000, "ours");
            self.add(now, now - days * 3_600_000, now - 3_600_000, &format!("host{days}"));
        }
        for minute in 0..100 {
            self.add(now - minute * 60_000, now - minute * 60_000, now - minute * 60_000, "ours");
        }
    }

    /// Which of the real ones this policy would remove.
    fn removed(&self, policy: Policy) -> BTreeSet<SnapshotId> {
        let options = ForgetOptions::new().policy(policy).group_by(GroupBy::new(true, true, false));
        let plan = self.repository.plan_forget(&options, &Silent).unwrap();
        assert!(plan.unreadable.is_empty());
        plan.remove().map(|snapshot| snapshot.id()).filter(|id| self.real.contains(id)).collect()
    }
}

fn every_rule() -> Vec<(String, Policy)> {
    let days = |days| CalendarSpan { years: 0, months: 0, days, hours: 0 };
    let mut rules = vec![
        ("last".to_owned(), Policy::new().keep_last(5)),
        ("within".to_owned(), Policy::new().keep_within(days(20))),
    ];
    for period in Period::ALL {
        rules.push((format!("{} 5", period.adverb()), Policy::new().keep(period, 5)));
        rules.push((format!("{} within", period.adverb()), Policy::new().keep_each_within(period, days(25))));
    }
    rules
}

#[test]
fn what_a_stolen_client_adds_moves_no_real_snapshot_out_of_any_rule_under_a_guard() {
    let mut history = History::new();
    let guarded = |policy: Policy| policy.guard(Guard::new());
    let before: Vec<BTreeSet<SnapshotId>> =
        every_rule().into_iter().map(|(_, policy)| history.removed(guarded(policy))).collect();
    assert!(before.iter().all(|removed| !removed.is_empty()), "each rule has something to remove");
    let unguarded: Vec<BTreeSet<SnapshotId>> =
        every_rule().into_iter().map(|(_, policy)| history.removed(policy)).collect();
    history.attack();
    for ((name, policy), expected) in every_rule().into_iter().zip(before) {
        assert_eq!(history.removed(guarded(policy)), expected, "{name}");
    }
    // The attack is one: without a guard it moves real ones out.
    let moved = every_rule().into_iter().zip(unguarded).filter(|((_, policy), expected)| {
        let now = history.removed(policy.clone());
        !now.is_subset(expected)
    });
    assert!(moved.count() >= 5, "the attack does not bite where nothing guards");
}

#[test]
fn what_was_added_since_a_theft_long_ago_takes_no_more_than_the_time_since_then() {
    let mut history = History::new();
    let stolen_days = 9;
    let daily = || Policy::new().keep(Period::ALL[2], 30).guard(Guard::new());
    assert_eq!(Period::ALL[2].adverb(), "daily");
    let before = history.removed(daily());
    for days in 0..=stolen_days {
        for minute in 1..20 {
            let then = now_ms() - days * DAY_MS - minute * 60_000;
            history.add(then, then, then, "ours");
        }
    }
    let since = history.removed(daily());
    let lost: Vec<_> = since.difference(&before).collect();
    let oldest_kept = now_ms() - (30 - stolen_days) * DAY_MS;
    assert!(
        lost.iter().all(|id| id.started_ms() > now_ms() - (stolen_days + 2) * DAY_MS || id.started_ms() < oldest_kept)
    );
}

// ---- the program ----

#[test]
fn with_append_only_what_adds_works_and_what_does_more_is_refused_by_name() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    let id = cli.backup(&[]);
    let works: [&[&str]; 8] = [
        &["backup", "source"],
        &["backup", "source", "--skip-if-unchanged"],
        &["snapshots"],
        &["ls", "latest"],
        &["restore", "latest", "--target", "target"],
        &["check", "--read-data"],
        &["key", "list"],
        &["list", "packs"],
    ];
    for command in works {
        cli.run(&[&["--append-only"], command].concat()).succeeds();
        cli.command(command).env("ICECORE_APPEND_ONLY", "1").run().succeeds();
    }
    let refused: [(&str, &[&str]); 12] = [
        ("forget", &["forget", &id]),
        ("prune", &["prune"]),
        ("tag", &["tag", "--add", "x"]),
        ("rewrite --forget", &["rewrite", "--new-host", "x", "--forget"]),
        ("repair", &["repair", "index"]),
        ("mirror", &["mirror", "copy"]),
        ("cross-check", &["cross-check", "copy"]),
        ("key add", &["key", "add", "--new-key-file", "second"]),
        ("key remove", &["key", "remove", "ab"]),
        ("key passwd", &["key", "passwd", "--new-key-file", "second"]),
        ("init", &["init", "-r", "other"]),
        ("not made with --append-only", &["backup", "--init", "-r", "other", "source"]),
    ];
    for (name, command) in refused {
        cli.run(&[&["--append-only"], command].concat()).fails(1, &[name, "--append-only", "maintenance"]);
        cli.command(command).env("ICECORE_APPEND_ONLY", "yes").run().fails(1, &[name]);
    }
    assert!(!cli.path("other").exists() && !cli.path("second").exists() && !cli.path("copy").exists());
    cli.command(&["forget", &id]).env("ICECORE_APPEND_ONLY", "0").run().succeeds();
    // The sessions that could not be removed are in nobody's way.
    let sessions = || std::fs::read_dir(cli.path("repo/sessions")).unwrap().count();
    assert!(sessions() >= 3);
    cli.run(&["prune"]).succeeds();
    assert_eq!(sessions(), 0);
    cli.run(&["check", "--read-data"]).succeeds();
}

#[test]
fn init_says_who_may_write_where_and_claims_nothing_of_a_directory() {
    let cli = Cli::new();
    let run = cli.run(&["init", "-r", "second", "--new-key-file", "other"]).succeeds();
    let run = run.tells("A directory holds nobody to only adding");
    let line = cli.json(&["init", "-r", "third", "--new-key-file", "another"]).pop().expect("a line");
    assert_eq!(line["append_only"]["enforced"], false);
    assert_eq!(line["append_only"]["clients_remove"].as_array().map(Vec::len), Some(0));
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format.md")).unwrap();
    for rule in policy::RULES {
        let (field, word) = match rule.writer {
            policy::Writer::Client => ("clients_put", "clients"),
            _ => ("maintenance_puts", "maintenance"),
        };
        let prefixes = line["append_only"][field].as_array().expect("a list");
        assert!(prefixes.contains(&rule.prefix.into()), "{}", rule.prefix);
        assert!(run.out.contains(rule.prefix), "{}", rule.prefix);
        let row = format!("| `{}` | {word} | {} |", rule.prefix, rule.what);
        assert!(document.contains(&row), "docs/format.md has no row {row}");
    }
}
