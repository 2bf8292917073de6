//! One schedule of one scenario, from the first move to the last.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;

use repo_core::internals::crypto::Keys;
use repo_core::internals::{store, world};
use repo_core::{Backend, Bytes, Error, InitOptions, ObjectName, OpenOptions, OwnerId, Repository, Result};

use super::explore::{Chooser, Situation};
use super::oracle::Oracle;
use super::store::{Fate, Handle, Late, Request, SimulatedStore, Standing, State, hash};
use crate::whole;

/// Of the weak repositories here.
const OWNER: OwnerId = OwnerId([0x6f; 16]);

type Verb = Box<dyn Fn(&Stage) -> Result<()> + Send + Sync>;

/// What one process does.
pub struct Role {
    pub name: &'static str,
    /// It begins when this one has ended, dead or not; `None`: at once.
    pub after: Option<usize>,
    /// It may die at any call, if the scenario allows crashes.
    pub mortal: bool,
    pub verb: Verb,
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Role({})", self.name)
    }
}

impl Role {
    /// A process that begins at once and does not die.
    pub fn new(name: &'static str, verb: impl Fn(&Stage) -> Result<()> + Send + Sync + 'static) -> Self {
        Self { name, after: None, mortal: false, verb: Box::new(verb) }
    }

    /// Begins when another has ended, dead or not.
    pub fn after(mut self, other: usize) -> Self {
        self.after = Some(other);
        self
    }

    /// May die at any call.
    pub fn mortal(mut self) -> Self {
        self.mortal = true;
        self
    }
}

/// What may go wrong, besides that processes take turns.
#[derive(Clone, Copy)]
pub struct Faults {
    /// How often in one schedule.
    pub budget: u32,
    /// Mortal processes die.
    pub crashes: bool,
    /// What a dying process asked for last may be carried out later.
    pub in_flight: bool,
    /// Answers to these requests, to write or to remove, may be lost, and they may be carried out later.
    pub lost: fn(&Request) -> bool,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({})", self.budget)
    }
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self { budget: 0, crashes: false, in_flight: false, lost: |_| false };
    /// One mortal process dies.
    pub const CRASH: Self = Self { budget: 1, crashes: true, ..Self::NONE };
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// The call of this process.
    Process(usize, Fate),
    /// A change that is under way.
    Lands(usize),
    /// The place refuses no more deletes.
    RefusalEnds,
    /// All processes have ended.
    End,
}

impl Move {
    /// Whose it is.
    pub fn process(&self) -> Option<usize> {
        match self {
            Self::Process(process, _) => Some(*process),
            Self::Lands(_) | Self::RefusalEnds | Self::End => None,
        }
    }

    /// Whether something goes wrong in it.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Process(_, fate) if !matches!(fate, Fate::Served | Fate::Shows { .. }))
    }
}

/// What a process works at.
#[derive(Debug)]
pub struct Stage {
    handle: Arc<Handle>,
    begins_at_once: bool,
}

impl Stage {
    /// The repository with one thread: opened before anything else happens, if this process begins at once and has not
    /// asked for anything yet, and else with others looking on.
    ///
    /// # Errors
    /// The process died.
    pub fn repository(&self) -> Result<Repository> {
        self.before_all(|| Repository::open(self.handle.clone(), &whole::secret())).map(|one| one.with_threads(1))
    }

    /// As [`repository`](Self::repository), as the owner of a weak one.
    ///
    /// # Errors
    /// The process died.
    pub fn owned_repository(&self) -> Result<Repository> {
        let options = OpenOptions::new().owner(OWNER);
        let open = || Repository::open_with(self.handle.clone(), &whole::secret(), &options);
        self.before_all(open).map(|one| one.with_threads(1))
    }

    /// As [`repository`](Self::repository), with the index loaded too.
    ///
    /// # Errors
    /// The process died.
    pub fn with_stale_index(&self) -> Result<Repository> {
        let repository = self.repository()?;
        self.before_all(|| store::of(&repository))?;
        Ok(repository)
    }

    fn before_all<T>(&self, work: impl FnOnce() -> T) -> T {
        let is_first = self.begins_at_once && !self.handle.has_asked();
        self.handle.set_free(is_first);
        let result = work();
        self.handle.set_free(false);
        result
    }

