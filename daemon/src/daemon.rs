//! The loop: notices into the log, signals into the service.

mod answers;

use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portknock_core::control::Reload;
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
use crate::signals::{Request, Signals};

/// The names of what is waited for that are signals'.
const SIGNALS: Range<u64> = 0..Signals::COUNT as u64;
/// The name of the control socket.
const CONTROL: u64 = u64::MAX;

/// A service with its log.
#[derive(Debug)]
pub(crate) struct Daemon {
    args: Args,
    /// The configuration file; absolute, since a daemon changes its directory.
    config: PathBuf,
    /// Where it was started, which relative names in the configuration are seen from.
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
    /// By the clock that sleeps with nobody, [`boottime`].
    started: Duration,
    config_read: Duration,
    /// Events that were not logged one by one.
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
        // The signals come first, as `SIGNALS` says.
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

    /// Works until a signal stops it; true where nothing failed.
    pub(crate) fn run(mut self) -> bool {
        let mut tokens = Vec::new();
        let mut at_once = false;
        if let Some(notify) = &mut self.notify {
            notify.ready();
        }
        loop {
            let signals = if tokens.iter().any(|token| SIGNALS.contains(token)) { self.signals.take() } else { vec![] };
            for request in signals {
                match request {
                    Request::Stop if self.stopping => at_once = true,
                    Request::Stop => self.stop(),
                    Request::Reload => drop(self.reload()),
                    Request::Status => {
                        let status = self.service.status().to_string();
                        self.say(&status);
                    }
                }
            }
            if tokens.contains(&CONTROL) || self.control.as_ref().is_some_and(Control::is_due) {
                self.answer_requests();
            }
            let has_turned = self.take_notices();
            self.flush_control();
            if let Some(notify) = self.notify.as_mut().filter(|_| has_turned) {
                let is_reading = self.service.is_reading();
                notify.turned(is_reading, || (self.service.door_names().count(), self.service.openings().count()));
            }
            self.flush_names();
            if self.service.is_stopped() || at_once {
                break;
            }
            self.log.flush();
            let names = self.names.as_ref().and_then(Names::deadline);
            let control = self.control.as_ref().and_then(Control::deadline);
            let notify = self.notify.as_ref().and_then(Notify::deadline);
            let patience = [names, control, notify].into_iter().flatten().min();
            let timeout = patience.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if let Err(error) = self.epoll.wait(&mut tokens, timeout) {
                self.fail(&error.to_string());
            }
        }
        if at_once {
            self.say("stopped at once by a second signal; commands may still be running");
        }
        while let Some((line, time)) = self.names.as_mut().and_then(Names::pop_without_name) {
            self.log.line_of(&line, time);
        }
        self.log.finish();
        !self.failed
    }

    /// Logs what the service has to tell, after it has done what there was to do; true where it could.
    fn take_notices(&mut self) -> bool {
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
            control.tell(event);
        }
        if let Notice::Suppressed(suppressed) = notice {
            self.suppressed = self.suppressed.saturating_add(suppressed.total());
            if let Some(control) = &mut self.control {
                control.tell_suppressed(suppressed);
            }
        }
        if let (Notice::Event(_) | Notice::SummarisedEvent(_), Some(notify)) = (notice, &mut self.notify) {
            notify.changed();
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
            self.log.line_of(&line, time);
        }
    }

    /// Logs a line that is not the service's, behind those that wait.
    fn say(&mut self, line: &str) {
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
        self.say(&Printable(error).to_string());
        if self.failed {
            self.log.finish();
            // Twice: not even the stop works.
            std::process::exit(1);
        }
        self.failed = true;
        self.stop();
    }

    /// Does this in the directory where the daemon was started, if that is still there.
    fn in_start_directory<T>(&self, work: impl FnOnce() -> T) -> T {
        let now = std::env::current_dir();
        let _ = std::env::set_current_dir(&self.directory);
        let result = work();
        let _ = now.and_then(std::env::set_current_dir);
        result
    }

    /// Reads the configuration again. Whatever is wrong with it, the one in use stays.
    fn reload(&mut self) -> Reload {
        if self.stopping {
            return Reload { taken: false, messages: vec!["the daemon is stopping".to_owned()] };
        }
        if let Some(notify) = &mut self.notify {
            notify.reloading();
        }
        let mut lines = Vec::new();
        let config = self.in_start_directory(|| read_config(&self.config, &mut |line| lines.push(line.to_owned())));
        // The log file is opened anew in any case: it may have been moved away.
        let targets = match &config {
            Some(config) => log_targets(&self.args, config),
            None => self.log.targets().clone(),
        };
        if let Err(error) = self.log.reopen(targets) {
            lines.push(format!("the log goes where it went before: {error}"));
        }
        for line in &lines {
            self.say(line);
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
            self.say(&line);
            lines.push(line);
        }
        if let Some(notify) = &mut self.notify {
            notify.ready();
        }
        Reload { taken, messages: lines }
    }
}

/// What to say where nobody chose an interface and knockd's default does not exist.
pub(crate) fn interface_advice(args: &Args, config: &Config) -> Option<String> {
    if !args.interface.is_empty() || !config.options.interfaces.is_empty() {
        return None;
    }
    // A line for each interface after two of headings; see proc_pid_net(5).
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
