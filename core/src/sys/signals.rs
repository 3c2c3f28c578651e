//! pthread_sigmask(3): choosing the threads that receive signals.

use std::mem::MaybeUninit;
use std::ptr;

/// Runs `work` with all signals blocked in this thread. A thread that `work` starts inherits the
/// mask, so signals go to the other threads while it runs.
pub fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set has room for what the call writes, and the call cannot fail.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was filled above, `before` has room for what is written, and SIG_BLOCK is a
    // valid argument.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr()) };
    let result = work();
    // SAFETY: the first call filled `before`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::thread;

    /// Returns the signals that are blocked in the calling thread, as in proc_pid_status(5).
    fn blocked() -> u64 {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap()
    }

    #[test]
    fn a_thread_started_meanwhile_receives_no_signals_and_the_caller_does_again() {
        let before = blocked();
        let inside = with_signals_blocked(|| thread::spawn(blocked)).join().unwrap();
        for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGINT, libc::SIGUSR1] {
            assert_ne!(inside & 1 << (signal - 1), 0, "{signal}");
        }
        assert_eq!(blocked(), before);
    }
}
