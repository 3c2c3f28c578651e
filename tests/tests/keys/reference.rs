//! The reference client of `docs/protocol.md` opens doors of the real daemon.

use std::path::Path;

use portknock_core::TimeSequence;
use portknock_core::client_file::ClientFile;
use portknock_core::config::StepProtocols;
use portknock_tests::{Listener, Output, PortState, WAIT_TIMEOUT, require, wait_until};

use crate::{Keyed, OPENED, client, fast, opens, packet_client, wait_for_event};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/portknock_client.py");

/// Knocks with the reference client.
fn knock(keyed: &Keyed, client: &str, args: &[&str]) -> Output {
    require("python3");
    let mut command = keyed.lab.client.command("python3");
    Output::of(command.arg(PROGRAM).args(&args[1..]).arg(keyed.path(client)).arg(args[0]))
}

fn knocks(keyed: &Keyed, client: &str, args: &[&str]) {
    let output = knock(keyed, client, args);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{client} {args:?}: {}", output.stdout);
}

#[test]
fn the_reference_client_opens_doors_by_sequences() {
    let both = TimeSequence { protocols: StepProtocols::Both, steps: 8, ..fast() };
    let derived = |name: &str, time| ClientFile { server: Some("server.example".to_owned()), ..client(name, time) };
    let clients = [derived("four", both.clone()), derived("six", both), client("plain", fast())];
    let keyed = Keyed::new(&clients[..2]);
    keyed.write("plain.keys", &clients[2].server_line());
    clients[2].create(&keyed.path("plain")).unwrap_or_else(|error| panic!("{error}"));
    let plain = keyed.path("plain.keys");
    let daemon = keyed.start_again(&format!(
        "[both]\n keys = %KEYS%\n sequence = time:8\n time_protocols = both\n time_step = 10\n tcpflags = syn,!ack\n {OPENED}\
         [plain]\n keys = {}\n sequence = time\n time_step = 10\n tcpflags = syn,!ack\n {OPENED}",
        plain.display()
    ));
    for (count, (name, host)) in [("four", "10.0.0.1"), ("six", "fd00::1"), ("plain", "10.0.0.1")].iter().enumerate() {
        knocks(&keyed, name, &[host]);
        opens(&daemon, count + 1);
        // The same sequence opens nothing.
        knocks(&keyed, name, &[host]);
        opens(&daemon, count + 1);
    }
}

#[test]
fn the_reference_client_opens_doors_by_packets() {
    let clients = ["four", "six", "inside"].map(|name| packet_client(name, "ssh"));
    let keyed = Keyed::new(&clients);
    let _listener = Listener::start(&keyed.lab.server, 22);
    let daemon = keyed.start_again("[ssh]\n keys = %KEYS%\n packet = portknock\n open = tcp/22\n cmd_timeout = 60\n");
    let follower = daemon.follow();
    let state = |host: &str| keyed.lab.client.tcp_state(host, 22);
    for (name, host) in [("four", "10.0.0.1"), ("six", "fd00::1")] {
        assert_eq!(state(host), PortState::Closed, "{name}");
        knocks(&keyed, name, &[host]);
        assert!(wait_until(WAIT_TIMEOUT, || state(host) == PortState::Open), "{name}\n{}", daemon.log());
    }
    knocks(&keyed, "inside", &["10.0.0.1", "--address", "10.0.0.9", "--seconds", "20"]);
    wait_for_event(&follower, &[r#""event":"open""#, r#""ip":"10.0.0.9""#, r#""key":"inside""#]);
}

#[test]
fn no_argument_of_the_reference_client_contains_a_key() {
    let keyed = Keyed::new(&[client("alice", fast())]);
    let trace = keyed.path("trace");
    require("strace");
    let command = format!(
        "strace -f -s 4096 -e trace=execve -o {} python3 {PROGRAM} -n {}",
        trace.display(),
        keyed.path("alice").display()
    );
    keyed.lab.client.ok(&command);
    let trace = std::fs::read_to_string(Path::new(&trace)).expect("the trace");
    let file = std::fs::read_to_string(keyed.path("alice")).expect("the file");
    let key = file.lines().find_map(|line| line.strip_prefix("key = pk1:")).expect("the key");
    assert!(trace.contains("portknock_client.py"), "{trace}");
    assert!((0..key.len() - 8).all(|at| !trace.contains(&key[at..at + 8])), "{trace}");
}
