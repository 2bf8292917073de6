//! What is of the operating system, and nothing else is: the only room that knows `rustix`, `nix` or `std::os`.
//! Linux first; another system replaces these files and no other.

pub mod files;
pub mod frontend;
pub mod host;
pub mod source;
pub mod target;
