//! The table of known answers, if it is at hand: `probe-truth.tsv` in `PORTKNOCK_CORPUS`, or in
//! `shared/corpus` next to the workspace. Like the rest of that directory it is not part of this
//! project.

use std::collections::HashMap;
use std::path::PathBuf;

use portknock_core::Protocol;

use super::{CaseId, Family, Verdict};
use crate::skipped;

/// A row of the table: nmap's verdicts about a case when the table was made.
#[derive(Clone, Debug)]
pub struct Truth {
    /// The case.
    pub id: CaseId,
    /// The correct state; `None` if the table expects an error message instead.
    pub state: Option<String>,
    /// nmap with raw sockets: `-sS`, for UDP `-sU`.
    pub nmap: Verdict,
    /// nmap without them: `-sT`; `None` for UDP, which it does not support without raw sockets.
    pub nmap_connect: Option<Verdict>,
}

impl Truth {
    /// All rows. If the table is not at hand, reports the test as skipped and returns `None`.
    pub fn read() -> Option<Vec<Self>> {
        let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus"));
        let path = std::env::var_os("PORTKNOCK_CORPUS").map_or_else(beside, PathBuf::from).join("probe-truth.tsv");
        let Ok(text) = std::fs::read_to_string(&path) else {
            skipped(&format!("there is no {}", path.display()));
            return None;
        };
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().expect("the table has a header").split('\t').collect();
        let row = |line: &str| Self::from_row(&header.iter().copied().zip(line.split('\t')).collect());
        Some(lines.map(row).collect())
    }

    fn from_row(row: &HashMap<&str, &str>) -> Self {
        let field = |name: &str| *row.get(name).unwrap_or_else(|| panic!("no column `{name}` in {row:?}"));
        let verdict = |scan: &str| {
            // After the reason follows the packet's time to live.
            let reason = field(&format!("nmap_{scan}_reason")).split(' ').next().unwrap_or_default();
            Verdict::new(field(&format!("nmap_{scan}_state")), reason)
        };
        let family = match field("family") {
            "ipv4" => Family::V4,
            "ipv6" => Family::V6,
            other => panic!("no family: {other}"),
        };
        let (protocol, nmap, nmap_connect) = match field("proto") {
            "tcp" => (Protocol::Tcp, verdict("sS"), Some(verdict("sT_nonroot"))),
            "udp" => (Protocol::Udp, verdict("sU"), None),
            other => panic!("no protocol: {other}"),
        };
        let state = Some(field("expected_state")).filter(|state| *state != "error").map(String::from);
        Self { id: CaseId { name: field("case").into(), family, protocol }, state, nmap, nmap_connect }
    }
}
