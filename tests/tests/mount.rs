//! Snapshots as directories of the system: the same in everything as what was backed up, to any program, and gone without
//! a trace at the end. Real mounts: as root, where there is /dev/fuse.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use icecore_tests::cli::{Cli, Run, Runs, end};
use icecore_tests::compare::{Compared, assert_same};
use icecore_tests::damage::{Damage, Kind, damage, of_kind};
use icecore_tests::privilege::{NOBODY, is_root, skip};
use icecore_tests::process::wait_for;
use icecore_tests::tree::{self, Dice, Planner};
use icecore_tests::whole::noise;
use repo_core::Local;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A mounted repository. However its test ends, nothing stays mounted.
struct Mounted {
    child: Option<Child>,
    at: PathBuf,
}

impl Mounted {
    /// Mounts the room's repository; `None`, and said so, where that is not possible.
    fn new(cli: &Cli, arguments: &[&str]) -> Option<Self> {
        if !is_root() {
            skip("fuse", "only root mounts");
            return None;
        }
        if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
            skip("fuse", &format!("/dev/fuse: {error}"));
            return None;
        }
        let at = cli.path("mounted");
        fs::create_dir_all(&at).expect("a directory of ours");
        let mut command = cli.command(&[&["--json", "mount", "mounted"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut line = String::new();
        // Byte by byte: what comes after this line is read at the end.
        let mut out = child.stdout.take().expect("piped");
        let mut byte = [0];
        while out.read(&mut byte).expect("a pipe") == 1 && byte[0] != b'\n' {
            line.push(char::from(byte[0]));
        }
        child.stdout = Some(out);
        let mounted = Self { child: Some(child), at };
        if line.is_empty() {
            let run = mounted.ends();
            assert!(run.error.contains("not permitted"), "it does not mount: {run:?}");
            skip("fuse", &run.error);
            return None;
        }
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["message_type"], "mounted");
        assert_eq!(line["mount_point"].as_str().map(Path::new), Some(&*mounted.at));
        Some(mounted)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.at.join(path)
    }

    fn names(&self, path: &str) -> Vec<String> {
        names(&self.path(path))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a child of ours");
    }

    fn is_mounted(&self) -> bool {
        is_mounted(&self.at)
    }

    /// Waits for its end.
    fn ends(mut self) -> Run {
        end(self.child.take().expect("it runs"))
    }

    /// Ends it, and gives what it said on the way.
    fn ended(self) -> Run {
        self.signal(Signal::INT);
        let at = self.at.clone();
        let run = self.ends();
        assert!(!is_mounted(&at));
        run.ends(0)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if is_mounted(&self.at) {
            Command::new("umount").arg("-l").arg(&self.at).status().ok();
        }
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn is_mounted(at: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("Linux");
    mounts.lines().any(|line| line.split(' ').nth(1) == at.to_str())
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Runs a program of the system that must do its work without a word of complaint.
fn works(program: &str, arguments: &[&OsStr]) -> String {
    let run = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let complaint = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && complaint.is_empty(), "{program} {arguments:?}: {}\n{complaint}", run.status);
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// Takes flags off what a test grew, or it would stay for ever.
struct Soft(PathBuf);

impl Drop for Soft {
    fn drop(&mut self) {
        tree::soften(&self.0);
    }
}

/// A room with one of everything in its source.
fn everything() -> (Cli, Soft) {
    everything_but(b"")
}

/// The same without what stands at the top by this name.
fn everything_but(left_out: &[u8]) -> (Cli, Soft) {
    let cli = Cli::new();
    let soft = Soft(cli.path("source"));
    let mut planned = Planner::new(&cli.path("source"), &[32 << 10, 128 << 10, 1 << 20]).everything();
    if let tree::Kind::Directory(entries) = &mut planned.kind {
        entries.remove(left_out);
    }
    fs::remove_dir(cli.path("source")).expect("empty");
    tree::grow(&cli.path("source"), &planned).expect("a tree within what this place can do");
    cli.run(&["backup", "source"]).succeeds();
    (cli, soft)
}

#[test]
fn a_mounted_snapshot_is_the_source_in_everything() {
    let (cli, _soft) = everything();
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    // In all: modes, owners, nanoseconds, attributes, flags, devices, links, holes, bytes.
    let source = mounted.path("snapshots/latest/source");
    assert_same(&cli.path("source"), &source, Compared::default());
    for name in ["several MiB", "empty file", "size 00000512"] {
        let (there, here) =
            (source.join(name).metadata().expect(name), cli.path("source").join(name).metadata().expect(name));
        assert_eq!(there.size(), here.size());
        assert_eq!(there.blocks(), here.size().div_ceil(512), "{name}");
    }
    // Each place of a snapshot shows the same.
    let id = mounted.names("ids").pop().expect("a snapshot");
    let host = mounted.names("hosts").pop().expect("a host");
    for place in [format!("ids/{id}"), format!("hosts/{host}/latest")] {
        assert_eq!(names(&mounted.path(&place).join("source")), names(&cli.path("source")), "{place}");
    }
    let run = mounted.ended();
    assert_eq!(run.error, "");
}

#[test]
fn cp_makes_a_copy_that_is_the_source() {
    // A path of more than 4096 bytes is too long for cp, wherever it is.
    let (cli, _soft) = everything_but(b"deep");
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    let _copy = Soft(cli.path("copy"));
    let from = mounted.path("snapshots/latest/source");
    works("cp", &["-a".as_ref(), from.as_os_str(), cli.path("copy").as_os_str()]);
    // cp knows nothing of inode flags, and makes holes of written zeros where a file has holes already.
    let compared = Compared { flags: false, holes: false, ..Compared::default() };
    assert_same(&cli.path("source"), &cli.path("copy"), compared);
    assert_eq!(mounted.ended().error, "");
}

#[test]
fn rsync_makes_a_copy_that_is_the_source_and_then_finds_nothing_to_do() {
    if Command::new("rsync").arg("--version").output().is_err() {
        return skip("rsync", "it is not installed");
    }
    let (cli, _soft) = everything_but(b"deep");
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    let _copy = Soft(cli.path("copy"));
    let from = mounted.path("snapshots/latest/source/");
    let to = cli.path("copy");
    let sync = |more: &str| works("rsync", &["-aHAXS".as_ref(), more.as_ref(), from.as_os_str(), to.as_os_str()]);
    sync("-q");
    let compared = Compared { flags: false, holes: false, ..Compared::default() };
    assert_same(&cli.path("source"), &to, compared);
    assert_eq!(sync("-i"), "", "nothing differs");
}

#[test]
fn grep_finds_the_same_as_in_the_source() {
    let cli = Cli::new();
    for number in 0..300 {
        cli.write(
            &format!("source/{:02}/{number}.txt", number % 20),
            format!("line\nneedle {number}\n").repeat(number),
        );
    }
    cli.backup(&[]);
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    let found = |at: &Path| -> BTreeSet<String> {
        let lines = works("grep", &["-rc".as_ref(), "needle".as_ref(), at.as_os_str()]);
        lines.lines().map(|line| line.replace(at.to_str().expect("text"), "")).collect()
    };
    assert_eq!(found(&mounted.path("snapshots/latest/source")), found(&cli.path("source")));
}

#[test]
fn ranges_at_any_place_are_those_of_the_source() {
    let cli = Cli::new();
    cli.write("source/large", noise(1, 20_000_000));
    cli.write("source/small", "few");
    cli.backup(&[]);
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    let mut dice = Dice::new(7);
    for name in ["large", "small"] {
        let there = File::open(mounted.path("snapshots/latest/source").join(name)).expect("it opens");
        let here = File::open(cli.path("source").join(name)).expect("it opens");
        let size = here.metadata().expect("it is there").len();
        for _ in 0..100 {
            let (offset, length) = (dice.below(size + 5), dice.below(600_000) as usize);
            let read = |file: &File| {
                let mut bytes = vec![0; length];
                let mut count = 0;
                while let Ok(more @ 1..) = file.read_at(&mut bytes[count..], offset + count as u64) {
                    count += more;
                }
                bytes.truncate(count);
                bytes
            };
            assert!(read(&there) == read(&here), "{name}: {length} bytes at {offset}");
        }
    }
    // Nothing can be changed.
    let file = mounted.path("snapshots/latest/source/small");
    assert_eq!(fs::write(&file, "x").expect_err("read-only").kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(fs::remove_file(&file).is_err() && fs::create_dir(mounted.path("new")).is_err());
}

/// By what the process itself counts of all that it reads, the kernel's questions included.
#[test]
fn a_piece_of_a_large_file_costs_a_piece_of_it() {
    let cli = Cli::new();
    cli.write("source/large", noise(2, 60_000_000));
    cli.backup(&[]);
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    let read_bytes = || -> u64 {
        let told = fs::read_to_string(format!("/proc/{}/io", mounted.pid())).expect("of our child");
        let line = told.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("proc(5)");
        line.parse().expect("a number")
    };
    let file = File::open(mounted.path("snapshots/latest/source/large")).expect("it opens");
    let before = read_bytes();
    let mut piece = [0; 4096];
    file.read_exact_at(&mut piece, 30_000_000).expect("it is read");
    let cost = read_bytes() - before;
    assert!((4096..6_000_000).contains(&cost), "{cost} bytes for 4 KiB of 60 MB");
}

#[test]
fn names_of_one_file_are_one_file() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.write("source/deep/c", "one");
    fs::hard_link(cli.path("source/a"), cli.path("source/deep/b")).expect("a link");
    cli.backup(&[]);
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    let look = |name: &str| mounted.path("snapshots/latest/source").join(name).metadata().expect(name);
    assert_eq!((look("a").ino(), look("a").nlink()), (look("deep/b").ino(), 2));
    assert_ne!(look("a").ino(), look("deep/c").ino());
    // du counts a file once, by whichever name it meets it: two files of three bytes.
    let source = mounted.path("snapshots/latest/source");
    let bytes = works("du", &["-s".as_ref(), "-b".as_ref(), source.as_os_str()]);
    assert_eq!(bytes.split('\t').next(), Some("6"), "{bytes}");
}

#[test]
fn a_directory_of_many_pages_is_listed_once_and_whole() {
    let cli = Cli::new();
    let expected: BTreeSet<String> = (0..6000).map(|number| format!("entry-{number:05}")).collect();
    fs::create_dir(cli.path("source/many")).expect("ours");
    expected.iter().for_each(|name| File::create(cli.path("source/many").join(name)).map(drop).expect("ours"));
    cli.backup(&[]);
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    let many = mounted.path("snapshots/latest/source/many");
    for _ in 0..2 {
        let names = names(&many);
        assert_eq!(names.len(), 6000);
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    // With attributes, which the kernel asks for in another way; and from two readers at once.
    let long = || works("ls", &["-l".as_ref(), many.as_os_str()]).lines().count();
    let (left, right) = std::thread::scope(|scope| {
        let other = scope.spawn(long);
        (long(), other.join().expect("it reads"))
    });
    assert_eq!((left, right), (6001, 6001));
}

#[test]
fn snapshots_come_and_go_while_mounted() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    let first = cli.backup(&["--time", "2026-01-02 03:04:05"]);
    let Some(mounted) = Mounted::new(&cli, &["--path-template", "%i", "--path-template", "%T"]) else { return };
    let time = "2026-01-02T03:04:05Z";
    let mut expected = [&first[..8], time, "latest"];
    expected.sort_unstable();
    assert_eq!(mounted.names(""), expected);
    assert_eq!(fs::read(mounted.path("latest/source/a")).expect("there"), b"one");
    cli.write("source/a", "two");
    let second = cli.backup(&["--time", "2026-02-03"]);
    wait_for(|| mounted.path(&second[..8]).join("source").exists());
    wait_for(|| fs::read(mounted.path("latest/source/a")).is_ok_and(|bytes| bytes == b"two"));
    assert_eq!(fs::read_link(mounted.path("latest")).expect("a link"), Path::new("2026-02-03T00:00:00Z"));
    cli.run(&["forget", &first]).succeeds();
    wait_for(|| !mounted.path(time).exists() && !mounted.names("").contains(&first[..8].to_owned()));
    assert_eq!(mounted.ended().error, "");
}

#[test]
fn places_are_as_the_templates_say_and_filters_hold() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&["--host", "laptop", "--tag", "x,y", "--time", "2026-01-02 03:04:05"]);
    cli.backup(&["--host", "../server", "--tag", "x", "--time", "2026-01-02 03:04:05"]);
    cli.backup(&["--host", "other", "--time", "2026-01-02 03:04:05"]);
    if let Some(mounted) = Mounted::new(&cli, &[]) {
        let time = "2026-01-02T03:04:05Z";
        assert_eq!(mounted.names(""), ["hosts", "ids", "snapshots", "tags"]);
        assert_eq!(mounted.names("hosts"), [".._server", "laptop", "other"]);
        assert_eq!(mounted.names("tags"), ["x", "y"]);
        assert_eq!(mounted.names("tags/x"), [time.to_owned(), format!("{time}-1"), "latest".to_owned()]);
        assert_eq!(mounted.names("snapshots").len(), 4);
        assert_eq!(fs::read_link(mounted.path("tags/y/latest")).expect("a link"), Path::new(time));
        assert!(mounted.names("ids").iter().all(|id| id.len() == 8));
        mounted.ended();
    }
    let more = ["--host", "laptop", "--path-template", "by/%h-%u/%T", "--time-template", "%Y/%m", "--owner-root"];
    if let Some(mounted) = Mounted::new(&cli, &more) {
        let by = mounted.names("by").pop().expect("one host");
        assert!(by.starts_with("laptop-"), "{by}");
        assert_eq!(mounted.names(&format!("by/{by}")), ["2026", "latest"]);
        let month = format!("by/{by}/2026/01");
        assert_eq!(fs::read_link(mounted.path(&format!("by/{by}/latest"))).expect("a link"), Path::new("2026/01"));
        assert_eq!(mounted.names(&month), ["source"]);
        assert_eq!(mounted.path(&month).join("source/a").metadata().expect("there").uid(), 0);
    }
    for bad in [["--path-template", "%x"], ["--path-template", "fixed"], ["--time-template", "%"]] {
        cli.run(&[&["mount", "source"], &bad[..]].concat()).fails(1, &["template", bad[1]]);
    }
}

#[test]
fn what_is_damaged_is_an_error_and_named_and_the_rest_is_read() {
    let cli = Cli::new();
    let init = ["init", "-r", "plain", "--new-key-file", "key2", "--parity", "0"];
    cli.command(&init).env_remove("ICECORE_KEY_FILE").run().succeeds();
    let plain = ["-r", "plain", "--key-file", "key2"];
    cli.write("source/good", "inline");
    cli.write("source/bad", noise(3, 300_000));
    cli.run(&[&["backup", "source"], &plain[..]].concat()).succeeds();
    let place = Local::new(cli.path("plain"));
    for pack in of_kind(&place, Kind::DataPack) {
        damage(&place, &pack, Damage::Truncate { keep_percent: 50 });
    }
    let Some(mounted) = Mounted::new(&cli, &plain) else { return };
    let source = mounted.path("snapshots/latest/source");
    assert_eq!(fs::read(source.join("good")).expect("whole"), b"inline");
    for _ in 0..2 {
        let error = fs::read(source.join("bad")).expect_err("damaged");
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
    }
    assert_eq!(source.join("bad").metadata().expect("it can be looked at").len(), 300_000);
    let told = mounted.ended().error_json();
    assert_eq!(told.len(), 1, "once: {told:?}");
    assert_eq!((&told[0]["message_type"], &told[0]["during"]), (&"error".into(), &"mount".into()));
    assert!(told[0]["item"].as_str().is_some_and(|item| item.ends_with("/source/bad")), "{told:?}");
    assert!(told[0]["error"]["message"].as_str().is_some_and(|message| message.contains("lost")), "{told:?}");
}

#[test]
fn signals_end_it_and_nothing_stays_mounted() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    // Who runs this may have said that hangups do not matter, as nohup does.
    let hangs_up = !repo_core::system::ignores_signal(Signal::HUP.as_raw());
    for signal in [Signal::INT, Signal::TERM].into_iter().chain(hangs_up.then_some(Signal::HUP)) {
        let Some(mounted) = Mounted::new(&cli, &[]) else { return };
        assert_eq!(fs::read(mounted.path("snapshots/latest/source/a")).expect("there"), b"one");
        mounted.signal(signal);
        let run = mounted.ends().ends(0);
        assert!(!is_mounted(&cli.path("mounted")), "{signal:?}");
        assert_eq!(run.json().pop().expect("a last line")["message_type"], "unmounted");
        assert_eq!(names(&cli.path("mounted")), [""; 0]);
    }
}

#[test]
fn in_use_it_is_gone_for_new_ones_and_ends_with_the_last_one() {
    let cli = Cli::new();
    cli.write("source/a", noise(4, 1_000_000));
    cli.backup(&[]);
    let Some(mut mounted) = Mounted::new(&cli, &[]) else { return };
    let open = File::open(mounted.path("snapshots/latest/source/a")).expect("there");
    mounted.signal(Signal::INT);
    wait_for(|| !mounted.is_mounted());
    let mut bytes = vec![0; 1_000_000];
    open.read_exact_at(&mut bytes, 0).expect("who is in it goes on");
    assert!(bytes == noise(4, 1_000_000));
    assert!(mounted.child.as_mut().expect("it runs").try_wait().expect("a child of ours").is_none());
    drop(open);
    let run = mounted.ends().ends(0);
    assert!(run.error.contains("in use"), "{}", run.error);
    // And at once if asked twice.
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    let _open = File::open(mounted.path("snapshots/latest/source/a")).expect("there");
    mounted.signal(Signal::TERM);
    wait_for(|| !mounted.is_mounted());
    mounted.signal(Signal::TERM);
    mounted.ends().ends(130);
}

#[test]
fn an_unmount_from_outside_ends_it() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    mounted.names("snapshots");
    works("umount", &[mounted.at.as_os_str()]);
    let run = mounted.ends().ends(0);
    assert_eq!(run.json().pop().expect("a last line")["message_type"], "unmounted");
}

