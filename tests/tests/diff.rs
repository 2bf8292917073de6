//! What differs between two snapshots: found as by hand, and no more is read than differs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use icecore_tests::bench::{Bench, Ears, options, published};
use icecore_tests::cli::Cli;
use icecore_tests::counting::CountingSource;
use icecore_tests::damage::objects;
use icecore_tests::tree::{Dice, Planner, edit};
use icecore_tests::whole::noise;
use repo_core::{Change, DiffReport, Mode, Node, NodeKind, Repository, Snapshot, Source};
use serde_json::Value;

type Entries = BTreeMap<Vec<u8>, Node>;

fn entries(repository: &Repository, snapshot: &Snapshot) -> Entries {
    let mut entries = Entries::new();
    let each = &mut |path: &[u8], node: &Node| {
        entries.insert(path.to_vec(), node.clone());
        ControlFlow::Continue(())
    };
    repository.list(snapshot, b"", true, each).expect("it is whole");
    entries
}

fn diff(repository: &Repository, before: &Snapshot, after: &Snapshot) -> (BTreeMap<Vec<u8>, Change>, DiffReport) {
    let mut found = BTreeMap::new();
    let mut last = Vec::new();
    let report = repository
        .diff((before, b""), (after, b""), &mut |difference| {
            let path: Vec<Vec<u8>> = difference.path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
            assert!(last < path, "parents come before children, and names ascend: {last:?}, {path:?}");
            last = path;
            found.insert(difference.path.to_vec(), difference.change);
            ControlFlow::Continue(())
        })
        .expect("it is whole");
    (found, report)
}

/// The same by looking at every entry of both.
fn by_hand(before: &Entries, after: &Entries) -> BTreeMap<Vec<u8>, Change> {
    let mut found = BTreeMap::new();
    for path in before.keys().chain(after.keys()) {
        let change = match (before.get(path), after.get(path)) {
            (None, _) => Some(Change::Added),
            (_, None) => Some(Change::Removed),
            (Some(old), Some(new)) => changed(old, new),
        };
        found.extend(change.map(|change| (path.clone(), change)));
    }
    found
}

fn changed(old: &Node, new: &Node) -> Option<Change> {
    let mut plain = [old.clone(), new.clone()];
    for node in &mut plain {
        // Recorded, and nobody's difference.
        let metadata = &mut node.metadata;
        (metadata.changed, metadata.born, metadata.accessed) = (metadata.modified, None, None);
        (metadata.inode, metadata.device, metadata.links, metadata.unstable) = (0, 0, 0, false);
    }
    let [mut a, mut b] = plain;
    if a.metadata.kind != b.metadata.kind {
        return Some(Change::Kind);
    }
    if a.metadata.kind == NodeKind::Directory {
        b.content = a.content.clone();
    }
    if a.content != b.content || a.metadata.special_device != b.metadata.special_device {
        let suspicious = a.metadata.kind == NodeKind::File
            && (old.metadata.modified, old.metadata.changed, old.metadata.size)
                == (new.metadata.modified, new.metadata.changed, new.metadata.size);
        return Some(Change::Content { suspicious });
    }
    b.metadata.size = a.metadata.size;
    a.content = b.content.clone();
    (a != b).then_some(Change::Metadata)
}

#[test]
fn random_trees_differ_as_they_differ_by_hand() {
    for seed in 0..6 {
        let bench = Bench::in_memory();
        let planner = Planner::new(bench.path(), &[32 << 10, 128 << 10]);
        bench.grow(&planner.from_seed(seed));
        let first = bench.backup();
        let edits = edit(&bench.source(), seed, 1 + Dice::new(seed).below(40) as usize);
        let second = bench.backup();
        let repository = bench.open();
        let (first, second) = (published(&first), published(&second));
        let (old, new) = (entries(&repository, first), entries(&repository, second));
        let (found, report) = diff(&repository, first, second);
        assert_eq!(found, by_hand(&old, &new), "seed {seed}: {edits:?}");
        // And the other way round.
        let (back, turned) = diff(&repository, second, first);
        assert_eq!(back, by_hand(&new, &old), "seed {seed}: {edits:?}");
        assert_eq!((report.added, report.removed), (turned.removed, turned.added));
        assert_eq!(report.changed_files, turned.changed_files);
        let count = |change: Change, kind: NodeKind| {
            let nodes = if change == Change::Added { &new } else { &old };
            let at = |path: &Vec<u8>| nodes.get(path).is_some_and(|node| node.metadata.kind == kind);
            found.iter().filter(|(path, found)| [change, Change::Kind].contains(found) && at(path)).count() as u64
        };
        assert_eq!(report.added.files, count(Change::Added, NodeKind::File), "seed {seed}: {edits:?}");
        assert_eq!(report.removed.directories, count(Change::Removed, NodeKind::Directory), "seed {seed}: {edits:?}");
        let (same, nothing) = diff(&repository, second, second);
        assert_eq!((same.len(), nothing), (0, DiffReport::default()));
    }
}

