//! A reader that misbehaves as a compromised reader could, instead of `portknockd --reader`.
//!
//! It opens the first door once, for 10.0.0.2, and misbehaves from then on. It writes its messages
//! by hand, byte for byte.
#![allow(clippy::unwrap_used, reason = "a test tool may end with a panic")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread::{park, sleep};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;

/// Misbehaves as a reader on standard input
#[derive(Parser)]
struct Hostile {
    /// The misbehaviour
    misbehaviour: String,
    /// A directory in which the first reader leaves a mark for its successors
    directory: String,
}

/// The messages that the daemon sends, in the order of their numbers.
#[allow(dead_code, reason = "the numbers follow from all of them")]
#[derive(Clone, Copy, PartialEq, Eq)]
enum ToReader {
    Start,
    Attempts,
    Begin,
    Reload,
    Sequence,
    Windows,
    Hints,
    Network,
    CatchUp,
    Count,
    HandOver,
}

/// The messages to the daemon, in the order of their numbers.
#[allow(dead_code, reason = "the numbers follow from all of them")]
enum FromReader {
    Ready,
    Failed,
    DoorEvent,
    Packet,
    UnknownPacket,
    Knock,
    Capture,
    CaughtUp,
    Reloaded,
    AskNetwork,
    AskRestart,
    Counts,
    Attempts,
    HandedOver,
    Alive,
}

/// Messages to the daemon. Each is a number and its contents; numbers of more than 7 bits are
/// varints.
const READY: &[u8] = &[FromReader::Ready as u8, 0];
const ASK_NETWORK: &[u8] = &[FromReader::AskNetwork as u8];
const LISTENING: &[u8] = &[FromReader::Capture as u8, 0, 0];
const LOST: &[u8] = &[FromReader::Capture as u8, 0, 2, 1];
const ASK_RESTART: [u8; 2] = [FromReader::AskRestart as u8, 0];
const ASK_LATER_RESTART: [u8; 2] = [FromReader::AskRestart as u8, 1];

/// Number of the numbers in the message with counts.
const COUNTS: usize = 8;

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [varint(text.len() as u64), text.as_bytes().to_vec()].concat()
}

/// A time just before now, on the daemon's clock.
fn now() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - Duration::from_millis(50);
    u64::try_from(time.as_nanos()).unwrap()
}

/// A report about a door; `kind` as in `&[1]`, a complete sequence.
fn door_event(time: u64, door: u8, ip: [u8; 4], what: &[u8]) -> Vec<u8> {
    [&[FromReader::DoorEvent as u8][..], &varint(time), &[door, 0], &ip, what].concat()
}

fn attempts(count: u8) -> Vec<u8> {
    let attempt = [0, 10, 0, 0, 2, 0, 0, 1, 1, 1, 1, 0];
    [&[FromReader::Attempts as u8, count][..], &attempt.repeat(count.into())].concat()
}

fn lost(message: &str) -> Vec<u8> {
    [&[FromReader::Capture as u8, 0, 2, 3][..], &text(message)].concat()
}

/// A message with its length.
fn framed(message: &[u8]) -> Vec<u8> {
    [&u32::try_from(message.len()).unwrap().to_le_bytes(), message].concat()
}

struct Daemon(UnixStream);

impl Daemon {
    /// Exits if the daemon does not read the message.
    fn write(&mut self, bytes: &[u8]) {
        if self.0.write_all(bytes).is_err() {
            std::process::exit(0);
        }
    }

    fn send(&mut self, message: &[u8]) {
        self.write(&framed(message));
    }

    /// Sends the message repeatedly.
    fn flood(&mut self, message: impl Fn() -> Vec<u8>) -> ! {
        loop {
            let many: Vec<_> = (0..500).flat_map(|_| framed(&message())).collect();
            self.write(&many);
        }
    }

    /// The next message, which begins with its number.
    fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        if self.0.read_exact(&mut length).is_err() {
            std::process::exit(0);
        }
        let mut message = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut message).unwrap();
        message
    }

    /// The next message of this kind. Others are ignored.
    fn wait_for(&mut self, kind: ToReader) -> Vec<u8> {
        loop {
            let message = self.receive();
            if message[0] == kind as u8 {
                return message;
            }
        }
    }

    /// Lets the daemon start a successor, and waits for the request for the attempts.
    fn provoke_hand_over(&mut self) {
        self.send(&ASK_RESTART);
        self.wait_for(ToReader::HandOver);
    }
}

