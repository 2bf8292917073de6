//! Prune beside everything else, under every schedule of small configurations within a bound; and the test of that test:
//! each rule of the protocol that is broken on purpose is noticed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use icecore_tests::simulate::table::{self, CASES, CONFIGURATIONS};
use icecore_tests::simulate::{Exhaustive, Random, Scenario};

/// Schedules of a configuration that are tried here; `cargo run -p icecore-tests --bin simulate` tries any number.
const SCHEDULES: u64 = 500;

#[test]
fn every_broken_rule_is_noticed() {
    let missed: Vec<_> = CASES
        .iter()
        .filter(|case| {
            let caught = case.catch(table::SCHEDULES);
            println!("{}", case.line(&caught));
            caught.is_err()
        })
        .map(|case| case.mutant)
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:#?}");
}

#[test]
fn the_table_has_every_switch_of_the_library() {
    let mut switches = BTreeSet::new();
    collect_switches(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../repo-core/src"), &mut switches);
    let table: BTreeSet<String> = CASES.iter().map(|case| case.mutant.to_owned()).collect();
    assert_eq!(switches, table);
}

fn collect_switches(folder: &Path, switches: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_switches(&path, switches);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        switches.extend(text.split("mutant!(\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
    }
}

/// Every third configuration, so that three tests share the work.
fn explore(first: usize) {
    for configuration in CONFIGURATIONS.iter().skip(first).step_by(3) {
        let scenario = Scenario { preemptions: Some(1), ..(configuration.scenario)() };
        match Exhaustive::explore(&scenario, SCHEDULES) {
            Ok(report) => println!("{}: {report}", configuration.name),
            Err(found) => panic!("{}: {found}", configuration.name),
        }
        match Random::explore(&(configuration.scenario)(), 0, SCHEDULES / 5) {
            Ok(report) => println!("{}, by chance: {report}", configuration.name),
            Err(found) => panic!("{}, by chance: {found}", configuration.name),
        }
    }
}

#[test]
fn no_schedule_loses_anything_first_third() {
    explore(0);
}

#[test]
fn no_schedule_loses_anything_second_third() {
    explore(1);
}

#[test]
fn no_schedule_loses_anything_last_third() {
    explore(2);
}
