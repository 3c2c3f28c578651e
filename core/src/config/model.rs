//! The values of a configuration. The types cannot represent an invalid door.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::code_sequence::CodeSequence;
use super::steps::Sequence;
use super::time_sequence::TimeSequence;
use crate::fwknop::FwknopKey;
use crate::keys::NamedKey;
use crate::packet::{OpenPort, SegmentSet, TcpFlags};
use crate::totp::{CODE_WINDOW, TotpKey};

/// Path of the daemon's control socket unless the configuration names another one.
pub const DEFAULT_SOCKET: &str = "/run/portknock/control";

/// A whole configuration: the `[options]`, and the doors in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The merged `[options]` sections.
    pub options: Options,
    /// The doors, in the order of the file; a [`DoorId`] is an index into it.
    pub doors: Vec<Door>,
}

/// The merged `[options]` sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `UseSyslog`: log through syslog(3).
    pub use_syslog: bool,
    /// `LogFile`: log to this file.
    pub log_file: Option<PathBuf>,
    /// `PidFile`: path to which daemon mode writes its process id. Default `/var/run/knockd.pid`.
    pub pid_file: PathBuf,
    /// `Interface`: the interfaces to listen on, or the single word `any`. Empty: knockd's default,
    /// `eth0`.
    pub interfaces: Vec<String>,
    /// `ScanGuard`: an attempt survives packets to at most this number of distinct ports that no
    /// door uses, 1 to 255; 0 turns the guard off. Default 8.
    pub scan_guard: u8,
    /// `MaxAttempts`: maximum number of attempts in progress at the same time, 1 to 16,777,216.
    /// Default 1,048,576.
    pub max_attempts: u32,
    /// `LogRate`: maximum number of stages, timeouts and failures that the daemon logs a second, up
    /// to 1,000,000; 0 for no limit. Default 1,000.
    pub log_rate: u32,
    /// `MaxOpenings`: maximum number of addresses that one door is open for at a time, 1 to
    /// 1,048,576. Default 4096.
    pub max_openings: u32,
    /// `StateFile`: path of the journal of openings, from which the daemon restores them after a
    /// crash. Default `/var/lib/portknock/openings`.
    pub state_file: PathBuf,
    /// `ControlSocket`: path of the socket that `portknock status` and the other control commands
    /// connect to; `None` for no socket (`none`). Default [`DEFAULT_SOCKET`].
    pub control_socket: Option<PathBuf>,
    /// `OnStop`: the fate of open doors when the daemon stops. Default `close`.
    pub on_stop: OnStop,
    /// `Gate`: the table or sets in which the daemon opens the `open` ports of doors. Default
    /// `own`.
    pub gate: Gate,
    /// `GateRefuse`: how the managed table refuses clients that may not connect. Default `reject`.
    pub gate_refuse: Refusal,
    /// `PacketPort`: the UDP ports on which doors with `packet` receive packets, in ascending
    /// order. Default 62201.
    pub packet_ports: Vec<RangeInclusive<NonZeroU16>>,
    /// `ClockSkew`: maximum difference between the clock of a client that sends a packet and the
    /// clock of this machine, 1 s to 1 h. Default 60 s.
    pub clock_skew: Duration,
}

/// Default of `PacketPort`.
pub const DEFAULT_PACKET_PORT: NonZeroU16 = NonZeroU16::new(62_201).unwrap();

impl Default for Options {
    fn default() -> Self {
        Self {
            use_syslog: false,
            log_file: None,
            pid_file: PathBuf::from("/var/run/knockd.pid"),
            interfaces: Vec::new(),
            scan_guard: 8,
            max_attempts: 1_048_576,
            log_rate: 1_000,
            max_openings: 4096,
            state_file: PathBuf::from("/var/lib/portknock/openings"),
            control_socket: Some(PathBuf::from(DEFAULT_SOCKET)),
            on_stop: OnStop::Close,
            gate: Gate::Own,
            gate_refuse: Refusal::Reject,
            packet_ports: vec![DEFAULT_PACKET_PORT..=DEFAULT_PACKET_PORT],
            clock_skew: Duration::from_secs(60),
        }
    }
}

