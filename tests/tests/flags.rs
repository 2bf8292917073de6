//! Flags that restic's users' scripts pass: each does what it says, or is accepted because there is nothing to do.
//! Parents by `--group-by`, what "unchanged" means, packs, rates, keys, attributes; what is mistyped is said.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use icecore_tests::cli::{Cli, Run, Runs, end};
use icecore_tests::contract;
use icecore_tests::privilege::{is_root, skip};
use icecore_tests::tree::Abilities;
use icecore_tests::whole::noise;
use repo_core::{
    BackupOptions, Details, Entries, InitOptions, Limited, Local, Memory, Metadata, NodeKind, OpenOptions,
    PasswordCost, Repository, Secret, Silent, Source, SourceDirectory, SourceEntry, SourceFile, Timestamp,
};
use rustix::fs::XattrFlags;
use serde_json::Value;

/// Long before any test runs.
fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000)
}

/// Sets access and modification time.
fn date(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).expect("a file of ours");
    file.set_times(FileTimes::new().set_accessed(time).set_modified(time)).expect("times can be set");
}

/// Runs without the key file that a room has.
fn bare(cli: &Cli, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = cli.command(arguments);
    command.env_remove("ICECORE_KEY_FILE").envs(variables.iter().copied()).run()
}

/// The last line of a backup: its summary.
fn summary(cli: &Cli, more: &[&str]) -> Value {
    cli.json(&[&["backup", "source"], more].concat()).pop().expect("a summary")
}

#[test]
fn what_a_directory_without_locks_does_not_need_is_accepted() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    let accepted: [&[&str]; 12] = [
        &["--no-lock"],
        &["--retry-lock", "5m"],
        &["--retry-lock=1h30m"],
        &["--retry-lock", "0"],
        &["--no-cache"],
        &["--cache-dir", "nowhere"],
        &["--cleanup-cache"],
        &["-o", "local.connections=4"],
        &["--option=s3.storage-class=STANDARD_IA"],
        &["-o", "sftp.args=-p 22", "-o", "rclone.timeout=1m"],
        &["--verbose=3"],
        &["-vvv"],
    ];
    for flags in accepted {
        cli.run(&[flags, &["backup", "source"]].concat()).succeeds().tells("saved");
        cli.run(&[&["snapshots"], flags].concat()).succeeds();
    }
    assert!(!cli.path("nowhere").exists(), "no cache is made");
    cli.run(&["check", "--with-cache"]).succeeds();
    assert_eq!(cli.run(&["list", "locks"]).succeeds().out, "");
    for version in ["stable", "latest", "2"] {
        let new = format!("key-{version}");
        let run = cli.run(&["-r", version, "init", "--new-key-file", &new, "--repository-version", version]);
        run.succeeds().tells("created repository");
    }
}

#[test]
fn what_is_accepted_is_still_read_and_mistakes_are_named() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    let refused: [(&[&str], &str); 22] = [
        (&["--retry-lock", "soon"], "is no duration"),
        (&["--retry-lock", "5"], "is no duration"),
        (&["-o", "local.connections"], "write KEY=VALUE"),
        (&["-o", "local.connections=many"], "is no number of connections"),
        (&["-o", "s3.colour=blue"], "there is no option \"s3.colour\""),
        (&["--pack-size", "3"], "from 4 to 128"),
        (&["--pack-size", "129"], "from 4 to 128"),
        (&["--pack-size", "16M"], "from 4 to 128"),
        (&["--limit-upload", "fast"], "invalid value 'fast'"),
        (&["--limit-download", "1.5"], "invalid value '1.5'"),
        (&["--compression", "fast"], "off, fastest, better, max"),
        (&["--verbose=much"], "invalid value 'much'"),
        (&["--read-concurrency", "1025"], "from 1 to 1024"),
        (&["--read-concurrency", "two"], "from 1 to 1024"),
        (&["--group-by", "owner"], "\"owner\" is none of host, paths and tags"),
        (&["--insecure-no-password", "--key-file", "key"], "cannot be used with"),
        (&["--cache-dir"], "a value is required"),
        // Of the network, which there is none of yet.
        (&["--cacert", "file"], "unexpected argument"),
        (&["--tls-client-cert", "file"], "unexpected argument"),
        (&["--insecure-tls"], "unexpected argument"),
        (&["--no-such-flag"], "unexpected argument"),
        (&["--key-hint"], "a value is required"),
    ];
    for (flags, told) in refused {
        cli.run(&[&["backup", "source"], flags].concat()).fails(1, &[told]);
    }
    for (name, value) in [("ICECORE_PACK_SIZE", "huge"), ("ICECORE_READ_CONCURRENCY", "-1")] {
        cli.command(&["backup", "source"]).env(name, value).run().fails(1, &[value]);
        cli.command(&["backup", "source"]).env(name, "").run().succeeds();
    }
    cli.run(&["snapshots", "--group-by", "host,owner"]).fails(1, &["\"owner\" is none of"]);
    cli.run(&["restore", "latest", "-t", "x", "--include-xattr", "["]).fails(1, &["bad pattern"]);
    let both = ["restore", "latest", "-t", "x", "--include-xattr", "a", "--exclude-xattr", "b"];
    cli.run(&both).fails(1, &["cannot be used with"]);
    cli.run(&["init", "--repository-version", "next"]).fails(1, &["stable, latest, 1, 2"]);
    assert!(!cli.path("x").exists());
    assert_eq!(cli.snapshots(), 2, "those of the empty variables");
}

