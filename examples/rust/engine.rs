//! Runs the engine on packets that the program makes itself, without a socket, a clock or a thread.
//!
//! Run it with `cargo run -p portknock-core --example engine`.

use std::error::Error;

use portknock_core::config::parse;
use portknock_core::{Engine, Knock, Protocol, TcpFlags, Timestamp};

const CONFIGURATION: &str = "
[ssh]
    sequence = 7000,8000:udp
    tcpflags = syn,!ack
    start_command = open-ssh %IP%
    stop_command = close-ssh %IP%
    cmd_timeout = 30
";

fn main() -> Result<(), Box<dyn Error>> {
    let config = parse(CONFIGURATION.as_bytes()).config.ok_or("the configuration has errors")?;
    let mut engine = Engine::new(&config);

    for (second, port, protocol) in [(1, 7000, Protocol::Tcp), (2, 8000, Protocol::Udp)] {
        engine.handle_knock(&Knock {
            time: Timestamp::from_secs(second),
            source: [192, 0, 2, 7].into(),
            destination: [192, 0, 2, 1].into(),
            port,
            protocol,
            flags: if protocol == Protocol::Tcp { TcpFlags::SYN } else { TcpFlags::NONE },
            source_port: 40_000,
            sequence_number: 1,
        });
        drain(&mut engine);
    }
    // No further packet is needed: the door closes when its time is over.
    while let Some(due) = engine.poll_timeout() {
        engine.handle_timeout(due);
        drain(&mut engine);
    }
    Ok(())
}

fn drain(engine: &mut Engine) {
    while let Some(event) = engine.poll_event() {
        println!("{} {event}", event.time);
        for request in event.command_requests() {
            println!("{} would run: {}", event.time, request.command);
        }
    }
}
