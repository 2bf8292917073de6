//! The storeys of ARCHITECTURE.md, held (invariants 9 and 10): every `crate::` and `super::` path of repo-core points
//! down, no verb calls another, and what is of the platform, of bincode, of threads or of the terminal stays in its
//! room. It reads source text, and its own eyes are tested below on texts that break each rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of repo-core from the ground up, a storey a line. A room imports from storeys below its own, and from rooms
/// left of it on its own. The verbs under `ops` are rooms of their own, which import everything but one another;
/// what they share stands on a shelf beside them, [`SHARED_BY_VERBS`].
const STOREYS: [&[&str]; 6] = [
    &["id", "error", "progress", "calendar", "world", "mutants"],
    &["codec", "format"],
    &["chunker", "crypto", "frame", "seal", "parity", "pipeline", "platform", "archive"],
    &["backend"],
    &["store"],
    &["walk", "tree", "repository", "policy"],
];

/// Files of `ops` that hold no verb, but what several need.
const SHARED_BY_VERBS: [&str; 1] = ["ops::lookup"];

/// What a room must not know although it lies below (invariant 9): a backend no keys and no meaning, a walk no packs,
/// a verb no byte layouts.
const UNKNOWN_TO: [(&str, &[&str]); 3] = [
    ("backend", &["codec", "format", "chunker", "crypto", "frame", "seal"]),
    ("walk", &["codec", "chunker", "crypto", "frame", "seal", "backend", "store"]),
    ("ops", &["codec", "format::header", "format::index"]),
];

/// Words that may stand in some rooms alone. A word that ends in `::` or `(` is taken as it is, others as whole words.
const KEPT_IN: [(&str, &[&str]); 16] = [
    ("rustix", &["platform"]),
    ("nix", &["platform"]),
    ("libc", &["platform"]),
    ("std::os::", &["platform"]),
    ("bincode", &["codec"]),
    ("thread::spawn", &["pipeline"]),
    ("thread::scope", &["pipeline"]),
    ("thread::Builder", &["pipeline"]),
    ("ThreadPoolBuilder", &["pipeline"]),
    ("rayon::spawn", &["pipeline"]),
    ("println!", &[]),
    ("print!", &[]),
    ("eprintln!", &[]),
    ("eprint!", &[]),
    ("dbg!", &[]),
    ("process::exit", &[]),
];

/// Modules of the standard library of which nothing may be used: the environment and the terminal.
const FORBIDDEN_PATHS: [&str; 4] = ["std::env", "io::stdin", "io::stdout", "io::stderr"];

/// Files of both crates that lift `deny(unsafe_code)`.
const UNSAFE_FILES: usize = 0;

#[test]
fn imports_of_repo_core_point_down() {
    let house = House::of(&sources("repo-core/src"));
    assert!(house.files.len() > 40, "the house was found");
    none(house.imports_that_point_up());
}

#[test]
fn no_verb_calls_another() {
    none(House::of(&sources("repo-core/src")).verbs_that_call_verbs());
}

#[test]
fn what_belongs_to_one_room_stays_there() {
    none(House::of(&sources("repo-core/src")).words_out_of_their_room());
}

#[test]
fn the_command_line_knows_only_the_public_api() {
    let found = sources("repo-cli/src").into_iter().filter(|(_, text)| {
        let text = code(text);
        has_word(&text, "internals") || has_word(&text, "bincode") || has_word(&text, "aes_gcm")
    });
    none(found.map(|(path, _)| format!("{path} looks behind the front door")).collect());
}

#[test]
fn unsafe_code_is_denied_and_the_files_that_lift_it_are_counted() {
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("unsafe_code = \"deny\""), "the workspace denies unsafe code");
    for member in ["repo-core", "repo-cli", "tests", "benches"] {
        let manifest = read(&format!("{member}/Cargo.toml"));
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member} takes the workspace's lints");
    }
    let all = ["repo-core/src", "repo-core/examples", "repo-cli/src", "benches/src", "tests/src", "tests/tests"];
    let lifting: Vec<_> = all.into_iter().flat_map(sources).filter(|(_, text)| lifts_unsafe(text)).collect();
    let names: Vec<_> = lifting.iter().map(|(path, _)| path).collect();
    assert_eq!(lifting.len(), UNSAFE_FILES, "{names:?}");
}

