//! Random doors, and the packets that matter to them.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use fastrand::Rng;

/// The TCP flags, in the letters of `pktgen` and in the words of a configuration.
const FLAGS: [(char, &str); 6] = [('F', "fin"), ('S', "syn"), ('R', "rst"), ('P', "psh"), ('A', "ack"), ('U', "urg")];

/// The server's addresses of each family; doors can have the second one as their `target`.
const SERVER: [[&str; 2]; 2] = [["10.0.0.1", "10.0.0.9"], ["fd00::1", "fd00::9"]];

/// Lifetime of attempts at short doors: longer than all packets before the pause take on a slow
/// machine.
pub(super) const SHORT: Duration = Duration::from_secs(12);
/// Lifetime of attempts at the other doors: longer than a run takes.
const LONG: Duration = Duration::from_secs(600);

/// A port with its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) port: u16,
    pub(super) is_udp: bool,
}

impl Step {
    fn random(rng: &mut Rng, ports: &[u16]) -> Self {
        Self { port: ports[rng.usize(..ports.len())], is_udp: rng.u8(..10) < 3 }
    }
}

/// As in a configuration: `7000` or `7000:udp`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.port, if self.is_udp { ":udp" } else { "" })
    }
}

/// A packet of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// It goes to the server's second address.
    pub(super) to_second: bool,
    pub(super) step: Step,
    /// Bit i stands for flag i of [`FLAGS`].
    pub(super) flags: u8,
}

impl Packet {
    /// The rest of the line for the program `send`, after the source.
    pub(super) fn line(&self, source: IpAddr) -> String {
        let to = SERVER[usize::from(source.is_ipv6())][usize::from(self.to_second)];
        let letters: String = letters(self.flags);
        let kind = match letters.as_str() {
            _ if self.step.is_udp => "udp",
            "" => "-",
            letters => letters,
        };
        format!("{to} {} {kind}", self.step.port)
    }
}

fn letters(flags: u8) -> String {
    FLAGS.iter().enumerate().filter(|(i, _)| flags & (1 << i) != 0).map(|(_, (letter, _))| letter).collect()
}

/// A door and its line in the configuration.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
    must: u8,
    must_not: u8,
    /// 0 for IPv4, 1 for IPv6: the second address of this family is its `target`.
    target: Option<usize>,
    /// Its attempts time out in the pause of a run.
    pub(super) is_short: bool,
}

impl Door {
    /// This number of doors, with ports and beginnings in common.
    pub(super) fn random(rng: &mut Rng, count: usize) -> Vec<Self> {
        let ports: Vec<u16> = (0..count).map(|_| rng.u16(1..50_000)).collect();
        let mut doors: Vec<Self> = Vec::new();
        for i in 0..count {
            let mut steps: Vec<Step> = Vec::new();
            if !doors.is_empty() && rng.u8(..10) < 4 {
                let other = &doors[rng.usize(..doors.len())].steps;
                steps.extend(&other[..rng.usize(1..=other.len())]);
            }
            // Some repeat a port, one after another or later.
            for _ in 0..rng.usize(1..=4) {
                let again = steps.last().copied().filter(|_| rng.u8(..10) < 2);
                steps.push(again.unwrap_or_else(|| Step::random(rng, &ports)));
            }
            let (mut must, mut must_not) = (0, 0);
            match rng.u8(..10) {
                0..4 => {}
                4..6 => must = 0b10,
                6 => (must, must_not) = (0b10, 0b1_0000),
                _ => {
                    must = rng.u8(..64) & rng.u8(..64);
                    must_not = rng.u8(..64) & rng.u8(..64) & !must;
                }
            }
            let target = Some(rng.usize(..2)).filter(|_| rng.u8(..10) < 2);
            doors.push(Self { name: format!("door{i}"), steps, must, must_not, target, is_short: rng.u8(..10) < 4 });
        }
        doors
    }

    /// Its section of a configuration.
    pub(super) fn section(&self) -> String {
        let steps: Vec<String> = self.steps.iter().map(Step::to_string).collect();
        let mut text = format!(
            "[{}]\nsequence = {}\nseq_timeout = {}\n",
            self.name,
            steps.join(","),
            if self.is_short { SHORT } else { LONG }.as_secs()
        );
        let named = |flags: u8, sign: &str| -> Vec<String> {
            let set = FLAGS.iter().enumerate().filter(|(i, _)| flags & (1 << i) != 0);
            set.map(|(_, (_, name))| format!("{sign}{name}")).collect()
        };
        let flags = [named(self.must, ""), named(self.must_not, "!")].concat();
        if !flags.is_empty() {
            text += &format!("tcpflags = {}\n", flags.join(","));
        }
        if let Some(family) = self.target {
            text += &format!("target = {}\n", SERVER[family][1]);
        }
        text
    }

    /// True if the packet goes to an address of this door.
    pub(super) fn is_for(&self, packet: &Packet, source: IpAddr) -> bool {
        self.target.is_none_or(|family| packet.to_second && family == usize::from(source.is_ipv6()))
    }

    /// True if the packet goes to an address of this door, with flags that it asks for.
    pub(super) fn sees(&self, packet: &Packet, source: IpAddr) -> bool {
        let flags_match = packet.flags & self.must == self.must && packet.flags & self.must_not == 0;
        self.is_for(packet, source) && (packet.step.is_udp || flags_match)
    }

    /// True if the packet is not an answer to a packet of the server (SYN with ACK, or RST), or the
    /// door names ACK or RST.
    pub(super) fn names_answer(&self, packet: &Packet) -> bool {
        packet.step.is_udp || self.without_answers(packet.flags) == packet.flags
    }

    /// The flags without those that make a segment an answer that the door does not name.
    fn without_answers(&self, mut flags: u8) -> u8 {
        let (syn, rst, ack) = (0b10, 0b100, 0b1_0000);
        if self.must & rst == 0 {
            flags &= !rst;
        }
        if flags & syn != 0 && self.must & ack == 0 {
            flags &= !ack;
        }
        flags
    }

    /// A packet for its step of this number. It matches the door if the source is of the family of
    /// its target.
    pub(super) fn right_packet(&self, rng: &mut Rng, stage: usize) -> Packet {
        let flags = self.without_answers((rng.u8(..64) & rng.u8(..64) | self.must) & !self.must_not);
        let to_second = self.target.is_some() || rng.u8(..10) < 2;
        Packet { to_second, step: self.steps[stage], flags }
    }
}
