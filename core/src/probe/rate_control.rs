//! The rate at which probes are sent: as high as the path carries, and never above the limit.
//!
//! Ports are probed in random order, so the share of ports that answer does not depend on the time.
//! If that share falls while the rate rises, the path or the host does not keep up, and the rate is
//! lowered to the one that was answered. Loss that does not depend on the rate changes nothing. A
//! silent host gives no information, so its rate has an upper bound.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

/// Initial rate in probes per second. It doubles with each round.
const START_RATE: f64 = 1_000.0;
/// Maximum rate in probes per second without evidence that the path carries it, if no limit is
/// given.
const UNPROVEN_RATE: f64 = 50_000.0;
/// Maximum rate in probes per second.
const MAX_RATE: f64 = 1_000_000.0;
/// Minimum rate in probes per second to which loss can lower the rate.
const MIN_RATE: f64 = 10.0;
/// Minimum duration of a round.
const MIN_ROUND: Duration = Duration::from_millis(5);
/// Maximum delay that a sender which woke up late may catch up with.
const MAX_CATCH_UP: Duration = Duration::from_millis(1);
/// Number of answers that must be expected before their count is significant.
const MIN_EXPECTED_ANSWERS: f64 = 20.0;
/// Fraction of the usual share of answers below which the path counts as overloaded.
const OVERLOAD_THRESHOLD: f64 = 0.75;
/// Factor by which the rate grows, after an overload, with each judgement that finds none.
const CAREFUL_GROWTH: f64 = 1.05;

/// The probes sent within a few milliseconds.
#[derive(Clone, Copy, Debug)]
struct Round {
    started: Duration,
    sent: f64,
    answered: f64,
}

/// The sum of several rounds.
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

/// Decides when the next probe may be sent. All times are relative to the start of the run.
#[derive(Debug)]
pub(super) struct RateControl {
    rate: f64,
    ceiling: f64,
    /// Maximum rate in probes per second without evidence that the path carries it.
    unproven: f64,
    max_catch_up: Duration,
    /// The scheduled time of the next probe, before any catching up.
    next: Duration,
    /// True after the path was found overloaded.
    careful: bool,
    /// Rounds whose answers may still arrive, oldest first; the last one is in progress.
    rounds: VecDeque<Round>,
    /// The rounds that the path carried without overload.
    usual: Sum,
    /// The rounds that have not been judged yet.
    recent: Sum,
}

impl RateControl {
    /// Creates a controller. With `allowed`, no more than that many probes are sent within any
    /// second.
    pub(super) fn new(allowed: Option<NonZeroU32>) -> Self {
        let (ceiling, max_catch_up) = match allowed.map(|rate| f64::from(rate.get())) {
            None => (MAX_RATE, MAX_CATCH_UP),
            // A max_catch_up of two or fewer probes is not worth catching up.
            Some(rate) if rate * MAX_CATCH_UP.as_secs_f64() <= 2.0 => (rate, Duration::ZERO),
            // This rate and one additional max_catch_up are sent within a second at most.
            Some(rate) => ((rate - 1.0) / (1.0 + MAX_CATCH_UP.as_secs_f64()), MAX_CATCH_UP),
        };
        Self {
            rate: START_RATE.min(ceiling),
            ceiling,
            // An explicit rate is used as given, without probing for the path's capacity first.
            unproven: if allowed.is_some() { ceiling } else { UNPROVEN_RATE },
            max_catch_up,
            next: Duration::ZERO,
            careful: false,
            rounds: VecDeque::new(),
            usual: Sum::default(),
            recent: Sum::default(),
        }
    }

    /// Returns the time at which the next probe may be sent, which is in the past if the probe is
    /// late.
    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// Records that a probe is sent now, which must not be before its scheduled time.
    pub(super) fn sent(&mut self, now: Duration, rtt: Option<Duration>) {
        self.next = self.next.max(now.saturating_sub(self.max_catch_up)) + Duration::from_secs_f64(1.0 / self.rate);
        let length = rtt.map_or(MIN_ROUND, |rtt| rtt.max(MIN_ROUND));
        match self.rounds.back_mut() {
            Some(round) if now < round.started + length => round.sent += 1.0,
            previous => {
                if previous.is_some() {
                    self.grow();
                }
                self.rounds.push_back(Round { started: now, sent: 1.0, answered: 0.0 });
            }
        }
    }

    /// Records that the port answered the probe that was sent at this time.
    pub(super) fn answered(&mut self, sent_at: Duration) {
        let after = self.rounds.partition_point(|round| round.started <= sent_at);
        if let Some(round) = after.checked_sub(1).and_then(|i| self.rounds.get_mut(i)) {
            round.answered += 1.0;
        }
    }

