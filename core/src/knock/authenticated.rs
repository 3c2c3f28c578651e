//! Knocks that a key authenticates: the time sequence of the present window, or one packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

use super::{ExpectedPort, Hit, KnockError, KnockPlan, Observer};
use crate::client_file::{ClientFile, ClientForm};
use crate::clock::wall_clock;
use crate::config::{DEFAULT_PACKET_PORT, Step, TimeSequence};
use crate::host::{self, at_port};
use crate::keys::Key;
use crate::packet::Protocol;
use crate::probe::Opened;
use crate::spa::{self, PacketContent};

/// A knock that a key authenticates. Recorded and sent again, it opens nothing.
///
/// The wall clock of this machine decides which knock is sent, so it must agree with the clock of
/// the server: within one window for a time sequence, within `ClockSkew` for a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthenticatedKnock {
    /// The host, and the way to send. Its steps are not used: the key and the time determine them.
    pub plan: KnockPlan,
    /// The key that this client shares with the server.
    pub key: Key,
    /// The form of the knock.
    pub form: KnockForm,
}

/// The form of an authenticated knock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnockForm {
    /// The sequence of the present window.
    Time(TimeSequence),
    /// One packet.
    Packet(PacketRequest),
}

/// The content of a packet, except its time, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacketRequest {
    /// The name of the door: 1 to [`spa::MAX_DOOR_LENGTH`] bytes.
    pub door: String,
    /// The UDP port to send the packet to. Default [`DEFAULT_PACKET_PORT`].
    pub port: NonZeroU16,
    /// The address to open for. Default: the address that the packet is sent from, if it is a
    /// global one; otherwise none, and the server uses the source of the datagram that arrives.
    pub address: Option<IpAddr>,
    /// The time to open for, in seconds. Default 0: the door's `cmd_timeout`.
    pub seconds: u32,
}

impl PacketRequest {
    /// Creates a request to open `door`, with the defaults of the other fields.
    pub fn new(door: &str) -> Self {
        Self { door: door.into(), port: DEFAULT_PACKET_PORT, address: None, seconds: 0 }
    }
}

impl AuthenticatedKnock {
    /// Creates a knock at `host`, with the defaults of a [`KnockPlan`]. `key` is the key that this
    /// client shares with the server.
    pub fn new(host: &str, key: Key, form: KnockForm) -> Self {
        Self { plan: KnockPlan::new(host, Vec::new()), key, form }
    }

    /// Creates the knock at `host` that a client's file describes.
    pub fn of_client(host: &str, file: &ClientFile) -> Self {
        let form = match file.form {
            ClientForm::Time => KnockForm::Time(file.time.clone()),
            ClientForm::Packet => KnockForm::Packet(PacketRequest {
                port: file.port,
                // Without a name, sending fails: files for packets have one.
                ..PacketRequest::new(file.door.as_deref().unwrap_or_default())
            }),
        };
        Self::new(host, file.shared_key(), form)
    }

    /// Returns the addresses to knock at, as [`KnockPlan::resolve`] does. For a packet these are
    /// the first address of each IP version, because a door opens for addresses of one version.
    /// Each time sequence opens once, so it is sent to one address only, unless `all_addresses` is
    /// set.
    ///
    /// # Errors
    /// [`KnockError::Host`].
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, KnockError> {
        let plan = &self.plan;
        if matches!(self.form, KnockForm::Time(_)) || plan.all_addresses {
            return plan.resolve();
        }
        let mut addresses = host::resolve(&plan.host, plan.family, plan.source, true)?;
        let first_of = |v4: bool| addresses.iter().position(|address| address.is_ipv4() == v4);
        let (first_v4, first_v6) = (first_of(true), first_of(false));
        let mut index = 0..;
        addresses.retain(|_| {
            let this = index.next();
            this == first_v4 || this == first_v6
        });
        Ok(addresses)
    }

    /// Sends the knock of this moment to the addresses. For a time sequence this is
    /// [`KnockPlan::send`] with the steps of the present window. For a packet it sends a new packet
    /// to each of the addresses, which must be reachable for at least one of them. A sent packet
    /// can get lost: only the port that opens shows that it has arrived.
    ///
    /// # Errors
    /// Those of [`KnockPlan::send`]; [`KnockError::Packet`] if the packet cannot be made.
    pub fn send(&self, addresses: &[SocketAddr], observer: &mut Observer<'_>) -> Result<(), KnockError> {
        match &self.form {
            KnockForm::Time(time) => {
                let steps = time.sequence(&self.key, time.window_at(wall_clock())).steps().to_vec();
                KnockPlan { steps, ..self.plan.clone() }.send(addresses, observer)
            }
            KnockForm::Packet(request) => self.send_packets(request, addresses, observer),
        }
    }

