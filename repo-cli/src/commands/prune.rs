//! `icecore prune`

mod show;

use std::time::Duration;

use clap::Args;
use repo_core::{PruneOptions, PruneReport, Repository, SnapshotId, Unused};

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::numbers;
use crate::owner;
use crate::progress::{Reporter, Task};

/// Take back the room of what no snapshot needs.
///
/// Others may back up, restore and forget meanwhile: there are no locks. What a backup that is running now may rely on is
/// deleted by a later run, when that backup has ended. Stopped at any moment, the next run goes on where this one was.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore prune --dry-run\n  icecore prune --max-unused 10% --max-repack-size 20G\n  icecore forget --keep-daily 7 --prune"))]
pub struct Prune {
    /// Print what would be removed and moved; change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Of a weak repository (`init --weak-store`): let this client be the one that prunes it and changes its keys, from now on.
    /// Nobody else may be pruning it, nor sleep in the middle of a prune: two at once could delete what is needed
    #[arg(long, conflicts_with = "dry_run")]
    take_ownership: bool,

    #[command(flatten)]
    flags: Flags,
}

/// How space is reclaimed: flags of `prune`, and of `forget --prune`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "How space is reclaimed")]
pub struct Flags {
    /// Leave up to this much that nothing needs, rather than move what lies between: per cent of the whole (3%), a size (2G),
    /// or `unlimited`
    #[arg(long, value_name = "LIMIT", default_value = "3%", value_parser = parse_unused)]
    max_unused: Limit,

    /// Move at most so many bytes of packs in this run (10M, 2G); 0: move nothing
    #[arg(long, value_name = "SIZE", value_parser = numbers::parse_size)]
    max_repack_size: Option<u64>,

    /// Move metadata only
    #[arg(long)]
    repack_cacheable_only: bool,

    /// Merge packs that are much smaller than new ones are made
    #[arg(long, conflicts_with = "repack_smaller_than")]
    repack_small: bool,

    /// Merge packs that are smaller than this, up to three quarters of the size that new ones are made
    #[arg(long, value_name = "SIZE", value_parser = numbers::parse_size)]
    repack_smaller_than: Option<u64>,

    /// Seal what was stored before a `key rotate` anew, under the new keys; with --max-repack-size a part in each run
    #[arg(long)]
    rekey: bool,

    /// Wait for backups at work, and delete what they may need when they have ended
    #[arg(long)]
    wait: bool,

    /// Do not wait for a backup that has given no sign of life for so long (30m, 12h), instead of its own 72 hours; if it
    /// lives it begins again, and nothing is lost
    #[arg(long, value_name = "DURATION", value_parser = numbers::parse_duration)]
    fence_idle: Option<Duration>,

    /// Go on although snapshots are gone that nobody forgot, and give up what they needed
    #[arg(long)]
    accept_lost_snapshots: bool,

    /// Accepted for restic's scripts: what is stored uncompressed is what does not compress
    #[arg(long, hide_short_help = true)]
    repack_uncompressed: bool,

    /// Accepted for restic's scripts: prune works on a full disk without it, and safely
    #[arg(long, value_name = "ANYTHING", hide_short_help = true)]
    unsafe_recover_no_free_space: Option<String>,
}

/// The value of `--max-unused`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit(Unused);

impl Prune {
    pub fn run(self, context: &Context) -> Outcome {
        if self.take_ownership {
            // Before the repository is opened, which tells it who this client is.
            owner::known_or_new(&context.global)?;
        }
        let repository = context.open_aloud()?;
        let mut options = self.flags.options();
        options.dry_run = self.dry_run;
        if self.take_ownership {
            let _alone = owner::alone(&context.global, &repository)?;
            take_ownership(context, &repository)?;
        }
        prune(context, &repository, &options)
    }
}

impl Flags {
    /// As the library wants them.
    fn options(&self) -> PruneOptions {
        let mut options = PruneOptions::new().max_unused(self.max_unused.0);
        options.max_repack_bytes = self.max_repack_size;
        options.repack_meta_only = self.repack_cacheable_only;
        options.repack_smaller_than_bytes = self.repack_smaller_than;
        if self.repack_small {
            options = options.repack_small();
        }
        options.rekey = self.rekey;
        options.wait = self.wait;
        options.fence_idle = self.fence_idle;
        options.accept_lost_snapshots = self.accept_lost_snapshots;
        options
    }

