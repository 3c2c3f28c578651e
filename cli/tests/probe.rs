//! `portknock probe` as scripts call it.
#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Maximum time of a step on a busy machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

fn command(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portknock"));
    command.arg("probe").args(args.split_whitespace()).stdin(Stdio::null());
    command
}

/// Runs `portknock probe` with these arguments, separated by spaces.
fn probe(args: &str) -> (Option<i32>, String, String) {
    texts(&command(args).output().unwrap())
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.into()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Probes by connections, and asserts that the probe ran.
fn connect(args: &str) -> String {
    let (code, stdout, stderr) = probe(&format!("--method connect {args}"));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    stdout
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port on which no process listens.
fn closed_port() -> u16 {
    listen().1
}

/// A port that answers no SYN, as a filtered one: its queue is full of connections that no process
/// accepts.
struct SilentPort {
    port: u16,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl SilentPort {
    fn new() -> Self {
        let (listener, port) = listen();
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let mut queue = Vec::new();
        loop {
            match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                Ok(stream) => queue.push(stream),
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Err(error) => panic!("{error} after {} connections", queue.len()),
            }
        }
        Self { port, _listener: listener, _queue: queue }
    }
}

/// A UDP port of 127.0.0.1 to which no socket is bound.
fn closed_udp_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Expects a usage error with `message`.
#[track_caller]
fn refused(args: &str, message: &str) {
    let (code, stdout, stderr) = probe(args);
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args}: {stderr}");
    assert!(stderr.contains(message), "{args}: {stderr}");
}

#[test]
fn bad_usage_is_reported() {
    refused("", "<HOST>");
    refused("localhost 22 -p 80", "cannot be used with");
    refused("localhost 22 --expect unknown", "[possible values: open, closed, filtered]");
    refused("localhost 22 80", "unexpected argument '80'");
    refused("--method guess localhost 22", "[possible values: auto, syn, connect]");
    refused("--udp --method syn localhost 53", "'--udp' cannot be used with '--method <METHOD>'");
    refused("--source here localhost 22", "invalid value 'here' for '--source <ADDR>'");
    refused("--format xml localhost 22", "[possible values: text, json]");
    for timeout in ["0", "-1", "nan", "inf", "soon", "1e300"] {
        refused(
            &format!("--timeout {timeout} localhost 22"),
            &format!(
                "invalid value '{timeout}' for '--timeout <SECONDS>': expected a number of seconds above 0, as in 5 or 0.5"
            ),
        );
    }
    for retries in ["10", "-1", "many"] {
        let message = format!("invalid value '{retries}' for '--retries <N>'");
        refused(&format!("--retries {retries} localhost 22"), &message);
    }
    for rate in ["0", "-5", "0.5"] {
        refused(&format!("--rate {rate} localhost 22"), &format!("invalid value '{rate}' for '--rate <PPS>'"));
    }
}

#[test]
fn the_invalid_part_of_the_ports_is_reported() {
    refused(
        "localhost 22,http?,80",
        "`http?` is not a port: expected a number from 1 to 65535, a range as in 8000-8100",
    );
    refused("localhost 22,0", "`0` is not a port");
    refused("localhost 1-65536", "`1-65536` is not a port");
    refused("localhost 443,90-80", "the range `90-80` ends before it begins");
    // The program parses an unknown option after the host as ports.
    refused("localhost --posts=22", "`--posts=22` is not a port");
}

#[test]
fn ports_may_begin_with_a_hyphen_and_families_stay_options() {
    // The program resolves the host only after it has parsed the ports.
    let accepted = |args: &str| {
        let (code, _, stderr) = probe(args);
        assert_eq!((code, stderr.trim_end()), (Some(1), "portknock: 127.0.0.1 has no IPv6 address"), "{args}");
    };
    for ports in ["-", "-100", "-443,8080", "60000-", "-1"] {
        accepted(&format!("-6 127.0.0.1 {ports}"));
        accepted(&format!("127.0.0.1 -6 {ports}"));
        accepted(&format!("127.0.0.1 {ports} -6"));
        accepted(&format!("127.0.0.1 {ports} -4 -6 --rate 5"));
    }
    accepted("-6 127.0.0.1 -- -4");
    accepted("127.0.0.1 -6");
    accepted("127.0.0.1 -6 -p -4");
    accepted("127.0.0.1 -p - -6");
}

#[test]
fn an_unknown_host_is_a_failure() {
    let (code, stdout, stderr) = probe("no-such-host.invalid 22");
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("portknock: cannot find the host `no-such-host.invalid`: "), "{stderr}");
}

