//! knock.
fn main() {}
