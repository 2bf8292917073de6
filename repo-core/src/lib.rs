//! A content-addressed, deduplicating, encrypted backup repository.
