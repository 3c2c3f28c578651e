//! `portknock replay`: prints the events that a capture file would have caused.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use portknock_core::sys::privileges;
use portknock_core::{Event, LocalAddresses, Printable, config, json, replay};

use crate::output::{print, print_error};
use crate::{Format, SUCCESS};

/// The arguments of `portknock replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The configuration file with the doors
    #[arg(short, long, value_name = "CONF")]
    config: PathBuf,
    /// The addresses of the machine; by default packets to any destination count
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    local: Vec<IpAddr>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The capture file, pcap or pcapng; - reads standard input
    file: PathBuf,
}

/// Replays a capture and prints its events. The exit status is 0 if the whole capture was read, and
/// 1 otherwise or if the configuration has errors.
pub fn run(args: &ReplayArgs) -> u8 {
    // The configuration can name files of keys.
    privileges::hide();
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(error) => return print_error("portknock", error),
    };
    let Some(config) = &loaded.config else {
        let findings = loaded.report.render(&args.config.to_string_lossy(), &loaded.text);
        return print_error("portknock", format_args!("the configuration has errors\n{findings}"));
    };
    let local = if args.local.is_empty() {
        LocalAddresses::Any
    } else {
        LocalAddresses::Only(args.local.iter().copied().collect())
    };
    let result = replay::replay(config, local, &args.file, |event| {
        let line = match args.format {
            Format::Text => text(event),
            // `event_line` never fails, as its documentation states.
            Format::Json => json::event_line(event).unwrap_or_default() + "\n",
        };
        print(line.as_bytes());
    });
    match result {
        Ok(()) => SUCCESS,
        Err(error) => print_error("portknock", error),
    }
}

/// The daemon's log lines, each after the packet's time, and the commands that would have run.
fn text(event: &Event) -> String {
    let mut text = format!("{} {event}\n", event.time);
    for request in event.command_requests() {
        let (door, command) = (Printable(&request.door), Printable(&request.command));
        text += &format!("{} {door}: would run command: {command}\n", event.time);
    }
    text
}
