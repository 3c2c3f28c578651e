//! The checks of doors with `keys`: time sequences and packets.

use std::collections::HashMap;
use std::path::Path;

use super::code_sequence::CodeSequence;
use super::codes;
use super::diagnostic::Diagnostic;
use super::draft::DoorDraft;
use super::findings::Findings;
use super::keys::Key;
use super::model::{Door, Options, PacketFormat};
use super::quoted::quoted;
use super::time_sequence::{LIVE_WINDOWS, StepProtocols, TimeSequence};
use crate::spa::MAX_DOOR_LENGTH;

/// A time sequence that fewer packets are enough to guess causes a warning: the packets of four
/// months at 100,000 a second.
const WEAK_THRESHOLD: f64 = 1e12;
/// A weak time sequence with fewer steps than this number needs more steps rather than more ports.
const FEW_STEPS_THRESHOLD: u8 = 4;
/// Number of fixed steps before a code that are difficult to guess.
const FIXED_STEPS: usize = 2;
/// Number of ports of which one is in the sample that the scan guard counts.
const PORTS_PER_SAMPLED: u32 = 16;

/// Checks one door.
pub(super) fn check(options: &Options, draft: &DoorDraft, found: &mut Findings) {
    check_keys(draft, found);
    check_packet(draft, found);
    check_time(options, draft, found);
    check_code(options, draft, found);
}

/// Reports keys without which the door cannot open, and keys that need another one.
fn check_keys(draft: &DoorDraft, found: &mut Findings) {
    let seen = &draft.seen;
    let has_other_sequence = [Key::Sequence, Key::OneTimeSequences].iter().any(|key| seen.contains_key(key));
    let needs_keys = if draft.is_time { seen.get(&Key::Sequence) } else { seen.get(&Key::Packet) };
    if let Some(place) = needs_keys
        && !seen.contains_key(&Key::Keys)
    {
        let form = if draft.is_time { "`sequence = time`" } else { "`packet`" };
        let message = format!("{form} needs the keys of the clients");
        let help = match draft.door.packet {
            Some(PacketFormat::Fwknop) => "add `keys = FILE`; `portknock keygen --fwknop` makes the keys for the file",
            _ => "add `keys = FILE`; `portknock keygen` makes a key for the file",
        };
        found.push(Diagnostic::error(codes::NO_KEYS, place.key.clone(), message).help(help));
    }
    let mut report = |key: Key, word: &str, form: &str| {
        if let Some(place) = seen.get(&key) {
            let message = format!("`{word}` is only for doors with {form}");
            let help = format!("add {form}, or remove this line");
            found.push(Diagnostic::error(codes::KEY_WITHOUT_FORM, place.key.clone(), message).help(help));
        }
    };
    if needs_keys.is_none() && has_other_sequence {
        report(Key::Keys, "keys", "`sequence = time`, `packet = portknock` or `packet = fwknop`");
    }
    // A format with an error is reported already.
    if !seen.contains_key(&Key::Packet) || draft.door.packet == Some(PacketFormat::Portknock) {
        report(Key::PacketAddress, "packet_address", "`packet = fwknop`");
    }
    if !draft.is_code {
        report(Key::TotpSecret, "totp_secret", "digits of a code in `sequence`, as in `21???,22???`");
    }
    if !draft.is_time {
        report(Key::TimePorts, "time_ports", "`sequence = time`");
        report(Key::TimeProtocols, "time_protocols", "`sequence = time`");
        report(Key::TimeStep, "time_step", "`sequence = time`");
    }
}

