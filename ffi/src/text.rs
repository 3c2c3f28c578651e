//! Text for C.

use std::cell::Cell;
use std::ffi::{CString, c_char};

/// The text with the zero that C wants at its end. A zero inside, which no text of core has, becomes a blank.
pub(crate) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let mut text = error.into_vec();
        text.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
        CString::new(text).unwrap_or_default()
    })
}

/// A text that C reads and that changes later. What C holds on to for too long then shows other text, but stays
/// readable as long as this lives.
#[derive(Default)]
pub(crate) struct ChangingText {
    buffer: Vec<Cell<u8>>,
    /// Those that became too small; each is at most half as large as the next, so that they do not add up.
    outgrown: Vec<Vec<Cell<u8>>>,
}

impl ChangingText {
    /// Changes the text; where to read it.
    pub(crate) fn set(&mut self, text: &str) -> *const c_char {
        let length = text.len() + 1;
        if self.buffer.len() < length {
            let larger = vec![Cell::new(0); length.max(2 * self.buffer.len()).max(64)];
            self.outgrown.push(std::mem::replace(&mut self.buffer, larger));
        }
        // From the end, so that what is read meanwhile ends somewhere.
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
    fn a_zero_inside_does_not_cut_a_text() {
        assert_eq!(c_string("a\0b").as_c_str(), c"a b");
    }

    #[test]
    fn text_that_is_read_too_late_is_still_text() {
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
