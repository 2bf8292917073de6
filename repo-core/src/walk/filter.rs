//! Patterns, as restic's users write them: what is left out, and what is let in.

/// A list of patterns; later ones win, `!` takes back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {}

/// A pattern that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad pattern {pattern:?}: {problem}")]
pub struct BadPattern {
    pub pattern: String,
    pub problem: &'static str,
}

impl Patterns {
    /// No patterns.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn add(&mut self, _pattern: &str, _ignore_case: bool) -> Result<(), BadPattern> {
        todo!()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Whether a path (raw bytes, beginning with `/`) is matched.
    pub fn matches(&self, _path: &[u8]) -> bool {
        todo!()
    }

    /// Whether something below the directory `path` may be matched: where not, a restore need not look.
    pub fn may_match_below(&self, _path: &[u8]) -> bool {
        todo!()
    }
}
