//! The store that all simulated processes share, and the handle of one of them, at which its calls wait until the
//! schedule lets them go on.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use repo_core::internals::world::World;
use repo_core::{
    Backend, BackendError, BackendErrorKind, Bytes, Capabilities, Listed, ObjectName, Prefix, Put, Removal, Span,
};

use super::oracle::Oracle;
use super::run::Outcome;

/// What a process asks of the store. A listing is two calls: between its beginning and its end others may write and
/// remove, and of that it may show any part (promise 6 of [`Backend`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Put(ObjectName),
    Get(ObjectName),
    ListBegins(Prefix),
    ListEnds(Prefix),
    Remove(ObjectName),
    MakeDurable(ObjectName),
    /// Of another process, whether it runs.
    IsAlive(usize),
    /// Nothing but that everybody's clock goes on.
    TimePasses,
}

impl Request {
    /// What it changes, if it does.
    fn changes(&self) -> Option<&ObjectName> {
        match self {
            Self::Put(name) | Self::Remove(name) => Some(name),
            _ => None,
        }
    }

    /// Whether two requests of different processes come to the same in either order, for both and for the store.
    pub fn commutes_with(&self, other: &Self) -> bool {
        match (self.changes(), other.changes()) {
            (None, None) => true,
            (Some(name), None) => !other.sees(name),
            (None, Some(name)) => !self.sees(name),
            // What is expired is told by these, and asked when snapshots go.
            (Some(ObjectName::Gc(..) | ObjectName::Forgotten(_)), _)
            | (_, Some(ObjectName::Gc(..) | ObjectName::Forgotten(_))) => false,
            (Some(left), Some(right)) => left != right,
        }
    }

    /// Whether the answer depends on this object.
    fn sees(&self, name: &ObjectName) -> bool {
        match self {
            Self::Put(own) | Self::Get(own) | Self::Remove(own) | Self::MakeDurable(own) => own == name,
            Self::ListBegins(prefix) | Self::ListEnds(prefix) => prefix.contains(name),
            Self::IsAlive(_) | Self::TimePasses => false,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Eight digits of an id are enough to tell objects apart, here as for users.
        let short = |name: &ObjectName| {
            let text = name.to_string();
            let parts = text.split('/').map(|part| match part.split_once('.') {
                Some((id, rest)) => format!("{}.{rest}", &id[id.len().saturating_sub(8)..]),
                None if part.len() > 12 => part[part.len() - 8..].to_owned(),
                None => part.to_owned(),
            });
            parts.collect::<Vec<_>>().join("/")
        };
        match self {
            Self::Put(name) => write!(f, "put {}", short(name)),
            Self::Get(name) => write!(f, "get {}", short(name)),
            Self::ListBegins(prefix) => write!(f, "list {prefix:?}"),
            Self::ListEnds(prefix) => write!(f, "… end of list {prefix:?}"),
            Self::Remove(name) => write!(f, "remove {}", short(name)),
            Self::MakeDurable(name) => write!(f, "make durable {}", short(name)),
            Self::IsAlive(process) => write!(f, "is process {process} alive"),
            Self::TimePasses => f.write_str("time passes"),
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is carried out, and answered.
    Served,
    /// A listing shows these of the changes since it began, a bit each in their order.
    Shows { changes: u64 },
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// The answer is lost, and it is carried out at some later time.
    LandsLater,
    /// It is lost before it reaches the store.
    NeverLands,
    /// The process dies before it has asked.
    Dies,
    /// The process dies while its request is under way, which is carried out at some later time.
    DiesInFlight,
}

/// A change that is under way without anybody waiting for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Late {
    Put(ObjectName, Bytes),
    Remove(ObjectName),
}

/// How far a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits for another to end.
    NotBegun,
    /// Between two calls.
    Runs,
    /// For the schedule, before this request.
    Waits(Request),
    Ended,
}

#[derive(Debug)]
pub struct Process {
    pub standing: Standing,
    /// What the schedule says to the request.
    pub fate: Option<Fate>,
    pub dead: bool,
    /// Of all requests and answers so far; of the outcome, when it has ended.
    pub history: u64,
    pub outcome: Option<Outcome>,
    /// Where the log of changes was, and what there was, when the open listing began.
    listing: Option<(usize, Vec<(ObjectName, u64)>)>,
    wakes: Arc<Condvar>,
}

/// An object and a hash of it.
#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    print: u64,
}

