//! Runs the original knockd to see how it reads a configuration.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it, and a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use portknock_core::config::{Config, Door};

/// How the original read a configuration.
pub(crate) struct Original {
    /// It read the file to the end without an objection.
    pub(crate) accepted: bool,
    /// Its output.
    pub(crate) output: String,
}

/// One door as keys and values, as the original prints them.
pub(crate) type Understood = BTreeMap<String, String>;

/// Lets the original knockd read the text. Its interface does not exist, so it exits right after
/// reading the configuration and captures nothing.
pub(crate) fn original(text: &[u8]) -> Original {
    let directory = tempfile::tempdir().unwrap();
    // The original opens the log file while it reads.
    let log = directory.path().join("log").to_str().unwrap().to_owned();
    let file = directory.path().join("knockd.conf");
    fs::write(&file, replace(text, b"/var/log/knockd.log", log.as_bytes())).unwrap();
    let ran = Command::new("knockd").args(["-D", "-i", "no-such-if0", "-c"]).arg(&file).output();
    let ran =
        ran.expect("the original knockd is needed; install it with: scripts/install-deps, or: apt-get install knockd");
    let errors = String::from_utf8_lossy(&ran.stderr);
    let output = format!("{}{errors}", String::from_utf8_lossy(&ran.stdout));
    Original { accepted: errors.contains("could not open no-such-if0"), output }
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    [out, rest.to_vec()].concat()
}

impl Original {
    /// The doors with the values that the original printed; of a repeated key the last value.
    pub(crate) fn doors(&self) -> Vec<(String, Understood)> {
        let mut doors: Vec<(String, Understood)> = Vec::new();
        for line in self.output.lines() {
            if let Some(name) = line.strip_prefix("config: new section: '") {
                doors.push((name.trim_end_matches('\'').to_owned(), Understood::new()));
            } else if let Some((name, door)) = doors.last_mut()
                && let Some(rest) = line.strip_prefix(&format!("config: {name}: "))
                && let Some((key, value)) = rest.split_once(": ")
            {
                door.insert(key.to_owned(), value.to_owned());
            } else if let Some((_, door)) = doors.last_mut()
                && let Some(flag) = line.strip_prefix("config: tcp flag: ")
            {
                door.insert(format!("flag {}", flag.trim_start_matches('!')), flag.to_owned());
            }
        }
        doors.retain(|(name, _)| name != "options");
        doors
    }
}

/// How portknock read a configuration, in the same words, restricted to the keys that the original
/// printed.
pub(crate) fn assert_same_doors(config: &Config, original: &Original) {
    let theirs = original.doors();
    assert_eq!(config.doors.len(), theirs.len(), "{}", original.output);
    for (door, (name, understood)) in config.doors.iter().zip(&theirs) {
        assert_eq!(&*door.name, name);
        for (key, value) in understood {
            assert_eq!(&ours(door, key), value, "{name}: {key}");
        }
    }
}

fn ours(door: &Door, key: &str) -> String {
    let seconds = |time: Duration| time.as_secs().to_string();
    let text = |command: &Option<String>| command.clone().unwrap_or_default();
    match key {
        "sequence" => {
            let steps = door.sequence.as_ref().unwrap().steps().iter();
            steps.map(|step| format!("{}:{}", step.port, step.protocol)).collect::<Vec<_>>().join(",")
        }
        "seq_timeout" => seconds(door.seq_timeout),
        "cmd_timeout" => seconds(door.cmd_timeout),
        "start_command" => text(&door.start_command),
        "stop_command" => text(&door.stop_command),
        "start_command_6" => text(&door.start_command_6),
        "stop_command_6" => text(&door.stop_command_6),
        "target" => door.target.unwrap().to_string(),
        "one time sequences file" => door.one_time_sequences.as_ref().unwrap().display().to_string(),
        _ => {
            let flag = key.strip_prefix("flag ").unwrap_or_else(|| panic!("unknown key {key}"));
            let words = door.tcpflags.to_string().to_ascii_uppercase();
            words.split(',').find(|word| word.trim_start_matches('!') == flag).unwrap_or_default().to_owned()
        }
    }
}
