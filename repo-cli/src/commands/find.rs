//! `icecore find`

use std::collections::HashSet;
use std::ffi::OsString;
use std::ops::ControlFlow;

use clap::{Args, ValueEnum};
use repo_core::{ChunkId, Metadata, Node, NodeKind, PackId, Patterns, Repository, Snapshot, Wanted};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::commands::ls;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::json::{self, NodeShape};
use crate::names;
use crate::numbers;
use crate::problems;
use crate::selection::{self, Filters};
use crate::time;

/// Find files and directories in snapshots.
///
/// A pattern matches a name at any depth, or, beginning with /, a whole path; `*`, `?`, `[a-z]` and `**` work as for
/// --exclude, and what is below a directory that matches is found too. All snapshots are searched, or those chosen.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore find '*.toml' --snapshot latest\n  icecore find /etc/passwd --history\n  icecore find '*' --type file --larger-than 1G --newest 2026-01-31\n  icecore find --pack 3f1c07aa…"))]
pub struct Find {
    /// What the entries are called
    #[arg(value_name = "PATTERN", required_unless_present = "history")]
    patterns: Vec<OsString>,

    /// Ignore letter case
    #[arg(short, long)]
    ignore_case: bool,

    /// Not changed before this time (of the content): 2026-11-20 or "2026-11-20 12:00"
    #[arg(short = 'O', long, value_name = "TIME", value_parser = time::parse_time)]
    oldest: Option<i64>,

    /// Not changed after this time
    #[arg(short = 'N', long, value_name = "TIME", value_parser = time::parse_at)]
    newest: Option<i64>,

    /// At least so many bytes (10M, 2G): files only
    #[arg(long, value_name = "SIZE", value_parser = numbers::parse_size)]
    larger_than: Option<u64>,

    /// At most so many bytes: files only
    #[arg(long, value_name = "SIZE", value_parser = numbers::parse_size)]
    smaller_than: Option<u64>,

    /// Only entries of this kind
    #[arg(long = "type", value_name = "KIND", value_enum)]
    kind: Option<Kind>,

    /// The patterns are ids of chunks: which files need them
    #[arg(long, conflicts_with_all = ["tree", "pack"])]
    blob: bool,

    /// The patterns are ids of trees: which directories they are
    #[arg(long, conflicts_with = "pack")]
    tree: bool,

    /// The patterns are ids of packs: which files need something in them
    #[arg(long)]
    pack: bool,

    /// With --blob or --tree: also the packs that hold it
    #[arg(long)]
    show_pack_id: bool,

    /// Every version of the files and directories at these whole paths: when each came, changed and went
    #[arg(long, value_name = "PATH", conflicts_with_all = ["patterns", "blob", "tree", "pack"])]
    history: Vec<OsString>,

    /// Search only this snapshot; may be repeated
    #[arg(short, long, value_name = "ID")]
    snapshot: Vec<String>,

    /// The oldest snapshots first; else the newest are (of --history the oldest versions)
    #[arg(short = 'R', long)]
    reverse: bool,

    /// Mode, owner, group, size and time of each
    #[arg(short, long)]
    long: bool,

    /// Sizes as KiB, MiB, GiB
    #[arg(long)]
    human_readable: bool,

    #[command(flatten)]
    filters: Filters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    File,
    #[value(alias = "directory")]
    Dir,
    Symlink,
    Fifo,
    Socket,
    /// A block or character device
    Dev,
}

impl Kind {
    fn is(self, kind: NodeKind) -> bool {
        match self {
            Self::File => kind == NodeKind::File,
            Self::Dir => kind == NodeKind::Directory,
            Self::Symlink => kind == NodeKind::Symlink,
            Self::Fifo => kind == NodeKind::Fifo,
            Self::Socket => kind == NodeKind::Socket,
            Self::Dev => matches!(kind, NodeKind::BlockDevice | NodeKind::CharDevice),
        }
    }
}

#[derive(Serialize)]
struct Matches {
    matches: Vec<NodeShape>,
    hits: usize,
    snapshot: String,
}

#[derive(Serialize)]
struct ObjectMatch {
    object_type: &'static str,
    id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    packs: Vec<String>,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    snapshot: String,
    time: String,
}

#[derive(Serialize)]
struct Version {
    message_type: &'static str,
    change: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    snapshot: String,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodeShape>,
}

impl Find {
    pub fn run(self, context: &Context) -> Outcome {
        if self.show_pack_id && !(self.blob || self.tree) {
            return Err(Failure::told("--show-pack-id is about chunks: it needs --blob or --tree"));
        }
        let patterns = if self.blob || self.tree || self.pack { Patterns::new() } else { self.read_patterns()? };
        let repository = context.open()?;
        let (snapshots, unreadable) = self.snapshots(context, &repository)?;
        if !self.history.is_empty() {
            self.print_history(context, &repository, &snapshots)?;
        } else if self.blob || self.tree || self.pack {
            self.find_objects(context, &repository, &snapshots)?;
        } else {
            self.find_entries(context, &repository, &snapshots, &patterns)?;
        }
        match unreadable {
            0 => Ok(()),
            count => Err(Failure::incomplete(format!("{} could not be read", numbers::count(count, "snapshot")))),
        }
    }

