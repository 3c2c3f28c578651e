//! Frames out of Python's objects.

use portknock_core::Timestamp;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyTuple};

use crate::arguments::time;

/// The bytes of a bytes-like object: itself, or a copy where its bytes can change.
#[inline]
pub(crate) fn bytes<'py>(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    match value.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.to_owned()),
        Err(_) => copy(value),
    }
}

#[cold]
fn copy<'py>(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    // The stable interface of Python before 3.11 has no other way to a buffer.
    Ok(PyMemoryView::from(&value)?.call_method0("tobytes")?.cast_into()?)
}

/// A pair of a time and a frame.
#[inline]
pub(crate) fn pair<'py>(item: &Bound<'py, PyAny>, ns: bool) -> PyResult<(Timestamp, Bound<'py, PyBytes>)> {
    let pair = match item.cast_exact::<PyTuple>() {
        Ok(pair) => pair,
        Err(_) => item.cast::<PyTuple>().map_err(|_| no_pair())?,
    };
    if pair.len() != 2 {
        return Err(no_pair());
    }
    Ok((time(pair.get_borrowed_item(0)?, ns)?, bytes(pair.get_borrowed_item(1)?)?))
}

#[cold]
fn no_pair() -> PyErr {
    PyTypeError::new_err("frames are tuples of a timestamp and a bytes-like object")
}
