//! `portknock import-fwknop`.
#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use portknock_core::fwknop::load_fwknop_keys;

const FILE: &str = "\
# Two clients.
SOURCE              ANY
OPEN_PORTS          tcp/22
REQUIRE_USERNAME    alice
KEY                 correct-horse
HMAC_KEY            battery-staple
FW_ACCESS_TIMEOUT   60

SOURCE              10.0.0.0/8
OPEN_PORTS          tcp/443
KEY_BASE64          AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
ACCESS_EXPIRE       12/31/2030
";

/// Returns the exit status, the output and the standard error.
fn import(directory: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portknock"));
    command.args(["import-fwknop", "access.conf", "--output", "keys"]).current_dir(directory).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn doors_and_key_files_are_made_and_the_rest_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("access.conf"), FILE).unwrap();
    assert_eq!(import(directory.path()).0, Some(1), "there is no directory for the keys");
    fs::create_dir(directory.path().join("keys")).unwrap();
    let (code, out, error) = import(directory.path());
    assert_eq!(code, Some(1));
    let path = directory.path().join("keys/fwknop1.keys");
    assert!(out.starts_with(&format!("[fwknop1]\n    keys           = {}\n", path.display())), "{out}");
    assert!(!out.contains("fwknop2"), "{out}");
    for line in ["access.conf:9: there is no HMAC_KEY_BASE64", "access.conf:12: a door does not expire"] {
        assert!(error.contains(line), "{error}");
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let keys = load_fwknop_keys(&path).unwrap();
    assert_eq!((&*keys[0].name, keys[0].user.as_deref()), ("alice", Some("alice")));
    // Key files are not overwritten.
    let (code, out, error) = import(directory.path());
    assert_eq!((code, &*out), (Some(1), ""));
    assert!(error.contains("fwknop1.keys: ") && error.contains("; existing files are never overwritten"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_bad_usage() {
    let directory = tempfile::tempdir().unwrap();
    let (code, out, error) = import(directory.path());
    assert_eq!((code, &*out), (Some(2), ""));
    assert!(error.starts_with("portknock: cannot read access.conf: "), "{error}");
}

/// The names of the settings in one of fwknop's example files; none if fwknop is not installed.
fn settings(path: &str) -> Vec<String> {
    let Ok(text) = fs::read(path) else {
        eprintln!("SKIPPED: there is no {path}; run scripts/install-deps");
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&text);
    let first =
        |line: &str| line.trim_start_matches(['#', ' ']).split_whitespace().next().unwrap_or_default().to_owned();
    let is_name = |name: &String| {
        name.contains('_')
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.lines().map(first).filter(is_name).collect()
}

#[test]
fn the_document_has_every_setting_of_fwknop() {
    let document = include_str!("../../docs/migrating-from-fwknop.md");
    for path in ["/etc/fwknop/access.conf", "/etc/fwknop/fwknopd.conf"] {
        for name in settings(path) {
            assert!(document.contains(&format!("`{name}`")), "{name}");
        }
    }
}
