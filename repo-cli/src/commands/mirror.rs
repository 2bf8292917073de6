//! `icecore mirror` and `icecore cross-check`: copies byte for byte, without a key.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use repo_core::{
    Backend, CrossCheckReport, CrossOptions, Error, MirrorOptions, ObjectName, Side, cross_check, mirror, promote,
};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::{Context, local};
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::numbers;
use crate::progress::{Reporter, Task};

/// Keep the same objects in a second place, byte for byte, or bring them up to date there.
///
/// No password or key is needed: what is copied is proven by its name. The mirror opens with the same passwords and keys; it can
/// be restored from, listed and checked, and takes nothing but from its source. What the source has no longer stays on the
/// mirror, unless --delete is given.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore mirror --repo /backup /mnt/usb/backup\n  icecore mirror --promote /mnt/usb/backup"))]
pub struct Mirror {
    /// The place of the mirror: an empty directory, or a mirror of this repository
    #[arg(value_name = "PLACE")]
    target: PathBuf,

    /// Remove from the mirror what the source has no longer; snapshots first
    #[arg(long, conflicts_with = "promote")]
    delete: bool,

    /// Make the mirror a repository of its own, which takes backups: for when its source is lost
    #[arg(long)]
    promote: bool,
}

/// Compare this repository with a mirror of it, every byte, and heal each from the other.
///
/// No password or key is needed. What is damaged in one place and whole in the other is replaced there. Objects that only one of
/// the two has are named: a mirror that is behind gets them by `icecore mirror`.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Example:\n  icecore cross-check --repo /backup /mnt/usb/backup"))]
pub struct CrossCheck {
    /// The other copy
    #[arg(value_name = "PLACE")]
    other: PathBuf,

    /// Change nothing, say what is damaged and could be healed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct MirrorLine {
    message_type: &'static str,
    copied: u64,
    copied_bytes: u64,
    removed: u64,
    healed: Vec<String>,
    damaged: Vec<String>,
}

#[derive(Serialize)]
struct Promoted {
    message_type: &'static str,
    repository: String,
}

#[derive(Serialize)]
struct CrossLine {
    message_type: &'static str,
    dry_run: bool,
    compared: u64,
    bytes_read: u64,
    healed: Vec<ObjectShape>,
    unhealed: Vec<ObjectShape>,
    differing: Vec<String>,
    only_here: Vec<String>,
    only_there: Vec<String>,
}

#[derive(Serialize)]
struct ObjectShape {
    object: String,
    place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

fn texts(objects: &[ObjectName]) -> Vec<String> {
    objects.iter().map(ToString::to_string).collect()
}

impl Mirror {
    pub fn run(self, context: &Context) -> Outcome {
        let place = local(&self.target)?;
        let target = context.backend_at(&place);
        if self.promote {
            promote(&*target)?;
            let repository = target.place();
            return match context.output.is_json() {
                true => context.output.json(&Promoted { message_type: "promoted", repository }),
                false => context.output.line(&format!(
                    "{} is a repository of its own now; do not use its source any more",
                    names::path(&place)
                )),
            };
        }
        let from = context.place()?;
        if fs::canonicalize(&place).is_ok_and(|place| fs::canonicalize(&from).is_ok_and(|from| place == from)) {
            return Err(Failure::told(format!("{} is the repository itself, not a second place", names::path(&place))));
        }
        let source = context.backend_at(&from);
        let mut options = MirrorOptions::new();
        options.delete = self.delete;
        options.threads = context.global.threads.map_or(options.threads, usize::from);
        let mut reporter = Reporter::new(&context.output, Task::Mirror)?;
        let result = reporter.watch(|reporter| mirror(&*source, &*target, &options, reporter));
        let report = result.map_err(|error| {
            Failure::from_verb(error, "what was mirrored stays, and the same command goes on from there")
        })?;
        let output = &context.output;
        if output.is_json() {
            output.json(&MirrorLine {
                message_type: "summary",
                copied: report.copied,
                copied_bytes: report.copied_bytes,
                removed: report.removed,
                healed: texts(&report.healed),
                damaged: texts(&report.damaged),
            })?;
        } else {
            report.healed.iter().try_for_each(|name| output.line(&format!("replaced on the mirror: {name}")))?;
            for name in &report.damaged {
                output.error_line(&format!("error: damaged in the source: {name}"));
            }
            output.line(&format!(
                "mirrored {}, {}; removed {}",
                numbers::count(report.copied, "object"),
                numbers::size(report.copied_bytes),
                report.removed
            ))?;
        }
        match report.damaged.len() as u64 {
            0 => Ok(()),
            count => Err(Failure::Incomplete {
                message: format!("{} of the source damaged", numbers::count(count, "object")),
                hint: Some(
                    "`icecore cross-check` heals each place from the other, and `icecore check` says what else".into(),
                ),
            }),
        }
    }
}

impl CrossCheck {
    pub fn run(self, context: &Context) -> Outcome {
        let (first, second) = (context.backend_at(&context.place()?), context.backend_at(&local(&self.other)?));
        let mut options = CrossOptions::new();
        options.dry_run = self.dry_run;
        options.threads = context.global.threads.map_or(options.threads, usize::from);
        let mut reporter = Reporter::new(&context.output, Task::Mirror)?;
        let result = reporter.watch(|reporter| cross_check(&*first, &*second, &options, reporter));
        let report = result.map_err(|error| Failure::from_verb(error, "what was healed stays so"))?;
        self.print(context, [&*first, &*second], &report)?;
        let lacking = (report.only_first.len() + report.only_second.len()) as u64;
        let would = self.dry_run && !report.healed.is_empty();
        match (report.unhealed.len() + report.differing.len()) as u64 {
            0 if would => {
                let message = format!("{} damaged", numbers::count(report.healed.len() as u64, "object"));
                Err(Failure::with_hint(message, "without --dry-run each is healed from the other place"))
            }
            0 if lacking == 0 => Ok(()),
            0 => Err(Failure::Incomplete {
                message: format!("{} in one of the two places only", numbers::count(lacking, "object")),
                hint: Some("`icecore mirror` brings a mirror up to date".into()),
            }),
            count => Err(Failure::with_hint(
                format!("{} could not be healed", numbers::count(count, "object")),
                "`icecore repair packs` and `icecore repair objects` bring back what one place can by itself",
            )),
        }
    }

