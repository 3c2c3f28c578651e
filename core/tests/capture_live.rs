//! Captures on real interfaces, each test in a network namespace of its own.
//!
//! Works as root and as a user who may make user namespaces. Each test runs this program again, through unshare(1).

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use portknock_core::capture::{CaptureError, CaptureNotice, CaptureSet};
use portknock_core::config::{Config, Door, Sequence, Step};
use portknock_core::decode::decode;
use portknock_core::filter::PortFilter;
use portknock_core::sys::epoll::Epoll;
use portknock_core::{FlagMask, Knock, LinkType, Protocol, TcpFlags, Timestamp};

const INSIDE: &str = "PORTKNOCK_TEST_IN_NAMESPACE";

/// Runs the body in a fresh network namespace with loopback up: returns false in the process that only started it.
fn in_namespace(test: &str) -> bool {
    in_namespace_with(test, &[])
}

fn in_namespace_with(test: &str, wrapper: &[&str]) -> bool {
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
    let output = Command::new("unshare")
        .arg(option)
        .args(wrapper)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    false
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes `wire0` and its far end `far0`; what is injected at the far end arrives at `wire0`, and nothing else.
fn make_wire() {
    // IPv6 would announce itself.
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    run("ip link add wire0 address 02:00:00:00:00:01 type veth peer name far0 address 02:00:00:00:00:02");
    run("ip link set far0 up");
    run("ip link set wire0 up");
}

fn step(port: u16, protocol: Protocol) -> Step {
    Step { port: NonZeroU16::new(port).unwrap(), protocol }
}

const SYN: FlagMask = FlagMask { set: TcpFlags::SYN, clear: TcpFlags::ACK };

/// One door: 7000 and 8000 by TCP SYN, 9000 by UDP. The scan guard is off.
fn filter() -> PortFilter {
    let steps = [step(7000, Protocol::Tcp), step(8000, Protocol::Tcp), step(9000, Protocol::Udp)];
    let door = Door { tcpflags: SYN, ..Door::new("door", Some(Sequence::new(steps).unwrap())) };
    filter_of(vec![door])
}

fn filter_of(doors: Vec<Door>) -> PortFilter {
    let mut config = Config { doors, ..Config::default() };
    config.options.scan_guard = 0;
    PortFilter::new(&config, 1)
}

/// A capture with the loop around it that its users have.
struct Listener {
    set: CaptureSet,
    epoll: Epoll,
    knocks: Vec<Knock>,
    frames: usize,
    wakes: usize,
    notices: Vec<String>,
}

impl Listener {
    fn open(interfaces: &[&str]) -> Self {
        Self::open_with(interfaces, filter())
    }

    fn open_with(interfaces: &[&str], filter: PortFilter) -> Self {
        let interfaces: Vec<String> = interfaces.iter().map(ToString::to_string).collect();
        let set = CaptureSet::open(&interfaces, filter).unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(set.as_fd(), 0).unwrap();
        let mut listener = Self { set, epoll, knocks: Vec::new(), frames: 0, wakes: 0, notices: Vec::new() };
        listener.take_notices();
        listener
    }

    fn take_notices(&mut self) {
        while let Some(notice) = self.set.poll_notice() {
            self.notices.push(notice.to_string());
        }
    }

    /// Waits for at most this long, and takes what is there; false where nothing was.
    fn turn(&mut self, wait: Duration) -> bool {
        let mut tokens = Vec::new();
        self.epoll.wait(&mut tokens, Some(wait)).unwrap();
        if tokens.is_empty() {
            return false;
        }
        self.wakes += 1;
        let knocks = &mut self.knocks;
        self.frames += self.set.turn(&mut |link, time, frame| knocks.extend(decode(link, time, frame))).unwrap();
        self.take_notices();
        true
    }

    /// Runs until `done`, for at most five seconds.
    fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(5);
        while !done(self) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: {:?} {:?}", self.knocks, self.notices);
            self.turn(left);
        }
    }

    /// Runs until nothing has happened for a tenth of a second.
    fn settle(&mut self) {
        while self.turn(Duration::from_millis(100)) {}
    }

    /// What came since the last call, until all is quiet.
    fn take_ports(&mut self) -> Vec<(Protocol, u16)> {
        self.settle();
        self.knocks.drain(..).map(|knock| (knock.protocol, knock.port)).collect()
    }

    fn take_new_notices(&mut self) -> Vec<String> {
        self.settle();
        std::mem::take(&mut self.notices)
    }
}

