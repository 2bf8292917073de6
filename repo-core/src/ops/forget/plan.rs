//! Which snapshots would be forgotten, and why the others stay; then forgetting them.

use std::collections::BTreeSet;

use super::freed::Freed;
use super::group::{GroupBy, GroupKey};
use super::guard::Uncounted;
use super::policy::{self, Candidate, Policy, Reason};
use crate::error::{Error, Result};
use crate::format::gc::Forgotten;
use crate::id::SnapshotId;
use crate::platform::host;
use crate::progress::Progress;
use crate::repository::{Repository, Selector, Snapshot, SnapshotFilter, SnapshotList, Witness};
use crate::store::refuse_mirror;

/// A forget record's reason is for people: no longer than this.
const REASON_BYTES_MAX: usize = 1024;

/// How snapshots are chosen. `new()` forgets nothing: it has neither rules nor ids.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ForgetOptions {
    /// What is kept of each group.
    pub policy: Policy,
    /// The policy is applied to each group alone.
    pub group_by: GroupBy,
    /// Only these are looked at.
    pub filter: SnapshotFilter,
    /// These and no others, instead of a policy.
    pub ids: Vec<Selector>,
    /// Without rules, forget all that pass the filter, which must not be empty. Means nothing where there are rules.
    pub remove_all: bool,
    /// How long a snapshot can be brought back, in milliseconds.
    pub window_ms: u64,
    /// Work out what space it frees.
    pub measure: bool,
    /// Recorded for people: who.
    pub by: String,
}

impl Default for ForgetOptions {
    fn default() -> Self {
        Self {
            policy: Policy::new(),
            group_by: GroupBy::default(),
            filter: SnapshotFilter::default(),
            ids: Vec::new(),
            remove_all: false,
            window_ms: 7 * 24 * 3600 * 1000, // a week: somebody looks in once a week
            measure: false,
            by: String::new(),
        }
    }
}

impl ForgetOptions {
    /// Neither rules nor ids; groups of host and paths; a week to bring back.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps what this policy keeps.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Groups by this instead of host and paths.
    pub fn group_by(mut self, group_by: GroupBy) -> Self {
        self.group_by = group_by;
        self
    }

    /// Looks at these alone.
    pub fn filter(mut self, filter: SnapshotFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Forgets this one, and others that are named so; no policy then.
    pub fn id(mut self, selector: Selector) -> Self {
        self.ids.push(selector);
        self
    }

    /// Without rules, forgets all that pass the filter.
    pub fn remove_all(mut self) -> Self {
        self.remove_all = true;
        self
    }

    /// How long a snapshot can be brought back, in milliseconds; 0: until packs are pruned next.
    pub fn window_ms(mut self, window_ms: u64) -> Self {
        self.window_ms = window_ms;
        self
    }

    /// Works out what space it frees: reads the trees of all snapshots.
    pub fn measure(mut self) -> Self {
        self.measure = true;
        self
    }

    /// Who does it, for the record.
    pub fn by(mut self, by: impl Into<String>) -> Self {
        self.by = by.into();
        self
    }
}

/// What would be forgotten.
#[derive(Debug)]
#[non_exhaustive]
pub struct ForgetPlan {
    /// By the policy; empty if ids were named.
    pub groups: Vec<ForgetGroup>,
    /// By their ids.
    pub named: Vec<Snapshot>,
    /// Named, and kept all the same: they are pinned.
    pub pinned: Vec<Snapshot>,
    /// What space it frees, if that was asked for.
    pub freed: Option<Freed>,
    /// Snapshots and forget records that could not be read: nobody's place was taken by them, and they stay.
    pub unreadable: Vec<Error>,
    window_ms: u64,
    reason: String,
    by: String,
}

/// One group and what becomes of it. The newest come first.
#[derive(Debug)]
#[non_exhaustive]
pub struct ForgetGroup {
    /// What its snapshots have in common.
    pub key: GroupKey,
    /// What stays, and by which rules.
    pub keep: Vec<(Snapshot, Vec<Reason>)>,
    /// What goes.
    pub remove: Vec<Snapshot>,
}

/// What was forgotten.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ForgetReport {
    /// From now on not shown.
    pub forgotten: Vec<SnapshotId>,
    /// Those that are shown as before, each with the reason.
    pub failed: Vec<(SnapshotId, Error)>,
    /// Until then they can be brought back, in milliseconds since 1970 UTC.
    pub purge_after_ms: u64,
}