    fn print(&self, context: &Context, places: [&dyn Backend; 2], report: &CrossCheckReport) -> Outcome {
        let output = &context.output;
        let place = |side: &Side| match side {
            Side::First => places[0].place(),
            Side::Second => places[1].place(),
        };
        if output.is_json() {
            let shape = |side: &Side, object: &ObjectName, problem: Option<&String>| ObjectShape {
                object: object.to_string(),
                place: place(side),
                problem: problem.cloned(),
            };
            return output.json(&CrossLine {
                message_type: "summary",
                dry_run: self.dry_run,
                compared: report.compared,
                bytes_read: report.read_bytes,
                healed: report.healed.iter().map(|(side, object)| shape(side, object, None)).collect(),
                unhealed: report.unhealed.iter().map(|(side, object, why)| shape(side, object, Some(why))).collect(),
                differing: texts(&report.differing),
                only_here: texts(&report.only_first),
                only_there: texts(&report.only_second),
            });
        }
        let healed = if self.dry_run { "can be healed" } else { "healed" };
        for (side, object) in &report.healed {
            output.line(&format!("{healed} in {}: {object}", names::words(&place(side))))?;
        }
        for (side, object, why) in &report.unhealed {
            let why = names::words(why);
            output.error_line(&format!("error: damaged in {}: {object}: {why}", names::words(&place(side))));
        }
        for object in &report.differing {
            output.error_line(&format!("error: whole in both places and not the same: {object}"));
        }
        for (side, objects) in [(Side::First, &report.only_first), (Side::Second, &report.only_second)] {
            for object in objects {
                output.line(&format!("only in {}: {object}", names::words(&place(&side))))?;
            }
        }
        output.say(
            1,
            &format!(
                "compared {}, {} read",
                numbers::count(report.compared, "object"),
                numbers::size(report.read_bytes)
            ),
        )?;
        match report.is_clean() && report.healed.is_empty() {
            true => output.line("both copies are whole and the same"),
            false => Ok(()),
        }
    }
}

/// What a writer is told who meets a mirror.
pub fn hint(error: &Error) -> Option<&'static str> {
    match error {
        Error::Mirror { .. } => Some(
            "use its source; if that is lost, `icecore mirror --promote PLACE` makes the mirror a repository of its own",
        ),
        Error::SplitBrain { .. } => {
            Some("only one of the two can go on: keep the one that has what you need, and mirror it to an empty place")
        }
        _ => None,
    }
}
