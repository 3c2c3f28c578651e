//! Packets of the encoder: those that are opened, the reasons of those that are not, and altered ones.

use super::*;
use crate::time::Timestamp;

const HEAD: &str = "1790393497757183:YWxpY2U:1796030418:3.0.0";
const MESSAGE: &str = "MTkyLjAuMi43LHRjcC8yMg";
const TIME: Timestamp = Timestamp::from_secs(1_796_030_418);
const HMAC_KEY: &[u8] = b"battery staple";

fn key_with(digest: HmacDigest) -> FwknopKey {
    FwknopKey::new("phone", None, b"correct horse", digest, HMAC_KEY).unwrap()
}

fn key() -> FwknopKey {
    key_with(HmacDigest::Sha256)
}

fn seal(encoded: &str) -> Vec<u8> {
    seal_with(&key(), encoded, *b"saltsalt")
}

fn access() -> Vec<u8> {
    seal(&format!("{HEAD}:1:{MESSAGE}"))
}

#[test]
fn a_packet_for_access_is_opened() {
    for digest in HmacDigest::ALL {
        for encoded in [format!("{HEAD}:1:{MESSAGE}"), format!("{HEAD}:3:{MESSAGE}:60")] {
            let key = key_with(digest);
            let packet = seal_with(&key, &encoded, *b"saltsalt");
            let content = open(&key, &packet).unwrap();
            assert_eq!((content.time, content.address, &*content.user), (TIME, Some([192, 0, 2, 7].into()), "alice"));
            assert_eq!(content.ports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["tcp/22"]);
            let (_, mac) = key.mac.split(&packet).unwrap();
            assert_eq!(base64::decode(mac).unwrap()[..12], content.token);
            assert_eq!(diagnose(&key, &packet), None);
        }
    }
}

#[test]
fn each_refusal_has_its_reason() {
    for (rest, error) in [
        ("0:MTkyLjAuMi43LC91c3IvYmluL2lkIC11", FwknopError::Command),
        ("2:MTkyLjAuMi43LHRjcC8yMg:MTAuMC4wLjUsNTUwMDA", FwknopError::Nat),
        ("4:MTkyLjAuMi43LHRjcC8yMg:MTAuMC4wLjUsNTUwMDA:60", FwknopError::Nat),
        ("5:MTkyLjAuMi43LHRjcC8yMg:MTAuMC4wLjUsNTUwMDA", FwknopError::Nat),
        ("6:MTkyLjAuMi43LHRjcC8yMg:MTAuMC4wLjUsNTUwMDA:60", FwknopError::Nat),
        ("7:MTkyLjAuMi43LHRjcC8yMg", FwknopError::Malformed),
        ("1:MTkyLjAuMi43", FwknopError::Malformed),
    ] {
        assert_eq!(open(&key(), &seal(&format!("{HEAD}:{rest}"))), Err(error), "{rest}");
    }
    let with_user = |user: &str| {
        let key = FwknopKey { user: Some(user.into()), ..key() };
        open(&key, &access())
    };
    assert!(with_user("alice").is_ok());
    assert_eq!(with_user("Alice"), Err(FwknopError::User));
    let other = FwknopKey::new("phone", None, b"another horse", HmacDigest::Sha256, HMAC_KEY).unwrap();
    assert_eq!(open(&other, &access()), Err(FwknopError::Malformed));
    let other = FwknopKey::new("phone", None, b"correct horse", HmacDigest::Sha256, b"battery").unwrap();
    assert_eq!(open(&other, &access()), Err(FwknopError::NotAuthentic));
    assert_eq!(diagnose(&other, &access()), Some((FwknopError::Weak(WeakReason::HmacUnknown), TIME)));
}

