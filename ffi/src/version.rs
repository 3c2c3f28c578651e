//! Versions of the library and its ABI.

use std::ffi::{CStr, c_char};

/// Major version of this header.
pub const PORTKNOCK_VERSION_MAJOR: u32 = 0;
/// Minor version of this header.
pub const PORTKNOCK_VERSION_MINOR: u32 = 1;
/// Patch version of this header.
pub const PORTKNOCK_VERSION_PATCH: u32 = 0;
/// Number after ".so." in the name of the library that fits this header. It changes with every
/// release that breaks programs compiled for an older one.
pub const PORTKNOCK_ABI_VERSION: u32 = 0;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// Returns the version of the running library, as in "0.1.0". The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn portknock_version() -> *const c_char {
    CStr::from_bytes_with_nul(VERSION.as_bytes()).unwrap_or(c"").as_ptr()
}

/// Returns the PORTKNOCK_ABI_VERSION of the running library.
#[unsafe(no_mangle)]
pub extern "C" fn portknock_abi_version() -> u32 {
    PORTKNOCK_ABI_VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_numbers_match_the_package() {
        let header = format!("{PORTKNOCK_VERSION_MAJOR}.{PORTKNOCK_VERSION_MINOR}.{PORTKNOCK_VERSION_PATCH}");
        assert_eq!(header, env!("CARGO_PKG_VERSION"));
        let soname = format!("-soname,libportknock.so.{PORTKNOCK_ABI_VERSION}\"");
        assert!(include_str!("../build.rs").contains(&soname));
    }
}
