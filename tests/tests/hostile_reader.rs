//! A reader under the control of an attacker: for every misbehaviour, doors close on time, and the
//! daemon answers and exits.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portknock_core::Timestamp;
use portknock_core::keys::Key;
use portknock_core::spa::{PacketContent, seal};
use portknock_tests::{Daemon, Lab, Output, WAIT_TIMEOUT, binary, cost, in_parallel, require, wait_until};
use serde_json::Value;
use tempfile::TempDir;

const ENDED: &str = "the reader process has ended";

/// The first door is open for two seconds; every source may open the second one.
const DOORS: &str = "
[door]
sequence = 7000,5000
allow = 10.0.0.2
start_command = date +%s.%N >> %DIR%/opened
cmd_timeout = 2
stop_command = date +%s.%N >> %DIR%/closed
[other]
sequence = 7100,5100
";

/// Maximum difference in seconds between the due time of a closing and the closing.
const TOLERANCE: f64 = 0.3;
/// Maximum duration of a status request.
const STATUS_TIME: Duration = Duration::from_secs(1);
/// Maximum duration of the daemon's stop.
const STOP_TIME: Duration = Duration::from_secs(3);
/// Maximum memory of the daemon at any time, including its usual memory.
const MEMORY_MIB: u64 = 64;
/// Maximum size of its log.
const LOG_BYTES: u64 = 1 << 20;

/// Seeds of misbehaviours that the daemon did not withstand once. They are played first. Add the
/// seed of each failure that is fixed.
const FAILED_SEEDS: [u64; 0] = [];
/// Number of random misbehaviours in a run of the tests.
const NEW_SEEDS: usize = 4;

/// Number of cases that run at the same time, each with its own hosts: they wait most of the time.
const PARALLEL_CASES: usize = 4;

/// The tests run one at a time: they measure times, and load the processors.
static ALONE: Mutex<()> = Mutex::new(());

/// The library that makes portknockd start another program as its reader.
static STARTER: LazyLock<TempDir> = LazyLock::new(|| {
    require("gcc");
    let directory = TempDir::new().expect("a temporary directory");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/c/start_other_reader.c");
    let library = directory.path().join("start.so");
    let built = Output::of(Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(library).args([source, "-ldl"]));
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    directory
});

fn daemon_with(lab: &Lab, misbehaviour: &str) -> Daemon {
    daemon_of(lab, misbehaviour, DOORS)
}

fn daemon_of(lab: &Lab, misbehaviour: &str, config: &str) -> Daemon {
    let library = format!("LD_PRELOAD={}", STARTER.path().join("start.so").display());
    let program = format!("READER_PROGRAM={}", binary("hostile-reader").display());
    let misbehaviour = format!("READER_MISBEHAVIOUR={misbehaviour}");
    let starter = ["env", &library, &program, &misbehaviour, "READER_DIRECTORY=%DIR%"];
    Daemon::portknockd_under(&lab.server, &starter, config)
}

/// Peak memory of the daemon.
fn peak_mib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux measures it");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024
}

fn seconds(daemon: &Daemon, file: &str) -> f64 {
    daemon.read(file).trim().parse().unwrap_or_else(|_| panic!("{file}: {:?}", daemon.read(file)))
}

