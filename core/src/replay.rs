//! The engine over a capture file: the same packets give the same events as they would have given live.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::vec;

use pcap::{Capture, Precision};

use crate::capture::timestamp;
use crate::config::{Config, DoorId, Sequence};
use crate::decode::LinkType;
use crate::engine::{Engine, LocalAddresses};
use crate::event::{Event, EventKind};
use crate::one_time::{OneTimeError, unused_sequences};

/// Why a capture file could not be replayed, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be opened or is no capture file.
    #[error("cannot read the capture file {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// libpcap's message.
        reason: String,
    },
    /// The frames begin in a way that portknock does not know.
    #[error("{path} has link type {number}, which portknock cannot read")]
    LinkType {
        /// The file.
        path: PathBuf,
        /// libpcap's number of the link type.
        number: i32,
    },
    /// The file breaks off or is damaged after some frames; what came before was replayed.
    #[error("{path} is damaged after frame {frames}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How many frames were read before.
        frames: u64,
        /// libpcap's message.
        reason: String,
    },
    /// A file of one-time sequences cannot be used.
    #[error(transparent)]
    OneTime(#[from] OneTimeError),
}

/// Feeds a pcap or pcapng file to an engine for `config` and hands each event to `on_event`, in order. Nothing is run
/// and nothing is written. At the end of the file nothing more is told: what is still running stays unmentioned.
///
/// One-time doors go on with the lines of their files that follow, which are read but not marked.
///
/// # Errors
/// Fails where the file cannot be read, has a link type that portknock does not know, or is damaged; the events of the
/// frames before the damage have then been told. Fails before the first frame where a file of one-time sequences cannot be
/// used.
pub fn replay(
    config: &Config,
    local: LocalAddresses,
    path: &Path,
    mut on_event: impl FnMut(&Event),
) -> Result<(), ReplayError> {
    let mut capture = Capture::from_file_with_precision(path, Precision::Nano)
        .map_err(|error| ReplayError::Open { path: path.into(), reason: error.to_string() })?;
    let number = capture.get_datalink().0;
    let link_type = LinkType::from_dlt(number).ok_or_else(|| ReplayError::LinkType { path: path.into(), number })?;
    let mut one_time = one_time_sequences(config)?;
    let mut engine = Engine::new(config);
    engine.set_local_addresses(local);
    for frames in 0.. {
        let packet = match capture.next_packet() {
            Ok(packet) => packet,
            Err(pcap::Error::NoMorePackets) => break,
            Err(error) => {
                return Err(ReplayError::Damaged { path: path.into(), frames, reason: error.to_string() });
            }
        };
        engine.feed(link_type, timestamp(packet.header.ts), packet.data);
        while let Some(event) = engine.poll_event() {
            on_event(&event);
            if let EventKind::Open { door_id, .. } | EventKind::Extend { door_id, .. } = event.kind
                && let Some(sequences) = one_time.get_mut(&door_id)
            {
                engine.set_sequence(door_id, sequences.next());
            }
        }
    }
    Ok(())
}

/// For each one-time door the sequences that come after its first.
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
