//! Commands on their way: what they tell of it, what they meet, and what they say when they are interrupted.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use icecore_tests::cli::{Run, Runs, end};
use icecore_tests::schema::Schema;
use icecore_tests::whole::noise;
use rustix::process::{Pid, Signal, kill_process};

use crate::Room;

/// Between two questions where a command is.
const PAUSE: Duration = Duration::from_millis(50);

pub fn run(schema: &Schema) {
    stream(schema);
    tree(schema);
    partial(schema);
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

fn ask(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("a child of ours");
}

/// Waits for its end, after a part of its output was read.
fn ended(child: Child, mut told: String, mut out: impl Read) -> Run {
    let Run { code, error, .. } = end(child);
    out.read_to_string(&mut told).expect("a pipe");
    Run { code, out: told, error }
}

/// A stream that stops for more than a second, asked how far it is meanwhile; then interrupted.
fn stream(schema: &Schema) {
    let room = Room::new(schema);
    let backup = ["backup", "--stdin", "--json"];
    let content = noise(1, 8 << 20);
    let mut child = start(room.cli.command(&backup).stdin(Stdio::piped()));
    child.stdin.take().expect("piped").write_all(&content).expect("it reads");
    end(child).ends(0);

    let mut child = start(room.cli.command(&backup).stdin(Stdio::piped()));
    child.stdin.as_mut().expect("piped").write_all(&content[..4 << 20]).expect("it reads");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut told = String::new();
    out.read_line(&mut told).expect("a first line");
    while !(told.contains("seconds_remaining") && told.contains("current_files")) {
        std::thread::sleep(PAUSE);
        ask(&child, Signal::USR1);
        assert!(out.read_line(&mut told).expect("an answer") > 0, "{told}");
    }
    ask(&child, Signal::INT);
    drop(child.stdin.take());
    let run = ended(child, told, out).ends(130);
    room.hold(&backup, &run);
    schema.check_out("backup", &run.out).expect("as described");
}

/// A tree with what cannot be read, slowly; then what comes back of it, slowly too.
fn tree(schema: &Schema) {
    let room = Room::new(schema);
    let cli = &room.cli;
    for file in 0..4 {
        cli.write(&format!("source/{file}"), noise(file, 1 << 20));
    }
    room.backup(&[]);
    for file in [1, 3] {
        cli.write(&format!("source/{file}"), noise(10 + file, 1 << 20));
    }
    cli.write("source/a", "secret");
    fs::set_permissions(cli.path("source/a"), fs::Permissions::from_mode(0o000)).expect("ours");
    let backup = ["backup", "source", "--limit-upload", "1024", "--json"];
    let mut child = start(&mut cli.command_as_nobody(&backup));
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    // Who has told something can be asked.
    let mut told = String::new();
    out.read_line(&mut told).expect("a pipe");
    while child.try_wait().expect("a child of ours").is_none() {
        ask(&child, Signal::USR1);
        std::thread::sleep(PAUSE);
    }
    let run = ended(child, told, out).ends(3);
    room.hold(&backup, &run);
    schema.check_out("backup", &run.out).expect("as described");
    let run = cli.command_as_nobody(&["diff", "latest:/source", "./source", "--json"]).run().ends(3);
    room.hold(&["diff"], &run);
    schema.check_out("diff", &run.out).expect("as described");

    room.does(&["restore", "latest~1", "-t", "back"]);
    cli.write("back/source/more", "more");
    room.does(&["restore", "latest", "-t", "back", "--delete", "--limit-download", "2048"]);
}

/// A backup that keeps what it has.
fn partial(schema: &Schema) {
    let room = Room::new(schema);
    room.cli.write("source/file", "text");
    let run = room.cli.interrupted_backup(&["--keep-partial"], Signal::INT).ends(130);
    room.hold(&["backup"], &run);
    schema.check_out("backup", &run.out).expect("as described");
    room.does(&["snapshots"]);
}
