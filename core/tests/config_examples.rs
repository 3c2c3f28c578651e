//! The example configurations are correct, and the original reads those in its dialect as portknock
//! does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod config_support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use config_support::{assert_same_doors, original};
use portknock_core::config::{load, parse};
use portknock_core::keys::{KEY_LENGTH, Key};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/conf");

#[test]
fn every_example_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let mut count = 0;
    for entry in fs::read_dir(DIRECTORY).unwrap() {
        let path = entry.unwrap().path();
        // The examples name key files that this host may lack.
        let copy = directory.path().join(path.file_name().unwrap());
        let own = format!("{}/", directory.path().display());
        fs::write(&copy, fs::read_to_string(&path).unwrap().replace("/etc/portknock/", &own)).unwrap();
        for name in ["ssh.keys", "packets.keys"] {
            let key = Key::from_bytes([7; KEY_LENGTH]);
            fs::write(directory.path().join(name), format!("alice {}\n", *key.to_text())).unwrap();
            fs::set_permissions(directory.path().join(name), Permissions::from_mode(0o640)).unwrap();
        }
        for (name, text) in [
            ("phone.totp", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n"),
            ("phone.fwknop", "KEY_BASE64: AQ==\nHMAC_KEY_BASE64: Ag==\n"),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
            fs::set_permissions(directory.path().join(name), Permissions::from_mode(0o640)).unwrap();
        }
        let loaded = load(&copy).unwrap();
        assert!(loaded.config.is_some(), "{}", loaded.report.render(&path.display().to_string(), &loaded.text));
        count += 1;
    }
    assert!(count >= 3);
}

#[test]
fn the_minimal_and_the_full_example_have_no_warnings() {
    for name in ["minimal.conf", "full.conf"] {
        let mut loaded = load(&Path::new(DIRECTORY).join(name)).unwrap();
        // A host may lack the programs of the example's commands.
        loaded.report.diagnostics.retain(|found| found.code != "PK066");
        assert!(loaded.report.diagnostics.is_empty(), "{}", loaded.report.render(name, &loaded.text));
    }
}

#[test]
fn the_full_example_has_every_key() {
    let text = fs::read_to_string(Path::new(DIRECTORY).join("full.conf")).unwrap();
    for key in [
        "UseSyslog",
        "LogFile",
        "PidFile",
        "Interface",
        "ScanGuard",
        "MaxAttempts",
        "MaxOpenings",
        "LogRate",
        "StateFile",
        "ControlSocket",
        "OnStop",
        "Gate",
        "GateRefuse",
        "PacketPort",
        "ClockSkew",
        "sequence",
        "one_time_sequences",
        "keys",
        "time_ports",
        "time_protocols",
        "time_step",
        "packet",
        "seq_timeout",
        "tcpflags",
        "target",
        "start_command",
        "stop_command",
        "start_command_6",
        "stop_command_6",
        "cmd_timeout",
        "open",
        "open_prefix",
        "allow",
        "seq_cooldown",
    ] {
        let written = |line: &str| line.trim_start_matches([' ', '#']).split(' ').next() == Some(key);
        assert!(text.lines().any(written), "{key} is missing");
    }
}

#[test]
fn the_handbook_is_repaired() {
    let text = fs::read(Path::new(DIRECTORY).join("handbook.conf")).unwrap();
    let config = parse(&text).config.unwrap();
    let [open, close] = &config.doors[..] else { panic!("two doors") };
    assert_eq!(open.sequence.as_ref().unwrap().to_string(), "6,1450:udp,8156:udp,22045,23501:udp,24691");
    assert_eq!(open.seq_timeout.as_secs(), 10);
    assert_eq!(close.sequence.as_ref().unwrap().to_string(), "3011,6145,7298");
    for name in ["handbook.conf", "minimal.conf"] {
        let text = fs::read(Path::new(DIRECTORY).join(name)).unwrap();
        let original = original(&text);
        assert!(original.accepted, "{}", original.output);
        assert_same_doors(&parse(&text).config.unwrap(), &original);
    }
}
