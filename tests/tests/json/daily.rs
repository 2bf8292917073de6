//! What people do every day: backups, what is in them, what differs, what is brought back, what is forgotten.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use icecore_tests::schema::Schema;
use icecore_tests::whole::noise;

use crate::{Room, archive, attributes, text};

/// A name that is no UTF-8.
const BAD: &[u8] = b"bad \xff name";

/// A room with a tree of every kind of entry.
fn room(schema: &Schema) -> Room<'_> {
    let room = Room::new(schema);
    let cli = &room.cli;
    cli.write("source/letter", "Dear reader");
    cli.write("source/large", noise(1, 300_000));
    cli.write("source/sub/other", "other");
    cli.write("source/skipped.tmp", "none needs this");
    fs::write(cli.path("source").join(OsStr::from_bytes(BAD)), noise(2, 70_000)).expect("ours");
    symlink(OsStr::from_bytes(BAD), cli.path("source/bad link")).expect("ours");
    symlink("letter", cli.path("source/link")).expect("ours");
    drop(UnixListener::bind(cli.path("source/socket")).expect("ours"));
    room
}

pub fn run(schema: &Schema) {
    let room = room(schema);
    let cli = &room.cli;
    room.does(&["backup", "source", "--dry-run"]);
    let first = room.backup(&["-vv", "--tag", "one,two", "--exclude", "*.tmp", "--host", "h"]);
    room.does(&["backup", "source", "-vv", "--skip-if-unchanged", "--exclude", "*.tmp", "--host", "h"]);
    change_source(&room);
    let second = room.backup(&["-vv", "--full", "--with-atime", "--host", "h"]);
    let third = room.backup(&["--differential", "--host", "h"]);
    cli.write(
        "devices.tar",
        archive(&[
            ("fifo", b'6', b""),
            ("character", b'3', b""),
            ("block", b'4', b""),
            ("pax", b'x', &attributes()),
            ("bearer", b'0', b"text"),
        ]),
    );
    cli.write("empty.tar", archive(&[]));
    room.does(&["backup", "--from-tar", "devices.tar", "--as-path", "/tar", "--host", "tar"]);
    room.does(&["ls", "latest", "--recursive"]);
    room.does(&["list", "blobs"]);
    room.does(&["backup", "--from-tar", "empty.tar", "--host", "empty"]);
    // Another content, though nothing else changed: of archives, which have no change times.
    for content in [b"one", b"two"] {
        cli.write("file.tar", archive(&[("file", b'0', content)]));
        room.does(&["backup", "--from-tar", "file.tar", "--host", "file", "--full"]);
    }
    room.does(&["diff", "latest~1", "latest"]);
    room.does(&["backup", "source", "-r", "made", "--init", "--new-key-file", "made.key"]);

    room.does(&["ls", &first]);
    room.does(&["ls", &second]);
    room.ends(1, &["ls", "latest", "/nowhere"]);
    room.does(&["diff", &first, &second, "--metadata"]);
    room.does(&["diff", &second, &first]);
    room.does(&["diff", &format!("{third}:/source"), "./source"]);
    find(&room, [&first, &second]);

    room.does(&["snapshots"]);
    room.does(&["snapshots", "--group-by", "tags"]);
    room.does(&["snapshots", "--group-by", "host,paths"]);
    room.ends(1, &["snapshots", "0123"]);
    room.does(&["stats"]);
    room.does(&["stats", "--mode", "raw-data"]);
    room.ends(1, &["stats", "0123"]);
    room.does(&["restore", "latest", "--host", "h", "-t", "back", "--dry-run"]);
    room.does(&["restore", &first, "-t", "back", "-vv"]);
    room.does(&["restore", &second, "-t", "back", "-vv", "--delete", "--include", "/source"]);
    room.does(&["restore", &second, "-t", "back2", "--include", "/nowhere"]);
    room.ends(1, &["restore", "0123", "-t", "back"]);
    room.prints(&["dump", &second, "/source/letter"]);
    room.prints(&["dump", &second, "/source"]);
    room.does(&["dump", &second, "/source", "--target", "letter.tar"]);
    room.ends(1, &["dump", &second, "/source/link/none"]);

    let pinned = room.does(&["tag", "--pin", "--add", "three", &third]);
    let pinned = text(&pinned[0]["new_snapshot_id"]);
    room.ends(1, &["tag", "--add", "x", "0123"]);
    forget(&room, &pinned, [&first, &second]);
    rewrite(&room);
}

