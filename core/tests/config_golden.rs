//! The text of diagnostics, and the result of the fixes: each `NAME.in` has the expected
//! `NAME.out`, and `NAME.fixed` if there is something to fix.
//! `UPDATE_GOLDEN=1 cargo test --test config_golden` rewrites them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portknock_core::config::{Report, apply_fixes, load, parse};

/// The inputs name one-time files relative to the working directory, which is the directory of the
/// crate.
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

/// Compares the text with the file, or writes the file.
fn check(path: &Path, actual: Option<Vec<u8>>) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let _ = fs::remove_file(path);
        if let Some(actual) = actual {
            fs::write(path, actual).unwrap();
        }
        return;
    }
    let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (actual, expected) = (text(actual), text(fs::read(path).ok()));
    assert!(
        actual == expected,
        "{} differs\n--- expected\n{}\n--- actual\n{}",
        path.display(),
        expected.as_deref().unwrap_or("(no file)"),
        actual.as_deref().unwrap_or("(nothing)")
    );
}

/// Codes that depend on the host's programs, services and users; separate tests cover them.
const OF_THE_HOST: [&str; 3] = ["PK066", "PK070", "PK071"];

fn report(path: &Path) -> (Vec<u8>, Report) {
    let mut loaded = load(path).unwrap();
    loaded.report.diagnostics.retain(|found| !OF_THE_HOST.contains(&found.code));
    (loaded.text, loaded.report)
}

#[test]
fn diagnostics_look_as_expected() {
    for path in inputs() {
        let (text, report) = report(&path);
        let name = path.file_name().unwrap().to_str().unwrap();
        check(&path.with_extension("out"), Some(report.render(name, &text).into_bytes()));
    }
}

#[test]
fn fixes_give_the_expected_text_and_leave_no_fix_open() {
    for path in inputs() {
        let (text, report) = report(&path);
        let fixed = apply_fixes(&text, &report);
        assert!(parse(&fixed).report.diagnostics.iter().all(|found| found.fix.is_none()), "{}", path.display());
        check(&path.with_extension("fixed"), Some(fixed).filter(|fixed| *fixed != text));
    }
}

#[test]
fn every_code_is_shown_by_some_input() {
    let docs = include_str!("../../docs/diagnostics.md");
    // These codes need files of megabytes; separate tests cover them.
    let too_large = ["PK005", "PK006"];
    let documented: BTreeSet<&str> = docs
        .lines()
        .filter(|line| line.starts_with("| PK"))
        .map(|line| &line[2..7])
        .filter(|code| !too_large.contains(code) && !OF_THE_HOST.contains(code))
        .collect();
    let shown: BTreeSet<&str> =
        inputs().iter().flat_map(|path| report(path).1.diagnostics.into_iter().map(|found| found.code)).collect();
    assert_eq!(shown, documented);
}