#[test]
fn every_file_says_what_its_room_is_for() {
    let all = ["repo-core/src", "repo-cli/src", "benches/src", "tests/src", "tests/tests"];
    let silent = all.into_iter().flat_map(sources).filter(|(_, text)| !text.starts_with("//! "));
    none(silent.map(|(path, _)| format!("{path} does not open with `//! `")).collect());
}

fn none(found: Vec<String>) {
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

/// All files of the library, as code without comments, texts and tests.
struct House {
    files: BTreeMap<Vec<String>, String>,
    /// Where the names come from that `lib.rs` hands out at the crate's root.
    front_door: BTreeMap<String, Vec<String>>,
}

impl House {
    fn of(sources: &[(String, String)]) -> Self {
        let mut files: BTreeMap<_, _> =
            sources.iter().map(|(path, text)| (module_of(path), without_tests(&code(text)))).collect();
        let door = files.remove(&Vec::new()).unwrap_or_default();
        let mut front_door = BTreeMap::new();
        for part in door.split("pub use ").skip(1) {
            for path in use_tree(part) {
                if let Some(name) = path.last() {
                    front_door.insert(name.clone(), path.clone());
                }
            }
        }
        files.retain(|module, _| module.last().is_none_or(|name| name != "tests"));
        Self { files, front_door }
    }

    /// The room of a path from the crate's root.
    fn room(&self, path: &[String]) -> Result<String, String> {
        let first = path.first().map_or("", String::as_str);
        if first == "ops" {
            let verb = path.get(1).filter(|verb| self.files.contains_key(&vec!["ops".to_owned(), (*verb).clone()]));
            return Ok(verb.map_or("ops".to_owned(), |verb| format!("ops::{verb}")));
        }
        if height(first).is_some() {
            return Ok(first.to_owned());
        }
        match self.front_door.get(first) {
            Some(origin) => self.room(origin),
            None => Err(format!("`{}` is of no room that the table knows", path.join("::"))),
        }
    }

    fn imports_that_point_up(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (module, text) in &self.files {
            let shown = module.join("::");
            let home = match self.room(module) {
                Ok(home) => home,
                Err(fault) => {
                    faults.push(format!("{shown}: {fault}"));
                    continue;
                }
            };
            for path in paths(module, text) {
                match self.room(&path) {
                    Ok(room) if may_import(&home, &room, &path) => {}
                    Ok(room) => faults.push(format!("{shown} imports {} of {room}", path.join("::"))),
                    Err(fault) => faults.push(format!("{shown}: {fault}")),
                }
            }
        }
        faults
    }

    /// A verb is a public function of `impl Repository` in a file of `ops`.
    fn verbs_that_call_verbs(&self) -> Vec<String> {
        let mut homes = BTreeMap::new();
        let of_ops = || self.files.iter().filter(|(module, _)| module.first().is_some_and(|first| first == "ops"));
        for (module, text) in of_ops() {
            for verb in public_functions(text, "impl Repository {") {
                homes.insert(verb, self.room(module).expect("a file of ops has a room"));
            }
        }
        let mut faults = Vec::new();
        for (module, text) in of_ops() {
            let home = self.room(module).expect("a file of ops has a room");
            for (verb, verbs_home) in homes.iter().filter(|(_, verbs_home)| **verbs_home != home) {
                for subject in ["self", "repository", "repo", "self.repository", "run.repository"] {
                    // A private helper of this file may have a verb's name.
                    let own = subject == "self" && text.contains(&format!("fn {verb}("));
                    if !own && has_word(text, &format!("{subject}.{verb}(")) {
                        faults.push(format!("{} calls {subject}.{verb}, which is {verbs_home}", module.join("::")));
                    }
                }
            }
        }
        faults
    }

    fn words_out_of_their_room(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (module, text) in &self.files {
            let home = module[0].as_str();
            for (word, rooms) in KEPT_IN {
                if !rooms.contains(&home) && has_word(text, word) {
                    faults.push(format!("{} has `{word}`", module.join("::")));
                }
            }
            let forbidden = use_paths(text);
            for path in FORBIDDEN_PATHS {
                let imported = forbidden.iter().any(|import| format!("{import}::").contains(&format!("{path}::")));
                if imported || has_word(text, path) {
                    faults.push(format!("{} uses {path}", module.join("::")));
                }
            }
            let kept = |path: &String| path.starts_with("std::os::") && home != "platform";
            faults.extend(forbidden.iter().filter(|path| kept(path)).map(|path| format!("{home} uses {path}")));
        }
        faults
    }
}

/// Storey, and place on it; `ops` and its verbs are above all.
fn height(room: &str) -> Option<(usize, usize)> {
    if SHARED_BY_VERBS.contains(&room) {
        return Some((STOREYS.len() - 1, usize::MAX));
    }
    if room == "ops" || room.starts_with("ops::") {
        return Some((STOREYS.len(), 0));
    }
    STOREYS
        .iter()
        .enumerate()
        .find_map(|(storey, rooms)| rooms.iter().position(|name| *name == room).map(|place| (storey, place)))
}

fn may_import(home: &str, room: &str, path: &[String]) -> bool {
    let base = home.split("::").next().expect("a room has a name");
    let path = path.join("::") + "::";
    let begins = |unknown: &&str| *unknown == room || path.starts_with(&format!("{unknown}::"));
    let unknown = UNKNOWN_TO.iter().any(|(name, unknown)| *name == base && unknown.iter().any(begins));
    home == room || (height(room) < height(home) && !unknown)
}

/// `repo-core/src/store/index.rs` is `["store", "index"]`, `lib.rs` is nothing.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.split("src/").nth(1).expect("a source file lies in src").trim_end_matches(".rs");
    inside.split('/').filter(|part| *part != "lib" && *part != "mod").map(str::to_owned).collect()
}

