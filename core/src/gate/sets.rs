//! The names of the sets that elements are put into.

use std::time::Duration;

use super::element::Element;
use super::error::GateError;
use super::lengths::{Lengths, SetOf, set_name, set_of};
use super::message::{self, Kind, Messages};
use super::numbers::*;
use super::table;
use crate::config::{GateSets, TableFamily};

/// The types that the sets have to have.
const TYPES: [&str; 2] = ["ipv4_addr . inet_proto . inet_service", "ipv6_addr . inet_proto . inet_service"];

/// Where the sets are.
#[derive(Debug)]
pub(super) struct Sets {
    family: TableFamily,
    table: String,
    /// The names of the sets for addresses, for IPv4 and IPv6.
    sets: [String; 2],
    /// Which sets there are.
    pub(super) lengths: Lengths,
}

impl Sets {
    pub(super) fn own(lengths: Lengths) -> Self {
        Self { family: TableFamily::Inet, table: table::TABLE.into(), sets: table::SETS.map(str::to_owned), lengths }
    }

    pub(super) fn of(sets: &GateSets, lengths: Lengths) -> Self {
        let GateSets { family, table, set4, set6 } = sets.clone();
        Self { family, table, sets: [set4, set6], lengths }
    }

    pub(super) fn number(&self) -> u8 {
        match self.family {
            TableFamily::Inet => table::INET,
            TableFamily::Ip => low_byte(libc::NFPROTO_IPV4),
            TableFamily::Netdev => low_byte(libc::NFPROTO_NETDEV),
            TableFamily::Bridge => low_byte(libc::NFPROTO_BRIDGE),
            TableFamily::Ip6 => low_byte(libc::NFPROTO_IPV6),
        }
    }

    /// Which set; the attributes have the same numbers in questions for a set and for its elements.
    pub(super) fn name_set(&self, message: &mut message::Attributes<'_>, (which, length): SetOf) {
        message.name(NFTA_SET_ELEM_LIST_TABLE, &self.table);
        message.name(NFTA_SET_ELEM_LIST_SET, &set_name(&self.sets[which], which, length));
    }

    pub(super) fn change(
        &self,
        messages: &mut Messages,
        kind: Kind,
        flags: u16,
        element: &Element,
        timeout: Option<Duration>,
    ) {
        messages.message(kind, flags, self.number(), |message| {
            self.name_set(message, set_of(element.net));
            table::key(message, &element.key(), |more| {
                if let Some(timeout) = timeout {
                    // None at all would be no end.
                    let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
                    more.long(NFTA_SET_ELEM_TIMEOUT, millis);
                }
            });
        });
    }

    pub(super) fn explain(&self, error: GateError, set: SetOf) -> GateError {
        match error {
            GateError::Kernel(libc::ENOENT) => GateError::NoSet(self.set(set)),
            error => error,
        }
    }

    pub(super) fn wrong_type(&self, set: SetOf) -> GateError {
        GateError::SetType { name: self.set(set), wanted: TYPES[set.0] }
    }

    fn set(&self, (which, length): SetOf) -> String {
        format!("{} {} {}", self.family, self.table, set_name(&self.sets[which], which, length))
    }
}
