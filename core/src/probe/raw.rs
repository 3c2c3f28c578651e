//! The network side of the SYN method: raw sockets.
//!
//! The probes pass through this machine's own firewall, as those of a connection would. The answers
//! are read before the firewall filters them.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use etherparse::Ipv4HeaderSlice;

use super::answer_capture::AnswerCapture;
use super::drive::Transport;
use super::error::ProbeError;
use super::icmp::IcmpError;
use super::schedule::{Probe, Schedule};
use super::syn::{SEGMENT_BYTES, SynProber};
use crate::host;
use crate::sys::raw::{BATCH, Buffers, RawProtocol, RawSocket};
use crate::sys::socket;

/// Receive buffer in bytes: room for the answers of a tenth of a second at the highest rate
/// observed to matter.
const RECEIVE_BUFFER_BYTES: i32 = 8 << 20;

/// The raw sockets for one address.
pub(super) struct SynTransport {
    prober: SynProber,
    target: SocketAddr,
    tcp: RawSocket,
    icmp: RawSocket,
    /// Opened with the first repeated probe.
    capture: Option<AnswerCapture>,
    /// The sockets that reserve the source ports.
    _reserved: Vec<TcpStream>,
    buffers: Buffers,
}

/// Returns true if this process may open raw sockets now.
pub(super) fn is_permitted(target: SocketAddr) -> bool {
    RawSocket::open(host::any_address(target), RawProtocol::Icmp).is_ok()
}

impl SynTransport {
    pub(super) fn new(schedule: Schedule, target: SocketAddr, source: Option<IpAddr>) -> Result<Self, ProbeError> {
        let local = host::local_address(target, source).map_err(|error| ProbeError::route(target, source, error))?;
        let open = |protocol| match RawSocket::open(local, protocol) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(ProbeError::NotAllowed),
            Err(error) => Err(ProbeError::System { what: "cannot open a raw socket", error }),
            Ok(socket) => Ok(socket),
        };
        let (tcp, icmp) = (open(RawProtocol::Tcp)?, open(RawProtocol::Icmp)?);
        let prepare = || -> io::Result<_> {
            tcp.accept_only_answers(local)?;
            icmp.accept_only_errors(local)?;
            tcp.set_receive_buffer(RECEIVE_BUFFER_BYTES)?;
            icmp.set_receive_buffer(RECEIVE_BUFFER_BYTES)?;
            (0..schedule.numbers()).map(|_| socket::reserve_port(local)).collect::<io::Result<Vec<_>>>()
        };
        let reserved = prepare().map_err(|error| ProbeError::System { what: "cannot set up a raw socket", error })?;
        let (reserved, source_ports) = reserved.into_iter().unzip();
        let prober = SynProber::new(schedule, local.ip(), target.ip(), source_ports, random_key());
        let buffers = Buffers::default();
        Ok(Self { prober, target, tcp, icmp, capture: None, _reserved: reserved, buffers })
    }
}

impl Transport for SynTransport {
    fn schedule(&mut self) -> &mut Schedule {
        self.prober.schedule()
    }

    fn send(&mut self, probes: &[Probe], _clock: &dyn Fn() -> Duration) -> io::Result<usize> {
        if self.capture.is_none() && probes.iter().any(|probe| probe.number == 1) {
            self.capture = AnswerCapture::open(self.target);
        }
        let mut segments = [[0; SEGMENT_BYTES]; BATCH];
        for (segment, &probe) in segments.iter_mut().zip(probes) {
            *segment = self.prober.segment(probe);
        }
        self.tcp.send(&segments[..probes.len().min(BATCH)], self.target)
    }

    fn receive(&mut self, clock: &dyn Fn() -> Duration) -> io::Result<()> {
        let Self { prober, target, tcp, icmp, capture, buffers, .. } = self;
        let is_v4 = target.is_ipv4();
        let is_capture_open = capture.as_mut().is_none_or(|capture| {
            capture.receive(&mut |from, segment| prober.segment_received(from, segment, clock()))
        });
        if !is_capture_open {
            *capture = None;
        }
        drain(tcp, buffers, &mut |from, packet| {
            let segment = if is_v4 { ipv4_payload(packet) } else { packet };
            prober.segment_received(from, segment, clock());
        })?;
        drain(icmp, buffers, &mut |from, packet| {
            let message = if is_v4 { ipv4_payload(packet) } else { packet };
            // Type, code, checksum and four bytes that depend on the type, followed by the packet
            // that the error is about.
            if let Some((&[kind, code, ..], quoted)) = message.split_first_chunk::<8>() {
                let error = if is_v4 { IcmpError::V4(kind, code) } else { IcmpError::V6(kind, code) };
                prober.error_received(from, error, quoted, clock());
            }
        })
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let capture = self.capture.as_ref().map(AsFd::as_fd);
        [self.tcp.as_fd(), self.icmp.as_fd()].into_iter().chain(capture).collect()
    }
}

/// Passes all waiting packets to `each`.
fn drain(socket: &RawSocket, buffers: &mut Buffers, each: &mut dyn FnMut(IpAddr, &[u8])) -> io::Result<()> {
    loop {
        match socket.receive(buffers, each) {
            Ok(BATCH) => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns the payload of an IPv4 packet; empty if the header is invalid.
fn ipv4_payload(packet: &[u8]) -> &[u8] {
    let header = Ipv4HeaderSlice::from_slice(packet).map(|header| header.slice().len());
    header.ok().and_then(|length| packet.get(length..)).unwrap_or_default()
}

/// Returns a random key that an attacker cannot guess.
fn random_key() -> [u8; 16] {
    // The seeds of the standard library's hash maps are random numbers that need no further crate.
    let random = || RandomState::new().hash_one(0).to_ne_bytes();
    let mut key = [0; 16];
    key[..8].copy_from_slice(&random());
    key[8..].copy_from_slice(&random());
    key
}
