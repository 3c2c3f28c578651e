//! Random doors and actions: two engines, one fed with knocks and one with frames, are compared
//! with each other and with the state that their events describe.

mod input;
mod ledger;

use std::collections::HashSet;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use portknock_core::internals::PortFilter;
use portknock_core::{Config, DoorId, Engine, Event, Knock, LinkType, LocalAddresses, Timestamp};

use crate::packets::{frame, packet};
use input::{Action, TICK};
use ledger::Ledger;

/// Decodes the bytes as a configuration and then as actions, until they end.
pub fn check(data: &[u8]) {
    // The actions end when the bytes end.
    let _ = run(&mut Unstructured::new(data));
}

/// Doors that open, extend, time out, fail and close, by packets of both families.
pub fn seeds() -> Vec<Vec<u8>> {
    // One door `a` (no scan guard, room for all): 1/tcp, 2/udp, with a stop command, 4 ticks to
    // knock, 2 to stay open.
    let config = [0, 0, 0, 0, 1, 0, 3, 0b10, 3, 1];
    // A knock at a step by a source, with distinct segments.
    let knock = |step, source| [0, step, source, 0];
    let opens = |source| [knock(0, source), knock(3, source)].concat();
    let two = [1, 2, 3, 0, 1, 0, 3, 0b10, 3, 1, 1, 0, 2, 0b100_0011, 3, 1];
    [
        [&config[..], &opens(0), &[9], &[9]].concat(),
        [&config[..], &opens(0), &[8, 1], &opens(0), &[13], &opens(2), &[8, 8]].concat(),
        [&config[..], &knock(0, 1), &[9], &knock(0, 3), &knock(0, 1), &knock(7, 3), &[10, 0, 4]].concat(),
        [&config[..], &knock(0, 0), &[11, 0, 1, 0, 1], &knock(1, 0), &[12, 0, 0, 12, 1, 3, 9]].concat(),
        [&two[..], &opens(0), &knock(2, 1), &knock(2, 1), &[7, 2, 2, 1, 40], &[14, 1], &knock(2, 2), &[15, 40]]
            .concat(),
    ]
    .into()
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let config = input::config(u)?;
    let mut both = Both::new(config);
    while !u.is_empty() {
        let action = input::action(u)?;
        both.act(action, u)?;
    }
    both.end();
    Ok(())
}

struct Both {
    config: Config,
    now: Timestamp,
    /// The time before the last step.
    last: Timestamp,
    by_knocks: Engine,
    by_frames: Engine,
    knocks: u64,
    /// The capture filter has been built and checked.
    filtered: bool,
    ledger: Ledger,
}

impl Both {
    fn new(config: Config) -> Self {
        let mut both = Self {
            by_knocks: Engine::new(&config),
            by_frames: Engine::new(&config),
            config,
            now: Timestamp::from_secs(100),
            last: Timestamp::from_secs(99),
            knocks: 0,
            filtered: false,
            ledger: Ledger::default(),
        };
        both.ledger.allow(&both.config);
        both.advance(both.now);
        both
    }

    fn each(&mut self, act: impl Fn(&mut Engine)) {
        act(&mut self.by_knocks);
        act(&mut self.by_frames);
    }

    fn act(&mut self, action: Action, u: &mut Unstructured<'_>) -> Result<()> {
        match action {
            Action::Knock { mut knock, link_type, late } => {
                knock.time = Timestamp::from_nanos(self.now.as_nanos().saturating_sub(late));
                self.knock(&knock, link_type);
            }
            Action::Wait(span) => self.advance(self.now.saturating_add(span)),
            Action::WaitForTimeout => {
                if let Some(due) = self.by_knocks.poll_timeout() {
                    let before = self.by_knocks.stats();
                    self.advance(due);
                    let after = self.by_knocks.stats();
                    assert!(after.attempts + after.openings < before.attempts + before.openings, "nothing was due");
                }
            }
            Action::Reload => {
                input::change(&mut self.config, u)?;
                self.ledger.allow(&self.config);
                let (config, now) = (self.config.clone(), self.now);
                self.each(|engine| engine.reload(&config, now));
            }
            Action::SetSequence(door, sequence) => {
                self.each(|engine| engine.set_sequence(DoorId(door), sequence.clone()));
            }
            Action::Restore { mut opening, overdue } => {
                opening.closes_at = if overdue { self.last } else { self.now.saturating_add(TICK * 3) };
                self.ledger.restore(&opening);
                self.each(|engine| engine.restore_openings([opening.clone()]));
                self.advance(self.now);
            }
            Action::CloseAll => {
                let now = self.now;
                self.each(|engine| engine.close_all(now));
                assert_eq!(self.by_knocks.stats().openings, 0);
            }
            Action::SetLocal(ip) => {
                let local = ip.map_or(LocalAddresses::Any, |ip| LocalAddresses::Only(HashSet::from([ip])));
                self.each(|engine| engine.set_local_addresses(local.clone()));
            }
        }
        self.compare();
        Ok(())
    }

