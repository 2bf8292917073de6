//! `snapshots`, `cat`, `list`, `check`, `version`, places and exit codes at the command line.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use icecore_tests::cli::{Cli, Runs, end};

#[test]
fn no_repository_is_code_10_with_a_hint() {
    let cli = Cli::new();
    for arguments in [&["snapshots"][..], &["backup", "source"], &["check"], &["key", "list"], &["ls", "latest"]] {
        let all = [&["-r", "elsewhere"], arguments].concat();
        cli.run(&all).fails(10, &["no repository at", "elsewhere", "hint:", "icecore init"]);
    }
    let run = cli.run(&["--json", "-r", "elsewhere", "snapshots"]).ends(10);
    let errors = run.error_json();
    assert_eq!(errors.len(), 1);
    assert_eq!((&errors[0]["message_type"], &errors[0]["code"]), (&"exit_error".into(), &10.into()));
    assert!(errors[0]["message"].as_str().is_some_and(|text| text.contains("no repository")));
    assert!(!cli.path("elsewhere").exists(), "looking makes nothing");
}

#[test]
fn a_place_that_is_a_file_or_shut_is_named() {
    let cli = Cli::new();
    cli.write("file", "text");
    cli.run(&["-r", "file", "snapshots"]).fails(10, &["no repository at file, which is a file", "hint:"]);
    cli.command_as_nobody(&["snapshots"]).run().succeeds();
    fs::set_permissions(cli.path("repo"), PermissionsExt::from_mode(0o000)).expect("a directory of ours");
    let run = cli.command_as_nobody(&["snapshots"]).run();
    run.fails(1, &["the repository at", "/repo cannot be opened", "Permission denied", "hint:"]);
    fs::set_permissions(cli.path("repo"), PermissionsExt::from_mode(0o700)).expect("a directory of ours");
}

#[test]
fn the_command_that_init_advises_can_be_pasted() {
    let cli = Cli::without_repository();
    let place = std::ffi::OsStr::from_bytes(b"it's \xff\x1b[31m");
    let mut init = cli.command(&["init", "--new-key-file", "new", "-r"]);
    let out = init.arg(place).run().succeeds().out;
    let advised = out.lines().find_map(|line| line.strip_prefix("  icecore ")).expect("a command");
    assert!(!advised.contains('\x1b'), "{advised:?}");
    let pasted = format!("exec '{}' {advised}", icecore_tests::cli::program().display());
    let mut shell = Command::new("bash");
    shell.args(["-c", &pasted]).current_dir(cli.path(".")).env("ICECORE_KEY_FILE", "new").env("LC_ALL", "C");
    shell.run().succeeds().out.lines().find(|line| line.contains("recovery kit")).expect("a kit");
}

#[test]
fn init_makes_nothing_among_other_things() {
    let cli = Cli::without_repository();
    cli.write("home/letter", "Dear reader");
    cli.write("home/deep/down", "x");
    let init = |place: &str, key: &str| {
        let mut command = cli.command(&["-r", place, "init", "--new-key-file", key]);
        command.env_remove("ICECORE_KEY_FILE").run()
    };
    init("home", "key").fails(1, &["home is not empty: it has deep, letter", "hint:", "an empty directory"]);
    let names = || {
        let entries = fs::read_dir(cli.path("home")).expect("ours").map(|entry| entry.expect("ours").file_name());
        entries.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(), ["deep", "letter"].map(Into::into).into(), "nothing was made");
    assert!(!cli.path("key").exists(), "nor a key for nothing");
    cli.run(&["-r", "home", "backup", "--init", "--new-key-file", "key", "source"]).fails(1, &["home is not empty"]);
    assert_eq!(names().len(), 2);
    for name in ["more", "and more"] {
        cli.write(&format!("home/{name}"), "x");
    }
    init("home", "key").fails(1, &["is not empty", " and more"]);
    // A folder whose name we use too, with what is not ours in it.
    cli.write("other/config/app.toml", "x");
    init("other", "key").fails(1, &["is not empty: it has config/app.toml"]);
    fs::create_dir_all(cli.path("disk/lost+found")).expect("ours");
    init("disk", "key").succeeds();
    init("disk", "second").fails(1, &["exists already"]);
    fs::create_dir(cli.path("empty")).expect("ours");
    init("empty", "third").succeeds();
}

