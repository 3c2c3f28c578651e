//! The boundary that every call crosses: panics and failures become statuses and errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use portknock_core::Printable;

use crate::arguments::handle;
use crate::error::{Failure, portknock_error};
use crate::status::portknock_status::{self, PORTKNOCK_ERR_ARGUMENT, PORTKNOCK_ERR_PANICKED};

/// Runs the body of a call. A panic becomes a failure. A failure becomes its status and, if `err`
/// is not NULL, an error that the caller owns.
///
/// # Safety
/// `err` is NULL or can be written.
pub(crate) unsafe fn call(
    err: *mut *mut portknock_error,
    body: impl FnOnce() -> Result<portknock_status, Failure>,
) -> portknock_status {
    if !err.is_aligned() {
        return PORTKNOCK_ERR_ARGUMENT;
    }
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
    let (status, error) = match outcome {
        Ok(status) => (status, ptr::null_mut()),
        Err(failure) if err.is_null() => (failure.status(), ptr::null_mut()),
        Err(failure) => (failure.status(), failure.into_raw()),
    };
    if !err.is_null() {
        // SAFETY: it is not NULL, so the caller promises that it can be written.
        unsafe { err.write(error) };
    }
    status
}

/// Runs the body of a call that cannot report failures. Returns `otherwise` if it panics.
fn plain_call<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// Reads a property of a handle. Returns `otherwise` for NULL.
///
/// # Safety
/// As for [`handle`].
pub(crate) unsafe fn inspect<T, R: Copy>(pointer: *const T, otherwise: R, body: impl FnOnce(&T) -> R) -> R {
    // SAFETY: as the caller promises.
    plain_call(otherwise, || unsafe { handle(pointer, "") }.map_or(otherwise, body))
}

/// Frees a handle. Does nothing for NULL.
///
/// # Safety
/// The pointer is NULL or was made by `Box::into_raw`, and is not used any more.
pub(crate) unsafe fn free<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: as the caller promises.
        plain_call((), || drop(unsafe { Box::from_raw(pointer) }));
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("no message");
    Failure::new(
        PORTKNOCK_ERR_PANICKED,
        format!("internal error in libportknock; please report it: {}", Printable(text)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{portknock_error_free, portknock_error_message, portknock_error_status};
    use crate::guarded::Guarded;
    use crate::status::portknock_status::PORTKNOCK_OK;
    use std::ffi::CStr;

    /// Makes a call with an error to fill. Returns its status and the error's message.
    fn outcome(body: impl FnOnce() -> Result<portknock_status, Failure>) -> (portknock_status, Option<String>) {
        let mut err = ptr::without_provenance_mut(1);
        // SAFETY: `err` can be written.
        let status = unsafe { call(&raw mut err, body) };
        if err.is_null() {
            return (status, None);
        }
        // SAFETY: the call wrote an error there.
        assert_eq!(unsafe { portknock_error_status(err) }, status);
        // SAFETY: as before.
        let message = unsafe { portknock_error_message(err) };
        // SAFETY: a message is a text, and its error is not freed yet.
        let message = unsafe { CStr::from_ptr(message) }.to_str().unwrap().to_owned();
        // SAFETY: this function owns the error and does not use it any more.
        unsafe { portknock_error_free(err) };
        (status, Some(message))
    }

    #[test]
    fn a_panic_becomes_an_error_and_its_handle_stays_broken() {
        assert_eq!(outcome(|| Ok(PORTKNOCK_OK)), (PORTKNOCK_OK, None));
        let handle = Guarded::new(1);
        let (status, message) = outcome(|| handle.with(|_| panic!("number\n{}", 7)));
        assert_eq!(status, PORTKNOCK_ERR_PANICKED);
        assert!(message.unwrap().ends_with("please report it: number\\x0a7"));
        for _ in 0..2 {
            let (status, message) = outcome(|| handle.with(|_| PORTKNOCK_OK));
            assert_eq!(status, PORTKNOCK_ERR_PANICKED);
            assert!(message.unwrap().contains("can only be freed"));
        }
        // SAFETY: NULL is allowed.
        let status = unsafe { call(ptr::null_mut(), || panic!("no error requested")) };
        assert_eq!(status, PORTKNOCK_ERR_PANICKED);
        assert_eq!(plain_call(-1, || panic!("x")), -1);
    }
}