#[test]
fn what_only_restic_needs_is_in_the_long_help_alone() {
    let cli = Cli::new();
    let (short, long) = (cli.run(&["backup", "-h"]).succeeds().out, cli.run(&["backup", "--help"]).succeeds().out);
    for flag in ["--no-lock", "--retry-lock", "--no-cache", "--cache-dir", "--cleanup-cache", "--option"] {
        assert!(long.contains(flag) && !short.contains(flag), "{flag}");
    }
    assert!(long.contains("Accepted for restic's scripts: there are no locks"), "{long}");
    for flag in ["--key-hint", "--pack-size", "--limit-upload", "--limit-download", "--group-by", "--read-concurrency"]
    {
        assert!(long.contains(flag) && short.contains(flag), "{flag}");
    }
}

#[test]
fn the_hinted_key_is_tried_first_and_a_wrong_hint_is_no_failure() {
    let cli = Cli::new();
    let secret = Secret::from_key_file(&cli.read("key")).expect("a key file");
    let repository = Repository::open(Arc::new(Local::new(cli.path("repo"))), &secret).expect("it opens");
    // A second slot for the same secret, and one for another.
    let twin = repository.add_key(&secret, "twin", PasswordCost::Default).expect("a slot").slot.to_string();
    let (other, _) = Secret::generate_key().expect("randomness");
    let other = repository.add_key(&other, "other", PasswordCost::Default).expect("a slot").slot.to_string();
    let first = repository.keys().expect("keys").into_iter().find(|key| key.current).expect("one").slot.to_string();
    let current = |run: Run| {
        let keys = run.succeeds().json().remove(0);
        let keys = keys.as_array().expect("an array").clone();
        keys.into_iter().find(|key| key["current"] == true).expect("one is in use")["id"].as_str().map(str::to_owned)
    };
    let plain = current(cli.run(&["--json", "key", "list"]));
    for id in [&first, &twin] {
        // Long enough to mean one of the three alone.
        assert_eq!(current(cli.run(&["--json", "key", "list", "--key-hint", &id[..16]])).as_ref(), Some(id));
        let by_variable = cli.command(&["--json", "key", "list"]).env("ICECORE_KEY_HINT", id).run();
        assert_eq!(current(by_variable).as_ref(), Some(id));
    }
    let both = cli.command(&["--json", "key", "list", "--key-hint", &first]).env("ICECORE_KEY_HINT", &twin).run();
    assert_eq!(current(both), Some(first), "the command line goes before the environment");
    // Not there, not ours, or several: the others are tried as ever.
    for hint in ["zz", &other, ""] {
        assert_eq!(current(cli.run(&["--json", "key", "list", "--key-hint", hint])), plain, "{hint}");
    }
    let (stranger, _) = Secret::generate_key().expect("randomness");
    let refused = Repository::open_with(repository.backend().clone(), &stranger, &OpenOptions::new().key_hint(twin));
    assert!(matches!(refused, Err(repo_core::Error::WrongSecret { slots: 3 })), "{refused:?}");
}