fn main() {
    let Hostile { misbehaviour, directory } = Hostile::parse();
    // The tests identify a reader by this name.
    fs::write("/proc/self/comm", "portknockd-read").unwrap();
    let is_first = File::create_new(Path::new(&directory).join("first")).is_ok();
    let mut daemon = Daemon(UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap()));
    if misbehaviour == "is never ready" && !is_first {
        hang();
    }
    let start = daemon.wait_for(ToReader::Start);
    fs::write(Path::new(&directory).join("start"), &start).unwrap();
    daemon.send(READY);
    daemon.wait_for(ToReader::Begin);
    if is_first {
        daemon.send(&door_event(now(), 0, [10, 0, 0, 2], &[1]));
        // Reports that arrive together with a protocol violation are discarded.
        sleep(Duration::from_millis(300));
    }
    if misbehaviour.contains(" packets") && misbehaviour != "reports packets" {
        pass_on(&mut daemon, &misbehaviour, Path::new(&directory), &start);
    }
    misbehave(&mut daemon, &misbehaviour);
    hang();
}

fn hang() -> ! {
    loop {
        park();
    }
}

fn misbehave(daemon: &mut Daemon, misbehaviour: &str) {
    let long = "x".repeat(60_000);
    match misbehaviour {
        "sends nothing" => {}
        "is never ready" | "exits" => std::process::exit(0),
        "stops" => drop(Command::new("kill").args(["-STOP", &std::process::id().to_string()]).status()),
        "closes its connection" => daemon.0.shutdown(std::net::Shutdown::Both).unwrap(),
        "hands over without end" => {
            daemon.provoke_hand_over();
            daemon.flood(|| attempts(1));
        }
        "hands over many" => {
            daemon.provoke_hand_over();
            daemon.flood(|| attempts(100));
        }
        "hands over slowly" => {
            daemon.provoke_hand_over();
            loop {
                daemon.send(&attempts(1));
                sleep(Duration::from_millis(500));
            }
        }
        "hands over nothing" => daemon.provoke_hand_over(),
        "hands over a forbidden attempt" => {
            daemon.provoke_hand_over();
            daemon.send(&[FromReader::Attempts as u8, 1, 0, 9, 9, 9, 9, 0, 0, 1, 1, 1, 1, 0]);
        }
        "asks for the network" => daemon.flood(|| ASK_NETWORK.to_vec()),
        "asks for the network again" => loop {
            daemon.send(ASK_NETWORK);
            daemon.wait_for(ToReader::Network);
        },
        "asks for successors" => daemon.flood(|| ASK_RESTART.to_vec()),
        "asks for later successors" => daemon.flood(|| ASK_LATER_RESTART.to_vec()),
        "sends notices" => {
            let last = std::cell::Cell::new(false);
            daemon.flood(|| if last.replace(!last.get()) { LISTENING } else { LOST }.to_vec());
        }
        "sends a long notice" => daemon.send(&lost(&long)),
        "injects lines" => {
            for _ in 0..90 {
                daemon.send(&lost("\n[2026-01-01 00:00] 10.0.0.9: door: INJECTED\x1b[2J"));
                daemon.send(LISTENING);
            }
        }
        "fails with a long text" => daemon.send(&[&[FromReader::Failed as u8][..], &text(&long)].concat()),
        "fails with lines" => {
            daemon.send(&[&[FromReader::Failed as u8][..], &text("\n10.0.0.9: door: INJECTED")].concat())
        }
        "announces a long message" => {
            daemon.write(&(31_u32 << 20).to_le_bytes());
            daemon.flood(|| vec![0; 1000]);
        }
        "sends byte by byte" => {
            daemon.write(&1000_u32.to_le_bytes());
            loop {
                daemon.write(&[2]);
                sleep(Duration::from_millis(20));
            }
        }
        "pads its messages" => daemon.send(&[ASK_NETWORK, long.as_bytes()].concat()),
        "has always caught up" => daemon.flood(|| [&[FromReader::CaughtUp as u8][..], &varint(now())].concat()),
        "has never caught up" => loop {
            daemon.wait_for(ToReader::CatchUp);
            daemon.send(&[FromReader::CaughtUp as u8, 0]);
        },
        "reports stages" => daemon.flood(|| door_event(now(), 1, [10, 1, 1, 1], &[0, 1, 2])),
        "reports openings" => {
            daemon.flood(|| door_event(now(), 1, fastrand::u32(0x0b00_0000..0x0c00_0000).to_be_bytes(), &[1]));
        }
        "reports the future" => daemon.send(&door_event(now() + 3_600_000_000_000, 0, [10, 0, 0, 2], &[1])),
        "reports packets" => {
            daemon.flood(|| {
                [&[FromReader::Knock as u8][..], &varint(now()), &[0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 7, 0, 2, 7, 7]]
                    .concat()
            });
        }
        "is ready twice" => daemon.send(READY),
        "counts without being asked" => {
            daemon.flood(|| [&[FromReader::Counts as u8][..], &varint(u64::MAX).repeat(COUNTS)].concat())
        }
        "reports that it works" => daemon.flood(|| vec![FromReader::Alive as u8, 9]),
        other => {
            let seed = other.strip_prefix("random ").and_then(|seed| seed.parse().ok());
            fastrand::seed(seed.unwrap_or_else(|| panic!("no such misbehaviour: {other}")));
            at_random(daemon);
        }
    }
}

