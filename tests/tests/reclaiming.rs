//! Prune beside everything else, under every schedule of small configurations.

use icecore_tests::simulate::scenes::{self, backup, plain, prune, thorough};
use icecore_tests::simulate::{Exhaustive, Scenario};

fn all(name: &str, scenario: &Scenario, max: u64) {
    match Exhaustive::explore(scenario, max) {
        Ok(report) => println!("{name}: {report}"),
        Err(found) => panic!("{name}: {found}"),
    }
}

#[test]
fn prune_alone_takes_what_is_expired() {
    let start = scenes::expired(&scenes::with(&[("old", "ab"), ("kept", "bc")]), "old");
    all("alone", &Scenario::new(&start, vec![prune(thorough())]).judge(scenes::is_reclaimed), 10);
}

#[test]
fn a_backup_beside_a_prune() {
    let start = scenes::expired(&scenes::with(&[("old", "ab")]), "old");
    let scenario = Scenario::new(&start, vec![backup("new", "ab"), prune(plain())]).judge(scenes::is_reclaimed);
    all("backup and prune", &scenario, 5000);
}
