//! Who runs a test, and what it may not skip. A test of what an ordinary user sees runs itself again as uid 65534;
//! a test that finds something missing says so here, and fails where that was required.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

/// The uid and gid of nobody.
pub const NOBODY: u32 = 65_534;

/// Set in a test that runs again.
const AGAIN: &str = "ICECORE_TEST_AGAIN";

/// The names, separated by commas, of what must not be skipped: `unprivileged`, and those of
/// [`Abilities::missing`](crate::tree::Abilities::missing). Where it is unset and `CI` is set, that is everything.
const REQUIRED: &str = "ICECORE_TEST_REQUIRED";

/// Whether the effective user is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs the test `name` of the calling test program again as uid 65534, and says whether the caller is done: true in
/// the privileged run, false in the other, which then has to do the work. An ordinary user is taken as he is.
///
/// `name` is the test's full name in its program; a wrong one fails, for no test would run.
pub fn runs_again_as_nobody(name: &str) -> bool {
    if !is_root() {
        return false;
    }
    assert!(env::var_os(AGAIN).is_none(), "the test runs again, and still as root");
    // The program may lie where nobody may look, so it is copied to where he may.
    let room = tempfile::Builder::new().prefix("icecore-nobody-").tempdir().expect("a temporary directory");
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).expect("a directory of ours");
    let (program, scratch) = (room.path().join("test"), room.path().join("scratch"));
    fs::copy(env::current_exe().expect("a test has a program"), &program).expect("copying the test program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    fs::create_dir(&scratch).expect("a directory of ours");
    chown(&scratch, Some(NOBODY), Some(NOBODY)).expect("root gives away");
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    let run = Command::new("setpriv")
        .args(ids)
        .args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"])
        .arg(&program)
        .args([name, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(AGAIN, "1")
        .env("TMPDIR", &scratch)
        .env("HOME", &scratch)
        .current_dir(&scratch)
        .output();
    let run = match run {
        Ok(run) => run,
        Err(error) => {
            skip("unprivileged", &format!("setpriv cannot be run: {error}"));
            return true;
        }
    };
    let told = String::from_utf8_lossy(&run.stdout);
    let complained = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "as uid {NOBODY}, {name} failed:\n{told}\n{complained}");
    assert!(told.contains("test result: ok. 1 passed"), "no test has the name {name}:\n{told}");
    // What the inner run left out is said here too.
    complained.lines().filter(|line| line.starts_with("skipped: ")).for_each(|line| eprintln!("{line}"));
    true
}

/// Says that something is not tested because `what` is missing here; fails if that is required.
pub fn skip(what: &str, why: &str) {
    assert!(!is_required(what), "{what} is required and must not be skipped: {why}");
    eprintln!("skipped: {what}: {why}");
}

fn is_required(what: &str) -> bool {
    match env::var(REQUIRED) {
        Ok(list) => list.split(',').any(|word| word.trim() == what),
        Err(_) => env::var_os("CI").is_some(),
    }
}
