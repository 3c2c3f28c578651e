//! Frames of every link type: the decoder is compared with a part of itself, with etherparse, and
//! with the kernel, which runs the capture filter.

mod built;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use arbitrary::Unstructured;
use etherparse::{EtherType, LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};
use portknock_core::config::parse;
use portknock_core::decode::decode;
use portknock_core::internals::PortFilter;
use portknock_core::internals::attach_filter;
use portknock_core::{Knock, LinkType, Protocol, TcpFlags, Timestamp};

use crate::packets::{LINK_TYPES, frame, knock, packet};

const TIME: Timestamp = Timestamp::from_secs(1_000);
/// Maximum number of instructions that the kernel accepts.
const LIMIT: usize = 4096;
const BUILT: u8 = 0x80;

/// The first byte selects the link type, the second the length to which the frame is cut, the third
/// the doors. The rest is the frame or, if the first byte is from [`BUILT`], the choices from which
/// one is built.
pub fn check(data: &[u8]) {
    let [kind, cut, doors, frame @ ..] = data else { return };
    let link_type = LINK_TYPES[usize::from(*kind) % LINK_TYPES.len()];
    let built = (*kind >= BUILT).then(|| built::built(link_type, &mut Unstructured::new(frame)));
    let frame = built.as_ref().and_then(|built| built.as_deref().ok()).unwrap_or(frame);
    let knock = decode(link_type, TIME, frame);
    check_cut(link_type, &frame[..usize::from(*cut).min(frame.len())], knock);
    check_independent(link_type, frame, knock);
    if let Some(knock) = knock.filter(|knock| link_type == LinkType::Ethernet && has_its_flags(frame, knock)) {
        Kernel::with(usize::from(*doors), |kernel| kernel.check(frame, &knock));
    }
}

/// Knocks in every link type, after tags and after extension headers.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, link_type) in (0..).zip(LINK_TYPES) {
        for six in [false, true] {
            for (protocol, port) in [(Protocol::Tcp, 7000), (Protocol::Udp, 8000)] {
                let packet = packet(&knock(six, protocol, port));
                seeds.push([&[number, 60, 0][..], &frame(link_type, &packet)].concat());
            }
        }
    }
    // SYNs with options and a tag, and with two extension headers.
    seeds.push(vec![BUILT, 60, 0, 0, 0, 0, 2, 1, 0, 1, 0]);
    seeds.push(vec![BUILT, 90, 0, 1, 0, 0, 2, 2, 4, 0, 3, 1, 0, 0]);
    let six = packet(&knock(true, Protocol::Tcp, 7000));
    for extensions in [
        &[[0, 6, 0, 1, 4, 0, 0, 0, 0]][..],
        &[[44, 60, 0, 0, 0, 1, 0, 0, 0], [60, 43, 0, 1, 4, 0, 0, 0, 0], [43, 6, 0, 0, 0, 0, 0, 0, 0]],
        &[[135, 51, 0, 0, 0, 0, 0, 0, 0], [51, 6, 0, 0, 0, 0, 0, 0, 1]],
    ] {
        let headers: Vec<u8> = extensions.iter().flat_map(|extension| &extension[1..]).copied().collect();
        let mut packet = [&six[..40], &headers, &six[40..]].concat();
        packet[5] += u8::try_from(headers.len()).expect("few headers");
        packet[6] = extensions[0][0];
        seeds.push([&[0, 90, 1][..], &frame(LinkType::Ethernet, &packet)].concat());
    }
    let mut four = packet(&knock(false, Protocol::Tcp, 9000));
    let tags = [&[2; 12][..], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 8, 0], &four].concat();
    seeds.push([&[0, 50, 0][..], &tags].concat());
    // The first of two fragments.
    four[6] = 0x20;
    seeds.push([&[2, 30, 0][..], &four].concat());
    seeds
}

/// False for a segment that ends before its flags. The decoder reports no flags; the kernel drops
/// the segment or reads the following bytes as flags. No host would accept such a segment.
fn has_its_flags(frame: &[u8], knock: &Knock) -> bool {
    knock.protocol == Protocol::Udp
        || knock.flags != TcpFlags::NONE
        || SlicedPacket::from_ethernet(frame).is_ok_and(|sliced| knock_of(&sliced).as_ref() == Some(knock))
}

/// A cut frame gives no more than the complete one.
fn check_cut(link_type: LinkType, frame: &[u8], whole: Option<Knock>) {
    let Some(cut) = decode(link_type, TIME, frame) else { return };
    let whole = whole.unwrap_or_else(|| panic!("{cut:?} of a part of a frame that is not a knock"));
    assert_eq!(cut, Knock { flags: cut.flags, sequence_number: cut.sequence_number, ..whole });
    assert!(whole.flags.contains(cut.flags), "{cut:?} of {whole:?}");
    assert!([0, whole.sequence_number].contains(&cut.sequence_number), "{cut:?} of {whole:?}");
}

