//! Which snapshot is meant: `latest`, `latest~2`, an id or the beginning of one, a time; and filters by host, tag, path.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::Args;
use repo_core::{Error, Repository, Selector, Snapshot, SnapshotFilter, SnapshotList};

use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;
use crate::time;

/// Filters, for `latest` and for lists.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which snapshots")]
pub struct Filters {
    /// Only snapshots of this host; may be repeated [env: ICECORE_HOST]
    #[arg(short = 'H', long, value_name = "HOST")]
    pub host: Vec<String>,

    /// Only snapshots with all these tags (`a,b`); may be repeated for alternatives, '' means untagged
    #[arg(long, value_name = "TAGS")]
    pub tag: Vec<String>,

    /// Only snapshots that have this path; may be repeated, all are needed
    #[arg(long, value_name = "PATH")]
    pub path: Vec<PathBuf>,
}

/// A point in time instead of an id.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which snapshots")]
pub struct At {
    /// The newest snapshot that was complete at this time: 2026-11-20 (its end), "2026-11-20 12:00", or with an offset
    #[arg(long, value_name = "TIME", value_parser = time::parse_at)]
    pub at: Option<i64>,
}

impl Filters {
    /// Whether any was given on the command line.
    pub fn are_given(&self) -> bool {
        !self.host.is_empty() || !self.tag.is_empty() || !self.path.is_empty()
    }

    /// As the library wants them.
    pub fn filter(&self) -> Outcome<SnapshotFilter> {
        let mut filter = SnapshotFilter::default();
        filter.hosts = match std::env::var("ICECORE_HOST") {
            Ok(host) if self.host.is_empty() => vec![host],
            _ => self.host.clone(),
        };
        // `--host ''` takes the variable back.
        filter.hosts.retain(|host| !host.is_empty());
        filter.tags = self.tag.iter().map(|tags| split_tags(tags)).collect();
        for path in &self.path {
            let absolute = std::path::absolute(path).map_err(|error| Failure::file("finding", path, &error))?;
            filter.paths.push(absolute);
        }
        Ok(filter)
    }
}

/// `a,b` as its parts, none of them empty.
pub fn split_tags(tags: &str) -> Vec<String> {
    tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

/// `ID` or `ID:path`: the snapshot's name, and what is below it as raw bytes (empty: all).
pub fn split_path(argument: &OsStr) -> Outcome<(String, Vec<u8>)> {
    let bytes = argument.as_encoded_bytes();
    let (id, path) = match bytes.iter().position(|byte| *byte == b':') {
        Some(colon) => (&bytes[..colon], &bytes[colon + 1..]),
        None => (bytes, &[][..]),
    };
    let id = std::str::from_utf8(id).map_err(|_| not_an_id(&names::shown(id)))?;
    Ok((id.to_owned(), path.to_owned()))
}

/// `path` below `directory`, both in a snapshot, which has no `.` and where every path begins with one `/`.
pub fn join(directory: &[u8], path: &[u8]) -> Vec<u8> {
    let names = directory.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/'));
    let joined: Vec<u8> =
        names.filter(|name| !matches!(*name, b"" | b".")).flat_map(|name| [b"/", name].concat()).collect();
    if joined.is_empty() { b"/".to_vec() } else { joined }
}

/// The selector that a name means.
pub fn selector(name: &str) -> Outcome<Selector> {
    if name.contains(':') {
        let name = names::words(name);
        return Err(Failure::told(format!("{name}: a path within a snapshot (ID:path) has no meaning here")));
    }
    if let Some(rest) = name.strip_prefix("latest") {
        let back = match rest.strip_prefix('~') {
            None if rest.is_empty() => Some(0),
            Some(number) if number.bytes().all(|digit| digit.is_ascii_digit()) => number.parse().ok(),
            _ => None,
        };
        return back.map(|back| Selector::Latest { back }).ok_or_else(|| not_an_id(name));
    }
    match !name.is_empty() && name.len() <= 32 && name.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        true => Ok(Selector::Id(name.to_ascii_lowercase())),
        false => Err(not_an_id(name)),
    }
}

fn not_an_id(name: &str) -> Failure {
    Failure::with_hint(
        format!("{:?} is not the id of a snapshot", names::words(name)),
        "write the first digits of an id (0-9, a-f) from `icecore snapshots`, or latest, or latest~1 for the one before",
    )
}

