//! The SYN method as packets: it builds the segments to send and interprets the packets that
//! arrive.
//!
//! This module does no I/O and reads no clock.
//!
//! The sequence number of each SYN is a keyed hash of its ports. Only a host that has received the
//! SYN can know it. An answer is valid if it acknowledges that number, an ICMP error if it quotes
//! the number; spoofed packets have no effect.
//!
//! Each try has its own source port. It identifies the try that an answer belongs to, and it avoids
//! a limit of Linux, which answers repeated SYNs of one connection only every half second.

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeader, TcpHeaderSlice, TcpOptionElement};

use super::icmp::IcmpError;
use super::schedule::{Probe, Schedule};
use super::state::{PortState, Reason};
use crate::packet::set_checksum;

/// Maximum segment size in bytes that an ordinary connection over Ethernet offers. A SYN without
/// this option would be conspicuous.
const MAXIMUM_SEGMENT_SIZE: u16 = 1460;
/// Initial window in bytes, as Linux sends it.
const WINDOW: u16 = 64_240;
/// Size in bytes of a TCP header with one option.
pub(super) const SEGMENT_BYTES: usize = 24;

/// A prober for the ports of one address by SYN.
#[derive(Debug)]
pub(super) struct SynProber {
    schedule: Schedule,
    source: IpAddr,
    target: IpAddr,
    /// The source port of each try and check, by number.
    source_ports: Vec<u16>,
    key: [u8; 16],
}

impl SynProber {
    /// Creates a prober.
    ///
    /// `source_ports` are ports of this machine that nothing else uses, one for each number of a
    /// try or check in the schedule. They must stay reserved while the prober exists: the kernel
    /// answers a SYN/ACK for a port without a connection by an RST, which ends the half-open
    /// connection on the other side. `key` must be secret and random.
    pub(super) fn new(
        schedule: Schedule,
        source: IpAddr,
        target: IpAddr,
        source_ports: Vec<u16>,
        key: [u8; 16],
    ) -> Self {
        Self { schedule, source, target, source_ports, key }
    }

    /// Returns the schedule of the probes.
    pub(super) fn schedule(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    /// Handles a TCP segment from `from`. Segments that do not answer a probe are ignored.
    pub(super) fn segment_received(&mut self, from: IpAddr, segment: &[u8], now: Duration) {
        let Ok(header) = TcpHeaderSlice::from_slice(segment) else { return };
        let Some(probe) = self.probe_of(header.destination_port(), header.source_port()) else { return };
        if from != self.target || !header.ack() {
            return;
        }
        let number = self.sequence_number(header.destination_port(), header.source_port());
        let (state, reason) = match (header.syn(), header.rst(), header.acknowledgment_number().wrapping_sub(number)) {
            (true, false, 1) => (PortState::Open, Reason::SynAck),
            // Some TCP stacks do not count the SYN in their acknowledgement number.
            (_, true, 0 | 1) => (PortState::Closed, Reason::Reset),
            _ => return,
        };
        self.schedule.record(probe, state, reason, now);
    }

    /// Handles an ICMP error from `from` that quotes the packet `quoted`, which begins with its IP
    /// header. Errors that do not quote a probe are ignored.
    pub(super) fn error_received(&mut self, from: IpAddr, error: IcmpError, quoted: &[u8], now: Duration) {
        let Some(reason) = error.reason(Some(from), self.source, self.target) else { return };
        let Some((source, target, segment)) = tcp_packet(quoted) else { return };
        // The ports and the sequence number: an ICMP error quotes at least eight bytes of them (RFC
        // 792).
        let Some(&[s0, s1, p0, p1, n0, n1, n2, n3]) = segment.first_chunk::<8>() else { return };
        let (source_port, port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([p0, p1]));
        let Some(probe) = self.probe_of(source_port, port) else { return };
        let number = u32::from_be_bytes([n0, n1, n2, n3]);
        if (source, target, number) == (self.source, self.target, self.sequence_number(source_port, port)) {
            self.schedule.record(probe, PortState::Filtered, reason, now);
        }
    }

    fn probe_of(&self, source_port: u16, port: u16) -> Option<Probe> {
        let number = self.source_ports.iter().position(|&ours| ours == source_port)?;
        Some(Probe { port, number: u16::try_from(number).ok()? })
    }

    /// Returns a sequence number that only a host which knows the key or has received the SYN can
    /// know.
    fn sequence_number(&self, source_port: u16, port: u16) -> u32 {
        // SipHash, which is designed for this purpose. The key of `DefaultHasher` is fixed, so the
        // secret is hashed first.
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.key);
        hasher.write_u16(source_port);
        hasher.write_u16(port);
        #[allow(clippy::cast_possible_truncation, reason = "either half of the hash is suitable")]
        let number = hasher.finish() as u32;
        number
    }

