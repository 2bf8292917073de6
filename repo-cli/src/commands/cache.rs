//! `icecore cache`

use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Args;
use repo_core::RepositoryId;
use serde::Serialize;

use super::check;
use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::memory;
use crate::names;
use crate::numbers;
use crate::output::{Output, Table};
use crate::state::{Kept, State};
use crate::time;

/// A writer gives its file the final name within seconds: what waits longer was left by one that died.
const LEFT_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Show what this machine keeps of repositories, and remove what is old.
///
/// A repository in a directory needs no cache. What is kept is small: how new each repository was (by which it is noticed when
/// one goes back), and when `check` read which pack. --cleanup removes the latter of repositories that were not worked with for
/// long, which costs `check --time-budget` its order. How new a repository was is forgotten by --forget-repository alone.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore cache\n  icecore cache --cleanup --max-age 90"))]
pub struct Cache {
    /// Remove what can be made again, of repositories that were not worked with for --max-age days
    #[arg(long)]
    cleanup: bool,

    /// After how many days it is old
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = numbers::parse_number)]
    max_age: u32,

    /// Leave out sizes
    #[arg(long)]
    no_size: bool,

    /// Forget all that is known of this repository, also how new it was: an older state of it is no alarm any more; may be
    /// repeated
    #[arg(long, value_name = "REPOSITORY")]
    forget_repository: Vec<String>,
}

/// What is kept of one repository.
struct Entry {
    id: RepositoryId,
    state: State,
    files: Vec<Kept>,
}

#[derive(Serialize)]
struct Shape {
    directory: String,
    repositories: Vec<EntryShape>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<RemovedShape>,
}

#[derive(Serialize)]
struct EntryShape {
    id: String,
    last_used: Option<String>,
    old: bool,
    knows_how_new: bool,
    knows_what_was_checked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

#[derive(Serialize)]
struct RemovedShape {
    repository: String,
    file: String,
    size: u64,
}

impl Cache {
    pub fn run(self, context: &Context) -> Outcome {
        let given = context.global.state_dir.as_deref();
        let Some(top) = State::top(given) else {
            return Err(Failure::with_hint(
                "nothing is kept: there is no home directory",
                "name a directory with --state-dir or ICECORE_STATE_DIR",
            ));
        };
        let mut removed = Vec::new();
        let entries = entries(&top, given)?;
        // All ids before anything is removed.
        let forgotten = self.forget_repository.iter().map(|id| find(&entries, id)).collect::<Outcome<Vec<_>>>()?;
        for entry in forgotten {
            remove(&top, entry, &[memory::HEADS, check::MEMORY], &mut removed)?;
        }
        if self.cleanup {
            for entry in &entries {
                let old = entry.is_old(self.max_age).then_some(check::MEMORY);
                let left = entry.files.iter().filter(|file| is_left(file)).map(|file| file.name.as_str());
                let names: Vec<&str> = old.into_iter().chain(left).collect();
                remove(&top, entry, &names, &mut removed)?;
            }
        }
        let entries = if removed.is_empty() { entries } else { self::entries(&top, given)? };
        self.print(&context.output, &top, &entries, removed)
    }

    fn print(&self, output: &Output, top: &Path, entries: &[Entry], removed: Vec<RemovedShape>) -> Outcome {
        if output.is_json() {
            let repositories = entries.iter().map(|entry| self.shape(entry)).collect();
            return output.json(&Shape { directory: top.display().to_string(), repositories, removed });
        }
        if !removed.is_empty() || self.cleanup {
            let bytes = removed.iter().map(|file| file.size).sum();
            let files = numbers::count(removed.len() as u64, "file");
            output.say(1, &format!("removed {files}, {}", numbers::size(bytes)))?;
        }
        output.say(1, &format!("kept below {}:", names::path(top)))?;
        let mut heading = vec!["Repository", "Last Used", "Old", "Known"];
        if !self.no_size {
            heading.push("Size");
        }
        let mut table = Table::new(heading, 3);
        for entry in entries {
            let last = entry.last_used().map_or_else(|| "never".to_owned(), |last| time::shown(nanoseconds(last)));
            let known = [(memory::HEADS, "how new it was"), (check::MEMORY, "what was checked")];
            let known = known.iter().filter(|(name, _)| entry.has(name)).map(|(_, known)| (*known).to_owned());
            let mut cells = vec![
                vec![entry.id.to_string()[..10].to_owned()],
                vec![last],
                vec![if entry.is_old(self.max_age) { "yes" } else { "" }.to_owned()],
                known.collect(),
            ];
            if !self.no_size {
                cells.push(vec![numbers::size(entry.bytes())]);
            }
            table.row(cells);
        }
        table.foot(format!("{} known", numbers::count(entries.len() as u64, "repository")));
        table.print(output)
    }

