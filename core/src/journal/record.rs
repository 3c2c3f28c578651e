//! The lines of a state file.
//!
//! `CRC open ID CLOSES-BOOT CLOSES-WALL SPAN BOOT-ID DOOR ADDRESS STOP-COMMAND` says that an opening exists or, for an
//! ID that does, when it closes now; if it is for a network, which is written as in `203.0.113.0/24`, ` NETWORK` follows; `CRC close ID` that its stop command has run. `CRC` is the CRC-32 (IEEE) of the
//! rest of the line in eight hexadecimal digits, times are in nanoseconds, and in texts `%XX` stands for a byte that
//! would break the line or a field.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::network::{is_address, parse_network};

/// The first line's text before the version.
pub(super) const HEADER: &str = "portknock openings ";
/// The version of the format that is written, and the only one that is read.
pub(super) const VERSION: &str = "1";

/// The number of an opening in a state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpeningId(pub(super) u64);

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Open(OpeningId, Saved),
    Close(OpeningId),
}

/// An opening as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) door: Arc<str>,
    pub(super) ip: IpAddr,
    pub(super) stop_command: String,
    pub(super) times: Times,
    /// The network that the door is open for, which has `ip` in it.
    pub(super) net: IpNet,
}

/// When an opening closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// By `CLOCK_BOOTTIME` of the boot `boot_id`, in nanoseconds.
    pub(super) boot: u64,
    /// By the wall clock, in nanoseconds since the epoch.
    pub(super) wall: u64,
    /// How long it was to stay open when this was written, in nanoseconds.
    pub(super) span: u64,
    /// The boot that `boot` belongs to.
    pub(super) boot_id: Arc<str>,
}

/// The whole first line.
pub(super) fn header() -> String {
    format!("{HEADER}{VERSION}\n")
}

/// Appends the line of an `open` record.
pub(super) fn write_open(out: &mut Vec<u8>, id: OpeningId, saved: &Saved) {
    let Saved { door, ip, stop_command, times, net } = saved;
    let Times { boot, wall, span, boot_id } = times;
    let [boot_id, door, stop_command] = [boot_id, &**door, stop_command].map(escape);
    let network = if is_address(*net) { String::new() } else { format!(" {net}") };
    write_line(out, &format!("open {} {boot} {wall} {span} {boot_id} {door} {ip} {stop_command}{network}", id.0));
}

/// Appends the line of a `close` record.
pub(super) fn write_close(out: &mut Vec<u8>, id: OpeningId) {
    write_line(out, &format!("close {}", id.0));
}

fn write_line(out: &mut Vec<u8>, text: &str) {
    let sum = crc32fast::hash(text.as_bytes());
    out.extend_from_slice(format!("{sum:08x} {text}\n").as_bytes());
}

/// Reads a line without its newline; `None` where it is not exactly what was once written.
pub(super) fn parse(line: &[u8]) -> Option<Record> {
    let (sum, text) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    if sum.len() != 8 || u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(text.as_bytes()) {
        return None;
    }
    let mut fields = text.split(' ');
    let mut next = || fields.next();
    let kind = next()?;
    let id = OpeningId(next()?.parse().ok()?);
    let record = match kind {
        "close" => Record::Close(id),
        "open" => {
            let (boot, wall, span) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
            let boot_id = unescape(next()?)?.into();
            let (door, ip) = (unescape(next()?)?.into(), next()?.parse::<IpAddr>().ok()?);
            let stop_command = unescape(next()?)?;
            let net = match next() {
                Some(text) => parse_network(text).filter(|net| net.contains(&ip) && !is_address(*net))?,
                None => ip.into(),
            };
            Record::Open(id, Saved { door, ip, stop_command, times: Times { boot, wall, span, boot_id }, net })
        }
        _ => return None,
    };
    fields.next().is_none().then_some(record)
}

/// Every byte that is blank, a control character or `%` becomes `%XX`.
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
    use super::*;
    use proptest::prelude::*;

    fn saved(door: &str, command: &str) -> Saved {
        Saved {
            door: door.into(),
            ip: "2001:db8::1".parse().unwrap(),
            stop_command: command.into(),
            times: Times { boot: 1, wall: u64::MAX, span: 3, boot_id: "b".into() },
            net: "2001:db8::1/128".parse().unwrap(),
        }
    }

    /// The same for a network, with a prefix of this length.
    fn of_network(saved: Saved, length: u8) -> Saved {
        Saved { net: IpNet::new(saved.ip, length).unwrap().trunc(), ..saved }
    }

    #[test]
    fn a_line_reads_as_people_expect() {
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

    proptest! {
        #[test]
        fn what_is_written_is_read(door in any::<String>(), command in any::<String>(), length in 0..=128_u8) {
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
