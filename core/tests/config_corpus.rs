//! Configurations from the field, if their directory is at hand: `PORTKNOCK_CORPUS`, or
//! `shared/corpus` next to the workspace. They belong to their authors and are not part of this
//! project.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod config_support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use config_support::{assert_same_doors, original};
use portknock_core::TcpFlags;
use portknock_core::config::{Config, Door, apply_fixes, parse};
use serde_json::Value;

fn corpus() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus"));
    let directory = std::env::var_os("PORTKNOCK_CORPUS").map_or_else(beside, PathBuf::from);
    if !directory.is_dir() {
        // Writes past the test runner, which shows printed text only when a test fails.
        let _ = writeln!(std::io::stderr(), "SKIPPED: corpus not found at {}", directory.display());
        return None;
    }
    Some(directory)
}

/// Files that the original accepts and portknock refuses, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("002", "the sequence is a placeholder, which reads as port 0"),
    ("011", "the sequence is a placeholder, which reads as port 0"),
    ("013", "the sequence is a placeholder, which reads as port 0"),
    ("014", "the sequence is a placeholder, which reads as port 0"),
    ("016", "the sequence is a placeholder, which reads as port 0"),
    ("019", "the ports are placeholders, which read as port 0"),
    ("020", "the ports are placeholders, which read as port 0"),
    ("022", "the ports are placeholders, which read as port 0"),
];

/// Files that the original refuses and portknock accepts, with the reason.
const ACCEPTED: &[(&str, &str)] = &[("037", "`seq_cooldown` is a key here"), ("046", "`seq_cooldown` is a key here")];

#[test]
fn files_that_the_original_accepts_mean_the_same() {
    let Some(directory) = corpus().map(|directory| directory.join("knockd-conf")) else { return };
    let expected: Value = serde_json::from_slice(&fs::read(directory.join("expected.json")).unwrap()).unwrap();
    let refused: BTreeMap<_, _> = REFUSED.iter().copied().collect();
    let accepted: BTreeMap<_, _> = ACCEPTED.iter().copied().collect();
    let mut compared = 0;
    for file in expected.as_array().unwrap() {
        let n = file["n"].as_str().unwrap();
        let text = fs::read(directory.join(format!("{n}.conf"))).unwrap();
        let parsed = parse(&text);
        let theirs = file["rc"] == 0;
        let listed = refused.contains_key(n) || accepted.contains_key(n);
        assert_eq!(
            parsed.config.is_some() == theirs,
            !listed,
            "{n}: listed as an exception: {listed}\n{}",
            parsed.report.render(n, &text)
        );
        if let (Some(config), true) = (parsed.config, theirs) {
            compare(n, &config, &file["json"]);
            compared += 1;
        }
    }
    assert!(compared > 40, "only {compared} files were compared");
}

fn compare(n: &str, config: &Config, theirs: &Value) {
    let doors = theirs["doors"].as_array().unwrap();
    assert_eq!(config.doors.len(), doors.len(), "{n}");
    assert_eq!(config.options.use_syslog, theirs["usesyslog"] == 1, "{n}");
    let log_file = config.options.log_file.as_ref().map_or("", |path| path.to_str().unwrap());
    assert_eq!(log_file, theirs["logfile"], "{n}");
    assert_eq!(config.options.pid_file.to_str().unwrap(), theirs["pidfile"], "{n}");
    // Quotes are not part of a name here.
    assert_eq!(config.options.interfaces.join(","), theirs["interface"].as_str().unwrap().replace('"', ""), "{n}");
    for (door, theirs) in config.doors.iter().zip(doors) {
        compare_door(&format!("{n}: {}", door.name), door, theirs);
    }
}

