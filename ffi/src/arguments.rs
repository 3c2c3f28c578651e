//! What comes in from C, checked as far as it can be.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr, c_char};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use portknock_core::LocalAddresses;

use crate::error::Failure;

/// What a pointer points to.
///
/// # Safety
/// The pointer is NULL or points to a `T` that nobody changes or frees during the call.
pub(crate) unsafe fn handle<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    check(pointer, name)?;
    // SAFETY: it is neither NULL nor misaligned, and the caller promises the rest.
    Ok(unsafe { &*pointer })
}

/// A place for a result.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Puts `nothing` there, so that it is never left undefined.
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
        // SAFETY: it was written before, and can be during the whole call.
        unsafe { self.0.write(value) };
    }
}

impl<T> Out<*mut T> {
    /// Hands a new handle to its owner.
    pub(crate) fn give(&self, value: T) {
        self.set(Box::into_raw(Box::new(value)));
    }
}

/// The bytes that are there.
///
/// # Safety
/// The pointer is NULL or points to `length` bytes that nobody changes or frees during the call.
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

/// The bytes of a text.
///
/// # Safety
/// The pointer is NULL or points to bytes up to a zero, which nobody changes or frees during the call.
unsafe fn c_str<'a>(pointer: *const c_char, name: &str) -> Result<&'a CStr, Failure> {
    check(pointer, name)?;
    // SAFETY: it is not NULL, and the caller promises the rest.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// A text.
///
/// # Safety
/// As for [`c_str`].
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Failure> {
    // SAFETY: as the caller promises.
    let text = unsafe { c_str(pointer, name) }?;
    text.to_str().map_err(|error| Failure::argument(format!("{name} is not UTF-8: {error}")))
}

/// The name of a file, in whatever encoding.
///
/// # Safety
/// As for [`c_str`].
pub(crate) unsafe fn path<'a>(pointer: *const c_char, name: &str) -> Result<&'a Path, Failure> {
    // SAFETY: as the caller promises.
    let text = unsafe { c_str(pointer, name) }?;
    Ok(Path::new(OsStr::from_bytes(text.to_bytes())))
}

/// An address; `None` for NULL.
///
/// # Safety
/// As for [`c_str`].
pub(crate) unsafe fn address(pointer: *const c_char, name: &str) -> Result<Option<IpAddr>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let text = unsafe { text(pointer, name) }?;
    text.parse().map(Some).map_err(|_| Failure::argument(format!("{name} is no IP address: {}", text.escape_debug())))
}

/// Texts.
///
/// # Safety
/// The pointer is NULL or points to `count` pointers, each as for [`c_str`], which nobody changes during the call.
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
        // SAFETY: there are `count` of them.
        let at = unsafe { pointer.add(i) };
        // SAFETY: so this one can be read.
        let one = unsafe { at.read() };
        // SAFETY: as the caller promises.
        all.push(unsafe { text(one, &format!("{name}[{i}]")) }?);
    }
    Ok(all)
}

/// The machine's addresses; NULL and a count of 0 mean that any address is.
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
            Failure::argument(format!("local_addresses has something that is no IP address: {}", text.escape_debug()))
        })
    };
    Ok(LocalAddresses::Only(texts.into_iter().map(parse).collect::<Result<HashSet<_>, _>>()?))
}

#[inline]
fn check<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    if pointer.is_null() || !pointer.is_aligned() { Err(no_pointer(pointer.is_null(), name)) } else { Ok(()) }
}

#[cold]
fn no_pointer(is_null: bool, name: &str) -> Failure {
    Failure::argument(format!("{name} is {}", if is_null { "NULL" } else { "not aligned" }))
}
