//! The C library as C programs use it: calls in any order, with handles, NULL and numbers out of
//! range. Nothing is sent and nothing listens: calls that would use the network get only arguments
//! that they refuse.
#![allow(unsafe_code, reason = "the target calls as C does, to test that no call breaks anything")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "each call meets the requirements at the top of the header")]

mod input;
mod inspect;
mod refused;

use std::ffi::{CStr, c_char};
use std::hint::black_box;
use std::ptr;

use arbitrary::{Result, Unstructured};
use portknock::config::*;
use portknock::engine::*;
use portknock::error::*;
use portknock::event::portknock_event;
use portknock::replay::*;
use portknock::status::portknock_status::{self, *};

use crate::packets::{capture, frame, knock, packet};
use crate::scratch::with_file;

/// Decodes the bytes as calls, until they end.
pub fn check(data: &[u8]) {
    let mut program = Program::default();
    let mut u = Unstructured::new(data);
    // The calls end when the bytes end.
    while !u.is_empty() && program.act(&mut u).is_ok() {}
}

/// Programs that use each handle as intended.
pub fn seeds() -> Vec<Vec<u8>> {
    let parse = |text| [0, 0, 0, text, 1, 2];
    let engine = [0, 0, 4, 2];
    let feed = |frame, time| [0, 0, 6, frame, time, 2];
    let next = [0, 0, 11];
    let knocks = [feed(0, 2), feed(1, 3), feed(2, 4)].concat();
    [
        [&parse(5)[..], &engine, &knocks, &next, &next, &next, &next, &[0, 0, 10], &[0, 0, 9, 90, 2], &next].concat(),
        [&parse(5)[..], &engine, &[0, 0, 5, 1, 0, 1, 2], &knocks, &[0, 0, 12, 9, 2], &[0, 0, 13, 9, 2], &next].concat(),
        [&parse(5)[..], &[0, 0, 2], &[0, 0, 15, 0, 1, 2], &[0, 0, 16, 2], &[0, 0, 3], &[0, 0, 16, 2]].concat(),
        // The texts of the events grow, while the program keeps earlier ones.
        [&parse(5)[..], &engine, &knocks, &next, &next, &parse(4), &[0, 0, 12, 5, 2], &feed(0, 6), &next, &next, &next]
            .concat(),
        [&parse(2)[..], &parse(1), &parse(3), &[1, 0, 1, 1, 1], &[0, 0, 2], &engine, &[0, 0, 3], &next].concat(),
        (0..9).flat_map(|kind| [0, 0, 17, kind, 1, 1, 1, 1, 3, 0, 10, 0, 14, 2]).collect(),
    ]
    .into()
}

/// A program with the handles that it holds, each of which it frees once.
#[derive(Default)]
struct Program {
    configs: Handles<portknock_config>,
    engines: Handles<portknock_engine>,
    replays: Handles<portknock_replay>,
    errors: Vec<*mut portknock_error>,
    /// Texts of engines' events that were fetched earlier, with their engines.
    old: Vec<(*mut portknock_engine, *const c_char)>,
}

/// A small number of slots, one of which is always NULL.
type Handles<T> = [Place<T>; 4];

struct Place<T>(*mut T);

impl<T> Default for Place<T> {
    fn default() -> Self {
        Self(ptr::null_mut())
    }
}

/// The value that a failed call leaves in the result.
fn unset<T>() -> *mut T {
    ptr::without_provenance_mut(0x5a5a_5a58)
}

