//! Why ports cannot be opened.

use std::io;

/// Why a gate, or one port, cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The right is missing.
    #[error("no right to change the firewall (CAP_NET_ADMIN, or root)")]
    NotAllowed,
    /// The kernel cannot do it.
    #[error("this kernel has no nftables (the module nf_tables, with sets, ct and reject for inet)")]
    NotSupported,
    /// A table of the own name is somebody else's.
    #[error(
        "the table `inet portknock` was not made by portknockd and is left as it is; rename it, or use it by \
         `Gate = set inet portknock SET4 SET6`"
    )]
    NotOurs,
    /// There is no such table or set.
    #[error("there is no set `{0}`")]
    NoSet(String),
    /// The set cannot hold what doors open.
    #[error("the set `{name}` is not of `type {wanted}; flags timeout`")]
    SetType {
        /// Family, table and set.
        name: String,
        /// The type that it must have.
        wanted: &'static str,
    },
    /// The set has no room.
    #[error("the set is full")]
    Full,
    /// The kernel's own words.
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
