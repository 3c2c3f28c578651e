//! Raw sockets (raw(7), ipv6(7)): TCP segments and ICMP errors as on the network.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use super::bpf::{self, Instruction, attach_filter, code};
use super::socket::{self, RawAddress};

/// Maximum number of packets sent or received by one call.
pub(crate) const BATCH: usize = 64;

/// Socket option (linux/icmp.h).
const ICMP_FILTER: libc::c_int = 1;
/// Socket option (linux/icmpv6.h).
const ICMP6_FILTER: libc::c_int = 1;

/// Bytes received per packet: enough for the headers of a segment, and for an ICMP error with the
/// headers of the packet it is about. Longer packets are truncated.
const PACKET_BYTES: usize = 256;

/// The protocol that a raw socket sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawProtocol {
    /// TCP segments.
    Tcp,
    /// ICMP or ICMPv6 messages.
    Icmp,
}

/// A non-blocking raw socket that is bound to an address of this machine: it sends from that
/// address, and receives packets for that address.
#[derive(Debug)]
pub(crate) struct RawSocket(OwnedFd);

impl RawSocket {
    /// Opens a socket that is bound to `local`, whose port is not used.
    ///
    /// # Errors
    /// `PermissionDenied` without the capability CAP_NET_RAW; see also socket(2) and bind(2).
    pub(crate) fn open(local: SocketAddr, protocol: RawProtocol) -> io::Result<Self> {
        let number = match (protocol, local) {
            (RawProtocol::Tcp, _) => libc::IPPROTO_TCP,
            (RawProtocol::Icmp, SocketAddr::V4(_)) => libc::IPPROTO_ICMP,
            (RawProtocol::Icmp, SocketAddr::V6(_)) => libc::IPPROTO_ICMPV6,
        };
        let socket = socket::new_socket(local, libc::SOCK_RAW, number)?;
        socket::bind(&socket, without_port(local))?;
        Ok(Self(socket))
    }

    /// Makes a TCP socket receive only answers to SYNs: segments with SYN or RST.
    ///
    /// # Errors
    /// Fails if the kernel does not support filters; see [`attach_filter`].
    pub(crate) fn accept_only_answers(&self, local: SocketAddr) -> io::Result<()> {
        /// Mask for the flags SYN and RST in the flag byte (RFC 9293, section 3.1).
        const SYN_OR_RST: u32 = 0x02 | 0x04;
        /// Offset in bytes of the flag byte in the TCP header.
        const FLAGS: u32 = 13;
        let load_flags = match local {
            SocketAddr::V4(_) => {
                vec![Instruction::new(code::IPV4_HEADER_TO_X, 0), Instruction::new(code::LOAD_BYTE_X, FLAGS)]
            }
            SocketAddr::V6(_) => vec![Instruction::new(code::LOAD_BYTE, FLAGS)],
        };
        let decide = [
            Instruction::compare(code::IF_ANY_BIT, SYN_OR_RST, 0, 1),
            Instruction::new(code::RETURN, bpf::KEEP),
            Instruction::new(code::RETURN, bpf::DROP),
        ];
        attach_filter(self.as_fd(), &[load_flags.as_slice(), &decide].concat())
    }

    /// Makes an ICMP socket receive only errors: destination unreachable, time exceeded, parameter
    /// problem.
    ///
    /// # Errors
    /// None known; see raw(7) and RFC 3542, section 3.2.
    pub(crate) fn accept_only_errors(&self, local: SocketAddr) -> io::Result<()> {
        // A set bit blocks a type.
        let mut mask = [u32::MAX; 8];
        match local {
            SocketAddr::V4(_) => {
                mask[0] = !(1 << 3 | 1 << 11 | 1 << 12);
                socket::set_option(self.as_fd(), libc::SOL_RAW, ICMP_FILTER, &mask[0])
            }
            SocketAddr::V6(_) => {
                mask[0] = !(1 << 1 | 1 << 3 | 1 << 4);
                socket::set_option(self.as_fd(), libc::IPPROTO_ICMPV6, ICMP6_FILTER, &mask)
            }
        }
    }

    /// Sets the receive buffer to `bytes`, or to the maximum that the system allows this process
    /// (socket(7), `SO_RCVBUF`).
    ///
    /// # Errors
    /// None known; see setsockopt(2).
    pub(crate) fn set_receive_buffer(&self, bytes: i32) -> io::Result<()> {
        // The first option has no limit, but needs the capability CAP_NET_ADMIN.
        socket::set_option(self.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)
            .or_else(|_| socket::set_option(self.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes))
    }

