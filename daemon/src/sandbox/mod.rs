//! The sandbox of the reader process, which can do little more than read from open descriptors and
//! write to the daemon.

#[cfg(target_endian = "little")]
mod calls;
mod limits;

use std::os::fd::BorrowedFd;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use portknock_core::sys::privileges::{
    become_user, drop_bounding_set, drop_capabilities, find_unused_user, find_user, hide,
};
use portknock_core::sys::process::effective_user;

#[cfg(target_endian = "little")]
use calls::restrict_calls;
use limits::{limit, prefer_for_oom_killer};

/// Enters the sandbox: gives up all privileges that reading from open descriptors does not need.
/// The layers are independent, so that a hole in one is no way out: the user, capabilities, new
/// privileges, files and networks (landlock(7)), and most system calls (seccomp(2)). Afterwards the
/// process can write only to `daemon`, and allocate at most `memory` more bytes. Returns
/// descriptions of the privileges that the system did not let it give up.
///
/// # Errors
/// Fails if giving up capabilities or files fails.
pub(crate) fn enter_sandbox(daemon: BorrowedFd<'_>, memory: u64) -> Result<Vec<String>, String> {
    let mut kept = Vec::new();
    // Before the change of the user, because the new user cannot write to this file.
    kept.extend(prefer_for_oom_killer());
    drop_bounding_set();
    if effective_user() == 0 {
        kept.extend(drop_root());
    }
    kept.extend(limit(memory));
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

/// Changes to a user that no other process has: `portknock`, or, if that does not exist, a user ID
/// without a name. Returns a description of the privilege that the process keeps.
fn drop_root() -> Option<String> {
    if let Some(user) = find_user(c"portknock").or_else(find_unused_user)
        && become_user(user).is_ok()
    {
        return None;
    }
    // For example in a user namespace, which can have few users, or only root.
    match find_user(c"nobody").map(become_user) {
        Some(Ok(())) => Some("the user nobody, which other programs can have, too (there is no user portknock)".into()),
        Some(Err(error)) => Some(format!("the user root ({error})")),
        None => Some("the user root (there is neither a user portknock nor a user nobody)".into()),
    }
}

/// Forbids opening files, binding and connecting to addresses, and signalling other processes, as
/// far as the kernel supports this. True if the kernel has no Landlock.
fn restrict_files() -> Result<bool, landlock::RulesetError> {
    let newest = ABI::V6;
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?;
    Ok(rules.restrict_self()?.ruleset == RulesetStatus::NotEnforced)
}

/// There is no filter for big-endian machines.
#[cfg(target_endian = "big")]
fn restrict_calls(_daemon: BorrowedFd<'_>) -> Result<(), &'static str> {
    Err("portknock has no filter for a big-endian machine")
}

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

    /// The part of the test in the sandbox. It answers through standard input, as the reader does.
    fn inside() {
        let daemon = io::stdin().as_fd().try_clone_to_owned().unwrap();
        let (mut pipe, mut other_end) = io::pipe().unwrap();
        let before = UdpSocket::bind("127.0.0.1:0").unwrap();
        before.connect(before.local_addr().unwrap()).unwrap();
        let mut file = File::options().read(true).write(true).open("/dev/null").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        other_end.write_all(b"x").unwrap();

        let kept = enter_sandbox(daemon.as_fd(), 128 << 20);
        let mut answers = vec![format!("{kept:?}")];
        let mut attempt = |action: &str, result: io::Result<()>| {
            answers.push(format!(
                "{action}: {}",
                result.map_or_else(|error| error.kind().to_string(), |()| "done".into())
            ));
        };
        attempt("read from an open pipe", pipe.read(&mut [0]).map(drop));
        attempt(
            "allocate memory",
            vec![1_u8; 64 << 20].into_iter().max().map(drop).ok_or_else(|| io::Error::other("")),
        );
        attempt(
            "allocate more memory than permitted",
            Vec::<u8>::new().try_reserve(128 << 20).map_err(io::Error::other),
        );
        attempt("write a file", File::create("/tmp/portknock-sandbox").map(drop));
        attempt("read a file", File::open("/etc/passwd").map(drop));
        attempt("list a directory", fs::read_dir("/").map(drop));
        attempt("remove a file", fs::remove_file("/tmp/portknock-sandbox"));
        attempt("write to an open file", file.write_all(b"x"));
        attempt("send through an open socket", before.send(b"x").map(drop));
        attempt("open a socket", UdpSocket::bind("127.0.0.1:0").map(drop));
        attempt("open a local socket", UnixDatagram::unbound().map(drop));
        attempt("connect", TcpStream::connect(address).map(drop));
        attempt("accept a connection", listener.accept().map(drop));
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
        assert_eq!(done, ["read from an open pipe: done", "allocate memory: done"], "{answers:?}");
        assert_eq!(denied.len(), 12, "{answers:?}");
        assert!(
            answers.clone().any(|answer| answer == "allocate more memory than permitted: other error"),
            "{answers:?}"
        );
    }
}
