//! Packets that open nothing, each with its reason in the log.

use std::thread::sleep;
use std::time::Duration;

use portknock_core::fwknop::FwknopKey;
use portknock_core::fwknop::HmacDigest::Sha256;
use serde_json::Value;

use crate::{OPENED, SKEW, Shared, opened, opens, send};

/// Of the packets without a valid HMAC one a second is examined.
const SAMPLE: Duration = Duration::from_millis(1200);

#[test]
fn what_the_server_does_not_accept_opens_nothing_and_has_its_line_in_the_log() {
    const MODES: [(&str, &str); 10] = [
        ("nohmac", "the packet has no HMAC"),
        ("md5", "an HMAC of MD5"),
        ("sha1", "an HMAC of SHA-1"),
        ("sha3", "an HMAC of SHA-3"),
        ("sha512", "an HMAC of SHA512"),
        ("ecb", "not encrypted in the mode CBC"),
        ("digest", "a digest of SHA-3"),
        ("command", "it contains a command"),
        ("nat", "it asks for network address translation"),
        ("user", "it names another user"),
    ];
    let clients = MODES.map(|(name, _)| (name, (name == "user").then_some("bob"), Sha256));
    let shared = Shared::new(&clients);
    let daemon = shared.start(&format!("{SKEW}[door]\n keys = %KEYS%\n packet = fwknop\n {OPENED}"));
    let access = "-A tcp/22 -a 10.0.0.2 -D 10.0.0.1";
    for (name, line) in MODES {
        let key = shared.key(name);
        let hmac = format!("--use-hmac --key-base64-hmac {}", *key.hmac_key_base64());
        let args = match name {
            "nohmac" => access.to_owned(),
            "md5" | "sha1" | "sha512" => format!("{access} {hmac} --hmac-digest-type {name}"),
            "sha3" => format!("{access} {hmac} --hmac-digest-type sha3_256"),
            "ecb" => format!("{access} {hmac} -M ecb"),
            "digest" => format!("{access} {hmac} -m sha3_256"),
            "command" => format!("-C id -a 10.0.0.2 -D 10.0.0.1 {hmac}"),
            "nat" => format!("{access} -N 192.168.0.7:22 {hmac}"),
            _ => format!("{access} {hmac}"),
        };
        let output = shared.client(&format!("--no-rc-file --key-base64-rijndael {} {args}", *key.key_base64()));
        assert_eq!(output.code, Some(0), "{name}: {output:?}");
        sleep(SAMPLE);
        daemon.wait_for(&format!("10.0.0.2: door: knock of key {name} refused: "));
        let log = daemon.log();
        let found =
            log.lines().find(|line| line.contains(&format!("knock of key {name} refused"))).expect("waited for");
        assert!(found.contains(line), "{name}: {found}");
    }
    assert_eq!(opened(&daemon), [""; 0]);
    let status = daemon.status_json();
    let refused = &status["doors"][0]["refused"];
    let counts = ["weak", "command", "nat", "user"].map(|reason| refused[reason].as_u64().expect("a number"));
    assert_eq!(counts, [7, 1, 1, 1], "{status}");
}

#[test]
fn a_repeated_or_altered_packet_opens_nothing() {
    let shared = Shared::new(&[("alice", None, Sha256), ("bob", None, Sha256)]);
    let mut daemon = shared.start(&format!("[door]\n keys = %KEYS%\n packet = fwknop\n {OPENED}"));
    let client = &shared.lab.client;
    client.add_address("eth0", "10.0.0.3/24");
    // Almost as late as the default of `ClockSkew` permits, so that the packet stays acceptable for long
    // and the daemon accepts it soon after its first start.
    let access = "-A tcp/22 -D 10.0.0.1 -s --time-offset-plus 58S";
    let packet = shared.packet("alice", access);
    for altered in [
        [&packet[..], b"="].concat(),
        [&packet[..], b"\n"].concat(),
        [&b"U2FsdGVkX1"[..], &packet].concat(),
        packet[..packet.len() - 1].to_vec(),
        packet.iter().enumerate().map(|(at, byte)| if at == 50 { byte ^ 1 } else { *byte }).collect(),
    ] {
        send(client, "10.0.0.2", &altered);
    }
    assert_eq!(opened(&daemon), [""; 0]);
    // An observer who was faster with another address would open for that one.
    send(client, "10.0.0.2", &packet);
    opens(&daemon, 1, "the packet");
    for from in ["10.0.0.2", "10.0.0.3", "fd00::2"] {
        send(client, from, &packet);
    }
    // Another reader has not seen the packet, and the daemon refuses it.
    let reader = daemon.reader();
    client.ok(&format!("kill -9 {reader}"));
    daemon.wait_for("the reader process has ended");
    assert!(portknock_tests::wait_until(portknock_tests::WAIT_TIMEOUT, || {
        portknock_tests::cost::reader(daemon.id()).is_some_and(|other| other != reader)
    }));
    sleep(Duration::from_millis(500));
    send(client, "10.0.0.3", &packet);
    daemon.wait_for("knock of key alice refused: it may have been accepted before");
    // The record outlives the daemon.
    daemon.restart(&shared.lab.server, &["-i", "eth0"]);
    send(client, "10.0.0.3", &packet);
    let before = opened(&daemon).len();
    sleep(Duration::from_millis(500));
    let fresh = shared.packet("bob", access);
    send(client, "10.0.0.3", &fresh);
    opens(&daemon, before + 1, "a fresh packet of another key");
    assert!(opened(&daemon).last().is_some_and(|line| line == "bob 10.0.0.3"));
    assert_eq!(opened(&daemon).iter().filter(|line| line.starts_with("alice")).count(), 1, "{:?}", opened(&daemon));
}

#[test]
fn a_wrong_clock_or_a_wrong_encryption_key_is_reported() {
    let shared = Shared::new(&[("alice", None, Sha256), ("bob", None, Sha256)]);
    let daemon = shared.start(&format!("{SKEW}[door]\n keys = %KEYS%\n packet = fwknop\n {OPENED}"));
    let follower = daemon.follow();
    let access = "-A tcp/22 -D 10.0.0.1 -s";
    shared.sends("alice", &format!("{access} --time-offset-minus 3h"));
    crate::wait_for_event(&follower, &[r#""reason":"clock""#]);
    let output = follower.output();
    let event: Value = serde_json::from_str(output.lines().last().unwrap_or_default()).expect("JSON");
    let offset = event["offset"].as_i64().expect("an offset");
    assert!((-10_803..=-10_800).contains(&offset), "{event}");
    let (alice, bob) = (shared.key("alice"), shared.key("bob"));
    let keys = |encryption: &FwknopKey, hmac: &FwknopKey| {
        format!("--key-base64-rijndael {} --key-base64-hmac {}", *encryption.key_base64(), *hmac.hmac_key_base64())
    };
    let output = shared.client(&format!("--no-rc-file --use-hmac {} {access}", keys(alice, bob)));
    assert_eq!(output.code, Some(0), "{output:?}");
    crate::wait_for_event(&follower, &[r#""reason":"malformed""#, r#""key":"bob""#]);
    daemon.wait_for("knock of key bob refused: it is authentic, but its encryption key is not that of the key file");
    assert_eq!(opened(&daemon), [""; 0]);
}
