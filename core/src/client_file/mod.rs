//! A client's file: its key, and how it knocks at one server. `portknock keygen` writes it.
//!
//! Each line has the form `setting = value`. Empty lines and lines that begin with `#` are ignored.
//!
//! | setting | value | default |
//! |---|---|---|
//! | `name` | the client's name in the server's key file | required |
//! | `key` | the client's own key, `pk1:…` | required |
//! | `server` | the server; the key that it shares with the client is derived for this name | none: it has the client's own key |
//! | `form` | `time` or `packet` | `time` |
//! | `door` | the name of the door | required for packets |
//! | `port` | the UDP port of packets | 62201 |
//! | `time_steps` | number of steps of a time sequence, 1 to 8 | 5 |
//! | `time_ports` | their ports, as in `20000-60000` | 1024-65535 |
//! | `time_protocols` | `tcp`, `udp` or `both` | `tcp` |
//! | `time_step` | length of a window, in seconds: 10, 30, 60, 120, 300, 600, 1800 or 3600 | 30 |

mod parse;

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::config::{DEFAULT_PACKET_PORT, Sequence, TimeSequence, WINDOW_SECONDS_TEXT};
use crate::keys::{Key, KeyFileError, KeyTextError, MAX_NAME_LENGTH, is_name, read_private_file};
use crate::printable::{Printable, shown_path};
use crate::spa::{self, MAX_DOOR_LENGTH, PACKET_LENGTH, PacketContent, PacketError};
use crate::time::Timestamp;

pub use parse::{parse_port_range, parse_window};

/// Maximum length of the name of a server, in bytes.
const MAX_SERVER_LENGTH: usize = 255;

/// The content of a client's file. `Debug` does not show the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFile {
    /// The client's name, which the server's key file has, too.
    pub name: String,
    /// The client's own key. See [`ClientFile::shared_key`].
    pub key: Key,
    /// The server that the key is derived for, and the default host to knock at.
    pub server: Option<String>,
    /// The form of the client's knocks.
    pub form: ClientForm,
    /// The name of the door. Packets need it.
    pub door: Option<String>,
    /// The UDP port that packets are sent to.
    pub port: NonZeroU16,
    /// How time sequences follow from the key.
    pub time: TimeSequence,
}

/// The form of a client's knocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientForm {
    /// The sequence of the present window.
    #[default]
    Time,
    /// One packet.
    Packet,
}

impl ClientForm {
    /// Returns the name in files and options.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Packet => "packet",
        }
    }
}

impl FromStr for ClientForm {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "time" => Ok(Self::Time),
            "packet" => Ok(Self::Packet),
            _ => Err(SettingError::Form),
        }
    }
}

/// An error of a client's file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientFileError {
    /// The file cannot be read, or other users can read it.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// A line is invalid: the number of the line, counted from 1, and the reason.
    #[error("{path}:{1}: {2}", path = shown_path(.0))]
    BadLine(PathBuf, usize, SettingError),
    /// The settings are not complete, or do not fit each other.
    #[error("{path}: {1}", path = shown_path(.0))]
    Settings(PathBuf, SettingError),
    /// The file cannot be created.
    #[error("cannot create the client's file {path}: {1}{advice}", path = shown_path(.0), advice = advice(.1))]
    NotCreated(PathBuf, #[source] io::Error),
}

