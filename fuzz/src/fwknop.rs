//! Packets and key files of fwknop's clients: only packets that the key made are opened, their content is
//! the one that it was made of, and no message of a key file contains a key.

use portknock_core::fwknop::{FwknopKey, FwknopLineError, HmacDigest, load_fwknop_keys};
use portknock_core::internals::{FwknopError, diagnose, has_form, open_fwknop, seal_fwknop};
use portknock_core::keys::KeyFileError;

use crate::scratch::with_file;

/// The kind of an input, as its first byte.
const PAYLOAD: u8 = 0;
const FIELDS: u8 = 1;
const FILE: u8 = 2;
/// The passphrase, which is a part of the key files of the seeds.
const SECRET: &str = "correct-horse-battery";

/// Payloads, fields of packets, and key files.
pub fn seeds() -> Vec<Vec<u8>> {
    const HEAD: &str = "1790393497757183:YWxpY2U:1796030418:3.0.0";
    let fields = [
        format!("{HEAD}:1:MTkyLjAuMi43LHRjcC8yMg"),
        format!("{HEAD}:3:MC4wLjAuMCx0Y3AvMjIsdWRwLzUz:60"),
        format!("{HEAD}:0:MTkyLjAuMi43LC91c3IvYmluL2lk"),
        format!("{HEAD}:4:MTkyLjAuMi43LHRjcC8yMg:MTAuMC4wLjUsNTUwMDA:60"),
        format!("{HEAD}:1:MTkyLjAuMi43LHRjcC8yMg:YQ"),
    ];
    let files = [
        format!("KEY: {SECRET}\nHMAC_KEY: {SECRET}\nUSERNAME: alice\n"),
        format!(
            "[a]\nKEY_BASE64: AAEC\nHMAC_KEY_BASE64: AwQF\nHMAC_DIGEST_TYPE: SHA512\n[b]\nKEY: {SECRET}\nHMAC_KEY: x"
        ),
        "# nothing\n\nKEY: __CHANGEME__\n".to_owned(),
    ];
    let with = |kind: u8, text: &[u8]| [&[kind], text].concat();
    let packets = fields.iter().map(|fields| seal_fwknop(&key(HmacDigest::Sha256), fields, *b"saltsalt"));
    packets
        .flat_map(|packet| [with(PAYLOAD, &packet), with(PAYLOAD, &packet[..packet.len() - 43])])
        .chain(fields.iter().map(|fields| with(FIELDS, fields.as_bytes())))
        .chain(files.iter().map(|file| with(FILE, file.as_bytes())))
        .collect()
}

fn key(digest: HmacDigest) -> FwknopKey {
    FwknopKey::new("phone", None, SECRET.as_bytes(), digest, b"battery staple").expect("a valid key")
}

/// Reads what the bytes describe.
pub fn check(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 3 {
        PAYLOAD => check_payload(rest),
        FIELDS => check_fields(rest),
        _ => check_file(rest),
    }
}

fn check_payload(payload: &[u8]) {
    for digest in HmacDigest::ALL {
        let key = key(digest);
        let opened = open_fwknop(&key, payload);
        if opened != Err(FwknopError::NotAuthentic) {
            assert!(has_form(payload) && diagnose(&key, payload).is_none());
        }
        if !has_form(payload) {
            assert!(opened.is_err() && diagnose(&key, payload).is_none());
        }
        // Each altered packet is refused.
        if opened.is_ok() {
            for at in 0..payload.len() {
                let mut altered = payload.to_vec();
                altered[at] ^= 1;
                assert_eq!(open_fwknop(&key, &altered), Err(FwknopError::NotAuthentic));
            }
        }
    }
}

fn check_fields(fields: &[u8]) {
    let Ok(fields) = std::str::from_utf8(fields) else { return };
    let key = key(HmacDigest::Sha384);
    let packet = seal_fwknop(&key, fields, *b"saltsalt");
    let opened = open_fwknop(&key, &packet);
    // A packet with too many fields is longer than any packet that is considered.
    assert!(packet.len() > 1_500 || opened != Err(FwknopError::NotAuthentic));
    if let Ok(content) = opened {
        let seconds = (content.time.as_nanos() / 1_000_000_000).to_string();
        assert!(
            fields
                .split(':')
                .nth(2)
                .is_some_and(|time| time.trim_start_matches('0') == seconds.trim_start_matches('0'))
        );
        assert!(!content.ports.is_empty() && !content.user.is_empty());
        // Without the HMAC the packet is recognised, and refused.
        assert!(diagnose(&key, &packet[..packet.len() - 64]).is_some_and(|(_, time)| time == content.time));
    }
}

fn check_file(file: &[u8]) {
    with_file(file, |path| match load_fwknop_keys(path) {
        // A name is shown, and may happen to be a part of a key.
        Err(KeyFileError::BadFwknopLine(_, _, error))
            if matches!(error.downcast_ref(), Some(FwknopLineError::SameName { .. })) => {}
        Err(error) => assert!(!format!("{error} {error:?}").contains(&SECRET[..18]), "{error}"),
        Ok(keys) => {
            assert!(!format!("{keys:?}").contains(SECRET) || keys.iter().any(|key| key.name.contains(&SECRET[..18])));
            let text: String = keys.iter().map(|key| key.server_lines().to_string()).collect();
            with_file(text.as_bytes(), |path| {
                assert!(load_fwknop_keys(path).is_ok_and(|read| read == keys), "the same keys");
            });
        }
    });
}
