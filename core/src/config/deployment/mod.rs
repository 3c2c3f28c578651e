//! Checks that depend on the host that runs a configuration: secrets that other users can read, and
//! commands that the packaged service forbids. Except for [`load()`](super::load()), only this part
//! of `config` reads files.

mod exposed;
mod forbidden;
mod unit;

use std::ops::Range;
use std::path::Path;

use super::codes;
use super::diagnostic::Diagnostic;
use super::draft::Draft;
use super::keys::Key;
use super::load::Loaded;
use super::parse;
use crate::printable::{Printable, shown_path};
use forbidden::{Forbidden, forbidden};
pub use unit::service_is_confined;

const COMMANDS: [Key; 4] = [Key::StartCommand, Key::StartCommand6, Key::StopCommand, Key::StopCommand6];

impl Loaded {
    /// Adds warnings about this host to the report. Other users should not be able to read
    /// sequences in the file at `path` and in its one-time files, or keys in its key files. If
    /// `confined`
    /// ([`service_is_confined`]), commands should not need more permissions than the packaged
    /// service has.
    pub fn check_deployment(&mut self, path: Option<&Path>, confined: bool) {
        let draft = parse::parse_draft(&self.text);
        let found = &mut self.report.diagnostics;
        if let Some(path) = path {
            check_secrets(path, &draft, found);
        }
        if confined {
            check_commands(&draft, found);
        }
        found.sort_by_key(|found| found.span.start);
    }
}

fn check_secrets(path: &Path, draft: &Draft, found: &mut Vec<Diagnostic>) {
    let mut check = |path: &Path, is_one_time, span: Range<usize>, secrets: &str| {
        let Some(exposed) = exposed::exposed(path, is_one_time) else { return };
        // An unsafe mode of a key file is an error already.
        if found.iter().any(|found| found.code == codes::BAD_KEY_FILE && found.span == span) {
            return;
        }
        let message = format!("{} can read {}, which contains {secrets}", exposed.readers, shown_path(path));
        found.push(Diagnostic::warning(codes::READABLE_SECRET, span, message).help(exposed.help));
    };
    if draft.doors.iter().any(|door| door.door.key_file.is_none()) {
        check(path, false, 0..0, "sequences");
    }
    for door in &draft.doors {
        if let (Some(file), Some(place)) = (&door.door.one_time_sequences, door.seen.get(&Key::OneTimeSequences)) {
            check(file, true, place.value.clone(), "sequences");
        }
        if let (Some(file), Some(place)) = (&door.door.key_file, door.seen.get(&Key::Keys)) {
            check(file, false, place.value.clone(), "keys");
        }
        if let (Some(file), Some(place)) = (&door.door.totp_file, door.seen.get(&Key::TotpSecret)) {
            check(file, false, place.value.clone(), "a secret");
        }
    }
}

/// Adds one warning for each program and path, at its first command: the doors of a file often use
/// the same programs.
fn check_commands(draft: &Draft, found: &mut Vec<Diagnostic>) {
    let mut reported = Vec::new();
    for door in &draft.doors {
        let own = &door.door;
        let texts = [&own.start_command, &own.start_command_6, &own.stop_command, &own.stop_command_6];
        for (text, place) in texts.into_iter().zip(COMMANDS.map(|key| door.seen.get(&key))) {
            let (Some(text), Some(place)) = (text, place) else { continue };
            for forbidden in forbidden(text) {
                if !reported.contains(&forbidden) {
                    found.push(warning(&forbidden, place.value.clone()));
                    reported.push(forbidden);
                }
            }
        }
    }
}

fn warning(forbidden: &Forbidden, span: Range<usize>) -> Diagnostic {
    const DROP_IN: &str = "run the service as root with the drop-in root.conf (portknockd(8), \"Under systemd\")";
    let (message, help) = match forbidden {
        Forbidden::OtherUser(name) => (
            format!(
                "`{name}` fails: the service portknockd runs as the user portknock and cannot change to another user"
            ),
            format!(
                "remove `{name}` before iptables, ip6tables, nft and ip, which work without it; otherwise {DROP_IN}"
            ),
        ),
        Forbidden::Root(name) => (
            format!("`{name}` fails: it needs root, and the service portknockd runs as the user portknock"),
            format!("open the port with `open`, iptables or nft instead, or {DROP_IN}"),
        ),
        Forbidden::Write(path) => (
            format!("writing to {} fails: the service portknockd does not have permission", Printable(path)),
            format!(
                "write to /var/lib/portknock or /run/portknock, or to a file in /var/log that the user portknock owns; \
                 or {DROP_IN}"
            ),
        ),
    };
    Diagnostic::warning(codes::FORBIDDEN_BY_SERVICE, span, message).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    fn warnings(text: &str) -> Vec<(usize, String)> {
        let parsed = load_text(text.as_bytes());
        let mut loaded = Loaded { config: parsed.config, report: parsed.report, text: text.into() };
        let before = loaded.report.diagnostics.len();
        loaded.check_deployment(None, false);
        assert_eq!(loaded.report.diagnostics.len(), before);
        loaded.check_deployment(None, true);
        let found = loaded.report.diagnostics.iter().filter(|found| found.code == codes::FORBIDDEN_BY_SERVICE);
        found.map(|found| (text[..found.span.start].matches('\n').count() + 1, found.message.clone())).collect()
    }

    #[test]
    fn each_program_is_reported_once_at_its_first_command() {
        let door = |name: &str, open: &str| {
            format!("[{name}]\nsequence = 7391,2284:udp,48213\nstart_command = {open}\nstop_command = ufw status\n")
        };
        let text = door("a", "ufw allow from %IP%") + &door("b", "sudo iptables -L && echo x >> /etc/motd");
        assert_eq!(
            warnings(&text),
            [
                (3, "`ufw` fails: it needs root, and the service portknockd runs as the user portknock".to_owned()),
                (
                    7,
                    "`sudo` fails: the service portknockd runs as the user portknock and cannot change to another user"
                        .to_owned()
                ),
                (7, "writing to /etc/motd fails: the service portknockd does not have permission".to_owned()),
            ]
        );
        assert_eq!(warnings(&door("a", "/usr/sbin/iptables -I INPUT -s %IP% -j ACCEPT").replace("ufw status", "")), []);
    }
}
