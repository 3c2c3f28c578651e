//! The SYN method as packets: which segment to send when, and what the packets that come back mean.
//!
//! Nothing is sent or received here, and no clock is read. Each SYN carries a sequence number that only who has seen it
//! can know: a keyed hash of its ports. An answer counts where it acknowledges that number, an ICMP error where it quotes
//! it; forged ones change nothing. Each try has a source port of its own, which tells which try an answer is for, and
//! since Linux answers repeated SYNs of one connection only every half second.

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeader, TcpHeaderSlice, TcpOptionElement};

use super::icmp::IcmpError;
use super::schedule::{Schedule, Try};
use super::state::{PortState, Reason};
use crate::packet::set_checksum;

/// What an ordinary connection over Ethernet offers; a SYN without it would stand out.
const MAXIMUM_SEGMENT_SIZE: u16 = 1460;
/// What Linux begins with.
const WINDOW: u16 = 64_240;
/// A TCP header with one option.
pub(super) const SEGMENT: usize = 24;

/// Probes the ports of one address by SYN.
#[derive(Debug)]
pub(super) struct SynProber {
    schedule: Schedule,
    source: IpAddr,
    target: IpAddr,
    /// The source port of each try and check.
    source_ports: Vec<u16>,
    key: [u8; 16],
}

impl SynProber {
    /// `source_ports` are ports of this machine that nothing else uses, one for each number that a try or check of the
    /// schedule can have. They stay this prober's until it is done: the kernel answers a SYN/ACK to a port without a
    /// connection by an RST, which is what ends the half-open connection on the other side. `key` is secret and random.
    pub(super) fn new(
        schedule: Schedule,
        source: IpAddr,
        target: IpAddr,
        source_ports: Vec<u16>,
        key: [u8; 16],
    ) -> Self {
        Self { schedule, source, target, source_ports, key }
    }

    /// What to send when, and what is known.
    pub(super) fn schedule(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    /// A TCP segment has come from `from`. Whatever is no answer to a probe changes nothing.
    pub(super) fn segment_received(&mut self, from: IpAddr, segment: &[u8], now: Duration) {
        let Ok(header) = TcpHeaderSlice::from_slice(segment) else { return };
        let Some(probe) = self.probe_of(header.destination_port(), header.source_port()) else { return };
        if from != self.target || !header.ack() {
            return;
        }
        let number = self.sequence_number(header.destination_port(), header.source_port());
        let (state, reason) = match (header.syn(), header.rst(), header.acknowledgment_number().wrapping_sub(number)) {
            (true, false, 1) => (PortState::Open, Reason::SynAck),
            // Some stacks forget that a SYN counts.
            (_, true, 0 | 1) => (PortState::Closed, Reason::Reset),
            _ => return,
        };
        self.schedule.found(probe, state, reason, now);
    }

    /// An ICMP error has come from `from` that quotes this packet, from its IP header on. Whatever quotes no probe changes
    /// nothing.
    pub(super) fn error_received(&mut self, from: IpAddr, error: IcmpError, quoted: &[u8], now: Duration) {
        let Some(reason) = error.reason(Some(from), self.source, self.target) else { return };
        let Some((source, target, segment)) = tcp_packet(quoted) else { return };
        // The ports and the sequence number: RFC 792 asks for so much at the least.
        let Some(&[s0, s1, p0, p1, n0, n1, n2, n3]) = segment.first_chunk::<8>() else { return };
        let (source_port, port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([p0, p1]));
        let Some(probe) = self.probe_of(source_port, port) else { return };
        let number = u32::from_be_bytes([n0, n1, n2, n3]);
        if (source, target, number) == (self.source, self.target, self.sequence_number(source_port, port)) {
            self.schedule.found(probe, PortState::Filtered, reason, now);
        }
    }

    fn probe_of(&self, source_port: u16, port: u16) -> Option<Try> {
        let number = self.source_ports.iter().position(|&ours| ours == source_port)?;
        Some(Try { port, number: u16::try_from(number).ok()? })
    }

    /// A number that only who knows the key or has seen the SYN can know.
    fn sequence_number(&self, source_port: u16, port: u16) -> u32 {
        // SipHash, which is made for this; its own key is fixed, so that the secret goes first.
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.key);
        hasher.write_u16(source_port);
        hasher.write_u16(port);
        #[allow(clippy::cast_possible_truncation, reason = "each half of a hash is as good as the other")]
        let number = hasher.finish() as u32;
        number
    }

