//! SIGINT, which Ctrl-C sends, and SIGTERM: the first signal requests an early end, the second one
//! ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Signals, and the exit statuses that a shell reports for programs that they end: 128 plus the
/// signal number.
const SIGNALS: [(i32, u8); 2] = [(SIGINT, 130), (SIGTERM, 143)];

/// Records whether one of the signals has arrived.
#[derive(Debug)]
pub(crate) struct Interrupt {
    /// 0 until a signal arrives.
    status: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Handles the signals from now on.
    pub(crate) fn register() -> io::Result<Self> {
        let arrived = Arc::new(AtomicBool::new(false));
        let status = Arc::new(AtomicUsize::new(0));
        for (signal, exit_status) in SIGNALS {
            // The actions run in this order, so the first signal does not find the flag set.
            flag::register_conditional_shutdown(signal, exit_status.into(), Arc::clone(&arrived))?;
            flag::register(signal, Arc::clone(&arrived))?;
            flag::register_usize(signal, Arc::clone(&status), exit_status.into())?;
        }
        Ok(Self { status })
    }

    /// The exit status for the signal that arrived, as a shell reports it; `None` if none has
    /// arrived.
    pub(crate) fn status(&self) -> Option<u8> {
        let status = self.status.load(Ordering::SeqCst);
        u8::try_from(status).ok().filter(|&status| status > 0)
    }
}
