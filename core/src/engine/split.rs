//! Two engines that share the work: a reader's engine detects knocks, and the daemon's engine keeps the
//! openings.

use std::net::IpAddr;
use std::sync::Arc;

use super::Engine;
use super::state::Role;
use crate::config::{Config, DoorId, Sequence};
use crate::event::{Event, EventKind};
use crate::fwknop::MacKey;
use crate::fwknop_keys::FwknopKeys;
use crate::live_windows::LiveWindows;
use crate::matcher::{SavedAttempt, Sink};
use crate::packet_keys::{HintTable, PacketKeys};
use crate::time::Timestamp;

/// The values that detect the knocks of doors with keys at present, without any key that opens a door.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiveSecrets {
    pub(crate) windows: LiveWindows,
    pub(crate) hints: HintTable,
    /// The parts of fwknop's keys that authenticate packets.
    pub(crate) mac_keys: Arc<[MacKey]>,
}

impl Engine {
    /// Creates an engine that only detects complete sequences: it reports each as an
    /// [`EventKind::Open`] without a command or an opening. Another engine, to which
    /// [`Engine::apply_detected`] passes these events, opens and closes the doors.
    pub(crate) fn new_detect_only(config: &Config, windows: LiveWindows) -> Self {
        Self::with_role(config, windows, Role::Detect)
    }

    /// Creates an engine for the events of a detect-only engine.
    pub(crate) fn new_for_detected(config: &Config) -> Self {
        Self::with_role(config, LiveWindows::new(&config.doors), Role::Open)
    }

    /// Returns what a detect-only reader needs for another configuration at `now`.
    pub(crate) fn secrets_for(&self, config: &Config, now: Timestamp) -> LiveSecrets {
        let mut keys = PacketKeys::new(&config.doors);
        keys.turn(self.state.wall(now), config.options.clock_skew);
        let mac_keys = FwknopKeys::new(&config.doors).mac_keys().clone();
        LiveSecrets { windows: self.windows_for(config, now), hints: keys.into_hints(), mac_keys }
    }

    /// Returns what a detect-only reader needs.
    pub(crate) fn secrets(&self) -> LiveSecrets {
        let mac_keys = self.state.fwknop_keys.mac_keys().clone();
        LiveSecrets { windows: self.state.windows.clone(), hints: self.hints().clone(), mac_keys }
    }

    /// Sets live windows of a detect-only engine, each with its number and its sequence.
    pub(crate) fn set_windows(
        &mut self,
        windows: impl IntoIterator<Item = (DoorId, u64, Option<Sequence>)>,
        now: Timestamp,
    ) {
        self.handle_timeout(now);
        let mut changed = Vec::new();
        for (id, number, sequence) in windows {
            if self.state.windows.set(id, number, sequence) {
                changed.push(id);
            }
        }
        self.update_windows(&changed);
    }

    /// Handles the complete sequence of a live window that a detect-only engine reported.
    pub(crate) fn apply_window(&mut self, time: Timestamp, id: DoorId, number: u64, ip: IpAddr) {
        self.handle_timeout(time);
        self.state.complete_window(self.now.max(time), id, number, ip);
    }

    /// Applies an event of a detect-only engine as if this engine had detected it.
    pub(crate) fn apply_detected(&mut self, time: Timestamp, door_id: DoorId, ip: IpAddr, kind: EventKind) {
        // The order is that of the other engine: among simultaneous events, attempts end first, and
        // everything that is due comes before a packet.
        let before =
            if matches!(kind, EventKind::Timeout { .. }) { time.as_nanos().saturating_sub(1) } else { time.as_nanos() };
        self.handle_timeout(Timestamp::from_nanos(before));
        let Some(door) = self.state.doors.get(usize::from(door_id.0)) else { return };
        match kind {
            EventKind::Open { .. } => self.state.complete(self.now.max(time), door_id, ip),
            kind => {
                let door = door.name.clone();
                self.state.events.push_back(Event { time, door, ip, kind });
            }
        }
    }

