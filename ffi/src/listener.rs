//! A listener: the engine on live packets.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::time::Duration;

use portknock_core::service::{Listener, Notice, ServiceOptions};

use crate::arguments::{Out, handle, texts};
use crate::border::{call, free, look};
use crate::config::portknock_config;
use crate::error::{Failure, portknock_error};
use crate::event::{LastEvent, portknock_event};
use crate::guarded::Guarded;
use crate::options::{self, Options};
use crate::status::portknock_status::{self, PORTKNOCK_END, PORTKNOCK_OK};

/// Everything that portknockd does, for a loop of your own: packets are captured, doors open and close, and their
/// commands run where you ask for it. What happens is told by events.
///
/// Wait by portknock_listener_next(); or wait for portknock_listener_fd() beside descriptors of your own and, when it is
/// readable, call portknock_listener_next() with a timeout of 0 until it gives PORTKNOCK_END. Nothing happens without
/// these calls. A call that waits keeps no other thread from using the listener.
///
/// A listener belongs to the process that opened it. In a child process made by fork(2) every call on it fails with
/// PORTKNOCK_ERR_FORKED and changes nothing, so the parent loses no packet; only portknock_listener_free() works, and
/// leaves the parent's listener as it is. The child holds the lock of the state file until it calls exec(3) or ends.
pub struct portknock_listener {
    listener: Listener,
    notices: bool,
    last: Guarded<LastEvent>,
}

/// How a listener works. Zero in every field but struct_size means the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct portknock_listener_options {
    /// sizeof(portknock_listener_options)
    pub struct_size: usize,
    /// Listen on these interfaces, whatever the configuration says; "any" is all of them. NULL: as it says.
    pub interfaces: *const *const c_char,
    /// How many they are.
    pub interface_count: usize,
    /// Not 0: run the doors' commands (with this process's umask, and with its descriptors that are not close-on-exec), open their ports (`open`), keep openings in the state file, mark one-time sequences as used. 0: nothing
    /// outside of the process changes; the program runs the commands and opens the ports that the events have, and one-time
    /// sequences open again and again.
    pub run_commands: i32,
    /// Not 0: pass over IPv6 packets.
    pub ipv4_only: i32,
    /// Not 0: also give events of the kind PORTKNOCK_EVENT_NOTICE, with what else a log should say: interfaces that come
    /// and go, commands that run and fail.
    pub notices: i32,
    /// 0
    pub reserved: i32,
}

// SAFETY: it begins with its size and holds numbers and pointers, of which any bytes are valid.
unsafe impl Options for portknock_listener_options {}

/// Begins to listen. Interfaces that do not exist (yet) are waited for. `options` may be NULL.
///
/// On success *listener is a new handle, to be freed by portknock_listener_free(); else it is NULL.
///
/// Errors: PORTKNOCK_ERR_PERMISSION without CAP_NET_RAW; PORTKNOCK_ERR_ARGUMENT for names that no interface can have;
/// with run_commands PORTKNOCK_ERR_PERMISSION where doors have `open` and CAP_NET_ADMIN is missing, and
/// PORTKNOCK_ERR_FILE where the state file is in use by someone else or cannot be trusted; PORTKNOCK_ERR_FILE where a file of
/// one-time sequences cannot be used; PORTKNOCK_ERR_SYSTEM.
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

/// A descriptor that is readable when portknock_listener_next() has something to do or to tell. It belongs to the
/// listener: wait for it by poll(2), select(2) or epoll(7), and do nothing else with it. -1 for NULL and in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_fd(listener: *const portknock_listener) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { look(listener, -1, |it| if it.listener.is_forked() { -1 } else { it.listener.as_fd().as_raw_fd() }) }
}

/// Does what there is to do and takes the next event, waiting for one at most `timeout_ms` milliseconds: 0 to not wait,
/// a negative number to wait for ever.
///
/// PORTKNOCK_OK: *event is it, and stays as it is until the next call of this function for the listener.
/// PORTKNOCK_END, and a NULL in *event: the time is over, portknock_listener_interrupt() was called, a signal came, or
/// all is done after portknock_listener_stop().
///
/// Errors: PORTKNOCK_ERR_SYSTEM where the capture has broken down for good; PORTKNOCK_ERR_FORKED in a forked child.
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
        // A negative number stands for no timeout.
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

/// Ends one wait in portknock_listener_next(), now or at the next call. Safe in a signal handler: it writes to a
/// descriptor and takes neither lock nor memory. Does nothing in a forked child. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_interrupt(listener: *const portknock_listener) {
    if !listener.is_null() {
        // SAFETY: it is not NULL, and the caller promises the rest.
        let listener = unsafe { &*listener };
        listener.listener.interrupt();
    }
}

/// Takes up another configuration. Doors that did not change keep their attempts, and open doors stay open.
///
/// Errors: as for portknock_listener_open(), then everything goes on as before; PORTKNOCK_ERR_FORKED in a forked child.
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

/// Begins to stop: no packet counts any more, and open doors are closed unless the configuration has `OnStop = keep`. Go
/// on taking events until portknock_listener_is_stopped(); commands are waited for, up to a minute. Calling it again
/// changes nothing.
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

/// 1 when everything that portknock_listener_stop() began is done and its events are taken, and in a forked child, which
/// has nothing to wait for; else 0, also for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_is_stopped(listener: *const portknock_listener) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { look(listener, 0, |it| c_int::from(it.listener.is_forked() || it.listener.is_stopped().unwrap_or(false))) }
}

/// Ends listening at once. Commands that run are left alone; with run_commands, open doors are left to the next listener
/// or daemon with the same state file. To stop in order call portknock_listener_stop() before. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_listener_free(listener: *mut portknock_listener) {
    // SAFETY: as the caller promises.
    unsafe { free(listener) };
}

impl portknock_listener {
    /// What comes next that has something to show.
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