/// The fate of the open doors when the daemon stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStop {
    /// Run every pending stop command before exiting.
    #[default]
    Close,
    /// Keep them open: the next start restores them from the state file.
    Keep,
}

/// The table or sets in which the daemon opens the `open` ports of doors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// `own`: in the managed table `inet portknock`, which refuses all other clients.
    #[default]
    Own,
    /// `set FAMILY TABLE SET4 SET6`: in sets of a rule set that the administrator maintains.
    Sets(GateSets),
}

/// Capacity of each set of the managed table, in elements. All doors with `open` share it.
pub(crate) const GATE_ELEMENTS: u32 = 131_072;

/// Two sets of a table that the administrator created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateSets {
    /// The table's family.
    pub family: TableFamily,
    /// The table's name.
    pub table: String,
    /// The set for IPv4, of type `ipv4_addr . inet_proto . inet_service`, with timeouts.
    pub set4: String,
    /// The set for IPv6, of type `ipv6_addr . inet_proto . inet_service`, with timeouts.
    pub set6: String,
}

/// The family of an nftables table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFamily {
    /// Both IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Bridges.
    Bridge,
    /// Interfaces.
    Netdev,
}

/// How a packet filter refuses packets to a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// With the answer of a closed port.
    #[default]
    Reject,
    /// Without an answer.
    Drop,
}

/// The index of a door in [`Config::doors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DoorId(pub u16);

/// One `[door]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// The section's name. Several doors can have the same name; see [`DoorId`].
    pub name: Arc<str>,
    /// The sequence that opens the door now. `None` if `time_sequence`, `packet` or `code` is set.
    /// Also `None` if `one_time_sequences` is set and its file has not been read or has no unused line
    /// left: no knock opens the door then.
    pub sequence: Option<Sequence>,
    /// `one_time_sequences`: the file that contains the sequences, which are valid one after
    /// another.
    pub one_time_sequences: Option<PathBuf>,
    /// `sequence = time`: the sequence follows from a key and the time.
    pub time_sequence: Option<TimeSequence>,
    /// `packet`: the format of the authenticated packet that opens the door.
    pub packet: Option<PacketFormat>,
    /// `keys`: the file of the keys for `time_sequence` or `packet`.
    pub key_file: Option<PathBuf>,
    /// The sequence with the code of an authenticator app.
    pub code: Option<CodeSequence>,
    /// `totp_secret`: the file of the secret for `code`.
    pub totp_file: Option<PathBuf>,
    /// The secret in `totp_file`. `None` until it is read: no client opens the door then.
    pub totp: Option<Arc<TotpKey>>,
    /// The keys in `key_file`, for `time_sequence` and for packets of portknock's own format. Empty
    /// until they are read: no client opens the door then.
    pub keys: Arc<[NamedKey]>,
    /// The keys in `key_file`, for packets of fwknop's format. Empty until they are read: no client
    /// opens the door then.
    pub fwknop_keys: Arc<[FwknopKey]>,
    /// `packet_address`: the address for which a packet of fwknop's format opens the door.
    pub packet_address: PacketAddress,
    /// `seq_timeout`: maximum duration of an attempt. Default 25 s.
    pub seq_timeout: Duration,
    /// `tcpflags`: the TCP segments that are knocks.
    pub tcpflags: FlagMask,
    /// `target`: the destination address that knocks must have; `None` means any address of this
    /// host.
    pub target: Option<IpAddr>,
    /// `start_command` (alias `command`): the command that runs when the door opens.
    pub start_command: Option<String>,
    /// `stop_command`: the command that runs `cmd_timeout` after the door opened.
    pub stop_command: Option<String>,
    /// `start_command_6` (alias `command_6`): replaces `start_command` for IPv6 sources; empty
    /// means "do nothing".
    pub start_command_6: Option<String>,
    /// `stop_command_6`: replaces `stop_command` for IPv6 sources; empty means "do nothing".
    pub stop_command_6: Option<String>,
    /// `cmd_timeout`: the time for which a door with `open` or a stop command stays open. Default
    /// 10 s.
    pub cmd_timeout: Duration,
    /// `open`: the ports that the daemon opens for the source for `cmd_timeout`, without a command.
    /// Each port occurs once.
    pub open: Arc<[OpenPort]>,
    /// `open_prefix`: the door opens for the network of the source with this prefix, see
    /// [`Door::network_of`]; `None` for only the address.
    pub open_prefix: Option<OpenPrefix>,
    /// `allow`: the only sources that can knock; empty means every source.
    pub allow: Vec<IpNet>,
    /// `seq_cooldown`: the time after an opening for which the door ignores further knocks of the
    /// source.
    pub seq_cooldown: Option<Duration>,
}