#[test]
fn a_foreign_source_is_a_failure() {
    let (code, stdout, stderr) = probe("--method connect --source 192.0.2.1 127.0.0.1 22");
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("portknock: cannot probe from 192.0.2.1: "), "{stderr}");
}

#[test]
fn the_table_names_the_method_of_the_probe() {
    let ((_listener, open), closed) = (listen(), closed_port());
    let text = connect(&format!("127.0.0.1 {open},{closed}"));
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("Probe of 127.0.0.1 by connect"));
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["PORT", "STATE", "SERVICE", "REASON", "RTT"]
    );
    // Ports that the kernel chose seldom have a name.
    let mut expected = [(open, "open", "syn-ack"), (closed, "closed", "conn-refused")];
    expected.sort_unstable();
    for (port, state, reason) in expected {
        let mut words: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        if words.len() == 6 {
            words.remove(2);
        }
        assert_eq!(words[..3], [&format!("{port}/tcp"), state, reason], "{text}");
        assert!(words.len() == 5 && words[3].parse::<f64>().is_ok() && words[4] == "ms", "{text}");
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn json_has_a_result_on_each_line() {
    let ((_listener, open), closed) = (listen(), closed_port());
    let text = connect(&format!("--format json localhost -4 {open},{closed}"));
    assert_eq!(text.lines().count(), 2, "{text}");
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let port = value["port"].as_u64().unwrap();
        let (state, reason) = if port == u64::from(open) { ("open", "syn-ack") } else { ("closed", "conn-refused") };
        let head = format!(
            r#"{{"host":"localhost","address":"127.0.0.1","port":{port},"protocol":"tcp","state":"{state}","reason":"{reason}","rtt_ms":"#
        );
        assert!(line.starts_with(&head), "{line}");
        assert!(value["rtt_ms"].as_f64().is_some_and(|rtt| rtt >= 0.0), "{line}");
    }
}

#[test]
fn the_status_is_3_unless_all_ports_have_the_expected_state() {
    let ((_listener, open), closed) = (listen(), closed_port());
    let status = |args: &str| probe(&format!("--method connect 127.0.0.1 {args}")).0;
    assert_eq!(status(&format!("{open} --expect open")), Some(0));
    assert_eq!(status(&format!("{closed} --expect closed")), Some(0));
    assert_eq!(status(&format!("{open},{closed} --expect open")), Some(3));
    assert_eq!(status(&format!("-p {closed} --expect filtered")), Some(3));
}

#[test]
fn only_open_ports_are_shown() {
    let ((_listener, open), closed) = (listen(), closed_port());
    let text = connect(&format!("127.0.0.1 {open},{closed} --open"));
    assert!(text.contains("Not shown: 1 closed ports (conn-refused)\n"), "{text}");
    assert!(text.contains(&format!("{open}/tcp open")) && !text.contains(&format!("{closed}/tcp")), "{text}");
    let lines = connect(&format!("--format json --open 127.0.0.1 {open},{closed}"));
    assert_eq!(lines.lines().count(), 1, "{lines}");
}

#[test]
fn without_ports_the_most_used_ones_are_probed() {
    let lines = connect("--format json 127.0.0.1");
    assert!(lines.lines().count() > 200, "{lines}");
    assert!(lines.contains("\"port\":22,") && lines.contains("\"port\":443,"));
}

