//! Occupies ports over IPv4 and IPv6, each in one of several ways.
#![allow(clippy::unwrap_used, reason = "a test tool may end with a panic")]

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use clap::Parser;

/// A connection to the own host is established immediately or, if the queue is full, not at all.
const FULL_AFTER: Duration = Duration::from_millis(200);

/// Occupies ports over IPv4 and IPv6 until it is killed, and prints `ready` when all are occupied
#[derive(Parser)]
struct Occupy {
    /// TCP ports that accept connections and close them
    #[arg(long, value_delimiter = ',')]
    accept: Vec<u16>,
    /// TCP ports that accept none, with a full queue of waiting connections
    #[arg(long, value_delimiter = ',')]
    full: Vec<u16>,
    /// UDP ports that answer each datagram
    #[arg(long, value_delimiter = ',')]
    answer: Vec<u16>,
    /// UDP ports that never answer
    #[arg(long, value_delimiter = ',')]
    silent: Vec<u16>,
}

/// On Linux an IPv6 socket on all addresses receives IPv4 too.
fn all_addresses(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

fn main() {
    let occupy = Occupy::parse();
    for port in occupy.accept {
        let listener = TcpListener::bind(all_addresses(port)).unwrap();
        thread::spawn(move || listener.incoming().for_each(drop));
    }
    let mut held = Vec::new();
    for port in occupy.full {
        let listener = TcpListener::bind(all_addresses(port)).unwrap();
        let own = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        while let Ok(waiting) = TcpStream::connect_timeout(&own, FULL_AFTER) {
            held.push(waiting);
        }
        thread::spawn(move || hold(&listener));
    }
    for port in occupy.answer {
        let socket = UdpSocket::bind(all_addresses(port)).unwrap();
        thread::spawn(move || {
            loop {
                // The datagram itself may be empty.
                let (_, peer) = socket.recv_from(&mut []).unwrap();
                socket.send_to(b"here", peer).unwrap();
            }
        });
    }
    for port in occupy.silent {
        let socket = UdpSocket::bind(all_addresses(port)).unwrap();
        thread::spawn(move || hold(&socket));
    }
    println!("ready");
    hold(&held);
}

/// Keeps something open until the process ends.
fn hold<T>(_kept: &T) {
    loop {
        thread::park();
    }
}
