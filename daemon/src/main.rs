//! portknockd: listens for knocks and opens doors, with the configuration and the options of knockd.
#![forbid(unsafe_code)]

mod args;
mod background;
mod control;
mod daemon;
mod log;
mod names;
mod notify;
mod settings;
mod signals;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use portknock_core::service::Service;

use crate::args::Args;
use crate::background::{PidFile, detach};
use crate::daemon::{Daemon, interface_advice};
use crate::log::Log;
use crate::notify::Notify;
use crate::settings::{absolute, check, log_targets, read_config, service_options};
use crate::signals::Signals;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.check {
        return ExitCode::from(check(&args.config));
    }
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Starts and works; true after a stop in order. What fails before there is a log is the error.
fn run(mut args: Args) -> Result<bool, String> {
    let path = absolute(&args.config);
    args.logfile = args.logfile.as_deref().map(absolute);
    // Where there is none, relative names cannot be read at all.
    let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let Some(config) = read_config(&args.config, &mut |line| complain_plainly(line)) else { return Ok(false) };
    let targets = log_targets(&args, &config);
    let pid_file = absolute(args.pidfile.as_ref().unwrap_or(&config.options.pid_file));
    let control = config.options.control_socket.clone();
    let advice = interface_advice(&args, &config);
    // First of all: a signal that comes during the start is handled after it.
    let signals = Signals::register().map_err(|error| error.to_string())?;
    let service = Service::start(config, service_options(&args)).map_err(|error| error.to_string())?;
    // After the last thing that can be wrong, so that a failed start leaves no trace.
    let mut log = Log::open(targets);
    if let Some(advice) = &advice {
        log.line(advice);
    }
    let notify = Notify::from_environment().unwrap_or_else(|error| {
        log.line(&format!("cannot tell the supervisor anything by NOTIFY_SOCKET: {error}"));
        None
    });
    let mut birth = None;
    let mut _pid_file = None;
    if args.daemon {
        birth = Some(detach().map_err(|error| format!("cannot become a daemon: {error}"))?);
        let written = PidFile::write(&pid_file);
        let written = written.map_err(|error| format!("cannot write the pid file {}: {error}", pid_file.display()))?;
        _pid_file = Some(written);
    }
    let daemon = Daemon::new(args, path, directory, service, log, signals, notify);
    let mut daemon = daemon.map_err(|error| error.to_string())?;
    daemon.open_control(control.as_deref());
    if let Some(birth) = birth {
        birth.done().map_err(|error| format!("cannot become a daemon: {error}"))?;
    }
    Ok(daemon.run())
}

fn complain(error: &dyn Display) {
    complain_plainly(&format!("portknockd: {error}"));
}

fn complain_plainly(line: &str) {
    // Where nobody listens, the exit status still tells.
    let _ = writeln!(std::io::stderr(), "{line}");
}
