//! Chunks in, chunks out. Knows nothing of paths, nor of what a snapshot means. stub
