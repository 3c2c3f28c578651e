//! Reads a configuration, its one-time sequences and its keys from files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codes;
use super::diagnostic::{Diagnostic, Report};
use super::draft::DoorDraft;
use super::findings::Findings;
use super::fwknop_checks;
use super::key_files::MAX_TIME_KEYS;
use super::keys::Key;
use super::model::{Config, Door, PacketFormat};
use super::parse::{self, Parsed};
use super::quoted::quoted;
use super::sequence_lines::unused_lines;
use crate::fwknop::load_fwknop_keys;
use crate::keys::{KeyFileError, load_key_file};
use crate::printable::shown_path;
use crate::programs::missing_program;
use crate::totp::{RECOMMENDED_SECRET_LENGTH, load_totp_file};

/// Maximum size of a file, in bytes: far more than 65,536 doors need.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// The result of reading a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration, with the first unused sequence of each one-time file and the keys of each
    /// key file; `None` if the report has errors.
    pub config: Option<Config>,
    /// All findings in the file and in the files that it names.
    pub report: Report,
    /// The text of the file, for [`Report::render`].
    pub text: Vec<u8>,
}

/// The error if a configuration file cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", shown_path(path))]
#[non_exhaustive]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// The error of the system, or the reason why the file is refused.
    pub reason: io::Error,
}

/// Reads the configuration at `path`, the first unused sequence of each `one_time_sequences` file
/// that it names, and the keys of each `keys` file. Relative names start at the current directory.
/// If one of these files is missing, unreadable or invalid, the report contains an error, and also
/// if a one-time file has no unused line left.
///
/// # Errors
/// Fails if the configuration itself cannot be read: it is missing, not a regular file, or larger
/// than 16 MiB.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let text = read_file(path).map_err(|reason| LoadError { path: path.to_owned(), reason })?;
    let Parsed { config, report } = load_text(&text);
    Ok(Loaded { config, report, text })
}

/// Parses the text of a configuration, and reads the one-time files and the key files that it
/// names, as [`load`] does.
pub fn load_text(text: &[u8]) -> Parsed {
    let mut draft = parse::parse_draft(text);
    for door in &mut draft.doors {
        read_one_time_sequence(door, &mut draft.found);
        read_keys(door, &mut draft.found);
        read_totp(door, &mut draft.found);
        check_programs(door, &mut draft.found);
    }
    fwknop_checks::check_number_of_keys(&draft.doors, &mut draft.found);
    parse::finish(draft, text.len())
}

/// Reads a regular file of at most [`MAX_FILE`] bytes. Never blocks on a pipe or device.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Without O_NONBLOCK, opening a pipe waits for its other end.
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
    }
    Ok(text)
}

/// Sets the door's sequence to the first unused sequence of its file.
fn read_one_time_sequence(draft: &mut DoorDraft, found: &mut Findings) {
    let (Some(path), Some(place)) = (&draft.door.one_time_sequences, draft.seen.get(&Key::OneTimeSequences)) else {
        return;
    };
    let error = |code, message: String| Diagnostic::error(code, place.value.clone(), message);
    let name = shown_path(path);
    let text = match read_file(path) {
        Ok(text) => text,
        Err(reason) => {
            let message = format!("cannot read the one-time sequences in {name}: {reason}");
            let help = "create the file, with one sequence on each line and a space before each";
            return found.push(error(codes::ONE_TIME_UNREADABLE, message).help(help));
        }
    };
    let mut unused = unused_lines(&text).peekable();
    if unused.peek().is_none() {
        let message = format!("no unused sequence is left in {name}");
        let help = "write new sequences into the file, one on each line and a space before each";
        found.push(error(codes::ONE_TIME_CONSUMED, message).help(help));
    }
    // All lines are checked now: otherwise an invalid line would close the door only when its turn
    // comes.
    for line in unused {
        match line.sequence {
            Ok(sequence) => {
                draft.door.sequence.get_or_insert(sequence);
            }
            Err(why) => {
                let help = "fix the line, or put a `#` at its beginning";
                let message = format!("{name}, line {}: {why}", line.number);
                found.push(error(codes::ONE_TIME_BAD_LINE, message).help(help));
            }
        }
    }
}

/// Sets the door's keys to those of its file.
fn read_keys(draft: &mut DoorDraft, found: &mut Findings) {
    let (Some(path), Some(place)) = (&draft.door.key_file, draft.seen.get(&Key::Keys)) else { return };
    let empty = |help| {
        let message = format!("{} contains no key, so no client opens the door", shown_path(path));
        Diagnostic::warning(codes::EMPTY_KEY_FILE, place.value.clone(), message).help(help)
    };
    let bad = |error: KeyFileError| Diagnostic::error(codes::BAD_KEY_FILE, place.value.clone(), error.to_string());
    if draft.door.packet == Some(PacketFormat::Fwknop) {
        match load_fwknop_keys(path) {
            Ok(keys) => {
                if keys.is_empty() {
                    found.push(empty("add the keys of each client; `portknock keygen --fwknop` prints them"));
                }
                draft.door.fwknop_keys = keys;
            }
            Err(error) => found.push(bad(error)),
        }
        return;
    }
    match load_key_file(path) {
        Ok(keys) => {
            if keys.is_empty() {
                found.push(empty("add a line for each client; `portknock keygen` prints it"));
            }
            if draft.door.time_sequence.is_some() && keys.len() > MAX_TIME_KEYS {
                let message = format!(
                    "{} has {} keys; doors with `sequence = time` have at most {MAX_TIME_KEYS} in all",
                    shown_path(path),
                    keys.len()
                );
                let help = "use `packet = portknock` for so many clients";
                found.push(Diagnostic::error(codes::BAD_KEY_FILE, place.value.clone(), message).help(help));
            }
            draft.door.keys = keys;
        }
        Err(error) => found.push(bad(error)),
    }
}

