//! portknockd.
fn main() {}