/// Something of every kind that differs.
fn change_source(room: &Room<'_>) {
    let cli = &room.cli;
    let times = fs::metadata(cli.path("source/large")).and_then(|of| of.modified()).expect("ours");
    cli.write("source/large", noise(3, 300_000));
    File::options().write(true).open(cli.path("source/large")).and_then(|file| file.set_modified(times)).expect("ours");
    cli.write("source/letter", "Dear readers");
    rustix::fs::chmod(cli.path("source/sub/other"), 0o600.into()).expect("ours");
    fs::remove_file(cli.path("source/link")).expect("ours");
    fs::create_dir(cli.path("source/link")).expect("ours");
    fs::remove_file(cli.path("source").join(OsStr::from_bytes(BAD))).expect("ours");
    cli.write("source/new", "new");
}

fn find(room: &Room<'_>, [first, second]: [&str; 2]) {
    room.does(&["find", "letter", "other"]);
    room.does(&["find", "--history", "/source/letter", "--history", "/source/new"]);
    room.does(&["find", "--history", "/source/link", "--reverse"]);
    // A path that no text can name.
    room.ends_as(0, &["find", "--host", "h"], |command| {
        let flag = [b"--history=/source/", BAD].concat();
        command.arg(OsStr::from_bytes(&flag));
    });
    let tree = text(&room.does(&["cat", "tree", &format!("{second}:/")])[0]["nodes"][0]["name"]);
    assert_eq!(tree, "source");
    let packs = room.does(&["list", "packs"]);
    for pack in &packs {
        let id = text(&pack["id"]);
        let pack = &room.does(&["cat", "pack", &id])[0];
        for chunk in
            pack["frames"].as_array().expect("frames").iter().flat_map(|frame| frame["chunks"].as_array()).flatten()
        {
            let flag = if chunk["kind"] == "tree" { "--tree" } else { "--blob" };
            room.does(&["find", flag, &text(&chunk["id"]), "--show-pack-id", "-s", first]);
        }
        room.does(&["find", "--pack", &id, "-s", first]);
    }
    room.does(&["find", "--pack", &text(&packs[0]["id"])]);
    room.ends(1, &["find", "--blob", "nonsense"]);
}

fn forget(room: &Room<'_>, pinned: &str, [first, second]: [&str; 2]) {
    room.does(&["forget", "--keep-last", "1", "--dry-run", "--measure"]);
    room.does(&["forget", "--keep-last", "1", "--dry-run", "--group-by", "tags"]);
    room.does(&["forget", "--keep-within", "1y", "--keep-tag", "one", "--dry-run", "--group-by", ""]);
    room.ends(3, &["forget", pinned]);
    room.does(&["undelete"]);
    room.does(&["forget", first]);
    room.does(&["undelete"]);
    room.does(&["undelete", first]);
    room.ends(3, &["undelete", first, second]);
    room.ends(1, &["undelete", "0123"]);
    room.does(&["forget", "--keep-last", "1", "--prune", "--undelete-within", "0"]);
}

fn rewrite(room: &Room<'_>) {
    let id = room.backup(&["--host", "rewritten"]);
    room.does(&["rewrite", &id, "--exclude", "large", "--dry-run"]);
    room.does(&["rewrite", &id, "--exclude", "large", "--forget"]);
    room.ends(3, &["rewrite", "--host", "tar", "--include", "/nowhere"]);
    room.ends(1, &["rewrite", &id]);
}
