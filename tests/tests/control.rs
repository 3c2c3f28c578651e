//! The control socket: status, close, reload and events of a running daemon, and clients that
//! misuse it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use portknock_tests::{CAPTURE_ONLY_USER, Daemon, Lab, Output, WAIT_TIMEOUT, binary, other_users, wait_until};
use serde_json::{Value, json};

/// Opens with 7000,8000,9000 and stays open. A second door's command fails.
const DOORS: &str = r#"
[ssh]
    sequence      = 7000,8000,9000
    tcpflags      = syn
    start_command = echo open %IP% >> %DIR%/done
    stop_command  = echo close %IP% >> %DIR%/done
    cmd_timeout   = 3600
[a "b"\]
    sequence      = 7100,8100
    command       = exit 3
"#;

fn open(lab: &Lab, daemon: &Daemon) {
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000 9000");
    daemon.wait_for("ssh: running command: echo open");
}

/// The metrics as Prometheus's own parser reads them: each sample with its labels, its value and
/// the type of its metric.
fn parsed(metrics: &str) -> BTreeMap<String, (f64, String)> {
    let script = "
import json, sys
from prometheus_client.parser import text_string_to_metric_families as parse
samples = {}
for family in parse(sys.stdin.read()):
    assert family.documentation, family
    for sample in family.samples:
        labels = ''.join(f' {name}={value}' for name, value in sample.labels.items())
        assert sample.name + labels not in samples, sample
        samples[sample.name + labels] = sample.value, family.type
print(json.dumps(samples))";
    // Debian's Python, for which the parser is installed.
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a Python");
    python.stdin.take().expect("a pipe").write_all(metrics.as_bytes()).expect("Python reads");
    let output = python.wait_with_output().expect("Python ends");
    assert!(output.status.success(), "is python3-prometheus-client missing? See scripts/install-deps\n{metrics}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_status_has_everything_in_all_formats() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOORS);
    open(&lab, &daemon);
    lab.knock_from("10.0.0.2", "10.0.0.1", "7100 8100");
    daemon.wait_for("returned non-zero status code (3)");
    lab.knock_from("10.0.0.2", "10.0.0.1", "7100");
    daemon.wait_for_count("a \"b\"\\: Stage 1", 2, WAIT_TIMEOUT);
    let ended = wait_until(WAIT_TIMEOUT, || daemon.status_json()["commands"]["running"] == 0);
    assert!(ended, "{}", daemon.status_json());

    let status = daemon.status_json();
    assert_eq!(status["pid"], daemon.id());
    assert_eq!(status["config"]["file"], daemon.path("knockd.conf").to_str().expect("a plain path"));
    assert!(
        status["uptime"].as_u64() >= status["config"]["age"].as_u64() && status["config"]["age"].is_u64(),
        "{status}"
    );
    assert_eq!(status["interfaces"], json!(["eth0"]));
    assert_eq!(status["interface_states"], json!([{"name": "eth0", "listening": true, "reason": null}]));
    assert_eq!(status["dry_run"], json!(false));
    assert_eq!(status["clock"], json!(null), "no door has keys");
    let failed = json!({"timeout": 0, "wrong_port": 0, "scan": 0, "full": 0, "reload": 0, "command": 0});
    let refused = json!({
        "replay": 0, "clock": 0, "unknown_door": 0, "cooldown": 0, "address": 0, "ports": 0, "command": 0,
        "nat": 0, "weak": 0, "user": 0, "malformed": 0
    });
    assert_eq!(
        status["doors"],
        json!([
            {"name": "ssh", "openings": 1, "opened": 1, "failed": failed, "refused": refused},
            {"name": "a \"b\"\\", "openings": 0, "opened": 1, "failed": failed, "refused": refused}
        ])
    );
    assert_eq!(status["attempts"], json!({"alive": 1, "evicted": 0, "refused": 0}));
    assert_eq!(status["commands"], json!({"run": 2, "failed": 1, "running": 0, "waiting": 0}));
    let (openings, saved, knocks) = (&status["openings"], &status["openings_saved"], &status["knocks"]);
    assert_eq!((openings, saved, knocks), (&json!(1), &json!(true), &json!(6)));
    let packets = &status["packets"];
    assert!(packets["seen"].as_u64() >= Some(6) && packets["dropped"] == 0 && packets["filtered"].is_u64(), "{status}");
    let open = &status["open"][0];
    assert_eq!((&open["door"], &open["ip"]), (&json!("ssh"), &json!("10.0.0.2")));
    assert_eq!(
        open["stop_command"],
        format!("echo close 10.0.0.2 >> {}/done", daemon.path("").to_str().unwrap().trim_end_matches('/'))
    );
    let closes_in = open["closes_in"].as_f64().expect("a number");
    assert!(closes_in > 3500.0 && closes_in <= 3600.0, "{open}");
    assert!(open["closes_at"].as_f64() > Some(1.7e9), "{open}");

    let text = daemon.portknock(&["status"]);
    assert_eq!(text.code, Some(0));
    for part in [
        "attempts       1 in progress",
        "2 run, 1 failed",
        "ssh     1         1       0\n",
        "10.0.0.2  ",
        "echo close 10.0.0.2",
    ] {
        assert!(text.stdout.contains(part), "{part} is not in\n{}", text.stdout);
    }

    let metrics = daemon.portknock(&["status", "--format", "prometheus"]);
    let metrics = parsed(&metrics.stdout);
    for (name, value, kind) in [
        ("portknock_doors", 2.0, "gauge"),
        ("portknock_openings", 1.0, "gauge"),
        ("portknock_attempts", 1.0, "gauge"),
        ("portknock_interface_up interface=eth0", 1.0, "gauge"),
        ("portknock_dry_run", 0.0, "gauge"),
        ("portknock_door_opened_total door=ssh", 1.0, "counter"),
        ("portknock_door_failed_attempts_total door=ssh reason=wrong-port", 0.0, "counter"),
        ("portknock_door_openings door=ssh", 1.0, "gauge"),
        ("portknock_door_openings door=a \"b\"\\", 0.0, "gauge"),
        ("portknock_knocks_total", 6.0, "counter"),
        ("portknock_commands_total", 2.0, "counter"),
        ("portknock_commands_failed_total", 1.0, "counter"),
        (concat!("portknock_build_info version=", env!("CARGO_PKG_VERSION")), 1.0, "gauge"),
    ] {
        assert_eq!(metrics.get(name), Some(&(value, kind.to_owned())), "{name} of {metrics:?}");
    }
    assert!(metrics.keys().all(|name| name.starts_with("portknock_")), "{metrics:?}");
}

#[test]
fn reasons_for_closed_doors_show_in_the_status() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd_with(&lab.server, DOORS, &["-i", "eth0,eth9", "--dry-run"]);
    daemon.wait_for("waiting for eth9: there is no such interface; did you mean `eth0`?");
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000 7100");
    daemon.wait_for("ssh: attempt failed: wrong-port");
    let text = daemon.portknock(&["status"]).stdout;
    for part in ["eth9 (not listened on: there is no such interface; did you mean `eth0`?)", "WARNING        dry run"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let metrics = parsed(&daemon.portknock(&["status", "--format", "prometheus"]).stdout);
    for (name, value) in [
        ("portknock_interface_up interface=eth0", 1.0),
        ("portknock_interface_up interface=eth9", 0.0),
        ("portknock_dry_run", 1.0),
        ("portknock_door_failed_attempts_total door=ssh reason=wrong-port", 1.0),
    ] {
        assert_eq!(metrics.get(name).map(|(value, _)| *value), Some(value), "{name} of {metrics:?}");
    }
}

#[test]
fn packets_that_no_door_uses_are_counted_as_filtered() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOORS);
    lab.pktgen("--ports 7000");
    // The kernel's filter passes one in sixteen of the other ports.
    let ports: Vec<_> = (20_000..20_500).map(|port: u16| port.to_string()).collect();
    lab.pktgen(&format!("--from 10.0.0.3 --ports {}", ports.join(",")));
    lab.pktgen("--from 10.0.0.4 --ports 7000");
    daemon.wait_for("10.0.0.4: ssh: Stage 1");
    let packets = &daemon.status_json()["packets"];
    let (seen, filtered) = (packets["seen"].as_u64().unwrap(), packets["filtered"].as_u64().unwrap());
    assert!(filtered > 0 && seen == filtered + 2, "{packets}");
}

