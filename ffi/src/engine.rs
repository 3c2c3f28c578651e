//! The engine: packets and times in, events out.

use std::ffi::c_char;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use portknock_core::{Engine, Timestamp};

use crate::arguments::{Out, bytes, handle, local_addresses};
use crate::boundary::{call, free};
use crate::config::portknock_config;
use crate::error::{Failure, portknock_error};
use crate::event::{LastEvent, portknock_event};
use crate::guarded::Guarded;
use crate::link_type::link_type;
use crate::status::portknock_status::{self, PORTKNOCK_END, PORTKNOCK_OK};

/// The matching without input and output: an engine has no socket, clock or thread. The program
/// feeds it with frames and times, takes its events, and carries out the actions that they ask for.
///
/// After each call with a time argument, take events by portknock_engine_next_event() until there
/// is none. Then wait for the next packet until the time of portknock_engine_next_timeout() at the
/// latest, and call portknock_engine_advance() at that time. Time never runs backwards: a time
/// earlier than the previous one counts as the previous one.
///
/// Doors with one_time_sequences accept one knock here; portknock_replay_open() and
/// portknock_listener_open() continue with the next sequences of their files. An engine remembers
/// the authenticated knocks that it has accepted, and refuses them if they are repeated. A new
/// engine remembers none, so it accepts knocks that an earlier one has accepted;
/// portknock_listener_open() with run_commands keeps this record in the state file.
pub struct portknock_engine {
    state: Guarded<State>,
    /// Whether the engine has events. Most frames cause none, and this flag is read without the
    /// lock.
    has_events: AtomicBool,
}

struct State {
    engine: Engine,
    last: LastEvent,
}

/// Makes an engine for a configuration. Every destination address counts as this host's until
/// portknock_engine_set_local_addresses() is called.
///
/// On success *engine is a new handle, to be freed by portknock_engine_free(); otherwise it is
/// NULL.
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

/// Sets the addresses that count as this host's from now on, for doors without a `target`: texts
/// such as "192.0.2.1". NULL with a count of 0 means any address; another pointer with a count of 0
/// means none.
///
/// Errors: PORTKNOCK_ERR_ARGUMENT if one of them is not an address; then nothing changes.
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

/// Sets the time of the wall clock at `now_ns`, the time by the engine's clock; both are in
/// nanoseconds since 1970. The sequences of doors with `sequence = time` change by the wall clock,
/// and the times of packets are judged by it. Until the first call, the times that the engine
/// receives are those of the wall clock. A program whose times come from another clock, such as
/// CLOCK_BOOTTIME, calls this function at the start and after each change of the wall clock.
///
/// Advances the time as portknock_engine_advance() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_engine_set_wall_clock(
    engine: *mut portknock_engine,
    wall_ns: u64,
    now_ns: u64,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = |state: &mut State| {
        state.engine.set_wall_clock(Timestamp::from_nanos(wall_ns), Timestamp::from_nanos(now_ns));
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { with_engine(engine, err, body) }
}

/// Processes a captured frame of `length` bytes. A frame that is not a knock only advances the
/// time; its bytes may be anything.
///
/// `link_type`: the format of the frame, one of PORTKNOCK_LINKTYPE_..., which are the numbers of
/// pcap_datalink(). `time_ns`: the time of capture, in nanoseconds since 1970.
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

/// Advances the time, in nanoseconds since 1970: everything due by then happens.
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

/// Gets the time at which portknock_engine_advance() is due next, in nanoseconds since 1970. It can
/// change with every call that has a time argument. Returns PORTKNOCK_END, with 0 in *time_ns, if
/// no attempt and no opening is running.
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

/// Takes the next event. PORTKNOCK_OK: *event points to it; it stays unchanged until the next call
/// of this function for the engine. PORTKNOCK_END, with NULL in *event: there is no event.
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

/// Replaces the configuration at a time in nanoseconds since 1970. Attempts at unchanged doors
/// continue, other attempts fail. Open doors stay open until their time is over.
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

/// Closes every open door at a time in nanoseconds since 1970. Each causes an event.
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

/// Frees an engine and its last event. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_engine_free(engine: *mut portknock_engine) {
    // SAFETY: as the caller promises.
    unsafe { free(engine) };
}

impl portknock_engine {
    /// Runs `body` with exclusive access to the state.
    fn work(
        &self,
        body: impl FnOnce(&mut State) -> Result<portknock_status, Failure>,
    ) -> Result<portknock_status, Failure> {
        self.state.with(|state| {
            // After a panic the flag stays set, so the next call takes the lock and fails.
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
