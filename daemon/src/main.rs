//! portknockd: listens for knocks and opens doors, with the configuration and the options of
//! knockd.
#![forbid(unsafe_code)]

mod args;
mod background;
mod control;
mod daemon;
mod log;
mod names;
mod notify;
mod sandbox;
mod settings;
mod signals;

use std::fmt::Display;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::Parser;
use portknock_core::Config;
use portknock_core::capture::missing_interfaces;
use portknock_core::gate::{make_table, remove_table};
use portknock_core::reader;
use portknock_core::service::Service;
use portknock_core::sys::process::{close_inherited, close_inherited_on_exec, restrict_umask, set_process_name};

use crate::args::Args;
use crate::background::{PidFile, detach};
use crate::daemon::{Daemon, interface_advice};
use crate::log::Log;
use crate::notify::Notify;
use crate::sandbox::enter_sandbox;
use crate::settings::{absolute, check, log_targets, read_config, service_options};
use crate::signals::Signals;

fn main() -> ExitCode {
    // This comes first: commands inherit neither descriptors nor umask of the program that started
    // the daemon. Rust's runtime has opened /dev/null for standard streams that were closed.
    close_inherited_on_exec();
    restrict_umask();
    let args = Args::parse();
    if args.check {
        return ExitCode::from(check(&args));
    }
    if args.remove_table {
        return match remove_table() {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                print_error(&error);
                ExitCode::FAILURE
            }
        };
    }
    let result = match () {
        () if args.reader => read_packets(),
        () if args.make_table => make_managed_table(&args),
        () => run(args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Starts and runs the daemon; true after a regular stop. Returns errors that occur before there is
/// a log.
fn run(args: Args) -> Result<bool, String> {
    let mut findings = String::new();
    let config = read_config(&args.config, &mut |line| {
        findings.push_str(line);
        findings.push('\n');
    });
    let result = config.map_or(Ok(false), |config| run_with(args, config, &mut findings));
    write_stderr(&findings);
    result
}

/// Runs the daemon with this configuration. When there is a log, its thread writes the findings, so
/// that the daemon does not wait for standard error.
fn run_with(mut args: Args, config: Config, findings: &mut String) -> Result<bool, String> {
    // The supervisor watches this process; a child of it could not even write the pid file.
    let ignores_daemon = args.daemon && Notify::is_requested();
    args.daemon &= !ignores_daemon;
    let path = absolute(&args.config);
    args.logfile = args.logfile.as_deref().map(absolute);
    // If there is no current directory, relative paths cannot be read at all.
    let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let targets = log_targets(&args, &config);
    let pid_file = absolute(args.pidfile.as_ref().unwrap_or(&config.options.pid_file));
    let control = config.options.control_socket.clone();
    let advice = interface_advice(&args, &config);
    // This comes before the start: a signal that arrives during the start is handled after it.
    let signals = Signals::register().map_err(|error| error.to_string())?;
    let notify = Notify::from_environment();
    // The service is the parent of processes, so the background process must start it.
    let detached = args.daemon.then(detach).transpose().map_err(|error| format!("cannot become a daemon: {error}"))?;
    let service = Service::start(config, service_options(&args)).map_err(|error| error.to_string())?;
    // After the start of the service, so that a failed start leaves no log file.
    let mut log = Log::open(targets).map_err(|error| format!("cannot start the log: {error}"))?;
    if ignores_daemon {
        log.line(
            "-d is ignored: a supervisor runs the daemon (NOTIFY_SOCKET is set); remove -d, for instance from KNOCKD_OPTS",
        );
    }
    if let Some(advice) = &advice {
        log.line(advice);
    }
    if args.daemon {
        // These warnings go to the terminal before the original process exits.
        let missing = missing_interfaces(&service.interfaces()).unwrap_or_default();
        let lines = missing.iter().map(|line| format!("portknockd: warning: {line} (the daemon waits for it)\n"));
        findings.extend(lines);
    }
    log.write_stderr(&std::mem::take(findings)).map_err(|error| format!("cannot start the log: {error}"))?;
    let notify = notify.unwrap_or_else(|error| {
        log.line(&format!("cannot notify the supervisor through NOTIFY_SOCKET: {error}"));
        None
    });
    let mut _pid_file = None;
    if args.daemon {
        let written = PidFile::write(&pid_file);
        let written = written.map_err(|error| format!("cannot write the pid file {}: {error}", pid_file.display()))?;
        _pid_file = Some(written);
    }
    let daemon = Daemon::new(args, path, directory, service, log, signals, notify);
    let mut daemon = daemon.map_err(|error| error.to_string())?;
    daemon.open_control(control.as_deref());
    if let Some(detached) = detached {
        detached.finish().map_err(|error| format!("cannot become a daemon: {error}"))?;
    }
    Ok(daemon.run())
}

/// Creates the managed table, which protects the ports of doors with `open`, as a start does; false
/// if the configuration has errors.
fn make_managed_table(args: &Args) -> Result<bool, String> {
    let mut findings = Vec::new();
    let Some(config) = read_config(&args.config, &mut |line| findings.push(line.to_owned())) else {
        findings.iter().for_each(|line| write_stderr(&format!("{line}\n")));
        return Ok(false);
    };
    // The start of the daemon prints the warnings, and a dry run changes nothing.
    if !args.dry_run {
        make_table(&config).map_err(|error| format!("open: {error}"))?;
    }
    Ok(true)
}

/// Runs the reader process.
fn read_packets() -> Result<bool, String> {
    close_inherited();
    set_process_name(c"portknockd-read");
    let daemon = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    reader::run(daemon, enter_sandbox).map_err(|error| error.to_string())?;
    Ok(true)
}

fn print_error(error: &dyn Display) {
    write_stderr(&format!("portknockd: {error}\n"));
}

fn write_stderr(lines: &str) {
    // If this fails, the exit status still reports the error.
    let _ = std::io::stderr().write_all(lines.as_bytes());
}
