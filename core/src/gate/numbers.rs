//! The numbers of nftables' netlink messages, by the names of the kernel's linux/netlink.h,
//! linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h. libc has all of them except the
//! attributes.

// The types of a message's attributes.
pub(super) const NFTA_TABLE_NAME: u16 = 1;
pub(super) const NFTA_TABLE_FLAGS: u16 = 2;
pub(super) const NFTA_TABLE_USERDATA: u16 = 6;
pub(super) const NFTA_CHAIN_TABLE: u16 = 1;
pub(super) const NFTA_CHAIN_NAME: u16 = 3;
pub(super) const NFTA_CHAIN_HOOK: u16 = 4;
pub(super) const NFTA_CHAIN_POLICY: u16 = 5;
pub(super) const NFTA_CHAIN_TYPE: u16 = 7;
pub(super) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(super) const NFTA_HOOK_PRIORITY: u16 = 2;
pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_HANDLE: u16 = 3;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(super) const NFTA_SET_TABLE: u16 = 1;
pub(super) const NFTA_SET_NAME: u16 = 2;
pub(super) const NFTA_SET_FLAGS: u16 = 3;
pub(super) const NFTA_SET_KEY_TYPE: u16 = 4;
pub(super) const NFTA_SET_KEY_LEN: u16 = 5;
pub(super) const NFTA_SET_DESC: u16 = 9;
pub(super) const NFTA_SET_ID: u16 = 10;
pub(super) const NFTA_SET_DESC_SIZE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(super) const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
pub(super) const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
pub(super) const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_VERDICT_CHAIN: u16 = 2;
pub(super) const NFTA_EXPR_NAME: u16 = 1;
pub(super) const NFTA_EXPR_DATA: u16 = 2;
pub(super) const NFTA_META_DREG: u16 = 1;
pub(super) const NFTA_META_KEY: u16 = 2;
pub(super) const NFTA_PAYLOAD_DREG: u16 = 1;
pub(super) const NFTA_PAYLOAD_BASE: u16 = 2;
pub(super) const NFTA_PAYLOAD_OFFSET: u16 = 3;
pub(super) const NFTA_PAYLOAD_LEN: u16 = 4;
pub(super) const NFTA_CT_DREG: u16 = 1;
pub(super) const NFTA_CT_KEY: u16 = 2;
pub(super) const NFTA_BITWISE_SREG: u16 = 1;
pub(super) const NFTA_BITWISE_DREG: u16 = 2;
pub(super) const NFTA_BITWISE_LEN: u16 = 3;
pub(super) const NFTA_BITWISE_MASK: u16 = 4;
pub(super) const NFTA_BITWISE_XOR: u16 = 5;
pub(super) const NFTA_CMP_SREG: u16 = 1;
pub(super) const NFTA_CMP_OP: u16 = 2;
pub(super) const NFTA_CMP_DATA: u16 = 3;
pub(super) const NFTA_LOOKUP_SET: u16 = 1;
pub(super) const NFTA_LOOKUP_SREG: u16 = 2;
pub(super) const NFTA_IMMEDIATE_DREG: u16 = 1;
pub(super) const NFTA_IMMEDIATE_DATA: u16 = 2;
pub(super) const NFTA_REJECT_TYPE: u16 = 1;
pub(super) const NFTA_REJECT_ICMP_CODE: u16 = 2;

/// The flag of a table that exists and filters nothing.
pub(super) const NFT_TABLE_F_DORMANT: u32 = 1;

// Flags of a set: its elements have timeouts, it cannot be changed, it is a map.
pub(super) const NFT_SET_TIMEOUT: u32 = libc::NFT_SET_TIMEOUT.cast_unsigned();
pub(super) const NFT_SET_CONSTANT: u32 = libc::NFT_SET_CONSTANT.cast_unsigned();
pub(super) const NFT_SET_MAP: u32 = libc::NFT_SET_MAP.cast_unsigned();

