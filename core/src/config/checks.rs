//! The checks that need a whole door, or all doors.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU16;

use super::codes;
use super::command_checks;
use super::diagnostic::Diagnostic;
use super::draft::{DoorDraft, Seen};
use super::findings::Findings;
use super::fwknop_checks;
use super::keyed_checks;
use super::keys::Key;
use super::model::{Config, Door, Gate, Options, PacketFormat};
use super::quoted::quoted;
use super::steps::Step;
use super::time_sequence::StepProtocols;
use super::used_ports::UsedPorts;
use crate::packet::{Protocol, TcpFlags};
use crate::port_map::{PortMap, Sample};

/// The sequence of the example in knockd's manual, which attackers know.
const EXAMPLE_SEQUENCE: [u16; 3] = [7000, 8000, 9000];
/// Number of ports of a protocol (a quarter of all) that the capture filter can always pass for the
/// scan guard without a warning.
const GUARDED_PORTS_THRESHOLD: usize = 1 << 14;
/// Maximum number of ports outside a door's range that the filter passes for the scan guard.
const MAX_PORTS_OUTSIDE_RANGE: usize = 64;

pub(super) fn check(options: &Options, options_seen: &Seen, doors: &[DoorDraft], found: &mut Findings) {
    if doors.is_empty() {
        let message = "the configuration has no door, so no knock has an effect";
        let help = "add a door: a section like `[openSSH]` with a `sequence`";
        found.push(Diagnostic::warning(codes::NO_DOOR, 0..0, message).help(help));
    }
    for draft in doors {
        check_form(draft, found);
        keyed_checks::check(options, draft, found);
        check_closing(draft, found);
        check_gate(options, draft, found);
        check_strength(options, draft, found);
        check_flags(draft, found);
        command_checks::check(draft, found);
    }
    check_gate_use(options, options_seen, doors, found);
    check_names(doors, found);
    check_beginnings(doors, found);
    keyed_checks::check_shared_windows(doors, found);
    keyed_checks::check_shared_secrets(doors, found);
    fwknop_checks::check_shadowed(doors, found);
}

/// The keys that name what opens a door, of which each door has one.
const FORMS: [(Key, &str); 3] =
    [(Key::Sequence, "sequence"), (Key::OneTimeSequences, "one_time_sequences"), (Key::Packet, "packet")];

fn check_form(draft: &DoorDraft, found: &mut Findings) {
    let forms: Vec<_> = FORMS.iter().filter_map(|(key, word)| draft.seen.get(key).map(|place| (word, place))).collect();
    if forms.is_empty() {
        let message = format!("the door {} has no sequence", name(draft));
        let help = match draft.seen.contains_key(&Key::Keys) {
            true => "add `sequence = time`, `packet = portknock` or `packet = fwknop`",
            false => "add a line like `sequence = 7342,1201:udp,23045`",
        };
        return found.push(Diagnostic::error(codes::NO_SEQUENCE, draft.header.clone(), message).help(help));
    }
    for pair in forms.windows(2) {
        let [(one_word, one), (other_word, other)] = pair else { continue };
        let (first, last) = if one.line < other.line { (one, other) } else { (other, one) };
        let message = format!("the door has both `{one_word}` and `{other_word}`; the other is on line {}", first.line);
        let help = match **other_word {
            "packet" => "remove one of them; a second section with the same name can have the other",
            _ => "remove one of them: a door has either a fixed sequence or the sequences of a file",
        };
        found.push(Diagnostic::error(codes::TWO_SEQUENCES, last.key.clone(), message).help(help));
    }
}

