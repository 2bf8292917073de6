//! `icecore list`

use clap::{Args, ValueEnum};
use repo_core::{ObjectName, PackKind, Prefix};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::Outcome;

/// List the objects of one kind: their ids, one a line.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Example:\n  icecore list packs"))]
pub struct List {
    /// Which kind
    #[arg(value_enum)]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Snapshots,
    Packs,
    Index,
    Keys,
    /// Accepted for restic's scripts: there are none
    Locks,
}

#[derive(Serialize)]
struct Line {
    id: String,
    size: u64,
}

impl List {
    pub fn run(self, context: &Context) -> Outcome {
        let repository = context.open()?;
        let prefixes: &[Prefix] = match self.kind {
            Kind::Snapshots => &[Prefix::Snapshots],
            Kind::Packs => &[Prefix::Packs(PackKind::Data), Prefix::Packs(PackKind::Meta)],
            Kind::Index => &[Prefix::Indexes],
            Kind::Keys => &[Prefix::KeySlots],
            Kind::Locks => &[],
        };
        for prefix in prefixes {
            for (name, size) in repository.objects(*prefix)? {
                let Some(id) = id(&name) else { continue };
                match context.output.is_json() {
                    true => context.output.json(&Line { id, size })?,
                    false => context.output.line(&id)?,
                }
            }
        }
        Ok(())
    }
}

/// What people call it.
fn id(name: &ObjectName) -> Option<String> {
    match name {
        ObjectName::Snapshot(id) => Some(id.short()),
        ObjectName::Pack(_, id) => Some(id.to_string()),
        ObjectName::Index(id) => Some(id.to_string()),
        ObjectName::KeySlot(id) => Some(id.to_string()),
        _ => None,
    }
}
