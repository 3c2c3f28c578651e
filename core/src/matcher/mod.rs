//! The sequence matcher.
