//! `icecore`: parse, run, exit.
fn main() {}
