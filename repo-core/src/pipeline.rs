//! Bounded, ordered, parallel stages; the only room that spawns threads. stub