/// Asserts the properties that hold whatever the reader does. Returns the log.
fn withstands(misbehaviour: &str) -> String {
    let lab = Lab::pair();
    let mut daemon = daemon_with(&lab, misbehaviour);
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut closes_at = None;
    while start.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        let status = daemon.ask(b"{\"request\":\"status\"}\n");
        assert!(status.contains("\"openings\""), "{misbehaviour}: {status}");
        slowest = slowest.max(asked.elapsed());
        let status: Value = serde_json::from_str(&status).expect("JSON");
        closes_at = closes_at.or(status["status"]["open"][0]["closes_at"].as_f64());
        std::thread::sleep(Duration::from_millis(100));
    }
    let closed = wait_until(WAIT_TIMEOUT, || daemon.read("closed").contains('\n'));
    let memory = peak_mib(&daemon);
    let stopped = Instant::now();
    daemon.signal("TERM");
    let has_ended = daemon.exit_within(WAIT_TIMEOUT).is_some();
    let stop_time = stopped.elapsed();
    let log = daemon.log();
    let size = fs::metadata(daemon.path("log")).map_or(0, |data| data.len());
    let end = || log.chars().take(3000).collect::<String>();
    assert!(closed, "{misbehaviour}: the door stays open\n{}", end());
    let closes_at = closes_at.unwrap_or_else(|| panic!("{misbehaviour}: the door does not open\n{}", end()));
    let late = seconds(&daemon, "closed") - closes_at;
    println!(
        "{misbehaviour}: closed {late:.3} s late, status {slowest:?}, stop {stop_time:?}, memory {memory} MiB, log {size} bytes"
    );
    assert!(late.abs() <= TOLERANCE, "{misbehaviour}: the door closes {late} s late\n{}", end());
    assert!(slowest <= STATUS_TIME, "{misbehaviour}: a status took {slowest:?}\n{}", end());
    assert!(has_ended && stop_time <= STOP_TIME, "{misbehaviour}: the end took {stop_time:?}\n{}", end());
    assert!(memory <= MEMORY_MIB, "{misbehaviour}: {memory} MiB\n{}", end());
    assert!(size <= LOG_BYTES, "{misbehaviour}: the log has {size} bytes\n{}", end());
    assert!(!log.contains("INJECTED\n") && !log.contains('\x1b'), "{misbehaviour}: {}", end());
    let injected = log.lines().any(|line| line.starts_with("[2026-01-01"));
    assert!(!injected, "{misbehaviour}: {}", end());
    log
}

/// The same, and that the daemon restarts the reader for this reason.
fn replaces(misbehaviour: &str, reason: &str) {
    let log = withstands(misbehaviour);
    let line = log.lines().find(|line| line.contains(ENDED) || line.contains("cannot be started"));
    let line = line.unwrap_or_else(|| panic!("{misbehaviour}: the reader stays\n{log}"));
    assert!(line.contains(reason), "{misbehaviour}: {line}");
}

#[test]
fn a_reader_that_floods_the_daemon_is_restarted_and_nothing_waits_for_it() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cases = [
        ("asks for the network", "a message out of turn"),
        ("asks for successors", "too many notices"),
        ("asks for later successors", "too many notices"),
        ("sends notices", "too many notices"),
        ("has always caught up", "a message out of turn"),
        ("reports stages", "more than packets can cause"),
        ("reports packets", "a message out of turn"),
        ("counts without being asked", "a message out of turn"),
        ("reports that it works", "too many notices"),
    ];
    in_parallel(PARALLEL_CASES, &cases, |(misbehaviour, reason)| replaces(misbehaviour, reason));
    // Depending on the machine they arrive faster than packets can cause them, or not.
    withstands("reports openings");
}

#[test]
fn a_reader_that_hands_over_endlessly_or_not_at_all_blocks_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cases = ["hands over without end", "hands over many", "hands over slowly", "hands over nothing"];
    in_parallel(PARALLEL_CASES, &cases, |misbehaviour| drop(withstands(misbehaviour)));
    replaces("hands over a forbidden attempt", "an attempt of an address that may not knock");
}

#[test]
fn a_reader_that_sends_invalid_messages_is_restarted() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cases = [
        ("sends a long notice", "a text that is too long"),
        ("fails with a long text", "a text that is too long"),
        ("fails with lines", "\\x0a10.0.0.9: door: INJECTED"),
        ("announces a long message", "a message that is too long"),
        ("pads its messages", "more bytes than it needs"),
        ("has never caught up", "a time that was not requested"),
        ("reports the future", "something of the future"),
        ("is ready twice", "a message out of turn"),
    ];
    in_parallel(PARALLEL_CASES, &cases, |(misbehaviour, reason)| replaces(misbehaviour, reason));
    in_parallel(PARALLEL_CASES, &["injects lines", "sends byte by byte"], |misbehaviour| {
        drop(withstands(misbehaviour))
    });
}

#[test]
fn a_reader_that_does_nothing_blocks_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cases = ["sends nothing", "stops", "asks for the network again"];
    in_parallel(PARALLEL_CASES, &cases, |misbehaviour| drop(withstands(misbehaviour)));
    let cases = ["exits", "is never ready", "closes its connection"];
    in_parallel(PARALLEL_CASES, &cases, |misbehaviour| replaces(misbehaviour, "has ended"));
}