    /// Ends this engine and returns its attempts, for another engine with the same doors.
    pub(crate) fn hand_over(self) -> impl Iterator<Item = SavedAttempt> {
        let windows = self.state.windows;
        self.matcher.hand_over().map(move |attempt| SavedAttempt {
            window: windows.get(DoorId(attempt.door)).map_or(0, |window| window.number),
            ..attempt
        })
    }

    /// Resumes an attempt that another engine with the same doors handed over.
    pub(crate) fn resume_attempt(&mut self, attempt: &SavedAttempt) {
        // A window may have taken the identifier of one that has ended meanwhile.
        let window = self.state.windows.get(DoorId(attempt.door)).map_or(0, |window| window.number);
        if window == attempt.window {
            self.matcher.resume(attempt, self.now, &mut self.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::parse;
    use crate::decode::Knock;
    use crate::packet::{Protocol, TcpFlags};
    use crate::totp::TotpKey;
    use crate::totp::tests::rfc_secret;

    /// A door with a code, with the secret of the vectors in RFC 6238.
    fn config() -> Config {
        let text = "[plain]\nsequence = 5,1,9:udp\n[phone]\nsequence = 7391,48213,21???,22???\ntotp_secret = /s\n";
        let mut config = parse(text.as_bytes()).config.unwrap();
        config.doors[1].totp = Some(Arc::new(TotpKey { name: "phone".into(), secret: rfc_secret(), digits: None }));
        config
    }

    fn send(engine: &mut Engine, seconds: u64, ports: &[u16]) -> Vec<Event> {
        for &port in ports {
            engine.handle_knock(&Knock {
                time: Timestamp::from_secs(seconds),
                source: [192, 0, 2, 7].into(),
                destination: [192, 0, 2, 1].into(),
                port,
                protocol: Protocol::Tcp,
                flags: TcpFlags::SYN,
                source_port: 40_000,
                sequence_number: port.into(),
            });
        }
        std::iter::from_fn(|| engine.poll_event()).collect()
    }

    /// The readers have no secret, but the windows of the daemon's engine.
    #[test]
    fn an_attempt_at_a_code_continues_in_the_next_reader_until_its_window_ends() {
        // The code of the window from 30 to 59 s is 287082.
        for (handed_over, turned_to, opens) in [(2, 45, true), (3, 45, true), (3, 60, true), (3, 90, false)] {
            let mut config = config();
            config.doors[1].seq_timeout = std::time::Duration::from_secs(300);
            let mut daemon = Engine::new_for_detected(&config);
            daemon.set_wall_clock(Timestamp::from_secs(40), Timestamp::from_secs(40));
            let mut first = Engine::new_detect_only(&config, daemon.secrets().windows);
            let ports = [7391, 48_213, 21_287, 22_082];
            assert_eq!(send(&mut first, 41, &ports[..handed_over]).len(), handed_over);
            let attempts: Vec<_> = first.hand_over().collect();
            assert_eq!(attempts.len(), 1);
            daemon.handle_timeout(Timestamp::from_secs(turned_to));
            let mut second = Engine::new_detect_only(&config, daemon.secrets().windows);
            attempts.iter().for_each(|attempt| second.resume_attempt(attempt));
            let events = send(&mut second, turned_to, &ports[handed_over..]);
            let opened = events.iter().find_map(|event| match event.kind {
                EventKind::Open { door_id, .. } => Some(door_id),
                _ => None,
            });
            assert_eq!(opened.is_some(), opens, "{handed_over} {turned_to}: {events:?}");
            if let Some(id) = opened {
                daemon.apply_window(Timestamp::from_secs(turned_to), id, 1, [192, 0, 2, 7].into());
                let event = daemon.poll_event().unwrap();
                assert_eq!((&*event.door, event.kind.key().map(|key| &**key)), ("phone", Some("phone")));
                assert_eq!(daemon.take_accepted().len(), 0, "nothing is saved without a state file");
            }
        }
    }
}
