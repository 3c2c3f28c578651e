//! Doors that `portknock import-fwknop` made from fwknop's configuration.

use std::fs;

use portknock_core::fwknop::HmacDigest::{Sha256, Sha512};
use portknock_tests::{Daemon, Listener, Output, PortState, WAIT_TIMEOUT, binary, wait_until};

use crate::{SKEW, Shared};

#[test]
fn imported_doors_open_for_the_client_with_the_matching_rc_file() {
    let shared = Shared::new(&[("laptop", None, Sha256), ("phone", Some("alice"), Sha512)]);
    let (laptop, phone) = (shared.key("laptop"), shared.key("phone"));
    let access = format!(
        "# fwknop's file\nSOURCE ANY\nOPEN_PORTS tcp/22\nKEY_BASE64 {}\nHMAC_KEY_BASE64 {}\nFW_ACCESS_TIMEOUT 2\n\
         REQUIRE_SOURCE_ADDRESS Y\n\nSOURCE 10.0.0.0/24\nOPEN_PORTS tcp/80\nKEY_BASE64 {}\nHMAC_KEY_BASE64 {}\n\
         HMAC_DIGEST_TYPE SHA512\nREQUIRE_USERNAME alice\n",
        *laptop.key_base64(),
        *laptop.hmac_key_base64(),
        *phone.key_base64(),
        *phone.hmac_key_base64(),
    );
    shared.write("access.conf", &access);
    let keys = shared.path("keys.d");
    fs::create_dir(&keys).expect("the directory can be written");
    let args =
        ["import-fwknop", "--output", &keys.display().to_string(), &shared.path("access.conf").display().to_string()];
    let imported = Output::of(shared.lab.server.command(binary("portknock")).args(args));
    assert_eq!((imported.code, imported.stderr.as_str()), (Some(0), ""));

    let rc = |name: &str, port: u16, more: &str| {
        let key = shared.key(name);
        let (key, hmac_key) = (key.key_base64(), key.hmac_key_base64());
        format!(
            "[{name}]\nSPA_SERVER 10.0.0.1\nACCESS tcp/{port}\nUSE_HMAC Y\nKEY_BASE64 {}\nHMAC_KEY_BASE64 {}\n{more}",
            *key, *hmac_key
        )
    };
    shared.write("fwknoprc", &(rc("laptop", 22, "") + &rc("phone", 80, "HMAC_DIGEST_TYPE SHA512\nSPOOF_USER alice\n")));
    let knock = |name: &str, args: &str| {
        let output = shared.client(&format!("--rc-file {} -n {name} {args}", shared.path("fwknoprc").display()));
        assert_eq!(output.code, Some(0), "{output:?}");
    };
    let state = |port| shared.lab.client.tcp_state("10.0.0.1", port);
    let _listeners = [22, 80].map(|port| Listener::start(&shared.lab.server, port));
    let daemon = shared.start(&format!("{SKEW}{}", imported.stdout));
    assert_eq!((state(22), state(80)), (PortState::Closed, PortState::Closed), "{}", imported.stdout);

    knock("laptop", "-s");
    wait_for_log(&daemon, "knock of key fwknop1 refused");
    assert_eq!(state(22), PortState::Closed, "the packet contains no address");
    knock("laptop", "-a 10.0.0.2");
    assert!(wait_until(WAIT_TIMEOUT, || state(22) == PortState::Open), "{}\n{}", imported.stdout, daemon.log());
    assert!(wait_until(WAIT_TIMEOUT, || state(22) == PortState::Closed), "after FW_ACCESS_TIMEOUT\n{}", daemon.log());
    knock("phone", "-a 10.0.1.9");
    wait_for_log(&daemon, "knock of key alice refused");
    assert_eq!(state(80), PortState::Closed);
    knock("phone", "-a 10.0.0.2");
    assert!(wait_until(WAIT_TIMEOUT, || state(80) == PortState::Open), "{}\n{}", imported.stdout, daemon.log());
}

fn wait_for_log(daemon: &Daemon, part: &str) {
    assert!(wait_until(WAIT_TIMEOUT, || daemon.log().contains(part)), "no line has {part:?}:\n{}", daemon.log());
}
