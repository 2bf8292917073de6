//! Storage that shows an old state, or another repository: noticed by whoever was there before. What was forgotten, pruned,
//! made anew or accepted is no alarm, and a memory that is damaged, foreign or not to be had never fails a command.

use std::fs;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use icecore_tests::cli::{Cli, Runs, end};
use repo_core::{
    Backend, BackupOptions, ClientState, Doubled, Error, ForgetOptions, InitOptions, Listed, Memory, ObjectName,
    PasswordCost, Prefix, PruneOptions, ReaderSource, Repository, RollbackSign, Secret, Selector, Silent, Snapshot,
    Span, TagOptions,
};

// ---- the library ----

struct Place {
    backend: Arc<Memory>,
    secret: Secret,
    repository: Repository,
}

impl Place {
    fn new() -> Self {
        let (backend, secret) = (Arc::new(Memory::new()), Secret::generate_key().unwrap().0);
        let repository = Repository::init(backend.clone(), &secret, &InitOptions::new()).unwrap().with_threads(1);
        Self { backend, secret, repository }
    }

    /// The same objects at another place: what a storage keeps of a day.
    fn copy(&self) -> Self {
        let backend = Arc::new(Memory::new());
        let mut names = Vec::new();
        let listed = self.backend.list(Prefix::All, &mut |listed| {
            if let Listed::Object { name, .. } = listed {
                names.push(name);
            }
            ControlFlow::Continue(())
        });
        listed.unwrap();
        for name in names {
            backend.put_new(&name, self.backend.get(&name, Span::All).unwrap()).unwrap();
        }
        let secret = self.secret.clone();
        let repository = Repository::open(backend.clone(), &secret).unwrap().with_threads(1);
        Self { backend, secret, repository }
    }

    fn backup(&self, name: &str, text: &str) -> Snapshot {
        let source = ReaderSource::new(name.as_ref(), Cursor::new(text.as_bytes().to_vec()));
        self.repository.backup(&source, &BackupOptions::new(), &Silent).unwrap().snapshot.unwrap()
    }

    fn forget(&self, snapshot: &Snapshot) {
        let options = ForgetOptions::new().id(Selector::Id(snapshot.id().to_string())).window_ms(0);
        let plan = self.repository.plan_forget(&options, &Silent).unwrap();
        assert_eq!(self.repository.forget(&plan, &Silent).unwrap().forgotten.len(), 1);
    }

    fn remove(&self, snapshot: &Snapshot) {
        let doubled = Doubled::Snapshot(snapshot.id());
        self.backend.remove(&ObjectName::SecondCopy(doubled)).unwrap();
        self.backend.remove(&doubled.into()).unwrap();
    }
}

/// What a client remembers that made these.
fn memory(place: &Place, snapshots: &[&Snapshot]) -> ClientState {
    let mut state = ClientState::new(place.repository.id());
    state.take(&place.repository.compare(&state).unwrap());
    for snapshot in snapshots {
        assert!(state.take(&place.repository.sight(snapshot).unwrap()), "news");
    }
    state
}

fn signs(place: &Place, state: &ClientState) -> Vec<RollbackSign> {
    match place.repository.compare(state) {
        Err(Error::Rollback { signs, .. }) => signs,
        other => panic!("no alarm: {other:?}"),
    }
}

#[test]
fn a_snapshot_that_is_missing_is_named_unless_it_was_forgotten() {
    let place = Place::new();
    let (first, other) = (place.backup("/a", "one"), place.backup("/b", "other"));
    let earlier = place.copy();
    let second = place.backup("/a", "two");
    let mut state = memory(&place, &[&first, &other, &second]);
    assert!(!state.take(&place.repository.compare(&state).unwrap()), "nothing is news");
    assert_eq!(signs(&earlier, &state), [RollbackSign::SnapshotGone { snapshot: second.id() }]);

    // Forgotten, and its data and itself gone: explained. The one before it is the head from then on.
    place.forget(&second);
    place.repository.compare(&state).unwrap();
    place.repository.prune(&PruneOptions::new(), &Silent).unwrap();
    assert!(place.backend.get(&ObjectName::Snapshot(second.id()), Span::All).unwrap_err().is_absent());
    assert!(state.take(&place.repository.compare(&state).unwrap()));
    assert!(!state.take(&place.repository.compare(&state).unwrap()));
    place.remove(&first);
    assert_eq!(signs(&place, &state), [RollbackSign::SnapshotGone { snapshot: first.id() }]);
}

