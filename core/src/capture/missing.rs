//! Advice about an interface that does not exist.

use std::io;

use strsim::osa_distance;

use super::names::ANY;
use crate::printable::Printable;
use crate::sys::netlink::Network;

/// Returns a line for each of these interfaces that does not exist now, with the name that is
/// probably meant, or with the names that exist. A [`CaptureSet`](super::CaptureSet) waits for such
/// an interface.
///
/// # Errors
/// Fails if no descriptor is left, or if the kernel does not list its interfaces.
pub fn missing_interfaces(interfaces: &[String]) -> io::Result<Vec<String>> {
    let network = Network::read()?;
    let missing = interfaces.iter().filter(|name| *name != ANY && network.device(name).is_none());
    let line = |name: &String| {
        let advice = near(name, &network).map_or_else(
            || format!("interfaces here: {}", names(&network).join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        format!("there is no interface `{}`; {advice}", Printable(name))
    };
    Ok(missing.map(line).collect())
}

/// Returns the existing interface whose name is probably meant by this one: at most one edit, and
/// one more for each four characters, away. Never `lo`.
pub(super) fn near(name: &str, network: &Network) -> Option<String> {
    let known = names(network);
    let nearest =
        known.into_iter().filter(|known| known != "lo").map(|known| (osa_distance(name, &known), known)).min()?;
    (nearest.0 <= 1 + name.chars().count() / 4).then_some(nearest.1)
}

/// Returns the names and alternative names that exist, sorted.
fn names(network: &Network) -> Vec<String> {
    let mut names: Vec<String> =
        network.interfaces.keys().chain(network.altnames.keys()).map(|name| Printable(name).to_string()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::InterfaceState;

    #[test]
    fn a_similar_name_is_suggested() {
        let mut network = Network::default();
        for name in ["lo", "enp0s3"] {
            network.interfaces.insert(name.to_owned(), InterfaceState { index: 1, up: true, is_loopback: false });
        }
        network.altnames.insert("enp0s31f6".to_owned(), "enp0s3".to_owned());
        for (name, expected) in
            [("enp0s4", Some("enp0s3")), ("enp0s31f", Some("enp0s31f6")), ("eth0", None), ("l0", None)]
        {
            assert_eq!(near(name, &network).as_deref(), expected, "{name}");
        }
        assert_eq!(missing_interfaces(&["any".to_owned(), "lo".to_owned()]).unwrap(), [""; 0]);
        let lines = missing_interfaces(&["no-such-thing".to_owned()]).unwrap();
        assert!(lines[0].starts_with("there is no interface `no-such-thing`; "), "{lines:?}");
    }
}
