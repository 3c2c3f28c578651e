//! Capture files: a replay ends, and reports the events of its frames.

use portknock_core::config::parse;
use portknock_core::replay::{Replay, ReplayError};
use portknock_core::{LinkType, LocalAddresses, Protocol};

use crate::packets::{capture, capture_ng, frame, knock, packet};
use crate::scratch::with_file;

/// Two doors that the seeds open.
pub const DOORS: &str = "[a]\nsequence = 7000,8000:udp,9000\ncommand = open %IP%\ncmd_timeout = 1\n\
                         stop_command = close %IP%\n[b]\nsequence = 1:udp\ntcpflags = syn\nseq_cooldown = 1\n";

/// Captures that open both doors, in several formats.
pub fn seeds() -> Vec<Vec<u8>> {
    let knocks = [(Protocol::Tcp, 7000), (Protocol::Udp, 8000), (Protocol::Tcp, 9000), (Protocol::Udp, 1)];
    let frames = |link_type| knocks.map(|(protocol, port)| frame(link_type, &packet(&knock(false, protocol, port))));
    let pcap = [(1, LinkType::Ethernet), (101, LinkType::Raw), (113, LinkType::LinuxSll), (276, LinkType::LinuxSll2)]
        .map(|(number, link_type)| capture(number, &frames(link_type)));
    [pcap.to_vec(), vec![capture_ng(1, &frames(LinkType::Ethernet))]].concat()
}

/// Replays the capture file of these bytes.
pub fn check(bytes: &[u8]) {
    let config = parse(DOORS.as_bytes()).config.expect("a configuration");
    with_file(bytes, |path| {
        let Ok(mut replay) = Replay::open(&config, LocalAddresses::Any, path) else { return };
        let mut last = None;
        loop {
            match replay.next_event() {
                Ok(Some(event)) => {
                    assert!(last.is_none_or(|last| last <= event.time), "{event:?} after {last:?}");
                    last = Some(event.time);
                }
                Ok(None) => break,
                Err(ReplayError::Damaged { .. }) => {
                    assert!(matches!(replay.next_event(), Ok(None)), "the replay does not end after the damage");
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
}
