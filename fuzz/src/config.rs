//! Texts of configurations: the same as core's own tests ask of random ones.

#[path = "../../core/tests/config_support/any_text.rs"]
mod any_text;

pub use any_text::check;
