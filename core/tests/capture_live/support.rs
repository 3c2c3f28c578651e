//! Namespaces, virtual links, frames, and a listener that reports the events it received.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use portknock_core::capture::CaptureSet;
use portknock_core::config::{Config, Door, Sequence, Step};
use portknock_core::decode::decode;
use portknock_core::internals::PortFilter;
use portknock_core::sys::epoll::Epoll;
use portknock_core::{FlagMask, Knock, Protocol, TcpFlags};

pub(crate) const INSIDE: &str = "PORTKNOCK_TEST_IN_NAMESPACE";

/// Runs the calling test in a fresh network namespace with loopback up. Returns false in the
/// process that only started it.
pub(crate) fn in_namespace() -> bool {
    in_namespace_with(&[])
}

pub(crate) fn in_namespace_with(wrapper: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run("ip link set lo up");
        return true;
    }
    let possible =
        |option| Command::new("unshare").args([option, "true"]).output().is_ok_and(|out| out.status.success());
    let option = ["-n", "-rn"].into_iter().find(|option| possible(option));
    let option = option.expect(
        "these tests need a network namespace: run them as root, or allow unprivileged user namespaces \
         (and install util-linux for `unshare`)",
    );
    // libtest names a test's thread after the test.
    let thread = std::thread::current();
    let test = thread.name().unwrap();
    let output = Command::new("unshare")
        .arg(option)
        .args(wrapper)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    // Writes past the test runner, which shows printed text only when a test fails.
    for line in text.lines().filter(|line| line.starts_with("SKIPPED")) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    false
}

pub(crate) fn run(command: &str) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Creates `wire0` and its far end `far0`. Only frames injected at the far end arrive at `wire0`.
pub(crate) fn make_wire() {
    // With IPv6 enabled, the interface would announce itself.
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    run("ip link add wire0 address 02:00:00:00:00:01 type veth peer name far0 address 02:00:00:00:00:02");
    run("ip link set far0 up");
    run("ip link set wire0 up");
}

pub(crate) fn step(port: u16, protocol: Protocol) -> Step {
    Step { port: NonZeroU16::new(port).unwrap(), protocol }
}

pub(crate) const SYN: FlagMask = FlagMask { set: TcpFlags::SYN, clear: TcpFlags::ACK };

/// One door: 7000 and 8000 by TCP SYN, 9000 by UDP. The scan guard is off.
pub(crate) fn filter() -> PortFilter {
    let steps = [step(7000, Protocol::Tcp), step(8000, Protocol::Tcp), step(9000, Protocol::Udp)];
    let door = Door { tcpflags: SYN, ..Door::new("door", Some(Sequence::new(steps).unwrap())) };
    filter_of(vec![door])
}

pub(crate) fn filter_of(doors: Vec<Door>) -> PortFilter {
    let mut config = Config { doors, ..Config::default() };
    config.options.scan_guard = 0;
    PortFilter::new(&config, 1)
}

/// A capture with the loop that its users run around it.
pub(crate) struct Listener {
    pub(crate) set: CaptureSet,
    pub(crate) epoll: Epoll,
    pub(crate) knocks: Vec<Knock>,
    pub(crate) frames: usize,
    pub(crate) wakes: usize,
    pub(crate) notices: Vec<String>,
}

impl Listener {
    pub(crate) fn open(interfaces: &[&str]) -> Self {
        Self::open_with(interfaces, filter())
    }

    pub(crate) fn open_with(interfaces: &[&str], filter: PortFilter) -> Self {
        let interfaces: Vec<String> = interfaces.iter().map(ToString::to_string).collect();
        let set = CaptureSet::open(&interfaces, filter).unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(set.as_fd(), 0).unwrap();
        let mut listener = Self { set, epoll, knocks: Vec::new(), frames: 0, wakes: 0, notices: Vec::new() };
        listener.take_notices();
        listener
    }

    pub(crate) fn take_notices(&mut self) {
        while let Some(notice) = self.set.poll_notice() {
            self.notices.push(notice.to_string());
        }
    }

    /// Waits for at most this long and reads what has arrived. Returns false if nothing has.
    pub(crate) fn turn(&mut self, wait: Duration) -> bool {
        let mut tokens = Vec::new();
        self.epoll.wait(&mut tokens, Some(wait)).unwrap();
        if tokens.is_empty() {
            return false;
        }
        self.wakes += 1;
        let knocks = &mut self.knocks;
        self.frames +=
            self.set.turn(&mut |frame| knocks.extend(decode(frame.link_type, frame.time, frame.bytes))).unwrap();
        self.take_notices();
        true
    }

    /// Runs until `done` holds, for at most five seconds.
    pub(crate) fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(5);
        while !done(self) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: {:?} {:?}", self.knocks, self.notices);
            self.turn(left);
        }
    }

    /// Runs until nothing has happened for a tenth of a second.
    pub(crate) fn settle(&mut self) {
        while self.turn(Duration::from_millis(100)) {}
    }

    /// The events since the last call, after the link has become quiet.
    pub(crate) fn take_ports(&mut self) -> Vec<(Protocol, u16)> {
        self.settle();
        self.knocks.drain(..).map(|knock| (knock.protocol, knock.port)).collect()
    }

    pub(crate) fn take_new_notices(&mut self) -> Vec<String> {
        self.settle();
        std::mem::take(&mut self.notices)
    }
}

pub(crate) fn send_udp(to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    socket.send_to(b"knock", to).unwrap();
}

pub(crate) fn send_syn(to: &str) {
    let _refused = TcpStream::connect(to);
}

/// Injects frames into a virtual link.
pub(crate) struct Injector(pub(crate) pcap::Capture<pcap::Active>);

impl Injector {
    pub(crate) fn new(interface: &str) -> Self {
        Self(pcap::Capture::from_device(interface).unwrap().open().unwrap())
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.0.sendpacket(frame).unwrap();
    }
}

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;

pub(crate) fn ethernet(tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 5]);
    }
    frame.extend(if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend(packet);
    frame
}

pub(crate) fn segment(port: u16, flags: TcpFlags) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40];
    segment.extend(port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags.bits(), 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

pub(crate) fn ipv4(protocol: u8, segment: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + segment.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
    packet.extend(segment);
    packet
}

pub(crate) fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend([0xfd; 32]);
    packet.extend(payload);
    packet
}

/// A SYN from the far end of the link.
pub(crate) fn syn(port: u16) -> Vec<u8> {
    ethernet(&[], &ipv4(TCP, &segment(port, TcpFlags::SYN)))
}