#[test]
fn events_are_sent_as_they_happen_in_the_form_of_replay() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOORS);
    let events = daemon.follow();
    open(&lab, &daemon);
    events.wait_for(r#""event":"open""#);
    assert_eq!(daemon.portknock(&["close", "ssh", "10.0.0.2"]).code, Some(0));
    events.wait_for(r#""event":"close""#);
    let done = daemon.path("done").display().to_string();
    let expected = [
        json!({"event": "stage", "door": "ssh", "ip": "10.0.0.2", "stage": 1, "steps": 3}),
        json!({"event": "stage", "door": "ssh", "ip": "10.0.0.2", "stage": 2, "steps": 3}),
        json!({"event": "stage", "door": "ssh", "ip": "10.0.0.2", "stage": 3, "steps": 3}),
        json!({"event": "open", "door": "ssh", "ip": "10.0.0.2", "net": "10.0.0.2/32", "command": format!("echo open 10.0.0.2 >> {done}"), "ports": []}),
        json!({"event": "close", "door": "ssh", "ip": "10.0.0.2", "net": "10.0.0.2/32", "command": format!("echo close 10.0.0.2 >> {done}"), "ports": []}),
    ];
    let (mut sent, mut closing) = (Vec::new(), Vec::new());
    for line in events.output().lines() {
        assert!(line.starts_with(r#"{"time":"#), "{line}");
        let mut event: Value = serde_json::from_str(line).expect("an event is JSON");
        let mut remove = |field| event.as_object_mut().unwrap().remove(field).and_then(|time| time.as_f64());
        let (time, due) = (remove("time"), remove("closes_at"));
        assert!(time > Some(1.7e9), "{line}");
        closing.extend(due.map(|due| (due - time.unwrap_or_default(), due)));
        sent.push(event);
    }
    assert_eq!(sent, expected);
    // Both have the time when the door was due to close; `portknock close` closed it early.
    assert!((closing[0].0 - 3600.0).abs() < 0.001 && closing[1].0 > 0.0 && closing[0].1 == closing[1].1, "{closing:?}");

    // A client that sends no more may still listen, and one that closes its connection is released.
    let mut stream = daemon.connect();
    stream.write_all(b"{\"request\":\"events\"}\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    daemon.wait_for_followers(2);
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000");
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert!(line.contains(r#""event":"stage""#), "{line}");
    drop(stream);
    daemon.wait_for_followers(1);
}

#[test]
fn the_end_of_the_daemon_ends_its_followers() {
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, DOORS);
    open(&lab, &daemon);
    let events = daemon.follow();
    assert!(daemon.stop().success());
    let (status, output) = events.finish();
    assert_eq!(status.code(), Some(1));
    assert!(output.contains(r#""event":"close""#) && output.contains("the daemon closed the connection"), "{output}");
    assert!(!daemon.path("control").exists(), "its socket goes with it");
    let output = daemon.portknock(&["status"]);
    assert_eq!(output.code, Some(1));
    let path = daemon.path("control").display().to_string();
    assert!(output.stderr.contains(&path) && output.stderr.contains("is portknockd running?"), "{output:?}");
}

#[test]
fn a_door_is_closed_by_hand_once() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOORS);
    let close = |door: &str, ip: &str| {
        let output = daemon.portknock(&["close", door, ip]);
        (output.code, output.stdout + &output.stderr)
    };
    let refused = |text: &str| (Some(1), format!("portknock: the daemon reports: {text}\n"));
    assert_eq!(close("ssh", "10.0.0.2"), refused("ssh is not open for 10.0.0.2"));
    open(&lab, &daemon);
    assert_eq!(close("ssh", "10.0.0.3"), refused("ssh is not open for 10.0.0.3"));
    assert_eq!(close("shh", "10.0.0.2"), refused("there is no door shh"));
    assert_eq!(close("ssh", "10.0.0.2"), (Some(0), "ssh is closed for 10.0.0.2\n".into()));
    let closed = wait_until(WAIT_TIMEOUT, || daemon.read("done") == "open 10.0.0.2\nclose 10.0.0.2\n");
    assert!(closed, "{}", daemon.read("done"));
    assert_eq!(close("ssh", "10.0.0.2"), refused("ssh is not open for 10.0.0.2"));
    assert_eq!(close("ssh", "nobody").0, Some(2));
    // The door opens again, and one that is gone from the configuration can still be closed.
    open(&lab, &daemon);
    daemon.reload("[other]\nsequence = 7,5,6\n");
    assert_eq!(close("ssh", "10.0.0.2").0, Some(0));
    let closed = wait_until(WAIT_TIMEOUT, || daemon.read("done").matches("close").count() == 2);
    assert!(closed, "{}", daemon.read("done"));
}

#[test]
fn a_reload_reports_the_errors_of_the_configuration() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOORS);
    daemon.rewrite("[new]\nsequence = 7200,70000,7300\n");
    let refused = daemon.portknock(&["reload"]);
    assert_eq!((refused.code, &*refused.stdout), (Some(1), ""));
    let path = daemon.path("knockd.conf").display().to_string();
    for part in [&*path, "error[PK028]", "7200,70000,7300", "the old one stays in use: it has errors"] {
        assert!(refused.stderr.contains(part), "{part} is not in\n{}", refused.stderr);
    }
    assert_eq!(daemon.status_json()["doors"][0]["name"], "ssh");
    daemon.rewrite("[new]\nsequence = 7200,7300\n");
    let taken = daemon.portknock(&["reload"]);
    assert_eq!((taken.code, &*taken.stderr), (Some(0), ""));
    assert!(taken.stdout.contains("warning[PK048]") && taken.stdout.ends_with("the configuration is reloaded\n"));
    assert_eq!(daemon.status_json()["doors"][0]["name"], "new");
    daemon.wait_for("the configuration is reloaded");
}

#[test]
fn a_reload_keeps_the_path_of_the_socket_and_logs_it() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOORS);
    let old = daemon.path("control").display().to_string();
    for (new, path) in [("%DIR%/other", daemon.path("other").display().to_string()), ("none", "none".into())] {
        daemon.rewrite(&format!("[options]\nControlSocket = {new}\n{DOORS}"));
        let taken = daemon.portknock(&["reload"]);
        let notice = format!("ControlSocket = {path} takes effect at the next start; until then it is {old}");
        assert_eq!(taken.code, Some(0), "{taken:?}");
        assert!(taken.stdout.contains(&notice), "{taken:?}");
        daemon.wait_for(&notice);
    }
    assert!(!daemon.path("other").exists());
    daemon.rewrite(DOORS);
    let taken = daemon.portknock(&["reload"]);
    assert!(taken.code == Some(0) && !taken.stdout.contains("takes effect"), "{taken:?}");
}

#[test]
fn a_silent_slow_or_invalid_client_blocks_no_other() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOORS);
    let error = |request: &[u8]| {
        let line = daemon.ask(request);
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        answer["error"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
    };
    assert!(error(b"hello\n").starts_with("invalid request"));
    assert!(error(b"{\"request\":\"stop\"}\n").contains("unknown variant `stop`"));
    assert!(error(&[b'x'; 5000]).contains("longer than 4096 bytes"));
    assert!(error(&[0xff, 0, b'\n']).starts_with("invalid request"));
    let mut stream = daemon.connect();
    stream.write_all(b"{\"request\"").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("no line end"), "{answer}");

    // A hundred clients connect and send nothing: the first ones have their time, the others are
    // refused.
    let silent: Vec<UnixStream> = (0..100).map(|_| daemon.connect()).collect();
    let mut last = String::new();
    BufReader::new(&silent[99]).read_line(&mut last).unwrap();
    assert!(last.contains("connections are open already"), "{last}");
    open(&lab, &daemon);
    assert!(daemon.portknock(&["status"]).stderr.contains("connections are open already"));
    drop(silent);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.portknock(&["status"]).code == Some(0)));
    assert_eq!(daemon.status("drops"), 0);
}