/// The one snapshot that is meant, by its name or by `--at`.
pub fn select(context: &Context, repository: &Repository, name: &str, at: &At, filters: &Filters) -> Outcome<Snapshot> {
    let mut filter = filters.filter()?;
    let Some(time_ns) = at.at else {
        let selector = selector(name)?;
        if matches!(selector, Selector::Id(_)) {
            if filters.are_given() {
                return Err(Failure::told("--host, --tag and --path choose among many; an id is given already"));
            }
            filter = SnapshotFilter::default();
        }
        return repository.snapshot(&selector, &filter).map_err(|error| not_there(error, &selector, &filter));
    };
    if !matches!(name, "" | "latest") {
        return Err(Failure::told("--at chooses the snapshot; an id is given already"));
    }
    let selector = Selector::At { time_ns };
    let snapshot = repository.snapshot(&selector, &filter).map_err(|error| not_there(error, &selector, &filter))?;
    say_which(context, repository, &snapshot, time_ns, &filter)?;
    Ok(snapshot)
}

/// The snapshots that are meant: those with these ids, each once, or if none is named all that the filters choose.
pub fn chosen(repository: &Repository, ids: &[String], filters: &Filters) -> Outcome<SnapshotList> {
    if ids.is_empty() {
        return Ok(repository.snapshots(&filters.filter()?)?);
    }
    if filters.are_given() {
        return Err(Failure::told("filters choose among many; ids are given already"));
    }
    let mut list = SnapshotList::default();
    for id in ids {
        let snapshot = repository.snapshot(&selector(id)?, &SnapshotFilter::default())?;
        if list.snapshots.iter().all(|other| other.id() != snapshot.id()) {
            list.snapshots.push(snapshot);
        }
    }
    Ok(list)
}

/// Says the time as people write it, and that there are filters: `icecore snapshots` may well show what they leave out.
fn not_there(error: Error, selector: &Selector, filter: &SnapshotFilter) -> Failure {
    let Error::NoSnapshot { .. } = error else { return error.into() };
    let mut message = match selector {
        Selector::At { time_ns } => format!("no snapshot was complete at {}", time::shown(*time_ns)),
        _ => error.to_string(),
    };
    // ICECORE_HOST is one of them, and easily forgotten.
    if !(filter.hosts.is_empty() && filter.tags.is_empty() && filter.paths.is_empty()) {
        message += " among those of the host, tags and paths asked for";
    }
    Failure::with_hint(message, "`icecore snapshots` shows what there is; one that is partial is named by its id")
}

/// Who asks for a time should know which snapshot that was, and that another was being made just then.
fn say_which(
    context: &Context,
    repository: &Repository,
    snapshot: &Snapshot,
    time_ns: i64,
    filter: &SnapshotFilter,
) -> Outcome {
    if context.output.verbosity() == 0 || context.output.is_json() {
        return Ok(());
    }
    let record = snapshot.record();
    let short = |snapshot: &Snapshot| snapshot.id().short()[..8].to_owned();
    context.output.error_line(&format!("snapshot {}, complete at {}", short(snapshot), time::shown(record.end_ns)));
    for other in repository.snapshots(filter)?.snapshots {
        let (start, end) = (other.record().start_ns, other.record().end_ns);
        if start <= time_ns && time_ns < end {
            context.output.error_line(&format!(
                "note: snapshot {} was being made then, from {} to {}",
                short(&other),
                time::shown(start),
                time::shown(end)
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_snapshots_are_latest_or_digits() {
        assert_eq!(selector("latest").expect("valid"), Selector::Latest { back: 0 });
        assert_eq!(selector("latest~12").expect("valid"), Selector::Latest { back: 12 });
        for typed in ["0a1b", "0A1B", "0A1b"] {
            assert_eq!(selector(typed).expect("valid"), Selector::Id("0a1b".to_owned()));
        }
        for bad in ["", "latest~", "latest~-1", "latest~+1", "latestx", "xyz", "LATEST", &"0".repeat(33), "ab:/x"] {
            assert!(selector(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_follows_the_first_colon() {
        let split = |text: &str| split_path(OsStr::new(text)).expect("valid");
        assert_eq!(split("latest"), ("latest".to_owned(), vec![]));
        assert_eq!(split("latest:/a:b"), ("latest".to_owned(), b"/a:b".to_vec()));
        assert_eq!(split(":/a"), (String::new(), b"/a".to_vec()));
        assert_eq!(join(b"", b"/a//b/"), b"/a/b");
        assert_eq!(join(b"/x/", b"./a"), b"/x/a");
        assert_eq!(join(b"", b""), b"/");
    }

    #[test]
    fn tags_are_split_and_an_empty_one_means_none() {
        assert_eq!(split_tags("a, b,,c"), ["a", "b", "c"]);
        assert!(split_tags("").is_empty());
    }
}
