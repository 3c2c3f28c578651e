//! `portknock status`, `close`, `reload` and `events`: requests to the running daemon.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use portknock_core::config::DEFAULT_SOCKET;
use portknock_core::control::{ReloadResult, Request, Response};
use portknock_core::{DisplayNetwork, IpNet, Printable, parse_network};

use crate::output::{print, print_error};
use crate::{FAILURE, SUCCESS};

/// Maximum time until the daemon answers. Reading a configuration with thousands of doors takes it
/// some seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The daemon's control socket.
#[derive(Args, Clone, Debug)]
pub struct SocketArgs {
    /// The daemon's control socket, as ControlSocket in its configuration names it
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
}

/// The arguments of `portknock status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    format: StatusFormat,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Output format of a status.
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
    /// The address for which the door is open, its network, as in 203.0.113.0/24, or any address of
    /// the network
    #[arg(value_parser = addresses)]
    address: IpNet,
    #[command(flatten)]
    socket: SocketArgs,
}

fn addresses(text: &str) -> Result<IpNet, String> {
    parse_network(text).ok_or_else(|| "neither an address nor a network, as in 203.0.113.0/24".into())
}

/// Prints the daemon's status. The exit status is 0, or 1 if no daemon answers.
pub fn status(args: &StatusArgs) -> u8 {
    match ask(&args.socket.socket, &Request::Status) {
        Ok(Response::Status(report)) => {
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

/// Closes a door for an address. The exit status is 0, or 1 if the door is not open for this
/// address.
pub fn close(args: &CloseArgs) -> u8 {
    let CloseArgs { door, address, socket } = args;
    match ask(&socket.socket, &Request::Close { door: door.clone(), addresses: *address }) {
        Ok(Response::Closed(_)) => {
            print(format!("{} is closed for {}\n", Printable(door), DisplayNetwork(*address)).as_bytes());
            SUCCESS
        }
        other => failed(other),
    }
}

/// Makes the daemon read its configuration again, and prints the findings. The exit status is 0 if
/// the new configuration is in force, 1 if the old one stays in force.
pub fn reload(args: &SocketArgs) -> u8 {
    match ask(&args.socket, &Request::Reload) {
        Ok(Response::Reload(ReloadResult { taken, messages })) => {
            let findings: String = messages.iter().map(|line| format!("{line}\n")).collect();
            if taken {
                print(format!("{findings}the configuration is reloaded\n").as_bytes());
                return SUCCESS;
            }
            // If this fails, the exit status still reports the failure.
            let _ = io::stderr().write_all(findings.as_bytes());
            FAILURE
        }
        other => failed(other),
    }
}

/// Prints events as they happen, until a signal ends the program. The exit status is 1 if the
/// daemon closes the connection.
pub fn events(args: &SocketArgs) -> u8 {
    match follow(&args.socket) {
        Ok(()) => print_error("portknock", "the daemon closed the connection"),
        Err(message) => print_error("portknock", message),
    }
}

fn follow(socket: &Path) -> Result<(), String> {
    let mut reader = request(socket, &Request::Events)?;
    let mut lines = Vec::new();
    loop {
        let start = lines.len();
        let count = reader.read_until(b'\n', &mut lines).map_err(|error| lost(socket, &error))?;
        let error = Response::error_among_events(&lines[start..]);
        if error.is_some() {
            lines.truncate(start);
        }
        // Lines that arrived together are written together.
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

/// Sends a request and reads the answer.
fn ask(socket: &Path, asked: &Request) -> Result<Response, String> {
    let mut reader = request(socket, asked)?;
    reader.get_ref().set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(|error| lost(socket, &error))?;
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(|error| lost(socket, &error))?;
    if line.is_empty() {
        return Err("the daemon closed the connection without an answer".to_owned());
    }
    Response::parse(&line)
}

/// Connects and sends a request.
fn request(socket: &Path, request: &Request) -> Result<BufReader<UnixStream>, String> {
    let mut stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    match stream.write_all(request.to_line().as_bytes()) {
        // The daemon sends its refusal without reading the request.
        Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            Err(lost(socket, &error))
        }
        _ => Ok(BufReader::new(stream)),
    }
}

/// The message for a socket at which no daemon answers, with advice.
fn unreachable(socket: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        ErrorKind::NotFound => {
            "is portknockd running? If its configuration sets ControlSocket, use --socket with that path"
        }
        // connect(2) returns this error for a file that is not a socket, too.
        ErrorKind::ConnectionRefused if fs::metadata(socket).is_ok_and(|file| !file.file_type().is_socket()) => {
            return format!(
                "{} is not a socket; use --socket with the path of the daemon's ControlSocket",
                shown(socket)
            );
        }
        ErrorKind::ConnectionRefused => "a portknockd that exited left the socket behind; start it again",
        ErrorKind::PermissionDenied => "only root and the user that portknockd runs as can control it",
        _ => return format!("no daemon answers at {}: {error}", shown(socket)),
    };
    format!("no daemon answers at {}: {error}; {advice}", shown(socket))
}

fn lost(socket: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock => {
            format!("the daemon at {} did not answer within {} seconds", shown(socket), ANSWER_TIMEOUT.as_secs())
        }
        _ => format!("lost the connection to the daemon at {}: {error}", shown(socket)),
    }
}

fn refused(error: &str) -> String {
    format!("the daemon reports: {}", Printable(error))
}

/// Reports an answer that does not match the request.
fn failed(answer: Result<Response, String>) -> u8 {
    match answer {
        Err(message) => print_error("portknock", message),
        Ok(Response::Error(error)) => print_error("portknock", refused(&error)),
        Ok(_) => print_error("portknock", "the daemon sent an unexpected answer; is its version that of portknock?"),
    }
}

fn shown(path: &Path) -> String {
    Printable(&path.to_string_lossy()).to_string()
}
