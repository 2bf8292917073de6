//! What to do about damage: the exact command, and only one that this program has.

use clap::CommandFactory;
use repo_core::{CheckLevel, CheckReport, Corruption, Error, ObjectName};

use crate::args::Arguments;

/// More names than this do not fit a line that somebody copies.
const NAMES_MAX: usize = 8;

/// What helps, the most important first.
pub fn hint(level: CheckLevel, report: &CheckReport) -> Option<String> {
    let mut steps = Vec::new();
    if report.errors.iter().any(is_of_index) && exists(&["repair", "index"]) {
        steps.push("`icecore repair index` writes the index anew from the packs".to_owned());
    }
    if !report.damaged_packs.is_empty() {
        steps.push(about_packs(report));
    }
    if !report.damaged_snapshots.is_empty() && exists(&["repair", "snapshots"]) {
        steps.push("for what cannot be healed, `icecore repair snapshots` makes snapshots without it".to_owned());
    }
    if level < CheckLevel::Data {
        steps.push("`icecore check --read-data` reads every byte and so finds all there is".to_owned());
    }
    (!steps.is_empty()).then(|| steps.join("; "))
}

fn about_packs(report: &CheckReport) -> String {
    if exists(&["repair", "packs"]) {
        let ids = report.damaged_packs.iter().map(|id| format!(" {id}")).collect::<String>();
        return match report.damaged_packs.len() {
            0..=NAMES_MAX => format!("`icecore repair packs{ids}` heals what can be healed"),
            _ => "`icecore repair packs ID…` with the packs named above heals what can be healed".to_owned(),
        };
    }
    let again = "`icecore backup` of the same paths stores again what is lost and still there to be read";
    match report.errors.iter().all(is_known_to_backup) {
        true => again.to_owned(),
        // A backup believes a pack of the right size, and has no reason to read it.
        false => format!("once the damaged packs are moved out of the repository, {again}"),
    }
}

/// What every command sees that loads the index.
fn is_known_to_backup(error: &Error) -> bool {
    match error {
        Error::Corrupt { object: ObjectName::Pack(..), problem } => {
            matches!(problem, Corruption::Missing | Corruption::Truncated)
        }
        Error::Backend(_) => false,
        _ => true,
    }
}

pub fn is_of_index(error: &Error) -> bool {
    matches!(error, Error::Corrupt { object: ObjectName::Index(_), .. })
}

/// Whether this program has such a command.
fn exists(path: &[&str]) -> bool {
    let all = Arguments::command();
    path.iter().try_fold(&all, |command, name| command.find_subcommand(name)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_known_by_their_whole_path() {
        assert!(exists(&["check"]) && exists(&["key", "add"]));
        assert!(!exists(&["mend"]) && !exists(&["check", "add"]));
    }
}
