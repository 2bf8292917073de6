//! `icecore repair objects`

use clap::Args;
use serde::Serialize;

use super::AGAIN;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::numbers;
use crate::progress::{Reporter, Task};

/// Write missing or damaged copies of small objects again
///
/// Of the marker, key slots, keyrings, configs and snapshots there are two copies each. Where one is missing or damaged, the
/// other is copied.
#[derive(Debug, Args)]
pub struct Objects {
    /// Say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Summary {
    message_type: &'static str,
    dry_run: bool,
    objects: u64,
    written: Vec<String>,
    unmended: Vec<Unmended>,
}

#[derive(Serialize)]
struct Unmended {
    object: String,
    reason: String,
}

impl Objects {
    pub fn run(self, context: &Context) -> Outcome {
        let repository = context.open_aloud()?;
        let mut reporter = Reporter::new(&context.output, Task::Repair)?;
        let result = reporter.watch(|reporter| repository.repair_objects(self.dry_run, reporter));
        let report = result.map_err(|error| Failure::from_verb(error, AGAIN))?;
        let output = &context.output;
        if output.is_json() {
            output.json(&Summary {
                message_type: "summary",
                dry_run: self.dry_run,
                objects: report.objects,
                written: report.written.iter().map(ToString::to_string).collect(),
                unmended: report
                    .unmended
                    .iter()
                    .map(|(object, reason)| Unmended { object: object.to_string(), reason: reason.clone() })
                    .collect(),
            })?;
        } else {
            let done = if self.dry_run { "would be written again" } else { "was written again" };
            for object in &report.written {
                output.line(&format!("{object} {done}"))?;
            }
            for (object, reason) in &report.unmended {
                output.error_line(&format!("error: {object}: {}", names::words(reason)));
            }
            output.line(&format!("looked after {}", numbers::count(report.objects, "small object")))?;
        }
        match report.unmended.len() as u64 {
            0 => Ok(()),
            copies => Err(Failure::told(format!("{} could not be brought back", numbers::count(copies, "object")))),
        }
    }
}