/// Passes packets on to the daemon as if they had arrived. The file `recorded` contains a packet that
/// opens a door, and the start message the hints by which a reader finds such packets.
fn pass_on(daemon: &mut Daemon, misbehaviour: &str, directory: &Path, start: &[u8]) -> ! {
    let mut recorded = Vec::new();
    while recorded.is_empty() {
        sleep(Duration::from_millis(20));
        recorded = fs::read(directory.join("recorded")).unwrap_or_default();
    }
    let packet = |source: [u8; 4], bytes: &[u8]| {
        let addresses = [&[0][..], &source, &[0, 10, 0, 0, 1]].concat();
        let time = varint(now());
        let length = varint(bytes.len() as u64);
        [&[FromReader::Packet as u8][..], &time, &addresses, &length, bytes].concat()
    };
    let client = [10, 0, 0, 2];
    // One key has one hint in a minute.
    let minute = now() / 60_000_000_000;
    let entry = [varint(minute), vec![1]].concat();
    let at = start.windows(entry.len()).position(|window| window == entry).unwrap() + entry.len();
    let hint = &start[at..at + 8];
    let invented = || -> Vec<u8> { hint.iter().copied().chain((8..96).map(|_| fastrand::u8(..))).collect() };
    match misbehaviour {
        "repeats packets" => {
            daemon.send(&packet(client, &recorded));
            loop {
                sleep(Duration::from_millis(150));
                daemon.send(&packet(client, &recorded));
            }
        }
        "alters packets" => {
            for bit in (0..96 * 8).cycle().step_by(31) {
                let mut altered = recorded.clone();
                altered[bit / 8] ^= 1 << (bit % 8);
                daemon.send(&packet(client, &altered));
                sleep(Duration::from_millis(150));
            }
            unreachable!("the numbers have no end");
        }
        "invents packets" => loop {
            daemon.send(&packet(client, &invented()));
            sleep(Duration::from_millis(150));
        },
        "floods with packets" => daemon.flood(|| packet(client, &invented())),
        "floods with unknown packets" => daemon.flood(|| {
            let mut unknown = packet(client, &recorded);
            unknown[0] = FromReader::UnknownPacket as u8;
            unknown
        }),
        "shortens packets" => daemon.send(&packet(client, &recorded[..95])),
        "lengthens packets" => daemon.send(&packet(client, &[&recorded[..], &[0; 1400]].concat())),
        "changes the source of packets" => daemon.send(&packet([10, 0, 0, 9], &recorded)),
        other => panic!("no such misbehaviour: {other}"),
    }
    hang();
}

/// Messages that are partly valid, and bytes that form no message.
fn at_random(daemon: &mut Daemon) -> ! {
    let bytes = |count: usize| -> Vec<u8> { (0..count).map(|_| fastrand::u8(..)).collect() };
    loop {
        let message = match fastrand::u8(..20) {
            0 => bytes(fastrand::usize(..200)),
            1 => [&[fastrand::u8(..16)][..], &bytes(fastrand::usize(..60))].concat(),
            2 => lost(&"\n".repeat(fastrand::usize(..300))),
            3 => vec![FromReader::AskRestart as u8, fastrand::u8(..2)],
            4 => attempts(fastrand::u8(..10)),
            5 => [&[FromReader::CaughtUp as u8][..], &varint(now())].concat(),
            6 => door_event(now(), fastrand::u8(..3), [10, 0, 0, fastrand::u8(3..)], &[1]),
            7 => vec![FromReader::Alive as u8, fastrand::u8(..3)],
            8 => [&[FromReader::Counts as u8][..], &varint(u64::MAX).repeat(COUNTS)].concat(),
            9 | 10 => LISTENING.to_vec(),
            11 => ASK_NETWORK.to_vec(),
            _ => door_event(now(), 1, [10, 0, 0, fastrand::u8(..)], &[0, 1, 2]),
        };
        for _ in 0..[1, 1, 1, 10, 1000][fastrand::usize(..5)] {
            daemon.send(&message);
        }
        sleep(Duration::from_millis([0, 0, 1, 20, 200][fastrand::usize(..5)]));
    }
}