    fn shape(&self, entry: &Entry) -> EntryShape {
        EntryShape {
            id: entry.id.to_string(),
            last_used: entry.last_used().map(|last| time::rfc3339_ns(nanoseconds(last), 0)),
            old: entry.is_old(self.max_age),
            knows_how_new: entry.has(memory::HEADS),
            knows_what_was_checked: entry.has(check::MEMORY),
            size: (!self.no_size).then(|| entry.bytes()),
        }
    }
}

impl Entry {
    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn last_used(&self) -> Option<SystemTime> {
        self.files.iter().map(|file| file.modified).max()
    }

    fn is_old(&self, days: u32) -> bool {
        self.last_used().is_some_and(|last| is_older(last, Duration::from_secs(u64::from(days) * 24 * 3600)))
    }
}

fn entries(top: &Path, given: Option<&Path>) -> Outcome<Vec<Entry>> {
    let problem = |error: std::io::Error| Failure::file("reading what is kept in", top, &error);
    let mut entries = Vec::new();
    for (id, state) in State::of_repositories(given).map_err(problem)? {
        let files = state.kept().map_err(problem)?;
        // Of one that was forgotten, an empty lock is left, which others may be waiting for.
        if files.iter().any(|file| file.bytes > 0) {
            entries.push(Entry { id, state, files });
        }
    }
    Ok(entries)
}

fn find<'e>(entries: &'e [Entry], id: &str) -> Outcome<&'e Entry> {
    let prefix = id.to_ascii_lowercase();
    let mut matching = entries.iter().filter(|entry| !prefix.is_empty() && entry.id.to_string().starts_with(&prefix));
    match (matching.next(), matching.next()) {
        (Some(entry), None) => Ok(entry),
        (None, _) => Err(Failure::with_hint(
            format!("nothing is kept of a repository {:?}", names::words(id)),
            "`icecore cache` shows the repositories that are known",
        )),
        (Some(_), Some(_)) => Err(Failure::told(format!("several repositories begin with {:?}", names::words(id)))),
    }
}

fn remove(top: &Path, entry: &Entry, names: &[&str], removed: &mut Vec<RemovedShape>) -> Outcome {
    let problem = |error: std::io::Error| Failure::file("removing what is kept in", top, &error);
    for file in entry.files.iter().filter(|file| names.contains(&file.name.as_str())) {
        // Another process may be adding to it.
        let _held = match file.name == memory::HEADS {
            true => Some(entry.state.hold(memory::HEADS).map_err(problem)?),
            false => None,
        };
        if entry.state.remove(&file.name).map_err(problem)? {
            let (repository, file_name) = (entry.id.to_string(), file.name.clone());
            removed.push(RemovedShape { repository, file: file_name, size: file.bytes });
        }
    }
    Ok(())
}

/// A file that never got its name.
fn is_left(file: &Kept) -> bool {
    Path::new(&file.name).extension().is_some_and(|extension| extension == "new") && is_older(file.modified, LEFT_AFTER)
}

/// What is of the future is not old.
fn is_older(then: SystemTime, age: Duration) -> bool {
    SystemTime::now().duration_since(then).is_ok_and(|since| since > age)
}

fn nanoseconds(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
