//! Packets that open doors: each form of fwknop's client, and the address and the ports inside.

use std::env;
use std::thread::sleep;
use std::time::Duration;

use portknock_core::fwknop::HmacDigest::{self, Sha256, Sha384, Sha512};
use portknock_tests::{Listener, PortState, WAIT_TIMEOUT, wait_until};

use crate::{OPENED, SKEW, Shared, opened, opens, send};

const CLIENTS: [(&str, Option<&str>, HmacDigest); 3] =
    [("sha256", None, Sha256), ("sha384", None, Sha384), ("sha512", None, Sha512)];

/// Minimum time between two packets of a key: they would exceed the rate of the key otherwise.
const PAUSE: Duration = Duration::from_millis(125);

/// Number of packets of each form.
fn rounds() -> usize {
    env::var("PORTKNOCK_FWKNOP_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number of rounds"))
}

#[test]
fn each_form_of_the_client_opens_the_door() {
    let shared = Shared::new(&CLIENTS);
    let _listener = Listener::start(&shared.lab.server, 22);
    let daemon = shared.start(&format!(
        "{SKEW} PacketPort = 62201,10000-65535\n [ssh]\n keys = %KEYS%\n packet = fwknop\n open = tcp/22\n {OPENED}"
    ));
    let mut rc = String::new();
    for (name, _, digest) in CLIENTS {
        let key = shared.key(name);
        rc.push_str(&format!(
            "[{name}]\nSPA_SERVER 10.0.0.1\nACCESS tcp/22\nALLOW_IP 10.0.0.2\nKEY_BASE64 {}\nUSE_HMAC Y\n\
             HMAC_KEY_BASE64 {}\nHMAC_DIGEST_TYPE {digest}\n",
            *key.key_base64(),
            *key.hmac_key_base64()
        ));
    }
    shared.write("fwknoprc", &rc);
    assert_eq!(shared.lab.client.tcp_state("10.0.0.1", 22), PortState::Closed);
    let mut count = 0;
    let rc_file = format!("--rc-file {}", shared.path("fwknoprc").display());
    for form in ["-a 10.0.0.2", "-s", "-a 10.0.0.2 -f 60", "-s -f 60", "-a 10.0.0.2 -r", "-s -r", &rc_file] {
        for _ in 0..rounds() {
            for (name, ..) in CLIENTS {
                if form == rc_file {
                    let output = shared.client(&format!("{rc_file} -n {name}"));
                    assert_eq!(output.code, Some(0), "{output:?}");
                } else {
                    shared.sends(name, &format!("-A tcp/22 -D 10.0.0.1 {form}"));
                }
                count += 1;
                opens(&daemon, count, &format!("{name} {form}"));
                assert_eq!(opened(&daemon).last(), Some(&format!("{name} 10.0.0.2")));
            }
            // The reader passes on at most eight packets a second of a key.
            sleep(PAUSE);
        }
    }
    let is_open = || shared.lab.client.tcp_state("10.0.0.1", 22) == PortState::Open;
    assert!(wait_until(WAIT_TIMEOUT, is_open));
    assert_eq!(daemon.status_json()["packets"]["bogus"], 0, "{}", daemon.status_json());
}

#[test]
fn the_address_inside_counts_as_packet_address_requires() {
    let clients = ["any", "required", "source"].map(|name| (name, None, Sha256));
    let shared = Shared::new(&clients);
    for name in ["any", "required", "source"] {
        shared.write(name, &shared.key(name).server_lines());
    }
    shared.lab.client.add_address("eth0", "10.0.0.3/24");
    let path = |name: &str| shared.path(name).display().to_string();
    let door =
        |name: &str| format!("[{name}]\n keys = {}\n packet = fwknop\n packet_address = {name}\n {OPENED}", path(name));
    let daemon = shared.start(&format!("{SKEW}{}{}{}", door("any"), door("required"), door("source")));
    let follower = daemon.follow();
    let mut count = 0;
    for (name, address, from, line) in [
        ("any", "-s", "10.0.0.2", Some("10.0.0.2")),
        ("any", "-s", "fd00::2", Some("fd00::2")),
        ("any", "-a 10.0.0.9", "10.0.0.2", Some("10.0.0.9")),
        ("any", "-a 10.0.0.9", "fd00::2", Some("10.0.0.9")),
        ("required", "-s", "10.0.0.2", None),
        ("required", "-s", "fd00::2", None),
        ("required", "-a 10.0.0.9", "10.0.0.2", Some("10.0.0.9")),
        ("source", "-s", "10.0.0.2", None),
        ("source", "-a 10.0.0.9", "10.0.0.2", None),
        ("source", "-a 10.0.0.2", "10.0.0.3", None),
        ("source", "-a 10.0.0.2", "10.0.0.2", Some("10.0.0.2")),
    ] {
        let packet = shared.packet(name, &format!("-A tcp/22 -D 10.0.0.1 {address}"));
        send(&shared.lab.client, from, &packet);
        let what = format!("{name} {address} {from}");
        match line {
            Some(ip) => {
                count += 1;
                opens(&daemon, count, &what);
                assert_eq!(opened(&daemon).last(), Some(&format!("{name} {ip}")), "{what}");
            }
            None => crate::wait_for_event(&follower, &[r#""reason":"address""#, &format!(r#""ip":"{from}""#), name]),
        }
    }
    opens(&daemon, count, "all");
}

#[test]
fn the_door_that_opens_all_the_ports_is_chosen() {
    let shared = Shared::new(&[("alice", None, Sha256)]);
    let door = |name: &str, lines: &str| {
        format!(
            "[{name}]\n keys = %KEYS%\n packet = fwknop\n {lines}\n start_command = echo {name} %IP% >> %DIR%/opened\n"
        )
    };
    let daemon = shared.start(&format!(
        "{SKEW}{}{}{}",
        door("web", "open = tcp/80,tcp/443"),
        door("mail", "open = tcp/25,udp/53"),
        door("other", "open = tcp/443,tcp/993\n allow = 10.0.0.9")
    ));
    let follower = daemon.follow();
    let mut count = 0;
    for (ports, address, expected) in [
        ("tcp/80", "10.0.0.2", Ok("web")),
        ("tcp/443,tcp/80", "10.0.0.2", Ok("web")),
        ("udp/53", "10.0.0.2", Ok("mail")),
        ("tcp/993", "10.0.0.9", Ok("other")),
        ("tcp/993", "10.0.0.2", Err("address")),
        ("tcp/53", "10.0.0.2", Err("ports")),
        ("tcp/80,tcp/25", "10.0.0.2", Err("ports")),
    ] {
        shared.sends("alice", &format!("-A {ports} -D 10.0.0.1 -a {address}"));
        match expected {
            Ok(door) => {
                count += 1;
                opens(&daemon, count, ports);
                assert_eq!(opened(&daemon).last(), Some(&format!("{door} {address}")), "{ports}");
            }
            Err(reason) => crate::wait_for_event(&follower, &[&format!(r#""reason":"{reason}""#)]),
        }
    }
    opens(&daemon, count, "all");
}
