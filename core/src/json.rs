//! Events as lines of JSON, for other programs.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::{Event, EventKind, FailReason, RefusalReason};
use crate::log_limit::{EventCounts, Suppressed};
use crate::time::Timestamp;

/// The fields of an event in the order in which they are written. Fields that the event does not
/// have are omitted.
#[derive(Serialize)]
struct EventLine<'a> {
    time: Box<RawValue>,
    event: &'static str,
    door: &'a str,
    ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    net: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u8>,
    /// `Some(None)` is written as `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_command: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Each as in `tcp/22`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<String>>,
    /// Seconds by which the clock of the client is ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    /// The name of the key that authenticated the knock.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closes_at: Option<Option<Box<RawValue>>>,
}

/// Returns the event as one line of JSON, without a line feed. `time` and `closes_at` are in
/// seconds since the epoch, with nine decimal places.
///
/// # Errors
/// None in practice: every field of an event can be written as JSON.
pub fn event_line(event: &Event) -> serde_json::Result<String> {
    let mut line = EventLine {
        time: seconds(event.time)?,
        event: event.kind.as_str(),
        door: &event.door,
        ip: event.ip,
        net: event.net().map(|net| net.to_string()),
        stage: None,
        steps: None,
        stop_command: None,
        command: None,
        reason: None,
        ports: None,
        offset: None,
        key: event.kind.key().map(|key| &**key),
        closes_at: None,
    };
    match &event.kind {
        EventKind::Stage { stage, steps } => (line.stage, line.steps) = (Some(*stage), Some(*steps)),
        EventKind::Open { command, .. } => line.command = Some(command.as_deref()),
        EventKind::Extend { command, opening, .. } => {
            let stop_command = command.as_ref().and(opening.stop_command.as_deref());
            (line.stop_command, line.command) = (Some(stop_command), Some(command.as_deref()));
        }
        EventKind::Close { opening, reason } => {
            (line.command, line.reason) = (Some(opening.stop_command.as_deref()), reason.map(FailReason::as_str));
        }
        EventKind::Timeout { stage } => line.stage = Some(*stage),
        EventKind::Fail { stage, reason } => {
            (line.stage, line.reason) = (Some(*stage), Some(reason.as_str()));
        }
        EventKind::Refused { reason, .. } => {
            line.reason = Some(reason.as_str());
            if let RefusalReason::Clock(seconds) = reason {
                line.offset = Some(*seconds);
            }
        }
    }
    if let EventKind::Open { .. } | EventKind::Extend { .. } | EventKind::Close { .. } = &event.kind {
        line.ports = Some(event.ports().iter().map(ToString::to_string).collect());
        line.closes_at = Some(event.closes_at().map(seconds).transpose()?);
    }
    serde_json::to_string(&line)
}

/// Returns a time as a number that keeps its digits, because a floating-point number does not hold
/// nanoseconds.
fn seconds(time: Timestamp) -> serde_json::Result<Box<RawValue>> {
    RawValue::from_string(time.to_string())
}

/// Numbers of events that were not reported one by one. `door` is omitted for the sum of all doors
/// that have no line.
#[derive(Serialize)]
struct SuppressedLine<'a> {
    time: Box<RawValue>,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    door: Option<&'a str>,
    #[serde(flatten)]
    counts: EventCounts,
}

