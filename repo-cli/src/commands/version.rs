//! `icecore version`

use clap::Args;
use serde::Serialize;

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::Outcome;

/// Print the version of this program.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Example:\n  icecore version --json"))]
pub struct Version {}

#[derive(Serialize)]
struct Line {
    message_type: &'static str,
    version: &'static str,
    os: &'static str,
    arch: &'static str,
}

impl Version {
    pub fn run(self, context: &Context) -> Outcome {
        use std::env::consts::{ARCH, OS};
        let version = env!("CARGO_PKG_VERSION");
        if context.output.is_json() {
            return context.output.json(&Line { message_type: "version", version, os: OS, arch: ARCH });
        }
        context.output.line(&format!("icecore {version} on {OS}/{ARCH}"))
    }
}
