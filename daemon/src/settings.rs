//! The command line and the configuration file together.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use portknock_core::capture::missing_interfaces;
use portknock_core::config::{LoadError, Loaded, load, service_is_confined};
use portknock_core::reader::ReaderProgram;
use portknock_core::service::ServiceOptions;
use portknock_core::sys::privileges::hide;
use portknock_core::{Config, Door, Printable};

use crate::args::Args;
use crate::daemon::interface_advice;
use crate::log::Targets;

/// Reads the configuration; `None` if it has errors. Passes the errors and warnings to `report`
/// line by line.
pub(crate) fn read_config(path: &Path, report: &mut dyn FnMut(&str)) -> Option<Config> {
    if let Some(warning) = writable_by_all(path) {
        report(&warning);
    }
    match load_and_check(path) {
        Ok(Loaded { config, report: findings, text }) => {
            let rendered = findings.render(&path.to_string_lossy(), &text);
            rendered.lines().filter(|line| !line.trim().is_empty()).for_each(report);
            config.map(with_absolute_paths)
        }
        Err(error) => {
            report(&error.to_string());
            if error.reason.kind() == ErrorKind::PermissionDenied {
                let name = path.to_string_lossy();
                let name = Printable(&name);
                report(&format!("help: let the daemon read it: chgrp portknock {name} && chmod 640 {name}"));
            }
            None
        }
    }
}

/// Reads the configuration, and checks it against this machine.
fn load_and_check(path: &Path) -> Result<Loaded, LoadError> {
    let mut loaded = load(path)?;
    if loaded.config.iter().flat_map(|config| &config.doors).any(Door::has_secrets) {
        // No core file may contain the keys.
        hide();
    }
    loaded.check_deployment(Some(path), service_is_confined());
    Ok(loaded)
}

/// The warning about a file to which any user can add commands.
fn writable_by_all(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.mode();
    let name = path.to_string_lossy();
    (mode & 0o002 != 0).then(|| {
        format!(
            "{}: warning: any user can write to this file, and portknockd runs the commands in it",
            Printable(&name)
        )
    })
}

/// `--check`: prints all findings to standard output. Returns the exit status.
pub(crate) fn check(args: &Args) -> u8 {
    let path = &args.config;
    let mut out = std::io::stdout().lock();
    // If writing fails, the exit status still reports the result.
    if let Some(warning) = writable_by_all(path) {
        let _ = writeln!(out, "{warning}");
    }
    let (text, ok) = match load_and_check(path) {
        Ok(loaded) => {
            let name = path.display();
            let mut summary = loaded.summary();
            let mut findings = loaded.report.render(&path.to_string_lossy(), &loaded.text);
            let keyed_doors: String = loaded.keyed_doors().map(|line| format!("{name}: {line}\n")).collect();
            let missing = loaded.config.map(|config| missing(args, &config)).unwrap_or_default();
            summary.warnings += missing.len();
            for line in &missing {
                findings += &format!("{name}: warning: {line}\n");
            }
            let gap = if findings.is_empty() { "" } else { "\n" };
            (format!("{findings}{gap}{keyed_doors}{name}: {summary}\n"), summary.errors == 0)
        }
        Err(error) => (format!("{error}\n"), false),
    };
    let _ = out.write_all(text.as_bytes());
    u8::from(!ok)
}

/// The warnings about missing interfaces; for the default interface, that of [`interface_advice`].
fn missing(args: &Args, config: &Config) -> Vec<String> {
    let named = if args.interface.is_empty() { &config.options.interfaces } else { &args.interface };
    missing_interfaces(named).unwrap_or_default().into_iter().chain(interface_advice(args, config)).collect()
}

/// The options of the service that the command line sets.
pub(crate) fn service_options(args: &Args) -> ServiceOptions {
    let mut options = ServiceOptions::default();
    options.interfaces = (!args.interface.is_empty()).then(|| args.interface.clone());
    options.run_commands = !args.dry_run;
    options.ipv4_only = args.only_ip_v4;
    options.report_knocks = args.debug;
    options.reader = Some(ReaderProgram {
        // This path leads to the running program, even after an upgrade has replaced its file.
        program: "/proc/self/exe".into(),
        args: ["portknockd", "--reader"].map(Into::into).into(),
    });
    options
}

/// The targets of the log. In the foreground without `-v`, knockd logs nothing to standard output.
/// Here a log without any other target goes to standard output, as supervisors expect. The paths in
/// both arguments must be absolute.
pub(crate) fn log_targets(args: &Args, config: &Config) -> Targets {
    let file = args.logfile.as_ref().or(config.options.log_file.as_ref()).cloned();
    let syslog = config.options.use_syslog;
    let stdout = args.verbose || args.debug || (file.is_none() && !syslog);
    Targets { stdout: stdout && !args.daemon, file, syslog }
}

/// Makes the paths absolute, because a background process changes its directory.
fn with_absolute_paths(mut config: Config) -> Config {
    let options = &mut config.options;
    options.log_file = options.log_file.take().map(|path| absolute(&path));
    options.pid_file = absolute(&options.pid_file);
    options.state_file = absolute(&options.state_file);
    options.control_socket = options.control_socket.take().map(|path| absolute(&path));
    for door in &mut config.doors {
        door.one_time_sequences = door.one_time_sequences.take().map(|path| absolute(&path));
    }
    config
}

/// The absolute path, which stays valid when a background process changes its directory.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn targets(args: &[&str], config: &Config) -> Targets {
        log_targets(&Args::parse_from([&["portknockd"], args].concat()), config)
    }

    #[test]
    fn a_log_goes_to_standard_output_without_other_targets_or_on_request() {
        let nothing = Config::default();
        assert_eq!(targets(&[], &nothing), Targets { stdout: true, ..Targets::default() });
        assert_eq!(targets(&["-d"], &nothing), Targets::default());
        let mut config = Config::default();
        config.options.use_syslog = true;
        assert_eq!(targets(&[], &config), Targets { syslog: true, ..Targets::default() });
        assert_eq!(targets(&["-v"], &config), Targets { syslog: true, stdout: true, ..Targets::default() });
        config.options.log_file = Some("/from/config".into());
        let both = Targets { syslog: true, stdout: false, file: Some("/from/config".into()) };
        assert_eq!(targets(&["-d", "-v"], &config), both);
        assert_eq!(targets(&["-g", "/from/args"], &config).file, Some("/from/args".into()));
    }

    #[test]
    fn the_errors_of_a_configuration_are_reported_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("knockd.conf");
        let mut reported = Vec::new();
        assert!(read_config(&path, &mut |line| reported.push(line.to_owned())).is_none());
        assert_eq!(reported.len(), 1);
        std::fs::write(&path, "[door]\nsequence = 0\n").unwrap();
        assert!(read_config(&path, &mut |line| reported.push(line.to_owned())).is_none());
        assert!(reported.iter().any(|line| line.contains("knockd.conf:2:")), "{reported:?}");
        assert!(reported.iter().all(|line| !line.contains('\n') && !line.is_empty()));
    }
}
