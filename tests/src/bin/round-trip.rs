//! The main job on any directory: init, backup, check of every byte, restore, comparison. It needs room for a copy of
//! the directory and for its repository, both below a second argument (default: where temporary files go); both are
//! removed at the end. Comparing is done by the tests' own comparer, which knows nothing of the library.

use std::env;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::slice;
use std::sync::Arc;
use std::time::Instant;

use icecore_tests::bench::{Ears, options, published};
use icecore_tests::compare::{Compared, portrait};
use icecore_tests::{privilege, tree};
use repo_core::{
    CheckOptions, InitOptions, Local, LocalTree, LocalTreeOptions, Mode, Repository, RestoreOptions, Secret,
};

/// Differences that are shown; the others are counted.
const SHOWN_MAX: usize = 50;

const USAGE: &str = "usage: round-trip DIRECTORY [ROOM]
DIRECTORY is backed up and restored below ROOM (default: where temporary files go), and both are compared";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(PathBuf::from).collect();
    let outcome = match arguments.as_slice() {
        // Nothing that begins so is a directory someone means.
        [flag, ..] if flag.as_os_str().as_encoded_bytes().starts_with(b"-") => Err(USAGE.into()),
        [source] => round_trip(source, &env::temp_dir()),
        [source, room] => round_trip(source, room),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("round-trip: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing differs.
fn round_trip(source: &Path, room: &Path) -> Result<bool, Box<dyn Error>> {
    let source = source.canonicalize().map_err(|error| format!("{}: {error}", source.display()))?;
    let room = tempfile::Builder::new().prefix("icecore-round-trip-").tempdir_in(room)?;
    let _removable = Removable(room.path());
    let (vault, target) = (room.path().join("repository"), room.path().join("restored"));
    let heard = Ears::default();

    let clock = Clock::start("init");
    let secret = Secret::Key(seed().into());
    let repository = Repository::init(Arc::new(Local::new(&vault)), &secret, &InitOptions::default())?;
    clock.stop("a repository with a random key");

    let clock = Clock::start("backup");
    let mut left_out = LocalTreeOptions::default();
    left_out.leave_out.push(room.path().to_owned());
    let report =
        repository.backup(&LocalTree::new(slice::from_ref(&source), left_out)?, &options(Mode::Full), &heard)?;
    let (summary, stored) = (&report.summary, report.summary.stored_bytes);
    clock.stop(&format!(
        "{} files, {:.1} MiB, stored in {:.1} MiB",
        summary.processed_files,
        mib(summary.processed_bytes),
        mib(stored)
    ));

    let clock = Clock::start("check");
    let every_byte = CheckOptions::new().read_data();
    let checked = repository.check(&every_byte, &heard)?;
    checked.errors.iter().for_each(|error| println!("         {error}"));
    clock.stop(&format!("{} packs read, {} errors", checked.packs, checked.errors.len()));

    let clock = Clock::start("restore");
    let mut only_source = RestoreOptions::default();
    only_source.subpath = source.as_os_str().as_encoded_bytes().to_vec();
    let restored = repository.restore(published(&report), &target, &only_source, &heard)?;
    clock.stop(&format!("{} files, {:.1} MiB", restored.restored_files, mib(restored.restored_bytes)));

    let clock = Clock::start("compare");
    let root = privilege::is_root();
    let compared = Compared { root: false, owners: root, ..Compared::default() };
    let found = portrait(&source)?.differences(&portrait(&target)?, compared);
    found.iter().take(SHOWN_MAX).for_each(|difference| println!("         {difference}"));
    let without = if root { "" } else { " (owners not compared: not root)" };
    clock.stop(&format!("{} differences{without}", found.len()));

    let problems = heard.problems();
    problems.iter().take(SHOWN_MAX).for_each(|problem| println!("problem  {problem}"));
    Ok(found.is_empty() && problems.is_empty() && checked.errors.is_empty())
}

/// 32 random bytes, for a key that nobody needs to know.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    seed.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&RandomState::new().hash_one(0).to_le_bytes()));
    seed
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

struct Clock(&'static str, Instant);

impl Clock {
    fn start(step: &'static str) -> Self {
        Self(step, Instant::now())
    }

    fn stop(self, result: &str) {
        println!("{:8} {result}, {:.2} s", self.0, self.1.elapsed().as_secs_f64());
    }
}

/// What was restored may be immutable or closed.
struct Removable<'p>(&'p Path);

impl Drop for Removable<'_> {
    fn drop(&mut self) {
        tree::soften(self.0);
    }
}
