//! Sets the name by which programs load the shared library (its soname).

fn main() {
    // The number is PORTKNOCK_ABI_VERSION: it changes with every change that breaks older programs.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libportknock.so.0");
    println!("cargo::rerun-if-changed=build.rs");
}
