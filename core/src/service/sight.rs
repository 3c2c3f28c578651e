//! How a service gets to see packets: by itself, or through a process that has no rights.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::clock::Clock;
use super::{Notice, Service, ServiceError, ServiceOptions, Token};
use crate::capture::{CaptureError, CaptureSet};
use crate::config::{Config, DoorId};
use crate::decode::Knock;
use crate::engine::Engine;
use crate::filter::PortFilter;
use crate::intake::{Intake, LAST_TURNS};
use crate::reader::{Counts, ReaderOptions, ReaderProcess, Seen, Start};
use crate::time::Timestamp;

/// A reader that cannot say what came before a closing is due is not waited for any longer: the door is closed.
const CLOSING_WAITS: Duration = Duration::from_millis(100);
/// Maximum time between two looks at what is due while a reload waits for the reader.
const RELOAD_STEP: Duration = Duration::from_millis(50);

/// Where packets are looked at.
#[derive(Debug)]
pub(super) enum Sight {
    /// In this process.
    Here(Box<Here>),
    /// In one of its own; the engine here has no attempts.
    Apart(Box<ReaderProcess>),
}

/// The capture of this process.
#[derive(Debug)]
pub(super) struct Here {
    capture: CaptureSet,
    intake: Intake,
    interfaces: Vec<String>,
    /// Packets that captures before this one lost.
    dropped_before: u64,
    /// Chooses the ports that the filter passes for the scan guard; the same over reloads.
    secret: u32,
    /// Segments whose flags no door takes are captured too.
    all_flags: bool,
}

impl Sight {
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
            let intake = Intake::new(clock, options.ipv4_only);
            return Ok(Self::Here(Box::new(Here {
                capture,
                intake,
                interfaces,
                dropped_before: 0,
                secret,
                all_flags,
            })));
        };
        // What can be said better here than there.
        CaptureSet::check(&interfaces)?;
        let ServiceOptions { ipv4_only, report_knocks, .. } = *options;
        let start = Start::new(config, interfaces, secret, clock, ReaderOptions { ipv4_only, report_knocks });
        ReaderProcess::start(program.clone(), config, start)
            .map(|reader| Self::Apart(Box::new(reader)))
            .map_err(ServiceError::Reader)
    }

    /// Has the engine know the machine's addresses, and takes what there is to tell.
    pub(super) fn follow(&mut self, engine: &mut Engine, notices: &mut VecDeque<Notice>) {
        match self {
            Self::Here(here) => {
                here.intake.follow_addresses(&mut here.capture, engine);
                while let Some(notice) = here.capture.poll_notice() {
                    notices.push_back(Notice::Capture(notice));
                }
            }
            Self::Apart(reader) => {
                while let Some(seen) = reader.poll_seen() {
                    take(seen, engine, notices);
                }
            }
        }
    }

    /// What was counted, and how many attempts there are.
    pub(super) fn counts(&mut self, engine: &Engine) -> Counts {
        match self {
            Self::Here(here) => {
                let dropped = here.dropped_before + here.capture.stats().dropped;
                Counts::of(&engine.stats(), here.intake.packets(), dropped)
            }
            Self::Apart(reader) => reader.counts(),
        }
    }

    /// Gives a one-time door its next sequence; `config` has it already.
    pub(super) fn set_sequence(&mut self, config: &Config, id: DoorId) {
        match (self, config.doors.get(usize::from(id.0))) {
            (Self::Here(here), _) => here.set_filter(config),
            (Self::Apart(reader), Some(door)) => reader.set_sequence(id, door),
            (Self::Apart(_), None) => {}
        }
    }

    /// True unless nothing reads packets.
    pub(super) fn is_alive(&self) -> bool {
        match self {
            Self::Here(_) => true,
            Self::Apart(reader) => reader.is_alive(),
        }
    }

    /// How much longer an answer to what was asked before a closing is waited for; `None` where it is not.
    pub(super) fn closing_waits(&self) -> Option<Duration> {
        match self {
            Self::Here(_) => None,
            Self::Apart(reader) => CLOSING_WAITS.checked_sub(reader.waits_since()?),
        }
    }
}

impl Here {
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
        self.intake.turn(&mut self.capture, engine, &mut on_knock)
    }
}

/// Readable when there is something to see.
impl AsFd for Sight {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Here(here) => here.capture.as_fd(),
            Self::Apart(reader) => reader.as_fd(),
        }
    }
}

impl Service {
    /// Takes what there is to see into the engine, and moves its time on.
    pub(super) fn look(&mut self) -> Result<(), ServiceError> {
        let Self { engine, sight, options, notices, clock, .. } = self;
        match sight {
            Sight::Here(here) => drop(here.turn(engine, options, notices)?),
            Sight::Apart(reader) => reader.turn()?,
        }
        sight.follow(engine, notices);
        if let Sight::Apart(reader) = sight {
            close_due(reader, engine, *clock);
        }
        Ok(())
    }

    /// Waits until the reader uses the new doors, at most for its deadline. Doors close meanwhile.
    fn wait_for_reload(&mut self) -> Result<(), ServiceError> {
        while let Sight::Apart(reader) = &mut self.sight {
            let is_reloading = reader.is_reloading();
            while let Some(seen) = reader.poll_seen() {
                take(seen, &mut self.engine, &mut self.notices);
            }
            if !is_reloading {
                reader.end_reload();
                break;
            }
            close_due(reader, &mut self.engine, self.clock);
            reader.wait(RELOAD_STEP)?;
            self.work()?;
        }
        Ok(())
    }

    /// Looks out for other doors, on other interfaces. What was seen of the old doors is done with when this returns.
    pub(super) fn look_for(&mut self, config: &Config, interfaces: Vec<String>) -> Result<(), ServiceError> {
        match &mut self.sight {
            Sight::Here(here) => {
                let filter = here.filter(config);
                let opened = if interfaces == here.interfaces {
                    None
                } else {
                    let capture = CaptureSet::open(&interfaces, filter.clone())?;
                    self.epoll.add(capture.as_fd(), Token::Packets as u64)?;
                    Some(capture)
                };
                // What has come by now is for the doors of before. A capture that fails has nothing more to tell.
                for _ in 0..LAST_TURNS {
                    if !matches!(here.turn(&mut self.engine, &self.options, &mut self.notices), Ok(None)) {
                        break;
                    }
                }
                match opened {
                    Some(capture) => {
                        here.intake.begin_after(here.intake.last_stamp());
                        here.dropped_before += here.capture.stats().dropped;
                        (here.capture, here.interfaces) = (capture, interfaces);
                    }
                    None => here.capture.set_filter(filter),
                }
                self.sight.follow(&mut self.engine, &mut self.notices);
                self.work()
            }
            Sight::Apart(reader) => {
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
    if engine.poll_timeout().is_some_and(|due| due <= now) && !reader.catch_up(CLOSING_WAITS) {
        engine.handle_timeout(now);
    }
}

fn take(seen: Seen, engine: &mut Engine, notices: &mut VecDeque<Notice>) {
    match seen {
        Seen::Found { time, door_id, ip, kind } => engine.take_over(time, door_id, ip, kind),
        Seen::CaughtUp(time) => engine.handle_timeout(time),
        Seen::Suppressed(suppressed) => notices.push_back(Notice::Suppressed(suppressed)),
        Seen::Knock(knock) => notices.push_back(Notice::Knock(knock)),
        Seen::Capture(notice) => notices.push_back(Notice::Capture(notice)),
        Seen::Notice(notice) => notices.push_back(Notice::Reader(notice)),
    }
}
