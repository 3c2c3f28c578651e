//! What benchmarks have measured, for programs to read.

use std::fs;
use std::path::Path;

/// Writes `rows`, JSON objects, as one array to `target/bench/NAME.json`. Where that is not possible it says so and goes
/// on: the figures have been printed too.
pub fn save_figures(name: &str, rows: &[String]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    let file = folder.join(format!("{name}.json"));
    let array = format!("[\n{}\n]\n", rows.join(",\n"));
    if let Err(error) = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, array)) {
        eprintln!("cannot write {}: {error}", file.display());
    }
}
