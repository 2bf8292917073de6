//! A long search for a schedule in which prune loses something, with every rule kept: so many schedules of each
//! configuration in order, with at most so many preemptions, and as many by chance.
//! `cargo run -p icecore-tests --bin simulate -- 100000 3 [CONFIGURATION]`

use std::env;
use std::process::ExitCode;

use icecore_tests::simulate::table::CONFIGURATIONS;
use icecore_tests::simulate::{Exhaustive, Random, Scenario};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |position: usize, default: u64| match arguments.get(position).map(|text| text.parse()) {
        None => Some(default),
        Some(parsed) => parsed.ok(),
    };
    let (Some(schedules), Some(preemptions)) = (number(0, 10_000), number(1, 2)) else {
        eprintln!("usage: simulate [SCHEDULES [PREEMPTIONS [CONFIGURATION]]]");
        return ExitCode::from(2);
    };
    let mut is_fine = true;
    for configuration in CONFIGURATIONS.iter().filter(|one| arguments.get(2).is_none_or(|name| name == one.name)) {
        // Without a bound, moves that commute are made in one order only.
        let preemptions = u32::try_from(preemptions).ok().filter(|most| *most < 10);
        let scenario = Scenario { preemptions, ..(configuration.scenario)() };
        let searches = [Exhaustive::explore(&scenario, schedules), Random::explore(&scenario, 1_000_000, schedules)];
        for search in searches {
            match search {
                Ok(report) => println!("{}: {report}", configuration.name),
                Err(found) => {
                    is_fine = false;
                    println!("{}: {found}", configuration.name);
                }
            }
        }
    }
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
