//! The Rust examples print the expected output.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::process::Command;

/// The output of an example.
fn output(name: &str) -> String {
    // `cargo test` builds the examples next to the tests.
    let test = std::env::current_exe().unwrap();
    let example = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let output = Command::new(&example).output().unwrap_or_else(|error| panic!("{}: {error}", example.display()));
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_probe_example_finds_its_listener_open() {
    let output = output("probe");
    assert!(output.starts_with("127.0.0.1:") && output.ends_with(" is open (syn-ack)\n"), "{output}");
}

#[test]
fn the_engine_example_opens_and_closes_a_door() {
    assert_eq!(
        output("engine"),
        "1.000000000 192.0.2.7: ssh: Stage 1\n\
         2.000000000 192.0.2.7: ssh: Stage 2\n\
         2.000000000 192.0.2.7: ssh: OPEN SESAME\n\
         2.000000000 would run: open-ssh 192.0.2.7\n\
         32.000000000 192.0.2.7: ssh: command timeout\n\
         32.000000000 would run: close-ssh 192.0.2.7\n"
    );
}

#[test]
fn the_documents_name_the_rust_version_of_the_build() {
    let manifest = include_str!("../../Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    for text in [include_str!("../../README.md"), include_str!("../../docs/installation.md")] {
        assert!(text.contains(&format!("Rust {version} or later")));
    }
}
