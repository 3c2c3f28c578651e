//! Doors with the code of an authenticator app: the codes that are live, and the limits of wrong codes.

use super::attempts::{CodeProgress, Source};
use super::ports::PortKey;
use crate::config::{CodeSequence, CodeStep, LIVE_WINDOWS};
use crate::event::FailReason;
use crate::live_windows::LiveWindow;

/// Number of wrong codes of a source after which the door ignores it until the window ends.
const SOURCE_LIMIT: u8 = 3;
/// Number of wrong codes of all sources after which the door ignores every source until the window
/// ends.
const DOOR_LIMIT: u8 = 10;
/// Number of slots for the live windows of a door.
const SLOTS: usize = LIVE_WINDOWS as usize;

/// The result of comparing a knock with the live codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeMatch {
    /// The port is in none of the ranges of the code.
    NotCode,
    /// The knock repeats digits that have matched already.
    Repeated,
    /// The next digits of a live code.
    Next(CodeProgress),
    /// The codes that began with the digits so far are no longer live.
    Expired,
    /// Digits of no live code, or at the wrong place.
    Wrong,
}

/// The code of a live window.
#[derive(Clone, Debug, Default)]
struct CodeWindow {
    /// The identifier of the live window.
    id: u16,
    /// The number of the window; `None` before the first turn.
    number: Option<u64>,
    /// The ports of the code; empty if it has opened the door.
    ports: Box<[PortKey]>,
    /// The value of [`CodeRules::turn`] from which on the window is in this slot.
    since: u16,
}

/// The state of a door with a code.
#[derive(Debug)]
pub(super) struct CodeRules {
    /// The steps that contain the code.
    steps: Box<[CodeStep]>,
    /// The live windows. The slot of a window follows from its number.
    windows: [CodeWindow; SLOTS],
    /// Number of windows that have become live, modulo 2^16.
    turn: u16,
    /// Number of wrong codes in the present window.
    wrong: u8,
    /// The sources of the wrong codes in the present window, with their numbers.
    sources: Vec<(Source, u8)>,
}

impl CodeRules {
    /// Returns the rules for a sequence. No code is live until [`CodeRules::set`].
    pub(super) fn new(sequence: &CodeSequence) -> Self {
        Self {
            steps: sequence.code().into(),
            windows: Default::default(),
            turn: 0,
            wrong: 0,
            sources: Vec::with_capacity(DOOR_LIMIT.into()),
        }
    }

    /// The steps that contain the code.
    pub(super) fn steps(&self) -> &[CodeStep] {
        &self.steps
    }

    /// Sets a live window. If it is a new one, wrong codes are counted from zero again.
    pub(super) fn set(&mut self, id: u16, window: &LiveWindow) {
        let keys = |steps: &[crate::config::Step]| steps.iter().map(|&step| step.into()).collect();
        let steps = window.sequence.as_ref().map_or(&[][..], |sequence| sequence.steps());
        let ports: Box<[PortKey]> = keys(&steps[steps.len().saturating_sub(self.steps.len())..]);
        self.put(CodeWindow { id, number: Some(window.number), ports, since: 0 });
    }

    /// Puts a window into its slot.
    fn put(&mut self, window: CodeWindow) {
        let Some(number) = window.number else { return };
        let slot = &mut self.windows[slot_of(number)];
        if slot.number != Some(number) {
            self.turn = self.turn.wrapping_add(1);
            slot.since = self.turn;
            self.wrong = 0;
            self.sources.clear();
        }
        let ports = if window.ports.len() == self.steps.len() { window.ports } else { Box::default() };
        *slot = CodeWindow { ports, since: slot.since, ..window };
    }

    /// Continues with the state of the same door before a reload, and with the windows of this one.
    pub(super) fn resume(&mut self, before: Self) {
        let fresh = std::mem::replace(self, before);
        fresh.windows.into_iter().for_each(|window| self.put(window));
    }

    /// True if the door ignores every knock: no code is live, or too many codes were wrong.
    pub(super) fn is_silent(&self) -> bool {
        self.wrong >= DOOR_LIMIT || self.windows.iter().all(|window| window.ports.is_empty())
    }

