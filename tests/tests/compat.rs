//! The original knockd and portknockd side by side: both listen on the same server and see the same packets. Where
//! they must agree, these tests fail when they do not; where portknockd differs on purpose, they fail when it no longer
//! does. `docs/knockd-compat.md` tells the reasons.

use std::thread::sleep;
use std::time::Duration;

use portknock_tests::{Daemon, Lab, PATIENCE, binary, require, wait_until};

const DOOR: &str = "
[door]
    sequence    = 7000,8000,9000
    seq_timeout = 10
    tcpflags    = syn
    command     = true
";

/// Both daemons on the server of a lab.
struct Both {
    lab: Lab,
    ours: Daemon,
    theirs: Daemon,
}

impl Both {
    fn with(config: &str) -> Self {
        Self::on(Lab::pair(), config)
    }

    fn on(lab: Lab, config: &str) -> Self {
        let ours = Daemon::portknockd(&lab.server, config);
        let theirs = Daemon::knockd(&lab.server, config);
        Self { lab, ours, theirs }
    }

    /// The original client knocks.
    fn knock(&self, args: &str) {
        self.lab.client.ok(&format!("knock {args}"));
    }

    /// Hand-made packets from the client.
    fn blast(&self, args: &str) {
        self.lab.client.ok(&format!("{} --interface eth0 --rate 200 {args}", binary("blast").display()));
    }

    /// Which doors opened for whom, in order: (portknockd, knockd). Waits until a last knock at a port of its own was
    /// seen by both, or where the configuration has no such door, for a moment.
    fn opened(&self) -> (Vec<String>, Vec<String>) {
        sleep(Duration::from_millis(400));
        let opened = |daemon: &Daemon| {
            let log = daemon.log();
            let lines = log.lines().filter_map(|line| line.strip_suffix(": OPEN SESAME"));
            lines.filter_map(|line| line.split_once("] ")).map(|(_, who)| who.to_string()).collect()
        };
        (opened(&self.ours), opened(&self.theirs))
    }

    fn agree(&self, expected: &[&str]) {
        let (ours, theirs) = self.opened();
        assert_eq!(ours, expected, "portknockd:\n{}", self.ours.log());
        assert_eq!(theirs, expected, "knockd:\n{}", self.theirs.log());
    }

    fn differ(&self, our_expected: &[&str], their_expected: &[&str]) {
        let (ours, theirs) = self.opened();
        assert_eq!(ours, our_expected, "portknockd:\n{}", self.ours.log());
        assert_eq!(theirs, their_expected, "knockd:\n{}", self.theirs.log());
    }
}

const OPENED: &str = "10.0.0.2: door";

#[test]
fn agree_on_a_plain_sequence() {
    let both = Both::with(DOOR);
    both.knock("10.0.0.1 7000 8000 9000");
    both.knock("10.0.0.1 7000 8000 9000");
    both.agree(&[OPENED, OPENED]);
}

#[test]
fn agree_on_the_log_lines() {
    let config = DOOR.replace("command ", "stop_command = true\ncmd_timeout = 1\nstart_command ");
    let both = Both::with(&config);
    both.knock("10.0.0.1 7000 8000 9000");
    sleep(Duration::from_millis(1500));
    both.knock("10.0.0.1 7000 8000");
    // knockd notices a timeout when the next packet comes.
    sleep(Duration::from_secs(11));
    both.knock("10.0.0.1 9000");
    // Both close within a second of each other; the text is what matters.
    let text = |daemon: &Daemon| -> Vec<String> {
        let log = daemon.log();
        log.lines().filter_map(|line| line.split_once("] ")).map(|(_, text)| text.trim().to_string()).collect()
    };
    assert!(wait_until(PATIENCE, || both.theirs.log().contains("sequence timeout")), "{}", both.theirs.log());
    assert_eq!(text(&both.ours), text(&both.theirs));
    let stamp = |daemon: &Daemon| daemon.log().split(']').next().map(str::len);
    assert_eq!(stamp(&both.ours), Some("[2000-01-01 00:00".len()));
    assert_eq!(stamp(&both.theirs), stamp(&both.ours));
}

#[test]
fn agree_on_udp_and_tcp_mixed() {
    let both = Both::with(&DOOR.replace("7000,8000,9000", "7000:udp,8000,9000:udp"));
    both.knock("10.0.0.1 7000 8000 9000");
    both.knock("10.0.0.1 7000:udp 8000:udp 9000:udp");
    both.knock("10.0.0.1 7000:udp 8000:tcp 9000:udp");
    both.agree(&[OPENED]);
}

#[test]
fn agree_on_ipv6() {
    let both = Both::with(DOOR);
    both.knock("fd00::1 7000 8000 9000");
    both.agree(&["fd00::2: door"]);
}

