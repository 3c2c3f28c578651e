//! The own table: what refuses who has not knocked.
//!
//! ```text
//! table inet portknock {
//!     set open4 { type ipv4_addr . inet_proto . inet_service; flags timeout; size 131072 }
//!     set open6 { type ipv6_addr . inet_proto . inet_service; flags timeout; size 131072 }
//!     set ports { type inet_proto . inet_service; elements = { the doors' ports } }
//!     chain input {
//!         type filter hook input priority filter - 10; policy accept;
//!         meta l4proto . th dport @ports jump gate
//!     }
//!     chain gate {
//!         iiftype loopback accept
//!         meta l4proto tcp tcp flags & (rst | ack) != 0 accept      # reject
//!         meta l4proto udp ct state established,related accept      # reject, with UDP ports
//!         ct state established,related accept                       # drop
//!         ip saddr . meta l4proto . th dport @open4 accept
//!         ip6 saddr . meta l4proto . th dport @open6 accept
//!         meta l4proto tcp reject with tcp reset                    # reject
//!         reject with icmpx port-unreachable                        # reject
//!         drop                                                      # drop
//!     }
//! }
//! ```
//!
//! For networks there are further sets, named by the length of their prefix, with a rule for each:
//!
//! ```text
//!     set open4_24 { type ipv4_addr . inet_proto . inet_service; flags timeout; size 131072 }
//!         ip saddr & 255.255.255.0 . meta l4proto . th dport @open4_24 accept
//! ```
//!
//! An `accept` here only goes on to the chains of other tables. With `reject` TCP needs no connection tracking: a
//! segment with ACK or RST opens nothing, and the kernel answers one that belongs to no connection as it answers for a
//! closed port. So connections from before the table go on, be they tracked or not.

use super::element::port_key;
use super::lengths::{SetOf, set_name};
use super::message::{Attributes, Kind, Messages, find, long, number};
use super::numbers::*;
use super::rule::*;
use crate::config::{GATE_ELEMENTS, OpenPort, Refusal};
use crate::packet::{Protocol, TcpFlags};

/// The number of the family inet.
pub(super) const INET: u8 = low_byte(libc::NFPROTO_INET);
/// The own table's name; its family is `inet`.
pub const TABLE: &str = "portknock";
/// The own table's sets for IPv4 and IPv6.
pub const SETS: [&str; 2] = ["open4", "open6"];
/// What a table's comment begins with where it is our own.
const MARK: &str = "made by portknockd";
const COMMENT: &str = "made by portknockd; portknockd --remove-table removes it";

const PORTS: &str = "ports";
const INPUT: &str = "input";
const GATE: &str = "gate";
/// nft's `filter - 10`.
const PRIORITY: i32 = -10;

/// Where IP and TCP headers have what rules read.
const IPV4_SOURCE: u32 = 12;
const IPV6_SOURCE: u32 = 8;
const DESTINATION_PORT: u32 = 2;
const TCP_FLAGS: u32 = 13;

/// The number of a set's comment, and of a table's, in their `userdata`, which is libnftnl's.
const USERDATA_COMMENT: u8 = 0;

/// nft's numbers of what a key is made of, six bits each.
const INET_PROTO: u32 = 12;
const INET_SERVICE: u32 = 13;
const PORT_TYPE: u32 = INET_PROTO << 6 | INET_SERVICE;
/// The types of the keys of the sets for IPv4 and IPv6.
pub(super) const KEY_TYPES: [u32; 2] = [7 << 12 | PORT_TYPE, 8 << 12 | PORT_TYPE];

/// A rule as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MadeRule {
    /// The chain's name, with the zero at its end.
    chain: Vec<u8>,
    /// The number that it has in the table; one that replaces it has the same.
    handle: u64,
    expressions: Vec<u8>,
}

impl MadeRule {
    /// Of a rule's attributes.
    pub(super) fn of(attributes: &[u8]) -> Option<Self> {
        let [chain, expressions] = [NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS].map(|kind| find(attributes, kind));
        let handle = find(attributes, NFTA_RULE_HANDLE).and_then(long)?;
        Some(Self { chain: chain?.to_vec(), handle, expressions: expressions?.to_vec() })
    }
}

/// Asks for the own table, and for these rules of it.
pub(super) fn ask(rules: &[MadeRule]) -> Messages {
    let mut question = Messages::default();
    question.message(Kind::GetTable, 0, INET, |table| table.name(NFTA_TABLE_NAME, TABLE));
    for MadeRule { chain, handle, .. } in rules {
        question.message(Kind::GetRule, 0, INET, |rule| {
            rule.name(NFTA_RULE_TABLE, TABLE);
            rule.bytes(NFTA_RULE_CHAIN, chain);
            rule.long(NFTA_RULE_HANDLE, *handle);
        });
    }
    question
}

