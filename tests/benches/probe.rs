//! `portknock probe` compared with nmap, between the same two hosts in one run: time, CPU time,
//! memory, packets, and the number of ports with a wrong result.
//!
//! Run by `make bench`, which prints the figures as a table and writes them to
//! `target/bench/probe.json`. All figures are medians of five runs, except those of nmap's runs
//! that take minutes, which are made once. The cost of a program is the kernel's accounting of its
//! process. Packets are counted at the client's interface.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use portknock_tests::{Distant, Host, Lab, LinkProperties, Listener, binary, save_figures};
use wait4::Wait4;

const ROUNDS: usize = 5;
const SERVER: &str = "10.0.0.1";
/// The ports with a listener in the large scans.
const OPEN: [u16; 3] = [22, 80, 40_000];
const QUICK: &str = "nmap -T5 --min-rate 10000";
const HURRIED: &str = "nmap -T5";

fn main() {
    let mut table = Table::default();
    let near = Lab::pair();
    all_ports(&mut table, "RST, near", &near.client, &near.server, &[("nmap", ROUNDS)]);
    drop_but_open(&near.server);
    all_ports(&mut table, "DROP, near", &near.client, &near.server, &[(QUICK, ROUNDS), (HURRIED, 1)]);
    let far = distant(5.0);
    all_ports(&mut table, "RST, far, 5 % loss", &far.client, &far.server, &[(QUICK, ROUNDS), (HURRIED, 1)]);
    drop_but_open(&far.server);
    all_ports(&mut table, "DROP, far, 5 % loss", &far.client, &far.server, &[(QUICK, ROUNDS), (HURRIED, 1)]);
    drop(far);
    for loss_percent in [5.0, 10.0] {
        thousand_each(&mut table, loss_percent);
    }
    one_port(&mut table);
    save_figures("probe", &table.json);
}

/// A path of 25 ms with this loss in each direction.
fn distant(loss_percent: f64) -> Distant {
    Distant::new(LinkProperties {
        delay: Duration::from_millis(25),
        loss_percent,
        seed: 7,
        ..LinkProperties::default()
    })
}

/// The server accepts only packets for the open ports.
fn drop_but_open(server: &Host) {
    let [a, b, c] = OPEN;
    server.ok(&format!("iptables -A INPUT -p tcp -m multiport ! --dports {a},{b},{c} -j DROP"));
}

/// All 65,535 ports, of which three are open and the others in the state of the server's firewall.
fn all_ports(table: &mut Table, what: &str, client: &Host, server: &Host, peers: &[(&str, usize)]) {
    let _listeners = Listener::on_ports(server, OPEN);
    let others = if what.starts_with("RST") { "closed" } else { "filtered" };
    let expected = |port| if OPEN.contains(&port) { "open" } else { others };
    let case =
        Case { what: format!("65,535 ports, {what}"), client, ports: "1-65535", count: 65_535, expected: &expected };
    case.compare(table, peers);
}

/// A thousand ports of each state, interleaved.
fn thousand_each(table: &mut Table, loss_percent: f64) {
    let far = distant(loss_percent);
    let _listeners = Listener::on_ports(&far.server, (1..=3_000).filter(|port| port % 3 == 1));
    let silent: Vec<String> = (1..=3_000).filter(|port| port % 3 == 0).map(|port: u16| port.to_string()).collect();
    // A rule holds at most fifteen ports.
    for ports in silent.chunks(15) {
        far.server.ok(&format!("iptables -A INPUT -p tcp -m multiport --dports {} -j DROP", ports.join(",")));
    }
    let expected = |port| ["filtered", "open", "closed"][usize::from(port % 3)];
    let case = Case {
        what: format!("1,000 ports of each state, far, {loss_percent} % loss"),
        client: &far.client,
        ports: "1-3000",
        count: 3_000,
        expected: &expected,
    };
    case.compare(table, &[("nmap -T5 --min-rate 5000", ROUNDS), (HURRIED, 1)]);
}