    /// Returns the segment of a probe.
    pub(super) fn segment(&self, probe: Probe) -> [u8; SEGMENT_BYTES] {
        let source_port = self.source_ports[usize::from(probe.number)];
        let mut header = TcpHeader::new(source_port, probe.port, self.sequence_number(source_port, probe.port), WINDOW);
        header.syn = true;
        // The option fits, so this cannot fail.
        let _ = header.set_options(&[TcpOptionElement::MaximumSegmentSize(MAXIMUM_SEGMENT_SIZE)]);
        set_checksum(&mut header, self.source, self.target);
        let mut segment = [0; SEGMENT_BYTES];
        segment.copy_from_slice(&header.to_bytes());
        segment
    }
}

/// Returns the addresses of a quoted packet, and the quoted part of its TCP segment.
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

    /// Returns the header of the first probe.
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
        prober.schedule.results().next().map(|(_, observation)| (observation.state, observation.reason))
    }

    /// Returns the result after one packet, derived from the probe.
    fn after(from: [u8; 4], change: impl Fn(&mut TcpHeader)) -> Option<(PortState, Reason)> {
        let mut prober = prober();
        let syn = first(&mut prober);
        prober.segment_received(from.into(), &answer(&syn, change), Duration::from_millis(1));
        state(&prober)
    }

    #[test]
    fn a_probe_is_a_syn_that_every_stack_accepts() {
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
    fn answers_distinguish_open_from_closed() {
        assert_eq!(after(TARGET, |answer| answer.syn = true), Some((PortState::Open, Reason::SynAck)));
        assert_eq!(after(TARGET, |answer| answer.rst = true), Some((PortState::Closed, Reason::Reset)));
        let one_less = |answer: &mut TcpHeader| {
            answer.rst = true;
            answer.acknowledgment_number = answer.acknowledgment_number.wrapping_sub(1);
        };
        assert_eq!(after(TARGET, one_less), Some((PortState::Closed, Reason::Reset)));
    }

    #[test]
    fn segments_that_acknowledge_no_probe_are_ignored() {
        for wrong in [1, 2, u32::MAX - 1] {
            for syn in [true, false] {
                let spoofed = |answer: &mut TcpHeader| {
                    (answer.syn, answer.rst) = (syn, !syn);
                    answer.acknowledgment_number = answer.acknowledgment_number.wrapping_add(wrong);
                };
                assert_eq!(after(TARGET, spoofed), None);
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
    fn errors_count_if_they_quote_the_probe() {
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
    fn truncated_packets_do_not_panic() {
        let mut prober = prober();
        let syn = answer(&first(&mut prober), |answer| answer.syn = true);
        for length in 0..syn.len() {
            prober.segment_received(TARGET.into(), &syn[..length], Duration::ZERO);
            prober.error_received(TARGET.into(), IcmpError::V4(3, 3), &syn[..length], Duration::ZERO);
        }
        assert_eq!(state(&prober), None);
    }
}
