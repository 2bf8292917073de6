//! Forget: which snapshots a policy keeps and which go. Space comes back when packs are pruned, which is another verb.

pub mod calendar;
pub mod group;
pub mod guard;
pub mod policy;
