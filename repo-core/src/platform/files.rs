//! The file operations of `Local`, behind one small trait, so that a recorder can replay and tear them.