/// Sets the door's secret for codes to that of its file.
fn read_totp(draft: &mut DoorDraft, found: &mut Findings) {
    let (Some(path), Some(place)) = (&draft.door.totp_file, draft.seen.get(&Key::TotpSecret)) else { return };
    let span = place.value.clone();
    let key = match load_totp_file(path) {
        Ok(key) => key,
        Err(error) => {
            let help = "`portknock keygen --totp` makes a secret for the file";
            return found.push(Diagnostic::error(codes::BAD_KEY_FILE, span, error.to_string()).help(help));
        }
    };
    if key.secret.len() < RECOMMENDED_SECRET_LENGTH {
        let message =
            format!("the secret has {} bytes; it should have {RECOMMENDED_SECRET_LENGTH} or more", key.secret.len());
        let help = "make a new secret with `portknock keygen --totp`, and add it to the app";
        found.push(Diagnostic::warning(codes::SHORT_CODE_SECRET, span.clone(), message).help(help));
    }
    if let (Some(digits), Some(code)) = (key.digits, &draft.door.code)
        && digits != code.digits()
    {
        let message = format!("the app shows {digits} digits, and the sequence contains {}", code.digits());
        let help = "write one question mark for each digit that the app shows";
        found.push(Diagnostic::error(codes::CODE_DIGITS, span, message).help(help));
    }
    draft.door.totp = Some(Arc::new(key));
}

