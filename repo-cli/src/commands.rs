//! The verbs: each file parses, calls, prints. Its doc comment is its help text.

pub mod backup;
pub mod cat;
pub mod check;
pub mod copy;
pub mod diff;
pub mod dump;
pub mod find;
pub mod forget;
pub mod init;
pub mod key;
pub mod list;
pub mod ls;
pub mod mirror;
pub mod prune;
pub mod repair;
pub mod restore;
pub mod snapshots;
pub mod tag;
pub mod undelete;
pub mod version;

use crate::args::Command;
use crate::context::Context;
use crate::exit::Outcome;

/// Runs the verb.
pub fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Init(command) => command.run(context),
        Command::Backup(command) => command.run(context),
        Command::Snapshots(command) => command.run(context),
        Command::Forget(command) => command.run(context),
        Command::Undelete(command) => command.run(context),
        Command::Tag(command) => command.run(context),
        Command::Ls(command) => command.run(context),
        Command::Diff(command) => command.run(context),
        Command::Find(command) => command.run(context),
        Command::Restore(command) => command.run(context),
        Command::Check(command) => command.run(context),
        Command::Prune(command) => command.run(context),
        Command::Copy(command) => command.run(context),
        Command::Mirror(command) => command.run(context),
        Command::CrossCheck(command) => command.run(context),
        Command::Repair(command) => command.run(context),
        Command::Cat(command) => command.run(context),
        Command::List(command) => command.run(context),
        Command::Dump(command) => command.run(context),
        Command::Key(command) => command.run(context),
        Command::Version(command) => command.run(context),
    }
}
