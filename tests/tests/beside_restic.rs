//! The same script with restic and with this program: the same exit codes, and in JSON each field that restic prints is
//! there, with the same kind of value and, where it can be the same, the same value. What differs is listed here, with why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use icecore_tests::cli::{Cli, Run, Runs};
use icecore_tests::restic;
use serde_json::Value;

/// Fields of restic's that are not printed here, as `command: field`, and why.
const MISSING: &[(&str, &str)] = &[];

/// Fields whose values differ by their nature, of any command: ids, sizes of what is stored, times of the run.
const VARYING: &[&str] = &[];

/// Fields whose values differ for one command, and why.
const DIFFERENT: &[(&str, &str)] = &[];

/// A room with a source and two repositories.
struct Both {
    cli: Cli,
    restic: &'static Path,
    /// Ids of snapshots, of restic and of this program.
    ids: [Vec<String>; 2],
}

impl Both {
    /// `None`: there is no restic.
    fn new() -> Option<Self> {
        let restic = restic::program()?;
        Some(Self { cli: Cli::new(), restic, ids: [Vec::new(), Vec::new()] })
    }

    /// Runs both with `--json`. In the arguments `{N}` stands for the id of the N-th snapshot.
    fn run(&self, arguments: &[&str]) -> [Run; 2] {
        let [theirs, ours] = [0, 1].map(|tool| -> Vec<String> {
            let with_ids = |argument: &&str| {
                let replace = |text: String, (number, id): (usize, &String)| text.replace(&format!("{{{number}}}"), id);
                self.ids[tool].iter().enumerate().fold((*argument).to_owned(), replace)
            };
            [&"--json"].into_iter().chain(arguments).map(with_ids).collect()
        });
        let as_text = |arguments: &[String]| arguments.iter().map(String::as_str).collect::<Vec<_>>().join("\0");
        let (theirs, ours) = (as_text(&theirs), as_text(&ours));
        let theirs = restic::command(self.restic, &self.cli, &theirs.split('\0').collect::<Vec<_>>()).run();
        let ours = self.cli.run(&ours.split('\0').collect::<Vec<_>>());
        [theirs, ours]
    }
}