#[derive(Debug)]
pub struct State {
    objects: BTreeMap<ObjectName, Object>,
    /// Sum of the objects' prints.
    digest: u64,
    /// Every name that appeared (`true`) or went.
    changes: Vec<(bool, ObjectName)>,
    pub late: Vec<Late>,
    pub processes: Vec<Process>,
    /// `None` while there is nothing to look at.
    pub oracle: Option<Oracle>,
    /// What went wrong, in words.
    pub violation: Option<String>,
    /// Packs that the place refuses to remove.
    pub retained: Vec<ObjectName>,
}

/// Objects in memory, and the processes that use them.
pub struct SimulatedStore {
    state: Mutex<State>,
    /// A process waits or has ended.
    turn: Condvar,
    /// It does not decide which of two writers is first: the last one stands.
    is_undecided: bool,
    /// What has passed for all clocks at once.
    passed_ns: AtomicI64,
}

impl fmt::Debug for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedStore")
    }
}

/// Fixed, so that it means the same in every run.
pub fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl SimulatedStore {
    /// With these objects, of which the oracle knows.
    pub fn new(objects: &BTreeMap<ObjectName, Bytes>, oracle: Option<Oracle>, processes: usize) -> Arc<Self> {
        Self::with(objects, oracle, processes, false)
    }

    /// The same of a place that does not decide which of two writers is first. No oracle looks at it: what is wrong there for
    /// a moment may be taken back, and is judged in the end.
    pub fn undecided(objects: &BTreeMap<ObjectName, Bytes>, processes: usize) -> Arc<Self> {
        Self::with(objects, None, processes, true)
    }

    fn with(
        objects: &BTreeMap<ObjectName, Bytes>,
        oracle: Option<Oracle>,
        processes: usize,
        is_undecided: bool,
    ) -> Arc<Self> {
        let process = || Process {
            standing: Standing::NotBegun,
            fate: None,
            dead: false,
            history: 0,
            outcome: None,
            listing: None,
            wakes: Arc::default(),
        };
        let mut state = State {
            objects: BTreeMap::new(),
            digest: 0,
            changes: Vec::new(),
            late: Vec::new(),
            processes: std::iter::repeat_with(process).take(processes).collect(),
            oracle,
            violation: None,
            retained: Vec::new(),
        };
        for (name, bytes) in objects {
            state.insert(*name, bytes.clone());
        }
        let (state, turn, passed_ns) = (Mutex::new(state), Condvar::new(), AtomicI64::new(0));
        Arc::new(Self { state, turn, is_undecided, passed_ns })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is there.
    pub fn objects(&self) -> BTreeMap<ObjectName, Bytes> {
        self.state().objects.iter().map(|(name, object)| (*name, object.bytes.clone())).collect()
    }

    /// Waits until no process runs.
    pub fn quiet(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.processes.iter().any(|process| process.standing == Standing::Runs) {
            let (next, waited) = self
                .turn
                .wait_timeout(state, std::time::Duration::from_secs(120))
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            assert!(!waited.timed_out(), "a process neither asks the store nor ends");
        }
        state
    }

    /// A process is about to run for the first time.
    pub fn begins(&self, process: usize) {
        self.state().processes[process].standing = Standing::Runs;
    }

    /// A process has ended, with what is left of it to know.
    pub fn ended(&self, process: usize, outcome: Outcome) {
        let mut state = self.state();
        let process = &mut state.processes[process];
        process.standing = Standing::Ended;
        process.history = hash(&outcome);
        process.outcome = Some(outcome);
        self.turn.notify_all();
    }

    /// Lets the request of a waiting process go on.
    pub fn grant(&self, state: &mut State, process: usize, fate: Fate) {
        let process = &mut state.processes[process];
        process.fate = Some(fate);
        process.standing = Standing::Runs;
        process.wakes.notify_all();
    }

    /// Everything that still runs finds its store gone.
    pub fn kill_all(&self) {
        let mut state = self.state();
        for process in &mut state.processes {
            process.dead = true;
            process.wakes.notify_all();
        }
    }
}

impl State {
    fn insert(&mut self, name: ObjectName, bytes: Bytes) {
        let print = hash(&(name, blake3::hash(&bytes).as_bytes()));
        self.digest = self.digest.wrapping_add(print);
        self.objects.insert(name, Object { bytes, print });
    }

    fn put(&mut self, name: &ObjectName, bytes: &Bytes) -> Put {
        if let Some(there) = self.objects.get(name) {
            return Put::Exists(there.bytes.clone());
        }
        self.insert(*name, bytes.clone());
        self.changes.push((true, *name));
        if let Some(oracle) = &mut self.oracle
            && let Err(problem) =
                oracle.put(name, bytes, |other| self.objects.get(other).map(|object| object.bytes.clone()))
        {
            self.violation.get_or_insert(problem);
        }
        Put::Created
    }

    fn remove(&mut self, name: &ObjectName) -> Removal {
        if self.retained.contains(name) && self.objects.contains_key(name) {
            return Removal::Retained;
        }
        let Some(gone) = self.objects.remove(name) else { return Removal::Absent };
        self.digest = self.digest.wrapping_sub(gone.print);
        self.changes.push((false, *name));
        if let Some(oracle) = &mut self.oracle
            && let Err(problem) = oracle.removed(name, |other| self.objects.contains_key(other))
        {
            self.violation.get_or_insert(problem);
        }
        Removal::Removed
    }

    /// Whatever is there.
    fn put_over(&mut self, name: &ObjectName, bytes: &Bytes) {
        let before = self.objects.remove(name);
        if let Some(gone) = &before {
            self.digest = self.digest.wrapping_sub(gone.print);
        }
        self.insert(*name, bytes.clone());
        if before.is_none() {
            self.changes.push((true, *name));
        }
    }

    /// Carries out what is under way.
    pub fn land(&mut self, late: usize) {
        match self.late.remove(late) {
            Late::Put(name, bytes) => drop(self.put(&name, &bytes)),
            Late::Remove(name) => drop(self.remove(&name)),
        }
    }

    fn listed(&self, prefix: Prefix) -> Vec<(ObjectName, u64)> {
        let below = self.objects.iter().filter(|(name, _)| prefix.contains(name));
        below.map(|(name, object)| (*name, object.bytes.len() as u64)).collect()
    }

    /// The changes that the open listing of a process may show or not: names that appeared or went since it began.
    pub fn seen_by_chance(&self, process: usize) -> usize {
        let Standing::Waits(Request::ListEnds(prefix)) = self.processes[process].standing else { return 0 };
        self.changes_below(process, prefix).len()
    }

    /// By name, so that the order of changes to different names is forgotten.
    fn changes_below(&self, process: usize, prefix: Prefix) -> Vec<(bool, ObjectName)> {
        let from = self.processes[process].listing.as_ref().map_or(self.changes.len(), |(from, _)| *from);
        let below = self.changes[from..].iter().filter(|(_, name)| prefix.contains(name));
        let mut below: Vec<_> = below.copied().collect();
        below.sort_by_key(|(_, name)| *name);
        below
    }

    fn begin_listing(&mut self, process: usize, prefix: Prefix) -> u64 {
        let listed = self.listed(prefix);
        let print = hash(&listed);
        self.processes[process].listing = Some((self.changes.len(), listed));
        print
    }

    fn end_listing(&mut self, process: usize, prefix: Prefix, shown: u64) -> Vec<(ObjectName, u64)> {
        let changes = self.changes_below(process, prefix);
        let (_, mut listed) = self.processes[process].listing.take().expect("it began");
        for (number, (appeared, name)) in changes.into_iter().enumerate() {
            let is_shown = number >= 64 || shown >> number & 1 == 1;
            match appeared {
                true if is_shown => {
                    // If it is gone again by now, it was seen while it was there, by a length that does not matter.
                    let size = self.objects.get(&name).map_or(0, |object| object.bytes.len() as u64);
                    listed.retain(|(other, _)| *other != name);
                    listed.push((name, size));
                }
                false if is_shown => listed.retain(|(other, _)| *other != name),
                _ => {}
            }
        }
        listed.sort_unstable();
        listed
    }

    /// All that decides what can happen from here on.
    pub fn print(&self) -> u64 {
        let mut late: Vec<_> = self.late.iter().map(hash).collect();
        late.sort_unstable();
        let process = |number: usize| {
            let process = &self.processes[number];
            let seen: Vec<_> = match process.standing {
                Standing::Waits(Request::ListEnds(prefix)) => self.changes_below(number, prefix),
                _ => Vec::new(),
            };
            (process.dead, process.history, format!("{:?}", process.standing), seen)
        };
        let processes: Vec<_> = (0..self.processes.len()).map(process).collect();
        hash(&(self.digest, late, processes, self.retained.len(), self.oracle.as_ref().map(Oracle::print)))
    }
}

/// One process' way to the store.
pub struct Handle {
    store: Arc<SimulatedStore>,
    /// `None`: nobody's; for what comes before and after the schedule.
    process: Option<usize>,
    /// Calls are carried out at once.
    free: AtomicBool,
    /// Whether anything was asked with others looking on.
    has_asked: AtomicBool,
    clock: AtomicI64,
    mutant: Option<&'static str>,
    /// Of the whole simulation: process ids are not given twice.
    age: u8,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:?})", self.process)
    }
}

