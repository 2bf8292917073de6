//! One writer's run: registered before it looks at the store, published once, or given up.
//!
//! Order of writes (invariants 1 and 2): session, packs, index, snapshot; each durable before the next.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::gc::{self, Cell};
use super::weak;
use super::writer::DurableTree;
use crate::backend::{Backend, Listed, Prefix, Put, Span};
use crate::crypto::{self, Keys};
use crate::error::{BackendError, BackendErrorKind, Error, Result};
use crate::format::header::ObjectType;
use crate::format::keyring::Purpose;
use crate::format::session;
use crate::format::snapshot::SnapshotRecord;
use crate::id::{Doubled, ObjectName, SnapshotId};
use crate::mutants::mutant;
use crate::pipeline::lock;
use crate::platform::host::{self, Moment};
use crate::seal;

/// How long other clients believe in a silent session.
const LEASE_S: u32 = 72 * 3600;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    Backup = 0,
    Copy = 1,
    /// A snapshot under another name: retagged, pinned, brought back.
    Retag = 2,
    /// Chunks of damaged packs are stored again; no snapshot follows.
    Adopt = 3,
}

/// A registered writer. Dropped without [`publish`](Self::publish), it is removed if the store still answers.
#[derive(Debug)]
pub struct Session {
    backend: Arc<dyn Backend>,
    keys: Arc<Keys>,
    id: SnapshotId,
    /// Removed when dropped.
    open: bool,
}

impl Session {
    /// Registers a writer under a fresh name.
    pub fn register(backend: &Arc<dyn Backend>, keys: &Arc<Keys>, kind: SessionKind, program: &str) -> Result<Self> {
        refuse_mirror(backend.as_ref())?;
        // Before the put: what it says is as old as that.
        let registered = backend.weak().map(|weak| (weak, Moment::now()));
        let started_ms = host::now_ms();
        let id = SnapshotId::new(started_ms, crypto::random()?);
        let record = session::Session {
            id,
            kind: kind as u8,
            started_ms,
            lease_s: lease_s(backend.as_ref()),
            host: host::host_name(),
            boot: host::boot_id(),
            process: host::process_id(),
            program: program.to_owned(),
            extensions: session::process_start_extension(host::process_start(host::process_id())),
        };
        let name = ObjectName::Session(id);
        let bytes = seal::seal_box(keys, Purpose::Session, ObjectType::Session, &name, &id.0, &record.encode())?;
        match backend.put_new(&name, bytes.into())? {
            Put::Created => {
                if let Some((weak, at)) = registered {
                    weak.signed(id, at);
                }
                Ok(Self { backend: backend.clone(), keys: keys.clone(), id, open: true })
            }
            // 80 random bits met: the randomness of this machine is broken.
            Put::Exists(_) => Err(Error::Randomness("a fresh name was taken already".into())),
            // Gone before it was looked at again: this run slept there until it was given up.
            Put::Unknown if backend.weak().is_some() => Err(Error::Fenced),
            // If it is there, it is one of a run that ended.
            Put::Unknown => Err(Error::Usage(format!("the store lost its answer to {name}; run the command again"))),
        }
    }

    /// The session's name, which becomes its snapshot's.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// Publishes the snapshot: one `put_new`, from which on it exists. Only a durable tree can be published (invariant 1).
    /// `record.id` and `record.root` are set here.
    ///
    /// # Errors
    /// [`Error::Fenced`] if the name is a tombstone: nothing was published, and never will be under this name.
    pub fn publish(mut self, tree: &DurableTree, mut record: SnapshotRecord) -> Result<SnapshotRecord> {
        record.id = self.id;
        record.root = tree.root();
        let doubled = Doubled::Snapshot(self.id);
        let name = ObjectName::from(doubled);
        let payload = record.encode();
        readable(&payload)?;
        let bytes: Bytes =
            seal::seal_box(&self.keys, Purpose::Snapshot, ObjectType::Snapshot, &name, &self.id.0, &payload)?.into();
        self.commit(&name, &bytes)?;
        // The snapshot exists. What fails from here on costs redundancy or tidiness only.
        self.open = false;
        // Without its second copy the session stays, as the sign of it: the next prune writes the one and removes the other.
        if let Ok(Put::Created | Put::Exists(_)) = gc::put_second_copy(self.backend.as_ref(), self.id, bytes) {
            self.remove_session();
        }
        Ok(record)
    }

