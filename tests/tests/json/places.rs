//! Repositories beside one another, what is in them, what opens them, and what this machine keeps of them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use icecore_tests::cli::{Run, end};
use icecore_tests::privilege::{is_root, skip};
use icecore_tests::schema::Schema;
use icecore_tests::whole::noise;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Room, text};

const SECOND: [&str; 8] =
    ["copy", "-r", "second", "--key-file", "second.key", "--from-repo", "repo", "--from-key-file=key"];

/// All files below a directory of the room.
pub fn files(room: &Room<'_>, folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![room.cli.path(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a directory of ours").flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// Turns a bit in the middle of a file.
pub fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("ours");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::remove_file(path).expect("ours");
    fs::write(path, bytes).expect("ours");
}

pub fn run(schema: &Schema) {
    let room = Room::new(schema);
    let cli = &room.cli;
    room.does(&["version"]);
    room.does(&["unlock"]);
    room.prints(&["generate", "--bash-completion", "-"]);
    room.does(&["generate", "--bash-completion", "bash", "--man", "pages"]);
    cli.write("source/a", noise(1, 100_000));
    cli.write("source/text", "some words\n".repeat(1000));
    room.backup(&["--tag", "one"]);
    cli.write("source/b", noise(2, 100_000));
    // So many parts of a file are a list of its own.
    let file = File::create(cli.path("source/holes")).expect("ours");
    (0..70).for_each(|part| file.write_all_at(&noise(part, 4096), part << 16).expect("ours"));
    room.backup(&[]);
    describe(&room);
    mirror(&room);
    copy(&room);
    mount(&room);
    cache(&room);
}

fn describe(room: &Room<'_>) {
    room.does(&["cat", "config"]);
    room.does(&["cat", "snapshot", "latest"]);
    room.does(&["cat", "tree", "latest:/source"]);
    room.ends(1, &["cat", "pack", "0123"]);
    for kind in ["snapshots", "keys", "packs", "index", "blobs", "locks"] {
        for line in room.does(&["list", kind]) {
            let id = text(&line["id"]);
            match kind {
                "keys" => _ = room.does(&["cat", "key", &id]),
                "index" => _ = room.does(&["cat", "index", &id]),
                "packs" => {
                    let pack = room.does(&["cat", "pack", &id]).remove(0);
                    room.prints(&["cat", "blob", &text(&pack["frames"][0]["chunks"][0]["id"])]);
                }
                _ => {}
            }
        }
    }
}

fn copy(room: &Room<'_>) {
    let cli = &room.cli;
    room.does(&["init", "-r", "second", "--new-key-file", "second.key"]);
    let copy = |code: i32, more: &[&str]| room.ends(code, &[&SECOND[..], more].concat());
    copy(0, &["latest~1"]);
    copy(0, &["-vv", "--reread"]);
    copy(1, &["0123"]);
    cli.write("source/b", noise(3, 100_000));
    room.backup(&[]);
    files(room, "repo/packs/d").iter().for_each(|pack| flip(pack));
    fs::remove_dir_all(cli.path("repo/parity")).expect("ours");
    room.does(&["init", "-r", "third", "--new-key-file", "third.key"]);
    let third = ["copy", "-r", "third", "--key-file", "third.key", "--from-repo", "repo", "--from-key-file=key"];
    room.ends(3, &third);
}