#[test]
fn help_tells_how_patterns_are_written_and_no_value_of_the_environment() {
    let cli = Cli::new();
    let run = cli.command(&["backup", "--help"]).env("ICECORE_HOST", "secluded").run().succeeds();
    assert!(run.out.contains("ICECORE_HOST]") && !run.out.contains("secluded"), "{}", run.out);
    assert!(run.out.contains("`**` for any number of directories"), "{}", run.out);
}

#[test]
fn places_of_other_kinds_are_refused_by_name() {
    let cli = Cli::new();
    for place in ["s3:host/bucket", "sftp:user@host:/x", "rest:http://localhost/", "b2:bucket"] {
        cli.run(&["-r", place, "snapshots"]).fails(1, &[place, "local directories only", "hint:", "local:PATH"]);
    }
    cli.run(&["-r", "local:repo", "snapshots"]).succeeds();
}

#[test]
fn the_place_comes_from_flag_file_or_environment() {
    let cli = Cli::new();
    cli.write("place", format!("{}\n", cli.path("repo").display()));
    let bare = |arguments: &[&str]| {
        let mut command = cli.command(arguments);
        command.env_remove("ICECORE_REPOSITORY");
        command
    };
    bare(&["snapshots"]).run().fails(1, &["no repository is named", "hint:"]);
    bare(&["snapshots", "--repo", "repo"]).run().succeeds();
    bare(&["snapshots", "--repository-file", "place"]).run().succeeds();
    bare(&["snapshots"]).env("ICECORE_REPOSITORY_FILE", "place").run().succeeds();
    bare(&["snapshots", "-r", "repo"]).env("ICECORE_REPOSITORY", "nope").run().succeeds();
    bare(&["snapshots", "--repository-file", "place"]).env("ICECORE_REPOSITORY", "nope").run().succeeds();
    bare(&["snapshots", "-r", "repo", "--repository-file", "place"]).run().fails(1, &["cannot be used with"]);
}

#[test]
fn bad_usage_is_code_1_and_help_is_none() {
    let cli = Cli::without_repository();
    for arguments in [&[][..], &["nope"], &["ls", "--nope"], &["snapshots", "--latest", "0"], &["list", "nonsense"]] {
        cli.run(arguments).ends(1);
    }
    let run = cli.run(&["nope", "--json"]).ends(1);
    assert_eq!(run.error_json()[0]["code"], 1);
    for arguments in [&["--help"][..], &["-h"], &["help"], &["--version"], &["-V"]] {
        assert_eq!(cli.run(arguments).succeeds().error, "");
    }
}

#[test]
fn every_commands_help_has_an_example_and_the_exit_codes() {
    let cli = Cli::without_repository();
    let commands = [
        "init",
        "backup",
        "copy",
        "mirror",
        "cross-check",
        "snapshots",
        "ls",
        "restore",
        "mount",
        "check",
        "cat",
        "list",
        "dump",
        "key",
        "stats",
        "rewrite",
        "recover",
        "unlock",
        "cache",
        "generate",
        "version",
    ];
    for command in commands {
        let run = cli.run(&[command, "--help"]).succeeds();
        run.tells("Example").tells(&format!("  icecore {command}")).tells("Exit codes:").tells("130  interrupted");
    }
}

#[test]
fn snapshots_have_the_fields_that_scripts_read() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    cli.backup(&["--tag", "x", "--host", "h", "--exclude", "*.tmp"]);
    let list = &cli.json(&["snapshots"])[0];
    let shape = &list[0];
    for field in ["time", "tree", "hostname", "username", "program_version", "id", "short_id"] {
        assert!(shape[field].is_string(), "{field}");
    }
    assert_eq!((&shape["hostname"], &shape["tags"][0]), (&"h".into(), &"x".into()));
    assert_eq!(shape["paths"][0].as_str(), cli.path("source").to_str());
    assert_eq!(shape["excludes"][0], "*.tmp");
    assert!(shape["uid"].is_number() && shape["gid"].is_number());
    assert_eq!(shape["summary"]["files_new"], 1);
    assert!(shape["summary"]["backup_start"].is_string() && shape["summary"]["backup_end"].is_string());
    let id = shape["id"].as_str().expect("a string");
    assert_eq!(shape["short_id"], id[..8]);
    assert!(shape.get("parent").is_none(), "a full one has none");
}

