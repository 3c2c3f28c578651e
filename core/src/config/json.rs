//! The JSON form of a report and a configuration, for `portknock check --format json`.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::code_sequence::{CodeSequence, CodeStep};
use super::diagnostic::{Diagnostic, Report, Severity};
use super::locate::Locator;
use super::model::{Config, Door, FlagMask, OpenPrefix, Options, PacketFormat};
use super::steps::Step;
use super::values::FLAGS;
use crate::packet::Protocol;

/// Returns one JSON object, on one line, with the findings and, if there are no errors, the
/// configuration. `text` must be the text that the report is about. Lines and columns count from 1,
/// columns in characters, and the ends are exclusive. The `start` and `end` of a fix are byte
/// offsets.
pub fn check_json(file: &str, text: &[u8], report: &Report, config: Option<&Config>) -> String {
    let locator = Locator::new(text);
    let check = Check {
        file,
        errors: report.errors(),
        warnings: report.warnings(),
        diagnostics: report.diagnostics.iter().map(|found| diagnostic(found, &locator)).collect(),
        config: config.filter(|_| !report.has_errors()).map(|config| ConfigJson {
            options: options(&config.options),
            doors: config.doors.iter().map(door).collect(),
        }),
    };
    // Serialization fails only for maps whose keys are not strings, and there is no such map.
    serde_json::to_string(&check).unwrap_or_default()
}

#[derive(Serialize)]
struct Check<'a> {
    file: &'a str,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<DiagnosticJson<'a>>,
    config: Option<ConfigJson<'a>>,
}

#[derive(Serialize)]
struct DiagnosticJson<'a> {
    code: &'a str,
    severity: &'a str,
    message: &'a str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
    help: Option<&'a str>,
    fix: Option<FixJson<'a>>,
}

#[derive(Serialize)]
struct FixJson<'a> {
    start: usize,
    end: usize,
    replacement: &'a str,
}

fn diagnostic<'a>(found: &'a Diagnostic, locator: &Locator<'_>) -> DiagnosticJson<'a> {
    let start = locator.position(found.span.start);
    let end = locator.position(found.span.end);
    DiagnosticJson {
        code: found.code,
        severity: match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        message: &found.message,
        line: start.line,
        column: start.column,
        end_line: end.line,
        end_column: end.column,
        help: found.help.as_deref(),
        fix: found.fix.as_ref().map(|fix| FixJson {
            start: fix.span.start,
            end: fix.span.end,
            replacement: &fix.replacement,
        }),
    }
}

#[derive(Serialize)]
struct ConfigJson<'a> {
    options: OptionsJson<'a>,
    doors: Vec<DoorJson<'a>>,
}

#[derive(Serialize)]
struct OptionsJson<'a> {
    use_syslog: bool,
    log_file: Option<String>,
    pid_file: String,
    interfaces: &'a [String],
    scan_guard: u8,
    max_attempts: u32,
    log_rate: u32,
    max_openings: u32,
    state_file: String,
    control_socket: Option<String>,
    on_stop: String,
    gate: String,
    gate_refuse: String,
    packet_ports: Vec<RangeJson>,
    clock_skew: u64,
}

fn options(options: &Options) -> OptionsJson<'_> {
    OptionsJson {
        use_syslog: options.use_syslog,
        log_file: options.log_file.as_ref().map(|path| path.display().to_string()),
        pid_file: options.pid_file.display().to_string(),
        interfaces: &options.interfaces,
        scan_guard: options.scan_guard,
        max_attempts: options.max_attempts,
        log_rate: options.log_rate,
        max_openings: options.max_openings,
        state_file: options.state_file.display().to_string(),
        control_socket: options.control_socket.as_ref().map(|path| path.display().to_string()),
        on_stop: options.on_stop.to_string(),
        gate: options.gate.to_string(),
        gate_refuse: options.gate_refuse.to_string(),
        packet_ports: options.packet_ports.iter().map(range).collect(),
        clock_skew: options.clock_skew.as_secs(),
    }
}

#[derive(Serialize)]
struct TimeJson {
    steps: u8,
    ports: RangeJson,
    protocols: &'static str,
    window: u64,
}

#[derive(Serialize)]
struct CodeJson {
    fixed: Vec<PortJson>,
    steps: Vec<CodeStepJson>,
}

#[derive(Serialize)]
struct CodeStepJson {
    ports: RangeJson,
    protocol: String,
    digits: u8,
}

fn code(sequence: &CodeSequence) -> CodeJson {
    let step = |step: &CodeStep| CodeStepJson {
        ports: range(&step.ports()),
        protocol: step.protocol().to_string(),
        digits: step.digits(),
    };
    CodeJson { fixed: steps(sequence.fixed()), steps: sequence.code().iter().map(step).collect() }
}

#[derive(Serialize)]
struct RangeJson {
    first: NonZeroU16,
    last: NonZeroU16,
}

