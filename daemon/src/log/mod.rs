//! The log and its sinks: standard output, a file, syslog.
//!
//! The daemon puts lines into bounded queues and never waits. A thread for each sink writes them.
//! Only a thread can wait for a file system that hangs, and standard output must not become
//! non-blocking, because other processes use it, too.

mod file;
mod open;
mod queue;
mod writer;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portknock_core::sys::clock::{LocalTime, local_time};

use file::{FileTarget, LogFile};
use writer::{Stderr, Stdout, Syslog, Writer};

/// The targets of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// Standard output, in the foreground.
    pub(crate) stdout: bool,
    /// A file; absolute, because a background process changes its directory.
    pub(crate) file: Option<PathBuf>,
    /// syslog(3).
    pub(crate) syslog: bool,
}

/// Number of bytes that are put into the queues before the end of the loop's iteration.
const FLUSH_THRESHOLD: usize = 64 * 1024;
/// Maximum time that the start waits for the sinks, so that the log file exists, or its error is on
/// standard error.
const START_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum time that the end waits for the sinks.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Collects lines and puts them into the queues of their sinks at each [`Log::flush`]. Errors of a
/// sink neither end nor delay the daemon.
#[derive(Debug)]
pub(crate) struct Log {
    targets: Targets,
    stdout: Option<Writer<Infallible>>,
    syslog: Option<Writer<Infallible>>,
    stderr: Option<Writer<Infallible>>,
    file: Option<Writer<FileTarget>>,
    /// Lines for standard output and syslog.
    plain: String,
    /// Lines for the file.
    timestamped: String,
    /// Timestamp of the lines of this iteration in the file; empty if the next line must read the
    /// clock.
    timestamp: String,
}

impl Log {
    /// Opens a log to these targets. If the file cannot be opened, the log reports this on standard
    /// error and to syslog.
    ///
    /// # Errors
    /// Fails if a thread cannot be started.
    pub(crate) fn open(targets: Targets) -> io::Result<Self> {
        let mut log = Self {
            targets: Targets::default(),
            stdout: None,
            syslog: None,
            stderr: None,
            file: None,
            plain: String::new(),
            timestamped: String::new(),
            timestamp: String::new(),
        };
        log.reopen(targets)?;
        log.wait_until_idle(START_TIMEOUT);
        Ok(log)
    }

    /// Opens the targets again, because they have changed or the file has been moved away.
    ///
    /// # Errors
    /// Fails if a thread cannot be started; the log then keeps its old targets.
    pub(crate) fn reopen(&mut self, targets: Targets) -> io::Result<()> {
        self.flush();
        if targets.stdout && self.stdout.is_none() {
            self.stdout = Some(Writer::start("log-stdout", false, Stdout::new()?)?);
        }
        if targets.syslog && self.syslog.is_none() {
            self.syslog = Some(Writer::start("log-syslog", false, Syslog)?);
        }
        if targets.file.is_some() && self.file.is_none() {
            self.stderr()?;
            self.file = Some(Writer::start("log-file", true, LogFile::default())?);
        }
        if let Some(file) = &self.file {
            file.queue().switch(FileTarget {
                path: targets.file.clone(),
                stderr: self.stderr.as_ref().map(|stderr| stderr.queue().clone()),
                syslog: self.syslog.as_ref().filter(|_| targets.syslog).map(|syslog| syslog.queue().clone()),
            });
        }
        self.targets = targets;
        Ok(())
    }

    /// Writes whole lines to standard error.
    ///
    /// # Errors
    /// Fails if a thread cannot be started.
    pub(crate) fn write_stderr(&mut self, lines: &str) -> io::Result<()> {
        if !lines.is_empty() {
            self.stderr()?.queue().push(lines);
            self.wait_until_idle(START_TIMEOUT);
        }
        Ok(())
    }

    fn stderr(&mut self) -> io::Result<&Writer<Infallible>> {
        let stderr = match self.stderr.take() {
            Some(stderr) => stderr,
            None => Writer::start("log-stderr", false, Stderr)?,
        };
        Ok(self.stderr.insert(stderr))
    }