/// Nanoseconds since 1970 when simulations begin.
const BEGIN_NS: i64 = 1_800_000_000_000_000_000;

impl Handle {
    /// `process`: `None` for what comes before and after the schedule. `mutant`: a rule that this process breaks. `age`:
    /// how many simulations came before on these objects.
    pub fn new(store: Arc<SimulatedStore>, process: Option<usize>, mutant: Option<&'static str>, age: u8) -> Arc<Self> {
        // Each process has its own clock, which ticks when it is looked at: so what it writes does not depend on what
        // others did before.
        let apart_ns = 1_000_000_000 * (100 * i64::from(age) + process.map_or(0, |process| process as i64 + 1));
        Arc::new(Self {
            store,
            process,
            free: AtomicBool::new(process.is_none()),
            has_asked: AtomicBool::new(false),
            clock: AtomicI64::new(BEGIN_NS + apart_ns),
            mutant,
            age,
        })
    }

    /// Whether calls are carried out at once, without a schedule.
    pub fn set_free(&self, free: bool) {
        self.free.store(free, Ordering::SeqCst);
    }

    /// Whether anything was asked with others looking on.
    pub fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::SeqCst)
    }

    /// Lets time pass for this process.
    pub fn pass_ns(&self, ns: i64) {
        self.clock.fetch_add(ns, Ordering::SeqCst);
    }

    /// Lets time pass for everybody, when the schedule says so.
    ///
    /// # Errors
    /// The process is dead.
    pub fn pass_for_all_ns(&self, ns: i64) -> Result<(), BackendError> {
        let request = Request::TimePasses;
        let (mut state, _) = self.ask(request)?;
        self.store.passed_ns.fetch_add(ns, Ordering::SeqCst);
        self.remember(&mut state, request, 0);
        Ok(())
    }

    fn first_id(&self) -> u32 {
        1000 * (u32::from(self.age) + 1)
    }

    /// Waits for the schedule. `Err`: the process is dead.
    fn ask(&self, request: Request) -> Result<(MutexGuard<'_, State>, Fate), BackendError> {
        let mut state = self.store.state();
        let Some(number) = self.process.filter(|_| !self.free.load(Ordering::SeqCst)) else {
            return Ok((state, Fate::Served));
        };
        if state.processes[number].dead {
            return Err(dead(request));
        }
        self.has_asked.store(true, Ordering::SeqCst);
        if let Standing::Waits(other) = state.processes[number].standing {
            state
                .violation
                .get_or_insert(format!("process {number} asks for two things at once: {other:?}, {request:?}"));
            return Err(dead(request));
        }
        state.processes[number].standing = Standing::Waits(request);
        self.store.turn.notify_all();
        let wakes = state.processes[number].wakes.clone();
        while state.processes[number].fate.is_none() && !state.processes[number].dead {
            state = wakes.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let process = &mut state.processes[number];
        process.standing = Standing::Runs;
        let fate = process.fate.take().unwrap_or(Fate::Dies);
        if fate == Fate::Dies {
            process.dead = true;
            return Err(dead(request));
        }
        Ok((state, fate))
    }

    /// What a process knows is what it asked and was told.
    fn remember(&self, state: &mut State, request: Request, answer: u64) {
        if let Some(number) = self.process {
            let history = &mut state.processes[number].history;
            // And what its clock says then.
            let passed_ns = self.store.passed_ns.load(Ordering::SeqCst);
            *history = hash(&(*history, format!("{request:?}"), answer, passed_ns));
        }
    }

    fn die(&self, state: &mut State, request: Request) -> BackendError {
        if let Some(number) = self.process {
            state.processes[number].dead = true;
        }
        dead(request)
    }
}