impl Door {
    /// Returns a door with this name and sequence, no commands, and the defaults of knockd.
    pub fn new(name: &str, sequence: Option<Sequence>) -> Self {
        Self {
            name: name.into(),
            sequence,
            one_time_sequences: None,
            time_sequence: None,
            packet: None,
            code: None,
            totp_file: None,
            totp: None,
            key_file: None,
            keys: Arc::new([]),
            fwknop_keys: Arc::new([]),
            packet_address: PacketAddress::Any,
            seq_timeout: Duration::from_secs(25),
            tcpflags: FlagMask::default(),
            target: None,
            start_command: None,
            stop_command: None,
            start_command_6: None,
            stop_command_6: None,
            cmd_timeout: Duration::from_secs(10),
            open: Arc::new([]),
            open_prefix: None,
            allow: Vec::new(),
            seq_cooldown: None,
        }
    }

    /// True if the door has a file of secrets, of which each knock is accepted once.
    pub fn has_secrets(&self) -> bool {
        self.key_file.is_some() || self.totp_file.is_some()
    }

    /// Number of secrets from which the sequences of a window follow.
    pub(crate) fn window_keys(&self) -> usize {
        if self.time_sequence.is_some() {
            self.keys.len()
        } else {
            usize::from(self.code.is_some() && self.totp.is_some())
        }
    }

    /// Length of the windows in which the sequences of the door are valid; `None` if they do not change
    /// with the time.
    pub(crate) fn window_length(&self) -> Option<Duration> {
        let time = self.time_sequence.as_ref().map(|time| time.window);
        time.or_else(|| self.code.as_ref().map(|_| CODE_WINDOW))
    }

    /// Returns the command that opens the door for `ip`, with `%IP%` and `%NET%` replaced; `None`
    /// if there is no command to run.
    pub fn start_command_for(&self, ip: IpAddr) -> Option<String> {
        self.command_for(ip, self.start_command.as_deref(), self.start_command_6.as_deref())
    }

    /// Returns the command that closes the door for `ip`, with `%IP%` and `%NET%` replaced; `None`
    /// if there is no command to run.
    pub fn stop_command_for(&self, ip: IpAddr) -> Option<String> {
        self.command_for(ip, self.stop_command.as_deref(), self.stop_command_6.as_deref())
    }

    fn command_for(&self, ip: IpAddr, plain: Option<&str>, six: Option<&str>) -> Option<String> {
        let template = if ip.is_ipv6() { six.or(plain) } else { plain }.filter(|text| !text.is_empty())?;
        let command = template.replace("%IP%", &ip.to_string());
        Some(if command.contains(NET) { command.replace(NET, &self.network_of(ip).to_string()) } else { command })
    }

