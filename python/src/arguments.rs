//! Arguments that Python passes, checked.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use portknock_core::host::Family;
use portknock_core::{LocalAddresses, Timestamp};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyString};

const NANOS: f64 = 1e9;

/// The first number of seconds that is too large for a [`Timestamp`].
const END_OF_TIME: f64 = 18_446_744_073.0;

/// Reads a time since 1970: seconds, or with `ns` nanoseconds.
pub(crate) fn time(value: Borrowed<'_, '_, PyAny>, ns: bool) -> PyResult<Timestamp> {
    if ns {
        return nanoseconds(value);
    }
    let seconds = value.extract()?;
    from_seconds(seconds).ok_or_else(|| invalid_time(seconds))
}

/// Reads a time, if it is a plain float, or a plain int of nanoseconds, and in range: reading these
/// types runs no code of the caller.
#[inline]
pub(crate) fn plain_time(value: Borrowed<'_, '_, PyAny>, ns: bool) -> Option<Timestamp> {
    if ns {
        // Reading a u64 takes twice as long, and times before the year 2262 do not need it.
        let nanos: i64 = value.cast_exact::<PyInt>().ok()?.extract().ok()?;
        return u64::try_from(nanos).ok().map(Timestamp::from_nanos);
    }
    from_seconds(value.cast_exact::<PyFloat>().ok()?.value())
}

/// Converts seconds to the nearest nanosecond; `None` if they are out of range. Subtracts the whole
/// seconds first, so that no digit is lost.
#[inline]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both numbers are in range, and positive")]
#[allow(clippy::cast_precision_loss, reason = "whole seconds are exact")]
fn from_seconds(seconds: f64) -> Option<Timestamp> {
    if !(0.0..END_OF_TIME).contains(&seconds) {
        return None;
    }
    // Through i64, because the processor has an instruction for that conversion.
    let whole = seconds as i64;
    let nanos = ((seconds - whole as f64) * NANOS + 0.5) as i64;
    Some(Timestamp::from_nanos(whole as u64 * 1_000_000_000 + nanos as u64))
}

#[cold]
fn invalid_time(seconds: f64) -> PyErr {
    PyValueError::new_err(format!(
        "{seconds} is not a time: expected seconds since 1970, up to {END_OF_TIME}; for nanoseconds pass ns=True"
    ))
}

fn nanoseconds(value: Borrowed<'_, '_, PyAny>) -> PyResult<Timestamp> {
    match value.extract() {
        Ok(nanos) => Ok(Timestamp::from_nanos(nanos)),
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
            Err(PyValueError::new_err(format!("{} is not a time: expected nanoseconds since 1970", &*value)))
        }
        Err(error) => Err(error),
    }
}

/// Reads a duration in seconds.
pub(crate) fn seconds(value: f64, name: &str) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| PyValueError::new_err(format!("{name} is {value}, expected a number of seconds, as in 5 or 0.5")))
}

/// Reads a whole number in a range.
pub(crate) fn number<T: TryFrom<i64> + PartialOrd + Display>(
    value: &Bound<'_, PyAny>,
    name: &str,
    range: RangeInclusive<T>,
) -> PyResult<T> {
    let invalid = || {
        let (first, last) = (range.start(), range.end());
        PyValueError::new_err(format!("{name} is {value}, expected a number from {first} to {last}"))
    };
    let number = match value.extract::<i64>() {
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => return Err(invalid()),
        result => result?,
    };
    T::try_from(number).ok().filter(|number| range.contains(number)).ok_or_else(invalid)
}

/// Reads an IP address: a text, or an object of `ipaddress`.
pub(crate) fn address(value: &Bound<'_, PyAny>, name: &str) -> PyResult<IpAddr> {
    let text = value.str()?;
    let parsed = text.to_cow()?.parse();
    parsed.map_err(|_| match value.repr() {
        Ok(shown) => PyValueError::new_err(format!("{name}: {shown} is not an IP address")),
        Err(error) => error,
    })
}

/// Reads the addresses of this host; `None` means any address.
pub(crate) fn local_addresses(value: Option<&Bound<'_, PyAny>>) -> PyResult<LocalAddresses> {
    let Some(value) = value else { return Ok(LocalAddresses::Any) };
    if value.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("local_addresses is a list of addresses, not one text"));
    }
    let each = value.try_iter()?.map(|item| address(&item?, "local_addresses"));
    Ok(LocalAddresses::Only(each.collect::<PyResult<_>>()?))
}

pub(crate) fn family(number: i32) -> PyResult<Family> {
    match number {
        0 => Ok(Family::Any),
        4 => Ok(Family::V4),
        6 => Ok(Family::V6),
        _ => Err(PyValueError::new_err(format!("family is {number}, expected 4, 6, or 0 for both"))),
    }
}
