//! Errors that keep a capture from starting and that do not pass with time.

use std::io;

/// An error that keeps packets from being captured, and that waiting does not repair.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The process lacks the capability CAP_NET_RAW (capabilities(7)).
    #[error(
        "no permission to capture packets: run as root, or give the program the capability CAP_NET_RAW \
         (systemd: AmbientCapabilities=CAP_NET_RAW; otherwise: setcap cap_net_raw+ep PROGRAM)"
    )]
    NotAllowed,
    /// The process (`EMFILE`) or the system (`ENFILE`) is out of file descriptors.
    #[error("no file descriptors left to capture packets with: raise the limit (ulimit -n, LimitNOFILE=): {0}")]
    OutOfDescriptors(#[source] io::Error),
    /// No interface can have this name: it is empty, longer than 15 bytes, or contains `/`, white
    /// space or a control character.
    #[error("`{interface}` cannot be an interface: names have 1 to 15 bytes, without `/` and white space")]
    BadName {
        /// The name as given.
        interface: String,
    },
    /// A system call that a capture needs failed.
    #[error("{what}: {source}")]
    System {
        /// The operation that failed, as in `cannot wait for packets`.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl CaptureError {
    /// Returns the error for a system call that failed; `what` describes the operation.
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
    fn a_lack_of_descriptors_is_an_error_of_its_own() {
        let error = CaptureError::from_io("x", io::Error::from_raw_os_error(libc::EMFILE));
        assert!(matches!(error, CaptureError::OutOfDescriptors(_)));
        let error = CaptureError::from_io("cannot wait", io::Error::from_raw_os_error(libc::ENOSYS));
        assert_eq!(error.to_string(), "cannot wait: Function not implemented (os error 38)");
    }
}
