//! What is built in is what deny.toml allows: licences, banned packages, sources; and every dependency of the library
//! and of the command line has its reason beside it. Advisories are `cargo deny`'s business: they need the network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[test]
fn every_package_has_a_licence_that_is_allowed() {
    let allowed = items("allow");
    assert!(allowed.contains(&"MIT".to_owned()), "deny.toml was read: {allowed:?}");
    let packages = packages();
    assert!(packages.len() > 50, "the lock file was read");
    let wrong = packages.iter().filter(|package| !Expression::of(&package.licence).holds(&allowed));
    let wrong: Vec<_> = wrong.map(|package| format!("{}: {:?}", package.name, package.licence)).collect();
    assert!(wrong.is_empty(), "not in deny.toml's list:\n{}", wrong.join("\n"));
}

#[test]
fn no_package_is_banned() {
    let banned = items("deny");
    assert!(banned.contains(&"bincode@3".to_owned()), "deny.toml was read: {banned:?}");
    let lock = read("Cargo.lock");
    for banned in banned {
        let (name, version) = banned.split_once('@').unwrap_or((&banned, ""));
        let line = format!("name = \"{name}\"\nversion = \"{version}");
        assert!(!lock.contains(&line), "{banned} is banned, and in Cargo.lock");
    }
}

#[test]
fn every_package_comes_from_the_one_registry_or_from_here() {
    // The compression library is nobody's fork: where it comes from is where all others must come from.
    let registry = packages().into_iter().find(|package| package.name == "zstd").and_then(|package| package.source);
    assert!(registry.as_ref().is_some_and(|registry| registry.starts_with("registry+")), "{registry:?}");
    for package in packages() {
        let fine = package.source.is_none() || package.source == registry;
        assert!(fine, "{} comes from {:?}", package.name, package.source);
    }
}

#[test]
fn every_dependency_of_what_is_shipped_has_its_reason_beside_it() {
    for manifest in ["repo-core/Cargo.toml", "repo-cli/Cargo.toml"] {
        let text = read(manifest);
        let mut in_dependencies = false;
        for line in text.lines() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies]");
            } else if in_dependencies && line.contains(" = ") && !line.contains("path = ") {
                assert!(line.contains("# "), "{manifest}: no reason beside: {line}");
            }
        }
    }
    let core = read("repo-core/Cargo.toml");
    for pinned in ["fastcdc = \"=5.0.0\"", "bincode = { version = \"=2.0.1\""] {
        assert!(core.contains(pinned), "{pinned}: another version may store other bytes");
    }
}

struct Package {
    name: String,
    licence: String,
    /// `None`: of this workspace.
    source: Option<String>,
}

/// All packages that are built for this platform.
fn packages() -> Vec<Package> {
    let version = Command::new(env!("CARGO")).args(["-vV"]).output().expect("cargo runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    let run = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let metadata: Value = serde_json::from_slice(&run.stdout).expect("cargo writes JSON");
    let text = |package: &Value, key: &str| package[key].as_str().map(str::to_owned);
    let packages = metadata["packages"].as_array().expect("metadata lists packages");
    let one = |package| Package {
        name: text(package, "name").expect("a package has a name"),
        licence: text(package, "license").unwrap_or_default(),
        source: text(package, "source"),
    };
    packages.iter().map(one).collect()
}

/// The items of a list of deny.toml: the first text of each line.
fn items(list: &str) -> Vec<String> {
    let text = read("deny.toml");
    let inside = text.split(&format!("\n{list} = [\n")).nth(1).expect("deny.toml has this list");
    let inside = inside.split("\n]").next().expect("a list ends");
    inside.lines().filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

/// A licence expression of SPDX: alternatives of lists. The `/` of old packages is an `OR`.
struct Expression(Vec<Vec<String>>);

impl Expression {
    fn of(text: &str) -> Self {
        let text = text.replace('/', " OR ");
        let (expression, rest) = Self::alternatives(&text);
        assert!(rest.trim().is_empty(), "{text} has {rest:?} after its end");
        expression
    }

    fn alternatives(text: &str) -> (Self, &str) {
        let (mut all, mut rest) = Self::list(text);
        while let Some(more) = rest.trim_start().strip_prefix("OR ") {
            let (next, after) = Self::list(more);
            all.0.extend(next.0);
            rest = after;
        }
        (all, rest)
    }

    fn list(text: &str) -> (Self, &str) {
        let (mut all, mut rest) = Self::one(text);
        while let Some(more) = rest.trim_start().strip_prefix("AND ") {
            let (next, after) = Self::one(more);
            let both = |left: &Vec<String>| next.0.iter().map(|right| [left.clone(), right.clone()].concat()).collect();
            all = Self(all.0.iter().flat_map(|left| -> Vec<_> { both(left) }).collect());
            rest = after;
        }
        (all, rest)
    }

    fn one(text: &str) -> (Self, &str) {
        let text = text.trim_start();
        if let Some(inside) = text.strip_prefix('(') {
            let (all, rest) = Self::alternatives(inside);
            return (all, rest.trim_start().strip_prefix(')').expect("a parenthesis closes"));
        }
        let ends = [" OR ", " AND ", ")"].iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
        (Self(vec![vec![text[..ends].trim().to_owned()]]), &text[ends..])
    }

    fn holds(&self, allowed: &[String]) -> bool {
        self.0.iter().any(|list| list.iter().all(|licence| allowed.contains(licence)))
    }
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT".to_owned(), "BSD-3-Clause".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    let holds = |text| Expression::of(text).holds(&allowed);
    assert!(holds("MIT") && holds("GPL-3.0/MIT") && holds("GPL-3.0 OR Apache-2.0 WITH LLVM-exception"));
    assert!(holds("MIT AND BSD-3-Clause") && holds("(MIT OR GPL-3.0) AND BSD-3-Clause"));
    assert!(!holds("") && !holds("GPL-3.0") && !holds("MIT AND GPL-3.0") && !holds("Apache-2.0"));
    assert!(!holds("(MIT OR BSD-3-Clause) AND GPL-3.0"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