impl Program {
    fn act(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let [place, other] = [u.int_in_range(0..=3)?, u.int_in_range(0..=3)?];
        let (config, engine, replay) = (self.configs[place].0, self.engines[other].0, self.replays[other].0);
        match u.int_in_range(0..=17)? {
            0 => {
                let text = input::text(u)?;
                let name = input::name(u)?;
                self.make_config(place, u, |out, err| unsafe {
                    portknock_config_parse(text.as_ptr().cast(), text.len(), name, out, err)
                })?;
            }
            1 => {
                let path = input::path(u)?;
                self.make_config(place, u, |out, err| unsafe { portknock_config_load(path, out, err) })?;
            }
            2 => unsafe { inspect::at_config(config) },
            3 => {
                self.configs[place] = Place::default();
                unsafe { portknock_config_free(config) };
            }
            4 if place < 3 => {
                let mut made = unset();
                let given = self.configs[other].0;
                let status = self.call(u, |err| unsafe { portknock_engine_new(given, &raw mut made, err) })?;
                inspect::check(status, &[PORTKNOCK_OK, PORTKNOCK_ERR_ARGUMENT], given.is_null());
                assert_eq!(made.is_null(), status != PORTKNOCK_OK);
                self.free_engine(place);
                self.engines[place].0 = made;
            }
            5 => {
                let addresses = input::addresses(u)?;
                let (pointer, count) = match u.int_in_range(0..=3)? {
                    0 => (ptr::null(), addresses.len()),
                    _ => (addresses.as_ptr(), addresses.len()),
                };
                let status =
                    self.call(u, |err| unsafe { portknock_engine_set_local_addresses(engine, pointer, count, err) })?;
                inspect::check(status, &[PORTKNOCK_OK, PORTKNOCK_ERR_ARGUMENT], engine.is_null());
            }
            6..=8 => {
                let (link_type, time, bytes) = input::frame(u)?;
                let status = self.call(u, |err| unsafe {
                    portknock_engine_feed(engine, link_type, time, bytes.as_ptr(), bytes.len(), err)
                })?;
                inspect::check(
                    status,
                    &[PORTKNOCK_OK, PORTKNOCK_ERR_ARGUMENT, PORTKNOCK_ERR_LINK_TYPE],
                    engine.is_null(),
                );
            }
            9 => {
                let time = input::time(u)?;
                let status = self.call(u, |err| unsafe { portknock_engine_advance(engine, time, err) })?;
                inspect::check(status, &[PORTKNOCK_OK, PORTKNOCK_ERR_ARGUMENT], engine.is_null());
            }
            10 => {
                let mut time = 1;
                let status = unsafe { portknock_engine_next_timeout(engine, &raw mut time) };
                inspect::check(status, &[PORTKNOCK_OK, PORTKNOCK_END, PORTKNOCK_ERR_ARGUMENT], engine.is_null());
                assert!(status != PORTKNOCK_END || time == 0);
                let status = unsafe { portknock_engine_next_timeout(engine, ptr::null_mut()) };
                assert_eq!(status, PORTKNOCK_ERR_ARGUMENT);
            }
            11 => self.next_event(engine),
            12 => {
                let time = input::time(u)?;
                let status = self.call(u, |err| unsafe { portknock_engine_reload(engine, config, time, err) })?;
                inspect::check(status, &[PORTKNOCK_OK, PORTKNOCK_ERR_ARGUMENT], engine.is_null() || config.is_null());
            }
            13 => {
                let time = input::time(u)?;
                let status = self.call(u, |err| unsafe { portknock_engine_close_all(engine, time, err) })?;
                inspect::check(status, &[PORTKNOCK_OK, PORTKNOCK_ERR_ARGUMENT], engine.is_null());
            }
            14 => self.free_engine(other),
            15 => self.open_replay(config, other, u)?,
            16 => self.next_of_replay(replay, u)?,
            _ => {
                let refused = refused::call(u)?;
                let status = self.call(u, refused)?;
                assert_eq!(status, PORTKNOCK_ERR_ARGUMENT);
            }
        }
        Ok(())
    }

    /// Makes a call with or without a pointer for its error. The error is set exactly if the call
    /// fails.
    fn call(
        &mut self,
        u: &mut Unstructured<'_>,
        call: impl FnOnce(*mut *mut portknock_error) -> portknock_status,
    ) -> Result<portknock_status> {
        let mut err = unset();
        let kind = u.int_in_range(0..=3)?;
        if kind == 0 {
            return Ok(call(ptr::null_mut()));
        }
        let status = call(&raw mut err);
        assert_eq!(err.is_null(), status as i32 >= 0, "an error exactly if a call fails: {status:?}");
        if kind == 1 {
            // The error is read after the object it concerns has been freed.
            self.errors.push(err);
        } else {
            unsafe { inspect::at_error(err, status) };
            unsafe { portknock_error_free(err) };
        }
        Ok(status)
    }