#[test]
fn a_packet_without_an_accepted_hmac_is_diagnosed() {
    let packet = access();
    let (text, _) = packet.split_at(packet.len() - 43);
    let with = |mac: &str| diagnose(&key(), &[text, mac.as_bytes()].concat());
    let weak = |reason| Some((FwknopError::Weak(reason), TIME));
    assert_eq!(with(""), weak(WeakReason::NoHmac));
    assert_eq!(with(&"A".repeat(22)), weak(WeakReason::HmacMd5));
    assert_eq!(with(&"A".repeat(27)), weak(WeakReason::HmacSha1));
    assert_eq!(with(&"A".repeat(86)), weak(WeakReason::HmacUnknown));
    assert_eq!(with(&"A".repeat(42)), None);
    for digest in [HmacDigest::Sha384, HmacDigest::Sha512] {
        let mac = base64::encode(&key_with(digest).mac.compute(text));
        assert_eq!(with(&mac), weak(WeakReason::HmacDigest(digest)));
    }
    let other = FwknopKey::new("phone", None, b"another horse", HmacDigest::Sha256, HMAC_KEY).unwrap();
    assert_eq!(diagnose(&other, text), None, "another key made it");
    // The legacy mode pads short passphrases.
    let padded = FwknopKey::new("phone", None, b"correct horse000", HmacDigest::Sha256, HMAC_KEY).unwrap();
    let legacy = seal_with(&padded, &format!("{HEAD}:1:{MESSAGE}"), *b"saltsalt");
    assert_eq!(diagnose(&key(), &legacy[..legacy.len() - 43]), weak(WeakReason::Legacy));
}

#[test]
fn only_base64_characters_in_the_right_number_have_the_form() {
    assert!(has_form(&access()));
    for length in 0..3_000 {
        assert_eq!(has_form(&vec![b'8'; length]), (36..=1500).contains(&length), "{length}");
    }
    for first in 0..=u8::MAX {
        let mut packet = access();
        packet[0] = first;
        assert_eq!(has_form(&packet), b"89+/".contains(&first), "{first}");
    }
    for (at, with) in (1..204).zip((0..=u8::MAX).cycle()) {
        let mut packet = access();
        packet[at] = with;
        assert_eq!(has_form(&packet), with.is_ascii_alphanumeric() || b"+/".contains(&with), "{with}");
    }
}

#[test]
fn no_altered_packet_is_opened() {
    let packet = access();
    for at in 0..packet.len() {
        for with in (0..=u8::MAX).filter(|with| packet[at] != *with) {
            let mut altered = packet.clone();
            altered[at] = with;
            assert_eq!(open(&key(), &altered), Err(FwknopError::NotAuthentic), "byte {at}: {with}");
        }
    }
    for end in ["=", "==", "A", "\n", "\0"] {
        assert!(open(&key(), &[&packet, end.as_bytes()].concat()).is_err(), "{end:?}");
    }
    for length in 0..packet.len() {
        assert!(open(&key(), &packet[..length]).is_err() && open(&key(), &packet[length + 1..]).is_err());
    }
    assert_eq!(open(&key(), &[OMITTED, &packet].concat()), Err(FwknopError::NotAuthentic), "the beginning is omitted");
    assert_eq!(diagnose(&key(), &[OMITTED, &packet].concat()), None);
}

#[test]
fn arbitrary_text_is_refused() {
    let mut state = 1_u64;
    for length in 0..2_000 {
        let payload: Vec<u8> = (0..length)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if i == 0 { b'8' } else { b"ABCDEFGHIJKLMNOPabcdefgh01289+/="[(state >> 59) as usize] }
            })
            .collect();
        assert_eq!(open(&key(), &payload), Err(FwknopError::NotAuthentic));
        assert_eq!(diagnose(&key(), &payload), None);
    }
}

/// A packet whose HMAC is right is refused without a panic, whatever it contains.
#[test]
fn authentic_packets_with_invalid_content_are_refused() {
    let sealed = |text: &str| {
        let mac = base64::encode(&key().mac.compute(text.as_bytes()));
        format!("{text}{}", *mac)
    };
    for text in ["8", "8abc", "8ABCDEFGHIJ", &"8".repeat(150), &format!("8{}", "A".repeat(160))] {
        assert_eq!(open(&key(), sealed(text).as_bytes()), Err(FwknopError::Malformed), "{text}");
    }
    for encoded in ["", ":", ":::::::::", HEAD, "ä"] {
        assert_eq!(open(&key(), &seal(encoded)), Err(FwknopError::Malformed), "{encoded}");
    }
}
