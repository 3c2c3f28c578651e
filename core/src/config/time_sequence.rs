//! Sequences that follow from a key and the time.
//!
//! The time since 1970 is divided into windows of equal length. The steps of a window are
//!
//! ```text
//! D      = HMAC-SHA256(key, "portknock sequence 1\0" ‖ be64(window))
//! step i = low + (be32(D[4i..]) & 0x7fff_ffff) mod size
//! ```
//!
//! With both protocols, the top bit of each 32-bit number selects UDP. A port that occurs a second
//! time becomes the next port of the range that has not occurred yet; the first port of the range
//! follows the last one.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::steps::{Sequence, Step};
use crate::keys::{Key, PreparedKey};
use crate::packet::Protocol;
use crate::time::Timestamp;

/// Maximum number of steps of a time sequence: each uses four of the 32 bytes of an HMAC.
pub const MAX_TIME_STEPS: u8 = 8;
/// Valid lengths of a window, in seconds.
///
/// A sequence follows from the number of its window and not from the length. With another length the
/// number of a window that has ended is that of a later window, or of an earlier one. Each length is
/// at least twice the previous one, so that a later window begins when the time since 1970 has
/// doubled. A recorded sequence is therefore not valid again if `time_step` changes.
pub(crate) const WINDOW_SECONDS: [u64; 8] = [10, 30, 60, 120, 300, 600, 1800, 3600];
/// The valid lengths in messages.
pub(crate) const WINDOW_SECONDS_TEXT: &str = "10, 30, 60, 120, 300, 600, 1800 or 3600";
/// Number of windows of a key whose sequences open the door: the previous, the present and the next
/// one.
pub(crate) const LIVE_WINDOWS: u8 = 3;

/// `sequence = time`: how the steps of a door follow from a key and the time. The client needs the
/// same values as the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimeSequence {
    /// Number of steps, 1 to [`MAX_TIME_STEPS`]. Default 5.
    pub steps: u8,
    /// `time_ports`: the range of the ports; it has at least as many ports as there are steps.
    /// Default 1024 to 65535.
    pub ports: RangeInclusive<NonZeroU16>,
    /// `time_protocols`: the protocols of the steps. Default TCP.
    pub protocols: StepProtocols,
    /// `time_step`: length of a window: 10, 30, 60, 120, 300, 600, 1800 or 3600 seconds. Default 30 s.
    /// With other lengths a sequence that was accepted may be accepted again when the length changes.
    pub window: Duration,
}

/// The protocols of the steps of a time sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StepProtocols {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// TCP or UDP, different for each step.
    Both,
}

impl StepProtocols {
    /// Returns the name in configurations, such as `tcp`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Both => "both",
        }
    }
}

/// The text is not the name of [`StepProtocols`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither `tcp` nor `udp` nor `both`")]
pub struct StepProtocolsError;

/// Parses a name, in which the case does not matter.
impl FromStr for StepProtocols {
    type Err = StepProtocolsError;

    fn from_str(text: &str) -> Result<Self, StepProtocolsError> {
        let all = [Self::Tcp, Self::Udp, Self::Both];
        all.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(text)).ok_or(StepProtocolsError)
    }
}

impl Default for TimeSequence {
    fn default() -> Self {
        const FIRST: NonZeroU16 = NonZeroU16::new(1024).unwrap();
        Self {
            steps: 5,
            ports: FIRST..=NonZeroU16::MAX,
            protocols: StepProtocols::Tcp,
            window: Duration::from_secs(30),
        }
    }
}

impl TimeSequence {
    /// Returns the number of the window that contains a time by the wall clock.
    pub fn window_at(&self, wall: Timestamp) -> u64 {
        wall.as_nanos() / self.window_nanos()
    }

    /// Returns the time by the wall clock at which a window begins.
    pub fn window_start(&self, window: u64) -> Timestamp {
        Timestamp::from_nanos(window.saturating_mul(self.window_nanos()))
    }

    /// Returns the sequence that a client with this key sends in a window.
    pub fn sequence(&self, key: &Key, window: u64) -> Sequence {
        self.sequence_of(&key.prepare(), window)
    }