/// Asks for these ports among those that are protected.
pub(super) fn ask_for_ports(ports: &[OpenPort]) -> Messages {
    let mut question = Messages::default();
    for port in ports {
        protected(&mut question, Kind::GetElement, 0, *port);
    }
    question
}

/// The program that made a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Portknock,
    Other,
}

impl Owner {
    /// The owner of a table with these attributes.
    pub(super) fn of(attributes: &[u8]) -> Self {
        match find(attributes, NFTA_TABLE_USERDATA).unwrap_or_default() {
            [USERDATA_COMMENT, _, comment @ ..] if comment.starts_with(MARK.as_bytes()) => Self::Portknock,
            _ => Self::Other,
        }
    }
}

/// True where a table with these attributes is there and does nothing.
pub(super) fn is_dormant(attributes: &[u8]) -> bool {
    find(attributes, NFTA_TABLE_FLAGS).and_then(number).is_some_and(|flags| flags & NFT_TABLE_F_DORMANT != 0)
}

/// Removes the own table with all that is in it.
pub(super) fn remove() -> Messages {
    let mut messages = Messages::transaction();
    messages.message(Kind::DeleteTable, 0, INET, |table| table.name(NFTA_TABLE_NAME, TABLE));
    messages
}

/// Makes the table, or takes over the one that is there: its open ports stay open. The rules are told.
pub(super) fn make(ports: &[OpenPort], sets: &[SetOf], refusal: Refusal) -> Messages {
    let mut messages = Messages::transaction();
    messages.message(Kind::NewTable, NLM_F_CREATE, INET, |table| {
        table.name(NFTA_TABLE_NAME, TABLE);
        table.number(NFTA_TABLE_FLAGS, 0);
        let length = u8::try_from(COMMENT.len() + 1).unwrap_or(u8::MAX);
        let userdata = [&[USERDATA_COMMENT, length], COMMENT.as_bytes(), &[0]].concat();
        table.bytes(NFTA_TABLE_USERDATA, &userdata);
    });
    for (&(which, length), id) in sets.iter().zip(2..) {
        let name = set_name(SETS[which], which, length);
        set(&mut messages, &name, KEY_TYPES[which], [12, 24][which], id, true);
    }
    set(&mut messages, PORTS, PORT_TYPE, 8, 1, false);
    messages.message(Kind::NewChain, NLM_F_CREATE, INET, |chain| {
        chain.name(NFTA_CHAIN_TABLE, TABLE);
        chain.name(NFTA_CHAIN_NAME, INPUT);
        chain.name(NFTA_CHAIN_TYPE, "filter");
        chain.number(NFTA_CHAIN_POLICY, ACCEPT);
        chain.nested(NFTA_CHAIN_HOOK, |hook| {
            hook.number(NFTA_HOOK_HOOKNUM, libc::NF_INET_LOCAL_IN.cast_unsigned());
            hook.number(NFTA_HOOK_PRIORITY, PRIORITY.cast_unsigned());
        });
    });
    messages.message(Kind::NewChain, NLM_F_CREATE, INET, |chain| {
        chain.name(NFTA_CHAIN_TABLE, TABLE);
        chain.name(NFTA_CHAIN_NAME, GATE);
    });
    // What a table of an earlier configuration has.
    messages.message(Kind::DeleteRule, 0, INET, |rules| rules.name(NFTA_RULE_TABLE, TABLE));
    messages.message(Kind::DeleteElement, 0, INET, |all| {
        all.name(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        all.name(NFTA_SET_ELEM_LIST_SET, PORTS);
    });
    for port in ports {
        protected(&mut messages, Kind::NewElement, NLM_F_CREATE, *port);
    }
    rules(&mut messages, ports, sets, refusal);
    messages
}

/// A message about a port among those that are protected.
fn protected(messages: &mut Messages, kind: Kind, flags: u16, port: OpenPort) {
    messages.message(kind, flags, INET, |element| {
        element.name(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        element.name(NFTA_SET_ELEM_LIST_SET, PORTS);
        key(element, &port_key(port), |_| {});
    });
}

/// One element with its key, and what `more` puts beside it.
pub(super) fn key(message: &mut Attributes<'_>, key: &[u8], more: impl FnOnce(&mut Attributes<'_>)) {
    message.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
        list.nested(NFTA_LIST_ELEM, |element| {
            element.nested(NFTA_SET_ELEM_KEY, |data| data.bytes(NFTA_DATA_VALUE, key));
            more(element);
        });
    });
}