/// It once unmounted by the path again at its end, which would have taken away what lay below.
#[test]
fn what_was_mounted_there_before_stays() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    fs::create_dir(cli.path("mounted")).expect("ours");
    let below = ["-t", "tmpfs", "icecore-below"].map(OsStr::new);
    let at = cli.path("mounted");
    if !is_root() || !Command::new("mount").args(below).arg(&at).status().is_ok_and(|status| status.success()) {
        return skip("tmpfs", "a file system in memory cannot be mounted here");
    }
    /// Takes the lower one away.
    struct Below(PathBuf);
    impl Drop for Below {
        fn drop(&mut self) {
            Command::new("umount").arg("-l").arg(&self.0).status().ok();
        }
    }
    let _below = Below(at.clone());
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    works("umount", &[mounted.at.as_os_str()]);
    let mut mounted = mounted;
    end(mounted.child.take().expect("it runs")).ends(0);
    assert!(is_mounted(&at), "the lower one");
    // Or the guard would take the lower one in its place.
    std::mem::forget(mounted);
}

#[test]
fn what_a_killed_one_leaves_is_named_and_can_be_taken_away() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    let Some(mut mounted) = Mounted::new(&cli, &[]) else { return };
    mounted.signal(Signal::KILL);
    end(mounted.child.take().expect("it runs"));
    assert!(mounted.is_mounted(), "nobody was there to unmount it");
    cli.run(&["mount", "mounted"]).fails(1, &["was killed", "umount"]);
    works("umount", &[mounted.at.as_os_str()]);
    let Some(again) = Mounted::new(&cli, &[]) else { return };
    again.ended();
}

