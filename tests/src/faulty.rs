//! A place in memory of which one call goes wrong in a chosen way, and everything after it as that way has it. What is there
//! can be taken out and put into another, so that each fault meets the same state; and its world is fixed, so that a run
//! asks for the same things in the same order every time.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use repo_core::internals::world::{self, Stay, World};
use repo_core::{Backend, BackendError, Bytes, Capabilities, Listed, ObjectName, Prefix, Put, Removal, Span};

/// Names and bytes.
pub type Objects = BTreeMap<ObjectName, Bytes>;

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Prepare,
    Put(ObjectName),
    Get(ObjectName),
    List(Prefix),
    MakeDurable(ObjectName),
    Remove(ObjectName),
    Replace(ObjectName),
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare => f.write_str("prepare"),
            Self::Put(name) => write!(f, "put {name}"),
            Self::Get(name) => write!(f, "get {name}"),
            Self::List(prefix) => write!(f, "list {prefix:?}"),
            Self::MakeDurable(name) => write!(f, "make durable {name}"),
            Self::Remove(name) => write!(f, "remove {name}"),
            Self::Replace(name) => write!(f, "replace {name}"),
        }
    }
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An input or output error, and nothing happened.
    Io,
    /// No space left, and nothing happened.
    Full,
    /// No space left, now and for all that is written later; what is removed makes no room.
    StaysFull,
    /// It happened, and an error came back: a timeout after success.
    ErrorAfter,
    /// The answer was lost, and it happened.
    UnknownDone,
    /// The answer was lost, and it never happens.
    UnknownLost,
    /// The answer was lost, or there was a timeout, and it happens when the run has ended.
    Late,
    /// The process died, or lost its way to the place, before it happened: every later call fails.
    Dies,
    /// The same, after it happened.
    DiesAfter,
    /// The same, after the first half of the object was written under its name. No place that keeps the contract does that.
    Torn,
    /// It succeeds, and is undone when the run has ended: a sync that lied, and a power failure.
    Lied,
}

/// What can become of a put. The last only of an object that can be torn.
const OF_A_PUT: [Fault; 11] = [
    Fault::Io,
    Fault::Full,
    Fault::StaysFull,
    Fault::ErrorAfter,
    Fault::UnknownDone,
    Fault::UnknownLost,
    Fault::Late,
    Fault::Dies,
    Fault::DiesAfter,
    Fault::Lied,
    Fault::Torn,
];

impl Call {
    /// What can become of it.
    pub fn faults(&self) -> &'static [Fault] {
        match self {
            Self::Put(name) if can_be_torn(name) => &OF_A_PUT,
            Self::Put(_) => &OF_A_PUT[..OF_A_PUT.len() - 1],
            Self::Remove(_) => &[Fault::Io, Fault::ErrorAfter, Fault::Late, Fault::Dies, Fault::DiesAfter, Fault::Lied],
            Self::Replace(_) => &[
                Fault::Io,
                Fault::Full,
                Fault::StaysFull,
                Fault::ErrorAfter,
                Fault::Dies,
                Fault::DiesAfter,
                Fault::Lied,
            ],
            Self::Get(_) | Self::List(_) | Self::MakeDurable(_) | Self::Prepare => &[Fault::Io, Fault::Dies],
        }
    }
}

/// Whose name is a hash of its bytes: half of it is seen to be half, and is in nobody's way. A name that is given once is
/// lost if half an object has it; what becomes of a repository on a place that does that is not promised.
fn can_be_torn(name: &ObjectName) -> bool {
    matches!(name, ObjectName::Pack(..) | ObjectName::Index(_) | ObjectName::Parity(..))
}

/// A place.
pub struct Faulty {
    state: Mutex<State>,
    /// The call, counted from 0, that goes wrong.
    fault: Option<(usize, Fault)>,
}

#[derive(Default)]
struct State {
    objects: Objects,
    calls: Vec<Call>,
    is_gone: bool,
    is_full: bool,
    /// What stands, or does not, under this name when the run has ended.
    afterwards: Option<(ObjectName, Option<Bytes>)>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.fault)
    }
}

