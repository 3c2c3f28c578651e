//! How fast probes are sent: as fast as the path carries them, and never faster than allowed.
//!
//! The ports come in random order, so the share of them that answers does not depend on when they are probed. Where the
//! share falls as the rate rises, the path or the host does not keep up, and the rate goes down to what came through.
//! Loss that has nothing to do with the rate changes nothing; a silent host tells nothing, so that its rate is bounded.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

/// The rate to begin with, in probes a second. It doubles with each round.
const START: f64 = 1_000.0;
/// The highest rate without proof that the path carries it, where none is given.
const UNPROVEN: f64 = 50_000.0;
/// The highest rate.
const MAX: f64 = 1_000_000.0;
/// The lowest rate that loss alone leads to.
const MIN: f64 = 10.0;
/// The least duration of a round.
const ROUND: Duration = Duration::from_millis(5);
/// A sender that woke up late may catch up with so much.
const BURST: Duration = Duration::from_millis(1);
/// So many answers must have been expected before their number means something.
const ENOUGH: f64 = 20.0;
/// An answered share below this part of the usual one is no accident.
const TOO_FEW: f64 = 0.75;
/// After the path was found overloaded, the rate grows by so much with each proof that it is not.
const CAREFUL_GROWTH: f64 = 1.05;

/// The probes of some milliseconds.
#[derive(Clone, Copy, Debug)]
struct Round {
    started: Duration,
    sent: f64,
    answered: f64,
}

/// Some rounds taken together.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    sent: f64,
    answered: f64,
    time: Duration,
}

impl Sum {
    fn add(&mut self, round: Round, time: Duration) {
        self.sent += round.sent;
        self.answered += round.answered;
        self.time += time;
    }

    fn share(&self) -> f64 {
        self.answered / self.sent.max(1.0)
    }
}

/// Says when the next probe may be sent. All times are counted from one start.
#[derive(Debug)]
pub(super) struct Pace {
    rate: f64,
    ceiling: f64,
    /// The highest rate without proof that the path carries it.
    unproven: f64,
    burst: Duration,
    /// The next probe's time, where no time is to be caught up with.
    next: Duration,
    /// True once the path was found overloaded.
    careful: bool,
    /// Rounds whose answers may still come, oldest first; the last one is under way.
    rounds: VecDeque<Round>,
    /// What the path carried without trouble.
    usual: Sum,
    /// What has not been judged yet.
    recent: Sum,
}

impl Pace {
    /// With `allowed`, no second sees more probes than that.
    pub(super) fn new(allowed: Option<NonZeroU32>) -> Self {
        let (ceiling, burst) = match allowed.map(|rate| f64::from(rate.get())) {
            None => (MAX, BURST),
            // Two probes a burst and fewer: not worth catching up.
            Some(rate) if rate * BURST.as_secs_f64() <= 2.0 => (rate, Duration::ZERO),
            // In a second this and one burst more may be sent.
            Some(rate) => ((rate - 1.0) / (1.0 + BURST.as_secs_f64()), BURST),
        };
        Self {
            rate: START.min(ceiling),
            ceiling,
            // Who names a rate has their reasons.
            unproven: if allowed.is_some() { ceiling } else { UNPROVEN },
            burst,
            next: Duration::ZERO,
            careful: false,
            rounds: VecDeque::new(),
            usual: Sum::default(),
            recent: Sum::default(),
        }
    }

    /// When the next probe may be sent; in the past where it is late already.
    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// A probe is sent now, not before its time.
    pub(super) fn sent(&mut self, now: Duration, rtt: Option<Duration>) {
        self.next = self.next.max(now.saturating_sub(self.burst)) + Duration::from_secs_f64(1.0 / self.rate);
        let length = rtt.map_or(ROUND, |rtt| rtt.max(ROUND));
        match self.rounds.back_mut() {
            Some(round) if now < round.started + length => round.sent += 1.0,
            begun => {
                if begun.is_some() {
                    self.grow();
                }
                self.rounds.push_back(Round { started: now, sent: 1.0, answered: 0.0 });
            }
        }
    }

    /// The probe that was sent at this time was answered by the port.
    pub(super) fn answered(&mut self, sent_at: Duration) {
        let after = self.rounds.partition_point(|round| round.started <= sent_at);
        if let Some(round) = after.checked_sub(1).and_then(|i| self.rounds.get_mut(i)) {
            round.answered += 1.0;
        }
    }

    /// Judges the rounds whose answers are all there: those that ended more than `timeout` ago.
    pub(super) fn judge(&mut self, now: Duration, timeout: Duration) {
        while let [round, following, ..] = *self.rounds.make_contiguous() {
            if following.started + timeout > now {
                return;
            }
            self.rounds.pop_front();
            self.recent.add(round, following.started - round.started);
            let expected = self.recent.sent * self.usual.share();
            if self.usual.sent < ENOUGH {
                self.usual.add(round, following.started - round.started);
                self.recent = Sum::default();
            } else if expected >= ENOUGH {
                let judged = std::mem::take(&mut self.recent);
                if judged.answered == 0.0 {
                    // Overload leaves something over. This host has gone silent, whatever the rate.
                    self.new_ports();
                } else if judged.answered < TOO_FEW * expected {
                    self.slow_down(judged.answered / judged.time.as_secs_f64());
                } else {
                    self.usual.add(Round { started: now, sent: judged.sent, answered: judged.answered }, judged.time);
                    if self.careful {
                        self.rate = (self.rate * CAREFUL_GROWTH).min(self.ceiling);
                    }
                }
            }
        }
    }

