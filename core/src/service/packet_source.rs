//! The source of a service's packets: a capture in this process, or the reader process.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::{Notice, Service, ServiceError, ServiceOptions, Token};
use crate::capture::{CaptureError, CaptureSet};
use crate::clock::Clock;
use crate::config::{Config, DoorId};
use crate::decode::Knock;
use crate::engine::{Engine, LiveSecrets};
use crate::feed::{Feed, MAX_FINAL_TURNS};
use crate::filter::{PortFilter, SnapLengths};
use crate::live_windows::LiveWindows;
use crate::packet_keys::HintTable;
use crate::reader::{Counts, ReaderOptions, ReaderProcess, ReaderReport, ReportedPacket, Start};
use crate::time::Timestamp;

/// Maximum time that a door stays open past its closing time while the reader has not yet reported
/// the packets from before that time.
const CLOSING_TIMEOUT: Duration = Duration::from_millis(100);
/// Maximum time between two checks for due events while a reload waits for the reader.
const RELOAD_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The capturing and decoding part of a service.
#[derive(Debug)]
pub(super) enum PacketSource {
    /// A capture in this process.
    Local(Box<LocalCapture>),
    /// The reader process. The engine of this process then has no attempts.
    Reader(Box<ReaderProcess>),
}

/// The capture in this process.
#[derive(Debug)]
pub(super) struct LocalCapture {
    capture: CaptureSet,
    feed: Feed,
    interfaces: Vec<String>,
    /// Numbers of bytes of a frame that the capture returns.
    snap_lengths: SnapLengths,
    /// Packets that earlier captures lost.
    dropped_before: u64,
    /// Seed of the sample of ports that the filter passes for the scan guard; kept over reloads.
    secret: u32,
    /// True if segments whose flags no door accepts are captured too.
    all_flags: bool,
}

impl PacketSource {
    /// Opens the capture or starts the reader process.
    pub(super) fn open(
        config: &Config,
        secrets: &LiveSecrets,
        interfaces: Vec<String>,
        options: &ServiceOptions,
        clock: Clock,
        secret: u32,
    ) -> Result<Self, ServiceError> {
        let Some(program) = &options.reader else {
            let all_flags = options.report_knocks;
            let filter = PortFilter::with_windows(config, &secrets.windows, secret).with_all_flags(all_flags);
            let snap_lengths = filter.snap_lengths();
            let capture = CaptureSet::open(&interfaces, filter)?;
            let feed = Feed::new(clock, options.ipv4_only);
            return Ok(Self::Local(Box::new(LocalCapture {
                capture,
                feed,
                interfaces,
                snap_lengths,
                dropped_before: 0,
                secret,
                all_flags,
            })));
        };
        // The messages of these errors are better here than from the reader.
        CaptureSet::check(&interfaces)?;
        let ServiceOptions { ipv4_only, report_knocks, .. } = *options;
        let start = Start::new(config, interfaces, secret, clock, ReaderOptions { ipv4_only, report_knocks }, secrets);
        ReaderProcess::start(program.clone(), config, secrets, start)
            .map(|reader| Self::Reader(Box::new(reader)))
            .map_err(ServiceError::Reader)
    }

    /// Passes the machine's addresses and the reader's messages to the engine, and collects
    /// notices.
    pub(super) fn update(&mut self, clock: Clock, engine: &mut Engine, notices: &mut VecDeque<Notice>) {
        match self {
            Self::Local(local) => {
                local.feed.follow_addresses(&mut local.capture, engine);
                while let Some(notice) = local.capture.poll_notice() {
                    notices.push_back(Notice::Capture(notice));
                }
            }
            Self::Reader(reader) => {
                while let Some(report) = reader.poll_report() {
                    apply(report, clock, engine, notices);
                }
            }
        }
    }

