//! `icecore repair`: each kind of repair is a subcommand in a file of its own.

mod index;
mod objects;
mod packs;
mod parity;
mod snapshots;

use clap::{Args, Subcommand};

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::Outcome;

/// Bring back what is damaged, as far as anything can.
///
/// After `icecore check` found damage: `repair objects` and `repair index` first, then `repair packs`, then a backup, which
/// stores again what it still finds, and last `repair snapshots` for what is lost for good.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore repair index\n  icecore repair packs --from /mnt/mirror\n  icecore repair snapshots --dry-run\n  icecore repair parity --set 5%"))]
pub struct Repair {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Index(index::Index),
    Objects(objects::Objects),
    Packs(packs::Packs),
    Parity(parity::Parity),
    Snapshots(snapshots::Snapshots),
}

impl Repair {
    pub fn run(self, context: &Context) -> Outcome {
        match self.verb {
            Verb::Index(index) => index.run(context),
            Verb::Objects(objects) => objects.run(context),
            Verb::Packs(packs) => packs.run(context),
            Verb::Parity(parity) => parity.run(context),
            Verb::Snapshots(snapshots) => snapshots.run(context),
        }
    }
}

/// What went wrong and what is left to say when a repair ends with an error.
const AGAIN: &str = "what was done stays; run it again for the rest";

/// What sessions and snapshots say who wrote them.
fn program() -> String {
    concat!("icecore ", env!("CARGO_PKG_VERSION")).to_owned()
}

/// An entry of a snapshot that lost something, as JSON.
#[derive(serde::Serialize)]
struct LossShape {
    snapshot_id: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    lost: &'static str,
}

impl From<&repo_core::LostEntry> for LossShape {
    fn from(entry: &repo_core::LostEntry) -> Self {
        Self {
            snapshot_id: entry.snapshot.short(),
            path: crate::json::text(&entry.path),
            path_base64: crate::json::exact(&entry.path),
            lost: lost_part(entry),
        }
    }
}

fn lost_part(entry: &repo_core::LostEntry) -> &'static str {
    match entry.part {
        repo_core::LostPart::Content => "content",
        repo_core::LostPart::Attributes => "attributes",
        _ => "entries",
    }
}

/// Names what entries of snapshots have lost.
fn tell_losses(context: &Context, losses: &[repo_core::LostEntry], count: u64) -> Outcome {
    for entry in losses {
        let what = match lost_part(entry) {
            "content" => "has lost content",
            "attributes" => "has lost its extended attributes",
            _ => "has lost entries",
        };
        let (snapshot, path) = (&entry.snapshot.short()[..8], crate::names::shown(&entry.path));
        context.output.error_line(&format!("snapshot {snapshot}: {path} {what}"));
    }
    match count - losses.len() as u64 {
        0 => Ok(()),
        more => context.output.line(&format!("  and {more} more")),
    }
}