#[test]
fn the_empty_password_must_be_asked_for_by_name() {
    let cli = Cli::without_repository();
    let refused = bare(&cli, &["init"], &[("ICECORE_PASSWORD", "")]);
    refused.fails(1, &["the password is empty", "--insecure-no-password"]);
    bare(&cli, &["init", "--insecure-no-password"], &[]).succeeds();
    bare(&cli, &["snapshots", "--insecure-no-password"], &[]).succeeds();
    bare(&cli, &["snapshots"], &[("ICECORE_PASSWORD", "")]).fails(1, &["the password is empty"]);
    bare(&cli, &["snapshots", "--insecure-no-password"], &[("ICECORE_PASSWORD", "x")])
        .fails(1, &["ICECORE_PASSWORD cannot be used together"]);
    cli.run(&["snapshots", "--insecure-no-password"]).fails(1, &["ICECORE_KEY_FILE cannot be used together"]);
}

#[test]
fn a_key_may_have_the_empty_password_if_that_is_asked_for() {
    let cli = Cli::new();
    cli.write("empty", "");
    cli.run(&["key", "add", "--new-password-file", "empty"]).fails(1, &["the password is empty"]);
    bare(&cli, &["snapshots", "--insecure-no-password"], &[]).fails(12, &["hint:"]);
    cli.run(&["key", "add", "--new-insecure-no-password"]).succeeds().tells("added key");
    bare(&cli, &["snapshots", "--insecure-no-password"], &[]).succeeds();
    let two = ["key", "add", "--new-insecure-no-password", "--new-password-file", "empty"];
    cli.run(&two).fails(1, &["cannot be used with"]);
}

#[test]
fn passwd_keeps_user_and_host_unless_others_are_given() {
    let cli = Cli::new();
    let label = |key_file: &str| {
        let keys = cli.json(&["--key-file", key_file, "key", "list"]).remove(0);
        (keys[0]["userName"].as_str().map(str::to_owned), keys[0]["hostName"].as_str().map(str::to_owned))
    };
    let (user, host) = label("key");
    let passwd = ["key", "passwd", "--new-key-file", "second", "--user", "ann"];
    cli.run(&passwd).succeeds();
    assert_eq!(label("second"), (Some("ann".into()), host));
    cli.run(&["--key-file", "second", "key", "passwd", "--new-key-file", "third"]).succeeds();
    assert_eq!(label("third").0, Some("ann".into()), "as it was, and not {user:?}");
    cli.run(&["--key-file", "third", "key", "passwd", "--new-key-file", "fourth", "--host", "desk"]).succeeds();
    assert_eq!(label("fourth"), (Some("ann".into()), Some("desk".into())));
}

#[test]
fn a_limited_place_keeps_the_contract() {
    let limited = || Limited::new(Arc::new(Memory::new())).put_bytes_per_second(1 << 40).get_bytes_per_second(1 << 40);
    contract::run(&|| Arc::new(limited()));
}

/// A limit is the one thing of which time is the meaning; that something takes at least so long is true on any machine.
#[test]
fn uploads_and_downloads_take_the_time_that_their_limits_mean() {
    let cli = Cli::new();
    cli.write("source/a", noise(1, 300 << 10));
    let least = |limit: &[&str], arguments: &[&str]| {
        let started = Instant::now();
        cli.run(&[limit, arguments].concat()).succeeds();
        started.elapsed() >= Duration::from_secs_f64(300.0 / 250.0)
    };
    assert!(least(&["--limit-upload", "250"], &["backup", "source"]));
    assert!(least(&["--limit-download", "250"], &["check", "--read-data"]));
    // Lifted again.
    cli.run(&["backup", "source", "-f", "--limit-upload", "0", "--limit-download", "0"]).succeeds();
}

