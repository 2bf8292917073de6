//! The verbs: each file parses, calls, prints. Its doc comment is its help text.

pub mod backup;
pub mod cache;
pub mod cat;
pub mod check;
pub mod complete;
pub mod copy;
pub mod diff;
pub mod dump;
pub mod find;
pub mod forget;
pub mod generate;
pub mod init;
pub mod key;
pub mod list;
pub mod ls;
pub mod mirror;
#[cfg(target_os = "linux")]
pub mod mount;
pub mod prune;
pub mod recover;
pub mod repair;
pub mod restore;
pub mod rewrite;
pub mod snapshots;
pub mod stats;
pub mod tag;
pub mod undelete;
pub mod unlock;
pub mod version;

use crate::args::Command;
use crate::context::Context;
use crate::exit::{Failure, Outcome};

/// Runs the verb.
pub fn run(command: Command, context: &Context) -> Outcome {
    if context.global.append_only
        && let Some(name) = maintenance(&command)
    {
        return Err(Failure::with_hint(
            format!("{name} does more than add to the repository, and --append-only is given"),
            "run it where the maintenance of the repository is done, without --append-only or ICECORE_APPEND_ONLY",
        ));
    }
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
        Command::Stats(command) => command.run(context),
        Command::Restore(command) => command.run(context),
        Command::Check(command) => command.run(context),
        Command::Prune(command) => command.run(context),
        Command::Copy(command) => command.run(context),
        Command::Mirror(command) => command.run(context),
        Command::CrossCheck(command) => command.run(context),
        Command::Repair(command) => command.run(context),
        Command::Rewrite(command) => command.run(context),
        Command::Recover(command) => command.run(context),
        Command::Cat(command) => command.run(context),
        Command::List(command) => command.run(context),
        Command::Dump(command) => command.run(context),
        #[cfg(target_os = "linux")]
        Command::Mount(command) => command.run(context),
        Command::Key(command) => command.run(context),
        Command::Unlock(command) => command.run(context),
        Command::Cache(command) => command.run(context),
        Command::Generate(command) => command.run(context),
        Command::Complete(command) => command.run(context),
        Command::Version(command) => command.run(context),
    }
}

/// The name of a verb that removes, replaces, or writes what only maintenance may; `None`: it reads, or adds.
fn maintenance(command: &Command) -> Option<&'static str> {
    match command {
        Command::Init(_) => Some("init"),
        Command::Forget(_) => Some("forget"),
        Command::Tag(_) => Some("tag"),
        Command::Prune(_) => Some("prune"),
        Command::Mirror(_) => Some("mirror"),
        Command::CrossCheck(_) => Some("cross-check"),
        Command::Repair(_) => Some("repair"),
        Command::Rewrite(command) => command.maintenance(),
        Command::Key(command) => command.maintenance(),
        Command::Backup(_)
        | Command::Snapshots(_)
        | Command::Undelete(_)
        | Command::Ls(_)
        | Command::Diff(_)
        | Command::Find(_)
        | Command::Stats(_)
        | Command::Restore(_)
        | Command::Check(_)
        | Command::Copy(_)
        | Command::Recover(_)
        | Command::Cat(_)
        | Command::List(_)
        | Command::Dump(_)
        | Command::Unlock(_)
        | Command::Cache(_)
        | Command::Generate(_)
        | Command::Complete(_)
        | Command::Version(_) => None,
        #[cfg(target_os = "linux")]
        Command::Mount(_) => None,
    }
}
