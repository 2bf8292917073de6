//! A disk that is full in the middle of a backup: a clear error, no snapshot harmed, nothing left behind that hinders the
//! next run when there is room again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use icecore_tests::cli::Cli;
use icecore_tests::crash::{Failing, Fault};
use icecore_tests::privilege;
use icecore_tests::whole::{self, Known};
use repo_core::internals::platform::files::SystemFiles;
use repo_core::{BackendErrorKind, Error, InitOptions, Local, Prefix, Repository};

fn is_full<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Backend(error)) if error.kind == BackendErrorKind::Full)
}

fn init(vault: &Path) -> Repository {
    Repository::init(Arc::new(Local::new(vault)), &whole::secret(), &InitOptions::default()).unwrap()
}

/// Each step of a backup that needs room, failing in turn.
#[test]
fn whichever_step_of_a_backup_finds_the_disk_full_no_snapshot_is_harmed_and_it_runs_again() {
    let room = whole::roomy(1 << 26);
    let source = room.path().join("source");
    whole::write_edition(&source, 0);
    let mut failures = 0;
    for steps in 0.. {
        let vault = room.path().join(format!("vault-{steps}"));
        let mut known = Known::default();
        known.add(&whole::back_up(&init(&vault), &source).unwrap(), &source);
        // The change is the same each time; a backup of it does the same steps.
        let changed = room.path().join("changed");
        if steps == 0 {
            whole::write_edition(&changed, 0);
            whole::write_edition(&changed, 1);
        }
        let disk = Arc::new(Failing::after(steps, Fault::Full, Arc::new(SystemFiles)));
        let repository = whole::open_on(Arc::new(Local::with_operations(&vault, disk.clone())));
        let report = whole::back_up(&repository, &changed);
        let was_enough = disk.left() > 0;
        disk.end();
        match &report {
            Ok(report) => drop(known.add(report, &changed)),
            Err(_) => {
                failures += 1;
                assert!(is_full(&report), "after {steps} steps: {report:?}");
                known.are_whole(&repository, known.0.keys().copied()).unwrap();
                whole::is_whole(&repository).unwrap();
                assert_eq!(fs::read_dir(vault.join("tmp")).unwrap().count(), 0, "temporary files");
            }
        }
        assert_eq!(repository.objects(Prefix::Sessions).unwrap(), [], "sessions");
        known.add(&whole::back_up(&repository, &changed).unwrap(), &changed);
        known.are_whole(&repository, known.0.keys().copied()).unwrap();
        whole::is_whole_but_for_copies(&repository).unwrap();
        fs::remove_dir_all(&vault).unwrap();
        if was_enough {
            break;
        }
    }
    assert!(failures >= 5 * 4, "a session, two packs, an index and a snapshot have {failures} steps");
}

/// A file system of its own that is as large as it is.
struct Small(PathBuf);

impl Small {
    fn mount(place: PathBuf, mebibytes: u64) -> Result<Self, String> {
        fs::create_dir(&place).unwrap();
        let size = format!("size={mebibytes}m,mode=0700");
        let run = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "icecore-small"]).arg(&place).output();
        match run {
            Ok(run) if run.status.success() => Ok(Self(place)),
            Ok(run) => Err(String::from_utf8_lossy(&run.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount cannot be run: {error}")),
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_backup_onto_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let room = whole::roomy(1 << 28);
    let small = match Small::mount(room.path().join("small"), 64) {
        Ok(small) => small,
        Err(why) => return privilege::skip("tmpfs", &why),
    };
    let vault = small.0.join("vault");
    let (first, second) = (room.path().join("first"), room.path().join("second"));
    whole::write_edition(&first, 0);
    whole::write_large(&second, 6000, 10);
    let mut known = Known::default();
    known.add(&whole::back_up(&init(&vault), &first).unwrap(), &first);
    let ballast = small.0.join("ballast");
    fs::write(&ballast, vec![1; 36 << 20]).unwrap();

    // 40 MiB do not fit into 27; the first of four packs does.
    let repository = whole::open(&vault).unwrap();
    let report = whole::back_up(&repository, &second);
    assert!(is_full(&report), "{report:?}");
    known.are_whole(&repository, known.0.keys().copied()).unwrap();
    whole::is_whole(&repository).unwrap();
    assert_eq!(repository.objects(Prefix::Sessions).unwrap(), [], "sessions");
    assert_eq!(fs::read_dir(vault.join("tmp")).unwrap().count(), 0, "temporary files");

    fs::remove_file(&ballast).unwrap();
    let report = whole::back_up(&repository, &second).unwrap();
    assert!(report.summary.stored_bytes < 32 << 20, "the pack that fitted is used");
    known.add(&report, &second);
    known.are_whole(&repository, known.0.keys().copied()).unwrap();
    whole::is_spotless(&repository).unwrap();
}

#[test]
fn a_restore_onto_a_full_disk_says_so_with_a_hint_and_goes_on_when_there_is_room() {
    let room = whole::roomy(1 << 26);
    let small = match Small::mount(room.path().join("small"), 4) {
        Ok(small) => small,
        Err(why) => return privilege::skip("tmpfs", &why),
    };
    let cli = Cli::new();
    for number in 0..6_u8 {
        cli.write(&format!("source/{number}"), vec![number + 1; 1 << 20]);
    }
    cli.backup(&[]);
    let target = small.0.join("target");
    let target = target.to_str().expect("a path of ours");
    cli.run(&["restore", "latest:/source", "-t", target])
        .fails(1, &["No space left", "hint:", "make room in the target"]);
    let grown = Command::new("mount").args(["-o", "remount,size=16m"]).arg(&small.0).status();
    assert!(grown.expect("mount runs").success());
    cli.run(&["restore", "latest:/source", "-t", target, "--verify"]).succeeds();
}
