//! Gives the shared library the name that programs look for.

fn main() {
    // The number changes with every change that an older program would not survive; it is PORTKNOCK_ABI_VERSION.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libportknock.so.0");
    println!("cargo::rerun-if-changed=build.rs");
}
