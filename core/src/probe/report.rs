//! Results as a table for people, similar to nmap's.

use std::cmp::Reverse;
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::plan::{Method, ProbePlan};
use super::result::ProbeResult;
use super::run::Scan;
use super::state::{PortState, Reason};
use crate::packet::Protocol;
use crate::printable::Printable;
use crate::sys::names::service_name;

/// Number of ports above which a state other than open is only counted, not listed.
const MAX_LISTED: usize = 25;

/// The column headings.
const HEADINGS: [&str; 5] = ["PORT", "STATE", "SERVICE", "REASON", "RTT"];

/// Returns the results as a table for people, which ends with a line terminator.
///
/// For each of the probed `addresses` the table contains:
/// - the method of the probe;
/// - the number of ports of each state other than open that more than 25 ports are in, which are
///   not listed (with `only_open`: of all states other than open and open|filtered);
/// - the number of ports without a result;
/// - a line for each other port, with its service name as in services(5).
pub fn table(plan: &ProbePlan, addresses: &[SocketAddr], scan: &Scan, only_open: bool) -> String {
    let service = |port, protocol| service_name(port, protocol == Protocol::Udp).unwrap_or_default();
    table_with(plan, addresses, scan, only_open, &service)
}

/// Returns the service name of a port, empty if it has none.
type ServiceNames<'a> = &'a dyn Fn(u16, Protocol) -> String;

fn table_with(
    plan: &ProbePlan,
    addresses: &[SocketAddr],
    scan: &Scan,
    only_open: bool,
    service: ServiceNames<'_>,
) -> String {
    let mut text = String::new();
    for &address in addresses {
        let gap = if text.is_empty() { "" } else { "\n" };
        let of_address = |result: &&ProbeResult| AddressOf(result.address) == AddressOf(address);
        let results: Vec<&ProbeResult> = scan.results.iter().filter(of_address).collect();
        let section = Section {
            title: Title { host: &plan.host, address },
            by: method_name(plan.protocol, scan.method),
            unknown: plan.ports.iter().len().saturating_sub(results.len()),
            results: &results,
            only_open,
            service,
        };
        // Writing into a String cannot fail.
        let _ = write!(text, "{gap}{section}");
    }
    text
}

/// Returns the name of the method in one word.
fn method_name(protocol: Protocol, method: Method) -> &'static str {
    match (protocol, method) {
        (Protocol::Udp, _) => "UDP",
        (Protocol::Tcp, Method::Syn) => "SYN",
        (Protocol::Tcp, Method::Connect) => "connect",
        (Protocol::Tcp, Method::Auto) => "TCP",
    }
}

/// The results of one address.
struct Section<'a> {
    title: Title<'a>,
    by: &'static str,
    results: &'a [&'a ProbeResult],
    unknown: usize,
    only_open: bool,
    service: ServiceNames<'a>,
}

impl fmt::Display for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Probe of {} by {}", self.title, self.by)?;
        let (mut counted, mut listed) = (Vec::new(), Vec::new());
        for state in [PortState::Open, PortState::Closed, PortState::Filtered, PortState::OpenFiltered] {
            let count = self.results.iter().filter(|result| result.state == state).count();
            let may_be_open = matches!(state, PortState::Open | PortState::OpenFiltered);
            let hidden = if may_be_open || !self.only_open { MAX_LISTED } else { 0 };
            if state != PortState::Open && count > hidden {
                counted.push((count, state));
            } else {
                listed.push(state);
            }
        }
        counted.sort_by_key(|&(count, _)| Reverse(count));
        for (count, state) in counted {
            writeln!(f, "Not shown: {count} {state} ports ({})", self.reasons(state))?;
        }
        if self.unknown > 0 {
            let ports = if self.unknown == 1 { "port" } else { "ports" };
            writeln!(f, "Not known yet: {} {ports}", self.unknown)?;
        }
        let listed = self.results.iter().filter(|result| listed.contains(&result.state));
        write_columns(f, &listed.map(|result| row(result, self.service)).collect::<Vec<_>>())
    }
}

impl Section<'_> {
    /// Returns the reasons of the ports in this state, the most frequent first; with counts if
    /// there is more than one reason.
    fn reasons(&self, state: PortState) -> String {
        let mut counts: Vec<(usize, Reason)> = Vec::new();
        for result in self.results.iter().filter(|result| result.state == state) {
            match counts.iter_mut().find(|(_, reason)| *reason == result.reason) {
                Some((count, _)) => *count += 1,
                None => counts.push((1, result.reason)),
            }
        }
        counts.sort_by_key(|&(count, reason)| (Reverse(count), reason));
        match counts.as_slice() {
            [(_, reason)] => reason.to_string(),
            _ => counts.iter().map(|(count, reason)| format!("{count} {reason}")).collect::<Vec<_>>().join(", "),
        }
    }
}

