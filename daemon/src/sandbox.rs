//! What the process that reads packets may still do: next to nothing.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use portknock_core::sys::privileges::{become_user, drop_bounding_set, drop_capabilities, find_user, hide};
use portknock_core::sys::process::effective_user;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Gives up everything that reading from open descriptors does not need, one layer behind the other, so that a hole in
/// one is no way out: the user, capabilities, new privileges, files and networks (landlock(7)), and all system calls
/// but a few (seccomp(2)). Nothing is written but to `daemon`. Returns in words what the system did not let it give up.
///
/// # Errors
/// Where the system refused what it should not.
pub(crate) fn give_up_rights(daemon: BorrowedFd<'_>) -> Result<Vec<String>, String> {
    let mut kept = Vec::new();
    drop_bounding_set();
    if effective_user() == 0 {
        let user = find_user(c"portknock").or_else(|| find_user(c"nobody")).ok_or("there is no user `nobody`")?;
        // As in a container that may not, or that has no other user.
        if let Err(error) = become_user(user) {
            kept.push(format!("the user root ({error})"));
        }
    }
    drop_capabilities().map_err(|error| format!("cannot give up capabilities: {error}"))?;
    hide();
    let has_files = restrict_files().map_err(|error| format!("cannot give up files: {error}"))?;
    if let Err(error) = restrict_calls(daemon) {
        kept.push(format!("system calls ({error})"));
        if has_files {
            kept.push("files (the kernel has no Landlock)".into());
        }
    }
    Ok(kept)
}

/// No file can be opened any more, no address bound or connected to, no process outside signalled, as far as the kernel
/// knows how; true where it does not know.
fn restrict_files() -> Result<bool, landlock::RulesetError> {
    let newest = ABI::V6;
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?;
    Ok(rules.restrict_self()?.ruleset == RulesetStatus::NotEnforced)
}

/// Every other system call fails with `EPERM`.
fn restrict_calls(daemon: BorrowedFd<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    let is = |argument, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    let lacks = |argument, bits: libc::c_int| {
        let bits = u64::from(bits.unsigned_abs());
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits), 0)
    };
    let number = |value: libc::c_int| u64::from(value.unsigned_abs());
    // A packet socket can send, too.
    for call in [libc::SYS_write, libc::SYS_writev, libc::SYS_sendto] {
        rules.insert(call, vec![SeccompRule::new(vec![is(0, number(daemon.as_raw_fd()))?])?]);
    }
    // Memory, but no code.
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

/// System calls that are allowed whatever their arguments.
const ALLOWED: &[i64] = &[
    // Waiting, and reading what is open.
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
    // The time, where the kernel does not have it in memory.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    // Memory and locks.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    // The end, be it in a panic.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::{self, Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::process::{Command, Stdio};

    const INSIDE: &str = "PORTKNOCK_TEST_SANDBOX";

    /// What the test does in the sandbox. It answers through standard input, as the reader does.
    fn inside() {
        let daemon = io::stdin().as_fd().try_clone_to_owned().unwrap();
        let (mut pipe, mut other_end) = io::pipe().unwrap();
        let before = UdpSocket::bind("127.0.0.1:0").unwrap();
        before.connect(before.local_addr().unwrap()).unwrap();
        let mut file = File::options().read(true).write(true).open("/dev/null").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        other_end.write_all(b"x").unwrap();

        let kept = give_up_rights(daemon.as_fd());
        let mut answers = vec![format!("{kept:?}")];
        let mut attempt = |what: &str, result: io::Result<()>| {
            answers
                .push(format!("{what}: {}", result.map_or_else(|error| error.kind().to_string(), |()| "done".into())));
        };
        attempt("read what is open", pipe.read(&mut [0]).map(drop));
        attempt("take memory", vec![1_u8; 64 << 20].into_iter().max().map(drop).ok_or_else(|| io::Error::other("")));
        attempt("write a file", File::create("/tmp/portknock-sandbox").map(drop));
        attempt("read a file", File::open("/etc/passwd").map(drop));
        attempt("list a folder", fs::read_dir("/").map(drop));
        attempt("remove a file", fs::remove_file("/tmp/portknock-sandbox"));
        attempt("write what is open", file.write_all(b"x"));
        attempt("send through what is open", before.send(b"x").map(drop));
        attempt("open a socket", UdpSocket::bind("127.0.0.1:0").map(drop));
        attempt("open a local socket", UnixDatagram::unbound().map(drop));
        attempt("connect", TcpStream::connect(address).map(drop));
        attempt("take a connection", listener.accept().map(drop));
        attempt("start a program", Command::new("/bin/true").spawn().map(drop));
        attempt("start a thread", std::thread::Builder::new().spawn(|| ()).map(drop));
        let mut stream = UnixStream::from(daemon);
        stream.write_all(answers.join("\n").as_bytes()).unwrap();
        std::process::exit(0);
    }

    #[test]
    fn nothing_is_left_but_reading_and_answering() {
        if std::env::var_os(INSIDE).is_some() {
            inside();
        }
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox::tests::nothing_is_left_but_reading_and_answering"])
            .env(INSIDE, "1")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut answers = String::new();
        ours.read_to_string(&mut answers).unwrap();
        assert!(child.wait().unwrap().success(), "{answers}");
        let mut answers = answers.lines();
        let kept = answers.next().unwrap();
        // Without root, and without other users in a user namespace, the user stays what it is.
        assert!(kept == "Ok([])" || kept.starts_with("Ok([\"the user root ("), "{kept}");
        let denied: Vec<_> = answers.clone().filter(|answer| answer.ends_with(": permission denied")).collect();
        let done: Vec<_> = answers.clone().filter(|answer| answer.ends_with(": done")).collect();
        assert_eq!(done, ["read what is open: done", "take memory: done"], "{answers:?}");
        assert_eq!(denied.len(), 12, "{answers:?}");
    }
}
