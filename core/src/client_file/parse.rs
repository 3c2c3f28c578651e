//! Parsing the lines of a client's file.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::{ClientFile, ClientForm, SettingError, is_door, is_server};
use crate::config::{DEFAULT_PACKET_PORT, MAX_TIME_STEPS, TimeSequence, WINDOW_SECONDS};
use crate::keys::{Key, is_name};

/// The settings in the order in which a file is written.
pub(super) const SETTINGS: [&str; 10] =
    ["name", "key", "server", "form", "door", "port", "time_steps", "time_ports", "time_protocols", "time_step"];

/// The settings so far.
#[derive(Default)]
struct Draft {
    /// The number of the line of each setting.
    lines: [Option<usize>; SETTINGS.len()],
    name: Option<String>,
    key: Option<Key>,
    server: Option<String>,
    form: ClientForm,
    door: Option<String>,
    port: Option<NonZeroU16>,
    time: TimeSequence,
}

/// Returns the content of a file, or an error and the number of its line if it has one.
pub(super) fn parse(bytes: &[u8]) -> Result<ClientFile, (Option<usize>, SettingError)> {
    let mut draft = Draft::default();
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        draft.read(number, line).map_err(|error| (Some(number), error))?;
    }
    draft.finish().map_err(|error| (None, error))
}

impl Draft {
    fn read(&mut self, number: usize, line: &[u8]) -> Result<(), SettingError> {
        let line = std::str::from_utf8(line).map_err(|_| SettingError::NotText)?.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (setting, value) = line.split_once('=').ok_or(SettingError::NoValue)?;
        let (setting, value) = (setting.trim(), value.trim());
        let index = SETTINGS.iter().position(|&name| name == setting).ok_or(SettingError::Unknown)?;
        if let Some(earlier) = self.lines[index].replace(number) {
            return Err(SettingError::Repeated(earlier));
        }
        let text = |valid: bool, error| if valid { Ok(Some(value.to_owned())) } else { Err(error) };
        match setting {
            "name" => self.name = text(is_name(value), SettingError::Name)?,
            "key" => self.key = Some(value.parse()?),
            "server" => self.server = text(is_server(value), SettingError::Server)?,
            "form" => self.form = value.parse()?,
            "door" => self.door = text(is_door(value), SettingError::Door)?,
            "port" => self.port = Some(number_in(value).ok_or(SettingError::Port)?),
            "time_steps" => {
                let steps = number_in(value).filter(|steps| (1..=MAX_TIME_STEPS).contains(steps));
                self.time.steps = steps.ok_or(SettingError::TimeSteps)?;
            }
            "time_ports" => self.time.ports = parse_port_range(value)?,
            "time_protocols" => {
                self.time.protocols = value.parse().map_err(|_| SettingError::TimeProtocols)?;
            }
            _ => self.time.window = parse_window(value)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<ClientFile, SettingError> {
        let file = ClientFile {
            name: self.name.ok_or(SettingError::Missing("name"))?,
            key: self.key.ok_or(SettingError::Missing("key"))?,
            server: self.server,
            form: self.form,
            door: self.door,
            port: self.port.unwrap_or(DEFAULT_PACKET_PORT),
            time: self.time,
        };
        file.check().map(|()| file)
    }
}

/// Parses the ports of a time sequence, as in `20000-60000`.
///
/// # Errors
/// [`SettingError::TimePorts`].
pub fn parse_port_range(text: &str) -> Result<RangeInclusive<NonZeroU16>, SettingError> {
    let (low, high) = text.split_once('-').ok_or(SettingError::TimePorts)?;
    match (number_in::<NonZeroU16>(low.trim()), number_in(high.trim())) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        _ => Err(SettingError::TimePorts),
    }
}

/// Parses the length of a window, in seconds.
///
/// # Errors
/// [`SettingError::TimeStep`].
pub fn parse_window(text: &str) -> Result<Duration, SettingError> {
    let seconds = number_in(text).filter(|seconds| WINDOW_SECONDS.contains(seconds));
    seconds.map(Duration::from_secs).ok_or(SettingError::TimeStep)
}

/// Parses a number, which `FromStr` would also accept with a sign.
fn number_in<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::super::ClientFileError;
    use super::*;
    use crate::config::StepProtocols;
    use crate::keys::tests::counting_key;

    fn minimal() -> ClientFile {
        ClientFile {
            name: "alice".to_owned(),
            key: counting_key(),
            server: None,
            form: ClientForm::Time,
            door: None,
            port: DEFAULT_PACKET_PORT,
            time: TimeSequence::default(),
        }
    }

    fn complete() -> ClientFile {
        let time = TimeSequence {
            steps: 8,
            ports: parse_port_range("20000-60000").unwrap(),
            protocols: StepProtocols::Both,
            window: Duration::from_secs(60),
        };
        ClientFile {
            server: Some("web1.example".to_owned()),
            form: ClientForm::Packet,
            door: Some("my door = #1".to_owned()),
            port: NonZeroU16::MIN,
            time,
            ..minimal()
        }
    }