#[test]
fn snapshots_are_filtered_grouped_and_cut() {
    let cli = Cli::new();
    let ids: Vec<_> =
        [["--host", "one"], ["--host", "one"], ["--host", "two"]].iter().map(|more| cli.backup(&more[..])).collect();
    let count = |arguments: &[&str]| cli.json(&[&["snapshots"], arguments].concat())[0].as_array().map(Vec::len);
    assert_eq!(count(&[]), Some(3));
    assert_eq!(count(&["--host", "one"]), Some(2));
    assert_eq!(count(&["--latest", "1"]), Some(2), "one of each host");
    assert_eq!(count(&[&ids[0], &ids[0][..10]]), Some(1), "named twice, listed once");
    assert_eq!(count(&["latest"]), Some(1));
    cli.run(&["snapshots", &ids[0], "--host", "one"]).fails(1, &["ids are given already"]);
    let groups = &cli.json(&["snapshots", "--group-by", "host"])[0];
    assert_eq!(groups[0]["group_key"]["hostname"], "one");
    assert_eq!(groups[0]["snapshots"].as_array().map(Vec::len), Some(2));
    cli.run(&["snapshots", "-g", "host,paths"]).succeeds().tells("snapshots for (host [two], paths [");
    let compact = cli.run(&["snapshots", "-c"]).succeeds().out;
    assert!(compact.starts_with("ID        Time                 Host"), "{compact}");
    assert!(!compact.contains("Kind") && compact.contains("3 snapshots"));
}

#[test]
fn list_and_cat_show_the_repositorys_own_objects() {
    let cli = Cli::new();
    cli.write("source/a", vec![3; 100_000]);
    let id = cli.backup(&[]);
    assert_eq!(cli.run(&["list", "snapshots"]).succeeds().out.trim(), id);
    for kind in ["packs", "index", "keys"] {
        let first = cli.run(&["list", kind]).succeeds().out.lines().next().expect("one at least").to_owned();
        let word = kind.trim_end_matches('s');
        let shape = &cli.json(&["cat", word, &first[..10]])[0];
        assert_eq!(shape["id"], first.as_str(), "{kind}");
        let line = &cli.json(&["list", kind])[0];
        assert!(line["id"].is_string() && line["size"].is_number(), "{kind}");
    }
    assert!(cli.json(&["cat", "config"])[0]["chunker"]["average_bytes"].is_number());
    assert_eq!(cli.json(&["cat", "snapshot", "latest"])[0]["id"], id.as_str());
    let nodes = &cli.json(&["cat", "tree", "latest:/source"])[0]["nodes"];
    assert_eq!(nodes[0]["name"], "a");
    cli.run(&["cat", "pack", "zzz"]).fails(1, &["no pack zzz", "hint:", "icecore list packs"]);
    cli.run(&["cat", "pack", ""]).fails(1, &["the id of the pack is empty", "hint:", "icecore list packs"]);
    let index = cli.run(&["list", "index"]).succeeds().out.trim().to_owned();
    cli.run(&["cat", "pack", &index]).fails(1, &["no pack", &index]);
    cli.run(&["cat", "snapshot"]).fails(1, &["required"]);
    cli.run(&["cat", "config", "x"]).fails(1, &["takes no id"]);
}

#[test]
fn ids_are_taken_in_capitals_and_printed_in_lower_case() {
    let cli = Cli::new();
    cli.write("source/a", "one");
    // An id without letters would prove nothing.
    let id = std::iter::repeat_with(|| cli.backup(&[])).find(|id| id[..6].contains(char::is_alphabetic)).expect("soon");
    let upper = id.to_uppercase();
    for typed in [&upper[..6], &upper] {
        for command in ["snapshots", "ls", "restore"] {
            let more: &[&str] = if command == "restore" { &["-t", "out", "--dry-run"] } else { &[] };
            cli.run(&[&[command, typed], more].concat()).succeeds();
        }
        assert_eq!(cli.json(&["cat", "snapshot", typed])[0]["id"], id.as_str());
        assert!(cli.json(&["cat", "tree", &format!("{typed}:/source")])[0]["nodes"][0]["name"] == "a");
        assert_eq!(cli.json(&["snapshots", typed])[0][0]["id"], id.as_str());
    }
    cli.run(&["dump", &upper, "source/a"]).succeeds().tells("one");
    cli.backup(&["--parent", &upper]);
    cli.run(&["snapshots", "FFFFFFFFFFFFFFFFFFFF"]).fails(1, &["no snapshot ffffffffffffffffffff"]);
    for (list, word) in [("packs", "pack"), ("index", "index"), ("keys", "key")] {
        let id = cli.run(&["list", list]).succeeds().out.lines().next().expect("one at least").to_owned();
        for typed in [&id[..20], &id] {
            assert_eq!(cli.json(&["cat", word, &typed.to_uppercase()])[0]["id"], id.as_str());
        }
    }
    let pack = cli.run(&["list", "packs"]).succeeds().out.lines().next().expect("one at least").to_owned();
    let blob =
        cli.json(&["cat", "pack", &pack])[0]["frames"][0]["chunks"][0]["id"].as_str().expect("text").to_uppercase();
    assert!(!cli.command(&["cat", "blob", &blob]).output().expect("it runs").stdout.is_empty());
    let key = cli.json(&["key", "list"])[0][0]["id"].as_str().expect("text").to_uppercase();
    cli.run(&["key", "remove", &key]).fails(1, &["the key in use"]);
}

