//! Reads the packet filter in force, with the programs that manage it.

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

/// The packet filter in force.
#[derive(Clone, Debug, Default)]
pub struct ActiveRuleset {
    /// The objects in the output of `nft -j list ruleset`.
    pub(super) nft: Vec<Value>,
    /// The output of `nft -s -a list ruleset`, which contains the text of each rule.
    pub(super) nft_text: String,
    /// The output of the programs of iptables.
    pub(super) dumps: Vec<IptablesDump>,
    /// The addresses of this host; empty if they are unknown.
    pub(super) addresses: HashSet<IpAddr>,
}

/// The error if the packet filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A program cannot be started.
    #[error(
        "cannot run {program}: {error}; portknock needs it to read the packet filter (Debian: apt-get install {package})"
    )]
    Start {
        /// The program.
        program: &'static str,
        /// The Debian package that contains it.
        package: &'static str,
        /// The error of the system.
        error: std::io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed: {message}{}", if *.root { "" } else { " (only root may read the packet filter)" })]
    Failed {
        /// The command.
        command: String,
        /// The program's error message.
        message: String,
        /// False if this process is not root.
        root: bool,
    },
    /// The output of nft is invalid.
    #[error("the output of `nft -j list ruleset` is invalid: {0}")]
    Json(String),
}

impl ActiveRuleset {
    /// Reads the packet filter with `nft`, and with the programs of iptables if rules of iptables
    /// are in force. Needs root.
    ///
    /// # Errors
    /// Fails if a program cannot be started or fails, or if its output is invalid.
    pub fn read() -> Result<Self, ReadError> {
        let json = output("nft", "nftables", &["-j", "list", "ruleset"])?;
        let nft_text = output("nft", "nftables", &["-s", "-a", "list", "ruleset"])?;
        let nft = nft::objects(&json).map_err(ReadError::Json)?;
        let mut dumps = Vec::new();
        for (ipv6, current, legacy, names) in [
            (false, "iptables-nft-save", "iptables-legacy-save", "/proc/net/ip_tables_names"),
            (true, "ip6tables-nft-save", "ip6tables-legacy-save", "/proc/net/ip6_tables_names"),
        ] {
            // nft does not list the options of iptables modules. If the iptables program is
            // missing, the result for their rules is unknown.
            let text = nft::has_iptables_rules(&nft, ipv6).then(|| output(current, "iptables", &[]));
            dumps.extend(text.and_then(Result::ok).map(|text| IptablesDump {
                program: current,
                ipv6,
                legacy: false,
                text,
            }));
            if fs::read_to_string(names).is_ok_and(|tables| !tables.trim().is_empty()) {
                let text = output(legacy, "iptables", &[])?;
                dumps.push(IptablesDump { program: legacy, ipv6, legacy: true, text });
            }
        }
        let addresses = Network::read().map(|network| network.addresses).unwrap_or_default();
        Ok(Self { nft, nft_text, dumps, addresses })
    }

    /// Returns all tables that process the packet.
    pub(super) fn tables(&self, packet: &Packet) -> Vec<Table> {
        let dumps = self.dumps.iter().filter(|dump| dump.ipv6 == packet.ipv6);
        let mut tables: Vec<Table> = dumps.clone().flat_map(|dump| iptables::tables(dump, packet)).collect();
        let dumped: Vec<&str> =
            dumps.filter(|dump| !dump.legacy).flat_map(|dump| iptables::table_names(&dump.text)).collect();
        tables.extend(nft::tables(&self.nft, &self.nft_text, packet, &dumped));
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
