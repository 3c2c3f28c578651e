//! Random doors and random traffic, sent to knockd and portknockd at the same time, limited to the
//! part for which both must agree.

mod case;
mod door;
mod wire;

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::case::Case;
use self::door::{Door, Packet, SHORT};
use self::wire::{Outcomes, Wire};

/// Maximum number of disagreements that are shown; a burst with one fault has many consequences.
const MOST_SHOWN: usize = 3;

/// One configuration, and sources that knock at its doors.
#[derive(Debug)]
pub struct Run {
    rng: Rng,
    seed: u64,
    doors: Vec<Door>,
    cases: Vec<Case>,
    loses: bool,
}

/// A source that the two daemons treat differently.
#[derive(Clone, Debug)]
pub struct Disagreement(String);

/// Doors, packets, and the result of each daemon.
impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Run {
    /// Doors and cases of this seed: the same seed makes the same ones.
    pub fn new(seed: u64, cases: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let doors = Door::random(&mut rng, 24);
        let cases = (0..cases).map(|i| Case::random(&mut rng, &doors, source(i))).collect();
        Self { rng, seed, doors, cases, loses: false }
    }

    /// The same, but two packets are lost on the way, which [`Run::play`] must notice.
    pub fn losing(self) -> Self {
        Self { loses: true, ..self }
    }

    /// The configuration of both daemons.
    pub fn config(&self) -> String {
        self.doors.iter().map(Door::section).collect()
    }

    /// Sends everything to both daemons. Returns the number of openings at portknockd, and the
    /// disagreements of the two. knockd gets `their_config`. Panics if one of them has lost
    /// packets.
    pub fn play(mut self, their_config: &str) -> (usize, Vec<Disagreement>) {
        // The events are read from the log.
        let ours = format!("[options]\nLogRate = 0\n{}", self.config());
        let mut wire = Wire::new([&ours, their_config]);
        wire.loses = self.loses;
        self.send_part(&mut wire, 0);
        sleep(SHORT);
        self.send_part(&mut wire, 1);
        let missed = wire.has_missed_packets();
        let outcomes = wire.outcomes();
        let [ours, theirs] = &outcomes;
        let differs = |case: &&Case| ours.of_source(case.source) != theirs.of_source(case.source);
        let mut found = Vec::new();
        for (i, case) in self.cases.iter().filter(differs).take(MOST_SHOWN).enumerate() {
            // If packets were lost, only disagreements that occur again count.
            match self.shrunk(&mut wire, case, i) {
                Some(smallest) => found.push(self.disagreement(&wire.outcomes(), &smallest)),
                None if missed.is_none() => found.push(self.disagreement(&outcomes, case)),
                None => {}
            }
        }
        if let Some(name) = missed.filter(|_| found.is_empty()) {
            panic!("{name} has lost packets of seed {}, so there is nothing to compare", self.seed);
        }
        if found.is_empty() && ours.openings != theirs.openings {
            found.push(Disagreement(format!("seed {}: the order of openings of several sources", self.seed)));
        }
        (ours.openings.len(), found)
    }

    /// Sends the packets of all cases before the pause (0) or after it (1), each source's in its
    /// order.
    fn send_part(&mut self, wire: &mut Wire, part: usize) {
        let start = Instant::now();
        let mut waiting: Vec<_> = self.cases.iter().map(|case| (case.source, case.parts[part].iter())).collect();
        while !waiting.is_empty() {
            let i = self.rng.usize(..waiting.len());
            match waiting[i].1.next() {
                Some(packet) => wire.send(waiting[i].0, packet),
                None => drop(waiting.swap_remove(i)),
            }
        }
        wire.flush();
        let room = SHORT - Duration::from_secs(1);
        assert!(start.elapsed() < room, "the machine is too slow: {} packets took {:?}", wire.sent(), start.elapsed());
    }

    /// Removes packets as long as the two daemons still disagree when the rest is sent from another
    /// source, alone. `None` if they agree: some disagreements need the pause, or other sources.
    fn shrunk(&self, wire: &mut Wire, case: &Case, number: usize) -> Option<Case> {
        let mut fresh = (self.cases.len() + 1_000 * (number + 1)..).map(source);
        let mut fresh = || fresh.by_ref().find(|fresh| fresh.is_ipv4() == case.source.is_ipv4()).expect("addresses");
        let mut disagrees = |packets: &[Packet]| {
            let case = Case::of(fresh(), &self.doors, [packets, &[]])?;
            for packet in &case.parts[0] {
                wire.send(case.source, packet);
            }
            wire.flush();
            let [ours, theirs] = wire.outcomes();
            (ours.of_source(case.source) != theirs.of_source(case.source)).then_some(case)
        };
        let mut smallest = case.parts.iter().find_map(|packets| disagrees(packets))?;
        let mut i = 0;
        while i < smallest.parts[0].len() {
            let mut packets = smallest.parts[0].clone();
            packets.remove(i);
            match disagrees(&packets) {
                Some(smaller) => smallest = smaller,
                None => i += 1,
            }
        }
        Some(smallest)
    }

    fn disagreement(&self, [ours, theirs]: &[Outcomes; 2], case: &Case) -> Disagreement {
        let [ours, theirs] = [ours, theirs].map(|outcomes| outcomes.of_source(case.source));
        let mut text = format!("seed {}: {} is treated differently\n", self.seed, case.source);
        let concerned = |door: &&Door| {
            let prefix = format!("{}: ", door.name);
            ours.iter().chain(theirs).any(|event| event.starts_with(&prefix))
        };
        for door in self.doors.iter().filter(concerned) {
            text += &door.section();
        }
        let lines =
            |packets: &[Packet]| -> Vec<String> { packets.iter().map(|packet| packet.line(case.source)).collect() };
        let _ = write!(
            text,
            "sent (destination, port, flags):\n  {}\nafter the pause:\n  {}\nportknockd:\n  {}\nknockd:\n  {}\n",
            lines(&case.parts[0]).join("\n  "),
            lines(&case.parts[1]).join("\n  "),
            ours.join("\n  "),
            theirs.join("\n  ")
        );
        Disagreement(text)
    }
}

/// An address, which no host has, for the source of this number; every third is an IPv6 address.
fn source(number: usize) -> IpAddr {
    let number = u32::try_from(number).expect("some thousand sources");
    if number % 3 == 2 {
        Ipv6Addr::from_bits((0xfd01 << 112) + u128::from(number)).into()
    } else {
        Ipv4Addr::from_bits(0x0a01_0000 + number).into()
    }
}