impl ForgetPlan {
    /// All that goes, group by group.
    pub fn remove(&self) -> impl Iterator<Item = &Snapshot> {
        self.groups.iter().flat_map(|group| &group.remove).chain(&self.named)
    }
}

impl Repository {
    /// What would be forgotten, and why the rest stays. Nothing is changed.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use repo_core::{Memory, InitOptions, ReaderSource, Repository, Secret};
    /// # let (secret, _key_file) = Secret::generate_key()?;
    /// # let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new())?;
    /// use repo_core::{BackupOptions, ForgetOptions, Period, Policy, Silent, SnapshotFilter};
    ///
    /// # for text in ["milk", "bread"] {
    /// #     let source = ReaderSource::new("/notes".as_ref(), text.as_bytes());
    /// #     repository.backup(&source, &BackupOptions::new(), &Silent)?;
    /// # }
    /// let options = ForgetOptions::new().policy(Policy::new().keep_last(1).keep(Period::Month, 12));
    /// let plan = repository.plan_forget(&options, &Silent)?;
    /// for (snapshot, reasons) in &plan.groups[0].keep {
    ///     println!("{} stays: {}", snapshot.id().short(), reasons[0]);
    /// }
    /// # let plan = repository.plan_forget(&ForgetOptions::new().policy(Policy::new().keep_last(1)), &Silent)?;
    /// let report = repository.forget(&plan, &Silent)?;
    /// assert_eq!(repository.snapshots(&SnapshotFilter::new())?.snapshots.len(), 1);
    ///
    /// // Until the window is over and packs were pruned, it comes back under a new id.
    /// let back = repository.undelete(&report.forgotten[0].short(), &Silent)?;
    /// assert_eq!(back.record().origin, Some(report.forgotten[0]));
    /// # Ok::<(), repo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`] if there are neither rules nor ids, or if a group would lose every snapshot that counts;
    /// [`Error::NoSnapshot`] for an unknown id.
    pub fn plan_forget(&self, options: &ForgetOptions, progress: &dyn Progress) -> Result<ForgetPlan> {
        check(options)?;
        let mut plan = ForgetPlan {
            groups: Vec::new(),
            named: Vec::new(),
            pinned: Vec::new(),
            freed: None,
            unreadable: Vec::new(),
            window_ms: options.window_ms,
            reason: reason(options),
            by: options.by.clone(),
        };
        if options.ids.is_empty() {
            let SnapshotList { snapshots, unreadable } = self.snapshots(&options.filter)?;
            plan.unreadable = unreadable;
            self.plan_groups(options, snapshots, &mut plan)?;
        } else {
            self.plan_named(options, &mut plan)?;
        }
        if options.measure {
            plan.freed = Some(self.measure(&plan, progress)?);
        }
        Ok(plan)
    }

    fn plan_named(&self, options: &ForgetOptions, plan: &mut ForgetPlan) -> Result<()> {
        for selector in &options.ids {
            let snapshot = self.snapshot(selector, &options.filter)?;
            let list = if snapshot.is_pinned() { &mut plan.pinned } else { &mut plan.named };
            if list.iter().all(|other| other.id() != snapshot.id()) {
                list.push(snapshot);
            }
        }
        Ok(())
    }