    /// Knocks as [`AuthenticatedKnock::send`] does, then waits until the port is open, as
    /// [`KnockPlan::send_until_open`] does. Each round is a new knock.
    ///
    /// # Errors
    /// Those of [`KnockPlan::send_until_open`] and of [`AuthenticatedKnock::send`].
    pub fn send_until_open(
        &self,
        addresses: &[SocketAddr],
        expected: ExpectedPort,
        observer: &mut Observer<'_>,
    ) -> Result<Opened, KnockError> {
        self.plan.rounds(addresses, expected, observer, |observer| self.send(addresses, observer))
    }

    fn send_packets(
        &self,
        request: &PacketRequest,
        addresses: &[SocketAddr],
        observer: &mut Observer<'_>,
    ) -> Result<(), KnockError> {
        let step = Step { port: request.port, protocol: Protocol::Udp };
        let mut errors = Vec::new();
        for &address in addresses {
            let address = at_port(address, request.port.get());
            if observer(Some(Hit { address, step })).is_break() {
                return Err(KnockError::Stopped);
            }
            match self.send_packet(request, address) {
                Err(KnockError::Packet(error)) => return Err(KnockError::Packet(error)),
                result => errors.extend(result.err()),
            }
        }
        // A host can have an address of an IP version that this machine cannot use.
        if errors.len() < addresses.len() { Ok(()) } else { KnockError::of_all(errors) }
    }

    /// Sends one packet to one address and port.
    fn send_packet(&self, request: &PacketRequest, to: SocketAddr) -> Result<(), KnockError> {
        let step = Step { port: request.port, protocol: Protocol::Udp };
        let failed = |error| KnockError::Send { address: to.ip(), step, error };
        let local = host::local_address(to, self.plan.source).map_err(failed)?;
        let content = PacketContent {
            time: wall_clock(),
            address: request.address.or_else(|| Some(local.ip()).filter(|&ip| is_global(ip))),
            seconds: request.seconds,
            door: request.door.clone(),
        };
        let packet = spa::seal(&self.key, &content)?;
        // From the address inside the packet.
        let socket = host::udp_socket(to, Some(local.ip())).map_err(failed)?;
        socket.send_to(&packet, to).map(drop).map_err(failed)
    }
}

/// True for an address that is the same for every host on the Internet, so that no translation of
/// addresses on the path changes it.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) => is_global_v6(ip),
    }
}

/// The registry of RFC 6890 as far as hosts have such addresses.
fn is_global_v4(ip: Ipv4Addr) -> bool {
    let [first, second, third, _] = ip.octets();
    let is_special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || first == 0
        // Multicast, reserved and broadcast.
        || first >= 224
        // The addresses that a provider shares among customers (RFC 6598).
        || (first == 100 && second & 0xc0 == 64)
        // Protocol assignments and benchmarks.
        || (first == 192 && second == 0 && third == 0)
        || (first == 198 && second & 0xfe == 18);
    !is_special
}

