//! The minimal cost of every program that captures: a program that only counts.

use std::path::PathBuf;
use std::sync::LazyLock;

use crate::{C, Host, Process, WAIT_TIMEOUT, wait_until};

/// `tests/c/count.c`, running on a host; it is killed when this is dropped.
#[derive(Debug)]
pub struct Counter {
    process: Process,
}

impl Counter {
    /// Compiles it, the first time, starts it on `eth0`, and waits until it listens.
    pub fn start(host: &Host) -> Self {
        static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| C::compile_alone("tests/c/count.c", &["-lpcap"]));
        let process = Process::spawn(host.command(&*PROGRAM).arg("eth0"));
        process.wait_for("listening");
        Self { process }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Number of packets that it has counted, and number that the kernel has dropped.
    pub fn counted(&self) -> (u64, u64) {
        let lines = || self.process.output().lines().filter(|line| line.starts_with("counted")).count();
        let before = lines();
        self.process.signal("USR1");
        assert!(wait_until(WAIT_TIMEOUT, || lines() > before), "count does not answer: {}", self.process.output());
        let output = self.process.output();
        let line = output.lines().last().and_then(|line| line.strip_prefix("counted ")?.split_once(", drops "));
        let (counted, drops) = line.unwrap_or_else(|| panic!("count wrote: {output}"));
        let number = |text: &str| text.parse().expect("a number");
        (number(counted), number(drops))
    }
}
