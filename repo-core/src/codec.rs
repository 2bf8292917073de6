//! The one place that knows bincode: bounded, exact, canonical.