    /// Returns the network that the door opens for when `ip` knocks: the network of `open_prefix`,
    /// or the address alone if `open_prefix` is not set. If the network of `allow` that contains
    /// `ip` (the widest of several) is smaller, the result is that network, so that the door never
    /// opens for an address that may not knock.
    pub fn network_of(&self, ip: IpAddr) -> IpNet {
        let host = IpNet::from(ip);
        let Some(OpenPrefix { ipv4, ipv6 }) = self.open_prefix else { return host };
        let allowed = self.allow.iter().filter(|net| net.contains(&ip)).map(IpNet::prefix_len).min();
        let length = if ip.is_ipv6() { ipv6 } else { ipv4 }.max(allowed.unwrap_or(0));
        IpNet::new(ip, length).map_or(host, |net| net.trunc())
    }

    /// True if `allow` permits the address.
    pub(crate) fn allows(&self, ip: IpAddr) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&ip))
    }

    /// Returns the prefix lengths of all networks of this IP version that the door can open for.
    pub(crate) fn prefix_lengths(&self, ipv6: bool) -> BTreeSet<u8> {
        let unspecified: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let is_of_version = |ip: &IpAddr| ip.is_ipv6() == ipv6;
        let allowed = self.allow.iter().map(IpNet::addr).filter(is_of_version);
        let anywhere = self.allow.is_empty().then_some(unspecified);
        allowed.chain(anywhere).map(|ip| self.network_of(ip).prefix_len()).collect()
    }
}

/// The format of an authenticated packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PacketFormat {
    /// `portknock`: the format of [`crate::spa`].
    Portknock,
    /// `fwknop`: the format of fwknop's clients, with an HMAC.
    Fwknop,
}

impl PacketFormat {
    /// Returns the name in configurations, such as `portknock`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Portknock => "portknock",
            Self::Fwknop => "fwknop",
        }
    }
}

/// The address for which a packet of fwknop's format opens a door. A packet contains an IPv4 address,
/// or `0.0.0.0` in place of the source of the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PacketAddress {
    /// `any`: the address in the packet, or the source.
    #[default]
    Any,
    /// `required`: the address in the packet. Packets with `0.0.0.0` are refused.
    Required,
    /// `source`: the address in the packet, from which the packet must come too. Packets with
    /// `0.0.0.0` are refused.
    Source,
}

impl PacketAddress {
    /// Returns the name in configurations, such as `required`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Required => "required",
            Self::Source => "source",
        }
    }
}

/// The placeholder in commands for the network that the door opens for.
const NET: &str = "%NET%";

/// The prefix lengths of the networks that a door opens for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpenPrefix {
    /// The length for IPv4, 8 to 32; 32 is the address alone.
    pub ipv4: u8,
    /// The length for IPv6, 16 to 128; 128 is the address alone.
    pub ipv6: u8,
}

/// The value of `open_prefix =`, as in `24,56`, or as in `24` if IPv6 opens for the address alone.
impl fmt::Display for OpenPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { ipv4, ipv6: 128 } => write!(f, "{ipv4}"),
            Self { ipv4, ipv6 } => write!(f, "{ipv4},{ipv6}"),
        }
    }
}

/// The TCP flags that a knock must have set and clear. Flags in neither set do not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlagMask {
    /// Flags that must be set.
    pub set: TcpFlags,
    /// Flags that must be clear.
    pub clear: TcpFlags,
}

impl FlagMask {
    /// Returns true if a segment with these flags is a knock.
    ///
    /// Segments with SYN and ACK, and segments with RST, answer packets of this host. They are
    /// knocks only if `set` contains ACK or RST respectively.
    pub fn matches(self, flags: TcpFlags) -> bool {
        let asked = flags.bits() & (self.set.bits() | self.clear.bits()) == self.set.bits();
        let accepts_connection = flags.contains(TcpFlags::SYN | TcpFlags::ACK) && !self.set.contains(TcpFlags::ACK);
        let refuses_connection = flags.contains(TcpFlags::RST) && !self.set.contains(TcpFlags::RST);
        asked && !accepts_connection && !refuses_connection
    }

