//! `icecore check`

mod advice;
mod print;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use repo_core::{
    CheckLevel, CheckOptions, Error, ObjectName, Repository, SnapshotFilter, SnapshotId, Subset, VerifiedPacks,
};

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::numbers;
use crate::progress::{Reporter, Task};
use crate::selection::{self, Filters};
use crate::state::State;

/// The memory of which packs were verified when.
pub const MEMORY: &str = "verified";

/// Look for damage: objects that are missing or changed, and which files and snapshots need them.
///
/// Without --read-data the contents of files are not read: the repository's own structures are, and every object's presence.
/// Nothing is changed.
///
/// Reading packs begins with those that this machine has not read for the longest time. What was read when is remembered
/// below $XDG_STATE_HOME/icecore (~/.local/state/icecore).
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore check --read-data\n  icecore check --time-budget 10m                 every night\n  icecore check --read-data-subset 3/7            on Wednesdays\n  icecore check --read-data --tag nightly --path /etc"))]
pub struct Check {
    /// Only these snapshots and the packs that they refer to: latest, latest~N, or the first digits of an id
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// How deep to look [default: trees, or what another flag needs]
    #[arg(long, value_enum, value_name = "HOW", conflicts_with = "read_data")]
    level: Option<Level>,

    /// Read every byte and prove that it is what was stored: --level data
    #[arg(long)]
    read_data: bool,

    /// Of the packs read only n/t (the n-th of t parts), x% or a size such as 10G (drawn at random); as --level data if none is given
    #[arg(long, value_name = "WHICH", value_parser = parse_subset, conflicts_with = "read_data")]
    read_data_subset: Option<Subset>,

    /// Read packs for so long (45s, 10m, 1h30m), those first that were not read for the longest time; as --level packs if none is given
    #[arg(long, value_name = "TIME", value_parser = numbers::parse_duration)]
    time_budget: Option<Duration>,

    /// Accepted for restic's scripts: a repository in a directory has no cache
    #[arg(long, hide_short_help = true)]
    with_cache: bool,

    #[command(flatten)]
    filters: Filters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Names and sizes of all objects, index against packs, small objects
    Names,
    /// All trees too
    Trees,
    /// Every byte of the packs too, by its hash
    Packs,
    /// Every frame opened and every chunk named again too
    Data,
}

impl Check {
    pub fn run(self, context: &Context) -> Outcome {
        let level = self.level()?;
        if !self.ids.is_empty() && self.filters.are_given() {
            return Err(Failure::told("filters choose among many; ids are given already"));
        }
        let repository = context.open_aloud()?;
        let mut options = CheckOptions::new().level(level);
        options.subset = self.read_data_subset;
        options.snapshots = self.snapshots(&repository)?;
        let memory = (level >= CheckLevel::Packs).then(|| self.recall(context, &repository)).transpose()?;
        if let Some((verified, _)) = &memory {
            options = options.verified(verified);
        }
        if let Some(budget) = self.time_budget {
            let start = Instant::now();
            options = options.until(move || start.elapsed() >= budget);
        }
        let mut reporter = Reporter::new(&context.output, Task::Check)?;
        let result = reporter.watch(|reporter| repository.check(&options, reporter));
        // Also after a check that was interrupted: what it had read it need not read again.
        if let Some((verified, Some(state))) = &memory
            && let Err(error) = state.write(MEMORY, &verified.encode(repository.id()))
        {
            let path = state.path(MEMORY);
            note(context, &format!("what was read is not remembered in {}: {error}", names::path(&path)))?;
        }
        let report = result.map_err(|error| Failure::from_verb(error, "nothing was changed"))?;
        print::print(context, &reporter, level, &report)?;
        match report.errors.len() as u64 + report.unnamed_errors {
            0 => Ok(()),
            errors => {
                let message = format!(
                    "the repository is damaged: {}, {} in need of what is lost",
                    numbers::count(errors, "error"),
                    numbers::count(report.damaged_snapshots.len() as u64, "snapshot")
                );
                Err(Failure::Told { message, hint: advice::hint(level, &report) })
            }
        }
    }

