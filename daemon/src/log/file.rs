//! The log file: opened before the first write, and opened again after an error.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use portknock_core::Printable;

use super::open::open;
use super::queue::{Queue, count_lines, lost_line};
use super::writer::{Sink, write_all};

/// The file to log to, and the queues that get the error if that fails.
#[derive(Debug, Default)]
pub(super) struct FileTarget {
    /// `None` if there is no log file any more.
    pub(super) path: Option<PathBuf>,
    pub(super) stderr: Option<Arc<Queue<Infallible>>>,
    pub(super) syslog: Option<Arc<Queue<Infallible>>>,
}

/// A log file. Its errors never end the daemon.
#[derive(Debug, Default)]
pub(super) struct LogFile {
    target: FileTarget,
    file: Option<File>,
    /// Number of lines lost since the last successful write.
    lost: u64,
    /// The last line in the file is incomplete.
    has_partial_line: bool,
    /// The error is reported, and no write has succeeded since.
    is_failing: bool,
}

impl Sink for LogFile {
    type Target = FileTarget;

    fn write(&mut self, lines: &str, queue: &Queue<FileTarget>) {
        if self.target.path.is_none() {
            return;
        }
        let mut file = match self.opened() {
            Ok(file) => file,
            Err(error) => {
                self.lost += count_lines(lines);
                return self.report_error(&error);
            }
        };
        let mut head = if self.has_partial_line { "\n".to_owned() } else { String::new() };
        if self.lost > 0 {
            head.push_str(&lost_line(self.lost, true));
        }
        let text = if head.is_empty() { Cow::Borrowed(lines) } else { Cow::Owned(head.clone() + lines) };
        let (written, result) = write_all(&mut file, &text, || queue.has_switch());
        self.lost = if written < head.len() { self.lost } else { 0 }
            + count_lines(&lines[written.saturating_sub(head.len())..]);
        self.has_partial_line = match written.checked_sub(1) {
            Some(last) => text.as_bytes()[last] != b'\n',
            None => self.has_partial_line,
        };
        match result {
            Ok(()) => (self.file, self.is_failing) = (Some(file), false),
            // The file blocks, and a switch to another file is in the queue.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The file is opened again for the next line.
            Err(error) => self.report_error(&error),
        }
    }

    /// Opens the file again, or another one, which then gets the number of lost lines.
    fn switch(&mut self, target: FileTarget) {
        *self = Self { target, lost: self.lost, ..Self::default() };
        if self.target.path.is_some() {
            match self.opened() {
                Ok(file) => self.file = Some(file),
                Err(error) => self.report_error(&error),
            }
        }
    }
}

impl LogFile {
    /// Returns the open file, or opens it.
    fn opened(&mut self) -> io::Result<File> {
        match (self.file.take(), &self.target.path) {
            (Some(file), _) => Ok(file),
            (None, Some(path)) => open(path),
            (None, None) => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Reports the first error in a row to syslog and standard error.
    fn report_error(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.is_failing, true) {
            return;
        }
        let path = self.target.path.as_deref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let line = format!("cannot write to the log file {}: {error}\n", Printable(&path));
        if let Some(syslog) = &self.target.syslog {
            syslog.push(&line);
        }
        if let Some(stderr) = &self.target.stderr {
            stderr.push(&format!("portknockd: {line}"));
        }
    }
}