/// Reports a name that does not fit into a packet, and keys that have no effect on packets.
fn check_packet(draft: &DoorDraft, found: &mut Findings) {
    let Some(format) = draft.door.packet else { return };
    let length = draft.door.name.len();
    if format == PacketFormat::Portknock && length > MAX_DOOR_LENGTH {
        let message = format!(
            "the name of a door with `packet = portknock` has at most {MAX_DOOR_LENGTH} bytes; this one has {length}"
        );
        let help = "shorten the name, which each packet contains";
        found.push(Diagnostic::error(codes::PACKET_DOOR_NAME, draft.header.clone(), message).help(help));
    }
    if draft.seen.contains_key(&Key::Sequence) {
        return;
    }
    for (key, word) in [(Key::SeqTimeout, "seq_timeout"), (Key::TcpFlags, "tcpflags")] {
        if let Some(place) = draft.seen.get(&key) {
            let message = format!("`{word}` has no effect on a door with `packet`");
            let help = "remove this line: a single UDP packet opens the door";
            found.push(Diagnostic::warning(codes::USELESS_FOR_PACKETS, place.key.clone(), message).help(help));
        }
    }
}

/// Reports time sequences with too few ports, and time sequences that attackers can guess.
fn check_time(options: &Options, draft: &DoorDraft, found: &mut Findings) {
    let (Some(time), Some(place)) = (&draft.door.time_sequence, draft.seen.get(&Key::Sequence)) else { return };
    let ports = number_of_ports(time);
    if ports < u32::from(time.steps) {
        let place = draft.seen.get(&Key::TimePorts).unwrap_or(place);
        let message = format!("{ports} ports are too few for {} different steps", time.steps);
        let help = "use a larger range, as in `time_ports = 20000-60000`";
        found.push(Diagnostic::error(codes::FEW_TIME_PORTS, place.value.clone(), message).help(help));
        return;
    }
    let packets = packets_to_guess(time, options.scan_guard);
    if packets >= WEAK_THRESHOLD {
        return;
    }
    let help = if options.scan_guard == 0 {
        "remove `ScanGuard = 0`: without the scan guard, wrong ports do not end an attempt"
    } else if time.steps < FEW_STEPS_THRESHOLD {
        "use 4 steps or more; `sequence = time` has 5"
    } else {
        "use a larger range, as in `time_ports = 20000-60000`"
    };
    let packets = rounded(packets);
    let message = format!("weak time sequence: {packets} packets are enough to guess the sequence of a key");
    found.push(Diagnostic::warning(codes::WEAK_TIME_SEQUENCE, place.value.clone(), message).help(help));
}

fn number_of_ports(time: &TimeSequence) -> u32 {
    u32::from(time.ports.end().get().saturating_sub(time.ports.start().get())) + 1
}

/// Returns the number of packets to random ports of the range that an attacker sends on average until
/// one opens the door, if there is only one key.
///
/// A packet to the first step of a live window starts an attempt. Three kinds of ports matter to the
/// attempt: the next step, the other steps of all live windows, and the ports of the sample. The other
/// steps end it. It survives as many ports of the sample as the guard allows.
fn packets_to_guess(time: &TimeSequence, scan_guard: u8) -> f64 {
    let protocols = if time.protocols == StepProtocols::Both { 2 } else { 1 };
    let (ports, used) = (number_of_ports(time) * protocols, u32::from(LIVE_WINDOWS) * u32::from(time.steps));
    let sampled = if scan_guard == 0 { 0 } else { ports.saturating_sub(used) / PORTS_PER_SAMPLED };
    let others = f64::from(used - 2);
    f64::from(ports) / (f64::from(LIVE_WINDOWS) * chance_to_continue(time.steps - 1, others, sampled, scan_guard))
}

/// Returns the probability that packets to random ports take an attempt that has begun through further
/// steps. `others` is the number of ports that end it, and `sampled` the number of ports of which it
/// survives `scan_guard`.
fn chance_to_continue(steps: u8, others: f64, sampled: u32, scan_guard: u8) -> f64 {
    // The probabilities that an attempt has reached the stage, by the number of sampled ports.
    let mut reached = vec![0.0; usize::from(scan_guard) + 1];
    reached[0] = 1.0;
    for _ in 0..steps {
        let mut sampled_now = 0.0;
        for (remaining, reached) in (0..=sampled).rev().chain(std::iter::repeat(0)).zip(&mut reached) {
            let (here, remaining) = (*reached + sampled_now, f64::from(remaining));
            let all = 1.0 + others + remaining;
            *reached = here / all;
            sampled_now = here * remaining / all;
        }
    }
    reached.iter().sum()
}

