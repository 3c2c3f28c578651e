//! The cost of a process, by the kernel's accounting of it (proc(5)). The cost of portknockd
//! includes its reader.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// CPU time of all its threads. It is exact while they sleep.
pub fn cpu(pid: u32) -> Duration {
    let nanos = threads(pid, "schedstat").iter().map(|text| number(text.split(' ').next())).sum();
    Duration::from_nanos(nanos)
}

/// CPU time of its children that have ended and for which it has waited, and of their children, to
/// a hundredth of a second.
pub fn cpu_of_children(pid: u32) -> Duration {
    let text = read(&format!("/proc/{pid}/stat"));
    // The second field may contain spaces, but a bracket ends it; `cutime` and `cstime` are the
    // 16th and the 17th.
    let (_, rest) = text.rsplit_once(')').expect("the name of a program in brackets");
    let ticks: u64 = rest.split_whitespace().skip(13).take(2).map(|field| number(Some(field))).sum();
    Duration::from_millis(ticks * 10)
}

/// The processes that it has started for commands and that have not ended, or that it has not
/// waited for.
pub fn commands(pid: u32) -> Vec<u32> {
    children(pid).filter(|child| !is_reader(*child)).collect()
}

/// The reader process of portknockd; `None` for other programs.
pub fn reader(pid: u32) -> Option<u32> {
    children(pid).find(|child| is_reader(*child))
}

fn is_reader(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "portknockd-read\n")
}

fn children(pid: u32) -> impl Iterator<Item = u32> {
    let ids = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    ids.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>().into_iter()
}

/// Number of times that its threads have slept and were woken again.
pub fn wake_ups(pid: u32) -> u64 {
    threads(pid, "status").iter().map(|text| labelled(text, "voluntary_ctxt_switches:")).sum()
}

/// Its memory in mebibytes.
pub fn resident_mib(pid: u32) -> f64 {
    [pid].into_iter().chain(reader(pid)).map(resident_mib_alone).sum()
}

/// The memory of this process alone in mebibytes, without its reader.
pub fn resident_mib_alone(pid: u32) -> f64 {
    let kib = labelled(&read(&format!("/proc/{pid}/status")), "VmRSS:");
    #[allow(clippy::cast_precision_loss, reason = "no machine has so much memory")]
    let mib = kib as f64 / 1024.0;
    mib
}

/// Waits until it is idle: no CPU time for a tenth of a second, except for the polls of a program
/// that wakes again and again.
pub fn settle(pid: u32) {
    loop {
        let before = cpu(pid);
        sleep(Duration::from_millis(100));
        if cpu(pid) - before < Duration::from_millis(2) {
            return;
        }
    }
}

/// Waits until a daemon has no children and has been idle for this time. Returns the moment from
/// which it was idle.
pub fn wait_for_the_end(pid: u32, quiet: Duration) -> Instant {
    let mut last_busy = Instant::now();
    let mut before = cpu(pid);
    while last_busy.elapsed() < quiet {
        sleep(Duration::from_millis(10));
        let now = cpu(pid);
        // knockd wakes 20 times a second without a reason.
        if !commands(pid).is_empty() || now - before > Duration::from_micros(500) {
            last_busy = Instant::now();
        }
        before = now;
    }
    last_busy
}

/// A file of each of its threads, and of its reader's.
fn threads(pid: u32, file: &str) -> Vec<String> {
    [pid].into_iter().chain(reader(pid)).flat_map(|pid| threads_of(pid, file)).collect()
}

fn threads_of(pid: u32, file: &str) -> Vec<String> {
    let directory = fs::read_dir(format!("/proc/{pid}/task")).unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let paths = directory.map(|entry| entry.expect("the process runs").path().join(file));
    // A thread may have ended in between.
    paths.filter_map(|path| fs::read_to_string(path).ok()).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn labelled(text: &str, label: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_else(|| panic!("no {label}"));
    number(value.split_whitespace().next())
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).expect("the kernel writes a number here")
}
