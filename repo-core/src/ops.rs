//! The verbs: each file is options, report, and `impl Repository { pub fn verb }`. Never one another.

pub mod backup;
pub mod check;
pub mod list;
pub mod read;
pub mod restore;