    fn knock(&mut self, knock: &Knock, link_type: LinkType) {
        self.advance(knock.time);
        // Building a filter takes longer than everything else, so a run builds one, at the point
        // that the bytes choose.
        let dropped =
            link_type != LinkType::Ethernet && !std::mem::replace(&mut self.filtered, true) && self.is_dropped(knock);
        let before = self.by_knocks.stats().attempts;
        self.by_knocks.handle_knock(knock);
        self.by_frames.feed(link_type, knock.time, &frame(link_type, &packet(knock)));
        self.knocks += 1;
        if dropped {
            assert!(!self.by_knocks.has_events(), "the filter drops {knock:?}");
            assert_eq!(self.by_knocks.stats().attempts, before, "the filter drops {knock:?}");
        }
    }

    /// True if the capture filter drops this packet and nothing counts it: the scan guard counts
    /// some ports that the filter omits.
    fn is_dropped(&self, knock: &Knock) -> bool {
        if self.config.options.scan_guard > 0 {
            return false;
        }
        let doors = self.by_knocks.doors().to_vec();
        let filter = PortFilter::new(&Config { doors, options: self.config.options.clone() }, 0x5eed);
        !filter.passes(knock.protocol, knock.port, knock.flags)
    }

    fn advance(&mut self, to: Timestamp) {
        if to > self.now {
            self.last = std::mem::replace(&mut self.now, to);
        }
        self.each(|engine| engine.handle_timeout(to));
        self.compare();
        let due = self.by_knocks.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "{due:?} is not after {:?}", self.now);
    }

    /// Drains the events of both engines, which are equal and fit the previous state.
    fn compare(&mut self) {
        let events = drain(&mut self.by_knocks);
        let others = drain(&mut self.by_frames);
        if events != others {
            assert_eq!(sorted(&events), sorted(&others));
        }
        for event in &events {
            self.ledger.take(event);
        }
        let stats = self.by_knocks.stats();
        assert_eq!(stats, self.by_frames.stats());
        assert_eq!(stats.knocks, self.knocks);
        assert!(stats.attempts <= self.config.options.max_attempts as usize, "{stats:?}");
        self.ledger.check(stats.attempts, self.by_knocks.openings());
        assert_eq!(stats.openings, self.by_knocks.openings().count());
        assert_eq!(self.by_knocks.poll_timeout(), self.by_frames.poll_timeout());
    }

    /// At the end no attempt and no opening is left.
    fn end(&mut self) {
        self.advance(Timestamp::from_nanos(u64::MAX));
        let stats = self.by_knocks.stats();
        assert_eq!((stats.attempts, stats.openings), (0, 0));
        assert_eq!(self.by_knocks.poll_timeout(), None);
    }
}

fn drain(engine: &mut Engine) -> Vec<Event> {
    std::iter::from_fn(|| engine.poll_event()).collect()
}

/// Closings at the same nanosecond have no order.
fn sorted(events: &[Event]) -> Vec<String> {
    let mut texts: Vec<_> = events.iter().map(|event| format!("{event:?}")).collect();
    texts.sort();
    texts
}

/// Duration without any event.
fn span(ticks: u8) -> Duration {
    TICK * u32::from(ticks)
}
