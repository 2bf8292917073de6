//! `icecore ls`

mod ncdu;

use std::cmp::Ordering;
use std::ffi::OsString;
use std::ops::ControlFlow;

use clap::{Args, ValueEnum};
use repo_core::{Content, Node, NodeKind, Repository, Snapshot};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::json::{NodeShape, SnapshotShape};
use crate::names;
use crate::numbers;
use crate::selection::{self, At, Filters};
use crate::time;

use ncdu::Ncdu;

/// List what is in a snapshot.
///
/// Without a directory everything is listed; with one, what is directly in it, unless --recursive is given.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore ls latest\n  icecore ls latest:/home/me --long\n  icecore ls 40dc1520 /etc /srv --recursive --sort size --reverse\n  icecore ls latest --ncdu | ncdu -f -"))]
pub struct Ls {
    /// The snapshot: latest, latest~N, or the first digits of an id; :PATH is a directory in it
    #[arg(value_name = "ID[:PATH]", required_unless_present = "at")]
    snapshot: Option<OsString>,

    /// Directories or files in it
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// Mode, owner, group, size and time of each
    #[arg(short, long)]
    long: bool,

    /// Everything below the directories given
    #[arg(long)]
    recursive: bool,

    /// Sizes as KiB, MiB, GiB
    #[arg(long)]
    human_readable: bool,

    /// In this order; without it as stored: by name, each directory before its entries
    #[arg(short, long, value_name = "BY", value_enum)]
    sort: Option<SortBy>,

    /// The other way round
    #[arg(long)]
    reverse: bool,

    /// Everything in one directory, in the format that ncdu -f - shows
    #[arg(long, conflicts_with_all = ["long", "human_readable", "sort", "reverse"])]
    ncdu: bool,

    #[command(flatten)]
    at: At,

    #[command(flatten)]
    filters: Filters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SortBy {
    Name,
    Size,
    #[value(alias = "mtime")]
    Time,
    Atime,
    Ctime,
    Extension,
}

#[derive(Serialize)]
struct SnapshotLine {
    message_type: &'static str,
    struct_type: &'static str,
    #[serde(flatten)]
    snapshot: SnapshotShape,
}

#[derive(Serialize)]
struct NodeLine {
    message_type: &'static str,
    struct_type: &'static str,
    #[serde(flatten)]
    node: NodeShape,
}

impl Ls {
    pub fn run(self, context: &Context) -> Outcome {
        let (name, subpath) = selection::split_path(self.snapshot.as_deref().unwrap_or_default())?;
        let repository = context.open()?;
        let snapshot = selection::select(context, &repository, &name, &self.at, &self.filters)?;
        let mut roots: Vec<Vec<u8>> =
            self.paths.iter().map(|path| selection::join(&subpath, path.as_encoded_bytes())).collect();
        let recursive = self.recursive || roots.is_empty();
        if roots.is_empty() {
            roots.push(selection::join(&subpath, b""));
        }
        if self.ncdu {
            let [root] = roots.as_slice() else {
                return Err(Failure::told("--ncdu shows one directory, and what is below it"));
            };
            return export(context, &repository, &snapshot, root);
        }
        self.head(context, &snapshot)?;
        for root in &roots {
            // A directory that is named stands before what is in it.
            let own = if self.paths.is_empty() { None } else { repository.entry(&snapshot, root)? };
            if let Some(node) = own.filter(|node| node.metadata.kind == NodeKind::Directory) {
                self.print(context, root, &node, snapshot.record().zone_minutes)?;
            }
            self.list(context, &repository, &snapshot, root, recursive)?;
        }
        Ok(())
    }

    fn head(&self, context: &Context, snapshot: &Snapshot) -> Outcome {
        let record = snapshot.record();
        if context.output.is_json() {
            let snapshot = SnapshotShape::from(snapshot);
            return context.output.json(&SnapshotLine { message_type: "snapshot", struct_type: "snapshot", snapshot });
        }
        // A script wants the names alone.
        if !context.output.out_is_terminal() {
            return Ok(());
        }
        let paths: Vec<_> = record.paths.iter().map(|path| names::shown(path)).collect();
        context.output.say(
            1,
            &format!(
                "snapshot {} of [{}] at {}:",
                &record.id.short()[..8],
                paths.join(" "),
                time::shown(record.start_ns)
            ),
        )
    }

