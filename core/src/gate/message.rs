//! The messages of nftables' netlink: written for the kernel, and read from its answers.
//!
//! Numbers are those of the kernel's `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and
//! `linux/netfilter/nf_tables.h`.

/// The subsystem of nfnetlink that is nftables.
const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// In a question: all there is.
pub(super) const DUMP: u16 = 0x300;
/// In a change: the thing is made where it does not exist.
pub(super) const CREATE: u16 = 0x400;
/// In a change: it is an error where it exists.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// In a change: it is told to this socket as others hear of it.
pub(super) const ECHO: u16 = 8;
/// In a change: a rule goes behind the others.
pub(super) const APPEND: u16 = 0x800;

const NESTED: u16 = 0x8000;
const HEADER: usize = 16;

/// What a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Kind {
    NewTable = 0,
    GetTable = 1,
    DeleteTable = 2,
    NewChain = 3,
    NewRule = 6,
    GetRule = 7,
    DeleteRule = 8,
    NewSet = 9,
    GetSet = 10,
    NewElement = 12,
    GetElement = 13,
    DeleteElement = 14,
}

/// Messages on their way to the kernel, numbered from 0.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    count: u32,
    /// Where the last message begins.
    last: usize,
}

impl Messages {
    /// The beginning of a transaction, which is number 0; all or nothing of it happens.
    pub(super) fn transaction() -> Self {
        let mut messages = Self::default();
        messages.header(BATCH_BEGIN, REQUEST, 0, NFTABLES);
        messages
    }

    /// The number of the next message.
    pub(super) fn next(&self) -> u32 {
        self.count
    }

    /// Appends a message for a family of tables, with what `write` puts into it.
    pub(super) fn message(&mut self, kind: Kind, flags: u16, family: u8, write: impl FnOnce(&mut Attributes<'_>)) {
        self.last = self.bytes.len();
        self.header(NFTABLES << 8 | kind as u16, REQUEST | flags, family, 0);
        write(&mut Attributes(&mut self.bytes));
        let length = length(&self.bytes[self.last..]);
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// The bytes to send, the last message with a wish for an answer.
    pub(super) fn question(mut self) -> Vec<u8> {
        let flags = self.last + 6..self.last + 8;
        if let Some(field) = self.bytes.get_mut(flags) {
            let asked = u16::from_ne_bytes([field[0], field[1]]) | ACK;
            field.copy_from_slice(&asked.to_ne_bytes());
        }
        self.bytes
    }

    /// The bytes to send, with the end of the transaction.
    pub(super) fn commit(self) -> Vec<u8> {
        let count = self.count;
        let mut end = Self { bytes: self.question(), count, last: 0 };
        end.header(BATCH_END, REQUEST, 0, NFTABLES);
        end.bytes
    }

    /// netlink's header and nfnetlink's; the length is right where nothing follows.
    fn header(&mut self, kind: u16, flags: u16, family: u8, resource: u16) {
        self.bytes.extend(20_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.count += 1;
    }
}

/// Attributes of a message, one after another.
pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |bytes| bytes.extend(value));
    }

    /// A name, with the zero at its end.
    pub(super) fn name(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |bytes| {
            bytes.extend(value.as_bytes());
            bytes.push(0);
        });
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn long(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Attributes within one.
    pub(super) fn nested(&mut self, kind: u16, write: impl FnOnce(&mut Attributes<'_>)) {
        self.attribute(NESTED | kind, |bytes| write(&mut Attributes(bytes)));
    }

    fn attribute(&mut self, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        write(self.0);
        // What is written here is far shorter than the 64 KiB that an attribute can have.
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// What became of the message with this number: 0, or the number of an error.
    Outcome { number: u32, errno: i32 },
    /// The end of a list.
    Done,
    /// A thing, with its attributes.
    Thing(&'a [u8]),
}

/// The messages in what was received, up to the first that is broken.
pub(super) fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(native_u32(bytes, 0)?).ok()?;
        let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        Some(match kind {
            ERROR => {
                let errno = native_u32(message, HEADER)?.cast_signed().saturating_neg();
                Answer::Outcome { number: native_u32(message, 8)?, errno }
            }
            DONE => Answer::Done,
            _ => Answer::Thing(message.get(HEADER + 4..)?),
        })
    })
}

/// The value of the first attribute of this kind.
pub(super) fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    all(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// The attributes, each with its kind, up to the first that is broken.
pub(super) fn all(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // Without the flags for nested ones and for the order of bytes.
        Some((u16::from_ne_bytes([c, d]) & 0x3fff, value))
    })
}

pub(super) fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*value.first_chunk()?))
}

pub(super) fn long(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*value.first_chunk()?))
}

fn native_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut messages = Messages::transaction();
        assert_eq!(messages.next(), 1);
        messages.message(Kind::NewSet, CREATE, 1, |set| {
            set.name(1, "portknock");
            set.nested(9, |inner| inner.number(1, 7));
            set.long(3, u64::MAX);
        });
        let bytes = messages.commit();
        assert_eq!(bytes.len() % 4, 0);
        let things: Vec<_> = answers(&bytes).collect();
        let [Answer::Thing([]), Answer::Thing(set), Answer::Thing([])] = things[..] else { panic!("{things:?}") };
        assert_eq!(find(set, 1), Some(&b"portknock\0"[..]));
        assert_eq!(find(set, 9).and_then(|inner| find(inner, 1)).and_then(number), Some(7));
        assert_eq!(find(set, 3).and_then(long), Some(u64::MAX));
        assert_eq!(find(set, 2), None);
    }

    #[test]
    fn outcomes_have_the_number_of_their_message() {
        let mut bytes = Vec::new();
        for field in [36_u32, 2, 5, 0, (-17_i32).cast_unsigned()] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.resize(36, 0);
        bytes.extend([16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let found: Vec<_> = answers(&bytes).collect();
        assert_eq!(found, [Answer::Outcome { number: 5, errno: 17 }, Answer::Done]);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for answer in answers(&bytes) {
                if let Answer::Thing(attributes) = answer {
                    prop_assert!(all(attributes).count() <= attributes.len() / 4);
                }
            }
            prop_assert!(all(&bytes).count() <= bytes.len() / 4);
            prop_assert!(answers(&bytes).count() <= bytes.len() / HEADER);
        }
    }
}