#[test]
fn a_link_local_address_needs_its_interface() {
    for program in ["probe fe80::1 22", "knock fe80::1 7000"] {
        let output = Command::new(env!("CARGO_BIN_EXE_portknock")).args(program.split(' ')).output().unwrap();
        let expected = "portknock: fe80::1 is a link-local address, which every interface has: name the interface, as in \
                        fe80::1%eth0\n";
        assert_eq!(texts(&output), (Some(1), String::new(), expected.into()), "{program}");
    }
}

#[test]
fn an_answer_by_udp_takes_some_time() {
    let closed: Vec<String> = (0..20).map(|_| closed_udp_port().to_string()).collect();
    let (_, text, _) = probe(&format!("--udp --retries 0 --timeout 1 --format json 127.0.0.1 {}", closed.join(",")));
    let rtts: Vec<f64> =
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["rtt_ms"].as_f64()).collect();
    assert!(rtts.len() > 3 && rtts.iter().all(|rtt| *rtt > 0.0), "{text}");
}

#[test]
fn a_port_without_an_answer_takes_the_timeout() {
    let silent = SilentPort::new();
    let start = Instant::now();
    let text = connect(&format!("--timeout 1.5 127.0.0.1 {}", silent.port));
    assert!(start.elapsed() >= Duration::from_millis(1_500), "{:?}", start.elapsed());
    assert!(text.lines().any(|line| line.starts_with(&format!("{}/tcp filtered ", silent.port)) && line.ends_with(" no-response -")), "{text}");
}

#[test]
fn a_closed_pipe_causes_no_error_message() {
    let closed = closed_port();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(&format!("--method connect 127.0.0.1 {closed}")).stdout(writer).output().unwrap();
    assert_eq!(texts(&output), (Some(141), String::new(), String::new()));
}

/// Waits until the process handles SIGINT and SIGTERM.
fn wait_for_handlers(child: &Child) {
    const BOTH: u64 = 1 << (2 - 1) | 1 << (15 - 1);
    let deadline = Instant::now() + STEP_TIMEOUT;
    while Instant::now() < deadline {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() & BOTH == BOTH {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("the signals are not handled");
}

fn kill(child: &Child, signal: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
    assert!(status.success());
}

#[test]
fn signals_end_the_probe_with_the_results_so_far() {
    let (silent, (_listener, open)) = (SilentPort::new(), listen());
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let start = Instant::now();
        let child = command(&format!("--method connect --timeout 60 127.0.0.1 {open},{}", silent.port))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_handlers(&child);
        // The open port needs its answer.
        thread::sleep(Duration::from_millis(500));
        kill(&child, signal);
        let (code, stdout, stderr) = texts(&child.wait_with_output().unwrap());
        assert!(start.elapsed() < STEP_TIMEOUT);
        assert_eq!((code, stderr.as_str()), (Some(status), ""), "{stdout}");
        assert!(stdout.contains("\nNot known yet: 1 port\n"), "{stdout}");
        assert!(stdout.contains(&format!("\n{open}/tcp open")), "{stdout}");
    }
}

#[test]
fn the_bar_is_for_terminals_only() {
    let silent = SilentPort::new();
    let directory = tempfile::TempDir::new().unwrap();
    let out = directory.path().join("out");
    let probe =
        format!("{} probe --method connect --timeout 2.5 127.0.0.1 {}", env!("CARGO_BIN_EXE_portknock"), silent.port);
    // Standard error is the terminal that `script` makes, standard output is not.
    let terminal = Command::new("script")
        .args(["-qec", &format!("stty cols 100; {probe} > {}", out.display()), "/dev/null"])
        // The environment of the test can lack it, and on an unknown terminal there is no bar.
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (code, seen, _) = texts(&terminal);
    let written = fs::read_to_string(&out).unwrap();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("0/1 ports"), "{seen:?}");
    assert!(written.starts_with("Probe of 127.0.0.1 by connect\nPORT "), "{written:?}");
    // `connect` asserts that standard error is empty.
    let piped = connect(&format!("--timeout 2.5 127.0.0.1 {}", silent.port));
    assert_eq!(piped, written);
}