    /// Publishes where the place decides who was first, and where it does not by the rules for that.
    fn commit(&mut self, name: &ObjectName, bytes: &Bytes) -> Result<()> {
        let backend = Arc::clone(&self.backend);
        let Some(weak) = backend.weak() else { return self.put_once(name, bytes) };
        if weak::is_over(weak, self.id) {
            return Err(Error::Fenced);
        }
        self.put_once(name, bytes)?;
        // Until it is known to stand there, the session is the sign that somebody may publish.
        self.open = false;
        match weak::confirm(backend.as_ref(), weak, &self.keys, self.id, name, bytes) {
            Err(Error::Fenced) => {
                self.open = true;
                Err(Error::Fenced)
            }
            result => result,
        }
    }

    /// The one put that publishes. It is never sent twice: a first that lands late could bring back what was forgotten
    /// since. A put without an answer is settled by taking the name oneself: then either it had landed, or it never will.
    fn put_once(&mut self, name: &ObjectName, bytes: &Bytes) -> Result<()> {
        let lost = match self.backend.put_new(name, bytes.clone()) {
            Ok(Put::Created) => return Ok(()),
            Ok(Put::Exists(there)) if there == *bytes => return Ok(()),
            Ok(Put::Exists(_)) if mutant!("a fence is written over") => {
                self.backend.remove(name)?;
                return self.backend.put_new(name, bytes.clone()).map(drop).map_err(Error::from);
            }
            Ok(Put::Exists(_)) => return Err(Error::Fenced),
            // Nothing was written, and the place said so.
            Err(error) if matches!(error.kind, BackendErrorKind::Full | BackendErrorKind::Denied) => {
                return Err(error.into());
            }
            Ok(Put::Unknown) if mutant!("commit sent again after a lost answer") => {
                return match self.backend.put_new(name, bytes.clone())? {
                    Put::Exists(there) if there != *bytes => Err(Error::Fenced),
                    _ => Ok(()),
                };
            }
            Ok(Put::Unknown) => None,
            Err(error) => Some(error),
        };
        // As long as nobody knows, the session stays: whoever reclaims space waits for it, or fences it.
        self.open = false;
        match gc::fence(self.backend.as_ref(), &self.keys, self.id, 0, self.id)? {
            // An error that came with a landed put says that it may not last: not a success to build on.
            Cell::Snapshot(_) => lost.map_or(Ok(()), |error| Err(error.into())),
            Cell::Tombstone | Cell::Empty => {
                // Where a put that comes late would write over the tombstone, the session goes on saying that one may come.
                self.open = self.backend.weak().is_none();
                Err(lost.map_or(Error::Fenced, Error::from))
            }
        }
    }

    /// What [`publish`](Self::publish) would refuse, for those who want to know before the work is done.
    pub fn check(record: &SnapshotRecord) -> Result<()> {
        readable(&record.encode())
    }

    /// Ends the session without a snapshot. Where clients can only add it stays, and is fenced when space is reclaimed.
    pub fn give_up(mut self) -> Result<(), BackendError> {
        self.open = false;
        match self.backend.remove(&ObjectName::Session(self.id)) {
            Err(error) if error.kind == BackendErrorKind::Denied => Ok(()),
            result => result.map(drop),
        }
    }

    /// A session left behind costs a note in `check`, and a fence when space is reclaimed.
    fn remove_session(&self) {
        let mut renewals = Vec::new();
        let _ = self.backend.list(Prefix::Sessions, &mut |listed| {
            if let Listed::Object { name: name @ ObjectName::Renewal(id, _), .. } = listed
                && id == self.id
            {
                renewals.push(name);
            }
            ControlFlow::Continue(())
        });
        for name in renewals {
            let _ = self.backend.remove(&name);
        }
        let _ = self.backend.remove(&ObjectName::Session(self.id));
    }
}

