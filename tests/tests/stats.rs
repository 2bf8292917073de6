//! `stats` at the command line: its modes, its JSON, and what it says of a damaged repository.

use icecore_tests::cli::Cli;
use icecore_tests::whole::noise;
use serde_json::{Value, json};

/// Two snapshots; the second has one file more.
fn two_snapshots() -> Cli {
    let cli = Cli::new();
    cli.write("source/a/text", "some words\n".repeat(20_000));
    cli.write("source/a/noise", noise(1, 300_000));
    cli.write("source/b/noise", noise(1, 300_000));
    cli.backup(&["--tag", "one"]);
    cli.write("source/b/more", noise(2, 100_000));
    cli.backup(&["--host", "other"]);
    cli
}

fn stats(cli: &Cli, more: &[&str]) -> Value {
    cli.json(&[&["stats"], more].concat()).remove(0)
}

#[test]
fn the_modes_count_what_their_names_say_with_restics_fields() {
    let cli = two_snapshots();
    let restore = stats(&cli, &[]);
    assert_eq!(restore["snapshots_count"], 2);
    assert_eq!(restore["total_size"], 2 * 820_000 + 100_000);
    assert_eq!(restore["total_file_count"], 6 + 7, "directories count");
    assert!(restore.get("total_blob_count").is_none() && restore.get("compression_ratio").is_none());
    assert_eq!(restore["snapshots"][1]["restore_size"], 920_000);
    assert_eq!(restore["snapshots"][1]["file_count"], 7);

    let contents = stats(&cli, &["--mode", "files-by-contents"]);
    assert_eq!((&contents["total_size"], &contents["total_file_count"]), (&json!(620_000), &json!(3)));

    let blobs = stats(&cli, &["--mode", "blobs-per-file"]);
    assert_eq!((&blobs["total_size"], &blobs["total_file_count"]), (&json!(620_000), &json!(3)));
    assert!(blobs["total_blob_count"].as_u64() >= Some(3));

    let raw = stats(&cli, &["--mode=raw-data"]);
    let number = |name: &str| raw[name].as_f64().unwrap_or_else(|| panic!("{name}: {raw}"));
    assert!(number("total_uncompressed_size") > 620_000.0 && number("total_size") > 400_000.0);
    assert!(number("total_size") < 500_000.0, "text compresses, and what is there twice is stored once");
    let ratio = number("total_uncompressed_size") / number("total_size");
    assert!((number("compression_ratio") - ratio).abs() < 1e-9);
    assert!((number("compression_space_saving") - (1.0 - 1.0 / ratio) * 100.0).abs() < 1e-9);
    assert_eq!(number("compression_progress"), 100.0);
    assert!(number("deduplication_ratio") > 2.5, "{raw}");
    let unique = |place: usize| raw["snapshots"][place]["unique_size"].as_u64().expect("a number");
    assert!((100_000..120_000).contains(&unique(1)), "{raw}");
    assert!(unique(0) < 20_000, "{raw}");
}

#[test]
fn ids_and_filters_choose_and_unique_is_against_all_others() {
    let cli = two_snapshots();
    let newest = stats(&cli, &["latest"]);
    assert_eq!((&newest["snapshots_count"], &newest["total_size"]), (&json!(1), &json!(920_000)));
    assert_eq!(stats(&cli, &["--host", "other"])["total_size"], 920_000);
    assert_eq!(stats(&cli, &["--tag", "one"])["total_size"], 820_000);
    assert_eq!(stats(&cli, &["-H", "nobody"])["snapshots_count"], 0);
    assert_eq!(stats(&cli, &["latest", "latest~0"])["snapshots_count"], 1, "each id once");
    let (alone, both) = (stats(&cli, &["--mode", "raw-data", "latest"]), stats(&cli, &["--mode", "raw-data"]));
    assert_eq!(alone["snapshots"][0]["unique_size"], both["snapshots"][1]["unique_size"]);
    cli.run(&["stats", "latest", "--host", "x"]).fails(1, &["ids are given already"]);
    cli.run(&["stats", "--mode", "everything"]).fails(1, &["restore-size", "raw-data"]);
    cli.run(&["stats", "ffffffff"]).fails(1, &["no snapshot"]);
}

#[test]
fn text_has_restics_lines_and_a_table_of_snapshots() {
    let cli = two_snapshots();
    let run = cli.run(&["stats"]).succeeds();
    let lines: Vec<&str> = run.out.lines().map(str::trim_start).collect();
    let expected =
        ["Stats in restore-size mode:", "Snapshots processed: 2", "Total File Count: 13", "Total Size: 1.659 MiB"];
    assert_eq!(lines, expected);
    let raw = cli.run(&["stats", "--mode", "raw-data"]).succeeds();
    for words in ["Total Blob Count: ", "Compression Ratio: ", "Deduplication Ratio: ", "Unique Size", "898.438 KiB"] {
        assert!(raw.out.contains(words), "{words}:\n{}", raw.out);
    }
    assert!(cli.run(&["stats", "-v"]).succeeds().out.contains("Restore Size"));
    assert!(!cli.run(&["-q", "stats", "--mode", "raw-data"]).succeeds().out.contains("Unique Size"));
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_counted() {
    let cli = two_snapshots();
    let packs = cli.path("repo/packs/m");
    let mut damaged = 0;
    for entry in walk(&packs) {
        std::fs::remove_file(entry).expect("a pack of ours");
        damaged += 1;
    }
    assert!(damaged > 0, "no meta packs at {}", packs.display());
    let run = cli.run(&["stats"]).fails(3, &["could not be read"]);
    assert!(run.out.contains("Snapshots processed: 2"), "{}", run.out);
}

fn walk(top: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![top.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => pending.push(path),
                path => files.push(path),
            }
        }
    }
    files
}