#[test]
fn a_forget_record_that_nobody_with_the_keys_wrote_explains_nothing() {
    let place = Place::new();
    let snapshot = place.backup("/a", "one");
    let state = memory(&place, &[&snapshot]);
    let foreign = Place::new();
    let theirs = foreign.backup("/a", "one");
    foreign.forget(&theirs);
    let record = foreign.backend.get(&ObjectName::Forgotten(theirs.id()), Span::All).unwrap();
    place.remove(&snapshot);
    place.backend.put_new(&ObjectName::Forgotten(snapshot.id()), record).unwrap();
    assert_eq!(signs(&place, &state), [RollbackSign::SnapshotGone { snapshot: snapshot.id() }]);
}

#[test]
fn one_that_took_its_place_explains_a_snapshot_that_is_gone() {
    let place = Place::new();
    let snapshot = place.backup("/a", "one");
    let mut state = memory(&place, &[&snapshot]);
    place.repository.tag(std::slice::from_ref(&snapshot), &TagOptions::new().add_tag("kept"), &Silent).unwrap();
    // As after the years in which its forget record went too.
    place.remove(&snapshot);
    place.backend.remove(&ObjectName::Forgotten(snapshot.id())).unwrap();
    assert!(state.take(&place.repository.compare(&state).unwrap()), "the successor is the head");
    assert!(!state.take(&place.repository.compare(&state).unwrap()));
}

#[test]
fn another_snapshot_under_the_same_name_is_told_from_it() {
    let place = Place::new();
    let empty = place.copy();
    let snapshot = place.backup("/a", "one");
    let state = memory(&place, &[&snapshot]);
    // A tombstone, the one other thing that the keys can have written there.
    let session = repo_core::internals::store::gc::fence(
        empty.backend.as_ref(),
        &repo_core::internals::crypto::Keys::from_keyring(&keyring_of(&empty)).unwrap(),
        snapshot.id(),
        1,
        snapshot.id(),
    );
    session.unwrap();
    assert_eq!(signs(&empty, &state), [RollbackSign::SnapshotReplaced { snapshot: snapshot.id() }]);
}

fn keyring_of(place: &Place) -> repo_core::internals::format::keyring::Keyring {
    let bytes = place.backend.get(&ObjectName::Keyring(1), Span::All).unwrap();
    let kit = place.repository.recovery_kit();
    let Secret::RootKey(root_key) = Secret::from_recovery_kit(&kit).unwrap() else { panic!("a kit is the root key") };
    let payload = repo_core::internals::seal::open_keyring(&root_key, 1, &bytes).unwrap();
    repo_core::internals::format::keyring::Keyring::decode(&payload).unwrap()
}

#[test]
fn damage_of_a_remembered_snapshot_is_no_rollback() {
    let place = Place::new();
    let snapshot = place.backup("/a", "one");
    let state = memory(&place, &[&snapshot]);
    place.remove(&snapshot);
    place.backend.put_new(&ObjectName::Snapshot(snapshot.id()), b"rot".as_slice().into()).unwrap();
    place.repository.compare(&state).unwrap();
}

#[test]
fn older_keys_and_parameters_are_noticed_and_newer_ones_remembered() {
    let place = Place::new();
    let earlier = place.copy();
    let (second, _) = Secret::generate_key().unwrap();
    place.repository.add_key(&second, "second", PasswordCost::Default).unwrap();
    place.repository.repair_parity(&repo_core::ParityOptions::new().percent(5), &Silent).unwrap();
    let mut state = memory(&earlier, &[]);
    let now = Repository::open(place.backend.clone(), &place.secret).unwrap();
    assert!(state.take(&now.compare(&state).unwrap()), "they are newer");
    let expected =
        [RollbackSign::KeyringOlder { known: 2, found: 1 }, RollbackSign::ConfigOlder { known: 2, found: 1 }];
    assert_eq!(signs(&earlier, &state), expected);
    // A handle that was opened before they changed is no older repository.
    place.repository.compare(&state).unwrap();
}

#[test]
fn what_was_accepted_is_the_memory_from_then_on() {
    let place = Place::new();
    let first = place.backup("/a", "one");
    let earlier = place.copy();
    let second = place.backup("/a", "two");
    let state = memory(&place, &[&first, &second]);
    assert!(earlier.repository.compare(&state).is_err());
    let mut accepted = earlier.repository.accept(&state).unwrap();
    assert!(!accepted.take(&earlier.repository.compare(&accepted).unwrap()));
    earlier.remove(&first);
    assert_eq!(signs(&earlier, &accepted), [RollbackSign::SnapshotGone { snapshot: first.id() }], "not forgotten");
}

