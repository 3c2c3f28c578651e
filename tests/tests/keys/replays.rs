//! A recorded knock opens nothing, whatever happened to the daemon and to its files since.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use portknock_core::client_file::ClientFile;
use portknock_core::spa::PACKET_LENGTH;
use portknock_tests::{Daemon, Disk, WAIT_TIMEOUT, binary, in_parallel, wait_until};

use crate::{
    Keyed, OPENED, client, fast, late_packet, now, opened, opens, packet, packet_client, send, steps, to_server,
    wait_for_late_packets,
};

const SOURCES: [&str; 3] = ["10.0.0.2", "10.0.0.3", "fd00::2"];
/// Number of recorded packets of three keys: more than a reader remembers.
const RECORDED: usize = 27;

/// Time between two of them, so that a reader passes on all of them.
const PAUSE: Duration = Duration::from_millis(50);

fn config() -> String {
    format!("[door]\n keys = %KEYS%\n packet = portknock\n {OPENED}")
}

/// Packets that have opened the door, and how to send them again.
struct Recording {
    keyed: Keyed,
    clients: Vec<ClientFile>,
    packets: Vec<[u8; PACKET_LENGTH]>,
}

impl Recording {
    fn new() -> Self {
        let clients: Vec<_> = (0..4).map(|number| packet_client(&format!("client{number}"), "door")).collect();
        let keyed = Keyed::new(&clients);
        keyed.lab.client.add_address("eth0", "10.0.0.3/24");
        Self { keyed, clients, packets: Vec::new() }
    }

    /// Opens the door with a new packet of a key, and asserts that nothing else opens it.
    fn fresh(&mut self, daemon: &Daemon, client: usize) {
        let count = opened(daemon).len();
        let packet = late_packet(&self.clients[client]);
        send(&self.keyed.lab.client, &[to_server("10.0.0.2", &packet)], 1);
        opens(daemon, count + 1);
        self.packets.push(packet);
    }

    /// Opens the door with all packets that are recorded.
    fn record(&mut self, daemon: &Daemon) {
        wait_for_late_packets();
        for number in 0..RECORDED {
            self.fresh(daemon, number % 3);
            sleep(PAUSE);
        }
    }

    /// Sends all recorded packets again from every source, in `rounds` rounds, and asserts that none
    /// of them opens the door.
    fn send_again(&self, daemon: &Daemon, rounds: usize) {
        let count = opened(daemon).len();
        let datagrams: Vec<_> =
            SOURCES.iter().flat_map(|from| self.packets.iter().map(move |packet| to_server(from, packet))).collect();
        send(&self.keyed.lab.client, &datagrams, rounds);
        sleep(Duration::from_millis(300));
        assert_eq!(opened(daemon).len(), count, "a recorded packet opens the door\n{}", daemon.log());
    }
}

#[test]
fn a_recorded_packet_opens_nothing() {
    let mut recording = Recording::new();
    let mut daemon = recording.keyed.start(&config());
    recording.record(&daemon);
    // More than 10,000 packets.
    recording.send_again(&daemon, 10_000 / RECORDED / SOURCES.len() + 1);
    assert!(daemon.status_json()["doors"][0]["refused"]["replay"].as_u64() > Some(0), "{}", daemon.status_json());
    assert!(daemon.count("may have been accepted before") <= 4, "one line for each key\n{}", daemon.log());
    recording.fresh(&daemon, 3);

    daemon.reload(&recording.keyed.config(&config().replace("[door]", "[other]\n sequence = 1,2,3\n[door]")));
    recording.send_again(&daemon, 3);
    // Another name of the client and of the door changes nothing.
    let names = fs::read_to_string(recording.keyed.path("keys")).expect("the keys").replace("client", "renamed");
    recording.keyed.write("keys", &names);
    daemon.reload(&recording.keyed.config(&config()));
    recording.send_again(&daemon, 3);
    recording.fresh(&daemon, 0);

    daemon.stop();
    recording.keyed.restart(&mut daemon);
    recording.send_again(&daemon, 3);
    recording.fresh(&daemon, 1);

    // With a disk that works the record is complete, so that a new knock opens the door immediately.
    for client in 0..4 {
        daemon.kill();
        recording.keyed.restart(&mut daemon);
        recording.send_again(&daemon, 1);
        recording.fresh(&daemon, client);
        recording.send_again(&daemon, 1);
    }
}