/// A fence and a snapshot race for one name, as do two keyrings or two plans: where both could win, a pack could be deleted
/// that a snapshot needs.
///
/// A weak repository keeps them apart by other means.
///
/// # Errors
/// [`Error::NoPutIfAbsent`].
fn refuse_undecided(backend: &dyn Backend) -> Result<()> {
    match backend.capabilities().put_if_absent || backend.weak().is_some() {
        true => Ok(()),
        false => Err(Error::NoPutIfAbsent { place: backend.place() }),
    }
}

/// Whoever writes asks this first: what a mirror gets from anybody but its source, its source does not know of. Nor is anything
/// written where two writers could both be first.
///
/// # Errors
/// [`Error::Mirror`], [`Error::NoPutIfAbsent`].
pub fn refuse_mirror(backend: &dyn Backend) -> Result<()> {
    refuse_undecided(backend)?;
    match backend.get(&ObjectName::Mirror, Span::All) {
        Ok(_) => Err(Error::Mirror { place: backend.place() }),
        Err(error) if error.is_absent() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The decoder is the one judge: a snapshot that it refuses would be lost the moment it is published.
fn readable(payload: &[u8]) -> Result<()> {
    SnapshotRecord::decode(payload)
        .map(drop)
        .map_err(|problem| Error::Usage(format!("such a snapshot could not be read back: {problem}")))
}

/// How long others believe in a silent session of such a place.
fn lease_s(backend: &dyn Backend) -> u32 {
    backend.weak().map_or(LEASE_S, |_| weak::FENCE_IDLE.as_secs() as u32)
}

/// How often a session says that it lives: six times in a lease.
const RENEW_AFTER_NS: i64 = 12 * 3600 * 1_000_000_000;

/// Says again and again that a session lives, as long as its run goes on. Others decide by it how soon to give the run up,
/// and by nothing else: losing a sign, or sending one too many, costs no data. In a weak repository it is what a writer may
/// publish by.
#[derive(Debug)]
pub struct SignsOfLife {
    session: SnapshotId,
    last_ns: Mutex<(i64, u16)>,
}

impl SignsOfLife {
    /// The first sign is the session itself.
    pub fn new(session: SnapshotId) -> Self {
        Self { session, last_ns: Mutex::new((host::now_ns(), 0)) }
    }

    /// Gives a sign if it is time to.
    pub fn give(&self, backend: &dyn Backend, keys: &Keys) {
        if let Some(weak) = backend.weak() {
            // Before it is asked whether it is too late for one: who sleeps in between gains nothing by it.
            let sent = Moment::now();
            for (session, number) in weak::due_signs(weak) {
                if put_sign(backend, keys, session, number) {
                    weak.signed(session, sent);
                }
            }
            return;
        }
        let now_ns = host::now_ns();
        let number = {
            let mut last = lock(&self.last_ns);
            if now_ns.saturating_sub(last.0) < RENEW_AFTER_NS {
                return;
            }
            last.0 = now_ns;
            last.1 = last.1.wrapping_add(1);
            last.1
        };
        put_sign(backend, keys, self.session, number);
    }
}

/// Puts one sign of life; whether it is there.
fn put_sign(backend: &dyn Backend, keys: &Keys, session: SnapshotId, number: u16) -> bool {
    let name = ObjectName::Renewal(session, number);
    // Its time is the message; what it says is who wrote it.
    let record = session::Session {
        id: session,
        kind: SessionKind::Backup as u8,
        started_ms: host::now_ms(),
        lease_s: lease_s(backend),
        host: host::host_name(),
        boot: host::boot_id(),
        process: host::process_id(),
        program: String::new(),
        extensions: Vec::new(),
    };
    let sealed = seal::seal_box(keys, Purpose::Session, ObjectType::Session, &name, &session.0, &record.encode());
    sealed.is_ok_and(|bytes| matches!(backend.put_new(&name, bytes.into()), Ok(Put::Created)))
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(weak) = self.backend.weak() {
            weak.ended(self.id);
        }
        if self.open {
            // An error or Ctrl-C ended the run.
            self.remove_session();
        }
    }
}
