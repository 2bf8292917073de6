//! The real verbs under every schedule of small configurations, and under many of larger ones: whatever a snapshot
//! refers to stays in the store. That the simulation would notice is shown on a collector that is wrong on purpose.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use icecore_tests::contract;
use icecore_tests::simulate::{
    Chooser, End, Exhaustive, Faults, Found, Handle, Letters, Move, Random, Role, Scenario, SimulatedStore, Situation,
    Stage, Start,
};
use icecore_tests::whole;
use repo_core::internals::format::tree::Subtree;
use repo_core::internals::{store, tree};
use repo_core::{
    BackupOptions, CheckOptions, ChunkId, Content, ExtentKind, ObjectName, PackId, PackKind, PasswordCost, Prefix,
    Repository, Result, Secret, Silent, SnapshotFilter,
};

fn options() -> BackupOptions {
    BackupOptions::new().host("host")
}

fn back_up(repository: &Repository, letters: &str) -> Result<()> {
    repository.backup(&Letters::new(letters), &options(), &Silent).map(drop)
}

fn backup(name: &'static str, letters: &'static str) -> Role {
    Role::new(name, move |stage: &Stage| back_up(&stage.repository()?, letters))
}

/// Reads every file of every snapshot, as a restore does.
fn read_all(repository: &Repository) -> Result<()> {
    for snapshot in repository.snapshots(&SnapshotFilter::new())?.snapshots {
        for letter in b'a'..=b'z' {
            let Ok(mut file) = repository.read(&snapshot, &[b'/', letter]) else { continue };
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(|error| repo_core::Error::Bug(error.to_string()))?;
            assert_eq!(bytes, Letters::content(letter), "what comes back is what was stored");
        }
    }
    Ok(())
}

/// A repository with one snapshot of the files `a` and `b`.
fn one_snapshot() -> Start {
    Start::new(|repository| back_up(repository, "ab").unwrap())
}

/// Everybody has done his work, so many snapshots are there and come back, and a check of every byte finds nothing.
fn whole_with(snapshots: usize) -> impl Fn(&End) -> std::result::Result<(), String> {
    move |end| {
        end.all_are_done()?;
        let repository = end.repository();
        let there = repository.snapshots(&SnapshotFilter::new()).unwrap().snapshots.len();
        if there != snapshots {
            return Err(format!("{there} snapshots and not {snapshots}"));
        }
        read_all(&repository).map_err(whole::in_words("reading"))?;
        whole::is_whole(&repository)
    }
}

/// Explores everything within the scenario's bounds, and says how much that was.
fn all(name: &str, scenario: &Scenario) {
    match Exhaustive::explore(scenario, u64::MAX) {
        Ok(report) => println!("{name}: {report}"),
        Err(found) => panic!("{name}: {found}"),
    }
}

/// As [`all`], of a scenario in which a chunk is lost.
fn caught(name: &str, scenario: &Scenario) -> Found {
    match Exhaustive::explore(scenario, u64::MAX) {
        Ok(report) => panic!("{name} was not noticed: {report}"),
        Err(found) => {
            println!("{name}: noticed after {}", found.report);
            *found
        }
    }
}

#[test]
fn the_simulated_store_keeps_the_promises_of_a_backend() {
    contract::run(&|| Handle::new(SimulatedStore::new(&BTreeMap::new(), None, 0), None, None, 0));
}

#[test]
fn two_backups_at_once_are_both_whole_in_every_schedule() {
    let scenario = Scenario::new(&one_snapshot(), vec![backup("left", "abc"), backup("right", "bcd")]);
    all("two backups", &scenario.judge(whole_with(3)));
}

#[test]
fn a_backup_and_a_change_of_keys_do_not_disturb_each_other() {
    let keys = Role::new("keys", |stage: &Stage| {
        let key = Secret::Key([7; 32].into());
        stage.repository()?.add_key(&key, "another", PasswordCost::Default).map(drop)
    });
    let scenario = Scenario::new(&one_snapshot(), vec![backup("backup", "abc"), keys]);
    all("backup and keys", &scenario.judge(whole_with(2)));
}

#[test]
fn a_reader_beside_a_backup_reads_what_was_stored() {
    let reader = Role::new("reader", |stage: &Stage| read_all(&stage.repository()?));
    let scenario = Scenario::new(&one_snapshot(), vec![backup("backup", "abc"), reader]);
    all("backup and reader", &scenario.judge(whole_with(2)));
}

#[test]
fn a_check_beside_a_backup_finds_nothing_wrong() {
    let check = Role::new("check", |stage: &Stage| {
        let report = stage.repository()?.check(&CheckOptions::new(), &Silent)?;
        report.errors.into_iter().next().map_or(Ok(()), Err)
    });
    let scenario = Scenario::new(&one_snapshot(), vec![backup("backup", "abc"), check]);
    all("backup and check", &scenario.preemptions(1).judge(whole_with(2)));
}

#[test]
fn whenever_a_writer_dies_the_next_one_begins_where_it_ended() {
    let again = backup("again", "abc").after(0);
    let scenario = Scenario::new(&one_snapshot(), vec![backup("dies", "abc").mortal(), again]);
    let crash = Faults { in_flight: true, ..Faults::CRASH };
    let judge = |end: &End| {
        end.all_are_done()?;
        read_all(&end.repository()).map_err(whole::in_words("reading"))?;
        whole::is_whole_but_for_copies(&end.repository())
    };
    all("crash and restart", &scenario.preemptions(1).faults(crash).judge(judge));
}

