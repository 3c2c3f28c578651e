//! Differences in which packets count, at what cost and when, for behaviour that cannot be a row of
//! the table in `compliance.rs`.

use std::fmt::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portknock_tests::{Both, Daemon, Lab, binary};

#[test]
fn differ_on_a_timeout_on_a_quiet_link() {
    let both = Both::with(&Both::DOOR.replace("= 10", "= 1"));
    both.segments(&[7000]);
    both.ours.wait_for("10.0.0.2: door: sequence timeout (stage 1)");
    sleep(Duration::from_millis(1500));
    assert_eq!(both.theirs.count("sequence timeout"), 0);
    both.fence();
    both.theirs.wait_for("10.0.0.2: door: sequence timeout (stage 1)");
}

#[test]
fn differ_on_several_interfaces() {
    let lab = Lab::pair();
    lab.add_interface("eth1", 7);
    let ours = Daemon::portknockd_with(&lab.server, Both::DOOR, &["-i", "eth0,eth1"]);
    lab.client.ok("knock 10.0.7.1 7000 8000 9000");
    ours.wait_for("10.0.7.2: door: OPEN SESAME");
    let theirs = Daemon::run_knockd(&lab.server, Both::DOOR, &["-i", "eth0,eth1"]);
    assert_eq!(theirs.code, Some(1));
    assert!(theirs.stderr.contains("could not open eth0,eth1"), "{theirs:?}");
}

/// Doors of three ports each, all different.
fn many_doors(count: u16) -> String {
    let mut config = String::new();
    for i in 0..count {
        let port = 10_000 + 4 * i;
        writeln!(config, "[door{i}]\nsequence = {},{port},{}", port + 1, port + 2).expect("a string grows");
    }
    config
}

#[test]
fn differ_on_the_filter_of_many_doors() {
    // More than the kernel accepts as a filter of knockd's kind.
    let both = Both::with_args(Lab::pair(), &many_doors(900), &["-i", "eth0", "-4"]);
    let spent = || both.daemons().map(cpu_time);
    let before = spent();
    let ports: Vec<String> = (1..=64).map(|port| port.to_string()).collect();
    let flood = format!("--ports {} --count 100000 --rate 50000", ports.join(","));
    both.lab.client.ok(&format!("{} --interface eth0 {flood}", binary("pktgen").display()));
    both.fence();
    let [ours, theirs] = spent();
    let (ours, theirs) = (ours - before[0], theirs - before[1]);
    assert!(ours * 2 < theirs, "{ours:?} and {theirs:?}");
}

/// The time that the daemon has run on a processor; see the kernel's sched-stats.
fn cpu_time(daemon: &Daemon) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{}/schedstat", daemon.id())).unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("the kernel counts a process's time"))
}

#[test]
fn differ_on_the_time_to_start_with_scattered_ports() {
    let mut config = String::new();
    for i in 0..100_u32 {
        let [a, b, c] = [0, 1, 2].map(|step| 1 + (i * 3 + step) * 27_449 % 64_000);
        writeln!(config, "[door{i}]\nsequence = {a},{b},{c}").expect("a string grows");
    }
    let lab = Lab::pair();
    let start = Instant::now();
    drop(Daemon::portknockd(&lab.server, &config));
    let ours = start.elapsed();
    let start = Instant::now();
    drop(Daemon::knockd(&lab.server, &config));
    let theirs = start.elapsed();
    assert!(ours < theirs, "{ours:?} and {theirs:?}");
}