/// Warns of a `cmd_timeout` without an effect, and of a stop command that never runs.
fn check_closing(draft: &DoorDraft, found: &mut Findings) {
    let runs = |command: &Option<String>| command.as_ref().is_some_and(|text| !text.is_empty());
    let Door { start_command, start_command_6, stop_command, stop_command_6, open, .. } = &draft.door;
    let closes = runs(stop_command) || runs(stop_command_6);
    if let Some(place) = draft.seen.get(&Key::CmdTimeout)
        && !closes
        && open.is_empty()
    {
        found.push(
            Diagnostic::warning(
                codes::USELESS_CMD_TIMEOUT,
                place.key.clone(),
                "`cmd_timeout` has no effect without a `stop_command` or `open`",
            )
            .help("add the `stop_command` that closes the door, or remove this line"),
        );
    }
    let (plain, six) = (draft.seen.get(&Key::StopCommand), draft.seen.get(&Key::StopCommand6));
    if let Some(place) = plain.or(six)
        && closes
        && !runs(start_command)
        && !runs(start_command_6)
        && open.is_empty()
    {
        found.push(
            Diagnostic::warning(
                codes::USELESS_STOP_COMMAND,
                place.key.clone(),
                "the stop command never runs, because there is no `start_command`",
            )
            .help("add the `start_command` that opens the door, or make this one the `start_command`"),
        );
    }
}

/// Warns if the managed table does not protect the target of a door.
fn check_gate(options: &Options, draft: &DoorDraft, found: &mut Findings) {
    let Some(place) = draft.seen.get(&Key::Open) else { return };
    if options.gate == Gate::Own
        && let Some(target) = draft.door.target
        && !target.is_loopback()
    {
        let message = format!("`open` opens ports of this host only, but `target` is {target}");
        let help = "if that is another host, use `Gate = set …` with rules for forwarded packets, or use commands";
        found.push(Diagnostic::warning(codes::OPEN_BEYOND_THIS_HOST, place.key.clone(), message).help(help));
    }
}

/// Warns of gate options that have no effect.
fn check_gate_use(options: &Options, seen: &Seen, doors: &[DoorDraft], found: &mut Findings) {
    let opens = doors.iter().any(|draft| !draft.door.open.is_empty());
    for (key, word) in [(Key::Gate, "Gate"), (Key::GateRefuse, "GateRefuse")] {
        let Some(place) = seen.get(&key) else { continue };
        let why = match options.gate {
            _ if !opens => "no door has `open`",
            Gate::Sets(_) if key == Key::GateRefuse => "the rules that use the sets determine how a port is refused",
            _ => continue,
        };
        let message = format!("`{word}` has no effect: {why}");
        found.push(Diagnostic::warning(codes::USELESS_GATE, place.key.clone(), message).help("remove this line"));
    }
}

/// Warns of flags that no client sends to begin or end a connection.
fn check_flags(draft: &DoorDraft, found: &mut Findings) {
    let Some(place) = draft.seen.get(&Key::TcpFlags) else { return };
    let Door { tcpflags, sequence, time_sequence, packet, code, .. } = &draft.door;
    let has_tcp = |steps: &[Step]| steps.iter().any(|step| step.protocol == Protocol::Tcp);
    let is_udp = packet.is_some()
        || code.as_ref().is_some_and(|code| !code.has_tcp())
        || time_sequence.as_ref().is_some_and(|time| time.protocols == StepProtocols::Udp)
        || sequence.as_ref().is_some_and(|sequence| !has_tcp(sequence.steps()));
    let begins_connection = tcpflags.matches(TcpFlags::SYN);
    let ends_connection = tcpflags.set.contains(TcpFlags::FIN) && tcpflags.matches(TcpFlags::FIN | TcpFlags::ACK);
    if begins_connection || ends_connection || is_udp {
        return;
    }
    let message = format!("no client can open this door: no client begins or ends a connection with `{tcpflags}`");
    let help =
        "use `syn,!ack`, which begins a connection; only programs that craft packets send other flags to a closed port";
    found.push(Diagnostic::warning(codes::NO_CLIENT_FLAGS, place.value.clone(), message).help(help));
}