#[test]
fn of_a_large_directory_and_a_large_file_only_what_differs_is_read() {
    let bench = Bench::in_memory();
    for file in 0..8_000 {
        bench.write(&format!("many/{file:05}"), b"");
    }
    bench.write("large", noise(1, 20_000_000));
    let first = bench.backup();
    for file in [17, 4_000, 7_999] {
        bench.write(&format!("many/{file:05}"), b"changed");
    }
    let mut large = noise(1, 20_000_000);
    large.splice(10_000_000..10_000_000, *b"inserted");
    bench.write("large", large);
    let second = bench.backup();
    let repository = bench.open();
    let (found, report) = diff(&repository, published(&first), published(&second));
    let changed = found.values().filter(|change| matches!(change, Change::Content { .. })).count();
    assert_eq!((changed, report.changed_files), (4, 4));
    // A leaf and what is above it for each of three changes, and the directories above; of about 60 leaves.
    assert!(report.added.tree_chunks <= 30, "{report:?}");
    assert!(report.added.data_chunks <= 4, "of about 150: {report:?}");
    assert!(report.added.bytes < 3_000_000, "{report:?}");
}

/// What the source has now against a snapshot.
fn diff_with_now(
    bench: &Bench,
    source: &dyn Source,
    before: &Snapshot,
    mode: Mode,
) -> (BTreeMap<Vec<u8>, Change>, DiffReport) {
    let heard = Ears::default();
    let draft = bench.open().draft();
    let mode = if mode == Mode::Full { mode } else { Mode::Parent(before.id()) };
    let now = draft.backup(source, &options(mode), &heard).expect("the source is whole");
    assert_eq!(heard.problems(), Vec::<String>::new());
    diff(&draft, before, published(&now))
}

#[test]
fn a_snapshot_and_its_source_differ_as_that_and_the_next_backup_and_nothing_is_written() {
    for seed in 0..6 {
        let bench = Bench::in_memory();
        let planner = Planner::new(bench.path(), &[32 << 10, 128 << 10]);
        bench.grow(&planner.from_seed(seed));
        let first = bench.backup();
        let edits = edit(&bench.source(), seed, 1 + Dice::new(seed).below(40) as usize);
        let stored = objects(bench.backend());
        let (now, report) = diff_with_now(&bench, &bench.local_tree(), published(&first), Mode::Incremental);
        let (all, all_report) = diff_with_now(&bench, &bench.local_tree(), published(&first), Mode::Full);
        assert_eq!(objects(bench.backend()), stored, "nothing came, nothing went");
        let second = bench.backup();
        let (found, expected) = diff(&bench.open(), published(&first), published(&second));
        assert_eq!(now, found, "seed {seed}: {edits:?}");
        assert_eq!(all, found, "seed {seed}: {edits:?}");
        assert_eq!((report.added.files, report.added.bytes), (expected.added.files, expected.added.bytes));
        assert_eq!(all_report, report);
    }
}

#[test]
fn of_a_source_that_did_not_change_nothing_is_read_unless_that_is_wanted() {
    let bench = Bench::in_memory();
    bench.write("a", noise(1, 3_000_000));
    bench.write("b/c", "c");
    let (first, _) = bench.backup_counting(Mode::Incremental);
    for (mode, bytes) in [(Mode::Incremental, 0), (Mode::Full, 3_000_001)] {
        let source = CountingSource::aged(bench.local_tree(), 3600);
        let (found, report) = diff_with_now(&bench, &source, published(&first), mode.clone());
        assert_eq!((found.len(), report), (0, DiffReport::default()));
        assert_eq!(source.readings().bytes(), bytes, "{mode:?}");
    }
}

