//! `portknock check` as scripts call it.
#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const GOOD: &str = "[ssh]\nsequence = 7001,3000:udp,5000\ncommand = true\n";
/// An error with a fix, and one without.
const BAD: &str = "[ssh]\nsequence = sequence = 7001,3000:udp,5000\nseq_timeout = soon\n";
const FIXABLE: &str = "[ssh]\nsequence = sequence = 7001,3000:udp,5000\n";

fn portknock(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portknock")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("knockd.conf");
    fs::write(&path, text).unwrap();
    (directory, path)
}

fn check(options: &[&str], text: &str) -> (Option<i32>, String, String) {
    let (_directory, path) = file(text);
    let mut args = vec!["check"];
    args.extend(options);
    let path = path.to_str().unwrap();
    args.push(path);
    let output = portknock(&args);
    let shown = |bytes| String::from_utf8(bytes).unwrap().replace(path, "FILE");
    (output.status.code(), shown(output.stdout), shown(output.stderr))
}

#[test]
fn a_valid_file_passes() {
    assert_eq!(check(&[], GOOD), (Some(0), "1 door, 0 errors, 0 warnings\n".into(), String::new()));
}

#[test]
fn findings_are_shown_and_counted() {
    let (code, stdout, stderr) = check(&[], BAD);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    assert!(stdout.starts_with("FILE:2:12: error[PK012]: "), "{stdout}");
    assert!(stdout.contains("\nFILE:3:15: error["), "{stdout}");
    assert!(stdout.ends_with("\n\n2 errors, 0 warnings\n"), "{stdout}");
}

#[test]
fn warnings_are_not_errors() {
    let (code, stdout, _) = check(&[], "[ssh]\nsequence = 7000,8000,9000\n");
    assert_eq!(code, Some(0));
    assert!(stdout.ends_with("\n1 door, 0 errors, 1 warning\n"), "{stdout}");
}

#[test]
fn json_is_one_object() {
    let (code, stdout, stderr) = check(&["--format", "json"], BAD);
    assert_eq!((code, stderr.as_str(), stdout.lines().count()), (Some(1), "", 1));
    let value: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&value["file"], &value["errors"], &value["config"]), (&json!("FILE"), &json!(2), &Value::Null));
    let fix = json!({"start": 17, "end": 28, "replacement": ""});
    assert_eq!(value["diagnostics"][0]["fix"], fix);

    let (code, stdout, _) = check(&["--format", "json"], GOOD);
    let value: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (code, &value["config"]["doors"][0]["sequence"][1]),
        (Some(0), &json!({"port": 3000, "protocol": "udp"}))
    );
}

#[test]
fn fix_writes_the_fixed_file_and_reports_the_remaining_errors() {
    let fixed = GOOD.replace("command = true\n", "");
    assert_eq!(check(&["--fix"], FIXABLE), (Some(0), fixed.clone(), String::new()));
    let (code, stdout, stderr) = check(&["--fix"], BAD);
    assert_eq!((code, stdout), (Some(1), fixed + "seq_timeout = soon\n"));
    assert!(stderr.starts_with("FILE (fixed):3:15: error["), "{stderr}");
    assert!(!stderr.contains("PK012"), "{stderr}");
}

#[test]
fn files_of_one_time_sequences_are_read() {
    let text = "[ssh]\none_time_sequences = /no/such/file\n";
    for options in [&[][..], &["--fix"]] {
        let (code, stdout, stderr) = check(options, text);
        assert_eq!(code, Some(1));
        assert!((stdout + &stderr).contains("/no/such/file"));
    }
}

#[test]
fn doors_with_keys_are_listed() {
    let keys = TempDir::new().unwrap();
    let path = keys.path().join("keys");
    fs::write(&path, "# none yet\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!("[ssh]\nkeys = {0}\nsequence = time\n[ssh]\nkeys = {0}\npacket = portknock\n", path.display());
    let (code, stdout, stderr) = check(&[], &text);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let listed = "ssh: time sequence of 5 steps, 0 keys\nssh: packet of the format portknock, 0 keys\n";
    assert!(stdout.ends_with(&format!("\n\n{listed}2 doors, 0 errors, 2 warnings\n")), "{stdout}");
}

#[test]
fn a_hyphen_reads_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portknock"))
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(BAD.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.starts_with(b"<stdin>:2:12: error[PK012]"));
}

#[test]
fn an_unreadable_file_has_the_status_of_bad_usage() {
    let (directory, _) = file("");
    let absent = directory.path().join("absent");
    for (path, reason) in
        [(absent.to_str().unwrap(), "No such file"), (directory.path().to_str().unwrap(), "directory")]
    {
        let output = portknock(&["check", path]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{output:?}");
    }
    assert_eq!(portknock(&["check"]).status.code(), Some(2));
    assert_eq!(portknock(&["check", "--fix", "--format", "json", "x"]).status.code(), Some(2));
    assert_eq!(portknock(&[]).status.code(), Some(2));
}

#[test]
fn a_closed_standard_output_is_not_a_crash() {
    // More than the buffer of a pipe, so that the write reaches the closed end.
    let (_directory, path) = file(&"what = is this\n".repeat(5_000));
    let mut child = Command::new(env!("CARGO_BIN_EXE_portknock"))
        .arg("check")
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(141), Vec::new()));
}

#[test]
fn a_full_disk_is_reported() {
    let (_directory, path) = file(GOOD);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portknock")).arg("check").arg(path).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to standard output: No space left"));
}
