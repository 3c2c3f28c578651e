//! Names of interfaces.

use super::error::CaptureError;

/// The name that captures on all interfaces.
pub(super) const ANY: &str = "any";

/// Returns the names without repetitions, or `any` alone if it is among them. Fails for names that
/// no interface can have.
pub(super) fn names_of(interfaces: &[String]) -> Result<Vec<&String>, CaptureError> {
    let mut names: Vec<&String> = Vec::new();
    for name in interfaces {
        let is_name = |c: char| c != '/' && !c.is_whitespace() && !c.is_control();
        if !(1..=15).contains(&name.len()) || !name.chars().all(is_name) {
            return Err(CaptureError::BadName { interface: name.clone() });
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if let Some(any) = names.iter().find(|name| **name == ANY) {
        names = vec![any];
    }
    Ok(names)
}