#[test]
fn every_spelling_of_compression_is_known_and_off_compresses_no_data() {
    let cli = Cli::new();
    let text: String = (0..60_000).map(|line| format!("line {line} of a text that compresses well\n")).collect();
    cli.write("source/a", &text);
    let stored = |how: &str| {
        let line = summary(&cli, &["--dry-run", "--compression", how]);
        line["data_added_packed"].as_u64().expect("a number")
    };
    let (off, fastest) = (stored("off"), stored("fastest"));
    assert!(off > text.len() as u64, "{off}");
    for how in ["auto", "fastest", "better", "max", "7"] {
        assert!(stored(how) < off / 3, "{how}");
    }
    assert!(stored("max") < fastest);
    // And what was stored so comes back.
    cli.backup(&["--compression", "off"]);
    cli.run(&["check", "--read-data"]).succeeds();
    assert!(cli.run(&["dump", "latest", "/source/a"]).succeeds().out == text);
    let init = ["-r", "new", "init", "--new-key-file", "new-key", "--compression", "off"];
    cli.run(&init).succeeds();
}

#[test]
fn packs_are_as_large_as_asked_for() {
    let largest = |flags: &[&str], variable: Option<&str>| {
        let cli = Cli::new();
        cli.write("source/a", noise(1, 14 << 20));
        let mut command = cli.command(&[&["backup", "source", "--threads", "1"], flags].concat());
        variable.map(|value| command.env("ICECORE_PACK_SIZE", value));
        command.run().succeeds();
        let packs = cli.json(&["list", "packs"]);
        packs.iter().filter_map(|pack| pack["size"].as_u64()).max().expect("packs")
    };
    // A pack is closed between three and five quarters of what was asked for, and may be over by a frame and padding.
    let (small, usual) = (..=13 << 19, 9 << 20..);
    assert!(usual.contains(&largest(&[], None)), "12 MiB are the usual size");
    assert!(small.contains(&largest(&["--pack-size", "4"], None)));
    assert!(small.contains(&largest(&[], Some("4"))));
    assert!(
        usual.contains(&largest(&["--pack-size", "64"], Some("4"))),
        "the command line goes before the environment"
    );
}

#[test]
fn options_out_of_bounds_are_refused_before_anything_is_written() {
    let (secret, _) = Secret::generate_key().expect("randomness");
    let place = Arc::new(Memory::new());
    let repository = Repository::init(place, &secret, &InitOptions::new()).expect("a repository");
    let source = Crowd::new(1, 1);
    let new = BackupOptions::new;
    let bad = [
        new().pack_data_bytes(1),
        new().pack_data_bytes(129 << 20),
        new().read_threads(0),
        new().level(20),
        new().level(-1),
    ];
    for options in bad {
        let refused = repository.backup(&source, &options, &Silent);
        assert!(matches!(refused, Err(repo_core::Error::Usage(_))), "{refused:?}");
    }
    repository
        .backup(&source, &new().pack_data_bytes(1 << 20).read_threads(1).level(0), &Silent)
        .expect("within bounds");
}

/// Files whose reading goes on only when so many are being read at once.
#[derive(Clone)]
struct Crowd {
    files: usize,
    together: usize,
    met: Arc<(Mutex<Met>, Condvar)>,
}

#[derive(Default)]
struct Met {
    now: usize,
    most: usize,
}

/// So large that each is a unit of work of its own, and none is read by the walk.
const CROWD_FILE_BYTES: u64 = 700 << 10;

impl Crowd {
    fn new(files: usize, together: usize) -> Self {
        Self { files, together, met: Arc::default() }
    }

    fn metadata() -> Metadata {
        let time = Timestamp { seconds: 1_000, nanoseconds: 0 };
        Metadata {
            modified: time,
            changed: time,
            inode: 7,
            device: 1,
            size: CROWD_FILE_BYTES,
            ..Metadata::unknown(NodeKind::File, 0o644)
        }
    }
}

impl Source for Crowd {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(self.clone()))
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        vec![b"/crowd".to_vec()]
    }
}

impl SourceDirectory for Crowd {
    fn entries(&self) -> io::Result<Entries> {
        Ok(Box::new((0..self.files).map(|number| {
            let name = format!("{number:03}").into_bytes();
            Ok(SourceEntry { name, metadata: Self::metadata(), descend: true })
        })))
    }

