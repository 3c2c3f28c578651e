//! The live windows of time sequences and codes: for each key the window before the present one, the
//! present window and the next one.
//!
//! The matcher treats each live window of a time sequence as a separate door, with the rules of the
//! door that it belongs to and the sequence that follows from the key. Its identifier continues those of
//! the doors. A window opens its door once. The windows of a code have identifiers too, but the matcher
//! compares the knocks of the door with all of them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Door, DoorId, LIVE_WINDOWS, Sequence};
use crate::replay_memory::{Form, KnockUse, ReplayMemory};
use crate::time::Timestamp;

/// Maximum number of doors and live windows.
const MAX_IDS: usize = 1 << 16;

/// A live window of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveWindow {
    /// The door.
    pub(crate) door: u16,
    /// The index of the key in [`Door::keys`]; 0 for a code.
    pub(crate) key: u32,
    /// The number of the window since 1970.
    pub(crate) number: u64,
    /// The sequence; `None` if the window has opened the door, or before the first turn.
    pub(crate) sequence: Option<Sequence>,
}

/// The live windows of all keys of all doors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveWindows {
    /// Number of doors, which is the identifier of the first window.
    doors: u16,
    windows: Vec<LiveWindow>,
    /// The times by the wall clock at which the windows are live, from the latest start of a present
    /// window to the earliest end of one. Empty before the first turn.
    valid: Range<Timestamp>,
}

impl LiveWindows {
    /// Returns the windows for the keys of these doors, without sequences until the first turn.
    pub(crate) fn new(doors: &[Door]) -> Self {
        Self::with_key_counts(doors.len(), doors.iter().map(Door::window_keys))
    }

