//! `icecore complete`, which the scripts of `generate` call. It asks nothing, says nothing but candidates, and never fails.

mod line;
mod values;

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use clap::builder::PossibleValue;
use clap::{Arg, Args, Command, CommandFactory, ValueEnum, ValueHint};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, complete};

use crate::args::Arguments;
use crate::context::Context;
use crate::exit::Outcome;

use line::Typed;
use values::Request;

/// Say how a word may go on: for the shells' completions.
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct Complete {
    /// Who asks
    #[arg(long, value_enum)]
    shell: Shell,

    /// bash: where it begins another word
    #[arg(long, value_name = "LETTERS", default_value = "", allow_hyphen_values = true)]
    breaks: String,

    /// The last word is empty, and not among the words
    #[arg(long)]
    empty: bool,

    /// The words from the program on, the last one up to the cursor; bash: the line up to the cursor
    #[arg(last = true, num_args = 0..)]
    words: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Pwsh,
}

impl ValueEnum for Shell {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Bash, Self::Zsh, Self::Fish, Self::Pwsh]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Pwsh => "powershell",
        }))
    }
}

impl Complete {
    pub fn run(self, context: &Context) -> Outcome {
        let typed = match self.shell {
            Shell::Bash => {
                Typed::of_line(self.words.first().map(OsString::as_os_str).unwrap_or_default(), &self.breaks)
            }
            _ if self.empty => Typed::of_words(self.words.into_iter().chain([OsString::new()]).collect()),
            _ => Typed::of_words(self.words),
        };
        let candidates = candidates(&typed.words);
        context.output.raw(|out| {
            for candidate in candidates {
                let Some(mut bytes) = typed.replacement(candidate.get_value().as_encoded_bytes()) else { continue };
                if self.shell != Shell::Bash
                    && let Some(help) = candidate.get_help()
                {
                    let help = help.to_string();
                    let first = help.lines().next().unwrap_or_default().replace('\t', " ");
                    bytes.push(b'\t');
                    bytes.extend_from_slice(first.as_bytes());
                }
                bytes.push(b'\n');
                out.write_all(&bytes)?;
            }
            Ok(())
        })
    }
}

/// How the last word may go on.
fn candidates(words: &[OsString]) -> Vec<CompletionCandidate> {
    let Some((current, before)) = words.split_last().filter(|(_, before)| !before.is_empty()) else {
        return Vec::new();
    };
    let request = Arc::new(Request::new(before));
    let mut command = with_values(Arguments::command(), &request, &[]);
    let directory = std::env::current_dir().ok();
    let found = complete(&mut command, words.to_vec(), before.len(), directory.as_deref()).unwrap_or_default();
    let has_begun = !current.is_empty();
    // Flags are many: they come when a dash is typed.
    found.into_iter().filter(|one| has_begun || !one.get_value().as_encoded_bytes().starts_with(b"-")).collect()
}

/// Commands whose `ID` is that of something else.
const OTHER_IDS: [&str; 4] = ["cat", "key", "packs", "undelete"];

/// Says of each argument what its values are, as far as the repository or the machine knows them.
fn with_values(command: Command, request: &Arc<Request>, above: &[&str]) -> Command {
    let name = command.get_name().to_owned();
    let way: Vec<&str> = above.iter().copied().chain([name.as_str()]).collect();
    let has_other_ids = way.iter().any(|name| OTHER_IDS.contains(name));
    let command = command.mut_args(|argument| with_value(argument, &name, has_other_ids, request));
    command.mut_subcommands(|below| with_values(below, request, &way))
}

fn with_value(argument: Arg, command: &str, has_other_ids: bool, request: &Arc<Request>) -> Arg {
    let value_name = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    let request = Arc::clone(request);
    match (command, value_name.as_deref().unwrap_or_default()) {
        (_, "ID" | "SNAPSHOT") if !has_other_ids => {
            argument.add(ArgValueCompleter::new(move |current: &OsStr| request.snapshots(current)))
        }
        (_, "ID[:PATH]" | "ID[:PATH]|DIRECTORY") => {
            argument.add(ArgValueCompleter::new(move |current: &OsStr| request.snapshots_and_paths(current)))
        }
        ("ls", "PATH") | ("dump", "FILE") if argument.is_positional() => {
            argument.add(ArgValueCompleter::new(move |current: &OsStr| request.paths(current)))
        }
        ("backup", "PATH") => argument.value_hint(ValueHint::AnyPath),
        _ => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        candidates(&words).iter().map(|one| one.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn commands_flags_and_values_complete_without_a_repository() {
        assert_eq!(of(&["icecore", "sna"]), ["snapshots"]);
        assert!(of(&["icecore", ""]).contains(&"backup".to_owned()));
        assert!(!of(&["icecore", ""]).iter().any(|one| one == "complete" || one.starts_with('-')));
        assert_eq!(of(&["icecore", "stats", "--mo"]), ["--mode"]);
        assert_eq!(of(&["icecore", "stats", "--mode", "raw"]), ["raw-data"]);
        assert_eq!(of(&["icecore", "repair", "sn"]), ["snapshots"]);
        assert_eq!(of(&["icecore", "stats", "--append-o"]), ["--append-only"], "global flags too");
    }

    #[test]
    fn the_arguments_that_take_snapshots_are_known() {
        let request = Arc::new(Request::new(&[OsString::from("icecore")]));
        let command = with_values(Arguments::command(), &request, &[]);
        let completes = |way: &[&str], id: &str| {
            let mut at = &command;
            for name in way {
                at = at.find_subcommand(name).expect("a command");
            }
            let argument = at.get_arguments().find(|argument| argument.get_id() == id).expect("an argument");
            argument.get::<ArgValueCompleter>().is_some()
        };
        for way in ["snapshots", "forget", "tag", "stats", "check", "copy"] {
            assert!(completes(&[way], "ids"), "{way}");
        }
        for (way, id) in
            [("ls", "snapshot"), ("ls", "paths"), ("dump", "file"), ("restore", "snapshot"), ("find", "snapshot")]
        {
            assert!(completes(&[way], id), "{way} {id}");
        }
        assert!(completes(&["diff"], "before") && completes(&["diff"], "after"));
        assert!(completes(&["repair", "snapshots"], "snapshots"));
        assert!(!completes(&["repair", "packs"], "ids") && !completes(&["cat"], "id"));
    }
}
