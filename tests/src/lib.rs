//! The workbench that whole-repository tests share: trees to back up, a comparer of the tests' own,
//! a bench to work at, ways to do damage, and ways to shed privilege. No product code lives here.

pub mod bench;
pub mod cli;
pub mod compare;
pub mod contract;
pub mod counting;
pub mod crash;
pub mod damage;
pub mod faulty;
pub mod privilege;
pub mod process;
pub mod restic;
pub mod schema;
pub mod simulate;
pub mod terminal;
pub mod transcript;
pub mod tree;
pub mod whole;
