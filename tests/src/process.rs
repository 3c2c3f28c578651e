//! Programs that the tests run: to their end, or in the background with access to their output.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{WAIT_TIMEOUT, wait_until};

/// The exit status and output of a program.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Runs `command` to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A program in the background. It is killed, by its process id, when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` and collects the lines of its standard output and standard error.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        let pipes: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|pipe| Box::new(pipe) as _), child.stderr.take().map(|pipe| Box::new(pipe) as _)];
        let readers = pipes.into_iter().flatten().map(|pipe| collect(pipe, output.clone())).collect();
        Self { child, name: format!("{command:?}"), output, readers }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines that it has written so far.
    pub fn output(&self) -> String {
        locked(&self.output).clone()
    }

    /// Waits until a line that contains `text` was written. Panics if that takes too long.
    pub fn wait_for(&self, text: &str) {
        let seen = wait_until(WAIT_TIMEOUT, || locked(&self.output).contains(text));
        assert!(seen, "{} did not write `{text}`; it wrote:\n{}", self.name, self.output());
    }

    /// Sends a signal, as in `signal("HUP")`.
    pub fn signal(&self, name: &str) {
        let sent = Output::of(Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()));
        assert_eq!(sent.code, Some(0), "kill -{name} {}: {}", self.name, sent.stderr);
    }

    /// Its exit status, if it exits within `timeout`.
    pub fn exit_within(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let mut status = None;
        wait_until(timeout, || {
            status = self.child.try_wait().expect("a child process can be waited for");
            status.is_some()
        });
        status
    }

    /// Sends SIGTERM and waits for the end. Panics if that takes too long.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.exit_within(WAIT_TIMEOUT).unwrap_or_else(|| panic!("{} does not end at SIGTERM", self.name))
    }

    /// Waits until the program has ended by itself, and returns all its output.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let status = self.exit_within(WAIT_TIMEOUT).unwrap_or_else(|| panic!("{} does not end", self.name));
        for reader in self.readers.drain(..) {
            reader.join().expect("the reader does not panic");
        }
        (status, self.output())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(pipe: Box<dyn Read + Send>, output: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            locked(&output).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

fn locked(output: &Mutex<String>) -> MutexGuard<'_, String> {
    output.lock().expect("no holder of this lock panics")
}