/// Every path in `text` that begins at the crate's root or at a module above, from the crate's root.
fn paths(module: &[String], text: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        if starts_word(text, at) {
            found.extend(use_tree(&text[at + "crate::".len()..]));
        }
    }
    for (at, _) in text.match_indices("super::") {
        // Of `super::super::x` only the first begins a path.
        if starts_word(text, at) && !text[..at].ends_with("super::") {
            let ups = text[at..].split("super::").take_while(|between| between.is_empty()).count();
            let rest = &text[at + ups * "super::".len()..];
            let above = &module[..module.len().saturating_sub(ups)];
            found.extend(use_tree(rest).into_iter().map(|below| [above, &below].concat()));
        }
    }
    found
}

/// The whole paths that `use` brings in, `a::{b, c::d}` spelled out.
fn use_paths(text: &str) -> Vec<String> {
    let uses = text.match_indices("use ").filter(|(at, _)| starts_word(text, *at));
    uses.flat_map(|(at, _)| use_tree(&text[at + 4..])).map(|path| path.join("::")).collect()
}

/// The paths of a use tree or of an expression, at whose first name `text` begins. Names given by `as` and a final
/// `*` or `self` are left out.
fn use_tree(text: &str) -> Vec<Vec<String>> {
    fn tree(mut text: &str, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
        let length = text.len();
        let mut path = before.to_vec();
        loop {
            text = text.trim_start();
            if let Some(mut inside) = text.strip_prefix('{') {
                while !inside.trim_start().starts_with('}') && !inside.trim_start().is_empty() {
                    inside = &inside[tree(inside, &path, found)..];
                    inside = inside.trim_start().strip_prefix(',').unwrap_or(inside.trim_start());
                    if inside.starts_with([';', ')']) {
                        break; // no use tree after all
                    }
                }
                let rest = inside.trim_start();
                return length - rest.strip_prefix('}').unwrap_or(rest).len();
            }
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            if !name.is_empty() && name != "self" {
                path.push(name.to_owned());
            }
            match rest.strip_prefix("::") {
                Some(rest) => text = rest,
                None => {
                    found.push(path);
                    let rest = rest.strip_prefix('*').unwrap_or(rest);
                    let renamed = rest
                        .trim_start()
                        .strip_prefix("as ")
                        .map(|rest| rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == ' '));
                    let rest = renamed.unwrap_or(rest);
                    // At least one character, so that a loop over a tree always ends.
                    return (length - rest.len()).max(1).min(length);
                }
            }
        }
    }
    let mut found = Vec::new();
    tree(text, &[], &mut found);
    found
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn starts_word(text: &str, at: usize) -> bool {
    // `$crate` and `self::super` do not occur; `::crate` would be another crate.
    !text[..at].chars().next_back().is_some_and(|c| is_name(c) || c == ':' || c == '.')
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(is_name);
        let after = text[at + word.len()..].chars().next().is_some_and(is_name);
        let open = word.ends_with(|c: char| !is_name(c));
        !before && (open || !after)
    })
}

