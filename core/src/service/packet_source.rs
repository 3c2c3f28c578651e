//! Where a service gets its packets from: a capture of its own, or the reader process.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::{Notice, Service, ServiceError, ServiceOptions, Token};
use crate::capture::{CaptureError, CaptureSet};
use crate::clock::Clock;
use crate::config::{Config, DoorId};
use crate::decode::Knock;
use crate::engine::Engine;
use crate::feed::{Feed, MAX_FINAL_TURNS};
use crate::filter::PortFilter;
use crate::reader::{Counts, ReaderOptions, ReaderProcess, ReaderReport, Start};
use crate::time::Timestamp;

/// A reader that cannot say what came before a closing is due is not waited for any longer: the door is closed.
const CLOSING_TIMEOUT: Duration = Duration::from_millis(100);
/// Maximum time between two looks at what is due while a reload waits for the reader.
const RELOAD_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Where packets are captured and decoded.
#[derive(Debug)]
pub(super) enum PacketSource {
    /// In this process.
    Local(Box<LocalCapture>),
    /// In the reader process; the engine of this process has no attempts.
    Reader(Box<ReaderProcess>),
}

/// The capture of this process.
#[derive(Debug)]
pub(super) struct LocalCapture {
    capture: CaptureSet,
    feed: Feed,
    interfaces: Vec<String>,
    /// Packets that captures before this one lost.
    dropped_before: u64,
    /// Chooses the ports that the filter passes for the scan guard; the same over reloads.
    secret: u32,
    /// Segments whose flags no door takes are captured too.
    all_flags: bool,
}

impl PacketSource {
    /// Begins to listen.
    pub(super) fn open(
        config: &Config,
        interfaces: Vec<String>,
        options: &ServiceOptions,
        clock: Clock,
        secret: u32,
    ) -> Result<Self, ServiceError> {
        let Some(program) = &options.reader else {
            let all_flags = options.report_knocks;
            let filter = PortFilter::new(config, secret).with_all_flags(all_flags);
            let capture = CaptureSet::open(&interfaces, filter)?;
            let feed = Feed::new(clock, options.ipv4_only);
            return Ok(Self::Local(Box::new(LocalCapture {
                capture,
                feed,
                interfaces,
                dropped_before: 0,
                secret,
                all_flags,
            })));
        };
        // The messages of these errors are better here than from the reader.
        CaptureSet::check(&interfaces)?;
        let ServiceOptions { ipv4_only, report_knocks, .. } = *options;
        let start = Start::new(config, interfaces, secret, clock, ReaderOptions { ipv4_only, report_knocks });
        ReaderProcess::start(program.clone(), config, start)
            .map(|reader| Self::Reader(Box::new(reader)))
            .map_err(ServiceError::Reader)
    }

    /// Has the engine know the machine's addresses, and takes what there is to tell.
    pub(super) fn follow(&mut self, engine: &mut Engine, notices: &mut VecDeque<Notice>) {
        match self {
            Self::Local(local) => {
                local.feed.follow_addresses(&mut local.capture, engine);
                while let Some(notice) = local.capture.poll_notice() {
                    notices.push_back(Notice::Capture(notice));
                }
            }
            Self::Reader(reader) => {
                while let Some(report) = reader.poll_report() {
                    take(report, engine, notices);
                }
            }
        }
    }

    /// What was counted, and how many attempts there are.
    pub(super) fn counts(&mut self, engine: &Engine) -> Counts {
        match self {
            Self::Local(local) => {
                let dropped = local.dropped_before + local.capture.stats().dropped;
                Counts::of(&engine.stats(), local.feed.packets(), dropped)
            }
            Self::Reader(reader) => reader.counts(),
        }
    }

    /// Gives a one-time door its next sequence; `config` has it already.
    pub(super) fn set_sequence(&mut self, config: &Config, id: DoorId) {
        match (self, config.doors.get(usize::from(id.0))) {
            (Self::Local(local), _) => local.set_filter(config),
            (Self::Reader(reader), Some(door)) => reader.set_sequence(id, door),
            (Self::Reader(_), None) => {}
        }
    }

    /// True unless nothing reads packets.
    pub(super) fn is_alive(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Reader(reader) => reader.is_alive(),
        }
    }

    /// How much longer an answer to what was asked before a closing is waited for; `None` where it is not.
    pub(super) fn closing_time_left(&self) -> Option<Duration> {
        match self {
            Self::Local(_) => None,
            Self::Reader(reader) => CLOSING_TIMEOUT.checked_sub(reader.waits_since()?),
        }
    }
}

