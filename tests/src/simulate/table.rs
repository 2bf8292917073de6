//! Which rules of the protocol are broken on purpose, and the configuration in which each of them costs a chunk: the test
//! of the tests. The same configurations are explored with all rules kept.

use std::fmt;

use repo_core::internals::format::gc::{Mark, Pending, Plan};
use repo_core::internals::format::index::{ChunkRow, FrameRow, IndexBlock, PackRow};
use repo_core::internals::format::pack::Codec;
use repo_core::internals::seal;
use repo_core::internals::store::{self, gc};
use repo_core::{ChunkId, ChunkKind, Error, GcStage, ObjectName, PackId, PackKind, Repository, Silent, SnapshotId};

use super::explore::{Found, Random, Replay, Report};
use super::run::{End, Faults, Role, Scenario, Stage, Start};
use super::scenes::{
    self, Window, backup, compactor, copier, forget_host, forgetter, index_repairer, is_reclaimed, is_whole,
    long_sleep, owner_prune, pack_repairer, plain, prune, prune_twice, reader, recoverer, rewriter, stale_backup,
    thorough, undelete, zombie,
};
use super::store::Request;

/// Processes at one store, by name.
#[derive(Clone, Copy)]
pub struct Configuration {
    pub name: &'static str,
    pub scenario: fn() -> Scenario,
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A rule, and where breaking it shows.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// As the switch in the library is called.
    pub mutant: &'static str,
    pub configuration: Configuration,
}

/// Schedules in which a broken rule must show.
pub const SCHEDULES: u64 = 3000;

impl Case {
    /// A line of the table.
    pub fn line(&self, caught: &Result<Box<Found>, Report>) -> String {
        let Self { mutant, configuration } = self;
        match caught {
            Ok(found) => {
                format!("{mutant}: {configuration:?}, {} schedules: {}", found.report.schedules, found.problem)
            }
            Err(report) => format!("{mutant}: {configuration:?}, NOT NOTICED in {} schedules", report.schedules),
        }
    }

    /// Breaks the rule, and runs so many schedules by chance, the same each time: the first that shows it.
    ///
    /// # Errors
    /// What was looked at, if nothing showed.
    pub fn catch(&self, schedules: u64) -> Result<Box<Found>, Report> {
        let scenario = (self.configuration.scenario)().mutant(self.mutant);
        match Random::explore(&scenario, 0, schedules) {
            Ok(report) => Err(report),
            Err(found) => Ok(found),
        }
    }
}

macro_rules! configurations {
    ($($name:ident),* $(,)?) => {
        /// All of them.
        pub const CONFIGURATIONS: &[Configuration] = &[$(configuration($name, stringify!($name))),*];
    };
}

const fn configuration(scenario: fn() -> Scenario, name: &'static str) -> Configuration {
    Configuration { name, scenario }
}

configurations![
    backup_and_prune,
    backup_and_rest_of_prune,
    stale_backup_and_prune,
    two_backups_and_prune,
    backup_and_two_prunes,
    forget_between,
    forgotten_within_the_window,
    prune_dies,
    reader_and_moving_prune,
    backup_and_moving_prune,
    two_moving_prunes,
    refused_deletes,
    refused_before,
    forged_mark,
    forged_plan,
    lost_commit,
    parent_goes,
    undelete_and_prune,
    backup_undelete_and_prune,
    backup_and_compaction,
    half_indexed,
    late_second_copy,
    late_completion,
    planners_and_compactor,
    two_compactors,
    copy_and_prune,
    copy_and_moving_prune,
    repair_of_index_and_prune,
    repair_of_packs_and_prune,
    rewrite_and_prune,
    rewrite_and_moving_prune,
    backup_rewrite_and_prune,
    recover_and_prune,
    recover_and_moving_prune,
    backup_and_recover,
    weak_backup_and_prune,
    weak_backup_that_sleeps,
];

macro_rules! cases {
    ($($mutant:literal $configuration:ident,)*) => {
        /// Every switch of the library.
        pub const CASES: &[Case] = &[$(Case {
            mutant: $mutant,
            configuration: configuration($configuration, stringify!($configuration)),
        }),*];
    };
}

