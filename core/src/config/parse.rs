//! Parses the text of a configuration line by line, and reports all errors in one run.

use std::ops::Range;

use super::checks;
use super::codes;
use super::diagnostic::{Diagnostic, Report};
use super::draft::{DoorDraft, Draft, KeyLocation, Seen};
use super::keys::{self, Key};
use super::model::{Config, Door};
use super::quoted::quoted;
use super::slice::{Line, Slice, is_space, lines};
use super::time_sequence::TimeSequence;

/// Maximum number of doors: a [`DoorId`](super::DoorId) has 16 bits.
const MAX_DOORS: usize = 65_536;

/// Maximum length of a door's name, in bytes: knockd truncates longer names.
const MAX_NAME: usize = 127;

/// Maximum length of a line, in bytes: knockd reads a longer line as two.
const MAX_LINE: usize = 4095;

/// The result of parsing the text of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The configuration; `None` if the report has errors.
    pub config: Option<Config>,
    /// All findings, errors and warnings.
    pub report: Report,
}

/// Parses the text of a configuration, which can be any bytes. Reads no files, so a door with
/// `one_time_sequences` has no sequence yet, and a door with `keys` has no keys (see
/// [`load()`](super::load())).
pub fn parse(text: &[u8]) -> Parsed {
    finish(parse_draft(text), text.len())
}

/// Runs the checks that need the whole text, which is `text_len` bytes long.
pub(super) fn finish(draft: Draft, text_len: usize) -> Parsed {
    let Draft { mut found, options, options_seen, doors } = draft;
    checks::check(&options, &options_seen, &doors, &mut found);
    let config =
        (!found.has_errors()).then(|| Config { options, doors: doors.into_iter().map(|draft| draft.door).collect() });
    if let Some(config) = &config {
        checks::check_guard(config, &options_seen, &mut found);
    }
    Parsed { config, report: found.into_report(text_len) }
}

/// Parses the text into a draft, to be passed to [`finish`].
pub(super) fn parse_draft(text: &[u8]) -> Draft {
    let mut parser = Parser { section: Section::None, options_line: None, above: None, draft: Draft::default() };
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        let message = "the file is UTF-16, not UTF-8";
        parser.draft.found.push(Diagnostic::error(codes::NOT_UTF8, 0..2, message).help("save the file as UTF-8"));
        return parser.draft;
    }
    for line in lines(text) {
        parser.line(&line);
    }
    for draft in &mut parser.draft.doors {
        draft.door.time_sequence = draft.is_time.then(|| draft.time.clone());
    }
    parser.draft
}

/// The section that the parser is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// Before the first header.
    None,
    Options,
    /// The last door of the draft.
    Door,
    /// After too many doors.
    Ignored,
}

/// The directive on the previous line, which a wrapped line continues.
#[derive(Clone, Copy)]
struct Above {
    /// The offset of the end of its text, without a backslash at the end.
    end: usize,
    backslash: bool,
    command: bool,
}

/// Parses the lines of the text. The values of keys are parsed in `assign`.
pub(super) struct Parser {
    section: Section,
    options_line: Option<usize>,
    above: Option<Above>,
    pub(super) draft: Draft,
}

impl Parser {
    pub(super) fn push(&mut self, found: Diagnostic) {
        self.draft.found.push(found);
    }

    fn line(&mut self, line: &Line<'_>) {
        if line.bytes.first().is_none_or(|first| *first == b'#') {
            self.above = None;
            self.check_comment(line);
            return;
        }
        let refused = self.refusal(line);
        let muted = refused.is_some();
        if let Some(found) = refused {
            self.push(found);
        }
        // A line that is refused as a whole is parsed nevertheless, for its settings.
        let text = readable(&line.bytes[..line.bytes.len().min(MAX_LINE)]);
        self.draft.found.mute(muted);
        let text = Slice::new(&text, line.start);
        if text.text().starts_with(';') {
            self.semicolon(text);
        } else if text.text().starts_with('[') {
            self.above = None;
            self.header(line, text);
        } else {
            self.directive(line, text);
        }
        self.draft.found.mute(false);
    }

