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
use super::message::{APPEND, Attributes, CREATE, ECHO, Kind, Messages, find, long, number};
use super::sets::{SetOf, set_name};
use crate::config::{GATE_ELEMENTS, OpenPort, Protocol, Refusal};

/// The number of the family inet.
pub(super) const INET: u8 = 1;
/// The own table's name; its family is `inet`.
pub const TABLE: &str = "portknock";
/// The own table's sets for IPv4 and IPv6.
pub const SETS: [&str; 2] = ["open4", "open6"];
/// What a table's comment begins with where it is our own.
const MARK: &str = "made by portknockd";
const COMMENT: &str = "made by portknockd; portknockd --ungate removes it";

const PORTS: &str = "ports";
const INPUT: &str = "input";
const GATE: &str = "gate";
/// nft's `filter - 10`.
const PRIORITY: i32 = -10;

/// The number of a set's comment, and of a table's, in their `userdata`, which is libnftnl's.
const USERDATA_COMMENT: u8 = 0;

// Attributes of the table, the set, the chain and the rule.
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_USERDATA: u16 = 6;
pub(super) const SET_TABLE: u16 = 1;
pub(super) const SET_NAME: u16 = 2;
pub(super) const SET_FLAGS: u16 = 3;
pub(super) const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_DESCRIPTION: u16 = 9;
const SET_ID: u16 = 10;
pub(super) const ELEMENTS_TABLE: u16 = 1;
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const ELEMENTS: u16 = 3;
pub(super) const ELEMENT: u16 = 1;
pub(super) const ELEMENT_KEY: u16 = 1;
pub(super) const DATA_VALUE: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;

/// The flag of a set whose elements have timeouts.
pub(super) const TIMEOUT: u32 = 0x10;

/// The flag of a table that is there and does nothing.
const DORMANT: u32 = 1;

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
        let [chain, expressions] = [RULE_CHAIN, RULE_EXPRESSIONS].map(|kind| find(attributes, kind));
        let handle = find(attributes, RULE_HANDLE).and_then(long)?;
        Some(Self { chain: chain?.to_vec(), handle, expressions: expressions?.to_vec() })
    }
}