/// Global unicast addresses, without those for documentation.
fn is_global_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    let is_documentation = (first == 0x2001 && second == 0xdb8) || (first == 0x3fff && second < 0x1000);
    first & 0xe000 == 0x2000 && !is_documentation
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::ops::ControlFlow;
    use std::time::Duration;

    use super::*;
    use crate::keys::tests::counting_key;
    use crate::spa::{MAX_DOOR_LENGTH, PACKET_LENGTH, PacketError, open_at};

    /// A packet knock at a socket on the loopback interface.
    fn knock() -> (AuthenticatedKnock, UdpSocket) {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut request = PacketRequest::new("ssh");
        request.port = NonZeroU16::new(server.local_addr().unwrap().port()).unwrap();
        (AuthenticatedKnock::new("127.0.0.1", counting_key(), KnockForm::Packet(request)), server)
    }

    fn send(knock: &AuthenticatedKnock) -> Result<(), KnockError> {
        knock.send(&knock.resolve()?, &mut |_| ControlFlow::Continue(()))
    }

    fn received(server: &UdpSocket) -> PacketContent {
        let mut bytes = [0; 200];
        let length = server.recv(&mut bytes).unwrap();
        let packet: [u8; PACKET_LENGTH] = bytes[..length].try_into().unwrap();
        open_at(&counting_key(), wall_clock(), &packet).unwrap()
    }

    #[test]
    fn a_packet_has_what_was_requested_and_the_present_time() {
        let (mut knock, server) = knock();
        let before = wall_clock();
        send(&knock).unwrap();
        let content = received(&server);
        assert!(content.time.saturating_add(Duration::from_millis(1)) > before && content.time <= wall_clock());
        // A loopback address is not global.
        assert_eq!((content.address, content.seconds, content.door.as_str()), (None, 0, "ssh"));
        let address = "2001:db8::7".parse().ok();
        if let KnockForm::Packet(request) = &mut knock.form {
            (request.address, request.seconds) = (address, 30);
        }
        send(&knock).unwrap();
        let content = received(&server);
        assert_eq!((content.address, content.seconds), (address, 30));
    }

    #[test]
    fn only_global_addresses_are_put_into_a_packet() {
        for ip in ["1.1.1.1", "100.63.255.255", "100.128.0.0", "192.0.1.1", "198.20.0.1", "223.255.255.255"] {
            assert!(is_global(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["2600::1", "2001:db9::1", "3ffe::1", "2a00::"] {
            assert!(is_global(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["0.0.0.0", "10.1.1.1", "100.64.0.0", "100.127.255.255", "127.0.0.1", "169.254.1.1", "172.16.0.1"] {
            assert!(!is_global(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["192.0.0.8", "192.0.2.1", "192.168.1.1", "198.19.0.1", "203.0.113.1", "224.0.0.1", "255.255.255.255"]
        {
            assert!(!is_global(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["::", "::1", "fe80::1", "fd00::1", "ff02::1", "2001:db8::1", "3fff::1", "::ffff:1.1.1.1"] {
            assert!(!is_global(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn packets_go_to_the_first_address_of_each_version() {
        let (knock, _server) = knock();
        let resolved = |host: &str| {
            let mut knock = knock.clone();
            knock.plan.host = host.into();
            knock.resolve().unwrap()
        };
        assert_eq!(resolved("::1"), ["[::1]:0".parse().unwrap()]);
        let local = resolved("localhost");
        assert!((1..=2).contains(&local.len()) && local.iter().filter(|address| address.is_ipv4()).count() <= 1);
    }

    #[test]
    fn errors_are_reported_unless_one_packet_was_sent() {
        let (mut knock, server) = knock();
        let observer: &mut Observer<'_> = &mut |_| ControlFlow::Continue(());
        // No host has this source address for the other version.
        let unreachable: SocketAddr = "[::1]:0".parse().unwrap();
        knock.plan.source = "127.0.0.1".parse().ok();
        let error = knock.send(&[unreachable], observer).unwrap_err().to_string();
        assert!(error.starts_with("cannot knock at ::1 port "), "{error}");
        knock.send(&[unreachable, "127.0.0.1:0".parse().unwrap()], observer).unwrap();
        assert_eq!(received(&server).door, "ssh");
        knock.form = KnockForm::Packet(PacketRequest::new(&"d".repeat(MAX_DOOR_LENGTH + 1)));
        assert!(matches!(send(&knock), Err(KnockError::Packet(PacketError::DoorName))));
    }

    #[test]
    fn a_time_knock_sends_the_steps_of_the_present_window() {
        let time = TimeSequence { window: Duration::from_secs(3600), ..TimeSequence::default() };
        let knock = AuthenticatedKnock::new("127.0.0.1", counting_key(), KnockForm::Time(time.clone()));
        let mut seen = Vec::new();
        let steps = |at| time.sequence(&counting_key(), time.window_at(at)).steps().to_vec();
        let before = steps(wall_clock());
        let mut observer = |hit: Option<Hit>| {
            seen.extend(hit.map(|hit| hit.step));
            ControlFlow::Continue(())
        };
        knock.send(&knock.resolve().unwrap(), &mut observer).unwrap();
        assert!(seen == before || seen == steps(wall_clock()));
    }
}