    /// Returns the windows for this number of keys of each door.
    pub(crate) fn with_key_counts(doors: usize, keys: impl Iterator<Item = usize>) -> Self {
        let of_key =
            |door, key| (0..LIVE_WINDOWS).map(move |_| LiveWindow { door, key, number: u64::MAX, sequence: None });
        let of_door = |(door, keys): (u16, usize)| {
            (0..u32::try_from(keys).unwrap_or(u32::MAX)).flat_map(move |key| of_key(door, key))
        };
        let windows = (0..=u16::MAX).zip(keys).flat_map(of_door).take(MAX_IDS.saturating_sub(doors)).collect();
        Self { doors: u16::try_from(doors).unwrap_or(u16::MAX), windows, valid: Range::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Returns the windows with their identifiers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (DoorId, &LiveWindow)> {
        (self.doors..=u16::MAX).map(DoorId).zip(&self.windows)
    }

    /// Returns a window; `None` if the identifier is that of a door, or of nothing.
    pub(crate) fn get(&self, id: DoorId) -> Option<&LiveWindow> {
        self.windows.get(usize::from(id.0.checked_sub(self.doors)?))
    }

    /// Makes the windows live that include `wall`, the wall clock's time, and those before and after
    /// them. Windows that are in `memory` get no sequence. Returns the windows that changed; the
    /// attempts at their sequences end.
    pub(crate) fn turn(&mut self, doors: &[Door], wall: Timestamp, memory: &ReplayMemory) -> Vec<DoorId> {
        if !self.needs_turn(wall) {
            return Vec::new();
        }
        self.valid = Timestamp::default()..Timestamp::from_nanos(u64::MAX);
        let mut changed = Vec::new();
        for (index, window) in (self.doors..=u16::MAX).zip(&mut self.windows) {
            let Some(door) = doors.get(usize::from(window.door)) else { continue };
            let Some(length) = door.window_length() else { continue };
            let present = window_at(length, wall);
            self.valid.start = self.valid.start.max(window_start(length, present));
            self.valid.end = self.valid.end.min(window_start(length, present + 1));
            // Windows whose numbers differ by three use the same element one after the other, so that
            // the other windows keep their attempts.
            let live = u64::from(LIVE_WINDOWS);
            let slot = u64::from(index - self.doors) % live;
            let number = (present.saturating_sub(1)..=present + 1).find(|number| number % live == slot);
            let Some(number) = number.filter(|number| *number != window.number) else { continue };
            window.number = number;
            let knock = knock_use(door, window);
            let is_used = knock.is_some_and(|knock| memory.has(&knock));
            window.sequence = if is_used { None } else { sequence(door, window) };
            changed.push(DoorId(index));
        }
        changed
    }

    /// True if both have the windows of the same keys in the same order.
    pub(crate) fn is_for_same_keys(&self, other: &Self) -> bool {
        let key_of = |window: &LiveWindow| (window.door, window.key);
        self.doors == other.doors && self.windows.iter().map(key_of).eq(other.windows.iter().map(key_of))
    }

    /// True if [`LiveWindows::turn`] would change windows.
    pub(crate) fn needs_turn(&self, wall: Timestamp) -> bool {
        !self.windows.is_empty() && !self.valid.contains(&wall)
    }

    /// Returns the time by the wall clock at which [`LiveWindows::turn`] is due; `None` if there are
    /// no windows.
    pub(crate) fn next_turn(&self) -> Option<Timestamp> {
        (!self.windows.is_empty()).then_some(self.valid.end)
    }

    /// Sets the number and the sequence of a window. Returns false if there is no such window.
    pub(crate) fn set(&mut self, id: DoorId, number: u64, sequence: Option<Sequence>) -> bool {
        let index = id.0.checked_sub(self.doors).map(usize::from);
        let Some(window) = index.and_then(|index| self.windows.get_mut(index)) else { return false };
        (window.number, window.sequence) = (number, sequence);
        true
    }

    /// Removes the sequence of a window that has opened its door.
    pub(crate) fn consume(&mut self, id: DoorId) {
        if let Some(number) = self.get(id).map(|window| window.number) {
            self.set(id, number, None);
        }
    }
}

/// Returns the sequence of a window; `None` if the door has no such key.
fn sequence(door: &Door, window: &LiveWindow) -> Option<Sequence> {
    if let Some(time) = &door.time_sequence {
        return Some(time.sequence(&door.keys.get(window.key as usize)?.key, window.number));
    }
    let (code, totp) = (door.code.as_ref()?, door.totp.as_ref()?);
    Some(code.sequence(totp.secret.code(window.number, code.digits())))
}

/// Returns what the replay memory stores of the sequence of a window; `None` if the door has no such
/// key.
pub(crate) fn knock_use(door: &Door, window: &LiveWindow) -> Option<KnockUse> {
    let length = door.window_length()?;
    let (key, form) = if door.time_sequence.is_some() {
        let seconds = u32::try_from(length.as_secs()).unwrap_or(u32::MAX);
        (door.keys.get(window.key as usize)?.key.fingerprint(), Form::Time(seconds))
    } else {
        (door.totp.as_ref()?.secret.fingerprint(), Form::Code)
    };
    Some(KnockUse { key, form, time: window_start(length, window.number), token: [0; 12] })
}

/// Returns the name of the key of a window; `None` if the door has no such key.
pub(crate) fn key_name(door: &Door, window: &LiveWindow) -> Option<Arc<str>> {
    let named = door.keys.get(window.key as usize).filter(|_| door.time_sequence.is_some());
    named.map(|named| &named.name).or_else(|| Some(&door.totp.as_ref()?.name)).cloned()
}

/// Returns the number of the window of this length that contains a time by the wall clock.
pub(crate) fn window_at(length: Duration, wall: Timestamp) -> u64 {
    wall.as_nanos() / nanos(length)
}

/// Returns the time by the wall clock at which a window of this length begins.
fn window_start(length: Duration, number: u64) -> Timestamp {
    Timestamp::from_nanos(number.saturating_mul(nanos(length)))
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::TimeSequence;
    use crate::keys::NamedKey;
    use crate::keys::tests::counting_key;

    fn doors() -> Vec<Door> {
        let key = |name: &str| NamedKey { name: name.into(), key: counting_key().for_server(name) };
        let time = |window| Some(TimeSequence { window: Duration::from_secs(window), ..TimeSequence::default() });
        vec![
            Door::new("plain", None),
            Door { time_sequence: time(30), keys: [key("a"), key("b")].into(), ..Door::new("ssh", None) },
            Door { time_sequence: time(45), keys: [key("c")].into(), ..Door::new("web", None) },
        ]
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    /// The live windows, each as the name of its key, its number and its sequence.
    fn live(windows: &LiveWindows, doors: &[Door]) -> Vec<(String, u64, Sequence)> {
        let mut live: Vec<_> = windows
            .iter()
            .map(|(_, window)| {
                let door = &doors[usize::from(window.door)];
                let named = &door.keys[window.key as usize];
                let sequence = window.sequence.clone().unwrap();
                assert_eq!(sequence, door.time_sequence.as_ref().unwrap().sequence(&named.key, window.number));
                (named.name.to_string(), window.number, sequence)
            })
            .collect();
        live.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
        live
    }

    #[test]
    fn the_windows_before_and_after_the_present_one_are_live() {
        let (doors, memory) = (doors(), ReplayMemory::default());
        let mut windows = LiveWindows::new(&doors);
        assert!(windows.iter().all(|(_, window)| window.sequence.is_none()));
        for time in [100_000, 100_000, 100_019, 100_020, 100_035, 100_100, 200_000, 100_000, 0, 5] {
            windows.turn(&doors, at(time), &memory);
            let (thirty, forty_five) = (time / 30, time / 45);
            let numbers = |present: u64| present.saturating_sub(1)..=present + 1;
            let found = live(&windows, &doors);
            if time > 60 {
                let expected: Vec<_> = [("a", thirty), ("b", thirty), ("c", forty_five)]
                    .into_iter()
                    .flat_map(|(key, present)| numbers(present).map(move |number| (key.to_owned(), number)))
                    .collect();
                let found: Vec<_> = found.into_iter().map(|(key, number, _)| (key, number)).collect();
                assert_eq!(found, expected, "{time}");
            }
            let next = windows.next_turn().unwrap();
            assert!(next > at(time) && next <= at(time + 30), "{time}");
        }
    }

    #[test]
    fn a_turn_changes_only_the_windows_that_end() {
        let (doors, memory) = (doors(), ReplayMemory::default());
        let mut windows = LiveWindows::new(&doors);
        assert_eq!(windows.turn(&doors, at(90_000), &memory).len(), 9);
        assert_eq!(windows.turn(&doors, at(90_029), &memory).len(), 0);
        assert_eq!(windows.turn(&doors, at(90_030), &memory).len(), 2, "both keys of 30 s");
        assert_eq!(windows.turn(&doors, at(90_045), &memory).len(), 1, "the key of 45 s");
        assert_eq!(windows.turn(&doors, at(90_000), &memory).len(), 3, "the clock was set back");
    }

    #[test]
    fn a_window_that_was_used_gets_no_sequence() {
        let doors = doors();
        let mut windows = LiveWindows::new(&doors);
        windows.turn(&doors, at(90_000), &ReplayMemory::default());
        let (id, window) = windows.iter().find(|(_, window)| window.number == 3_000 && window.key == 1).unwrap();
        let knock = knock_use(&doors[1], window).unwrap();
        let mut memory = ReplayMemory::default();
        memory.accept(&knock, at(90_000), Duration::from_secs(60)).unwrap();
        let mut restarted = LiveWindows::new(&doors);
        restarted.turn(&doors, at(90_029), &memory);
        let unused: Vec<_> = restarted.iter().filter(|(_, window)| window.sequence.is_none()).collect();
        assert_eq!(unused.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id]);
        windows.consume(id);
        assert_eq!(windows.get(id).unwrap().sequence, None);
    }

    #[test]
    fn identifiers_continue_those_of_the_doors_and_end_with_them() {
        let windows = LiveWindows::new(&doors());
        assert_eq!(windows.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), (3..12).collect::<Vec<_>>());
        assert!(windows.get(DoorId(2)).is_none() && windows.get(DoorId(12)).is_none());
        let many = LiveWindows::with_key_counts(2, [0, 30_000].into_iter());
        assert_eq!(many.iter().count(), MAX_IDS - 2);
    }
}
