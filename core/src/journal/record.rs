//! The lines of a state file.
//!
//! - `CRC open ID CLOSES-BOOT CLOSES-WALL SPAN BOOT-ID DOOR ADDRESS STOP-COMMAND [NETWORK]` records an
//!   opening or, for an existing ID, its new closing time. `NETWORK`, as in `203.0.113.0/24`, follows
//!   only if the opening is for a network.
//! - `CRC close ID` records that the stop command of an opening has ended.
//! - `CRC use KEY FORM TIME TOKEN` records a replay-proof knock that was accepted. `KEY` is the
//!   fingerprint of the key and `TOKEN` identifies the knock, both in hexadecimal digits; `FORM` is
//!   `packet`, `time:SECONDS` or `code`.
//! - `CRC floor KEY FORM TIME` records that knocks of this key and form are refused if they have this
//!   time or an earlier one.
//! - `CRC incomplete TIME [PACKETS]` records that knocks which were acceptable at this time may have been
//!   accepted without a `use` record, and packets with the time `PACKETS` and earlier, too.
//! - `CRC end` is the last line of a file whose process stopped in order, having saved everything. The
//!   next start removes it.
//!
//! `CRC` is the CRC-32 (IEEE) of the rest of the line, in eight hexadecimal digits. Times are in
//! nanoseconds; those of knocks are by the wall clock. In texts, `%XX` stands for a byte that would break the line or a field.

use std::net::IpAddr;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use ipnet::IpNet;

use crate::keys::Fingerprint;
use crate::network::{is_address, parse_network};
use crate::replay_memory::{Form, Incomplete, KnockUse, ReplayMemory};
use crate::time::Timestamp;

/// The text of the first line before the version.
pub(super) const HEADER: &str = "portknock openings ";
/// The version of the format that this version writes. A portknockd that does not read the records of
/// accepted knocks refuses it.
pub(super) const VERSION: &str = "2";
/// The version without `use`, `floor`, `incomplete` and `end` records, which is read, too.
pub(super) const VERSION_OF_OPENINGS: &str = "1";

/// The number of an opening in a state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpeningId(pub(super) u64);

/// A line of a state file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Open(OpeningId, SavedOpening),
    Close(OpeningId),
    Use(KnockUse),
    Floor(Fingerprint, Form, Timestamp),
    Incomplete(Incomplete),
    End,
}

/// An opening in the form in which it is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SavedOpening {
    pub(super) door: Arc<str>,
    pub(super) ip: IpAddr,
    pub(super) stop_command: String,
    pub(super) times: Times,
    /// The network for which the door is open. It contains `ip`.
    pub(super) net: IpNet,
}

/// The closing time of an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// By `CLOCK_BOOTTIME` of the boot `boot_id`, in nanoseconds.
    pub(super) boot: u64,
    /// By the wall clock, in nanoseconds since the epoch.
    pub(super) wall: u64,
    /// The time that remained when the record was written, in nanoseconds.
    pub(super) span: u64,
    /// The boot that `boot` belongs to.
    pub(super) boot_id: Arc<str>,
}

/// Returns the first line of a state file.
pub(super) fn header() -> String {
    format!("{HEADER}{VERSION}\n")
}

/// Appends the line of an `open` record.
pub(super) fn write_open(out: &mut Vec<u8>, id: OpeningId, saved: &SavedOpening) {
    let SavedOpening { door, ip, stop_command, times, net } = saved;
    let Times { boot, wall, span, boot_id } = times;
    let [boot_id, door, stop_command] = [boot_id, &**door, stop_command].map(escape);
    let network = if is_address(*net) { String::new() } else { format!(" {net}") };
    write_line(out, &format!("open {} {boot} {wall} {span} {boot_id} {door} {ip} {stop_command}{network}", id.0));
}

/// Appends the line of a `close` record.
pub(super) fn write_close(out: &mut Vec<u8>, id: OpeningId) {
    write_line(out, &format!("close {}", id.0));
}

/// Appends the line of a `use` record.
pub(super) fn write_use(out: &mut Vec<u8>, KnockUse { key, form, time, token }: &KnockUse) {
    let (key, form, token) = (HEXLOWER.encode(&key.0), form_text(*form), HEXLOWER.encode(token));
    write_line(out, &format!("use {key} {form} {} {token}", time.as_nanos()));
}

