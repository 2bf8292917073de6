//! `icecore recover`

use clap::Args;
use repo_core::{RecoverOptions, RecoverReport, system};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::interrupt::Stop;
use crate::numbers;
use crate::output::Output;
use crate::problems;

/// Make a snapshot of the trees that no snapshot has: of lost snapshots, and of backups that were cut off.
///
/// Every node of every tree is read. Each tree that is found becomes a directory of one new snapshot with the tag `recovered`,
/// called by the tree's id. What was forgotten and can still be brought back is not among them: use `icecore undelete`. What a
/// prune took is gone.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Example:\n  icecore recover --dry-run"))]
pub struct Recover {
    /// Say what is there, make no snapshot
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Summary {
    message_type: &'static str,
    dry_run: bool,
    tree_blobs: u64,
    trees: Vec<String>,
    broken_trees: u64,
    unreadable: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_id: Option<String>,
}

impl Recover {
    pub fn run(self, context: &Context) -> Outcome {
        let repository = context.open_aloud()?;
        let stop = Stop::listen()?;
        let mut options = RecoverOptions::new().host(system::host_name());
        options.user = system::current_user().name.map(|name| name.to_string()).unwrap_or_default();
        options.dry_run = self.dry_run;
        let report =
            repository.recover(&options, &stop).map_err(|error| Failure::from_verb(error, "nothing was changed"))?;
        if let Some(snapshot) = &report.snapshot {
            context.memory.remember(&context.output, &repository, snapshot);
        }
        self.print(&context.output, &report)?;
        problems::unreadable(&context.output, "recover", &report.unreadable);
        match report.unreadable.len() as u64 + report.broken {
            0 => Ok(()),
            _ => {
                Err(Failure::incomplete("something has lost a part, or cannot be read; what is whole of it was found"))
            }
        }
    }

    fn print(&self, output: &Output, report: &RecoverReport) -> Outcome {
        let snapshot = report.snapshot.as_ref().map(|snapshot| snapshot.id().short());
        if output.is_json() {
            return output.json(&Summary {
                message_type: "summary",
                dry_run: self.dry_run,
                tree_blobs: report.nodes,
                trees: report.trees.iter().map(ToString::to_string).collect(),
                broken_trees: report.broken,
                unreadable: report.unreadable.iter().map(ToString::to_string).collect(),
                snapshot_id: snapshot,
            });
        }
        for tree in &report.trees {
            output.say(2, &format!("found {tree}"))?;
        }
        let (trees, nodes) = (numbers::count(report.trees.len() as u64, "tree"), report.nodes);
        output.say(1, &format!("looked at {}: {trees} that no snapshot has", numbers::count(nodes, "tree node")))?;
        if report.broken > 0 {
            let broken = numbers::count(report.broken, "tree");
            output.say(1, &format!("{broken} more lost something; whole directories in them count as trees"))?;
        }
        match snapshot {
            Some(id) => output.say(1, &format!("snapshot {} saved", &id[..8])),
            None if self.dry_run => output.say(1, "nothing was changed"),
            None => output.say(1, "there is nothing to recover"),
        }
    }
}
