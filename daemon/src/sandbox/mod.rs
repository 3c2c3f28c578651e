//! What the process that reads packets may still do: next to nothing.

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

/// Gives up everything that reading from open descriptors does not need, one layer behind the other, so that a hole in
/// one is no way out: the user, capabilities, new privileges, files and networks (landlock(7)), and all system calls
/// but a few (seccomp(2)). Nothing is written but to `daemon`, and no more than `memory` bytes are allocated. Returns in
/// words what the system did not let it give up.
///
/// # Errors
/// Where the system refused what it should not.
pub(crate) fn give_up_rights(daemon: BorrowedFd<'_>, memory: u64) -> Result<Vec<String>, String> {
    let mut kept = Vec::new();
    // Before it becomes a user who cannot write there.
    kept.extend(prefer_for_oom_killer());
    drop_bounding_set();
    if effective_user() == 0 {
        kept.extend(leave_root());
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

/// Becomes a user that no other process has: `portknock`, or, if there is no such user, a number without a name. Returns
/// in words what is kept.
fn leave_root() -> Option<String> {
    if let Some(user) = find_user(c"portknock").or_else(find_unused_user)
        && become_user(user).is_ok()
    {
        return None;
    }
    // As in a user namespace, which may have few users, or root alone.
    match find_user(c"nobody").map(become_user) {
        Some(Ok(())) => Some("the user nobody, which other programs may have too (there is no user portknock)".into()),
        Some(Err(error)) => Some(format!("the user root ({error})")),
        None => Some("the user root (there is neither portknock nor nobody)".into()),
    }
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

/// No filter is written for machines of the other byte order.
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

        let kept = give_up_rights(daemon.as_fd(), 128 << 20);
        let mut answers = vec![format!("{kept:?}")];
        let mut attempt = |what: &str, result: io::Result<()>| {
            answers
                .push(format!("{what}: {}", result.map_or_else(|error| error.kind().to_string(), |()| "done".into())));
        };
        attempt("read what is open", pipe.read(&mut [0]).map(drop));
        attempt("take memory", vec![1_u8; 64 << 20].into_iter().max().map(drop).ok_or_else(|| io::Error::other("")));
        attempt("take more memory than it may", Vec::<u8>::new().try_reserve(128 << 20).map_err(io::Error::other));
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
        assert!(answers.clone().any(|answer| answer == "take more memory than it may: other error"), "{answers:?}");
    }
}