/// Warns of commands whose programs are missing or not executable on this host.
fn check_programs(draft: &DoorDraft, found: &mut Findings) {
    let Door { start_command, stop_command, start_command_6, stop_command_6, .. } = &draft.door;
    for (key, command) in [
        (Key::StartCommand, start_command),
        (Key::StopCommand, stop_command),
        (Key::StartCommand6, start_command_6),
        (Key::StopCommand6, stop_command_6),
    ] {
        if let (Some(place), Some(program)) = (draft.seen.get(&key), command.as_deref().and_then(missing_program)) {
            let message = format!("the program {} is missing or not executable on this host", quoted(program));
            let help = "correct the path, or install the program; until then the command fails";
            found.push(Diagnostic::warning(codes::MISSING_PROGRAM, place.value.clone(), message).help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_json;
    use crate::fwknop::{FwknopKey, HmacDigest};
    use crate::keys;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn a_missing_program_causes_a_warning() {
        let text = "[door]\nsequence = 3,1,2\nstart_command = /bin/sh -c x\nstop_command = /sbin/no-such x\n";
        let report = load_text(text.as_bytes()).report;
        let found: Vec<_> = report.diagnostics.iter().map(|found| (found.code, found.message.as_str())).collect();
        let message = "the program `/sbin/no-such` is missing or not executable on this host";
        assert_eq!(found, [(codes::MISSING_PROGRAM, message)]);
        assert!(parse::parse(text.as_bytes()).report.diagnostics.is_empty(), "`parse` reads no files");
    }

    #[test]
    fn the_first_unused_one_time_sequence_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("list");
        fs::write(&list, "#1,2,3\n\n # used\n 7,5:udp,6 # Monday\n 9,8\n").unwrap();
        let file = directory.path().join("knockd.conf");
        fs::write(&file, format!("[a]\none_time_sequences = {}\n", list.display())).unwrap();
        let loaded = load(&file).unwrap();
        let door = &loaded.config.unwrap().doors[0];
        assert_eq!(door.sequence.as_ref().unwrap().to_string(), "7,5:udp,6");
        assert_eq!(door.one_time_sequences.as_ref(), Some(&list));
        assert_eq!(loaded.report, Report::default());
    }

    #[test]
    fn errors_in_the_text_and_in_one_time_files_are_reported_together() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("list");
        fs::write(&list, "7,x\n#\n8:y\n").unwrap();
        let file = directory.path().join("knockd.conf");
        let text = format!("[a]\none_time_sequences = {}\nseq_timeout = 0\n", list.display());
        fs::write(&file, &text).unwrap();
        let loaded = load(&file).unwrap();
        assert_eq!(loaded.config, None);
        let found: Vec<_> = loaded.report.diagnostics.iter().map(|found| found.code).collect();
        assert_eq!(found, [codes::ONE_TIME_BAD_LINE, codes::ONE_TIME_BAD_LINE, codes::NUMBER_RANGE]);
        let first = &loaded.report.diagnostics[0];
        assert_eq!(first.message, format!("{}, line 1: `x` is not a port number", list.display()));
        assert_eq!(&text[first.span.clone()], list.to_str().unwrap());
    }

    #[test]
    fn keys_are_loaded_and_their_errors_are_reported_without_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys");
        let text = format!("[a]\nsequence = time\nkeys = {}\n", file.display());
        let load = |lines: &str, mode| {
            fs::write(&file, lines).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let Parsed { config, report } = load_text(text.as_bytes());
            let loaded = Loaded { config, report, text: text.clone().into() };
            let found: Vec<_> = loaded.report.diagnostics.iter().map(|found| found.code).collect();
            (loaded.clone(), found)
        };
        let key = |number| keys::Key::from_bytes([number; 32]).to_text().to_string();
        let (loaded, found) = load(&format!("alice {}\nbob {}\n", key(1), key(2)), 0o600);
        assert_eq!(found, [""; 0]);
        assert_eq!(loaded.keyed_doors().collect::<Vec<_>>(), ["a: time sequence of 5 steps, 2 keys"]);
        let config = loaded.config.as_ref().unwrap();
        assert_eq!(config.doors[0].keys.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["alice", "bob"]);
        let json = check_json("f", text.as_bytes(), &loaded.report, Some(config));
        for shown in [json, config.to_string(), format!("{loaded:?}")] {
            assert!(!shown.contains(&key(1)[4..20]) && !shown.contains("[1, 1"), "{shown}");
        }
        assert_eq!(load("# none\n", 0o600).1, [codes::EMPTY_KEY_FILE]);
        let (wrong, found) = load(&format!("alice {}x\n", key(1)), 0o600);
        assert_eq!(found, [codes::BAD_KEY_FILE]);
        assert!(!format!("{wrong:?}").contains(&key(1)[4..20]));
        let (mut exposed, found) = load(&format!("alice {}\n", key(1)), 0o644);
        assert_eq!(found, [codes::BAD_KEY_FILE]);
        exposed.check_deployment(Some(&file), false);
        assert_eq!(exposed.report.diagnostics.len(), 1, "one finding about one file");
    }

    #[test]
    fn more_than_fifty_keys_of_fwknop_cause_a_warning() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, numbers: std::ops::Range<u8>| {
            let key = |number| {
                FwknopKey::new(&format!("{name}{number}"), None, &[number], HmacDigest::Sha256, &[number]).unwrap()
            };
            let text: String = numbers.map(|number| key(number).server_lines().to_string()).collect();
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            path.display().to_string()
        };
        let (few, many, one) = (write("few", 0..50), write("many", 100..151), write("one", 60..61));
        let found = |files: &[&str]| -> Vec<&'static str> {
            let door = |(number, file): (u16, &&str)| {
                format!("[d{number}]\npacket = fwknop\nkeys = {file}\nopen = tcp/{}\n", number + 22)
            };
            let text: String = (0..).zip(files).map(door).collect();
            let Parsed { config, report } = load_text(text.as_bytes());
            assert!(config.unwrap().doors.iter().all(|door| door.keys.is_empty()));
            report.diagnostics.iter().map(|found| found.code).collect()
        };
        assert_eq!(found(&[&few]), [""; 0]);
        assert_eq!(found(&[&few, &few]), [""; 0], "a file counts once");
        assert_eq!(found(&[&many]), [codes::MANY_FWKNOP_KEYS]);
        assert_eq!(found(&[&few, &one]), [codes::MANY_FWKNOP_KEYS]);
        assert_eq!(found(&[&write("none", 0..0)]), [codes::EMPTY_KEY_FILE]);
        let Parsed { config, report } = load_text(format!("[a]\npacket = fwknop\nkeys = {one}\n").as_bytes());
        let json = check_json("f", b"", &report, config.as_ref());
        assert!(json.contains(r#""packet":"fwknop","packet_address":"any""#), "{json}");
        assert!(!format!("{config:?}").contains("[60]"));
    }

    #[test]
    fn a_file_that_is_not_regular_or_too_large_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let huge = directory.path().join("huge");
        File::create(&huge).unwrap().set_len(MAX_FILE + 1).unwrap();
        let message = |path: &Path| load(path).unwrap_err().to_string();
        assert_eq!(message(Path::new("/dev/zero")), "/dev/zero: not a regular file");
        assert_eq!(message(&pipe), format!("{}: not a regular file", pipe.display()));
        assert_eq!(message(&huge), format!("{}: larger than 16 MiB", huge.display()));
        assert_eq!(message(directory.path()), format!("{}: is a directory", directory.path().display()));
        let missing = load(Path::new("/nowhere/knockd.conf")).unwrap_err();
        assert_eq!(missing.path, Path::new("/nowhere/knockd.conf"));
        assert_eq!(missing.reason.kind(), io::ErrorKind::NotFound);
    }
}
