//! A listener: the engine on live packets.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::time::Duration;

use portknock_core::service::{Listener, Notice, ServiceOptions};

use crate::arguments::{Out, handle, texts};
use crate::boundary::{call, free, inspect};
use crate::config::portknock_config;
use crate::error::{Failure, portknock_error};
use crate::event::{LastEvent, portknock_event};
use crate::guarded::Guarded;
use crate::options::{self, Options};
use crate::status::portknock_status::{self, PORTKNOCK_END, PORTKNOCK_OK};

/// The complete work of portknockd for the program's own event loop: packets are captured, doors
/// open and close, and their commands run if the program asks for it. Events report everything that
/// happens.
///
/// Wait with portknock_listener_next(). Or wait for portknock_listener_fd() together with the
/// program's other descriptors and, when it is readable, call portknock_listener_next() with a
/// timeout of 0 until it returns PORTKNOCK_END. Nothing happens without these calls. A waiting call
/// does not keep other threads from using the listener.
///
/// A listener belongs to the process that opened it. In a child process made by fork(2) every call
/// on it fails with PORTKNOCK_ERR_FORKED and changes nothing, so the parent loses no packet. Only
/// portknock_listener_free() works there, and does not affect the parent's listener. The child
/// holds the lock of the state file until it calls exec(3) or ends.
pub struct portknock_listener {
    listener: Listener,
    notices: bool,
    last: Guarded<LastEvent>,
}

/// Options of portknock_listener_open(). Zero in every field except struct_size means the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct portknock_listener_options {
    /// sizeof(portknock_listener_options)
    pub struct_size: usize,
    /// Interfaces to listen on instead of those of the configuration; "any" means all. NULL: those
    /// of the configuration.
    pub interfaces: *const *const c_char,
    /// Number of entries in `interfaces`.
    pub interface_count: usize,
    /// Not 0: run the doors' commands, open their ports (`open`), keep openings in the state file,
    /// and mark one-time sequences as used. Commands inherit this process's umask and its
    /// descriptors that are not close-on-exec.
    ///
    /// 0: nothing outside of the process changes. The program runs the commands and opens the ports
    /// that the events contain, and one-time sequences open again and again.
    pub run_commands: i32,
    /// Not 0: ignore IPv6 packets.
    pub ipv4_only: i32,
    /// Not 0: also return events of the kind PORTKNOCK_EVENT_NOTICE, with further lines for a log:
    /// interfaces that come and go, commands that run and fail.
    pub notices: i32,
    /// Must be 0.
    pub reserved: i32,
}

// SAFETY: it begins with its size and contains numbers and pointers, for which any bytes are valid.
unsafe impl Options for portknock_listener_options {}

/// Starts to listen. If an interface does not exist (yet), the listener waits for it. `options` may
/// be NULL.
///
/// On success *listener is a new handle, to be freed by portknock_listener_free(); otherwise it is
/// NULL.
///
/// Errors: PORTKNOCK_ERR_PERMISSION without CAP_NET_RAW. PORTKNOCK_ERR_ARGUMENT for names that no
/// interface can have. PORTKNOCK_ERR_FILE if a file of one-time sequences cannot be used.
/// PORTKNOCK_ERR_SYSTEM. With run_commands also PORTKNOCK_ERR_PERMISSION if doors have `open` and
/// CAP_NET_ADMIN is missing, and PORTKNOCK_ERR_FILE if another program uses the state file or the
/// state file cannot be trusted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_open(
    config: *const portknock_config,
    options: *const portknock_listener_options,
    listener: *mut *mut portknock_listener,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let listener = unsafe { Out::new(listener, ptr::null_mut(), "listener") }?;
        // SAFETY: as the caller promises.
        let config = unsafe { handle(config, "config") }?;
        // SAFETY: as the caller promises.
        let options = unsafe { options::read(options, "options") }?;
        options::unused(options.reserved)?;
        // SAFETY: as the caller promises.
        let interfaces = unsafe { texts(options.interfaces, options.interface_count, "interfaces") }?;
        let mut service_options = ServiceOptions::default();
        service_options.interfaces =
            (!interfaces.is_empty()).then(|| interfaces.into_iter().map(str::to_owned).collect());
        service_options.run_commands = options.run_commands != 0;
        service_options.ipv4_only = options.ipv4_only != 0;
        listener.give(portknock_listener {
            listener: Listener::open(config.config.clone(), service_options)?,
            notices: options.notices != 0,
            last: Guarded::default(),
        });
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}

