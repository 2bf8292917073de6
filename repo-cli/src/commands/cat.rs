//! `icecore cat`

use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;

use clap::{Args, ValueEnum};
use repo_core::{Config, KeyInfo, ObjectName, PackKind, Prefix, Repository};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::json::{NodeShape, SnapshotShape};
use crate::names;
use crate::selection::{self, At, Filters};

use super::key;

/// Print what an object says, as JSON.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore cat config\n  icecore cat snapshot latest\n  icecore cat tree latest:/home"))]
pub struct Cat {
    /// Which kind of object
    #[arg(value_enum)]
    kind: Kind,

    /// Its id, or the first digits of it; of a tree: ID[:PATH] of a snapshot
    #[arg(value_name = "ID", required_if_eq_any = [("kind", "snapshot"), ("kind", "tree"), ("kind", "key"), ("kind", "index"), ("kind", "pack")])]
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
    /// Name and size of an index object
    Index,
    /// Name, kind and size of a pack
    Pack,
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
            Kind::Index => print(context, &find_object(&repository, text(&id)?, &[Prefix::Indexes])?),
            Kind::Pack => {
                let prefixes = [Prefix::Packs(PackKind::Data), Prefix::Packs(PackKind::Meta)];
                print(context, &find_object(&repository, text(&id)?, &prefixes)?)
            }
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
        "label": label,
    })
}

/// The key slot whose id begins so.
pub fn find_key(repository: &Repository, prefix: &str) -> Outcome<KeyInfo> {
    let mut found = repository.keys()?.into_iter().filter(|key| key.slot.to_string().starts_with(prefix));
    one(found.next(), found.next(), "key", prefix)
}

fn find_object(repository: &Repository, prefix: &str, places: &[Prefix]) -> Outcome<Value> {
    let mut found = Vec::new();
    for place in places {
        found.extend(
            repository
                .objects(*place)?
                .into_iter()
                .filter(|(name, _)| name.to_string().rsplit('/').next().is_some_and(|id| id.starts_with(prefix))),
        );
    }
    let mut found = found.into_iter();
    let (name, size) = one(found.next(), found.next(), "object", prefix)?;
    let mut value = json!({ "object": name.to_string(), "size": size });
    if let ObjectName::Pack(kind, id) = name {
        value["id"] = id.to_string().into();
        value["kind"] = if kind == PackKind::Data { "data" } else { "meta" }.into();
    } else if let ObjectName::Index(id) = name {
        value["id"] = id.to_string().into();
    }
    Ok(value)
}

/// The one that was meant.
fn one<T>(first: Option<T>, second: Option<T>, what: &str, prefix: &str) -> Outcome<T> {
    let prefix = names::words(prefix);
    match (first, second) {
        (Some(found), None) => Ok(found),
        (None, _) => Err(Failure::told(format!("no {what} {prefix}"))),
        (Some(_), Some(_)) => Err(Failure::told(format!("{prefix} is ambiguous: several ids begin with it"))),
    }
}
