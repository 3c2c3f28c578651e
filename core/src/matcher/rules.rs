//! The part of a door's configuration that the matcher uses.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::codes::CodeRules;
use super::ports::{DoorPorts, PortKey};
use crate::config::{CodeSequence, Door, Sequence};
use crate::decode::Knock;
use crate::live_windows::LiveWindow;
use crate::packet::{Protocol, SegmentSet};

/// The part of a door's configuration that the matcher uses.
#[derive(Debug)]
pub(super) struct DoorRules {
    pub(super) name: Arc<str>,
    /// The steps before a code, if the door has one. Empty while the door accepts no knocks.
    pub(super) steps: Box<[PortKey]>,
    /// Number of steps, with those of a code.
    pub(super) length: usize,
    /// The code after the steps. It is in a box, because few doors have one.
    pub(super) code: Option<Box<CodeRules>>,
    /// The door, if this is a live window of its code. Such a window has no steps.
    pub(super) code_door: Option<u16>,
    /// The TCP segments that satisfy the door's `tcpflags`.
    segments: SegmentSet,
    target: Option<IpAddr>,
    allow: Vec<IpNet>,
    pub(super) one_time: bool,
    /// True for a live window of a time sequence.
    is_window: bool,
    /// True after a live window has opened its door, and while a door with a code ignores all knocks.
    /// The index of ports still contains the steps.
    is_consumed: bool,
    pub(super) has_cooldown: bool,
    /// The door, if its cooldowns apply to networks.
    cools_networks: Option<Box<Door>>,
}

impl DoorRules {
    pub(super) fn of(door: &Door) -> Self {
        let fixed = |code: &CodeSequence| code.fixed().iter().map(|&step| step.into()).collect();
        let steps: Box<[PortKey]> = door.code.as_ref().map_or_else(|| keys_of(door.sequence.as_ref()), fixed);
        let code = door.code.as_ref().map(|code| Box::new(CodeRules::new(code)));
        // The engine keeps the cooldowns of doors with a code, because they apply to all windows.
        let has_cooldown = door.seq_cooldown.is_some() && code.is_none();
        Self {
            name: door.name.clone(),
            length: steps.len() + code.as_ref().map_or(0, |code| code.steps().len()),
            steps,
            is_consumed: code.is_some(),
            code,
            code_door: None,
            segments: door.tcpflags.segments(),
            target: door.target,
            allow: door.allow.clone(),
            one_time: door.one_time_sequences.is_some(),
            is_window: false,
            has_cooldown,
            cools_networks: (has_cooldown && door.open_prefix.is_some()).then(|| Box::new(door.clone())),
        }
    }

    /// Returns the rules of a live window of this door. The engine keeps its cooldowns, because they
    /// apply to all windows.
    pub(super) fn of_window(door: &Door, window: &LiveWindow) -> Self {
        let code_door = door.code.is_some().then_some(window.door);
        let steps = if code_door.is_some() { Box::default() } else { keys_of(window.sequence.as_ref()) };
        Self {
            length: steps.len(),
            steps,
            code: None,
            code_door,
            is_window: true,
            is_consumed: false,
            has_cooldown: false,
            cools_networks: None,
            ..Self::of(door)
        }
    }

    /// Sets a live window of the door's code.
    pub(super) fn set_code_window(&mut self, id: u16, window: &LiveWindow) {
        if let Some(code) = &mut self.code {
            code.set(id, window);
            self.is_consumed = code.is_silent();
        }
    }

    /// Sets the steps; none if the door accepts no knocks.
    pub(super) fn set_steps(&mut self, steps: Box<[PortKey]>) {
        (self.length, self.steps, self.is_consumed) = (steps.len(), steps, false);
    }

    /// Stops accepting knocks, if this is a live window, which opens its door once.
    pub(super) fn consume_window(&mut self) -> bool {
        self.is_consumed = self.is_window;
        self.is_window
    }

    /// Continues with the state that the code of the same door had before a reload.
    pub(super) fn resume_code(&mut self, before: CodeRules) {
        if let Some(code) = &mut self.code {
            code.resume(before);
        }
        self.update_silence();
    }

    /// Stops accepting knocks at a door with a code, if no code is live or too many codes were wrong.
    pub(super) fn update_silence(&mut self) {
        if let Some(code) = &self.code {
            self.is_consumed = code.is_silent();
        }
    }

    /// Returns the address that holds the cooldown of this source, if it can be another address:
    /// the first of the network that the door opens for.
    pub(super) fn cooled_network(&self, source: IpAddr) -> Option<IpAddr> {
        let door = self.cools_networks.as_ref()?;
        Some(door.network_of(source).addr()).filter(|first| *first != source)
    }

    /// True if the knock is sent to this door's address, and its source is allowed to knock here.
    pub(super) fn is_relevant(&self, knock: &Knock, is_local: bool) -> bool {
        self.target.map_or(is_local, |target| target == knock.destination)
            && (self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&knock.source)))
    }

    /// True for UDP, and for a TCP segment whose flags the door accepts. False after a live window
    /// was consumed, and while a door with a code ignores all knocks.
    pub(super) fn counts(&self, knock: &Knock) -> bool {
        (knock.protocol == Protocol::Udp || self.segments.contains(knock.flags)) && !self.is_consumed
    }

    /// True if the scan guard counts the knock: at another port it could be a knock for this door.
    pub(super) fn guards_against(&self, knock: &Knock) -> bool {
        let of_code = |code: &CodeRules| code.steps().iter().any(|step| step.protocol() == knock.protocol);
        self.counts(knock)
            && (self.steps.iter().any(|step| step.protocol() == knock.protocol)
                || self.code.as_ref().is_some_and(|code| of_code(code)))
    }

    pub(super) fn ports(&self) -> DoorPorts<'_> {
        // A consumed window and a silent door accept nothing at their ports.
        let is_restricted = self.target.is_some() || !self.allow.is_empty() || self.is_window || self.code.is_some();
        let code = self.code.as_ref().map_or(&[][..], |code| code.steps());
        DoorPorts { steps: &self.steps, code, segments: self.segments, is_restricted }
    }
}

/// Returns the steps of a sequence; none without a sequence, because the door then accepts no
/// knocks.
pub(super) fn keys_of(sequence: Option<&Sequence>) -> Box<[PortKey]> {
    sequence.map_or_else(Box::default, |sequence| sequence.steps().iter().map(|&step| step.into()).collect())
}
