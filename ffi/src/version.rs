//! Which version this is.

use std::ffi::{CStr, c_char};

/// The major version of this header.
pub const PORTKNOCK_VERSION_MAJOR: u32 = 0;
/// The minor version of this header.
pub const PORTKNOCK_VERSION_MINOR: u32 = 1;
/// The patch version of this header.
pub const PORTKNOCK_VERSION_PATCH: u32 = 0;
/// The number behind ".so." in the name of the library that fits this header. It changes with every release that
/// programs compiled for an older one would not survive.
pub const PORTKNOCK_ABI_VERSION: u32 = 0;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// The version of the library that runs, as in "0.1.0". The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn portknock_version() -> *const c_char {
    CStr::from_bytes_with_nul(VERSION.as_bytes()).unwrap_or(c"").as_ptr()
}

/// The PORTKNOCK_ABI_VERSION of the library that runs.
#[unsafe(no_mangle)]
pub extern "C" fn portknock_abi_version() -> u32 {
    PORTKNOCK_ABI_VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_package() {
        let header = format!("{PORTKNOCK_VERSION_MAJOR}.{PORTKNOCK_VERSION_MINOR}.{PORTKNOCK_VERSION_PATCH}");
        assert_eq!(header, env!("CARGO_PKG_VERSION"));
        let soname = format!("-soname,libportknock.so.{PORTKNOCK_ABI_VERSION}\"");
        assert!(include_str!("../build.rs").contains(&soname));
    }
}