/// A single port of each state.
fn one_port(table: &mut Table) {
    let near = Lab::pair();
    let _listener = Listener::start(&near.server, 22);
    near.server.ok("iptables -A INPUT -p tcp --dport 24 -j DROP");
    for (port, state) in [("22", "open"), ("23", "closed"), ("24", "filtered")] {
        let what = format!("1 port, {state}, near");
        let case = Case { what, client: &near.client, ports: port, count: 1, expected: &|_| state };
        case.compare(table, &[("nmap", ROUNDS)]);
    }
}

/// The ports to probe, and the state of each.
struct Case<'a> {
    what: String,
    client: &'a Host,
    ports: &'a str,
    count: u16,
    expected: &'a dyn Fn(u16) -> &'static str,
}

impl Case<'_> {
    fn compare(&self, table: &mut Table, peers: &[(&str, usize)]) {
        let ours = self.median(&[binary("portknock").to_string_lossy().as_ref(), "probe", "--format", "json"], ROUNDS);
        table.row(&self.what, "portknock", &ours, None);
        for (peer, rounds) in peers {
            let command: Vec<_> = peer.split(' ').chain(["-n", "-Pn", "-sS", "-oX", "-", "-p"]).collect();
            let theirs = self.median(&command, *rounds);
            table.row(&self.what, peer, &theirs, Some(&ours));
        }
    }

    fn median(&self, program: &[&str], rounds: usize) -> Figures {
        let runs: Vec<Figures> = (0..rounds).map(|_| self.run(program)).collect();
        let middle = |value: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Figures {
            seconds: middle(|run| run.seconds),
            cpu: middle(|run| run.cpu),
            mebibytes: middle(|run| run.mebibytes),
            packets: middle(|run| run.packets),
            // The worst run.
            wrong: runs.iter().map(|run| run.wrong).fold(0.0, f64::max),
        }
    }

    fn run(&self, program: &[&str]) -> Figures {
        let is_nmap = program[0] == "nmap";
        let mut command = self.client.command(program[0]);
        command.args(&program[1..]);
        // nmap requires its ports after -p, before the host.
        command.args(if is_nmap { [self.ports, SERVER] } else { [SERVER, self.ports] });
        let packets = sent(self.client);
        let begin = Instant::now();
        let (text, usage, mebibytes) = finish(&mut command);
        let seconds = begin.elapsed().as_secs_f64();
        let packets = sent(self.client) - packets;
        let states = if is_nmap { states_of_xml(&text) } else { states_of_json(&text) };
        let wrong = states.wrong(ports(self.ports), self.expected);
        assert_eq!(ports(self.ports).count(), usize::from(self.count));
        Figures {
            seconds,
            cpu: (usage.rusage.utime + usage.rusage.stime).as_secs_f64(),
            mebibytes,
            packets,
            #[allow(clippy::cast_precision_loss, reason = "there are no more than 65,535 ports")]
            wrong: wrong as f64,
        }
    }
}

/// Cost and errors of one run.
#[derive(Debug)]
struct Figures {
    seconds: f64,
    cpu: f64,
    mebibytes: f64,
    packets: f64,
    wrong: f64,
}

/// Runs a program to its end. Returns its standard output, its cost, and its memory.
fn finish(command: &mut Command) -> (String, wait4::ResUse, f64) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program starts");
    let memory = watch_memory(child.id());
    let mut text = String::new();
    child.stdout.take().expect("it has a standard output").read_to_string(&mut text).expect("it writes text");
    let usage = child.wait4().expect("it ends");
    assert!(usage.status.success(), "{command:?}: {}", usage.status);
    (text, usage, memory.join().expect("the watch does not panic"))
}

