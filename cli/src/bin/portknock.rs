//! portknock.
fn main() {}
