//! `icecore repair` at the command line: what it says, its JSON, its exit codes.

use std::fs;
use std::path::PathBuf;

use icecore_tests::cli::Cli;
use icecore_tests::whole::noise;

/// A repository with one snapshot of two files; its packs have no parity.
fn backed_up() -> Cli {
    let cli = Cli::new();
    cli.run(&["repair", "parity", "--set", "0%"]).succeeds();
    cli.write("source/one", noise(1, 70_000));
    cli.write("source/two", noise(2, 3_000_000));
    // One thread, so that frames lie in the order of what they hold.
    cli.run(&["backup", "source", "--threads", "1"]).succeeds();
    cli
}

fn files_below(cli: &Cli, folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![cli.path(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("it is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn turn_a_bit(path: &PathBuf, at: usize) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("a file of ours");
}

#[test]
fn an_index_comes_back_and_a_dry_run_changes_nothing() {
    let cli = backed_up();
    for path in files_below(&cli, "repo/index") {
        turn_a_bit(&path, 200);
    }
    let before = files_below(&cli, "repo/index");
    cli.run(&["check"]).fails(1, &["index/"]);
    let dry = cli.run(&["repair", "index", "--dry-run"]).succeeds();
    let packs = files_below(&cli, "repo/packs").len() as u64;
    assert!(dry.out.contains(&format!("would be indexed: {packs} packs")), "{}", dry.out);
    assert_eq!(files_below(&cli, "repo/index"), before);
    let json = cli.run(&["--json", "repair", "index"]).succeeds().json();
    let summary = json.last().expect("a summary");
    assert_eq!((&summary["packs_indexed"], &summary["index_removed"]), (&packs.into(), &1.into()));
    cli.run(&["check", "--read-data"]).succeeds();
}

#[test]
fn a_copy_of_a_small_object_comes_back() {
    let cli = backed_up();
    fs::remove_file(cli.path("repo/format")).expect("it is there");
    let said = cli.run(&["repair", "objects"]).succeeds().out;
    assert!(said.contains("format was written again"), "{said}");
    cli.run(&["check"]).succeeds();
}

#[test]
fn a_pack_comes_back_from_a_mirror_or_what_it_lost_is_named_and_left_out() {
    let cli = backed_up();
    let pack = files_below(&cli, "repo/packs/d").pop().expect("a data pack");
    let id = pack.file_name().expect("a name").to_string_lossy().into_owned();
    let whole = fs::read(&pack).expect("it is there");
    let copy = cli.path("mirror").join(pack.strip_prefix(cli.path("repo")).expect("below the repository"));
    fs::create_dir_all(copy.parent().expect("a shard")).expect("directories can be made");
    fs::write(&copy, &whole).expect("a file of ours");
    let second_frame = whole.len() / 5 * 3;

    turn_a_bit(&pack, second_frame);
    cli.run(&["repair", "packs", "--from", "source"]).fails(1, &["holds no repository"]);
    let healed = cli.run(&["repair", "packs", "--from", "mirror"]).succeeds().out;
    assert!(healed.contains(&id) && healed.contains("healed from the mirror"), "{healed}");
    assert_eq!(fs::read(&pack).expect("it is there"), whole);

    turn_a_bit(&pack, second_frame);
    cli.run(&["repair", "packs", &id]).fails(1, &[&id, "source/two has lost content", "hint:"]);
    let run = cli.run(&["--json", "repair", "snapshots", "--dry-run"]).succeeds().json();
    let summary = run.last().expect("a summary").clone();
    assert_eq!(summary["repaired"][0]["losses_total"], 1);
    assert!(summary["repaired"][0].get("replacement_id").is_none());
    let said = cli.run(&["repair", "snapshots", "--forget"]).succeeds().out;
    assert!(said.contains("is published again as") && said.contains("was forgotten"), "{said}");
    let listed = cli.run(&["ls", "latest"]).succeeds().out;
    assert!(listed.contains("source/one") && !listed.contains("source/two"), "{listed}");
    cli.run(&["check", "--read-data"]).succeeds();
    // The file is still there, and so comes back.
    cli.run(&["backup", "source"]).succeeds();
    assert!(cli.run(&["ls", "latest"]).succeeds().out.contains("source/two"));
}
