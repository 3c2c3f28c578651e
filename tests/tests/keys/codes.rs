//! A phone opens a door with the code of its authenticator app and its browser.

use std::thread::sleep;
use std::time::Duration;

use portknock_core::Timestamp;
use portknock_core::totp::{CODE_SECONDS, TotpSecret};
use portknock_tests::{Daemon, WAIT_TIMEOUT, require, wait_until};

use crate::{Keyed, OPENED, now, opened, opens};

/// Number of doors, each with its own secret: a code opens once.
const DOORS: u16 = 10;

/// A phone with the secrets of all doors.
struct Phone {
    keyed: Keyed,
    secrets: Vec<TotpSecret>,
}

impl Phone {
    fn new() -> Self {
        let keyed = Keyed::new(&[]);
        let secrets: Vec<_> = (0..DOORS).map(|_| TotpSecret::generate().expect("random numbers")).collect();
        for (i, secret) in (0..).zip(&secrets) {
            keyed.write(&format!("phone{i}.totp"), &format!("{}\n", *secret.to_text()));
        }
        Self { keyed, secrets }
    }

    /// Starts a daemon with all doors, and waits until it accepts codes.
    fn start(&self) -> Daemon {
        let door = |i: u16| {
            let file = self.keyed.path(&format!("phone{i}.totp"));
            format!(
                "[phone{i}]\n sequence = {},48213,{}???,{}???\n totp_secret = {}\n tcpflags = syn,!ack\n \
                 seq_timeout = 25\n {OPENED}",
                7391 + i,
                10 + i,
                30 + i,
                file.display()
            )
        };
        let config: String = (0..DOORS).map(door).collect();
        let daemon = self.keyed.start(&config);
        // The record of accepted codes begins with the first start. The window after the present one is
        // live, too.
        let acceptable = now().saturating_add(Duration::from_secs(CODE_SECONDS));
        let start = Timestamp::from_secs(window(acceptable) * CODE_SECONDS);
        sleep(start.saturating_since(now()) + Duration::from_millis(100));
        daemon
    }

    /// The ports of a door's sequence with the code of the next window.
    fn ports(&self, door: u16) -> [u16; 4] {
        let code = self.secrets[usize::from(door)].code(window(now()) + 1, 6);
        let [first, second] = [code / 1000, code % 1000].map(|digits| u16::try_from(digits).expect("three digits"));
        [7391 + door, 48_213, (10 + door) * 1000 + first, (30 + door) * 1000 + second]
    }

    /// Opens the addresses in a browser one after another. No server answers.
    fn browse(&self, ports: &[u16], seconds: &str) {
        require("curl");
        for port in ports {
            let status =
                self.keyed.lab.client.run(&format!("curl -s --max-time {seconds} http://10.0.0.1:{port}")).code;
            assert_ne!(status, Some(0), "a server answered at port {port}");
        }
    }
}

fn window(time: Timestamp) -> u64 {
    time.as_nanos() / 1_000_000_000 / CODE_SECONDS
}

#[test]
fn a_browser_opens_doors_whose_ports_are_closed() {
    let phone = Phone::new();
    let daemon = phone.start();
    for door in 0..DOORS {
        phone.browse(&phone.ports(door), "5");
        opens(&daemon, usize::from(door) + 1);
        assert_eq!(opened(&daemon).last().map(String::as_str), Some(&*format!("phone{door} 10.0.0.2")));
    }
    // The log contains the name of the secret, and no part of it.
    assert!(daemon.log().contains("phone3: OPEN SESAME by key phone3"), "{}", daemon.log());
    for secret in &phone.secrets {
        assert!(!daemon.log().contains(&**secret.to_text()), "{}", daemon.log());
    }
}

/// A firewall drops the packets, so that the browser sends the first one again after a second.
#[test]
fn a_browser_opens_doors_whose_ports_do_not_answer() {
    let phone = Phone::new();
    phone.keyed.lab.server.ok("iptables -I INPUT -p tcp --syn -j DROP");
    let daemon = phone.start();
    for door in 0..3 {
        phone.browse(&phone.ports(door), "1.5");
        opens(&daemon, usize::from(door) + 1);
    }
}

#[test]
fn a_code_that_opened_and_wrong_codes_open_nothing() {
    let phone = Phone::new();
    let mut daemon = phone.start();
    let used = phone.ports(0);
    phone.browse(&used, "5");
    opens(&daemon, 1);
    phone.browse(&used, "5");
    phone.keyed.restart(&mut daemon);
    phone.browse(&used, "5");
    // Digits of a code that is not live.
    let [first, second, right, last] = phone.ports(1);
    let base = right / 1000 * 1000;
    let live = [0, 1, 2].map(|i| phone.secrets[1].code(window(now()) + i - 1, 6) / 1000);
    let wrong = (0..1000).find(|digits| !live.contains(&u32::from(*digits))).expect("most digits are wrong");
    for _ in 0..3 {
        phone.browse(&[first, second, base + wrong], "5");
    }
    let line =
        "10.0.0.2: phone1: attempt failed: third wrong code, the address is ignored until the window ends (stage 2)";
    assert!(wait_until(WAIT_TIMEOUT, || daemon.log().contains(line)), "{}", daemon.log());
    // The same address is ignored, unless the window has ended meanwhile.
    let before = window(now());
    phone.browse(&[first, second, right, last], "5");
    if window(now()) == before {
        opens(&daemon, 1);
    }
}
