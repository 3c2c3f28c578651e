//! The ports that the doors of a configuration use.

use std::ops::RangeInclusive;

use super::model::Config;
use crate::packet::Protocol;

/// The ports of one protocol that doors use. Doors without a sequence use none.
#[derive(Debug, Default)]
pub(crate) struct UsedPorts {
    /// The ports of all steps.
    pub(crate) ports: Vec<u16>,
    /// For each door that uses the protocol: the range from its lowest to its highest port of any
    /// protocol.
    pub(crate) door_ranges: Vec<RangeInclusive<u16>>,
}

impl UsedPorts {
    /// Collects the ports of this protocol that the doors use.
    pub(crate) fn new(config: &Config, protocol: Protocol) -> Self {
        let mut used = Self::default();
        for sequence in config.doors.iter().filter_map(|door| door.sequence.as_ref()) {
            let known = used.ports.len();
            let steps = sequence.steps();
            used.ports.extend(steps.iter().filter(|step| step.protocol == protocol).map(|step| step.port.get()));
            if used.ports.len() > known {
                let ports = || steps.iter().map(|step| step.port.get());
                used.door_ranges.extend(ports().min().zip(ports().max()).map(|(first, last)| first..=last));
            }
        }
        for code in config.doors.iter().filter_map(|door| door.code.as_ref()) {
            let known = used.ports.len();
            let fixed = code.fixed().iter().filter(|step| step.protocol == protocol).map(|step| step.port.get());
            used.ports.extend(fixed);
            for step in code.code().iter().filter(|step| step.protocol() == protocol) {
                let ports = step.ports();
                used.ports.extend(ports.start().get()..=ports.end().get());
            }
            if used.ports.len() > known {
                // The code has separate ranges, so only the fixed steps can be close together.
                let ports = || code.fixed().iter().map(|step| step.port.get());
                used.door_ranges.extend(ports().min().zip(ports().max()).map(|(first, last)| first..=last));
            }
        }
        used
    }
}
