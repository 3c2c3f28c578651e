//! The round-trip time, estimated as TCP does it (RFC 6298).

use std::time::Duration;

/// Minimum time after which an answer counts as late.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);

/// The estimate of the round-trip time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    /// The smoothed time and its variation; `None` before the first sample.
    smoothed: Option<(Duration, Duration)>,
}

impl RoundTrip {
    /// Adds a sample. It must belong to the latest probe of the port: a server retransmits a lost
    /// SYN/ACK after a second, and that second is no round trip. For the same reason the estimate
    /// ignores samples of more than twice the timeout.
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

    /// Returns the smoothed round-trip time.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed.map(|(smoothed, _)| smoothed)
    }

    /// Returns the time after which an answer counts as late; `None` before the first sample.
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