    /// Returns the segments that are knocks.
    pub(crate) fn segments(self) -> SegmentSet {
        SegmentSet::of(|flags| self.matches(flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_never_wider_than_the_network_of_allow() {
        let mut door = Door::new("a", None);
        let net = |door: &Door, ip: &str| door.network_of(ip.parse().unwrap()).to_string();
        assert_eq!(
            (net(&door, "203.0.113.7"), net(&door, "2001:db8::7")),
            ("203.0.113.7/32".into(), "2001:db8::7/128".into())
        );
        door.open_prefix = Some(OpenPrefix { ipv4: 24, ipv6: 56 });
        assert_eq!(net(&door, "203.0.113.7"), "203.0.113.0/24");
        assert_eq!(net(&door, "2001:db8:0:12ff::7"), "2001:db8:0:1200::/56");
        assert_eq!((door.prefix_lengths(false), door.prefix_lengths(true)), ([24].into(), [56].into()));
        let allow = ["203.0.113.0/28", "203.0.113.0/26", "198.51.0.0/16", "192.0.2.5/32", "2001:db8::/32"];
        door.allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        assert_eq!(net(&door, "203.0.113.7"), "203.0.113.0/26", "the widest network that contains the address");
        assert_eq!(net(&door, "198.51.100.7"), "198.51.100.0/24");
        assert_eq!(net(&door, "192.0.2.5"), "192.0.2.5/32");
        assert_eq!(net(&door, "2001:db8::7"), "2001:db8::/56");
        assert_eq!((door.prefix_lengths(false), door.prefix_lengths(true)), ([24, 26, 32].into(), [56].into()));
        door.allow.truncate(4);
        assert_eq!(door.prefix_lengths(true), [].into());
    }

    #[test]
    fn commands_get_the_address_and_the_network() {
        let mut door = Door::new("a", None);
        door.start_command = Some("open %NET% for %IP%, %NET%".into());
        let command = |door: &Door| door.start_command_for([203, 0, 113, 7].into()).unwrap();
        assert_eq!(command(&door), "open 203.0.113.7/32 for 203.0.113.7, 203.0.113.7/32");
        door.open_prefix = Some(OpenPrefix { ipv4: 20, ipv6: 128 });
        assert_eq!(command(&door), "open 203.0.112.0/20 for 203.0.113.7, 203.0.112.0/20");
    }

    const NONE: TcpFlags = TcpFlags::NONE;
    const SYN_ACK: TcpFlags = TcpFlags::from_bits(0x12);

    #[test]
    fn answers_are_knocks_only_if_the_mask_contains_their_flag() {
        let takes = |set, clear, flags| FlagMask { set, clear }.matches(flags);
        for (set, clear) in [(NONE, NONE), (TcpFlags::SYN, NONE), (NONE, TcpFlags::FIN), (NONE, TcpFlags::ACK)] {
            assert!(!takes(set, clear, SYN_ACK), "{set:?} {clear:?}");
            assert!(!takes(set, clear, TcpFlags::RST), "{set:?} {clear:?}");
            assert!(!takes(set, clear, TcpFlags::SYN | TcpFlags::RST), "{set:?} {clear:?}");
            assert!(takes(set, clear, TcpFlags::SYN), "{set:?} {clear:?}");
        }
        assert!(takes(TcpFlags::ACK, NONE, SYN_ACK) && takes(SYN_ACK, NONE, SYN_ACK));
        assert!(takes(TcpFlags::RST, NONE, TcpFlags::RST | TcpFlags::ACK));
        assert!(!takes(TcpFlags::ACK, NONE, TcpFlags::RST | TcpFlags::ACK));
        assert!(!takes(TcpFlags::RST, NONE, SYN_ACK | TcpFlags::RST));
        assert!(takes(NONE, NONE, NONE) && takes(NONE, NONE, TcpFlags::ACK) && takes(NONE, NONE, TcpFlags::FIN));
    }
}
