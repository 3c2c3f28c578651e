//! What the caller of a service chooses.

use crate::reader::ReaderProgram;

/// How a service differs from what its configuration says.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// Listen on these interfaces, whatever the configuration says, also after a reload.
    pub interfaces: Option<Vec<String>>,
    /// Run the doors' commands and open their ports. Where this is false nothing outside of the process changes: commands are only told by
    /// [`Notice::CommandSkipped`](super::Notice::CommandSkipped), ports by
    /// [`Notice::OpenSkipped`](super::Notice::OpenSkipped), there is no state file, and one-time sequences stay
    /// unused and open again and again.
    pub run_commands: bool,
    /// Pass over IPv6 packets.
    pub ipv4_only: bool,
    /// Tell of each packet that matters by [`Notice::Knock`](super::Notice::Knock).
    pub report_knocks: bool,
    /// Read packets in a process of its own, without rights, which this program [runs](crate::reader::run). Where there is
    /// none, the service reads them itself.
    pub reader: Option<ReaderProgram>,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { interfaces: None, run_commands: true, ipv4_only: false, report_knocks: false, reader: None }
    }
}