fn range(range: &RangeInclusive<NonZeroU16>) -> RangeJson {
    RangeJson { first: *range.start(), last: *range.end() }
}

#[derive(Serialize)]
struct DoorJson<'a> {
    name: &'a str,
    sequence: Option<Vec<PortJson>>,
    one_time_sequences: Option<String>,
    time_sequence: Option<TimeJson>,
    code: Option<CodeJson>,
    totp_secret: Option<String>,
    packet: Option<&'static str>,
    packet_address: Option<&'static str>,
    keys: Option<String>,
    seq_timeout: u64,
    tcpflags: FlagsJson,
    target: Option<String>,
    start_command: Option<&'a str>,
    stop_command: Option<&'a str>,
    start_command_6: Option<&'a str>,
    stop_command_6: Option<&'a str>,
    cmd_timeout: u64,
    open: Vec<PortJson>,
    open_prefix: Option<PrefixJson>,
    allow: Vec<String>,
    seq_cooldown: Option<u64>,
}

fn door(door: &Door) -> DoorJson<'_> {
    DoorJson {
        name: &door.name,
        sequence: door.sequence.as_ref().map(|sequence| steps(sequence.steps())),
        one_time_sequences: door.one_time_sequences.as_ref().map(|path| path.display().to_string()),
        time_sequence: door.time_sequence.as_ref().map(|time| TimeJson {
            steps: time.steps,
            ports: range(&time.ports),
            protocols: time.protocols.as_str(),
            window: time.window.as_secs(),
        }),
        code: door.code.as_ref().map(code),
        totp_secret: door.totp_file.as_ref().map(|path| path.display().to_string()),
        packet: door.packet.map(PacketFormat::as_str),
        packet_address: (door.packet == Some(PacketFormat::Fwknop)).then(|| door.packet_address.as_str()),
        keys: door.key_file.as_ref().map(|path| path.display().to_string()),
        seq_timeout: door.seq_timeout.as_secs(),
        tcpflags: FlagsJson(door.tcpflags),
        target: door.target.map(|address| address.to_string()),
        start_command: door.start_command.as_deref(),
        stop_command: door.stop_command.as_deref(),
        start_command_6: door.start_command_6.as_deref(),
        stop_command_6: door.stop_command_6.as_deref(),
        cmd_timeout: door.cmd_timeout.as_secs(),
        open: door.open.iter().map(|open| port(open.port, open.protocol)).collect(),
        open_prefix: door.open_prefix.map(|OpenPrefix { ipv4, ipv6 }| PrefixJson { ipv4, ipv6 }),
        allow: door.allow.iter().map(ToString::to_string).collect(),
        seq_cooldown: door.seq_cooldown.map(|time| Duration::as_secs(&time)),
    }
}

#[derive(Serialize)]
struct PrefixJson {
    ipv4: u8,
    ipv6: u8,
}

#[derive(Serialize)]
struct PortJson {
    port: u16,
    protocol: String,
}

fn port(port: NonZeroU16, protocol: Protocol) -> PortJson {
    PortJson { port: port.get(), protocol: protocol.to_string() }
}

fn steps(steps: &[Step]) -> Vec<PortJson> {
    steps.iter().map(|step| port(step.port, step.protocol)).collect()
}

/// The flags that matter: true for a flag that must be set, false for a flag that must be clear.
struct FlagsJson(FlagMask);

