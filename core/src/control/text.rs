//! The status in the form in which `portknock status` prints it.

use std::fmt::Write;

use super::report::{AttemptsReport, CommandsReport, PacketsReport, StatusReport};
use crate::network::{DisplayNetwork, parse_network};
use crate::printable::Printable;

impl StatusReport {
    /// Returns the status as text for a terminal. Control characters are escaped.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let AttemptsReport { alive, evicted, refused } = self.attempts;
        let PacketsReport { seen, dropped, filtered, bogus } = self.packets;
        let CommandsReport { run, failed, running, waiting } = self.commands;
        writeln!(out, "portknockd {}, process {}, up for {}", Printable(&self.version), self.pid, span(self.uptime))?;
        let file = Printable(&self.config.file);
        writeln!(out, "  configuration  {file}, read {} ago", span(self.config.age))?;
        let interfaces = self.interface_states.iter().map(|interface| match &interface.reason {
            Some(reason) => format!("{} (not listened on: {reason})", interface.name),
            None => interface.name.clone(),
        });
        writeln!(out, "  interfaces     {}", Printable(&interfaces.collect::<Vec<_>>().join(", ")))?;
        writeln!(out, "  packets        {seen} seen, {filtered} of them filtered out, {dropped} dropped")?;
        if bogus > 0 {
            writeln!(out, "  bogus          {bogus} datagrams like authenticated packets that no key made")?;
        }
        writeln!(out, "  attempts       {alive} in progress; {evicted} evicted, {refused} refused")?;
        writeln!(out, "  commands       {running} running, {waiting} waiting; {run} run, {failed} failed")?;
        if self.followers > 0 {
            writeln!(out, "  followers      {}", self.followers)?;
        }
        if self.suppressed > 0 {
            writeln!(out, "  not logged     {} events, beyond LogRate", self.suppressed)?;
        }
        if self.dry_run {
            writeln!(out, "  WARNING        dry run: no command runs, and no port opens")?;
        }
        if !self.openings_saved {
            writeln!(out, "  WARNING        the state file does not contain every opening: see the log")?;
        }
        if self.clock.is_some_and(|clock| !clock.synchronised) {
            writeln!(out, "  WARNING        the clock is not synchronised, and doors with keys depend on it")?;
        }
        let doors = self.doors.iter().map(|door| {
            let refused = door.refused.by_reason().iter().map(|(_, count)| count).sum();
            let [open_for, opened, refused] =
                [door.openings as u64, door.opened, refused].map(|count| count.to_string());
            [Printable(&door.name).to_string(), open_for, opened, refused]
        });
        writeln!(out)?;
        table(out, ["DOOR", "OPEN FOR", "OPENED", "REFUSED"].map(String::from), doors)?;
        if self.open.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        let open = self.open.iter().map(|open| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
            let closes_in = open.closes_in.ceil() as u64;
            let by_gate = || format!("closing {}", open.ports.join(","));
            let by = open.stop_command.clone().unwrap_or_else(by_gate);
            let [door, command] = [&open.door, &by].map(|text| Printable(text).to_string());
            let addresses = parse_network(&open.net).map_or_else(String::new, |net| DisplayNetwork(net).to_string());
            [door, addresses, span(closes_in), command]
        });
        table(out, ["OPEN DOOR", "ADDRESS", "CLOSES IN", "BY"].map(String::from), open)?;
        match self.openings.saturating_sub(self.open.len()) {
            0 => Ok(()),
            more => writeln!(out, "and {more} more"),
        }
    }
}

/// Writes rows in columns, two spaces apart.
fn table<const N: usize>(
    out: &mut String,
    head: [String; N],
    rows: impl Iterator<Item = [String; N]>,
) -> std::fmt::Result {
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            write!(line, "{cell:width$}  ")?;
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Formats a time in its two largest units.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::sample;

    #[test]
    fn an_administrator_sees_everything_at_a_glance() {
        let expected = r#"portknockd 0.1.0, process 77, up for 1 d 1 h
  configuration  /etc/knockd.conf, read 59 s ago
  interfaces     eth0, wlan0 (not listened on: the interface is down)
  packets        50 seen, 7 of them filtered out, 6 dropped
  bogus          16 datagrams like authenticated packets that no key made
  attempts       2 in progress; 3 evicted, 4 refused
  commands       10 running, 11 waiting; 8 run, 9 failed
  followers      1
  not logged     12 events, beyond LogRate
  WARNING        dry run: no command runs, and no port opens
  WARNING        the state file does not contain every opening: see the log
  WARNING        the clock is not synchronised, and doors with keys depend on it

DOOR         OPEN FOR  OPENED  REFUSED
openSSH      1         12      15
a "b"\\x0ac  0         0       0

OPEN DOOR  ADDRESS        CLOSES IN  BY
openSSH    10.0.0.2       12 s       close 10.0.0.2\x1b
gone       2001:db8::/56  1 h 0 min  close 2001:db8::1\x1b
and 1 more
"#;
        assert_eq!(sample().text(), expected);
    }
}