#[test]
fn two_that_remember_at_once_take_nothing_from_each_other() {
    let place = Place::new();
    let (one, two) = (place.backup("/a", "one"), place.backup("/b", "two"));
    let kept = memory(&place, &[&one]);
    // The other process read nothing of the first, and adds to what is kept.
    let sighting = place.repository.sight(&two).unwrap();
    let mut both = ClientState::decode(&kept.encode(), place.repository.id()).unwrap();
    assert!(both.take(&sighting));
    place.remove(&one);
    place.remove(&two);
    assert_eq!(signs(&place, &both).len(), 2);
}

// ---- the program ----

/// Copies a directory tree.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs").success());
}

/// Puts what was copied back in the place of the repository.
fn put_back(cli: &Cli, copy_of: &str) {
    fs::remove_dir_all(cli.path("repo")).expect("ours");
    copy(&cli.path(copy_of), &cli.path("repo"));
}

fn memory_files(cli: &Cli) -> Vec<PathBuf> {
    let directories = fs::read_dir(cli.path("state/icecore")).expect("a memory").flatten();
    directories.map(|directory| directory.path().join("heads")).filter(|path| path.exists()).collect()
}

#[test]
fn an_older_copy_of_the_repository_is_an_alarm_for_every_command_until_it_is_accepted() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    copy(&cli.path("repo"), &cli.path("yesterday"));
    cli.write("source/a", "two");
    let newest = cli.backup(&[]);
    put_back(&cli, "yesterday");
    let told: [&str; 4] = [&newest[..8], "is gone and nobody forgot it", "--no-state", "--accept-rollback"];
    let commands: [&[&str]; 9] = [
        &["backup", "source"],
        &["restore", "latest", "--target", "target"],
        &["snapshots"],
        &["check"],
        &["forget", "--keep-last", "1"],
        &["prune"],
        &["ls", "latest"],
        &["key", "list"],
        &["tag", "--add", "x"],
    ];
    for command in commands {
        cli.run(command).fails(13, &told);
    }
    assert!(!cli.path("target").exists(), "nothing was done");
    let line = cli.run(&["--json", "snapshots"]).ends(13).error_json().pop().expect("a line");
    assert_eq!((&line["message_type"], &line["code"]), (&"exit_error".into(), &13.into()));

    // A look changes no memory; the owner's word does.
    cli.run(&["--no-state", "snapshots"]).succeeds().tells("1 snapshot");
    cli.run(&["snapshots"]).ends(13);
    let run = cli.run(&["--accept-rollback", "snapshots"]).succeeds();
    assert!(run.error.contains("accepted"), "{}", run.error);
    cli.run(&["snapshots"]).succeeds();
    cli.backup(&[]);
    put_back(&cli, "yesterday");
    cli.run(&["snapshots"]).ends(13);
}

#[test]
fn objects_of_the_newest_snapshot_that_were_deleted_are_an_alarm() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    let kept: Vec<PathBuf> = ["snapshots", "r/snapshots"].iter().flat_map(|place| files(&cli, place)).collect();
    let newest = cli.backup(&[]);
    for place in ["snapshots", "r/snapshots"] {
        files(&cli, place)
            .into_iter()
            .filter(|path| !kept.contains(path))
            .for_each(|path| fs::remove_file(path).unwrap());
    }
    cli.run(&["backup", "source"]).fails(13, &[&newest[..8]]);
}

fn files(cli: &Cli, place: &str) -> Vec<PathBuf> {
    fs::read_dir(cli.path("repo").join(place)).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn what_was_forgotten_and_pruned_is_no_alarm() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    let newest = cli.backup(&[]);
    // By another client, which remembers for itself.
    let elsewhere = |arguments: &[&str]| {
        cli.command(arguments).env("XDG_STATE_HOME", cli.path("elsewhere")).run().succeeds();
    };
    elsewhere(&["forget", &newest, "--undelete-within", "0"]);
    cli.run(&["snapshots"]).succeeds();
    elsewhere(&["prune"]);
    assert_eq!(files(&cli, "snapshots").len(), 1, "it is gone");
    cli.run(&["snapshots"]).succeeds();
    // Its record too, as after 90 days: the client looked in meanwhile, and expects another one now.
    fs::remove_dir_all(cli.path("repo/forgotten")).expect("ours");
    cli.run(&["snapshots"]).succeeds();
    let run = cli.run(&["backup", "source"]).succeeds();
    assert_eq!(run.error, "");
}