cases![
    "no pending list" backup_and_prune,
    "pending writers are not waited for" backup_and_prune,
    "snapshots are not read again" backup_and_prune,
    "a fence is written over" backup_and_prune,
    "a writer looks before it is registered" backup_and_prune,
    "marks are read after the index" backup_and_rest_of_prune,
    "marks are ignored" backup_and_prune,
    "done before the deletes" backup_and_prune,
    "what was listed once is not listed again" stale_backup_and_prune,
    "the forgotten lose their window" forgotten_within_the_window,
    "retained packs are forgotten" refused_deletes,
    "retained packs are rescued" refused_before,
    "retained packs count as places" forged_mark,
    "a foreign plan is obeyed" forged_plan,
    "commit sent again after a lost answer" lost_commit,
    "packs listed before the index is read" backup_and_compaction,
    "a pack half indexed is condemned" half_indexed,
    "everyone obeys his own plan" planners_and_compactor,
    "a late second copy stays" late_second_copy,
    "a weak fence waits for no week" weak_backup_and_prune,
    "a weak writer does not ask how long it was silent" weak_backup_that_sleeps,
    "a weak writer does not look again after its put" weak_backup_that_sleeps,
];

fn garbage() -> Start {
    scenes::expired(&scenes::with(&[("old", "ab")]), "old")
}

fn backup_and_prune() -> Scenario {
    Scenario::new(&garbage(), vec![backup("new", "ab"), prune(plain())]).judge(is_reclaimed)
}

/// As many as can begin after the mark and end before the deletes.
fn backup_and_rest_of_prune() -> Scenario {
    let start = scenes::cut_off(&garbage(), prune(plain()), "put gc/00000001.plan");
    Scenario::new(&start, vec![backup("new", "ab"), prune(plain())]).judge(is_reclaimed)
}

/// A place that does not decide who is first: the fence waits.
fn weak_backup_and_prune() -> Scenario {
    Scenario::new(&scenes::weak_garbage("a"), vec![backup("new", "a"), owner_prune()]).preemptions(1).judge(is_whole)
}

/// Likewise, and everybody sleeps for longer than it waits: between any two calls of the writer, before its last put too.
fn weak_backup_that_sleeps() -> Scenario {
    let roles = vec![backup("new", "a"), long_sleep(), owner_prune().after(1)];
    Scenario::new(&scenes::weak_garbage("a"), roles).preemptions(1).judge(is_whole)
}

fn undelete_and_prune() -> Scenario {
    Scenario::new(&garbage(), vec![undelete(), prune(plain())]).judge(is_reclaimed)
}

fn backup_undelete_and_prune() -> Scenario {
    Scenario::new(&garbage(), vec![backup("new", "ab"), undelete(), prune(plain())]).judge(is_reclaimed)
}

fn rewrite_and_prune() -> Scenario {
    let start = scenes::expired(&scenes::with(&[("old", "ab"), ("kept", "bc")]), "old");
    Scenario::new(&start, vec![rewriter("c"), prune(plain())]).judge(is_whole)
}

fn rewrite_and_moving_prune() -> Scenario {
    Scenario::new(&half_used(), vec![rewriter("c"), prune(thorough())]).judge(is_whole)
}

fn backup_rewrite_and_prune() -> Scenario {
    Scenario::new(&half_used(), vec![backup("new", "ab"), rewriter("c"), prune_twice(plain())]).judge(is_whole)
}

/// What a writer left that died before it published.
fn unfinished() -> Start {
    scenes::orphans(&scenes::with(&[("kept", "ac")]), "ab", "put snapshots")
}

fn recover_and_prune() -> Scenario {
    Scenario::new(&unfinished(), vec![recoverer(), prune(plain())]).judge(is_whole)
}

fn recover_and_moving_prune() -> Scenario {
    Scenario::new(&unfinished(), vec![recoverer(), prune(thorough())]).judge(is_whole)
}

fn backup_and_recover() -> Scenario {
    Scenario::new(&unfinished(), vec![backup("new", "ab"), recoverer(), prune(plain())]).judge(is_whole)
}

fn stale_backup_and_prune() -> Scenario {
    Scenario::new(&garbage(), vec![stale_backup("new", "ab"), prune(plain())]).judge(is_reclaimed)
}

fn two_backups_and_prune() -> Scenario {
    Scenario::new(&garbage(), vec![backup("one", "ab"), backup("two", "bc"), prune(plain())]).judge(is_reclaimed)
}

