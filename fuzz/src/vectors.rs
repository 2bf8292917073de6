//! The golden vectors of docs/vectors: what the seeds are made of.

use std::path::{Path, PathBuf};

/// Where they are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors")
}

/// One of them: hexadecimal digits, and `#` with what they mean.
pub fn read(name: &str) -> Vec<u8> {
    let path = folder().join(name).with_extension("hex");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digits: String = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
        .filter(|letter| !letter.is_whitespace())
        .collect();
    hex::decode(digits).expect("a vector file holds hexadecimal digits")
}

/// The name that a sealed vector is bound to: the comment's line `Name: …`.
pub fn name_of(name: &str) -> String {
    let text = std::fs::read_to_string(folder().join(name).with_extension("hex")).expect("the vector is there");
    let line = text.lines().find_map(|line| line.strip_prefix("# Name: ")).expect("it is a sealed one");
    line.to_owned()
}