#[test]
fn cat_shows_the_frames_and_chunks_of_packs_and_index_objects() {
    let cli = Cli::new();
    let content: Vec<u8> = (0..1000u32).flat_map(|number| *blake3::hash(&number.to_le_bytes()).as_bytes()).collect();
    cli.write("source/a", &content);
    let id = cli.backup(&[]);
    let mut kinds = Vec::new();
    let mut packs = std::collections::BTreeMap::new();
    for line in cli.json(&["list", "packs"]) {
        let pack = cli.json(&["cat", "pack", line["id"].as_str().expect("a string")]).remove(0);
        assert_eq!((&pack["id"], &pack["size"], &pack["session"]), (&line["id"], &line["size"], &id.as_str().into()));
        for chunk in pack["frames"].as_array().expect("frames").iter().flat_map(|frame| {
            assert!(frame["length"].as_u64() <= frame["uncompressed_length"].as_u64().map(|length| length + 24));
            frame["chunks"].as_array().expect("chunks")
        }) {
            let (kind, length) = (chunk["kind"].as_str().expect("a string"), chunk["length"].as_u64());
            let blob =
                cli.command(&["cat", "blob", chunk["id"].as_str().expect("a string")]).output().expect("it runs");
            assert_eq!(Some(blob.stdout.len() as u64), length);
            if kind == "data" {
                assert_eq!((&pack["kind"], blob.stdout == content), (&"data".into(), true));
            }
            kinds.push(kind.to_owned());
        }
        packs.insert(line["id"].to_string(), pack);
    }
    assert!(kinds.contains(&"data".to_owned()) && kinds.contains(&"tree".to_owned()), "{kinds:?}");
    let index = cli.run(&["list", "index"]).succeeds().out.trim().to_owned();
    let index = cli.json(&["cat", "index", &index[..8]]).remove(0);
    for pack in index["packs"].as_array().expect("packs") {
        let own = packs.remove(&pack["id"].to_string()).expect("a pack that is there");
        assert_eq!((&pack["frames"], &pack["kind"], &pack["size"]), (&own["frames"], &own["kind"], &own["size"]));
    }
    assert!(packs.is_empty(), "every pack is indexed");
    cli.run(&["cat", "blob", "0a1b"]).fails(1, &["not the id of a chunk", "hint:", "64 digits"]);
    cli.run(&["cat", "blob", &"0".repeat(64)]).fails(1, &["no chunk 0000"]);
    cli.run(&["cat", "blob"]).fails(1, &["required"]);
}

#[test]
fn cat_of_a_damaged_pack_or_index_object_names_it_and_prints_nothing() {
    let cli = Cli::new();
    cli.write("source/a", vec![3; 100_000]);
    cli.backup(&[]);
    for kind in ["pack", "index"] {
        let list = if kind == "pack" { "packs" } else { "index" };
        let id = cli.run(&["list", list]).succeeds().out.lines().next().expect("one at least").to_owned();
        let places =
            [format!("packs/d/{}/{id}", &id[..2]), format!("packs/m/{}/{id}", &id[..2]), format!("index/{id}")];
        let name = places.iter().find(|name| cli.path(&format!("repo/{name}")).exists()).expect("it lies there");
        let path = cli.path(&format!("repo/{name}"));
        let mut bytes = fs::read(&path).expect("ours");
        let last = bytes.len() - 100;
        bytes[last] ^= 1;
        fs::remove_file(&path).expect("ours");
        fs::write(&path, bytes).expect("ours");
        let run = cli.run(&["cat", kind, &id[..12]]).fails(1, &[name, "is damaged", "hash differs", "hint:"]);
        assert_eq!(run.out, "");
    }
}

