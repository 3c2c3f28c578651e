//! The clocks of clients and of the server in the log and in the status.

use std::time::{Duration, Instant};

use portknock_core::Timestamp;
use portknock_tests::wait_until;

use crate::{Keyed, OPENED, now, opened, packet, packet_client, send, to_server};

/// Maximum time from a packet to the line in the log about its clock.
const DIAGNOSIS_TIME: Duration = Duration::from_secs(5);

#[test]
fn a_client_whose_clock_is_off_is_in_the_log_with_the_difference() {
    let clients = ["alice", "bob", "carol", "dave"].map(|name| packet_client(name, "door"));
    let keyed = Keyed::new(&clients);
    let daemon = keyed.start(&format!("[door]\n keys = %KEYS%\n packet = portknock\n {OPENED}"));
    // In the reach of the hints, and up to a day away from it.
    for (client, offset) in clients.iter().zip([-14_754, -75, 86_300, 75]) {
        let time = now().as_nanos().saturating_add_signed(offset * 1_000_000_000);
        let bytes = packet(client, Timestamp::from_nanos(time));
        let sent = Instant::now();
        send(&keyed.lab.client, &[to_server("10.0.0.2", &bytes)], 1);
        let line = |offset: i64| {
            let direction = if offset < 0 { "behind" } else { "ahead" };
            let refused = format!("10.0.0.2: door: knock of key {} refused: its clock is", client.name);
            format!("{refused} {} s {direction}", offset.unsigned_abs())
        };
        let found = wait_until(DIAGNOSIS_TIME, || (-1..=1).any(|error| daemon.count(&line(offset + error)) > 0));
        assert!(found && sent.elapsed() <= DIAGNOSIS_TIME, "{}\n{}", line(offset), daemon.log());
    }
    assert_eq!(opened(&daemon), [""; 0]);
    let status = daemon.status_json();
    assert_eq!(status["doors"][0]["refused"]["clock"], clients.len(), "{status}");
}

#[test]
fn the_status_shows_whether_the_clock_is_synchronised() {
    let keyed = Keyed::new(&[packet_client("alice", "door")]);
    let daemon = keyed.start(&format!("[door]\n keys = %KEYS%\n packet = portknock\n {OPENED}"));
    let is_logged = daemon.log().contains("the clock of this machine is not synchronised");
    let status = daemon.status_json();
    assert_eq!(status["clock"], serde_json::json!({ "synchronised": !is_logged }), "{status}");
    let text = daemon.portknock(&["status"]).stdout;
    assert_eq!(text.contains("WARNING        the clock is not synchronised"), is_logged, "{text}");
    let metrics = daemon.portknock(&["status", "--format", "prometheus"]).stdout;
    assert!(metrics.contains(&format!("\nportknock_clock_synchronised {}\n", u8::from(!is_logged))), "{metrics}");
    daemon.reload("[door]\nsequence = 7000,8000\ncommand = true\n");
    assert!(daemon.status_json()["clock"].is_null(), "without keys");
}
