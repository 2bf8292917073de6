//! `icecore generate`

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};

use crate::args::{Arguments, with_exit_codes};
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::names;

const BASH: &str = include_str!("generate/icecore.bash");
const ZSH: &str = include_str!("generate/icecore.zsh");
const FISH: &str = include_str!("generate/icecore.fish");
const POWERSHELL: &str = include_str!("generate/icecore.ps1");

/// Write completions for shells, and manual pages.
///
/// The completions know commands, flags and their values, and, where a password or key is named by a flag or a variable, snapshots
/// and the paths in them (`ID:/path`). They call this program, and never ask for anything. `-` writes to standard output.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore generate --bash-completion ~/.local/share/bash-completion/completions/icecore\n  icecore generate --man ~/.local/share/man/man1"))]
pub struct Generate {
    /// Completions for bash
    #[arg(long, value_name = "FILE")]
    bash_completion: Option<PathBuf>,

    /// Completions for zsh: a file _icecore in a directory of $fpath
    #[arg(long, value_name = "FILE")]
    zsh_completion: Option<PathBuf>,

    /// Completions for fish: ~/.config/fish/completions/icecore.fish
    #[arg(long, value_name = "FILE")]
    fish_completion: Option<PathBuf>,

    /// Completions for PowerShell
    #[arg(long, value_name = "FILE")]
    powershell_completion: Option<PathBuf>,

    /// Manual pages: icecore.1 and one for each command
    #[arg(long, value_name = "DIRECTORY")]
    man: Option<PathBuf>,
}

impl Generate {
    pub fn run(self, context: &Context) -> Outcome {
        let scripts = [
            (&self.bash_completion, BASH, "bash"),
            (&self.zsh_completion, ZSH, "zsh"),
            (&self.fish_completion, FISH, "fish"),
            (&self.powershell_completion, POWERSHELL, "PowerShell"),
        ];
        let named: Vec<_> =
            scripts.iter().filter_map(|(file, text, shell)| Some((file.as_ref()?, *text, *shell))).collect();
        let is_standard = |file: &Path| file.as_os_str() == "-";
        if named.iter().filter(|(file, ..)| is_standard(file)).count() > 1 {
            return Err(Failure::told("only one can be written to standard output"));
        }
        for (file, text, shell) in named {
            if is_standard(file) {
                context.output.raw(|out| Ok(out.write_all(text.as_bytes())?))?;
                continue;
            }
            write(file, text.as_bytes())?;
            context.output.say(1, &format!("wrote completions for {shell} to {}", names::path(file)))?;
        }
        match &self.man {
            None => Ok(()),
            Some(directory) => write_pages(context, directory),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Outcome {
    let written = File::create(path).and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| Failure::file("writing", path, &error))
}

/// What every command has is on the page of the program.
fn without_global(command: Command) -> Command {
    let told = command.get_after_help().map(|told| format!("{told}\n\n")).unwrap_or_default();
    let command = command.after_help(format!("{told}Options that every command has: icecore(1)"));
    command.mut_args(|argument| if argument.is_global_set() { argument.hide(true) } else { argument })
}

/// One page a command, named as `man` finds it: icecore-repair-packs(1).
fn write_pages(context: &Context, directory: &Path) -> Outcome {
    fs::create_dir_all(directory).map_err(|error| Failure::file("making", directory, &error))?;
    let mut top = Arguments::command().disable_help_subcommand(true);
    top.build();
    let mut pending = vec![(top.get_name().to_owned(), top)];
    let mut count = 0;
    while let Some((name, command)) = pending.pop() {
        let shown = command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
        pending.extend(shown.map(|below| (format!("{name}-{}", below.get_name()), below.clone())));
        let mut page = Vec::new();
        let source = format!("icecore {}", env!("CARGO_PKG_VERSION"));
        // The name by which others refer to it, and no date, so that the same version writes the same page.
        let command = if count == 0 { command } else { without_global(command) };
        let man = clap_mangen::Man::new(command.display_name(name.clone())).title(name.to_uppercase()).date("");
        let rendered = man.source(source).manual("icecore").render(&mut page);
        rendered.map_err(|error| Failure::told(format!("writing the page of {name}: {error}")))?;
        write(&directory.join(format!("{name}.1")), &page)?;
        count += 1;
    }
    context.output.say(1, &format!("wrote {count} manual pages to {}", names::path(directory)))
}
