//! Packets that fwknop's own client made: those that the server accepts are read with each field, and
//! every other one is refused with its reason.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;

use data_encoding::BASE64;
use portknock_core::Timestamp;
use portknock_core::fwknop::{FwknopKey, HmacDigest};
use portknock_core::internals::{FwknopError, WeakReason, diagnose, open_fwknop};
use serde_json::Value;

/// The vectors, `None` if they are not at hand: `PORTKNOCK_CORPUS`, or `shared/corpus` next to the
/// workspace. They are not part of this project.
fn vectors() -> Option<Vec<Value>> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus"));
    let directory = std::env::var_os("PORTKNOCK_CORPUS").map_or_else(beside, PathBuf::from);
    let path = directory.join("spa/fwknop-2.6.10.json");
    let Ok(text) = fs::read(&path) else {
        eprintln!("SKIPPED: there is no {}", path.display());
        return None;
    };
    let vectors: Value = serde_json::from_slice(&text).unwrap();
    // The client refused to make some packets.
    Some(vectors["vectors"].as_array().unwrap().iter().filter(|vector| vector["packet"].is_string()).cloned().collect())
}

/// The bytes of a key of a vector.
fn bytes(key: &Value) -> Vec<u8> {
    match (key["base64"].as_str(), key["text"].as_str()) {
        (Some(base64), _) => BASE64.decode(base64.as_bytes()).unwrap(),
        (_, Some(text)) => text.as_bytes().to_vec(),
        _ => b"unused".to_vec(),
    }
}

fn key(vector: &Value) -> FwknopKey {
    let digest = vector["hmac_type"].as_str().and_then(|digest| digest.parse().ok()).unwrap_or(HmacDigest::Sha256);
    FwknopKey::new("alice", None, &bytes(&vector["key"]), digest, &bytes(&vector["hmac_key"])).unwrap()
}

fn packet(vector: &Value) -> &[u8] {
    vector["packet"].as_str().unwrap().as_bytes()
}

/// A field as the client printed it.
fn field<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector["client_said"][name].as_str().unwrap()
}

fn time(vector: &Value) -> Timestamp {
    Timestamp::from_secs(field(vector, "Timestamp").parse().unwrap())
}

/// The reason for which a packet must be refused, and whether its HMAC is not accepted.
fn refusal(vector: &Value) -> Option<(FwknopError, bool)> {
    let weak = |reason, has_no_hmac| Some((FwknopError::Weak(reason), has_no_hmac));
    match (vector["mode"].as_str().unwrap(), vector["hmac_type"].as_str()) {
        ("legacy", None) => return weak(WeakReason::Legacy, true),
        ("cbc", None) => return weak(WeakReason::NoHmac, true),
        ("cbc", Some("md5")) => return weak(WeakReason::HmacMd5, true),
        ("cbc", Some("sha1")) => return weak(WeakReason::HmacSha1, true),
        ("cbc", Some("sha3_256" | "sha3_512")) => return weak(WeakReason::HmacUnknown, true),
        ("cbc", Some("sha256" | "sha384" | "sha512")) => {}
        (_, Some("sha256")) => return weak(WeakReason::Mode, false),
        other => panic!("{other:?}"),
    }
    if field(vector, "Digest Type").contains("SHA3_") {
        return weak(WeakReason::Digest, false);
    }
    match &field(vector, "Message Type")[..1] {
        "0" => Some((FwknopError::Command, false)),
        "1" | "3" => None,
        _ => Some((FwknopError::Nat, false)),
    }
}

#[test]
fn each_packet_is_read_or_refused_with_its_reason() {
    let (mut opened, mut refused) = (0, 0);
    for vector in vectors().iter().flatten() {
        let (key, name) = (key(vector), &vector["name"]);
        let found = open_fwknop(&key, packet(vector));
        let diagnosis = diagnose(&key, packet(vector));
        match refusal(vector) {
            Some((error, true)) => {
                assert_eq!(found, Err(FwknopError::NotAuthentic), "{name}");
                assert_eq!(diagnosis, Some((error, time(vector))), "{name}");
                refused += 1;
            }
            Some((error, false)) => {
                assert_eq!((found, diagnosis), (Err(error), None), "{name}");
                refused += 1;
            }
            None => {
                let content = found.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!((content.time, &*content.user), (time(vector), field(vector, "Username")), "{name}");
                let address = content.address.map_or("0.0.0.0".to_owned(), |address| address.to_string());
                let ports = content.ports.iter().map(|port| format!(",{port}"));
                let message: String = std::iter::once(address).chain(ports).collect();
                assert_eq!(message, field(vector, "Message String"), "{name}");
                let hmac = data_encoding::BASE64_NOPAD.decode(field(vector, "HMAC").as_bytes()).unwrap();
                assert_eq!(content.token, hmac[..12], "{name}");
                assert_eq!(diagnosis, None, "{name}");
                opened += 1;
            }
        }
    }
    assert!(vectors().is_none() || (opened, refused) == (19, 15), "{opened} {refused}");
}

#[test]
fn no_altered_packet_is_opened() {
    for vector in vectors().iter().flatten() {
        let (key, packet) = (key(vector), packet(vector));
        for at in 0..packet.len() {
            for with in [0, b'=', b'A', b'9', packet[at] ^ 1, packet[at] ^ 0x20, packet[at].wrapping_add(1), 0xff] {
                let mut altered = packet.to_vec();
                altered[at] = with;
                assert!(with == packet[at] || open_fwknop(&key, &altered).is_err(), "{}: byte {at}", vector["name"]);
            }
            assert!(open_fwknop(&key, &packet[..at]).is_err());
        }
        assert!(open_fwknop(&key, &[packet, b"="].concat()).is_err());
        assert!(open_fwknop(&key, &[b"U2FsdGVkX1", packet].concat()).is_err());
    }
}

/// No key of another vector opens a packet, unless it has the same keys.
#[test]
fn no_other_key_opens_a_packet() {
    let vectors = vectors().unwrap_or_default();
    for vector in &vectors {
        for other in
            vectors.iter().filter(|other| (&other["key"], &other["hmac_key"]) != (&vector["key"], &vector["hmac_key"]))
        {
            assert!(open_fwknop(&key(other), packet(vector)).is_err());
        }
    }
}
