//! The status of a daemon in the form in which it is sent over the socket.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::openings::Opening;
use crate::service::{DoorCounts, RefusedCounts, Service, Status};
use crate::time::Timestamp;

/// Maximum number of openings in a report, so that it is made and sent quickly: those that close
/// first.
pub const MAX_LISTED_OPENINGS: usize = 10_000;

/// The part of a status that the daemon adds to that of its service.
#[derive(Clone, Debug)]
pub struct DaemonInfo {
    /// The path of the configuration file.
    pub config: String,
    /// Seconds since the configuration in force was read.
    pub config_age: u64,
    /// Seconds since the start of the daemon.
    pub uptime: u64,
    /// Number of connections that follow the events.
    pub followers: usize,
    /// Events that were not logged one by one since the start.
    pub suppressed: u64,
}

/// The status of a daemon. Counters count from its start; times are in seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusReport {
    pub(super) version: String,
    pub(super) pid: u32,
    pub(super) uptime: u64,
    pub(super) config: ConfigReport,
    pub(super) interfaces: Vec<String>,
    /// The interfaces with their states.
    pub(super) interface_states: Vec<InterfaceReport>,
    /// True if no command runs and no port opens.
    pub(super) dry_run: bool,
    /// One for each name of a door.
    pub(super) doors: Vec<DoorReport>,
    pub(super) attempts: AttemptsReport,
    pub(super) packets: PacketsReport,
    pub(super) knocks: u64,
    pub(super) commands: CommandsReport,
    /// Number of openings.
    pub(super) openings: usize,
    /// False if the state file does not contain every opening.
    pub(super) openings_saved: bool,
    /// The clock of the machine; `None` if no door has keys.
    #[serde(default)]
    pub(super) clock: Option<ClockReport>,
    pub(super) followers: usize,
    /// Number of events that were not logged one by one.
    #[serde(default)]
    pub(super) suppressed: u64,
    /// The openings in the order in which they close, the first [`MAX_LISTED_OPENINGS`].
    pub(super) open: Vec<OpeningReport>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ConfigReport {
    pub(super) file: String,
    pub(super) age: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct InterfaceReport {
    pub(super) name: String,
    pub(super) listening: bool,
    /// The reason if the daemon does not listen on it.
    pub(super) reason: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DoorReport {
    pub(super) name: String,
    pub(super) openings: usize,
    /// Number of times that it opened.
    pub(super) opened: u64,
    pub(super) failed: FailedReport,
    #[serde(default)]
    pub(super) refused: RefusedReport,
}

/// The wall clock, on which doors with keys depend.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ClockReport {
    /// False if no program synchronises it.
    pub(super) synchronised: bool,
}

/// Authenticated knocks that opened nothing, by reason.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct RefusedReport {
    pub(super) replay: u64,
    pub(super) clock: u64,
    pub(super) unknown_door: u64,
    pub(super) cooldown: u64,
    pub(super) address: u64,
    #[serde(default)]
    pub(super) ports: u64,
    #[serde(default)]
    pub(super) command: u64,
    #[serde(default)]
    pub(super) nat: u64,
    #[serde(default)]
    pub(super) weak: u64,
    #[serde(default)]
    pub(super) user: u64,
    #[serde(default)]
    pub(super) malformed: u64,
}

