//! Finding programs, and waiting.

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Runs all cases, `count` at a time. For cases that wait most of the time, each with its own hosts.
pub fn in_parallel<T: Sync>(count: usize, cases: &[T], run: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            run(case);
        }
    };
    thread::scope(|scope| (0..count.min(cases.len())).for_each(|_| drop(scope.spawn(run))));
}

/// The path of a program of this workspace, from the target directory that the running test was
/// built in.
pub fn binary(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the test has a path");
    // target/PROFILE/deps/TEST or target/PROFILE/PROGRAM
    test.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("there is no program `{name}`; build it first: cargo build --workspace --bins"))
}

/// Asserts that a program of the system is installed.
pub fn require(tool: &str) {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|directory| directory.join(tool).is_file()) {
        return;
    }
    let package = match tool {
        "iptables" | "ip6tables" | "iptables-restore" => "iptables",
        "ping" => "iputils-ping",
        "nft" => "nftables",
        "ip" => "iproute2",
        "nc" => "netcat-openbsd",
        "knock" | "knockd" => "knockd",
        "unshare" | "nsenter" => "util-linux",
        "ps" => "procps",
        other => other,
    };
    panic!("the program `{tool}` is missing; install it with: scripts/install-deps, or: apt-get install {package}");
}

/// A starter for [`Daemon::portknockd_under`](crate::Daemon::portknockd_under) that makes the
/// daemon a separate user with the privilege to capture packets and no other.
pub const CAPTURE_ONLY_USER: &[&str] = &[
    "setpriv",
    "--reuid=54321",
    "--regid=54321",
    "--clear-groups",
    "--inh-caps=-all,+net_raw",
    "--ambient-caps=-all,+net_raw",
    "--bounding-set=-all,+net_raw",
];

/// A starter for programs that must run without any privilege. It drops root's capabilities, so
/// that it also works in an unprivileged user namespace, which has no other user.
pub const UNPRIVILEGED: &[&str] = &["setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"];

/// Reports that a test is skipped, past the test runner, which shows printed text only when a test
/// fails.
pub fn skipped(why: &str) {
    let test = thread::current();
    // Without a reader of standard error the message is lost.
    let _ = writeln!(io::stderr(), "SKIPPED: {}: {why}", test.name().unwrap_or("a test"));
}

/// True if there are other users to become. Otherwise, as in an unprivileged user namespace, it
/// reports the test as skipped.
pub fn other_users() -> bool {
    let there_are =
        Command::new("setpriv").args(["--reuid=54321", "true"]).status().is_ok_and(|status| status.success());
    if !there_are {
        skipped("needs root, because it becomes another user");
    }
    there_are
}

/// Checks `condition` repeatedly until it holds. Returns false if it does not hold within
/// `timeout`.
pub fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
