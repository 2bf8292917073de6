//! Repair: brings back what is damaged, one verb a file. What a check finds is said there; what nothing brings back is said
//! here and left as it is. Nothing that is not an index object or parity is ever removed.

pub(crate) mod heal;
pub mod index;
mod losses;
pub mod objects;
pub mod packs;
pub mod parity;
mod rescue;
pub mod snapshots;

pub use losses::{LostEntry, LostPart};
