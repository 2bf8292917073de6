//! `icecore repair index`

use clap::Args;
use repo_core::RepairIndexOptions;
use serde::Serialize;

use super::AGAIN;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::numbers;
use crate::progress::{Reporter, Task};

/// Make the index agree with the packs
///
/// Packs that no index object speaks of in full are indexed from their own tables; index objects that are damaged, that lie, or
/// that speak of packs which are gone are removed after that. Backups may run meanwhile.
#[derive(Debug, Args)]
pub struct Index {
    /// Read every pack's table, and believe no index object
    #[arg(long)]
    read_all_packs: bool,

    /// Say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Summary {
    message_type: &'static str,
    dry_run: bool,
    index_objects: u64,
    damaged: Vec<String>,
    lying: Vec<String>,
    stale: Vec<String>,
    packs_read: u64,
    packs_indexed: u64,
    unreadable_packs: Vec<String>,
    index_written: u64,
    index_removed: u64,
    index_retained: u64,
}

impl Index {
    pub fn run(self, context: &Context) -> Outcome {
        let repository = context.open_aloud()?;
        let mut options = RepairIndexOptions::new();
        options.read_all_packs = self.read_all_packs;
        options.dry_run = self.dry_run;
        let mut reporter = Reporter::new(&context.output, Task::Repair)?;
        let result = reporter.watch(|reporter| repository.repair_index(&options, reporter));
        let report = result.map_err(|error| Failure::from_verb(error, AGAIN))?;
        let output = &context.output;
        let texts = |errors: &[repo_core::Error]| -> Vec<String> {
            errors.iter().map(|error| names::words(&error.to_string()).into_owned()).collect()
        };
        let ids = |ids: &[repo_core::IndexId]| -> Vec<String> { ids.iter().map(ToString::to_string).collect() };
        if output.is_json() {
            output.json(&Summary {
                message_type: "summary",
                dry_run: self.dry_run,
                index_objects: report.objects,
                damaged: texts(&report.damaged),
                lying: ids(&report.lying),
                stale: ids(&report.stale),
                packs_read: report.read_packs,
                packs_indexed: report.indexed_packs,
                unreadable_packs: texts(&report.unreadable),
                index_written: report.written,
                index_removed: report.removed,
                index_retained: report.retained,
            })?;
        } else {
            for text in texts(&report.damaged) {
                output.line(&text)?;
            }
            for id in ids(&report.lying) {
                output.line(&format!("index/{id} says what packs' own tables deny"))?;
            }
            for id in ids(&report.stale) {
                output.line(&format!("index/{id} speaks of packs that are gone"))?;
            }
            for text in texts(&report.unreadable) {
                output.error_line(&format!("error: {text}"));
            }
            let would = if self.dry_run { "would be " } else { "" };
            output.line(&format!(
                "{would}indexed: {}; {would}written: {}, {would}removed: {}",
                numbers::count(report.indexed_packs, "pack"),
                numbers::count(report.written, "index object"),
                numbers::count(
                    match self.dry_run {
                        true => (report.damaged.len() + report.lying.len() + report.stale.len()) as u64,
                        false => report.removed,
                    },
                    "index object"
                ),
            ))?;
        }
        match report.unreadable.len() as u64 {
            0 => Ok(()),
            packs => Err(Failure::with_hint(
                format!("the tables of {} cannot be read", numbers::count(packs, "pack")),
                "`icecore repair packs` brings back what it can",
            )),
        }
    }
}
