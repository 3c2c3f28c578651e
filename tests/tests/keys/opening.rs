//! Every client that makes the time sequence of the moment opens the door.

use portknock_core::TimeSequence;
use portknock_core::client_file::ClientFile;
use portknock_core::config::StepProtocols;
use portknock_tests::{Listener, PortState, WAIT_TIMEOUT, binary, require, wait_until};

use crate::{Keyed, OPENED, client, fast, opens, wait_for_event};

/// The ways to knock, each as a shell script with the client's file and the address of the server.
const PROGRAMS: [(&str, &str); 5] = [
    ("portknock", "%PORTKNOCK% knock --key %FILE% -%FAMILY% %HOST%"),
    ("ours", "%KNOCK% %HOST% $(%PORTKNOCK% sequence --key %FILE%)"),
    ("original", "/usr/bin/knock -%FAMILY% %HOST% $(%PORTKNOCK% sequence --key %FILE%)"),
    ("script", "sh %SCRIPT% %FILE% %HOST%"),
    (
        "nc",
        "for step in $(%PORTKNOCK% sequence --key %FILE%); do
             case $step in
                 *:udp) echo | nc -u -w 1 %HOST% ${step%:udp} ;;
                 *) nc -w 1 %HOST% $step </dev/null || : ;;
             esac
         done",
    ),
];

/// Knocks with each program over IPv4 and IPv6, each time with a key that is used for nothing else,
/// and returns the names of the keys.
fn knock_with_all(keyed: &Keyed, kind: &str) -> Vec<(String, &'static str)> {
    ["nc", "knock", "openssl"].iter().for_each(|program| require(program));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/shell/knock.sh");
    let mut knocked = Vec::new();
    for (program, how) in PROGRAMS {
        for (family, host, source) in [("4", "10.0.0.1", "10.0.0.2"), ("6", "fd00::1", "fd00::2")] {
            let name = format!("{kind}-{program}-{family}");
            let file = keyed.path(&name);
            let how = how
                .replace("%PORTKNOCK%", &binary("portknock").display().to_string())
                .replace("%KNOCK%", &binary("knock").display().to_string())
                .replace("%SCRIPT%", script)
                .replace("%FILE%", &file.display().to_string())
                .replace("%FAMILY%", family)
                .replace("%HOST%", host);
            keyed.lab.client.ok(&how);
            knocked.push((name, source));
        }
    }
    knocked
}

fn clients(kind: &str, time: &TimeSequence) -> Vec<ClientFile> {
    let families = |program: &'static str| ["4", "6"].map(|family| format!("{kind}-{program}-{family}"));
    let names = PROGRAMS.into_iter().flat_map(|(program, _)| families(program));
    names.map(|name| client(&name, time.clone())).collect()
}

#[test]
fn every_client_opens_ports_and_runs_commands() {
    let time = fast();
    let both = TimeSequence { protocols: StepProtocols::Both, ..fast() };
    let (ports, commands) = (clients("ports", &time), clients("commands", &both));
    let keyed = Keyed::new(&ports);
    let lines: String = commands.iter().map(|client| client.server_line().to_string()).collect();
    keyed.write("others", &lines);
    for client in &commands {
        client.create(&keyed.path(&client.name)).unwrap_or_else(|error| panic!("{error}"));
    }
    let _listener = Listener::start(&keyed.lab.server, 22);
    let others = keyed.path("others");
    let daemon = keyed.start_again(&format!(
        "[ssh]\n keys = %KEYS%\n sequence = time\n time_step = 10\n tcpflags = syn,!ack\n seq_timeout = 10\n open = tcp/22\n \
         cmd_timeout = 60\n[web]\n keys = {}\n sequence = time\n time_protocols = both\n time_step = 10\n \
         seq_timeout = 10\n {OPENED}",
        others.display()
    ));
    let follower = daemon.follow();
    let state = |host| keyed.lab.client.tcp_state(host, 22);
    for host in ["10.0.0.1", "fd00::1"] {
        assert_eq!(state(host), PortState::Closed, "{host}");
    }
    for (name, source) in knock_with_all(&keyed, "ports") {
        wait_for_event(&follower, &[r#""door":"ssh""#, &format!(r#""ip":"{source}""#), &format!(r#""key":"{name}""#)]);
    }
    for host in ["10.0.0.1", "fd00::1"] {
        assert!(wait_until(WAIT_TIMEOUT, || state(host) == PortState::Open), "{host}");
    }
    let knocked = knock_with_all(&keyed, "commands");
    opens(&daemon, knocked.len());
    for (name, source) in knocked {
        wait_for_event(&follower, &[r#""event":"open""#, r#""door":"web""#, &format!(r#""key":"{name}""#)]);
        assert!(daemon.read("opened").contains(&format!("{name} {source}\n")), "{}", daemon.read("opened"));
    }
}
