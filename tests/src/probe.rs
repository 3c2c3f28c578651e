//! Our `portknock probe`.

use std::process::Command;

use portknock_core::Protocol;
use serde_json::Value;

use crate::{Host, Output, UNPRIVILEGED, Verdict, binary};

/// A method of scanning ports, for portknock and nmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// TCP with raw sockets: `--method syn`, nmap's `-sS`.
    Syn,
    /// TCP without any privilege: `--method connect`, nmap's `-sT`.
    Connect,
    /// UDP, for which nmap needs raw sockets and portknock no privilege: `--udp`, nmap's `-sU`.
    Udp,
}

impl Scan {
    /// All methods.
    pub const ALL: [Self; 3] = [Self::Syn, Self::Connect, Self::Udp];

    /// The protocol of the ports.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Syn | Self::Connect => Protocol::Tcp,
            Self::Udp => Protocol::Udp,
        }
    }
}

/// A result of `portknock probe` for a port.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// The probed address.
    pub address: String,
    /// The port.
    pub port: u16,
    /// State and reason.
    pub verdict: Verdict,
    /// The round trip time in milliseconds.
    pub rtt_ms: Option<f64>,
}

impl Probed {
    /// The results in the output of `portknock probe --format json`, in order. Lines that are not
    /// results, such as errors, are skipped.
    pub fn all(output: &str) -> Vec<Self> {
        output.lines().filter(|line| line.starts_with('{')).map(Self::parse).collect()
    }

    fn parse(line: &str) -> Self {
        let fields: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |name: &str| fields[name].as_str().unwrap_or_else(|| panic!("no text `{name}` in {line}"));
        let port = fields["port"].as_u64().and_then(|port| port.try_into().ok());
        Self {
            address: text("address").into(),
            port: port.unwrap_or_else(|| panic!("no port in {line}")),
            verdict: Verdict::new(text("state"), text("reason")),
            rtt_ms: fields["rtt_ms"].as_f64(),
        }
    }
}

/// `portknock probe --format json` with this method and further arguments, separated by spaces. A
/// method that needs no privilege runs without any.
pub fn probe_command(host: &Host, scan: Scan, args: &str) -> Command {
    let portknock = binary("portknock");
    let mut command = match scan {
        Scan::Syn => host.command(portknock),
        Scan::Connect | Scan::Udp => {
            let mut command = host.command(UNPRIVILEGED[0]);
            command.args(&UNPRIVILEGED[1..]).arg(portknock);
            command
        }
    };
    command.args(["probe", "--format", "json"]);
    match scan {
        Scan::Syn => command.args(["--method", "syn"]),
        Scan::Connect => command.args(["--method", "connect"]),
        Scan::Udp => command.arg("--udp"),
    };
    command.args(args.split_whitespace());
    command
}

/// Probes to the end, and returns the results. Panics if the probe prints an error.
pub fn probe(host: &Host, scan: Scan, args: &str) -> Vec<Probed> {
    let output = Output::of(&mut probe_command(host, scan, args));
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{scan:?} {args}: {}", output.stdout);
    Probed::all(&output.stdout)
}
