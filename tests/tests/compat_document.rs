//! The table of scenarios, `docs/knockd-compat.md`, and the tests that it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portknock_tests::{ClientScenario, Expected, Scenario};

const DOCUMENT: &str = include_str!("../../docs/knockd-compat.md");

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The tests that the document names, as (file, test).
fn named() -> BTreeSet<(&'static str, &'static str)> {
    DOCUMENT.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect()
}

/// The Rust file of this name among those with tests.
fn text_of(file: &str) -> String {
    ["tests/tests", "core/tests", "core/src", "daemon/src", "cli/tests"]
        .iter()
        .find_map(|directory| fs::read_to_string(workspace().join(directory).join(format!("{file}.rs"))).ok())
        .unwrap_or_else(|| panic!("there is no {file}.rs"))
}

/// The name of each row of the table, and the reason if the two daemons differ.
fn scenarios() -> Vec<(&'static str, Option<&'static str>)> {
    fn why<T>(expected: &Expected<T>) -> Option<&'static str> {
        match expected {
            Expected::Same => None,
            Expected::Differs { why, .. } => Some(why),
        }
    }
    let daemons = Scenario::all().into_iter().map(|row| (row.name, why(&row.expected)));
    let clients = ClientScenario::all().into_iter().map(|row| (row.name, why(&row.expected)));
    daemons.chain(clients).collect()
}

fn is_test_in(text: &str, name: &str) -> bool {
    text.contains(&format!("#[test]\nfn {name}()")) || text.contains(&format!("#[test]\n    fn {name}()"))
}

#[test]
fn the_table_is_sound() {
    let faults: Vec<_> = Scenario::all()
        .iter()
        .filter_map(Scenario::fault)
        .chain(ClientScenario::all().iter().filter_map(ClientScenario::fault))
        .collect();
    assert!(faults.is_empty(), "{faults:?}");
    let (daemons, clients) = (Scenario::all(), ClientScenario::all());
    let names: Vec<_> = daemons.iter().map(|row| row.name).chain(clients.iter().map(|row| row.name)).collect();
    let different: BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len(), "two rows have the same name");
    assert!(daemons.len() >= 100 && clients.len() >= 30);
}

#[test]
fn every_test_that_the_document_names_exists() {
    assert!(named().len() > 60);
    let scenarios = scenarios();
    for (file, name) in named() {
        if file == "compliance" {
            assert!(scenarios.iter().any(|(known, _)| *known == name), "the table has no {name}");
            continue;
        }
        assert!(is_test_in(&text_of(file), name), "{file}.rs has no test {name}");
    }
}

#[test]
fn every_row_names_a_test() {
    for line in DOCUMENT.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what ")) {
        assert!(line.contains("::"), "no test in: {line}");
    }
}

#[test]
fn every_difference_that_is_tested_is_in_the_document() {
    for file in ["compat_matching", "compat_commands", "compat_daemon"] {
        for line in text_of(file).lines().filter(|line| line.starts_with("fn differ_")) {
            let name = line.trim_start_matches("fn ").split('(').next().unwrap_or_default();
            assert!(named().contains(&(file, name)), "the document lacks {file}::{name}");
        }
    }
}

#[test]
fn every_difference_of_the_table_is_in_the_document_with_its_reason() {
    for (name, why) in scenarios().into_iter().filter_map(|(name, why)| Some((name, why?))) {
        let reference = format!("`compliance::{name}`");
        let row = DOCUMENT.lines().find(|line| line.contains(&reference));
        let row = row.unwrap_or_else(|| panic!("the document lacks {reference}"));
        assert!(row.contains(&format!("| {why}")), "{name} differs because: {why}; the document says:\n{row}");
    }
}
