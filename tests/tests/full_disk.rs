//! A disk that is full in the middle of a backup: a clear error, no snapshot harmed, nothing left behind that hinders the
//! next run when there is room again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use icecore_tests::cli::{Cli, Runs};
use icecore_tests::crash::{Failing, Fault};
use icecore_tests::privilege;
use icecore_tests::whole::{self, Known};
use repo_core::internals::platform::files::SystemFiles;
use repo_core::{BackendErrorKind, Doubled, Error, InitOptions, Local, ObjectName, Prefix, Repository};

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
                assert_eq!(whole::temporary_files(&vault), 0);
            }
        }
        // A session stays only as the sign that its snapshot has no second copy yet.
        let copies = repository.objects(Prefix::SecondCopies).unwrap();
        for (session, _) in repository.objects(Prefix::Sessions).unwrap() {
            let ObjectName::Session(id) = session else { panic!("{session} was left") };
            assert!(known.0.contains_key(&id), "{session} was left without a snapshot");
            let copy = ObjectName::SecondCopy(Doubled::Snapshot(id));
            assert!(copies.iter().all(|(name, _)| *name != copy), "{session} was left");
        }
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
    assert_eq!(whole::temporary_files(&vault), 0);

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

/// An ext4 of its own in a file, of which root keeps a part for itself.
struct Loop {
    place: PathBuf,
}

impl Loop {
    fn mount(room: &Path, mebibytes: u64) -> Result<Self, String> {
        let (image, place) = (room.join("image"), room.join("disk"));
        fs::create_dir(&place).unwrap();
        fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let run = |program: &str, arguments: &[&str], path: &[&Path]| match Command::new(program)
            .args(arguments)
            .args(path)
            .output()
        {
            Ok(run) if run.status.success() => Ok(()),
            Ok(run) => Err(format!("{program}: {}", String::from_utf8_lossy(&run.stderr).trim())),
            Err(error) => Err(format!("{program} cannot be run: {error}")),
        };
        run("mkfs.ext4", &["-q", "-F"], &[&image])?;
        run("mount", &["-o", "loop"], &[&image, &place])?;
        Ok(Self { place })
    }

    /// Leaves an ordinary user not one block. What is set aside for root stays as it is: else room that is given up would
    /// be root's.
    fn fill(&self) {
        let filler = fs::File::create(self.place.join("filler")).unwrap();
        let free = || rustix::fs::statvfs(&self.place).map(|place| place.f_bavail * place.f_frsize).unwrap();
        let mut end = 0;
        while free() > 0 {
            let piece = free();
            rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), end, piece).unwrap();
            end += piece;
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.place).status();
    }
}

/// As an ordinary user, for whom no block is set aside, with not one block left: what nothing needs is deleted, then what
/// lies between is moved into the room that this made.
#[test]
fn prune_takes_back_space_on_a_disk_that_is_full_to_the_last_block() {
    if !privilege::is_root() {
        return privilege::skip("loop", "only root mounts a file system");
    }
    let cli = Cli::without_repository();
    let disk = match Loop::mount(&cli.path(""), 256) {
        Ok(disk) => disk,
        Err(why) => return privilege::skip("loop", &why),
    };
    let vault = disk.place.join("vault");
    fs::create_dir(&vault).unwrap();
    let run = |arguments: &[&str]| {
        let arguments = [&["--repo", vault.to_str().expect("a path of ours"), "--threads", "1"], arguments].concat();
        let mut command = cli.command_as_nobody(&arguments);
        if arguments.contains(&"init") {
            command.env_remove("ICECORE_KEY_FILE");
        }
        command.run()
    };
    run(&["init", "--new-key-file", "key"]).succeeds();
    // Of each pair of files one stays: half of every pack of the first backup is needed.
    for pair in 0..120 {
        cli.write(&format!("source/{pair:03}-goes"), whole::noise(pair, 200_000));
        cli.write(&format!("source/{pair:03}-stays"), whole::noise(1000 + pair, 200_000));
    }
    run(&["backup", "source", "--time", "2026-01-01 00:00:00"]).succeeds();
    for pair in 0..120 {
        fs::remove_file(cli.path(&format!("source/{pair:03}-goes"))).unwrap();
    }
    run(&["backup", "source", "--time", "2026-01-02 00:00:00"]).succeeds();
    for file in 0..20 {
        cli.write(&format!("other/{file}"), whole::noise(2000 + file, 1 << 20));
    }
    run(&["backup", "other", "--time", "2026-01-01 00:00:00"]).succeeds();
    fs::remove_dir_all(cli.path("other")).unwrap();
    cli.write("other/one", "little");
    run(&["backup", "other", "--time", "2026-01-02 00:00:00"]).succeeds();
    run(&["forget", "--keep-last", "1", "--undelete-within", "0"]).succeeds();
    assert!(vault.join("tmp/ballast").exists(), "room is kept for this moment");
    disk.fill();
    cli.write("source/more", "more");
    run(&["backup", "source"]).fails(1, &["No space left"]);
    let before = whole_size(&vault);

    let pruned = run(&["prune", "--max-unused", "0"]).succeeds();
    assert!(pruned.error.contains("no room to move"), "{}", pruned.error);
    let pruned = pruned.tells("moved ").tells("deleted ");
    let after = whole_size(&vault);
    // 44 MiB, of which 24 are garbage between what is needed and 20 in packs of their own.
    assert!(after + (40 << 20) < before, "{before} bytes before, {after} after\n{}", pruned.out);
    run(&["check", "--read-data"]).succeeds().tells("no errors were found");
    run(&["backup", "source"]).succeeds();
    let target = cli.path("back");
    run(&["restore", "latest:/source", "-t", target.to_str().expect("ours")]).ends(0);
    assert_eq!(cli.read("back/007-stays"), whole::noise(1007, 200_000));
    assert!(vault.join("tmp/ballast").exists(), "room is kept again");
}

/// Bytes of the files below a directory.
fn whole_size(place: &Path) -> u64 {
    let mut size = 0;
    for entry in fs::read_dir(place).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        size += if metadata.is_dir() { whole_size(&entry.path()) } else { metadata.len() };
    }
    size
}
