//! Accepts TCP connections on ports, over IPv4 and IPv6, and closes them: `listen PORT…`.
#![allow(clippy::unwrap_used, reason = "a test tool may end with a panic")]

use std::net::{Ipv6Addr, TcpListener};
use std::thread;

fn main() {
    let ports: Vec<u16> = std::env::args().skip(1).map(|text| text.parse().expect("usage: listen PORT…")).collect();
    // On Linux an IPv6 listener on all addresses accepts IPv4 connections too.
    let listeners: Vec<_> =
        ports.iter().map(|&port| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap()).collect();
    println!("listening on {ports:?}");
    thread::scope(|scope| {
        for listener in listeners {
            scope.spawn(move || listener.incoming().for_each(drop));
        }
    });
}
