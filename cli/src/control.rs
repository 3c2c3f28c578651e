//! `portknock status`, `close`, `reload` and `events`: asking the running daemon.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use portknock_core::control::{Answer, DEFAULT_SOCKET, Reload, Request};
use portknock_core::{IpNet, Printable, Written, parse_network};

use crate::output::{complain, print};
use crate::{FAILURE, SUCCESS};

/// How long the daemon may take to answer: to read a configuration with thousands of doors takes it some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the daemon is asked.
#[derive(Args, Clone, Debug)]
pub struct SocketArgs {
    /// The daemon's control socket, as its configuration's ControlSocket names it
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
}

/// The arguments of `portknock status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// How to write the status
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    format: StatusFormat,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How a status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StatusFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// For Prometheus
    Prometheus,
}

/// The arguments of `portknock close`.
#[derive(Args, Clone, Debug)]
pub struct CloseArgs {
    /// The door's name
    door: String,
    /// The address that it is open for; or the network, as in 203.0.113.0/24, or any address of it
    #[arg(value_parser = addresses)]
    address: IpNet,
    #[command(flatten)]
    socket: SocketArgs,
}

fn addresses(text: &str) -> Result<IpNet, String> {
    parse_network(text).ok_or_else(|| "neither an address nor a network, as in 203.0.113.0/24".into())
}

/// Prints the daemon's status. The exit status is 0, or 1 where no daemon answers.
pub fn status(args: &StatusArgs) -> u8 {
    match ask(&args.socket.socket, &Request::Status) {
        Ok(Answer::Status(report)) => {
            let text = match args.format {
                StatusFormat::Text => report.text(),
                StatusFormat::Json => report.json() + "\n",
                StatusFormat::Prometheus => report.prometheus(),
            };
            print(text.as_bytes());
            SUCCESS
        }
        other => failed(other),
    }
}

/// Closes a door for an address. The exit status is 0, or 1 where it is not open.
pub fn close(args: &CloseArgs) -> u8 {
    let CloseArgs { door, address, socket } = args;
    match ask(&socket.socket, &Request::Close { door: door.clone(), addresses: *address }) {
        Ok(Answer::Closed(_)) => {
            print(format!("{} is closed for {}\n", Printable(door), Written(*address)).as_bytes());
            SUCCESS
        }
        other => failed(other),
    }
}

/// Has the daemon read its configuration again, and prints what it has to say about it. The exit status is 0 where the
/// new one is in force, 1 where the old one stays.
pub fn reload(args: &SocketArgs) -> u8 {
    match ask(&args.socket, &Request::Reload) {
        Ok(Answer::Reload(Reload { taken, messages })) => {
            let findings: String = messages.iter().map(|line| format!("{line}\n")).collect();
            if taken {
                print(format!("{findings}the configuration is reloaded\n").as_bytes());
                return SUCCESS;
            }
            // Where this fails, the exit status still tells.
            let _ = io::stderr().write_all(findings.as_bytes());
            FAILURE
        }
        other => failed(other),
    }
}

/// Prints events as they happen, until it is ended. The exit status is 1 where the daemon ends it.
pub fn events(args: &SocketArgs) -> u8 {
    match follow(&args.socket) {
        Ok(()) => complain("portknock", "the daemon has ended the connection"),
        Err(message) => complain("portknock", message),
    }
}

fn follow(socket: &Path) -> Result<(), String> {
    let mut reader = request(socket, &Request::Events)?;
    let mut lines = Vec::new();
    loop {
        let start = lines.len();
        let count = reader.read_until(b'\n', &mut lines).map_err(|error| lost(socket, &error))?;
        let error = Answer::error_among_events(&lines[start..]);
        if error.is_some() {
            lines.truncate(start);
        }
        // What came together is written together.
        if count == 0 || error.is_some() || !reader.buffer().contains(&b'\n') {
            print(&lines);
            lines.clear();
        }
        match error {
            Some(error) => return Err(refused(&error)),
            None if count == 0 => return Ok(()),
            None => {}
        }
    }
}

/// Sends a request and takes the answer.
fn ask(socket: &Path, question: &Request) -> Result<Answer, String> {
    let mut reader = request(socket, question)?;
    reader.get_ref().set_read_timeout(Some(PATIENCE)).map_err(|error| lost(socket, &error))?;
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(|error| lost(socket, &error))?;
    if line.is_empty() {
        return Err("the daemon has ended the connection without an answer".to_owned());
    }
    Answer::parse(&line)
}

/// Connects and sends a request.
fn request(socket: &Path, request: &Request) -> Result<BufReader<UnixStream>, String> {
    let mut stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    match stream.write_all(request.to_line().as_bytes()) {
        // Whoever is refused is told why without being heard.
        Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            Err(lost(socket, &error))
        }
        _ => Ok(BufReader::new(stream)),
    }
}

/// Why there is no daemon at `socket`, and what to do.
fn unreachable(socket: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        ErrorKind::NotFound => {
            "is portknockd running? Where its configuration has a ControlSocket, name that with --socket"
        }
        // Also what connect(2) says of a file that is no socket.
        ErrorKind::ConnectionRefused if fs::metadata(socket).is_ok_and(|file| !file.file_type().is_socket()) => {
            return format!("{} is not a socket; name the daemon's ControlSocket with --socket", shown(socket));
        }
        ErrorKind::ConnectionRefused => "a portknockd that ended left the socket behind; start it again",
        ErrorKind::PermissionDenied => "only root and the user of portknockd may control it",
        _ => return format!("no daemon answers at {}: {error}", shown(socket)),
    };
    format!("no daemon answers at {}: {error}; {advice}", shown(socket))
}

fn lost(socket: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock => {
            format!("the daemon at {} has not answered for {} seconds", shown(socket), PATIENCE.as_secs())
        }
        _ => format!("the connection to the daemon at {} is lost: {error}", shown(socket)),
    }
}

fn refused(error: &str) -> String {
    format!("the daemon says: {}", Printable(error))
}

/// Complains of what is not the answer that was asked for.
fn failed(answer: Result<Answer, String>) -> u8 {
    match answer {
        Err(message) => complain("portknock", message),
        Ok(Answer::Error(error)) => complain("portknock", refused(&error)),
        Ok(_) => complain("portknock", "the daemon has answered something else; is it of another version?"),
    }
}

fn shown(path: &Path) -> String {
    Printable(&path.to_string_lossy()).to_string()
}
