//! Runs the engine over a capture file: the packets cause the same events as they would have caused
//! live.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::vec;

use pcap::{Capture, Offline, Precision};

use crate::capture::timestamp;
use crate::config::{Config, DoorId, Sequence};
use crate::decode::LinkType;
use crate::engine::Engine;
use crate::event::{Event, EventKind};
use crate::local_addresses::LocalAddresses;
use crate::one_time::{OneTimeError, unused_sequences};
use crate::printable::{Printable, shown_path};

/// The reason why a capture file could not be replayed to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The file cannot be opened or is not a capture file.
    #[error("cannot read the capture file {path}: {reason}", path = shown_path(path), reason = Printable(reason))]
    Open {
        /// The file.
        path: PathBuf,
        /// libpcap's message.
        reason: String,
    },
    /// portknock does not support the link type of the frames.
    #[error("{path} has link type {number}, which portknock cannot read", path = shown_path(path))]
    LinkType {
        /// The file.
        path: PathBuf,
        /// libpcap's number of the link type.
        number: i32,
    },
    /// The file is truncated or damaged after some frames. The frames before the damage were
    /// replayed.
    #[error("{path} is damaged after frame {frames}: {reason}", path = shown_path(path), reason = Printable(reason))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of frames before the damage.
        frames: u64,
        /// libpcap's message.
        reason: String,
    },
    /// A file of one-time sequences cannot be used.
    #[error(transparent)]
    OneTime(#[from] OneTimeError),
}

/// The replay of a capture file through an engine.
///
/// A replay runs no commands and writes no files. The end of the file causes no further events, so
/// openings and attempts that exist at that time remain without an end. One-time doors continue
/// with the following lines of their files, which are read but not marked as consumed.
pub struct Replay {
    path: PathBuf,
    capture: Capture<Offline>,
    link_type: LinkType,
    engine: Engine,
    one_time: HashMap<DoorId, vec::IntoIter<Sequence>>,
    frames: u64,
    ended: bool,
}

impl Replay {
    /// Opens a pcap or pcapng file for an engine with `config`; `-` is standard input.
    ///
    /// # Errors
    /// Fails if the file cannot be read, if portknock does not support its link type, or if a file
    /// of one-time sequences cannot be used.
    pub fn open(config: &Config, local: LocalAddresses, path: &Path) -> Result<Self, ReplayError> {
        let capture = open(path).map_err(|reason| ReplayError::Open { path: path.into(), reason })?;
        let number = capture.get_datalink().0;
        let link_type =
            LinkType::from_dlt(number).ok_or_else(|| ReplayError::LinkType { path: path.into(), number })?;
        let one_time = one_time_sequences(config)?;
        let mut engine = Engine::new(config);
        engine.set_local_addresses(local);
        Ok(Self { path: path.into(), capture, link_type, engine, one_time, frames: 0, ended: false })
    }

    /// Returns the next event, or `None` at the end of the file.
    ///
    /// # Errors
    /// [`ReplayError::Damaged`], after the events of the frames before the damage. After the error
    /// the replay is at its end.
    pub fn next_event(&mut self) -> Result<Option<Event>, ReplayError> {
        self.next_event_within(u64::MAX)
    }

    /// Returns the next event. In contrast to [`Replay::next_event`], it also returns `None` if
    /// `frames` more frames have caused no event; see [`Replay::is_at_end`].
    ///
    /// # Errors
    /// Fails as [`Replay::next_event`] does.
    pub fn next_event_within(&mut self, frames: u64) -> Result<Option<Event>, ReplayError> {
        let last = self.frames.saturating_add(frames);
        loop {
            if let Some(event) = self.engine.poll_event() {
                self.advance_one_time(&event);
                return Ok(Some(event));
            }
            if self.ended || self.frames == last {
                return Ok(None);
            }
            match self.capture.next_packet() {
                Ok(packet) => self.engine.feed(self.link_type, timestamp(packet.header.ts), packet.data),
                Err(error) => {
                    self.ended = true;
                    if error != pcap::Error::NoMorePackets {
                        let (path, frames) = (self.path.clone(), self.frames);
                        return Err(ReplayError::Damaged { path, frames, reason: error.to_string() });
                    }
                }
            }
            self.frames += 1;
        }
    }

    /// Returns true if the whole file was read and every event was returned.
    pub fn is_at_end(&self) -> bool {
        self.ended && !self.engine.has_events()
    }