impl Serialize for FlagsJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, flag) in FLAGS {
            if self.0.set.contains(flag) {
                map.serialize_entry(name, &true)?;
            } else if self.0.clear.contains(flag) {
                map.serialize_entry(name, &false)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn json(text: &str) -> String {
        let parsed = parse(text.as_bytes());
        check_json("knockd.conf", text.as_bytes(), &parsed.report, parsed.config.as_ref())
    }

    #[test]
    fn findings_have_locations_and_fixes_and_a_configuration_with_errors_is_left_out() {
        let text = "[openSSH]\n\t\tsequence = sequence = 3,1\n\t\tstop = x\n";
        assert_eq!(
            json(text),
            concat!(
                r#"{"file":"knockd.conf","errors":2,"warnings":1,"diagnostics":["#,
                r#"{"code":"PK012","severity":"error","message":"the key `sequence` is repeated inside its own value","#,
                r#""line":2,"column":14,"end_line":2,"end_column":25,"help":"remove the second `sequence =`","#,
                r#""fix":{"start":23,"end":34,"replacement":""}},"#,
                r#"{"code":"PK048","severity":"warning","message":"weak sequence: a port scan in order opens the door, "#,
                r#"because the scan guard allows all the ports between the steps","line":2,"column":25,"end_line":2,"end_column":28,"#,
                r#""help":"use three steps or more, in a mixed order, some of them `:udp`: two ports always rise or fall","fix":null},"#,
                r#"{"code":"PK014","severity":"error","message":"unknown key `stop`","line":3,"column":3,"#,
                r#""end_line":3,"end_column":7,"help":"knockd.conf(5) lists the keys of doors","fix":null}],"config":null}"#,
            )
        );
    }

    #[test]
    fn a_configuration_has_every_key() {
        let text = "[options]\nInterface = eth0,eth1\nOnStop = keep\n[a]\nsequence = 7000,5:udp,9\ntcpflags = !ack,syn\n\
                    target = ::1\nallow = 10.0.0.0/8\ncommand = o\nstop_command = x\ncommand_6 =\nopen = tcp/22\nopen_prefix = 24,56\nseq_cooldown = 60\n\
                    [b]\none_time_sequences = /etc/b\n[c]\nsequence = time:6\nkeys = /etc/c\n[d]\npacket = portknock\nkeys = /etc/c\n\
                    [e]\nsequence = 7391,48213:udp,21???,22???:udp\ntotp_secret = /etc/e\n";
        assert_eq!(
            json(text),
            concat!(
                r#"{"file":"knockd.conf","errors":0,"warnings":0,"diagnostics":[],"config":{"options":"#,
                r#"{"use_syslog":false,"log_file":null,"pid_file":"/var/run/knockd.pid","interfaces":["eth0","eth1"],"#,
                r#""scan_guard":8,"max_attempts":1048576,"log_rate":1000,"max_openings":4096,"state_file":"/var/lib/portknock/openings","#,
                r#""control_socket":"/run/portknock/control","on_stop":"keep","#,
                r#""gate":"own","gate_refuse":"reject","packet_ports":[{"first":62201,"last":62201}],"clock_skew":60},"#,
                r#""doors":[{"name":"a","sequence":[{"port":7000,"protocol":"tcp"},{"port":5,"protocol":"udp"},"#,
                r#"{"port":9,"protocol":"tcp"}],"one_time_sequences":null,"time_sequence":null,"code":null,"totp_secret":null,"packet":null,"packet_address":null,"keys":null,"seq_timeout":25,"#,
                r#""tcpflags":{"syn":true,"ack":false},"target":"::1","start_command":"o","stop_command":"x","#,
                r#""start_command_6":"","stop_command_6":null,"cmd_timeout":10,"open":[{"port":22,"protocol":"tcp"}],"#,
                r#""open_prefix":{"ipv4":24,"ipv6":56},"allow":["10.0.0.0/8"],"seq_cooldown":60},"#,
                r#"{"name":"b","sequence":null,"one_time_sequences":"/etc/b","time_sequence":null,"code":null,"totp_secret":null,"packet":null,"packet_address":null,"keys":null,"#,
                r#""seq_timeout":25,"tcpflags":{},"target":null,"#,
                r#""start_command":null,"stop_command":null,"start_command_6":null,"stop_command_6":null,"cmd_timeout":10,"#,
                r#""open":[],"open_prefix":null,"allow":[],"seq_cooldown":null},"#,
                r#"{"name":"c","sequence":null,"one_time_sequences":null,"#,
                r#""time_sequence":{"steps":6,"ports":{"first":1024,"last":65535},"protocols":"tcp","window":30},"#,
                r#""code":null,"totp_secret":null,"packet":null,"packet_address":null,"keys":"/etc/c","seq_timeout":25,"tcpflags":{},"target":null,"#,
                r#""start_command":null,"stop_command":null,"start_command_6":null,"stop_command_6":null,"cmd_timeout":10,"#,
                r#""open":[],"open_prefix":null,"allow":[],"seq_cooldown":null},"#,
                r#"{"name":"d","sequence":null,"one_time_sequences":null,"time_sequence":null,"code":null,"totp_secret":null,"packet":"portknock","packet_address":null,"#,
                r#""keys":"/etc/c","seq_timeout":25,"tcpflags":{},"target":null,"#,
                r#""start_command":null,"stop_command":null,"start_command_6":null,"stop_command_6":null,"cmd_timeout":10,"#,
                r#""open":[],"open_prefix":null,"allow":[],"seq_cooldown":null},"#,
                r#"{"name":"e","sequence":null,"one_time_sequences":null,"time_sequence":null,"#,
                r#""code":{"fixed":[{"port":7391,"protocol":"tcp"},{"port":48213,"protocol":"udp"}],"#,
                r#""steps":[{"ports":{"first":21000,"last":21999},"protocol":"tcp","digits":3},"#,
                r#"{"ports":{"first":22000,"last":22999},"protocol":"udp","digits":3}]},"totp_secret":"/etc/e","#,
                r#""packet":null,"packet_address":null,"keys":null,"seq_timeout":25,"tcpflags":{},"target":null,"#,
                r#""start_command":null,"stop_command":null,"start_command_6":null,"stop_command_6":null,"cmd_timeout":10,"#,
                r#""open":[],"open_prefix":null,"allow":[],"seq_cooldown":null}]}}"#,
            )
        );
    }
}
