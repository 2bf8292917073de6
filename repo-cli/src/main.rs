//! `icecore`: parse, run, exit. What it says is in `output` and `exit`; what it does, one verb a file in `commands`.

// Doc comments of arguments are help texts, where brackets are brackets.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags, rustdoc::bare_urls)]

mod args;
mod commands;
mod context;
mod exit;
mod grouping;
mod interrupt;
mod json;
mod memory;
#[cfg(target_os = "linux")]
mod mount;
mod names;
mod numbers;
mod others;
mod output;
mod owner;
mod patterns;
mod problems;
mod progress;
mod secrets;
mod selection;
mod sources;
mod state;
mod time;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(problem) => return exit::usage(&problem, std::env::args_os().any(|argument| argument == "--json")),
    };
    interrupt::survive_questions();
    let output = output::Output::new(&arguments.global);
    let context = context::Context::new(arguments.global, output);
    let result = commands::run(arguments.command, &context);
    exit::finish(result, &context.output)
}