    fn list(
        &self,
        context: &Context,
        repository: &Repository,
        snapshot: &Snapshot,
        root: &[u8],
        recursive: bool,
    ) -> Outcome {
        let zone = snapshot.record().zone_minutes;
        let mut result = Ok(());
        if self.sort.is_none() && !self.reverse {
            repository.list(snapshot, root, recursive, &mut |path, node| {
                result = self.print(context, path, node, zone);
                if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            return result;
        }
        let mut all: Vec<(Vec<u8>, Node)> = Vec::new();
        repository.list(snapshot, root, recursive, &mut |path, node| {
            all.push((path.to_vec(), node.clone()));
            ControlFlow::Continue(())
        })?;
        let by = self.sort.unwrap_or(SortBy::Name);
        all.sort_by(|a, b| order(by, a, b));
        if self.reverse {
            all.reverse();
        }
        all.iter().try_for_each(|(path, node)| self.print(context, path, node, zone))
    }

    fn print(&self, context: &Context, path: &[u8], node: &Node, zone_minutes: i16) -> Outcome {
        let output = &context.output;
        if output.is_json() {
            let node = NodeShape::new(path, node, zone_minutes);
            return output.json(&NodeLine { message_type: "node", struct_type: "node", node });
        }
        print_entry(context, path, node, self.long, self.human_readable)
    }
}

/// Everything below a directory, for ncdu.
fn export(context: &Context, repository: &Repository, snapshot: &Snapshot, root: &[u8]) -> Outcome {
    let node = if root == b"/" { None } else { Some(repository.node(snapshot, root)?) };
    if node.as_ref().is_some_and(|node| node.metadata.kind != NodeKind::Directory) {
        return Err(Failure::told(format!("{} is not a directory: --ncdu shows what is in one", names::shown(root))));
    }
    let time = snapshot.record().start_ns.div_euclid(1_000_000_000).max(0);
    let mut export = Ncdu::begin(&context.output, root, node.as_ref(), time)?;
    let mut result = Ok(());
    repository.list(snapshot, root, true, &mut |path, node| {
        result = export.add(path, node);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result?;
    export.end()
}

/// One entry as a line of text; `find` shows it the same way.
pub fn print_entry(context: &Context, path: &[u8], node: &Node, is_long: bool, is_human_readable: bool) -> Outcome {
    let output = &context.output;
    let shown = |name: &[u8]| match output.out_is_terminal() {
        true => names::shown(name).into_owned().into_bytes(),
        // A program gets the name itself.
        false => name.to_vec(),
    };
    if !is_long {
        return output.bytes(&shown(path));
    }
    let metadata = &node.metadata;
    let size = if is_human_readable { numbers::size(metadata.size) } else { metadata.size.to_string() };
    let mut line = format!(
        "{} {:>5} {:>5} {size:>width$} {} ",
        permissions(metadata.kind, metadata.mode),
        metadata.uid,
        metadata.gid,
        time::shown_file_time(metadata.modified.seconds),
        width = if is_human_readable { 12 } else { 10 }
    )
    .into_bytes();
    line.extend(shown(path));
    if let Content::Symlink(target) = &node.content {
        line.extend(b" -> ");
        line.extend(shown(target));
    }
    output.bytes(&line)
}

/// As `ls -l` writes it.
fn permissions(kind: NodeKind, mode: u32) -> String {
    let mut letters = vec![match kind {
        NodeKind::File => '-',
        NodeKind::Directory => 'd',
        NodeKind::Symlink => 'l',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
        NodeKind::BlockDevice => 'b',
        NodeKind::CharDevice => 'c',
    }];
    letters.extend(
        "rwxrwxrwx".chars().enumerate().map(|(bit, letter)| if mode & (0o400 >> bit) != 0 { letter } else { '-' }),
    );
    for (bit, place, with, without) in [(0o4000, 3, 's', 'S'), (0o2000, 6, 's', 'S'), (0o1000, 9, 't', 'T')] {
        if mode & bit != 0 {
            letters[place] = if letters[place] == 'x' { with } else { without };
        }
    }
    letters.into_iter().collect()
}

fn order(by: SortBy, (a_path, a): &(Vec<u8>, Node), (b_path, b): &(Vec<u8>, Node)) -> Ordering {
    let (of_a, of_b) = (&a.metadata, &b.metadata);
    let first = match by {
        SortBy::Name => Ordering::Equal,
        // Large and new first, as `ls -S` and `ls -t` do.
        SortBy::Size => of_b.size.cmp(&of_a.size),
        SortBy::Time => of_b.modified.cmp(&of_a.modified),
        SortBy::Atime => of_b.accessed.cmp(&of_a.accessed),
        SortBy::Ctime => of_b.changed.cmp(&of_a.changed),
        SortBy::Extension => extension(&a.name).cmp(extension(&b.name)),
    };
    first.then_with(|| a_path.cmp(b_path))
}

/// What follows the last dot; nothing for names without one or that only begin with one.
fn extension(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|byte| *byte == b'.') {
        Some(0) | None => b"",
        Some(dot) => &name[dot + 1..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_as_ls_writes_them() {
        assert_eq!(permissions(NodeKind::File, 0o4755), "-rwsr-xr-x");
        assert_eq!(permissions(NodeKind::File, 0o6644), "-rwSr-Sr--");
        assert_eq!(permissions(NodeKind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(permissions(NodeKind::Directory, 0o1776), "drwxrwxrwT");
        assert_eq!(extension(b".bashrc"), b"");
        assert_eq!(extension(b"a.tar.gz"), b"gz");
    }
}