/// Reports a code without a secret, and fixed steps that attackers can guess.
fn check_code(options: &Options, draft: &DoorDraft, found: &mut Findings) {
    let Some(place) = draft.seen.get(&Key::Sequence).filter(|_| draft.is_code) else { return };
    if !draft.seen.contains_key(&Key::TotpSecret) {
        let message = "the digits of a code need the secret of the authenticator app";
        let help = "add `totp_secret = FILE`; `portknock keygen --totp` makes a secret for the file";
        found.push(Diagnostic::error(codes::NO_CODE_SECRET, place.value.clone(), message).help(help));
    }
    let Some(code) = &draft.door.code else { return };
    let packets = packets_to_guess_code(code, options.scan_guard);
    if packets >= WEAK_THRESHOLD {
        return;
    }
    let help = if code.fixed().len() < FIXED_STEPS {
        "put another secret port before the code, as in `7391,48213,21???,22???`"
    } else if options.scan_guard == 0 {
        "remove `ScanGuard = 0`: without the scan guard, wrong ports do not end an attempt"
    } else {
        "use more secret ports before the code"
    };
    let message = format!("weak code: {} packets are enough to guess the fixed steps and a code", rounded(packets));
    found.push(Diagnostic::warning(codes::WEAK_CODE, place.value.clone(), message).help(help));
}

/// Returns the number of packets to random ports that an attacker sends on average until one opens the
/// door. The attacker knows the ranges of the code but not the fixed steps. The limit of wrong codes is
/// left out.
fn packets_to_guess_code(code: &CodeSequence, scan_guard: u8) -> f64 {
    let (ports, fixed) = (u32::from(u16::MAX), u8::try_from(code.fixed().len()).unwrap_or(u8::MAX));
    let others = code.code().iter().map(|step| f64::from(step.size())).sum::<f64>() + f64::from(fixed - 1);
    let sampled = if scan_guard == 0 { 0 } else { ports / PORTS_PER_SAMPLED };
    let codes = 10_f64.powi(code.digits().into()) / f64::from(LIVE_WINDOWS);
    f64::from(ports) * codes / chance_to_continue(fixed - 1, others, sampled, scan_guard)
}

/// Reports two doors with the same secret: a code opens one of them.
pub(super) fn check_shared_secrets(doors: &[DoorDraft], found: &mut Findings) {
    let mut first: HashMap<&Path, usize> = HashMap::new();
    for (i, draft) in doors.iter().enumerate() {
        let (Some(path), Some(place)) = (&draft.door.totp_file, draft.seen.get(&Key::TotpSecret)) else { continue };
        let first = *first.entry(path).or_insert(i);
        if first != i {
            let other = &doors[first];
            let name = quoted(&other.door.name);
            let message =
                format!("each code opens either this door or the door {name} on line {}, not both", other.line);
            let help = "use another secret; `portknock keygen --totp` makes one";
            found.push(Diagnostic::warning(codes::SHARED_WINDOW, place.value.clone(), message).help(help));
        }
    }
}

/// Returns the number with one significant digit, such as `about 3 × 10^12`.
fn rounded(number: f64) -> String {
    let text = format!("{number:.0e}");
    match text.split_once('e') {
        Some((digit, exponent)) if number >= 1e6 => format!("about {digit} × 10^{exponent}"),
        _ => format!("about {number:.0}"),
    }
}

