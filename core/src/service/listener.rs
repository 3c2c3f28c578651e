//! A service for any thread, and for callers who want events more than log lines.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Notice, Service, ServiceError, ServiceOptions, Waker};
use crate::config::Config;
use crate::event::Event;
use crate::sys::poll::{self, Interest};

/// A [`Service`] that any number of threads can use at the same time, and whose wait another thread or a signal handler
/// can end.
///
/// Nobody waits for long for anybody else: a thread that waits for events lets the others in. Its descriptor is readable
/// when [`Listener::next`] has something to do or to tell.
///
/// A listener belongs to the process that opened it. In a forked child every call fails with [`ServiceError::Forked`] and
/// changes nothing: the descriptors of both processes are the same, so the child would take the parent's packets. The
/// child holds the lock of the state file until it executes another program or exits.
#[derive(Debug)]
pub struct Listener {
    service: Arc<Mutex<Service>>,
    /// The service's descriptor, at hand without the lock.
    fd: OwnedFd,
    waker: Waker,
    /// What tells an interruption from a wake for another reason.
    interrupted: AtomicBool,
    /// The process that opened it.
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

    /// Does what there is to do and returns the next notice that has a line for a log, waiting for one until `timeout` is
    /// over (`None`: for ever). Returns `None` when it is, after [`Listener::interrupt`], when a signal came, and when it is
    /// stopped.
    ///
    /// # Errors
    /// Fails as [`Service::next`] does.
    pub fn next(&self, timeout: Option<Duration>) -> Result<Option<Notice>, ServiceError> {
        self.next_that(timeout, |notice| notice.log_line().is_some().then_some(notice))
    }

    /// The same for events alone; other notices are passed over.
    ///
    /// # Errors
    /// Fails as [`Service::next`] does.
    pub fn next_event(&self, timeout: Option<Duration>) -> Result<Option<Event>, ServiceError> {
        self.next_that(timeout, |notice| match notice {
            Notice::Event(event) | Notice::SummarisedEvent(event) => Some(event),
            _ => None,
        })
    }

    fn next_that<T>(
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
                // Others may wait for the end too. A service that has stopped leaves this be.
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

    /// Makes one wait end now, or the next one at its beginning. From any thread and from a signal handler: it takes no
    /// lock and no memory. Does nothing in a forked child.
    pub fn interrupt(&self) {
        if self.is_forked() {
            return;
        }
        // In this order: who is woken finds out why.
        self.interrupted.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Takes up another configuration, as [`Service::reload`] does.
    ///
    /// # Errors
    /// Fails as [`Service::start`] does; then everything goes on as before.
    pub fn reload(&self, config: Config) -> Result<(), ServiceError> {
        let result = self.lock()?.reload(config);
        self.waker.wake();
        result
    }

    /// Begins to stop, as [`Service::stop`] does. Go on taking events until [`Listener::is_stopped`].
    ///
    /// # Errors
    /// [`ServiceError::Panicked`], [`ServiceError::Forked`].
    pub fn stop(&self) -> Result<(), ServiceError> {
        self.lock()?.stop();
        self.waker.wake();
        Ok(())
    }

    /// True when everything that [`Listener::stop`] began is done, and told.
    ///
    /// # Errors
    /// [`ServiceError::Panicked`], [`ServiceError::Forked`].
    pub fn is_stopped(&self) -> Result<bool, ServiceError> {
        Ok(self.lock()?.is_stopped())
    }

    /// True in a process that was forked after the listener was opened. It takes no lock.
    pub fn is_forked(&self) -> bool {
        std::process::id() != self.owner
    }

    fn lock(&self) -> Result<MutexGuard<'_, Service>, ServiceError> {
        // First of all: the thread that held the lock does not exist in a child.
        if self.is_forked() {
            return Err(ServiceError::Forked);
        }
        self.service.lock().map_err(|_| ServiceError::Panicked)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // In a forked child, a thread of the parent may have left the service in the middle of a change.
        if self.is_forked() && self.service.try_lock().is_err() {
            std::mem::forget(Arc::clone(&self.service));
        }
    }
}

/// Readable when [`Listener::next`] has something to do or to tell.
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

    const SOON: Option<Duration> = Some(Duration::from_secs(10));

    fn open() -> Listener {
        let setup = setup();
        Listener::open(setup.config, ServiceOptions { run_commands: false, ..ServiceOptions::default() }).unwrap()
    }

    #[test]
    fn events_come_to_whoever_waits_and_the_commands_are_the_callers() {
        if !in_namespace_of("service::listener::tests", "events_come_to_whoever_waits_and_the_commands_are_the_callers")
        {
            return;
        }
        let listener = open();
        knock(&[7000, 8000]);
        let kinds: Vec<_> = (0..4).map(|_| listener.next_event(SOON).unwrap().unwrap().kind).collect();
        assert!(matches!(kinds[0], EventKind::Stage { stage: 1, .. }), "{kinds:?}");
        assert!(matches!(&kinds[2], EventKind::Open { command: Some(command), .. } if command.contains("127.0.0.1")));
        assert!(matches!(&kinds[3], EventKind::Close { .. }), "{kinds:?}");
        assert_eq!(listener.next_event(Some(Duration::ZERO)).unwrap(), None);
    }

    #[test]
    fn an_interruption_ends_one_wait_and_a_wait_keeps_nobody_out() {
        if !in_namespace_of("service::listener::tests", "an_interruption_ends_one_wait_and_a_wait_keeps_nobody_out") {
            return;
        }
        let listener = open();
        listener.interrupt();
        assert_eq!(listener.next_event(None).unwrap(), None, "it came before");
        assert_eq!(listener.next_event(Some(Duration::from_millis(20))).unwrap(), None, "and was used up");
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
