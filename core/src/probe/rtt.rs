//! The round trip time, estimated as TCP does it (RFC 6298).

use std::time::Duration;

/// An answer sooner than this after a probe is never taken for late.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);

/// What is known of the round trip time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    /// The smoothed time and its variation; `None` before the first sample.
    smoothed: Option<(Duration, Duration)>,
}

impl RoundTrip {
    /// Takes a sample. It must be of the latest try: a server repeats a SYN/ACK that got lost after a second, and that
    /// second is no round trip. For the same reason a sample of more than twice the timeout is left out.
    pub(super) fn sample(&mut self, rtt: Duration) {
        let Some((smoothed, variation)) = self.smoothed else {
            self.smoothed = Some((rtt, rtt / 2));
            return;
        };
        if self.timeout().is_some_and(|timeout| rtt > 2 * timeout) {
            return;
        }
        let variation = (3 * variation + smoothed.abs_diff(rtt)) / 4;
        self.smoothed = Some(((7 * smoothed + rtt) / 8, variation));
    }

    /// The smoothed round trip time.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed.map(|(smoothed, _)| smoothed)
    }

    /// How long an answer may take before it counts as late; `None` before the first sample.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.smoothed.map(|(smoothed, variation)| (smoothed + 4 * variation).max(MIN_TIMEOUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_timeout_follows_the_samples() {
        let mut rtt = RoundTrip::default();
        assert_eq!(rtt.timeout(), None);
        rtt.sample(ms(80));
        assert_eq!(rtt.timeout(), Some(ms(240)));
        (0..100).for_each(|_| rtt.sample(ms(80)));
        assert_eq!(rtt.timeout(), Some(MIN_TIMEOUT));
        (0..100).for_each(|i| rtt.sample(ms(if i % 2 == 0 { 60 } else { 100 })));
        assert!(rtt.timeout() > Some(ms(140)) && rtt.timeout() < Some(ms(180)), "{rtt:?}");
    }

    #[test]
    fn a_repeated_syn_ack_does_not_count() {
        let mut rtt = RoundTrip::default();
        (0..10).for_each(|_| rtt.sample(ms(50)));
        let before = rtt.timeout();
        (0..10).for_each(|_| rtt.sample(ms(1050)));
        assert_eq!(rtt.timeout(), before);
    }
}
