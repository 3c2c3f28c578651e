//! `portknock keygen`: makes a key, and prints or writes it for both sides.

use std::io::{self, IsTerminal, Write as _};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use portknock_core::client_file::{ClientFile, ClientForm, parse_port_range, parse_window};
use portknock_core::config::{MAX_TIME_STEPS, StepProtocols};
use portknock_core::keys::Key;
use portknock_core::sys::privileges;
use portknock_core::{Printable, TimeSequence};

use crate::keygen_fwknop::{self, FwknopArgs};
use crate::output::{print, print_error};
use crate::{FAILURE, SUCCESS, USAGE, qr};

/// The arguments of `portknock keygen`.
#[derive(Args, Clone, Debug)]
pub struct KeygenArgs {
    /// Derive the key that the server gets for this server. A client can then have one key for
    /// several servers, and knocks for one of them mean nothing to the others. The name is also the
    /// default host of portknock knock
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
    /// Take the client's own key from this file, which was made with --server, instead of a new one
    #[arg(long, value_name = "FILE", requires = "server")]
    from: Option<PathBuf>,
    /// How the client knocks
    #[arg(long, value_enum, default_value_t = Form::Time)]
    form: Form,
    /// The name of the door that packets ask for
    #[arg(long, value_name = "DOOR", required_if_eq("form", "packet"))]
    door: Option<String>,
    /// The UDP port of packets, one of those that PacketPort in the server's configuration names
    #[arg(long, value_name = "PORT", default_value = "62201")]
    port: NonZeroU16,
    /// Number of steps of a time sequence
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = steps())]
    steps: u8,
    /// The ports of time sequences
    #[arg(long, value_name = "LOW-HIGH", default_value = "1024-65535", value_parser = parse_port_range)]
    ports: RangeInclusive<NonZeroU16>,
    /// The protocols of time sequences
    #[arg(long, value_enum, default_value_t = Protocols::Tcp)]
    protocols: Protocols,
    /// Length of the window in which a time sequence is sent
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_window)]
    step: Duration,
    /// The client's file; by default NAME.key, NAME-SERVER.key with --server, or NAME.fwknoprc with
    /// --fwknop, in the current directory
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also draw the client's file, without its comments, as a QR code on standard error; with --fwknop,
    /// the text that fwknop's apps for phones read. The code contains the keys
    #[arg(long)]
    qr: bool,
    #[command(flatten)]
    fwknop: FwknopArgs,
    /// The name of the client, which the logs and the events of the server contain
    name: String,
}

fn steps() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(1..=i64::from(MAX_TIME_STEPS))
}

/// How a client knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A sequence that changes with the time (sequence = time), which any program can send
    Time,
    /// One encrypted packet (packet = portknock)
    Packet,
}

/// The protocols of a time sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocols {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// TCP or UDP, different for each step
    Both,
}

/// Makes a key. The exit status is 0 if the client's file was written, 2 if an argument is invalid,
/// 1 otherwise.
pub fn run(args: &KeygenArgs) -> u8 {
    privileges::hide();
    if args.fwknop.fwknop {
        return keygen_fwknop::run(&args.fwknop, &args.name, args.port, args.output.as_deref(), args.qr);
    }
    let (file, path) = match client_file(args) {
        Ok(made) => made,
        Err((message, status)) => {
            print_error("portknock", message);
            return status;
        }
    };
    if let Err(error) = file.create(&path) {
        return print_error("portknock", error);
    }
    print(file.server_line().as_bytes());
    let status = if args.qr { draw(&file) } else { SUCCESS };
    print_next_steps(&file, &path);
    status
}

/// Returns the content of the client's file and its path, or a message and the exit status.
fn client_file(args: &KeygenArgs) -> Result<(ClientFile, PathBuf), (String, u8)> {
    let failure = |message: String| (message, FAILURE);
    let key = match &args.from {
        None => Key::generate().map_err(|error| failure(error.to_string()))?,
        Some(path) => own_key(path).map_err(failure)?,
    };
    let file = ClientFile {
        name: args.name.clone(),
        key,
        server: args.server.clone(),
        form: match args.form {
            Form::Time => ClientForm::Time,
            Form::Packet => ClientForm::Packet,
        },
        door: args.door.clone(),
        port: args.port,
        time: TimeSequence {
            steps: args.steps,
            ports: args.ports.clone(),
            protocols: match args.protocols {
                Protocols::Tcp => StepProtocols::Tcp,
                Protocols::Udp => StepProtocols::Udp,
                Protocols::Both => StepProtocols::Both,
            },
            window: args.step,
        },
    };
    file.check().map_err(|error| (error.to_string(), USAGE))?;
    let path = match &args.output {
        Some(path) => path.clone(),
        None => default_path(&file).ok_or_else(|| {
            let message = "the name of a file cannot contain `/`: name the client's file with --output";
            (message.to_owned(), USAGE)
        })?,
    };
    Ok((file, path))
}

/// Reads the client's own key from a file for another server.
fn own_key(path: &Path) -> Result<Key, String> {
    let file = ClientFile::read(path).map_err(|error| error.to_string())?;
    if file.server.is_none() {
        let path = path.to_string_lossy();
        return Err(format!(
            "the server of {} has the client's own key, and could compute the keys of all other servers: make a new \
             key with --server and without --from",
            Printable(&path)
        ));
    }
    Ok(file.key.clone())
}

/// Returns the default name of the file; `None` if it would not be in the current directory.
fn default_path(file: &ClientFile) -> Option<PathBuf> {
    let name = match &file.server {
        None => format!("{}.key", file.name),
        Some(server) => format!("{}-{server}.key", file.name),
    };
    Some(name).filter(|name| !name.contains('/')).map(PathBuf::from)
}

/// Draws the file as a QR code. Standard output is for the server.
fn draw(file: &ClientFile) -> u8 {
    match qr::render(&file.settings(), io::stderr().is_terminal()) {
        Ok(image) => {
            // The client's file has the same content.
            let _ = io::stderr().write_all(image.as_bytes());
            SUCCESS
        }
        Err(error) => print_error("portknock", format_args!("cannot draw a QR code: {error}")),
    }
}

fn print_next_steps(file: &ClientFile, path: &Path) {
    let path = path.to_string_lossy();
    let path = Printable(&path);
    print_error("portknock", format_args!("the client's file is {path}: keep it secret, and move it to the client"));
    let message =
        "the line on standard output is for the key file of the server, to which these lines of a door refer:";
    print_error("portknock", message);
    // There is no other place to report an error of this write.
    let _ = io::stderr().write_all(file.door_lines().as_bytes());
    let host = if file.server.is_some() { "" } else { " HOST" };
    print_error("portknock", format_args!("the client knocks with: portknock knock --key {path}{host}"));
}
