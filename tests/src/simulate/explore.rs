//! Which schedules are run.

use std::collections::HashMap;
use std::fmt;

use super::run::{Move, Ran, Scenario, Touch};
use super::store::Fate;

/// Where a schedule is.
pub struct Situation<'s> {
    /// What can happen.
    pub moves: &'s [Move],
    /// What each of them has to do with others.
    pub touches: Vec<Touch>,
    /// A hash of all that decides what can happen from here on.
    pub state: u64,
    /// Preemptions and faults that are still allowed.
    pub left: (u32, u32),
    /// Tells a move in words.
    pub shown: &'s dyn Fn(Move) -> String,
}

impl fmt::Debug for Situation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.moves.iter().map(|one| (self.shown)(*one))).finish()
    }
}

/// Decides what happens next.
pub trait Chooser {
    /// One of the moves; `None`: all that can come from here was seen already.
    fn choose(&mut self, now: &Situation<'_>) -> Option<usize>;
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Runs.
    pub schedules: u64,
    /// Moves that were made, in all runs.
    pub moves: u64,
    /// Different states that were met.
    pub states: u64,
    /// Whether there was no other schedule within the bounds.
    pub complete: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.complete { "all" } else { "not all" };
        write!(f, "{} schedules ({all}), {} states, {} moves", self.schedules, self.states, self.moves)
    }
}

/// A schedule that breaks a promise.
#[derive(Debug, Clone)]
pub struct Found {
    /// What is lost, in words.
    pub problem: String,
    /// What happened, a line a move.
    pub trace: Vec<String>,
    /// How to see it again.
    pub how: String,
    /// What was looked at before, this schedule included.
    pub report: Report,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nafter {}; {}", self.problem, self.report, self.how)?;
        self.trace.iter().enumerate().try_for_each(|(number, line)| writeln!(f, "{number:4} {line}"))
    }
}

/// Depth-first search through all schedules within the scenario's bounds.
#[derive(Debug, Default)]
pub struct Exhaustive {
    stack: Vec<Decision>,
    depth: usize,
    /// Every state that was met, with how it was explored.
    seen: HashMap<u64, Vec<Explored>>,
}

/// A state was explored with so many preemptions and faults left, but for the moves that slept.
#[derive(Debug)]
struct Explored {
    left: (u32, u32),
    asleep: Vec<u64>,
}

#[derive(Debug)]
struct Decision {
    /// In `awake`.
    chosen: usize,
    /// Positions of the moves that are to be made here.
    awake: Vec<usize>,
    touches: Vec<Touch>,
    /// Moves that need not be made here: they were made before the last move and commute with it, so what comes of them
    /// was seen (P. Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", LNCS 1032, 1996).
    asleep: Vec<Touch>,
    state: u64,
}

impl Chooser for Exhaustive {
    fn choose(&mut self, now: &Situation<'_>) -> Option<usize> {
        let depth = self.depth;
        self.depth += 1;
        if let Some(before) = self.stack.get(depth) {
            assert!(
                (&before.touches, before.state) == (&now.touches, now.state),
                "the replay of a schedule came to another state at move {depth}: something in the verbs or in the \
                 simulation is not determined by the schedule ({now:?})",
            );
            return Some(before.awake[before.chosen]);
        }
        // Where preemptions are counted, the other order may cost more: then nothing sleeps.
        let asleep = if now.left.0 == u32::MAX { self.asleep() } else { Vec::new() };
        let is_asleep = |touch: &Touch| asleep.iter().any(|other| other.key == touch.key);
        let awake: Vec<_> = (0..now.moves.len()).filter(|position| !is_asleep(&now.touches[*position])).collect();
        let names: Vec<_> = asleep.iter().map(|touch| touch.key).collect();
        let known = self.seen.entry(now.state).or_default();
        let covers = |one: &Explored| {
            one.left.0 >= now.left.0 && one.left.1 >= now.left.1 && one.asleep.iter().all(|name| names.contains(name))
        };
        if known.iter().any(covers) {
            return None;
        }
        known.push(Explored { left: now.left, asleep: names });
        let first = awake.first().copied();
        if first.is_some() {
            self.stack.push(Decision { chosen: 0, awake, touches: now.touches.clone(), asleep, state: now.state });
        }
        first
    }
}

impl Exhaustive {
    /// What sleeps after the last decision: what slept before it or was made instead of it earlier, and commutes with it.
    fn asleep(&self) -> Vec<Touch> {
        let Some(last) = self.stack.last() else { return Vec::new() };
        let made = &last.touches[last.awake[last.chosen]];
        let earlier = last.awake[..last.chosen].iter().map(|position| &last.touches[*position]);
        last.asleep.iter().chain(earlier).filter(|touch| touch.commutes_with(made)).cloned().collect()
    }