    fn check_comment(&mut self, line: &Line<'_>) {
        if let Some(found) = bad_bytes(line, Diagnostic::warning) {
            self.push(found);
        } else if line.bytes.len() > MAX_LINE {
            let message =
                format!("the original knockd reads the rest of a line after {MAX_LINE} bytes as another line");
            self.push(Diagnostic::warning(codes::LINE_TOO_LONG, line.span(), message).help("wrap the comment"));
        }
    }

    /// Returns the error if a line other than a comment is refused as a whole.
    fn refusal(&self, line: &Line<'_>) -> Option<Diagnostic> {
        if line.bytes.len() > MAX_LINE {
            let message = format!("the line has {} bytes; the maximum is {MAX_LINE}", line.bytes.len());
            let help = "put a long command into a script, and run the script";
            return Some(Diagnostic::error(codes::LINE_TOO_LONG, line.span(), message).help(help));
        }
        bad_bytes(line, Diagnostic::error)
    }

    fn semicolon(&mut self, text: Slice<'_>) {
        self.above = None;
        let span = text.split_at(1).0.span();
        self.push(
            Diagnostic::error(codes::SEMICOLON_COMMENT, span.clone(), "a comment begins with `#`, not with `;`")
                .help("write `#`")
                .fix(span, "#"),
        );
    }

    fn header(&mut self, line: &Line<'_>, text: Slice<'_>) {
        let name = self.header_name(line, text);
        if name.text() == "options" {
            return self.options_header(line, text);
        }
        if name.trim().text().eq_ignore_ascii_case("options") {
            let message = format!("{} is not the section `options`", quoted(name.text()));
            self.push(
                Diagnostic::error(codes::OPTIONS_SPELLING, name.span(), message)
                    .help("write `[options]`: the original knockd reads every other spelling as a door")
                    .fix(name.span(), "options"),
            );
            return self.options_header(line, text);
        }
        self.door_header(line, text, name);
    }

    /// Returns the name between the brackets.
    fn header_name<'a>(&mut self, line: &Line<'_>, text: Slice<'a>) -> Slice<'a> {
        let inside = text.split_at(1).1;
        if let Some((name, tail)) = inside.split_once(']')
            && let Some(comment) = Some(tail.trim_start()).filter(|tail| tail.text().starts_with('#'))
        {
            let kept = &text.text()[..tail.start() - text.start()];
            self.push(
                Diagnostic::error(
                    codes::SECTION_COMMENT,
                    comment.span(),
                    "a comment cannot follow the name of a section",
                )
                .help("write the comment on its own line")
                .fix(text.span(), comment_above(line, comment, kept)),
            );
            return name;
        }
        if let Some(name) = text.text().strip_suffix(']').and_then(|_| inside.text().strip_suffix(']')) {
            return Slice::new(name, inside.start());
        }
        let message = "the header of a section must end with `]`";
        let found = Diagnostic::error(codes::SECTION_NOT_CLOSED, text.span(), message);
        let bare = !inside.text().contains([']', '#']);
        self.push(match bare {
            true => found.help("add the `]`").fix(text.end()..text.end(), "]"),
            false => found.help("write the name between `[` and `]`, and nothing after the `]`"),
        });
        inside.take_until(|c| c == ']').0
    }

    fn options_header(&mut self, line: &Line<'_>, text: Slice<'_>) {
        self.section = Section::Options;
        if let Some(first) = self.options_line {
            let message = format!("`[options]` is repeated after line {first}; both sections are used");
            let help = "put all options into one section";
            self.push(Diagnostic::warning(codes::REPEATED_OPTIONS, text.span(), message).help(help));
        }
        self.options_line.get_or_insert(line.number);
    }

