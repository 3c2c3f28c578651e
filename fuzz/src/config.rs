//! Texts of configurations, with the same properties that core's own tests check on random ones.

#[path = "../../core/tests/config_support/any_text.rs"]
mod any_text;

/// Panics if a property of the configuration parser does not hold for this text.
pub fn check(text: &[u8]) {
    any_text::check(text);
}
