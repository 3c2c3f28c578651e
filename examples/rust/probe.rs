//! Shows which ports of a host are open, closed or filtered.
//!
//! Run it with `cargo run -p portknock-core --example probe -- HOST PORTS`. Without arguments it
//! probes a port on which it listens itself.

use std::error::Error;
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::time::Duration;

use portknock_core::probe::{Method, ProbePlan};

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut args = std::env::args().skip(1);
    let host = args.next().unwrap_or_else(|| "127.0.0.1".into());
    let ports = args.next().unwrap_or(listener.local_addr()?.port().to_string());

    let mut plan = ProbePlan::new(&host, ports.parse()?);
    plan.timeout = Duration::from_secs(1);
    // Needs no privilege. The default method sends SYNs if the process may send raw packets.
    plan.method = Method::Connect;
    let scan = plan.run(&plan.resolve()?, &mut |progress| {
        eprintln!("{} of {} ports", progress.known, progress.ports);
        ControlFlow::Continue(())
    })?;
    for result in scan.results {
        println!("{} is {} ({})", result.address, result.state, result.reason);
    }
    Ok(())
}