    fn open_directory(&self, _: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    fn open_file(&self, _: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
        let (met, more) = &*self.met;
        let mut met = met.lock().expect("nobody panics");
        met.now += 1;
        met.most = met.most.max(met.now);
        more.notify_all();
        // Whoever has met the others once goes on, so that the last few need not wait. The patience is for failing.
        let patience = Duration::from_secs(20);
        let (_met, waited) =
            more.wait_timeout_while(met, patience, |met| met.most < self.together).expect("nobody panics");
        match waited.timed_out() {
            true => Err(io::Error::other("too few files are read at once")),
            false => Ok(Box::new(Member(self.clone()))),
        }
    }

    fn details(&self, _: &SourceEntry) -> io::Result<Details> {
        Ok(Details::default())
    }
}

/// A file being read.
struct Member(Crowd);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.met.0.lock().expect("nobody panics").now -= 1;
    }
}

impl SourceFile for Member {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min((CROWD_FILE_BYTES - offset) as usize);
        buffer[..length].fill(7);
        Ok(length)
    }

    fn metadata(&mut self) -> io::Result<Metadata> {
        Ok(Crowd::metadata())
    }

    fn details(&mut self) -> io::Result<Details> {
        Ok(Details::default())
    }
}

#[test]
fn as_many_files_are_read_at_once_as_asked_for_and_no_more() {
    let (secret, _) = Secret::generate_key().expect("randomness");
    let repository = Repository::init(Arc::new(Memory::new()), &secret, &InitOptions::new()).expect("a repository");
    for (threads, files_at_once) in [(1, 5), (4, 1), (2, 2)] {
        let source = Crowd::new(12, files_at_once);
        let options = BackupOptions::new().full().read_threads(files_at_once);
        let report = repository.with_threads(threads).backup(&source, &options, &Silent).expect("a snapshot");
        assert_eq!(report.summary.problems, 0, "{threads} threads, {files_at_once} files");
        assert_eq!(source.met.0.lock().expect("nobody panics").most, files_at_once, "{threads} threads");
    }
}

#[test]
fn read_concurrency_is_the_number_of_reading_threads() {
    let cli = Cli::new();
    let readers = |flags: &[&str], variable: Option<&str>| {
        let mut command = cli.command(&[&["backup", "--stdin", "--threads", "2"], flags].concat());
        variable.map(|value| command.env("ICECORE_READ_CONCURRENCY", value));
        // It waits for its standard input, and meanwhile its threads can be counted.
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("piped");
        let started = Instant::now();
        let names = loop {
            let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
            let names: Vec<String> =
                tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect();
            // The last that is started. A thread is called as the program until it says its own name.
            let unnamed = names.iter().filter(|name| name.trim() == "icecore").count();
            if names.iter().any(|name| name.trim() == "upload") && unnamed <= 1 {
                break names;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "no backup began: {names:?}");
            std::thread::sleep(Duration::from_millis(5));
        };
        stdin.write_all(b"content").expect("it reads");
        drop(stdin);
        end(child).succeeds();
        names.iter().filter(|name| name.trim() == "read").count()
    };
    assert_eq!(readers(&[], None), 2, "as many as there are threads");
    assert_eq!(readers(&["--read-concurrency", "7"], None), 7);
    assert_eq!(readers(&[], Some("5")), 5);
    assert_eq!(readers(&["--read-concurrency", "1"], Some("5")), 1, "the command line goes before the environment");
}

#[test]
fn the_parent_is_the_newest_that_has_in_common_what_group_by_says() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.write("elsewhere/a", "one");
    let parent = |arguments: &[&str]| {
        cli.run(&[&["backup"], arguments].concat()).succeeds();
        let list = cli.json(&["snapshots"]).remove(0);
        let parent = list.as_array().and_then(|list| list.last()).expect("a snapshot")["parent"].clone();
        parent.as_str().map(str::to_owned)
    };
    let first = cli.backup(&["--host", "one", "--tag", "x,y"]);
    // By default, and said: host and paths.
    assert_eq!(parent(&["elsewhere", "--host", "one"]), None);
    assert_eq!(parent(&["source", "--host", "one", "--group-by", "host,paths", "--tag", "z"]), Some(first.clone()));
    // Of the tags alone, in whatever order.
    assert_eq!(parent(&["elsewhere", "--host", "two", "-g", "tags", "--tag", "y,x"]), Some(first.clone()));
    let second = cli.backup(&["--host", "one"]);
    assert_eq!(parent(&["elsewhere", "source", "--host", "one", "--group-by", "host"]), Some(second.clone()));
    assert_eq!(parent(&["elsewhere", "--host", "three", "--group-by", "host"]), None);
    let last = cli.backup(&["--host", "four"]);
    assert_eq!(parent(&["elsewhere", "--host", "five", "--group-by", ""]), Some(last));
    // The base of a differential one is the last full of the group.
    let full = cli.backup(&["--host", "six", "--full"]);
    cli.backup(&["--host", "six"]);
    assert_eq!(parent(&["elsewhere", "--host", "six", "--differential", "--group-by", "host"]), Some(full));
}

