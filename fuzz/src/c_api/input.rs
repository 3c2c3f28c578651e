//! Derives arguments from bytes, as C programs would pass them.

use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use arbitrary::{Result, Unstructured};
use portknock_core::{LinkType, Protocol};

use crate::packets;
use crate::replay::DOORS;

/// The text of a configuration, mostly a valid one.
pub(super) fn text(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    Ok(match u.int_in_range(0..=5)? {
        0 => any_bytes(u)?,
        1 => "[a]\nsequence = 7000\nseq_timeout = 1\n[b]\nsequence = 7000,8000\nopen = tcp/22,udp/53\n".into(),
        2 => "[a]\nsequence = 1,2,3\n[b]\nsequense = 5\ncommand = \u{201c}x\u{201d}\n".into(),
        3 => "[a]\none_time_sequences = /nowhere/list\n".into(),
        4 => format!("[{0}]\nsequence = 7000\ncommand = {0} %IP%\nstop_command = {0}\n", "long ".repeat(20)).into(),
        _ => DOORS.into(),
    })
}

fn any_bytes(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let length = usize::from(u.int_in_range(0..=255_u8)?).min(u.len());
    Ok(u.bytes(length)?.to_vec())
}

pub(super) fn name(u: &mut Unstructured<'_>) -> Result<*const c_char> {
    Ok([ptr::null(), c"a.conf".as_ptr(), c"".as_ptr(), c"\xff\n\x1b".as_ptr()][u.choose_index(4)?])
}

/// A path to nothing that can be read.
pub(super) fn path(u: &mut Unstructured<'_>) -> Result<*const c_char> {
    let paths = [ptr::null(), c"/nowhere/file".as_ptr(), c"".as_ptr(), c"/dev/null".as_ptr(), c"/\xff\n".as_ptr()];
    Ok(*u.choose(&paths)?)
}

pub(super) fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path without a zero")
}

pub(super) fn addresses(u: &mut Unstructured<'_>) -> Result<Vec<*const c_char>> {
    let all = [
        c"10.0.0.1".as_ptr(),
        c"2001:db8::1".as_ptr(),
        c"10.0.0.2".as_ptr(),
        c"no address\n".as_ptr(),
        c"\xff".as_ptr(),
        ptr::null(),
    ];
    let count = u.int_in_range(0..=3)?;
    (0..count).map(|_| u.choose(&all).copied()).collect()
}

/// In half seconds, or any number.
pub(super) fn time(u: &mut Unstructured<'_>) -> Result<u64> {
    let halves = u.int_in_range(0..=255_u8)?;
    if halves == 255 { u.int_in_range(0..=u64::MAX) } else { Ok(u64::from(halves) * 500_000_000) }
}

/// The number of a link type, a time, and a frame, mostly a knock.
pub(super) fn frame(u: &mut Unstructured<'_>) -> Result<(i32, u64, Vec<u8>)> {
    let kind = u.int_in_range(0..=255_u8)?;
    let time = time(u)?;
    if kind == 255 {
        return Ok((u.int_in_range(i32::MIN..=i32::MAX)?, time, any_bytes(u)?));
    }
    let (protocol, port) = match kind % 5 {
        0 => (Protocol::Tcp, 7000),
        1 => (Protocol::Udp, 8000),
        2 => (Protocol::Tcp, 9000),
        3 => (Protocol::Udp, 1),
        _ => (Protocol::Tcp, 8000),
    };
    let knock = packets::knock(kind & 0x40 != 0, protocol, port);
    Ok((1, time, packets::frame(LinkType::Ethernet, &packets::packet(&knock))))
}
