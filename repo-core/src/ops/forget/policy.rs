//! The retention policy: a pure function from rules, snapshots and a time to what is kept and why. restic's rules to the
//! letter, so that a policy moves over as it is, and more periods. What does not count towards any rule is in `guard`.
//!
//! Each rule looks at the snapshots of one group from the newest to the oldest and keeps what it wants; a snapshot that no
//! rule keeps is removed. So one more rule never removes more. Partial snapshots are shown to no rule: they take nobody's
//! place, and stay until a complete one that counts is newer, unless a pin or a tag holds them.

use std::cmp::Reverse;
use std::fmt;

use super::calendar::{CalendarSpan, Period};
use super::guard::{Guard, Uncounted};
use crate::format::snapshot::{FLAG_PARTIAL, FLAG_PINNED, SnapshotRecord};
use crate::id::SnapshotId;

/// How many a rule keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Count {
    /// No such rule.
    #[default]
    None,
    /// This many; 0 is no such rule.
    Of(u32),
    /// As many as there are.
    Unlimited,
}

impl From<u32> for Count {
    fn from(count: u32) -> Self {
        Self::Of(count)
    }
}

/// In which zone days begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Zone {
    /// In each snapshot's own, which it recorded.
    #[default]
    Recorded,
    /// In this one for all, minutes east of Greenwich.
    Minutes(i16),
}

/// Which snapshots of a group are kept. `new()` has no rules.
///
/// ```
/// use repo_core::{Period, Policy};
///
/// let policy = Policy::new().keep_last(3).keep(Period::Day, 7).keep_within("1y".parse()?);
/// assert_eq!(policy.to_string(), "keep 3 latest, 7 daily snapshots and all snapshots within 1y of the newest");
/// # Ok::<(), repo_core::NotASpan>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Policy {
    /// The newest.
    pub last: Count,
    /// The newest of each period, by the numbers of [`Period::ALL`].
    pub periods: [Count; Period::ALL.len()],
    /// All that are newer than this before the newest; a zero span is no rule.
    pub within: CalendarSpan,
    /// The newest of each period, of those that are newer than this before the newest.
    pub periods_within: [CalendarSpan; Period::ALL.len()],
    /// All that have every tag of one of these lists; an empty list means those without tags.
    pub tags: Vec<Vec<String>>,
    /// The policy as it would have been at this time, in nanoseconds since 1970 UTC: what was taken later is kept and does
    /// not count. `None`: now.
    pub as_of_ns: Option<i64>,
    /// In which zone days begin; a guard has its own.
    pub zone: Zone,
    /// For clients that may be stolen.
    pub guard: Option<Guard>,
}

/// What a policy looks at of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Its name.
    pub id: SnapshotId,
    /// Its time, in nanoseconds since 1970 UTC: when its reading began.
    pub time_ns: i64,
    /// The offset that it was taken at.
    pub zone_minutes: i16,
    /// Its tags.
    pub tags: Vec<String>,
    /// Kept whatever the rules say.
    pub pinned: bool,
    /// Its backup was ended early: no rule looks at it, and it goes when a complete one that counts is newer.
    pub partial: bool,
    /// The time in its name, in milliseconds since 1970 UTC; of one that was retagged, the time in its first name.
    pub begun_ms: u64,
    /// When the storage says that it was first written, in milliseconds since 1970 UTC, if it does.
    pub stored_ms: Option<u64>,
}

/// Why a snapshot is kept. `Display` is restic's wording, where restic has the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It is pinned.
    Pinned,
    /// It has these tags.
    Tags(Vec<String>),
    /// It is newer than this before the newest.
    Within(CalendarSpan),
    /// It is one of the newest.
    Last,
    /// It is the newest of its period, or, while the rule has places left, the oldest of all.
    Newest {
        /// Of which period.
        period: Period,
        /// The rule is one with a window.
        within: Option<CalendarSpan>,
        /// Kept only because it is the oldest of all.
        oldest: bool,
    },
    /// No rule looks at it.
    Uncounted(Uncounted),
}

/// What becomes of a snapshot. Without reasons it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// Which one, in the list that was given.
    pub index: usize,
    /// Why it is kept, by every rule that keeps it.
    pub reasons: Vec<Reason>,
    /// Whether it could take a place in a rule.
    pub counted: bool,
}

