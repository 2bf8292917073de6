//! Builds and reads Merkle B-trees of nodes and chunk lists. stub