    /// The targets of the log.
    pub(crate) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Logs a line, which must not have control characters, with the current time.
    pub(crate) fn line(&mut self, line: &str) {
        if self.timestamp.is_empty() {
            self.timestamp = timestamp_of(local_time());
        }
        let timestamp = std::mem::take(&mut self.timestamp);
        self.put(&timestamp, line);
        self.timestamp = timestamp;
        self.flush_if_large();
    }

    /// Logs a line with the time `time`.
    pub(crate) fn line_at(&mut self, line: &str, time: LocalTime) {
        self.put(&timestamp_of(time), line);
        self.flush_if_large();
    }

    fn put(&mut self, timestamp: &str, line: &str) {
        // Writing into a string does not fail.
        if self.targets.stdout || self.targets.syslog {
            let _ = writeln!(self.plain, "{line}");
        }
        if self.targets.file.is_some() {
            let _ = writeln!(self.timestamped, "{timestamp}{line}");
        }
    }

    fn flush_if_large(&mut self) {
        if self.plain.len().max(self.timestamped.len()) >= FLUSH_THRESHOLD {
            self.flush();
        }
    }

    /// Puts the lines into the queues. Lines for which a queue has no room are lost and counted.
    pub(crate) fn flush(&mut self) {
        self.timestamp.clear();
        if let Some(stdout) = self.stdout.as_ref().filter(|_| self.targets.stdout) {
            stdout.queue().push(&self.plain);
        }
        if let Some(syslog) = self.syslog.as_ref().filter(|_| self.targets.syslog) {
            syslog.queue().push(&self.plain);
        }
        if let Some(file) = &self.file {
            file.queue().push(&self.timestamped);
        }
        self.plain.clear();
        self.timestamped.clear();
    }

    /// Writes everything, but stops waiting for a sink after [`END_TIMEOUT`].
    pub(crate) fn finish(&mut self) {
        self.flush();
        self.wait_until_idle(END_TIMEOUT);
    }

    fn wait_until_idle(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        // The file comes first, because its errors go to the other sinks.
        if let Some(file) = &self.file {
            file.queue().wait_until_idle(deadline);
        }
        for writer in [&self.stdout, &self.syslog, &self.stderr].into_iter().flatten() {
            writer.queue().wait_until_idle(deadline);
        }
    }
}

/// The timestamp of the current time.
fn timestamp_now() -> String {
    timestamp_of(local_time())
}

fn timestamp_of(LocalTime { year, month, day, hour, minute, .. }: LocalTime) -> String {
    format!("[{year}-{month:02}-{day:02} {hour:02}:{minute:02}] ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn lines_have_the_timestamps_of_knockd_and_a_moved_file_is_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let targets = Targets { file: Some(path.clone()), ..Targets::default() };
        let mut log = Log::open(targets.clone()).unwrap();
        let time = LocalTime { year: 2026, month: 3, day: 9, hour: 7, minute: 5, second: 59 };
        log.line_at("127.0.0.1: d: Stage 1", time);
        fs::rename(&path, dir.path().join("old")).unwrap();
        log.line_at("still the old file", time);
        log.reopen(targets).unwrap();
        log.line_at("the new file", time);
        log.finish();
        let old = fs::read_to_string(dir.path().join("old")).unwrap();
        assert_eq!(old, "[2026-03-09 07:05] 127.0.0.1: d: Stage 1\n[2026-03-09 07:05] still the old file\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "[2026-03-09 07:05] the new file\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later/log");
        let mut log = Log::open(Targets { file: Some(path.clone()), ..Targets::default() }).unwrap();
        log.line("lost");
        log.finish();
        fs::create_dir(dir.path().join("later")).unwrap();
        log.line("kept");
        log.finish();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("] 1 lines were not logged\n[") && text.ends_with("] kept\n"), "{text}");
    }
}
