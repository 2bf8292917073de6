//! `icecore snapshots`

use std::collections::BTreeMap;

use clap::Args;
use repo_core::{LineageRecord, Repository, Selector, Snapshot, SnapshotFilter};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::grouping::{Grouping, parse_grouping};
use crate::json::SnapshotShape;
use crate::names;
use crate::numbers;
use crate::output::Table;
use crate::problems;
use crate::selection::{self, At, Filters};
use crate::time;

/// List snapshots, the oldest first.
///
/// Kind tells what a snapshot was compared with: nothing (full), the one before (incr) or the last full one (diff).
/// Each is complete in itself, whatever its kind, but for those marked as partial: their backup was interrupted
/// (`backup --keep-partial`), and they have what was done by then.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore snapshots --host myhost --latest 3\n  icecore snapshots --group-by paths --json"))]
pub struct Snapshots {
    /// Only these: latest, latest~N, or the first digits of an id
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// Leave out paths and lineage
    #[arg(short, long)]
    compact: bool,

    /// Only the newest N of each host and paths; partial ones do not count
    #[arg(long, value_name = "N", value_parser = parse_latest)]
    latest: Option<u32>,

    /// Group them by host,paths,tags, or some of these
    #[arg(short, long, value_name = "WHAT", default_value = "", hide_default_value = true, value_parser = parse_grouping)]
    group_by: Grouping,

    #[command(flatten)]
    at: At,

    #[command(flatten)]
    filters: Filters,
}

/// What a group has in common; ordered, so that groups come in a stable order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct GroupKey {
    host: Option<String>,
    paths: Option<Vec<Vec<u8>>>,
    tags: Option<Vec<String>>,
}

#[derive(Serialize)]
struct GroupShape {
    group_key: KeyShape,
    snapshots: Vec<SnapshotShape>,
}

#[derive(Serialize)]
struct KeyShape {
    hostname: String,
    paths: Option<Vec<String>>,
    tags: Option<Vec<String>>,
}

impl Snapshots {
    pub fn run(self, context: &Context) -> Outcome {
        if !self.ids.is_empty() && (self.filters.are_given() || self.at.at.is_some()) {
            return Err(Failure::told("filters choose among many; ids are given already"));
        }
        let selectors = self.ids.iter().map(|id| selection::selector(id)).collect::<Outcome<Vec<_>>>()?;
        let repository = context.open()?;
        let (mut snapshots, unreadable) = self.find(context, &repository, &selectors)?;
        if let Some(latest) = self.latest {
            keep_latest(&mut snapshots, latest as usize);
        }
        if self.group_by.is_empty() {
            self.print_all(context, &snapshots)?;
        } else {
            self.print_groups(context, snapshots)?;
        }
        problems::unreadable(&context.output, "snapshots", &unreadable);
        match unreadable.len() {
            0 => Ok(()),
            count => {
                let message = format!("{} could not be read", numbers::count(count as u64, "snapshot"));
                let hint = "`icecore repair objects` brings back what has a second copy".to_owned();
                Err(Failure::Incomplete { message, hint: Some(hint) })
            }
        }
    }

    fn find(
        &self,
        context: &Context,
        repository: &Repository,
        selectors: &[Selector],
    ) -> Outcome<(Vec<Snapshot>, Vec<repo_core::Error>)> {
        if self.at.at.is_some() {
            let snapshot = selection::select(context, repository, "latest", &self.at, &self.filters)?;
            return Ok((vec![snapshot], Vec::new()));
        }
        if selectors.is_empty() {
            let list = repository.snapshots(&self.filters.filter()?)?;
            return Ok((list.snapshots, list.unreadable));
        }
        let mut snapshots: Vec<Snapshot> = Vec::new();
        for selector in selectors {
            let snapshot = repository.snapshot(selector, &SnapshotFilter::default())?;
            if snapshots.iter().all(|other| other.id() != snapshot.id()) {
                snapshots.push(snapshot);
            }
        }
        Ok((snapshots, Vec::new()))
    }

    fn print_all(&self, context: &Context, snapshots: &[Snapshot]) -> Outcome {
        if context.output.is_json() {
            return context.output.json(&snapshots.iter().map(SnapshotShape::from).collect::<Vec<_>>());
        }
        self.print_table(context, snapshots)
    }

