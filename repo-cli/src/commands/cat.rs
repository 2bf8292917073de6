//! `icecore cat`

mod objects;

use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;

use clap::{Args, ValueEnum};
use repo_core::{ChunkId, Config, KeyInfo, ObjectName, PackKind, Prefix, Repository};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::json::{NodeShape, SnapshotShape};
use crate::names;
use crate::selection::{self, At, Filters};

use super::key;
use objects::{IndexShape, PackShape};

/// Print what an object says, as JSON; of a blob (a chunk) its bytes as they are.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore cat config\n  icecore cat snapshot latest\n  icecore cat tree latest:/home\n  icecore cat pack 5a0c"))]
pub struct Cat {
    /// Which kind of object
    #[arg(value_enum)]
    kind: Kind,

    /// Its id, or the first digits of it; of a tree: ID[:PATH] of a snapshot; of a blob: all 64 digits
    #[arg(value_name = "ID", required_if_eq_any = [("kind", "snapshot"), ("kind", "tree"), ("kind", "key"), ("kind", "index"), ("kind", "pack"), ("kind", "blob")])]
    id: Option<OsString>,

    #[command(flatten)]
    at: At,

    #[command(flatten)]
    filters: Filters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The repository's parameters
    Config,
    /// All that a snapshot records of itself
    Snapshot,
    /// The entries of one directory
    Tree,
    /// A key slot
    Key,
    /// The packs that an index object names, with their frames and chunks
    Index,
    /// The frames and chunks of a pack; reads and proves all of it
    Pack,
    /// The bytes of a chunk
    #[value(alias = "chunk")]
    Blob,
}

impl Cat {
    pub fn run(self, context: &Context) -> Outcome {
        let id = self.id.clone().unwrap_or_default();
        if self.kind == Kind::Config && !id.is_empty() {
            return Err(Failure::told("there is one config only: it takes no id"));
        }
        let repository = context.open()?;
        match self.kind {
            Kind::Config => print(context, &config(&repository)),
            Kind::Snapshot => {
                let name = text(&id)?;
                let snapshot = selection::select(context, &repository, name, &self.at, &self.filters)?;
                print(context, &SnapshotShape::from(&snapshot))
            }
            Kind::Tree => self.tree(context, &repository, &id),
            Kind::Key => print(context, &key::Shape::from(&find_key(&repository, text(&id)?)?)),
            Kind::Index => match find_object(&repository, text(&id)?, "index object", &[Prefix::Indexes])? {
                ObjectName::Index(id) => print(context, &IndexShape::from(&repository.describe_index(id)?)),
                other => unreachable!("only index objects were listed, and {other}"),
            },
            Kind::Pack => {
                let prefixes = [Prefix::Packs(PackKind::Data), Prefix::Packs(PackKind::Meta)];
                match find_object(&repository, text(&id)?, "pack", &prefixes)? {
                    ObjectName::Pack(_, id) => print(context, &PackShape::from(&repository.describe_pack(id)?)),
                    other => unreachable!("only packs were listed, and {other}"),
                }
            }
            Kind::Blob => blob(context, &repository, text(&id)?),
        }
    }

    fn tree(&self, context: &Context, repository: &Repository, id: &OsStr) -> Outcome {
        let (name, path) = selection::split_path(id)?;
        let snapshot = selection::select(context, repository, &name, &self.at, &self.filters)?;
        let zone = snapshot.record().zone_minutes;
        let mut nodes = Vec::new();
        repository.list(&snapshot, &selection::join(&path, b""), false, &mut |path, node| {
            nodes.push(NodeShape::new(path, node, zone));
            ControlFlow::Continue(())
        })?;
        print(context, &json!({ "nodes": nodes }))
    }
}

fn print(context: &Context, value: &impl Serialize) -> Outcome {
    match context.output.is_json() {
        true => context.output.json(value),
        false => context.output.line(&serde_json::to_string_pretty(value).expect("shapes of our own")),
    }
}

fn text(id: &OsStr) -> Outcome<&str> {
    id.to_str().ok_or_else(|| Failure::told(format!("{} is no id", names::shown(id.as_encoded_bytes()))))
}

fn config(repository: &Repository) -> Value {
    let Config {
        generation,
        chunker,
        frame,
        level,
        pack_data_bytes,
        pack_meta_bytes,
        padding,
        put_if_absent,
        label,
        ..
    } = repository.config();
    json!({
        "id": repository.id().to_string(),
        "generation": generation,
        "chunker": {
            "algorithm": chunker.algorithm,
            "normalization": chunker.normalization,
            "min_bytes": chunker.min_bytes,
            "average_bytes": chunker.average_bytes,
            "max_bytes": chunker.max_bytes,
        },
        "frame": { "target_bytes": frame.target_bytes, "isolation": frame.isolation },
        "level": level,
        "pack_data_bytes": pack_data_bytes,
        "pack_meta_bytes": pack_meta_bytes,
        "padding": padding,
        "put_if_absent": put_if_absent,
        "gc_owner": repository.config().gc_owner().map(|owner| owner.to_string()),
        "label": label,
    })
}

/// The key slot whose id begins so.
pub fn find_key(repository: &Repository, prefix: &str) -> Outcome<KeyInfo> {
    let typed = prefix.to_ascii_lowercase();
    let mut found = repository.keys()?.into_iter().filter(|key| key.slot.to_string().starts_with(&typed));
    one(found.next(), found.next(), "key", prefix)
}

fn blob(context: &Context, repository: &Repository, id: &str) -> Outcome {
    let parsed: ChunkId = id.parse().map_err(|_| {
        let message = format!("{:?} is not the id of a chunk", names::words(id));
        Failure::with_hint(message, "write all 64 digits of it; `icecore cat pack ID` shows those of a pack")
    })?;
    let (_, bytes) = repository.chunk(&parsed)?;
    context.output.raw(|out| Ok(out.write_all(&bytes)?))
}

fn find_object(repository: &Repository, prefix: &str, what: &str, places: &[Prefix]) -> Outcome<ObjectName> {
    let typed = prefix.to_ascii_lowercase();
    let mut found = Vec::new();
    for place in places {
        found.extend(
            repository
                .objects(*place)?
                .into_iter()
                .map(|(name, _)| name)
                .filter(|name| name.to_string().rsplit('/').next().is_some_and(|id| id.starts_with(&typed))),
        );
    }
    let mut found = found.into_iter();
    one(found.next(), found.next(), what, prefix)
}

/// The one that was meant.
fn one<T>(first: Option<T>, second: Option<T>, what: &str, prefix: &str) -> Outcome<T> {
    let shown = match what {
        "key" => "`icecore key list`",
        "pack" => "`icecore list packs`",
        _ => "`icecore list index`",
    };
    let prefix = names::words(prefix);
    if prefix.is_empty() {
        // Of a single one it would be the beginning too: most often a variable that was not set.
        return Err(Failure::with_hint(
            format!("the id of the {what} is empty"),
            format!("{shown} shows what there is"),
        ));
    }
    match (first, second) {
        (Some(found), None) => Ok(found),
        (None, _) => Err(Failure::with_hint(format!("no {what} {prefix}"), format!("{shown} shows what there is"))),
        (Some(_), Some(_)) => Err(Failure::with_hint(
            format!("{prefix} is ambiguous: several ids begin with it"),
            format!("write more digits; {shown} shows them all"),
        )),
    }
}
