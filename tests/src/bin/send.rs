//! Sends the packets of a list, one after another as fast as possible:
//! `send INTERFACE FIRST < LIST`.
//!
//! A line is: source, destination, destination port, `udp` or the TCP flags (some of FSRPAU; `-`
//! for none), all separated by single spaces. FIRST is the number of the first packet: no two
//! segments with different numbers are retransmissions of each other.

use std::error::Error;
use std::io::{Read, stdin};

use pcap::Capture;
use portknock_tests::Frame;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let interface = args.next().ok_or("usage: send INTERFACE FIRST")?;
    let first: u32 = args.next().ok_or("usage: send INTERFACE FIRST")?.parse()?;
    let mut list = String::new();
    stdin().read_to_string(&mut list)?;
    let mut frames = Vec::new();
    for (number, line) in (first..).zip(list.lines()) {
        frames.push(frame(line, number).map_err(|error| format!("`{line}`: {error}"))?);
    }
    let mut capture = Capture::from_device(interface.as_str())?.snaplen(64).open()?;
    // Nothing is read, so nothing is captured: the filter is an ether type that no host uses.
    capture.filter("ether proto 0x88b5", true)?;
    for frame in &frames {
        capture.sendpacket(frame.as_slice())?;
    }
    println!("sent {} packets", frames.len());
    Ok(())
}

fn frame(line: &str, number: u32) -> Result<Vec<u8>, Box<dyn Error>> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [from, to, port, kind] = fields[..] else { return Err("four words are needed".into()) };
    let mut bytes = Vec::new();
    Frame {
        payload: &[0],
        to_mac: [2, 0, 0, 0, 0, 1],
        vlan: &[],
        from: from.parse()?,
        to: to.parse()?,
        source_port: 1024 + u16::try_from(number % 30_000)?,
        port: port.parse()?,
        flags: (kind != "udp").then_some(kind.trim_matches('-')),
        sequence_number: number,
    }
    .write(&mut bytes)?;
    Ok(bytes)
}
