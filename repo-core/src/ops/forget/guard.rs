//! Retention where clients may be stolen: which snapshots may take a place in a rule.
//!
//! A client that can only add snapshots can still harm, if what it adds makes the next `forget` remove what it could not:
//! snapshots dated to the end of each past day take the day's place, a hundred of them take all places of `keep last`,
//! one in the future moves the window of `keep within`, and alternating time zones make two "days" of one minute.
//! Host, tags, times and even the id are the client's own words. So with a guard, the rule is:
//!
//! > A snapshot **counts** only if its time, the time in its id, and the time at which the storage says that it was
//! > written lie within `tolerance` of one another, and it was written at least `min_age` ago. What does not count is
//! > kept, takes no place in any rule, is no one's "newest", and is reported with the reason. Days are the guard's, not
//! > the snapshot's. Series never share a group.
//!
//! What follows. Whatever was added in the last `min_age` changes no decision about anything else. What was added since a
//! client was stolen, if it counts, lies in the time since then (and `tolerance` before): a rule of n days keeps what it kept
//! before, less one day for each day that passed. So an administrator who looks in less often than `min_age` loses what
//! the time that passed would have taken anyway. What does not follow: `keep last` counts snapshots and not time, and is worth
//! nothing once what was added is `min_age` old; and where clients can set the storage's times (a plain directory, SFTP),
//! they can remove snapshots too.

use std::fmt;

use super::policy::Candidate;

/// How retention distrusts those who write snapshots. See the file's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guard {
    /// By how much a snapshot's own time, its id's and the storage's may differ, in nanoseconds: the longest backup and
    /// what clocks are wrong by.
    pub tolerance_ns: u64,
    /// How long a snapshot lies in the storage before it takes a place, in nanoseconds.
    pub min_age_ns: u64,
    /// The zone of all days, in minutes east of Greenwich.
    pub zone_minutes: i16,
}

impl Default for Guard {
    /// A day of tolerance, a week to notice, UTC.
    fn default() -> Self {
        const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;
        Self { tolerance_ns: DAY_NS, min_age_ns: 7 * DAY_NS, zone_minutes: 0 }
    }
}

/// Why a snapshot takes no place in any rule. It is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Uncounted {
    /// It was taken after the time of the policy: after `as_of`, or in the future.
    Later,
    /// The storage does not say when it was written.
    Unwitnessed,
    /// Its time, its id's and the storage's disagree.
    Disputed,
    /// It was written less than the guard's `min_age` ago.
    Young,
    /// It is partial, and newer than every complete one of its group that counts: the next backup goes on from it. An older
    /// one goes.
    Partial,
}

impl fmt::Display for Uncounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Later => "later than the policy's time, not counted",
            Self::Unwitnessed => "time not witnessed by the storage, not counted",
            Self::Disputed => "time differs from the storage's, not counted",
            Self::Young => "written too recently, not counted",
            Self::Partial => "partial and newer than any complete one, not counted",
        })
    }
}

impl Guard {
    /// A day of tolerance, a week to notice, UTC.
    pub fn new() -> Self {
        Self::default()
    }

    /// By how much times may differ, in nanoseconds.
    pub fn tolerance_ns(mut self, tolerance_ns: u64) -> Self {
        self.tolerance_ns = tolerance_ns;
        self
    }

    /// How long a snapshot lies in the storage before it takes a place, in nanoseconds.
    pub fn min_age_ns(mut self, min_age_ns: u64) -> Self {
        self.min_age_ns = min_age_ns;
        self
    }

    /// The zone of all days, in minutes east of Greenwich.
    pub fn zone_minutes(mut self, zone_minutes: i16) -> Self {
        self.zone_minutes = zone_minutes;
        self
    }

    /// Why this snapshot does not count at this time; `None`: it does.
    pub fn objection(&self, snapshot: &Candidate, horizon_ns: i64) -> Option<Uncounted> {
        const MS: i128 = 1_000_000;
        let Some(stored_ms) = snapshot.stored_ms else { return Some(Uncounted::Unwitnessed) };
        let stored_ns = i128::from(stored_ms) * MS;
        let times = [i128::from(snapshot.time_ns), stored_ns, i128::from(snapshot.begun_ms) * MS];
        let apart = times.iter().max().expect("three") - times.iter().min().expect("three");
        if apart > i128::from(self.tolerance_ns) {
            return Some(Uncounted::Disputed);
        }
        let age = i128::from(horizon_ns) - stored_ns;
        (age < i128::from(self.min_age_ns)).then_some(Uncounted::Young)
    }
}
