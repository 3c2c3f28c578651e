//! Compares the committed header with the header that cbindgen generates.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

#[test]
fn the_header_is_the_golden_one() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut generated = Vec::new();
    let config = cbindgen::Config::from_file(directory.join("cbindgen.toml")).unwrap();
    cbindgen::Builder::new().with_crate(directory).with_config(config).generate().unwrap().write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();
    portknock_golden::assert_golden("include/portknock.h", &generated);
}