/// Appends the lines of everything that a memory refuses. Returns their number.
pub(super) fn write_memory(out: &mut Vec<u8>, memory: &ReplayMemory) -> usize {
    let mut lines = 0;
    if let Some(times) = memory.incomplete() {
        write_incomplete(out, times);
        lines += 1;
    }
    for (key, form, floor, knocks) in memory.iter() {
        if floor > Timestamp::default() {
            let (key, form) = (HEXLOWER.encode(&key.0), form_text(form));
            write_line(out, &format!("floor {key} {form} {}", floor.as_nanos()));
            lines += 1;
        }
        for knock in knocks {
            write_use(out, &knock);
            lines += 1;
        }
    }
    lines
}

/// Appends the line of an `incomplete` record.
pub(super) fn write_incomplete(out: &mut Vec<u8>, Incomplete { until, packets_until }: Incomplete) {
    write_line(out, &format!("incomplete {} {}", until.as_nanos(), packets_until.as_nanos()));
}

/// Appends the line of an `end` record.
pub(super) fn write_end(out: &mut Vec<u8>) {
    write_line(out, "end");
}

fn form_text(form: Form) -> String {
    match form {
        Form::Packet => "packet".into(),
        Form::Code => "code".into(),
        Form::Fwknop => "fwknop".into(),
        Form::Time(seconds) => format!("time:{seconds}"),
    }
}

fn parse_form(text: &str) -> Option<Form> {
    Some(match text {
        "packet" => Form::Packet,
        "code" => Form::Code,
        "fwknop" => Form::Fwknop,
        other => Form::Time(other.strip_prefix("time:")?.parse().ok()?),
    })
}

fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_nanos)
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn write_line(out: &mut Vec<u8>, text: &str) {
    let sum = crc32fast::hash(text.as_bytes());
    out.extend_from_slice(format!("{sum:08x} {text}\n").as_bytes());
}

/// Decodes a line without its newline. `None` if it is not exactly as it was written.
pub(super) fn parse(line: &[u8]) -> Option<Record> {
    let (sum, text) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    if sum.len() != 8 || u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(text.as_bytes()) {
        return None;
    }
    let mut fields = text.split(' ');
    let mut next = || fields.next();
    let id = |text: &str| text.parse().ok().map(OpeningId);
    let record = match next()? {
        "close" => Record::Close(id(next()?)?),
        "open" => {
            let id = id(next()?)?;
            let (boot, wall, span) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
            let boot_id = unescape(next()?)?.into();
            let (door, ip) = (unescape(next()?)?.into(), next()?.parse::<IpAddr>().ok()?);
            let stop_command = unescape(next()?)?;
            let net = match next() {
                Some(text) => parse_network(text).filter(|net| net.contains(&ip) && !is_address(*net))?,
                None => ip.into(),
            };
            Record::Open(id, SavedOpening { door, ip, stop_command, times: Times { boot, wall, span, boot_id }, net })
        }
        "use" => {
            let (key, form) = (Fingerprint(parse_hex(next()?)?), parse_form(next()?)?);
            Record::Use(KnockUse { key, form, time: parse_time(next()?)?, token: parse_hex(next()?)? })
        }
        "floor" => Record::Floor(Fingerprint(parse_hex(next()?)?), parse_form(next()?)?, parse_time(next()?)?),
        "incomplete" => {
            let until = parse_time(next()?)?;
            Record::Incomplete(Incomplete { until, packets_until: next().map_or(Some(until), parse_time)? })
        }
        "end" => Record::End,
        _ => return None,
    };
    fields.next().is_none().then_some(record)
}

