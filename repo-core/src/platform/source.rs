//! Reading trees: directory descriptors, statx, extended attributes, flags, extents.
