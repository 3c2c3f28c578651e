//! Windows of time: one knock for each, and nothing is lost at a turn.

use std::thread::sleep;
use std::time::Duration;

use portknock_core::TimeSequence;
use portknock_core::client_file::ClientFile;
use portknock_tests::{Daemon, Output, WAIT_TIMEOUT, binary, wait_until};

use crate::{Keyed, OPENED, client, fast, now, opened, opens, steps};

fn config() -> String {
    format!("[door]\n keys = %KEYS%\n sequence = time\n time_step = 10\n seq_timeout = 10\n tcpflags = syn\n {OPENED}")
}

/// Sends connection requests, each from an address to a port of the server, as they are written.
fn send_frames(keyed: &Keyed, first: u32, frames: &[(String, u16)]) {
    let list: String = frames.iter().map(|(from, port)| format!("{from} 10.0.0.1 {port} S\n")).collect();
    keyed.write("frames", &list);
    let script = format!("{} eth0 {first} < {}", binary("send").display(), keyed.path("frames").display());
    let output = Output::of(keyed.lab.client.command("sh").args(["-c", &script]));
    assert_eq!(output.code, Some(0), "{output:?}");
}

fn ports(client: &ClientFile, window: u64) -> Vec<u16> {
    steps(client, window).split(' ').map(|port| port.parse().expect("a TCP port")).collect()
}

/// Waits until a moment that is at least this long before the next turn.
fn wait_for_rest(rest: Duration) {
    let time = fast();
    let end = time.window_start(time.window_at(now()) + 1).saturating_since(now());
    if end < rest {
        sleep(end + Duration::from_millis(50));
    }
}

#[test]
fn of_two_addresses_with_the_same_sequence_exactly_one_opens() {
    let clients: Vec<_> = (0..40).map(|number| client(&format!("client{number}"), fast())).collect();
    let keyed = Keyed::new(&clients);
    let daemon = keyed.start_again(&config());
    let follower = daemon.follow();
    wait_for_rest(Duration::from_secs(5));
    let window = fast().window_at(now());
    // The addresses take turns in every order: step by step, and one or two steps ahead.
    let mut frames = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let (a, b) = (format!("10.0.1.{number}"), format!("10.0.2.{number}"));
        let ports = ports(client, window);
        let lead = number % 4;
        for step in 0..ports.len() + lead {
            if let Some(port) = ports.get(step) {
                frames.push((a.clone(), *port));
            }
            if let Some(port) = step.checked_sub(lead).and_then(|step| ports.get(step)) {
                frames.push((b.clone(), *port));
            }
        }
    }
    send_frames(&keyed, 0, &frames);
    opens(&daemon, clients.len());
    // The attempts of the others cannot be completed later.
    let last: Vec<_> = frames.iter().flat_map(|frame| [frame.clone(), frame.clone()]).collect();
    send_frames(&keyed, 10_000, &last);
    sleep(Duration::from_millis(500));
    opens(&daemon, clients.len());
    for client in &clients {
        let of_client = format!("{} 10.0.", client.name);
        assert_eq!(opened(&daemon).iter().filter(|line| line.starts_with(&of_client)).count(), 1, "{}", client.name);
    }
    assert_eq!(follower.output().matches(r#""event":"open""#).count(), clients.len());
}

#[test]
fn an_attempt_survives_a_turn_and_a_knock_after_each_turn_opens() {
    let clients: Vec<_> = (0..3).map(|number| client(&format!("client{number}"), fast())).collect();
    let keyed = Keyed::new(&clients);
    let daemon = keyed.start_again(&config());
    let time: TimeSequence = fast();
    for turn in 0..3 {
        wait_for_rest(Duration::from_secs(1));
        let window = time.window_at(now());
        let end = time.window_start(window + 1);
        // Half of the sequence before the turn, the other half after it.
        sleep(end.saturating_since(now()).saturating_sub(Duration::from_millis(500)));
        let (address, ports) = (format!("10.0.3.{turn}"), ports(&clients[0], window));
        let frames: Vec<_> = ports.iter().map(|port| (address.clone(), *port)).collect();
        let first = 1000 * (turn + 1);
        send_frames(&keyed, first, &frames[..3]);
        daemon.wait_for(&format!("{address}: door: Stage 3"));
        assert_eq!(time.window_at(now()), window, "the test is too slow");
        sleep(end.saturating_since(now()) + Duration::from_millis(20));
        // A knock with the sequence of the new window passes the filter of the kernel.
        keyed.knocks("client1", "10.0.0.1");
        let after = has_opened(&daemon, "client1 10.0.0.2", turn);
        assert!(after, "a knock after turn {turn} opens nothing\n{}", daemon.log());
        send_frames(&keyed, first + 10, &frames[3..]);
        assert!(has_opened(&daemon, &format!("client0 {address}"), 0), "turn {turn}\n{}", daemon.log());
        // A sequence of the previous window opens, too, and one of the window before that does not.
        let late = steps(&clients[2], window);
        keyed.lab.client.ok(&format!("{} 10.0.0.1 {late}", binary("knock").display()));
        assert!(has_opened(&daemon, "client2 10.0.0.2", turn), "turn {turn}\n{}", daemon.log());
        let too_late = steps(&clients[2], window - 1);
        let before = opened(&daemon).len();
        keyed.lab.client.ok(&format!("{} 10.0.0.1 {too_late}", binary("knock").display()));
        sleep(Duration::from_millis(300));
        assert_eq!(opened(&daemon).len(), before, "{}", daemon.log());
    }
}

/// Waits until the door has opened for this client and address more than `before` times.
fn has_opened(daemon: &Daemon, line: &str, before: u32) -> bool {
    let count = || opened(daemon).iter().filter(|found| *found == line).count();
    wait_until(WAIT_TIMEOUT, || count() > before as usize)
}
