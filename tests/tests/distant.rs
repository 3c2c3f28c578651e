//! The link between distant hosts: it delays, loses and limits frames as configured, and carries
//! everything otherwise.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use portknock_tests::{
    Capacity, Distant, Host, LinkProperties, Listener, PortState, Sniffer, WAIT_TIMEOUT, binary, require, wait_until,
};

const DELAY: Duration = Duration::from_millis(40);

/// Maximum delay of a frame, even on a loaded machine.
const LATE: Duration = Duration::from_millis(500);

/// The port of the datagram that ends a test's traffic.
const FENCE: u16 = 65_001;

/// One of the two directions of a link.
struct Way<'a> {
    from: &'a Host,
    from_address: &'static str,
    to: &'a Host,
    to_address: &'static str,
    to_mac: &'static str,
}

fn ways(distant: &Distant) -> [Way<'_>; 2] {
    let (client, server) = (&distant.client, &distant.server);
    let [client_address, server_address] = ["10.0.0.2", "10.0.0.1"];
    let to_server = Way {
        from: client,
        from_address: client_address,
        to: server,
        to_address: server_address,
        to_mac: "02:00:00:00:00:01",
    };
    let to_client = Way {
        from: server,
        from_address: server_address,
        to: client,
        to_address: client_address,
        to_mac: "02:00:00:00:00:02",
    };
    [to_server, to_client]
}

impl Way<'_> {
    /// Sends datagrams, and returns the seconds it took.
    fn pktgen(&self, args: &str) -> f64 {
        self.pktgen_to(self.to_mac, args)
    }

    /// Sends a datagram that does not get lost, because its hardware address is the broadcast one.
    fn send_fence(&self) {
        self.pktgen_to("ff:ff:ff:ff:ff:ff", &format!("--ports {FENCE}"));
    }

    fn pktgen_to(&self, mac: &str, args: &str) -> f64 {
        let addresses = format!("--from {} --to {} --to-mac {mac}", self.from_address, self.to_address);
        let pktgen = binary("pktgen");
        let output = self.from.ok(&format!("{} --interface eth0 --udp {addresses} {args}", pktgen.display()));
        let seconds = output.split(" packets in ").nth(1).and_then(|text| text.split(' ').next()?.parse().ok());
        seconds.unwrap_or_else(|| panic!("pktgen prints its duration, not: {output}"))
    }

    /// Lets the other end count the datagrams to port 9, without an answer to any.
    fn start_counting(&self) {
        self.to.ok(&format!("for port in 9 {FENCE}; do iptables -w -A INPUT -p udp --dport $port -j DROP; done"));
    }

    /// Number of datagrams that arrived, once all have.
    fn count(&self) -> u32 {
        self.send_fence();
        assert!(wait_until(WAIT_TIMEOUT, || self.counted(FENCE) == 1), "the fence did not come");
        self.counted(9)
    }

    fn counted(&self, port: u16) -> u32 {
        let count = format!("iptables -w -nvxL INPUT | awk '/dpt:{port}$/ {{ print $1 }}'");
        self.to.ok(&count).trim().parse().expect("a number of packets")
    }

    /// The ports from 1 to `last` that a datagram reached.
    fn reached(&self, last: u16) -> BTreeSet<u16> {
        let sniffer = Sniffer::start(self.to, "eth0", &format!("udp and src host {}", self.from_address));
        let ports: Vec<String> = (1..=last).map(|port| port.to_string()).collect();
        self.pktgen(&format!("--ports {}", ports.join(",")));
        self.send_fence();
        sniffer.wait_for(1, |packet| packet.port == FENCE);
        sniffer.packets().iter().map(|packet| packet.port).filter(|&port| port != FENCE).collect()
    }
}

#[test]
fn frames_take_the_delay_in_each_direction() {
    let distant = Distant::new(LinkProperties { delay: DELAY, ..LinkProperties::default() });
    for way in ways(&distant) {
        let [sent, received] = [way.from, way.to].map(|host| Sniffer::start(host, "eth0", "udp dst port 9"));
        way.pktgen("--ports 9 --count 200 --rate 500");
        let [sent, received] = [sent, received].map(|sniffer| sniffer.wait_for(200, |_| true));
        let mut delays: Vec<Duration> =
            sent.iter().zip(&received).map(|(sent, received)| received.time - sent.time).collect();
        delays.sort();
        assert!(delays[0] >= DELAY, "{delays:?}");
        assert!(delays[100] < DELAY + LATE, "{delays:?}");
    }
}

