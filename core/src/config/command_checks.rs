//! What a door's start command does to the packet filter and its author probably did not mean.

use super::codes;
use super::diagnostic::Diagnostic;
use super::draft::{DoorDraft, Place};
use super::findings::Findings;
use super::keys::Key;
use super::model::Door;
use crate::firewall_command::{self as command, Chain, Change, Place as At, Source, What};

/// Warns of rules that let any address in, that are put behind the rules that refuse, that IPv6 does not get, or that the
/// network of `open_prefix` does not get.
pub(super) fn check(draft: &DoorDraft, found: &mut Findings) {
    check_network(draft, found);
    let Door { start_command, start_command_6, .. } = &draft.door;
    for (text, key) in [(start_command, Key::StartCommand), (start_command_6, Key::StartCommand6)] {
        let (Some(text), Some(place)) = (text, draft.seen.get(&key)) else { continue };
        let effect = command::read(text);
        if let Some(change) = effect.changes.iter().find(|change| change.source == Source::Any) {
            found.push(opens_for_every_address(place, change));
        }
        if effect.changes.iter().any(is_appended) {
            found.push(appended(place));
        }
        let only_ipv4 = |change: &Change| change.versions == [true, false];
        if key == Key::StartCommand
            && start_command_6.is_none()
            && effect.understood
            && !effect.changes.is_empty()
            && effect.changes.iter().all(only_ipv4)
            && ipv6_reaches(&draft.door)
        {
            found.push(only_for_ipv4(place));
        }
    }
}

fn check_network(draft: &DoorDraft, found: &mut Findings) {
    let Door { open_prefix, start_command, start_command_6, stop_command, stop_command_6, open, .. } = &draft.door;
    let (Some(prefix), Some(prefix_place)) = (open_prefix, draft.seen.get(&Key::OpenPrefix)) else { return };
    let (four, six) = (prefix.ipv4 < 32, prefix.ipv6 < 128);
    for (text, key, has_network) in [
        (start_command, Key::StartCommand, four || six && start_command_6.is_none()),
        (start_command_6, Key::StartCommand6, six),
        (stop_command, Key::StopCommand, four || six && stop_command_6.is_none()),
        (stop_command_6, Key::StopCommand6, six),
    ] {
        let (Some(text), Some(place), true) = (text, draft.seen.get(&key), has_network) else { continue };
        let names_network = ["%NET%", "PORTKNOCK_NET"].iter().any(|name| text.contains(name));
        if text.contains("%IP%") && !names_network && !command::only_reports(text) {
            let message = "the command is for the address alone, so the network of `open_prefix` does not get in";
            let help = "write `%NET%` instead of `%IP%` as the source, in the start command and in the stop command";
            found.push(Diagnostic::warning(codes::NETWORK_NOT_OPENED, place.value.clone(), message).help(help));
        }
    }
    let runs = |command: &Option<String>| command.as_ref().is_some_and(|text| !text.is_empty());
    if open.is_empty() && !runs(start_command) && !runs(start_command_6) {
        let message = "`open_prefix` does nothing: the door opens nothing";
        let help = "add `open`, or a `start_command` with `%NET%`";
        found.push(Diagnostic::warning(codes::NETWORK_NOT_OPENED, prefix_place.key.clone(), message).help(help));
    }
}

fn opens_for_every_address(place: &Place, change: &Change) -> Diagnostic {
    let help = match (&change.what, &change.chain) {
        (What::StopRefusing, _) => "let the command add a rule that accepts the address `%IP%` instead",
        (_, Chain::Iptables(name)) if !name.starts_with("ufw") => "add `-s %IP%` to the rule",
        (_, Chain::Iptables(_)) => "write `from %IP%`, as in `ufw insert 1 allow from %IP% to any port 22`",
        _ => "name the address `%IP%` as the source in the rule",
    };
    let message = "the command opens for every address, not only for the one that knocked";
    Diagnostic::warning(codes::OPENS_FOR_EVERY_ADDRESS, place.value.clone(), message).help(help)
}

/// True for a rule at the end of a chain that may have rules that refuse.
fn is_appended(change: &Change) -> bool {
    let name = match &change.chain {
        Chain::Iptables(name) | Chain::Nft([_, _, name]) => name,
        Chain::NftSet(_) => return false,
    };
    matches!(change.what, What::Accept(At::End, _)) && name.eq_ignore_ascii_case("input")
}

fn appended(place: &Place) -> Diagnostic {
    let message = "the command appends its rule, so it opens nothing if a rule before it refuses the packet";
    Diagnostic::warning(codes::APPENDED_RULE, place.value.clone(), message).help(
        "insert the rule, with `-I INPUT` of iptables or `insert rule` of nft; `portknock rules --check` shows what a knock opens",
    )
}

fn only_for_ipv4(place: &Place) -> Diagnostic {
    let message = "the command is for IPv4 only, and the door takes knocks over IPv6 too";
    Diagnostic::warning(codes::ONLY_FOR_IPV4, place.value.clone(), message).help(
        "add a `start_command_6`, with `ip6tables` for instance, or `allow = 0.0.0.0/0` if only IPv4 addresses may knock",
    )
}

