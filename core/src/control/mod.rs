//! The protocol between the daemon and `portknock status`, `close`, `reload` and `events`.
//!
//! Requests and responses are lines of JSON over a Unix socket: a connection carries one request
//! and its response. `docs/control.md` describes the protocol for other programs.

mod prometheus;
mod report;
mod text;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use report::{DaemonInfo, MAX_LISTED_OPENINGS, OpeningReport, StatusReport};

/// Maximum length of a request in bytes, including the line feed.
pub const MAX_REQUEST: usize = 4096;

/// A request to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Return the status.
    Status,
    /// Close a door for an address or a network now.
    Close {
        /// The door's name.
        door: String,
        /// The address or the network that it is open for.
        #[serde(rename = "ip", with = "addresses")]
        addresses: IpNet,
    },
    /// Read the configuration again.
    Reload,
    /// Send the events from now on, each as a line of [`event_line`](crate::json::event_line).
    Events,
}

impl Request {
    /// Returns the request as a line of JSON, with its line feed.
    pub fn to_line(&self) -> String {
        line_of(self)
    }

    /// Parses a request.
    ///
    /// # Errors
    /// Returns a description of the error.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| format!("invalid request: {error}"))
    }
}

/// A response of the daemon. The response to [`Request::Events`] is the events, followed by an
/// error if the daemon ends them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The response to [`Request::Status`].
    Status(Box<StatusReport>),
    /// The response to [`Request::Close`]: the number of openings that the daemon closed. Their
    /// stop commands are queued.
    Closed(usize),
    /// The response to [`Request::Reload`].
    Reload(ReloadResult),
    /// The error for which the request failed.
    Error(String),
}

/// The result of reading the configuration again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadResult {
    /// True if the new configuration is in force, false if the old one stays in force.
    pub taken: bool,
    /// Diagnostics for the file and, if it was rejected, the reason; one line each.
    pub messages: Vec<String>,
}

impl Response {
    /// Returns the response as a line of JSON, with its line feed.
    pub fn to_line(&self) -> String {
        line_of(self)
    }

    /// Parses a response.
    ///
    /// # Errors
    /// Returns a description of the error.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| format!("invalid response: {error}"))
    }

    /// Returns the error in a line of events, if the line contains one.
    pub fn error_among_events(line: &[u8]) -> Option<String> {
        match Self::parse(line) {
            Ok(Self::Error(error)) => Some(error),
            _ => None,
        }
    }
}

/// The text form of an address or a network.
mod addresses {
    use ipnet::IpNet;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::network::{DisplayNetwork, parse_network};

    pub(super) fn serialize<S: Serializer>(net: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&DisplayNetwork(*net))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_network(&text).ok_or_else(|| D::Error::custom("neither an address nor a network, as in `203.0.113.0/24`"))
    }
}

fn line_of(value: &impl Serialize) -> String {
    // Only maps whose keys are not strings could fail here, and there are none.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_have_the_documented_form() {
        let close =
            |addresses| Request::Close { door: "a \"b\"".into(), addresses: crate::parse_network(addresses).unwrap() };
        for (request, line) in [
            (Request::Status, r#"{"request":"status"}"#),
            (Request::Reload, r#"{"request":"reload"}"#),
            (Request::Events, r#"{"request":"events"}"#),
            (close("10.0.0.1"), r#"{"request":"close","door":"a \"b\"","ip":"10.0.0.1"}"#),
            (close("10.0.0.0/24"), r#"{"request":"close","door":"a \"b\"","ip":"10.0.0.0/24"}"#),
        ] {
            assert_eq!(request.to_line(), format!("{line}\n"));
            assert_eq!(Request::parse(line.as_bytes()), Ok(request));
        }
        let reload = ReloadResult { taken: false, messages: vec!["no".into()] };
        assert_eq!(Response::Reload(reload).to_line(), "{\"reload\":{\"taken\":false,\"messages\":[\"no\"]}}\n");
        assert_eq!(Response::Closed(1).to_line(), "{\"closed\":1}\n");
        let error = Response::Error("no".into()).to_line();
        assert_eq!(Response::error_among_events(error.as_bytes()).as_deref(), Some("no"));
        assert_eq!(Response::error_among_events(br#"{"time":1.0,"event":"open","door":"error"}"#), None);
    }

    #[test]
    fn an_invalid_request_is_rejected() {
        for line in [
            "",
            "status",
            "{}",
            "[]",
            r#"{"request":"stop"}"#,
            r#"{"request":"close","door":"a","ip":"x"}"#,
            r#"{"request":"close","door":"a","ip":"10.0.0.1/24"}"#,
        ] {
            let error = Request::parse(line.as_bytes()).unwrap_err();
            assert!(error.starts_with("invalid request: "), "{error}");
        }
        let error = Request::parse(br#"{"request":"stop"}"#).unwrap_err();
        assert!(error.contains("`status`") && error.contains("`events`"), "{error}");
        Request::parse(&[b'[', 0xff, b'{']).unwrap_err();
        Request::parse("[".repeat(MAX_REQUEST).as_bytes()).unwrap_err();
    }
}
