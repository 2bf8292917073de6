//! A deterministic simulation of several processes on one store: the real verbs over a backend in memory, in which every
//! call is a point where another process may go on, a process may die, or an answer may be lost. After every change of the
//! store the oracle asks whether each snapshot still has all its chunks (invariant 7).
//!
//! One run is one schedule: which process' call is carried out next, and what becomes of it. Exactly one process runs at
//! a time, between two of its calls; all randomness and all clocks are of the simulation (`world` of the library), and every
//! process has its own stream of them, so a schedule fixes every byte. That is relied upon and checked: a replay that meets
//! another state than before is an error ([`Exhaustive`]).
//!
//! Schedules come from two sources:
//!
//! - [`Exhaustive`]: all of them, by depth-first search with re-execution, each run following a recorded prefix of
//!   decisions. Optionally only those with at most so many preemptions (switches away from a process that could have gone
//!   on): iterative context bounding, after M. Musuvathi and S. Qadeer, "Iterative Context Bounding for Systematic Testing of
//!   Multithreaded Programs", PLDI 2007. A state that was reached before with as much budget left is not explored again:
//!   processes are functions of the answers they got, so the store and the history of answers of each process are the
//!   whole state, and schedules that differ only in the order of calls that do not touch each other meet there.
//!   Without such a bound, of moves that commute only one order is tried (sleep sets: P. Godefroid, LNCS 1032, 1996); every
//!   state is still met.
//! - [`Random`]: seeded, for configurations that are too large; the seed is in the report of a failure.
//!
//! `table` has the configurations, and the rules that are broken on purpose with the configuration that shows each.
//! `cargo run -p icecore-tests --bin mutants` prints that table;
//! `cargo run -p icecore-tests --bin simulate -- SCHEDULES PREEMPTIONS [CONFIGURATION [BY_CHANCE [FIRST_SEED]]]` searches for as
//! long as one likes.

mod explore;
mod oracle;
mod run;
pub mod scenes;
mod source;
mod store;
pub mod table;

pub use explore::{Chooser, Exhaustive, Found, Random, Replay, Report, Script, Situation};
pub use oracle::Oracle;
pub use run::{End, Faults, Move, Outcome, Ran, Role, Scenario, Stage, Start, Touch};
pub use source::Letters;
pub use store::{Fate, Handle, Request, SimulatedStore};
