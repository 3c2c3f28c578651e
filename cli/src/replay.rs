//! `portknock replay`: what a capture file would have done.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use portknock_core::{Event, LocalAddresses, Printable, config, json, replay};

use crate::output::{complain, print};
use crate::{Format, SUCCESS};

/// The arguments of `portknock replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The configuration whose doors are knocked at
    #[arg(short, long, value_name = "CONF")]
    config: PathBuf,
    /// The addresses of the machine; without them any destination counts
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    local: Vec<IpAddr>,
    /// How to write the events
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The capture, pcap or pcapng; - reads standard input
    file: PathBuf,
}

/// Replays a capture and prints its events. The status is 0 when all of it was read, 1 when not, and for a
/// configuration that is refused.
pub fn run(args: &ReplayArgs) -> u8 {
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(error) => return complain("portknock", error),
    };
    let Some(config) = &loaded.config else {
        let findings = loaded.report.render(&args.config.to_string_lossy(), &loaded.text);
        return complain("portknock", format_args!("the configuration is refused\n{findings}"));
    };
    let local = if args.local.is_empty() {
        LocalAddresses::Any
    } else {
        LocalAddresses::Only(args.local.iter().copied().collect())
    };
    let result = replay::replay(config, local, &args.file, |event| {
        let line = match args.format {
            Format::Text => text(event),
            // Never fails, as `event_line` says.
            Format::Json => json::event_line(event).unwrap_or_default() + "\n",
        };
        print(line.as_bytes());
    });
    match result {
        Ok(()) => SUCCESS,
        Err(error) => complain("portknock", error),
    }
}

/// The daemon's log lines behind the packet's time, and the commands that would have run.
fn text(event: &Event) -> String {
    let mut text = format!("{} {event}\n", event.time);
    for request in event.command_requests() {
        let (door, command) = (Printable(&request.door), Printable(&request.command));
        text += &format!("{} {door}: would run command: {command}\n", event.time);
    }
    text
}