    fn make_config(
        &mut self,
        place: usize,
        u: &mut Unstructured<'_>,
        make: impl FnOnce(*mut *mut portknock_config, *mut *mut portknock_error) -> portknock_status,
    ) -> Result<()> {
        let mut made = unset();
        let without = place == 3;
        let out = if without { ptr::null_mut() } else { &raw mut made };
        let status = self.call(u, |err| make(out, err))?;
        let may = [PORTKNOCK_OK, PORTKNOCK_ERR_ARGUMENT, PORTKNOCK_ERR_CONFIG, PORTKNOCK_ERR_FILE];
        inspect::check(status, &may, without);
        if !without {
            assert_eq!(made.is_null(), status != PORTKNOCK_OK);
            unsafe { portknock_config_free(self.configs[place].0) };
            self.configs[place].0 = made;
        }
        Ok(())
    }

    fn next_event(&mut self, engine: *mut portknock_engine) {
        let mut event: *const portknock_event = unset();
        let status = unsafe { portknock_engine_next_event(engine, &raw mut event) };
        inspect::check(status, &[PORTKNOCK_OK, PORTKNOCK_END, PORTKNOCK_ERR_ARGUMENT], engine.is_null());
        assert_eq!(event.is_null(), status != PORTKNOCK_OK);
        if let Some(event) = unsafe { event.as_ref() } {
            unsafe { inspect::at_event(event) };
            self.old.push((engine, event.door));
            self.old.push((engine, event.ip));
        }
        // The earlier text may have changed, but can still be read.
        for (_, text) in &self.old {
            black_box(unsafe { CStr::from_ptr(*text) }.to_bytes());
        }
        assert_eq!(unsafe { portknock_engine_next_event(engine, ptr::null_mut()) }, PORTKNOCK_ERR_ARGUMENT);
    }

    fn free_engine(&mut self, place: usize) {
        let engine = std::mem::take(&mut self.engines[place]).0;
        self.old.retain(|(of, _)| *of != engine);
        unsafe { portknock_engine_free(engine) };
    }

    fn open_replay(&mut self, config: *mut portknock_config, place: usize, u: &mut Unstructured<'_>) -> Result<()> {
        let path = input::path(u)?;
        let with_capture = u.int_in_range(0..=1)? == 1;
        let mut made = unset();
        let mut open = |path: *const c_char| {
            self.call(u, |err| unsafe { portknock_replay_open(config, path, ptr::null(), 0, &raw mut made, err) })
        };
        let mut status = Ok(PORTKNOCK_OK);
        if with_capture {
            let frames = [7000, 8000].map(|port| {
                let knock = knock(port == 8000, portknock_core::Protocol::Tcp, port);
                frame(portknock_core::LinkType::Ethernet, &packet(&knock))
            });
            with_file(&capture(1, &frames), |path| status = open(input::c_path(path).as_ptr()));
        } else {
            status = open(path);
        }
        inspect::check(status?, &[PORTKNOCK_OK, PORTKNOCK_ERR_ARGUMENT, PORTKNOCK_ERR_FILE], config.is_null());
        assert_eq!(made.is_null(), status? != PORTKNOCK_OK);
        if place == 3 {
            unsafe { portknock_replay_free(made) };
        } else {
            unsafe { portknock_replay_free(std::mem::take(&mut self.replays[place]).0) };
            self.replays[place].0 = made;
        }
        Ok(())
    }

    fn next_of_replay(&mut self, replay: *mut portknock_replay, u: &mut Unstructured<'_>) -> Result<()> {
        let mut event: *const portknock_event = unset();
        let status = self.call(u, |err| unsafe { portknock_replay_next(replay, &raw mut event, err) })?;
        let may = [PORTKNOCK_OK, PORTKNOCK_END, PORTKNOCK_ERR_ARGUMENT, PORTKNOCK_ERR_FILE];
        inspect::check(status, &may, replay.is_null());
        assert_eq!(event.is_null(), status != PORTKNOCK_OK);
        if let Some(event) = unsafe { event.as_ref() } {
            unsafe { inspect::at_event(event) };
        }
        Ok(())
    }
}

impl Drop for Program {
    /// A leak checker finds every handle that is not freed here.
    fn drop(&mut self) {
        for err in self.errors.drain(..) {
            unsafe { inspect::at_error(err, portknock_error_status(err)) };
            unsafe { portknock_error_free(err) };
        }
        for place in 0..self.engines.len() {
            self.free_engine(place);
            unsafe { portknock_replay_free(self.replays[place].0) };
            unsafe { portknock_config_free(self.configs[place].0) };
        }
    }
}