fn row(result: &ProbeResult, service: ServiceNames<'_>) -> [String; 5] {
    [
        format!("{}/{}", result.address.port(), result.protocol),
        result.state.to_string(),
        Printable(&service(result.address.port(), result.protocol)).to_string(),
        result.reason.to_string(),
        result.rtt.map_or_else(|| "-".into(), |rtt| format!("{} ms", millis(rtt))),
    ]
}

/// Writes the rows below the headings, each column as wide as its widest text. Writes nothing if
/// there are no rows.
fn write_columns(f: &mut fmt::Formatter<'_>, rows: &[[String; 5]]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let mut widths = HEADINGS.map(str::len);
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = text.len().max(*width);
        }
    }
    let headings = HEADINGS.map(String::from);
    for [port, state, service, reason, rtt] in [&headings].into_iter().chain(rows) {
        let [port_width, state_width, service_width, reason_width, _] = widths;
        writeln!(f, "{port:port_width$} {state:state_width$} {service:service_width$} {reason:reason_width$} {rtt}")?;
    }
    Ok(())
}

/// The host as it was given, and the address that its name resolved to.
struct Title<'a> {
    host: &'a str,
    address: SocketAddr,
}

impl fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Printable(self.host);
        let without_zone = self.host.split('%').next().unwrap_or_default();
        if without_zone.parse() == Ok(self.address.ip()) {
            write!(f, "{host}")
        } else {
            write!(f, "{host} ({})", AddressOf(self.address))
        }
    }
}

/// An address without its port. The number of its zone, if it has one, follows a percent sign: two
/// machines on two links may have the same address.
#[derive(Clone, Copy)]
pub(super) struct AddressOf(pub(super) SocketAddr);

impl AddressOf {
    fn parts(self) -> (IpAddr, u32) {
        match self.0 {
            SocketAddr::V4(address) => ((*address.ip()).into(), 0),
            SocketAddr::V6(address) => ((*address.ip()).into(), address.scope_id()),
        }
    }
}

impl PartialEq for AddressOf {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl fmt::Display for AddressOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (ip, 0) => write!(f, "{ip}"),
            (ip, zone) => write!(f, "{ip}%{zone}"),
        }
    }
}

