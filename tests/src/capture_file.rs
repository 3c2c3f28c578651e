//! Capture files.

/// The header of a capture file (see pcap-savefile(5)) with nanosecond timestamps, of frames of
/// this link type.
pub fn capture_header(link_type: u32) -> Vec<u8> {
    le_words([0xa1b2_3c4d, 0x0004_0002, 0, 0, 65_535, link_type])
}

/// The record of a frame in it; `nanos` are nanoseconds since 1970.
pub fn capture_record(nanos: u64, frame: &[u8]) -> Vec<u8> {
    let small = |value: u64| u32::try_from(value).expect("a time and a frame that the format can hold");
    let length = small(frame.len() as u64);
    let mut record = le_words([small(nanos / 1_000_000_000), small(nanos % 1_000_000_000), length, length]);
    record.extend(frame);
    record
}

fn le_words<const N: usize>(le_words: [u32; N]) -> Vec<u8> {
    le_words.into_iter().flat_map(u32::to_le_bytes).collect()
}
