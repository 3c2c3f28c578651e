//! The main loop: writes notices to the log, and forwards signals to the service.

mod answers;

use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portknock_core::control::ReloadResult;
use portknock_core::service::{DEFAULT_INTERFACE, Notice, Service};
use portknock_core::sys::clock::{boottime, local_time};
use portknock_core::sys::epoll::Epoll;
use portknock_core::{Config, Printable};

use crate::args::Args;
use crate::control::Control;
use crate::log::Log;
use crate::names::Names;
use crate::notify::Notify;
use crate::settings::{log_targets, read_config};
use crate::signals::{Action, Signals};

/// Epoll tokens of the signals.
const SIGNALS: Range<u64> = 0..Signals::COUNT as u64;
/// Epoll token of the control socket.
const CONTROL: u64 = u64::MAX;

/// A service with its log.
#[derive(Debug)]
pub(crate) struct Daemon {
    args: Args,
    /// The configuration file; absolute, because a background process changes its directory.
    config: PathBuf,
    /// The directory at the start, to which relative paths in the configuration refer.
    directory: PathBuf,
    service: Service,
    log: Log,
    names: Option<Names>,
    signals: Signals,
    epoll: Epoll,
    control: Option<Control>,
    /// `ControlSocket` at the start.
    control_path: Option<PathBuf>,
    notify: Option<Notify>,
    /// Time of the start by [`boottime`], the clock that runs while the machine sleeps.
    started: Duration,
    /// Time of the last successful reading of the configuration, by the same clock.
    config_read: Duration,
    /// Number of events that were only logged as a sum.
    suppressed: u64,
    stopping: bool,
    failed: bool,
}

impl Daemon {
    pub(crate) fn new(
        args: Args,
        config: PathBuf,
        directory: PathBuf,
        service: Service,
        log: Log,
        signals: Signals,
        notify: Option<Notify>,
    ) -> io::Result<Self> {
        let names = args.lookup.then(Names::start).transpose()?;
        let epoll = Epoll::new()?;
        // The signals come first, as `SIGNALS` requires.
        let fds = signals.fds().chain([service.as_fd()]).chain(names.as_ref().map(|names| names.as_fd()));
        for (fd, token) in fds.zip(0..) {
            epoll.add(fd, token)?;
        }
        let now = boottime();
        Ok(Self {
            args,
            config,
            directory,
            service,
            log,
            names,
            signals,
            epoll,
            control: None,
            control_path: None,
            notify,
            started: now,
            config_read: now,
            suppressed: 0,
            stopping: false,
            failed: false,
        })
    }

    /// Runs until a signal stops the daemon; true if nothing failed.
    pub(crate) fn run(mut self) -> bool {
        let mut tokens = Vec::new();
        let mut is_aborted = false;
        if let Some(notify) = &mut self.notify {
            notify.ready();
        }
        loop {
            let signals = if tokens.iter().any(|token| SIGNALS.contains(token)) { self.signals.take() } else { vec![] };
            for action in signals {
                match action {
                    Action::Stop if self.stopping => is_aborted = true,
                    Action::Stop => self.stop(),
                    Action::Reload => drop(self.reload()),
                    Action::Status => {
                        let status = self.service.status().to_string();
                        self.log_line(&status);
                    }
                }
            }
            if tokens.contains(&CONTROL) || self.control.as_ref().is_some_and(Control::is_due) {
                self.answer_requests();
            }
            let is_working = self.log_notices();
            self.flush_control();
            if let Some(notify) = self.notify.as_mut().filter(|_| is_working) {
                let is_reading = self.service.is_reading();
                notify.loop_completed(is_reading, || {
                    (self.service.door_names().count(), self.service.openings().count())
                });
            }
            self.flush_names();
            if self.service.is_stopped() || is_aborted {
                break;
            }
            self.log.flush();
            let names = self.names.as_ref().and_then(Names::deadline);
            let control = self.control.as_ref().and_then(Control::deadline);
            let notify = self.notify.as_ref().and_then(Notify::deadline);
            let deadline = [names, control, notify].into_iter().flatten().min();
            let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if let Err(error) = self.epoll.wait(&mut tokens, timeout) {
                self.fail(&error.to_string());
            }
        }
        if is_aborted {
            self.log_line("stopped immediately by a second signal; commands may still be running");
        }
        while let Some((line, time)) = self.names.as_mut().and_then(Names::pop_without_name) {
            self.log.line_at(&line, time);
        }
        self.log.finish();
        !self.failed
    }

    /// Makes the service do its work, and logs its notices; true if it succeeded.
    fn log_notices(&mut self) -> bool {
        loop {
            match self.service.next(Some(Duration::ZERO)) {
                Ok(Some(notice)) => self.log_notice(&notice),
                Ok(None) => return true,
                Err(error) => {
                    self.fail(&error.to_string());
                    return false;
                }
            }
        }
    }

