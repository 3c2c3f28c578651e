//! Requests to a daemon by its control socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::Value;

use crate::{Daemon, Output, Process, WAIT_TIMEOUT, binary, wait_until};

impl Daemon {
    /// `portknock ARGUMENTS` for this daemon.
    pub fn portknock(&self, args: &[&str]) -> Output {
        Output::of(&mut self.portknock_command(args))
    }

    fn portknock_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("portknock"));
        command.args(args).arg("--socket").arg(self.path("control"));
        command
    }

    /// Its status, as `portknock status --format json` prints it.
    pub fn status_json(&self) -> Value {
        let output = self.portknock(&["status", "--format", "json"]);
        assert_eq!((output.code, &*output.stderr), (Some(0), ""));
        serde_json::from_str(&output.stdout).expect("the status is JSON")
    }

    /// Waits until this number of clients follows its events.
    pub fn wait_for_followers(&self, count: u64) {
        let arrived = wait_until(WAIT_TIMEOUT, || self.status_json()["followers"] == count);
        assert!(arrived, "{}", self.status_json());
    }

    /// `portknock events` for this daemon, after it has begun to follow.
    pub fn follow(&self) -> Process {
        let before = self.status_json()["followers"].as_u64().expect("a number");
        let process = Process::spawn(&mut self.portknock_command(&["events"]));
        self.wait_for_followers(before + 1);
        process
    }

    /// A connection to its control socket.
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path("control")).expect("the daemon listens");
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).expect("a test socket");
        stream
    }

    /// Sends `request` unchanged, and returns the first line of the answer.
    pub fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be refused before it is read.
        let _ = stream.write_all(request);
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("an answer");
        line
    }
}