#[test]
fn tcp_connects_over_both_families() {
    let distant = Distant::new(LinkProperties { delay: DELAY, ..LinkProperties::default() });
    let _listener = Listener::start(&distant.server, 22);
    for address in ["10.0.0.1", "fd00::1"] {
        let sniffer = Sniffer::start(&distant.client, "eth0", "");
        assert_eq!(distant.client.tcp_state(address, 22), PortState::Open, "{address}");
        assert_eq!(distant.client.tcp_state(address, 23), PortState::Closed, "{address}");
        let handshake = sniffer.wait_for(2, |packet| [packet.port, packet.source_port].contains(&22));
        assert_eq!([&*handshake[0].flags, &*handshake[1].flags], ["S", "SA"]);
        let round_trip = handshake[1].time - handshake[0].time;
        assert!((2 * DELAY..2 * DELAY + LATE).contains(&round_trip), "{round_trip:?}");
    }
}

#[test]
fn tcp_carries_a_complete_stream_while_frames_get_lost() {
    require("python3");
    let distant = Distant::new(LinkProperties {
        delay: Duration::from_millis(5),
        loss_percent: 1.0,
        seed: 1,
        ..LinkProperties::default()
    });
    let receive = "
import socket
listener = socket.create_server(('', 5000))
print('listening', flush=True)
stream = listener.accept()[0].makefile('rb')
print('received', len(stream.read()), flush=True)";
    let receiver = distant.server.spawn("python3", ["-c", receive]);
    receiver.wait_for("listening");
    let send = "import socket; socket.create_connection(('10.0.0.1', 5000)).sendall(bytes(1000000))";
    distant.client.ok(&format!("python3 -c \"{send}\""));
    receiver.wait_for("received 1000000\n");
}

#[test]
fn the_given_percentage_of_frames_gets_lost_in_each_direction() {
    let distant =
        Distant::new(LinkProperties { delay: DELAY, loss_percent: 5.0, seed: 1, ..LinkProperties::default() });
    for way in ways(&distant) {
        way.start_counting();
        way.pktgen("--ports 9 --count 20000 --rate 20000");
        // Five times the standard deviation around the mean.
        let lost = 20_000 - way.count();
        assert!((850..=1_150).contains(&lost), "{lost}");
    }
}

#[test]
fn the_seed_decides_which_frames_get_lost() {
    let reached = |seed| {
        let distant = Distant::new(LinkProperties { loss_percent: 30.0, seed, ..LinkProperties::default() });
        ways(&distant).map(|way| way.reached(200))
    };
    let [to_server, to_client] = reached(1);
    assert_ne!(to_server, to_client);
    let [again_to_server, again_to_client] = reached(1);
    assert_eq!([&to_server, &to_client], [&again_to_server, &again_to_client]);
    let [other, _] = reached(2);
    assert_ne!(to_server, other);
}

#[test]
fn a_hundred_thousand_frames_a_second_pass_in_both_directions_simultaneously() {
    let distant = Distant::new(LinkProperties { delay: DELAY, ..LinkProperties::default() });
    let ways = ways(&distant);
    for way in &ways {
        way.start_counting();
    }
    thread::scope(|scope| {
        for way in &ways {
            scope.spawn(|| way.pktgen("--ports 9 --count 100000 --rate 100000"));
        }
    });
    assert_eq!(ways.map(|way| way.count()), [100_000, 100_000]);
}

#[test]
fn a_bottleneck_passes_its_capacity_and_its_queue() {
    let capacity = Some(Capacity { rate: 5_000, queue: 100 });
    let distant = Distant::new(LinkProperties { delay: DELAY, capacity, ..LinkProperties::default() });
    for way in ways(&distant) {
        way.start_counting();
        let seconds = way.pktgen("--ports 9 --count 20000 --rate 20000");
        let passed = f64::from(way.count());
        let most = seconds * 5_000.0 + 101.0;
        // When the sender has to pause, so does the bottleneck.
        assert!((most * 0.5..most * 1.02).contains(&passed), "{passed} of at most {most}");
    }
}

#[test]
fn a_bottleneck_passes_all_traffic_below_its_capacity() {
    let capacity = Some(Capacity { rate: 5_000, queue: 1_000 });
    let distant = Distant::new(LinkProperties { capacity, ..LinkProperties::default() });
    for way in ways(&distant) {
        way.start_counting();
        way.pktgen("--ports 9 --count 1000 --rate 2000");
        assert_eq!(way.count(), 1_000);
    }
}
