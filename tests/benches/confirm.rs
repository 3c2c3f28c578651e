//! From the last knock to the open port: how soon `portknock knock --then` reports it, compared
//! with a plain connect.
//!
//! Run by `make bench`, which prints the figures as a table and writes them to
//! `target/bench/confirm.json`. A real iptables command opens the door, for the two usual
//! firewalls: one that drops and one that refuses. The plain connect is that of `knock … && ssh …`.

use std::env;
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portknock_core::knock::{KnockPlan, parse_steps};
use portknock_tests::{Daemon, Firewall, Lab, Listener, Output, WAIT_TIMEOUT, binary, save_figures};

const STEPS: &str = "7000,8000,9000";
const DOOR: &str = "
[ssh]
    sequence    = 7000,8000,9000
    seq_timeout = 10
    tcpflags    = syn
    command     = iptables -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
";

/// Number of measurements of each kind.
const KNOCKS: usize = 20;

fn main() {
    // This program again, on the client.
    if env::args().nth(1).as_deref() == Some("plain-connect") {
        return plain_connect();
    }
    println!(
        "{:<28} {:>10} {:>10} {:>10} {:>16} {:>16}",
        "ms from the last knock", "median", "90 %", "opened", "plain: median", "plain: opened"
    );
    let mut json = Vec::new();
    for (daemon, original) in [("portknockd", false), ("knockd", true)] {
        for refused in [false, true] {
            let what = format!("{daemon}, {}", if refused { "REJECT" } else { "DROP" });
            let ours = measure(original, refused, |lab| {
                let knock = binary("portknock");
                let args = ["knock", "-v", "--then", "22", "10.0.0.1", STEPS];
                let output = Output::of(lab.client.command(knock).args(args));
                let (_, after) = output.stdout.split_once("is open after ")?;
                after.trim().strip_suffix(" ms")?.parse().ok()
            });
            let plain = measure(original, refused, |lab| {
                let itself = env::current_exe().expect("it runs");
                let output = Output::of(lab.client.command(itself).arg("plain-connect"));
                output.stdout.trim().parse().ok()
            });
            println!(
                "{what:<28} {:>10} {:>10} {:>10} {:>16} {:>16}",
                shown(part(&ours, 50)),
                shown(part(&ours, 90)),
                format!("{}/{KNOCKS}", ours.len()),
                shown(part(&plain, 50)),
                format!("{}/{KNOCKS}", plain.len()),
            );
            let number = |value: Option<f64>| value.map_or("null".into(), |value| format!("{value:.1}"));
            json.push(format!(
                "{{\"case\": \"{what}\", \"median_ms\": {}, \"p90_ms\": {}, \"opened\": {}, \"plain_median_ms\": {}, \
                 \"plain_opened\": {}}}",
                number(part(&ours, 50)),
                number(part(&ours, 90)),
                ours.len(),
                number(part(&plain, 50)),
                plain.len(),
            ));
        }
    }
    save_figures("confirm", &json);
}

/// Knocks repeatedly at a door that is closed each time. Returns the milliseconds of the runs that
/// found it open, in rising order.
fn measure(original: bool, refused: bool, knock: impl Fn(&Lab) -> Option<f64>) -> Vec<f64> {
    let lab = Lab::pair();
    let _firewall = Firewall::closed(&lab.server);
    if refused {
        lab.server.ok("iptables -A INPUT -p tcp -j REJECT --reject-with tcp-reset");
    }
    let _listener = Listener::start(&lab.server, 22);
    let daemon = if original { Daemon::knockd(&lab.server, DOOR) } else { Daemon::portknockd(&lab.server, DOOR) };
    let mut times = Vec::new();
    for i in 1..=KNOCKS {
        times.extend(knock(&lab));
        daemon.wait_for_count("OPEN SESAME", i, WAIT_TIMEOUT);
        // The command may still run, and an attempt must not begin while another one ends.
        sleep(Duration::from_millis(150));
        lab.server.ok("iptables -w -D INPUT -s 10.0.0.2 -p tcp --dport 22 -j ACCEPT");
    }
    times.sort_by(f64::total_cmp);
    times
}

/// Knocks and connects like `knock … && ssh …`. Prints the milliseconds, or the reason of a
/// failure.
fn plain_connect() {
    let plan = KnockPlan::new("10.0.0.1", parse_steps(STEPS).expect("steps"));
    let addresses = plan.resolve().expect("an address");
    plan.send(&addresses, &mut |_| ControlFlow::Continue(())).expect("the knocks are sent");
    let start = Instant::now();
    match TcpStream::connect_timeout(&SocketAddr::from(([10, 0, 0, 1], 22)), Duration::from_secs(5)) {
        Ok(_) => println!("{:.1}", start.elapsed().as_secs_f64() * 1_000.0),
        Err(error) => println!("{error}"),
    }
}

/// The given percentile: the smallest value that at least this percentage of the values does not
/// exceed.
fn part(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

fn shown(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.1}"))
}