fn compare_door(place: &str, door: &Door, theirs: &Value) {
    let steps = door.sequence.as_ref().unwrap().steps();
    let sequence: Vec<String> = steps.iter().map(|step| format!("{}:{}", step.port, step.protocol)).collect();
    assert_eq!(*door.name, *theirs["name"].as_str().unwrap(), "{place}");
    assert_eq!(serde_json::to_value(sequence).unwrap(), theirs["sequence"], "{place}");
    assert_eq!(door.seq_timeout.as_secs(), theirs["seq_timeout"], "{place}");
    assert_eq!(door.cmd_timeout.as_secs(), theirs["cmd_timeout"], "{place}");
    assert_eq!(door.target.map(|target| target.to_string()).as_deref(), theirs["target"].as_str(), "{place}");
    for (command, key) in [
        (&door.start_command, "start"),
        (&door.stop_command, "stop"),
        (&door.start_command_6, "start6"),
        (&door.stop_command_6, "stop6"),
    ] {
        assert_eq!(command.as_deref(), theirs[key].as_str(), "{place}");
    }
    for (name, flag) in [
        ("fin", TcpFlags::FIN),
        ("syn", TcpFlags::SYN),
        ("rst", TcpFlags::RST),
        ("psh", TcpFlags::PSH),
        ("ack", TcpFlags::ACK),
        ("urg", TcpFlags::URG),
    ] {
        let theirs = &theirs["flags"][name];
        assert_eq!(door.tcpflags.set.contains(flag), theirs == "set", "{place}: {name}");
        assert_eq!(
            !door.tcpflags.set.contains(flag) && !door.tcpflags.clear.contains(flag),
            theirs == "any",
            "{place}: {name}"
        );
    }
}

#[test]
fn fixed_files_need_no_more_fixes_and_mean_the_same() {
    let Some(directory) = corpus().map(|directory| directory.join("knockd-conf")) else { return };
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "conf") {
            continue;
        }
        let text = fs::read(&path).unwrap();
        let parsed = parse(&text);
        let fixed = parse(&apply_fixes(&text, &parsed.report));
        assert!(fixed.report.diagnostics.iter().all(|found| found.fix.is_none()), "{}", path.display());
        if parsed.config.is_some() {
            assert_eq!(parsed.config, fixed.config, "{}", path.display());
        }
    }
}

#[test]
fn the_handbook_is_repaired() {
    let Some(directory) = corpus() else { return };
    let text = fs::read(directory.join("handbook.conf")).unwrap();
    let report = parse(&text).report;
    let rendered = report.render("handbook.conf", &text);
    for (place, code) in [
        ("5:14", "error[PK012]"),
        ("5:25", "warning[PK032]"),
        ("7:51", "warning[PK045]"),
        ("8:2", "error[PK013]"),
        ("10:3", "warning[PK018]"),
        ("16:51", "warning[PK045]"),
        ("17:2", "error[PK013]"),
        ("20:1", "warning[PK019]"),
    ] {
        assert!(rendered.contains(&format!("handbook.conf:{place}: {code}: ")), "{place} {code} in\n{rendered}");
    }
    assert!(rendered.contains("`seq_timeout` is set on line 6 and again on line 10"));
    assert_eq!(report.errors(), 3);

    let fixed = apply_fixes(&text, &report);
    let config = parse(&fixed).config.unwrap();
    assert_eq!(config.options.pid_file.to_str(), Some("/var/tmp/knockd/file"));
    assert_eq!(config.options.log_file.as_ref().unwrap().to_str(), Some("/var/log/knockd.log"));
    assert!(config.options.use_syslog);
    let [open, close] = &config.doors[..] else { panic!("two doors") };
    assert_eq!(open.sequence.as_ref().unwrap().to_string(), "6,1450:udp,8156:udp,22045,23501:udp,24691");
    assert_eq!(open.seq_timeout.as_secs(), 10);
    assert_eq!(open.start_command.as_deref(), Some("/sbin/iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT"));
    assert_eq!(close.sequence.as_ref().unwrap().to_string(), "3011,6145,7298");
    assert_eq!(close.start_command.as_deref(), Some("/sbin/iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT"));

    let original = original(&fixed);
    assert!(original.accepted, "{}", original.output);
    assert_same_doors(&config, &original);
}
