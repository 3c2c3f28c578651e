//! Parses the values that only doors with `keys` have.

use super::codes;
use super::diagnostic::Diagnostic;
use super::findings::Findings;
use super::model::PacketFormat;
use super::quoted::quoted;
use super::slice::Slice;
use super::time_sequence::{MAX_TIME_STEPS, StepProtocols};
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
    let all = [StepProtocols::Tcp, StepProtocols::Udp, StepProtocols::Both];
    let chosen = all.into_iter().find(|protocols| protocols.as_str().eq_ignore_ascii_case(value.text()));
    if chosen.is_none() {
        let message = format!("{} is neither `tcp` nor `udp` nor `both`", quoted(value.text()));
        found.push(Diagnostic::error(codes::UNKNOWN_CHOICE, value.span(), message));
    }
    chosen
}

/// Parses the format of packets.
pub(super) fn packet_format(value: Slice<'_>, found: &mut Findings) -> Option<PacketFormat> {
    let known = PacketFormat::Portknock;
    if known.as_str().eq_ignore_ascii_case(value.text()) {
        return Some(known);
    }
    let message = format!("{} is not a supported format of packets", quoted(value.text()));
    let help = format!("write `packet = {known}`, which is the only format");
    found.push(Diagnostic::error(codes::UNKNOWN_CHOICE, value.span(), message).help(help));
    None
}
