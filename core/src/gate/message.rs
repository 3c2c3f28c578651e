//! The messages of nftables' netlink protocol: encoding of requests and decoding of the kernel's
//! replies. See linux/netlink.h, linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.

use super::numbers::*;

/// Length of netlink's header, in bytes.
const HEADER: usize = 16;

/// The type of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Kind {
    NewTable = NFT_MSG_NEWTABLE,
    GetTable = NFT_MSG_GETTABLE,
    DeleteTable = NFT_MSG_DELTABLE,
    NewChain = NFT_MSG_NEWCHAIN,
    NewRule = NFT_MSG_NEWRULE,
    GetRule = NFT_MSG_GETRULE,
    DeleteRule = NFT_MSG_DELRULE,
    NewSet = NFT_MSG_NEWSET,
    GetSet = NFT_MSG_GETSET,
    NewElement = NFT_MSG_NEWSETELEM,
    GetElement = NFT_MSG_GETSETELEM,
    DeleteElement = NFT_MSG_DELSETELEM,
}

/// Messages to send to the kernel, numbered from 0.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    count: u32,
    /// Offset of the last message in `bytes`.
    last: usize,
}

impl Messages {
    /// Begins a transaction. The message that begins it has the number 0. The kernel makes all
    /// changes of a transaction or none.
    pub(super) fn transaction() -> Self {
        let mut messages = Self::default();
        messages.header(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, NFNL_SUBSYS_NFTABLES);
        messages
    }

    /// The number of the next message.
    pub(super) fn next(&self) -> u32 {
        self.count
    }

    /// Appends a message for a family of tables, with the attributes that `write` adds.
    pub(super) fn message(&mut self, kind: Kind, flags: u16, family: u8, write: impl FnOnce(&mut Attributes<'_>)) {
        self.last = self.bytes.len();
        self.header(NFNL_SUBSYS_NFTABLES << 8 | kind as u16, NLM_F_REQUEST | flags, family, 0);
        write(&mut Attributes(&mut self.bytes));
        let length = length(&self.bytes[self.last..]);
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Returns the bytes to send. The last message requests an acknowledgement.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        let flags = self.last + 6..self.last + 8;
        if let Some(field) = self.bytes.get_mut(flags) {
            let with_ack = u16::from_ne_bytes([field[0], field[1]]) | NLM_F_ACK;
            field.copy_from_slice(&with_ack.to_ne_bytes());
        }
        self.bytes
    }

    /// Returns the bytes to send, with the end of the transaction.
    pub(super) fn commit(self) -> Vec<u8> {
        let count = self.count;
        let mut end = Self { bytes: self.into_bytes(), count, last: 0 };
        end.header(NFNL_MSG_BATCH_END, NLM_F_REQUEST, 0, NFNL_SUBSYS_NFTABLES);
        end.bytes
    }

    /// Appends netlink's header and nfnetlink's. The length in it is that of a message without
    /// attributes.
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

/// Encodes the attributes of a message, one after another.
pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |bytes| bytes.extend(value));
    }

    /// Appends a name and a zero byte.
    pub(super) fn name(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |bytes| {
            bytes.extend(value.as_bytes());
            bytes.push(0);
        });
    }

    /// Appends a number of four bytes.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Appends a number of eight bytes.
    pub(super) fn long(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Appends an attribute that consists of the attributes that `write` adds.
    pub(super) fn nested(&mut self, kind: u16, write: impl FnOnce(&mut Attributes<'_>)) {
        self.attribute(NLA_F_NESTED | kind, |bytes| write(&mut Attributes(bytes)));
    }

    fn attribute(&mut self, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        write(self.0);
        // All attributes here are far shorter than an attribute's maximum of 64 KiB.
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
pub(super) enum Reply<'a> {
    /// The result of the message with this number. `errno` is 0 after a success.
    Ack { number: u32, errno: i32 },
    /// The end of a list.
    Done,
    /// The attributes of an object.
    Object(&'a [u8]),
}

/// Decodes received messages, up to the first invalid one.
pub(super) fn replies(mut bytes: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(native_u32(bytes, 0)?).ok()?;
        let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        Some(match kind {
            NLMSG_ERROR => {
                let errno = native_u32(message, HEADER)?.cast_signed().saturating_neg();
                Reply::Ack { number: native_u32(message, 8)?, errno }
            }
            NLMSG_DONE => Reply::Done,
            _ => Reply::Object(message.get(HEADER + 4..)?),
        })
    })
}

/// Returns the value of the first attribute of this type.
pub(super) fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    all(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Decodes attributes, each with its type and value, up to the first invalid one.
pub(super) fn all(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // Without the flags for nested attributes and for the byte order.
        Some((u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK, value))
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
    fn encoded_messages_can_be_decoded() {
        let mut messages = Messages::transaction();
        assert_eq!(messages.next(), 1);
        messages.message(Kind::NewSet, NLM_F_CREATE, 1, |set| {
            set.name(1, "portknock");
            set.nested(9, |inner| inner.number(1, 7));
            set.long(3, u64::MAX);
        });
        let bytes = messages.commit();
        assert_eq!(bytes.len() % 4, 0);
        let objects: Vec<_> = replies(&bytes).collect();
        let [Reply::Object([]), Reply::Object(set), Reply::Object([])] = objects[..] else { panic!("{objects:?}") };
        assert_eq!(find(set, 1), Some(&b"portknock\0"[..]));
        assert_eq!(find(set, 9).and_then(|inner| find(inner, 1)).and_then(number), Some(7));
        assert_eq!(find(set, 3).and_then(long), Some(u64::MAX));
        assert_eq!(find(set, 2), None);
    }

    #[test]
    fn acknowledgements_have_the_number_of_their_message() {
        let mut bytes = Vec::new();
        for field in [36_u32, 2, 5, 0, (-17_i32).cast_unsigned()] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.resize(36, 0);
        bytes.extend([16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let found: Vec<_> = replies(&bytes).collect();
        assert_eq!(found, [Reply::Ack { number: 5, errno: 17 }, Reply::Done]);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for reply in replies(&bytes) {
                if let Reply::Object(attributes) = reply {
                    prop_assert!(all(attributes).count() <= attributes.len() / 4);
                }
            }
            prop_assert!(all(&bytes).count() <= bytes.len() / 4);
            prop_assert!(replies(&bytes).count() <= bytes.len() / HEADER);
        }
    }
}