#[test]
fn a_start_reports_an_incomplete_record_only_while_knocks_are_refused_for_it() {
    let recording = Recording::new();
    let mut daemon = recording.keyed.start(&format!("[options]\n ClockSkew = 3\n{}", config()));
    let report = "the record of accepted knocks is missing or incomplete";
    assert_eq!(daemon.count(report), 1);
    daemon.stop();
    recording.keyed.restart(&mut daemon);
    assert_eq!(daemon.count(report), 2, "{}", daemon.log());
    sleep(Duration::from_secs(6));
    daemon.kill();
    recording.keyed.restart(&mut daemon);
    assert_eq!(daemon.count(report), 2, "{}", daemon.log());
    let packet = packet(&recording.clients[0], now());
    send(&recording.keyed.lab.client, &[to_server("10.0.0.2", &packet)], 1);
    opens(&daemon, 1);
}

#[test]
fn a_recorded_packet_opens_nothing_after_the_state_file_was_lost() {
    in_parallel(2, &[false, true], |&is_killed| {
        let mut recording = Recording::new();
        let mut daemon = recording.keyed.start(&config());
        recording.record(&daemon);
        if is_killed {
            daemon.kill();
        } else {
            daemon.stop();
        }
        fs::remove_file(daemon.path("openings")).expect("the state file");
        recording.keyed.restart(&mut daemon);
        recording.send_again(&daemon, 3);
        daemon.wait_for_count("the record of accepted knocks is missing or incomplete", 2, WAIT_TIMEOUT);
        // The loss is not forgotten with another start.
        daemon.stop();
        recording.keyed.restart(&mut daemon);
        recording.send_again(&daemon, 3);
        // Knocks that were not acceptable at the start with the lost file are accepted.
        wait_for_late_packets();
        recording.fresh(&daemon, 0);
        recording.send_again(&daemon, 1);
    });
}

#[test]
fn a_recorded_packet_opens_nothing_after_a_damaged_state_file() {
    let mut recording = Recording::new();
    let mut daemon = recording.keyed.start(&config());
    recording.record(&daemon);
    for cut in [1, 200] {
        daemon.stop();
        let path = daemon.path("openings");
        let text = fs::read(&path).expect("the state file");
        fs::write(&path, &text[..text.len() - cut]).expect("the state file");
        recording.keyed.restart(&mut daemon);
        recording.send_again(&daemon, 3);
    }
    // An older version of the file, as from a backup.
    for is_killed in [true, false] {
        wait_for_late_packets();
        let path = daemon.path("openings");
        daemon.stop();
        let old = fs::read(&path).expect("the state file");
        recording.keyed.restart(&mut daemon);
        recording.fresh(&daemon, 3);
        if is_killed {
            daemon.kill();
        } else {
            daemon.stop();
        }
        fs::write(&path, old).expect("the state file");
        recording.keyed.restart(&mut daemon);
        recording.send_again(&daemon, 3);
    }
}