/// Converts a time to milliseconds, rounded to the microsecond.
pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    fn result(address: &str, port: u16, state: PortState, reason: Reason, micros: Option<u64>) -> ProbeResult {
        let mut address: SocketAddr = address.parse().unwrap();
        address.set_port(port);
        let rtt = micros.map(Duration::from_micros);
        ProbeResult { address, protocol: Protocol::Tcp, state, reason, rtt }
    }

    fn silent(address: &str, ports: RangeInclusive<u16>) -> Vec<ProbeResult> {
        ports.map(|port| result(address, port, PortState::Filtered, Reason::NoResponse, None)).collect()
    }

    fn names(port: u16, _: Protocol) -> String {
        (if port == 22 { "ssh" } else { "" }).into()
    }

    fn shown(plan: &ProbePlan, addresses: &[&str], method: Method, mut results: Vec<ProbeResult>) -> String {
        results.iter_mut().for_each(|result| result.protocol = plan.protocol);
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        table_with(plan, &addresses, &Scan { results, method, error: None }, false, &names)
    }

    #[test]
    fn a_few_ports_are_all_listed() {
        let plan = ProbePlan::new("server.example", "22,80,8080".parse().unwrap());
        let results = vec![
            result("192.0.2.1:0", 22, PortState::Open, Reason::SynAck, Some(210)),
            result("192.0.2.1:0", 80, PortState::Closed, Reason::Reset, Some(12_345)),
            result("192.0.2.1:0", 8080, PortState::Filtered, Reason::AdminProhibited, None),
        ];
        assert_eq!(
            shown(&plan, &["192.0.2.1:0"], Method::Syn, results),
            "Probe of server.example (192.0.2.1) by SYN\n\
             PORT     STATE    SERVICE REASON           RTT\n\
             22/tcp   open     ssh     syn-ack          0.21 ms\n\
             80/tcp   closed           reset            12.345 ms\n\
             8080/tcp filtered         admin-prohibited -\n"
        );
    }

    #[test]
    fn many_ports_of_one_state_are_counted_except_open_ones() {
        let plan = ProbePlan::new("192.0.2.1", "1-160".parse().unwrap());
        let mut results = silent("192.0.2.1:0", 1..=98);
        for port in [50, 60] {
            results[port].reason = Reason::HostUnreach;
        }
        for port in 99..=124 {
            results.push(result("192.0.2.1:0", port, PortState::Closed, Reason::ConnRefused, Some(20)));
        }
        for port in 125..=150 {
            results.push(result("192.0.2.1:0", port, PortState::Open, Reason::SynAck, Some(20)));
        }
        let text = shown(&plan, &["192.0.2.1:0"], Method::Connect, results);
        let (head, ports) = text.split_once("125/tcp").unwrap();
        assert_eq!(
            head,
            "Probe of 192.0.2.1 by connect\n\
             Not shown: 98 filtered ports (96 no-response, 2 host-unreach)\n\
             Not shown: 26 closed ports (conn-refused)\n\
             Not known yet: 10 ports\n\
             PORT    STATE SERVICE REASON  RTT\n"
        );
        assert_eq!(ports.lines().count(), 26);
    }

    #[test]
    fn the_limit_is_kept_and_a_table_without_rows_has_no_headings() {
        let plan = ProbePlan::new("192.0.2.1", "1-25".parse().unwrap());
        let text = shown(&plan, &["192.0.2.1:0"], Method::Syn, silent("192.0.2.1:0", 1..=25));
        assert_eq!(text.lines().count(), 27);
        let plan = ProbePlan::new("192.0.2.1", "1-26".parse().unwrap());
        assert_eq!(
            shown(&plan, &["192.0.2.1:0"], Method::Syn, silent("192.0.2.1:0", 1..=26)),
            "Probe of 192.0.2.1 by SYN\nNot shown: 26 filtered ports (no-response)\n"
        );
    }

    #[test]
    fn only_open_ports_are_listed_on_request() {
        let plan = ProbePlan::new("192.0.2.1", "22,80,81".parse().unwrap());
        let results = vec![
            result("192.0.2.1:0", 22, PortState::Open, Reason::SynAck, Some(1_000)),
            result("192.0.2.1:0", 80, PortState::Closed, Reason::Reset, Some(1_000)),
            result("192.0.2.1:0", 81, PortState::Filtered, Reason::NoResponse, None),
        ];
        let scan = Scan { results, method: Method::Syn, error: None };
        assert_eq!(
            table_with(&plan, &["192.0.2.1:0".parse().unwrap()], &scan, true, &names),
            "Probe of 192.0.2.1 by SYN\n\
             Not shown: 1 closed ports (reset)\n\
             Not shown: 1 filtered ports (no-response)\n\
             PORT   STATE SERVICE REASON  RTT\n\
             22/tcp open  ssh     syn-ack 1 ms\n"
        );
    }

    #[test]
    fn each_address_has_its_section() {
        let mut plan = ProbePlan::new("server.example", "53".parse().unwrap());
        plan.protocol = Protocol::Udp;
        let results = vec![
            result("192.0.2.1:0", 53, PortState::OpenFiltered, Reason::NoResponse, None),
            result("[2001:db8::1]:0", 53, PortState::Open, Reason::UdpResponse, Some(1_500)),
        ];
        let text = shown(&plan, &["192.0.2.1:0", "[2001:db8::1]:0", "[2001:db8::2]:0"], Method::Connect, results);
        assert_eq!(
            text,
            "Probe of server.example (192.0.2.1) by UDP\n\
             PORT   STATE         SERVICE REASON      RTT\n\
             53/udp open|filtered         no-response -\n\
             \n\
             Probe of server.example (2001:db8::1) by UDP\n\
             PORT   STATE SERVICE REASON       RTT\n\
             53/udp open          udp-response 1.5 ms\n\
             \n\
             Probe of server.example (2001:db8::2) by UDP\n\
             Not known yet: 1 port\n"
        );
    }

    #[test]
    fn zones_distinguish_equal_addresses() {
        let title = |host, address: &str| Title { host, address: address.parse().unwrap() }.to_string();
        assert_eq!(title("fe80::1%eth0", "[fe80::1%2]:0"), "fe80::1%eth0");
        assert_eq!(title("printer.local", "[fe80::1%2]:0"), "printer.local (fe80::1%2)");
        let plan = ProbePlan::new("printer.local", "22".parse().unwrap());
        let results = vec![
            result("[fe80::1%2]:0", 22, PortState::Open, Reason::SynAck, None),
            result("[fe80::1%3]:0", 22, PortState::Closed, Reason::Reset, None),
        ];
        let text = shown(&plan, &["[fe80::1%2]:0", "[fe80::1%3]:0"], Method::Syn, results);
        assert_eq!((text.matches(" open ").count(), text.matches(" closed ").count()), (1, 1), "{text}");
    }

    #[test]
    fn a_host_name_cannot_control_the_terminal() {
        let plan = ProbePlan::new("a\u{1b}[2J\n", "22".parse().unwrap());
        let text = shown(&plan, &["192.0.2.1:0"], Method::Syn, Vec::new());
        assert_eq!(text, "Probe of a\\x1b[2J\\x0a (192.0.2.1) by SYN\nNot known yet: 1 port\n");
    }
}