#[test]
fn an_idle_client_is_disconnected_and_a_follower_is_not() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOORS);
    let events = daemon.follow();
    let mut silent = daemon.connect();
    silent.set_read_timeout(Some(3 * WAIT_TIMEOUT)).unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).expect("the daemon ends it");
    assert_eq!(answer, "");
    open(&lab, &daemon);
    events.wait_for(r#""event":"open""#);
}

#[test]
fn a_follower_that_never_reads_blocks_no_other_and_gets_the_number_of_lost_events() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &format!("[options]\nLogRate = 0\n{DOORS}"));
    let events = daemon.follow();
    let mut stuck = daemon.connect();
    stuck.write_all(b"{\"request\":\"events\"}\n").unwrap();
    daemon.wait_for_followers(2);
    // This number fits into the queue of a follower, so that a follower on a slow machine gets all
    // events too.
    lab.pktgen("--from 172.16.0.0 --sources 5000 --ports 7000 --rate 20000");
    daemon.wait_for_count("Stage 1", 5_000, WAIT_TIMEOUT);
    assert!(
        wait_until(WAIT_TIMEOUT, || events.output().lines().count() == 5_000),
        "{}",
        events.output().lines().count()
    );
    drop(events);
    lab.pktgen("--from 172.17.0.0 --sources 15000 --ports 7000 --rate 20000");
    daemon.wait_for_count("Stage 1", 20_000, WAIT_TIMEOUT);
    open(&lab, &daemon);
    assert_eq!(daemon.status("drops"), 0);
    daemon.wait_for_followers(0);
    let mut lines: Vec<_> = BufReader::new(stuck).lines().map(|line| line.expect("a line")).collect();
    assert!(lines.pop().is_some_and(|line| line.contains("too slow")), "the last line reports it");
    assert!(lines.len() > 5_000 && lines.len() < 20_000, "{}", lines.len());
    for (i, line) in lines.iter().enumerate() {
        let (high, low) = if i < 5_000 { (16, i) } else { (17, i - 5_000) };
        let ip = format!(r#""ip":"172.{high}.{}.{}""#, low / 256, low % 256);
        assert!(line.contains(&ip), "line {i} is not of {ip}: {line}");
    }
}