fn send_udp(to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    socket.send_to(b"knock", to).unwrap();
}

fn send_syn(to: &str) {
    let _refused = TcpStream::connect(to);
}

/// Puts frames onto a wire.
struct Injector(pcap::Capture<pcap::Active>);

impl Injector {
    fn new(interface: &str) -> Self {
        Self(pcap::Capture::from_device(interface).unwrap().open().unwrap())
    }

    fn send(&mut self, frame: &[u8]) {
        self.0.sendpacket(frame).unwrap();
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

fn ethernet(tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 5]);
    }
    frame.extend(if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend(packet);
    frame
}

fn segment(port: u16, flags: TcpFlags) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40];
    segment.extend(port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags.bits(), 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

fn ipv4(protocol: u8, segment: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + segment.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
    packet.extend(segment);
    packet
}

fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend([0xfd; 32]);
    packet.extend(payload);
    packet
}

/// A SYN from the far end of the wire.
fn syn(port: u16) -> Vec<u8> {
    ethernet(&[], &ipv4(TCP, &segment(port, TcpFlags::SYN)))
}

#[test]
fn knocks_on_loopback_are_seen_once() {
    if !in_namespace("knocks_on_loopback_are_seen_once") {
        return;
    }
    let before = SystemTime::now();
    let mut listener = Listener::open(&["lo"]);
    assert_eq!(listener.notices, ["listening on lo"]);
    for host in ["127.0.0.1", "[::1]"] {
        send_syn(&format!("{host}:7000"));
        send_syn(&format!("{host}:8000"));
        send_udp(&format!("{host}:9000"));
    }
    listener.settle();
    let nanos = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos().try_into().unwrap();
    let span = Timestamp::from_nanos(nanos(before))..=Timestamp::from_nanos(nanos(SystemTime::now()));
    for knock in &listener.knocks {
        assert!(span.contains(&knock.time), "{span:?} {knock:?}");
        assert!(knock.source.is_loopback() && knock.destination.is_loopback());
        assert_eq!(knock.flags, if knock.protocol == Protocol::Tcp { TcpFlags::SYN } else { TcpFlags::NONE });
    }
    let expected = [(Protocol::Tcp, 7000), (Protocol::Tcp, 8000), (Protocol::Udp, 9000)].repeat(2);
    assert_eq!(listener.frames, 6);
    assert_eq!(listener.take_ports(), expected);
    let stats = listener.set.stats();
    assert_eq!((stats.received, stats.dropped), (6, 0));
    assert!(stats.interfaces[0].listening);
}

#[test]
fn any_sees_every_interface() {
    if !in_namespace("any_sees_every_interface") {
        return;
    }
    make_wire();
    // The other names are part of it.
    let mut listener = Listener::open(&["lo", "any"]);
    assert_eq!(listener.notices, ["listening on any"]);
    send_syn("127.0.0.1:7000");
    send_udp("[::1]:9000");
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000), (Protocol::Udp, 9000)]);
    let mut far = Injector::new("far0");
    far.send(&syn(8000));
    far.send(&ethernet(&[0x8100], &ipv4(TCP, &segment(8000, TcpFlags::SYN))));
    far.send(&ethernet(&[0x88a8], &ipv6(UDP, &segment(9000, TcpFlags::NONE))));
    assert_eq!(
        listener.take_ports(),
        [(Protocol::Tcp, 8000), (Protocol::Tcp, 8000), (Protocol::Udp, 9000)],
        "and not once more when they are sent"
    );
    assert_eq!(listener.frames, 5);
}