impl LocalCapture {
    fn filter(&self, config: &Config) -> PortFilter {
        PortFilter::new(config, self.secret).with_all_flags(self.all_flags)
    }

    fn set_filter(&mut self, config: &Config) {
        self.capture.set_filter(self.filter(config));
    }

    /// Takes what was captured into the engine; the time up to which nothing is missing then, where that is known.
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
        self.feed.turn(&mut self.capture, engine, &mut on_knock)
    }
}

/// Readable when there is something to see.
impl AsFd for PacketSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Local(local) => local.capture.as_fd(),
            Self::Reader(reader) => reader.as_fd(),
        }
    }
}

impl Service {
    /// Takes what there is to see into the engine, and moves its time on.
    pub(super) fn poll_packets(&mut self) -> Result<(), ServiceError> {
        let Self { engine, packet_source, options, notices, clock, .. } = self;
        match packet_source {
            PacketSource::Local(local) => drop(local.turn(engine, options, notices)?),
            PacketSource::Reader(reader) => reader.turn()?,
        }
        packet_source.follow(engine, notices);
        if let PacketSource::Reader(reader) = packet_source {
            close_due(reader, engine, *clock);
        }
        Ok(())
    }

    /// Waits until the reader uses the new doors, at most for its deadline. Doors close meanwhile.
    fn wait_for_reload(&mut self) -> Result<(), ServiceError> {
        while let PacketSource::Reader(reader) = &mut self.packet_source {
            let is_reloading = reader.is_reloading();
            while let Some(report) = reader.poll_report() {
                take(report, &mut self.engine, &mut self.notices);
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

    /// Looks out for other doors, on other interfaces. All reports about the old doors are handled when this returns.
    pub(super) fn replace_doors(&mut self, config: &Config, interfaces: Vec<String>) -> Result<(), ServiceError> {
        match &mut self.packet_source {
            PacketSource::Local(local) => {
                let filter = local.filter(config);
                let opened = if interfaces == local.interfaces {
                    None
                } else {
                    let capture = CaptureSet::open(&interfaces, filter.clone())?;
                    self.epoll.add(capture.as_fd(), Token::Packets as u64)?;
                    Some(capture)
                };
                // What has come by now is for the doors of before. A capture that fails has nothing more to tell.
                for _ in 0..MAX_FINAL_TURNS {
                    if !matches!(local.turn(&mut self.engine, &self.options, &mut self.notices), Ok(None)) {
                        break;
                    }
                }
                match opened {
                    Some(capture) => {
                        local.feed.begin_after(local.feed.last_timestamp());
                        local.dropped_before += local.capture.stats().dropped;
                        (local.capture, local.interfaces) = (capture, interfaces);
                    }
                    None => local.capture.set_filter(filter),
                }
                self.packet_source.follow(&mut self.engine, &mut self.notices);
                self.work()
            }
            PacketSource::Reader(reader) => {
                CaptureSet::check(&interfaces)?;
                reader.begin_reload(config, interfaces);
                self.wait_for_reload()?;
                self.work()
            }
        }
    }
}

/// Closes what is due, once the reader has reported what came before that, or has not done so in time.
fn close_due(reader: &mut ReaderProcess, engine: &mut Engine, clock: Clock) {
    let now = clock.now();
    // A knock that came before what is due, and is not told yet, may put it off.
    if engine.poll_timeout().is_some_and(|due| due <= now) && !reader.catch_up(CLOSING_TIMEOUT) {
        engine.handle_timeout(now);
    }
}

fn take(report: ReaderReport, engine: &mut Engine, notices: &mut VecDeque<Notice>) {
    match report {
        ReaderReport::DoorEvent { time, door_id, ip, kind } => engine.take_over(time, door_id, ip, kind),
        ReaderReport::CaughtUp(time) => engine.handle_timeout(time),
        ReaderReport::Suppressed(suppressed) => notices.push_back(Notice::Suppressed(suppressed)),
        ReaderReport::Knock(knock) => notices.push_back(Notice::Knock(knock)),
        ReaderReport::Capture(notice) => notices.push_back(Notice::Capture(notice)),
        ReaderReport::Notice(notice) => notices.push_back(Notice::Reader(notice)),
    }
}
