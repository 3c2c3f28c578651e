//! Sends frames unchanged: `inject INTERFACE < LIST`. Each line of the list is a frame in
//! hexadecimal digits.

use std::error::Error;
use std::io::{Read, stdin};

use pcap::Capture;

fn main() -> Result<(), Box<dyn Error>> {
    let interface = std::env::args().nth(1).ok_or("usage: inject INTERFACE")?;
    let mut list = String::new();
    stdin().read_to_string(&mut list)?;
    let mut capture = Capture::from_device(interface.as_str())?.snaplen(64).open()?;
    // Nothing is read, so nothing is captured: the filter is an ether type that no host uses.
    capture.filter("ether proto 0x88b5", true)?;
    for line in list.lines() {
        let bytes = (0..line.len()).step_by(2).map(|i| u8::from_str_radix(&line[i..i + 2], 16));
        let frame: Vec<u8> = bytes.collect::<Result<_, _>>()?;
        capture.sendpacket(frame).map_err(|error| format!("{line}: {error}"))?;
    }
    Ok(())
}