/// Returns the peak memory of a process in mebibytes, when it has ended. The value of wait4(2) also
/// counts the memory of the process that started it.
fn watch_memory(pid: u32) -> JoinHandle<f64> {
    thread::spawn(move || {
        let mut most = 0.0;
        while let Some(kibibytes) = fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().trim_end_matches(" kB").parse::<f64>().ok()
        }) {
            // The value falls when the program replaces the process that started it.
            most = kibibytes / 1024.0;
            thread::sleep(Duration::from_millis(2));
        }
        most
    })
}

/// Number of packets that the host has sent.
fn sent(host: &Host) -> f64 {
    host.ok("cat /sys/class/net/eth0/statistics/tx_packets").trim().parse().expect("a number")
}

/// The ports of a list that is one port or one range.
fn ports(list: &str) -> impl Iterator<Item = u16> {
    let (first, last) = list.split_once('-').unwrap_or((list, list));
    first.parse().expect("a port")..=last.parse().expect("a port")
}

/// The state of each port in the program's output.
struct States {
    listed: HashMap<u16, String>,
    /// nmap only counts the ports of the most common states.
    counted: HashMap<String, usize>,
}

impl States {
    /// Number of ports with a wrong result. For ports that are only counted, the smallest possible
    /// number.
    fn wrong(&self, ports: impl Iterator<Item = u16>, expected: &dyn Fn(u16) -> &'static str) -> usize {
        let mut wrong = 0;
        let mut unlisted: HashMap<&str, usize> = HashMap::new();
        for port in ports {
            match self.listed.get(&port) {
                Some(state) => wrong += usize::from(state != expected(port)),
                None => *unlisted.entry(expected(port)).or_default() += 1,
            }
        }
        let right = |(state, count): (&&str, &usize)| *count.min(self.counted.get(*state).unwrap_or(&0));
        wrong + unlisted.values().sum::<usize>() - unlisted.iter().map(right).sum::<usize>()
    }
}

fn states_of_json(text: &str) -> States {
    let field = |line: &str, name: &str| {
        let rest = line.split_once(&format!("\"{name}\":")).expect("the field is there").1;
        rest.split(',').next().expect("a value").trim_matches('"').to_string()
    };
    let listed =
        text.lines().map(|line| (field(line, "port").parse().expect("a port"), field(line, "state"))).collect();
    States { listed, counted: HashMap::new() }
}

fn states_of_xml(text: &str) -> States {
    let value = |text: &str, name: &str| {
        let rest = text.split_once(&format!("{name}=\"")).expect("the attribute is there").1;
        rest.split('"').next().expect("a value").to_string()
    };
    let listed = text.split("<port ").skip(1);
    let listed =
        listed.map(|port| (value(port, "portid").parse().expect("a port"), value(port, "<state state"))).collect();
    let counted = text.split("<extraports ").skip(1);
    let counted =
        counted.map(|ports| (value(ports, "state"), value(ports, "count").parse().expect("a number"))).collect();
    States { listed, counted }
}

#[derive(Default)]
struct Table {
    json: Vec<String>,
}

impl Table {
    fn row(&mut self, what: &str, program: &str, figures: &Figures, ours: Option<&Figures>) {
        if self.json.is_empty() {
            println!(
                "{:<46} {:<26} {:>9} {:>7} {:>8} {:>8} {:>6} {:>12}",
                "", "", "s", "CPU s", "MiB", "packets", "wrong", "time / ours"
            );
        }
        let Figures { seconds, cpu, mebibytes, packets, wrong } = figures;
        let ratio = ours.map_or("".into(), |ours| format!("{:.1}", seconds / ours.seconds));
        println!(
            "{what:<46} {program:<26} {seconds:>9.3} {cpu:>7.2} {mebibytes:>8.1} {packets:>8} {wrong:>6} {ratio:>12}"
        );
        self.json.push(format!(
            "{{\"case\": \"{what}\", \"program\": \"{program}\", \"seconds\": {seconds:.4}, \"cpu\": {cpu:.3}, \
             \"mebibytes\": {mebibytes:.1}, \"packets\": {packets}, \"wrong\": {wrong}}}"
        ));
    }
}
