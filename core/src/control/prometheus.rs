//! The status for Prometheus, in its text exposition format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::{Display, Write};

use super::report::{FailedReport, StatusReport};

impl StatusReport {
    /// Returns the status as metrics. The labels are doors and interfaces of the configuration,
    /// reasons, and the version.
    pub fn prometheus(&self) -> String {
        let mut out = String::new();
        let version = format!("{{version=\"{}\"}}", escaped(&self.version));
        family(&mut out, "build_info", "gauge", "The version of the daemon.", [(version, 1_u64)]);
        let mut one = |name: &str, kind: &str, help: &str, value: u64| {
            family(&mut out, name, kind, help, [(String::new(), value)]);
        };
        let size = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let mut gauge = |name: &str, help: &str, value: u64| one(name, "gauge", help, value);
        gauge("uptime_seconds", "Seconds since the start of the daemon.", self.uptime);
        gauge("config_age_seconds", "Seconds since the configuration in force was read.", self.config.age);
        gauge("doors", "Doors of the configuration, each name counted once.", size(self.doors.len()));
        gauge("attempts", "Attempts in progress, including running cooldowns.", size(self.attempts.alive));
        gauge("openings", "Open doors, counted once for each address or network.", size(self.openings));
        gauge("dry_run", "1 if no command runs and no port opens, otherwise 0.", self.dry_run.into());
        gauge("openings_saved", "1 if the state file contains every opening, otherwise 0.", self.openings_saved.into());
        gauge("commands_running", "Commands that are running.", size(self.commands.running));
        gauge("commands_waiting", "Commands that are waiting for their turn.", size(self.commands.waiting));
        gauge("followers", "Connections that follow the events.", size(self.followers));
        let mut counter = |name: &str, help: &str, value: u64| one(name, "counter", help, value);
        counter("packets_total", "Packets that passed the kernel's filter.", self.packets.seen);
        counter("packets_bogus_total", "Datagrams like authenticated packets that no key made.", self.packets.bogus);
        counter("packets_filtered_total", "Packets among them to ports that no door uses.", self.packets.filtered);
        counter("packets_dropped_total", "Packets that were lost because they arrived too fast.", self.packets.dropped);
        counter("knocks_total", "Knocks received, at any port.", self.knocks);
        counter("attempts_evicted_total", "Attempts that were evicted from the full table.", self.attempts.evicted);
        counter(
            "attempts_refused_total",
            "First knocks that were refused because the table was full.",
            self.attempts.refused,
        );
        counter("commands_total", "Commands that were started.", self.commands.run);
        counter("commands_failed_total", "Commands that failed or could not be started.", self.commands.failed);
        counter(
            "events_suppressed_total",
            "Events that were not logged one by one, because of LogRate.",
            self.suppressed,
        );
        let clock = self.clock.map(|clock| (String::new(), u64::from(clock.synchronised)));
        let help = "1 if a program synchronises the clock, otherwise 0; missing if no door has keys.";
        family(&mut out, "clock_synchronised", "gauge", help, clock);
        let interfaces = self.interface_states.iter().map(|interface| {
            (format!("{{interface=\"{}\"}}", escaped(&interface.name)), u64::from(interface.listening))
        });
        family(&mut out, "interface_up", "gauge", "1 if the daemon listens on the interface, otherwise 0.", interfaces);
        let opened = self.doors.iter().map(|door| (format!("{{door=\"{}\"}}", escaped(&door.name)), door.opened));
        family(&mut out, "door_opened_total", "counter", "Number of times that a door opened.", opened);
        let failed = self.doors.iter().flat_map(|door| {
            let FailedReport { timeout, wrong_port, scan, full, reload, command } = door.failed;
            let reasons = [
                ("timeout", timeout),
                ("wrong-port", wrong_port),
                ("scan", scan),
                ("full", full),
                ("reload", reload),
                ("command", command),
            ];
            reasons.map(|(reason, count)| (format!("{{door=\"{}\",reason=\"{reason}\"}}", escaped(&door.name)), count))
        });
        family(&mut out, "door_failed_attempts_total", "counter", "Attempts at a door that failed, by reason.", failed);
        let refused = self.doors.iter().flat_map(|door| {
            door.refused
                .by_reason()
                .map(|(reason, count)| (format!("{{door=\"{}\",reason=\"{reason}\"}}", escaped(&door.name)), count))
        });
        family(
            &mut out,
            "door_refused_knocks_total",
            "counter",
            "Authenticated knocks that opened nothing, by reason.",
            refused,
        );
        let doors = self.doors.iter();
        let doors = doors.map(|door| (format!("{{door=\"{}\"}}", escaped(&door.name)), door.openings));
        family(&mut out, "door_openings", "gauge", "Addresses or networks that a door is open for.", doors);
        out
    }
}

/// Writes a metric with its samples, each a set of labels and a value.
fn family(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (String, impl Display)>,
) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP portknock_{name} {help}\n# TYPE portknock_{name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(out, "portknock_{name}{labels} {value}");
    }
}

/// Escapes the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::report::sample;

    #[test]
    fn every_number_has_its_metric_and_labels_are_escaped() {
        let text = sample().prometheus();
        for line in [
            "portknock_build_info{version=\"0.1.0\"} 1",
            "portknock_uptime_seconds 90061",
            "portknock_openings_saved 0",
            "portknock_clock_synchronised 0",
            "portknock_dry_run 1",
            "portknock_interface_up{interface=\"eth0\"} 1",
            "portknock_interface_up{interface=\"wlan0\"} 0",
            "portknock_door_opened_total{door=\"openSSH\"} 12",
            "portknock_door_failed_attempts_total{door=\"openSSH\",reason=\"timeout\"} 13",
            "portknock_door_failed_attempts_total{door=\"openSSH\",reason=\"wrong-port\"} 14",
            "portknock_packets_total 50",
            "portknock_commands_failed_total 9",
            "portknock_events_suppressed_total 12",
            "portknock_door_openings{door=\"openSSH\"} 1",
            "portknock_door_openings{door=\"a \\\"b\\\"\\\\\\nc\"} 0",
            "# TYPE portknock_packets_total counter",
            "# TYPE portknock_openings gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with('\n'));
    }
}