/// What is done to the place instead of what was asked.
enum Way {
    Done,
    Answered(Put),
    Failed(io::Error),
}

impl Faulty {
    /// With these objects, and a fault perhaps.
    pub fn new(objects: Objects, fault: Option<(usize, Fault)>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { objects, ..State::default() }), fault })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// What is there when the run has ended, and what was on its way has come.
    pub fn objects(&self) -> Objects {
        let state = self.state();
        let mut objects = state.objects.clone();
        match &state.afterwards {
            // A name that was given meanwhile is not given again.
            Some((name, Some(bytes))) => _ = objects.entry(*name).or_insert_with(|| bytes.clone()),
            Some((name, None)) => _ = objects.remove(name),
            None => {}
        }
        objects
    }

    /// Counts a call, and says what becomes of it; `carry_out` does what was asked.
    fn call(&self, state: &mut State, call: Call, carry_out: impl FnOnce(&mut Objects)) -> Way {
        let number = state.calls.len();
        state.calls.push(call);
        let gone = || Way::Failed(io::Error::other("the place is gone"));
        if state.is_gone {
            return gone();
        }
        if state.is_full && matches!(call, Call::Put(_) | Call::Replace(_)) {
            return Way::Failed(io::ErrorKind::StorageFull.into());
        }
        let Some((_, fault)) = self.fault.filter(|(at, _)| *at == number) else { return Way::Done };
        let name = match call {
            Call::Put(name) | Call::Remove(name) | Call::Replace(name) => Some(name),
            _ => None,
        };
        let before = name.map(|name| (name, state.objects.get(&name).cloned()));
        match fault {
            Fault::Io => return Way::Failed(io::Error::from_raw_os_error(5)),
            Fault::Full | Fault::StaysFull => {
                state.is_full = fault == Fault::StaysFull;
                return Way::Failed(io::ErrorKind::StorageFull.into());
            }
            Fault::UnknownLost => return Way::Answered(Put::Unknown),
            Fault::Dies => {
                state.is_gone = true;
                return gone();
            }
            _ => {}
        }
        carry_out(&mut state.objects);
        let undo = |state: &mut State| {
            if let Some((name, bytes)) = &before {
                match bytes {
                    Some(bytes) => _ = state.objects.insert(*name, bytes.clone()),
                    None => _ = state.objects.remove(name),
                }
            }
        };
        match fault {
            Fault::UnknownDone => Way::Answered(Put::Unknown),
            Fault::Late => {
                state.afterwards = name.map(|name| (name, state.objects.get(&name).cloned()));
                undo(state);
                match call {
                    Call::Put(_) => Way::Answered(Put::Unknown),
                    _ => Way::Failed(io::ErrorKind::TimedOut.into()),
                }
            }
            Fault::Torn => {
                if let Some((name, None)) = before
                    && let Some(whole) = state.objects.get_mut(&name)
                {
                    *whole = whole.slice(..whole.len() / 2);
                }
                state.is_gone = true;
                gone()
            }
            Fault::DiesAfter => {
                state.is_gone = true;
                gone()
            }
            Fault::Lied => {
                // The caller carries it out when it is told that all is well.
                undo(state);
                state.afterwards = before;
                Way::Done
            }
            _ => Way::Failed(io::ErrorKind::TimedOut.into()),
        }
    }
}

fn read(objects: &Objects, name: &ObjectName, span: Span) -> Result<Bytes, io::Error> {
    let bytes = objects.get(name).ok_or(io::ErrorKind::NotFound)?;
    let (offset, length) = span.within(bytes.len() as u64);
    Ok(bytes.slice(offset as usize..(offset + length) as usize))
}

impl Backend for Faulty {
    fn place(&self) -> String {
        "a faulty place".to_owned()
    }

    fn prepare(&self) -> Result<(), BackendError> {
        match self.call(&mut self.state(), Call::Prepare, |_| {}) {
            Way::Failed(error) => Err(BackendError::io("preparing", "the place", error)),
            Way::Done | Way::Answered(_) => Ok(()),
        }
    }

    fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<Put, BackendError> {
        let mut state = self.state();
        let put = |objects: &mut Objects| _ = objects.entry(*name).or_insert_with(|| bytes.clone());
        match self.call(&mut state, Call::Put(*name), put) {
            Way::Failed(error) => Err(BackendError::io("writing", name, error)),
            Way::Answered(answer) => Ok(answer),
            Way::Done => match state.objects.get(name) {
                Some(there) => Ok(Put::Exists(there.clone())),
                None => {
                    state.objects.insert(*name, bytes);
                    Ok(Put::Created)
                }
            },
        }
    }

    fn make_durable(&self, name: &ObjectName) -> Result<(), BackendError> {
        let mut state = self.state();
        let failed = |error| BackendError::io("making durable", name, error);
        match self.call(&mut state, Call::MakeDurable(*name), |_| {}) {
            Way::Failed(error) => Err(failed(error)),
            _ if state.objects.contains_key(name) => Ok(()),
            _ => Err(failed(io::ErrorKind::NotFound.into())),
        }
    }

    fn get(&self, name: &ObjectName, span: Span) -> Result<Bytes, BackendError> {
        let mut state = self.state();
        let got = match self.call(&mut state, Call::Get(*name), |_| {}) {
            Way::Failed(error) => Err(error),
            Way::Done | Way::Answered(_) => read(&state.objects, name, span),
        };
        got.map_err(|error| BackendError::io("reading", name, error))
    }

    fn list(&self, prefix: Prefix, each: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), BackendError> {
        let listed: Vec<_> = {
            let mut state = self.state();
            if let Way::Failed(error) = self.call(&mut state, Call::List(prefix), |_| {}) {
                return Err(BackendError::io("listing", format!("{prefix:?}"), error));
            }
            let below = state.objects.iter().filter(|(name, _)| prefix.contains(name));
            below.map(|(name, bytes)| Listed::Object { name: *name, size: bytes.len() as u64 }).collect()
        };
        let _: ControlFlow<()> = listed.into_iter().try_for_each(each);
        Ok(())
    }

    fn remove(&self, name: &ObjectName) -> Result<Removal, BackendError> {
        let mut state = self.state();
        match self.call(&mut state, Call::Remove(*name), |objects| _ = objects.remove(name)) {
            Way::Failed(error) => Err(BackendError::io("removing", name, error)),
            Way::Done | Way::Answered(_) => Ok(match state.objects.remove(name) {
                Some(_) => Removal::Removed,
                None => Removal::Absent,
            }),
        }
    }

    fn replace_damaged(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BackendError> {
        let mut state = self.state();
        let failed = |error| BackendError::io("replacing", name, error);
        let replace = |objects: &mut Objects| {
            if let Some(there) = objects.get_mut(name) {
                *there = bytes.clone();
            }
        };
        match self.call(&mut state, Call::Replace(*name), replace) {
            Way::Failed(error) => return Err(failed(error)),
            Way::Done | Way::Answered(_) => {}
        }
        let there = state.objects.get_mut(name).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        *there = bytes;
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { put_if_absent: true }
    }
}

/// A process of its own with a clock and a stream of chance of its own, each decided by its number alone.
#[derive(Debug)]
struct Alone {
    number: u8,
    clock_ns: AtomicI64,
}

/// Makes this thread the process of this number, an hour after the one before it, which runs no more.
pub fn enter(number: u8) -> Stay {
    const BEGIN_NS: i64 = 1_800_000_000_000_000_000;
    const HOUR_NS: i64 = 3_600_000_000_000;
    let clock_ns = AtomicI64::new(BEGIN_NS + i64::from(number) * HOUR_NS);
    world::enter(Arc::new(Alone { number, clock_ns }), [number; 32])
}

impl World for Alone {
    fn now_ns(&self) -> i64 {
        self.clock_ns.fetch_add(1_000_000, Ordering::SeqCst)
    }

    fn process_id(&self) -> u32 {
        1000 + u32::from(self.number)
    }

    fn process_is_alive(&self, process: u32) -> bool {
        process == self.process_id()
    }
}
