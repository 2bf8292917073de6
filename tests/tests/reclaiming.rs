//! Prune beside everything else, under every schedule of small configurations; and the test of that test: each rule of the
//! protocol that is broken on purpose is noticed.

use icecore_tests::simulate::table::{CASES, CONFIGURATIONS};
use icecore_tests::simulate::{Exhaustive, Scenario};

#[test]
fn every_broken_rule_is_noticed() {
    let mut missed = Vec::new();
    for case in CASES {
        let begin = std::time::Instant::now();
        match case.catch(3000) {
            Ok(found) => println!(
                "{}: {} in {}, {:?}\n{}",
                case.mutant,
                found.report,
                case.configuration.name,
                begin.elapsed(),
                found.problem
            ),
            Err(report) => {
                println!("MISSED {}: {report} {:?}", case.mutant, begin.elapsed());
                missed.push((case.mutant, report))
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn no_configuration_loses_anything() {
    for configuration in CONFIGURATIONS {
        let begin = std::time::Instant::now();
        let scenario = Scenario { preemptions: Some(1), ..(configuration.scenario)() };
        match Exhaustive::explore(&scenario, 500) {
            Ok(report) => println!("{}: {report}, {:?}", configuration.name, begin.elapsed()),
            Err(mut found) => {
                let n = found.trace.len();
                found.trace = found.trace.split_off(n.saturating_sub(40));
                println!("{}: FAILED {found}", configuration.name)
            }
        }
    }
}