/// Replaces each space, control character and `%` by `%XX`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0'..=' ' | '%' | '\x7f' => out.push_str(&format!("%{:02x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let code = u8::from_str_radix(part.get(..2)?, 16).ok()?;
        out.push(char::from(code));
        out.push_str(&part[2..]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    fn saved(door: &str, command: &str) -> SavedOpening {
        SavedOpening {
            door: door.into(),
            ip: "2001:db8::1".parse().unwrap(),
            stop_command: command.into(),
            times: Times { boot: 1, wall: u64::MAX, span: 3, boot_id: "b".into() },
            net: "2001:db8::1/128".parse().unwrap(),
        }
    }

    /// The same opening for a network with a prefix of this length.
    fn of_network(saved: SavedOpening, length: u8) -> SavedOpening {
        SavedOpening { net: IpNet::new(saved.ip, length).unwrap().trunc(), ..saved }
    }

    #[test]
    fn a_line_has_the_documented_fields() {
        let mut out = Vec::new();
        write_open(&mut out, OpeningId(7), &saved("front door", "echo 100%\n"));
        let text = String::from_utf8(out).unwrap();
        assert_eq!(&text[9..], "open 7 1 18446744073709551615 3 b front%20door 2001:db8::1 echo%20100%25%0a\n");
    }

    #[test]
    fn a_network_is_a_further_field_which_older_files_do_not_have() {
        let line_of = |text: &str| {
            let mut out = Vec::new();
            write_line(&mut out, text);
            out.truncate(out.len() - 1);
            out
        };
        let text = "open 7 1 18446744073709551615 3 b a 2001:db8::1 close";
        assert_eq!(parse(&line_of(text)), Some(Record::Open(OpeningId(7), saved("a", "close"))));
        let with_network = of_network(saved("a", "close"), 56);
        let mut out = Vec::new();
        write_open(&mut out, OpeningId(7), &with_network);
        assert_eq!(String::from_utf8_lossy(&out[9..]), format!("{text} 2001:db8::/56\n"));
        assert_eq!(parse(&out[..out.len() - 1]), Some(Record::Open(OpeningId(7), with_network)));
        for wrong in
            ["2001:db8:1::/56", "2001:db8::1/56", "10.0.0.0/8", "2001:db8::1/128", "2001:db8::/", "2001:db8::/56 x", ""]
        {
            assert_eq!(parse(&line_of(&format!("{text} {wrong}"))), None, "{wrong}");
        }
    }

    #[test]
    fn a_line_with_any_byte_changed_or_cut_is_refused() {
        let mut out = Vec::new();
        write_open(&mut out, OpeningId(7), &saved("a", "b c"));
        let line = &out[..out.len() - 1];
        assert!(parse(line).is_some());
        for i in 0..line.len() {
            assert_eq!(parse(&line[..i]), None);
            let mut changed = line.to_vec();
            changed[i] ^= 0x01;
            assert_eq!(parse(&changed), None, "{i}");
        }
    }

    #[test]
    fn the_lines_of_knocks_have_the_documented_fields() {
        let (mut memory, mut out) = (ReplayMemory::default(), Vec::new());
        let (key, time) = (Fingerprint([0xa1; 16]), Timestamp::from_nanos(1_700_000_000_000_000_001));
        memory.distrust(Incomplete::new(time, Duration::from_secs(1)));
        memory.restore_floor(key, Form::Time(30), time);
        memory.restore(&KnockUse { key, form: Form::Packet, time, token: [0xb2; 12] });
        assert_eq!(write_memory(&mut out, &memory), 3);
        write_end(&mut out);
        let text = String::from_utf8(out).unwrap();
        let mut lines: Vec<_> = text.lines().map(|line| &line[9..]).collect();
        lines.sort();
        let (key, token) = ("a1".repeat(16), "b2".repeat(12));
        assert_eq!(
            lines,
            [
                "end",
                &format!("floor {key} time:30 1700000000000000001"),
                "incomplete 1700000000000000001 1700000001000000001",
                &format!("use {key} packet 1700000000000000001 {token}"),
            ]
        );
    }

    proptest! {
        #[test]
        fn encoded_knocks_can_be_decoded(
            key: [u8; 16],
            token: [u8; 12],
            time: u64,
            form in prop_oneof![Just(Form::Packet), Just(Form::Code), Just(Form::Fwknop), any::<u32>().prop_map(Form::Time)],
        ) {
            let (key, time) = (Fingerprint(key), Timestamp::from_nanos(time));
            let knock = KnockUse { key, form, time, token };
            let mut out = Vec::new();
            write_use(&mut out, &knock);
            prop_assert_eq!(parse(&out[..out.len() - 1]), Some(Record::Use(knock)));
        }

        #[test]
        fn encoded_records_can_be_decoded(door in any::<String>(), command in any::<String>(), length in 0..=128_u8) {
            let record = of_network(saved(&door, &command), length);
            let mut out = Vec::new();
            write_open(&mut out, OpeningId(9), &record);
            write_close(&mut out, OpeningId(9));
            let lines: Vec<_> = out.split(|&b| b == b'\n').collect();
            prop_assert_eq!(lines.len(), 3);
            prop_assert_eq!(parse(lines[0]), Some(Record::Open(OpeningId(9), record)));
            prop_assert_eq!(parse(lines[1]), Some(Record::Close(OpeningId(9))));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(line in any::<Vec<u8>>(), text in ".*") {
            let _ = (parse(&line), unescape(&text));
        }
    }
}