    /// True if the door ignores this source.
    pub(super) fn is_silent_for(&self, source: Source) -> bool {
        self.sources.iter().any(|(known, wrong)| *known == source && *wrong >= SOURCE_LIMIT)
    }

    /// Counts a wrong code, and returns the reason why the attempt fails.
    pub(super) fn count_wrong(&mut self, source: Source) -> FailReason {
        self.wrong = self.wrong.saturating_add(1);
        let known = self.sources.iter_mut().find(|(known, _)| *known == source);
        let wrong = match known {
            Some((_, wrong)) => {
                *wrong = wrong.saturating_add(1);
                *wrong
            }
            // Each entry has a wrong code, so their number is limited, too.
            None => {
                self.sources.push((source, 1));
                1
            }
        };
        if self.wrong >= DOOR_LIMIT {
            FailReason::DoorSilenced
        } else if wrong >= SOURCE_LIMIT {
            FailReason::Silenced
        } else {
            FailReason::WrongPort
        }
    }

    /// Compares a knock with the live codes. `matched` is the number of code steps that have matched
    /// already.
    pub(super) fn compare(&self, progress: CodeProgress, matched: usize, key: PortKey) -> CodeMatch {
        if !self.steps.iter().any(|step| step.covers(key.protocol(), key.port())) {
            return CodeMatch::NotCode;
        }
        let (mut slots, mut is_repeated, mut is_live) = (0, false, false);
        for (slot, window) in self.windows.iter().enumerate() {
            if !self.continues(progress, matched, slot) {
                continue;
            }
            is_live = true;
            is_repeated |= window.ports[..matched].contains(&key);
            slots |= u8::from(window.ports.get(matched) == Some(&key)) << slot;
        }
        match slots {
            _ if !is_live => CodeMatch::Expired,
            0 if is_repeated => CodeMatch::Repeated,
            0 => CodeMatch::Wrong,
            slots => CodeMatch::Next(CodeProgress { turn: self.turn, slots }),
        }
    }

    /// True if the code in the slot is live and begins with the digits so far.
    fn continues(&self, progress: CodeProgress, matched: usize, slot: usize) -> bool {
        let window = &self.windows[slot];
        // The turns of an attempt and of a window differ by far less than 2^15.
        let is_same = progress.slots >> slot & 1 == 1 && progress.turn.wrapping_sub(window.since) < 1 << 15;
        !window.ports.is_empty() && (matched == 0 || is_same)
    }

    /// Consumes the earliest of the codes that are complete, and returns the identifier of its window.
    pub(super) fn consume(&mut self, complete: CodeProgress) -> Option<u16> {
        let is_complete =
            |(slot, window): &(usize, &mut CodeWindow)| complete.slots >> slot & 1 == 1 && !window.ports.is_empty();
        let windows = self.windows.iter_mut().enumerate().filter(is_complete);
        let (_, window) = windows.min_by_key(|(_, window)| window.number)?;
        window.ports = Box::default();
        Some(window.id)
    }

    /// Returns the identifier of the latest window that an attempt can still complete.
    pub(super) fn window_of(&self, progress: CodeProgress, matched: usize) -> Option<u16> {
        let continues = |(slot, _): &(usize, &CodeWindow)| self.continues(progress, matched, *slot);
        let window = self.windows.iter().enumerate().filter(continues).max_by_key(|(_, window)| window.number);
        window.map(|(_, window)| window.id)
    }

    /// Returns the progress of an attempt at the code of a window; `None` if it is not live.
    pub(super) fn progress_of(&self, id: u16) -> Option<CodeProgress> {
        let slot = self.windows.iter().position(|window| window.number.is_some() && window.id == id)?;
        Some(CodeProgress { turn: self.turn, slots: 1 << slot })
    }
}

/// Returns the slot of a window: that of the window three numbers earlier, whose time is over.
fn slot_of(number: u64) -> usize {
    // The remainder is less than three.
    usize::try_from(number % u64::from(LIVE_WINDOWS)).unwrap_or(0)
}