fn failure(request: Request, kind: BackendErrorKind, what: &str) -> BackendError {
    let source = io::Error::other(what.to_owned());
    BackendError { object: format!("{request:?}"), action: "asking", kind, source }
}

fn dead(request: Request) -> BackendError {
    failure(request, BackendErrorKind::Final, "the process is dead")
}

impl Backend for Handle {
    fn place(&self) -> String {
        "simulation".to_owned()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        let request = Request::Put(*name);
        let (mut state, fate) = self.ask(request)?;
        let put = match fate {
            Fate::Served | Fate::Shows { .. } | Fate::Dies => state.put(name, &bytes),
            Fate::AnswerLost => {
                state.put(name, &bytes);
                Put::Unknown
            }
            Fate::LandsLater => {
                state.late.push(Late::Put(*name, bytes));
                Put::Unknown
            }
            Fate::NeverLands => Put::Unknown,
            Fate::DiesInFlight => {
                state.late.push(Late::Put(*name, bytes));
                return Err(self.die(&mut state, request));
            }
        };
        let answer = match &put {
            Put::Created => 1,
            Put::Exists(there) => hash(&there),
            Put::Unknown => 2,
        };
        self.remember(&mut state, request, answer);
        Ok(put)
    }

    /// For places that do not decide. Of what may go wrong only the loss of the answer is known here.
    fn put_over(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        let request = Request::Put(*name);
        let (mut state, fate) = self.ask(request)?;
        assert!(self.store.is_undecided, "nobody writes over {name} where who is first is decided");
        let is_answered = match fate {
            Fate::Served => true,
            Fate::AnswerLost => false,
            other => panic!("{other:?} is not known of a write over {name}"),
        };
        state.put_over(name, &bytes);
        self.remember(&mut state, request, u64::from(is_answered));
        match is_answered {
            true => Ok(()),
            false => Err(failure(request, BackendErrorKind::Transient, "the answer was lost")),
        }
    }

