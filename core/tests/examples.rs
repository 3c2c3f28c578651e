//! The Rust examples do what they say.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::process::Command;

#[test]
fn the_engine_example_opens_and_closes_a_door() {
    // `cargo test` builds the examples beside the tests.
    let test = std::env::current_exe().unwrap();
    let example = test.ancestors().nth(2).unwrap().join("examples/engine");
    let output = Command::new(&example).output().unwrap_or_else(|error| panic!("{}: {error}", example.display()));
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "1.000000000 192.0.2.7: ssh: Stage 1\n\
         2.000000000 192.0.2.7: ssh: Stage 2\n\
         2.000000000 192.0.2.7: ssh: OPEN SESAME\n\
         2.000000000 would run: open-ssh 192.0.2.7\n\
         32.000000000 192.0.2.7: ssh: command timeout\n\
         32.000000000 would run: close-ssh 192.0.2.7\n"
    );
}
