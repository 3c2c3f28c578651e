//! The engine: packets and times in, events out.

use std::ffi::c_char;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use portknock_core::{Engine, Timestamp};

use crate::arguments::{Out, bytes, handle, local_addresses};
use crate::border::{call, free};
use crate::config::portknock_config;
use crate::error::{Failure, portknock_error};
use crate::event::{LastEvent, portknock_event};
use crate::guarded::Guarded;
use crate::link_type::link_type;
use crate::status::portknock_status::{self, PORTKNOCK_END, PORTKNOCK_OK};

/// The matching alone: no socket, clock or thread is behind it. You feed it with frames and times and take its events;
/// what they ask for is yours to do.
///
/// After each call that takes a time, take events by portknock_engine_next_event() until there is none; then wait for the
/// next packet, but not longer than portknock_engine_next_timeout() says, and when that time has come call
/// portknock_engine_advance(). Time never runs backwards: an earlier time than the one before counts as the same. Doors with
/// one_time_sequences take one knock here; portknock_replay_open() and portknock_listener_open() go on with their files.
pub struct portknock_engine {
    state: Guarded<State>,
    /// Most frames make no event: to find that out needs no lock.
    has_events: AtomicBool,
}

struct State {
    engine: Engine,
    last: LastEvent,
}

/// Makes an engine for a configuration. Every destination address counts until portknock_engine_set_local_addresses().
///
/// On success *engine is a new handle, to be freed by portknock_engine_free(); else it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_engine_new(
    config: *const portknock_config,
    engine: *mut *mut portknock_engine,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let engine = unsafe { Out::new(engine, ptr::null_mut(), "engine") }?;
        // SAFETY: as the caller promises.
        let config = unsafe { handle(config, "config") }?;
        let state = State { engine: Engine::new(&config.config), last: LastEvent::default() };
        engine.give(portknock_engine { state: Guarded::new(state), has_events: AtomicBool::new(false) });
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}

/// Says which addresses count as this machine's from now on, for doors without a `target`: texts such as "192.0.2.1".
/// NULL and a count of 0: any address; another pointer and a count of 0: none.
///
/// Errors: PORTKNOCK_ERR_ARGUMENT where one of them is no address; then nothing changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_engine_set_local_addresses(
    engine: *mut portknock_engine,
    addresses: *const *const c_char,
    count: usize,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = |state: &mut State| {
        // SAFETY: as the caller promises.
        let addresses = unsafe { local_addresses(addresses, count) }?;
        state.engine.set_local_addresses(addresses);
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { with_engine(engine, err, body) }
}

/// Takes a captured frame of `length` bytes. What is no knock, whatever its bytes, only moves time on.
///
/// `link_type`: how the frame begins, one of PORTKNOCK_LINKTYPE_..., which are the numbers of pcap_datalink().
/// `time_ns`: when it was captured, in nanoseconds since 1970.
///
/// Errors: PORTKNOCK_ERR_LINK_TYPE; then nothing was done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_engine_feed(
    engine: *mut portknock_engine,
    link_type: i32,
    time_ns: u64,
    data: *const u8,
    length: usize,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = |state: &mut State| {
        let link_type = self::link_type(link_type)?;
        // SAFETY: as the caller promises.
        let frame = unsafe { bytes(data, length, "data") }?;
        state.engine.feed(link_type, Timestamp::from_nanos(time_ns), frame);
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { with_engine(engine, err, body) }
}

/// Moves time on, in nanoseconds since 1970: what is due by then happens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_engine_advance(
    engine: *mut portknock_engine,
    now_ns: u64,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = |state: &mut State| {
        state.engine.handle_timeout(Timestamp::from_nanos(now_ns));
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { with_engine(engine, err, body) }
}

/// When portknock_engine_advance() is due next, in nanoseconds since 1970; may change with every call that takes a time.
/// PORTKNOCK_END, and a *time_ns of 0, where nothing runs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_engine_next_timeout(
    engine: *mut portknock_engine,
    time_ns: *mut u64,
) -> portknock_status {
    let body = |state: &mut State| {
        // SAFETY: as the caller promises.
        let time_ns = unsafe { Out::new(time_ns, 0, "time_ns") }?;
        let Some(due) = state.engine.poll_timeout() else { return Ok(PORTKNOCK_END) };
        time_ns.set(due.as_nanos());
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { with_engine(engine, ptr::null_mut(), body) }
}

/// Takes the next event. PORTKNOCK_OK: *event is it, and stays as it is until the next call of this function for the
/// engine. PORTKNOCK_END, and a NULL in *event, where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_engine_next_event(
    engine: *mut portknock_engine,
    event: *mut *const portknock_event,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let event = unsafe { Out::new(event, ptr::null(), "event") }?;
        // SAFETY: as the caller promises.
        let engine = unsafe { handle(engine, "engine") }?;
        if !engine.has_events.load(Ordering::Acquire) {
            return Ok(PORTKNOCK_END);
        }
        engine.work(|state| {
            let Some(next) = state.engine.poll_event() else { return Ok(PORTKNOCK_END) };
            event.set(state.last.set(&next));
            Ok(PORTKNOCK_OK)
        })
    };
    // SAFETY: as the caller promises.
    unsafe { call(ptr::null_mut(), body) }
}

/// Replaces the configuration at a time in nanoseconds since 1970. Attempts at doors that did not change go on, others
/// fail; doors that stand open stay so until their time is over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_engine_reload(
    engine: *mut portknock_engine,
    config: *const portknock_config,
    now_ns: u64,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = |state: &mut State| {
        // SAFETY: as the caller promises.
        let config = unsafe { handle(config, "config") }?;
        state.engine.reload(&config.config, Timestamp::from_nanos(now_ns));
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { with_engine(engine, err, body) }
}

/// Closes every open door at a time in nanoseconds since 1970, each with its event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_engine_close_all(
    engine: *mut portknock_engine,
    now_ns: u64,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = |state: &mut State| {
        state.engine.close_all(Timestamp::from_nanos(now_ns));
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { with_engine(engine, err, body) }
}

/// Frees an engine, with its last event. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_engine_free(engine: *mut portknock_engine) {
    // SAFETY: as the caller promises.
    unsafe { free(engine) };
}

impl portknock_engine {
    /// Works with the state, for this thread alone.
    fn work(
        &self,
        body: impl FnOnce(&mut State) -> Result<portknock_status, Failure>,
    ) -> Result<portknock_status, Failure> {
        self.state.with(|state| {
            // So that after a panic it is looked for with the lock, which then fails.
            self.has_events.store(true, Ordering::Relaxed);
            let result = body(state);
            self.has_events.store(state.engine.has_events(), Ordering::Release);
            result
        })?
    }
}

/// # Safety
/// As for [`handle`] and [`call`].
unsafe fn with_engine(
    engine: *const portknock_engine,
    err: *mut *mut portknock_error,
    body: impl FnOnce(&mut State) -> Result<portknock_status, Failure>,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let engine = unsafe { handle(engine, "engine") }?;
        engine.work(body)
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}