fn lifts_unsafe(text: &str) -> bool {
    let text: String = code(text).split_whitespace().collect();
    ["allow(", "expect("].iter().any(|how| {
        text.match_indices(how)
            .any(|(at, _)| text[at..].split(')').next().is_some_and(|list| list.contains("unsafe_code")))
    })
}

/// The names of the public functions of all blocks that begin with `head`.
fn public_functions(text: &str, head: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices(head) {
        let block = &text[at..at + block_length(&text[at..])];
        for part in block.split("pub fn ").skip(1) {
            names.push(part.chars().take_while(|c| is_name(*c)).collect());
        }
    }
    names
}

/// How long `text` is up to the end of the first block of braces in it, or to a `;` before any.
fn block_length(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Leaves out what is compiled for tests alone.
fn without_tests(text: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    match text.find(MARK) {
        None => text.to_owned(),
        Some(at) => {
            let item = &text[at + MARK.len()..];
            text[..at].to_owned() + &without_tests(&item[block_length(item)..])
        }
    }
}

/// Source text without comments, and with empty texts and characters; newlines stay.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_text_length(rest).filter(|_| !out.ends_with(is_name)) {
            out.push_str("\"\"");
            length
        } else if c == '"' {
            out.push_str("\"\"");
            text_length(rest)
        } else if let Some(length) = character_length(rest) {
            out.push_str("' '");
            length
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    out
}

fn text_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

