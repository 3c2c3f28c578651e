//! Fuzz targets for both ends of the connection between the daemon and its reader.

#![allow(clippy::missing_panics_doc, reason = "a panic is how a fuzz target reports")]

use std::io::Write;
use std::os::unix::net::UnixStream;

use super::channel::Channel;
use super::packets::PacketDetector;
pub use super::process::fuzzing::{check_daemon, daemon_seeds};
use super::process::fuzzing::{config_with_keys, engine_with_keys, framed, invented_fwknop_packet, invented_packet};
use super::wire::{Doors, MAX_DAEMON_MESSAGE, ReaderOptions, Start, ToReader, WireHints, WireSequence, WireWindow};
use crate::clock::Clock;
use crate::config::DoorId;
use crate::decode::Knock;
use crate::engine::{Engine, PacketForm};
use crate::packet::{Protocol, TcpFlags};
use crate::packet_keys::HintTable;
use crate::time::Timestamp;

/// Returns messages of a daemon: all of them in one input, and each of them.
pub fn reader_seeds() -> Vec<Vec<u8>> {
    let config = config_with_keys();
    let secrets = engine_with_keys(Timestamp::default()).secrets();
    let clock = Clock::from_zero(Timestamp::default());
    let start = Start::new(&config, vec!["lo".into()], 0, clock, ReaderOptions::default(), &secrets);
    let attempt = crate::matcher::SavedAttempt {
        ip: [10, 0, 0, 1].into(),
        window: 0,
        door: 0,
        stage: 1,
        source_port: 1,
        sequence_number: 1,
        started: 1,
        scan_hits: vec![9],
    };
    let sequence = crate::config::parse_sequence("7,9:udp").ok();
    let sequence = sequence.as_ref().map(WireSequence::of);
    let messages = [
        ToReader::Start(start),
        ToReader::Attempts(vec![attempt]),
        ToReader::Begin { after: 1 },
        ToReader::Sequence { door: 1, sequence },
        ToReader::Windows(vec![WireWindow { id: 6, number: 7, sequence: None }]),
        ToReader::Hints(WireHints::new_since(&secrets.hints, &HintTable::default())),
        ToReader::Reload(Doors::of(&config, &secrets)),
        ToReader::Network(None),
        ToReader::CatchUp,
        ToReader::Count,
        ToReader::HandOver,
    ];
    let messages = messages.map(|message| framed(&message));
    [vec![messages.concat()], messages.into()].concat()
}

/// Handles bytes from the daemon as a reader does, as far as that is possible without captures.
pub fn check_reader(bytes: &[u8]) {
    let Some((mut daemon, mut channel)) = connection(MAX_DAEMON_MESSAGE) else { return };
    let mut engine: Option<Engine> = None;
    let mut packets = PacketDetector::default();
    for bytes in bytes.chunks(4096) {
        if daemon.write_all(bytes).is_err() || channel.receive().is_err() {
            return;
        }
        while let Ok(Some(message)) = channel.next() {
            let now = Timestamp::from_secs(1_000);
            match (message, &mut engine) {
                (ToReader::Start(start), _) => {
                    let Ok((config, secrets)) = start.doors.config() else { return };
                    engine = Some(Engine::new_detect_only(&config, secrets.windows));
                    packets = PacketDetector::new(secrets.hints, secrets.mac_keys);
                }
                (ToReader::Attempts(attempts), Some(engine)) => {
                    attempts.iter().for_each(|attempt| engine.resume_attempt(attempt))
                }
                (ToReader::Reload(doors), Some(engine)) => {
                    let Ok((config, secrets)) = doors.config() else { return };
                    engine.reload_with_windows(&config, secrets.windows, now);
                    packets.set_keys(secrets.hints, secrets.mac_keys);
                }
                (ToReader::Sequence { door, sequence }, Some(engine)) => {
                    engine.set_sequence(DoorId(door), sequence.and_then(WireSequence::sequence));
                }
                (ToReader::Windows(windows), Some(engine)) => {
                    engine.set_windows(windows.into_iter().map(WireWindow::into_values), now);
                }
                (ToReader::Hints(hints), Some(_)) => hints.add_to(packets.hints_mut()),
                (ToReader::HandOver, Some(_)) => {
                    let _ = engine.take().map(|engine| engine.hand_over().count());
                }
                _ => {}
            }
            let source = [10, 0, 0, 1].into();
            let knock = Knock {
                time: now,
                source,
                destination: source,
                port: 62_201,
                protocol: Protocol::Udp,
                flags: TcpFlags::NONE,
                source_port: 1,
                sequence_number: 0,
            };
            for packet in [PacketForm::Own(&invented_packet()), PacketForm::Fwknop(&invented_fwknop_packet())] {
                packets.take(&knock, packet, now.as_nanos());
            }
            drop(packets.take_found());
            if let Some(engine) = &mut engine {
                engine.handle_timeout(now);
                while engine.poll_event().is_some() {}
            }
        }
    }
}

/// Returns an end to write the bytes to, and the end that receives them.
fn connection(limit: usize) -> Option<(UnixStream, Channel)> {
    let (theirs, ours) = UnixStream::pair().ok()?;
    Some((theirs, Channel::new(ours, limit).ok()?))
}