    fn error(text: &str) -> (Option<usize>, String) {
        let (line, error) = parse(text.as_bytes()).unwrap_err();
        let key = counting_key().to_text();
        assert!(!format!("{error:?} {error}").contains(&key[4..20]), "{error}");
        (line, error.to_string())
    }

    #[test]
    fn settings_are_read_back() {
        for file in [minimal(), complete()] {
            assert_eq!(parse(file.settings().as_bytes()), Ok(file));
        }
        let lines = |file: ClientFile| file.settings().lines().count();
        assert_eq!((lines(minimal()), lines(complete())), (3, SETTINGS.len()));
    }

    #[test]
    fn spaces_comments_and_line_ends_do_not_matter() {
        let key = counting_key().to_text();
        let text = format!("# x\r\n\r\n  name=alice\r\n\tkey\t=  {}  \r\n#form = packet\r\n", *key);
        assert_eq!(parse(text.as_bytes()), Ok(minimal()));
        let time = TimeSequence { protocols: StepProtocols::Udp, ..TimeSequence::default() };
        let text = format!("name = alice\nkey = {}\ntime_protocols = UDP", *key);
        assert_eq!(parse(text.as_bytes()), Ok(ClientFile { time, ..minimal() }));
    }

    #[test]
    fn an_error_has_its_line_and_no_part_of_a_key() {
        let key = counting_key().to_text();
        let with = |line: &str| format!("name = alice\nkey = {}\n{line}\n", *key);
        for (line, message) in [
            (key.as_str(), "write `setting = value`"),
            ("pk1:AAECAwQF = 1", "there is no such setting; the settings are name, key, server, form, door, port, "),
            (&format!("name = {}", *key), "line 1 has the same setting"),
            (&format!("server = {} x", *key), "the name of a server has 1 to 255 bytes"),
            (&format!("form = {}", *key), "there is no such form; the forms are time and packet"),
            (&format!("door = {}", *key), "the name of a door has 1 to 30 bytes"),
            ("door =", "the name of a door has 1 to 30 bytes"),
            ("port = 0", "a port is a number from 1 to 65535"),
            ("port = +1", "a port is a number from 1 to 65535"),
            ("time_steps = 9", "a time sequence has 1 to 8 steps"),
            ("time_ports = 5", "write the ports as LOW-HIGH"),
            ("time_ports = 6-5", "write the ports as LOW-HIGH"),
            ("time_protocols = sctp", "the protocols are tcp, udp or both"),
            ("time_step = 9", "the length of a window is 10, 30, 60, 120, 300, 600, 1800 or 3600 seconds"),
            ("time_step = 31", "the length of a window is 10, 30, 60, 120, 300, 600, 1800 or 3600 seconds"),
            ("time_step = 3601", "the length of a window is 10, 30, 60, 120, 300, 600, 1800 or 3600 seconds"),
        ] {
            let (number, found) = error(&with(line));
            assert!(number == Some(3) && found.starts_with(message), "{line}: {found}");
        }
        assert_eq!(error("key = pk1:AAECAwQF").0, Some(1));
        let (number, found) = error(&format!("name = {}", *key));
        assert!(number == Some(1) && found.starts_with("a name has 1 to 64 bytes"), "{found}");
        assert_eq!(error("name = alice"), (None, "the setting `key` is missing".to_owned()));
        assert_eq!(error(""), (None, "the setting `name` is missing".to_owned()));
        assert_eq!(error(&with("form = packet")).1, "packets need the name of a door: the setting `door` is missing");
        assert!(error(&with("time_ports = 1-4")).1.starts_with("the range of ports must have at least"));
        assert_eq!(parse(b"\xff").unwrap_err(), (Some(1), SettingError::NotText));
    }

    #[test]
    fn a_file_is_created_for_its_owner_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alice.key");
        complete().create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(ClientFile::read(&path).unwrap(), complete());
        let before = fs::read(&path).unwrap();
        let message = minimal().create(&path).unwrap_err().to_string();
        assert!(message.ends_with("File exists (os error 17); existing files are never overwritten"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let message = ClientFile::read(&path).unwrap_err().to_string();
        assert!(message.contains("run chmod 600 "), "{message}");
    }

    #[test]
    fn invalid_values_create_no_file() {
        let path = Path::new("/nonexistent/alice.key");
        for file in [
            ClientFile { name: "a b".to_owned(), ..minimal() },
            ClientFile { server: Some("a\nb".to_owned()), ..minimal() },
            ClientFile { door: Some("x ".to_owned()), ..minimal() },
            ClientFile { form: ClientForm::Packet, ..minimal() },
        ] {
            assert!(matches!(file.create(path), Err(ClientFileError::Settings(..))));
        }
        assert!(matches!(minimal().create(path), Err(ClientFileError::NotCreated(..))));
    }

    #[test]
    fn the_shared_key_is_that_of_the_server() {
        assert!(minimal().shared_key() == counting_key());
        assert!(complete().shared_key() == counting_key().for_server("web1.example"));
        let expected = format!("alice {}\n", *counting_key().for_server("web1.example").to_text());
        assert_eq!(*complete().server_line(), expected);
        assert!(format!("{:?}", complete()).contains("key: Key(..)"));
    }
}
