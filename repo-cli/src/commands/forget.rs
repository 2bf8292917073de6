//! `icecore forget`

mod rules;
mod show;

use std::path::PathBuf;

use clap::Args;
use repo_core::{
    CalendarSpan, ForgetOptions, ForgetPlan, ForgetReport, GroupBy, Guard, Repository, Selector, SnapshotFilter,
};

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::grouping::{Grouping, parse_grouping};
use crate::interrupt::Stop;
use crate::numbers;
use crate::selection::{self, Filters};
use crate::time;

use super::{init, prune};
use rules::Rules;

/// Forget snapshots, by a policy or by their ids.
///
/// Snapshots are grouped by host and paths. In each group those stay that any --keep rule keeps, and the others are forgotten:
/// they are no longer shown. Until the time of --undelete-within is over, `icecore undelete` brings them back. Snapshots that
/// are pinned (`icecore tag --pin`) always stay. A group is never emptied by a policy. Partial snapshots (`backup
/// --keep-partial`) take no place in any rule, and stay only while no complete one of their group is newer.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run\n  icecore forget --keep-within 1y --keep-tag release --group-by host,tags\n  icecore forget 40dc1520"))]
pub struct Forget {
    /// Forget these, whatever the rules: latest, latest~N, or the first digits of an id
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    #[command(flatten)]
    rules: Rules,

    /// Without any rule, forget all snapshots that --host, --tag and --path choose; one of these is needed
    #[arg(long)]
    unsafe_allow_remove_all: bool,

    /// Print what would be forgotten, why the rest stays, and what space that frees; change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Work out what space it frees; --dry-run does that anyway, but for --json. Reads the trees of all snapshots
    #[arg(long)]
    measure: bool,

    /// How long `icecore undelete` can bring the snapshots back, in days and hours (7d, 36h); 0: not after the next prune
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = parse_time_span)]
    undelete_within: u64,

    /// Then take back the room of what no snapshot needs any more, if any was forgotten, as `icecore prune` does. What can
    /// still be brought back (--undelete-within) keeps its room
    #[arg(long)]
    prune: bool,

    /// Group snapshots by host,paths,tags, or some of these; '' is all in one group
    #[arg(short, long, value_name = "WHAT", default_value = "host,paths", value_parser = parse_grouping)]
    group_by: Grouping,

    /// Leave out paths and reasons
    #[arg(short, long)]
    compact: bool,

    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    reclaiming: prune::Flags,

    #[command(flatten)]
    distrust: Distrust,
}

/// The filters, without restic's -H, which means --keep-hourly here.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which snapshots")]
struct Which {
    /// Only snapshots of this host; may be repeated [env: ICECORE_HOST]
    #[arg(long, value_name = "HOST", alias = "hostname")]
    host: Vec<String>,

    /// Only snapshots with all these tags (`a,b`); may be repeated for alternatives, '' means untagged
    #[arg(long, value_name = "TAGS")]
    tag: Vec<String>,

    /// Only snapshots that have this path; may be repeated, all are needed
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,

    /// The policy as it would have been at this time: what was taken later stays and does not count
    #[arg(long, value_name = "TIME", value_parser = time::parse_at)]
    as_of: Option<i64>,
}

/// For repositories where clients can only add. docs/threat-model.md says what it holds against.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where clients may be stolen")]
struct Distrust {
    /// Count only snapshots whose time the storage confirms, and that are old enough for a theft to be noticed; keep the others
    #[arg(long)]
    guard: bool,

    /// By how much a snapshot's own time and the storage's may differ, in days and hours
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = parse_time_span, requires = "guard")]
    guard_tolerance: u64,

    /// How long a snapshot must lie in the storage before it counts, in days and hours
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = parse_time_span, requires = "guard")]
    guard_min_age: u64,
}

impl Forget {
    pub fn run(self, context: &Context) -> Outcome {
        let filters =
            Filters { host: self.which.host.clone(), tag: self.which.tag.clone(), path: self.which.path.clone() };
        let options = self.options(context, &filters)?;
        let repository = context.open()?;
        let stop = Stop::listen()?;
        let plan = repository
            .plan_forget(&options, &stop)
            .map_err(|error| Failure::from_verb(error, "nothing was changed"))?;
        if !context.output.is_json() {
            show::plan(context, &options.policy, &plan, self.compact)?;
        }
        let report = match self.dry_run {
            true => None,
            false => Some(self.forget(&repository, &plan, &stop)?),
        };
        show::outcome(context, &plan, report.as_ref(), self.measure)?;
        let complete = complete(&plan, report.as_ref());
        let pruned = self.prune(context, &repository, &plan, report.as_ref());
        // A failure says more than that something was left out.
        match (&pruned, &complete) {
            (Err(Failure::Incomplete { .. }) | Ok(()), Err(_)) => complete,
            _ => pruned,
        }
    }

