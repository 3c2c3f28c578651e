//! The vectors of `docs/protocol.md`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use portknock_core::client_file::{ClientFile, parse_port_range};
use portknock_core::internals::open_at;
use portknock_core::keys::Key;
use portknock_core::spa::{PacketContent, seal_with};
use portknock_core::{TimeSequence, Timestamp};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// The vectors of the document under this name.
fn vectors(name: &str) -> Value {
    let begin = format!("\n```json {name}\n");
    let text = DOCUMENT.split(&begin).nth(1).unwrap().split("\n```").next().unwrap();
    serde_json::from_str(text).unwrap()
}

fn list(name: &str) -> Vec<Value> {
    vectors(name).as_array().unwrap().clone()
}

fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap()
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
}

fn server_key() -> Key {
    Key::from_bytes(bytes(text(&vectors("keys"), "server_key")))
}

#[test]
fn keys_have_the_documented_text_and_the_documented_key_of_a_server() {
    let keys = vectors("keys");
    let key = Key::from_bytes(bytes(text(&keys, "key")));
    assert_eq!(*key.to_text(), text(&keys, "key_text"));
    assert!(text(&keys, "key_text").parse::<Key>().unwrap() == key);
    assert!(key.for_server(text(&keys, "server")) == server_key());
    assert_eq!(*server_key().to_text(), text(&keys, "server_key_text"));
    let file = format!("name = alice\nkey = {}\nserver = {}\n", *key.to_text(), text(&keys, "server"));
    assert!(ClientFile::parse(file.as_bytes(), Path::new("")).unwrap().shared_key() == server_key());
}

#[test]
fn sequences_are_the_documented_ones() {
    let sequences = list("sequences");
    assert!(sequences.len() >= 10);
    for vector in sequences {
        let time = TimeSequence {
            steps: u8::try_from(vector["steps"].as_u64().unwrap()).unwrap(),
            ports: parse_port_range(text(&vector, "time_ports")).unwrap(),
            protocols: text(&vector, "time_protocols").parse().unwrap(),
            window: Duration::from_secs(vector["time_step"].as_u64().unwrap()),
        };
        // Times after 2554 do not fit into a timestamp.
        let window = vector["window"].as_u64().unwrap();
        assert_eq!(window, vector["unix"].as_u64().unwrap() / time.window.as_secs());
        let sequence = time.sequence(&server_key(), window).to_string();
        assert_eq!(sequence.replace(',', " "), text(&vector, "sequence"), "{vector}");
    }
}

#[test]
fn packets_are_the_documented_ones() {
    let packets = list("packets");
    assert!(packets.len() >= 4);
    for vector in packets {
        let time = Timestamp::from_nanos(vector["time_ms"].as_u64().unwrap() * 1_000_000);
        let content = PacketContent {
            time,
            address: vector["address"].as_str().map(|address| address.parse::<IpAddr>().unwrap()),
            seconds: u32::try_from(vector["seconds"].as_u64().unwrap()).unwrap(),
            door: text(&vector, "door").to_owned(),
        };
        let packet = bytes(text(&vector, "packet"));
        assert_eq!(seal_with(&server_key(), &content, bytes(text(&vector, "nonce"))).unwrap(), packet, "{vector}");
        assert_eq!(open_at(&server_key(), time, &packet), Some(content), "{vector}");
    }
}

#[test]
fn the_documented_defaults_are_those_of_files() {
    let keys = vectors("keys");
    let file = format!("name = alice\nkey = {}\n", text(&keys, "key_text"));
    let file = ClientFile::parse(file.as_bytes(), Path::new("")).unwrap();
    assert_eq!((file.time, file.port), (TimeSequence::default(), NonZeroU16::new(62_201).unwrap()));
}
