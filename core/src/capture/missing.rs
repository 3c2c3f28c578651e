//! What to say of an interface that does not exist.

use std::io;

use strsim::osa_distance;

use super::frame::ANY;
use crate::printable::Printable;
use crate::sys::netlink::Network;

/// What is wrong with these interfaces now: a line for each that does not exist, with the name that is probably meant, or
/// with those that exist. Such an interface is waited for.
///
/// # Errors
/// Fails without descriptors, and where the system does not say which interfaces it has.
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

/// The interface that a missing one is probably a misspelling of.
pub(super) fn near(name: &str, network: &Network) -> Option<String> {
    let known = names(network);
    let nearest =
        known.into_iter().filter(|known| known != "lo").map(|known| (osa_distance(name, &known), known)).min()?;
    (nearest.0 <= 1 + name.chars().count() / 4).then_some(nearest.1)
}

/// The names that exist, in order.
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
    fn a_near_name_is_named() {
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
