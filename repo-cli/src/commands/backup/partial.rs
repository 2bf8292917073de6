//! Backups that are ended early and keep what they have: `--keep-partial`.

use clap::Args;
use repo_core::BackupReport;

use crate::exit::{Failure, Outcome};

/// Whether what was stored until Ctrl-C becomes a snapshot.
#[derive(Debug, Args)]
pub struct KeepPartial {
    /// At Ctrl-C or TERM, make a snapshot of what was stored so far, marked as partial; a second one ends at once
    ///
    /// It has the files that were read to their end, and can be restored by its id: `latest` and --at pass it over. The next
    /// backup does not read again what is in it. It takes no place in a policy, and `icecore forget` with one removes it when
    /// a complete snapshot is newer. The exit code is 130 all the same.
    #[arg(long, conflicts_with_all = ["stdin", "stdin_from_command", "from_tar", "dry_run"])]
    keep_partial: bool,
}

impl KeepPartial {
    /// Whether it was asked for.
    pub fn is_given(&self) -> bool {
        self.keep_partial
    }
}

/// Whether the backup ended early.
pub fn is_partial(report: &BackupReport) -> bool {
    report.snapshot.as_ref().is_some_and(|snapshot| snapshot.is_partial())
}

/// Such a backup was interrupted, whatever is kept of it.
pub fn tell(report: &BackupReport) -> Outcome {
    match report.snapshot.as_ref().filter(|snapshot| snapshot.is_partial()) {
        None => Ok(()),
        Some(snapshot) => Err(Failure::Interrupted(format!(
            "the partial snapshot {} has what was done by then; run the same backup again, and it goes on from there",
            &snapshot.id().short()[..8]
        ))),
    }
}
