//! Repair: brings back what is damaged, one verb a file. What a check finds is said there; what nothing brings back is said
//! here and left as it is.

pub(crate) mod heal;
pub mod parity;
