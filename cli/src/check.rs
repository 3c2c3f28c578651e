//! `portknock check`: reports the errors and warnings of a configuration.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use portknock_core::config::{self, Loaded, Parsed, Report};
use portknock_core::sys::privileges;

use crate::output::{print, print_error};
use crate::{FAILURE, Format, SUCCESS};

/// Exit status for a file that cannot be read.
const UNREADABLE: u8 = 2;

/// The arguments of `portknock check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Apply every machine-applicable fix and write the fixed file to standard output
    #[arg(long, conflicts_with = "format")]
    fix: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The configuration file; - reads standard input
    file: PathBuf,
}

/// Checks a configuration. The exit status is 0 without errors, 1 with errors, 2 if the file cannot
/// be read.
pub fn run(args: &CheckArgs) -> u8 {
    // The file can name files of keys.
    privileges::hide();
    let (name, loaded) = match read(&args.file) {
        Ok(read) => read,
        Err(message) => {
            print_error("portknock", message);
            return UNREADABLE;
        }
    };
    let report = if args.fix {
        fix(&name, &loaded)
    } else {
        match args.format {
            Format::Text => print(text(&name, &loaded).as_bytes()),
            Format::Json => {
                let object = config::check_json(&name, &loaded.text, &loaded.report, loaded.config.as_ref());
                print(format!("{object}\n").as_bytes());
            }
        }
        loaded.report
    };
    if report.has_errors() { FAILURE } else { SUCCESS }
}

/// Reads the file. Returns its name for messages, too.
fn read(file: &Path) -> Result<(String, Loaded), String> {
    if file != Path::new("-") {
        let mut loaded = config::load(file).map_err(|error| error.to_string())?;
        loaded.check_deployment(Some(file), config::service_is_confined());
        return Ok((file.to_string_lossy().into_owned(), loaded));
    }
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text).map_err(|error| format!("cannot read standard input: {error}"))?;
    let Parsed { config, report } = config::load_text(&text);
    let mut loaded = Loaded { config, report, text };
    loaded.check_deployment(None, config::service_is_confined());
    Ok(("<stdin>".into(), loaded))
}

/// The findings, a line for each door with `keys`, and a summary line.
fn text(name: &str, loaded: &Loaded) -> String {
    let findings = loaded.report.render(name, &loaded.text);
    let gap = if findings.is_empty() { "" } else { "\n" };
    let keyed_doors: String = loaded.keyed_doors().map(|line| line + "\n").collect();
    format!("{findings}{gap}{keyed_doors}{}\n", loaded.summary())
}

/// Prints the fixed file, and the remaining findings on standard error. Returns the report of the
/// fixed file.
fn fix(name: &str, loaded: &Loaded) -> Report {
    let fixed = config::apply_fixes(&loaded.text, &loaded.report);
    let report = config::load_text(&fixed).report;
    print(&fixed);
    let remaining = report.render(&format!("{name} (fixed)"), &fixed);
    let _ = io::stderr().write_all(remaining.as_bytes());
    report
}
