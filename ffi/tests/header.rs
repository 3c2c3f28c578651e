//! The committed header is the one that the code generates.
//! `UPDATE_GOLDEN=1 cargo test -p portknock-ffi --test header` rewrites it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut made = Vec::new();
    let config = cbindgen::Config::from_file(directory.join("cbindgen.toml")).unwrap();
    cbindgen::Builder::new().with_crate(directory).with_config(config).generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = directory.join("../include/portknock.h");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == made, "include/portknock.h differs from the output of ffi/src; UPDATE_GOLDEN=1 rewrites it");
}
