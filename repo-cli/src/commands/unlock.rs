//! `icecore unlock`

use clap::Args;
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::Outcome;

/// Do nothing: there are no locks to remove. Accepted for restic's scripts.
///
/// Any number of commands may work on a repository at once. A backup that was killed or lost its connection is in nobody's way:
/// the next prune finds out that it ended, and removes what it left.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Example:\n  icecore unlock"))]
pub struct Unlock {
    /// Accepted for restic's scripts: there are no locks
    #[arg(long)]
    remove_all: bool,
}

#[derive(Serialize)]
struct Line {
    message_type: &'static str,
    removed_locks: u64,
    message: &'static str,
}

const MESSAGE: &str = "there are no locks, so none was removed: backups, checks and prunes may run at the same time";

impl Unlock {
    pub fn run(self, context: &Context) -> Outcome {
        match context.output.is_json() {
            true => context.output.json(&Line { message_type: "unlocked", removed_locks: 0, message: MESSAGE }),
            false => context.output.say(1, MESSAGE),
        }
    }
}
