//! How much a reader may report: more than packets can cause, and little enough for the daemon.

use std::time::Instant;

/// Complete sequences per second. One-step doors whose packets come at 100,000 a second stay below it.
const OPENS_PER_SECOND: u32 = 50_000;
/// Complete sequences at one time: what the kernel and the socket hold after the daemon was busy for a moment.
const OPENS_BURST: u32 = 20_000;
/// Stages, failures and timeouts per second, as a multiple of the rate to which an intact reader limits them.
const REPORTS_FACTOR: u32 = 2;
/// Stages, failures and timeouts at one time, as a multiple of the same rate.
const REPORTS_BURST_FACTOR: u32 = 5;
/// Packets per second that the log of `--debug` shows.
const KNOCKS_PER_SECOND: u32 = 250_000;
/// Packets at one time that the log of `--debug` shows.
const KNOCKS_BURST: u32 = 250_000;
/// Notices about captures, and requests for another reader, per second.
const NOTICES_PER_SECOND: u32 = 10;
/// Notices about captures, and requests for another reader, at one time: this, and [`NOTICES_PER_INTERFACE`].
const NOTICES_BURST: u32 = 200;
/// Notices at one time for each interface, which a successor reports again.
const NOTICES_PER_INTERFACE: usize = 4;
/// Answers per second to questions about the network. Further ones wait.
const NETWORK_ANSWERS_PER_SECOND: u32 = 20;
/// Answers at one time to questions about the network.
const NETWORK_ANSWERS_BURST: u32 = 100;

/// What readers may still report. A successor gets what its predecessor has left.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) opens: Bucket,
    pub(super) reports: Bucket,
    pub(super) knocks: Bucket,
    pub(super) notices: Bucket,
    pub(super) network_answers: Bucket,
}

impl Budget {
    /// For readers of so many interfaces, whose own limit is `log_rate` stages, failures and timeouts per second.
    pub(super) fn new(interfaces: usize, log_rate: u32) -> Self {
        let notices = interfaces.saturating_mul(NOTICES_PER_INTERFACE);
        let notices = u32::try_from(notices).unwrap_or(u32::MAX).saturating_add(NOTICES_BURST);
        Self {
            opens: Bucket::new(OPENS_PER_SECOND, OPENS_BURST),
            reports: Bucket::new(
                log_rate.saturating_mul(REPORTS_FACTOR),
                log_rate.saturating_mul(REPORTS_BURST_FACTOR),
            ),
            knocks: Bucket::new(KNOCKS_PER_SECOND, KNOCKS_BURST),
            notices: Bucket::new(NOTICES_PER_SECOND, notices),
            network_answers: Bucket::new(NETWORK_ANSWERS_PER_SECOND, NETWORK_ANSWERS_BURST),
        }
    }
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u32,
    burst: u32,
    left: u32,
    /// When `left` was last filled up.
    filled: Instant,
}

impl Bucket {
    fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst, left: burst, filled: Instant::now() }
    }

    /// Takes one token; false if there is none.
    pub(super) fn take(&mut self) -> bool {
        // The clock is read only if it matters.
        if self.left == 0 {
            self.fill(Instant::now());
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }

    fn fill(&mut self, now: Instant) {
        let micros = now.saturating_duration_since(self.filled).as_micros();
        let tokens = micros.saturating_mul(self.per_second.into()) / 1_000_000;
        if tokens > 0 {
            self.left = u32::try_from(tokens).unwrap_or(u32::MAX).min(self.burst);
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_allows_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(1, 3);
        assert_eq!([0; 5].map(|_| bucket.take()), [true, true, true, false, false]);
        let later = |seconds| bucket.filled + Duration::from_secs(seconds);
        let (soon, late) = (later(2), later(2 + 3600));
        bucket.fill(soon);
        assert_eq!(bucket.left, 2);
        bucket.fill(late);
        assert_eq!(bucket.left, 3, "no more than the burst");
    }
}