#[test]
fn tagged_knocks_are_seen_on_the_wire() {
    if !in_namespace("tagged_knocks_are_seen_on_the_wire") {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    let mut far = Injector::new("far0");
    for tags in [&[][..], &[0x8100], &[0x8100, 0x8100], &[0x88a8, 0x8100, 0x9100], &[0x8100; 5]] {
        far.send(&ethernet(tags, &ipv4(TCP, &segment(7000, TcpFlags::SYN))));
        far.send(&ethernet(tags, &ipv6(UDP, &segment(9000, TcpFlags::NONE))));
    }
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000), (Protocol::Udp, 9000)].repeat(5));
    far.send(&ethernet(&[0x8100], &ipv4(TCP, &segment(7001, TcpFlags::SYN))));
    far.send(&ethernet(&[0x88a8, 0x8100], &ipv4(TCP, &segment(7001, TcpFlags::SYN))));
    listener.settle();
    assert_eq!(listener.frames, 10, "the filter looks behind the tags");
}

#[test]
fn tagged_knocks_are_seen_on_a_vlan_interface() {
    if !in_namespace("tagged_knocks_are_seen_on_a_vlan_interface") {
        return;
    }
    make_wire();
    if Command::new("ip")
        .args("link add link wire0 name wire0.5 type vlan id 5".split(' '))
        .output()
        .unwrap()
        .status
        .success()
    {
        run("ip link set wire0.5 up");
        let mut listener = Listener::open(&["wire0.5"]);
        Injector::new("far0").send(&ethernet(&[0x8100], &ipv4(TCP, &segment(7000, TcpFlags::SYN))));
        assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000)]);
    } else {
        eprintln!("this kernel has no VLAN interfaces");
    }
}

#[test]
fn interfaces_without_a_link_layer_work() {
    if !in_namespace("interfaces_without_a_link_layer_work") {
        return;
    }
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        eprintln!("/dev/net/tun: {error}");
        return;
    }
    run("ip tuntap add mode tun name tun0");
    run("ip link set tun0 up");
    let mut listener = Listener::open(&["tun0"]);
    let packets = [
        ipv4(TCP, &segment(7000, TcpFlags::SYN)),
        ipv6(UDP, &segment(9000, TcpFlags::NONE)),
        ipv4(TCP, &segment(7001, TcpFlags::SYN)),
    ];
    for packet in packets {
        let hex: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
        // TUNSETIFF with IFF_TUN and IFF_NO_PI.
        let script = format!(
            "import fcntl, os, struct; tun = os.open('/dev/net/tun', os.O_RDWR); \
             fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'tun0', 0x1001)); \
             os.write(tun, bytes.fromhex('{hex}'))"
        );
        let output = Command::new("python3").args(["-c", &script]).output().expect("this test needs python3");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000), (Protocol::Udp, 9000)]);
    assert_eq!(listener.frames, 2);
}

#[test]
fn the_kernel_drops_what_does_not_matter() {
    if !in_namespace("the_kernel_drops_what_does_not_matter") {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    let mut far = Injector::new("far0");
    far.send(&syn(7001));
    far.send(&ethernet(&[], &ipv4(TCP, &segment(7000, TcpFlags::ACK))));
    far.send(&ethernet(&[], &ipv4(TCP, &segment(7000, TcpFlags::SYN | TcpFlags::ACK))));
    far.send(&ethernet(&[], &ipv4(UDP, &segment(7000, TcpFlags::NONE))));
    far.send(&ethernet(&[], &ipv4(ICMP, &segment(7000, TcpFlags::SYN))));
    far.send(&ethernet(&[], &ipv6(58, &segment(7000, TcpFlags::SYN))));
    let mut fragment = ipv4(TCP, &segment(7000, TcpFlags::SYN));
    fragment[7] = 1;
    far.send(&ethernet(&[], &fragment));
    // What this end sends.
    Injector::new("wire0").send(&syn(7000));
    listener.settle();
    assert_eq!(listener.frames, 0);
    let options = [[TCP, 0, 1, 4, 0, 0, 0, 0].as_slice(), &segment(8000, TcpFlags::SYN)].concat();
    far.send(&ethernet(&[], &ipv6(60, &options)));
    far.send(&ethernet(&[], &ipv6(TCP, &segment(7000, TcpFlags::SYN))));
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 8000), (Protocol::Tcp, 7000)]);
    assert_eq!(listener.frames, 2);
}

