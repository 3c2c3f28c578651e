//! Prints how a TCP port appears from here, `open`, `closed` or `filtered`:
//! `tcp-state ADDRESS PORT`.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// Timeout of a connection, long compared with the round trip on a virtual link.
const TIMEOUT: Duration = Duration::from_millis(333);

fn main() {
    let mut args = std::env::args().skip(1);
    let address: Option<IpAddr> = args.next().and_then(|text| text.parse().ok());
    let port: Option<u16> = args.next().and_then(|text| text.parse().ok());
    let (Some(address), Some(port)) = (address, port) else { panic!("usage: tcp-state ADDRESS PORT") };
    let state = match TcpStream::connect_timeout(&SocketAddr::new(address, port), TIMEOUT) {
        Ok(_) => "open",
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => "closed",
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "filtered",
            _ => panic!("{address} port {port}: {error}"),
        },
    };
    println!("{state}");
}