fn set(messages: &mut Messages, name: &str, key_type: u32, key_length: u32, id: u32, timeout: bool) {
    messages.message(Kind::NewSet, NLM_F_CREATE, INET, |set| {
        set.name(NFTA_SET_TABLE, TABLE);
        set.name(NFTA_SET_NAME, name);
        set.number(NFTA_SET_FLAGS, if timeout { NFT_SET_TIMEOUT } else { 0 });
        set.number(NFTA_SET_KEY_TYPE, key_type);
        set.number(NFTA_SET_KEY_LEN, key_length);
        set.number(NFTA_SET_ID, id);
        if timeout {
            set.nested(NFTA_SET_DESC, |description| description.number(NFTA_SET_DESC_SIZE, GATE_ELEMENTS));
        }
    });
}

fn rules(messages: &mut Messages, ports: &[OpenPort], sets: &[SetOf], refusal: Refusal) {
    let mut rule = |chain, write: &dyn Fn(&mut RuleWriter<'_, '_>)| {
        messages.message(Kind::NewRule, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ECHO, INET, |rule| {
            rule.name(NFTA_RULE_TABLE, TABLE);
            rule.name(NFTA_RULE_CHAIN, chain);
            rule.nested(NFTA_RULE_EXPRESSIONS, |list| write(&mut RuleWriter(list)));
        });
    };
    rule(INPUT, &|rule| {
        rule.meta(L4PROTO, FIRST_REGISTER);
        rule.payload(TRANSPORT, DESTINATION_PORT, 2, FIRST_REGISTER + 1);
        rule.lookup(PORTS);
        rule.verdict(JUMP, Some(GATE));
    });
    rule(GATE, &|rule| {
        rule.meta(IIFTYPE, FIRST_REGISTER);
        rule.compare(EQUAL, &libc::ARPHRD_LOOPBACK.to_ne_bytes());
        rule.verdict(ACCEPT, None);
    });
    let established = |rule: &mut RuleWriter<'_, '_>| {
        rule.ct_state();
        rule.mask(&(CT_STATE_ESTABLISHED | CT_STATE_RELATED).to_ne_bytes());
        rule.compare(UNEQUAL, &0_u32.to_ne_bytes());
        rule.verdict(ACCEPT, None);
    };
    match refusal {
        Refusal::Reject => {
            rule(GATE, &|rule| {
                rule.protocol(libc::IPPROTO_TCP);
                rule.payload(TRANSPORT, TCP_FLAGS, 1, FIRST_REGISTER);
                rule.mask(&[(TcpFlags::RST | TcpFlags::ACK).bits()]);
                rule.compare(UNEQUAL, &[0]);
                rule.verdict(ACCEPT, None);
            });
            // Connection tracking costs every packet of the host, so it is used where it has to be.
            if ports.iter().any(|port| port.protocol == Protocol::Udp) {
                rule(GATE, &|rule| {
                    rule.protocol(libc::IPPROTO_UDP);
                    established(rule);
                });
            }
        }
        Refusal::Drop => rule(GATE, &|rule| established(rule)),
    }
    for &(which, prefix) in sets {
        let (nfproto, offset, length) =
            [(libc::NFPROTO_IPV4, IPV4_SOURCE, 4_u32), (libc::NFPROTO_IPV6, IPV6_SOURCE, 16)][which];
        rule(GATE, &|rule| {
            rule.meta(NFPROTO, FIRST_REGISTER);
            rule.compare(EQUAL, &[low_byte(nfproto)]);
            rule.payload(NETWORK, offset, length, FIRST_REGISTER);
            if let Some(mask) = mask(prefix, length) {
                rule.mask(&mask);
            }
            let after_address = FIRST_REGISTER + length / 4;
            rule.meta(L4PROTO, after_address);
            rule.payload(TRANSPORT, DESTINATION_PORT, 2, after_address + 1);
            rule.lookup(&set_name(SETS[which], which, prefix));
            rule.verdict(ACCEPT, None);
        });
    }
    match refusal {
        Refusal::Reject => {
            rule(GATE, &|rule| {
                rule.protocol(libc::IPPROTO_TCP);
                rule.reject(REJECT_TCP_RESET, 0);
            });
            rule(GATE, &|rule| rule.reject(REJECT_ICMPX, ICMPX_PORT_UNREACHABLE));
        }
        Refusal::Drop => rule(GATE, &|rule| rule.verdict(DROP, None)),
    }
}

/// Returns the mask of a prefix in an address of `length` bytes; `None` if the prefix is the whole
/// address.
fn mask(prefix: u8, length: u32) -> Option<Vec<u8>> {
    let bits = 8 * length - u32::from(prefix);
    (bits > 0).then(|| (u128::MAX << bits).to_be_bytes()[16 - length as usize..].to_vec())
}
