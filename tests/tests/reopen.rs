//! A knock at an open door opens it again, and the next knock tries a failed command again.

use std::fs;

use portknock_tests::{Daemon, Lab, Output, WAIT_TIMEOUT, binary, require, wait_until};

const KNOCK: &str = "knock 10.0.0.1 7000 8000";
const RULES: &str = "
[ssh]
    sequence      = 7000,8000
    tcpflags      = syn
    start_command = iptables -w -I INPUT -s %IP% -p tcp --dport 2222 -j ACCEPT
    stop_command  = iptables -w -D INPUT -s %IP% -p tcp --dport 2222 -j ACCEPT
    cmd_timeout   = 3600
";

fn rules(lab: &Lab) -> usize {
    lab.server.ok("iptables -w -S INPUT").matches("-s 10.0.0.2/32 -p tcp -m tcp --dport 2222 -j ACCEPT").count()
}

/// Knocks, and waits until the door has opened for this time.
fn knock(lab: &Lab, daemon: &Daemon, time: usize) {
    lab.client.ok(KNOCK);
    daemon.wait_for_count("10.0.0.2: ssh: OPEN SESAME", time, WAIT_TIMEOUT);
    assert!(
        wait_until(WAIT_TIMEOUT, || daemon.count("ssh: running command: iptables -w -I") == time),
        "{}",
        daemon.log()
    );
    assert!(wait_until(WAIT_TIMEOUT, || daemon.commands().is_empty()), "{}", daemon.log());
}

#[test]
fn a_knock_restores_a_removed_rule_and_adds_no_duplicate() {
    require("iptables");
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, RULES);
    for time in 1..=3 {
        knock(&lab, &daemon, time);
        assert_eq!(rules(&lab), 1, "after knock {time}: {}", daemon.log());
    }
    lab.server.ok("iptables -w -F INPUT");
    knock(&lab, &daemon, 4);
    assert_eq!(rules(&lab), 1, "{}", daemon.log());
    assert_eq!(daemon.status("openings"), 1);
    assert!(daemon.stop().success());
    assert_eq!(rules(&lab), 0, "{}", daemon.log());
}

#[test]
fn a_door_that_is_kept_open_over_a_restart_is_opened_again_by_a_knock() {
    require("iptables");
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, &format!("[options]\nOnStop = keep\n{RULES}"));
    knock(&lab, &daemon, 1);
    assert!(daemon.stop().success());
    assert_eq!(rules(&lab), 1);
    lab.server.ok("iptables -w -F INPUT");
    daemon.restart(&lab.server, &["-i", "eth0"]);
    lab.client.ok(KNOCK);
    assert!(wait_until(WAIT_TIMEOUT, || rules(&lab) == 1), "{}", daemon.log());
}

const FAILING: &str = "
[door]
    sequence      = 7000,8000
    tcpflags      = syn
    start_command = echo half >> %DIR%/done; test -e %DIR%/works && echo open >> %DIR%/done
    stop_command  = echo close >> %DIR%/done
    cmd_timeout   = 3600
";

#[test]
fn a_start_command_that_fails_leaves_nothing_open_and_the_next_knock_runs_it_again() {
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, FAILING);
    let becomes = |daemon: &Daemon, done: &str| {
        assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done") == done), "{}{}", daemon.read("done"), daemon.log());
    };
    lab.client.ok(KNOCK);
    daemon.wait_for("door: command returned non-zero status code (1) (open for 10.0.0.2)");
    daemon.wait_for("10.0.0.2: door: closed, because the start command failed");
    becomes(&daemon, "half\nclose\n");
    assert_eq!(daemon.status("openings"), 0);
    fs::write(daemon.path("works"), "").expect("a test directory");
    lab.client.ok(KNOCK);
    becomes(&daemon, "half\nclose\nhalf\nopen\n");
    assert_eq!(daemon.status("openings"), 1);
    assert!(daemon.stop().success());
    assert_eq!(daemon.read("done"), "half\nclose\nhalf\nopen\nclose\n");
}

/// Doors that wake a server: nothing closes them.
const WAKE: &str = "
[wake]
    sequence      = 19132:udp
    start_command = echo begin >> %DIR%/woken; sleep 0.3; echo %IP% >> %DIR%/woken
[other]
    sequence      = 1000,500
    tcpflags      = syn
    start_command = echo rang >> %DIR%/bell
";

fn flood(lab: &Lab, args: &str) {
    let mut command = lab.client.command(binary("pktgen"));
    command.args(["--interface", "eth0", "--udp", "--ports", "19132"]).args(args.split(' '));
    let output = Output::of(&mut command);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

#[test]
fn at_most_one_command_of_an_address_waits_and_a_stop_runs_no_start_command() {
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, WAKE);
    flood(&lab, "--count 600 --rate 1000");
    daemon.wait_for("wake: not logged one by one in the last second");
    // The number after `running` is that of the commands that wait.
    assert!(daemon.status("running") <= 1, "{}", daemon.log());
    assert!(daemon.count("OPEN SESAME") < 20, "{}", daemon.log());
    // From many addresses: each has its command, and a stop waits for those that run, not for the
    // others.
    flood(&lab, "--from 10.1.0.1 --sources 5000 --rate 50000");
    lab.client.ok("knock 10.0.0.1 1000 500");
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("bell") == "rang\n"), "{}", daemon.log());
    assert!(daemon.status("running") > 500, "the other door did not wait: {}", daemon.log());
    daemon.signal("TERM");
    let begun = std::time::Instant::now();
    assert!(daemon.exit_within(WAIT_TIMEOUT).is_some_and(|status| status.success()), "{}", daemon.log());
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    daemon.wait_for("waiting start commands that will not run: ");
}
