//! The engine over a capture file.

use std::ffi::c_char;
use std::ptr;

use portknock_core::replay::Replay;

use crate::arguments::{self, Out, handle, local_addresses};
use crate::border::{call, free};
use crate::config::portknock_config;
use crate::error::portknock_error;
use crate::event::{LastEvent, portknock_event};
use crate::guarded::Guarded;
use crate::status::portknock_status::{self, PORTKNOCK_END, PORTKNOCK_OK};

/// A capture file on its way through an engine: the same packets give the same events as they would have given live.
/// Nothing is run and nothing is written; one-time doors go on with the lines of their files that follow.
pub struct portknock_replay {
    state: Guarded<State>,
}

struct State {
    replay: Replay,
    last: LastEvent,
}

/// Opens a capture file, pcap or pcapng; "-" is standard input. `local_addresses` are the addresses of the machine that
/// the packets came to, as for portknock_engine_set_local_addresses(); NULL and a count of 0 for any.
///
/// On success *replay is a new handle, to be freed by portknock_replay_free(); else it is NULL.
///
/// Errors: PORTKNOCK_ERR_FILE where the file, or one with one-time sequences, cannot be used; PORTKNOCK_ERR_LINK_TYPE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_replay_open(
    config: *const portknock_config,
    path: *const c_char,
    local_addresses: *const *const c_char,
    count: usize,
    replay: *mut *mut portknock_replay,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let replay = unsafe { Out::new(replay, ptr::null_mut(), "replay") }?;
        // SAFETY: as the caller promises.
        let config = unsafe { handle(config, "config") }?;
        // SAFETY: as the caller promises.
        let path = unsafe { arguments::path(path, "path") }?;
        // SAFETY: as the caller promises.
        let local = unsafe { self::local_addresses(local_addresses, count) }?;
        let state = State { replay: Replay::open(&config.config, local, path)?, last: LastEvent::default() };
        replay.give(portknock_replay { state: Guarded::new(state) });
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}

/// Takes the next event. PORTKNOCK_OK: *event is it, and stays as it is until the next call of this function for the
/// replay. PORTKNOCK_END, and a NULL in *event, at the end of the file; attempts and openings that still run then stay
/// unmentioned.
///
/// Errors: PORTKNOCK_ERR_FILE where the file breaks off or is damaged, after the events of the frames before; then it is
/// at its end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_replay_next(
    replay: *mut portknock_replay,
    event: *mut *const portknock_event,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let event = unsafe { Out::new(event, ptr::null(), "event") }?;
        // SAFETY: as the caller promises.
        let replay = unsafe { handle(replay, "replay") }?;
        replay.state.with(|state| {
            let Some(next) = state.replay.next_event()? else { return Ok(PORTKNOCK_END) };
            event.set(state.last.set(&next));
            Ok(PORTKNOCK_OK)
        })?
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}

/// Frees a replay, with its last event. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_replay_free(replay: *mut portknock_replay) {
    // SAFETY: as the caller promises.
    unsafe { free(replay) };
}