    /// Other ports come next: what share of the last ones answered says nothing about them.
    pub(super) fn new_ports(&mut self) {
        self.rounds.clear();
        self.usual = Sum::default();
        self.recent = Sum::default();
    }

    /// The path loses more than it should: goes on at no more than half the rate.
    pub(super) fn halve(&mut self) {
        self.slow_down(self.rate / 2.0);
    }

    /// Sends `count` probes over this time, or longer where that is faster than allowed.
    pub(super) fn spread(&mut self, count: usize, over: Duration) {
        #[allow(clippy::cast_precision_loss, reason = "there are no more than 65,535 ports")]
        let rate = count as f64 / over.as_secs_f64();
        self.careful = true;
        self.rate = rate.max(1.0).min(self.unproven);
    }

    /// The path carries so much. What was sent at a higher rate is not judged again.
    fn slow_down(&mut self, carried: f64) {
        self.careful = true;
        self.rate = self.rate.min((carried * 0.9).max(MIN)).min(self.ceiling);
        self.rounds.clear();
        self.recent = Sum::default();
    }

    fn grow(&mut self) {
        if !self.careful {
            let proven = self.usual.sent >= ENOUGH && self.usual.share() >= 0.5;
            let bound = if proven { self.ceiling } else { self.unproven };
            self.rate = (self.rate * 2.0).min(bound).max(self.rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends for `seconds` over a path with no delay that carries `carried` probes a second, and gives how many were
    /// sent in each tenth of a second.
    fn run(mut pace: Pace, seconds: u32, carried: f64) -> Vec<u32> {
        let timeout = Duration::from_millis(20);
        let mut tenths = vec![0; seconds as usize * 10];
        let mut room = f64::min(10.0, carried);
        let mut last = Duration::ZERO;
        loop {
            let now = pace.next().max(last);
            let Some(tenth) = tenths.get_mut(now.as_millis() as usize / 100) else { return tenths };
            *tenth += 1;
            room = f64::min(10.0, room + carried * (now - last).as_secs_f64());
            last = now;
            pace.sent(now, None);
            if room >= 1.0 {
                room -= 1.0;
                pace.answered(now);
            }
            pace.judge(now, timeout);
        }
    }

    #[test]
    fn a_path_that_carries_all_is_used_to_the_full() {
        let sent = run(Pace::new(None), 1, f64::INFINITY);
        assert!(sent[9] >= 90_000, "{sent:?}");
    }

    #[test]
    fn a_silent_host_gets_no_more_than_the_unproven_rate() {
        let sent = run(Pace::new(None), 1, 0.0);
        assert!(sent.iter().all(|&count| count <= 5_001), "{sent:?}");
        assert!(sent[9] >= 4_900, "{sent:?}");
    }

    #[test]
    fn a_rate_that_is_too_high_is_noticed_and_lowered() {
        for carried in [500.0, 2_000.0, 5_000.0, 20_000.0] {
            let sent = run(Pace::new(None), 3, carried);
            let last_second: u32 = sent[20..].iter().sum();
            // A path that cannot even carry the first round is left to the passes of the schedule.
            let bound = f64::max(carried, START);
            assert!(f64::from(last_second) <= 1.35 * bound, "{carried}: {sent:?}");
            assert!(f64::from(last_second) >= 0.5 * carried.min(bound), "{carried}: {sent:?}");
        }
    }

    #[test]
    fn no_second_sees_more_than_allowed() {
        for allowed in [1, 7, 100, 1_999, 2_001, 50_000] {
            let mut pace = Pace::new(NonZeroU32::new(allowed));
            let mut times = Vec::new();
            let mut now = Duration::ZERO;
            while now < Duration::from_secs(3) {
                // A sender that oversleeps now and then.
                let late = if times.len() % 100 == 50 { Duration::from_millis(30) } else { Duration::ZERO };
                now = pace.next().max(now) + late;
                times.push(now);
                pace.sent(now, None);
                pace.answered(now);
                pace.judge(now, Duration::from_millis(100));
            }
            for (i, &start) in times.iter().enumerate() {
                let end = start + Duration::from_secs(1);
                let count = times[i..].iter().take_while(|&&time| time < end).count();
                assert!(count <= allowed as usize, "{count} at {start:?} with {allowed}");
            }
            // And not much less either, where the late wake-ups do not count for much.
            let least = if allowed < 100 { 0.6 * 3.0 * f64::from(allowed) } else { 100.0 };
            assert!(times.len() as f64 >= least, "{} with {allowed}", times.len());
        }
    }
}
