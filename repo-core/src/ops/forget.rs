//! Forget: which snapshots a policy keeps and which go. Space comes back when packs are pruned, which is another verb.

pub mod calendar;
pub mod freed;
pub mod group;
pub mod guard;
pub mod plan;
pub mod policy;

#[cfg(test)]
mod tests;
