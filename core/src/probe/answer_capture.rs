//! Captures answers that reach this machine but that its own firewall then drops.
//!
//! A raw socket does not receive such answers; a capture does. nmap reads captures only, so it
//! reports the true state of such a port. Opening and closing a capture costs the kernel about 10
//! ms, so a capture is only used for ports that appear silent.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use pcap::{Active, Capture, Direction};

use crate::decode::{LinkType, network_packet};
use crate::sys::packet;

/// Bytes captured per frame: enough for the link-layer, IP and TCP headers on any interface.
const SNAP_LENGTH: i32 = 128;
/// Size of the capture buffer in bytes: room for more than 1,000 packets.
const BUFFER_BYTES: i32 = 256 << 10;

/// A capture of the TCP segments that answer SYNs.
pub(super) struct AnswerCapture {
    capture: Capture<Active>,
    link_type: LinkType,
}

impl AnswerCapture {
    /// Starts capturing the SYN/ACK and RST segments that `target` sends. Returns `None` if that is
    /// not possible, which matters only if this machine's own firewall drops the answers.
    pub(super) fn open(target: SocketAddr) -> Option<Self> {
        // The answers may arrive on a different interface from the one that the probes leave by.
        let capture = Capture::from_device("any").ok()?;
        let capture = capture.snaplen(SNAP_LENGTH).immediate_mode(true).buffer_size(BUFFER_BYTES).open().ok()?;
        let mut capture = capture.setnonblock().ok()?;
        packet::close_on_exec(capture.as_fd()).ok()?;
        packet::ignore_outgoing(capture.as_fd()).ok()?;
        capture.direction(Direction::In).ok()?;
        let syn_or_rst = match target {
            SocketAddr::V4(_) => "tcp[13] & 6 != 0",
            SocketAddr::V6(_) => "ip6 proto \\tcp and ip6[53] & 6 != 0",
        };
        capture.filter(&format!("src host {} and {syn_or_rst}", target.ip()), true).ok()?;
        let link_type = LinkType::from_dlt(capture.get_datalink().0)?;
        Some(Self { capture, link_type })
    }

    /// Passes each captured segment, with its source address, to `each`. Returns false if the
    /// capture has ended.
    pub(super) fn receive(&mut self, each: &mut dyn FnMut(IpAddr, &[u8])) -> bool {
        let link_type = self.link_type;
        let result = self.capture.dispatch(None, |packet| {
            if let Some((from, segment)) = segment(link_type, packet.data) {
                each(from, segment);
            }
        });
        result.is_ok()
    }
}

impl AsFd for AnswerCapture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.capture.as_fd()
    }
}

/// Returns the TCP segment in a frame, and its source address.
fn segment(link_type: LinkType, frame: &[u8]) -> Option<(IpAddr, &[u8])> {
    let (_, packet) = network_packet(link_type, frame)?;
    if let Ok(header) = Ipv4HeaderSlice::from_slice(packet) {
        return Some((header.source_addr().into(), packet.get(header.slice().len()..)?));
    }
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    Some((header.source_addr().into(), packet.get(header.slice().len()..)?))
}
