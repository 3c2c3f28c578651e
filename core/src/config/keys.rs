//! The keys of the file: their spellings, where they belong, and which one a misspelled key may mean.

use strsim::osa_distance;

/// A key, whatever its spelling.
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
    Sequence,
    OneTimeSequences,
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

/// Every spelling.
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
    ("sequence", Key::Sequence),
    ("one_time_sequences", Key::OneTimeSequences),
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
    /// The key with this spelling, in any case.
    pub(super) fn find(text: &str) -> Option<Self> {
        SPELLINGS.iter().find(|(spelling, _)| spelling.eq_ignore_ascii_case(text)).map(|(_, key)| *key)
    }

    /// True where the key belongs into `[options]`, false where it belongs into a door.
    pub(super) fn is_option(self) -> bool {
        self <= Self::GateRefuse
    }

    /// True for the keys whose value is a command.
    pub(super) fn is_command(self) -> bool {
        matches!(self, Self::StartCommand | Self::StopCommand | Self::StartCommand6 | Self::StopCommand6)
    }
}

/// The spelling that `text` probably means.
pub(super) struct Guess {
    pub(super) spelling: &'static str,
    /// Near enough, and nearer than every other, to be put in without asking.
    pub(super) certain: bool,
}

/// The known spelling nearest to `text` among the keys of this kind of section, where one is near.
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
    fn spellings_are_found_in_any_case_and_name_their_key() {
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