/// Returns a descriptor that is readable when portknock_listener_next() has work to do or an event
/// to return. It belongs to the listener: wait for it by poll(2), select(2) or epoll(7), and do
/// nothing else with it. -1 for NULL and in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_fd(listener: *const portknock_listener) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { inspect(listener, -1, |it| if it.listener.is_forked() { -1 } else { it.listener.as_fd().as_raw_fd() }) }
}

/// Does the work that is due and takes the next event. Waits for an event at most `timeout_ms`
/// milliseconds: 0 does not wait, a negative number waits without limit.
///
/// PORTKNOCK_OK: *event points to the event, which stays unchanged until the next call of this
/// function for the listener. PORTKNOCK_END, with NULL in *event: the time is over,
/// portknock_listener_interrupt() was called, a signal arrived, or all is done after
/// portknock_listener_stop().
///
/// Errors: PORTKNOCK_ERR_SYSTEM if the capture has failed permanently. PORTKNOCK_ERR_FORKED in a
/// forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_next(
    listener: *mut portknock_listener,
    timeout_ms: i32,
    event: *mut *const portknock_event,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = |it: &portknock_listener| {
        // SAFETY: as the caller promises.
        let event = unsafe { Out::new(event, ptr::null(), "event") }?;
        // A negative number means no timeout.
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let Some(next) = it.next(timeout)? else { return Ok(PORTKNOCK_END) };
        event.set(it.last.with(|last| match next {
            Notice::Event(event) | Notice::SummarisedEvent(event) => last.set(&event),
            other => last.set_notice(&other.to_string()),
        })?);
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { with_listener(listener, err, body) }
}

/// Ends one wait in portknock_listener_next(), the current or the next one. Safe in a signal
/// handler: it writes to a descriptor, acquires no lock and allocates no memory. Does nothing in a
/// forked child. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_interrupt(listener: *const portknock_listener) {
    if !listener.is_null() {
        // SAFETY: it is not NULL, and the caller promises the rest.
        let listener = unsafe { &*listener };
        listener.listener.interrupt();
    }
}

/// Replaces the configuration. Unchanged doors keep their attempts, and open doors stay open.
///
/// Errors: as for portknock_listener_open(); then the listener continues with the old
/// configuration. PORTKNOCK_ERR_FORKED in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_reload(
    listener: *mut portknock_listener,
    config: *const portknock_config,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = |it: &portknock_listener| {
        // SAFETY: as the caller promises.
        let config = unsafe { handle(config, "config") }?;
        it.listener.reload(config.config.clone())?;
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { with_listener(listener, err, body) }
}

/// Starts to stop: packets are not processed any more, and open doors are closed unless the
/// configuration has `OnStop = keep`. Continue to take events until portknock_listener_is_stopped()
/// returns 1. The listener waits up to a minute for running commands. A second call changes
/// nothing.
///
/// Errors: PORTKNOCK_ERR_FORKED in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_stop(
    listener: *mut portknock_listener,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = |it: &portknock_listener| {
        it.listener.stop()?;
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { with_listener(listener, err, body) }
}

/// Returns 1 when everything that portknock_listener_stop() started is done and its events are
/// taken, and in a forked child, which has nothing to wait for. Returns 0 otherwise, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_is_stopped(listener: *const portknock_listener) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        inspect(listener, 0, |it| c_int::from(it.listener.is_forked() || it.listener.is_stopped().unwrap_or(false)))
    }
}

/// Stops listening immediately. Running commands are left alone. With run_commands, open doors stay
/// open for the next listener or daemon with the same state file. For an orderly stop call
/// portknock_listener_stop() before. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_free(listener: *mut portknock_listener) {
    // SAFETY: as the caller promises.
    unsafe { free(listener) };
}

impl portknock_listener {
    /// Returns the next event or notice that the caller asked for.
    fn next(&self, timeout: Option<Duration>) -> Result<Option<Notice>, Failure> {
        if self.notices {
            return Ok(self.listener.next(timeout)?);
        }
        Ok(self.listener.next_event(timeout)?.map(Notice::Event))
    }
}

/// # Safety
/// As for [`handle`] and [`call`].
unsafe fn with_listener(
    listener: *const portknock_listener,
    err: *mut *mut portknock_error,
    body: impl FnOnce(&portknock_listener) -> Result<portknock_status, Failure>,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let listener = unsafe { handle(listener, "listener") }?;
        body(listener)
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}