fn backup_and_two_prunes() -> Scenario {
    let start = scenes::expired(&scenes::expired(&scenes::twice(&scenes::empty(), "ab"), "left"), "right");
    Scenario::new(&start, vec![backup("new", "ab"), prune(plain()), prune(plain())]).judge(is_reclaimed)
}

fn forget_between() -> Scenario {
    let start = scenes::with(&[("old", "ab")]);
    Scenario::new(&start, vec![backup("new", "ab"), forgetter("old", Window::Over), prune_twice(plain())])
        .judge(is_reclaimed)
}

fn forgotten_within_the_window() -> Scenario {
    let forget = forgetter("new", Window::Open).after(0);
    Scenario::new(&garbage(), vec![backup("new", "ab"), forget, prune(plain())]).judge(is_whole)
}

fn prune_dies() -> Scenario {
    let roles = vec![prune(plain()).mortal(), prune(plain()).after(0), backup("new", "ab")];
    Scenario::new(&garbage(), roles).faults(Faults { in_flight: true, ..Faults::CRASH }).judge(is_reclaimed)
}

/// A pack of which half is needed.
fn half_used() -> Start {
    scenes::expired(&scenes::with(&[("old", "ab"), ("kept", "ac")]), "old")
}

fn reader_and_moving_prune() -> Scenario {
    Scenario::new(&half_used(), vec![reader(), prune(thorough())]).judge(is_whole)
}

fn backup_and_moving_prune() -> Scenario {
    Scenario::new(&half_used(), vec![backup("new", "ab"), prune(thorough())]).judge(is_whole)
}

fn two_moving_prunes() -> Scenario {
    Scenario::new(&half_used(), vec![prune(thorough()), prune(thorough())]).judge(is_whole)
}

fn packs(start: &Start) -> Vec<ObjectName> {
    start.objects().keys().filter(|name| matches!(name, ObjectName::Pack(..))).copied().collect()
}

/// Two that carry out one plan, at a place that refuses for a while.
fn refused_deletes() -> Scenario {
    let start = scenes::cut_off(&garbage(), prune(plain()), "remove packs");
    let roles = vec![prune(plain()), prune(plain()), backup("new", "ab")];
    let mut scenario = Scenario::new(&start, roles).judge(is_whole);
    scenario.retained = packs(&start);
    scenario.refusal_ends = true;
    scenario
}

/// A cycle whose deletes were refused, and the same chunks once more, of a writer that died.
fn refused_then_stored_again(letters: &'static str) -> (Start, Vec<ObjectName>) {
    let start = scenes::expired(&scenes::with(&[("old", letters)]), "old");
    let refused = packs(&start);
    let mut scenario = Scenario::new(&start, vec![prune(plain())]);
    scenario.retained.clone_from(&refused);
    let (start, ran) = scenario.run_to_end(&mut Replay::of(&[]));
    assert_eq!(ran.problem, None);
    // Fenced already, so that nobody takes its packs for those of a writer at work.
    let start = scenes::orphans(&start, letters, "put snapshots");
    (scenes::without_sessions(&start), refused)
}

/// One that slept over a whole cycle carries out the rest of its plan.
fn refused_before() -> Scenario {
    // Of two places of a chunk the one that is loaded first is looked at first, which is chance: here it is the refused one.
    let choices = ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"];
    let starts = choices.map(|letters| (letters, refused_then_stored_again(letters)));
    let (letters, (start, refused)) =
        starts.into_iter().find(|(_, (start, refused))| comes_first(start, refused)).expect("one in two is so");
    Scenario::new(&start, vec![backup("new", letters), prune(plain()), zombie(refused)]).judge(is_whole)
}

/// Whether the first pack that the index speaks of is one of these.
fn comes_first(start: &Start, packs: &[ObjectName]) -> bool {
    let first = std::sync::Mutex::new(None);
    start.then(|repository| {
        let view = store::of(repository).expect("the index loads").view();
        let found = view.packs().first().map(|row| ObjectName::Pack(row.kind, row.id));
        *first.lock().expect("nobody else looks") = found;
    });
    let first = first.into_inner().expect("nobody else looks");
    first.is_some_and(|first| packs.contains(&first))
}

/// A client that may write marks says that only what a snapshot needs is to go.
fn forged_mark() -> Scenario {
    let (start, refused) = refused_then_stored_again("ab");
    let start = start.then(|repository| scenes::back_up(repository, "new", "ab").expect("a backup that is alone"));
    let condemned: Vec<_> = packs(&start).into_iter().filter(|name| !refused.contains(name)).collect();
    let start = start.then(|repository| _ = forge_mark(repository, 2, &condemned));
    Scenario::new(&start, vec![prune(plain()), zombie(refused)]).judge(is_whole)
}

