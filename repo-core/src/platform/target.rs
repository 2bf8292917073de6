//! Writing trees: everything below one root descriptor, never through a symlink.
