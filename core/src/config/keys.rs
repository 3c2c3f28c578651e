//! The keys of the file: their spellings, their sections, and suggestions for misspelled keys.

use strsim::osa_distance;

/// A key, independent of its spelling. The keys of `[options]` come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    UseSyslog,
    LogFile,
    PidFile,
    Interface,
    ScanGuard,
    MaxAttempts,
    LogRate,
    MaxOpenings,
    StateFile,
    ControlSocket,
    OnStop,
    Gate,
    GateRefuse,
    PacketPort,
    ClockSkew,
    Sequence,
    OneTimeSequences,
    Keys,
    TimePorts,
    TimeProtocols,
    TimeStep,
    Packet,
    TotpSecret,
    PacketAddress,
    SeqTimeout,
    TcpFlags,
    Target,
    StartCommand,
    StopCommand,
    StartCommand6,
    StopCommand6,
    CmdTimeout,
    Open,
    OpenPrefix,
    Allow,
    SeqCooldown,
}

/// Every spelling with its key.
const SPELLINGS: &[(&str, Key)] = &[
    ("UseSyslog", Key::UseSyslog),
    ("LogFile", Key::LogFile),
    ("PidFile", Key::PidFile),
    ("Interface", Key::Interface),
    ("ScanGuard", Key::ScanGuard),
    ("MaxAttempts", Key::MaxAttempts),
    ("LogRate", Key::LogRate),
    ("MaxOpenings", Key::MaxOpenings),
    ("StateFile", Key::StateFile),
    ("ControlSocket", Key::ControlSocket),
    ("OnStop", Key::OnStop),
    ("Gate", Key::Gate),
    ("GateRefuse", Key::GateRefuse),
    ("PacketPort", Key::PacketPort),
    ("ClockSkew", Key::ClockSkew),
    ("sequence", Key::Sequence),
    ("one_time_sequences", Key::OneTimeSequences),
    ("keys", Key::Keys),
    ("time_ports", Key::TimePorts),
    ("time_protocols", Key::TimeProtocols),
    ("time_step", Key::TimeStep),
    ("packet", Key::Packet),
    ("totp_secret", Key::TotpSecret),
    ("packet_address", Key::PacketAddress),
    ("seq_timeout", Key::SeqTimeout),
    ("timeout", Key::SeqTimeout),
    ("tcpflags", Key::TcpFlags),
    ("target", Key::Target),
    ("start_command", Key::StartCommand),
    ("command", Key::StartCommand),
    ("stop_command", Key::StopCommand),
    ("start_command_6", Key::StartCommand6),
    ("command_6", Key::StartCommand6),
    ("stop_command_6", Key::StopCommand6),
    ("cmd_timeout", Key::CmdTimeout),
    ("open", Key::Open),
    ("open_prefix", Key::OpenPrefix),
    ("allow", Key::Allow),
    ("seq_cooldown", Key::SeqCooldown),
];

impl Key {
    /// Returns the key with this spelling, in upper or lower case.
    pub(super) fn find(text: &str) -> Option<Self> {
        SPELLINGS.iter().find(|(spelling, _)| spelling.eq_ignore_ascii_case(text)).map(|(_, key)| *key)
    }

    /// Returns true if the key belongs in `[options]`, false if it belongs in a door.
    pub(super) fn is_option(self) -> bool {
        self <= Self::ClockSkew
    }

    /// Returns true for the keys whose value is a command.
    pub(super) fn is_command(self) -> bool {
        matches!(self, Self::StartCommand | Self::StopCommand | Self::StartCommand6 | Self::StopCommand6)
    }
}

/// Returns true if forks of knockd have a door key with this spelling, for keys or one-time
/// passwords.
pub(super) fn is_key_of_a_fork(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text == "key" || text == "otp" || text.starts_with("otp_")
}

/// The known spelling that a misspelled key probably means.
pub(super) struct Guess {
    pub(super) spelling: &'static str,
    /// True if the spelling is one edit away and no other spelling is, so that a fix can insert it.
    pub(super) certain: bool,
}

/// Returns the known spelling nearest to `text` among the keys of this kind of section, if one is
/// near.
pub(super) fn nearest(text: &str, option: bool) -> Option<Guess> {
    let text = text.to_ascii_lowercase();
    let length = text.chars().count();
    if length > 24 {
        return None;
    }
    let mut candidates: Vec<(usize, &'static str)> = SPELLINGS
        .iter()
        .filter(|(_, key)| key.is_option() == option)
        .map(|(spelling, _)| (osa_distance(&text, &spelling.to_ascii_lowercase()), *spelling))
        .collect();
    candidates.sort();
    let (best, spelling) = *candidates.first()?;
    let runner_up = candidates.get(1).map_or(usize::MAX, |(distance, _)| *distance);
    (best <= 1 + length / 4).then_some(Guess { spelling, certain: best == 1 && runner_up > 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_found_in_upper_and_lower_case() {
        assert_eq!(Key::find("SEQ_timeout"), Some(Key::SeqTimeout));
        assert_eq!(Key::find("Command_6"), Some(Key::StartCommand6));
        assert_eq!(Key::find("commands"), None);
        assert!(Key::OnStop.is_option() && !Key::Sequence.is_option());
    }

    #[test]
    fn the_manual_has_every_spelling_and_no_other() {
        let page = include_str!("../../../packaging/man/knockd.conf.5.in");
        let items = page.lines().filter_map(|line| line.strip_prefix(".It Ic "));
        let mut described: Vec<&str> = items.filter_map(|item| item.split(' ').next()).collect();
        let mut known: Vec<&str> = SPELLINGS.iter().map(|(spelling, _)| *spelling).collect();
        described.sort_unstable();
        // `sequence = time` has its own paragraph.
        described.dedup();
        known.sort_unstable();
        assert_eq!(described, known, "packaging/man/knockd.conf.5.in");
    }

    #[test]
    fn near_keys_are_guessed_and_only_clear_ones_are_certain() {
        let guess = |text, option| nearest(text, option).map(|guess| (guess.spelling, guess.certain));
        assert_eq!(guess("sequnce", false), Some(("sequence", true)));
        assert_eq!(guess("seq timeout", false), Some(("seq_timeout", true)));
        assert_eq!(guess("stat_command", false), Some(("start_command", true)));
        assert_eq!(guess("seqtimout", false), Some(("seq_timeout", false)));
        assert_eq!(guess("logfiel", true), Some(("LogFile", true)));
        assert_eq!(guess("protocol", false), None);
        assert_eq!(guess("ipset", false), None);
        assert_eq!(guess("otp", false), None);
    }
}