#[test]
fn a_new_filter_replaces_the_old_one() {
    if !in_namespace("a_new_filter_replaces_the_old_one") {
        return;
    }
    let mut listener = Listener::open(&["lo"]);
    let door = Door::new("other", Some(Sequence::new([step(7001, Protocol::Udp)]).unwrap()));
    listener.set.set_filter(filter_of(vec![door]));
    send_udp("127.0.0.1:9000");
    send_udp("127.0.0.1:7001");
    assert_eq!(listener.take_ports(), [(Protocol::Udp, 7001)]);
    assert_eq!(listener.frames, 1);
}

#[test]
fn interfaces_come_and_go() {
    if !in_namespace("interfaces_come_and_go") {
        return;
    }
    let mut listener = Listener::open(&["lo", "wire0"]);
    assert_eq!(listener.notices, ["listening on lo", "waiting for wire0: there is no such interface"]);
    listener.notices.clear();

    make_wire();
    // Made first, then set up: two changes, which may be seen as one.
    listener.run_until("appears", |listener| listener.notices.iter().any(|text| text == "listening on wire0"));
    listener.notices.clear();
    Injector::new("far0").send(&syn(7000));
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000)]);

    run("ip link set wire0 down");
    assert_eq!(listener.take_new_notices(), ["no longer listening on wire0: the interface is down"]);
    run("ip link set wire0 address 02:00:00:00:00:01");
    assert!(listener.take_new_notices().is_empty(), "no notice is repeated");
    run("ip link set wire0 up");
    assert_eq!(listener.take_new_notices(), ["listening on wire0"]);
    Injector::new("far0").send(&syn(8000));
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 8000)]);

    run("ip link del wire0");
    let notices = listener.take_new_notices();
    assert_eq!(notices.last().unwrap(), "no longer listening on wire0: there is no such interface", "{notices:?}");
    assert_eq!(notices.len(), 1);
    make_wire();
    listener.run_until("comes back", |listener| listener.notices.iter().any(|text| text == "listening on wire0"));
    Injector::new("far0").send(&syn(7000));
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000)]);

    // The other interface was never disturbed.
    send_udp("127.0.0.1:9000");
    assert_eq!(listener.take_ports(), [(Protocol::Udp, 9000)]);
    let stats = listener.set.stats();
    assert_eq!(stats.interfaces.iter().map(|one| one.received).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn changes_faster_than_the_eye_are_followed() {
    if !in_namespace("changes_faster_than_the_eye_are_followed") {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    // Down and up again before anybody looks, then another interface under the same name.
    run("ip link set wire0 down");
    run("ip link set wire0 up");
    listener.settle();
    Injector::new("far0").send(&syn(7000));
    listener.run_until("after down and up", |listener| listener.knocks.len() == 1);
    run("ip link del wire0");
    make_wire();
    listener.settle();
    Injector::new("far0").send(&syn(8000));
    listener.run_until("after the replacement", |listener| listener.knocks.len() == 2);
    assert_eq!(listener.knocks[1].port, 8000);
}

#[test]
fn frames_that_waited_when_the_interface_went_are_not_lost() {
    if !in_namespace("frames_that_waited_when_the_interface_went_are_not_lost") {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    Injector::new("far0").send(&syn(7000));
    run("ip link set wire0 down");
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000)]);
    assert_eq!(listener.notices.last().unwrap(), "no longer listening on wire0: the interface is down");
}

#[test]
fn addresses_are_known_before_the_frames_that_follow_them() {
    if !in_namespace("addresses_are_known_before_the_frames_that_follow_them") {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    assert!(listener.set.take_address_change());
    listener.settle();
    listener.set.take_address_change();
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    assert!(!listener.set.local_addresses().contains(&address));
    assert!(listener.set.local_addresses().contains(&"127.0.0.1".parse().unwrap()));

    run("ip addr add 10.0.0.1/24 dev wire0");
    Injector::new("far0").send(&syn(7000));
    assert_eq!(listener.set.turn(&mut |_, _, _| panic!("the address comes first")).unwrap(), 0);
    assert!(listener.set.take_address_change());
    assert!(!listener.set.take_address_change());
    assert!(listener.set.local_addresses().contains(&address));
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000)]);

    run("ip addr del 10.0.0.1/24 dev wire0");
    listener.settle();
    assert!(listener.set.take_address_change());
    assert!(!listener.set.local_addresses().contains(&address));
}

