//! Space that is taken back: beside writers, of what was forgotten, in weak repositories, and where something is damaged.

use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};

use icecore_tests::cli::end;
use icecore_tests::process::wait_for;
use icecore_tests::schema::Schema;
use icecore_tests::whole::noise;
use rustix::process::{Pid, Signal, kill_process};

use crate::Room;
use crate::places::{files, flip};

/// A backup that has begun, and will not end before its input does.
fn at_work(room: &Room<'_>) -> Child {
    let before = files(room, "repo/sessions").len();
    let mut command = room.cli.command(&["backup", "--stdin", "-q", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child.stdin.as_mut().expect("piped").write_all(b"words").expect("it reads");
    wait_for(|| files(room, "repo/sessions").len() > before);
    child
}

pub fn run(schema: &Schema) {
    let room = Room::new(schema);
    let cli = &room.cli;
    cli.write("source/letter", "Dear reader");
    cli.write("source/large", noise(1, 3 << 20));
    let first = room.backup(&["--threads", "1"]);
    fs::remove_file(cli.path("source/large")).expect("ours");
    cli.write("source/other", noise(2, 200_000));
    room.backup(&["--threads", "1"]);
    room.does(&["forget", &first]);
    room.does(&["prune", "--dry-run"]);
    let held = room.does(&["undelete"]);
    assert_eq!(held[0].as_array().map(Vec::len), Some(1));
    room.does(&["undelete", &first]);
    room.does(&["forget", "latest~1", "--undelete-within", "0"]);
    room.does(&["forget", "--tag", "none", "--unsafe-allow-remove-all"]);

    let writer = at_work(&room);
    room.ends(3, &["prune", "--max-unused", "0"]);
    kill_process(Pid::from_child(&writer), Signal::KILL).expect("a child of ours");
    end(writer);
    room.does(&["prune", "--max-unused", "0"]);
    room.does(&["prune"]);
    weak(schema);
    damaged(schema);
}

fn weak(schema: &Schema) {
    let room = Room { cli: icecore_tests::cli::Cli::without_repository(), schema };
    let init = ["init", "--new-key-file", "key", "--weak-store"];
    room.ends_as(0, &init, |command| _ = command.env_remove("ICECORE_KEY_FILE"));
    room.does(&["cat", "config"]);
    room.does(&["prune"]);
    room.ends(1, &["prune", "--state-dir", "elsewhere"]);
}

/// What should move cannot be read, and stays.
fn damaged(schema: &Schema) {
    let room = Room::new(schema);
    let cli = &room.cli;
    room.does(&["repair", "parity", "--set", "0"]);
    cli.write("source/a", noise(1, 1 << 20));
    cli.write("source/b", noise(2, 1 << 20));
    let first = room.backup(&["--threads", "1"]);
    fs::remove_file(cli.path("source/a")).expect("ours");
    room.backup(&["--threads", "1"]);
    room.does(&["forget", &first, "--undelete-within", "0"]);
    files(&room, "repo/packs/d").iter().for_each(|pack| flip(pack));
    room.ends(3, &["prune", "--max-unused", "0"]);
}
