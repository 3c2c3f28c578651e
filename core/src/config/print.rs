//! The canonical text of a configuration.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::model::{
    Config, Door, FlagMask, Gate, GateSets, OnStop, Options, PacketAddress, PacketFormat, Refusal, TableFamily,
};
use super::port_ranges::ranges_text;
use super::time_sequence::{StepProtocols, TimeSequence};
use super::values::{FLAGS, NO_SOCKET};

/// Writes the canonical text: options that differ from the defaults, then the doors in order.
/// Parsing it gives the same configuration, except for the current sequence of a door with
/// `one_time_sequences`, which remains in its file, and for keys, which remain in theirs.
impl Display for Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let options = self.options != Options::default();
        if options {
            print_options(&self.options, f)?;
        }
        for (i, door) in self.doors.iter().enumerate() {
            if options || i > 0 {
                writeln!(f)?;
            }
            print_door(door, f)?;
        }
        Ok(())
    }
}

fn print_options(options: &Options, f: &mut Formatter<'_>) -> fmt::Result {
    let default = Options::default();
    writeln!(f, "[options]")?;
    if options.use_syslog {
        writeln!(f, "    UseSyslog")?;
    }
    line(f, "LogFile", options.log_file.as_ref().map(|path| path.display()))?;
    line(f, "PidFile", unless(&options.pid_file, &default.pid_file).map(|path| path.display()))?;
    line(f, "Interface", unless(&options.interfaces, &default.interfaces).map(|names| names.join(",")))?;
    line(f, "ScanGuard", unless(&options.scan_guard, &default.scan_guard))?;
    line(f, "MaxAttempts", unless(&options.max_attempts, &default.max_attempts))?;
    line(f, "LogRate", unless(&options.log_rate, &default.log_rate))?;
    line(f, "MaxOpenings", unless(&options.max_openings, &default.max_openings))?;
    line(f, "StateFile", unless(&options.state_file, &default.state_file).map(|path| path.display()))?;
    if options.control_socket != default.control_socket {
        let path = options.control_socket.as_ref().map_or(NO_SOCKET.into(), |path| path.display().to_string());
        line(f, "ControlSocket", Some(path))?;
    }
    line(f, "OnStop", unless(&options.on_stop, &default.on_stop))?;
    line(f, "Gate", unless(&options.gate, &default.gate))?;
    line(f, "GateRefuse", unless(&options.gate_refuse, &default.gate_refuse))?;
    line(f, "PacketPort", unless(&options.packet_ports, &default.packet_ports).map(|ports| ranges_text(ports)))?;
    line(f, "ClockSkew", unless(&options.clock_skew, &default.clock_skew).map(Duration::as_secs))
}

fn print_door(door: &Door, f: &mut Formatter<'_>) -> fmt::Result {
    let closes = door.stop_command.is_some() || door.stop_command_6.is_some() || !door.open.is_empty();
    let cmd_timeout =
        if closes { Some(&door.cmd_timeout) } else { unless(&door.cmd_timeout, &Duration::from_secs(10)) };
    let allow: Vec<String> = door.allow.iter().map(ToString::to_string).collect();
    let open: Vec<String> = door.open.iter().map(ToString::to_string).collect();
    writeln!(f, "[{}]", door.name)?;
    line(f, "keys", door.key_file.as_ref().map(|path| path.display()))?;
    match (&door.one_time_sequences, &door.time_sequence, &door.code) {
        (Some(path), _, _) => line(f, "one_time_sequences", Some(path.display()))?,
        (None, Some(time), _) => print_time(time, f)?,
        (None, None, Some(code)) => line(f, "sequence", Some(code))?,
        (None, None, None) => line(f, "sequence", door.sequence.as_ref())?,
    }
    line(f, "totp_secret", door.totp_file.as_ref().map(|path| path.display()))?;
    line(f, "packet", door.packet)?;
    line(f, "packet_address", unless(&door.packet_address, &PacketAddress::Any))?;
    let seq_timeout = match door.packet {
        Some(_) => unless(&door.seq_timeout, &Duration::from_secs(25)),
        None => Some(&door.seq_timeout),
    };
    line(f, "seq_timeout", seq_timeout.map(Duration::as_secs))?;
    line(f, "tcpflags", unless(&door.tcpflags, &FlagMask::default()))?;
    line(f, "target", door.target)?;
    line(f, "allow", Some(allow.join(",")).filter(|list| !list.is_empty()))?;
    line(f, "open", Some(open.join(",")).filter(|list| !list.is_empty()))?;
    line(f, "open_prefix", door.open_prefix)?;
    line(f, "start_command", door.start_command.as_ref())?;
    line(f, "start_command_6", door.start_command_6.as_ref())?;
    line(f, "cmd_timeout", cmd_timeout.map(Duration::as_secs))?;
    line(f, "stop_command", door.stop_command.as_ref())?;
    line(f, "stop_command_6", door.stop_command_6.as_ref())?;
    line(f, "seq_cooldown", door.seq_cooldown.map(|time| time.as_secs()))
}

fn print_time(time: &TimeSequence, f: &mut Formatter<'_>) -> fmt::Result {
    let default = TimeSequence::default();
    match time.steps == default.steps {
        true => line(f, "sequence", Some("time"))?,
        false => line(f, "sequence", Some(format_args!("time:{}", time.steps)))?,
    }
    line(f, "time_ports", unless(&time.ports, &default.ports).map(|ports| ranges_text(std::slice::from_ref(ports))))?;
    line(f, "time_protocols", unless(&time.protocols, &default.protocols))?;
    line(f, "time_step", unless(&time.window, &default.window).map(Duration::as_secs))
}

fn line(f: &mut Formatter<'_>, key: &str, value: Option<impl Display>) -> fmt::Result {
    match value {
        Some(value) => writeln!(f, "    {key} = {value}"),
        None => Ok(()),
    }
}

/// Returns the value if it is not the default.
fn unless<'a, T: PartialEq>(value: &'a T, default: &T) -> Option<&'a T> {
    Some(value).filter(|value| *value != default)
}

/// The value of `tcpflags =`, as in `syn,!ack`.
impl Display for FlagMask {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let set = FLAGS.iter().filter(|(_, flag)| self.set.contains(*flag)).map(|(name, _)| ("", *name));
        let clear = FLAGS.iter().filter(|(_, flag)| self.clear.contains(*flag)).map(|(name, _)| ("!", *name));
        for (i, (mark, name)) in set.chain(clear).enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{mark}{name}")?;
        }
        Ok(())
    }
}

/// The value of `time_protocols =`.
impl Display for StepProtocols {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The value of `packet =`.
impl Display for PacketFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The value of `packet_address =`.
impl Display for PacketAddress {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The value of `OnStop =`.
impl Display for OnStop {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Close => "close",
            Self::Keep => "keep",
        })
    }
}

/// The value of `Gate =`.
impl Display for Gate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Sets(GateSets { family, table, set4, set6 }) => write!(f, "set {family} {table} {set4} {set6}"),
        }
    }
}

/// The name of the family in nft.
impl Display for TableFamily {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
        })
    }
}

/// `reject` or `drop`, as in `GateRefuse =`.
impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reject => "reject",
            Self::Drop => "drop",
        })
    }
}