/// Warns if the capture filter must pass packets to many ports for the scan guard.
pub(super) fn check_guard(config: &Config, seen: &Seen, found: &mut Findings) {
    let ranges = config.doors.iter().filter_map(|door| port_range(door.sequence.as_ref()?.steps()));
    let widths = ranges.map(|(first, last)| usize::from(last - first) + MAX_PORTS_OUTSIDE_RANGE);
    if widths.sum::<usize>() < GUARDED_PORTS_THRESHOLD {
        // Computing the filter takes longer than parsing a small file.
        return;
    }
    // The choice of ports in the secret sample makes little difference.
    let sample = Sample::new(0);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let used = UsedPorts::new(config, protocol);
        let ports = PortMap::new(&used.ports, &used.door_ranges, config.options.scan_guard, sample).close();
        if ports > GUARDED_PORTS_THRESHOLD {
            let place = seen.get(&Key::ScanGuard).map_or(0..0, |place| place.value.clone());
            let message =
                format!("the scan guard makes the kernel pass packets to {ports} of the 65,536 {protocol} ports");
            let help = "the ports of many doors are close together; spread each door's ports, or lower `ScanGuard`";
            found.push(Diagnostic::warning(codes::COSTLY_GUARD, place, message).help(help));
        }
    }
}

/// Warns of weak sequences, which port scans send or attackers guess.
fn check_strength(options: &Options, draft: &DoorDraft, found: &mut Findings) {
    let (Some(sequence), Some(place)) = (&draft.door.sequence, draft.seen.get(&Key::Sequence)) else {
        return;
    };
    let steps = sequence.steps();
    let warn = |code, message: &str, help: &str| {
        Diagnostic::warning(code, place.value.clone(), format!("weak sequence: {message}")).help(help)
    };
    let has_udp = steps.iter().any(|step| step.protocol == Protocol::Udp);
    let mix = match (steps.len(), has_udp) {
        (2, true) => "use three steps or more, in a mixed order: two ports always rise or fall",
        (2, false) => "use three steps or more, in a mixed order, some of them `:udp`: two ports always rise or fall",
        (_, true) => "put the ports in a mixed order",
        (_, false) => "put the ports in a mixed order, some of them `:udp`",
    };
    let rises = steps.is_sorted_by_key(|step| step.port);
    let falls = steps.iter().rev().is_sorted_by_key(|step| step.port);
    if steps.len() == 1 {
        let message = "a single packet to the port opens the door, and every port scan sends it";
        let Door { start_command, stop_command, seq_cooldown, .. } = &draft.door;
        let help = if start_command.is_some() && stop_command.is_none() && seq_cooldown.is_none() {
            "use three steps or more, or set `seq_cooldown`, so that further packets do not run the command again"
        } else {
            "use three steps or more"
        };
        found.push(warn(codes::ONE_STEP, message, help));
    } else if is_example(steps) {
        let message = "these are the ports of the example in knockd's manual, which attackers try first";
        found.push(warn(codes::STOCK_SEQUENCE, message, "choose your own ports, in a mixed order"));
    } else if rises && falls {
        let message = "all steps are the same port";
        found.push(warn(codes::ORDERED_STEPS, message, "use three different ports or more, in a mixed order"));
    } else if (rises || falls) && is_beneath_guard(options, steps) {
        let message =
            "a port scan in order opens the door, because the scan guard allows all the ports between the steps";
        found.push(warn(codes::ORDERED_STEPS, message, mix));
    } else if rises {
        let message = "the ports only rise, which is the order of a port scan";
        found.push(warn(codes::ORDERED_STEPS, message, mix));
    } else if falls {
        let message = "the ports only fall, which is an order that port scans use";
        found.push(warn(codes::ORDERED_STEPS, message, mix));
    }
}

