//! A service for use from several threads, and for callers that handle events rather than log
//! lines.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Notice, Service, ServiceError, ServiceOptions, Waker};
use crate::config::Config;
use crate::event::Event;
use crate::sys::poll::{self, Interest};

/// A [`Service`] that any number of threads can use at the same time. Another thread or a signal
/// handler can interrupt its waits.
///
/// A thread that waits for events does not hold the lock, so that other threads can use the
/// listener meanwhile. The listener's descriptor is readable when [`Listener::next`] has work to do
/// or a notice to return.
///
/// A listener belongs to the process that opened it. In a forked child every call fails with
/// [`ServiceError::Forked`] and has no effect: both processes share the descriptors, so the child
/// would read the parent's packets. The child holds the lock of the state file until it executes
/// another program or exits.
#[derive(Debug)]
pub struct Listener {
    service: Arc<Mutex<Service>>,
    /// A duplicate of the service's descriptor, for use without the lock.
    fd: OwnedFd,
    waker: Waker,
    /// Distinguishes an interruption from other uses of the waker.
    interrupted: AtomicBool,
    /// The id of the process that opened the listener.
    owner: u32,
}

impl Listener {
    /// Starts a service.
    ///
    /// # Errors
    /// Fails as [`Service::start`] does.
    pub fn open(config: Config, options: ServiceOptions) -> Result<Self, ServiceError> {
        let service = Service::start(config, options)?;
        let fd = service.as_fd().try_clone_to_owned()?;
        let waker = service.waker();
        let interrupted = AtomicBool::new(false);
        Ok(Self { service: Arc::new(Mutex::new(service)), fd, waker, interrupted, owner: std::process::id() })
    }

    /// Works and returns the next notice that has a log line. Waits for it until `timeout` is over
    /// (`None`: without a limit). Returns `None` when the timeout is over, after
    /// [`Listener::interrupt`], when a signal arrived, and when the listener is stopped.
    ///
    /// # Errors
    /// Fails as [`Service::next`] does.
    pub fn next(&self, timeout: Option<Duration>) -> Result<Option<Notice>, ServiceError> {
        self.next_matching(timeout, |notice| notice.log_line().is_some().then_some(notice))
    }

    /// Returns the next event, like [`Listener::next`]; discards other notices.
    ///
    /// # Errors
    /// Fails as [`Service::next`] does.
    pub fn next_event(&self, timeout: Option<Duration>) -> Result<Option<Event>, ServiceError> {
        self.next_matching(timeout, |notice| match notice {
            Notice::Event(event) | Notice::SummarisedEvent(event) => Some(event),
            _ => None,
        })
    }

