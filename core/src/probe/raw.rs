//! The SYN method on the wire: raw sockets, and a clock.
//!
//! What is sent goes through this machine's own firewall, as a connection would.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use etherparse::Ipv4HeaderSlice;

use super::error::ProbeError;
use super::icmp::IcmpError;
use super::ports::PortList;
use super::schedule::{Found, Options, Try};
use super::syn::{SEGMENT, Step, SynProber};
use crate::host;
use crate::sys::poll::{self, Interest};
use crate::sys::raw::{BATCH, Buffers, RawProtocol, RawSocket};
use crate::sys::socket;

/// Room for the answers of a tenth of a second at the highest rate that was seen to matter.
const RECEIVE_BUFFER: i32 = 8 << 20;
/// The observer is asked this often.
const TICK: Duration = Duration::from_millis(100);
/// How long to leave a full queue of this machine alone.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// The SYN method at one address.
pub(super) struct SynScan {
    prober: SynProber,
    target: SocketAddr,
    tcp: RawSocket,
    icmp: RawSocket,
    /// Keep the source ports.
    _reserved: Vec<TcpStream>,
    buffers: Buffers,
    start: Instant,
    /// Probes that are due and not sent yet.
    due: VecDeque<(Try, [u8; SEGMENT])>,
}

/// True where this process may use raw sockets now.
pub(super) fn is_allowed(target: SocketAddr) -> bool {
    let any = SocketAddr::new(if target.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
    RawSocket::open(any, RawProtocol::Icmp).is_ok()
}

impl SynScan {
    pub(super) fn new(
        target: SocketAddr,
        ports: &PortList,
        source: Option<IpAddr>,
        options: Options,
    ) -> Result<Self, ProbeError> {
        let local = host::local_address(target, source).map_err(|error| ProbeError::route(target, source, error))?;
        let open = |protocol| match RawSocket::open(local, protocol) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(ProbeError::NotAllowed),
            Err(error) => Err(ProbeError::System { what: "cannot open a raw socket", error }),
            Ok(socket) => Ok(socket),
        };
        let (tcp, icmp) = (open(RawProtocol::Tcp)?, open(RawProtocol::Icmp)?);
        let prepare = || -> io::Result<()> {
            tcp.only_answers(local)?;
            icmp.only_errors(local)?;
            tcp.set_receive_buffer(RECEIVE_BUFFER)?;
            icmp.set_receive_buffer(RECEIVE_BUFFER)
        };
        prepare().map_err(|error| ProbeError::System { what: "cannot set up a raw socket", error })?;
        let mut reserved = Vec::new();
        let source_port = || -> io::Result<u16> {
            let (socket, port) = socket::reserve_port(local)?;
            reserved.push(socket);
            Ok(port)
        };
        let prober = SynProber::new(ports, options, local.ip(), target.ip(), random_key(), source_port)
            .map_err(|error| ProbeError::System { what: "cannot get a port to send from", error })?;
        Ok(Self {
            prober,
            target,
            tcp,
            icmp,
            _reserved: reserved,
            buffers: Buffers::default(),
            start: Instant::now(),
            due: VecDeque::with_capacity(BATCH),
        })
    }

    /// Probes until all is known, the observer breaks off, or something fails.
    pub(super) fn run(&mut self, observer: &mut dyn FnMut(usize, f32) -> ControlFlow<()>) -> Result<(), ProbeError> {
        let mut next_tick = Duration::ZERO;
        loop {
            self.receive()?;
            let now = self.start.elapsed();
            if now >= next_tick {
                let (known, done) = self.prober.progress();
                if observer(known, done).is_break() {
                    return Ok(());
                }
                next_tick = now + TICK;
            }
            let mut until = now;
            while self.due.len() < BATCH {
                match self.prober.poll(now) {
                    Step::Send(probe, segment) => self.due.push_back((probe, segment)),
                    Step::Wait(time) => {
                        until = time;
                        break;
                    }
                    Step::Done if self.due.is_empty() => return Ok(()),
                    Step::Done => break,
                }
            }
            let mut interest = Interest::Read;
            match self.send() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    interest = Interest::ReadOrWrite;
                    until = next_tick;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => until = now + FULL_QUEUE_PAUSE,
                Err(error) => return Err(ProbeError::route(self.target, None, error)),
            }
            let wait = until.min(next_tick).saturating_sub(self.start.elapsed());
            if !wait.is_zero() {
                self.wait(interest, wait)?;
            }
        }
    }

    pub(super) fn results(&self) -> impl Iterator<Item = (u16, Found)> + '_ {
        self.prober.results()
    }

    /// Sends what is due.
    fn send(&mut self) -> io::Result<()> {
        while !self.due.is_empty() {
            let segments: Vec<[u8; SEGMENT]> = self.due.iter().map(|(_, segment)| *segment).collect();
            match self.tcp.send(&segments, self.target) {
                Ok(count) => {
                    self.due.drain(..count);
                }
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                    if let Some((probe, _)) = self.due.pop_front() {
                        self.prober.denied(probe);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes in what waits.
    fn receive(&mut self) -> Result<(), ProbeError> {
        let Self { prober, target, tcp, icmp, buffers, start, .. } = self;
        let is_v4 = target.is_ipv4();
        let result = drain(tcp, buffers, &mut |from, packet| {
            let segment = if is_v4 { behind_ipv4_header(packet) } else { packet };
            prober.segment_received(from, segment, start.elapsed());
        })
        .and_then(|()| {
            drain(icmp, buffers, &mut |_, packet| {
                let message = if is_v4 { behind_ipv4_header(packet) } else { packet };
                // Type, code, checksum, and four bytes that depend on these; then the packet that it is about.
                if let Some((&[kind, code, ..], quoted)) = message.split_first_chunk::<8>() {
                    let error = if is_v4 { IcmpError::V4(kind, code) } else { IcmpError::V6(kind, code) };
                    prober.error_received(error, quoted, start.elapsed());
                }
            })
        });
        result.map_err(|error| ProbeError::System { what: "cannot receive", error })
    }

    fn wait(&self, interest: Interest, timeout: Duration) -> Result<(), ProbeError> {
        match poll::wait(&[(self.tcp.as_fd(), interest), (self.icmp.as_fd(), Interest::Read)], timeout) {
            // A signal may be why the observer breaks off.
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                Err(ProbeError::System { what: "cannot wait for answers", error })
            }
            _ => Ok(()),
        }
    }
}

/// Hands on all packets that wait.
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

/// What an IPv4 packet carries; nothing where it is none.
fn behind_ipv4_header(packet: &[u8]) -> &[u8] {
    let header = Ipv4HeaderSlice::from_slice(packet).map(|header| header.slice().len());
    header.ok().and_then(|length| packet.get(length..)).unwrap_or_default()
}

/// A key that nobody can guess.
fn random_key() -> [u8; 16] {
    // The standard library's seeds for hash maps are the random numbers that need no further crate.
    let random = || RandomState::new().hash_one(0).to_ne_bytes();
    let mut key = [0; 16];
    key[..8].copy_from_slice(&random());
    key[8..].copy_from_slice(&random());
    key
}
