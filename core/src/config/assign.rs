//! Assigns the values of keys to the options and doors.

use super::code_steps;
use super::codes;
use super::diagnostic::Diagnostic;
use super::draft::DoorDraft;
use super::findings::Findings;
use super::keyed;
use super::keys::Key;
use super::model::{OnStop, Options, Refusal};
use super::open;
use super::parse::{Parser, comment_above};
use super::port_ranges;
use super::quoted::quoted;
use super::quotes;
use super::sequence;
use super::slice::{Line, Slice};
use super::time_sequence::TimeSequence;
use super::typography;
use super::values;
use crate::packet::TcpFlags;
use crate::printable::Printable;

/// The largest `MaxAttempts`.
const MAX_ATTEMPTS: u32 = 16_777_216;
/// The largest `LogRate`.
const MAX_LOG_RATE: u32 = 1_000_000;
/// The largest `MaxOpenings`.
const MAX_OPENINGS: u32 = 1_048_576;
/// The largest `ClockSkew`, in seconds.
const MAX_CLOCK_SKEW: u64 = 3600;

impl Parser {
    /// Assigns the value to the field of the key. A value with an error assigns nothing.
    pub(super) fn assign(&mut self, line: &Line<'_>, key: Key, word: Slice<'_>, value: Slice<'_>) {
        let value = if key.is_command() {
            self.check_command(value);
            value
        } else {
            let value = self.without_comment(line, key, value);
            self.without_quotes(key, value)
        };
        if value.is_empty() && !may_be_empty(key) {
            let message = format!("{} has no value", quoted(word.text()));
            let help = "write a value after the `=`, or remove the line";
            return self.push(Diagnostic::error(codes::NO_VALUE, value.span(), message).help(help));
        }
        let draft = &mut self.draft;
        if key.is_option() {
            assign_option(&mut draft.options, key, word, value, &mut draft.found);
        } else if let Some(draft_door) = draft.doors.last_mut() {
            if key == Key::Sequence {
                // The later checks report the span of the sequence itself, without a comment after
                // it.
                draft_door.seen.entry(key).and_modify(|place| place.value = value.span());
            }
            assign_door(draft_door, key, value, &mut draft.found);
        }
    }

    /// Returns the value without the comment after it.
    fn without_comment<'a>(&mut self, line: &Line<'_>, key: Key, whole: Slice<'a>) -> Slice<'a> {
        let may_hold_hash = is_path(key) || key == Key::Interface;
        let (value, comment) = if may_hold_hash { whole.split_spaced_comment() } else { whole.split_comment() };
        let Some(comment) = comment else {
            return value;
        };
        match key {
            Key::LogFile | Key::PidFile | Key::StateFile | Key::ControlSocket | Key::OneTimeSequences => {
                let message = "the original knockd reads this comment as part of the path";
                let found = Diagnostic::error(codes::VALUE_COMMENT, comment.span(), message);
                self.push_misplaced_comment(found, line, value, comment);
            }
            Key::Sequence if keyed::is_time(value) || code_steps::has_code(value) => {}
            Key::Sequence => {
                let last_step = value.text().rsplit(',').next().unwrap_or_default();
                if last_step.contains(':') || comment.text().contains(',') {
                    self.comment_warning(line, value, comment);
                }
            }
            Key::TcpFlags | Key::Target | Key::Interface => self.comment_warning(line, value, comment),
            // For numbers, knockd also stops reading at the comment; the other keys are known to
            // portknock only.
            _ => {}
        }
        value
    }

    /// Warns of a comment that knockd does not recognise.
    pub(super) fn comment_warning(&mut self, line: &Line<'_>, value: Slice<'_>, comment: Slice<'_>) {
        let message = "the original knockd does not recognise this as a comment";
        let found = Diagnostic::warning(codes::VALUE_COMMENT, comment.span(), message);
        self.push_misplaced_comment(found, line, value, comment);
    }

