//! What is said of damage, and of what is done about it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use icecore_tests::schema::Schema;
use icecore_tests::whole::noise;
use rustix::fs::XattrFlags;

use crate::places::{files, flip};
use crate::Room;

/// Entries of the directory that loses some.
const MANY: usize = 3000;

/// A room with a file, attributes that are stored apart, and a directory of so many entries that they are several objects;
/// its packs have no parity. Then another backup, which shares most.
fn room(schema: &Schema) -> (Room<'_>, [String; 2]) {
    let room = Room::new(schema);
    let cli = &room.cli;
    room.does(&["repair", "parity", "--set", "0%"]);
    cli.write("source/file", noise(1, 100_000));
    let large = [7u8; 3000];
    rustix::fs::setxattr(cli.path("source/file"), "user.large", &large, XattrFlags::empty()).expect("attributes");
    for number in 0..MANY {
        let name = [format!("{number:05} ").as_bytes(), b"\xff"].concat();
        cli.write("source/many/first", "");
        fs::write(cli.path("source/many").join(OsStr::from_bytes(&name)), "").expect("ours");
    }
    let first = room.backup(&["--threads", "1"]);
    // The first of its objects is another now, and the others are as they were.
    fs::remove_file(cli.path("source/many").join(OsStr::from_bytes(b"00000 \xff"))).expect("ours");
    cli.write("source/new", noise(2, 100_000));
    let second = room.backup(&["--threads", "1"]);
    (room, [first, second])
}

/// A copy of the repository, on which something is done.
fn copied(room: &Room<'_>, what: impl FnOnce(&Room<'_>)) {
    let copied = Command::new("cp").args(["-a", "repo", "copy"]).current_dir(room.cli.path("")).status();
    assert!(copied.expect("cp runs").success());
    what(room);
    fs::remove_dir_all(room.cli.path("copy")).expect("ours");
}

fn remove(path: &Path) {
    fs::remove_file(path).expect("ours");
}

const COPY: [&str; 3] = ["-r", "copy", "--no-state"];

/// The command on the copy.
fn on_copy(room: &Room<'_>, code: i32, arguments: &[&str]) -> icecore_tests::cli::Run {
    room.ends(code, &[arguments, &COPY].concat())
}

pub fn run(schema: &Schema) {
    let (room, ids) = room(schema);
    room.does(&["check"]);
    room.does(&["check", "--level", "names"]);
    room.does(&["check", "--read-data"]);
    room.does(&["check", "--time-budget", "0s"]);
    small_objects(&room);
    packs(&room, &ids[0]);
    copied(&room, index);
    copied(&room, parity);
    copied(&room, snapshots);
}

/// One copy of each small object, and what lies where none should.
fn small_objects(room: &Room<'_>) {
    for folder in ["index", "snapshots", "keys", "keyring", "config", "r/snapshots"] {
        copied(room, |room| {
            flip(&files(room, &format!("copy/{folder}"))[0]);
            on_copy(room, 1, &["check", "--read-data"]);
        });
    }
    for folder in ["sessions", "forgotten"] {
        copied(room, |room| {
            fs::create_dir_all(room.cli.path("copy").join(folder)).expect("ours");
            fs::write(room.cli.path("copy").join(folder).join("0".repeat(32)), noise(9, 200)).expect("ours");
            let run = room.cli.run(&["check", "--read-data", "--json", "-r", "copy", "--no-state"]);
            eprintln!("{folder}: {run:?}");
        });
    }
    copied(room, |room| {
        remove(&room.cli.path("copy/format"));
        let run = room.cli.run(&["check", "--read-data", "--json", "-r", "copy", "--no-state"]);
        eprintln!("format: {run:?}");
    });
    copied(room, |room| {
        remove(&files(room, "copy/r/config")[0]);
        on_copy(room, 0, &["repair", "objects", "--dry-run"]);
        on_copy(room, 0, &["repair", "objects"]);
        files(room, "copy/snapshots").iter().chain(&files(room, "copy/r/snapshots")).for_each(|path| flip(path));
        on_copy(room, 1, &["repair", "objects"]);
    });
}

