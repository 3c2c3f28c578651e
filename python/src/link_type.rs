//! Link types: the formats of frames.

use portknock_core::LinkType;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Names of the link types in Python.
pub(crate) const LINK_TYPES: [(&str, i32); 8] = [
    ("LINKTYPE_NULL", 0),
    ("LINKTYPE_ETHERNET", LINKTYPE_ETHERNET),
    ("LINKTYPE_RAW", 101),
    ("LINKTYPE_LOOP", 108),
    ("LINKTYPE_LINUX_SLL", 113),
    ("LINKTYPE_IPV4", 228),
    ("LINKTYPE_IPV6", 229),
    ("LINKTYPE_LINUX_SLL2", 276),
];

/// The default link type.
pub(crate) const LINKTYPE_ETHERNET: i32 = 1;

pub(crate) fn link_type(number: i32) -> PyResult<LinkType> {
    LinkType::from_dlt(number)
        .ok_or_else(|| PyValueError::new_err(format!("frames of link type {number} cannot be read")))
}