/// The reason why the settings of a client's file are invalid. It never contains any part of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// The line is not text.
    #[error("the line is not valid UTF-8")]
    NotText,
    /// The line has no `=`.
    #[error("write `setting = value`")]
    NoValue,
    /// There is no such setting.
    #[error("there is no such setting; the settings are {}", parse::SETTINGS.join(", "))]
    Unknown,
    /// An earlier line has the same setting. The value is the number of that line.
    #[error("line {0} has the same setting")]
    Repeated(usize),
    /// A setting that every file needs is missing.
    #[error("the setting `{0}` is missing")]
    Missing(&'static str),
    /// The name cannot be used.
    #[error("a name has 1 to {MAX_NAME_LENGTH} bytes of printable characters, without spaces and without # in front")]
    Name,
    /// The key is no key.
    #[error(transparent)]
    Key(#[from] KeyTextError),
    /// The server cannot be used.
    #[error("the name of a server has 1 to {MAX_SERVER_LENGTH} bytes of printable characters without spaces")]
    Server,
    /// The form is neither a time sequence nor a packet.
    #[error("there is no such form; the forms are time and packet")]
    Form,
    /// The door's name does not fit into a packet.
    #[error("the name of a door has 1 to {MAX_DOOR_LENGTH} bytes of printable characters")]
    Door,
    /// A packet needs the name of a door.
    #[error("packets need the name of a door: the setting `door` is missing")]
    NoDoor,
    /// The port is not a number from 1 to 65535.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// The number of steps is out of range.
    #[error("a time sequence has 1 to 8 steps")]
    TimeSteps,
    /// The ports are not a range.
    #[error("write the ports as LOW-HIGH, two numbers from 1 to 65535, as in 20000-60000")]
    TimePorts,
    /// There are fewer ports than steps.
    #[error("the range of ports must have at least as many ports as the sequence has steps")]
    FewPorts,
    /// There are no such protocols.
    #[error("the protocols are tcp, udp or both")]
    TimeProtocols,
    /// The length of a window is not a number of seconds.
    #[error("the length of a window is {WINDOW_SECONDS_TEXT} seconds")]
    TimeStep,
}

impl ClientFile {
    /// Reads a client's file. It must belong to root or to the user of this process, and no other
    /// user may read or write it.
    ///
    /// # Errors
    /// See [`ClientFileError`].
    pub fn read(path: &Path) -> Result<Self, ClientFileError> {
        Self::parse(&read_private_file(path)?, path)
    }

    /// Parses the text of a client's file. `path` stands for the file in errors.
    ///
    /// # Errors
    /// [`ClientFileError::BadLine`] and [`ClientFileError::Settings`].
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, ClientFileError> {
        parse::parse(text).map_err(|(line, error)| match line {
            Some(line) => ClientFileError::BadLine(path.to_owned(), line, error),
            None => ClientFileError::Settings(path.to_owned(), error),
        })
    }

    /// Returns the key that the client shares with the server: its own key, or the key that is
    /// derived from it for `server`.
    pub fn shared_key(&self) -> Key {
        self.server.as_ref().map_or_else(|| self.key.clone(), |server| self.key.for_server(server))
    }

    /// Returns the sequence that the client sends at a time by the wall clock.
    pub fn sequence_at(&self, wall: Timestamp) -> Sequence {
        self.time.sequence(&self.shared_key(), self.time.window_at(wall))
    }

    /// Returns a new packet of the client for a time by the wall clock. It asks the server to open
    /// `door` for `address`, or for the source of the datagram, and for a number of seconds; 0 means
    /// the door's `cmd_timeout`.
    ///
    /// # Errors
    /// [`PacketError::DoorName`] if the client's file names no door, and
    /// [`PacketError::NoRandomNumbers`].
    pub fn packet_at(
        &self,
        wall: Timestamp,
        address: Option<IpAddr>,
        seconds: u32,
    ) -> Result<[u8; PACKET_LENGTH], PacketError> {
        let door = self.door.clone().unwrap_or_default();
        spa::seal(&self.shared_key(), &PacketContent { time: wall, address, seconds, door })
    }

    /// Returns the line of the server's key file, with its line end. The text is erased from memory
    /// when it is dropped.
    pub fn server_line(&self) -> Zeroizing<String> {
        let key = self.shared_key().to_text();
        let mut line = Zeroizing::new(String::with_capacity(self.name.len() + key.len() + 2));
        for part in [&self.name, " ", &key, "\n"] {
            line.push_str(part);
        }
        line
    }

    /// Checks values that were not read from a file.
    ///
    /// # Errors
    /// Fails if [`ClientFile::read`] would refuse the file with these values.
    pub fn check(&self) -> Result<(), SettingError> {
        let ports = u32::from(self.time.ports.end().get()) + 1 - u32::from(self.time.ports.start().get());
        if !is_name(&self.name) {
            Err(SettingError::Name)
        } else if self.server.as_deref().is_some_and(|server| !is_server(server)) {
            Err(SettingError::Server)
        } else if self.door.as_deref().is_some_and(|door| !is_door(door)) {
            Err(SettingError::Door)
        } else if self.form == ClientForm::Packet && self.door.is_none() {
            Err(SettingError::NoDoor)
        } else if ports < u32::from(self.time.steps) {
            Err(SettingError::FewPorts)
        } else {
            Ok(())
        }
    }

    /// Returns the settings as lines of a file, without those that have their default. The text is
    /// erased from memory when it is dropped.
    pub fn settings(&self) -> Zeroizing<String> {
        // With enough capacity no copy of the key is left behind in memory.
        let mut text = Zeroizing::new(String::with_capacity(1024));
        let mut line = |setting: &str, value: &dyn std::fmt::Display| {
            // Writing to a string never fails.
            let _ = writeln!(text, "{setting} = {value}");
        };
        line("name", &self.name);
        line("key", &*self.key.to_text());
        if let Some(server) = &self.server {
            line("server", server);
        }
        line("form", &self.form.as_str());
        if let Some(door) = &self.door {
            line("door", door);
        }
        if self.port != DEFAULT_PACKET_PORT {
            line("port", &self.port);
        }
        let (time, default) = (&self.time, TimeSequence::default());
        if time.steps != default.steps {
            line("time_steps", &time.steps);
        }
        time_lines(time, &mut line);
        text
    }

    /// Returns the lines of a server's configuration that make a door for clients with these settings,
    /// indented. The key is not part of them.
    pub fn door_lines(&self) -> String {
        let door = self.door.as_deref().unwrap_or("ssh");
        let mut text = String::new();
        if self.form == ClientForm::Packet && self.port != DEFAULT_PACKET_PORT {
            text = format!("    [options]\n    PacketPort = {}\n", self.port);
        }
        // Writing to a string never fails.
        let _ = write!(text, "    [{door}]\n    keys = /etc/portknock/{}.keys\n", door.replace([' ', '/'], "-"));
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "    {key} = {value}");
        };
        match self.form {
            ClientForm::Packet => line("packet", &"portknock"),
            ClientForm::Time => {
                match self.time.steps == TimeSequence::default().steps {
                    true => line("sequence", &"time"),
                    false => line("sequence", &format_args!("time:{}", self.time.steps)),
                }
                time_lines(&self.time, &mut line);
            }
        }
        text
    }

    /// Creates the file, which only its owner can read. Never overwrites a file.
    ///
    /// # Errors
    /// [`ClientFileError::Settings`] if a value is invalid, [`ClientFileError::NotCreated`] if the
    /// file exists or cannot be written.
    pub fn create(&self, path: &Path) -> Result<(), ClientFileError> {
        self.check().map_err(|error| ClientFileError::Settings(path.to_owned(), error))?;
        let not_created = |error| ClientFileError::NotCreated(path.to_owned(), error);
        let head = format!(
            "# A key of portknock for {}. Keep it secret: a knock needs nothing else.\n\
             # To knock: portknock knock --key FILE [HOST]\n",
            self.server.as_ref().map_or_else(|| "one server".to_owned(), |server| Printable(server).to_string()),
        );
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(not_created)?;
        let written = file
            .write_all(head.as_bytes())
            .and_then(|()| file.write_all(self.settings().as_bytes()))
            .and_then(|()| file.sync_all());
        written.map_err(|error| {
            // The file is incomplete, and it is in the way of the next attempt.
            let _ = fs::remove_file(path);
            not_created(error)
        })
    }
}

fn advice(error: &io::Error) -> &'static str {
    if error.kind() == ErrorKind::AlreadyExists { "; existing files are never overwritten" } else { "" }
}

/// Passes the settings of a time sequence that differ from their defaults to `line`, without the number
/// of steps.
fn time_lines(time: &TimeSequence, line: &mut impl FnMut(&str, &dyn std::fmt::Display)) {
    let default = TimeSequence::default();
    if time.ports != default.ports {
        line("time_ports", &format_args!("{}-{}", time.ports.start(), time.ports.end()));
    }
    if time.protocols != default.protocols {
        line("time_protocols", &time.protocols.as_str());
    }
    if time.window != default.window {
        line("time_step", &time.window.as_secs());
    }
}

/// True if the text can be the name of a server.
fn is_server(text: &str) -> bool {
    (1..=MAX_SERVER_LENGTH).contains(&text.len())
        && Printable(text).to_string() == text
        && !text.contains(char::is_whitespace)
}

/// True if the text can be the name of a door in a packet, and be read back from a line.
fn is_door(text: &str) -> bool {
    (1..=MAX_DOOR_LENGTH).contains(&text.len()) && Printable(text).to_string() == text && text.trim() == text
}