    /// Sends these packets in order, each beginning with its TCP or ICMP header, and returns how
    /// many were sent: fewer if the next one failed. The port of `to` is not used, because the
    /// packets contain it.
    ///
    /// # Errors
    /// Fails if not even the first packet was sent. See sendmmsg(2); `PermissionDenied` means that
    /// this machine's firewall blocks it.
    pub(crate) fn send<P: AsRef<[u8]>>(&self, packets: &[P], to: SocketAddr) -> io::Result<usize> {
        // A raw socket would interpret the port as a protocol number.
        let mut address = RawAddress::from(without_port(to));
        let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        let mut messages = [EMPTY; BATCH];
        let mut count = 0;
        for ((packet, vector), message) in packets.iter().zip(&mut vectors).zip(&mut messages) {
            let bytes = packet.as_ref();
            *vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            message.msg_hdr.msg_name = address.as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = address.len();
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        // SAFETY: the first `count` messages point to an address and to one vector each, which
        // point to the bytes of `packets`; all of them outlive the call, which only reads what they
        // point to.
        let sent = unsafe { libc::sendmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_NOSIGNAL) };
        socket::check_count(sent)
    }

    /// Receives waiting packets, at most [`BATCH`], passes each with its source address to `each`,
    /// and returns how many there were. IPv4 packets begin with their IP header, IPv6 packets do
    /// not. Long packets are truncated.
    ///
    /// # Errors
    /// `WouldBlock` if no packet is waiting; see recvmmsg(2).
    pub(crate) fn receive(&self, buffers: &mut Buffers, each: &mut dyn FnMut(IpAddr, &[u8])) -> io::Result<usize> {
        let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        let mut messages = [EMPTY; BATCH];
        let places = buffers.packets.iter_mut().zip(buffers.senders.iter_mut());
        for (((packet, sender), vector), message) in places.zip(&mut vectors).zip(&mut messages) {
            *vector = libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() };
            message.msg_hdr.msg_name = ptr::from_mut(sender).cast();
            message.msg_hdr.msg_namelen = SENDER_LENGTH;
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: each of the BATCH messages points to an address and to one vector, which points
        // to a buffer, with the lengths of these objects. Nothing else uses them during the call.
        let received = unsafe {
            libc::recvmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), BATCH_LENGTH, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        let count = socket::check_count(received)?;
        for ((packet, sender), message) in buffers.packets.iter().zip(&buffers.senders).zip(&messages).take(count) {
            let length = usize::try_from(message.msg_len).unwrap_or(PACKET_BYTES).min(PACKET_BYTES);
            if let Some(from) = socket::address_of(sender) {
                each(from.ip(), &packet[..length]);
            }
        }
        Ok(count)
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Buffers for the packets that one call receives.
#[derive(Debug)]
pub(crate) struct Buffers {
    packets: Box<[[u8; PACKET_BYTES]; BATCH]>,
    senders: [libc::sockaddr_storage; BATCH],
}

impl Default for Buffers {
    fn default() -> Self {
        // SAFETY: a sockaddr_storage is plain integers, for which zeros are valid.
        let senders = unsafe { std::mem::zeroed() };
        Self { packets: Box::new([[0; PACKET_BYTES]; BATCH]), senders }
    }
}

/// [`BATCH`] in the type of recvmmsg(2).
#[allow(clippy::cast_possible_truncation, reason = "BATCH is small")]
const BATCH_LENGTH: libc::c_uint = BATCH as libc::c_uint;
/// Size in bytes of the buffer for a source address.
#[allow(clippy::cast_possible_truncation, reason = "a few dozen bytes")]
const SENDER_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// A message without content.
// SAFETY: a mmsghdr is plain integers and pointers, for which zeros are valid.
const EMPTY: libc::mmsghdr = unsafe { std::mem::zeroed() };

fn without_port(mut address: SocketAddr) -> SocketAddr {
    address.set_port(0);
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns true if raw sockets are permitted; the end-to-end tests use them in any case.
    fn allowed(result: &io::Result<RawSocket>) -> bool {
        !result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn packets_are_received_with_their_source_address() {
        for (local, protocol) in [("127.0.0.8:7", RawProtocol::Icmp), ("127.0.0.8:0", RawProtocol::Tcp)] {
            let local: SocketAddr = local.parse().unwrap();
            let socket = RawSocket::open(local, protocol);
            if !allowed(&socket) {
                return;
            }
            let socket = socket.unwrap();
            socket.set_receive_buffer(1 << 20).unwrap();
            // Neither an ICMP message nor a segment that anything answers: both have a wrong
            // checksum.
            let packets: Vec<[u8; 20]> = (0..100).map(|i| [i; 20]).collect();
            assert_eq!(socket.send(&packets, local).unwrap(), BATCH);
            let mut buffers = Buffers::default();
            let mut seen = Vec::new();
            let count = socket.receive(&mut buffers, &mut |from, packet| seen.push((from, packet.to_vec()))).unwrap();
            assert_eq!((count, seen.len()), (BATCH, BATCH));
            for ((from, packet), sent) in seen.iter().zip(&packets) {
                assert_eq!((*from, &packet[20..]), (local.ip(), &sent[..]));
            }
            let error = socket.receive(&mut buffers, &mut |_, _| ()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }
}
