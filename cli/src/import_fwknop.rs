//! `portknock import-fwknop`: makes doors and key files from fwknop's `access.conf`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use portknock_core::Printable;
use portknock_core::sys::privileges;
use zeroize::Zeroizing;

use crate::access_conf::{self, Finding};
use crate::fwknop_door::{self, ImportedDoor};
use crate::output::{print, print_error};
use crate::{FAILURE, SUCCESS, USAGE, private_file};

/// Maximum size of a file, in bytes.
const MAX_FILE_SIZE: u64 = 4 << 20;

/// The arguments of `portknock import-fwknop`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The directory of the key files, which must exist
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// fwknop's file of clients, usually /etc/fwknop/access.conf
    access_conf: PathBuf,
}

/// Makes doors and key files. The exit status is 0 if every line has its counterpart, 1 if a line has none
/// or a file cannot be written, 2 if the file cannot be read.
pub fn run(args: &ImportArgs) -> u8 {
    privileges::hide();
    let text = match read(&args.access_conf) {
        Ok(text) => text,
        Err(error) => {
            let path = args.access_conf.to_string_lossy();
            print_error("portknock", format_args!("cannot read {}: {error}", Printable(&path)));
            return USAGE;
        }
    };
    let directory = match std::path::absolute(&args.output) {
        Ok(directory) => directory,
        Err(error) => return print_error("portknock", error),
    };
    let (doors, found) = import(&text, &directory);
    if let Err(message) = write(&doors) {
        return print_error("portknock", message);
    }
    let sections: Vec<_> = doors.iter().map(|(_, door)| door.section.as_str()).collect();
    print(sections.join("\n").as_bytes());
    let path = args.access_conf.to_string_lossy();
    for Finding { line, message } in &found {
        print_error("portknock", format_args!("{}:{line}: {message}", Printable(&path)));
    }
    if found.is_empty() { SUCCESS } else { FAILURE }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > MAX_FILE_SIZE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 4 MiB"));
    }
    // With enough capacity no copy of the keys is left behind in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
    file.take(MAX_FILE_SIZE).read_to_end(&mut text)?;
    Ok(text)
}

/// Returns the doors with the paths of their key files, and the findings in the order of the lines.
fn import(text: &[u8], directory: &Path) -> (Vec<(PathBuf, ImportedDoor)>, Vec<Finding>) {
    let mut found = Vec::new();
    let mut doors = Vec::new();
    for (number, stanza) in (1..).zip(access_conf::parse(text, &mut found)) {
        let name = format!("fwknop{number}");
        let path = directory.join(format!("{name}.keys"));
        let door = fwknop_door::import(&stanza, &name, &path, &mut found);
        doors.extend(door.map(|door| (path, door)));
    }
    found.sort_by_key(|finding| finding.line);
    (doors, found)
}

/// Writes the key files: all of them, or none.
fn write(doors: &[(PathBuf, ImportedDoor)]) -> Result<(), String> {
    for (count, (path, door)) in doors.iter().enumerate() {
        private_file::create(path, &door.keys).inspect_err(|_| {
            for (path, _) in &doors[..count] {
                // The error of the write is reported.
                let _ = fs::remove_file(path);
            }
        })?;
    }
    Ok(())
}
