//! Writers at work: which of them are done with, whose name is taken, and for whom a cycle waits.

use std::thread;
use std::time::Duration;

use crate::backend::Prefix;
use crate::error::{Corruption, Error, Result};
use crate::format::gc::Pending;
use crate::format::session::Session;
use crate::id::{GcStage, ObjectName, SnapshotId};
use crate::platform::host;
use crate::progress::Event;
use crate::store::gc::{self, Cell};

use super::Writer;
use super::cycle::Pruning;

/// Between two looks at writers that are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

impl Pruning<'_> {
    /// Waits for writers that are at work, until they are not, or the caller has enough.
    pub(super) fn pause(&mut self) -> Result<()> {
        self.progress.report(Event::Stage { name: "waiting for writers" });
        while self.progress_of_writers()? {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Whether one of those that were waited for still is at work.
    fn progress_of_writers(&mut self) -> Result<bool> {
        for writer in std::mem::take(&mut self.report.waiting_for) {
            if !self.resolve(writer.session, 0)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sessions whose name is taken need no cycle to go.
    pub(super) fn remove_finished(&self) -> Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        for session in self.list_sessions()? {
            if gc::read_cell(self.backend(), self.keys(), session)? != Cell::Empty {
                self.remove_session(session)?;
            }
        }
        Ok(())
    }

    /// A list that this run did not make may be anyone's, and leave out a writer that did not see the mark. So writers that it
    /// does not name are waited for too, unless they came after the mark by the place's own word: else a place where somebody
    /// always writes would never come to an end. For a list that is honest, this decides nothing.
    pub(super) fn resolve_left_out(&mut self, cycle: u64, pending: &Pending) -> Result<()> {
        let age = |name: &ObjectName| match self.repository.inner.backend.age(name) {
            Ok(age) => Ok(age),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        };
        let mark_age = age(&ObjectName::Gc(cycle, GcStage::Mark))?;
        let mut left_out = self.list_sessions()?;
        left_out.retain(|session| pending.sessions.binary_search(session).is_err());
        for session in left_out {
            let came_after = match (age(&ObjectName::Session(session))?, mark_age) {
                (Some(age), Some(mark_age)) => age < mark_age,
                _ => false,
            };
            if !came_after {
                self.resolve(session, cycle)?;
            }
        }
        Ok(())
    }

    /// Whether a writer is done with: it published, or never will. One that is at work is entered in the report.
    pub(super) fn resolve(&mut self, session: SnapshotId, cycle: u64) -> Result<bool> {
        if gc::read_cell(self.backend(), self.keys(), session)? != Cell::Empty {
            return Ok(true);
        }
        let writer = match self.repository.read_session(session) {
            Ok(record) => {
                let writer = Writer {
                    session,
                    host: record.host.clone(),
                    process: record.process,
                    started_ms: record.started_ms,
                };
                let is_dead = is_dead(&record) && self.backend().weak().is_none();
                if !is_dead && !self.is_silent(session, Some(&record))? {
                    self.report.waiting_for.push(writer);
                    return Ok(false);
                }
                writer
            }
            // It gave up, or published just now: the fence tells which.
            Err(Error::Corrupt { problem: Corruption::Missing, .. }) => {
                gc::fence(self.backend(), self.keys(), session, cycle, self.by)?;
                return Ok(true);
            }
            Err(Error::Corrupt { .. }) => {
                let writer = Writer { session, host: String::new(), process: 0, started_ms: session.started_ms() };
                if !self.is_silent(session, None)? {
                    self.report.waiting_for.push(writer);
                    return Ok(false);
                }
                writer
            }
            Err(error) => return Err(error),
        };
        if gc::fence(self.backend(), self.keys(), session, cycle, self.by)? == Cell::Tombstone {
            self.report.fenced.push(writer);
        }
        Ok(true)
    }

    /// Whether a writer gave no sign of life for as long as it promised, or as the caller says: by the place's clock, or
    /// where it has none by the writer's. Decides when it is fenced; that it may be, nothing decides.
    fn is_silent(&self, session: SnapshotId, record: Option<&Session>) -> Result<bool> {
        if self.backend().weak().is_some() {
            return self.is_long_silent(session, record);
        }
        let lease = record.map_or(Duration::from_secs(72 * 3600), |record| Duration::from_secs(record.lease_s.into()));
        let limit = self.options.fence_idle.unwrap_or(lease);
        let mut names = self.renewals_of(session)?;
        names.push(ObjectName::Session(session));
        let mut youngest: Option<Duration> = None;
        for name in names {
            let age = match self.backend().age(&name) {
                Ok(Some(age)) => age,
                Ok(None) => {
                    let started_ms = record.map_or(session.started_ms(), |record| record.started_ms);
                    Duration::from_millis(self.now_ms.saturating_sub(started_ms))
                }
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(error.into()),
            };
            youngest = Some(youngest.map_or(age, |known| known.min(age)));
        }
        Ok(youngest.is_none_or(|age| age >= limit))
    }

    /// Ascending.
    pub(super) fn list_sessions(&self) -> Result<Vec<SnapshotId>> {
        let names = self.repository.objects(Prefix::Sessions)?.into_iter();
        Ok(names.filter_map(|(name, _)| if let ObjectName::Session(id) = name { Some(id) } else { None }).collect())
    }

    /// The signs of life of a session.
    pub(super) fn renewals_of(&self, session: SnapshotId) -> Result<Vec<ObjectName>> {
        let names = self.repository.objects(Prefix::Sessions)?.into_iter().map(|(name, _)| name);
        Ok(names.filter(|name| matches!(name, ObjectName::Renewal(id, _) if *id == session)).collect())
    }
}

/// Whether a writer of this boot of this machine runs no more.
fn is_dead(session: &Session) -> bool {
    if session.boot != host::boot_id() {
        return false;
    }
    match (session.process_start(), host::process_start(session.process)) {
        // Another process was given its id.
        (Some(then), Some(now)) => then != now,
        _ => !host::process_is_alive(session.process),
    }
}