#[test]
fn only_root_and_the_daemons_user_may_connect() {
    if !other_users() {
        return;
    }
    let lab = Lab::pair();
    let daemon = Daemon::portknockd_under(&lab.server, &["env"], DOORS);
    let socket = daemon.path("control");
    let meta = fs::symlink_metadata(&socket).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.mode() & 0o777, 0o600);
    let as_user = |user: &str| {
        Output::of(
            Command::new("setpriv")
                .args([&format!("--reuid={user}"), "--clear-groups"])
                .arg(binary("portknock"))
                .args(["status", "--socket"])
                .arg(&socket),
        )
    };
    let refused = as_user("54321");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("only root and the user that portknockd runs as can control it"), "{refused:?}");
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let refused = as_user("54321");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("user 54321 cannot control this daemon"), "{refused:?}");
    drop(daemon);

    let daemon = Daemon::portknockd_under(&lab.server, CAPTURE_ONLY_USER, DOORS);
    let as_user = |user: &str| {
        let socket = daemon.path("control");
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={user}"), "--clear-groups"]).arg(binary("portknock"));
        Output::of(command.args(["status", "--socket"]).arg(socket))
    };
    assert_eq!([as_user("0").code, as_user("54321").code, as_user("54322").code], [Some(0), Some(0), Some(1)]);
}