    /// Sets the next sequence of a one-time door that was just opened.
    fn advance_one_time(&mut self, event: &Event) {
        if let EventKind::Open { door_id, .. } | EventKind::Extend { door_id, .. } = event.kind
            && let Some(sequences) = self.one_time.get_mut(&door_id)
        {
            self.engine.set_sequence(door_id, sequences.next());
        }
    }
}

/// Replays the file to its end, and passes each event to `on_event`, in order.
///
/// # Errors
/// Fails as [`Replay::open`] and [`Replay::next_event`] do.
pub fn replay(
    config: &Config,
    local: LocalAddresses,
    path: &Path,
    mut on_event: impl FnMut(&Event),
) -> Result<(), ReplayError> {
    let mut replay = Replay::open(config, local, path)?;
    while let Some(event) = replay.next_event()? {
        on_event(&event);
    }
    Ok(())
}

fn open(path: &Path) -> Result<Capture<Offline>, String> {
    if path.to_str().is_some() {
        return Capture::from_file_with_precision(path, Precision::Nano).map_err(|error| error.to_string());
    }
    // The libpcap binding does not accept such a name; an open file also has a name in `/proc`.
    let file = File::open(path).map_err(|error| error.to_string())?;
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    Capture::from_file_with_precision(name, Precision::Nano).map_err(|error| error.to_string())
}

/// Returns, for each one-time door, the sequences that follow its first one.
fn one_time_sequences(config: &Config) -> Result<HashMap<DoorId, vec::IntoIter<Sequence>>, OneTimeError> {
    let mut all = HashMap::new();
    for (id, door) in (0..=u16::MAX).zip(&config.doors) {
        if let Some(path) = &door.one_time_sequences {
            let mut sequences = unused_sequences(path)?.into_iter();
            // The configuration was loaded with this one.
            sequences.next();
            all.insert(DoorId(id), sequences);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use crate::time::Timestamp;

    /// A capture of raw IP packets (link type 101) from the year 1970.
    fn capture(packets: &[&[u8]]) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let mut bytes = words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 101]);
        for (second, packet) in (1..).zip(packets) {
            let length = u32::try_from(packet.len()).unwrap();
            bytes.extend(words(&[second, 0, length, length]));
            bytes.extend(*packet);
        }
        bytes
    }

    /// A UDP packet to port 7000.
    const KNOCK: &[u8] =
        &[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 192, 0, 2, 1, 0x9c, 0x40, 0x1b, 0x58, 0, 8, 0, 0];

    #[test]
    fn the_limit_of_frames_without_an_event_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("capture");
        fs::write(&path, capture(&[b"", b"", b"", KNOCK])).unwrap();
        let config = crate::config::parse(b"[a]\nsequence = 7000:udp,9\n").config.unwrap();
        let mut replay = Replay::open(&config, LocalAddresses::Any, &path).unwrap();
        assert_eq!(replay.next_event_within(2).unwrap(), None);
        assert!(!replay.is_at_end());
        assert_eq!(replay.next_event_within(2).unwrap().unwrap().time, Timestamp::from_secs(4));
        assert_eq!((replay.next_event_within(2).unwrap(), replay.is_at_end()), (None, true));
    }

    /// Returns the error of replaying a file with this name and content.
    fn replay_error(name: &[u8], bytes: &[u8]) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(OsStr::from_bytes(name));
        fs::write(&path, bytes).unwrap();
        let replayed = replay(&Config::default(), LocalAddresses::Any, &path, |_| {});
        replayed.err().map(|error| error.to_string().replace(directory.path().to_str().unwrap(), ""))
    }

    #[test]
    fn a_file_may_have_any_name_and_an_error_shows_it_on_one_line() {
        let mut capture = capture(&[]);
        for name in [&b"plain"[..], b"\xff\n\xfe"] {
            assert_eq!(replay_error(name, &capture), None);
        }
        let message = replay_error(b"\xff\n\x1b", b"").unwrap();
        assert!(message.starts_with("cannot read the capture file /\u{fffd}\\x0a\\x1b: libpcap error: "), "{message}");
        capture.push(0);
        let message = replay_error(b"\n", &capture).unwrap();
        assert!(message.starts_with("/\\x0a is damaged after frame 0: "), "{message}");
        capture[20] = 0xff;
        assert_eq!(replay_error(b"\n", &capture).unwrap(), "/\\x0a has link type 255, which portknock cannot read");
    }
}