#[test]
fn ignoring_ctime_takes_a_file_whose_other_times_and_size_are_the_same() {
    let cli = Cli::new();
    let content = || cli.run(&["dump", "latest", "/source/a"]).succeeds().out;
    cli.write("source/a", "first");
    date(&cli.path("source/a"), long_ago());
    cli.backup(&[]);
    cli.write("source/a", "other");
    date(&cli.path("source/a"), long_ago());
    cli.backup(&["--ignore-ctime"]);
    assert_eq!(content(), "first", "what the flag says that it does not notice");
    cli.backup(&["--full", "--ignore-ctime"]);
    assert_eq!(content(), "other");
    // What size and time tell is noticed all the same.
    cli.write("source/a", "longer");
    date(&cli.path("source/a"), long_ago());
    cli.backup(&["--ignore-ctime"]);
    assert_eq!(content(), "longer");
}

#[test]
fn ignoring_inodes_takes_a_file_that_another_replaced() {
    let cli = Cli::new();
    let content = || cli.run(&["dump", "latest", "/source/a"]).succeeds().out;
    cli.write("source/a", "first");
    date(&cli.path("source/a"), long_ago());
    let parent = cli.backup(&[]);
    cli.write("new", "other");
    date(&cli.path("new"), long_ago());
    fs::rename(cli.path("new"), cli.path("source/a")).expect("files of ours");
    cli.backup(&["--parent", &parent, "--ignore-ctime"]);
    assert_eq!(content(), "other", "another inode");
    cli.backup(&["--parent", &parent, "--ignore-inode"]);
    assert_eq!(content(), "first", "what the flag says that it does not notice");
    cli.backup(&["--full", "--ignore-inode"]);
    assert_eq!(content(), "other");
    cli.command(&["backup", "source", "--parent", &parent]).env("ICECORE_IGNORE_INODE", "true").run().succeeds();
    assert_eq!(content(), "first", "by the variable");
}

#[test]
fn force_reads_what_seems_unchanged() {
    let cli = Cli::new();
    cli.write("source/a", "first");
    date(&cli.path("source/a"), long_ago());
    cli.backup(&[]);
    cli.write("source/a", "other");
    date(&cli.path("source/a"), long_ago());
    for force in ["--force", "-f"] {
        cli.backup(&["--ignore-ctime", force]);
        assert_eq!(cli.run(&["dump", "latest", "/source/a"]).succeeds().out, "other", "{force}");
    }
}

#[test]
fn access_times_are_recorded_only_if_asked_for() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    let accessed = |flags: &[&str]| {
        date(&cli.path("source/a"), long_ago());
        cli.backup(&[&["--full"], flags].concat());
        cli.json(&["ls", "latest", "/source/a"]).pop().expect("a node")["atime"].as_str().map(str::to_owned)
    };
    assert_eq!(accessed(&[]), None);
    assert!(accessed(&["--with-atime"]).expect("recorded").starts_with("2017-07-14T02:40:00"));
}

#[test]
fn snapshots_are_grouped_by_any_of_three_and_chosen_by_tag_and_path() {
    let cli = Cli::new();
    cli.write("elsewhere/a", "one");
    cli.backup(&["--tag", "x,y"]);
    cli.backup(&["--tag", "x"]);
    cli.run(&["backup", "elsewhere"]).succeeds();
    let groups = |by: &str| cli.json(&["snapshots", "--group-by", by])[0].as_array().cloned().expect("an array");
    assert_eq!(groups("host").len(), 1);
    assert_eq!(groups("paths").len(), 2);
    assert_eq!(groups("host,paths,tags").len(), 3);
    assert_eq!(groups("tags").iter().filter(|group| group["group_key"]["tags"][0] == "x").count(), 2);
    assert!(groups("")[0].get("group_key").is_none(), "no groups, as without the flag");
    let count = |flags: &[&str]| cli.json(&[&["snapshots"], flags].concat())[0].as_array().map(Vec::len);
    assert_eq!(count(&["--tag", "x"]), Some(2));
    assert_eq!(count(&["--tag", "x,y"]), Some(1));
    assert_eq!(count(&["--tag", ""]), Some(1));
    assert_eq!(count(&["--path", "elsewhere"]), Some(1));
    assert_eq!(count(&["--latest", "1"]), Some(2));
    assert_eq!(count(&["--latest", "2", "--tag", "x"]), Some(2));
}

