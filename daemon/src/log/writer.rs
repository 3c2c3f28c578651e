//! One thread for each sink, so that a sink that stalls delays nothing else.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portknock_core::sys::poll::{self, Interest};
use portknock_core::sys::signals::with_signals_blocked;
use portknock_core::sys::syslog;

use super::queue::{Queue, Work};

/// Stack size of a writer in bytes. It calls little more than write(2) and syslog(3).
const STACK_BYTES: usize = 128 * 1024;
/// Capacity in bytes that a batch keeps between writes.
const KEPT_BYTES: usize = 64 * 1024;
/// Maximum time that a write to a full pipe waits before the writer checks whether to give up.
const WRITE_TIMEOUT: Duration = Duration::from_millis(250);

/// A destination of lines. Writing to it can take any time.
pub(super) trait Sink: Send + 'static {
    /// The type of its targets.
    type Target: Send + 'static;

    /// Writes whole lines, or as many of them as the sink accepts.
    fn write(&mut self, lines: &str, queue: &Queue<Self::Target>);

    /// Writes all later lines to another target.
    fn switch(&mut self, _target: Self::Target) {}
}

/// The thread of a sink. It ends with the process.
#[derive(Debug)]
pub(super) struct Writer<T> {
    queue: Arc<Queue<T>>,
}

impl<T: Send + 'static> Writer<T> {
    /// Starts the thread `name` of a sink. Signals go to the other threads.
    pub(super) fn start(name: &str, has_timestamps: bool, mut sink: impl Sink<Target = T>) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(has_timestamps));
        let own = queue.clone();
        let work = move || {
            let mut batch = String::new();
            loop {
                match own.take(&mut batch) {
                    Work::Write => sink.write(&batch, &own),
                    Work::Switch(target) => sink.switch(target),
                }
                batch.clear();
                batch.shrink_to(KEPT_BYTES);
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        with_signals_blocked(|| thread.spawn(work))?;
        Ok(Self { queue })
    }

    /// The queue of its lines.
    pub(super) fn queue(&self) -> &Arc<Queue<T>> {
        &self.queue
    }
}

/// Standard output.
#[derive(Debug)]
pub(super) struct Stdout(File);

impl Stdout {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }
}

impl Sink for Stdout {
    type Target = Infallible;

    fn write(&mut self, lines: &str, _: &Queue<Infallible>) {
        // If its reader has gone, there is no other place to write to.
        let _ = write_all(&mut self.0, lines, || false);
    }
}

/// Standard error, which a background process replaces when it detaches.
#[derive(Debug)]
pub(super) struct Stderr;

impl Sink for Stderr {
    type Target = Infallible;

    fn write(&mut self, lines: &str, _: &Queue<Infallible>) {
        // A duplicate of the descriptor: the lock that std holds while it writes would block other
        // writers to standard error.
        let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return };
        let _ = write_all(&mut File::from(stderr), lines, || false);
    }
}

/// syslog(3), which waits for the system logger.
#[derive(Debug)]
pub(super) struct Syslog;

impl Sink for Syslog {
    type Target = Infallible;

    fn write(&mut self, lines: &str, _: &Queue<Infallible>) {
        syslog::open();
        lines.lines().for_each(syslog::notice);
    }
}

/// Writes everything, and waits if the sink has no room: another process can have made a pipe
/// non-blocking. Between waits `gives_up` decides whether to stop. Returns the number of bytes
/// written, and the error that stopped it.
pub(super) fn write_all<W: Write + AsFd>(
    sink: &mut W,
    lines: &str,
    gives_up: impl Fn() -> bool,
) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < lines.len() {
        match sink.write(&lines.as_bytes()[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && !gives_up() => {
                if let Err(error) = wait_for_room(sink.as_fd()) {
                    return (written, Err(error));
                }
            }
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

fn wait_for_room(fd: BorrowedFd<'_>) -> io::Result<()> {
    match poll::wait([(fd, Interest::Write)], WRITE_TIMEOUT) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}