/// Two versions of a source, and what is to be said of them.
fn two_versions() -> Cli {
    let cli = Cli::new();
    for name in ["gone/file", "stays", "changes", "turns"] {
        cli.write(&format!("source/{name}"), name);
    }
    cli.backup(&[]);
    let path = |name: &str| cli.path(&format!("source/{name}"));
    std::fs::remove_dir_all(path("gone")).expect("ours");
    std::fs::remove_file(path("turns")).expect("ours");
    std::os::unix::fs::symlink("stays", path("turns")).expect("ours");
    std::fs::set_permissions(path("stays"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    cli.write("source/changes", "and how");
    cli.write("source/new/\u{1b}file", "new");
    cli.backup(&[]);
    cli
}

fn lines_of(out: &str) -> Vec<(String, String)> {
    let mark = "/source/";
    let line = |line: &str| {
        let (modifier, path) = line.split_once("    ")?;
        let name = &path[path.find(mark)? + mark.len()..];
        Some((modifier.to_owned(), name.to_owned()))
    };
    out.lines().filter_map(line).collect()
}

#[test]
fn diff_says_what_happened_to_each_entry_and_the_sums() {
    let cli = two_versions();
    let expected =
        [("M", "changes"), ("-", "gone/"), ("-", "gone/file"), ("+", "new/"), ("+", "new/\u{1b}file"), ("T", "turns")];
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(modifier, name)| ((*modifier).to_owned(), (*name).to_owned())).collect()
    };
    let run = cli.run(&["diff", "latest~1", "latest"]).succeeds();
    assert_eq!(lines_of(&run.out), owned(&expected));
    let run = run
        .tells("Files:           1 new,     2 removed,     1 changed")
        .tells("Dirs:            1 new,     1 removed");
    run.tells("Others:          1 new,     0 removed").tells("comparing snapshot ");
    let with_metadata = cli.run(&["diff", "latest~1", "latest", "--metadata"]).succeeds().out;
    assert!(lines_of(&with_metadata).contains(&("U".to_owned(), "stays".to_owned())), "{with_metadata}");
    // Within a directory, and the other way round.
    let run = cli.run(&["diff", "latest:/source/new", "latest~1:source/gone/"]).succeeds();
    assert!(run.out.contains("\n-    /\u{1b}file\n+    /file\n"), "{}", run.out);

    let lines = cli.json(&["diff", "latest~1", "latest"]);
    let (statistics, changes) = lines.split_last().expect("lines");
    assert_eq!(changes.len(), expected.len());
    assert!(changes.iter().all(|line| line["message_type"] == "change"));
    assert_eq!(changes[0]["modifier"], "M");
    assert_eq!(statistics["message_type"], "statistics");
    assert_eq!(statistics["changed_files"], 1);
    assert_eq!(statistics["added"]["others"], 1);
    assert_eq!(statistics["removed"]["files"], 2);
    assert!(
        statistics["added"]["bytes"].as_u64() > Some(0)
            && statistics["source_snapshot"].as_str().map(str::len) == Some(20)
    );
}

#[test]
fn a_directory_is_held_against_its_own_path_in_the_snapshot_or_another() {
    let cli = Cli::new();
    cli.write("source/stays", "stays");
    cli.write("source/changes", "before");
    cli.write("source/left.out", "x");
    let source = cli.path("source");
    let source = source.to_str().expect("a path of this test");
    cli.run(&["backup", source, "--exclude", "*.out"]).succeeds();
    cli.run(&["diff", "latest", source]).succeeds().tells("Files:           0 new,     0 removed,     0 changed");
    cli.write("source/changes", "after");
    cli.write("source/new", "new");
    cli.write("source/not.wanted", "y");
    let run = cli.run(&["diff", "latest", source, "--exclude", "not.*"]).succeeds();
    assert!(run.out.contains("\nM    /changes\n+    /new\n\n"), "{}", run.out);
    // What a relative path means begins with a dot.
    let run = cli.run(&["diff", &format!("latest:{source}"), "./source/../source"]).succeeds();
    assert!(run.out.contains("+    /not.wanted\n"), "{}", run.out);
    // Restored elsewhere every inode is another one: it is read, and is the same.
    cli.run(&["restore", &format!("latest:{source}"), "--target", cli.path("back").to_str().expect("ours")]).succeeds();
    let run = cli.run(&["diff", &format!("latest:{source}"), cli.path("back").to_str().expect("ours"), "--metadata"]);
    run.succeeds().tells("Files:           0 new,     0 removed,     0 changed");
    let lines = cli.json(&["diff", "latest", source]);
    let (statistics, changes) = lines.split_last().expect("lines");
    assert!(changes.iter().all(|line| line["message_type"] == "change"), "{changes:?}");
    assert_eq!((&statistics["target_snapshot"], statistics["target_directory"].as_str()), (&Value::Null, Some(source)));
    assert_eq!(cli.snapshots(), 1, "nothing was made");
}

#[test]
fn what_cannot_be_compared_is_refused_with_a_reason() {
    let cli = two_versions();
    cli.run(&["diff", "latest", "./nowhere"]).fails(1, &["nowhere", "No such file"]);
    cli.run(&["diff", "latest", "./source/changes"]).fails(1, &["is no directory"]);
    cli.run(&["diff", "latest", "/usr"]).fails(1, &["/usr is not in the snapshot"]);
    cli.run(&["diff", "latest~1", "latest", "--force"]).fails(1, &["concern a directory", "begins with / or ."]);
    cli.run(&["diff", "latest"]).fails(1, &["ID[:PATH]"]);
    cli.run(&["diff", "latest", "nonsense"]).fails(1, &["is not the id of a snapshot"]);
    cli.run(&["diff", "latest", "ffffffff"]).fails(1, &["ffffffff"]);
    cli.run(&["diff", "latest:/nowhere", "latest"]).fails(1, &["/nowhere is not in the snapshot"]);
    cli.run(&["diff", "latest:/source/changes", "latest"]).fails(1, &["is not a directory"]);
}
