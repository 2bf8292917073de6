//! What a repository knows for completions: snapshots, and paths in them. It is opened only where that asks nobody, nothing is
//! remembered of it, and whatever fails means that nothing is known.

use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;

use clap::builder::StyledStr;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use clap_complete::engine::CompletionCandidate;
use repo_core::system::path_from_bytes;
use repo_core::{NodeKind, Repository, Snapshot, SnapshotFilter};

use crate::args::{Arguments, Global};
use crate::context::Context;
use crate::names;
use crate::output::Output;
use crate::secrets;
use crate::selection;
use crate::time;

/// More candidates than anybody looks at.
const CANDIDATES_MAX: usize = 1000;
/// As many digits as are shown everywhere.
const DIGITS: usize = 8;

/// What was typed before the word.
#[derive(Debug)]
pub(super) struct Request {
    matches: Option<ArgMatches>,
}

impl Request {
    /// Understands as much as can be understood of words that are not all there yet.
    pub(super) fn new(words: &[OsString]) -> Self {
        let command = Arguments::command().ignore_errors(true);
        Self { matches: command.try_get_matches_from(words).ok() }
    }

    fn open(&self) -> Option<(Context, Repository)> {
        let matches = self.matches.as_ref()?;
        let innermost = std::iter::successors(Some(matches), |matches| Some(matches.subcommand()?.1)).last()?;
        // Global flags are known wherever they stand.
        let global = Global::from_arg_matches(innermost).or_else(|_| Global::from_arg_matches(matches));
        let mut global = global.ok()?;
        (global.no_state, global.accept_rollback, global.quiet) = (true, false, true);
        if !secrets::asks_nobody(&(&global).into()) {
            return None;
        }
        let output = Output::new(&global);
        let context = Context::new(global, output);
        let repository = context.open().ok()?;
        Some((context, repository))
    }

    /// The newest first, as they can be typed.
    pub(super) fn snapshots(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some(current) = current.to_str() else { return Vec::new() };
        let Some((_, repository)) = self.open() else { return Vec::new() };
        let Ok(list) = repository.snapshots(&SnapshotFilter::default()) else { return Vec::new() };
        let latest = list.snapshots.last().map(|newest| candidate("latest".to_owned(), newest));
        let all = list.snapshots.iter().rev().map(|snapshot| {
            let id = snapshot.id().short();
            // As much as tells it from others, or as was typed.
            let digits = DIGITS.max(current.len()).min(id.len());
            candidate(id[..digits].to_owned(), snapshot)
        });
        let typed = current.to_ascii_lowercase();
        let fits = |one: &CompletionCandidate| one.get_value().as_encoded_bytes().starts_with(typed.as_bytes());
        let found = latest.into_iter().chain(all).filter(fits).take(CANDIDATES_MAX);
        found.enumerate().map(|(place, one)| one.display_order(Some(place))).collect()
    }

    /// A snapshot, or behind its colon a path in it.
    pub(super) fn snapshots_and_paths(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let bytes = current.as_encoded_bytes();
        let Some(colon) = bytes.iter().position(|byte| *byte == b':') else { return self.snapshots(current) };
        let Ok(name) = std::str::from_utf8(&bytes[..colon]) else { return Vec::new() };
        self.entries(name, b"", &bytes[..=colon], &bytes[colon + 1..])
    }

    /// A path in the snapshot that was named before.
    pub(super) fn paths(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let subcommand = self.matches.as_ref().and_then(|matches| Some(matches.subcommand()?.1));
        let named = subcommand.and_then(|matches| matches.try_get_raw("snapshot").ok().flatten()?.next());
        let Some((name, below)) = named.and_then(|named| selection::split_path(named).ok()) else { return Vec::new() };
        self.entries(&name, &below, b"", current.as_encoded_bytes())
    }

    /// The entries of the directory that was typed so far whose names begin as typed; directories end in `/`.
    fn entries(&self, snapshot: &str, below: &[u8], prefix: &[u8], typed: &[u8]) -> Vec<CompletionCandidate> {
        let list = || {
            let (_, repository) = self.open()?;
            let selector = selection::selector(snapshot).ok()?;
            let snapshot = repository.snapshot(&selector, &SnapshotFilter::default()).ok()?;
            let end = typed.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let (directory, begun) = typed.split_at(end);
            // Paths in a snapshot begin at its top.
            let shown = if directory.is_empty() { &b"/"[..] } else { directory };
            let mut found = Vec::new();
            let each = &mut |_: &[u8], node: &repo_core::Node| {
                if node.name.starts_with(begun) {
                    let mut path = [prefix, shown, &node.name].concat();
                    if node.metadata.kind == NodeKind::Directory {
                        path.push(b'/');
                    }
                    found.push(CompletionCandidate::new(path_from_bytes(path).into_os_string()));
                }
                if found.len() < CANDIDATES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            repository.list(&snapshot, &selection::join(below, directory), false, each).ok()?;
            Some(found)
        };
        list().unwrap_or_default()
    }
}

fn candidate(name: String, snapshot: &Snapshot) -> CompletionCandidate {
    let record = snapshot.record();
    let paths: Vec<_> = record.paths.iter().take(3).map(|path| names::shown(path)).collect();
    let help = format!("{}  {}  {}", time::shown(record.start_ns), names::words(&record.host), paths.join(" "));
    CompletionCandidate::new(name).help(Some(StyledStr::from(help)))
}