fn raw_text_length(text: &str) -> Option<usize> {
    let inside = text.strip_prefix("br").or(text.strip_prefix('r'))?;
    let hashes = inside.len() - inside.trim_start_matches('#').len();
    let content = inside[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = content.find(&close)?;
    Some(text.len() - content.len() + end + close.len())
}

/// Of a character literal; a lifetime is none.
fn character_length(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        return Some(2 + escape.char_indices().skip(1).find(|(_, c)| *c == '\'')?.0 + 1);
    }
    let length = inside.chars().next()?.len_utf8();
    inside[length..].starts_with('\'').then_some(length + 2)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Rust files below a directory of the workspace, with their paths from it.
fn sources(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(root().join(directory)) else { return found };
    for entry in entries {
        let name = entry.expect("a directory of ours can be read").file_name();
        let path = format!("{directory}/{}", name.to_str().expect("source files have plain names"));
        if root().join(&path).is_dir() {
            found.extend(sources(&path));
        } else if path.ends_with(".rs") {
            let text = read(&path);
            found.push((path, text));
        }
    }
    found
}

/// The eyes of this test, on small houses.
mod eyes {
    use super::*;

    fn house(files: &[(&str, &str)]) -> House {
        let files: Vec<_> = files.iter().map(|(path, text)| (format!("src/{path}"), (*text).to_owned())).collect();
        House::of(&files)
    }

    fn imports(path: &str, text: &str) -> Vec<String> {
        let lib = "pub use error::{Error, Result};\npub use repository::Repository;";
        house(&[("lib.rs", lib), ("ops/check.rs", ""), ("ops/restore.rs", ""), (path, text)]).imports_that_point_up()
    }

    #[test]
    fn an_import_from_above_is_seen_however_it_is_written() {
        let above = [
            "use crate::store::Store;",
            "use crate::{id::ChunkId, store::Store};",
            "use crate::{\n    id,\n    store::{\n        Store,\n    },\n};",
            "fn f() { let x = crate::store::open(); }",
            "fn f(store: &super::super::store::Store) {}",
            "use super::super::{id, store};",
            "use crate::repository as r;",
            "use crate::Repository;",
            "impl From<crate::walk::Entry> for X {}",
        ];
        for text in above {
            assert_eq!(imports("format/tree.rs", text).len(), 1, "{text}: {:?}", imports("format/tree.rs", text));
        }
    }

    #[test]
    fn imports_from_below_and_from_the_same_room_are_right() {
        let below = "use crate::{error::{Corruption, Error}, id};\nuse super::Extensions;\nuse super::super::id::X;";
        assert_eq!(imports("format/tree.rs", below), Vec::<String>::new());
        assert_eq!(
            imports("seal.rs", "use crate::crypto::Keys; use crate::frame; use crate::Error;"),
            Vec::<String>::new()
        );
        assert_eq!(imports("ops/backup.rs", "use super::super::walk::Source; use crate::store;"), Vec::<String>::new());
    }

    #[test]
    fn a_neighbour_on_the_right_is_above() {
        assert_eq!(imports("crypto.rs", "use crate::seal;"), ["crypto imports seal of seal"]);
    }

    #[test]
    fn what_is_below_and_still_none_of_its_business_is_seen() {
        assert_eq!(imports("walk/local.rs", "use crate::store::Store;").len(), 1);
        assert_eq!(imports("backend/local.rs", "use crate::crypto::Keys;").len(), 1);
        assert_eq!(imports("ops/backup/run.rs", "use crate::codec;").len(), 1);
        assert_eq!(imports("ops/backup/run.rs", "use crate::format::{header, tree};").len(), 1);
        assert_eq!(imports("ops/backup/run.rs", "use crate::format::snapshot::Summary;").len(), 0);
    }

    #[test]
    fn verbs_do_not_import_one_another_but_their_own_rooms_do() {
        assert_eq!(
            imports("ops/backup.rs", "use super::check::look;"),
            ["ops::backup imports ops::check::look of ops::check"]
        );
        assert_eq!(imports("ops/backup/run.rs", "use crate::ops::restore::X;").len(), 1);
        let own = [("ops/backup.rs", "use self::run::X;"), ("ops/backup/run.rs", "use super::Options;")];
        assert_eq!(house(&own).imports_that_point_up(), Vec::<String>::new());
    }

    #[test]
    fn what_verbs_share_is_below_them_and_above_all_else() {
        let with = |path, text| {
            house(&[("ops/lookup.rs", ""), ("ops/check.rs", ""), (path, text)]).imports_that_point_up().len()
        };
        assert_eq!(with("ops/backup.rs", "use super::lookup::find;"), 0);
        assert_eq!(with("repository.rs", "use crate::ops::lookup::find;"), 1);
        assert_eq!(with("ops/lookup.rs", "use super::check::look;"), 1);
        assert_eq!(with("ops/lookup.rs", "use crate::repository::Repository;"), 0);
    }

    #[test]
    fn a_room_that_the_table_does_not_know_is_seen() {
        assert_eq!(imports("cellar.rs", "").len(), 1);
        assert_eq!(imports("format/tree.rs", "use crate::cellar::Wine;").len(), 1);
    }

    #[test]
    fn comments_texts_and_tests_are_no_imports() {
        let none = r###"
            //! See `crate::store`.
            /// [`crate::Repository`]
            const A: &str = "crate::store::\"x";  /* crate::walk */
            const B: &str = r#"crate::tree "quoted" "#; const C: char = '"'; const D: &[u8] = br"crate::walk";
            fn f<'a>(x: &'a str) -> char { '\'' }
            #[cfg(test)]
            use crate::store::Store;
            #[cfg(test)]
            mod tests { use crate::store::Store; fn g() { { } } }
        "###;
        assert_eq!(imports("format/tree.rs", none), Vec::<String>::new());
        assert_eq!(imports("format/tests.rs", "use crate::store;"), Vec::<String>::new());
        let after = "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::store;";
        assert_eq!(imports("format/tree.rs", after).len(), 1, "what follows the tests is read");
        let after = "const A: char = '\"'; use crate::store; const B: char = '\"';";
        assert_eq!(imports("format/tree.rs", after).len(), 1, "a quote in a character opens no text");
    }

    #[test]
    fn a_verb_that_calls_a_verb_is_seen() {
        let check = ("ops/check.rs", "impl Repository { pub fn check(&self) {} }");
        let calls = |text| house(&[check, ("ops/backup.rs", text)]).verbs_that_call_verbs().len();
        assert_eq!(calls("impl Repository { pub fn backup(&self) { self.check(); } }"), 1);
        assert_eq!(calls("fn run(repository: &Repository) { repository.check(&options); }"), 1);
        assert_eq!(calls("impl Repository { pub fn backup(&self) { self.recheck(); self.checked(); } }"), 0);
        assert_eq!(calls("impl Run { fn go(&self) { self.check(); } fn check(&self) {} }"), 0);
    }

    #[test]
    fn words_out_of_their_room_are_seen() {
        let faults = |path, text| house(&[(path, text)]).words_out_of_their_room().len();
        let wrong = [
            "use rustix::fs;",
            "use nix::unistd;",
            "use libc;",
            "fn f(x: &std::os::fd::OwnedFd) {}",
            "use bincode::config;",
            "fn f() { println!(); }",
            "fn f() { eprintln!(\"{}\", 1); }",
            "fn f() { std::process::exit(1); }",
            "fn f() { let home = std::env::var(\"HOME\"); }",
            "fn f() { std::thread::spawn(|| ()); }",
            "fn f() { thread::Builder::new(); }",
        ];
        for text in wrong {
            assert_eq!(faults("store/index.rs", text), 1, "{text}");
        }
        assert!(faults("store/index.rs", "use std::{env, fs};") >= 1);
        assert!(faults("store/index.rs", "use std::{io, os::unix::fs::MetadataExt};") >= 1);
        assert!(faults("store/index.rs", "use std::io::{stdout, Write};") >= 1);
        assert_eq!(faults("platform/files.rs", "use rustix::fs; use std::os::fd::OwnedFd;"), 0);
        assert_eq!(faults("codec.rs", "use bincode::config;"), 0);
        assert_eq!(faults("pipeline.rs", "fn f() { thread::scope(|s| ()); }"), 0);
        assert_eq!(faults("store.rs", "const A: &str = concat!(env!(\"CARGO_PKG_VERSION\")); fn phoenix() {}"), 0);
    }

    #[test]
    fn a_file_that_lifts_the_ban_on_unsafe_code_is_counted() {
        assert!(lifts_unsafe("#![allow(unsafe_code)]"));
        assert!(lifts_unsafe("#[allow(dead_code,\n    unsafe_code)]"));
        assert!(lifts_unsafe("#[expect(unsafe_code)]"));
        assert!(!lifts_unsafe("#![deny(unsafe_code)] // allow(unsafe_code)"));
    }
}