    /// Returns the counters and the number of attempts.
    pub(super) fn counts(&mut self, engine: &Engine) -> Counts {
        match self {
            Self::Local(local) => {
                let dropped = local.dropped_before + local.capture.stats().dropped;
                Counts::of(&engine.stats(), local.feed.packets(), dropped)
            }
            Self::Reader(reader) => {
                let counts = reader.counts();
                // The daemon finds those whose hint is right.
                Counts { bogus: counts.bogus.saturating_add(engine.stats().bogus), ..counts }
            }
        }
    }

    /// Updates the sequence of a one-time door, which `config` contains already.
    pub(super) fn set_sequence(&mut self, config: &Config, windows: &LiveWindows, id: DoorId) {
        match (self, config.doors.get(usize::from(id.0))) {
            (Self::Local(local), _) => local.set_filter(config, windows),
            (Self::Reader(reader), Some(door)) => reader.set_sequence(id, door),
            (Self::Reader(_), None) => {}
        }
    }

    /// Updates the live windows.
    pub(super) fn set_windows(&mut self, config: &Config, windows: &LiveWindows) {
        match self {
            Self::Local(local) => local.set_filter(config, windows),
            Self::Reader(reader) => reader.set_windows(windows),
        }
    }

    /// Updates the hints of packets.
    pub(super) fn set_hints(&mut self, hints: &HintTable) {
        if let Self::Reader(reader) = self {
            reader.set_hints(hints);
        }
    }

    /// True unless the reader process has failed to answer for too long.
    pub(super) fn is_alive(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Reader(reader) => reader.is_alive(),
        }
    }

    /// Returns the remaining time that a due closing waits for the reader to report earlier
    /// packets; `None` if none waits or the time is over.
    pub(super) fn closing_time_left(&self) -> Option<Duration> {
        match self {
            Self::Local(_) => None,
            Self::Reader(reader) => CLOSING_TIMEOUT.checked_sub(reader.waits_since()?),
        }
    }
}

impl LocalCapture {
    fn filter(&self, config: &Config, windows: &LiveWindows) -> PortFilter {
        PortFilter::with_windows(config, windows, self.secret).with_all_flags(self.all_flags)
    }

    fn set_filter(&mut self, config: &Config, windows: &LiveWindows) {
        self.capture.set_filter(self.filter(config, windows));
    }

    /// Passes captured frames to the engine. Returns the time up to which all packets have been
    /// read, if that is known.
    fn turn(
        &mut self,
        engine: &mut Engine,
        options: &ServiceOptions,
        notices: &mut VecDeque<Notice>,
    ) -> Result<Option<Timestamp>, CaptureError> {
        let mut on_knock = |knock: &Knock| {
            if options.report_knocks {
                notices.push_back(Notice::Knock(*knock));
            }
        };
        self.feed.turn(&mut self.capture, engine, None, &mut on_knock)
    }
}

/// Readable when there are packets or messages to read.
impl AsFd for PacketSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Local(local) => local.capture.as_fd(),
            Self::Reader(reader) => reader.as_fd(),
        }
    }
}

impl Service {
    /// Passes new packets or messages of the reader to the engine, and advances its time.
    pub(super) fn poll_packets(&mut self) -> Result<(), ServiceError> {
        let Self { engine, packet_source, options, notices, clock, .. } = self;
        match packet_source {
            PacketSource::Local(local) => drop(local.turn(engine, options, notices)?),
            PacketSource::Reader(reader) => reader.turn()?,
        }
        packet_source.update(*clock, engine, notices);
        if let PacketSource::Reader(reader) = packet_source {
            close_due(reader, engine, *clock);
        }
        Ok(())
    }

    /// Waits until the reader uses the new doors, at most until its deadline. Doors close
    /// meanwhile.
    fn wait_for_reload(&mut self) -> Result<(), ServiceError> {
        while let PacketSource::Reader(reader) = &mut self.packet_source {
            let is_reloading = reader.is_reloading();
            while let Some(report) = reader.poll_report() {
                apply(report, self.clock, &mut self.engine, &mut self.notices);
            }
            if !is_reloading {
                reader.end_reload();
                break;
            }
            close_due(reader, &mut self.engine, self.clock);
            reader.wait(RELOAD_POLL_INTERVAL)?;
            self.work()?;
        }
        Ok(())
    }