/// Returns the numbers of events that were not reported one by one as lines of JSON: a line for
/// each door, and a line for all other doors together. Each line ends with a line feed.
///
/// # Errors
/// None in practice, as for [`event_line`].
pub fn suppressed_lines(suppressed: &Suppressed) -> serde_json::Result<String> {
    let Suppressed { time, doors, others } = suppressed;
    let doors = doors.iter().map(|(door, counts)| (Some(&**door), *counts));
    let others = (others.total() > 0).then_some((None, *others));
    let mut lines = String::new();
    for (door, counts) in doors.chain(others) {
        let line = SuppressedLine { time: seconds(*time)?, event: "suppressed", door, counts };
        lines = lines + &serde_json::to_string(&line)? + "\n";
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, DoorId};
    use crate::openings::Opening;

    #[test]
    fn suppressed_events_have_a_line_for_each_door() {
        let counts = EventCounts { first_stages: 7, scan: 2, ..Default::default() };
        let mut suppressed = Suppressed {
            time: Timestamp::from_secs(5),
            doors: vec![("a\n".into(), counts)],
            others: EventCounts::default(),
        };
        let numbers = r#""first_stages":7,"later_stages":0,"timeouts":0,"wrong_port":0,"scan":2,"full":0,"reload":0,"unopened":0}"#;
        let line = format!(r#"{{"time":5.000000000,"event":"suppressed","door":"a\n",{numbers}"#) + "\n";
        assert_eq!(suppressed_lines(&suppressed).unwrap(), line);
        suppressed.others = counts;
        let others = format!(r#"{{"time":5.000000000,"event":"suppressed",{numbers}"#) + "\n";
        assert_eq!(suppressed_lines(&suppressed).unwrap(), line + &others);
    }

    #[test]
    fn lines_have_the_promised_fields_in_order() {
        let line = |kind| {
            let time = Timestamp::from_nanos(1_690_000_000_123_456_000);
            event_line(&Event { time, door: "a \"b\"".into(), ip: "2001:db8::1".parse().unwrap(), kind }).unwrap()
        };
        let head =
            |event| format!(r#"{{"time":1690000000.123456000,"event":"{event}","door":"a \"b\"","ip":"2001:db8::1""#);
        let net = "2001:db8::/56".parse().unwrap();
        let open = |command, opening| EventKind::Open { door_id: DoorId(0), command, opening, net, key: None };
        let opening = |stop_command| {
            let (door, ip) = ("a".into(), "2001:db8::1".parse().unwrap());
            let closes_at = Timestamp::from_nanos(1_690_000_010_123_456_000);
            Box::new(Opening { door, ip, closes_at, stop_command, open: [].into(), net })
        };
        let ports =
            config::parse(b"[a]\nsequence = 1\nopen = tcp/22,udp/51820\n").config.unwrap().doors[0].open.clone();
        let with_ports = Box::new(Opening { open: ports, ..*opening(None) });
        let close = |command| EventKind::Close { opening: opening(command), reason: None };
        let extend =
            |command, stop| EventKind::Extend { door_id: DoorId(0), command, opening: opening(stop), key: None };
        let fail = EventKind::Fail { stage: 2, reason: FailReason::WrongPort };
        let due = r#""closes_at":1690000010.123456000}"#;
        let tail = format!(r#","ports":[],{due}"#);
        let ports = format!(r#","ports":["tcp/22","udp/51820"],{due}"#);
        let opens = |event| head(event) + r#","net":"2001:db8::/56""#;
        assert_eq!(line(EventKind::Stage { stage: 1, steps: 3 }), head("stage") + r#","stage":1,"steps":3}"#);
        let never = r#","command":null,"ports":[],"closes_at":null}"#;
        assert_eq!(line(open(None, None)), opens("open") + never);
        let opened = line(open(Some("x\ty".into()), Some(opening(None))));
        assert_eq!(opened, opens("open") + r#","command":"x\ty""# + &tail);
        assert_eq!(line(open(None, Some(with_ports.clone()))), opens("open") + r#","command":null"# + &ports);
        assert_eq!(line(close(Some("x".into()))), opens("close") + r#","command":"x""# + &tail);
        assert_eq!(line(close(None)), opens("close") + r#","command":null"# + &tail);
        let full = EventKind::Close { opening: with_ports.clone(), reason: Some(FailReason::Full) };
        assert_eq!(line(full), opens("close") + r#","command":null,"reason":"full""# + &ports);
        assert_eq!(line(extend(None, None)), opens("extend") + r#","stop_command":null,"command":null"# + &tail);
        assert_eq!(line(extend(None, Some("y".into()))), line(extend(None, None)), "nothing runs");
        let reopened = line(extend(Some("x".into()), Some("y".into())));
        assert_eq!(reopened, opens("extend") + r#","stop_command":"y","command":"x""# + &tail);
        let extended = EventKind::Extend { door_id: DoorId(0), command: None, opening: with_ports, key: None };
        assert_eq!(line(extended), opens("extend") + r#","stop_command":null,"command":null"# + &ports);
        assert_eq!(line(EventKind::Timeout { stage: 2 }), head("timeout") + r#","stage":2}"#);
        assert_eq!(line(fail), head("fail") + r#","stage":2,"reason":"wrong-port"}"#);
    }
}
