//! `icecore repair packs`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use repo_core::{Local, PackId, PackOutcome, RepairPacksOptions, RepairPacksReport, RepairedPack};
use serde::Serialize;

use super::{AGAIN, LossShape, program, tell_losses};
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::numbers;
use crate::progress::{Reporter, Task};

/// Bring back damaged packs, or what is left in them
///
/// Every pack is read. One that is damaged is read again, healed by its parity, or by a mirror; else its chunks are taken from
/// other packs and from what is left of it, and stored again. What is lost then is named, and recorded: the next backup that
/// meets it stores it again.
#[derive(Debug, Args)]
pub struct Packs {
    /// Only these packs
    #[arg(value_name = "ID", value_parser = parse_pack)]
    ids: Vec<PackId>,

    /// Also take packs from this directory: a repository that is a copy of this one, object by object
    #[arg(long, value_name = "DIRECTORY")]
    from: Option<PathBuf>,

    /// Say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Summary {
    message_type: &'static str,
    dry_run: bool,
    packs_read: u64,
    bytes_read: u64,
    packs_healed: u64,
    packs_replaced: u64,
    packs_lost: u64,
    chunks_rescued: u64,
    bytes_rescued: u64,
    chunks_lost: u64,
    packs: Vec<PackShape>,
    losses: Vec<LossShape>,
    losses_total: u64,
    broken_snapshots: Vec<String>,
}

#[derive(Serialize)]
struct PackShape {
    id: String,
    problem: String,
    outcome: &'static str,
    chunks_elsewhere: u64,
    chunks_rescued: u64,
    chunks_lost: u64,
}

/// A whole id: which pack is given up must not hang on a few digits.
fn parse_pack(text: &str) -> Result<PackId, String> {
    text.parse().map_err(|_| "write all 64 digits; `icecore list packs` shows them".to_owned())
}

impl Packs {
    pub fn run(self, context: &Context) -> Outcome {
        let repository = context.open_aloud()?;
        let mut options = RepairPacksOptions::new();
        options.packs = self.ids;
        options.dry_run = self.dry_run;
        options.program = program();
        if let Some(directory) = &self.from {
            if !directory.join("packs").is_dir() {
                let shown = names::path(directory);
                return Err(Failure::told(format!("{shown} holds no repository that packs could come from")));
            }
            options.mirror = Some(Arc::new(Local::new(directory)));
        }
        let mut reporter = Reporter::new(&context.output, Task::Repair)?;
        let result = reporter.watch(|reporter| repository.repair_packs(&options, reporter));
        let report = result.map_err(|error| Failure::from_verb(error, AGAIN))?;
        tell(context, &report, self.dry_run)?;
        let lost = count(&report, |outcome| outcome == PackOutcome::Lost);
        match lost {
            0 => Ok(()),
            lost => Err(Failure::with_hint(
                format!(
                    "{} could not be brought back, and {} with them",
                    numbers::count(lost, "pack"),
                    numbers::count(report.lost_chunks, "chunk")
                ),
                "run `icecore backup` where the files still are; then `icecore repair snapshots` leaves out what is lost",
            )),
        }
    }
}

fn count(report: &RepairPacksReport, is_meant: impl Fn(PackOutcome) -> bool) -> u64 {
    report.packs.iter().filter(|pack| is_meant(pack.outcome)).count() as u64
}

fn outcome(pack: &RepairedPack) -> &'static str {
    match pack.outcome {
        PackOutcome::ReadAgain => "read_again",
        PackOutcome::HealedByParity => "healed_by_parity",
        PackOutcome::HealedByMirror => "healed_by_mirror",
        PackOutcome::Replaced => "replaced",
        _ => "lost",
    }
}

fn is_healed(outcome: PackOutcome) -> bool {
    matches!(outcome, PackOutcome::ReadAgain | PackOutcome::HealedByParity | PackOutcome::HealedByMirror)
}

fn tell(context: &Context, report: &RepairPacksReport, dry_run: bool) -> Outcome {
    let output = &context.output;
    if output.is_json() {
        return output.json(&Summary {
            message_type: "summary",
            dry_run,
            packs_read: report.read_packs,
            bytes_read: report.read_bytes,
            packs_healed: count(report, is_healed),
            packs_replaced: count(report, |outcome| outcome == PackOutcome::Replaced),
            packs_lost: count(report, |outcome| outcome == PackOutcome::Lost),
            chunks_rescued: report.rescued_chunks,
            bytes_rescued: report.rescued_bytes,
            chunks_lost: report.lost_chunks,
            packs: report
                .packs
                .iter()
                .map(|pack| PackShape {
                    id: pack.pack.to_string(),
                    problem: pack.problem.clone(),
                    outcome: outcome(pack),
                    chunks_elsewhere: pack.chunks_elsewhere,
                    chunks_rescued: pack.chunks_rescued,
                    chunks_lost: pack.chunks_lost,
                })
                .collect(),
            losses: report.losses.iter().map(LossShape::from).collect(),
            losses_total: report.loss_count,
            broken_snapshots: report.damaged_snapshots.iter().map(|id| id.short()).collect(),
        });
    }
    for pack in &report.packs {
        let problem = names::words(&pack.problem);
        let chunks = |count| numbers::count(count, "chunk");
        match pack.outcome {
            PackOutcome::ReadAgain => {
                output.line(&format!("pack {}: {problem}; read again, it is whole", pack.pack))?
            }
            PackOutcome::HealedByParity => {
                output.line(&format!("pack {}: {problem}; healed by its parity", pack.pack))?;
            }
            PackOutcome::HealedByMirror => {
                output.line(&format!("pack {}: {problem}; healed from the mirror", pack.pack))?;
            }
            PackOutcome::Replaced => output.line(&format!(
                "pack {}: {problem}; nothing is lost: {} in other packs, {} stored again",
                pack.pack,
                chunks(pack.chunks_elsewhere),
                chunks(pack.chunks_rescued)
            ))?,
            _ => output.error_line(&format!(
                "error: pack {}: {problem}; {} lost, {} in other packs, {} stored again",
                pack.pack,
                chunks(pack.chunks_lost),
                chunks(pack.chunks_elsewhere),
                chunks(pack.chunks_rescued)
            )),
        }
    }
    tell_losses(context, &report.losses, report.loss_count)?;
    output.line(&format!(
        "read {}, {}; {} needed repair",
        numbers::count(report.read_packs, "pack"),
        numbers::size(report.read_bytes),
        report.packs.len()
    ))
}