#[test]
fn agree_that_a_wrong_order_opens_nothing() {
    let both = Both::with(DOOR);
    both.knock("10.0.0.1 7000 9000 8000 9000");
    both.agree(&[]);
}

#[test]
fn agree_that_ports_of_no_door_do_not_matter() {
    let both = Both::with(DOOR);
    both.knock("10.0.0.1 7000 1 8000 2:udp 3 9000");
    both.agree(&[OPENED]);
}

#[test]
fn agree_that_other_flags_are_as_if_not_seen() {
    let both = Both::with(DOOR);
    both.blast("--ports 7000");
    both.blast("--ports 9000 --flags A");
    both.blast("--ports 8000,9000");
    both.agree(&[OPENED]);
}

#[test]
fn agree_that_a_door_is_knocked_at_again_after_a_timeout() {
    let both = Both::with(&DOOR.replace("= 10", "= 2"));
    both.knock("10.0.0.1 7000 8000");
    sleep(Duration::from_millis(3200));
    both.knock("10.0.0.1 9000");
    both.knock("10.0.0.1 7000 8000 9000");
    both.agree(&[OPENED]);
}

#[test]
fn agree_on_several_doors_at_once() {
    let config = "[a]\nsequence = 1000,2000\ncommand = true\n[b]\nsequence = 3000,4000\ncommand = true\n";
    let both = Both::with(config);
    both.knock("10.0.0.1 3000 4000 1000 2000");
    both.agree(&["10.0.0.2: b", "10.0.0.2: a"]);
}

#[test]
fn agree_on_a_shared_first_step() {
    let config = "[a]\nsequence = 1000,2000\ncommand = true\n[b]\nsequence = 1000,3000\ncommand = true\n";
    let both = Both::with(config);
    both.knock("10.0.0.1 1000 3000");
    both.knock("10.0.0.1 1000 2000");
    both.agree(&["10.0.0.2: b", "10.0.0.2: a"]);
}

#[test]
fn differ_on_a_rising_port_scan() {
    require("nmap");
    let both = Both::with(DOOR);
    both.lab.client.ok("nmap -n -Pn -r -p 6000-10000 10.0.0.1 > /dev/null");
    both.differ(&[], &[OPENED]);
}

#[test]
fn differ_on_a_timed_out_attempt_of_someone_else() {
    let both = Both::with(&DOOR.replace("= 10", "= 3"));
    both.lab.client.add_address("eth0", "10.0.0.3/24");
    both.blast("--from 10.0.0.2 --ports 7000");
    sleep(Duration::from_millis(1500));
    both.blast("--from 10.0.0.3 --ports 7000,8000");
    sleep(Duration::from_millis(2000));
    both.blast("--from 10.0.0.3 --ports 9000");
    both.differ(&["10.0.0.3: door"], &[]);
}

#[test]
fn differ_on_a_retransmitted_segment() {
    let both = Both::with(DOOR);
    // The same source port and sequence number, as a kernel repeats a SYN that was not answered.
    both.blast("--ports 7000 --count 1");
    both.blast("--ports 7000 --count 1");
    both.blast("--ports 8000,9000");
    both.differ(&[OPENED], &[]);
}

#[test]
fn differ_on_a_door_that_is_open_already() {
    let config = DOOR.replace("command ", "stop_command = true\ncmd_timeout = 60\nstart_command ");
    let both = Both::with(&config);
    both.knock("10.0.0.1 7000 8000 9000");
    both.knock("10.0.0.1 7000 8000 9000");
    both.differ(&[OPENED], &[OPENED, OPENED]);
    assert_eq!(both.ours.count("running command"), 1);
    assert_eq!(both.theirs.count("running command"), 2);
    assert_eq!(both.ours.count("closing time extended"), 1);
}

#[test]
fn differ_on_an_address_that_came_later() {
    let both = Both::with(DOOR);
    both.lab.server.add_address("eth0", "10.0.0.9/24");
    both.knock("10.0.0.9 7000 8000 9000");
    both.differ(&[OPENED], &[]);
}

#[test]
fn differ_on_an_address_that_went_away() {
    let lab = Lab::pair();
    lab.server.add_address("eth0", "10.0.0.9/24");
    let both = Both::on(lab, DOOR);
    both.lab.server.ok("ip addr del 10.0.0.9/24 dev eth0");
    both.blast("--to 10.0.0.9 --ports 7000,8000,9000");
    both.differ(&[], &[OPENED]);
}

#[test]
fn differ_on_knocks_inside_a_vlan_tag() {
    let both = Both::with(DOOR);
    both.blast("--vlan 5 --ports 7000,8000,9000");
    both.differ(&[OPENED], &[]);
}