    /// The store itself.
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.handle.clone()
    }

    /// Lets time pass for everybody, when the schedule says so.
    ///
    /// # Errors
    /// The process died.
    pub fn pass_for_all_ns(&self, ns: i64) -> Result<()> {
        Ok(self.handle.pass_for_all_ns(ns)?)
    }

    /// Lets this process' clock go ahead.
    pub fn pass_ns(&self, ns: i64) {
        self.handle.pass_ns(ns);
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did what it was to do.
    Done,
    /// The verb said no.
    Failed(String),
    /// The schedule killed it.
    Died,
}

/// What is there when all processes have ended.
#[derive(Debug)]
pub struct End {
    /// In the order of the roles.
    pub outcomes: Vec<Outcome>,
    handle: Arc<Handle>,
}

impl End {
    /// The repository, whose calls are carried out at once.
    pub fn repository(&self) -> Repository {
        whole::open_on(self.handle.clone())
    }

    /// The store itself.
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.handle.clone()
    }

    /// All processes that were not killed did what they were to do.
    ///
    /// # Errors
    /// What one of them said instead.
    pub fn all_are_done(&self) -> Result<(), String> {
        let failed = self.outcomes.iter().enumerate().find_map(|(number, outcome)| match outcome {
            Outcome::Failed(problem) => Some(format!("process {number} failed: {problem}")),
            _ => None,
        });
        failed.map_or(Ok(()), Err)
    }
}

/// The store before the first move.
#[derive(Debug, Clone)]
pub struct Start {
    objects: BTreeMap<ObjectName, Bytes>,
    oracle: Oracle,
    /// A weak repository, at a place that does not decide who is first.
    is_weak: bool,
    /// How many steps led to it. What draws names now must not draw those that were drawn then.
    age: u8,
}

impl Start {
    /// A new repository, after what `before` does to it.
    pub fn new(before: impl Fn(&Repository)) -> Self {
        Self::made(false).then(before)
    }

    /// A new weak repository at a place that does not decide who is first, after what `before` does to it.
    pub fn weak(before: impl Fn(&Repository)) -> Self {
        Self::made(true).then(before)
    }

    fn made(is_weak: bool) -> Self {
        let mut options = InitOptions::default();
        options.weak_store = is_weak.then_some(OWNER);
        let nothing = BTreeMap::new();
        let store =
            if is_weak { SimulatedStore::undecided(&nothing, 0) } else { SimulatedStore::new(&nothing, None, 0) };
        let handle = Handle::new(store.clone(), None, None, 0);
        let keys = {
            let _stay = world::enter(handle.clone(), [98; 32]);
            Repository::init(handle.clone(), &whole::secret(), &options).expect("an empty place");
            store::of(&whole::open_on(handle)).expect("the index loads").keys().clone()
        };
        Self { objects: store.objects(), oracle: Oracle::new(keys), is_weak, age: 0 }
    }

    fn store(&self, processes: usize) -> Arc<SimulatedStore> {
        match self.is_weak {
            true => SimulatedStore::undecided(&self.objects, processes),
            false => SimulatedStore::new(&self.objects, Some(self.oracle.clone()), processes),
        }
    }

    /// What is there after something was done to it.
    fn after(&self, store: &SimulatedStore) -> Self {
        let objects = store.objects();
        let oracle = store.state().oracle.clone().unwrap_or_else(|| self.oracle.clone());
        Self { objects, oracle, is_weak: self.is_weak, age: self.age + 1 }
    }

    /// This, after what `more` does to it.
    pub fn then(&self, more: impl Fn(&Repository)) -> Self {
        let store = self.store(0);
        let handle = Handle::new(store.clone(), None, None, self.age);
        let _stay = world::enter(handle.clone(), [100 + self.age; 32]);
        more(&whole::open_on(handle));
        assert_eq!(store.state().violation, None, "the simulation begins with a whole store");
        self.after(&store)
    }

    /// This with damage done to it, of which the oracle knows nothing: it goes by what packs held.
    pub fn alter(&self, change: impl FnOnce(&Keys, &mut BTreeMap<ObjectName, Bytes>)) -> Self {
        let mut altered = self.clone();
        change(&self.oracle.keys(), &mut altered.objects);
        altered
    }

    /// What is there.
    pub fn objects(&self) -> &BTreeMap<ObjectName, Bytes> {
        &self.objects
    }
}

type Judge = Box<dyn Fn(&End) -> Result<(), String> + Send + Sync>;

