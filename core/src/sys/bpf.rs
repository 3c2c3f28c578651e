//! Classic BPF: the instructions, their codes, and attaching a program to a socket as its filter.

use std::io;
use std::os::fd::BorrowedFd;

use super::socket::set_option;

/// One instruction of classic BPF, as in `struct sock_filter` of linux/filter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The instruction code.
    pub code: u16,
    /// Number of instructions to skip if a comparison is true.
    pub jt: u8,
    /// Number of instructions to skip if a comparison is false.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

impl Instruction {
    /// Creates an instruction that does not jump.
    pub(crate) const fn new(code: u16, k: u32) -> Self {
        Self { code, jt: 0, jf: 0, k }
    }

    /// Creates a comparison that skips `jt` instructions if it is true and `jf` otherwise.
    pub(crate) const fn compare(code: u16, k: u32, jt: u8, jf: u8) -> Self {
        Self { code, jt, jf, k }
    }
}

/// Result of a program that keeps the whole packet.
pub(crate) const KEEP: u32 = u32::MAX;
/// Result of a program that drops the packet.
pub(crate) const DROP: u32 = 0;

/// The instruction codes in use (linux/bpf_common.h). A is the accumulator, X the index register, P
/// the packet, M the scratch memory.
pub(crate) mod code {
    /// A = four bytes of P at k.
    pub(crate) const LOAD_WORD: u16 = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
    /// A = two bytes of P at k.
    pub(crate) const LOAD_HALF: u16 = code(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS);
    /// A = two bytes of P at X + k.
    pub(crate) const LOAD_HALF_X: u16 = code(libc::BPF_LD | libc::BPF_H | libc::BPF_IND);
    /// A = the byte of P at k.
    pub(crate) const LOAD_BYTE: u16 = code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS);
    /// A = the byte of P at X + k.
    pub(crate) const LOAD_BYTE_X: u16 = code(libc::BPF_LD | libc::BPF_B | libc::BPF_IND);
    /// A = M\[k\].
    pub(crate) const LOAD_MEMORY: u16 = code(libc::BPF_LD | libc::BPF_MEM);
    /// M\[k\] = A.
    pub(crate) const STORE_MEMORY: u16 = code(libc::BPF_ST);
    /// X = k.
    pub(crate) const SET_X: u16 = code(libc::BPF_LDX | libc::BPF_IMM);
    /// X = the length of the IPv4 header at k.
    pub(crate) const IPV4_HEADER_TO_X: u16 = code(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH);
    /// X = A.
    pub(crate) const A_TO_X: u16 = code(libc::BPF_MISC | libc::BPF_TAX);
    /// A = X.
    pub(crate) const X_TO_A: u16 = code(libc::BPF_MISC | libc::BPF_TXA);
    /// A += k.
    pub(crate) const ADD: u16 = code(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K);
    /// A += X.
    pub(crate) const ADD_X: u16 = code(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X);
    /// A *= k.
    pub(crate) const MULTIPLY: u16 = code(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K);
    /// A &= k.
    pub(crate) const AND: u16 = code(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K);
    /// A <<= k.
    pub(crate) const SHIFT_LEFT: u16 = code(libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K);
    /// A >>= k.
    pub(crate) const SHIFT_RIGHT: u16 = code(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K);
    /// Skip k instructions.
    pub(crate) const JUMP: u16 = code(libc::BPF_JMP | libc::BPF_JA);
    /// A == k?
    pub(crate) const IF_EQUAL: u16 = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    /// A >= k?
    pub(crate) const IF_AT_LEAST: u16 = code(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K);
    /// A & k != 0?
    pub(crate) const IF_ANY_BIT: u16 = code(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K);
    /// Keep k bytes of the packet; 0 drops it.
    pub(crate) const RETURN: u16 = code(libc::BPF_RET | libc::BPF_K);

    /// Converts a code to the width that `struct sock_filter` has for it; all codes are below 256.
    const fn code(bits: libc::c_uint) -> u16 {
        let [low, high, ..] = bits.to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}

/// Attaches a filter that passes only packets for which the program does not return 0. It replaces
/// an earlier filter.
///
/// # Errors
/// `InvalidInput` if the program is empty, has more than 4,096 instructions or is rejected by the
/// kernel; `ENOMEM` if it is larger than `net.core.optmem_max` allows. See socket(7),
/// `SO_ATTACH_FILTER`.
pub fn attach_filter(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let mut instructions: Vec<libc::sock_filter> = program
        .iter()
        .map(|Instruction { code, jt, jf, k }| libc::sock_filter { code: *code, jt: *jt, jf: *jf, k: *k })
        .collect();
    let len = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: instructions.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Removes the filter, so that every packet passes. Has no effect if no filter is attached.
///
/// # Errors
/// See socket(7), `SO_DETACH_FILTER`.
pub(crate) fn detach_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    match set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn invalid_programs_are_rejected() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let no_return = Instruction::new(code::ADD, 1);
        for program in [vec![], vec![no_return], vec![no_return; 70_000]] {
            let error = attach_filter(socket.as_fd(), &program).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