#[test]
fn check_is_content_with_what_is_whole() {
    let cli = Cli::new();
    cli.write("source/a", vec![5; 100_000]);
    cli.backup(&[]);
    cli.run(&["check"]).succeeds().tells("no errors were found");
    cli.run(&["check", "--read-data"]).succeeds().tells("read in").tells("no errors were found");
    let run = cli.run(&["check", "--json", "-q"]).succeeds();
    let summary = &run.json()[0];
    assert_eq!((&summary["message_type"], &summary["num_errors"]), (&"summary".into(), &0.into()));
    assert!(summary["broken_packs"].is_array() && summary["suggest_repair_index"].is_boolean());
    assert!(summary["suggest_prune"].is_boolean());
}

#[test]
fn check_names_what_is_damaged_and_ends_with_1() {
    let cli = Cli::new();
    // Bytes that do not compress fill the pack, so that its middle is not padding.
    let content: Vec<u8> = (0..4000u32).flat_map(|number| *blake3::hash(&number.to_le_bytes()).as_bytes()).collect();
    cli.write("source/a", content);
    let id = cli.backup(&[]);
    let packs = cli.run(&["list", "packs"]).succeeds().out;
    for pack in packs.lines() {
        for kind in ["d", "m"] {
            let path = cli.path(&format!("repo/packs/{kind}/{}/{pack}", &pack[..2]));
            if let Ok(mut bytes) = fs::read(&path) {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::remove_file(&path).expect("ours");
                fs::write(&path, bytes).expect("ours");
            }
        }
    }
    let first = packs.lines().next().expect("one at least");
    cli.run(&["check", "--read-data"]).fails(1, &[first, "the repository is damaged", &id[..8]]);
    let run = cli.run(&["check", "--read-data", "--json"]).ends(1);
    let summary = run.json().pop().expect("a summary");
    assert!(summary["num_errors"].as_u64().is_some_and(|errors| errors > 0));
    assert!(summary["broken_packs"].as_array().is_some_and(|packs| packs.contains(&first.into())));
    let restored = cli.run(&["restore", "latest", "-t", "out"]);
    assert!(matches!(restored.code, 1 | 3), "{restored:?}");
}

#[test]
fn version_is_told_without_a_repository() {
    let cli = Cli::without_repository();
    cli.run(&["version"]).succeeds().tells("icecore ");
    let line = &cli.json(&["version"])[0];
    assert_eq!(line["message_type"], "version");
    assert!(line["version"].is_string() && line["os"].is_string() && line["arch"].is_string());
}

/// `icecore ls latest | head` is no failure, and nothing is complained of.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let cli = Cli::new();
    for number in 0..3000 {
        cli.write(&format!("source/a-name-that-fills-the-pipe-soon-{number:040}"), "");
    }
    cli.backup(&[]);
    let mut ls = cli.command(&["ls", "latest"]);
    let mut child = ls.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    // More is coming than a pipe holds, so the program meets the closed end.
    drop(child.stdout.take());
    let run = end(child).succeeds();
    assert_eq!(run.error, "");
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure() {
    let cli = Cli::new();
    cli.backup(&[]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
    let child = cli.command(&["ls", "latest"]).stdout(full).stderr(Stdio::piped()).spawn().expect("the program starts");
    end(child).fails(1, &["writing the output"]);
}

#[test]
fn names_are_escaped_where_people_read_them() {
    let cli = Cli::new();
    cli.write("source/evil\x1b[2J", "x");
    let bad = cli.run(&["backup", "source", "-vv"]).succeeds();
    assert!(!bad.out.contains('\x1b') && bad.out.contains(r"evil\x1b[2J"), "{}", bad.out);
    let missing = cli.run(&["ls", "latest", "no\x1b[2Jthing"]).ends(1);
    assert!(!missing.error.contains('\x1b'), "{}", missing.error);
    // A program that reads the list gets the name itself.
    assert!(cli.run(&["ls", "latest"]).succeeds().out.contains("evil\x1b[2J"));
}
