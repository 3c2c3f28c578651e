//! What a running daemon is asked by `portknock status` and its like, and what it answers.
//!
//! Both are lines of JSON over a Unix socket: one request a connection, then its answer. `docs/control.md` has the
//! protocol for other programs.

mod prometheus;
mod report;
mod text;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use report::{Facts, MAX_LISTED, OpenDoor, Report};

/// The longest request in bytes, its line end included.
pub const MAX_REQUEST: usize = 4096;

/// What the daemon is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// What it holds and what it counted.
    Status,
    /// To close a door for an address or a network now.
    Close {
        /// The door's name.
        door: String,
        /// The address, or the network, that it is open for.
        #[serde(rename = "ip", with = "addresses")]
        addresses: IpNet,
    },
    /// To read its configuration again.
    Reload,
    /// To tell of events from now on, each as a line of [`event_line`](crate::json::event_line).
    Events,
}

impl Request {
    /// The request as it is sent, with its line end.
    pub fn to_line(&self) -> String {
        line_of(self)
    }

    /// Reads a request.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| format!("this is no request: {error}"))
    }
}

/// What the daemon answers. To [`Request::Events`] it answers with the events, and with an error where it ends them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Report>),
    /// To [`Request::Close`]: so many openings were closed, and their stop commands are on their way.
    Closed(usize),
    /// To [`Request::Reload`].
    Reload(Reload),
    /// Why there is nothing else.
    Error(String),
}

/// What became of a configuration that was read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// True where the new one is in force, false where the old one stays.
    pub taken: bool,
    /// What there is to say about it, line by line: the findings in the file, and why it is refused.
    pub messages: Vec<String>,
}

impl Answer {
    /// The answer as it is sent, with its line end.
    pub fn to_line(&self) -> String {
        line_of(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| format!("the answer makes no sense: {error}"))
    }

    /// The error in a line of events, where it is one.
    pub fn error_among_events(line: &[u8]) -> Option<String> {
        match Self::parse(line) {
            Ok(Self::Error(error)) => Some(error),
            _ => None,
        }
    }
}

/// An address or a network as a text.
mod addresses {
    use ipnet::IpNet;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::network::{Written, parse_network};

    pub(super) fn serialize<S: Serializer>(net: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Written(*net))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_network(&text).ok_or_else(|| D::Error::custom("neither an address nor a network, as in `203.0.113.0/24`"))
    }
}

fn line_of(value: &impl Serialize) -> String {
    // Only maps with keys that are no strings could fail here, and there are none.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_have_the_documented_form() {
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
        let reload = Reload { taken: false, messages: vec!["no".into()] };
        assert_eq!(Answer::Reload(reload).to_line(), "{\"reload\":{\"taken\":false,\"messages\":[\"no\"]}}\n");
        assert_eq!(Answer::Closed(1).to_line(), "{\"closed\":1}\n");
        let error = Answer::Error("no".into()).to_line();
        assert_eq!(Answer::error_among_events(error.as_bytes()).as_deref(), Some("no"));
        assert_eq!(Answer::error_among_events(br#"{"time":1.0,"event":"open","door":"error"}"#), None);
    }

    #[test]
    fn what_is_no_request_is_told_so() {
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
            assert!(error.starts_with("this is no request: "), "{error}");
        }
        let error = Request::parse(br#"{"request":"stop"}"#).unwrap_err();
        assert!(error.contains("`status`") && error.contains("`events`"), "{error}");
        Request::parse(&[b'[', 0xff, b'{']).unwrap_err();
        Request::parse("[".repeat(MAX_REQUEST).as_bytes()).unwrap_err();
    }
}
