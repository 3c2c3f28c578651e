//! Arguments that C passes, checked as far as possible.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr, c_char};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use portknock_core::LocalAddresses;

use crate::error::Failure;

/// Returns the object that a handle points to.
///
/// # Safety
/// The pointer is NULL or points to a `T` that no thread changes or frees during the call.
pub(crate) unsafe fn handle<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    check(pointer, name)?;
    // SAFETY: it is neither NULL nor misaligned, and the caller promises the rest.
    Ok(unsafe { &*pointer })
}

/// Location that the caller provides for a result.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Writes `nothing` there, so that the location always holds a valid value.
    ///
    /// # Safety
    /// The pointer is NULL or can be written during the whole call.
    pub(crate) unsafe fn new(pointer: *mut T, nothing: T, name: &str) -> Result<Self, Failure> {
        check(pointer, name)?;
        // SAFETY: it is neither NULL nor misaligned, and the caller promises the rest.
        unsafe { pointer.write(nothing) };
        Ok(Self(pointer))
    }

    pub(crate) fn set(&self, value: T) {
        // SAFETY: `new` wrote to it, and the caller promises that it stays writable during the call.
        unsafe { self.0.write(value) };
    }
}

impl<T> Out<*mut T> {
    /// Passes the ownership of a new handle to the caller.
    pub(crate) fn give(&self, value: T) {
        self.set(Box::into_raw(Box::new(value)));
    }
}

/// Buffer of the caller for bytes.
pub(crate) struct OutBytes<'a> {
    pointer: *mut u8,
    size: usize,
    name: &'a str,
}

impl<'a> OutBytes<'a> {
    /// Fills the buffer with zeros, so that it always holds valid bytes.
    ///
    /// # Safety
    /// The pointer is NULL, or `size` bytes there can be written during the whole call.
    pub(crate) unsafe fn new(pointer: *mut u8, size: usize, name: &'a str) -> Result<Self, Failure> {
        check(pointer, name)?;
        if isize::try_from(size).is_err() {
            return Err(Failure::argument(format!("{name} cannot have {size} bytes")));
        }
        // SAFETY: it is not NULL, no longer than memory can be, and the caller promises the rest.
        unsafe { pointer.write_bytes(0, size) };
        Ok(Self { pointer, size, name })
    }

    /// Writes bytes to the beginning of the buffer. Fails if they do not fit.
    pub(crate) fn set(&self, bytes: &[u8]) -> Result<(), Failure> {
        let Self { pointer, size, name } = *self;
        if bytes.len() > size {
            return Err(Failure::argument(format!("{name} has {size} bytes, but {} are needed", bytes.len())));
        }
        // SAFETY: `new` wrote to as many bytes, and the caller promises that they stay writable during
        // the call. No Rust value has its memory there.
        unsafe { pointer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }
}

/// Returns the bytes at a pointer.
///
/// # Safety
/// The pointer is NULL or points to `length` bytes that no thread changes or frees during the call.
pub(crate) unsafe fn bytes<'a>(pointer: *const u8, length: usize, name: &str) -> Result<&'a [u8], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    check(pointer, name)?;
    if isize::try_from(length).is_err() {
        return Err(Failure::argument(format!("{name} cannot have {length} bytes")));
    }
    // SAFETY: it is not NULL, no longer than memory can be, and the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// Returns the bytes of a text.
///
/// # Safety
/// The pointer is NULL or points to bytes up to a zero, which no thread changes or frees during the
/// call.
unsafe fn c_str<'a>(pointer: *const c_char, name: &str) -> Result<&'a CStr, Failure> {
    check(pointer, name)?;
    // SAFETY: it is not NULL, and the caller promises the rest.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// Returns a text; fails if it is not UTF-8.
///
/// # Safety
/// As for [`c_str`].
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Failure> {
    // SAFETY: as the caller promises.
    let text = unsafe { c_str(pointer, name) }?;
    text.to_str().map_err(|error| Failure::argument(format!("{name} is not UTF-8: {error}")))
}

/// Returns a file name, in any encoding.
///
/// # Safety
/// As for [`c_str`].
pub(crate) unsafe fn path<'a>(pointer: *const c_char, name: &str) -> Result<&'a Path, Failure> {
    // SAFETY: as the caller promises.
    let text = unsafe { c_str(pointer, name) }?;
    Ok(Path::new(OsStr::from_bytes(text.to_bytes())))
}

/// Parses an address; `None` for NULL.
///
/// # Safety
/// As for [`c_str`].
pub(crate) unsafe fn address(pointer: *const c_char, name: &str) -> Result<Option<IpAddr>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let text = unsafe { text(pointer, name) }?;
    text.parse()
        .map(Some)
        .map_err(|_| Failure::argument(format!("{name} is not an IP address: {}", text.escape_debug())))
}

/// Returns an array of texts.
///
/// # Safety
/// The pointer is NULL or points to `count` pointers, each as for [`c_str`], which no thread
/// changes during the call.
pub(crate) unsafe fn texts<'a>(
    pointer: *const *const c_char,
    count: usize,
    name: &str,
) -> Result<Vec<&'a str>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    check(pointer, name)?;
    let mut all = Vec::new();
    for i in 0..count {
        // SAFETY: the caller promises `count` elements.
        let at = unsafe { pointer.add(i) };
        // SAFETY: this element can be read for the same reason.
        let one = unsafe { at.read() };
        // SAFETY: as the caller promises.
        all.push(unsafe { text(one, &format!("{name}[{i}]")) }?);
    }
    Ok(all)
}

/// Parses the addresses of this host; NULL with a count of 0 means any address.
///
/// # Safety
/// As for [`texts`].
pub(crate) unsafe fn local_addresses(pointer: *const *const c_char, count: usize) -> Result<LocalAddresses, Failure> {
    if pointer.is_null() && count == 0 {
        return Ok(LocalAddresses::Any);
    }
    // SAFETY: as the caller promises.
    let texts = unsafe { texts(pointer, count, "local_addresses") }?;
    let parse = |text: &str| {
        text.parse::<IpAddr>().map_err(|_| {
            Failure::argument(format!(
                "local_addresses contains a text that is not an IP address: {}",
                text.escape_debug()
            ))
        })
    };
    Ok(LocalAddresses::Only(texts.into_iter().map(parse).collect::<Result<HashSet<_>, _>>()?))
}

#[inline]
fn check<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    if pointer.is_null() || !pointer.is_aligned() { Err(unusable_pointer(pointer.is_null(), name)) } else { Ok(()) }
}

#[cold]
fn unusable_pointer(is_null: bool, name: &str) -> Failure {
    Failure::argument(format!("{name} is {}", if is_null { "NULL" } else { "not aligned" }))
}
