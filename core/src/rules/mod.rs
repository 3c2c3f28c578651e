//! Generates a packet filter for a whole host that doors protect, and checks the packet filter in
//! force.
//!
//! `plan` defines the rules once. The other modules render them for nft, iptables-restore and
//! ip6tables-restore, so that the formats stay equivalent. [`check`] reads the packet filter in
//! force and reports whether a knock opens a port in it.

pub mod check;
mod head;
mod iptables;
mod nft;
mod plan;
mod ports;

pub use ports::{AllowedPorts, AllowedPortsError, PortRange};

use crate::config::Refusal;
use crate::gate;
use crate::host::Family;

/// The table of the nft rule set, in the family `inet`.
pub const TABLE: &str = "portknock_host";
/// The sets of openings in this table, for IPv4 and IPv6. The managed table of the daemon uses the
/// same names.
pub const OPEN_SETS: [&str; 2] = gate::SETS;
/// The chain into which the commands of doors insert their rules, in the iptables and the ip6tables
/// rule set.
pub const OPEN_CHAIN: &str = "PORTKNOCK";

/// The format of a rule set, for the program that loads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `nft -f`, IPv4 and IPv6.
    Nft,
    /// `iptables-restore`, IPv4.
    Iptables,
    /// `ip6tables-restore`, IPv6.
    Ip6tables,
}

/// A rule set to print.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// The treatment of packets that no rule allows.
    pub refusal: Refusal,
    /// The ports that stay open to every client.
    pub allow: AllowedPorts,
    /// Whether a comment before each rule explains its purpose.
    pub explain: bool,
}

impl RuleSet {
    /// Returns the text for the program that loads it.
    pub fn render(&self, format: Format) -> String {
        let rules = plan::rules(self.refusal, &self.allow);
        let head = head::lines(self, format);
        match format {
            Format::Nft => nft::render(&head, &rules, self.explain),
            Format::Iptables => iptables::render(&head, &rules, Family::V4, self.explain),
            Format::Ip6tables => iptables::render(&head, &rules, Family::V6, self.explain),
        }
    }
}

/// Wraps text into comment lines of at most 100 characters, each after `indent` and `# `.
fn comment(indent: &str, text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > 100 {
            lines += &format!("{indent}# {line}\n");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + &format!("{indent}# {line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule_set(refusal: Refusal, explain: bool) -> RuleSet {
        RuleSet { refusal, allow: "443,8000-8100,U:53".parse().unwrap(), explain }
    }

    fn assert_golden(name: &str, text: &str) {
        portknock_golden::assert_golden(&format!("core/src/rules/golden/{name}"), text);
    }

    #[test]
    fn the_texts_equal_the_golden_files() {
        for (format, ending) in [(Format::Nft, "nft"), (Format::Iptables, "iptables"), (Format::Ip6tables, "ip6tables")]
        {
            for refusal in [Refusal::Reject, Refusal::Drop] {
                assert_golden(&format!("{refusal}.{ending}"), &rule_set(refusal, false).render(format));
            }
        }
        assert_golden("reject-explained.nft", &rule_set(Refusal::Reject, true).render(Format::Nft));
    }

    #[test]
    fn every_rule_has_a_comment() {
        for refusal in [Refusal::Reject, Refusal::Drop] {
            for explain in [false, true] {
                let rule_set = rule_set(refusal, explain);
                let nft = rule_set.render(Format::Nft);
                let verdict = |line: &str| {
                    let line = line.split(" comment ").next().unwrap().trim();
                    !line.starts_with('#')
                        && ["accept", "drop", "reset", "unreachable"].iter().any(|end| line.ends_with(end))
                };
                let rules: Vec<&str> = nft.lines().filter(|line| verdict(line)).collect();
                assert!(rules.len() > 10, "{nft}");
                assert!(rules.iter().all(|rule| rule.ends_with('"') && rule.contains(" comment \"")), "{rules:#?}");
                for format in [Format::Iptables, Format::Ip6tables] {
                    let text = rule_set.render(format);
                    let mut rules = text.lines().filter(|line| line.starts_with("-A "));
                    assert!(rules.all(|rule| rule.contains(" -m comment --comment \"")), "{text}");
                }
            }
        }
    }

    /// iptables-restore refuses lines of 10,240 bytes.
    #[test]
    fn no_line_is_too_long() {
        let ports: Vec<_> = (1..=u16::MAX).step_by(2).map(|port| port.to_string()).collect();
        let allow: AllowedPorts = ports.join(",").parse().unwrap();
        for format in [Format::Iptables, Format::Ip6tables] {
            let text = RuleSet { refusal: Refusal::Reject, allow: allow.clone(), explain: true }.render(format);
            assert!(text.lines().all(|line| line.len() < 10_240));
            assert!(text.contains(" --allow …\n"), "{}", &text[..1_000]);
        }
    }

    /// Explanations do not change the rules.
    #[test]
    fn explanations_add_only_comments() {
        let without_comments = |text: String| {
            text.lines()
                .filter(|line| !line.is_empty() && !line.trim_start().starts_with('#'))
                .map(|line| format!("{line}\n"))
                .collect::<String>()
        };
        for format in [Format::Nft, Format::Iptables, Format::Ip6tables] {
            let [short, long] = [false, true].map(|explain| rule_set(Refusal::Reject, explain).render(format));
            assert!(long.len() > short.len() + 1_000);
            assert_eq!(without_comments(long), without_comments(short));
        }
    }
}
