//! Interleavings that have a name, because some program or some draft of this protocol lost data in them. Each is one
//! schedule, written down; what surrounds it is tried by the simulations of `reclaiming.rs`.

use icecore_tests::simulate::scenes::{
    self, Window, backup, forgetter, is_reclaimed, is_whole, plain, prune, reader, thorough,
};
use icecore_tests::simulate::{Role, Scenario, Script, Start};

fn garbage() -> Start {
    scenes::expired(&scenes::with(&[("old", "ab")]), "old")
}

/// Runs the schedule that these turns begin.
fn play(scenario: &Scenario, turns: &[(usize, &str)]) {
    let mut script = Script::of(turns);
    let ran = scenario.run(&mut script);
    assert_eq!(ran.problem, None, "{:#?}", ran.trace);
    assert!(script.is_done(), "the turns were taken: {:#?}", ran.trace);
}

fn two(start: &Start, left: Role, right: Role) -> Scenario {
    Scenario::new(start, vec![left, right]).judge(is_reclaimed)
}

#[test]
fn a_writer_sleeps_over_a_whole_cycle_before_it_publishes() {
    let scenario = two(&garbage(), backup("new", "ab"), prune(plain()));
    play(&scenario, &[(0, "put snapshots"), (1, ""), (0, "")]);
}

#[test]
fn a_writer_publishes_just_before_it_would_be_fenced() {
    let scenario = two(&garbage(), backup("new", "ab"), prune(plain()));
    play(&scenario, &[(1, "put gc/00000001.mark"), (0, "put snapshots"), (1, "put snapshots"), (0, ""), (1, "")]);
}

#[test]
fn a_writer_finds_its_name_taken_just_before_it_publishes() {
    let scenario = two(&garbage(), backup("new", "ab"), prune(plain()));
    play(
        &scenario,
        &[(1, "put gc/00000001.mark"), (0, "put snapshots"), (1, "put gc/00000001.plan"), (0, ""), (1, "")],
    );
}

#[test]
fn two_prunes_mark_at_once() {
    let scenario = two(&garbage(), prune(plain()), prune(plain()));
    play(&scenario, &[(0, "put gc/00000001.mark"), (1, "put gc/00000001.pending"), (0, ""), (1, "")]);
}

#[test]
fn two_prunes_plan_at_once() {
    let scenario = two(&garbage(), prune(plain()), prune(plain()));
    play(&scenario, &[(0, "put gc/00000001.plan"), (1, "put gc/00000001.plan"), (0, ""), (1, "")]);
}

#[test]
fn a_prune_that_slept_marks_and_plans_after_the_cycle_is_done() {
    for stage in ["put gc/00000001.mark", "put gc/00000001.pending", "put gc/00000001.plan", "remove packs"] {
        let scenario = two(&garbage(), prune(plain()), prune(plain()));
        play(&scenario, &[(0, stage), (1, ""), (0, "")]);
    }
}

#[test]
fn a_prune_dies_before_each_of_its_steps_and_another_goes_on() {
    let steps = [
        "put gc/00000001.mark",
        "put gc/00000001.pending",
        "put gc/00000001.plan",
        "remove r/snapshots",
        "remove snapshots",
        "remove packs",
        "put gc/00000001.done",
        "remove index",
    ];
    for step in steps {
        let start = scenes::cut_off(&garbage(), prune(plain()), step);
        play(&two(&start, backup("new", "ab"), prune(plain())), &[(0, ""), (1, "")]);
        play(&two(&start, backup("new", "ab"), prune(plain())), &[(1, ""), (0, "")]);
    }
}

#[test]
fn the_parent_is_forgotten_and_taken_while_its_successor_is_written() {
    let roles = vec![backup("same", "abc"), forgetter("same", Window::Over), prune(plain())];
    let scenario = Scenario::new(&scenes::with(&[("same", "ab")]), roles).judge(is_reclaimed);
    play(&scenario, &[(0, "put packs"), (1, ""), (2, ""), (0, "")]);
}

#[test]
fn packs_of_a_living_writer_are_in_no_index_yet() {
    let scenario = two(&garbage(), backup("new", "cd"), prune(plain()));
    play(&scenario, &[(0, "put index"), (1, ""), (0, "")]);
}

#[test]
fn packs_of_a_dead_writer_are_in_no_index() {
    let start = scenes::orphans(&garbage(), "cd", "put index");
    play(&two(&start, backup("new", "cd"), prune(plain())), &[(0, "put snapshots"), (1, ""), (0, "")]);
    play(&two(&start, backup("new", "cd"), prune(plain())), &[(1, "put gc"), (0, ""), (1, "")]);
}

#[test]
fn what_is_restored_is_moved_meanwhile() {
    let start = scenes::expired(&scenes::with(&[("old", "ab"), ("kept", "ac")]), "old");
    let scenario = Scenario::new(&start, vec![reader(), prune(thorough())]).judge(is_whole);
    for stop in ["list Indexes", "end of list Indexes", "list Packs(Data)", "get packs/d"] {
        play(&scenario, &[(0, stop), (1, ""), (0, "")]);
    }
}

#[test]
fn a_snapshot_is_forgotten_after_the_plan_has_seen_it() {
    let roles = vec![backup("new", "ab"), forgetter("new", Window::Over).after(0), prune(plain())];
    let scenario = Scenario::new(&garbage(), roles).judge(is_reclaimed);
    play(&scenario, &[(2, "put gc/00000001.mark"), (0, ""), (2, "put gc/00000001.plan"), (1, ""), (2, "")]);
}
