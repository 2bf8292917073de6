//! `icecore repair parity`

use clap::Args;
use repo_core::{ParityOptions, ParityReport};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::numbers;
use crate::owner;
use crate::progress::{Reporter, Task};

/// Give every pack its parity, and make damaged parity whole
///
/// Parity brings back packs of which a part was lost: bits that turned, sectors that cannot be read, an end that is cut off.
/// A pack that is read and found damaged is brought back on the way. A pack that is gone does not come back: run
/// `icecore backup --full` where its files still are.
#[derive(Debug, Args)]
pub struct Parity {
    /// From now on give packs so many percent of parity, 0 to 100, and bring those that are there to it
    #[arg(long, value_name = "N%", value_parser = numbers::parse_percent)]
    set: Option<u8>,

    /// Read every pack, not only those that lack parity, and bring back those that are damaged
    #[arg(long)]
    read_all_packs: bool,
}

#[derive(Serialize)]
struct Summary {
    message_type: &'static str,
    parity_percent: u8,
    packs: u64,
    parity_written: u64,
    parity_written_bytes: u64,
    parity_mended: u64,
    parity_removed: u64,
    parity_orphaned: u64,
    healed_packs: Vec<String>,
    unhealed: Vec<Unhealed>,
}

#[derive(Serialize)]
struct Unhealed {
    object: String,
    reason: String,
}

impl Parity {
    pub fn run(self, context: &Context) -> Outcome {
        let repository = context.open_aloud()?;
        let _alone = if self.set.is_some() { owner::alone(&context.global, &repository)? } else { None };
        let mut options = ParityOptions::new();
        options.percent = self.set;
        options.read_packs = self.read_all_packs;
        let mut reporter = Reporter::new(&context.output, Task::Repair)?;
        let result = reporter.watch(|reporter| repository.repair_parity(&options, reporter));
        let report =
            result.map_err(|error| Failure::from_verb(error, "what was done stays; run it again for the rest"))?;
        tell(context, &report)?;
        match report.unhealed.len() as u64 {
            0 => Ok(()),
            packs => Err(Failure::with_hint(
                format!("{} could not be brought back", numbers::count(packs, "pack")),
                "`icecore check --read-data` names the snapshots that need what is lost",
            )),
        }
    }
}

fn tell(context: &Context, report: &ParityReport) -> Outcome {
    let output = &context.output;
    if output.is_json() {
        let unhealed = report.unhealed.iter();
        return output.json(&Summary {
            message_type: "summary",
            parity_percent: report.percent,
            packs: report.packs,
            parity_written: report.written,
            parity_written_bytes: report.written_bytes,
            parity_mended: report.mended,
            parity_removed: report.removed,
            parity_orphaned: report.orphaned,
            healed_packs: report.healed_packs.iter().map(ToString::to_string).collect(),
            unhealed: unhealed
                .map(|unhealed| Unhealed { object: unhealed.object.to_string(), reason: unhealed.reason.clone() })
                .collect(),
        });
    }
    for pack in &report.healed_packs {
        output.line(&format!("pack {pack} was damaged and is whole again"))?;
    }
    for unhealed in &report.unhealed {
        output.error_line(&format!("error: {} is lost: {}", unhealed.object, names::words(&unhealed.reason)));
    }
    let percent = match report.percent {
        0 => "no parity for new packs".to_owned(),
        percent => format!("{percent} % of parity for new packs"),
    };
    output.line(&format!("{percent}; looked after {}", numbers::count(report.packs, "pack")))?;
    let size = numbers::size(report.written_bytes);
    for (count, what) in [
        (report.written, format!("made, {size}")),
        (report.mended, "damaged, made anew".to_owned()),
        (report.removed, "of another percentage, removed".to_owned()),
        (report.orphaned, "of packs that are not there, kept".to_owned()),
    ] {
        if count > 0 {
            output.say(1, &format!("  {} {what}", numbers::count(count, "parity object")))?;
        }
    }
    Ok(())
}
