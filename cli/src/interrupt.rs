//! SIGINT, which Ctrl-C sends, and SIGTERM: the first one asks for an early end, the second one is the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The signals, and the exit statuses that a shell reports for programs that they end: 128 more.
const SIGNALS: [(i32, u8); 2] = [(SIGINT, 130), (SIGTERM, 143)];

/// Whether one of the signals came.
#[derive(Debug)]
pub(crate) struct Interrupt {
    /// 0 until a signal comes.
    status: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Takes the signals from now on.
    pub(crate) fn register() -> io::Result<Self> {
        let came = Arc::new(AtomicBool::new(false));
        let status = Arc::new(AtomicUsize::new(0));
        for (signal, exit_status) in SIGNALS {
            // They run in this order: the first signal does not find the mark yet.
            flag::register_conditional_shutdown(signal, exit_status.into(), Arc::clone(&came))?;
            flag::register(signal, Arc::clone(&came))?;
            flag::register_usize(signal, Arc::clone(&status), exit_status.into())?;
        }
        Ok(Self { status })
    }

    /// The exit status that says which signal came, as a shell reports it; `None` where none came.
    pub(crate) fn status(&self) -> Option<u8> {
        let status = self.status.load(Ordering::SeqCst);
        u8::try_from(status).ok().filter(|&status| status > 0)
    }
}
