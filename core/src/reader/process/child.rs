//! One reader process and the connection to it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use crate::reader::channel::Channel;
use crate::reader::wire::{MAX_DAEMON_MESSAGE, MAX_READER_MESSAGE, Start, ToReader};
use crate::sys::epoll::Epoll;
use crate::time::Timestamp;

/// Maximum number of bytes that wait for the reader to read them: a message of the maximum size,
/// and half of that for other messages.
const MAX_UNSENT: usize = 3 * MAX_DAEMON_MESSAGE / 2;
/// Maximum time to wait for the end of a killed process.
const EXIT_TIMEOUT: Duration = Duration::from_millis(50);
/// Time between two checks for the end of a killed process.
const EXIT_CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// The program that calls [`run`](crate::reader::run). Its standard input is the connection to the
/// daemon, and its environment is empty.
#[derive(Clone, Debug)]
pub struct ReaderProgram {
    /// Path of the program's file.
    pub program: PathBuf,
    /// The process name (`argv[0]`) and the arguments. Must not be empty.
    pub args: Vec<OsString>,
}

/// A reader process and the daemon's end of the connection. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct ReaderChild {
    /// `None` if there is only a connection, as in tests.
    child: Option<Child>,
    pub(super) channel: Channel,
    /// The interfaces that it was started with. Its messages contain their indices.
    pub(super) interfaces: Vec<String>,
    /// Time of the start.
    pub(super) started: Instant,
    /// Time of the last valid message.
    pub(super) last_message: Instant,
    /// Time at which the unanswered [`ToReader::Count`] was sent.
    pub(super) count_asked: Option<Instant>,
    /// Time at which the unanswered [`ToReader::CatchUp`] was sent, by the monotonic and by the
    /// service's clock.
    pub(super) catch_up_asked: Option<(Instant, Timestamp)>,
    /// True if it has requested the state of the network and has not received it yet.
    pub(super) asks_network: bool,
    /// True if the epoll set waits for the connection to be readable, and to be writable.
    interest: (bool, bool),
}

impl ReaderChild {
    /// Starts the process, sends it `start` as the first message, and adds the connection to
    /// `epoll`.
    ///
    /// # Errors
    /// Fails if the process cannot be started.
    pub(super) fn spawn(program: &ReaderProgram, start: Start, epoll: &Epoll) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let (name, args) = program.args.split_first().ok_or_else(|| io::Error::other("its program has no name"))?;
        let child = Command::new(&program.program)
            .arg0(name)
            .args(args)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            .process_group(0)
            .spawn()?;
        let mut reader = Self::new(Some(child), ours, start.interfaces.clone(), epoll)?;
        reader.send(&ToReader::Start(start), epoll)?;
        Ok(reader)
    }

    /// Returns the reader at the other end of `ours`, whose descriptor it adds to `epoll`.
    pub(super) fn new(
        child: Option<Child>,
        ours: UnixStream,
        interfaces: Vec<String>,
        epoll: &Epoll,
    ) -> io::Result<Self> {
        let channel = Channel::new(ours, MAX_READER_MESSAGE)?;
        epoll.add(channel.as_fd(), 0)?;
        let now = Instant::now();
        Ok(Self {
            child,
            channel,
            interfaces,
            started: now,
            last_message: now,
            count_asked: None,
            catch_up_asked: None,
            asks_network: false,
            interest: (true, false),
        })
    }

    /// Sends as much of a message as the socket accepts. [`ReaderChild::send_rest`] sends the rest
    /// later.
    ///
    /// # Errors
    /// Fails if the connection is closed, or if more than [`MAX_UNSENT`] bytes wait.
    pub(super) fn send(&mut self, message: &ToReader, epoll: &Epoll) -> io::Result<()> {
        self.channel.put(message)?;
        self.send_rest(epoll)?;
        if self.channel.unsent() > MAX_UNSENT {
            return Err(io::Error::other("it does not read its messages"));
        }
        Ok(())
    }

    /// Sends as many waiting bytes as the socket accepts.
    pub(super) fn send_rest(&mut self, epoll: &Epoll) -> io::Result<()> {
        self.channel.send()?;
        self.set_interest((self.interest.0, self.channel.unsent() > 0), epoll)
    }

    /// Sets whether the epoll set waits for messages of the reader.
    pub(super) fn set_reading(&mut self, reads: bool, epoll: &Epoll) -> io::Result<()> {
        self.set_interest((reads, self.interest.1), epoll)
    }

    fn set_interest(&mut self, interest: (bool, bool), epoll: &Epoll) -> io::Result<()> {
        if self.interest != interest {
            epoll.set_interest(self.channel.as_fd(), 0, interest.0, interest.1)?;
            self.interest = interest;
        }
        Ok(())
    }

    /// Returns the time at which the oldest unanswered request was sent.
    pub(super) fn oldest_request(&self) -> Option<Instant> {
        self.count_asked.into_iter().chain(self.catch_up_asked.map(|(asked, _)| asked)).min()
    }

    /// Kills the process because of `error`. Returns the reason for its end: its exit status if it
    /// has closed the connection, otherwise the error.
    pub(super) fn end(mut self, error: &io::Error) -> String {
        let status = self.kill();
        match (error.kind(), status) {
            (io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe, Some(status)) => status.to_string(),
            (io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe, None) => "it closed its connection".into(),
            (io::ErrorKind::TimedOut, _) => "it does not answer".into(),
            _ => error.to_string(),
        }
    }

    /// Kills the process and waits for its end, at most [`EXIT_TIMEOUT`], because the end takes
    /// longer on a busy machine. A thread waits for a process that has not ended by then. Returns
    /// the exit status if the process has ended.
    fn kill(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        // The process may have ended by itself.
        let _ = child.kill();
        let deadline = Instant::now() + EXIT_TIMEOUT;
        loop {
            match child.try_wait() {
                Ok(None) if Instant::now() < deadline => sleep(EXIT_CHECK_INTERVAL),
                Ok(None) => break,
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
        // If no thread can be started, the process stays a zombie until the daemon ends.
        let _ = Builder::new().name("reader-exit".into()).spawn(move || child.wait());
        None
    }
}

impl Drop for ReaderChild {
    fn drop(&mut self) {
        self.kill();
    }
}