    /// As restic: only if something was removed, or would be.
    fn prune(
        &self,
        context: &Context,
        repository: &Repository,
        plan: &ForgetPlan,
        report: Option<&ForgetReport>,
    ) -> Outcome {
        let removed = report.map_or(plan.remove().count(), |report| report.forgotten.len()) as u64;
        if !self.prune || removed == 0 {
            return Ok(());
        }
        let (snapshots, output) = (numbers::count(removed, "snapshot"), &context.output);
        let have = if removed == 1 { "has" } else { "have" };
        match report {
            Some(_) => {
                output.say(1, &format!("{snapshots} {have} been removed, running prune"))?;
                self.reclaiming.prune(context, repository)
            }
            None if self.undelete_within == 0 => {
                output.say(1, &format!("{snapshots} would have been removed; what prune would do then:"))?;
                let gone = plan.remove().map(|snapshot| snapshot.id()).collect();
                self.reclaiming.prune_without(context, repository, gone)
            }
            None => {
                output.say(
                    1,
                    &format!(
                        "{snapshots} would have been removed, but could be brought back and would keep their data; with \
                         --undelete-within 0 it would go; what prune would do now:"
                    ),
                )?;
                self.reclaiming.prune_without(context, repository, Vec::new())
            }
        }
    }

    fn options(&self, context: &Context, filters: &Filters) -> Outcome<ForgetOptions> {
        let mut policy = self.rules.policy();
        if let Some(time_ns) = self.which.as_of {
            policy = policy.as_of_ns(time_ns);
        }
        if self.distrust.guard {
            const NS: u64 = 1_000_000;
            let Distrust { guard_tolerance, guard_min_age, .. } = self.distrust;
            policy = policy.guard(Guard::new().tolerance_ns(guard_tolerance * NS).min_age_ns(guard_min_age * NS));
        }
        let Grouping { host, paths, tags } = self.group_by;
        let mut options = ForgetOptions::new()
            .policy(policy)
            .group_by(GroupBy::new(host, paths, tags))
            .filter(filters.filter()?)
            .window_ms(self.undelete_within)
            .by(init::default_label());
        for id in &self.ids {
            let selector = selection::selector(id)?;
            if filters.are_given() && matches!(selector, Selector::Id(_)) {
                return Err(Failure::told("--host, --tag and --path choose among many; an id is given already"));
            }
            options = options.id(selector);
        }
        if self.unsafe_allow_remove_all {
            if self.ids.is_empty() && options.policy.is_empty() && options.filter == SnapshotFilter::default() {
                let message = "forgetting everything needs a filter: host, tag or path";
                return Err(Failure::with_hint(message, "name which with --host, --tag or --path"));
            }
            options = options.remove_all();
        } else if self.ids.is_empty() && options.policy.is_empty() {
            let message = "no policy was specified, no snapshots will be removed";
            return Err(Failure::with_hint(
                message,
                "say what stays, such as --keep-daily 7, or name snapshots by their ids",
            ));
        }
        // One array, as restic prints it: a second line only for those who ask for what restic has not.
        let is_measured = self.measure || self.dry_run && !context.output.is_json();
        Ok(if is_measured { options.measure() } else { options })
    }

    fn forget(&self, repository: &Repository, plan: &ForgetPlan, stop: &Stop) -> Outcome<ForgetReport> {
        let kept = "some snapshots may be forgotten already; run it again for the others";
        repository.forget(plan, stop).map_err(|error| Failure::from_verb(error, kept))
    }
}

/// Whether all was done that was asked for; exit code 3 if not.
fn complete(plan: &ForgetPlan, report: Option<&ForgetReport>) -> Outcome {
    let failed = report.map_or(0, |report| report.failed.len());
    let parts: Vec<String> = [
        (plan.pinned.len(), "pinned", "not forgotten"),
        (failed, "", "not forgotten"),
        (plan.unreadable.len(), "", "could not be read"),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(count, kind, what)| {
        let thing = if kind.is_empty() { "snapshot".to_owned() } else { format!("{kind} snapshot") };
        format!("{} {what}", numbers::count(count as u64, &thing))
    })
    .collect();
    match parts.is_empty() {
        true => Ok(()),
        false => Err(Failure::incomplete(parts.join(", "))),
    }
}

/// `7d`, `36h`, `1d12h` or `0`, in milliseconds. Months and years have no fixed length.
pub fn parse_time_span(text: &str) -> Result<u64, String> {
    const HOUR_MS: u64 = 3600 * 1000;
    // A hundred years, so that no sum overflows.
    const DAYS_MAX: u64 = 36_500;
    let problem = || format!("{text:?} is no duration in days and hours; write 7d, 36h or 1d12h, up to {DAYS_MAX}d");
    if text == "0" {
        return Ok(0);
    }
    let CalendarSpan { years: 0, months: 0, days, hours } = text.parse().map_err(|_| problem())? else {
        return Err(problem());
    };
    let hours = u64::from(days) * 24 + u64::from(hours);
    if hours <= DAYS_MAX * 24 { Ok(hours * HOUR_MS) } else { Err(problem()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_span_has_days_and_hours() {
        assert_eq!(parse_time_span("7d"), Ok(7 * 24 * 3_600_000));
        assert_eq!(parse_time_span("1d12h"), Ok(36 * 3_600_000));
        assert_eq!(parse_time_span("0"), Ok(0));
        assert_eq!(parse_time_span("0d"), Ok(0));
        for bad in ["", "7", "1m", "1y", "36501d", "4294967295h", "-1d"] {
            assert!(parse_time_span(bad).is_err(), "{bad}");
        }
    }
}