    /// After a forget.
    pub fn prune(&self, context: &Context, repository: &Repository) -> Outcome {
        prune(context, repository, &self.options())
    }

    /// What it would do after a forget that was not carried out, if these snapshots were gone.
    pub fn prune_without(&self, context: &Context, repository: &Repository, gone: Vec<SnapshotId>) -> Outcome {
        prune(context, repository, &self.options().dry_run().assume_expired(gone))
    }
}

fn take_ownership(context: &Context, repository: &Repository) -> Outcome {
    let text = match repository.take_ownership()? {
        true => {
            "this client is the owner of this weak repository now. That is safe only if the owner before is not at work, and does \
             not sleep in the middle of a prune: if it was suspended, make sure that it never goes on"
        }
        false => "this client was the owner of this weak repository already",
    };
    // Beside the summary, not before it: a script reads that.
    match context.output.is_json() {
        true => Ok(()),
        false => context.output.say(1, text),
    }
}

fn prune(context: &Context, repository: &Repository, options: &PruneOptions) -> Outcome {
    let _alone = if options.dry_run { None } else { owner::alone(&context.global, repository)? };
    let mut reporter = Reporter::new(&context.output, Task::Prune)?;
    let result = reporter.watch(|reporter| repository.prune(options, reporter));
    let report = result.map_err(|error| {
        Failure::from_verb(error, "no snapshot is harmed; the next `icecore prune` goes on where this one was")
    })?;
    show::report(context, options, &report)?;
    complete(&report)
}

/// Whether all was done that was asked for; exit code 3 if not.
fn complete(report: &PruneReport) -> Outcome {
    if !report.waiting_for.is_empty() {
        let writers = match report.waiting_for.len() {
            1 => "a writer is at work".to_owned(),
            several => format!("{several} writers are at work"),
        };
        return Err(Failure::Incomplete {
            message: format!("{writers}: what was marked is not deleted yet"),
            hint: Some("run prune again when they have ended, or use --wait".to_owned()),
        });
    }
    let unread = report.problems.len() as u64;
    let parts: Vec<String> = [(unread, "pack", "could not be read and stay"), (report.lost_chunks, "chunk", "lost")]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, thing, what)| format!("{} {what}", numbers::count(count, thing)))
        .collect();
    match parts.is_empty() {
        true => Ok(()),
        false => Err(Failure::Incomplete {
            message: parts.join(", "),
            hint: Some(
                "`icecore check --read-data` names everything that is damaged and which snapshots need it".into(),
            ),
        }),
    }
}

/// `5%`, `2G`, or `unlimited`.
fn parse_unused(text: &str) -> Result<Limit, String> {
    if text == "unlimited" {
        return Ok(Limit(Unused::Unlimited));
    }
    let Some(digits) = text.strip_suffix('%') else {
        return numbers::parse_size(text)
            .map(|bytes| Limit(Unused::Bytes(bytes)))
            .map_err(|_| format!("{text:?} is neither a share, as 5%, nor a size, as 500M, nor `unlimited`"));
    };
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match digits.parse::<f64>() {
        Ok(percent) if is_plain && (0.0..100.0).contains(&percent) => Ok(Limit(Unused::Percent(percent))),
        _ => Err(format!("{text:?} is no share; write 0% to 99%, or `unlimited`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_stay_unused_is_a_share_a_size_or_anything() {
        assert_eq!(parse_unused("5%"), Ok(Limit(Unused::Percent(5.0))));
        assert_eq!(parse_unused("0.5%"), Ok(Limit(Unused::Percent(0.5))));
        assert_eq!(parse_unused("0"), Ok(Limit(Unused::Bytes(0))));
        assert_eq!(parse_unused("2G"), Ok(Limit(Unused::Bytes(2 << 30))));
        assert_eq!(parse_unused("unlimited"), Ok(Limit(Unused::Unlimited)));
        for bad in ["", "%", "-1%", "100%", "1e1%", "5 %", "nan%", "inf%", "x", "infinite"] {
            assert!(parse_unused(bad).is_err(), "{bad}");
        }
    }
}