    /// Adds the finding, with the fix that moves the comment to its own line.
    fn push_misplaced_comment(&mut self, found: Diagnostic, line: &Line<'_>, value: Slice<'_>, comment: Slice<'_>) {
        // A line that is not UTF-8 has been refused already, so the conversion loses nothing.
        let kept = String::from_utf8_lossy(&line.bytes[..value.end() - line.start]);
        let fix = comment_above(line, comment, &kept);
        self.push(found.help("write the comment on its own line").fix(line.span(), fix));
    }

    /// Returns the value without the quotes around it, which knockd reads as part of the value.
    fn without_quotes<'a>(&mut self, key: Key, whole: Slice<'a>) -> Slice<'a> {
        let mut value = whole;
        while let Some(inside) = quotes::inside(value) {
            value = inside;
        }
        if value != whole {
            let message =
                format!("the original knockd reads the quotes of {} as part of the value", quoted(whole.text()));
            let found = match key {
                Key::Interface => Diagnostic::warning(codes::QUOTED_VALUE, whole.span(), message),
                _ => Diagnostic::error(codes::QUOTED_VALUE, whole.span(), message),
            };
            self.push(found.help("remove the quotes").fix(whole.span(), value.text()));
        }
        if is_path(key) {
            self.check_controls(value);
        }
        value
    }

    /// Warns of quotes, typographic characters and control characters in a command.
    pub(super) fn check_command(&mut self, command: Slice<'_>) {
        let command = self.check_quotes(command);
        typography::check(command, &mut self.draft.found);
        self.check_controls(command);
    }

    /// Warns of quotes around the whole command, and returns the text between them.
    fn check_quotes<'a>(&mut self, whole: Slice<'a>) -> Slice<'a> {
        let Some(inside) = quotes::inside(whole) else { return whole };
        if quotes::is_quoted_word(whole.text(), inside.text()) {
            return whole;
        }
        let message = "the whole command is in quotes, so the shell reads it as the name of one program";
        self.push(
            Diagnostic::warning(codes::QUOTED_VALUE, whole.span(), message)
                .help("remove the quotes")
                .fix(whole.span(), quotes::unescaped(inside.text())),
        );
        inside
    }

    /// Warns of the first control character in the text.
    pub(super) fn check_controls(&mut self, text: Slice<'_>) {
        if let Some((at, c)) = text.text().char_indices().find(|(_, c)| c.is_control() && *c != '\t') {
            let at = text.start() + at;
            let message =
                format!("the text contains the control character `{}`", Printable(c.encode_utf8(&mut [0; 4])));
            let help = "remove the character, unless it is intended";
            self.push(Diagnostic::warning(codes::CONTROL_CHARACTER, at..at + c.len_utf8(), message).help(help));
        }
    }
}

/// Returns true for the keys whose empty value has a meaning, or a separate error message.
fn may_be_empty(key: Key) -> bool {
    key.is_command() || matches!(key, Key::UseSyslog | Key::LogFile | Key::Interface | Key::Sequence)
}

