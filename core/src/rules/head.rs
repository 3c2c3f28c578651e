//! The lines at the head of a rule set: what it is, and how it is used.

use super::{Format, OPEN_CHAIN, OPEN_SETS, RuleSet, TABLE, comment};
use crate::config::Refusal;

/// The head, as comment lines.
pub(super) fn lines(rule_set: &RuleSet, format: Format) -> String {
    let says = |text: &str| comment("", text);
    let (families, load) = match format {
        Format::Nft => ("IPv4 and IPv6", "nft -f"),
        Format::Iptables => ("IPv4", "iptables-restore"),
        Format::Ip6tables => ("IPv6", "ip6tables-restore"),
    };
    let name = match format {
        Format::Nft => "nft",
        Format::Iptables => "iptables",
        Format::Ip6tables => "ip6tables",
    };
    let allow = rule_set.allow.to_string();
    let option = match allow.len() {
        0 => String::new(),
        // iptables-restore takes no line of more than 10,240 bytes, not even a comment.
        1..1_000 => format!(" --allow {allow}"),
        _ => " --allow …".into(),
    };
    let refusal = rule_set.refusal;
    let mut head = says(&format!("The packet filter of a host behind doors, {families}."));
    head += &says(&format!("Made by: portknock rules --style {refusal} --format {name}{option}"));
    head += &says(match refusal {
        Refusal::Reject => "A port behind a door answers like one on which nothing listens.",
        Refusal::Drop => "Nothing is answered: the host looks absent.",
    });
    head += "#\n";
    head += &says(if allow.is_empty() {
        "No port is open for everyone: whoever is not connected yet has to knock (--allow PORTS keeps ports open)."
    } else {
        "The ports of --allow are open for everyone."
    });
    head +=
        &says(&format!("Load it by `{load} FILE`, and at every start of the system. All of it is loaded, or nothing."));
    match format {
        Format::Nft => {
            head += &says(
                "Loading it again replaces the rules and leaves the openings in the sets alone. Other tables are not touched; what \
                 they drop stays dropped: `portknock rules --check` tells.",
            );
            head += &says(&format!("It is removed by `nft delete table inet {TABLE}`."));
        }
        Format::Iptables | Format::Ip6tables => {
            head += &says(
                "It replaces the whole table `filter`, open doors in it too: loaded again, it shuts them for new connections. What \
                 other tables drop stays dropped: `portknock rules --check` tells.",
            );
            let other = if format == Format::Iptables { "ip6tables" } else { "iptables" };
            head += &says(&format!(
                "It is one half: load the one of `--format {other}` too, or the other IP version is open to everyone."
            ));
        }
    }
    head += &says(match refusal {
        Refusal::Reject => "TCP connections that are up stay up.",
        Refusal::Drop => {
            "Connections that the kernel does not track when it is loaded are cut off: on a host that had no packet filter, see \
             `before the first time` in docs/rules.md."
        }
    });
    head += "#\n";
    match format {
        Format::Nft => {
            let [open4, open6] = OPEN_SETS;
            head += &says("portknockd opens doors in it with this line in the [options] of its configuration:");
            head += &format!("#     Gate = set inet {TABLE} {open4} {open6}\n");
        }
        Format::Iptables | Format::Ip6tables => {
            let six = if format == Format::Ip6tables { "_6" } else { "" };
            head += &says(
                "portknockd opens doors in it with these lines in a door of its configuration, here for TCP port 22:",
            );
            for (key, action) in [("start_command", "-I"), ("stop_command", "-D")] {
                head += &format!(
                    "#     {key}{six} = /usr/sbin/{name} -w {action} {OPEN_CHAIN} -s %IP% -p tcp --dport 22 -j ACCEPT\n"
                );
            }
        }
    }
    head
}