/// Reports two doors that the keys of one file open by the same sequences or in the same windows:
/// the sequence of a window opens only one door.
pub(super) fn check_shared_windows(doors: &[DoorDraft], found: &mut Findings) {
    let mut first: HashMap<(&Path, u64), usize> = HashMap::new();
    let mut same: HashMap<(&Path, TimeSequence), usize> = HashMap::new();
    for (i, draft) in doors.iter().enumerate() {
        let Door { time_sequence: Some(time), key_file: Some(path), .. } = &draft.door else { continue };
        let Some(place) = draft.seen.get(&Key::Keys) else { continue };
        // A sequence with more steps begins with that of fewer steps.
        let time = TimeSequence { steps: 1, ..time.clone() };
        let first = *first.entry((path, time.window.as_secs())).or_insert(i);
        let same = *same.entry((path, time)).or_insert(i);
        let about = |other: usize| {
            let other = &doors[other];
            format!("{} on line {}", quoted(&other.door.name), other.line)
        };
        let (span, code) = (place.value.clone(), codes::SHARED_WINDOW);
        if same != i {
            let message = format!("the door {} has the same time sequences, and each opens one door only", about(same));
            let help = "use another file of keys, or another `time_step`";
            found.push(Diagnostic::error(code, span, message).help(help));
        } else if first != i {
            let message =
                format!("each key opens either this door or the door {} in a window of time, not both", about(first));
            let help = "use another file of keys, or another `time_step`";
            found.push(Diagnostic::warning(code, span, message).help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::Knock;
    use crate::config::{Config, Severity, parse};
    use crate::engine::Engine;
    use crate::event::EventKind;
    use crate::keys::NamedKey;
    use crate::keys::tests::counting_key;
    use crate::packet::{Protocol, TcpFlags};
    use crate::time::Timestamp;

    fn codes_of(text: &str) -> Vec<&'static str> {
        parse(text.as_bytes()).report.diagnostics.iter().map(|found| found.code).collect()
    }

    /// A sequence with this number of steps and ports.
    fn time(steps: u8, ports: u16) -> TimeSequence {
        let port = |number| NonZeroU16::new(number).unwrap();
        TimeSequence { steps, ports: port(1000)..=port(999 + ports), ..TimeSequence::default() }
    }

    #[test]
    fn guesses_are_counted() {
        let default = TimeSequence::default();
        assert_eq!(rounded(packets_to_guess(&default, 8)), "about 1 × 10^16");
        assert_eq!(rounded(packets_to_guess(&TimeSequence { steps: 3, ..default.clone() }, 8)), "about 8 × 10^9");
        assert_eq!(rounded(packets_to_guess(&default, 0)), "about 8 × 10^8");
        // Three windows have one port each.
        assert!((packets_to_guess(&time(1, 100), 8) - 100.0 / 3.0).abs() < 1e-9);
        // Of the ports that matter to an attempt, one of five is the second step.
        assert!((packets_to_guess(&time(2, 30), 0) - 50.0).abs() < 1e-9);
        // For large numbers the probability of an attempt is C(guard + steps - 1, guard) × (16 / ports)
        // for each step after the first.
        let ports = f64::from(number_of_ports(&default));
        let estimate = ports.powi(5) / (3.0 * 495.0 * 16.0_f64.powi(4));
        assert!((packets_to_guess(&default, 8) / estimate - 1.0).abs() < 0.05);
    }

    /// Random packets to an engine with the door need as many packets as the estimate.
    #[test]
    fn random_packets_open_a_door_after_the_estimated_number() {
        let (time, runs) = (time(2, 40), 2_000);
        let key = NamedKey { name: "a".into(), key: counting_key() };
        let door = Door { time_sequence: Some(time.clone()), keys: [key].into(), ..Door::new("a", None) };
        let config = Config { doors: vec![door], options: Options { scan_guard: 0, ..Options::default() } };
        let (mut random, mut packets) = (1_u64, 0_u32);
        for _ in 0..runs {
            let mut engine = Engine::new(&config);
            engine.set_wall_clock(Timestamp::from_secs(1_800_000_000), Timestamp::default());
            let mut is_open = false;
            while !is_open {
                // Knuth's generator; its upper bits are good enough.
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                packets += 1;
                let port = 1000 + u16::try_from((random >> 33) % 40).unwrap();
                engine.handle_knock(&Knock {
                    time: Timestamp::default(),
                    source: [192, 0, 2, 1].into(),
                    destination: [192, 0, 2, 2].into(),
                    port,
                    protocol: Protocol::Tcp,
                    flags: TcpFlags::SYN,
                    source_port: 1,
                    sequence_number: packets,
                });
                is_open = std::iter::from_fn(|| engine.poll_event())
                    .any(|event| matches!(event.kind, EventKind::Open { .. }));
            }
        }
        let (average, estimate) = (f64::from(packets) / f64::from(runs), packets_to_guess(&time, 0));
        assert!((average / estimate - 1.0).abs() < 0.15, "{average} {estimate}");
    }

    const KEYS: &str = "keys = /k\n";

    #[test]
    fn a_door_has_one_form_and_the_keys_for_it() {
        let time = "[a]\nsequence = time\n";
        let packet = "[a]\npacket = portknock\n";
        assert_eq!(codes_of(&format!("{time}{KEYS}")), [""; 0]);
        assert_eq!(codes_of(&format!("{packet}{KEYS}")), [""; 0]);
        assert_eq!(codes_of(time), [codes::NO_KEYS]);
        assert_eq!(codes_of(packet), [codes::NO_KEYS]);
        assert_eq!(codes_of(&format!("[a]\n{KEYS}")), [codes::NO_SEQUENCE]);
        for sequence in ["sequence = 7342,1201:udp,23045\n", "one_time_sequences = /x\n"] {
            assert_eq!(codes_of(&format!("[a]\n{sequence}{KEYS}")), [codes::KEY_WITHOUT_FORM], "{sequence}");
            assert_eq!(codes_of(&format!("[a]\n{sequence}packet = portknock\n{KEYS}")), [codes::TWO_SEQUENCES]);
        }
        assert_eq!(codes_of(&format!("{packet}sequence = time\n{KEYS}")), [codes::TWO_SEQUENCES]);
        let three = format!("{time}one_time_sequences = /x\npacket = portknock\n{KEYS}");
        assert_eq!(codes_of(&three), [codes::TWO_SEQUENCES; 2]);
        let options = "time_ports = 20000-60000\ntime_protocols = udp\ntime_step = 60\n";
        assert_eq!(codes_of(&format!("[a]\n{options}{}{KEYS}", &time[4..])), [""; 0]);
        assert_eq!(codes_of(&format!("{packet}{KEYS}{options}")), [codes::KEY_WITHOUT_FORM; 3]);
        let (fwknop, address) = ("[a]\npacket = fwknop\n", "packet_address = source\n");
        assert_eq!(codes_of(&format!("{fwknop}{KEYS}{address}")), [""; 0]);
        assert_eq!(codes_of(fwknop), [codes::NO_KEYS]);
        for other in [packet, time] {
            assert_eq!(codes_of(&format!("{other}{KEYS}{address}")), [codes::KEY_WITHOUT_FORM], "{other}");
        }
    }

    #[test]
    fn the_last_sequence_line_counts() {
        let read = |lines: &str| {
            let config = parse(format!("[a]\n{KEYS}{lines}").as_bytes()).config.unwrap();
            (config.doors[0].time_sequence.as_ref().map(|time| time.steps), config.doors[0].sequence.clone())
        };
        assert_eq!(read("sequence = 7342,1201:udp,23045\nsequence = time:6\n"), (Some(6), None));
        assert_eq!(read("sequence = time:6\nsequence = TIME\n"), (Some(5), None));
        let text = format!("[a]\nsequence = time\nsequence = 7342,1201:udp,23045\n{KEYS}");
        assert_eq!(codes_of(&text), [codes::REPEATED_KEY, codes::KEY_WITHOUT_FORM]);
    }

    #[test]
    fn a_packet_door_has_a_short_name_and_no_options_of_sequences() {
        let of = |name: &str, lines: &str| codes_of(&format!("[{name}]\npacket = portknock\n{KEYS}{lines}"));
        assert_eq!(of(&"ä".repeat(15), ""), [""; 0]);
        assert_eq!(of(&format!("{}b", "ä".repeat(15)), ""), [codes::PACKET_DOOR_NAME]);
        assert_eq!(of("a", "seq_timeout = 5\ntcpflags = ack\n"), [codes::USELESS_FOR_PACKETS; 2]);
        let time = format!("[{}]\nsequence = time\nseq_timeout = 200\n{KEYS}", "ä".repeat(16));
        assert_eq!(codes_of(&time), [""; 0]);
        let fwknop = format!("[{}]\npacket = fwknop\n{KEYS}", "ä".repeat(16));
        assert_eq!(codes_of(&fwknop), [""; 0], "no packet of fwknop contains the name");
    }

    #[test]
    fn flags_matter_only_to_steps_of_tcp() {
        let of = |lines: &str| codes_of(&format!("[a]\n{KEYS}sequence = time\ntcpflags = ack\n{lines}"));
        assert_eq!(of(""), [codes::NO_CLIENT_FLAGS]);
        assert_eq!(of("time_protocols = both\n"), [codes::NO_CLIENT_FLAGS]);
        assert_eq!(of("time_protocols = udp\n"), [""; 0]);
    }

    #[test]
    fn a_time_sequence_has_enough_ports_and_is_hard_to_guess() {
        let of = |steps: &str, lines: &str| codes_of(&format!("[a]\n{KEYS}sequence = time{steps}\n{lines}"));
        for (steps, lines) in [("", ""), (":4", "time_ports = 20000-60000\n"), (":8", "time_ports = 9000-9999\n")] {
            assert_eq!(of(steps, lines), [""; 0], "{steps} {lines}");
        }
        for (steps, lines) in [(":3", ""), (":1", ""), ("", "time_ports = 1000-1998\n"), ("", "time_ports = 9-13\n")] {
            assert_eq!(of(steps, lines), [codes::WEAK_TIME_SEQUENCE], "{steps} {lines}");
        }
        for (steps, lines) in [("", "time_ports = 9-12\n"), (":2", "time_ports = 9\n")] {
            assert_eq!(of(steps, lines), [codes::FEW_TIME_PORTS], "{steps} {lines}");
        }
        let unguarded = format!("[options]\nScanGuard = 0\n[a]\n{KEYS}sequence = time\n");
        assert_eq!(codes_of(&unguarded), [codes::WEAK_TIME_SEQUENCE]);
    }

    #[test]
    fn a_window_of_a_key_opens_one_door() {
        let two = |first: &str, second: &str| {
            let door = |name: &str, lines: &str| format!("[{name}]\nsequence = time\n{lines}\n");
            parse(format!("{}{}", door("a", first), door("b", second)).as_bytes()).report.diagnostics
        };
        let same = two("keys = /k", "keys = /k");
        assert_eq!(same.len(), 1);
        assert_eq!((same[0].code, same[0].severity), (codes::SHARED_WINDOW, Severity::Error));
        assert!(same[0].message.contains("the door `a` on line 1"), "{same:?}");
        assert_eq!(two("keys = /k", "keys = /k\ntarget = ::1")[0].severity, Severity::Error);
        let more = two("keys = /k", "keys = /k\nsequence = time:6");
        assert!(more.iter().any(|found| found.severity == Severity::Error), "{more:?}");
        let ports = two("keys = /k", "keys = /k\ntime_ports = 20000-60000");
        assert_eq!((ports[0].code, ports[0].severity), (codes::SHARED_WINDOW, Severity::Warning));
        assert_eq!(two("keys = /k", "keys = /other"), []);
        assert_eq!(two("keys = /k", "keys = /k\ntime_step = 60"), []);
    }

    #[test]
    fn one_name_can_have_a_door_of_each_form() {
        let (time, packet) = ("[a]\nkeys = /k\nsequence = time\n", "[a]\nkeys = /k\npacket = portknock\n");
        let fixed = "[a]\nsequence = 7342,1201:udp,23045\n";
        let fwknop = "[a]\nkeys = /f\npacket = fwknop\n";
        assert_eq!(codes_of(&format!("{time}{packet}{fwknop}{fixed}")), [""; 0]);
        assert_eq!(codes_of(&format!("{packet}{packet}")), [codes::REPEATED_DOOR]);
        assert_eq!(codes_of(&format!("{fixed}{packet}[a]\none_time_sequences = /x\n")), [codes::REPEATED_DOOR]);
    }
}
