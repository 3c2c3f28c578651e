//! What keeps a capture from starting for good.

use std::io;

/// Why packets cannot be captured, where waiting does not help.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The process lacks CAP_NET_RAW.
    #[error(
        "no right to capture packets: run as root, or give the program the capability CAP_NET_RAW \
         (systemd: AmbientCapabilities=CAP_NET_RAW; else: setcap cap_net_raw+ep PROGRAM)"
    )]
    NotAllowed,
    /// The process or the system is out of file descriptors.
    #[error("no file descriptors left to capture packets with: raise the limit (ulimit -n, LimitNOFILE=): {0}")]
    OutOfDescriptors(#[source] io::Error),
    /// No interface can have this name.
    #[error("`{interface}` cannot be an interface: names have 1 to 15 bytes, without `/` and blanks")]
    BadName {
        /// The name.
        interface: String,
    },
    /// The system refused something that a capture needs.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl CaptureError {
    /// The error for a system call that failed while trying `what`.
    pub(super) fn from_io(what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Self::OutOfDescriptors(source),
            _ => Self::System { what, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_descriptors_is_told_apart() {
        let error = CaptureError::from_io("x", io::Error::from_raw_os_error(libc::EMFILE));
        assert!(matches!(error, CaptureError::OutOfDescriptors(_)));
        let error = CaptureError::from_io("cannot wait", io::Error::from_raw_os_error(libc::ENOSYS));
        assert_eq!(error.to_string(), "cannot wait: Function not implemented (os error 38)");
    }
}
