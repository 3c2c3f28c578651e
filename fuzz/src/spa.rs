//! Authenticated packets: an engine with keys opens a door for a valid packet once, and for no
//! altered, invented or repeated packet.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use etherparse::PacketBuilder;
use portknock_core::internals::seal_with;
use portknock_core::keys::{KEY_LENGTH, Key, NamedKey};
use portknock_core::spa::PacketContent;
use portknock_core::{Config, Door, Engine, EventKind, LinkType, OpenPort, PacketFormat, TimeSequence, Timestamp};

use crate::packets::{LINK_TYPES, frame};

/// The wall clock at the start of each run.
const START: u64 = 1_800_000_000;
/// Maximum number of packets in a run. The replay memory stores as many of a key.
const MAX_PACKETS: usize = 60;
const PORT: u16 = 62_201;
const NAMES: [&str; 4] = ["a", "b", "c", "stranger"];
const DOORS: [&str; 4] = ["ssh", "web", "plain", "none"];

/// Valid, altered, repeated, early and late packets, and arbitrary bytes.
pub fn seeds() -> Vec<Vec<u8>> {
    let valid = [0, 0, 0, 0, 0, 0, 0, 0];
    let again = [2, 0];
    let wait = [3, 10];
    let altered = [1, 0, 0, 0, 0, 0, 0, 0, 12, 1];
    let late = [0, 1, 0, 200, 0, 0, 0, 0];
    let other = [0, 1, 1, 0, 1, 7, 1, 2];
    let back = [4, 60];
    [
        [&valid[..], &again, &other].concat(),
        [&altered[..], &valid, &wait, &again, &late].concat(),
        [&valid[..], &back, &again, &valid].concat(),
        [&[5][..], &[0x6b; 96]].concat(),
    ]
    .into()
}

/// Decodes the bytes as actions until they end.
pub fn check(bytes: &[u8]) {
    let mut run = Run::new();
    let mut u = Unstructured::new(bytes);
    while !u.is_empty() && run.packets.len() < MAX_PACKETS && run.act(&mut u).is_ok() {}
}

struct Run {
    engine: Engine,
    now: Timestamp,
    wall: Timestamp,
    /// The clock was not set back.
    is_steady: bool,
    /// The valid packets so far, each with its content and the name of its key.
    packets: Vec<(Vec<u8>, PacketContent, &'static str)>,
    /// The packets that opened a door or were refused. None of them opens a door again.
    recorded: HashSet<Vec<u8>>,
    /// The keys of which a packet was refused. Its time may raise the floor of the replay memory over
    /// the times of other packets.
    refused: HashSet<&'static str>,
}

impl Run {
    fn new() -> Self {
        let mut run = Self {
            engine: Engine::new(&config()),
            now: Timestamp::from_secs(1_000),
            wall: Timestamp::from_secs(START),
            is_steady: true,
            packets: Vec::new(),
            recorded: HashSet::new(),
            refused: HashSet::new(),
        };
        run.engine.set_wall_clock(run.wall, run.now);
        run
    }

    fn act(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=5)? {
            0 => {
                self.add_packet(u)?;
                self.send(self.packets.len() - 1, u)?;
            }
            1 => {
                self.add_packet(u)?;
                let mut altered = self.packets[self.packets.len() - 1].0.clone();
                let at = u.choose_index(altered.len())?;
                altered[at] ^= u.int_in_range(1..=u8::MAX)?;
                self.assert_nothing_opens(&altered, u)?;
            }
            2 if !self.packets.is_empty() => {
                let index = u.choose_index(self.packets.len())?;
                self.send(index, u)?;
            }
            3 => {
                let span = Duration::from_secs(u.arbitrary::<u8>()?.into());
                (self.now, self.wall) = (self.now.saturating_add(span), self.wall.saturating_add(span));
                self.engine.handle_timeout(self.now);
            }
            4 => {
                let seconds = u64::from(u.arbitrary::<u8>()?) * 30;
                self.wall = Timestamp::from_nanos(self.wall.as_nanos() - seconds * 1_000_000_000);
                self.is_steady = false;
                self.engine.set_wall_clock(self.wall, self.now);
            }
            _ => {
                let length = u.int_in_range(0..=100)?.min(u.len());
                let bytes = u.bytes(length)?.to_vec();
                if self.packets.iter().all(|(packet, ..)| *packet != bytes) {
                    self.assert_nothing_opens(&bytes, u)?;
                }
            }
        }
        Ok(())
    }

