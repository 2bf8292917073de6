//! `icecore mount`

use std::path::PathBuf;

use clap::Args;
use repo_core::{BrowseOptions, PathTemplate};

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::Outcome;
use crate::mount::time_template::TimeTemplate;
use crate::mount::{self, Look};
use crate::selection::Filters;

/// Show the snapshots as read-only directories, until Ctrl-C.
///
/// Below DIRECTORY are ids/, snapshots/, hosts/ and tags/. A snapshot is called by its time there, by its id in ids/; beside
/// times, `latest` leads to the newest. New snapshots appear within seconds. What is damaged in the repository is an
/// input/output error, and named on standard error. It ends at Ctrl-C, or when DIRECTORY is unmounted (`umount DIRECTORY`,
/// `fusermount3 -u DIRECTORY`).
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore mount /mnt/backups\n  icecore mount --host laptop --path-template '%T' --time-template %Y/%m/%d-%H%M ~/mnt\n\nVariables of --path-template:\n  %i  the first digits of the id        %I  all digits of it\n  %u  the user      %h  the host        %t  each of the tags\n  %T  the time, as --time-template writes it"))]
pub struct Mount {
    /// An empty directory
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,

    /// Show everything as owned by root
    #[arg(long)]
    owner_root: bool,

    /// Let other users look in too, each at what modes and owners let him see
    #[arg(long)]
    allow_other: bool,

    /// With --allow-other: let them see all, whatever modes and owners say
    #[arg(long, requires = "allow_other")]
    no_default_permissions: bool,

    /// Where snapshots are, below DIRECTORY; may be repeated [default: ids/%i, snapshots/%T, hosts/%h/%T, tags/%t/%T]
    #[arg(long, value_name = "TEMPLATE")]
    path_template: Vec<PathTemplate>,

    /// How times are written: as Go writes 2006-01-02 15:04:05, or with variables of strftime (%Y-%m-%d)
    #[arg(long, value_name = "TEMPLATE", default_value = "2006-01-02T15:04:05Z07:00")]
    time_template: TimeTemplate,

    #[command(flatten)]
    filters: Filters,
}

impl Mount {
    pub fn run(self, context: &Context) -> Outcome {
        // Before a password is asked for.
        let directory = mount::place(&self.directory)?;
        let time = self.time_template;
        let name = move |snapshot: &repo_core::Snapshot| {
            time.write(snapshot.record().start_ns, snapshot.record().zone_minutes)
        };
        let mut options = BrowseOptions::new(name).filter(self.filters.filter()?);
        if !self.path_template.is_empty() {
            options = options.templates(self.path_template);
        }
        let repository = context.open()?;
        let browser = repository.browse(options)?;
        let look = Look {
            owned_by_root: self.owner_root,
            by_others: self.allow_other,
            by_permissions: self.allow_other && !self.no_default_permissions,
        };
        mount::serve(context, &repository, browser, &directory, look)
    }
}