/// Packs of data and of trees, in turn and together, and what repairs make of it.
fn packs(room: &Room<'_>, first: &str) {
    let whole = room.cli.path("repo");
    for kind in ["d", "m"] {
        let count = files(room, &format!("repo/packs/{kind}")).len();
        for number in 0..count {
            copied(room, |room| {
                flip(&files(room, &format!("copy/packs/{kind}"))[number]);
                on_copy(room, 1, &["check", "--read-data"]);
                on_copy(room, 3, &["stats"]);
            });
            copied(room, |room| {
                flip(&files(room, &format!("copy/packs/{kind}"))[number]);
                on_copy(room, 0, &["repair", "packs", "--from", whole.to_str().expect("UTF-8")]);
            });
        }
    }
    copied(room, |room| {
        files(room, "copy/packs/d").iter().for_each(|pack| flip(pack));
        on_copy(room, 1, &["repair", "packs", "--dry-run"]);
        let run = room.cli.run(&["repair", "packs", "--json", "-r", "copy", "--no-state"]);
        eprintln!("{run:?}");
        on_copy(room, 0, &["repair", "snapshots", "--dry-run"]);
        on_copy(room, 0, &["repair", "snapshots", "--forget"]);
        on_copy(room, 1, &["restore", first, "-t", "back"]);
    });
}

fn index(room: &Room<'_>) {
    on_copy(room, 0, &["repair", "index", "--dry-run"]);
    flip(&files(room, "copy/index")[0]);
    remove(&files(room, "copy/packs/d")[0]);
    on_copy(room, 0, &["repair", "index"]);
    // What nothing knows any more.
    on_copy(room, 1, &["check"]);
    files(room, "copy/index").iter().for_each(|path| remove(path));
    let pack = files(room, "copy/packs/m").remove(0);
    let bytes = fs::read(&pack).expect("ours");
    fs::write(&pack, &bytes[..bytes.len() - 1000]).expect("ours");
    on_copy(room, 1, &["repair", "index"]);
}

fn parity(room: &Room<'_>) {
    on_copy(room, 0, &["repair", "parity", "--set", "5%"]);
    flip(&files(room, "copy/parity")[0]);
    on_copy(room, 1, &["check", "--read-data"]);
    on_copy(room, 0, &["repair", "parity", "--read-all-packs"]);
    let pack = files(room, "copy/packs/d").remove(0);
    flip(&pack);
    on_copy(room, 0, &["repair", "packs"]);
    flip(&pack);
    on_copy(room, 0, &["repair", "parity", "--read-all-packs"]);
    fs::write(&pack, "nothing").expect("ours");
    on_copy(room, 1, &["repair", "parity", "--read-all-packs"]);
}

/// Snapshots that cannot be read: each command that looks at all names them.
fn snapshots(room: &Room<'_>) {
    for folder in ["copy/snapshots", "copy/r/snapshots"] {
        flip(&files(room, folder)[0]);
    }
    for arguments in [
        &["snapshots"][..],
        &["find", "file"],
        &["stats"],
        &["tag", "--add", "x"],
        &["rewrite", "--exclude", "file"],
        &["recover", "--dry-run"],
        &["recover"],
        &["forget", "--keep-last", "9"],
    ] {
        on_copy(room, 3, arguments);
    }
    on_copy(room, 1, &["recover", "--state-dir"]);
    on_copy(room, 1, &["repair", "snapshots"]);
    let key = room.cli.path("key");
    room.does(&["init", "-r", "new", "--new-key-file", "new.key"]);
    let from = format!("--from-key-file={}", key.display());
    room.ends(3, &["copy", "-r", "new", "--key-file", "new.key", "--from-repo", "copy", &from, "--no-state"]);
}