    /// The segment of a probe.
    pub(super) fn segment(&self, probe: Try) -> [u8; SEGMENT] {
        let source_port = self.source_ports[usize::from(probe.number)];
        let mut header = TcpHeader::new(source_port, probe.port, self.sequence_number(source_port, probe.port), WINDOW);
        header.syn = true;
        // It fits.
        let _ = header.set_options(&[TcpOptionElement::MaximumSegmentSize(MAXIMUM_SEGMENT_SIZE)]);
        set_checksum(&mut header, self.source, self.target);
        let mut segment = [0; SEGMENT];
        segment.copy_from_slice(&header.to_bytes());
        segment
    }
}

/// The addresses of a packet that was quoted, and what of its TCP segment was.
fn tcp_packet(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    if packet.first()? >> 4 == 4 {
        let header = Ipv4HeaderSlice::from_slice(packet).ok().filter(|header| header.protocol() == IpNumber::TCP)?;
        Some((header.source_addr().into(), header.destination_addr().into(), packet.get(header.slice().len()..)?))
    } else {
        let header = Ipv6HeaderSlice::from_slice(packet).ok().filter(|header| header.next_header() == IpNumber::TCP)?;
        Some((header.source_addr().into(), header.destination_addr().into(), packet.get(header.slice().len()..)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Protocol;
    use crate::probe::schedule::{Next, Options};
    use etherparse::PacketBuilder;

    const TARGET: [u8; 4] = [192, 0, 2, 1];
    const SOURCE: [u8; 4] = [192, 0, 2, 2];

    fn prober() -> SynProber {
        let options =
            Options { protocol: Protocol::Tcp, timeout: Duration::from_secs(3), retries: None, rate: None, seed: 1 };
        let schedule = Schedule::new(&"22".parse().unwrap(), options);
        let source_ports = (61_001..).take(schedule.numbers().into()).collect();
        SynProber::new(schedule, SOURCE.into(), TARGET.into(), source_ports, [7; 16])
    }

    /// The first probe's header.
    fn first(prober: &mut SynProber) -> TcpHeader {
        let Next::Send(probe) = prober.schedule().poll(Duration::ZERO) else { panic!("nothing to send") };
        TcpHeaderSlice::from_slice(&prober.segment(probe)).unwrap().to_header()
    }

    fn answer(to: &TcpHeader, change: impl Fn(&mut TcpHeader)) -> Vec<u8> {
        let mut header = TcpHeader::new(to.destination_port, to.source_port, 1, 1024);
        header.ack = true;
        header.acknowledgment_number = to.sequence_number.wrapping_add(1);
        change(&mut header);
        header.to_bytes().to_vec()
    }

    fn state(prober: &SynProber) -> Option<(PortState, Reason)> {
        prober.schedule.results().next().map(|(_, found)| (found.state, found.reason))
    }

    /// What one packet, made from the probe, leads to.
    fn after(from: [u8; 4], change: impl Fn(&mut TcpHeader)) -> Option<(PortState, Reason)> {
        let mut prober = prober();
        let syn = first(&mut prober);
        prober.segment_received(from.into(), &answer(&syn, change), Duration::from_millis(1));
        state(&prober)
    }

    #[test]
    fn a_probe_is_a_syn_that_every_stack_takes() {
        let syn = first(&mut prober());
        assert!(syn.syn && !syn.ack && !syn.rst && !syn.fin);
        assert_eq!((syn.source_port, syn.destination_port), (61_001, 22));
        assert_eq!(syn.calc_checksum_ipv4_raw(SOURCE, TARGET, &[]).unwrap(), syn.checksum);
        assert_eq!(
            syn.options_iterator().map(Result::unwrap).collect::<Vec<_>>(),
            [TcpOptionElement::MaximumSegmentSize(1460)]
        );
    }

    #[test]
    fn answers_tell_open_from_closed() {
        assert_eq!(after(TARGET, |answer| answer.syn = true), Some((PortState::Open, Reason::SynAck)));
        assert_eq!(after(TARGET, |answer| answer.rst = true), Some((PortState::Closed, Reason::Reset)));
        let one_less = |answer: &mut TcpHeader| {
            answer.rst = true;
            answer.acknowledgment_number = answer.acknowledgment_number.wrapping_sub(1);
        };
        assert_eq!(after(TARGET, one_less), Some((PortState::Closed, Reason::Reset)));
    }

    #[test]
    fn what_acknowledges_no_probe_changes_nothing() {
        for wrong in [1, 2, u32::MAX - 1] {
            for syn in [true, false] {
                let forged = |answer: &mut TcpHeader| {
                    (answer.syn, answer.rst) = (syn, !syn);
                    answer.acknowledgment_number = answer.acknowledgment_number.wrapping_add(wrong);
                };
                assert_eq!(after(TARGET, forged), None);
            }
        }
        assert_eq!(after([192, 0, 2, 9], |answer| answer.syn = true), None);
        assert_eq!(after(TARGET, |answer| (answer.syn, answer.source_port) = (true, 23)), None);
        assert_eq!(after(TARGET, |answer| (answer.syn, answer.destination_port) = (true, 61_002)), None);
        assert_eq!(after(TARGET, |answer| (answer.syn, answer.ack) = (true, false)), None);
        assert_eq!(after(TARGET, |answer| (answer.rst, answer.ack) = (true, false)), None);
        assert_eq!(after(TARGET, |answer| answer.fin = true), None);
    }

    #[test]
    fn errors_count_where_they_quote_the_probe() {
        let quoted = |change: &dyn Fn(&mut TcpHeader), source, target, length: usize| {
            let mut prober = prober();
            let mut syn = first(&mut prober);
            change(&mut syn);
            let mut packet = Vec::new();
            PacketBuilder::ipv4(source, target, 60).tcp_header(syn).write(&mut packet, &[]).unwrap();
            prober.error_received(TARGET.into(), IcmpError::V4(3, 13), &packet[..length], Duration::from_millis(1));
            state(&prober)
        };
        let filtered = Some((PortState::Filtered, Reason::AdminProhibited));
        assert_eq!(quoted(&|_| (), SOURCE, TARGET, 44), filtered);
        assert_eq!(quoted(&|_| (), SOURCE, TARGET, 28), filtered);
        for length in 0..28 {
            assert_eq!(quoted(&|_| (), SOURCE, TARGET, length), None);
        }
        assert_eq!(quoted(&|syn| syn.sequence_number += 1, SOURCE, TARGET, 44), None);
        assert_eq!(quoted(&|syn| syn.source_port += 1, SOURCE, TARGET, 44), None);
        assert_eq!(quoted(&|syn| syn.destination_port += 1, SOURCE, TARGET, 44), None);
        assert_eq!(quoted(&|_| (), TARGET, SOURCE, 44), None);
        assert_eq!(quoted(&|_| (), SOURCE, [192, 0, 2, 9], 44), None);
    }

    #[test]
    fn no_bytes_panic() {
        let mut prober = prober();
        let syn = answer(&first(&mut prober), |answer| answer.syn = true);
        for length in 0..syn.len() {
            prober.segment_received(TARGET.into(), &syn[..length], Duration::ZERO);
            prober.error_received(TARGET.into(), IcmpError::V4(3, 3), &syn[..length], Duration::ZERO);
        }
        assert_eq!(state(&prober), None);
    }
}
