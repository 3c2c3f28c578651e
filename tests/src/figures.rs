//! Figures of benchmarks: medians, tables for people, and files for programs.

use std::fs;
use std::path::Path;

/// Writes `rows`, JSON objects, as one array to `target/bench/NAME.json`. If that is not possible,
/// it prints a warning and continues, because the figures have been printed too.
pub fn save_figures(name: &str, rows: &[String]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    let file = directory.join(format!("{name}.json"));
    let array = format!("[\n{}\n]\n", rows.join(",\n"));
    if let Err(error) = fs::create_dir_all(&directory).and_then(|()| fs::write(&file, array)) {
        eprintln!("cannot write {}: {error}", file.display());
    }
}

/// The smallest value that at least this percentage of the values does not exceed; `None` if there
/// are no values.
pub fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

/// The median; `None` if there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    percentile(values, 50)
}

/// `value` divided by `of`; `None` if one of them was not measured, or `of` is almost zero.
pub fn ratio(value: Option<f64>, of: Option<f64>) -> Option<f64> {
    Some(value? / of.filter(|of| *of > 1e-3)?)
}

/// A table that is printed row by row, and written as JSON at its end.
#[derive(Debug)]
pub struct Table {
    file: &'static str,
    columns: &'static [&'static str],
    rows: Vec<String>,
}

/// Width of the column of names, and minimum width of the others.
const NAMES: usize = 76;
const FIGURES: usize = 10;

impl Table {
    /// Begins a table that is written to `target/bench/FILE.json`, and prints its head.
    pub fn new(file: &'static str, columns: &'static [&'static str]) -> Self {
        let table = Self { file, columns, rows: Vec::new() };
        let head: String = table.widths().map(|(column, width)| format!(" {column:>width$}")).collect();
        println!("{:NAMES$}{head}", "");
        table
    }

    /// Prints a row and keeps it; `None` stands for a value that was not measured.
    pub fn row(&mut self, what: &str, program: &str, figures: &[Option<f64>]) {
        assert_eq!(figures.len(), self.columns.len(), "{what}: a figure for each column");
        let (mut shown, mut json) = (String::new(), String::new());
        for ((column, width), figure) in self.widths().zip(figures) {
            let text = figure.map_or("-".into(), |figure| format!("{figure:.*}", digits(figure)));
            let value = figure.map_or("null".into(), |figure| format!("{figure:.4}"));
            shown += &format!(" {text:>width$}");
            json += &format!(", \"{column}\": {value}");
        }
        println!("{:NAMES$}{shown}", format!("{what}: {program}"));
        self.rows.push(format!("{{\"case\": \"{what}\", \"program\": \"{program}\"{json}}}"));
    }

    /// Writes the printed rows.
    pub fn save(&self) {
        save_figures(self.file, &self.rows);
    }

    fn widths(&self) -> impl Iterator<Item = (&'static str, usize)> + use<> {
        self.columns.iter().map(|column| (*column, column.chars().count().max(FIGURES)))
    }
}

/// Number of significant digits after the point.
fn digits(value: f64) -> usize {
    match value.abs() {
        0.0..10.0 => 2,
        10.0..1000.0 => 1,
        _ => 0,
    }
}
