//! A long search for a schedule in which prune loses something, with every rule kept: so many schedules of each
//! configuration in order, with at most so many preemptions, and as many by chance, or as many as are asked for from a seed on.
//! `cargo run -p icecore-tests --bin simulate -- 100000 3 [CONFIGURATION [BY_CHANCE [FIRST_SEED]]]`; `all` is every one.

use std::env;
use std::process::ExitCode;

use icecore_tests::simulate::table::CONFIGURATIONS;
use icecore_tests::simulate::{Exhaustive, Random, Scenario};

/// Seeds that the tests do not try.
const FIRST_SEED: u64 = 1_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |position: usize, default: u64| match arguments.get(position).map(|text| text.parse()) {
        None => Some(default),
        Some(parsed) => parsed.ok(),
    };
    let numbers = || {
        let schedules = number(0, 10_000)?;
        Some((schedules, number(1, 2)?, number(3, schedules)?, number(4, FIRST_SEED)?))
    };
    let Some((schedules, preemptions, by_chance, first_seed)) = numbers() else {
        eprintln!("usage: simulate [SCHEDULES [PREEMPTIONS [CONFIGURATION|all [BY_CHANCE [FIRST_SEED]]]]]");
        return ExitCode::from(2);
    };
    let is_meant = |name: &str| arguments.get(2).is_none_or(|meant| meant == name || meant == "all");
    let mut is_fine = true;
    for configuration in CONFIGURATIONS.iter().filter(|one| is_meant(one.name)) {
        // Without a bound, moves that commute are made in one order only.
        let preemptions = u32::try_from(preemptions).ok().filter(|most| *most < 10);
        let scenario = Scenario { preemptions, ..(configuration.scenario)() };
        let chance = (configuration.scenario)();
        let searches = [Exhaustive::explore(&scenario, schedules), Random::explore(&chance, first_seed, by_chance)];
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
