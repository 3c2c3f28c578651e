//! Where log lines go: standard output, a file, syslog.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use portknock_core::Printable;
use portknock_core::sys::clock::{LocalTime, local_time};
use portknock_core::sys::syslog;

/// What is logged to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// Standard output, as in the foreground.
    pub(crate) stdout: bool,
    /// A file; absolute, since a daemon changes its directory.
    pub(crate) file: Option<PathBuf>,
    /// syslog(3).
    pub(crate) syslog: bool,
}

/// Lines are written together, since a flood brings many at once; so many bytes are not waited with.
const MANY: usize = 64 * 1024;

/// Collects lines and writes them to its targets at each [`Log::flush`]. Nothing that goes wrong there ends the daemon.
#[derive(Debug)]
pub(crate) struct Log {
    targets: Targets,
    file: Option<File>,
    /// Lines for standard output.
    plain: String,
    /// Lines for the file.
    stamped: String,
    /// What stands before the lines of now in the file; empty where a line has to look at the clock.
    stamp: String,
    /// What is wrong with the file was said, and it is still wrong.
    failing: bool,
}

impl Log {
    /// A log to these targets. A file that cannot be opened is told on the other ones.
    pub(crate) fn open(targets: Targets) -> Self {
        let mut log = Self {
            targets: Targets::default(),
            file: None,
            plain: String::new(),
            stamped: String::new(),
            stamp: String::new(),
            failing: false,
        };
        log.reopen(targets);
        log
    }

    /// Opens the targets again: others, or a file that was moved away by now.
    pub(crate) fn reopen(&mut self, targets: Targets) {
        self.flush();
        self.targets = targets;
        self.failing = false;
        self.file = None;
        if self.targets.syslog {
            syslog::open();
        }
        self.open_file();
    }

    /// What is logged to.
    pub(crate) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Takes one line, which must not have control characters, as of now.
    pub(crate) fn line(&mut self, line: &str) {
        if self.stamp.is_empty() {
            self.stamp = stamp_of(local_time());
        }
        let stamp = std::mem::take(&mut self.stamp);
        self.put(&stamp, line);
        self.stamp = stamp;
        self.flush_many();
    }

    /// Takes one line that was made at `time`.
    pub(crate) fn line_of(&mut self, line: &str, time: LocalTime) {
        self.put(&stamp_of(time), line);
        self.flush_many();
    }

    fn put(&mut self, stamp: &str, line: &str) {
        if self.targets.syslog {
            syslog::notice(line);
        }
        // Writing into a string does not fail.
        if self.targets.stdout {
            let _ = writeln!(self.plain, "{line}");
        }
        if self.targets.file.is_some() {
            let _ = writeln!(self.stamped, "{stamp}{line}");
        }
    }

    fn flush_many(&mut self) {
        if self.plain.len().max(self.stamped.len()) >= MANY {
            self.flush();
        }
    }

    /// Writes what was taken. Lines that the file does not accept are lost, but not those that come after it works again.
    pub(crate) fn flush(&mut self) {
        self.stamp.clear();
        if !self.plain.is_empty() {
            let mut stdout = io::stdout().lock();
            // Nobody may be there to read it.
            let _ = stdout.write_all(self.plain.as_bytes()).and_then(|()| stdout.flush());
            self.plain.clear();
        }
        if self.stamped.is_empty() {
            return;
        }
        if self.file.is_none() {
            self.open_file();
        }
        match self.file.as_mut().map(|file| file.write_all(self.stamped.as_bytes())) {
            Some(Ok(())) => self.failing = false,
            Some(Err(error)) => self.complain(&error),
            None => {}
        }
        self.stamped.clear();
    }

    fn open_file(&mut self) {
        let Some(path) = &self.targets.file else { return };
        match OpenOptions::new().append(true).create(true).mode(0o640).open(path) {
            Ok(file) => self.file = Some(file),
            Err(error) => self.complain(&error),
        }
    }

    /// Says once that the file does not work, where people may see it; each further line tries it again.
    fn complain(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.failing, true) {
            return;
        }
        let path = self.targets.file.as_deref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let line = format!("cannot write to the log file {}: {error}", Printable(&path));
        if self.targets.syslog {
            syslog::notice(&line);
        }
        let _ = writeln!(io::stderr(), "portknockd: {line}");
    }
}

fn stamp_of(LocalTime { year, month, day, hour, minute, .. }: LocalTime) -> String {
    format!("[{year}-{month:02}-{day:02} {hour:02}:{minute:02}] ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn lines_are_stamped_as_by_knockd_and_a_moved_file_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let targets = Targets { file: Some(path.clone()), ..Targets::default() };
        let mut log = Log::open(targets.clone());
        let time = LocalTime { year: 2026, month: 3, day: 9, hour: 7, minute: 5, second: 59 };
        log.line_of("127.0.0.1: d: Stage 1", time);
        fs::rename(&path, dir.path().join("old")).unwrap();
        log.line_of("still the old file", time);
        log.reopen(targets);
        log.line_of("the new file", time);
        log.flush();
        let old = fs::read_to_string(dir.path().join("old")).unwrap();
        assert_eq!(old, "[2026-03-09 07:05] 127.0.0.1: d: Stage 1\n[2026-03-09 07:05] still the old file\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "[2026-03-09 07:05] the new file\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later/log");
        let mut log = Log::open(Targets { file: Some(path.clone()), ..Targets::default() });
        log.line("lost");
        log.flush();
        assert!(log.failing);
        fs::create_dir(dir.path().join("later")).unwrap();
        log.line("kept");
        log.flush();
        assert!(!log.failing && fs::read_to_string(&path).unwrap().ends_with("] kept\n"));
    }
}
