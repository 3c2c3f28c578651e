//! Results as lines of JSON, the format for other programs.

use serde::Serialize;

use super::report::{AddressOf, millis};
use super::result::ProbeResult;

/// The fields in output order.
#[derive(Serialize)]
struct ResultLine<'a> {
    host: &'a str,
    address: String,
    port: u16,
    protocol: String,
    state: &'static str,
    reason: &'static str,
    rtt_ms: Option<f64>,
}

/// Returns the result as one line of JSON, without a line terminator.
///
/// `host` is the host as it was given. An address with a zone is followed by the zone's number, as
/// in `fe80::1%2`. `rtt_ms` is in milliseconds with at most three decimal places, and null if there
/// is no round-trip time.
pub fn result_line(host: &str, result: &ProbeResult) -> String {
    let line = ResultLine {
        host,
        address: AddressOf(result.address).to_string(),
        port: result.address.port(),
        protocol: result.protocol.to_string(),
        state: result.state.as_str(),
        reason: result.reason.as_str(),
        rtt_ms: result.rtt.map(millis),
    };
    // Serialisation fails only for maps with keys that are not strings; there is no such map here.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::packet::Protocol;
    use crate::probe::{PortState, Reason};

    #[test]
    fn lines_have_the_documented_fields_in_order() {
        let result = ProbeResult {
            address: "10.0.0.1:22".parse().unwrap(),
            protocol: Protocol::Tcp,
            state: PortState::Open,
            reason: Reason::SynAck,
            rtt: Some(Duration::from_nanos(210_400)),
        };
        assert_eq!(
            result_line("a \"b\"\u{1b}", &result),
            concat!(
                r#"{"host":"a \"b\"\u001b","address":"10.0.0.1","port":22,"protocol":"tcp","#,
                r#""state":"open","reason":"syn-ack","rtt_ms":0.21}"#
            )
        );
        let silent = ProbeResult {
            address: "[fe80::1%2]:53".parse().unwrap(),
            protocol: Protocol::Udp,
            state: PortState::OpenFiltered,
            reason: Reason::NoResponse,
            rtt: None,
        };
        assert_eq!(
            result_line("fe80::1%eth0", &silent),
            concat!(
                r#"{"host":"fe80::1%eth0","address":"fe80::1%2","port":53,"protocol":"udp","#,
                r#""state":"open|filtered","reason":"no-response","rtt_ms":null}"#
            )
        );
    }

    #[test]
    fn round_trips_have_three_decimals_at_most() {
        for (nanos, expected) in
            [(0, "0.0"), (499, "0.0"), (500, "0.001"), (1_234_567, "1.235"), (3_012_345_678, "3012.346")]
        {
            let result = ProbeResult {
                address: "10.0.0.1:22".parse().unwrap(),
                protocol: Protocol::Tcp,
                state: PortState::Closed,
                reason: Reason::Reset,
                rtt: Some(Duration::from_nanos(nanos)),
            };
            let line = result_line("host", &result);
            assert!(line.ends_with(&format!(r#","rtt_ms":{expected}}}"#)), "{line}");
        }
    }
}