#[test]
fn ls_sorts_by_each_of_its_words() {
    let cli = Cli::new();
    for (name, length, days) in [("b.x", 1, 3), ("a.z", 3, 2), ("c.y", 2, 1)] {
        cli.write(&format!("source/{name}"), vec![7; length]);
        date(&cli.path(&format!("source/{name}")), long_ago() + Duration::from_secs(86_400 * days));
    }
    cli.backup(&["--with-atime"]);
    let names = |flags: &[&str]| {
        let out = cli.run(&[&["ls", "latest", "/source"], flags].concat()).succeeds().out;
        out.lines()
            .filter_map(|line| line.strip_prefix("/source/"))
            .map(|line| line[..1].to_owned())
            .collect::<String>()
    };
    assert_eq!(names(&["--sort", "name"]), "abc");
    assert_eq!(names(&["-s", "size"]), "acb");
    assert_eq!(names(&["--sort", "time"]), "bac");
    assert_eq!(names(&["--sort", "atime"]), "bac");
    assert_eq!(names(&["--sort", "extension"]), "bca");
    assert_eq!(names(&["--sort", "time", "--reverse"]), "cab");
    // Written in this order, so changed in this order.
    assert_eq!(names(&["--sort", "ctime"]).len(), 3);
    cli.run(&["ls", "latest", "--sort", "colour"]).fails(1, &["invalid value 'colour'"]);
}

#[test]
fn restore_lets_in_and_leaves_out_by_patterns_of_each_spelling() {
    let cli = Cli::new();
    for name in ["a.TXT", "b.txt", "c.log"] {
        cli.write(&format!("source/{name}"), name);
    }
    cli.backup(&[]);
    cli.write("patterns", "# texts\n*.txt\n");
    let restored = |flag: &str, value: &str| {
        let target = format!("target{flag}");
        cli.run(&["restore", "latest:/source", "-t", &target, flag, value]).succeeds();
        let mut names: Vec<_> = fs::read_dir(cli.path(&target))
            .expect("it was made")
            .map(|entry| entry.expect("listed").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    };
    assert_eq!(restored("--exclude", "*.txt"), ["a.TXT", "c.log"]);
    assert_eq!(restored("--iexclude", "*.txt"), ["c.log"]);
    assert_eq!(restored("--exclude-file", "patterns"), ["a.TXT", "c.log"]);
    assert_eq!(restored("--iexclude-file", "patterns"), ["c.log"]);
    assert_eq!(restored("--include", "*.txt"), ["b.txt"]);
    assert_eq!(restored("--iinclude", "*.txt"), ["a.TXT", "b.txt"]);
    assert_eq!(restored("--include-file", "patterns"), ["b.txt"]);
    assert_eq!(restored("--iinclude-file", "patterns"), ["a.TXT", "b.txt"]);
    let both = ["restore", "latest", "-t", "x", "--iinclude", "a", "--exclude-file", "patterns"];
    cli.run(&both).fails(1, &["cannot be used together"]);
}

#[test]
fn extended_attributes_are_restored_by_their_names() {
    let cli = Cli::new();
    if !Abilities::of(&cli.path(".")).user_xattrs {
        return skip("xattrs", "this file system keeps none");
    }
    let set = |file: &str, name: &str, value: &str| {
        rustix::fs::setxattr(cli.path(file), name, value.as_bytes(), XattrFlags::empty()).expect("it can be set");
    };
    let value = |file: &str, name: &str| {
        let mut buffer = [0; 64];
        let length = rustix::fs::getxattr(cli.path(file), name, &mut buffer[..]).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    cli.write("source/a", "one");
    set("source/a", "user.color", "red");
    set("source/a", "user.shape", "round");
    cli.backup(&[]);
    let restored = |target: &str, flags: &[&str]| {
        cli.run(&[&["restore", "latest:/source", "-t", target], flags].concat()).succeeds();
        let file = format!("{target}/a");
        (value(&file, "user.color"), value(&file, "user.shape"))
    };
    let (red, round) = (Some("red".to_owned()), Some("round".to_owned()));
    assert_eq!(restored("all", &[]), (red.clone(), round.clone()));
    assert_eq!(restored("some", &["--include-xattr", "user.c*"]), (red.clone(), None));
    assert_eq!(restored("others", &["--exclude-xattr", "user.c*"]), (None, round.clone()));
    assert_eq!(restored("none", &["--exclude-xattr", "user.shape", "--exclude-xattr", "user.color"]), (None, None));
    assert_eq!(
        restored("two", &["--include-xattr", "user.shape", "--include-xattr", "user.color"]),
        (red, round.clone())
    );
    // What is not chosen stays as it is in the target, changed there or not in the snapshot at all.
    set("all/a", "user.color", "blue");
    set("all/a", "user.extra", "mine");
    set("all/a", "user.shape", "square");
    let flags = ["--exclude-xattr", "user.color", "--exclude-xattr", "user.extra"];
    assert_eq!(restored("all", &flags), (Some("blue".into()), round));
    assert_eq!(value("all/a", "user.extra").as_deref(), Some("mine"));
    assert_eq!(restored("all", &["--include-xattr", "user.color"]).0.as_deref(), Some("red"));
    assert_eq!(value("all/a", "user.extra").as_deref(), Some("mine"));
    restored("all", &[]);
    assert_eq!(value("all/a", "user.extra"), None, "without the flags the snapshot alone counts");
}

/// A file of an owner whose number here is another.
#[derive(Clone)]
struct Foreign;

impl Foreign {
    fn metadata() -> Metadata {
        Metadata { uid: 54_321, gid: 54_321, user: b"daemon".to_vec(), group: b"daemon".to_vec(), ..Crowd::metadata() }
    }
}

impl Source for Foreign {
    fn root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(self.clone()))
    }

    fn paths(&self) -> Vec<Vec<u8>> {
        vec![b"/file".to_vec()]
    }
}

