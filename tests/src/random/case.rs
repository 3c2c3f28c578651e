//! One source and its packets: correct and wrong knocks by chance, limited to those for which
//! knockd and portknockd must agree.

use std::net::IpAddr;

use fastrand::Rng;

use super::door::{Door, Packet, Step};

/// The attempts of one source, as far as needed to find deliberate differences between the two
/// daemons.
#[derive(Clone, Debug, Default)]
struct Attempts {
    /// Each with the index of its door and the number of matched steps.
    live: Vec<(usize, usize)>,
    /// Ports of packets that no door accepts there: the scan guard may count them.
    unseen: Vec<Step>,
}

/// Number of ports that the scan guard allows by default.
const SCAN_GUARD: usize = 8;

impl Attempts {
    /// Applies the packet. Returns false if the two daemons differ on purpose, so that the packet
    /// must not be sent:
    ///
    /// - The step just matched arrives once more: knockd ends an attempt.
    /// - The packet answers one of the server, and some door does not name its flags: knockd counts
    ///   it as a knock.
    /// - No door accepts the packet at its port, and it exceeds the limit of the scan guard:
    ///   portknockd ends an attempt.
    /// - A first step arrives while the source has an attempt: knockd loses it.
    fn take(&mut self, doors: &[Door], packet: &Packet, source: IpAddr) -> bool {
        if doors.iter().any(|door| door.sees(packet, source) && !door.names_answer(packet)) {
            return false;
        }
        if !doors.iter().any(|door| door.steps.contains(&packet.step) && door.sees(packet, source)) {
            if !self.unseen.contains(&packet.step) {
                self.unseen.push(packet.step);
            }
            return self.unseen.len() <= SCAN_GUARD;
        }
        let mut next = Vec::new();
        for &(door, stage) in &self.live {
            let Door { steps, .. } = &doors[door];
            if !doors[door].sees(packet, source) {
                next.push((door, stage));
            } else if steps[stage] == packet.step {
                next.push((door, stage + 1));
            } else if steps[stage - 1] == packet.step {
                return false;
            }
        }
        for (place, door) in doors.iter().enumerate() {
            let is_step = |&(other, stage): &(usize, usize)| other == place && door.steps[stage] == packet.step;
            if door.steps[0] == packet.step && door.sees(packet, source) && !self.live.iter().any(is_step) {
                if !self.live.is_empty() {
                    return false;
                }
                next.push((place, 1));
            }
        }
        next.retain(|&(door, stage)| stage < doors[door].steps.len());
        self.live = next;
        true
    }

    /// The pause: attempts at short doors have timed out.
    fn pause(&mut self, doors: &[Door]) {
        self.live.retain(|&(door, _)| !doors[door].is_short);
    }
}

/// A source with its packets.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) source: IpAddr,
    /// The packets before the pause, and after it.
    pub(super) parts: [Vec<Packet>; 2],
}

impl Case {
    /// The case of these packets; `None` if they leave the part for which both must agree.
    pub(super) fn of(source: IpAddr, doors: &[Door], parts: [&[Packet]; 2]) -> Option<Self> {
        let mut attempts = Attempts::default();
        for (i, part) in parts.iter().enumerate() {
            if i == 1 {
                attempts.pause(doors);
            }
            if !part.iter().all(|packet| attempts.take(doors, packet, source)) {
                return None;
            }
        }
        Some(Self { source, parts: parts.map(<[Packet]>::to_vec) })
    }

    /// A random case.
    pub(super) fn random(rng: &mut Rng, doors: &[Door], source: IpAddr) -> Self {
        // Fewer than the scan guard considers a scan.
        let unused: Vec<Step> = (0..4).map(|_| Step { port: rng.u16(50_000..60_000), is_udp: rng.bool() }).collect();
        let mut attempts = Attempts::default();
        let mut parts = [Vec::new(), Vec::new()];
        for (i, part) in parts.iter_mut().enumerate() {
            if i == 1 {
                attempts.pause(doors);
            }
            for _ in 0..rng.usize(1..=10) {
                let packet = propose(rng, doors, &attempts, &unused);
                if attempts.take(doors, &packet, source) {
                    part.push(packet);
                }
            }
        }
        Self { source, parts }
    }
}

/// A packet that may be correct.
fn propose(rng: &mut Rng, doors: &[Door], attempts: &Attempts, unused: &[Step]) -> Packet {
    let (door, stage) = match attempts.live.as_slice() {
        [] => (rng.usize(..doors.len()), 0),
        live => live[rng.usize(..live.len())],
    };
    let mut packet = doors[door].right_packet(rng, stage);
    match rng.u8(..100) {
        0..75 => {}
        75..82 => packet.step = unused[rng.usize(..unused.len())],
        82..88 => packet.flags = rng.u8(..64),
        88..91 => packet.step.is_udp ^= true,
        91..94 => packet.to_second ^= true,
        _ => {
            let other = &doors[rng.usize(..doors.len())];
            let stage = rng.usize(..other.steps.len());
            packet = other.right_packet(rng, stage);
        }
    }
    packet
}