    /// Switches to other doors and interfaces. When this returns, all packets that were captured
    /// for the old doors have been handled.
    pub(super) fn replace_doors(&mut self, config: &Config, interfaces: Vec<String>) -> Result<(), ServiceError> {
        let secrets = self.engine.secrets_for(config, self.clock.now());
        match &mut self.packet_source {
            PacketSource::Local(local) => {
                let filter = local.filter(config, &secrets.windows);
                let snap_lengths = filter.snap_lengths();
                // A capture keeps the number of bytes that it was opened with.
                let is_same = interfaces == local.interfaces && snap_lengths == local.snap_lengths;
                let opened = if is_same {
                    None
                } else {
                    let capture = CaptureSet::open(&interfaces, filter.clone())?;
                    self.epoll.add(capture.as_fd(), Token::Packets as u64)?;
                    Some(capture)
                };
                // Packets that have arrived by now are for the old doors. After an error there is
                // nothing more to read.
                for _ in 0..MAX_FINAL_TURNS {
                    if !matches!(local.turn(&mut self.engine, &self.options, &mut self.notices), Ok(None)) {
                        break;
                    }
                }
                match opened {
                    Some(capture) => {
                        local.feed.begin_after(local.feed.last_timestamp());
                        local.dropped_before += local.capture.stats().dropped;
                        (local.capture, local.interfaces, local.snap_lengths) = (capture, interfaces, snap_lengths);
                    }
                    None => local.capture.set_filter(filter),
                }
                self.packet_source.update(self.clock, &mut self.engine, &mut self.notices);
                self.work()
            }
            PacketSource::Reader(reader) => {
                CaptureSet::check(&interfaces)?;
                reader.begin_reload(config, secrets, interfaces);
                self.wait_for_reload()?;
                self.work()
            }
        }
    }
}

/// Closes the doors that are due, as soon as the reader has reported the packets from before, or
/// has not done so in time.
fn close_due(reader: &mut ReaderProcess, engine: &mut Engine, clock: Clock) {
    let now = clock.now();
    // A knock from before the due time that the reader has not reported yet may extend the opening.
    if engine.poll_timeout().is_some_and(|due| due <= now) && !reader.catch_up(CLOSING_TIMEOUT) {
        engine.handle_timeout(now);
    }
}

fn apply(report: ReaderReport, clock: Clock, engine: &mut Engine, notices: &mut VecDeque<Notice>) {
    match report {
        ReaderReport::DoorEvent { time, door_id, ip, kind } => engine.apply_detected(time, door_id, ip, kind),
        ReaderReport::UnknownPacket(packet) => engine.begin_search(packet),
        ReaderReport::UnauthenticPacket(packet) => engine.begin_weak_search(packet),
        ReaderReport::Packet { knock, packet: ReportedPacket::Own(bytes) } => {
            engine.handle_reported_packet(&knock, &bytes, clock.now());
        }
        ReaderReport::Packet { knock, packet: ReportedPacket::Fwknop(bytes) } => {
            engine.handle_reported_fwknop_packet(&knock, &bytes, clock.now());
        }
        ReaderReport::Window { time, id, number, ip } => engine.apply_window(time, id, number, ip),
        ReaderReport::CaughtUp(time) => engine.handle_timeout(time),
        ReaderReport::Suppressed(suppressed) => notices.push_back(Notice::Suppressed(suppressed)),
        ReaderReport::Knock(knock) => notices.push_back(Notice::Knock(knock)),
        ReaderReport::Capture(notice) => notices.push_back(Notice::Capture(notice)),
        ReaderReport::Notice(notice) => notices.push_back(Notice::Reader(notice)),
    }
}