#[test]
fn a_repository_in_the_place_of_another_is_an_alarm_unless_its_owner_made_it() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    // An empty one, with the same key: made by somebody else.
    let swapped = ["init", "-r", "swapped"];
    cli.command(&swapped).env("XDG_STATE_HOME", cli.path("elsewhere")).run().succeeds();
    fs::rename(cli.path("repo"), cli.path("away")).expect("ours");
    fs::rename(cli.path("swapped"), cli.path("repo")).expect("ours");
    cli.run(&["backup", "source"]).fails(13, &["was there, and now it is", "--accept-rollback"]);
    // A disk that is not mounted: nothing is made in the empty directory under it.
    fs::remove_dir_all(cli.path("repo")).expect("ours");
    cli.run(&["backup", "--init", "source"]).fails(13, &["was there, and now there is none"]);
    assert!(!cli.path("repo").exists());
    cli.run(&["snapshots"]).ends(10);
    // Asked for by name it is made, and said.
    let run = cli.run(&["init"]).succeeds();
    assert!(run.error.contains("was at") && run.error.contains("before"), "{}", run.error);
    cli.run(&["snapshots"]).succeeds();
    // Disks may take turns.
    fs::rename(cli.path("repo"), cli.path("second")).expect("ours");
    fs::rename(cli.path("away"), cli.path("repo")).expect("ours");
    cli.run(&["snapshots"]).succeeds().tells("1 snapshot");
}

#[test]
fn a_mirror_that_is_behind_is_no_alarm_where_only_its_source_is_known() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    cli.run(&["mirror", "copy"]).succeeds();
    cli.backup(&[]);
    cli.run(&["-r", "copy", "snapshots"]).succeeds().tells("1 snapshot");
    cli.run(&["mirror", "copy"]).succeeds();
    cli.run(&["-r", "copy", "snapshots"]).succeeds().tells("2 snapshots");
}

#[test]
fn a_memory_of_no_use_is_said_not_trusted_and_fails_nothing() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    let [file] = memory_files(&cli).try_into().expect("one repository");
    let whole = fs::read(&file).expect("ours");
    assert_eq!(fs::metadata(&file).expect("ours").permissions().mode() & 0o777, 0o600);
    let other = Cli::new();
    other.write("source/a", "one");
    other.backup(&[]);
    let foreign = fs::read(&memory_files(&other)[0]).expect("ours");
    let mut turned = whole.clone();
    turned[40] ^= 1;
    for bad in [b"".to_vec(), turned, whole[..50].to_vec(), foreign] {
        fs::write(&file, bad).expect("ours");
        let run = cli.run(&["snapshots"]).succeeds();
        assert!(run.error.contains("is of no use"), "{}", run.error);
        assert_eq!(cli.run(&["snapshots"]).succeeds().error, "", "begun anew");
    }
    let run = cli.run(&["backup", "source"]).succeeds();
    assert_eq!(run.error, "");
    assert_ne!(fs::read(&file).expect("ours"), whole);
}

#[test]
fn without_a_place_for_a_memory_a_backup_is_made_and_that_is_said_once() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    let bare = |change: &dyn Fn(&mut Command)| {
        let mut command = cli.command(&["backup", "source"]);
        change(&mut command);
        command.run().succeeds().tells("saved").error
    };
    let error = bare(&|command| _ = command.env_remove("XDG_STATE_HOME").env_remove("HOME"));
    assert_eq!(error.matches("warning:").count(), 1, "{error}");
    assert_eq!(bare(&|command| _ = command.env("ICECORE_STATE_DIR", "")), "", "empty is as if it were not set");
    // A file in the place of the directory.
    let error = bare(&|command| _ = command.env("ICECORE_STATE_DIR", cli.path("source/a")));
    assert_eq!(error.matches("warning:").count(), 1, "{error}");
    assert_eq!(bare(&|command| _ = command.env("XDG_STATE_HOME", cli.path("source/a")).arg("--no-state")), "");
}

#[test]
fn backups_at_once_are_all_remembered() {
    let cli = Cli::new();
    let names = ["a", "b", "c", "d"];
    for name in names {
        cli.write(&format!("{name}/file"), name);
    }
    let start = |name: &str| {
        let mut command = cli.command(&["backup", name]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    };
    let running: Vec<_> = names.into_iter().map(start).collect();
    running.into_iter().for_each(|child| _ = end(child).succeeds());
    for place in ["snapshots", "r/snapshots"] {
        files(&cli, place).into_iter().for_each(|path| fs::remove_file(path).unwrap());
    }
    let error = cli.run(&["snapshots"]).ends(13).error;
    assert_eq!(error.matches("is gone and nobody forgot it").count(), names.len(), "{error}");
}