#[test]
fn a_stale_socket_is_replaced_and_a_running_daemons_is_kept() {
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, DOORS);
    daemon.kill();
    let dead = daemon.portknock(&["status"]);
    assert!(dead.code == Some(1) && dead.stderr.contains("left the socket behind"), "{dead:?}");
    daemon.restart(&lab.server, &["-i", "eth0"]);
    assert_eq!(daemon.status_json()["pid"], daemon.id());

    let path = daemon.path("control").display().to_string();
    let second = Daemon::portknockd(&lab.server, &format!("[options]\nControlSocket = {path}\n{DOORS}"));
    second.wait_for(&format!("no control socket at {path}: another portknockd uses it"));
    open(&lab, &second);
    assert_eq!(daemon.status_json()["pid"], daemon.id());
    drop(second);
    assert_eq!(daemon.status_json()["pid"], daemon.id());

    let without = Daemon::portknockd(&lab.server, &format!("[options]\nControlSocket = none\n{DOORS}"));
    open(&lab, &without);
    assert!(!without.path("control").exists() && !without.log().contains("control socket"), "{}", without.log());
}

#[test]
fn root_of_a_container_with_only_the_capability_to_capture_has_everything() {
    let lab = Lab::pair();
    let starter = ["setpriv", "--inh-caps=-all,+net_raw", "--bounding-set=-all,+net_raw"];
    let daemon = Daemon::portknockd_under(&lab.server, &starter, DOORS);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    // CAP_NET_RAW is number 13; see capabilities(7).
    assert!(status.contains("CapEff:\t0000000000002000\n"), "{status}");
    open(&lab, &daemon);
    assert_eq!(daemon.portknock(&["close", "ssh", "10.0.0.2"]).code, Some(0));
    let closed = wait_until(WAIT_TIMEOUT, || daemon.read("done") == "open 10.0.0.2\nclose 10.0.0.2\n");
    assert!(closed, "{}", daemon.read("done"));
    assert!(!daemon.log().contains("cannot"), "{}", daemon.log());
}