    /// Runs schedule after schedule until one breaks a promise, all are done, or there were `max` of them.
    ///
    /// # Errors
    /// The first schedule that breaks a promise.
    pub fn explore(scenario: &Scenario, max: u64) -> Result<Report, Box<Found>> {
        let mut search = Self::default();
        let mut report = Report::default();
        while report.schedules < max {
            search.depth = 0;
            let ran = scenario.run(&mut search);
            report.schedules += 1;
            report.moves += ran.trace.len() as u64;
            report.states = search.seen.len() as u64;
            if let Some(problem) = &ran.problem {
                let chosen: Vec<_> = search.stack.iter().map(|one| one.awake[one.chosen]).collect();
                let how = format!("Replay::of(&{chosen:?})");
                return Err(Box::new(found(problem, &ran, how, report)));
            }
            while search.stack.last().is_some_and(|last| last.chosen + 1 == last.awake.len()) {
                search.stack.pop();
            }
            match search.stack.last_mut() {
                Some(last) => last.chosen += 1,
                None => {
                    report.complete = true;
                    break;
                }
            }
        }
        Ok(report)
    }
}

/// Chance, from a seed.
#[derive(Debug)]
pub struct Random {
    state: u64,
    /// Of 100 moves so many go on with the process that made the last.
    stay_percent: u64,
    last: Option<usize>,
}

impl Random {
    /// The schedule of this seed.
    pub fn new(seed: u64) -> Self {
        // Some seeds switch at every call, others seldom: races of both kinds are found sooner.
        let mut random = Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), stay_percent: 0, last: None };
        random.stay_percent = [50, 90, 95, 97, 98, 99][(random.next() % 6) as usize];
        random
    }

    /// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Runs the schedules of seeds `first..first + count`.
    ///
    /// # Errors
    /// The first schedule that breaks a promise.
    pub fn explore(scenario: &Scenario, first: u64, count: u64) -> Result<Report, Box<Found>> {
        let mut report = Report::default();
        for seed in first..first + count {
            let ran = scenario.run(&mut Self::new(seed));
            report.schedules += 1;
            report.moves += ran.trace.len() as u64;
            if let Some(problem) = &ran.problem {
                return Err(Box::new(found(problem, &ran, format!("Random::new({seed})"), report)));
            }
        }
        Ok(report)
    }
}

impl Chooser for Random {
    fn choose(&mut self, now: &Situation<'_>) -> Option<usize> {
        let moves = now.moves;
        // Moves are ordered: first the process that goes on, then others, then what goes wrong.
        let ordinary = moves.iter().filter(|one| !one.is_fault()).count().max(1);
        let goes_on = moves[0].process() == self.last && self.last.is_some();
        // Answers are seldom such that they may be lost, and processes may always die.
        let is_rare =
            moves[ordinary.min(moves.len())..].iter().any(|one| matches!(one, Move::Process(_, Fate::AnswerLost)));
        let chosen = if ordinary < moves.len() && self.next().is_multiple_of(if is_rare { 3 } else { 32 }) {
            ordinary + self.below(moves.len() - ordinary)
        } else if goes_on && self.next() % 100 < self.stay_percent {
            let same = moves[..ordinary].iter().filter(|one| one.process() == self.last).count();
            self.below(same)
        } else {
            self.below(ordinary)
        };
        self.last = moves[chosen].process();
        Some(chosen)
    }
}

/// Decisions that were found before.
#[derive(Debug)]
pub struct Replay<'d> {
    decisions: &'d [usize],
    depth: usize,
}

impl<'d> Replay<'d> {
    /// These, and the first of all moves from then on.
    pub fn of(decisions: &'d [usize]) -> Self {
        Self { decisions, depth: 0 }
    }
}

impl Chooser for Replay<'_> {
    fn choose(&mut self, _: &Situation<'_>) -> Option<usize> {
        self.depth += 1;
        Some(self.decisions.get(self.depth - 1).copied().unwrap_or(0))
    }
}

/// Processes take turns as it is written: each goes on until it asks for something, then the next. When all is done
/// that is written, whoever can goes on, the first one first.
#[derive(Debug)]
pub struct Script<'d> {
    turns: &'d [(usize, &'d str)],
    turn: usize,
}

impl<'d> Script<'d> {
    /// Each turn: the number of a process, and a part of the request before which it stops; empty: not before its end.
    pub fn of(turns: &'d [(usize, &'d str)]) -> Self {
        Self { turns, turn: 0 }
    }

    /// Whether all turns were taken.
    pub fn is_done(&self) -> bool {
        self.turn == self.turns.len()
    }
}

impl Chooser for Script<'_> {
    fn choose(&mut self, now: &Situation<'_>) -> Option<usize> {
        while let Some((process, until)) = self.turns.get(self.turn) {
            let own = now.moves.iter().position(|one| one.process() == Some(*process));
            match own {
                Some(own) if until.is_empty() || !(now.shown)(now.moves[own]).contains(until) => return Some(own),
                // It stops here, or has ended.
                _ => self.turn += 1,
            }
        }
        Some(0)
    }
}

fn found(problem: &str, ran: &Ran, how: String, report: Report) -> Found {
    Found { problem: problem.to_owned(), trace: ran.trace.clone(), how, report }
}
