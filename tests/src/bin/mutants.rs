//! The table of broken rules: each switch of the library breaks one rule of the protocol by which space is reclaimed, and
//! the simulation must notice. `cargo run -p icecore-tests --bin mutants`

use std::process::ExitCode;

use icecore_tests::simulate::table::{CASES, SCHEDULES};

fn main() -> ExitCode {
    println!("rule that is broken | configuration | schedules | what was lost\n--- | --- | --- | ---");
    let mut missed = 0;
    for case in CASES {
        let name = case.configuration.name;
        match case.catch(SCHEDULES) {
            Ok(found) => println!("{} | {name} | {} | {}", case.mutant, found.report.schedules, found.problem),
            Err(report) => {
                missed += 1;
                println!("{} | {name} | {} | NOT NOTICED", case.mutant, report.schedules);
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
