//! Which refusals of authenticated knocks are logged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Event, EventKind, RefusalReason};
use crate::time::Timestamp;

/// Minimum time between two log lines about refused knocks of one key for one reason.
const INTERVAL: Duration = Duration::from_secs(60);

/// The time of the last log line, by key and reason.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<(Arc<str>, &'static str), Timestamp>);

impl Refusals {
    /// Returns true for a refusal that is not logged, because another one of the same key for the
    /// same reason was logged less than [`INTERVAL`] before.
    pub(super) fn is_repeated(&mut self, event: &Event, now: Timestamp) -> bool {
        let EventKind::Refused { key, reason } = &event.kind else { return false };
        let is_recent = |logged: &Timestamp| now.saturating_since(*logged) < INTERVAL;
        let id = (key.clone(), RefusalReason::as_str(*reason));
        if self.0.get(&id).is_some_and(is_recent) {
            return true;
        }
        self.0.retain(|_, logged| is_recent(logged));
        self.0.insert(id, now);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(key: &str, reason: RefusalReason) -> Event {
        let kind = EventKind::Refused { key: key.into(), reason };
        Event { time: Timestamp::default(), door: "ssh".into(), ip: [192, 0, 2, 1].into(), kind }
    }

    #[test]
    fn a_refusal_is_logged_once_a_minute_for_each_key_and_reason() {
        let mut refusals = Refusals::default();
        let mut logged = Vec::new();
        for second in 0..121 {
            for (key, reason) in [
                ("a", RefusalReason::Replay),
                ("b", RefusalReason::Replay),
                ("a", RefusalReason::Clock(i64::try_from(second).unwrap())),
            ] {
                if !refusals.is_repeated(&refused(key, reason), Timestamp::from_secs(second)) {
                    logged.push((second, key, reason.as_str()));
                }
            }
        }
        let each = |second| [(second, "a", "replay"), (second, "b", "replay"), (second, "a", "clock")];
        assert_eq!(logged, [each(0), each(60), each(120)].concat());
    }
}
