//! `icecore repair`: each kind of repair is a subcommand in a file of its own.

mod parity;

use clap::{Args, Subcommand};

use crate::args::with_exit_codes;
use crate::context::Context;
use crate::exit::Outcome;

/// Bring back what is damaged, as far as anything can.
#[derive(Debug, Args)]
#[command(after_help = with_exit_codes!("Examples:\n  icecore repair parity\n  icecore repair parity --set 5%"))]
pub struct Repair {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Parity(parity::Parity),
}

impl Repair {
    pub fn run(self, context: &Context) -> Outcome {
        match self.verb {
            Verb::Parity(parity) => parity.run(context),
        }
    }
}
