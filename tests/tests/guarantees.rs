//! Every test that docs/guarantees.md names is there: a promise does not outlive what shows it.

use std::fs;
use std::path::{Path, PathBuf};

/// `file::name`, between backticks.
fn named(text: &str) -> Vec<(Vec<&str>, &str)> {
    let spans = text.split('`').skip(1).step_by(2);
    let tests = spans.filter_map(|span| span.rsplit_once("::"));
    tests.map(|(place, name)| (place.split("::").collect(), name)).filter(|(_, name)| *name != "…").collect()
}

/// Where a test with this place may be.
fn files(root: &Path, place: &[&str]) -> Vec<PathBuf> {
    match place {
        ["core", path @ ..] => {
            let path = root.join("repo-core/src").join(path.join("/"));
            vec![path.with_extension("rs"), path.join("tests.rs")]
        }
        [file] => vec![root.join("tests/tests").join(file).with_extension("rs")],
        _ => Vec::new(),
    }
}

/// Whether the text has a test of this name, and not only a function or a mention.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_it = |line: &str| line.starts_with(&format!("fn {name}("));
    lines.iter().enumerate().any(|(at, line)| {
        is_it(line) && lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| *line == "#[test]")
    })
}

#[test]
fn every_test_that_shows_a_promise_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/guarantees.md")).expect("the document is there");
    let named = named(&text);
    assert!(named.len() > 30, "{} tests are named", named.len());
    let missing: Vec<String> = named
        .iter()
        .filter(|(place, name)| {
            let texts = files(&root, place).into_iter().filter_map(|file| fs::read_to_string(file).ok());
            !texts.into_iter().any(|text| has_test(&text, name))
        })
        .map(|(place, name)| format!("{}::{name}", place.join("::")))
        .collect();
    assert!(missing.is_empty(), "docs/guarantees.md names tests that do not exist: {missing:#?}");
}

#[test]
fn a_mention_is_no_test() {
    let text = "fn helper() {}\n#[test]\nfn shown() {}\n// fn told() {}\n#[test]\n#[ignore = \"slow\"]\nfn slow() {}";
    assert!(has_test(text, "shown") && has_test(text, "slow"));
    assert!(!has_test(text, "helper") && !has_test(text, "told") && !has_test(text, "show"));
}