/// Asks for the own table, and for these rules of it.
pub(super) fn ask(rules: &[MadeRule]) -> Messages {
    let mut question = Messages::default();
    question.message(Kind::GetTable, 0, INET, |table| table.name(TABLE_NAME, TABLE));
    for MadeRule { chain, handle, .. } in rules {
        question.message(Kind::GetRule, 0, INET, |rule| {
            rule.name(RULE_TABLE, TABLE);
            rule.bytes(RULE_CHAIN, chain);
            rule.long(RULE_HANDLE, *handle);
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

/// True where a table with these attributes was made here.
pub(super) fn is_ours(attributes: &[u8]) -> bool {
    let userdata = find(attributes, TABLE_USERDATA).unwrap_or_default();
    matches!(userdata, [USERDATA_COMMENT, _, comment @ ..] if comment.starts_with(MARK.as_bytes()))
}

/// True where a table with these attributes is there and does nothing.
pub(super) fn is_dormant(attributes: &[u8]) -> bool {
    find(attributes, TABLE_FLAGS).and_then(number).is_some_and(|flags| flags & DORMANT != 0)
}

/// Removes the own table with all that is in it.
pub(super) fn remove() -> Messages {
    let mut messages = Messages::transaction();
    messages.message(Kind::DeleteTable, 0, INET, |table| table.name(TABLE_NAME, TABLE));
    messages
}

/// Makes the table, or takes over the one that is there: its open ports stay open. The rules are told.
pub(super) fn make(ports: &[OpenPort], sets: &[SetOf], refusal: Refusal) -> Messages {
    let mut messages = Messages::transaction();
    messages.message(Kind::NewTable, CREATE, INET, |table| {
        table.name(TABLE_NAME, TABLE);
        table.number(TABLE_FLAGS, 0);
        let length = u8::try_from(COMMENT.len() + 1).unwrap_or(u8::MAX);
        let userdata = [&[USERDATA_COMMENT, length], COMMENT.as_bytes(), &[0]].concat();
        table.bytes(TABLE_USERDATA, &userdata);
    });
    for (&(which, length), id) in sets.iter().zip(2..) {
        let name = set_name(SETS[which], which, length);
        set(&mut messages, &name, KEY_TYPES[which], [12, 24][which], id, true);
    }
    set(&mut messages, PORTS, PORT_TYPE, 8, 1, false);
    messages.message(Kind::NewChain, CREATE, INET, |chain| {
        chain.name(CHAIN_TABLE, TABLE);
        chain.name(CHAIN_NAME, INPUT);
        chain.name(CHAIN_TYPE, "filter");
        chain.number(CHAIN_POLICY, ACCEPT);
        chain.nested(CHAIN_HOOK, |hook| {
            hook.number(1, 1);
            hook.number(2, PRIORITY.cast_unsigned());
        });
    });
    messages.message(Kind::NewChain, CREATE, INET, |chain| {
        chain.name(CHAIN_TABLE, TABLE);
        chain.name(CHAIN_NAME, GATE);
    });
    // What a table of an earlier configuration has.
    messages.message(Kind::DeleteRule, 0, INET, |rules| rules.name(RULE_TABLE, TABLE));
    messages.message(Kind::DeleteElement, 0, INET, |all| {
        all.name(ELEMENTS_TABLE, TABLE);
        all.name(ELEMENTS_SET, PORTS);
    });
    for port in ports {
        protected(&mut messages, Kind::NewElement, CREATE, *port);
    }
    rules(&mut messages, ports, sets, refusal);
    messages
}

/// A message about a port among those that are protected.
fn protected(messages: &mut Messages, kind: Kind, flags: u16, port: OpenPort) {
    messages.message(kind, flags, INET, |element| {
        element.name(ELEMENTS_TABLE, TABLE);
        element.name(ELEMENTS_SET, PORTS);
        key(element, &port_key(port), |_| {});
    });
}

/// One element with its key, and what `more` puts beside it.
pub(super) fn key(message: &mut Attributes<'_>, key: &[u8], more: impl FnOnce(&mut Attributes<'_>)) {
    message.nested(ELEMENTS, |list| {
        list.nested(ELEMENT, |element| {
            element.nested(ELEMENT_KEY, |data| data.bytes(DATA_VALUE, key));
            more(element);
        });
    });
}

fn set(messages: &mut Messages, name: &str, key_type: u32, key_length: u32, id: u32, timeout: bool) {
    messages.message(Kind::NewSet, CREATE, INET, |set| {
        set.name(SET_TABLE, TABLE);
        set.name(SET_NAME, name);
        set.number(SET_FLAGS, if timeout { TIMEOUT } else { 0 });
        set.number(SET_KEY_TYPE, key_type);
        set.number(SET_KEY_LENGTH, key_length);
        set.number(SET_ID, id);
        if timeout {
            set.nested(SET_DESCRIPTION, |description| description.number(1, GATE_ELEMENTS));
        }
    });
}

fn rules(messages: &mut Messages, ports: &[OpenPort], sets: &[SetOf], refusal: Refusal) {
    let mut rule = |chain, write: &dyn Fn(&mut Rule<'_, '_>)| {
        messages.message(Kind::NewRule, CREATE | APPEND | ECHO, INET, |rule| {
            rule.name(RULE_TABLE, TABLE);
            rule.name(RULE_CHAIN, chain);
            rule.nested(RULE_EXPRESSIONS, |list| write(&mut Rule(list)));
        });
    };
    rule(INPUT, &|rule| {
        rule.meta(L4PROTO, 8);
        rule.payload(TRANSPORT, 2, 2, 9);
        rule.lookup(PORTS, 8);
        rule.verdict(JUMP, Some(GATE));
    });
    rule(GATE, &|rule| {
        rule.meta(IIFTYPE, 8);
        rule.compare(EQUAL, &libc::ARPHRD_LOOPBACK.to_ne_bytes());
        rule.verdict(ACCEPT, None);
    });
    let established = |rule: &mut Rule<'_, '_>| {
        rule.ct_state();
        rule.mask(&(CT_ESTABLISHED | CT_RELATED).to_ne_bytes());
        rule.compare(UNEQUAL, &0_u32.to_ne_bytes());
        rule.verdict(ACCEPT, None);
    };
    match refusal {
        Refusal::Reject => {
            rule(GATE, &|rule| {
                rule.protocol(libc::IPPROTO_TCP);
                rule.payload(TRANSPORT, 13, 1, 8);
                rule.mask(&[TCP_RST | TCP_ACK]);
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
        let (nfproto, offset, length) = [(libc::NFPROTO_IPV4, 12, 4_u32), (libc::NFPROTO_IPV6, 8, 16)][which];
        rule(GATE, &|rule| {
            rule.meta(NFPROTO, 8);
            rule.compare(EQUAL, &[low_byte(nfproto)]);
            rule.payload(NETWORK, offset, length, 8);
            if let Some(mask) = mask(prefix, length) {
                rule.mask(&mask);
            }
            // Registers are counted in units of four bytes, from number 8 on.
            rule.meta(L4PROTO, 8 + length / 4);
            rule.payload(TRANSPORT, 2, 2, 9 + length / 4);
            rule.lookup(&set_name(SETS[which], which, prefix), 8);
            rule.verdict(ACCEPT, None);
        });
    }
    match refusal {
        Refusal::Reject => {
            rule(GATE, &|rule| {
                rule.protocol(libc::IPPROTO_TCP);
                rule.reject(REJECT_RESET, 0);
            });
            rule(GATE, &|rule| rule.reject(REJECT_ICMPX, ICMPX_PORT_UNREACHABLE));
        }
        Refusal::Drop => rule(GATE, &|rule| rule.verdict(DROP, None)),
    }
}

/// The mask of a prefix in an address of so many bytes; `None` if the prefix is the whole address.
fn mask(prefix: u8, length: u32) -> Option<Vec<u8>> {
    let bits = 8 * length - u32::from(prefix);
    (bits > 0).then(|| (u128::MAX << bits).to_be_bytes()[16 - length as usize..].to_vec())
}

const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const JUMP: u32 = (-3_i32).cast_unsigned();
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const EQUAL: u32 = 0;
const UNEQUAL: u32 = 1;
const IIFTYPE: u32 = 8;
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;
const CT_ESTABLISHED: u32 = 2;
const CT_RELATED: u32 = 4;
const TCP_RST: u8 = 4;
const TCP_ACK: u8 = 16;
const REJECT_RESET: u32 = 1;
const REJECT_ICMPX: u32 = 2;
const ICMPX_PORT_UNREACHABLE: u8 = 1;

/// The expressions of a rule, evaluated one after another until one does not hold.
struct Rule<'a, 'b>(&'a mut Attributes<'b>);

impl Rule<'_, '_> {
    fn expression(&mut self, name: &str, write: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nested(1, |expression| {
            expression.name(1, name);
            expression.nested(2, write);
        });
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.expression("meta", |meta| {
            meta.number(2, key);
            meta.number(1, register);
        });
    }

    fn protocol(&mut self, number: libc::c_int) {
        self.meta(L4PROTO, 8);
        self.compare(EQUAL, &[low_byte(number)]);
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        self.expression("payload", |payload| {
            payload.number(1, register);
            payload.number(2, base);
            payload.number(3, offset);
            payload.number(4, length);
        });
    }

    fn ct_state(&mut self) {
        self.expression("ct", |ct| {
            ct.number(2, 0);
            ct.number(1, 8);
        });
    }

    /// The first register and a mask.
    fn mask(&mut self, mask: &[u8]) {
        self.expression("bitwise", |bitwise| {
            bitwise.number(1, 8);
            bitwise.number(2, 8);
            bitwise.number(3, u32::try_from(mask.len()).unwrap_or(0));
            bitwise.nested(4, |data| data.bytes(DATA_VALUE, mask));
            bitwise.nested(5, |data| data.bytes(DATA_VALUE, &vec![0; mask.len()]));
        });
    }

    fn compare(&mut self, how: u32, value: &[u8]) {
        self.expression("cmp", |cmp| {
            cmp.number(1, 8);
            cmp.number(2, how);
            cmp.nested(3, |data| data.bytes(DATA_VALUE, value));
        });
    }

    fn lookup(&mut self, set: &str, register: u32) {
        self.expression("lookup", |lookup| {
            lookup.name(1, set);
            lookup.number(2, register);
        });
    }

    fn verdict(&mut self, verdict: u32, chain: Option<&str>) {
        self.expression("immediate", |immediate| {
            immediate.number(1, 0);
            immediate.nested(2, |data| {
                data.nested(2, |inner| {
                    inner.number(1, verdict);
                    if let Some(chain) = chain {
                        inner.name(2, chain);
                    }
                });
            });
        });
    }

    fn reject(&mut self, kind: u32, code: u8) {
        self.expression("reject", |reject| {
            reject.number(1, kind);
            reject.bytes(2, &[code]);
        });
    }
}

/// Of a number that fits into one byte.
fn low_byte(number: libc::c_int) -> u8 {
    number.to_le_bytes()[0]
}