/// Returns true if at most `ScanGuard` other ports are between the lowest and the highest step.
fn is_beneath_guard(options: &Options, steps: &[Step]) -> bool {
    let ports: BTreeSet<u16> = steps.iter().map(|step| step.port.get()).collect();
    let span = port_range(steps).map_or(0, |(first, last)| usize::from(last - first) + 1);
    span - ports.len() <= usize::from(options.scan_guard) || options.scan_guard == 0
}

/// Returns the lowest and the highest port of the steps.
fn port_range(steps: &[Step]) -> Option<(u16, u16)> {
    let ports = || steps.iter().map(|step| step.port.get());
    ports().min().zip(ports().max())
}

fn is_example(steps: &[Step]) -> bool {
    let is_tcp = |step: &Step| step.protocol == Protocol::Tcp;
    steps.iter().all(is_tcp)
        && steps.iter().map(|step| step.port).eq(EXAMPLE_SEQUENCE.iter().filter_map(|port| NonZeroU16::new(*port)))
}

/// The form of the knocks that open a door.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A fixed sequence, or the sequences of a file.
    Sequence,
    Time,
    Code,
    Packet(PacketFormat),
}

fn form(draft: &DoorDraft) -> Form {
    match (draft.is_time, draft.is_code, draft.door.packet) {
        (true, _, _) => Form::Time,
        (false, true, _) => Form::Code,
        (false, false, Some(format)) => Form::Packet(format),
        (false, false, None) => Form::Sequence,
    }
}

/// Warns of doors of the same name, unless they open by different forms of knocks.
fn check_names(doors: &[DoorDraft], found: &mut Findings) {
    let mut lines: HashMap<&str, Vec<(Form, usize)>> = HashMap::new();
    for draft in doors {
        let (form, known) = (form(draft), lines.entry(&draft.door.name).or_default());
        if let Some((_, first)) = known.iter().find(|(known, _)| *known == form) {
            let message = format!("a door {} already exists on line {first}", name(draft));
            let help = "rename one of them: events, logs and the environment of commands identify doors by their names";
            found.push(Diagnostic::warning(codes::REPEATED_DOOR, draft.header.clone(), message).help(help));
        } else {
            known.push((form, draft.line));
        }
    }
}

/// Warns if a sequence begins with the whole sequence of another door: a client that opens the
/// former also opens the latter. The beginning of a sequence with a code is its fixed steps. The map is keyed by whole sequences, so each door costs one lookup
/// for each of its at most 32 beginnings.
fn check_beginnings(doors: &[DoorDraft], found: &mut Findings) {
    let mut whole: HashMap<&[Step], usize> = HashMap::new();
    for (i, draft) in doors.iter().enumerate() {
        if let Some(sequence) = &draft.door.sequence {
            whole.entry(sequence.steps()).or_insert(i);
        }
    }
    for (i, draft) in doors.iter().enumerate() {
        let Some(place) = draft.seen.get(&Key::Sequence) else { continue };
        let steps = match (&draft.door.sequence, &draft.door.code) {
            (Some(sequence), _) => sequence.steps(),
            (None, Some(code)) => code.fixed(),
            (None, None) => continue,
        };
        let other = (1..=steps.len())
            .filter_map(|length| whole.get(&steps[..length]))
            .find(|other| **other != i && may_meet(&doors[**other].door, &draft.door));
        if let Some(other) = other {
            let other = &doors[*other];
            let is_same = other.door.sequence == draft.door.sequence;
            let how = if is_same { "is" } else { "begins with" };
            let message = format!("this sequence {how} the whole sequence of {} on line {}", name(other), other.line);
            found.push(
                Diagnostic::warning(codes::SHARED_BEGINNING, place.value.clone(), message)
                    .help("both doors open for this knock; change one of the sequences"),
            );
        }
    }
}

/// Returns false if no packet can be a knock for both doors.
fn may_meet(a: &Door, b: &Door) -> bool {
    match (a.target, b.target) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

fn name(draft: &DoorDraft) -> String {
    quoted(&draft.door.name)
}