fn mirror(room: &Room<'_>) {
    let cli = &room.cli;
    room.does(&["mirror", "mirror"]);
    room.does(&["cross-check", "mirror"]);
    let (here, there) = (files(room, "repo/packs/d"), files(room, "mirror/packs/d"));
    // Damaged there alone, then in both.
    flip(&there[0]);
    room.ends(1, &["cross-check", "mirror", "--dry-run"]);
    room.does(&["cross-check", "mirror"]);
    flip(&here[0]);
    flip(&there[0]);
    room.ends(1, &["cross-check", "mirror"]);
    // The same bits again: both are as they were.
    flip(&here[0]);
    flip(&there[0]);
    // Under one name there are two that are whole.
    let keys = [files(room, "repo/keys"), files(room, "mirror/keys")].map(|mut files| files.remove(0));
    let stored = fs::read(&keys[1]).expect("ours");
    room.does(&["init", "-r", "other", "--new-key-file", "other.key"]);
    let other = files(room, "other/keys").remove(0);
    fs::copy(other, &keys[1]).expect("ours");
    room.ends(1, &["cross-check", "mirror"]);
    fs::write(&keys[1], stored).expect("ours");
    // Each has what the other has not.
    cli.write("source/c", noise(4, 50_000));
    room.backup(&[]);
    fs::write(cli.path("mirror/snapshots").join("0".repeat(32)), "of nobody").expect("ours");
    room.ends(3, &["cross-check", "mirror"]);
    fs::remove_file(cli.path("mirror/snapshots").join("0".repeat(32))).expect("ours");
    // Of two copies there one is gone and one is damaged.
    fs::remove_file(&files(room, "mirror/snapshots")[0]).expect("ours");
    flip(&files(room, "mirror/r/snapshots")[0]);
    room.does(&["mirror", "mirror"]);
    let damaged = files(room, "repo/packs/d").remove(0);
    flip(&damaged);
    fs::remove_file(&files(room, "mirror/packs/d")[0]).expect("ours");
    room.ends(3, &["mirror", "mirror"]);
    flip(&damaged);
    room.does(&["mirror", "mirror"]);
    room.does(&["mirror", "--promote", "mirror"]);
}

/// Whether nothing could be mounted here, so that nothing of it was shown.
pub static CANNOT_MOUNT: AtomicBool = AtomicBool::new(false);

/// Mounts, reads what is damaged, and ends it; twice, once at a place that no text can name.
fn mount(room: &Room<'_>) {
    room.ends(1, &["mount", "nowhere"]);
    let names = [&b"mounted"[..], b"mounted \xff"].map(OsStr::from_bytes);
    for name in names {
        let at = room.cli.path("").join(name);
        fs::create_dir(&at).expect("ours");
        let mut command = room.cli.command(&["mount", "--json"]);
        let mut child = command.arg(name).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut told = String::new();
        out.read_line(&mut told).expect("a pipe");
        if told.is_empty() {
            let run = end(child);
            assert!(!is_root() || !Path::new("/dev/fuse").exists() || run.error.contains("not permitted"), "{run:?}");
            skip("fuse", &run.error);
            CANNOT_MOUNT.store(true, Relaxed);
            return;
        }
        // The damage of this repository is met here.
        assert!(fs::read(at.join("snapshots/latest/source/b")).is_err());
        kill_process(Pid::from_child(&child), Signal::INT).expect("a child of ours");
        let Run { code, error, .. } = end(child);
        out.read_line(&mut told).expect("a pipe");
        let run = Run { code, out: told, error };
        room.hold(&["mount"], &run);
        room.schema.check_out("mount", &run.out).expect("as described");
        assert_eq!((code, run.out.lines().count()), (0, 2), "{run:?}");
    }
}

fn cache(room: &Room<'_>) {
    room.does(&["cache"]);
    room.does(&["cache", "--no-size"]);
    let known = room.does(&["cache"]).remove(0);
    room.does(&["cache", "--forget-repository", &text(&known["repositories"][0]["id"])]);
    room.ends(1, &["cache", "--forget-repository", "0123"]);
}

pub fn keys(schema: &Schema) {
    let room = Room::new(schema);
    let cli = &room.cli;
    cli.write("password", "of the test\n");
    room.does(&["key", "list"]);
    let added = room.does(&["key", "add", "--new-password-file", "password", "--user", "ann", "--host", "desk"]);
    room.does(&["key", "list"]);
    room.ends(1, &["key", "rotate"]);
    room.does(&["key", "remove", &text(&added[0]["id"])]);
    room.ends(1, &["key", "remove", "0123"]);
    room.does(&["key", "export"]);
    room.does(&["key", "export", "--target", "kit"]);
    room.ends(1, &["key", "export", "--target", "kit"]);
    room.does(&["key", "passwd", "--new-key-file", "second.key"]);
    cli.write("source/a", noise(1, 50_000));
    let second = ["--key-file", "second.key"];
    room.backup(&second);
    room.does(&["key", "add", "--key-file", "second.key", "--new-key-file", "third.key"]);
    room.does(&["key", "rotate", "--yes", "--key-file", "second.key"]);
    room.does(&["prune", "--rekey", "--key-file", "second.key"]);
}
