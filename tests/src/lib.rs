//! Workbench.

pub mod contract;
pub mod crash;