    fn log_notice(&mut self, notice: &Notice) {
        if let (Notice::Event(event) | Notice::SummarisedEvent(event), Some(control)) = (notice, &mut self.control) {
            control.send_event(event);
        }
        if let Notice::Suppressed(suppressed) = notice {
            self.suppressed = self.suppressed.saturating_add(suppressed.total());
            if let Some(control) = &mut self.control {
                control.send_suppressed(suppressed);
            }
        }
        if let (Notice::Event(_) | Notice::SummarisedEvent(_), Some(notify)) = (notice, &mut self.notify) {
            notify.status_changed();
        }
        if let Some(line) = notice.log_line() {
            match &mut self.names {
                Some(names) => names.push(line, notice.ip(), local_time(), Instant::now()),
                None => self.log.line(&line),
            }
        }
    }

    fn flush_names(&mut self) {
        let now = Instant::now();
        while let Some((line, time)) = self.names.as_mut().and_then(|names| names.pop(now)) {
            self.log.line_at(&line, time);
        }
    }

    /// Logs a line of the daemon itself, after the lines that wait for names.
    fn log_line(&mut self, line: &str) {
        match &mut self.names {
            Some(names) => names.push(line.to_owned(), None, local_time(), Instant::now()),
            None => self.log.line(line),
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        if let Some(notify) = &mut self.notify {
            notify.stopping();
        }
        self.service.stop();
    }

    fn fail(&mut self, error: &str) {
        self.log_line(&Printable(error).to_string());
        if self.failed {
            self.log.finish();
            // The second error: the stop fails, too.
            std::process::exit(1);
        }
        self.failed = true;
        self.stop();
    }

    /// Calls `work` in the directory in which the daemon was started, if that still exists.
    fn in_start_directory<T>(&self, work: impl FnOnce() -> T) -> T {
        let current = std::env::current_dir();
        let _ = std::env::set_current_dir(&self.directory);
        let result = work();
        let _ = current.and_then(std::env::set_current_dir);
        result
    }

    /// Reads the configuration again. If it has errors, the old one stays in use.
    fn reload(&mut self) -> ReloadResult {
        if self.stopping {
            return ReloadResult { taken: false, messages: vec!["the daemon is stopping".to_owned()] };
        }
        if let Some(notify) = &mut self.notify {
            notify.reloading();
        }
        let mut lines = Vec::new();
        let config = self.in_start_directory(|| read_config(&self.config, &mut |line| lines.push(line.to_owned())));
        // The log file is opened again in any case: it can have been moved away.
        let targets = match &config {
            Some(config) => log_targets(&self.args, config),
            None => self.log.targets().clone(),
        };
        if let Err(error) = self.log.reopen(targets) {
            lines.push(format!("cannot open the log again, the old one stays in use: {error}"));
        }
        for line in &lines {
            self.log_line(line);
        }
        let control_path = config.as_ref().and_then(|config| config.options.control_socket.clone());
        let result = match config {
            Some(config) => self.service.reload(config).map_err(|error| error.to_string()),
            None => Err("it has errors".to_owned()),
        };
        let taken = result.is_ok();
        let line = match result {
            Ok(()) => {
                self.config_read = boottime();
                (control_path != self.control_path).then(|| {
                    let [new, old] = [&control_path, &self.control_path]
                        .map(|path| path.as_ref().map_or("none".into(), |path| path.to_string_lossy()));
                    let (new, old) = (Printable(&new), Printable(&old));
                    format!("ControlSocket = {new} takes effect at the next start; until then it is {old}")
                })
            }
            Err(reason) => Some(format!("the configuration is not reloaded, the old one stays in use: {reason}")),
        };
        if let Some(line) = line {
            self.log_line(&line);
            lines.push(line);
        }
        if let Some(notify) = &mut self.notify {
            notify.ready();
        }
        ReloadResult { taken, messages: lines }
    }
}

/// The warning if no interface is set and knockd's default does not exist.
pub(crate) fn interface_advice(args: &Args, config: &Config) -> Option<String> {
    if !args.interface.is_empty() || !config.options.interfaces.is_empty() {
        return None;
    }
    // One line per interface after two lines of headings; see proc_pid_net(5).
    let table = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let names: Vec<_> = table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    if names.contains(&DEFAULT_INTERFACE) {
        return None;
    }
    Some(format!(
        "no interface is set, and there is no {DEFAULT_INTERFACE}, the default; set Interface in the [options] of {} or \
         use -i (interfaces here: {})",
        Printable(&args.config.to_string_lossy()),
        Printable(&names.join(", "))
    ))
}