    fn door_header(&mut self, line: &Line<'_>, text: Slice<'_>, name: Slice<'_>) {
        if self.draft.doors.len() == MAX_DOORS {
            if self.section != Section::Ignored {
                let message = format!("the configuration has more than {MAX_DOORS} doors");
                let help = "divide the doors between several daemons";
                self.push(Diagnostic::error(codes::TOO_MANY_DOORS, text.span(), message).help(help));
            }
            self.section = Section::Ignored;
            return;
        }
        if name.is_empty() {
            let message = "the section has no name";
            let help = "name the door, as in `[openSSH]`";
            self.push(Diagnostic::error(codes::SECTION_NAME, text.span(), message).help(help));
        } else if name.text().len() > MAX_NAME {
            let message = format!("the name has {} bytes; the maximum is {MAX_NAME}", name.text().len());
            self.push(Diagnostic::error(codes::SECTION_NAME, name.span(), message).help("shorten the name"));
        }
        self.check_controls(name);
        self.section = Section::Door;
        let door = Door::new(name.text(), None);
        let (header, line) = (text.span(), line.number);
        let time = TimeSequence::default();
        self.draft.doors.push(DoorDraft {
            door,
            header,
            line,
            seen: Seen::new(),
            time,
            is_time: false,
            is_code: false,
        });
    }

    fn directive(&mut self, line: &Line<'_>, text: Slice<'_>) {
        let above = self.above.take();
        match self.section {
            Section::Ignored => return,
            Section::None => {
                let message = "this line is before the first section";
                let help = "put `[options]` or a door's name, as in `[openSSH]`, on a line before it";
                return self.push(Diagnostic::error(codes::NO_SECTION, text.span(), message).help(help));
            }
            Section::Options | Section::Door => {}
        }
        let Some((head, value)) = text.split_once('=') else {
            return self.bare(line, text, above);
        };
        let word = head.trim();
        match (Key::find(word.text()), above) {
            (Some(key), _) => self.key(line, key, word, value.trim(), text),
            (None, Some(above)) if above.backslash || cannot_be_key(word, above) => self.wrapped(text, above),
            (None, _) => self.unknown(line, word, text),
        }
    }

    /// Parses a line without `=`.
    fn bare(&mut self, line: &Line<'_>, text: Slice<'_>, above: Option<Above>) {
        let (word, comment) = text.split_comment();
        if Key::find(word.text()) == Some(Key::UseSyslog) {
            if let Some(comment) = comment {
                self.comment_warning(line, word, comment);
            }
            self.remember_above(text, false);
            if self.accept_key(line, Key::UseSyslog, word, word) {
                self.draft.options.use_syslog = true;
            }
            return;
        }
        let (first, rest) = text.take_until(is_space);
        let key = Key::find(first.text());
        // These two keys are also programs, so a line after a command can continue the command with
        // them.
        let program = ["timeout", "command"].iter().any(|name| first.text().eq_ignore_ascii_case(name));
        match (key, above) {
            (Some(_), Some(above)) if above.backslash || above.command && program => self.wrapped(text, above),
            (Some(key), _) => self.no_value(line, key, first, rest),
            (None, Some(above)) => self.wrapped(text, above),
            (None, None) => self.push(
                Diagnostic::error(codes::WRAPPED_LINE, text.span(), "this line has no `=`").help("write `key = value`"),
            ),
        }
    }

    /// Reports a key without `=`.
    fn no_value(&mut self, line: &Line<'_>, key: Key, word: Slice<'_>, rest: Slice<'_>) {
        let found = Diagnostic::error(codes::NO_VALUE, word.span(), format!("{} has no value", quoted(word.text())));
        self.push(match rest.is_empty() {
            true => found.help("write `key = value`"),
            false => found.help("put a `=` before the value").fix(word.end()..word.end(), " ="),
        });
        if key.is_option() == (self.section == Section::Options) {
            self.see(line, key, word, rest);
        }
    }

