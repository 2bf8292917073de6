//! Shared by the measurements.