    /// Returns the sequence of a window for a key that many windows need.
    pub(crate) fn sequence_of(&self, key: &PreparedKey, window: u64) -> Sequence {
        let digest = key.derive(b"portknock sequence 1\0", &window.to_be_bytes());
        let (low, high) = (self.ports.start().get(), self.ports.end().get());
        let size = u32::from(high.saturating_sub(low)) + 1;
        let mut steps: Vec<Step> = Vec::with_capacity(usize::from(self.steps));
        for word in digest.chunks_exact(4).take(usize::from(self.steps.clamp(1, MAX_TIME_STEPS))) {
            let number = word.iter().fold(0, |number: u32, &byte| number << 8 | u32::from(byte));
            let mut offset = (number & 0x7fff_ffff) % size;
            // The sum is in the range of ports, so it is neither zero nor too large.
            let port_at = |offset| u16::try_from(u32::from(low) + offset).ok().and_then(NonZeroU16::new);
            let is_free = |port: Option<NonZeroU16>| steps.iter().all(|step| Some(step.port) != port);
            let free = (0..size).find(|distance| is_free(port_at((offset + distance) % size)));
            offset = (offset + free.unwrap_or(0)) % size;
            let protocol = match self.protocols {
                StepProtocols::Tcp => Protocol::Tcp,
                StepProtocols::Udp => Protocol::Udp,
                StepProtocols::Both => {
                    if number >> 31 == 1 {
                        Protocol::Udp
                    } else {
                        Protocol::Tcp
                    }
                }
            };
            steps.extend(port_at(offset).map(|port| Step { port, protocol }));
        }
        // At least one step and at most MAX_TIME_STEPS were pushed.
        #[allow(clippy::expect_used, reason = "the number of steps is valid")]
        Sequence::new(steps).expect("1 to 8 steps are a sequence")
    }

    fn window_nanos(&self) -> u64 {
        u64::try_from(self.window.as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::counting_key;

    fn text(time: &TimeSequence, unix: u64) -> String {
        time.sequence(&counting_key(), time.window_at(Timestamp::from_secs(unix))).to_string()
    }

    fn ports(low: u16, high: u16) -> RangeInclusive<NonZeroU16> {
        NonZeroU16::new(low).unwrap()..=NonZeroU16::new(high).unwrap()
    }

    /// Values that other implementations of the format computed.
    #[test]
    fn the_steps_are_those_of_other_implementations() {
        let time = TimeSequence::default();
        assert_eq!(text(&time, 59), "16082,22333,13614,17533,45696");
        assert_eq!(text(&time, 8_589_934_592), "29466,21898,37186,1424,5730");
        let eight = TimeSequence { steps: 8, ..time.clone() };
        assert_eq!(text(&eight, 59), "16082,22333,13614,17533,45696,9446,15518,65011");
        let both = TimeSequence { protocols: StepProtocols::Both, ..time.clone() };
        assert_eq!(text(&both, 59), "16082,22333,13614,17533:udp,45696:udp");
        let range = TimeSequence { ports: ports(20_000, 60_000), ..time.clone() };
        assert_eq!(text(&range, 59), "39946,36268,50490,20135,56461");
        let narrow = TimeSequence { ports: ports(40_000, 40_004), ..time.clone() };
        assert_eq!(text(&narrow, 59), "40003,40001,40004,40000,40002");
        let slow = TimeSequence { window: Duration::from_secs(3600), ..time };
        assert_eq!(text(&slow, 59), "18543,40084,5004,8642,5443");
    }

    #[test]
    fn no_window_has_the_number_of_an_earlier_one_of_another_length() {
        assert_eq!(
            WINDOW_SECONDS.map(|seconds| seconds.to_string()).join(", "),
            WINDOW_SECONDS_TEXT.replace(" or", ",")
        );
        assert!(WINDOW_SECONDS.windows(2).all(|pair| pair[0] * 2 <= pair[1]));
    }

    #[test]
    fn ports_never_repeat_and_stay_in_the_range() {
        for steps in 1..=MAX_TIME_STEPS {
            let time = TimeSequence { steps, ports: ports(65_528, 65_535), ..TimeSequence::default() };
            for window in 0..500 {
                let sequence = time.sequence(&counting_key(), window);
                let mut found: Vec<_> = sequence.steps().iter().map(|step| step.port.get()).collect();
                found.sort_unstable();
                found.dedup();
                assert!(found.len() == usize::from(steps) && found[0] >= 65_528, "{sequence}");
            }
        }
    }

    #[test]
    fn a_window_begins_where_the_one_before_ends() {
        let time = TimeSequence::default();
        for window in [0, 1, 59_867_680] {
            let start = time.window_start(window);
            assert_eq!(time.window_at(start), window);
            assert_eq!(time.window_at(Timestamp::from_nanos(start.as_nanos() + 29_999_999_999)), window);
            assert_eq!(time.window_start(window + 1), start.saturating_add(Duration::from_secs(30)));
        }
    }
}