    /// Judges the rounds whose answers have all arrived: those that ended more than `timeout` ago.
    pub(super) fn judge(&mut self, now: Duration, timeout: Duration) {
        while let [round, following, ..] = *self.rounds.make_contiguous() {
            if following.started + timeout > now {
                return;
            }
            self.rounds.pop_front();
            self.recent.add(round, following.started - round.started);
            let expected = self.recent.sent * self.usual.share();
            if self.usual.sent < MIN_EXPECTED_ANSWERS {
                self.usual.add(round, following.started - round.started);
                self.recent = Sum::default();
            } else if expected >= MIN_EXPECTED_ANSWERS {
                let judged = std::mem::take(&mut self.recent);
                if judged.answered == 0.0 {
                    // Under overload some answers still arrive. Without any, the host has gone
                    // silent, whatever the rate.
                    self.new_ports();
                } else if judged.answered < OVERLOAD_THRESHOLD * expected {
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

    /// Resets the judgement before other ports are probed: the share of answers of the previous
    /// ports does not apply to them.
    pub(super) fn new_ports(&mut self) {
        self.rounds.clear();
        self.usual = Sum::default();
        self.recent = Sum::default();
    }

    /// Halves the rate after heavy loss on the path.
    pub(super) fn halve(&mut self) {
        self.slow_down(self.rate / 2.0);
    }

    /// Spreads `count` probes over this time, or over a longer time if that would exceed the limit.
    pub(super) fn spread(&mut self, count: usize, over: Duration) {
        #[allow(clippy::cast_precision_loss, reason = "there are no more than 65,535 ports")]
        let rate = count as f64 / over.as_secs_f64();
        self.careful = true;
        self.rate = rate.max(1.0).min(self.unproven);
    }

    /// Lowers the rate to just below the one that the path carried. Probes sent at a higher rate
    /// are not judged again.
    fn slow_down(&mut self, carried: f64) {
        self.careful = true;
        self.rate = self.rate.min((carried * 0.9).max(MIN_RATE)).min(self.ceiling);
        self.rounds.clear();
        self.recent = Sum::default();
    }

    fn grow(&mut self) {
        if !self.careful {
            let proven = self.usual.sent >= MIN_EXPECTED_ANSWERS && self.usual.share() >= 0.5;
            let bound = if proven { self.ceiling } else { self.unproven };
            self.rate = (self.rate * 2.0).min(bound).max(self.rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends for `seconds` over a path without delay that carries `carried` probes per second, and
    /// returns how many were sent in each tenth of a second.
    fn run(mut control: RateControl, seconds: u32, carried: f64) -> Vec<u32> {
        let timeout = Duration::from_millis(20);
        let mut tenths = vec![0; seconds as usize * 10];
        let mut room = f64::min(10.0, carried);
        let mut last = Duration::ZERO;
        loop {
            let now = control.next().max(last);
            let Some(tenth) = tenths.get_mut(now.as_millis() as usize / 100) else { return tenths };
            *tenth += 1;
            room = f64::min(10.0, room + carried * (now - last).as_secs_f64());
            last = now;
            control.sent(now, None);
            if room >= 1.0 {
                room -= 1.0;
                control.answered(now);
            }
            control.judge(now, timeout);
        }
    }

    #[test]
    fn a_path_that_carries_everything_is_fully_used() {
        let sent = run(RateControl::new(None), 1, f64::INFINITY);
        assert!(sent[9] >= 90_000, "{sent:?}");
    }

    #[test]
    fn a_silent_host_gets_no_more_than_the_unproven_rate() {
        let sent = run(RateControl::new(None), 1, 0.0);
        assert!(sent.iter().all(|&count| count <= 5_001), "{sent:?}");
        assert!(sent[9] >= 4_900, "{sent:?}");
    }

    #[test]
    fn a_rate_that_is_too_high_is_noticed_and_lowered() {
        for carried in [500.0, 2_000.0, 5_000.0, 20_000.0] {
            let sent = run(RateControl::new(None), 3, carried);
            let last_second: u32 = sent[20..].iter().sum();
            // The passes of the schedule handle a path that cannot even carry the first round.
            let bound = f64::max(carried, START_RATE);
            assert!(f64::from(last_second) <= 1.35 * bound, "{carried}: {sent:?}");
            assert!(f64::from(last_second) >= 0.5 * carried.min(bound), "{carried}: {sent:?}");
        }
    }

    #[test]
    fn no_second_contains_more_probes_than_allowed() {
        for allowed in [1, 7, 100, 1_999, 2_001, 50_000] {
            let mut control = RateControl::new(NonZeroU32::new(allowed));
            let mut times = Vec::new();
            let mut now = Duration::ZERO;
            while now < Duration::from_secs(3) {
                // A sender that wakes up late from time to time.
                let late = if times.len() % 100 == 50 { Duration::from_millis(30) } else { Duration::ZERO };
                now = control.next().max(now) + late;
                times.push(now);
                control.sent(now, None);
                control.answered(now);
                control.judge(now, Duration::from_millis(100));
            }
            for (i, &start) in times.iter().enumerate() {
                let end = start + Duration::from_secs(1);
                let count = times[i..].iter().take_while(|&&time| time < end).count();
                assert!(count <= allowed as usize, "{count} at {start:?} with {allowed}");
            }
            // The rate is not much lower either, if the late wake-ups hardly matter.
            let least = if allowed < 100 { 0.6 * 3.0 * f64::from(allowed) } else { 100.0 };
            assert!(times.len() as f64 >= least, "{} with {allowed}", times.len());
        }
    }
}
