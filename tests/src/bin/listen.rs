//! Accepts TCP connections on a port, over IPv4 and IPv6, and closes them: `listen PORT`.
#![allow(clippy::unwrap_used, reason = "a test tool may end with a panic")]

use std::net::{Ipv6Addr, TcpListener};

fn main() {
    let port = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("usage: listen PORT");
    // Linux lets an IPv6 listener on all addresses take IPv4 connections too.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    for connection in listener.incoming() {
        drop(connection);
    }
}
