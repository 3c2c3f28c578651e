//! The checks of doors with `packet = fwknop`. Their keys have another format, and their packets name no
//! door.

use std::collections::HashMap;
use std::path::Path;

use super::codes;
use super::diagnostic::Diagnostic;
use super::draft::DoorDraft;
use super::findings::Findings;
use super::keys::Key;
use super::model::{Door, PacketAddress, PacketFormat};
use super::quoted::quoted;

/// A configuration with more keys causes a warning: a packet that no key made costs one HMAC for each
/// key.
const MANY_KEYS_THRESHOLD: usize = 50;

fn is_fwknop(door: &Door) -> bool {
    door.packet == Some(PacketFormat::Fwknop)
}

/// Warns of doors that never open, because an earlier door accepts all their packets.
pub(super) fn check_shadowed(doors: &[DoorDraft], found: &mut Findings) {
    let mut earlier: HashMap<&Path, Vec<&DoorDraft>> = HashMap::new();
    for draft in doors.iter().filter(|draft| is_fwknop(&draft.door)) {
        let (Some(path), Some(place)) = (&draft.door.key_file, draft.seen.get(&Key::Keys)) else { continue };
        let known = earlier.entry(path).or_default();
        match known.iter().find(|other| accepts_all(&other.door, &draft.door)) {
            Some(other) => {
                let message = format!(
                    "this door never opens, because the door {} on line {} accepts all its packets",
                    quoted(&other.door.name),
                    other.line
                );
                let help = "use another file of keys, or different ports in `open`";
                found.push(Diagnostic::warning(codes::SHADOWED_DOOR, place.value.clone(), message).help(help));
            }
            None => known.push(draft),
        }
    }
}

/// Returns true if the first door accepts each packet that the second one accepts.
fn accepts_all(first: &Door, second: &Door) -> bool {
    let has_ports =
        first.open.is_empty() || !second.open.is_empty() && second.open.iter().all(|port| first.open.contains(port));
    has_ports
        && first.target == second.target
        && (first.allow.is_empty() || first.allow == second.allow)
        && (first.packet_address == PacketAddress::Any || first.packet_address == second.packet_address)
}

/// Warns of many keys. The doors must have theirs already.
pub(super) fn check_number_of_keys(doors: &[DoorDraft], found: &mut Findings) {
    let mut files: HashMap<&Path, usize> = HashMap::new();
    let mut count = 0;
    for draft in doors.iter().filter(|draft| is_fwknop(&draft.door)) {
        let (Some(path), Some(place)) = (&draft.door.key_file, draft.seen.get(&Key::Keys)) else { continue };
        if files.insert(path, draft.door.fwknop_keys.len()).is_some() {
            continue;
        }
        let before = count;
        count += draft.door.fwknop_keys.len();
        if before <= MANY_KEYS_THRESHOLD && count > MANY_KEYS_THRESHOLD {
            let message = format!(
                "the doors with `packet = fwknop` up to this one have {count} keys; each packet of an attacker is \
                 checked with all of them"
            );
            let help = format!(
                "use at most {MANY_KEYS_THRESHOLD} such keys, and `packet = portknock` or `sequence = time` for \
                 other clients"
            );
            found.push(Diagnostic::warning(codes::MANY_FWKNOP_KEYS, place.value.clone(), message).help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn codes_of(doors: &[&str]) -> Vec<&'static str> {
        let door = |(number, lines): (usize, &&str)| format!("[door{number}]\npacket = fwknop\nkeys = /k\n{lines}\n");
        let text: String = doors.iter().enumerate().map(door).collect();
        parse(text.as_bytes()).report.diagnostics.iter().map(|found| found.code).collect()
    }

    #[test]
    fn a_door_after_one_that_accepts_all_its_packets_never_opens() {
        for doors in [
            ["open = tcp/22", "open = tcp/22"],
            ["open = tcp/22,udp/53", "open = udp/53"],
            ["command = x", "open = tcp/22"],
            ["command = x", "command = y"],
            ["open = tcp/22", "open = tcp/22\nallow = 10.0.0.0/8"],
            ["open = tcp/22", "open = tcp/22\npacket_address = source"],
        ] {
            assert_eq!(codes_of(&doors), [codes::SHADOWED_DOOR], "{doors:?}");
        }
        for doors in [
            ["open = tcp/22", "open = tcp/22,tcp/80"],
            ["open = tcp/22", "command = x"],
            ["open = tcp/22\nallow = 10.0.0.0/8", "open = tcp/22"],
            ["open = tcp/22\npacket_address = required", "open = tcp/22"],
            ["open = tcp/22\ntarget = 127.0.0.1", "open = tcp/22"],
            ["open = tcp/22", "open = tcp/22\nkeys = /other"],
        ] {
            assert!(!codes_of(&doors).contains(&codes::SHADOWED_DOOR), "{doors:?}");
        }
    }
}
