//! Link emulator: a long link between two interfaces. Frames leave it late at the other end, and
//! some of them get lost.
//!
//! The frames on their way stay in the kernel's capture buffer. Each direction has one thread,
//! which reads them in order and sends each when it is due by the kernel's timestamp of its
//! arrival. So the moment at which the thread reads a frame does not matter, and nothing is copied.
//! A busy machine may delay frames but does not lose them.
//!
//! The interfaces need no addresses, but they must be up. The kernel leaves frames unfinished
//! (segments without their checksum, or too large) if it treats the other end as hardware. Such
//! frames stay unfinished: use `ethtool -K INTERFACE tx off` at the peer.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use fastrand::Rng;
use pcap::{Active, Capture, Precision};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Bytes in the kernel for the frames on their way in one direction: four seconds of 100,000 small
/// frames a second.
const BUFFER: i32 = 64 << 20;

/// Number of frames between two checks that the buffer was large enough.
const CHECK_INTERVAL: u32 = 256;

/// Forwards the frames of two Ethernet interfaces to each other, late, and loses some of them.
#[derive(Parser)]
struct Netem {
    /// The interface at one end
    #[arg(long)]
    left: String,
    /// The interface at the other end
    #[arg(long)]
    right: String,
    /// Milliseconds from one end to the other; up to one more if it is less than four
    #[arg(long, default_value = "0", value_parser = milliseconds)]
    delay_ms: Duration,
    /// How many of a hundred frames get lost, in each direction
    #[arg(long, default_value_t = 0.0, value_parser = percent)]
    loss_percent: f64,
    /// Chooses the frames that get lost: those with the same numbers each time
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Frames a second that pass in each direction; by default all
    #[arg(long, requires = "queue", value_parser = clap::value_parser!(u32).range(1..))]
    capacity: Option<u32>,
    /// How many frames may wait until that capacity lets them pass; more of them get lost
    #[arg(long, requires = "capacity")]
    queue: Option<u32>,
}

fn milliseconds(text: &str) -> Result<Duration, Error> {
    Ok(Duration::try_from_secs_f64(text.parse::<f64>()? / 1_000.0)?)
}

fn percent(text: &str) -> Result<f64, Error> {
    let percent = text.parse()?;
    if (0.0..=100.0).contains(&percent) { Ok(percent) } else { Err("expected a number from 0 to 100".into()) }
}

fn main() -> Result<(), Error> {
    let netem = Netem::parse();
    let left = open(&netem.left, netem.delay_ms)?;
    let right = open(&netem.right, netem.delay_ms)?;
    // A capture does not receive frames that its own socket sends, so no direction returns the
    // other's frames.
    let [to_left, to_right] = [&left, &right].map(|capture| capture.as_fd().try_clone_to_owned().map(File::from));
    let mut rng = Rng::with_seed(netem.seed);
    let (failed, failure) = mpsc::channel();
    for (from, to) in [(left, to_right?), (right, to_left?)] {
        let direction = Direction {
            delay: netem.delay_ms,
            loss: netem.loss_percent / 100.0,
            rng: rng.fork(),
            bottleneck: netem.capacity.zip(netem.queue).map(|(capacity, queue)| Bottleneck::new(capacity, queue)),
        };
        let failed = failed.clone();
        thread::spawn(move || forward(from, to, direction).map_err(|error| failed.send(error)));
    }
    println!("ready");
    Err(failure.recv()?)
}

fn open(interface: &str, delay: Duration) -> Result<Capture<Active>, Error> {
    // The kernel hands over the frames in blocks, each when it is full or, at the latest, twice
    // this time after its first frame, which is before that frame is due. Longer blocks hold frames
    // for a longer delay, because their number is fixed.
    let block = (delay / 4).max(Duration::from_millis(1));
    let capture = Capture::from_device(interface)?.precision(Precision::Nano).timeout(block.as_millis().try_into()?);
    Ok(capture.buffer_size(BUFFER).open()?)
}

/// Reads frames at one end and sends them at the other, until an error.
fn forward(mut from: Capture<Active>, mut to: File, mut direction: Direction) -> Result<Infallible, Error> {
    loop {
        for _ in 0..CHECK_INTERVAL {
            let packet = match from.next_packet() {
                Ok(packet) => packet,
                Err(pcap::Error::TimeoutExpired) => continue,
                Err(error) => return Err(error.into()),
            };
            let timestamp = packet.header.ts;
            let arrival = Duration::new(timestamp.tv_sec.try_into()?, timestamp.tv_usec.try_into()?);
            if let Some(due) = direction.due(arrival, packet.data) {
                thread::sleep(due.saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH)?));
                to.write_all(packet.data)?;
            }
        }
        let lost = from.stats()?.dropped;
        if lost > 0 {
            return Err(format!("there was no room for {lost} frames").into());
        }
    }
}

/// One direction of the link: the fate of each frame. Times are since the epoch.
struct Direction {
    delay: Duration,
    loss: f64,
    rng: Rng,
    bottleneck: Option<Bottleneck>,
}

impl Direction {
    /// The time at which a frame that arrives now leaves the link; `None` if it gets lost.
    fn due(&mut self, arrival: Duration, frame: &[u8]) -> Option<Duration> {
        // Hosts sometimes send multicast on their own. Those frames are not counted, so that they
        // do not change which of a test's frames get lost.
        let to_group = frame.first().is_some_and(|byte| byte & 1 == 1);
        if !to_group && self.rng.f64() < self.loss {
            return None;
        }
        let passed = match &mut self.bottleneck {
            Some(bottleneck) => bottleneck.pass(arrival)?,
            None => arrival,
        };
        Some(passed + self.delay)
    }
}

/// A bottleneck that frames pass one after another.
struct Bottleneck {
    /// Duration of each frame.
    turn: Duration,
    /// Waiting time of a frame in a full queue.
    longest_wait: Duration,
    /// The time at which all earlier frames have passed.
    free: Duration,
}

impl Bottleneck {
    fn new(capacity: u32, queue: u32) -> Self {
        let turn = Duration::from_secs(1) / capacity;
        Self { turn, longest_wait: turn * queue, free: Duration::ZERO }
    }

    /// The time at which a frame that arrives now has passed; `None` if the queue is full.
    fn pass(&mut self, arrival: Duration) -> Option<Duration> {
        if self.free.saturating_sub(arrival) > self.longest_wait {
            return None;
        }
        self.free = self.free.max(arrival) + self.turn;
        Some(self.free)
    }
}