impl Decision {
    /// Whether it is kept.
    pub fn keeps(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Whether a group would be left with nothing of what counts: a policy that was meant for another group, or typed wrong.
/// What is kept because it does not count is no comfort, a stolen client may have put it there.
pub fn empties(decisions: &[Decision]) -> bool {
    let mut counted = decisions.iter().filter(|decision| decision.counted).peekable();
    counted.peek().is_some() && counted.all(|decision| !decision.keeps())
}

impl Candidate {
    /// Of a snapshot's record. No storage has said anything yet.
    pub fn new(record: &SnapshotRecord) -> Self {
        Self {
            id: record.id,
            time_ns: record.start_ns,
            zone_minutes: record.zone_minutes,
            tags: record.tags.clone(),
            pinned: record.flags & FLAG_PINNED != 0,
            partial: record.flags & FLAG_PARTIAL != 0,
            begun_ms: record.id.started_ms(),
            stored_ms: None,
        }
    }

    /// With what others than its writer say: the time in the name under which it was first published, and when the storage
    /// says that this was, in milliseconds since 1970 UTC. A guard needs it.
    pub fn witnessed(self, begun_ms: u64, stored_ms: Option<u64>) -> Self {
        Self { begun_ms, stored_ms, ..self }
    }

    fn has(&self, tags: &[String]) -> bool {
        if tags.is_empty() { self.tags.is_empty() } else { tags.iter().all(|tag| self.tags.contains(tag)) }
    }
}

impl Policy {
    /// No rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the newest so many.
    pub fn keep_last(mut self, count: impl Into<Count>) -> Self {
        self.last = count.into();
        self
    }

    /// Keeps the newest of each of the last so many periods that have a snapshot.
    pub fn keep(mut self, period: Period, count: impl Into<Count>) -> Self {
        self.periods[period as usize] = count.into();
        self
    }

    /// Keeps all that are newer than this before the newest.
    pub fn keep_within(mut self, span: CalendarSpan) -> Self {
        self.within = span;
        self
    }

    /// Keeps the newest of each period, of those that are newer than this before the newest.
    pub fn keep_each_within(mut self, period: Period, span: CalendarSpan) -> Self {
        self.periods_within[period as usize] = span;
        self
    }

    /// Keeps all that have every one of these tags; none: those without tags.
    pub fn keep_tags(mut self, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tags.push(tags.into_iter().map(Into::into).collect());
        self
    }

    /// The policy as it would have been at this time, in nanoseconds since 1970 UTC.
    pub fn as_of_ns(mut self, time_ns: i64) -> Self {
        self.as_of_ns = Some(time_ns);
        self
    }

    /// Days begin in this zone instead of each snapshot's own.
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = zone;
        self
    }

    /// For clients that may be stolen.
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Whether there is no rule at all, so that nothing would be kept.
    pub fn is_empty(&self) -> bool {
        let none = |count: &Count| matches!(count, Count::None | Count::Of(0));
        none(&self.last)
            && self.periods.iter().all(none)
            && self.within.is_zero()
            && self.periods_within.iter().all(|span| span.is_zero())
            && self.tags.is_empty()
    }

    /// Decides on the snapshots of one group, at this time (nanoseconds since 1970 UTC). The newest comes first; of one
    /// time, the one with the greatest id.
    pub fn apply(&self, snapshots: &[Candidate], now_ns: i64) -> Vec<Decision> {
        let mut order: Vec<usize> = (0..snapshots.len()).collect();
        order.sort_by_key(|index| Reverse((snapshots[*index].time_ns, snapshots[*index].id)));
        let horizon_ns = self.as_of_ns.unwrap_or(now_ns);
        let objections: Vec<_> = snapshots.iter().map(|snapshot| self.objection(snapshot, horizon_ns)).collect();
        let counts = |index: usize| objections[index].is_none() && !snapshots[index].partial;
        let counted = || order.iter().copied().filter(|index| counts(*index));
        let mut run = Run {
            policy: self,
            rules: self.rules(),
            newest: counted().next().map(|index| (snapshots[index].time_ns, self.zone_of(&snapshots[index]))),
            oldest: counted().next_back(),
        };
        let mut is_complete_shown = false;
        let decide = |index: usize| {
            let snapshot = &snapshots[index];
            let mut reasons = run.reasons_of_its_own(snapshot);
            match objections[index] {
                Some(objection) => reasons.push(Reason::Uncounted(objection)),
                // The newest come first: once a complete one was shown, what it has need not be stored by halves.
                None if snapshot.partial && is_complete_shown => {}
                None if snapshot.partial => reasons.push(Reason::Uncounted(Uncounted::Partial)),
                None => {
                    is_complete_shown = true;
                    run.take(snapshot, index, &mut reasons);
                }
            }
            Decision { index, reasons, counted: counts(index) }
        };
        order.iter().copied().map(decide).collect()
    }

    /// Why no rule may look at the snapshot.
    fn objection(&self, snapshot: &Candidate, horizon_ns: i64) -> Option<Uncounted> {
        if snapshot.time_ns > horizon_ns {
            return Some(Uncounted::Later);
        }
        self.guard.as_ref().and_then(|guard| guard.objection(snapshot, horizon_ns))
    }

    fn zone_of(&self, snapshot: &Candidate) -> i16 {
        match (&self.guard, self.zone) {
            (Some(guard), _) => guard.zone_minutes,
            (None, Zone::Minutes(minutes)) => minutes,
            (None, Zone::Recorded) => snapshot.zone_minutes,
        }
    }

    /// The rules that keep one of each, in the order in which their reasons are told.
    fn rules(&self) -> Vec<Rule> {
        let rule = |period, left, within| Rule { period, left, within, last: None };
        let counts = Period::ALL.into_iter().zip(self.periods).map(|(period, count)| rule(Some(period), count, None));
        let windows = Period::ALL.into_iter().zip(self.periods_within).filter(|(_, span)| !span.is_zero());
        let windows = windows.map(|(period, span)| rule(Some(period), Count::Unlimited, Some(span)));
        std::iter::once(rule(None, self.last, None)).chain(counts).chain(windows).collect()
    }
}

/// One pass over a group.
struct Run<'p> {
    policy: &'p Policy,
    rules: Vec<Rule>,
    /// Time and zone of the newest that counts: where windows are measured from.
    newest: Option<(i64, i16)>,
    /// Of those that count.
    oldest: Option<usize>,
}