    fn level(&self) -> Outcome<CheckLevel> {
        let reads_less = self.read_data_subset.is_some() || self.time_budget.is_some();
        Ok(match self.level {
            Some(Level::Names | Level::Trees) if reads_less => {
                return Err(Failure::told(
                    "--read-data-subset and --time-budget are about reading packs: --level packs or data",
                ));
            }
            Some(Level::Names) => CheckLevel::Names,
            Some(Level::Trees) => CheckLevel::Trees,
            Some(Level::Packs) => CheckLevel::Packs,
            Some(Level::Data) => CheckLevel::Data,
            None if self.read_data || self.read_data_subset.is_some() => CheckLevel::Data,
            None if self.time_budget.is_some() => CheckLevel::Packs,
            None => CheckLevel::Trees,
        })
    }

    /// The snapshots that are asked for; `None`: all.
    fn snapshots(&self, repository: &Repository) -> Outcome<Option<Vec<SnapshotId>>> {
        // ICECORE_HOST alone narrows nothing down here: a check that leaves out most must be asked for.
        if self.filters.are_given() {
            let list = repository.snapshots(&self.filters.filter()?)?;
            if list.snapshots.is_empty() {
                let message = "no snapshot is of the host, tags and paths asked for";
                return Err(Failure::with_hint(message, "`icecore snapshots` shows what there is"));
            }
            // One that cannot be read may be meant too.
            let unreadable = list.unreadable.iter().filter_map(|error| match error {
                Error::Corrupt { object: ObjectName::Snapshot(id), .. } => Some(*id),
                _ => None,
            });
            return Ok(Some(list.snapshots.iter().map(|snapshot| snapshot.id()).chain(unreadable).collect()));
        }
        let mut ids = BTreeSet::new();
        for id in &self.ids {
            let selector = selection::selector(id)?;
            ids.insert(repository.snapshot(&selector, &SnapshotFilter::default())?.id());
        }
        Ok((!ids.is_empty()).then(|| ids.into_iter().collect()))
    }

    /// What was verified before, and where that is kept. What cannot be read begins anew.
    fn recall(&self, context: &Context, repository: &Repository) -> Outcome<(VerifiedPacks, Option<State>)> {
        let global = &context.global;
        let state = State::of(global.state_dir.as_deref(), repository.id()).filter(|_| !global.no_state);
        let Some(state) = state else {
            if self.time_budget.is_some() {
                note(
                    context,
                    "without a home directory or --state-dir, or with --no-state, nobody remembers what was read",
                )?;
            }
            return Ok((VerifiedPacks::new(), None));
        };
        let problem = match state.read(MEMORY) {
            Ok(None) => return Ok((VerifiedPacks::new(), Some(state))),
            Ok(Some(bytes)) => match VerifiedPacks::decode(&bytes, repository.id()) {
                Ok(verified) => return Ok((verified, Some(state))),
                Err(problem) => problem.to_string(),
            },
            Err(error) => error.to_string(),
        };
        let path = state.path(MEMORY);
        note(context, &format!("what was read when is forgotten, {} is of no use: {problem}", names::path(&path)))?;
        Ok((VerifiedPacks::new(), Some(state)))
    }
}

/// Good to know, and no failure.
fn note(context: &Context, text: &str) -> Outcome {
    print::note(&context.output, text)
}

/// Reads `n/t`, `x%` or a size.
fn parse_subset(text: &str) -> Result<Subset, String> {
    let problem = || format!("{text:?}: write n/t with n from 1 to t, a share such as 2.5%, or a size such as 10G");
    if let Some((part, of)) = text.split_once('/') {
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(problem);
        let (part, of) = (number(part)?, number(of)?);
        return if part <= of { Ok(Subset::Part { part, of }) } else { Err(problem()) };
    }
    if let Some(share) = text.strip_suffix('%') {
        let plain = share.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let share = share.parse::<f64>().ok().filter(|share| plain && *share > 0.0 && *share <= 100.0);
        return share.map(Subset::Percent).ok_or_else(problem);
    }
    numbers::parse_size(text).ok().filter(|bytes| *bytes > 0).map(Subset::Bytes).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_is_a_part_a_share_or_a_size() {
        assert_eq!(parse_subset("2/5"), Ok(Subset::Part { part: 2, of: 5 }));
        assert_eq!(parse_subset("2.5%"), Ok(Subset::Percent(2.5)));
        assert_eq!(parse_subset("100%"), Ok(Subset::Percent(100.0)));
        assert_eq!(parse_subset("10G"), Ok(Subset::Bytes(10 << 30)));
        for bad in ["", "0/5", "6/5", "1/0", "1/2/3", "-1/2", "0%", "101%", "%", "nan%", "1e1%", "0", "x", "1/"] {
            assert!(parse_subset(bad).is_err(), "{bad}");
        }
    }
}
