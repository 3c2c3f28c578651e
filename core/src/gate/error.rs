//! The reasons why the gate cannot be used.

use std::io;

/// The reason why a gate cannot be used, or why a port cannot be opened or closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The process lacks `CAP_NET_ADMIN`.
    #[error("no permission to change the firewall (CAP_NET_ADMIN, or root)")]
    NotAllowed,
    /// The kernel does not support nftables, or not all parts of it that the gate needs.
    #[error("this kernel has no nftables (the module nf_tables, with sets, ct and reject for inet)")]
    NotSupported,
    /// Another program made the table with the name of the managed table.
    #[error(
        "the table `inet portknock` was not made by portknockd and is left as it is; rename it, or use it by \
         `Gate = set inet portknock SET4 SET6`"
    )]
    NotOurs,
    /// The table or the set does not exist.
    #[error("there is no set `{0}`")]
    NoSet(String),
    /// The set has a type or flags that do not fit the openings of doors.
    #[error("the set `{name}` is not of `type {wanted}; flags timeout`")]
    SetType {
        /// Family, table and set, separated by spaces.
        name: String,
        /// The type that the set must have.
        wanted: &'static str,
    },
    /// The set has no room.
    #[error("the set is full")]
    Full,
    /// Any other error of the kernel, by its errno(3).
    #[error("the firewall cannot be changed: {}", io::Error::from_raw_os_error(*.0))]
    Kernel(i32),
}

impl GateError {
    pub(super) fn of(errno: i32) -> Self {
        match errno {
            libc::EPERM | libc::EACCES => Self::NotAllowed,
            libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT => Self::NotSupported,
            libc::ENFILE => Self::Full,
            errno => Self::Kernel(errno),
        }
    }
}

impl From<io::Error> for GateError {
    fn from(error: io::Error) -> Self {
        Self::of(error.raw_os_error().unwrap_or(libc::EIO))
    }
}
