//! The connection between the daemon and the reader process, with hostile bytes from either end.

use portknock_core::reader::fuzzing::{check_daemon, check_reader, daemon_seeds, reader_seeds};

/// The end that receives the bytes of an input, as its first byte.
const DAEMON: u8 = 0;
const READER: u8 = 1;

/// Messages in both directions.
pub fn seeds() -> Vec<Vec<u8>> {
    let with = |end: u8| move |input: Vec<u8>| [vec![end], input].concat();
    daemon_seeds().into_iter().map(with(DAEMON)).chain(reader_seeds().into_iter().map(with(READER))).collect()
}

/// Lets one end receive the bytes.
pub fn check(bytes: &[u8]) {
    match bytes.split_first() {
        Some((end, bytes)) if end % 2 == READER => check_reader(bytes),
        Some((_, bytes)) => check_daemon(bytes),
        None => {}
    }
}
