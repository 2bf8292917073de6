//! Other processes that back up: the calling test program, started again, so that they can be killed or race each other.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::whole;

const VAULT: &str = "ICECORE_TEST_VAULT";
const SOURCE: &str = "ICECORE_TEST_SOURCE";
const STARTED: &str = "ICECORE_TEST_STARTED";

/// Between two looks at a directory.
const GLANCE: Duration = Duration::from_millis(2);
/// A process that has not come so far in two minutes never will.
const GLANCES_MAX: u32 = 60_000;

/// The work of a process that [`start`] started; nothing in any other. To be called by a test of its own.
pub fn work() {
    let (Some(vault), Some(source)) = (env::var_os(VAULT), env::var_os(SOURCE)) else { return };
    let repository = whole::open(Path::new(&vault)).expect("the repository opens");
    if let Some(started) = env::var_os(STARTED) {
        let gate = PathBuf::from(started);
        fs::write(gate.join(std::process::id().to_string()), "").expect("the gate can be reached");
        wait_for(|| gate.join("open").exists());
    }
    let report = whole::back_up(&repository, Path::new(&source)).expect("a backup is made");
    assert_eq!(report.summary.problems, 0);
}

/// Starts a process that backs `source` up into `vault`. `test` is the name of the test that calls [`work`]. With a
/// `gate`, it shows there that it has opened the repository, and waits for [`open_gate`].
pub fn start(test: &str, vault: &Path, source: &Path, gate: Option<&Path>) -> Child {
    let mut command = Command::new(env::current_exe().expect("a test has a program"));
    command.args([test, "--exact", "--nocapture"]).env(VAULT, vault).env(SOURCE, source);
    if let Some(gate) = gate {
        command.env(STARTED, gate);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the test program runs again")
}

/// Waits until as many processes are at the gate, and lets them go.
pub fn open_gate(gate: &Path, processes: usize) {
    wait_for(|| fs::read_dir(gate).expect("the gate is there").count() >= processes);
    fs::write(gate.join("open"), "").expect("the gate can be opened");
}

/// Waits for the process and fails unless it did its work.
pub fn join(child: Child) {
    let output = child.wait_with_output().expect("the process ends");
    assert!(output.status.success(), "the other process failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until something is so.
pub fn wait_for(mut is_so: impl FnMut() -> bool) {
    for _ in 0..GLANCES_MAX {
        if is_so() {
            return;
        }
        thread::sleep(GLANCE);
    }
    panic!("what was waited for never came");
}

/// Every pack below a vault, and its bytes.
pub fn packs(vault: &Path) -> Vec<(OsString, u64)> {
    let mut packs = Vec::new();
    for kind in ["packs/d", "packs/m"] {
        for shard in fs::read_dir(vault.join(kind)).expect("a repository") {
            for pack in fs::read_dir(shard.expect("a shard").path()).expect("a shard") {
                let pack = pack.expect("a pack");
                packs.push((pack.file_name(), pack.metadata().expect("a pack").len()));
            }
        }
    }
    packs.sort();
    packs
}
