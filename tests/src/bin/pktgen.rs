//! Packet generator: sends hand-made frames from an interface, such as knocks of many spoofed
//! sources, bursts, VLAN tags, and any TCP flags.

use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use pcap::Capture;
use portknock_tests::{Frame, cost};

/// Sends TCP segments or UDP datagrams as raw Ethernet frames. Packet number i goes to port i
/// modulo the number of ports, so that with several ports each source sends the whole list before
/// the next source begins.
#[derive(Parser)]
struct Pktgen {
    /// The interface to send from
    #[arg(long)]
    interface: String,
    /// The destination's hardware address
    #[arg(long, default_value = "02:00:00:00:00:01", value_parser = mac)]
    to_mac: [u8; 6],
    /// The destination address
    #[arg(long, default_value = "10.0.0.1")]
    to: IpAddr,
    /// The first source address
    #[arg(long, default_value = "10.0.0.2")]
    from: IpAddr,
    /// How many source addresses to use, counting up from the first
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    sources: u32,
    /// The destination ports, in order
    #[arg(long, value_delimiter = ',', required = true)]
    ports: Vec<u16>,
    /// How many packets to send; by default each source sends to each port once
    #[arg(long)]
    count: Option<u64>,
    /// Packets a second; 0 sends as fast as it goes
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// The sequence number of the first segment. Those after it count up, so that none repeats
    /// another
    #[arg(long, default_value_t = 0)]
    first_segment: u32,
    /// Send UDP datagrams
    #[arg(long)]
    udp: bool,
    /// How many random bytes each UDP datagram carries
    #[arg(long, default_value_t = 1)]
    payload: usize,
    /// Make the payload like a packet of fwknop's client: base64 characters, of which the first is `8`
    #[arg(long)]
    base64: bool,
    /// The TCP flags to set, some of FSRPAU
    #[arg(long, default_value = "S")]
    flags: String,
    /// Wrap the packets in these VLANs, the outer one first
    #[arg(long, value_delimiter = ',')]
    vlan: Vec<u16>,
}

/// The alphabet of base64.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    bytes
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "expected six bytes as in 02:00:00:00:00:01".into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pktgen = Pktgen::parse();
    let mut capture = Capture::from_device(pktgen.interface.as_str())?.snaplen(64).open()?;
    // Nothing is read, so nothing is captured: the filter is an ether type that no host uses.
    capture.filter("ether proto 0x88b5", true)?;
    let ports = u64::try_from(pktgen.ports.len())?;
    let count = pktgen.count.unwrap_or(ports * u64::from(pktgen.sources));
    let before = cpu();
    let start = Instant::now();
    let mut frame = Vec::new();
    for i in 0..count {
        pktgen.wait_for_turn(start, i);
        frame.clear();
        pktgen.write_frame(i, &mut frame)?;
        capture.sendpacket(frame.as_slice())?;
    }
    let took = start.elapsed();
    let spent = cpu().saturating_sub(before);
    println!("sent {count} packets in {:.3} s, {:.6} s of CPU", took.as_secs_f64(), spent.as_secs_f64());
    Ok(())
}

/// CPU time spent so far, including the kernel's work for the packets: a virtual link delivers them
/// in their sender's time.
fn cpu() -> Duration {
    // The kernel updates its accounting when a process goes to sleep.
    thread::sleep(Duration::from_millis(1));
    cost::cpu(std::process::id())
}

impl Pktgen {
    /// Sleeps until packet `i` is due. A sender that is late catches up.
    fn wait_for_turn(&self, start: Instant, i: u64) {
        if self.rate > 0 {
            let nanos = u128::from(i) * 1_000_000_000 / u128::from(self.rate);
            let due = start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    fn write_frame(&self, i: u64, frame: &mut Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
        let ports = u64::try_from(self.ports.len())?;
        let round = i / ports;
        let port = self.ports[usize::try_from(i % ports)?];
        let source = nth(self.from, round % u64::from(self.sources));
        // Below the kernel's ephemeral range. The sequence number makes each segment distinct.
        let source_port = 1024 + u16::try_from(round % 30_000)?;
        let sequence_number = self.first_segment.wrapping_add(u32::try_from(i % (1 << 32))?);

        let mut payload: Vec<u8> = iter::repeat_with(|| fastrand::u8(..)).take(self.payload).collect();
        if self.base64 {
            payload.iter_mut().for_each(|byte| *byte = BASE64[usize::from(*byte % 64)]);
            payload.iter_mut().take(1).for_each(|first| *first = b'8');
        }
        Frame {
            to_mac: self.to_mac,
            vlan: &self.vlan,
            from: source,
            to: self.to,
            source_port,
            port,
            flags: (!self.udp).then_some(self.flags.as_str()),
            sequence_number,
            payload: &payload,
        }
        .write(frame)
    }
}

/// The address `offset` after `first`.
fn nth(first: IpAddr, offset: u64) -> IpAddr {
    match first {
        IpAddr::V4(first) => {
            let offset = u32::try_from(offset % (1 << 32)).unwrap_or_default();
            Ipv4Addr::from_bits(first.to_bits().wrapping_add(offset)).into()
        }
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_add(offset.into())).into(),
    }
}