#[test]
fn thousands_of_addresses_are_followed() {
    if !in_namespace("thousands_of_addresses_are_followed") {
        return;
    }
    let mut listener = Listener::open(&["lo"]);
    let batch: String = (0..4000).map(|n| format!("addr add 10.1.{}.{}/32 dev lo\n", n / 250, n % 250 + 1)).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), batch).unwrap();
    run(&format!("ip -batch {}", file.path().display()));
    let start = Instant::now();
    listener.settle();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let addresses: &HashSet<IpAddr> = listener.set.local_addresses();
    assert_eq!(addresses.len(), 4000 + 2);
    assert!(listener.wakes < 20, "one look for a burst of changes, not {}", listener.wakes);
}

#[test]
fn a_thousand_doors_start_at_once_and_exactly() {
    if !in_namespace("a_thousand_doors_start_at_once_and_exactly") {
        return;
    }
    let port = |index: u16| 1 + index * 21;
    let door = |index: u16| {
        let steps = [0, 1, 2].map(|offset| step(port(index * 3 + offset), Protocol::Udp));
        Door::new("door", Some(Sequence::new(steps).unwrap()))
    };
    let start = Instant::now();
    let mut listener = Listener::open_with(&["lo", "any"], filter_of((0..1000).map(door).collect()));
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    if listener.notices != ["listening on any"] {
        // Linux before 6.7 has less room for filters.
        assert!(listener.notices[0].contains("the filter was cut to"), "{:?}", listener.notices);
    }
    for index in [0, 1, 1500, 2999] {
        send_udp(&format!("127.0.0.1:{}", port(index)));
    }
    let ports: Vec<u16> = listener.take_ports().into_iter().map(|(_, port)| port).collect();
    assert_eq!(ports, [0, 1, 1500, 2999].map(port));
}

#[test]
fn where_the_kernel_has_less_room_the_filter_is_coarser() {
    if !in_namespace("where_the_kernel_has_less_room_the_filter_is_coarser") {
        return;
    }
    // Since Linux 6.7 each namespace has its own limit.
    if std::fs::write("/proc/sys/net/core/optmem_max", "12000").is_err() {
        eprintln!("this kernel does not let the test lower its limit");
        return;
    }
    let door = |index: u16| {
        let steps = [step(1000 + index * 20, Protocol::Udp), step(1007 + index * 20, Protocol::Udp)];
        Door::new("door", Some(Sequence::new(steps).unwrap()))
    };
    let mut listener = Listener::open_with(&["lo"], filter_of((0..1000).map(door).collect()));
    let [coarse, listening] = &listener.notices[..] else { panic!("{:?}", listener.notices) };
    assert!(coarse.starts_with("lo: the filter was cut to"), "{coarse}");
    assert_eq!(listening, "listening on lo");
    send_udp("127.0.0.1:999");
    send_udp("127.0.0.1:1000");
    send_udp("127.0.0.1:20987");
    send_udp("127.0.0.1:20988");
    assert_eq!(listener.take_ports(), [(Protocol::Udp, 1000), (Protocol::Udp, 20_987)]);
    // The same again is no news; room for nothing is.
    listener.notices.clear();
    listener.set.set_filter(filter_of((0..1000).map(door).collect()));
    assert_eq!(listener.set.poll_notice(), None);
    std::fs::write("/proc/sys/net/core/optmem_max", "100").unwrap();
    listener.set.set_filter(filter());
    assert_eq!(
        listener.set.poll_notice(),
        Some(CaptureNotice::CoarseFilter { interface: "lo".into(), instructions: None })
    );
    send_udp("127.0.0.1:9000");
    assert!(listener.take_ports().contains(&(Protocol::Udp, 9000)));
}