#[test]
fn a_recorded_packet_opens_nothing_after_a_failed_disk() {
    in_parallel(2, &[true, false], |&is_full| {
        let disk = Disk::new();
        let on_disk = format!("[options]\n StateFile = {}\n{}", disk.path("openings").display(), config());
        let mut recording = Recording::new();
        if !is_full {
            disk.protect();
        }
        let mut daemon = recording.keyed.start(&on_disk);
        wait_for_late_packets();
        if is_full {
            recording.fresh(&daemon, 0);
            disk.fill();
        }
        // The door opens all the same.
        for number in 0..RECORDED {
            recording.fresh(&daemon, number % 3);
            sleep(PAUSE);
        }
        recording.send_again(&daemon, 10);
        for _ in 0..2 {
            daemon.kill();
            recording.keyed.restart(&mut daemon);
            recording.send_again(&daemon, 3);
            daemon.stop();
            recording.keyed.restart(&mut daemon);
            recording.send_again(&daemon, 3);
        }
        if is_full {
            disk.free();
        } else {
            disk.release(&recording.keyed.lab.server, &daemon);
        }
        daemon.kill();
        recording.keyed.restart(&mut daemon);
        recording.send_again(&daemon, 3);
        wait_for_late_packets();
        recording.fresh(&daemon, 0);
        recording.send_again(&daemon, 3);
    });
}

#[test]
fn a_recorded_sequence_opens_nothing() {
    let clients: Vec<_> = ["alice", "bob", "carol"].map(|name| client(name, fast())).into();
    let keyed = Keyed::new(&clients);
    keyed.lab.client.add_address("eth0", "10.0.0.3/24");
    let config = format!(
        "[door]\n keys = %KEYS%\n sequence = time\n time_step = 10\n seq_timeout = 10\n tcpflags = syn\n {OPENED}"
    );
    let mut daemon = keyed.start_again(&config);
    // The sequence of the next window is valid for at least 20 seconds.
    let window = fast().window_at(now()) + 1;
    let knock = |source: &str, client: &ClientFile| {
        let program = binary("portknock");
        let host = if source.contains(':') { "fd00::1" } else { "10.0.0.1" };
        let steps = steps(client, window);
        keyed.lab.client.ok(&format!("{} knock --source {source} {host} {steps}", program.display()));
    };
    let again = |daemon: &Daemon, clients: &[ClientFile], count: usize| {
        for client in clients {
            SOURCES.iter().for_each(|source| knock(source, client));
        }
        sleep(Duration::from_millis(200));
        opens(daemon, count);
    };
    knock("10.0.0.2", &clients[0]);
    opens(&daemon, 1);
    again(&daemon, &clients[..1], 1);
    daemon.reload(&keyed.config(&config.replace("[door]", "[other]\n sequence = 1,2,3\n[door]")));
    again(&daemon, &clients[..1], 1);
    daemon.kill();
    keyed.restart(&mut daemon);
    again(&daemon, &clients[..1], 1);
    // Another key is new, immediately after the crash.
    knock("10.0.0.3", &clients[1]);
    opens(&daemon, 2);
    daemon.stop();
    keyed.restart(&mut daemon);
    again(&daemon, &clients[..2], 2);
    daemon.stop();
    fs::remove_file(daemon.path("openings")).expect("the state file");
    keyed.restart(&mut daemon);
    again(&daemon, &clients, 2);
    assert!(fast().window_at(now()) <= window + 1, "the test is too slow");
}

#[test]
fn a_dry_run_judges_recorded_knocks_in_the_same_way() {
    let mut recording = Recording::new();
    let text = recording.keyed.config(&config());
    let daemon = Daemon::portknockd_with(&recording.keyed.lab.server, &text, &["-i", "eth0", "--dry-run"]);
    let follower = daemon.follow();
    wait_for_late_packets();
    let events = || follower.output().matches(r#""event":"open""#).count();
    for number in 0..RECORDED {
        let packet = late_packet(&recording.clients[number % 3]);
        send(&recording.keyed.lab.client, &[to_server("10.0.0.2", &packet)], 1);
        assert!(wait_until(WAIT_TIMEOUT, || events() == number + 1), "{}", daemon.log());
        recording.packets.push(packet);
        sleep(PAUSE);
    }
    recording.send_again(&daemon, 10_000 / RECORDED / SOURCES.len() + 1);
    assert_eq!((events(), opened(&daemon).len()), (RECORDED, 0), "{}", daemon.log());
}
