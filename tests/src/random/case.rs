//! One source and what it sends: right and wrong knocks by chance, inside the part where knockd and portknockd must agree.

use std::net::IpAddr;

use fastrand::Rng;

use super::door::{Door, Packet, Step};

/// The attempts of one source, as far as needed to know where the two differ on purpose.
#[derive(Clone, Debug, Default)]
struct Attempts {
    /// Each with its door's place and the number of steps matched.
    live: Vec<(usize, usize)>,
    /// Where packets went that no door takes there: the scan guard may count them.
    unseen: Vec<Step>,
}

/// Number of ports that the scan guard allows by default.
const SCAN_GUARD: usize = 8;

impl Attempts {
    /// Takes the packet in; false where the two differ on purpose, so that the packet must not be sent:
    ///
    /// - The step just matched comes once more: an attempt ends at knockd.
    /// - It answers what the server sent and some door does not name that: it is a knock at knockd.
    /// - No door takes it at its port and it is one more than the scan guard allows: an attempt ends at portknockd.
    /// - A first step comes while the source has an attempt: it is lost at knockd.
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

    /// The pause: attempts at short doors are over.
    fn pause(&mut self, doors: &[Door]) {
        self.live.retain(|&(door, _)| !doors[door].is_short);
    }
}

/// A source with its packets.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) source: IpAddr,
    /// What it sends before the pause, and after it.
    pub(super) parts: [Vec<Packet>; 2],
}

impl Case {
    /// The case of these packets; `None` where they lead out of the part where both must agree.
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

    /// A case by chance.
    pub(super) fn random(rng: &mut Rng, doors: &[Door], source: IpAddr) -> Self {
        // Fewer than the scan guard takes for a scan.
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

/// A packet that may be right.
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