/// A client that may write plans says that everything is to go. Nothing is deleted, and it is said.
fn forged_plan() -> Scenario {
    let start = scenes::with(&[("kept", "ab")]);
    let all = packs(&start);
    let start = start.then(|repository| {
        let mark = forge_mark(repository, 1, &all);
        forge(
            repository,
            1,
            GcStage::Pending,
            &Pending { cycle: 1, sessions: Vec::new(), extensions: Vec::new() }.encode(),
        );
        let plan = Plan { cycle: 1, mark_digest: mark, delete: ids(&all), rescued: Vec::new(), extensions: Vec::new() };
        forge(repository, 1, GcStage::Plan, &plan.encode());
    });
    let refused = Role::new("prune", |stage: &Stage| match stage.repository()?.prune(&plain(), &Silent) {
        Err(Error::Corrupt { object: ObjectName::Gc(1, GcStage::Plan), .. }) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(Error::Malformed("a forged plan that was obeyed")),
    });
    // What is marked is nobody's to rely on, and still there.
    Scenario::new(&start, vec![refused]).judge(reads)
}

fn ids(packs: &[ObjectName]) -> Vec<PackId> {
    let mut ids: Vec<_> = packs
        .iter()
        .filter_map(|name| match name {
            ObjectName::Pack(_, id) => Some(*id),
            _ => None,
        })
        .collect();
    ids.sort_unstable();
    ids
}

const FORGER: SnapshotId = SnapshotId([0x66; 16]);

fn forge(repository: &Repository, cycle: u64, stage: GcStage, payload: &[u8]) -> [u8; 32] {
    let keys = store::of(repository).expect("the index loads").keys().clone();
    let bytes = gc::seal_step(&keys, cycle, stage, FORGER, payload).expect("it seals");
    let digest = *blake3::hash(&bytes).as_bytes();
    repository.backend().put_new(&ObjectName::Gc(cycle, stage), bytes).expect("memory writes");
    digest
}

fn forge_mark(repository: &Repository, cycle: u64, packs: &[ObjectName]) -> [u8; 32] {
    let expired = repository.forgotten().expect("memory reads");
    let mut expired: Vec<_> = expired.iter().map(|one| one.snapshot.id()).collect();
    expired.sort_unstable();
    let mark = Mark {
        cycle,
        by: FORGER,
        created_ms: 1,
        packs: ids(packs),
        roots: Vec::new(),
        expired,
        extensions: Vec::new(),
    };
    forge(repository, cycle, GcStage::Mark, &mark.encode())
}

/// The answer to the one put that publishes is lost, and the snapshot is forgotten and gone before the writer goes on.
fn lost_commit() -> Scenario {
    let lost =
        Faults { budget: 1, lost: |request| matches!(request, Request::Put(ObjectName::Snapshot(_))), ..Faults::NONE };
    let start = scenes::with(&[("old", "b")]);
    Scenario::new(&start, vec![backup("new", "a"), housekeeper()]).faults(lost).judge(|_| Ok(()))
}

/// The parent's pack goes while the next backup of its series is at work.
fn parent_goes() -> Scenario {
    let start = scenes::with(&[("same", "ab")]);
    Scenario::new(&start, vec![backup("same", "abc"), forgetter("same", Window::Over), prune(plain())])
        .judge(is_reclaimed)
}

/// What prune merges is what a writer adds to.
fn backup_and_compaction() -> Scenario {
    Scenario::new(&garbage(), vec![backup("new", "cd"), prune(plain())]).judge(is_indexed)
}

fn is_indexed(end: &End) -> Result<(), String> {
    is_whole(end)?;
    let view = store::of(&end.repository()).map_err(|error| error.to_string())?.view();
    match view.report().unindexed.first() {
        Some((row, _)) => Err(format!("pack {} was in the index and is not", row.id)),
        None => Ok(()),
    }
}

const QUARTER_NS: i64 = 100 * 24 * 3600 * 1_000_000_000;