impl RefusedReport {
    /// Returns each number with its reason.
    pub(super) fn by_reason(&self) -> [(&'static str, u64); 11] {
        let Self { replay, clock, unknown_door, cooldown, address, ports, command, nat, weak, user, malformed } = *self;
        [
            ("replay", replay),
            ("clock", clock),
            ("unknown-door", unknown_door),
            ("cooldown", cooldown),
            ("address", address),
            ("ports", ports),
            ("command", command),
            ("nat", nat),
            ("weak", weak),
            ("user", user),
            ("malformed", malformed),
        ]
    }
}

impl From<RefusedCounts> for RefusedReport {
    fn from(counts: RefusedCounts) -> Self {
        let RefusedCounts {
            replay,
            clock,
            unknown_door,
            cooldown,
            address,
            ports,
            command,
            nat,
            weak,
            user,
            malformed,
        } = counts;
        Self { replay, clock, unknown_door, cooldown, address, ports, command, nat, weak, user, malformed }
    }
}

/// Attempts that failed, by reason.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct FailedReport {
    pub(super) timeout: u64,
    pub(super) wrong_port: u64,
    pub(super) scan: u64,
    pub(super) full: u64,
    pub(super) reload: u64,
    /// Openings that ended because the start command failed.
    pub(super) command: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AttemptsReport {
    pub(super) alive: usize,
    pub(super) evicted: u64,
    pub(super) refused: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PacketsReport {
    pub(super) seen: u64,
    pub(super) dropped: u64,
    pub(super) filtered: u64,
    /// Datagrams of the form of an authenticated packet that no key made.
    #[serde(default)]
    pub(super) bogus: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CommandsReport {
    pub(super) run: u64,
    pub(super) failed: u64,
    pub(super) running: usize,
    pub(super) waiting: usize,
}

/// An opening in a report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpeningReport {
    pub(super) door: String,
    /// The address that opened it.
    pub(super) ip: IpAddr,
    /// The network that it is open for, as in `203.0.113.0/24`; a single address has a prefix
    /// length too.
    pub(super) net: String,
    /// In the form of an event's time. The digits are kept, because a floating-point number does
    /// not hold nanoseconds.
    pub(super) closes_at: Box<RawValue>,
    pub(super) closes_in: f64,
    pub(super) stop_command: Option<String>,
    /// The ports that are open without a command, each as in `tcp/22`.
    pub(super) ports: Vec<String>,
}

impl OpeningReport {
    fn new(opening: &Opening, now: Timestamp) -> Self {
        Self {
            door: opening.door.to_string(),
            ip: opening.ip,
            net: opening.net.to_string(),
            // Digits with a decimal point are a valid JSON number.
            closes_at: RawValue::from_string(opening.closes_at.to_string()).unwrap_or_default(),
            closes_in: opening.closes_at.saturating_since(now).as_secs_f64(),
            stop_command: opening.stop_command.clone(),
            ports: opening.open.iter().map(ToString::to_string).collect(),
        }
    }
}

impl StatusReport {
    /// Returns the status of a daemon with this service.
    pub fn new(service: &mut Service, daemon: DaemonInfo) -> Self {
        let Status {
            engine,
            packets,
            drops,
            filtered,
            commands,
            commands_running,
            commands_waiting,
            saving,
            clock_synchronised,
            ..
        } = service.status();
        let now = service.now();
        let mut openings: Vec<_> = service.openings().collect();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for opening in &openings {
            *counts.entry(&opening.door).or_default() += 1;
        }
        let mut doors: Vec<DoorReport> = Vec::new();
        let mut named = std::collections::HashSet::new();
        for name in service.door_names().filter(|name| named.insert(*name)) {
            let DoorCounts { opened, timeout, wrong_port, scan, full, reload, command, refused } =
                service.door_counts(name);
            let refused = refused.into();
            let failed = FailedReport { timeout, wrong_port, scan, full, reload, command };
            let openings = counts.get(&**name).copied().unwrap_or(0);
            doors.push(DoorReport { name: name.to_string(), openings, opened, failed, refused });
        }
        if openings.len() > MAX_LISTED_OPENINGS {
            openings.select_nth_unstable_by_key(MAX_LISTED_OPENINGS, |opening| opening.closes_at);
        }
        let total = openings.len();
        openings.truncate(MAX_LISTED_OPENINGS);
        openings.sort_by_key(|opening| opening.closes_at);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: daemon.uptime,
            config: ConfigReport { file: daemon.config, age: daemon.config_age },
            interface_states: service.interfaces().into_iter().map(|name| state(service, name)).collect(),
            interfaces: service.interfaces(),
            dry_run: service.is_dry_run(),
            doors,
            attempts: AttemptsReport { alive: engine.attempts, evicted: engine.evicted, refused: engine.refused },
            packets: PacketsReport { seen: packets, dropped: drops, filtered, bogus: engine.bogus },
            knocks: engine.knocks,
            commands: CommandsReport {
                run: commands.run,
                failed: commands.failed,
                running: commands_running,
                waiting: commands_waiting,
            },
            openings: total,
            openings_saved: saving,
            clock: clock_synchronised.map(|synchronised| ClockReport { synchronised }),
            followers: daemon.followers,
            suppressed: daemon.suppressed,
            open: openings.into_iter().map(|opening| OpeningReport::new(opening, now)).collect(),
        }
    }

    /// Returns the status as one line of JSON, without a line feed.
    pub fn json(&self) -> String {
        // Only maps whose keys are not strings could fail here, and there are none.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn state(service: &Service, name: String) -> InterfaceReport {
    let reason = service.absence(&name);
    InterfaceReport { name, listening: reason.is_none(), reason }
}

#[cfg(test)]
pub(super) fn sample() -> StatusReport {
    let opening = |door: &str, ip: &str, net: &str, secs| Opening {
        door: door.into(),
        ip: ip.parse().unwrap(),
        closes_at: Timestamp::from_secs(secs),
        stop_command: Some(format!("close {ip}\u{1b}")),
        open: [].into(),
        net: net.parse().unwrap(),
    };
    let now = Timestamp::from_secs(1_000);
    StatusReport {
        version: "0.1.0".into(),
        pid: 77,
        uptime: 90_061,
        config: ConfigReport { file: "/etc/knockd.conf".into(), age: 59 },
        interfaces: vec!["eth0".into(), "wlan0".into()],
        interface_states: vec![
            InterfaceReport { name: "eth0".into(), listening: true, reason: None },
            InterfaceReport { name: "wlan0".into(), listening: false, reason: Some("the interface is down".into()) },
        ],
        dry_run: true,
        doors: vec![
            DoorReport {
                name: "openSSH".into(),
                openings: 1,
                opened: 12,
                failed: FailedReport { timeout: 13, wrong_port: 14, ..FailedReport::default() },
                refused: RefusedReport { replay: 15, ..RefusedReport::default() },
            },
            DoorReport {
                name: "a \"b\"\\\nc".into(),
                openings: 0,
                opened: 0,
                failed: FailedReport::default(),
                refused: RefusedReport::default(),
            },
        ],
        attempts: AttemptsReport { alive: 2, evicted: 3, refused: 4 },
        packets: PacketsReport { seen: 50, dropped: 6, filtered: 7, bogus: 16 },
        knocks: 45,
        commands: CommandsReport { run: 8, failed: 9, running: 10, waiting: 11 },
        openings: 3,
        openings_saved: false,
        clock: Some(ClockReport { synchronised: false }),
        followers: 1,
        suppressed: 12,
        open: vec![
            OpeningReport::new(&opening("openSSH", "10.0.0.2", "10.0.0.2/32", 1_012), now),
            OpeningReport::new(&opening("gone", "2001:db8::1", "2001:db8::/56", 4_600), now),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Response;

    #[test]
    fn a_parsed_report_equals_the_sent_one_with_all_digits() {
        let report = sample();
        let line = Response::Status(Box::new(report.clone())).to_line();
        assert!(line.contains(r#""closes_at":1012.000000000,"closes_in":12.0,"#), "{line}");
        let Ok(Response::Status(read)) = Response::parse(line.as_bytes()) else { panic!("{line}") };
        assert_eq!(read.json(), report.json());
    }
}
