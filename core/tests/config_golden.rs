//! The text of diagnostics, and the results of the fixes. Each input `NAME.in` has the expected
//! report `NAME.out` and, if something can be fixed, the fixed text `NAME.fixed`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portknock_core::config::{Report, apply_fixes, load, parse};
use portknock_golden::assert_golden_bytes;

/// The inputs, from the crate's directory, as are the one-time files that they name.
const DIRECTORY: &str = "tests/golden/config";

fn inputs() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(DIRECTORY)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "in"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

/// Compares with the file next to the input, which has `extension`.
fn check(input: &Path, extension: &str, text: Option<&[u8]>) {
    assert_golden_bytes(&format!("core/{}", input.with_extension(extension).display()), text);
}

/// Codes that depend on the host's programs, service and users; separate tests cover them.
const OF_THE_HOST: [&str; 3] = ["PK066", "PK070", "PK071"];

fn report(path: &Path) -> (Vec<u8>, Report) {
    let mut loaded = load(path).unwrap();
    loaded.report.diagnostics.retain(|found| !OF_THE_HOST.contains(&found.code));
    (loaded.text, loaded.report)
}

#[test]
fn diagnostics_are_the_golden_ones() {
    for path in inputs() {
        let (text, report) = report(&path);
        let name = path.file_name().unwrap().to_str().unwrap();
        check(&path, "out", Some(report.render(name, &text).as_bytes()));
    }
}

#[test]
fn fixes_give_the_golden_text_and_leave_no_fix_open() {
    for path in inputs() {
        let (text, report) = report(&path);
        let fixed = apply_fixes(&text, &report);
        assert!(parse(&fixed).report.diagnostics.iter().all(|found| found.fix.is_none()), "{}", path.display());
        check(&path, "fixed", Some(fixed.as_slice()).filter(|fixed| *fixed != text));
    }
}

#[test]
fn every_code_is_shown_by_some_input() {
    let docs = include_str!("../../docs/diagnostics.md");
    // These need files of megabytes, or a file that no other user can read; separate tests cover
    // them.
    let special = ["PK005", "PK006", "PK091", "PK098", "PK106"];
    let documented: BTreeSet<&str> = docs
        .lines()
        .filter(|line| line.starts_with("| PK"))
        .map(|line| &line[2..7])
        .filter(|code| !special.contains(code) && !OF_THE_HOST.contains(code))
        .collect();
    let shown: BTreeSet<&str> =
        inputs().iter().flat_map(|path| report(path).1.diagnostics.into_iter().map(|found| found.code)).collect();
    assert_eq!(shown, documented);
}