// Bits of a connection's state (linux/netfilter/nf_conntrack_common.h, `NF_CT_STATE_BIT`).
pub(super) const CT_STATE_ESTABLISHED: u32 = 2;
pub(super) const CT_STATE_RELATED: u32 = 4;

// The types of messages, without the subsystem, and of the messages that begin and end a
// transaction.
pub(super) const NFT_MSG_NEWTABLE: u16 = low_half(libc::NFT_MSG_NEWTABLE);
pub(super) const NFT_MSG_GETTABLE: u16 = low_half(libc::NFT_MSG_GETTABLE);
pub(super) const NFT_MSG_DELTABLE: u16 = low_half(libc::NFT_MSG_DELTABLE);
pub(super) const NFT_MSG_NEWCHAIN: u16 = low_half(libc::NFT_MSG_NEWCHAIN);
pub(super) const NFT_MSG_NEWRULE: u16 = low_half(libc::NFT_MSG_NEWRULE);
pub(super) const NFT_MSG_GETRULE: u16 = low_half(libc::NFT_MSG_GETRULE);
pub(super) const NFT_MSG_DELRULE: u16 = low_half(libc::NFT_MSG_DELRULE);
pub(super) const NFT_MSG_NEWSET: u16 = low_half(libc::NFT_MSG_NEWSET);
pub(super) const NFT_MSG_GETSET: u16 = low_half(libc::NFT_MSG_GETSET);
pub(super) const NFT_MSG_NEWSETELEM: u16 = low_half(libc::NFT_MSG_NEWSETELEM);
pub(super) const NFT_MSG_GETSETELEM: u16 = low_half(libc::NFT_MSG_GETSETELEM);
pub(super) const NFT_MSG_DELSETELEM: u16 = low_half(libc::NFT_MSG_DELSETELEM);
pub(super) const NFNL_SUBSYS_NFTABLES: u16 = low_half(libc::NFNL_SUBSYS_NFTABLES);
pub(super) const NFNL_MSG_BATCH_BEGIN: u16 = low_half(libc::NFNL_MSG_BATCH_BEGIN);
pub(super) const NFNL_MSG_BATCH_END: u16 = low_half(libc::NFNL_MSG_BATCH_END);
pub(super) const NLMSG_ERROR: u16 = low_half(libc::NLMSG_ERROR);
pub(super) const NLMSG_DONE: u16 = low_half(libc::NLMSG_DONE);

// Flags of a message.
pub(super) const NLM_F_REQUEST: u16 = low_half(libc::NLM_F_REQUEST);
pub(super) const NLM_F_ACK: u16 = low_half(libc::NLM_F_ACK);
/// In a query: the kernel returns all objects.
pub(super) const NLM_F_DUMP: u16 = low_half(libc::NLM_F_DUMP);
/// In a change: the kernel creates the object if it does not exist.
pub(super) const NLM_F_CREATE: u16 = low_half(libc::NLM_F_CREATE);
/// In a change: the message fails if the object exists.
pub(super) const NLM_F_EXCL: u16 = low_half(libc::NLM_F_EXCL);
/// In a change: the kernel sends this socket the notification that other sockets get.
pub(super) const NLM_F_ECHO: u16 = low_half(libc::NLM_F_ECHO);
/// In a change: the kernel adds a rule after the others.
pub(super) const NLM_F_APPEND: u16 = low_half(libc::NLM_F_APPEND);

/// The flag of an attribute that consists of attributes.
pub(super) const NLA_F_NESTED: u16 = low_half(libc::NLA_F_NESTED);
/// Mask of an attribute's type, without its flags.
pub(super) const NLA_TYPE_MASK: u16 = low_half(libc::NLA_TYPE_MASK);

/// Returns the lower two bytes, the size of the number's field in a message.
const fn low_half(number: libc::c_int) -> u16 {
    let [low, high, ..] = number.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// Returns the lowest byte of a number that fits into one byte.
pub(super) const fn low_byte(number: libc::c_int) -> u8 {
    number.to_le_bytes()[0]
}