    fn print_groups(&self, context: &Context, snapshots: Vec<Snapshot>) -> Outcome {
        let mut groups: BTreeMap<GroupKey, Vec<Snapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            groups.entry(self.key(&snapshot)).or_default().push(snapshot);
        }
        if context.output.is_json() {
            let shapes = groups.iter().map(|(key, snapshots)| GroupShape {
                group_key: key.shape(),
                snapshots: snapshots.iter().map(SnapshotShape::from).collect(),
            });
            return context.output.json(&shapes.collect::<Vec<_>>());
        }
        for (number, (key, snapshots)) in groups.iter().enumerate() {
            if number > 0 {
                context.output.line("")?;
            }
            context.output.line(&key.title())?;
            self.print_table(context, snapshots)?;
        }
        Ok(())
    }

    fn key(&self, snapshot: &Snapshot) -> GroupKey {
        let record = snapshot.record();
        let Grouping { host, paths, tags } = self.group_by;
        GroupKey {
            host: host.then(|| record.host.clone()),
            paths: paths.then(|| record.paths.clone()),
            tags: tags.then(|| record.tags.clone()),
        }
    }

    fn print_table(&self, context: &Context, snapshots: &[Snapshot]) -> Outcome {
        let mut table = match self.compact {
            true => Table::new(vec!["ID", "Time", "Host", "Tags", "Size"], 3),
            false => Table::new(vec!["ID", "Time", "Host", "Kind", "Tags", "Paths", "Size"], 5),
        };
        for snapshot in snapshots {
            let record = snapshot.record();
            let one = |text: String| vec![text];
            let partial = snapshot.is_partial().then(|| "partial".to_owned());
            let mut tags: Vec<String> = record.tags.iter().map(|tag| names::words(tag).into_owned()).collect();
            let mut cells = vec![
                one(record.id.short()[..8].to_owned()),
                one(time::shown(record.start_ns)),
                one(names::words(&record.host).into_owned()),
            ];
            if !self.compact {
                let pinned = snapshot.is_pinned().then(|| "pinned".to_owned());
                cells.push(std::iter::once(kind(&record.lineage).to_owned()).chain(pinned).chain(partial).collect());
            } else if let Some(partial) = partial {
                // There is no other column, and nobody should overlook it.
                tags.insert(0, format!("({partial})"));
            }
            cells.push(tags);
            if !self.compact {
                cells.push(record.paths.iter().map(|path| names::shown(path).into_owned()).collect());
            }
            cells.push(one(numbers::size(record.root.bytes)));
            table.row(cells);
        }
        table.foot(format!("Timestamps shown in {}", time::zone_name()));
        table.foot(numbers::count(snapshots.len() as u64, "snapshot"));
        table.print(&context.output)
    }
}

/// The column `Kind`.
fn kind(lineage: &LineageRecord) -> &'static str {
    match lineage {
        LineageRecord::Full => "full",
        LineageRecord::Incremental { .. } => "incr",
        LineageRecord::Differential { .. } => "diff",
    }
}

/// None of each is nothing at all.
fn parse_latest(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "write a number from 1 on".to_owned())
}

/// Keeps the last `count` of each host and paths; they come oldest first. Who asks for the latest means complete ones.
fn keep_latest(snapshots: &mut Vec<Snapshot>, count: usize) {
    let mut seen: BTreeMap<(String, Vec<Vec<u8>>), usize> = BTreeMap::new();
    snapshots.retain(|snapshot| !snapshot.is_partial());
    snapshots.reverse();
    snapshots.retain(|snapshot| {
        let record = snapshot.record();
        let seen = seen.entry((record.host.clone(), record.paths.clone())).or_default();
        *seen += 1;
        *seen <= count
    });
    snapshots.reverse();
}

impl GroupKey {
    fn shape(&self) -> KeyShape {
        let texts = |paths: &Vec<Vec<u8>>| paths.iter().map(|path| crate::json::text(path)).collect();
        KeyShape {
            hostname: self.host.clone().unwrap_or_default(),
            paths: self.paths.as_ref().map(texts),
            tags: self.tags.clone(),
        }
    }

    fn title(&self) -> String {
        let list = |items: Vec<String>| items.join(", ");
        let mut parts = Vec::new();
        if let Some(host) = &self.host {
            parts.push(format!("host [{}]", names::words(host)));
        }
        if let Some(tags) = &self.tags {
            parts.push(format!("tags [{}]", list(tags.iter().map(|tag| names::words(tag).into_owned()).collect())));
        }
        if let Some(paths) = &self.paths {
            parts.push(format!("paths [{}]", list(paths.iter().map(|path| names::shown(path).into_owned()).collect())));
        }
        format!("snapshots for ({}):", parts.join(", "))
    }
}
