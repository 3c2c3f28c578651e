//! Texts for C.

use std::cell::Cell;
use std::ffi::{CString, c_char};

/// Appends the zero that ends a C string. A zero inside, which no text of core contains, becomes a
/// space.
pub(crate) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let mut text = error.into_vec();
        text.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
        CString::new(text).unwrap_or_default()
    })
}

/// A text that C reads and that changes later. A pointer that C keeps for too long points to
/// another text, which stays readable as long as this value lives.
#[derive(Default)]
pub(crate) struct ChangingText {
    buffer: Vec<Cell<u8>>,
    /// Buffers that became too small. Each is at most half as large as the next, so their sum is
    /// bounded.
    outgrown: Vec<Vec<Cell<u8>>>,
}

impl ChangingText {
    /// Changes the text. Returns the pointer for C.
    pub(crate) fn set(&mut self, text: &str) -> *const c_char {
        let length = text.len() + 1;
        if self.buffer.len() < length {
            let larger = vec![Cell::new(0); length.max(2 * self.buffer.len()).max(64)];
            self.outgrown.push(std::mem::replace(&mut self.buffer, larger));
        }
        // The final zero comes first, so that a text that C reads meanwhile ends.
        self.buffer[text.len()].set(0);
        for (cell, byte) in self.buffer.iter().zip(text.bytes()) {
            cell.set(byte);
        }
        self.buffer.as_ptr().cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn a_zero_inside_becomes_a_space() {
        assert_eq!(c_string("a\0b").as_c_str(), c"a b");
    }

    #[test]
    fn a_text_that_c_reads_too_late_is_valid() {
        let mut text = ChangingText::default();
        let long = "x".repeat(10_000);
        let early = text.set("first");
        let late = text.set(&long);
        text.set("");
        for pointer in [early, late] {
            // SAFETY: the buffers live as long as `text`, and end with zeros.
            let read = unsafe { CStr::from_ptr(pointer) };
            assert!([c"first", c""].contains(&read), "{read:?}");
        }
    }
}