/// A rule that keeps one of each period, as far as it has come.
struct Rule {
    /// `None`: each snapshot is a period of its own.
    period: Option<Period>,
    /// The places left.
    left: Count,
    within: Option<CalendarSpan>,
    /// The number of the period that it kept one of last.
    last: Option<i64>,
}

impl Run<'_> {
    /// What keeps a snapshot whatever else there is.
    fn reasons_of_its_own(&self, snapshot: &Candidate) -> Vec<Reason> {
        let pinned = snapshot.pinned.then_some(Reason::Pinned);
        let tags = self.policy.tags.iter().filter(|tags| snapshot.has(tags)).cloned().map(Reason::Tags);
        pinned.into_iter().chain(tags).collect()
    }

    /// Shows the next older snapshot to every rule.
    fn take(&mut self, snapshot: &Candidate, index: usize, reasons: &mut Vec<Reason>) {
        let within = self.policy.within;
        if !within.is_zero() && self.is_within(snapshot, within) {
            reasons.push(Reason::Within(within));
        }
        let is_oldest = self.oldest == Some(index);
        let zone = self.policy.zone_of(snapshot);
        for at in 0..self.rules.len() {
            if self.rules[at].within.is_none_or(|span| self.is_within(snapshot, span)) {
                reasons.extend(self.rules[at].take(snapshot.time_ns, zone, is_oldest));
            }
        }
    }

    fn is_within(&self, snapshot: &Candidate, span: CalendarSpan) -> bool {
        self.newest.is_some_and(|(newest_ns, zone)| i128::from(snapshot.time_ns) > span.before(newest_ns, zone))
    }
}

impl Rule {
    fn take(&mut self, time_ns: i64, zone_minutes: i16, is_oldest: bool) -> Option<Reason> {
        let left = match self.left {
            Count::None | Count::Of(0) => return None,
            Count::Of(left) => Count::Of(left - 1),
            Count::Unlimited => Count::Unlimited,
        };
        let Some(period) = self.period else {
            self.left = left;
            return Some(Reason::Last);
        };
        let number = period.number(time_ns, zone_minutes);
        let is_new = self.last != Some(number);
        // While there are places left, the oldest is kept too: so a history grows to its full length.
        if !is_new && !is_oldest {
            return None;
        }
        (self.last, self.left) = (Some(number), left);
        Some(Reason::Newest { period, within: self.within, oldest: !is_new })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("pinned"),
            Self::Tags(tags) => write!(f, "has tags [{}]", tags.join(", ")),
            Self::Within(span) => write!(f, "within {span}"),
            Self::Last => f.write_str("last snapshot"),
            Self::Newest { period, within, oldest } => {
                let oldest = if *oldest { "oldest " } else { "" };
                match within {
                    None => write!(f, "{oldest}{} snapshot", period.adverb()),
                    Some(span) => write!(f, "{oldest}{} within {span}", period.adverb()),
                }
            }
            Self::Uncounted(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for Policy {
    /// As in `keep 7 daily, 4 weekly snapshots and all snapshots within 1m of the newest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let adverbs = std::iter::once("latest").chain(Period::ALL.map(Period::adverb));
        let counted = std::iter::once(&self.last).chain(&self.periods).zip(adverbs);
        let counts: Vec<_> = counted
            .filter_map(|(count, adverb)| match count {
                Count::None | Count::Of(0) => None,
                Count::Of(count) => Some(format!("{count} {adverb}")),
                Count::Unlimited => Some(format!("all {adverb}")),
            })
            .collect();
        let mut lists = Vec::new();
        if !counts.is_empty() {
            let one = counts.len() == 1 && counts[0].starts_with("1 ");
            lists.push(format!("{} {}", counts.join(", "), if one { "snapshot" } else { "snapshots" }));
        }
        for (period, span) in Period::ALL.into_iter().zip(self.periods_within).filter(|(_, span)| !span.is_zero()) {
            lists.push(format!("{} snapshots within {span}", period.adverb()));
        }
        let mut parts = Vec::from_iter((!lists.is_empty()).then(|| lists.join(", ")));
        if !self.tags.is_empty() {
            let lists: Vec<_> = self.tags.iter().map(|tags| format!("[{}]", tags.join(", "))).collect();
            parts.push(format!("all snapshots with tags {}", lists.join(" or ")));
        }
        if !self.within.is_zero() {
            parts.push(format!("all snapshots within {} of the newest", self.within));
        }
        match parts.is_empty() {
            true => f.write_str("keep nothing"),
            false => write!(f, "keep {}", parts.join(" and ")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