    fn read_patterns(&self) -> Outcome<Patterns> {
        let mut patterns = Patterns::new();
        for pattern in &self.patterns {
            let added = patterns.add_bytes(pattern.as_encoded_bytes(), self.ignore_case);
            added.map_err(|bad| Failure::told(bad.to_string()))?;
        }
        Ok(patterns)
    }

    /// Newest first, unless turned round; and how many cannot be read.
    fn snapshots(&self, context: &Context, repository: &Repository) -> Outcome<(Vec<Snapshot>, u64)> {
        let filter = self.filters.filter()?;
        let mut unreadable = 0;
        let mut snapshots = if self.snapshot.is_empty() {
            let list = repository.snapshots(&filter)?;
            problems::unreadable(&context.output, "find", &list.unreadable);
            unreadable = list.unreadable.len() as u64;
            list.snapshots
        } else {
            let mut chosen: Vec<Snapshot> = Vec::new();
            for name in &self.snapshot {
                let snapshot = repository.snapshot(&selection::selector(name)?, &filter)?;
                if !chosen.iter().any(|known| known.id() == snapshot.id()) {
                    chosen.push(snapshot);
                }
            }
            chosen
        };
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.record().end_ns, snapshot.id())));
        if self.reverse {
            snapshots.reverse();
        }
        Ok((snapshots, unreadable))
    }

    fn fits(&self, metadata: &Metadata) -> bool {
        let (from, to) = (self.larger_than, self.smaller_than);
        let is_file = metadata.kind == NodeKind::File;
        let time_ns = i128::from(metadata.modified.seconds) * 1_000_000_000 + i128::from(metadata.modified.nanoseconds);
        self.kind.is_none_or(|kind| kind.is(metadata.kind))
            && from.is_none_or(|least| is_file && metadata.size >= least)
            && to.is_none_or(|most| is_file && metadata.size <= most)
            && self.oldest.is_none_or(|oldest| time_ns >= i128::from(oldest))
            && self.newest.is_none_or(|newest| time_ns <= i128::from(newest))
    }

    fn find_entries(
        &self,
        context: &Context,
        repository: &Repository,
        snapshots: &[Snapshot],
        patterns: &Patterns,
    ) -> Outcome {
        let is_found = |path: &[u8], node: &Node| self.fits(&node.metadata) && patterns.matches(path);
        let may_be_below = |path: &[u8]| path.is_empty() || patterns.may_match_below(path) || patterns.matches(path);
        let mut finder = repository.finder(Wanted::Entries { is_found: &is_found, may_be_below: &may_be_below })?;
        let mut all = Vec::new();
        let mut is_first = true;
        for snapshot in snapshots {
            let zone = snapshot.record().zone_minutes;
            let mut matches = Vec::new();
            let mut has_found = false;
            let mut result = Ok(());
            finder.search(snapshot, &mut |path, node| {
                if context.output.is_json() {
                    matches.push(NodeShape::new(path, node, zone));
                    return ControlFlow::Continue(());
                }
                result = match std::mem::replace(&mut has_found, true) {
                    true => Ok(()),
                    false => head(context, snapshot, &mut is_first),
                };
                if result.is_ok() {
                    result = ls::print_entry(context, path, node, self.long, self.human_readable);
                }
                if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            result?;
            if !matches.is_empty() {
                all.push(Matches { hits: matches.len(), matches, snapshot: snapshot.id().short() });
            }
        }
        if context.output.is_json() { context.output.json(&all) } else { Ok(()) }
    }

    fn find_objects(&self, context: &Context, repository: &Repository, snapshots: &[Snapshot]) -> Outcome {
        let mut all = Vec::new();
        for text in &self.patterns {
            let text = text.to_string_lossy();
            let (object_type, chunks) = self.chunks(repository, &text)?;
            let packs = if self.show_pack_id { self.packs(context, repository, &text, &chunks)? } else { Vec::new() };
            let mut finder = repository.finder(Wanted::Chunks(&chunks))?;
            for snapshot in snapshots {
                let mut found = Vec::new();
                finder.search(snapshot, &mut |path, node| {
                    found.push((path.to_vec(), node.metadata.kind == NodeKind::Directory));
                    ControlFlow::Continue(())
                })?;
                let record = snapshot.record();
                let (short, started) = (snapshot.id().short(), time::shown(record.start_ns));
                for (path, is_directory) in found {
                    if !context.output.is_json() {
                        let what = if is_directory { "directory" } else { "file" };
                        let (path, short) = (names::shown(&path), &short[..8]);
                        context.output.say(0, &format!("{what} {path} in snapshot {short} ({started})"))?;
                        continue;
                    }
                    all.push(ObjectMatch {
                        object_type,
                        id: text.to_string(),
                        packs: packs.clone(),
                        path: json::text(&path),
                        path_base64: json::exact(&path),
                        snapshot: short.clone(),
                        time: time::rfc3339_ns(record.start_ns, record.zone_minutes),
                    });
                }
            }
        }
        if context.output.is_json() { context.output.json(&all) } else { Ok(()) }
    }

    /// Says where a chunk is kept, unless its ids are for JSON.
    fn packs(
        &self,
        context: &Context,
        repository: &Repository,
        text: &str,
        chunks: &HashSet<ChunkId>,
    ) -> Outcome<Vec<String>> {
        let mut packs = Vec::new();
        for chunk in chunks {
            packs.extend(repository.packs_with(chunk)?.iter().map(ToString::to_string));
        }
        for pack in &packs {
            context.output.say(0, &format!("{} is in pack {pack}", names::words(text)))?;
        }
        Ok(packs)
    }

    /// What an id stands for, and restic's word for it.
    fn chunks(&self, repository: &Repository, text: &str) -> Outcome<(&'static str, HashSet<ChunkId>)> {
        let bad = |what: &str| Failure::told(format!("{:?} is not the id of a {what}: 64 digits", names::words(text)));
        if self.pack {
            let id: PackId = text.parse().map_err(|_| bad("pack"))?;
            let pack = repository.describe_pack(id)?;
            let chunks = pack.frames.iter().flat_map(|frame| frame.chunks.iter().map(|chunk| chunk.id));
            return Ok(("pack", chunks.collect()));
        }
        let what = if self.tree { "tree" } else { "blob" };
        Ok((what, HashSet::from([text.parse().map_err(|_| bad(what))?])))
    }

    /// The versions of each path, oldest first.
    fn print_history(&self, context: &Context, repository: &Repository, snapshots: &[Snapshot]) -> Outcome {
        let mut snapshots: Vec<&Snapshot> = snapshots.iter().collect();
        if !self.reverse {
            snapshots.reverse();
        }
        for path in &self.history {
            let path = selection::join(b"", path.as_encoded_bytes());
            let mut lines = Vec::new();
            let mut before: Option<Node> = None;
            for snapshot in &snapshots {
                let now = repository.entry(snapshot, &path)?;
                let change = match (&before, &now) {
                    (None, Some(_)) => Some("added"),
                    (Some(_), None) => Some("removed"),
                    (Some(before), Some(now)) if is_other_version(before, now) => Some("changed"),
                    _ => None,
                };
                lines.extend(change.map(|change| (change, *snapshot, now.clone().or(before.take()))));
                before = now;
            }
            if lines.is_empty() {
                return Err(Failure::with_hint(
                    format!(
                        "{} is in none of {}",
                        names::shown(&path),
                        numbers::count(snapshots.len() as u64, "snapshot")
                    ),
                    "write the whole path as `icecore ls` shows it",
                ));
            }
            if self.reverse {
                lines.reverse();
            }
            lines.iter().try_for_each(|(change, snapshot, node)| {
                self.print_version(context, &path, change, snapshot, node.as_ref())
            })?;
        }
        Ok(())
    }

    fn print_version(
        &self,
        context: &Context,
        path: &[u8],
        change: &'static str,
        snapshot: &Snapshot,
        node: Option<&Node>,
    ) -> Outcome {
        let record = snapshot.record();
        if context.output.is_json() {
            return context.output.json(&Version {
                message_type: "version",
                change,
                path: json::text(path),
                path_base64: json::exact(path),
                snapshot: snapshot.id().short(),
                time: time::rfc3339_ns(record.start_ns, record.zone_minutes),
                node: node.filter(|_| change != "removed").map(|node| NodeShape::new(path, node, record.zone_minutes)),
            });
        }
        let (short, started) = (&snapshot.id().short()[..8], time::shown(record.start_ns));
        let (size, modified) = match node.filter(|_| change != "removed") {
            Some(node) => (
                numbers::size(node.metadata.size),
                format!("modified {}", time::shown_file_time(node.metadata.modified.seconds)),
            ),
            None => Default::default(),
        };
        context
            .output
            .say(0, &format!("{short}  {started}  {change:<8}  {size:>12}  {modified:<28}  {}", names::shown(path)))
    }
}

/// Whether a restore of the two would differ; of directories, in themselves.
fn is_other_version(before: &Node, now: &Node) -> bool {
    let of = |node: &Node| {
        let metadata = &node.metadata;
        (metadata.kind, metadata.mode, metadata.uid, metadata.gid, metadata.modified, metadata.special_device)
    };
    let has_other_content = before.content != now.content && now.metadata.kind != NodeKind::Directory;
    of(before) != of(now) || before.xattrs != now.xattrs || has_other_content
}

fn head(context: &Context, snapshot: &Snapshot, is_first: &mut bool) -> Outcome {
    let gap = if std::mem::replace(is_first, false) { "" } else { "\n" };
    let record = snapshot.record();
    let short = snapshot.id().short();
    context.output.say(
        1,
        &format!("{gap}Found matching entries in snapshot {} from {}", &short[..8], time::shown(record.start_ns)),
    )
}
