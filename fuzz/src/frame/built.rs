//! Frames built from choices, for structures that raw bytes rarely form: several tags and chains of
//! extension headers, followed by a relevant port.

use arbitrary::{Result, Unstructured};
use portknock_core::{Knock, LinkType, Protocol, TcpFlags};

use crate::packets::{frame, knock, packet};

const PORTS: [u16; 10] = [7000, 7010, 7020, 8000, 9000, 53, 1024, 40_000, 1, 65_535];
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
/// The extension headers of IPv6, and one without a successor.
const EXTENSIONS: [u8; 7] = [0, 43, FRAGMENT, AUTHENTICATION, 60, 135, 59];
const TAGS: [[u8; 4]; 3] = [[0x81, 0, 0, 5], [0x88, 0xa8, 0, 7], [0x91, 0, 0, 9]];

/// A frame of this link type.
pub(super) fn built(link_type: LinkType, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let six = u.int_in_range(0..=1)? == 1;
    let protocol = *u.choose(&[Protocol::Tcp, Protocol::Udp])?;
    let port = *u.choose(&PORTS)?;
    let flags = TcpFlags::from_bits(u.int_in_range(0..=63)?);
    let mut packet = packet(&Knock { flags, ..knock(six, protocol, port) });
    if six {
        for _ in 0..u.int_in_range(0..=9)? {
            add_extension(&mut packet, u)?;
        }
        let length = u16::try_from(packet.len() - 40).expect("a short packet");
        packet[4..6].copy_from_slice(&length.to_be_bytes());
    } else {
        let words = u.int_in_range(0..=10_u8)?;
        packet.splice(20..20, vec![1; usize::from(words) * 4]);
        packet[0] += words;
        let length = u16::try_from(packet.len()).expect("a short packet");
        packet[2..4].copy_from_slice(&length.to_be_bytes());
    }
    // Then some fields are corrupted.
    for _ in 0..u.int_in_range(0..=2)? {
        let at = u.choose_index(packet.len())?;
        packet[at] = u.int_in_range(0..=255)?;
    }
    let mut frame = frame(link_type, &packet);
    if link_type == LinkType::Ethernet {
        for _ in 0..u.int_in_range(0..=4)? {
            frame.splice(12..12, *u.choose(&TAGS)?);
        }
    }
    Ok(frame)
}

/// Inserts an extension header after the IPv6 header.
fn add_extension(packet: &mut Vec<u8>, u: &mut Unstructured<'_>) -> Result<()> {
    let kind = *u.choose(&EXTENSIONS)?;
    let units = u.int_in_range(0..=2_u8)?;
    let (length, size) = match kind {
        FRAGMENT => (0, 8),
        AUTHENTICATION => (2 + 2 * units, 16 + 8 * usize::from(units)),
        _ => (units, 8 + 8 * usize::from(units)),
    };
    let mut header = vec![0; size];
    header[..2].copy_from_slice(&[packet[6], length]);
    packet[6] = kind;
    packet.splice(40..40, header);
    Ok(())
}
