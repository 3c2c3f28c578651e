//! The options that the caller of a service chooses.

use crate::reader::ReaderProgram;

/// Options of a service that are not part of its configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceOptions {
    /// Listen on these interfaces instead of those of the configuration, also after a reload.
    pub interfaces: Option<Vec<String>>,
    /// Run the doors' commands and open their ports. If false, nothing outside of the process
    /// changes: commands are only reported as
    /// [`Notice::CommandSkipped`](super::Notice::CommandSkipped) and ports as
    /// [`Notice::OpenSkipped`](super::Notice::OpenSkipped), there is no state file, and one-time
    /// sequences are not consumed.
    pub run_commands: bool,
    /// Ignore IPv6 packets.
    pub ipv4_only: bool,
    /// Report each knock that passes the kernel's filter as [`Notice::Knock`](super::Notice::Knock)
    /// or [`Notice::FlagsIgnored`](super::Notice::FlagsIgnored).
    pub report_knocks: bool,
    /// Read packets in a separate, unprivileged process, for which the service starts this program;
    /// it must call [`run`](crate::reader::run). Without a program the service reads packets
    /// itself.
    pub reader: Option<ReaderProgram>,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { interfaces: None, run_commands: true, ipv4_only: false, report_knocks: false, reader: None }
    }
}
