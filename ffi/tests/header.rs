//! The committed header is the one that the code generates.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

#[test]
fn the_header_is_the_golden_one() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut made = Vec::new();
    let config = cbindgen::Config::from_file(directory.join("cbindgen.toml")).unwrap();
    cbindgen::Builder::new().with_crate(directory).with_config(config).generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    portknock_golden::assert_golden("include/portknock.h", &made);
}
