//! `icecore list`

use std::ops::ControlFlow;

use clap::{Args, ValueEnum};
use repo_core::{ObjectName, PackKind, Prefix, Repository};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::Outcome;
use crate::json::chunk_kind;

/// List the objects of one kind, or the chunks in them: their ids, one a line.
///
/// A chunk, restic's blob, is listed once, with what it holds before its id: data (content), tree (a part of a directory),
/// list (where the parts of a large file are) or xattr.
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
    /// The chunks that the index knows
    Blobs,
    /// Accepted for restic's scripts: there are none
    Locks,
}

#[derive(Serialize)]
struct Line {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    size: u64,
}

#[derive(Serialize)]
struct Note {
    message_type: &'static str,
    message: &'static str,
}

const NO_LOCKS: &str = "there are no locks, so none is listed: any number of commands may work here at once";

impl List {
    pub fn run(self, context: &Context) -> Outcome {
        let repository = context.open()?;
        let prefixes: &[Prefix] = match self.kind {
            Kind::Snapshots => &[Prefix::Snapshots],
            Kind::Packs => &[Prefix::Packs(PackKind::Data), Prefix::Packs(PackKind::Meta)],
            Kind::Index => &[Prefix::Indexes],
            Kind::Keys => &[Prefix::KeySlots],
            Kind::Blobs => return blobs(context, &repository),
            Kind::Locks => {
                tell_no_locks(context);
                &[]
            }
        };
        for prefix in prefixes {
            for (name, size) in repository.objects(*prefix)? {
                let Some(id) = id(&name) else { continue };
                match context.output.is_json() {
                    true => context.output.json(&Line { id, kind: None, size })?,
                    false => context.output.line(&id)?,
                }
            }
        }
        Ok(())
    }
}

/// A line for each chunk, as it comes: a repository may have more than fit into memory.
fn blobs(context: &Context, repository: &Repository) -> Outcome {
    let output = &context.output;
    let mut result = Ok(());
    repository.chunks(&mut |kind, id, length| {
        let kind = chunk_kind(kind);
        result = match output.is_json() {
            true => output.json(&Line { id: id.to_string(), kind: Some(kind), size: length.into() }),
            false => output.line(&format!("{kind} {id}")),
        };
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result
}

/// Scripts expect lines, so it is said beside them.
fn tell_no_locks(context: &Context) {
    let output = &context.output;
    if output.is_json() {
        output.error_json(&Note { message_type: "note", message: NO_LOCKS });
    } else if output.verbosity() > 0 {
        output.error_line(&format!("note: {NO_LOCKS}"));
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