    fn make_durable(&self, name: &ObjectName) -> Result<(), BackendError> {
        let request = Request::MakeDurable(*name);
        let (mut state, _) = self.ask(request)?;
        let there = state.objects.contains_key(name);
        self.remember(&mut state, request, u64::from(there));
        match there {
            true => Ok(()),
            false => Err(BackendError::io("making durable", name, io::ErrorKind::NotFound.into())),
        }
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        let request = Request::Get(*name);
        let (mut state, _) = self.ask(request)?;
        let (answer, got) = match state.objects.get(name) {
            Some(object) => {
                let (offset, length) = span.within(object.bytes.len() as u64);
                let bytes = object.bytes.slice(offset as usize..(offset + length) as usize);
                (object.print.wrapping_add(hash(&(offset, length))), Ok(bytes))
            }
            None => (0, Err(BackendError::io("reading", name, io::ErrorKind::NotFound.into()))),
        };
        self.remember(&mut state, request, answer);
        got
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        let listed = {
            let request = Request::ListBegins(prefix);
            let (mut state, _) = self.ask(request)?;
            match self.process.filter(|_| !self.free.load(Ordering::SeqCst)) {
                None => state.listed(prefix),
                Some(process) => {
                    let begin = state.begin_listing(process, prefix);
                    self.remember(&mut state, request, begin);
                    drop(state);
                    let request = Request::ListEnds(prefix);
                    let (mut state, fate) = self.ask(request)?;
                    let shown = if let Fate::Shows { changes } = fate { changes } else { u64::MAX };
                    let listed = state.end_listing(process, prefix, shown);
                    self.remember(&mut state, request, hash(&listed));
                    listed
                }
            }
        };
        let objects = listed.into_iter().map(|(name, size)| Listed::Object { name, size });
        let _: ControlFlow<()> = objects.into_iter().try_for_each(each);
        Ok(())
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        let request = Request::Remove(*name);
        let (mut state, fate) = self.ask(request)?;
        let answer = match fate {
            Fate::Served | Fate::Shows { .. } | Fate::Dies => Some(state.remove(name)),
            Fate::AnswerLost => {
                state.remove(name);
                None
            }
            Fate::LandsLater => {
                state.late.push(Late::Remove(*name));
                None
            }
            Fate::NeverLands => None,
            Fate::DiesInFlight => {
                state.late.push(Late::Remove(*name));
                return Err(self.die(&mut state, request));
            }
        };
        self.remember(&mut state, request, answer.map_or(9, |answer| answer as u64));
        answer.ok_or_else(|| failure(request, BackendErrorKind::Transient, "the answer was lost"))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { put_if_absent: !self.store.is_undecided }
    }
}

impl World for Handle {
    fn is_mutant(&self, name: &str) -> bool {
        self.mutant == Some(name)
    }

    fn now_ns(&self) -> i64 {
        self.clock.fetch_add(1_000_000, Ordering::SeqCst) + self.store.passed_ns.load(Ordering::SeqCst)
    }

    fn process_id(&self) -> u32 {
        self.first_id() + self.process.map_or(0, |process| process as u32 + 1)
    }

    fn process_is_alive(&self, process: u32) -> bool {
        let Some(number) = process.checked_sub(self.first_id() + 1).map(|number| number as usize) else { return false };
        if self.process == Some(number) {
            return true;
        }
        let request = Request::IsAlive(number);
        // The dead find everybody alive, and can do nothing about it.
        let Ok((mut state, _)) = self.ask(request) else { return true };
        let other = state.processes.get(number);
        let is_alive = other.is_some_and(|other| !other.dead && other.standing != Standing::Ended);
        self.remember(&mut state, request, u64::from(is_alive));
        is_alive
    }
}
