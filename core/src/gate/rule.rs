//! The expressions of a rule.

use super::message::Attributes;
use super::numbers::*;

// Verdicts.
pub(super) const DROP: u32 = libc::NF_DROP.cast_unsigned();
pub(super) const ACCEPT: u32 = libc::NF_ACCEPT.cast_unsigned();
pub(super) const JUMP: u32 = libc::NFT_JUMP.cast_unsigned();

// The headers from which the offset of a payload counts.
pub(super) const NETWORK: u32 = libc::NFT_PAYLOAD_NETWORK_HEADER.cast_unsigned();
pub(super) const TRANSPORT: u32 = libc::NFT_PAYLOAD_TRANSPORT_HEADER.cast_unsigned();

// Operators of a comparison.
pub(super) const EQUAL: u32 = libc::NFT_CMP_EQ.cast_unsigned();
pub(super) const UNEQUAL: u32 = libc::NFT_CMP_NEQ.cast_unsigned();

// Metadata of a packet.
pub(super) const IIFTYPE: u32 = libc::NFT_META_IIFTYPE.cast_unsigned();
pub(super) const NFPROTO: u32 = libc::NFT_META_NFPROTO.cast_unsigned();
pub(super) const L4PROTO: u32 = libc::NFT_META_L4PROTO.cast_unsigned();

// Replies to a refused packet.
pub(super) const REJECT_TCP_RESET: u32 = libc::NFT_REJECT_TCP_RST.cast_unsigned();
pub(super) const REJECT_ICMPX: u32 = libc::NFT_REJECT_ICMPX_UNREACH.cast_unsigned();
pub(super) const ICMPX_PORT_UNREACHABLE: u8 = low_byte(libc::NFT_REJECT_ICMPX_PORT_UNREACH);

/// The first register of four bytes. A longer value also fills the following registers.
pub(super) const FIRST_REGISTER: u32 = libc::NFT_REG32_00.cast_unsigned();

/// Encodes the expressions of a rule. The kernel evaluates them one after another until one does not
/// hold.
pub(super) struct RuleWriter<'a, 'b>(pub(super) &'a mut Attributes<'b>);

impl RuleWriter<'_, '_> {
    fn expression(&mut self, name: &str, write: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nested(NFTA_LIST_ELEM, |expression| {
            expression.name(NFTA_EXPR_NAME, name);
            expression.nested(NFTA_EXPR_DATA, write);
        });
    }

    /// Loads metadata of the packet.
    pub(super) fn meta(&mut self, key: u32, register: u32) {
        self.expression("meta", |meta| {
            meta.number(NFTA_META_KEY, key);
            meta.number(NFTA_META_DREG, register);
        });
    }

    /// Continues if the transport protocol has this number.
    pub(super) fn protocol(&mut self, number: libc::c_int) {
        self.meta(L4PROTO, FIRST_REGISTER);
        self.compare(EQUAL, &[low_byte(number)]);
    }

    /// Loads bytes of the packet, counted from the header `base`.
    pub(super) fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        self.expression("payload", |payload| {
            payload.number(NFTA_PAYLOAD_DREG, register);
            payload.number(NFTA_PAYLOAD_BASE, base);
            payload.number(NFTA_PAYLOAD_OFFSET, offset);
            payload.number(NFTA_PAYLOAD_LEN, length);
        });
    }

    /// Loads the state of the connection into the first register.
    pub(super) fn ct_state(&mut self) {
        self.expression("ct", |ct| {
            ct.number(NFTA_CT_KEY, libc::NFT_CT_STATE.cast_unsigned());
            ct.number(NFTA_CT_DREG, FIRST_REGISTER);
        });
    }

    /// Clears all bits of the first register that are not in a mask.
    pub(super) fn mask(&mut self, mask: &[u8]) {
        self.expression("bitwise", |bitwise| {
            bitwise.number(NFTA_BITWISE_SREG, FIRST_REGISTER);
            bitwise.number(NFTA_BITWISE_DREG, FIRST_REGISTER);
            bitwise.number(NFTA_BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(0));
            bitwise.nested(NFTA_BITWISE_MASK, |data| data.bytes(NFTA_DATA_VALUE, mask));
            bitwise.nested(NFTA_BITWISE_XOR, |data| data.bytes(NFTA_DATA_VALUE, &vec![0; mask.len()]));
        });
    }

    /// Continues if the comparison of the first register with a value holds.
    pub(super) fn compare(&mut self, operator: u32, value: &[u8]) {
        self.expression("cmp", |cmp| {
            cmp.number(NFTA_CMP_SREG, FIRST_REGISTER);
            cmp.number(NFTA_CMP_OP, operator);
            cmp.nested(NFTA_CMP_DATA, |data| data.bytes(NFTA_DATA_VALUE, value));
        });
    }

    /// Continues if the set contains the value that begins in the first register.
    pub(super) fn lookup(&mut self, set: &str) {
        self.expression("lookup", |lookup| {
            lookup.name(NFTA_LOOKUP_SET, set);
            lookup.number(NFTA_LOOKUP_SREG, FIRST_REGISTER);
        });
    }

    /// Ends the rule with a verdict. A jump names its chain.
    pub(super) fn verdict(&mut self, verdict: u32, chain: Option<&str>) {
        self.expression("immediate", |immediate| {
            immediate.number(NFTA_IMMEDIATE_DREG, libc::NFT_REG_VERDICT.cast_unsigned());
            immediate.nested(NFTA_IMMEDIATE_DATA, |data| {
                data.nested(NFTA_DATA_VERDICT, |inner| {
                    inner.number(NFTA_VERDICT_CODE, verdict);
                    if let Some(chain) = chain {
                        inner.name(NFTA_VERDICT_CHAIN, chain);
                    }
                });
            });
        });
    }

    /// Refuses the packet with a reply.
    pub(super) fn reject(&mut self, kind: u32, code: u8) {
        self.expression("reject", |reject| {
            reject.number(NFTA_REJECT_TYPE, kind);
            reject.bytes(NFTA_REJECT_ICMP_CODE, &[code]);
        });
    }
}
