//! The system calls that the reader process can make (seccomp(2)).

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Restricts the process to the permitted system calls. All others fail with `EPERM`.
pub(super) fn restrict_calls(daemon: BorrowedFd<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    let is = |argument, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    let lacks = |argument, bits: libc::c_int| {
        let bits = u64::from(bits.unsigned_abs());
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits), 0)
    };
    let number = |value: libc::c_int| u64::from(value.unsigned_abs());
    // Only to the daemon: a packet socket can send, too.
    for call in [libc::SYS_write, libc::SYS_writev, libc::SYS_sendto] {
        rules.insert(call, vec![SeccompRule::new(vec![is(0, number(daemon.as_raw_fd()))?])?]);
    }
    // Memory, but no executable memory.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![lacks(2, libc::PROT_EXEC)?])?]);
    }
    // The filters of the captures.
    let mut options = Vec::new();
    for option in [libc::SO_ATTACH_FILTER, libc::SO_DETACH_FILTER] {
        options.push(SeccompRule::new(vec![is(1, number(libc::SOL_SOCKET))?, is(2, number(option))?])?);
    }
    rules.insert(libc::SYS_setsockopt, options);
    // abort(3).
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![is(0, u64::from(std::process::id()))?])?]);
    let refuse = SeccompAction::Errno(number(libc::EPERM).try_into()?);
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    Ok(())
}

/// System calls that are permitted with any arguments.
const ALLOWED: &[i64] = &[
    // Waiting, and reading from open descriptors.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_timerfd_settime,
    libc::SYS_close,
    // The time, if the vDSO does not provide it.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    // Memory and locks.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    // Exit, also after a panic.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
];