/// True if a knock over IPv6 can open the door.
fn ipv6_reaches(door: &Door) -> bool {
    let target = door.target.is_none_or(|target| target.is_ipv6());
    let allowed = door.allow.is_empty() || door.allow.iter().any(|network| network.addr().is_ipv6());
    target && allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    /// The codes of this check for a door with these lines.
    fn of(lines: &str) -> Vec<&'static str> {
        let text = format!("[a]\nsequence = 7264,3981:udp,5410\n{lines}\n");
        let report = parse(text.as_bytes()).report;
        let mine =
            [codes::OPENS_FOR_EVERY_ADDRESS, codes::APPENDED_RULE, codes::ONLY_FOR_IPV4, codes::NETWORK_NOT_OPENED];
        report.diagnostics.iter().map(|found| found.code).filter(|code| mine.contains(code)).collect()
    }

    #[test]
    fn a_command_that_opens_for_every_address_is_warned_of() {
        let only_ipv4 = "allow = 0.0.0.0/0\n";
        for command in [
            "iptables -I INPUT -p udp --dport 51820 -j ACCEPT",
            "iptables -I INPUT -s 0.0.0.0/0 -p udp --dport 51820 -j ACCEPT",
            "sudo /usr/sbin/iptables -D INPUT -p tcp --dport 21 -j REJECT",
            "iptables -F",
            "iptables -I FORWARD -d 192.0.2.10 -j ACCEPT",
            "/sbin/no-such-path/iptables -I INPUT -s %IP% -j ACCEPT && iptables -D INPUT -p tcp --dport 21 -j REJECT",
            "ufw allow 22/tcp",
            "ufw allow from any to any port 22",
            "firewall-cmd --zone=public --add-port=22/tcp",
            "firewall-cmd --add-port=22/tcp",
            "nft insert rule inet filter input tcp dport 22 accept",
        ] {
            let expected = [codes::OPENS_FOR_EVERY_ADDRESS];
            assert_eq!(of(&format!("{only_ipv4}start_command = {command}")), expected, "{command}");
        }
        for command in [
            "iptables -I INPUT -s %IP% -p udp --dport 51820 -j ACCEPT",
            "iptables -I INPUT -j ACCEPT -s %IP%",
            "iptables -I INPUT -s $PORTKNOCK_IP -p udp --dport 51820 -j ACCEPT",
            "iptables -I INPUT -s 10.0.0.0/8 -j ACCEPT",
            "iptables -I INPUT -m set --match-set home src -j ACCEPT",
            "iptables -D INPUT -s %IP% -j DROP",
            "ufw insert 1 allow from %IP% to any port 22",
            "/usr/local/bin/wake-the-server",
            "echo iptables -I INPUT -j ACCEPT",
        ] {
            assert_eq!(of(&format!("{only_ipv4}start_command = {command}")), [""; 0], "{command}");
        }
    }

    #[test]
    fn a_command_that_leaves_the_network_out_is_warned_of() {
        let open = "open_prefix = 24,56\nopen = tcp/22\n";
        let expected = [codes::NETWORK_NOT_OPENED];
        for commands in [
            "start_command = /usr/local/bin/open %IP%",
            "start_command = /usr/local/bin/open %NET%\nstop_command = /usr/local/bin/close %IP%",
            "start_command_6 = ip6tables -I INPUT -s %IP% -j ACCEPT",
            "start_command = echo %IP%; nft add element inet filter open '{ %IP% }'",
        ] {
            assert_eq!(of(&format!("{open}{commands}")), expected, "{commands}");
            assert_eq!(of(&format!("open = tcp/22\n{commands}")), [""; 0], "{commands}");
        }
        for commands in [
            "",
            "start_command = /usr/local/bin/open %NET%\nstop_command = /usr/local/bin/close %IP% %NET%",
            "start_command = /usr/local/bin/open %IP% $PORTKNOCK_NET",
            "start_command = /usr/local/bin/open",
            "start_command = logger opened for %IP%\nstop_command = /bin/echo %IP% | mail -s closed root",
        ] {
            assert_eq!(of(&format!("{open}{commands}")), [""; 0], "{commands}");
        }
        let six = "start_command_6 = /usr/local/bin/open %IP%\nopen = tcp/22\n";
        assert_eq!(of(&format!("{six}open_prefix = 24")), [""; 0], "IPv6 opens for the address");
        assert_eq!(of(&format!("{six}open_prefix = 32,64")), expected);
        assert_eq!(of("open_prefix = 24"), expected, "nothing opens");
    }

    #[test]
    fn an_appended_rule_is_warned_of() {
        let appended = "start_command = iptables -A INPUT -s %IP% -j ACCEPT\nstart_command_6 =";
        assert_eq!(of(appended), [codes::APPENDED_RULE]);
        let of_nft = "start_command = nft add rule inet filter input ip saddr %IP% accept\nstart_command_6 =";
        assert_eq!(of(of_nft), [codes::APPENDED_RULE]);
        assert_eq!(of("start_command = iptables -A PORTKNOCK -s %IP% -j ACCEPT\nstart_command_6 ="), [""; 0]);
        assert_eq!(of("start_command = iptables -A INPUT -s %IP% -j DROP\nstart_command_6 ="), [""; 0]);
    }

    #[test]
    fn a_command_for_ipv4_alone_is_warned_of_where_ipv6_reaches() {
        let command = "start_command = iptables -I INPUT -s %IP% -j ACCEPT\n";
        let expected = [codes::ONLY_FOR_IPV4];
        for lines in ["", "allow = 10.0.0.0/8,2001:db8::/32", "target = 2001:db8::1"] {
            assert_eq!(of(&format!("{command}{lines}")), expected, "{lines}");
        }
        for lines in [
            "allow = 10.0.0.0/8",
            "target = 192.0.2.1",
            "start_command_6 =",
            "start_command_6 = ip6tables -I INPUT -s %IP% -j ACCEPT",
        ] {
            assert_eq!(of(&format!("{command}{lines}")), [""; 0], "{lines}");
        }
        assert_eq!(of("start_command = /usr/local/bin/open %IP%"), [""; 0]);
    }
}
