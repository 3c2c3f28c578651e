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

/// Maximum number of bytes that wait for the reader to read them. Half of it is for a new configuration.
const MAX_UNSENT: usize = 3 * MAX_DAEMON_MESSAGE / 2;
/// Maximum time for which the end of a killed process is waited for.
const EXIT_TIMEOUT: Duration = Duration::from_millis(50);
/// Time between two looks whether a killed process has ended.
const EXIT_CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// The program that [`run`](crate::reader::run)s the reader; its standard input is the connection to the daemon.
#[derive(Clone, Debug)]
pub struct ReaderProgram {
    /// The program's file.
    pub program: PathBuf,
    /// Its name, as the system shows it, and its arguments.
    pub args: Vec<OsString>,
}

/// A reader process. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct ReaderChild {
    /// `None` if only the connection is there, as in tests.
    child: Option<Child>,
    pub(super) channel: Channel,
    /// The interfaces that it was started with, which it reports by their indices.
    pub(super) interfaces: Vec<String>,
    pub(super) started: Instant,
    /// When the last valid message came.
    pub(super) heard: Instant,
    /// When [`ToReader::Count`] was sent that is not answered yet.
    pub(super) count_asked: Option<Instant>,
    /// When [`ToReader::CatchUp`] was sent that is not answered yet, by two clocks.
    pub(super) catch_up_asked: Option<(Instant, Timestamp)>,
    /// It asks for the network and has no answer yet.
    pub(super) asks_network: bool,
    /// What its descriptor is waited for: to be readable, to be writable.
    interest: (bool, bool),
}

impl ReaderChild {
    /// Starts the process, with `start` as the first message. Its descriptor joins `epoll`.
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
            heard: now,
            count_asked: None,
            catch_up_asked: None,
            asks_network: false,
            interest: (true, false),
        })
    }

    /// Sends a message as far as the socket takes it; the rest follows when the socket has room.
    pub(super) fn send(&mut self, message: &ToReader, epoll: &Epoll) -> io::Result<()> {
        self.channel.put(message)?;
        self.send_rest(epoll)?;
        if self.channel.waiting() > MAX_UNSENT {
            return Err(io::Error::other("it does not read what it is sent"));
        }
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn send_rest(&mut self, epoll: &Epoll) -> io::Result<()> {
        self.channel.send()?;
        self.set_interest((self.interest.0, self.channel.waiting() > 0), epoll)
    }

    /// Waits for what it sends, or does not.
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

    /// When the oldest question was asked that it has not answered.
    pub(super) fn oldest_question(&self) -> Option<Instant> {
        self.count_asked.into_iter().chain(self.catch_up_asked.map(|(asked, _)| asked)).min()
    }

    /// Kills the process because of `error`. Returns why it ended.
    pub(super) fn end(mut self, error: &io::Error) -> String {
        let status = self.kill();
        match (error.kind(), status) {
            (io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe, Some(status)) => status.to_string(),
            (io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe, None) => "it closed its connection".into(),
            (io::ErrorKind::TimedOut, _) => "it does not answer".into(),
            _ => error.to_string(),
        }
    }

    /// Kills the process, and waits only for a moment until it has ended: on a busy machine that takes its time.
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
        // Without a thread to be had, it stays a zombie until the daemon ends.
        let _ = Builder::new().name("reader-exit".into()).spawn(move || child.wait());
        None
    }
}

impl Drop for ReaderChild {
    fn drop(&mut self) {
        self.kill();
    }
}