    /// Reports the rest of the previous line, which an editor or a web page wrapped.
    fn wrapped(&mut self, text: Slice<'_>, above: Above) {
        let span = above.end..text.start();
        self.push(
            Diagnostic::error(codes::WRAPPED_LINE, text.span(), "this line seems to be the rest of the previous line")
                .help("join the two lines: a value cannot continue on the next line")
                .fix(span, " "),
        );
        if above.command {
            self.check_command(text);
        }
        self.remember_above(text, above.command);
    }

    fn unknown(&mut self, line: &Line<'_>, word: Slice<'_>, text: Slice<'_>) {
        self.remember_above(text, false);
        if word.is_empty() {
            let message = "there is no key before the `=`";
            return self.push(Diagnostic::error(codes::UNKNOWN_KEY, text.span(), message).help("write `key = value`"));
        }
        if self.section == Section::Door && keys::is_key_of_a_fork(word.text()) {
            let message =
                format!("{} is a key of forks of knockd; portknock uses other keys and codes", quoted(word.text()));
            let help = "make a key for each client with `portknock keygen`, put the keys into a file, \
                        and write `keys = FILE` and `sequence = time`";
            return self.push(Diagnostic::error(codes::KEY_OF_A_FORK, word.span(), message).help(help));
        }
        let mut found =
            Diagnostic::error(codes::UNKNOWN_KEY, word.span(), format!("unknown key {}", quoted(word.text())));
        let in_options = self.section == Section::Options;
        if let Some(guess) = keys::nearest(word.text(), in_options) {
            found = found.help(format!("did you mean `{}`?", guess.spelling));
            if guess.certain {
                found = found.fix(word.span(), guess.spelling);
            }
            if let Some(key) = Key::find(guess.spelling) {
                // Probably this key: a second message that the key is missing would mislead.
                self.see(line, key, word, word);
            }
        } else {
            let section = if in_options { "`[options]`" } else { "doors" };
            found = found.help(format!("knockd.conf(5) lists the keys of {section}"));
        }
        self.push(found);
    }

    fn key(&mut self, line: &Line<'_>, key: Key, word: Slice<'_>, value: Slice<'_>, text: Slice<'_>) {
        self.remember_above(text, key.is_command());
        let value = self.doubled_key(key, word, value);
        if self.accept_key(line, key, word, value) {
            self.assign(line, key, word, value);
        }
    }

    /// Skips `key =` if the value begins with the key again.
    fn doubled_key<'a>(&mut self, key: Key, word: Slice<'_>, value: Slice<'a>) -> Slice<'a> {
        let mut rest = value;
        while let Some((head, tail)) = rest.split_once('=') {
            // In a command, `command=x` can set a shell variable.
            let repeats = Key::find(head.trim().text()) == Some(key);
            if !repeats || key.is_command() && head.trim() == head {
                break;
            }
            rest = tail.trim();
        }
        if rest != value {
            let span = value.start()..rest.start();
            let message = format!("the key {} is repeated inside its own value", quoted(word.text()));
            self.push(
                Diagnostic::error(codes::DOUBLED_KEY, span.clone(), message)
                    .help(format!("remove the second `{} =`", word.text()))
                    .fix(span, ""),
            );
        }
        rest
    }

    /// Checks that the key belongs in this section, and records its location. Returns false if it
    /// does not belong here.
    fn accept_key(&mut self, line: &Line<'_>, key: Key, word: Slice<'_>, value: Slice<'_>) -> bool {
        let in_options = self.section == Section::Options;
        if key == Key::UseSyslog && !in_options {
            let message = "`UseSyslog` applies to the whole program, not to one door";
            let help = "move the line to `[options]`";
            self.push(Diagnostic::warning(codes::SYSLOG_IN_DOOR, word.span(), message).help(help));
        } else if key.is_option() != in_options {
            let (belongs, help) = match key.is_option() {
                true => ("in `[options]`, not in a door", "move the line to `[options]`"),
                false => ("in a door, not in `[options]`", "move the line below the name of a door"),
            };
            let message = format!("{} belongs {belongs}", quoted(word.text()));
            self.push(Diagnostic::error(codes::WRONG_SECTION, word.span(), message).help(help));
            return false;
        }
        if let Some(first) = self.seen(key).get(&key).map(|place| place.line) {
            self.repeated(line, key, word, value, first);
        }
        self.see(line, key, word, value);
        true
    }