#[test]
fn many_writers_that_die_at_any_step_leave_whole_snapshots() {
    let roles = vec![
        backup("a", "abc").mortal(),
        backup("b", "cde").mortal(),
        backup("c", "aef"),
        backup("a again", "abc").after(0).mortal(),
        backup("a at last", "abc").after(3),
        Role::new("reader", |stage: &Stage| read_all(&stage.repository()?)),
    ];
    let faults = Faults { budget: 3, crashes: true, in_flight: true, lost: |_| false };
    let scenario = Scenario::new(&one_snapshot(), roles).faults(faults);
    match Random::explore(&scenario, 0, 100) {
        Ok(report) => println!("many writers: {report}"),
        Err(found) => panic!("many writers: {found}"),
    }
}

/// What one must not do: delete the packs that nothing refers to at this moment.
fn collect_naively(repository: &Repository) -> Result<()> {
    let snapshots = repository.snapshots(&SnapshotFilter::new())?.snapshots;
    let store = store::of(repository)?;
    let mut live = HashSet::new();
    for snapshot in &snapshots {
        let root = snapshot.record().root;
        let Some(top) = root.tree else { continue };
        live.insert(top);
        let subtree = Subtree { root: top, entries: root.entries, bytes: root.bytes };
        for node in tree::nodes(&store, Some(&subtree)) {
            let Content::Extents(extents) = node?.content else { continue };
            live.extend(extents.iter().filter_map(|extent| match extent.kind {
                ExtentKind::Data(id) => Some(id),
                _ => None,
            }));
        }
    }
    let mut packs: HashMap<(PackKind, PackId), Vec<ChunkId>> = HashMap::new();
    let view = store.view();
    view.each_row(|chunk| {
        let row = &view.packs()[view.frames()[chunk.frame as usize].0 as usize];
        packs.entry((row.kind, row.id)).or_default().push(*chunk.id);
    });
    let mut dead: Vec<_> = packs.into_iter().filter(|(_, chunks)| !chunks.iter().any(|id| live.contains(id))).collect();
    dead.sort_unstable();
    for ((kind, id), _) in dead {
        repository.backend().remove(&ObjectName::Pack(kind, id))?;
    }
    Ok(())
}

fn naive_collector() -> Role {
    Role::new("collector", |stage: &Stage| collect_naively(&stage.repository()?))
}

/// Packs of the file `c` that no snapshot refers to: their writer died before it published.
fn with_orphans() -> Start {
    let backup = backup("dies", "abc").mortal();
    let scenario = Scenario::new(&one_snapshot(), vec![backup]).faults(Faults::CRASH);
    let (left, ran) = scenario.run_to_end(&mut DiesAt { what: "put snapshots" });
    assert_eq!(ran.problem, None);
    left
}

/// Lets the first process die when it asks for this.
struct DiesAt {
    what: &'static str,
}

impl Chooser for DiesAt {
    fn choose(&mut self, now: &Situation<'_>) -> Option<usize> {
        let is_it = |one: &Move| {
            let text = (now.shown)(*one);
            text.contains(self.what) && text.contains("Dies")
        };
        Some(now.moves.iter().position(is_it).unwrap_or(0))
    }
}

#[test]
fn a_collector_that_looks_only_at_snapshots_is_caught() {
    // Alone it does no harm.
    let start = with_orphans();
    all("naive collector alone", &Scenario::new(&start, vec![naive_collector()]));
    // It takes what a backup has found in the index and is about to refer to.
    let found = caught(
        "naive collector, chunks found",
        &Scenario::new(&start, vec![backup("backup", "abc"), naive_collector()]).preemptions(1),
    );
    assert!(found.problem.contains("is in no pack"), "{found}");
    // And what a backup has just written.
    let found = caught(
        "naive collector, chunks written",
        &Scenario::new(&one_snapshot(), vec![backup("backup", "abc"), naive_collector()]).preemptions(1),
    );
    assert!(found.problem.contains("is in no pack"), "{found}");
}

#[test]
fn a_collector_is_caught_by_chance_too() {
    let scenario = Scenario::new(&one_snapshot(), vec![backup("backup", "abc"), naive_collector()]);
    let found = Random::explore(&scenario, 0, 1000).expect_err("one of a thousand schedules loses a chunk");
    println!("naive collector, by chance: noticed after {}", found.report);
    // The seed that is named shows it again.
    let seed = found.report.schedules - 1;
    assert_eq!(Random::explore(&scenario, seed, 1).expect_err("the same schedule").trace, found.trace);
}

#[test]
#[should_panic(expected = "came to another state")]
fn a_verb_that_does_not_do_the_same_each_time_is_noticed() {
    let runs = Arc::new(AtomicUsize::new(0));
    let fickle = Role::new("fickle", move |stage: &Stage| {
        let prefix = if runs.fetch_add(1, Ordering::SeqCst) == 0 { Prefix::Sessions } else { Prefix::Indexes };
        stage.repository()?.objects(prefix).map(drop)
    });
    all("fickle", &Scenario::new(&one_snapshot(), vec![fickle, backup("backup", "abc")]));
}
