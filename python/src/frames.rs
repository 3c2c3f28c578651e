//! Frames in Python's objects.

use portknock_core::Timestamp;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyTuple};

use crate::arguments::{plain_time, time};

/// Returns the bytes of a bytes-like object: the object itself, or a copy if its bytes can change.
#[inline]
pub(crate) fn bytes<'py>(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    match value.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.to_owned()),
        Err(_) => copy(value),
    }
}

#[cold]
fn copy<'py>(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    // The stable ABI of Python before 3.11 has no other access to a buffer.
    Ok(PyMemoryView::from(&value)?.call_method0("tobytes")?.cast_into()?)
}

/// Reads a pair of a time and a frame, if both have plain types: reading these runs no code of the
/// caller.
#[inline]
pub(crate) fn plain_pair<'a, 'py>(
    item: &'a Bound<'py, PyAny>,
    ns: bool,
) -> Option<(Timestamp, Borrowed<'a, 'py, PyBytes>)> {
    let pair = item.cast_exact::<PyTuple>().ok().filter(|pair| pair.len() == 2)?;
    let frame = pair.get_borrowed_item(1).ok()?.cast_exact().ok()?;
    Some((plain_time(pair.get_borrowed_item(0).ok()?, ns)?, frame))
}

/// Reads a pair of a time and a frame.
pub(crate) fn pair<'py>(item: &Bound<'py, PyAny>, ns: bool) -> PyResult<(Timestamp, Bound<'py, PyBytes>)> {
    match item.cast::<PyTuple>() {
        Ok(pair) if pair.len() == 2 => Ok((time(pair.get_borrowed_item(0)?, ns)?, bytes(pair.get_borrowed_item(1)?)?)),
        _ => Err(invalid_pair()),
    }
}

#[cold]
fn invalid_pair() -> PyErr {
    PyTypeError::new_err("frames are tuples of a timestamp and a bytes-like object")
}
