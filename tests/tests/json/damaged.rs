//! What is said of damage, and of what is done about it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use icecore_tests::schema::Schema;
use icecore_tests::whole::noise;

use crate::places::{files, flip};
use crate::{Room, archive, attributes};

/// Entries of the directory that loses some.
const MANY: usize = 1500;

/// A room with a file, and a directory of so many entries that they are several objects; its packs have no parity. Then
/// another backup, which shares most; and archives of a file with attributes that are stored apart.
fn room(schema: &Schema) -> (Room<'_>, String) {
    let room = Room::new(schema);
    let cli = &room.cli;
    room.does(&["repair", "parity", "--set", "0%"]);
    cli.write("source/file", noise(1, 100_000));
    cli.write("source/many/first", "");
    fs::write(cli.path("source").join(OsStr::from_bytes(b"bad \xff")), noise(4, 100_000)).expect("ours");
    for number in 0..MANY {
        let name = [format!("{number:05} ").as_bytes(), b"\xff"].concat();
        fs::write(cli.path("source/many").join(OsStr::from_bytes(&name)), "").expect("ours");
    }
    let first = room.backup(&["--threads", "1"]);
    // The first of its objects is another now, and the others are as they were.
    fs::remove_file(cli.path("source/many").join(OsStr::from_bytes(b"00000 \xff"))).expect("ours");
    cli.write("source/new", noise(2, 100_000));
    room.backup(&["--threads", "1"]);
    // Twice, so that the attributes are in a pack without the second tree.
    for name in ["one", "two"] {
        cli.write(
            "file.tar",
            archive(&[("pax", b'x', &attributes()), ("bearer", b'0', b"text"), (name, b'0', b"text")]),
        );
        room.does(&["backup", "--from-tar", "file.tar", "--threads", "1"]);
    }
    (room, first)
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

/// Small objects, the index, parity, snapshots: of a repository with little in it.
pub fn small(schema: &Schema) {
    let room = Room::new(schema);
    room.cli.write("source/file", noise(1, 100_000));
    room.backup(&["--threads", "1"]);
    room.cli.write("source/new", noise(2, 100_000));
    room.backup(&["--threads", "1"]);
    room.does(&["check"]);
    room.does(&["check", "--level", "names"]);
    room.does(&["check", "--read-data"]);
    room.does(&["check", "--time-budget", "0s"]);
    room.does(&["recover", "--dry-run"]);
    small_objects(&room);
    copied(&room, parity);
    copied(&room, snapshots);
    copied(&room, index);
}

/// Packs: of data, and of trees large enough to be lost in part.
pub fn large(schema: &Schema) {
    let (room, first) = room(schema);
    packs(&room, &first);
}

/// One copy of each small object, and what lies where none should.
fn small_objects(room: &Room<'_>) {
    for folder in ["index", "snapshots", "keys", "keyring", "config", "r/snapshots"] {
        copied(room, |room| {
            flip(&files(room, &format!("copy/{folder}"))[0]);
            on_copy(room, 1, &["check", "--read-data"]);
        });
    }
    let session = format!("sessions/{}", "0".repeat(32));
    for name in [&session, "format"] {
        copied(room, |room| {
            fs::write(room.cli.path("copy").join(name), noise(9, 200)).expect("ours");
            on_copy(room, 1, &["check", "--read-data"]);
        });
    }
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
    for kind in ["d", "m"] {
        for number in 0..files(room, &format!("repo/packs/{kind}")).len() {
            copied(room, |room| {
                ruin(&files(room, &format!("copy/packs/{kind}"))[number]);
                on_copy(room, 1, &["check", "--read-data"]);
                on_copy(room, 1, &["repair", "packs"]);
                if kind == "m" {
                    on_copy(room, 0, &["repair", "snapshots"]);
                }
            });
        }
    }
    copied(room, |room| {
        // The table is at the end: what it says the index says too.
        let pack = &files(room, "copy/packs/d")[0];
        flip_at(pack, fs::metadata(pack).expect("ours").len() as usize - 10);
        on_copy(room, 0, &["repair", "packs"]);
    });
    let whole = room.cli.path("repo");
    copied(room, |room| {
        ruin(&files(room, "copy/packs/d")[0]);
        on_copy(room, 0, &["repair", "packs", "--from", whole.to_str().expect("UTF-8")]);
        files(room, "copy/packs/d").iter().for_each(|pack| ruin(pack));
        on_copy(room, 1, &["repair", "packs", "--dry-run"]);
        on_copy(room, 3, &["restore", first, "-t", "back"]);
        on_copy(room, 1, &["repair", "packs"]);
        on_copy(room, 0, &["repair", "snapshots", "--dry-run"]);
        on_copy(room, 0, &["repair", "snapshots", "--forget"]);
    });
    copied(room, |room| {
        files(room, "copy/packs/m").iter().for_each(|pack| ruin(pack));
        on_copy(room, 3, &["stats"]);
    });
}

/// Changes something in each frame of a pack.
fn ruin(pack: &Path) {
    let mut bytes = fs::read(pack).expect("ours");
    bytes.iter_mut().skip(150).step_by(100).for_each(|byte| *byte ^= 1);
    remove(pack);
    fs::write(pack, bytes).expect("ours");
}

/// Turns a bit of this byte of a file.
fn flip_at(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("ours");
    bytes[at] ^= 1;
    remove(path);
    fs::write(path, bytes).expect("ours");
}

fn index(room: &Room<'_>) {
    on_copy(room, 0, &["repair", "index", "--dry-run"]);
    remove(&files(room, "copy/packs/d")[0]);
    on_copy(room, 0, &["repair", "index"]);
    flip(&files(room, "copy/index")[0]);
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
