//! `icecore tag`

use clap::Args;
use repo_core::{SnapshotList, TagOptions};
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::interrupt::Stop;
use crate::numbers;
use crate::problems;
use crate::selection::{self, Filters, split_tags};

use super::init;

/// Change tags of snapshots, or pin them.
///
/// Without ids, all snapshots that --host, --tag and --path choose. A pinned snapshot is never forgotten, whatever a policy
/// says. Each snapshot that changes gets a new id, and `cat snapshot` shows the old one as `original`.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore tag --add release 40dc1520\n  icecore tag --pin latest"))]
pub struct Tag {
    /// Only these: latest, latest~N, or the first digits of an id
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// These tags (`a,b`) instead of those it has; may be repeated, '' means none
    #[arg(long, value_name = "TAGS", conflicts_with_all = ["add", "remove"])]
    set: Vec<String>,

    /// These tags too; may be repeated
    #[arg(long, value_name = "TAGS")]
    add: Vec<String>,

    /// These tags no longer; may be repeated
    #[arg(long, value_name = "TAGS")]
    remove: Vec<String>,

    /// Never forget it
    #[arg(long)]
    pin: bool,

    /// Let it be forgotten again
    #[arg(long, conflicts_with = "pin")]
    unpin: bool,

    #[command(flatten)]
    filters: Filters,
}

#[derive(Serialize)]
struct Changed {
    message_type: &'static str,
    old_snapshot_id: String,
    new_snapshot_id: String,
}

#[derive(Serialize)]
struct Summary {
    message_type: &'static str,
    changed_snapshots: usize,
}

impl Tag {
    pub fn run(self, context: &Context) -> Outcome {
        let options = self.options()?;
        let repository = context.open()?;
        let stop = Stop::listen()?;
        let SnapshotList { snapshots, unreadable, .. } = selection::chosen(&repository, &self.ids, &self.filters)?;
        let report = repository
            .tag(&snapshots, &options, &stop)
            .map_err(|error| Failure::from_verb(error, "each snapshot is there as it was, or changed"))?;
        let output = &context.output;
        for (old, new) in &report.changed {
            let (old, new) = (old.short(), new.id().short());
            match output.is_json() {
                true => {
                    output.json(&Changed { message_type: "changed", old_snapshot_id: old, new_snapshot_id: new })?;
                }
                false => output.say(2, &format!("{} is now {}", &old[..8], &new[..8]))?,
            }
        }
        let changed = report.changed.len();
        match (output.is_json(), changed) {
            (true, _) => output.json(&Summary { message_type: "summary", changed_snapshots: changed })?,
            (false, 0) => output.say(1, "no snapshots were modified")?,
            (false, _) => output.say(1, &format!("modified {}", numbers::count(changed as u64, "snapshot")))?,
        }
        for (id, error) in &report.failed {
            problems::of_snapshot(output, "tag", *id, error);
        }
        problems::unreadable(output, "tag", &unreadable);
        match report.failed.len() + unreadable.len() {
            0 => Ok(()),
            count => Err(Failure::incomplete(left_alone(count))),
        }
    }

    fn options(&self) -> Outcome<TagOptions> {
        let all = |lists: &[String]| lists.iter().flat_map(|tags| split_tags(tags)).collect::<Vec<_>>();
        if self.set.is_empty() && self.add.is_empty() && self.remove.is_empty() && !self.pin && !self.unpin {
            return Err(Failure::with_hint("nothing is to be changed", "use --set, --add, --remove, --pin or --unpin"));
        }
        let mut options = TagOptions::new().by(init::default_label());
        if !self.set.is_empty() {
            options = options.set_tags(all(&self.set));
        }
        options.add = all(&self.add);
        options.remove = all(&self.remove);
        Ok(if self.pin || self.unpin { options.pin(self.pin) } else { options })
    }
}

/// What is said of snapshots that could not be changed.
pub fn left_alone(count: usize) -> String {
    match count {
        1 => "1 snapshot left as it was".to_owned(),
        _ => format!("{count} snapshots left as they were"),
    }
}
