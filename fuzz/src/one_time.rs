//! Files of one-time sequences: each sequence is used once, by a mark on its line.

use std::fs;
use std::path::Path;

use portknock_core::internals::{OneTimeFile, unused_sequences};

use crate::scratch::with_file;

/// Lists in several states of use.
pub fn seeds() -> Vec<Vec<u8>> {
    ["1,2,3\n4,5:udp,6\n", "# mine\n\n 1,2,3\r\n#9,9,9\n4:tcp,5:udp # later\n\t7,8", " 1,2\n 3,70000\n", ""]
        .map(|text| text.as_bytes().to_vec())
        .into()
}

/// Consumes all sequences of the file with these bytes.
pub fn check(bytes: &[u8]) {
    with_file(bytes, |path| use_up(path, bytes));
}

fn use_up(path: &Path, bytes: &[u8]) {
    let unused = unused_sequences(path);
    let mut file = match (OneTimeFile::open(path), &unused) {
        (Ok(file), Ok(_)) => file,
        (Err(_), Err(_)) => return,
        (file, _) => panic!("{file:?} of {unused:?}"),
    };
    let mut before = bytes.to_vec();
    for sequence in unused.expect("sequences") {
        assert_eq!(file.current(), Some(&sequence));
        file.mark_used().expect("the line is marked");
        let after = fs::read(path).expect("the file is read");
        // The mark replaces a space at the beginning of the line, or is inserted before the line.
        let at = before.iter().zip(&after).take_while(|(old, new)| old == new).count();
        let (mark, rest) = after[at..].split_first().expect("a mark");
        assert_eq!(*mark, b'#');
        let is_replaced = rest == &before[at + 1..] && before[at].is_ascii_whitespace();
        assert!(is_replaced || rest == &before[at..], "{before:?} became {after:?}");
        before = after;
        let next = file.advance().expect("the next line is read").cloned();
        assert_eq!(unused_sequences(path).expect("the file is read").first(), next.as_ref());
    }
    assert_eq!(file.current(), None);
}