/// Forgets what is new, takes it away, and long after also the record that it was forgotten.
fn housekeeper() -> Role {
    Role::new("housekeeper", |stage: &Stage| {
        let repository = stage.repository()?;
        forget_host(&repository, "new", Window::Over)?;
        repository.prune(&plain(), &Silent)?;
        stage.pass_ns(QUARTER_NS);
        forget_host(&repository, "old", Window::Over)?;
        repository.prune(&plain(), &Silent).map(drop)
    })
}

/// A writer sleeps between its snapshot's two copies until nobody remembers the snapshot. Chance seldom lets a process sleep
/// so long that may be woken at any time: with one switch it sleeps until the other has ended.
fn late_second_copy() -> Scenario {
    let start = scenes::with(&[("old", "b")]);
    Scenario::new(&start, vec![backup("new", "a"), housekeeper()]).preemptions(1).judge(is_whole)
}

/// So does a prune that writes the second copy for a writer that died.
fn late_completion() -> Scenario {
    let start = scenes::cut_off(&scenes::with(&[("old", "b")]), backup("new", "a"), "put r/snapshots");
    Scenario::new(&start, vec![prune(plain()), housekeeper()]).judge(is_whole)
}

/// An index object that speaks of a pack that is gone.
fn with_stale_index(start: &Start) -> Start {
    let id = PackId([0x77; 32]);
    let pack = PackRow { kind: PackKind::Data, id, length: 4096, chunk_count: 1, writer: SnapshotId([0x77; 16]) };
    let frame = FrameRow { pack: 0, ordinal: 0, offset: 256, stored_length: 512, raw_length: 100, codec: Codec::Raw };
    let chunk = ChunkRow { id: ChunkId([0x77; 32]), frame: 0, offset: 0, length: 100, kind: ChunkKind::Data };
    let block = IndexBlock { packs: vec![pack], frames: vec![frame], chunks: vec![chunk] };
    start.alter(|keys, objects| {
        let (id, bytes) = seal::seal_index(keys, SnapshotId([0x77; 16]), 1, &[block]).expect("it seals");
        objects.insert(ObjectName::Index(id), bytes);
    })
}

/// Two that plan at once, one by the index as it was and one by the merged one: of two marked packs with the same chunks, which
/// a snapshot needs by now, each would leave the other.
fn planners_and_compactor() -> Scenario {
    let start = scenes::twice(&scenes::empty(), "ab");
    let marked = packs(&start);
    let start = scenes::expired(&scenes::expired(&start, "left"), "right");
    let start = start.then(|repository| {
        scenes::back_up(repository, "new", "ab").expect("a backup that is alone");
        forge_mark(repository, 1, &marked);
    });
    let start = with_stale_index(&start);
    Scenario::new(&start, vec![prune(plain()), prune(plain()), compactor()]).judge(is_whole)
}

/// Two merge the same index objects while a third adds to them.
fn two_compactors() -> Scenario {
    let start = with_stale_index(&scenes::with(&[("one", "ab"), ("two", "bc")]));
    Scenario::new(&start, vec![compactor(), compactor(), backup("new", "cd")]).judge(is_indexed)
}

fn copy_and_prune() -> Scenario {
    Scenario::new(&garbage(), vec![copier("ab"), prune(plain())]).judge(is_reclaimed)
}

fn copy_and_moving_prune() -> Scenario {
    Scenario::new(&half_used(), vec![copier("ab"), prune(thorough())]).judge(is_whole)
}

fn repair_of_index_and_prune() -> Scenario {
    let start = with_stale_index(&garbage());
    Scenario::new(&start, vec![index_repairer(), prune(plain()), backup("new", "ab")]).judge(is_whole)
}

/// The table of a pack is damaged of which half is needed: its chunks move to another.
fn repair_of_packs_and_prune() -> Scenario {
    let start = scenes::with_damaged_table(&half_used());
    Scenario::new(&start, vec![pack_repairer(), prune(thorough()), backup("new", "ab")]).judge(reads)
}

fn reads(end: &End) -> Result<(), String> {
    end.all_are_done()?;
    scenes::read_all(&end.repository()).map_err(|error| error.to_string())
}

/// A pack whose table is damaged and of which the index knows only what nobody needs.
fn half_indexed() -> Scenario {
    let start = scenes::half_indexed();
    let all = packs(&start);
    let start = start.then(|repository| _ = forge_mark(repository, 1, &all));
    Scenario::new(&start, vec![prune(plain())]).judge(End::all_are_done)
}
