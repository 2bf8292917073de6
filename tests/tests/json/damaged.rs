//! What is said of damage, and of what is done about it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use icecore_tests::schema::Schema;
use icecore_tests::whole::noise;

use crate::places::{files, flip};
use crate::{Room, archive};

/// Entries of the directory that loses some.
const MANY: usize = 1500;

/// A room with a file, and a directory of so many entries that they are several objects; its packs have no parity. Then
/// another backup, which shares most; and an archive of a file with attributes that are stored apart.
fn room(schema: &Schema) -> (Room<'_>, [String; 2]) {
    let room = Room::new(schema);
    let cli = &room.cli;
    room.does(&["repair", "parity", "--set", "0%"]);
    cli.write("source/file", noise(1, 100_000));
    cli.write("source/many/first", "");
    for number in 0..MANY {
        let name = [format!("{number:05} ").as_bytes(), b"\xff"].concat();
        fs::write(cli.path("source/many").join(OsStr::from_bytes(&name)), "").expect("ours");
    }
    let first = room.backup(&["--threads", "1"]);
    // The first of its objects is another now, and the others are as they were.
    fs::remove_file(cli.path("source/many").join(OsStr::from_bytes(b"00000 \xff"))).expect("ours");
    cli.write("source/new", noise(2, 100_000));
    let second = room.backup(&["--threads", "1"]);
    let attribute = [b"SCHILY.xattr.user.large=".to_vec(), noise(3, 5000)].concat();
    // The length counts itself, four digits, and what stands beside it.
    let record = [format!("{} ", attribute.len() + 6).into_bytes(), attribute, b"\n".to_vec()].concat();
    cli.write("file.tar", archive(&[("pax", b'x', &record), ("bearer", b'0', b"text")]));
    room.does(&["backup", "--from-tar", "file.tar", "--threads", "1"]);
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
    let (none, snapshot) = ("0".repeat(32), files(room, "repo/snapshots")[0].clone());
    let forgotten = format!("forgotten/{}", snapshot.file_name().and_then(OsStr::to_str).expect("digits"));
    for name in [&format!("sessions/{none}"), &forgotten, "gc/0000000000000001.mark", "mirror", "format"] {
        copied(room, |room| {
            let path = room.cli.path("copy").join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("ours");
            fs::write(path, noise(9, 200)).expect("ours");
            let run = room.cli.run(&["check", "--read-data", "--json", "-r", "copy", "--no-state"]);
            eprintln!("{name}: {run:?}");
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
    let whole = room.cli.path("repo");
    let from = ["repair", "packs", "--from", whole.to_str().expect("UTF-8")];
    for kind in ["d", "m"] {
        for number in 0..files(room, &format!("repo/packs/{kind}")).len() {
            for percent in [20, 50, 99] {
                copied(room, |room| {
                    flip_at(&files(room, &format!("copy/packs/{kind}"))[number], percent);
                    on_copy(room, 1, &["check", "--read-data"]);
                    let run = room.cli.run(&["repair", "packs", "--json", "-r", "copy", "--no-state"]);
                    room.hold(&["repair", "packs"], &run);
                    room.schema.check_out("repair packs", &run.out).expect("as described");
                    on_copy(room, 0, &["repair", "snapshots"]);
                });
            }
        }
    }
    copied(room, |room| {
        flip(&files(room, "copy/packs/d")[0]);
        on_copy(room, 0, &from);
        files(room, "copy/packs/d").iter().for_each(|pack| flip(pack));
        on_copy(room, 1, &["repair", "packs", "--dry-run"]);
        on_copy(room, 3, &["restore", first, "-t", "back"]);
        on_copy(room, 1, &["repair", "packs"]);
        on_copy(room, 0, &["repair", "snapshots", "--dry-run"]);
        on_copy(room, 0, &["repair", "snapshots", "--forget"]);
    });
    copied(room, |room| {
        files(room, "copy/packs/m").iter().for_each(|pack| flip(pack));
        on_copy(room, 3, &["stats"]);
    });
}

/// Turns a bit at so many hundredths of a file.
fn flip_at(path: &Path, percent: usize) {
    let mut bytes = fs::read(path).expect("ours");
    let at = bytes.len() * percent / 100;
    bytes[at] ^= 1;
    remove(path);
    fs::write(path, bytes).expect("ours");
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