/// Processes at one store, and what must be true in the end.
pub struct Scenario {
    pub start: Start,
    pub roles: Vec<Role>,
    /// Switches away from a process that could go on; `None`: any number.
    pub preemptions: Option<u32>,
    pub faults: Faults,
    /// A listing is one moment, not a walk during which others change what is there.
    pub lists_are_moments: bool,
    /// Packs that the place refuses to remove.
    pub retained: Vec<ObjectName>,
    /// At some moment it does so no longer.
    pub refusal_ends: bool,
    /// A rule of the protocol that is broken on purpose.
    pub mutant: Option<&'static str>,
    pub judge: Judge,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario").field("roles", &self.roles).field("preemptions", &self.preemptions).finish()
    }
}

/// What a run was.
#[derive(Debug)]
pub struct Ran {
    pub problem: Option<String>,
    pub trace: Vec<String>,
}

impl Scenario {
    /// Every process must do what it is to do, in any number of preemptions, and nothing goes wrong on the way.
    pub fn new(start: &Start, roles: Vec<Role>) -> Self {
        Self {
            start: start.clone(),
            roles,
            preemptions: None,
            faults: Faults::NONE,
            lists_are_moments: false,
            retained: Vec::new(),
            refusal_ends: false,
            mutant: None,
            judge: Box::new(End::all_are_done),
        }
    }

    /// Schedules with at most so many preemptions.
    pub fn preemptions(mut self, most: u32) -> Self {
        self.preemptions = Some(most);
        self
    }

    /// What may go wrong.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Asked when all processes have ended.
    pub fn judge(mut self, judge: impl Fn(&End) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.judge = Box::new(judge);
        self
    }

    /// Breaks a rule of the protocol on purpose.
    pub fn mutant(mut self, name: &'static str) -> Self {
        self.mutant = Some(name);
        self
    }

    /// A listing is one moment.
    pub fn lists_are_moments(mut self) -> Self {
        self.lists_are_moments = true;
        self
    }

    /// Runs one schedule.
    pub fn run(&self, chooser: &mut dyn Chooser) -> Ran {
        self.run_to_end(chooser).1
    }

    /// Runs one schedule, and gives the store that it leaves, for other scenarios to begin with.
    pub fn run_to_end(&self, chooser: &mut dyn Chooser) -> (Start, Ran) {
        let store = self.start.store(self.roles.len());
        store.state().retained.clone_from(&self.retained);
        let ran = thread::scope(|scope| {
            // The threads end however this does.
            let _end = KillAll(&store);
            let begin = |number: usize| {
                store.begins(number);
                let (store, role, age, mutant) = (store.clone(), &self.roles[number], self.start.age, self.mutant);
                scope.spawn(move || live(number, role, age, mutant, store));
            };
            let mut run = Run { scenario: self, store: &store, current: None, spent: (0, 0), trace: Vec::new() };
            let problem = run.play(chooser, &begin);
            Ran { problem, trace: run.trace }
        });
        (self.start.after(&store), ran)
    }
}

struct KillAll<'r>(&'r SimulatedStore);

impl Drop for KillAll<'_> {
    fn drop(&mut self) {
        self.0.kill_all();
    }
}

/// What a move has to do with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Names the move as long as it can be made.
    pub key: u64,
    process: Option<usize>,
    /// `None`: nothing of the store.
    request: Option<Request>,
    is_fault: bool,
    /// Commutes with nothing.
    stands_alone: bool,
}

fn touch(state: &State, one: Move) -> Touch {
    let is_fault = one.is_fault();
    match one {
        Move::Process(process, fate) => {
            let request = match state.processes[process].standing {
                Standing::Waits(request) if fate != Fate::Dies => Some(request),
                _ => None,
            };
            // Whoever looks at a clock does so between two calls.
            let stands_alone = request == Some(Request::TimePasses);
            Touch { key: hash(&(process, fate)), process: Some(process), request, is_fault, stands_alone }
        }
        Move::Lands(late) => {
            let request = match &state.late[late] {
                Late::Put(name, _) => Request::Put(*name),
                Late::Remove(name) => Request::Remove(*name),
            };
            Touch { key: hash(&state.late[late]), process: None, request: Some(request), is_fault, stands_alone: false }
        }
        Move::RefusalEnds | Move::End => Touch { key: 0, process: None, request: None, is_fault, stands_alone: true },
    }
}

