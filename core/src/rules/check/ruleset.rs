//! The packet filter that is in force, as the programs tell it that manage it.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;

use super::chain::Table;
use super::iptables::IptablesDump;
use super::packet::Packet;
use super::{iptables, nft};
use crate::sys::netlink::Network;

/// The packet filter that is in force.
#[derive(Clone, Debug, Default)]
pub struct ActiveRuleset {
    /// What `nft -j list ruleset` says.
    pub(super) nft: Vec<Value>,
    /// What `nft -a list ruleset` says, which has each rule as people write it.
    pub(super) nft_text: String,
    /// What iptables' own programs say of what is theirs: a name for it, whether it is IPv6, and the text.
    pub(super) saved: Vec<IptablesDump>,
    /// The addresses of this host; empty where they are not known.
    pub(super) addresses: HashSet<IpAddr>,
}

/// Why the packet filter cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A program does not start.
    #[error(
        "cannot run {program}: {error}; it is needed to read the packet filter (Debian: apt-get install {package})"
    )]
    Start {
        /// The program.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// A program fails.
    #[error("`{command}` failed: {message}{}", if *.root { "" } else { " (only root may read the packet filter)" })]
    Failed {
        /// The command.
        command: String,
        /// What it says.
        message: String,
        /// False where this process is not root.
        root: bool,
    },
    /// What a program writes is no JSON of nft's.
    #[error("cannot read what `nft -j list ruleset` writes: {0}")]
    Json(String),
}

impl ActiveRuleset {
    /// Reads it, by `nft`, and by the programs of iptables where rules of theirs are in force. Needs root.
    pub fn read() -> Result<Self, ReadError> {
        let json = output("nft", "nftables", &["-j", "list", "ruleset"])?;
        let nft_text = output("nft", "nftables", &["-s", "-a", "list", "ruleset"])?;
        let nft = nft::objects(&json).map_err(ReadError::Json)?;
        let mut saved = Vec::new();
        for (ipv6, current, legacy, names) in [
            (false, "iptables-nft-save", "iptables-legacy-save", "/proc/net/ip_tables_names"),
            (true, "ip6tables-nft-save", "ip6tables-legacy-save", "/proc/net/ip6_tables_names"),
        ] {
            // nft does not say what modules of iptables look at. Where that program is missing, their rules are not understood.
            let text = nft::has_foreign_rules(&nft, ipv6).then(|| output(current, "iptables", &[]));
            saved.extend(text.and_then(Result::ok).map(|text| IptablesDump {
                program: current,
                ipv6,
                legacy: false,
                text,
            }));
            if fs::read_to_string(names).is_ok_and(|tables| !tables.trim().is_empty()) {
                let text = output(legacy, "iptables", &[])?;
                saved.push(IptablesDump { program: legacy, ipv6, legacy: true, text });
            }
        }
        let addresses = Network::read().map(|network| network.addresses).unwrap_or_default();
        Ok(Self { nft, nft_text, saved, addresses })
    }

    /// All tables that the packet meets.
    pub(super) fn tables(&self, packet: &Packet) -> Vec<Table> {
        let saved = self.saved.iter().filter(|saved| saved.ipv6 == packet.ipv6);
        let mut tables: Vec<Table> = saved.clone().flat_map(|saved| iptables::tables(saved, packet)).collect();
        let told: Vec<&str> =
            saved.filter(|saved| !saved.legacy).flat_map(|saved| iptables::table_names(&saved.text)).collect();
        tables.extend(nft::tables(&self.nft, &self.nft_text, packet, &told));
        tables
    }
}

fn output(program: &'static str, package: &'static str, args: &[&str]) -> Result<String, ReadError> {
    let started = Command::new(program).args(args).env("LC_ALL", "C").output();
    let output = started.map_err(|error| ReadError::Start { program, package, error })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let command = [&[program], args].concat().join(" ");
    let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(ReadError::Failed { command, message, root: crate::sys::process::effective_user() == 0 })
}