    fn plan_groups(&self, options: &ForgetOptions, snapshots: Vec<Snapshot>, plan: &mut ForgetPlan) -> Result<()> {
        let now_ns = host::now_ns();
        let mut group_by = options.group_by;
        group_by.series |= options.policy.guard.is_some();
        let remove_all = options.policy.is_empty();
        for (key, snapshots) in group_by.groups(snapshots) {
            let candidate = |snapshot: &Snapshot| -> Result<Candidate> {
                let candidate = Candidate::new(&snapshot.record);
                match options.policy.guard {
                    None => Ok(candidate),
                    Some(_) => {
                        let Witness { begun_ms, stored_ms } = self.witness(snapshot, now_ns)?;
                        Ok(candidate.witnessed(begun_ms, stored_ms))
                    }
                }
            };
            let candidates = snapshots.iter().map(candidate).collect::<Result<Vec<_>>>()?;
            let mut decisions = options.policy.apply(&candidates, now_ns);
            if remove_all {
                // Asked for in so many words: only a pin holds, and what is later than the time that was named.
                let holds = |reason: &Reason| match reason {
                    Reason::Pinned => true,
                    Reason::Uncounted(Uncounted::Later) => options.policy.as_of_ns.is_some(),
                    _ => false,
                };
                decisions.iter_mut().for_each(|decision| decision.reasons.retain(holds));
            }
            if !remove_all && policy::empties(&decisions) {
                return Err(Error::Usage(format!("refusing to forget the last snapshot of the group ({key})")));
            }
            let mut group = ForgetGroup { key, keep: Vec::new(), remove: Vec::new() };
            let mut snapshots: Vec<Option<Snapshot>> = snapshots.into_iter().map(Some).collect();
            for decision in decisions {
                let snapshot = snapshots[decision.index].take().expect("each is decided on once");
                match decision.keeps() {
                    true => group.keep.push((snapshot, decision.reasons)),
                    false => group.remove.push(snapshot),
                }
            }
            plan.groups.push(group);
        }
        Ok(())
    }

    fn measure(&self, plan: &ForgetPlan, progress: &dyn Progress) -> Result<Freed> {
        let gone: Vec<&Snapshot> = plan.remove().collect();
        let ids: BTreeSet<SnapshotId> = gone.iter().map(|snapshot| snapshot.id()).collect();
        // All that are shown, not only those that passed the filter.
        let all = self.snapshots(&SnapshotFilter::default())?.snapshots;
        let kept: Vec<&Snapshot> = all.iter().filter(|snapshot| !ids.contains(&snapshot.id())).collect();
        self.freed(&kept, &gone, progress)
    }

    /// Carries a plan out: from then on its snapshots are not shown, nor compared with. Their space comes back when packs are
    /// pruned after the window.
    ///
    /// # Errors
    /// None for a snapshot that could not be forgotten, which is in the report; [`Error::Mirror`]; [`Error::Cancelled`].
    pub fn forget(&self, plan: &ForgetPlan, progress: &dyn Progress) -> Result<ForgetReport> {
        refuse_mirror(self.backend().as_ref())?;
        let at_ms = host::now_ms();
        let purge_after_ms = at_ms.saturating_add(plan.window_ms);
        let mut report = ForgetReport { purge_after_ms, ..ForgetReport::default() };
        for snapshot in plan.remove() {
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let record = Forgotten {
                snapshot: snapshot.id(),
                at_ms,
                purge_after_ms,
                reason: plan.reason.clone(),
                by: plan.by.clone(),
                extensions: Vec::new(),
            };
            match self.write_forgotten(&record) {
                Ok(()) => report.forgotten.push(snapshot.id()),
                Err(error) => report.failed.push((snapshot.id(), error)),
            }
        }
        Ok(report)
    }
}

/// Whether the options say what to forget.
fn check(options: &ForgetOptions) -> Result<()> {
    let refuse = |what: &str| Err(Error::Usage(what.to_owned()));
    match (options.ids.is_empty(), options.policy.is_empty()) {
        (false, false) => refuse("a policy chooses among many; ids are given already"),
        (false, true) if options.remove_all => refuse("everything, or ids: not both"),
        (true, true) if !options.remove_all => refuse("no policy was specified, no snapshots will be removed"),
        (true, true) if options.filter == SnapshotFilter::default() => {
            refuse("forgetting everything needs a filter: host, tag or path")
        }
        _ => Ok(()),
    }
}

/// What the forget records say.
fn reason(options: &ForgetOptions) -> String {
    let mut reason = match (options.ids.is_empty(), options.policy.is_empty()) {
        (false, _) => "by id".to_owned(),
        (true, true) => "all of a filter".to_owned(),
        (true, false) => format!("policy: {}", options.policy),
    };
    let end = (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    reason.truncate(end.unwrap_or(0));
    reason
}