impl Touch {
    /// Whether two moves come to the same in either order, and neither takes the other away.
    pub fn commutes_with(&self, other: &Self) -> bool {
        if self.process.is_some() && self.process == other.process || self.is_fault && other.is_fault {
            return false;
        }
        if self.stands_alone || other.stands_alone {
            return false;
        }
        let asks_of = |one: &Self, of: &Self| match one.request {
            Some(Request::IsAlive(process)) => of.process == Some(process),
            _ => false,
        };
        if asks_of(self, other) || asks_of(other, self) {
            return false;
        }
        match (&self.request, &other.request) {
            (Some(left), Some(right)) => left.commutes_with(right),
            _ => true,
        }
    }
}

/// The life of one process.
fn live(number: usize, role: &Role, age: u8, mutant: Option<&'static str>, store: Arc<SimulatedStore>) {
    let handle = Handle::new(store.clone(), Some(number), mutant, age);
    let mut stream = [age; 32];
    stream[..8].copy_from_slice(&(number as u64).to_le_bytes());
    let _stay = world::enter(handle.clone(), stream);
    let result =
        panic::catch_unwind(AssertUnwindSafe(|| (role.verb)(&Stage { handle, begins_at_once: role.after.is_none() })));
    let mut state = store.state();
    let outcome = match result {
        _ if state.processes[number].dead => Outcome::Died,
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(Error::Bug(problem))) => {
            state.violation.get_or_insert(format!("{}: a bug: {problem}", role.name));
            Outcome::Failed(problem)
        }
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => {
            state.violation.get_or_insert(format!("{} panicked", role.name));
            Outcome::Failed("it panicked".to_owned())
        }
    };
    drop(state);
    store.ended(number, outcome);
}

/// A run under way.
struct Run<'r> {
    scenario: &'r Scenario,
    store: &'r Arc<SimulatedStore>,
    /// Who made the last move.
    current: Option<usize>,
    /// Preemptions and faults.
    spent: (u32, u32),
    trace: Vec<String>,
}