#[test]
fn a_place_that_is_none_is_refused_before_anything_is_asked() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    symlink("source", cli.path("link")).expect("ours");
    cli.run(&["mount", "none"]).fails(1, &["there is no directory none", "mkdir none"]);
    cli.run(&["mount", "source"]).fails(1, &["source is not empty", "hidden"]);
    cli.run(&["mount", "link"]).fails(1, &["link is not empty"]);
    cli.run(&["mount", "key"]).fails(1, &["key is not a directory"]);
    cli.run(&["mount"]).fails(1, &["<DIRECTORY>"]);
    // Who may not open the device is told so.
    fs::create_dir(cli.path("empty")).expect("ours");
    let mut command = cli.command_as_nobody(&["mount", "empty"]);
    let may = fs::metadata("/dev/fuse").is_ok_and(|device| device.permissions().mode() & 0o006 == 0o006);
    if is_root() && !may {
        command.run().fails(1, &["/dev/fuse", "hint:"]);
    }
}

#[test]
fn others_see_what_they_are_allowed_to() {
    let cli = Cli::new();
    for (name, mode) in [("open", 0o644), ("secret", 0o600), ("kept-out", 0o660)] {
        cli.write(&format!("source/{name}"), name);
        fs::set_permissions(cli.path("source").join(name), fs::Permissions::from_mode(mode)).expect("ours");
    }
    // Its group bits are what an access control list may give at most; nobody's group gets nothing.
    let acl = "u::rw-,u:1:rw-,g::---,m::rw-,o::---";
    let with_acl = is_root()
        && std::os::unix::fs::chown(cli.path("source/kept-out"), None, Some(NOBODY)).is_ok()
        && Command::new("setfacl")
            .args(["--set", acl])
            .arg(cli.path("source/kept-out"))
            .status()
            .is_ok_and(|s| s.success());
    cli.backup(&[]);
    let open_room = || fs::set_permissions(cli.path(""), fs::Permissions::from_mode(0o755)).expect("ours");
    let reads = |mounted: &Mounted, name: &str| {
        let (uid, gid) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        let mut command = Command::new("setpriv");
        command.args([&uid, &gid]).args(["--clear-groups", "cat"]);
        command.arg(mounted.path("snapshots/latest/source").join(name)).output().expect("setpriv runs").status.success()
    };
    for (flags, expected) in [
        (&[][..], [false, false]),
        (&["--allow-other"], [true, false]),
        (&["--allow-other", "--no-default-permissions"], [true, true]),
    ] {
        let Some(mounted) = Mounted::new(&cli, flags) else { return };
        open_room();
        assert_eq!([reads(&mounted, "open"), reads(&mounted, "secret")], expected, "{flags:?}");
        if with_acl {
            assert_eq!(reads(&mounted, "kept-out"), expected[1], "{flags:?}");
        } else {
            skip("acls", "setfacl did nothing");
        }
        mounted.ended();
    }
}

#[test]
fn what_is_said_of_it_is_said_in_words_too() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&[]);
    let Some(mounted) = Mounted::new(&cli, &[]) else { return };
    // What df asks: all of it is used.
    let table = works("df", &["-B1".as_ref(), "--output=size,avail".as_ref(), mounted.at.as_os_str()]);
    assert!(table.trim_end().ends_with("4096     0"), "{table}");
    mounted.ended();
    let mut child = cli.command(&["mount", "mounted"]).stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut said = String::new();
    for _ in 0..2 {
        out.read_line(&mut said).expect("a pipe");
    }
    let guard = Mounted { child: Some(child), at: cli.path("mounted") };
    assert!(said.contains("is mounted on") && said.contains("Ctrl-C ends it"), "{said}");
    assert!(said.contains(&format!("umount {}", guard.at.display())), "{said}");
    guard.ended();
    out.read_to_string(&mut said).expect("a pipe");
    assert!(said.ends_with("is unmounted\n"), "{said}");
}