    fn next_matching<T>(
        &self,
        timeout: Option<Duration>,
        take: impl Fn(Notice) -> Option<T>,
    ) -> Result<Option<T>, ServiceError> {
        let start = Instant::now();
        loop {
            let mut service = self.lock()?;
            while let Some(notice) = service.next(Some(Duration::ZERO))? {
                if let Some(taken) = take(notice) {
                    return Ok(Some(taken));
                }
            }
            if service.is_stopped() {
                // Other threads may wait for the end too. A stopped service does not acknowledge
                // the waker, so each of them is woken.
                self.waker.wake();
                return Ok(None);
            }
            drop(service);
            let remaining = timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(start.elapsed()));
            if self.interrupted.swap(false, Ordering::SeqCst) || remaining.is_zero() {
                return Ok(None);
            }
            match poll::wait([(self.fd.as_fd(), Interest::Read)], remaining) {
                Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(None),
                result => result?,
            }
        }
    }

    /// Ends one wait, now or when it begins. Can be called from any thread and from a signal
    /// handler: it takes no lock and allocates no memory. Does nothing in a forked child.
    pub fn interrupt(&self) {
        if self.is_forked() {
            return;
        }
        // In this order, so that the thread that wakes up finds the flag set.
        self.interrupted.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Replaces the configuration, like [`Service::reload`].
    ///
    /// # Errors
    /// Fails as [`Service::start`] does; the old configuration then stays in force.
    pub fn reload(&self, config: Config) -> Result<(), ServiceError> {
        let result = self.lock()?.reload(config);
        self.waker.wake();
        result
    }

    /// Begins to stop, like [`Service::stop`]. Continue to read events until
    /// [`Listener::is_stopped`].
    ///
    /// # Errors
    /// [`ServiceError::Panicked`], [`ServiceError::Forked`].
    pub fn stop(&self) -> Result<(), ServiceError> {
        self.lock()?.stop();
        self.waker.wake();
        Ok(())
    }

    /// True when everything that [`Listener::stop`] began is done and its notices have been
    /// returned.
    ///
    /// # Errors
    /// [`ServiceError::Panicked`], [`ServiceError::Forked`].
    pub fn is_stopped(&self) -> Result<bool, ServiceError> {
        Ok(self.lock()?.is_stopped())
    }

    /// True in a process that was forked after the listener was opened. Takes no lock.
    pub fn is_forked(&self) -> bool {
        std::process::id() != self.owner
    }

    fn lock(&self) -> Result<MutexGuard<'_, Service>, ServiceError> {
        // Before the lock: the thread that holds it may not exist in a child.
        if self.is_forked() {
            return Err(ServiceError::Forked);
        }
        self.service.lock().map_err(|_| ServiceError::Panicked)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // In a forked child, the service may be locked by a thread of the parent in the middle of a
        // change. It is leaked then.
        if self.is_forked() && self.service.try_lock().is_err() {
            std::mem::forget(Arc::clone(&self.service));
        }
    }
}

/// Readable when [`Listener::next`] has work to do or a notice to return.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::tests::{in_namespace_of, knock, setup};
    use crate::{EventKind, config::OnStop};
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    const WAIT_TIMEOUT: Option<Duration> = Some(Duration::from_secs(10));

    fn open() -> Listener {
        let setup = setup();
        Listener::open(setup.config, ServiceOptions { run_commands: false, ..ServiceOptions::default() }).unwrap()
    }

    #[test]
    fn a_wait_returns_events_and_the_caller_runs_the_commands() {
        if !in_namespace_of("service::listener::tests", "a_wait_returns_events_and_the_caller_runs_the_commands") {
            return;
        }
        let listener = open();
        knock(&[7000, 8000]);
        let kinds: Vec<_> = (0..4).map(|_| listener.next_event(WAIT_TIMEOUT).unwrap().unwrap().kind).collect();
        assert!(matches!(kinds[0], EventKind::Stage { stage: 1, .. }), "{kinds:?}");
        assert!(matches!(&kinds[2], EventKind::Open { command: Some(command), .. } if command.contains("127.0.0.1")));
        assert!(matches!(&kinds[3], EventKind::Close { .. }), "{kinds:?}");
        assert_eq!(listener.next_event(Some(Duration::ZERO)).unwrap(), None);
    }

    #[test]
    fn an_interruption_ends_one_wait_and_a_wait_does_not_hold_the_lock() {
        if !in_namespace_of(
            "service::listener::tests",
            "an_interruption_ends_one_wait_and_a_wait_does_not_hold_the_lock",
        ) {
            return;
        }
        let listener = open();
        listener.interrupt();
        assert_eq!(listener.next_event(None).unwrap(), None, "it was interrupted before");
        assert_eq!(listener.next_event(Some(Duration::from_millis(20))).unwrap(), None, "and was consumed");
        let woken = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !listener.is_stopped().unwrap() {
                        assert_eq!(listener.next_event(None).unwrap(), None);
                        woken.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            thread::sleep(Duration::from_millis(50));
            assert_eq!(woken.load(Ordering::SeqCst), 0);
            let mut other = setup();
            other.config.options.on_stop = OnStop::Keep;
            listener.reload(other.config).unwrap();
            listener.interrupt();
            while woken.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            listener.stop().unwrap();
        });
        assert!(listener.is_stopped().unwrap());
        assert!(listener.next(None).unwrap().is_none());
    }
}
