//! Captures that fail, and descriptors that started programs do not inherit.

use std::process::Command;

use portknock_core::capture::{CaptureError, CaptureSet};

use crate::support::*;

#[test]
fn without_the_capability_to_capture_the_error_names_the_remedy() {
    let wrapper = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"];
    if !in_namespace_with(&wrapper) {
        return;
    }
    let error = CaptureSet::open(&["lo".into()], filter()).unwrap_err();
    assert!(matches!(error, CaptureError::NotAllowed), "{error:?}");
    assert!(error.to_string().contains("CAP_NET_RAW"));
}

#[test]
fn without_descriptors_the_error_names_the_remedy() {
    let wrapper = ["prlimit", "--nofile=20:20"];
    if !in_namespace_with(&wrapper) {
        return;
    }
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    for _ in 0..8 {
        let error = CaptureSet::open(&["lo".into()], filter()).map(drop);
        if let Err(error) = error {
            assert!(matches!(error, CaptureError::OutOfDescriptors(_)), "{error:?}");
            assert!(error.to_string().contains("ulimit -n"));
        }
        taken.pop();
    }
    assert!(CaptureSet::open(&["lo".into()], filter()).is_ok());
}

#[test]
fn impossible_names_are_refused() {
    if !in_namespace() {
        return;
    }
    for name in ["", "a name", "sixteen-letters!", "eth0/1", "eth0\n"] {
        let error = CaptureSet::open(&[name.to_string()], filter()).unwrap_err();
        assert!(matches!(error, CaptureError::BadName { .. }), "{error:?}");
    }
}

#[test]
fn programs_that_are_started_do_not_inherit_the_capture() {
    if !in_namespace() {
        return;
    }
    let _listener = Listener::open(&["lo"]);
    let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    assert!(!list.contains("socket:"), "{list}");
}
