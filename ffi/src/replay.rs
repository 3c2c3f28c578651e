//! The engine on a capture file.

use std::ffi::c_char;
use std::ptr;

use portknock_core::replay::Replay;

use crate::arguments::{self, Out, handle, local_addresses};
use crate::boundary::{call, free};
use crate::config::portknock_config;
use crate::error::portknock_error;
use crate::event::{LastEvent, portknock_event};
use crate::guarded::Guarded;
use crate::status::portknock_status::{self, PORTKNOCK_END, PORTKNOCK_OK};

/// A capture file that an engine processes: the packets cause the same events as they would live.
/// The replay runs no command and writes no file. Doors with one_time_sequences continue with the
/// next sequences of their files. The time of each packet counts as the time by the wall clock, and
/// the replay begins without a record of accepted knocks.
pub struct portknock_replay {
    state: Guarded<State>,
}

struct State {
    replay: Replay,
    last: LastEvent,
}

/// Opens a capture file, pcap or pcapng; "-" means standard input. `local_addresses` are the
/// addresses of the host that the packets were sent to, as for
/// portknock_engine_set_local_addresses(); NULL with a count of 0 means any address.
///
/// On success *replay is a new handle, to be freed by portknock_replay_free(); otherwise it is
/// NULL.
///
/// Errors: PORTKNOCK_ERR_FILE if the capture file or a file of one-time sequences cannot be used.
/// PORTKNOCK_ERR_LINK_TYPE.
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

/// Takes the next event. PORTKNOCK_OK: *event points to it; it stays unchanged until the next call
/// of this function for the replay. PORTKNOCK_END, with NULL in *event: the file has ended.
/// Attempts and openings that are still running then cause no event.
///
/// Errors: PORTKNOCK_ERR_FILE if the file is truncated or damaged, after the events of the frames
/// before the damage; then the replay has ended.
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

/// Frees a replay and its last event. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_replay_free(replay: *mut portknock_replay) {
    // SAFETY: as the caller promises.
    unsafe { free(replay) };
}
