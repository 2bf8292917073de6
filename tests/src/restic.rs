//! restic beside this program: the same room, the same source, a repository of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::cli::Cli;
use crate::privilege;

/// Says where restic is: the caller's choice, then `PATH`, then where the benches keep their peers.
const VARIABLE: &str = "ICECORE_TEST_RESTIC";

/// restic, if this machine has it; otherwise that is said, or a failure where it is required.
pub fn program() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let named = env::var_os(VARIABLE).map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        let kept = env::var_os("HOME").map(|home| Path::new(&home).join(".cache/icecore-peers/bin/restic"));
        let places = named.into_iter().chain(env::split_paths(&path).map(|place| place.join("restic"))).chain(kept);
        places.into_iter().find(|place| place.is_file())
    });
    if found.is_none() {
        let missing = format!("restic is neither in PATH nor named by {VARIABLE}, so nothing is held against it");
        privilege::skip("restic", &missing);
    }
    found.as_deref()
}

/// restic with these arguments in a room, with its repository `restic` there and nothing of the caller's settings.
pub fn command(restic: &Path, cli: &Cli, arguments: &[&str]) -> Command {
    let mut command = Command::new(restic);
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"RESTIC_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(cli.path("")).stdin(Stdio::null());
    command.env("RESTIC_REPOSITORY", cli.path("restic")).env("RESTIC_PASSWORD", "the same for all tests");
    command.env("RESTIC_CACHE_DIR", cli.path("restic-cache")).env("TZ", "UTC").env("TERM", "xterm");
    command
}