/// The result of another decoder does not contradict ours.
fn check_independent(link_type: LinkType, frame: &[u8], knock: Option<Knock>) {
    let sliced = match link_type {
        LinkType::Ethernet => SlicedPacket::from_ethernet(frame),
        LinkType::LinuxSll => SlicedPacket::from_linux_sll(frame),
        LinkType::LinuxSll2 if frame.len() > 20 => {
            SlicedPacket::from_ether_type(EtherType(u16::from_be_bytes([frame[0], frame[1]])), &frame[20..])
        }
        LinkType::Null | LinkType::Loop if frame.len() > 4 => SlicedPacket::from_ip(&frame[4..]),
        LinkType::Raw | LinkType::Ipv4 | LinkType::Ipv6 => SlicedPacket::from_ip(frame),
        _ => return,
    };
    let Ok(sliced) = sliced else { return };
    let Some(theirs) = knock_of(&sliced) else { return };
    match knock {
        Some(ours) => assert_eq!(ours, theirs),
        // The other link types carry information that etherparse does not get.
        None if matches!(link_type, LinkType::Ethernet | LinkType::Raw) => {
            let known = sliced.link_exts.iter().any(|link| matches!(link, LinkExtSlice::Macsec(_))) || is_odd(&sliced);
            assert!(known, "not decoded: {theirs:?}");
        }
        None => {}
    }
}

fn knock_of(sliced: &SlicedPacket<'_>) -> Option<Knock> {
    let (source, destination): (IpAddr, IpAddr) = match sliced.net.as_ref()? {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Arp(_) => return None,
    };
    let knock = Knock {
        time: TIME,
        source,
        destination,
        port: 0,
        protocol: Protocol::Udp,
        flags: TcpFlags::NONE,
        source_port: 0,
        sequence_number: 0,
    };
    match sliced.transport.as_ref()? {
        TransportSlice::Udp(udp) => {
            Some(Knock { port: udp.destination_port(), source_port: udp.source_port(), ..knock })
        }
        TransportSlice::Tcp(tcp) => Some(Knock {
            protocol: Protocol::Tcp,
            port: tcp.destination_port(),
            source_port: tcp.source_port(),
            flags: TcpFlags::from_bits(tcp.slice()[13]),
            sequence_number: tcp.sequence_number(),
            ..knock
        }),
        _ => None,
    }
}

/// True if an IPv6 packet has more extension headers than the decoder follows.
fn is_odd(sliced: &SlicedPacket<'_>) -> bool {
    matches!(&sliced.net, Some(NetSlice::Ipv6(ip)) if ip.extensions().clone().into_iter().count() > 8)
}

/// A socket of this process connected to itself, with the capture filter for some doors. The kernel
/// runs the filter on datagrams as it does on the frames of a packet socket, except for data
/// outside of the packet's bytes.
struct Kernel {
    filter: PortFilter,
    sender: UnixDatagram,
    receiver: UnixDatagram,
}

const DOORS: [&str; 3] = [
    "[options]\nScanGuard = 0\n[a]\nsequence = 7000,8000:udp,9000\ntcpflags = syn\n",
    "[a]\nsequence = 7000,7010,7020\ntcpflags = syn,!ack\n[b]\nsequence = 53:udp,1024,40000:udp\ntcpflags = syn\n",
    "[a]\nsequence = 7000,8000:udp,9000\ntcpflags = fin\n[b]\nsequence = 1,65535\n",
];

impl Kernel {
    fn with(doors: usize, work: impl FnOnce(&Self)) {
        thread_local!(static KERNELS: Vec<Kernel> = DOORS.map(Kernel::new).into());
        KERNELS.with(|kernels| work(&kernels[doors % kernels.len()]));
    }

    fn new(doors: &str) -> Self {
        let filter = PortFilter::new(&parse(doors.as_bytes()).config.expect("a configuration"), 0x5eed);
        let (sender, receiver) = UnixDatagram::pair().expect("two sockets");
        receiver.set_nonblocking(true).expect("a socket that does not block");
        let program = filter.program(LinkType::Ethernet, LIMIT);
        attach_filter(receiver.as_fd(), &program.instructions).expect("the kernel accepts the filter");
        Self { filter, sender, receiver }
    }

    /// No relevant knock is lost.
    fn check(&self, frame: &[u8], knock: &Knock) {
        self.sender.send(frame).expect("a datagram is sent");
        let passed = self.receiver.recv(&mut [0; 1]).is_ok();
        assert!(passed || !self.filter.passes(knock.protocol, knock.port, knock.flags), "the kernel drops {knock:?}");
    }
}