    /// Adds a packet.
    fn add_packet(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (name, door) = (*u.choose(&NAMES)?, *u.choose(&DOORS)?);
        let offset = i64::from(u.arbitrary::<i8>()?) * 1_000_000_000 + i64::from(u.arbitrary::<i8>()?) * 1_000_000;
        let address = match u.int_in_range(0..=2)? {
            0 => None,
            1 => Some(IpAddr::from([10, 0, 1, u.arbitrary()?])),
            _ => Some("2001:db8:1::7".parse().expect("an address")),
        };
        let content = PacketContent {
            time: Timestamp::from_nanos(self.wall.as_nanos().saturating_add_signed(offset) / 1_000_000 * 1_000_000),
            address,
            seconds: u.arbitrary::<u8>()?.into(),
            door: door.to_owned(),
        };
        let mut nonce = [0; 12];
        nonce[0] = u8::try_from(self.packets.len()).expect("at most MAX_PACKETS");
        nonce[1] = u.arbitrary()?;
        let packet = seal_with(&key(name), &content, nonce).expect("a short name");
        self.packets.push((packet.to_vec(), content, name));
        Ok(())
    }

    /// Sends a packet, which opens its door if the rules permit.
    fn send(&mut self, index: usize, u: &mut Unstructured<'_>) -> Result<()> {
        let (packet, content, name) = self.packets[index].clone();
        let opened = self.feed(&packet, u)?;
        let offset = i128::from(content.time.as_nanos()) - i128::from(self.wall.as_nanos());
        let is_timely = offset.unsigned_abs() <= Duration::from_secs(60).as_nanos();
        let is_door = matches!((name, &*content.door), ("a" | "b", "ssh") | ("b" | "c", "web"));
        // The door permits these addresses alone.
        let is_address = content.address.is_none_or(|ip| ip.is_ipv4());
        let may_open = is_timely && is_door && is_address && !self.recorded.contains(&packet);
        assert!(opened.is_empty() || may_open, "{content:?} of {name} opened {opened:?}");
        if may_open && self.is_steady && !self.refused.contains(name) {
            let expected = content.address.unwrap_or([10, 0, 1, 1].into());
            assert_eq!(opened, [(content.door.clone(), expected, name.to_owned())]);
        }
        // The hints of two minutes before and after the present one are known.
        let is_known = name != "stranger" && offset.unsigned_abs() <= Duration::from_secs(120).as_nanos();
        if !opened.is_empty() || is_known {
            self.recorded.insert(packet);
        }
        if opened.is_empty() && name != "stranger" {
            self.refused.insert(name);
        }
        Ok(())
    }

    fn assert_nothing_opens(&mut self, payload: &[u8], u: &mut Unstructured<'_>) -> Result<()> {
        assert_eq!(self.feed(payload, u)?, []);
        Ok(())
    }

    /// Sends a datagram. Returns each door that opened, with the address and the name of the key.
    fn feed(&mut self, payload: &[u8], u: &mut Unstructured<'_>) -> Result<Vec<(String, IpAddr, String)>> {
        let link_type: LinkType = *u.choose(&LINK_TYPES[..3])?;
        let mut packet = Vec::new();
        let ip = PacketBuilder::ipv4([10, 0, 1, 1], [10, 0, 0, 1], 64);
        ip.udp(40_000, PORT).write(&mut packet, payload).expect("memory accepts every byte");
        self.engine.feed(link_type, self.now, &frame(link_type, &packet));
        let mut opened = Vec::new();
        while let Some(event) = self.engine.poll_event() {
            if let EventKind::Open { key, .. } | EventKind::Extend { key, .. } = event.kind {
                let key = key.expect("only keys open doors").to_string();
                opened.push((event.door.to_string(), event.ip, key));
            }
        }
        Ok(opened)
    }
}

fn key(name: &str) -> Key {
    Key::from_bytes([7; KEY_LENGTH]).for_server(name)
}

/// Two doors of packets that share a key, and a door of time sequences.
fn config() -> Config {
    let named = |name: &str| NamedKey { name: name.into(), key: key(name) };
    let door = |name, keys: &[&str]| Door {
        keys: keys.iter().map(|name| named(name)).collect(),
        open: [OpenPort { protocol: portknock_core::Protocol::Tcp, port: 22.try_into().expect("a port") }].into(),
        ..Door::new(name, None)
    };
    let packet = Some(PacketFormat::Portknock);
    let allow = vec!["10.0.0.0/8".parse().expect("a network")];
    let doors = vec![
        Door { packet, allow: allow.clone(), ..door("ssh", &["a", "b"]) },
        Door { packet, allow, ..door("web", &["b", "c"]) },
        Door { time_sequence: Some(TimeSequence::default()), ..door("plain", &["a"]) },
    ];
    Config { doors, ..Config::default() }
}