    fn repeated(&mut self, line: &Line<'_>, key: Key, word: Slice<'_>, value: Slice<'_>, first: usize) {
        let both = format!("{} is set on line {first} and again on line {}", quoted(word.text()), line.number);
        self.push(match key {
            Key::Interface
                if !self.draft.options.interfaces.is_empty() && !value.is_empty() && !self.are_interfaces(value) =>
            {
                Diagnostic::error(codes::REPEATED_KEY, word.span(), both)
                    .help("write one line with a list, as in `Interface = eth0,wlan0`: the original knockd uses only the first line")
            }
            Key::TcpFlags => {
                Diagnostic::warning(codes::REPEATED_KEY, word.span(), format!("{both}; the flags of both lines apply"))
                    .help("write all flags on one line")
            }
            _ if key.is_command() => {
                Diagnostic::warning(codes::REPEATED_KEY, word.span(), format!("{both}; only the last one runs"))
                    .help("join the two commands on one line, with ` && ` or `; ` between them")
            }
            _ => Diagnostic::warning(codes::REPEATED_KEY, word.span(), format!("{both}; the last one applies"))
                .help(format!("remove line {first}")),
        });
    }

    /// Returns true if the configured interfaces are the same as those of `value`.
    fn are_interfaces(&self, value: Slice<'_>) -> bool {
        value.split(',').map(|name| name.trim().text()).eq(&self.draft.options.interfaces)
    }

    fn seen(&mut self, key: Key) -> &mut Seen {
        match self.draft.doors.last_mut() {
            Some(door) if !key.is_option() => &mut door.seen,
            _ => &mut self.draft.options_seen,
        }
    }

    fn see(&mut self, line: &Line<'_>, key: Key, word: Slice<'_>, value: Slice<'_>) {
        let place = KeyLocation { line: line.number, key: word.span(), value: value.span() };
        self.seen(key).insert(key, place);
    }

    fn remember_above(&mut self, text: Slice<'_>, command: bool) {
        let joined = text.text().strip_suffix('\\');
        let kept = joined.unwrap_or(text.text()).trim_end_matches(is_space);
        self.above = Some(Above { end: text.start() + kept.len(), backslash: joined.is_some(), command });
    }
}

/// Returns true if the text before the `=` cannot be a key, as in the rest of a command.
fn cannot_be_key(word: Slice<'_>, above: Above) -> bool {
    word.is_empty() && above.command
        || !word.text().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b' ')
}

/// Returns the line with its comment moved to a separate line before it.
pub(super) fn comment_above(line: &Line<'_>, comment: Slice<'_>, kept: &str) -> String {
    format!("{}{}{}{kept}", comment.text(), line.ending, String::from_utf8_lossy(line.indent))
}

/// Returns a finding if the line contains a NUL byte or is not UTF-8.
fn bad_bytes(line: &Line<'_>, make: fn(&'static str, Range<usize>, String) -> Diagnostic) -> Option<Diagnostic> {
    if let Some(at) = line.bytes.iter().position(|byte| *byte == 0) {
        let at = line.start + at;
        let message = "the line contains a NUL byte, at which the original knockd stops reading".to_owned();
        return Some(make(codes::NUL_BYTE, at..at + 1, message).help("remove the byte"));
    }
    let error = std::str::from_utf8(line.bytes).err()?;
    let at = line.start + error.valid_up_to();
    let message = format!("the byte 0x{:02x} is not UTF-8", line.bytes[error.valid_up_to()]);
    Some(make(codes::NOT_UTF8, at..at + 1, message).help("save the file as UTF-8"))
}

/// Returns the bytes as text of the same length, with a `?` for each byte that is not UTF-8.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}
