//! The verbs: each file is options, report, and `impl Repository { pub fn verb }`. Never one another.
//! What several of them need of a snapshot's tree is in `lookup`.

pub mod backup;
pub mod browse;
pub mod check;
pub mod copy;
pub mod diff;
pub mod dump;
pub mod find;
pub mod forget;
pub mod list;
mod lookup;
pub mod mirror;
pub mod prune;
pub mod read;
pub mod recover;
pub mod repair;
pub mod restore;
pub mod rewrite;
pub mod stats;
pub mod tag;