#[test]
fn a_lone_packet_wakes_once_and_a_busy_line_once_a_millisecond() {
    if !in_namespace("a_lone_packet_wakes_once_and_a_busy_line_once_a_millisecond") {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    listener.settle();
    listener.wakes = 0;
    listener.settle();
    assert_eq!(listener.wakes, 0, "nothing happened");
    let mut far = Injector::new("far0");
    far.send(&syn(7000));
    listener.settle();
    assert_eq!((listener.wakes, listener.frames), (1, 1));

    let start = Instant::now();
    let sender = std::thread::spawn(move || {
        let frame = syn(7000);
        while start.elapsed() < Duration::from_millis(500) {
            for _ in 0..20 {
                far.send(&frame);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    listener.settle();
    let elapsed = start.elapsed();
    sender.join().unwrap();
    assert!(listener.frames > 5_000, "{}", listener.frames);
    let most = usize::try_from(elapsed.as_millis()).unwrap() + 20;
    assert!(listener.wakes < most, "{} in {elapsed:?}", listener.wakes);
}

#[test]
fn dropped_packets_are_counted_and_told() {
    if !in_namespace("dropped_packets_are_counted_and_told") {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    listener.notices.clear();
    let mut far = Injector::new("far0");
    let sent = 30_000;
    for _ in 0..sent {
        far.send(&syn(7000));
    }
    listener.run_until("a notice", |listener| !listener.notices.is_empty());
    listener.settle();
    let stats = listener.set.stats();
    assert_eq!(stats.received + stats.dropped, sent);
    assert!(stats.received > 8_000, "the ring holds many: {}", stats.received);
    assert_eq!(stats.received, listener.frames as u64);
    assert_eq!(listener.notices, [format!("wire0: {} packets were dropped because they came too fast", stats.dropped)]);
}

#[test]
fn a_flooded_interface_leaves_time_for_the_others() {
    if !in_namespace("a_flooded_interface_leaves_time_for_the_others") {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0", "lo"]);
    let mut far = Injector::new("far0");
    for _ in 0..8_000 {
        far.send(&syn(7000));
    }
    send_udp("127.0.0.1:9000");
    listener.turn(Duration::from_secs(5));
    assert_eq!(listener.frames, 4096 + 1);
    assert_eq!(listener.knocks.last().unwrap().port, 9000);
    listener.settle();
    assert_eq!(listener.frames, 8_000 + 1);
}

#[test]
fn without_the_right_to_capture_the_error_says_what_to_do() {
    let wrapper = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"];
    if !in_namespace_with("without_the_right_to_capture_the_error_says_what_to_do", &wrapper) {
        return;
    }
    let error = CaptureSet::open(&["lo".into()], filter()).unwrap_err();
    assert!(matches!(error, CaptureError::NotAllowed), "{error:?}");
    assert!(error.to_string().contains("CAP_NET_RAW"));
}

#[test]
fn without_descriptors_the_error_says_what_to_do() {
    let wrapper = ["prlimit", "--nofile=20:20"];
    if !in_namespace_with("without_descriptors_the_error_says_what_to_do", &wrapper) {
        return;
    }
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    for _ in 0..8 {
        let error = CaptureSet::open(&["lo".into()], filter()).map(drop);
        if let Err(error) = error {
            assert!(matches!(error, CaptureError::OutOfDescriptors(_)), "{error:?}");
            assert!(error.to_string().contains("ulimit -n"));
        }
        taken.pop();
    }
    assert!(CaptureSet::open(&["lo".into()], filter()).is_ok());
}

#[test]
fn impossible_names_are_refused() {
    if !in_namespace("impossible_names_are_refused") {
        return;
    }
    for name in ["", "a name", "sixteen-letters!", "eth0/1", "eth0\n"] {
        let error = CaptureSet::open(&[name.to_string()], filter()).unwrap_err();
        assert!(matches!(error, CaptureError::BadName { .. }), "{error:?}");
    }
}

#[test]
fn programs_that_are_started_do_not_inherit_the_capture() {
    if !in_namespace("programs_that_are_started_do_not_inherit_the_capture") {
        return;
    }
    let _listener = Listener::open(&["lo"]);
    let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    assert!(!list.contains("socket:"), "{list}");
}

#[test]
fn link_types_follow_the_interface() {
    if !in_namespace("link_types_follow_the_interface") {
        return;
    }
    for (interface, link_type) in [("lo", LinkType::Ethernet), ("any", LinkType::LinuxSll)] {
        let mut set = CaptureSet::open(&[interface.into()], filter()).unwrap();
        send_udp("127.0.0.1:9000");
        let mut seen = Vec::new();
        let end = Instant::now() + Duration::from_secs(5);
        while seen.is_empty() && Instant::now() < end {
            set.turn(&mut |link_type, _, _| seen.push(link_type)).unwrap();
        }
        assert_eq!(seen, [link_type]);
    }
}