#[test]
fn with_only_the_capability_to_capture_it_works_and_logs_the_missing_parts() {
    if !other_users() {
        return;
    }
    let lab = Lab::pair();
    // Only root can write to these paths.
    let paths = "[options]\nControlSocket = /run/portknock-of-nobody/control\nStateFile = /var/lib/portknock-of-nobody/openings\n";
    let daemon = Daemon::portknockd_under(&lab.server, CAPTURE_ONLY_USER, &format!("{paths}{DOORS}"));
    daemon.wait_for("no control socket at /run/portknock-of-nobody/control: Permission denied");
    daemon.wait_for("cannot save openings to /var/lib/portknock-of-nobody/openings");
    open(&lab, &daemon);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done") == "open 10.0.0.2\n"), "{}", daemon.read("done"));
}

#[test]
fn the_default_socket_is_made_with_its_directory() {
    let lab = Lab::pair();
    // The sandbox has a separate /run, and no other test here uses the default.
    let _ = fs::remove_dir_all("/run/portknock");
    let config = format!("# ControlSocket: the default\n{DOORS}");
    let mut daemon = Daemon::portknockd(&lab.server, &config);
    assert_eq!(fs::metadata("/run/portknock").unwrap().mode() & 0o7777, 0o755);
    let output = Output::of(Command::new(binary("portknock")).args(["status", "--format", "json"]));
    let status: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(status["pid"], daemon.id());
    assert!(daemon.stop().success());
    assert!(!Path::new("/run/portknock/control").exists());
}
