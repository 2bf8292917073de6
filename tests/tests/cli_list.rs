//! What a repository holds, for other programs: a snapshot as ncdu reads it, and lists of objects and chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use icecore_tests::cli::Cli;
use icecore_tests::privilege;
use rustix::fs::{CWD, FileType, Mode};
use serde_json::Value;

/// A repository with a snapshot of all that an export tells apart.
fn varied() -> Cli {
    let cli = Cli::new();
    cli.write("source/a/one", vec![1; 700]);
    cli.write("source/a/below/two", "2");
    cli.write("source/b \"quoted\"\\/line\nfeed", "");
    cli.write("source/z", vec![3; 1024]);
    std::fs::hard_link(cli.path("source/z"), cli.path("source/zz")).expect("a hard link");
    std::os::unix::fs::symlink("z", cli.path("source/link")).expect("a link");
    std::fs::create_dir(cli.path("source/empty")).expect("a directory");
    rustix::fs::mknodat(CWD, cli.path("source/pipe"), FileType::Fifo, Mode::RUSR, 0).expect("a fifo");
    cli.backup(&[]);
    cli
}

/// Everything in an export, by path below its top: what its own array or object says first.
fn entries(export: &Value) -> BTreeMap<String, Value> {
    fn walk(directory: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
        let parts = directory.as_array().expect("a directory is an array");
        for part in &parts[1..] {
            let block = part.as_array().map_or(part, |below| &below[0]);
            let path = format!("{path}/{}", block["name"].as_str().expect("a name"));
            assert!(found.insert(path.clone(), block.clone()).is_none(), "{path} is there once");
            if part.is_array() {
                walk(part, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&export[3], "", &mut found);
    found
}

#[test]
fn an_export_for_ncdu_has_every_entry_where_it_lies_with_what_it_takes() {
    let cli = varied();
    let run = cli.run(&["ls", "latest:/source", "--ncdu"]).succeeds();
    let export: Value = serde_json::from_str(&run.out).expect("one JSON value");
    assert_eq!((&export[0], &export[1], &export[2]["progname"]), (&1.into(), &2.into(), &"icecore".into()));
    assert!(export[2]["timestamp"].as_u64() > Some(1_700_000_000), "the snapshot's time");
    assert_eq!(export[3][0]["name"], "/source");
    let found = entries(&export);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let quoted = "/b \"quoted\"\\";
    let line = format!("{quoted}/line\nfeed");
    assert_eq!(
        names,
        ["/a", "/a/below", "/a/below/two", "/a/one", quoted, &line, "/empty", "/link", "/pipe", "/z", "/zz"]
    );
    assert_eq!((&found["/a/one"]["asize"], &found["/a/one"]["dsize"]), (&700.into(), &1024.into()));
    assert_eq!((&found["/z"]["asize"], &found["/z"]["dsize"]), (&1024.into(), &1024.into()));
    for (name, bits) in [("/a", 0o040_000), ("/a/one", 0o100_000), ("/link", 0o120_000), ("/pipe", 0o010_000)] {
        assert_eq!(found[name]["mode"].as_u64().expect("a mode") & 0o170_000, bits, "{name}");
    }
    let not_regular: Vec<&str> =
        found.iter().filter(|(_, block)| block.get("notreg").is_some()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(not_regular, ["/link", "/pipe"]);
    // Two names of one file are told by number and device; what has one name has no need of that.
    assert_eq!((&found["/z"]["ino"], &found["/z"]["dev"]), (&found["/zz"]["ino"], &found["/zz"]["dev"]));
    assert_eq!((&found["/z"]["hlnkc"], &found["/z"]["nlink"]), (&true.into(), &2.into()));
    assert!(found["/a/one"].get("ino").is_none() && found["/a"].get("hlnkc").is_none());
}

#[test]
fn an_export_begins_at_the_top_or_at_one_directory() {
    let cli = varied();
    let export = |arguments: &[&str]| -> Value {
        let run = cli.run(&[&["ls", "--ncdu"], arguments].concat()).succeeds();
        serde_json::from_str(&run.out).expect("one JSON value")
    };
    let whole = export(&["latest"]);
    assert_eq!(whole[3][0]["name"], "/");
    assert!(entries(&whole).contains_key("/source/a/below/two"));
    assert_eq!(export(&["latest", "/source/a"])[3], export(&["latest:/source/a", "--json"])[3]);
    assert_eq!(entries(&export(&["latest:/source", "empty"])).len(), 0);
    cli.run(&["ls", "--ncdu", "latest", "/source/a", "/source/empty"]).fails(1, &["one directory"]);
    cli.run(&["ls", "--ncdu", "latest", "/source/z"]).fails(1, &["/source/z", "not a directory"]);
    cli.run(&["ls", "--ncdu", "latest", "/nowhere"]).fails(1, &["/nowhere"]);
    cli.run(&["ls", "--ncdu", "latest", "--long"]).fails(1, &["cannot be used with"]);
}

#[test]
fn ncdu_itself_reads_an_export_also_of_names_that_are_no_text() {
    let cli = Cli::new();
    cli.write("source/plain/file", vec![7; 3000]);
    let odd = cli.path("source").join(OsStr::from_bytes(b"odd \xff\x01\x7f\"name"));
    std::fs::write(odd, "1").expect("the file system takes any bytes");
    cli.backup(&[]);
    let export = cli.command(&["ls", "--ncdu", "latest:/source"]).output().expect("it runs");
    assert!(export.status.success());
    let ncdu = Command::new("ncdu").args(["-f", "-", "-o", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut ncdu = match ncdu {
        Ok(ncdu) => ncdu,
        Err(error) => return privilege::skip("ncdu", &format!("it cannot be run: {error}")),
    };
    ncdu.stdin.take().expect("it is piped").write_all(&export.stdout).expect("it reads to the end");
    let read = ncdu.wait_with_output().expect("it ends");
    assert!(read.status.success());
    let told = read.stdout;
    let has = |words: &[u8]| told.windows(words.len()).any(|window| window == words);
    for words in [
        b"\"name\":\"/source\"".as_slice(),
        b"{\"name\":\"plain\"",
        b"{\"name\":\"file\",\"asize\":3000,\"dsize\":3072",
        b"{\"name\":\"odd \xff\\u0001\\u007f\\\"name\",\"asize\":1,",
    ] {
        assert!(has(words), "{} is in {}", String::from_utf8_lossy(words), String::from_utf8_lossy(&told));
    }
}

#[test]
fn blobs_are_the_chunks_of_all_packs_each_once_with_what_they_hold() {
    let cli = Cli::new();
    cli.write("source/a", vec![3; 100_000]);
    cli.backup(&[]);
    let in_packs: BTreeSet<(String, String, u64)> = (cli.json(&["list", "packs"]).iter())
        .flat_map(|pack| cli.json(&["cat", "pack", pack["id"].as_str().expect("an id")]))
        .flat_map(|pack| pack["frames"].as_array().expect("frames").clone())
        .flat_map(|frame| frame["chunks"].as_array().expect("chunks").clone())
        .map(|chunk| row(&chunk, "length"))
        .collect();
    let listed = cli.json(&["list", "blobs"]);
    assert_eq!(listed.len(), in_packs.len());
    assert_eq!(listed.iter().map(|line| row(line, "size")).collect::<BTreeSet<_>>(), in_packs);
    let lines: BTreeSet<String> = cli.run(&["list", "blobs"]).succeeds().out.lines().map(ToOwned::to_owned).collect();
    assert_eq!(lines, in_packs.iter().map(|(kind, id, _)| format!("{kind} {id}")).collect());
    assert!(lines.iter().any(|line| line.starts_with("data ")) && lines.iter().any(|line| line.starts_with("tree ")));
    for (_, id, length) in in_packs {
        assert_eq!(cli.command(&["cat", "blob", &id]).output().expect("it runs").stdout.len() as u64, length);
    }
}

fn row(chunk: &Value, size: &str) -> (String, String, u64) {
    let text = |name: &str| chunk[name].as_str().expect("text").to_owned();
    (text("kind"), text("id"), chunk[size].as_u64().expect("a number"))
}

#[test]
fn of_locks_nothing_is_listed_and_it_is_said_why() {
    let cli = Cli::new();
    let run = cli.run(&["list", "locks"]).succeeds();
    assert_eq!(run.out, "");
    assert!(run.error.contains("note: there are no locks"), "{}", run.error);
    assert_eq!(cli.run(&["list", "locks", "--quiet"]).succeeds().error, "");
    let run = cli.run(&["list", "locks", "--json"]).succeeds();
    assert_eq!((run.out.as_str(), &run.error_json()[0]["message_type"]), ("", &"note".into()));
}
