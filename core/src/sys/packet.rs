//! Packet sockets (packet(7)): the right to have one, and the filter in front of it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::socket::set_option;
use crate::filter::Instruction;

/// Tries whether this process may capture packets now.
///
/// # Errors
/// `PermissionDenied` without CAP_NET_RAW, and what else socket(2) may say: no descriptors left, no packet sockets in
/// this kernel.
pub fn may_capture() -> io::Result<()> {
    // SAFETY: no pointers are passed. Protocol 0 captures nothing.
    super::owned(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) }).map(drop)
}

/// Lets only packets through for which the program returns something else than 0, in place of an earlier filter.
///
/// # Errors
/// `InvalidInput` for a program of no or more than 4,096 instructions or one that the kernel finds wrong; `ENOMEM` where
/// it is larger than `net.core.optmem_max` allows. See socket(7), `SO_ATTACH_FILTER`.
pub fn attach_filter(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let mut instructions: Vec<libc::sock_filter> = program
        .iter()
        .map(|Instruction { code, jt, jf, k }| libc::sock_filter { code: *code, jt: *jt, jf: *jf, k: *k })
        .collect();
    let len = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: instructions.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// An instruction of a program by libc's names.
pub(super) fn instruction(code: libc::c_uint, jt: u8, jf: u8, k: u32) -> Instruction {
    // All opcodes are below 256.
    Instruction { code: code.to_le_bytes()[0].into(), jt, jf, k }
}

/// Lets every packet through again; nothing happens where no filter is attached.
///
/// # Errors
/// See socket(7), `SO_DETACH_FILTER`.
pub fn detach_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    match set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Spares a packet socket the packets that this machine sends (packet(7), `PACKET_IGNORE_OUTGOING`).
///
/// # Errors
/// See setsockopt(2); kernels before Linux 4.20 do not know it.
pub fn ignore_outgoing(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1)
}

/// linux/if_packet.h
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// Keeps a descriptor that another library opened from the programs that this one starts.
///
/// # Errors
/// See fcntl(2).
pub fn close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Door, Protocol, Sequence, Step};
    use crate::decode::LinkType;
    use crate::filter::PortFilter;
    use std::net::UdpSocket;
    use std::num::NonZeroU16;
    use std::os::fd::AsFd;

    /// A filter of the longest kind. Any socket takes it: the kernel checks a program without looking at the socket.
    #[test]
    fn the_kernel_takes_the_programs_of_thousands_of_doors() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = |index: u16| NonZeroU16::new(index.wrapping_mul(40_503).max(1)).unwrap();
        for count in [1, 1_000, 3_000_u16] {
            let door = |door: u16| {
                let steps = [0, 1, 2].map(|step| Step { port: port(door * 3 + step), protocol: Protocol::Tcp });
                Door::new("door", Some(Sequence::new(steps).unwrap()))
            };
            let config = Config { doors: (0..count).map(door).collect(), ..Config::default() };
            for link_type in [LinkType::Ethernet, LinkType::LinuxSll] {
                let program = PortFilter::new(&config, 1).program(link_type, 4096);
                assert_eq!(program.instructions.len() > 3_000, count > 1);
                let result = attach_filter(socket.as_fd(), &program.instructions);
                // Before Linux 6.7 sockets may by default not have filters this long.
                let too_long = |error: &io::Error| error.kind() == io::ErrorKind::OutOfMemory;
                assert!(result.is_ok() || result.as_ref().is_err_and(too_long), "{result:?}");
            }
        }
        detach_filter(socket.as_fd()).unwrap();
        detach_filter(socket.as_fd()).unwrap();
    }

    #[test]
    fn wrong_programs_are_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let no_return = Instruction { code: 0x04, jt: 0, jf: 0, k: 1 };
        for program in [vec![], vec![no_return], vec![no_return; 70_000]] {
            let error = attach_filter(socket.as_fd(), &program).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
