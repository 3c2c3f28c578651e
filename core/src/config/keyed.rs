//! Parses the values that only doors with `keys` have.

use super::codes;
use super::diagnostic::Diagnostic;
use super::findings::Findings;
use super::model::{PacketAddress, PacketFormat};
use super::quoted::quoted;
use super::slice::Slice;
use super::time_sequence::{MAX_TIME_STEPS, StepProtocols, StepProtocolsError};
use super::values;

/// Returns true if the value of `sequence` is `time`, or `time:` and more.
pub(super) fn is_time(value: Slice<'_>) -> bool {
    value.take_until(|c| c == ':').0.trim().text().eq_ignore_ascii_case("time")
}

/// Parses the number of steps after `time:`, for which [`is_time`] must be true. Returns `None` if
/// there is no number or an error.
pub(super) fn time_steps(value: Slice<'_>, found: &mut Findings) -> Option<u8> {
    let (_, steps) = value.split_once(':')?;
    let number = values::number(steps.trim(), 1..=u32::from(MAX_TIME_STEPS), found)?;
    u8::try_from(number).ok()
}

/// Parses the protocols of a time sequence.
pub(super) fn protocols(value: Slice<'_>, found: &mut Findings) -> Option<StepProtocols> {
    let report = |error: StepProtocolsError| {
        let message = format!("{} is {error}", quoted(value.text()));
        found.push(Diagnostic::error(codes::UNKNOWN_CHOICE, value.span(), message));
    };
    value.text().parse().map_err(report).ok()
}

/// Parses the format of packets.
pub(super) fn packet_format(value: Slice<'_>, found: &mut Findings) -> Option<PacketFormat> {
    values::choice(
        value,
        [PacketFormat::Portknock, PacketFormat::Fwknop].map(|format| (format.as_str(), format)),
        found,
    )
}

/// Parses the rule for the address in a packet.
pub(super) fn packet_address(value: Slice<'_>, found: &mut Findings) -> Option<PacketAddress> {
    let known = [PacketAddress::Any, PacketAddress::Required, PacketAddress::Source];
    let chosen = known.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(value.text()));
    if chosen.is_none() {
        let message = format!("{} is not `any`, `required` or `source`", quoted(value.text()));
        found.push(Diagnostic::error(codes::UNKNOWN_CHOICE, value.span(), message));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{TimeSequence, parse};

    fn codes_of(line: &str) -> Vec<&'static str> {
        let text = format!("[a]\nkeys = /k\n{line}\n");
        parse(text.as_bytes()).report.diagnostics.iter().map(|found| found.code).collect()
    }

    #[test]
    fn the_values_of_a_time_sequence_are_read_and_printed() {
        let read = |lines: &str| {
            let text = format!("[a]\nkeys = /k # mine\n{lines}\n");
            let parsed = parse(text.as_bytes());
            assert_eq!(parsed.report.diagnostics, [], "{lines}");
            let config = parsed.config.unwrap();
            assert_eq!(parse(config.to_string().as_bytes()).config, Some(config.clone()), "{config}");
            (config.doors[0].time_sequence.clone().unwrap(), config.to_string())
        };
        let default = TimeSequence::default();
        for line in ["sequence = time", "sequence = Time : 5 # five, or so", "sequence = time#"] {
            let (time, text) = read(line);
            assert_eq!(
                (time, &*text),
                (default.clone(), "[a]\n    keys = /k\n    sequence = time\n    seq_timeout = 25\n")
            );
        }
        assert_eq!(read("sequence = time:8").0, TimeSequence { steps: 8, ..default.clone() });
        let lines = "time_step = 60\ntime_protocols = Both\nsequence = time\ntime_ports = 20000 - 60000 # ours";
        let (time, _) = read(lines);
        assert_eq!((time.ports.start().get(), time.ports.end().get()), (20_000, 60_000));
        assert_eq!((time.protocols, time.window), (StepProtocols::Both, Duration::from_secs(60)));
    }

    #[test]
    fn each_error_has_its_code() {
        for bad in ["time:0", "time:9", "time:", "time:udp", "time:6,7", "time::5"] {
            assert_eq!(codes_of(&format!("sequence = {bad}")), [codes::NUMBER_RANGE], "{bad}");
        }
        for (line, code) in [
            ("time_step = 9", codes::NUMBER_RANGE),
            ("time_step = 31", codes::NUMBER_RANGE),
            ("time_step = 3601", codes::NUMBER_RANGE),
            ("time_step = soon", codes::NOT_SECONDS),
            ("time_protocols = sctp", codes::UNKNOWN_CHOICE),
            ("time_ports = 5,6", codes::NOT_A_PORT_RANGE),
            ("time_ports = 0-9", codes::PORT_RANGE),
        ] {
            assert_eq!(codes_of(&format!("sequence = time\n{line}")), [code], "{line}");
        }
        assert_eq!(codes_of("packet = spa"), [codes::UNKNOWN_CHOICE]);
        assert_eq!(codes_of("packet = fwknop\npacket_address = sender"), [codes::UNKNOWN_CHOICE]);
        assert_eq!(codes_of("sequence = time\n[options]\nClockSkew = 3601"), [codes::NUMBER_RANGE]);
    }
}
