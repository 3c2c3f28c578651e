//! Texts of configurations: the same as core's own tests ask of random ones.

#[path = "../../core/tests/config_support/any_text.rs"]
mod any_text;

/// Panics where the reader of configurations does not keep what it promises for this text.
pub fn check(text: &[u8]) {
    any_text::check(text);
}