#[test]
fn a_reader_that_misbehaves_at_random_blocks_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = std::env::var("PORTKNOCK_SEED").ok().and_then(|seed| seed.parse().ok());
    let new_seeds = (0..NEW_SEEDS).map(|_| fastrand::u64(..1_000_000));
    let seeds: Vec<u64> = seed.map_or_else(|| FAILED_SEEDS.into_iter().chain(new_seeds).collect(), |seed| vec![seed]);
    in_parallel(PARALLEL_CASES, &seeds, |seed| {
        println!("PORTKNOCK_SEED={seed} plays this again");
        withstands(&format!("random {seed}"));
    });
}

#[test]
fn a_reload_waits_for_no_reader_and_doors_close_meanwhile() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::pair();
    let daemon = daemon_with(&lab, "sends nothing");
    daemon.wait_for("OPEN SESAME");
    std::thread::sleep(Duration::from_millis(1500));
    let start = Instant::now();
    daemon.reload(DOORS);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("closed").contains('\n')), "{}", daemon.log());
    let open = seconds(&daemon, "closed") - seconds(&daemon, "opened");
    assert!((open - 2.0).abs() <= TOLERANCE, "the door was open for {open} s\n{}", daemon.log());
    assert!(wait_until(WAIT_TIMEOUT, || cost::reader(daemon.id()).is_some()));
}

/// A daemon with a door that packets open, and a reader that misbehaves. Returns its log, after
/// the door has opened this number of times.
fn passes_on(misbehaviour: &str, opens: usize) -> String {
    let lab = Lab::pair();
    let key = Key::generate().expect("random numbers");
    let directory = TempDir::new().expect("a temporary directory");
    let keys = directory.path().join("keys");
    fs::write(&keys, format!("alice {}\n", *key.to_text())).expect("a file");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("the file is there");
    let config = format!(
        "[door]\nsequence = 7000,5000\nallow = 10.0.0.2\ncommand = true\n\
         [keyed]\nkeys = {}\npacket = portknock\nallow = 10.0.0.2\ncommand = echo open >> %DIR%/keyed\n",
        keys.display()
    );
    let daemon = daemon_of(&lab, misbehaviour, &config);
    // The packet is so late that the daemon accepts it after its first start.
    std::thread::sleep(Duration::from_millis(2100));
    let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + Duration::from_secs(58);
    let time = Timestamp::from_nanos(u64::try_from(time.as_nanos()).expect("before 2500"));
    let packet = seal(&key, &PacketContent { time, address: None, seconds: 0, door: "keyed".into() });
    fs::write(daemon.path("recorded.new"), packet.expect("a packet")).expect("a file");
    fs::rename(daemon.path("recorded.new"), daemon.path("recorded")).expect("a file");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(daemon.read("keyed").lines().count(), opens, "{misbehaviour}\n{}", daemon.log());
    let status = daemon.ask(b"{\"request\":\"status\"}\n");
    assert!(status.contains("\"openings\""), "{misbehaviour}: {status}");
    let log = daemon.log();
    assert!(log.len() < 20_000, "{misbehaviour}: the log has {} bytes", log.len());

    // The first message to the reader contains no key.
    let start = fs::read(daemon.path("start")).expect("the first message");
    let bytes: Vec<u8> = key.to_text().trim_start_matches("pk1:").bytes().collect();
    assert!(!start.windows(8).any(|part| bytes.windows(8).any(|key| key == part)), "{misbehaviour}");
    log
}

#[test]
fn a_reader_with_the_hints_opens_no_door_that_packets_open() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cases = [
        ("repeats packets", 1, "knock of key alice refused"),
        ("alters packets", 0, ""),
        ("invents packets", 0, ""),
        ("changes the source of packets", 0, "10.0.0.9: keyed: knock of key alice refused: it asks for an address"),
    ];
    in_parallel(PARALLEL_CASES, &cases, |(misbehaviour, opens, line)| {
        let log = passes_on(misbehaviour, *opens);
        assert!(line.is_empty() || log.matches(line).count() == 1, "{misbehaviour}\n{log}");
    });
    let cases = [
        ("floods with packets", "more packets than keys can make"),
        ("floods with unknown packets", "more packets than keys can make"),
        ("shortens packets", "a packet of another form"),
        ("lengthens packets", "a packet of another form"),
    ];
    in_parallel(PARALLEL_CASES, &cases, |(misbehaviour, reason)| {
        let log = passes_on(misbehaviour, 0);
        assert!(log.lines().any(|line| line.contains(ENDED) && line.contains(reason)), "{misbehaviour}\n{log}");
    });
}