impl SourceDirectory for Foreign {
    fn entries(&self) -> io::Result<Entries> {
        let entry = SourceEntry { name: b"file".to_vec(), metadata: Self::metadata(), descend: true };
        Ok(Box::new([Ok(entry)].into_iter()))
    }

    fn open_directory(&self, _: &SourceEntry) -> io::Result<Arc<dyn SourceDirectory>> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    fn open_file(&self, _: &SourceEntry) -> io::Result<Box<dyn SourceFile>> {
        Ok(Box::new(self.clone()))
    }

    fn details(&self, _: &SourceEntry) -> io::Result<Details> {
        Ok(Details::default())
    }
}

impl SourceFile for Foreign {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        io::repeat(7).take(CROWD_FILE_BYTES.saturating_sub(offset)).read(buffer)
    }

    fn metadata(&mut self) -> io::Result<Metadata> {
        Ok(Self::metadata())
    }

    fn details(&mut self) -> io::Result<Details> {
        Ok(Details::default())
    }
}

#[test]
fn owners_are_found_by_name_only_if_asked_for() {
    if !is_root() {
        return skip("owners", "only root gives files away");
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let Some(daemon) =
        users.lines().find_map(|line| line.strip_prefix("daemon:")?.split(':').nth(1)?.parse::<u32>().ok())
    else {
        return skip("owners", "there is no user `daemon`");
    };
    let cli = Cli::new();
    let secret = Secret::from_key_file(&cli.read("key")).expect("a key file");
    let repository = Repository::open(Arc::new(Local::new(cli.path("repo"))), &secret).expect("it opens");
    repository.backup(&Foreign, &BackupOptions::new(), &Silent).expect("a snapshot");
    let owner = |target: &str, flags: &[&str]| {
        cli.run(&[&["restore", "latest", "-t", target], flags].concat()).succeeds();
        fs::metadata(cli.path(target).join("file")).expect("it is there").uid()
    };
    assert_eq!(owner("by-number", &[]), 54_321);
    assert_eq!(owner("by-name", &["--ownership-by-name"]), daemon);
}