impl Run<'_> {
    /// Moves until nobody has anything more to do. What is wrong, if something is.
    fn play(&mut self, chooser: &mut dyn Chooser, begin: &dyn Fn(usize)) -> Option<String> {
        loop {
            self.begin_ready(begin);
            let mut state = self.store.quiet();
            if state.violation.is_some() {
                return state.violation.take();
            }
            let left = self.left();
            let moves = self.moves(&state, left);
            if moves.iter().all(|one| matches!(one, Move::Lands(_) | Move::RefusalEnds)) {
                return self.finish(state, chooser, left);
            }
            // Who made the last move matters only where switching away from it is counted.
            let current = self.scenario.preemptions.and(self.current);
            let chosen = chooser.choose(&Situation {
                moves: &moves,
                touches: moves.iter().map(|one| touch(&state, *one)).collect(),
                state: hash(&(state.print(), current)),
                left,
                shown: &|one| self.shown(&state, one),
            })?;
            self.make(&mut state, moves[chosen], moves[0]);
        }
    }

    fn begin_ready(&self, begin: &dyn Fn(usize)) {
        loop {
            let state = self.store.quiet();
            let is_ready = |(number, role): (usize, &Role)| {
                let is_after = role.after.is_none_or(|other| state.processes[other].standing == Standing::Ended);
                (state.processes[number].standing == Standing::NotBegun && is_after).then_some(number)
            };
            let Some(ready) = self.scenario.roles.iter().enumerate().find_map(is_ready) else { return };
            drop(state);
            // One after the other: each runs alone up to its first call.
            begin(ready);
        }
    }

    fn left(&self) -> (u32, u32) {
        let preemptions = self.scenario.preemptions.map_or(u32::MAX, |most| most - self.spent.0);
        (preemptions, self.scenario.faults.budget - self.spent.1)
    }

    /// First what goes on without a switch, then switches, then faults.
    fn moves(&self, state: &State, left: (u32, u32)) -> Vec<Move> {
        let waiting = |number: usize| match state.processes[number].standing {
            Standing::Waits(request) => Some((number, request)),
            _ => None,
        };
        let current = self.current.and_then(waiting);
        let others = (0..self.scenario.roles.len()).filter(|number| Some(*number) != self.current).filter_map(waiting);
        let may_switch = current.is_none() || left.0 > 0;
        let ready: Vec<_> = current.into_iter().chain(others.take_while(|_| may_switch)).collect();
        let mut moves = Vec::new();
        for (number, request) in &ready {
            self.ordinary(state, *number, *request, &mut moves);
        }
        if may_switch {
            moves.extend((0..state.late.len()).map(Move::Lands));
            moves.extend((self.scenario.refusal_ends && !state.retained.is_empty()).then_some(Move::RefusalEnds));
        }
        if left.1 > 0 {
            for (number, request) in &ready {
                self.faulty(*number, *request, &mut moves);
            }
        }
        moves
    }

    fn ordinary(&self, state: &State, number: usize, request: Request, moves: &mut Vec<Move>) {
        let changes = state.seen_by_chance(number);
        match request {
            Request::ListEnds(_) if changes > 0 && !self.scenario.lists_are_moments => {
                // All of it and nothing of it first; any part of it if it is little.
                let all = if changes < 64 { (1 << changes) - 1 } else { u64::MAX };
                moves.extend([all, 0].map(|changes| Move::Process(number, Fate::Shows { changes })));
                if changes <= SUBSETS_MAX {
                    moves.extend((1..all).map(|changes| Move::Process(number, Fate::Shows { changes })));
                }
            }
            _ => moves.push(Move::Process(number, Fate::Served)),
        }
    }

    fn faulty(&self, number: usize, request: Request, moves: &mut Vec<Move>) {
        let faults = &self.scenario.faults;
        let changed = matches!(request, Request::Put(_) | Request::Remove(_));
        if changed && (faults.lost)(&request) {
            let fates = [Fate::AnswerLost, Fate::LandsLater, Fate::NeverLands];
            moves.extend(fates.map(|fate| Move::Process(number, fate)));
        }
        if faults.crashes && self.scenario.roles[number].mortal {
            moves.push(Move::Process(number, Fate::Dies));
            if changed && faults.in_flight {
                moves.push(Move::Process(number, Fate::DiesInFlight));
            }
        }
    }

    fn make(&mut self, state: &mut State, chosen: Move, first: Move) {
        let goes_on = self.current.is_some() && first.process() == self.current;
        if goes_on && chosen.process() != self.current {
            self.spent.0 += 1;
        }
        self.spent.1 += u32::from(chosen.is_fault());
        self.trace.push(self.shown(state, chosen));
        match chosen {
            Move::Process(number, fate) => {
                self.current = Some(number);
                self.store.grant(state, number, fate);
            }
            Move::Lands(late) => state.land(late),
            Move::RefusalEnds => state.retained.clear(),
            Move::End => {}
        }
    }

    fn shown(&self, state: &State, one: Move) -> String {
        match one {
            Move::Process(number, fate) => {
                let request = match state.processes[number].standing {
                    Standing::Waits(request) => request.to_string(),
                    _ => String::new(),
                };
                let fate = if fate == Fate::Served { String::new() } else { format!(" → {fate:?}") };
                format!("{number} {}: {request}{fate}", self.scenario.roles[number].name)
            }
            Move::Lands(late) => match &state.late[late] {
                Late::Put(name, _) => format!("late: {}", Request::Put(*name)),
                Late::Remove(name) => format!("late: {}", Request::Remove(*name)),
            },
            Move::RefusalEnds => "the place refuses no more deletes".to_owned(),
            Move::End => "the end".to_owned(),
        }
    }

    /// All processes have ended.
    fn finish(
        &mut self,
        mut state: std::sync::MutexGuard<'_, State>,
        chooser: &mut dyn Chooser,
        left: (u32, u32),
    ) -> Option<String> {
        chooser.choose(&Situation {
            moves: &[Move::End],
            touches: vec![Touch { key: 0, process: None, request: None, is_fault: false, stands_alone: true }],
            state: hash(&(state.print(), "end")),
            left,
            shown: &|_| "the end".to_owned(),
        })?;
        while !state.late.is_empty() {
            self.trace.push(self.shown(&state, Move::Lands(0)));
            state.land(0);
        }
        if state.violation.is_some() {
            return state.violation.take();
        }
        let outcomes = state.processes.iter().map(|process| process.outcome.clone().expect("it has ended")).collect();
        drop(state);
        let handle = Handle::new(self.store.clone(), None, None, self.scenario.start.age + 1);
        let _stay = world::enter(handle.clone(), [99; 32]);
        let judged = (self.scenario.judge)(&End { outcomes, handle });
        self.store.state().violation.take().or(judged.err())
    }
}

/// A listing shows any part of so many changes; of more, all or nothing.
const SUBSETS_MAX: usize = 3;
