//! The command line and the configuration file together.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use portknock_core::capture::missing_interfaces;
use portknock_core::config::{LoadError, Loaded, load, service_is_confined};
use portknock_core::reader::ReaderProgram;
use portknock_core::service::ServiceOptions;
use portknock_core::{Config, Printable};

use crate::args::Args;
use crate::daemon::interface_advice;
use crate::log::Targets;

/// Reads the configuration; `None` where it has errors. What is wrong, and what is worth a look, goes to `say` line by
/// line.
pub(crate) fn read_config(path: &Path, say: &mut dyn FnMut(&str)) -> Option<Config> {
    if let Some(warning) = open_to_all(path) {
        say(&warning);
    }
    match load_here(path) {
        Ok(Loaded { config, report, text }) => {
            let rendered = report.render(&path.to_string_lossy(), &text);
            rendered.lines().filter(|line| !line.trim().is_empty()).for_each(say);
            config.map(with_absolute_paths)
        }
        Err(error) => {
            say(&error.to_string());
            if error.reason.kind() == ErrorKind::PermissionDenied {
                let name = path.to_string_lossy();
                let name = Printable(&name);
                say(&format!("help: let the daemon read it: chgrp portknock {name} && chmod 640 {name}"));
            }
            None
        }
    }
}

/// Reads the configuration, with what this machine shows of it.
fn load_here(path: &Path) -> Result<Loaded, LoadError> {
    let mut loaded = load(path)?;
    loaded.check_deployment(Some(path), service_is_confined());
    Ok(loaded)
}

/// The warning about a file that anybody may fill with commands.
fn open_to_all(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.mode();
    let name = path.to_string_lossy();
    (mode & 0o002 != 0).then(|| {
        format!(
            "{}: warning: any user can write to this file, and portknockd runs the commands in it",
            Printable(&name)
        )
    })
}

/// `--check`: shows everything on standard output; the exit status.
pub(crate) fn check(args: &Args) -> u8 {
    let path = &args.config;
    let mut out = std::io::stdout().lock();
    // Where nobody reads it, the exit status still tells.
    if let Some(warning) = open_to_all(path) {
        let _ = writeln!(out, "{warning}");
    }
    let (text, ok) = match load_here(path) {
        Ok(loaded) => {
            let name = path.display();
            let mut summary = loaded.summary();
            let mut found = loaded.report.render(&path.to_string_lossy(), &loaded.text);
            let missing = loaded.config.map(|config| missing(args, &config)).unwrap_or_default();
            summary.warnings += missing.len();
            for line in &missing {
                found += &format!("{name}: warning: {line}\n");
            }
            let gap = if found.is_empty() { "" } else { "\n" };
            (format!("{found}{gap}{name}: {summary}\n"), summary.errors == 0)
        }
        Err(error) => (format!("{error}\n"), false),
    };
    let _ = out.write_all(text.as_bytes());
    u8::from(!ok)
}

/// What is wrong with the interfaces that are named; what is said of the default is more ([`interface_advice`]).
fn missing(args: &Args, config: &Config) -> Vec<String> {
    let named = if args.interface.is_empty() { &config.options.interfaces } else { &args.interface };
    missing_interfaces(named).unwrap_or_default().into_iter().chain(interface_advice(args, config)).collect()
}

/// How the service differs from what the configuration says.
pub(crate) fn service_options(args: &Args) -> ServiceOptions {
    ServiceOptions {
        interfaces: (!args.interface.is_empty()).then(|| args.interface.clone()),
        run_commands: !args.dry_run,
        ipv4_only: args.only_ip_v4,
        report_knocks: args.debug,
        // Under this name the kernel finds this very program, even after an upgrade has replaced its file.
        reader: Some(ReaderProgram {
            program: "/proc/self/exe".into(),
            args: ["portknockd", "--reader"].map(Into::into).into(),
        }),
    }
}

/// Where to log. knockd is quiet in the foreground without `-v`; here a log without any other target goes to standard
/// output, as supervisors expect. The paths of both must be absolute.
pub(crate) fn log_targets(args: &Args, config: &Config) -> Targets {
    let file = args.logfile.as_ref().or(config.options.log_file.as_ref()).cloned();
    let syslog = config.options.use_syslog;
    let wanted = args.verbose || args.debug || (file.is_none() && !syslog);
    Targets { stdout: wanted && !args.daemon, file, syslog }
}

/// A daemon works in another directory than the one that these names were written for.
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

/// The path as seen from `/`, where a daemon works.
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
    fn a_log_goes_to_standard_output_where_it_goes_nowhere_else_or_where_asked() {
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
    fn a_configuration_that_cannot_be_used_is_told_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("knockd.conf");
        let mut said = Vec::new();
        assert!(read_config(&path, &mut |line| said.push(line.to_owned())).is_none());
        assert_eq!(said.len(), 1);
        std::fs::write(&path, "[door]\nsequence = 0\n").unwrap();
        assert!(read_config(&path, &mut |line| said.push(line.to_owned())).is_none());
        assert!(said.iter().any(|line| line.contains("knockd.conf:2:")), "{said:?}");
        assert!(said.iter().all(|line| !line.contains('\n') && !line.is_empty()));
    }
}