fn is_path(key: Key) -> bool {
    matches!(
        key,
        Key::LogFile
            | Key::PidFile
            | Key::StateFile
            | Key::ControlSocket
            | Key::OneTimeSequences
            | Key::Keys
            | Key::TotpSecret
    )
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn assign_option(options: &mut Options, key: Key, word: Slice<'_>, value: Slice<'_>, found: &mut Findings) {
    match key {
        Key::UseSyslog if value.is_empty() => found.push(
            Diagnostic::error(codes::NO_VALUE, word.start()..value.end(), "there is no value after the `=`")
                .help("write `UseSyslog` alone, or a value after the `=`")
                .fix(word.start()..value.end(), word.text()),
        ),
        Key::UseSyslog => set(&mut options.use_syslog, values::switch(value, found)),
        // knockd reads an empty path as "no log file".
        Key::LogFile if value.is_empty() => options.log_file = None,
        Key::LogFile => options.log_file = Some(value.text().into()),
        Key::PidFile => options.pid_file = value.text().into(),
        Key::StateFile => options.state_file = value.text().into(),
        Key::ControlSocket => set(&mut options.control_socket, values::socket(value, found)),
        Key::Interface => {
            let names = values::interfaces(value, found);
            // As in knockd, an empty line does not remove the interfaces of another line.
            set(&mut options.interfaces, names.filter(|names| !names.is_empty()));
        }
        Key::ScanGuard => {
            let number = values::number(value, 0..=u32::from(u8::MAX), found);
            set(&mut options.scan_guard, number.and_then(|number| u8::try_from(number).ok()));
        }
        Key::MaxAttempts => set(&mut options.max_attempts, values::number(value, 1..=MAX_ATTEMPTS, found)),
        Key::LogRate => set(&mut options.log_rate, values::number(value, 0..=MAX_LOG_RATE, found)),
        Key::MaxOpenings => set(&mut options.max_openings, values::number(value, 1..=MAX_OPENINGS, found)),
        Key::OnStop => {
            let choices = [("close", OnStop::Close), ("keep", OnStop::Keep)];
            set(&mut options.on_stop, values::choice(value, choices, found));
        }
        Key::Gate => set(&mut options.gate, open::gate(value, found)),
        Key::GateRefuse => {
            let choices = [("reject", Refusal::Reject), ("drop", Refusal::Drop)];
            set(&mut options.gate_refuse, values::choice(value, choices, found));
        }
        Key::PacketPort => set(&mut options.packet_ports, port_ranges::list(value, found)),
        Key::ClockSkew => set(&mut options.clock_skew, values::seconds_in(value, 1..=MAX_CLOCK_SKEW, found)),
        _ => {}
    }
}

fn assign_door(draft: &mut DoorDraft, key: Key, value: Slice<'_>, found: &mut Findings) {
    let DoorDraft { door, time, is_time, is_code, .. } = draft;
    let command = || Some(value.text().to_owned());
    match key {
        Key::Sequence => {
            (*is_time, *is_code) = (keyed::is_time(value), code_steps::has_code(value));
            (door.sequence, door.code) = (None, None);
            if *is_time {
                time.steps = keyed::time_steps(value, found).unwrap_or(TimeSequence::default().steps);
            } else if *is_code {
                door.code = code_steps::parse(value, found);
            } else {
                door.sequence = sequence::parse(value, found);
            }
        }
        Key::OneTimeSequences => door.one_time_sequences = Some(value.text().into()),
        Key::Keys => door.key_file = Some(value.text().into()),
        Key::TimePorts => set(&mut time.ports, port_ranges::single(value, found)),
        Key::TimeProtocols => set(&mut time.protocols, keyed::protocols(value, found)),
        Key::TimeStep => set(&mut time.window, values::window_seconds(value, found)),
        Key::TotpSecret => door.totp_file = Some(value.text().into()),
        Key::Packet => set(&mut door.packet, keyed::packet_format(value, found).map(Some)),
        Key::PacketAddress => set(&mut door.packet_address, keyed::packet_address(value, found)),
        Key::SeqTimeout => set(&mut door.seq_timeout, values::seconds(value, found)),
        Key::CmdTimeout => set(&mut door.cmd_timeout, values::seconds(value, found)),
        Key::SeqCooldown => set(&mut door.seq_cooldown, values::seconds(value, found).map(Some)),
        Key::TcpFlags => {
            if let Some(mask) = values::flags(value, found) {
                // knockd adds the flags to those of an earlier line; if they contradict, the later
                // line wins.
                let without = |flags: TcpFlags, other: TcpFlags| TcpFlags::from_bits(flags.bits() & !other.bits());
                door.tcpflags.set = without(door.tcpflags.set, mask.clear) | mask.set;
                door.tcpflags.clear = without(door.tcpflags.clear, mask.set) | mask.clear;
            }
        }
        Key::Target => set(&mut door.target, values::address(value, found).map(Some)),
        Key::Open => set(&mut door.open, open::ports(value, found)),
        Key::OpenPrefix => set(&mut door.open_prefix, open::prefix(value, found).map(Some)),
        Key::Allow => set(&mut door.allow, values::networks(value, found)),
        Key::StartCommand => door.start_command = command(),
        Key::StopCommand => door.stop_command = command(),
        Key::StartCommand6 => door.start_command_6 = command(),
        Key::StopCommand6 => door.stop_command_6 = command(),
        _ => {}
    }
}
