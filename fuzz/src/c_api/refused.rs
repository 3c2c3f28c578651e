//! Calls that would use the network, with arguments that they refuse.

use std::ffi::c_char;
use std::mem::{offset_of, size_of};
use std::ptr;

use arbitrary::{Result, Unstructured};
use portknock::config::portknock_config;
use portknock::error::portknock_error;
use portknock::event::portknock_event_kind_name;
use portknock::knock::*;
use portknock::listener::*;
use portknock::probe::*;
use portknock::status::{portknock_status, portknock_status_name};

/// Size in bytes, larger than any struct of options.
const ROOM: usize = 256;

/// Memory for options of this version and of later versions.
#[repr(C, align(8))]
struct Memory([u8; ROOM]);

/// A call that fails because of its arguments.
pub(super) fn call(
    u: &mut Unstructured<'_>,
) -> Result<impl FnOnce(*mut *mut portknock_error) -> portknock_status + use<>> {
    let kind = u.int_in_range(0..=8)?;
    let number = u.int_in_range(i32::MIN..=i32::MAX)?;
    let text = [ptr::null(), c"\xff".as_ptr(), c"".as_ptr(), c"no port!".as_ptr()][u.choose_index(4)?];
    let knock = memory(u, &[offset_of!(portknock_knock_options, source)])?;
    let probe = memory(
        u,
        &[
            offset_of!(portknock_probe_options, source),
            offset_of!(portknock_probe_options, progress),
            offset_of!(portknock_probe_options, progress_data),
        ],
    )?;
    Ok(move |err| unsafe {
        for name in
            [portknock_status_name(number), portknock_event_kind_name(number), portknock_port_state_name(number)]
        {
            assert!(!name.is_null());
        }
        match kind {
            // The steps and the ports are invalid, even if everything else is valid.
            0 => portknock_knock(c"127.0.0.1".as_ptr(), text, knock.0.as_ptr().cast(), err),
            1 => portknock_knock(ptr::null::<c_char>(), c"7000".as_ptr(), ptr::null(), err),
            2 => {
                let mut results = super::unset();
                let host = c"127.0.0.1".as_ptr();
                let status = portknock_probe(host, text, probe.0.as_ptr().cast(), &raw mut results, err);
                assert!(results.is_null());
                status
            }
            3 => portknock_probe(c"127.0.0.1".as_ptr(), c"7000".as_ptr(), ptr::null(), ptr::null_mut(), err),
            4 => {
                let mut listener = super::unset();
                let status = portknock_listener_open(ptr::null(), ptr::null(), &raw mut listener, err);
                assert!(listener.is_null());
                status
            }
            5 => portknock_listener_open(ptr::null(), ptr::null(), ptr::null_mut(), err),
            6 => portknock_listener_next(ptr::null_mut(), number, ptr::null_mut(), err),
            7 => portknock_listener_reload(ptr::null_mut(), ptr::null::<portknock_config>(), err),
            _ => {
                portknock_listener_interrupt(ptr::null());
                assert_eq!(portknock_listener_fd(ptr::null()), -1);
                assert_eq!(portknock_listener_is_stopped(ptr::null()), 0);
                assert_eq!(portknock_probe_results_count(ptr::null()), 0);
                assert!(portknock_probe_results_get(ptr::null(), 0).is_null());
                portknock_probe_results_free(ptr::null_mut());
                portknock_listener_free(ptr::null_mut());
                portknock_listener_stop(ptr::null_mut(), err)
            }
        }
    })
}

/// Options of any size and with any numbers, but no pointers.
fn memory(u: &mut Unstructured<'_>, pointers: &[usize]) -> Result<Memory> {
    let mut bytes = [0; ROOM];
    let fill = usize::from(u.int_in_range(0..=63_u8)?).min(u.len());
    bytes[..fill].copy_from_slice(u.bytes(fill)?);
    for pointer in pointers {
        bytes[*pointer..][..size_of::<usize>()].fill(0);
    }
    // No struct has a size beyond the memory.
    let size = match u.int_in_range(0..=65)? {
        64 => usize::MAX,
        65 => 1 << 63 | 8,
        size => size * 4,
    };
    bytes[..size_of::<usize>()].copy_from_slice(&size.to_ne_bytes());
    Ok(Memory(bytes))
}
