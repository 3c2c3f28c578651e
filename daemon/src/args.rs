//! The command line: knockd's options, and a few more.

use std::path::PathBuf;

use clap::Parser;

/// Waits for the right knocks on a network interface, then runs the command that opens the door.
///
/// Takes the configuration and the options of knockd. SIGHUP reads the configuration and opens the log file again,
/// SIGUSR1 logs a status, SIGTERM and SIGINT stop; a second one stops at once.
#[derive(Debug, Parser)]
// As with getopt, an option that is given again counts, or counts no more than once.
#[command(name = "portknockd", version, disable_help_subcommand = true, args_override_self = true)]
pub(crate) struct Args {
    /// Listen on these interfaces, or on `any`, instead of those in the configuration [default: eth0]
    #[arg(short, long, value_name = "IF", value_delimiter = ',', value_parser = interface)]
    pub(crate) interface: Vec<String>,
    /// Read this configuration file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/knockd.conf")]
    pub(crate) config: PathBuf,
    /// Become a daemon
    #[arg(short, long)]
    pub(crate) daemon: bool,
    /// Log each packet that matters, and log to the standard output too
    #[arg(short = 'D', long)]
    pub(crate) debug: bool,
    /// Log to the standard output too; without a log file or syslog that is done anyway
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Log names beside addresses. Whoever can watch the name server then sees who knocks
    #[arg(short, long)]
    pub(crate) lookup: bool,
    /// Write the process id of the daemon to this file instead of that in the configuration
    #[arg(short, long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,
    /// Log to this file instead of that in the configuration
    #[arg(short = 'g', long, value_name = "FILE")]
    pub(crate) logfile: Option<PathBuf>,
    /// Pass over IPv6
    #[arg(short = '4', long)]
    pub(crate) only_ip_v4: bool,
    /// Read the configuration, show everything that is wrong with it, and exit: 0 without errors, else 1
    #[arg(long)]
    pub(crate) check: bool,
    /// Make the table that refuses the ports of the doors with `open`, without starting to listen, and exit. Does nothing if no
    /// door needs it
    #[arg(long)]
    pub(crate) make_table: bool,
    /// Remove the table that refuses the ports of the doors with `open`, which a stopped daemon leaves behind, and exit: 0
    /// also where there is none
    #[arg(long)]
    pub(crate) ungate: bool,
    /// Match and log, but run no command, open no port, write no state and use up no one-time sequence
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Read packets for the daemon at the other end of standard input; only portknockd itself can use this
    #[arg(long, hide = true)]
    pub(crate) reader: bool,
}

/// A name of the list, without the spaces around it.
fn interface(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("an interface is missing"),
        name => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_options_are_those_of_knockd() {
        Args::command().debug_assert();
        let args = Args::parse_from([
            "portknockd",
            "-i",
            "eth0,wlan0",
            "-d",
            "-c",
            "/c",
            "-D",
            "-l",
            "-4",
            "-v",
            "-p",
            "/p",
            "-g",
            "/g",
        ]);
        assert_eq!(args.interface, ["eth0", "wlan0"]);
        assert!(args.daemon && args.debug && args.lookup && args.only_ip_v4 && args.verbose);
        assert!(!args.check && !args.dry_run);
        let paths = (args.config, args.pidfile, args.logfile);
        assert_eq!(paths, ("/c".into(), Some("/p".into()), Some("/g".into())));
        assert_eq!(Args::parse_from(["portknockd"]).config, PathBuf::from("/etc/knockd.conf"));
    }

    #[test]
    fn spaces_around_interfaces_do_not_count() {
        assert_eq!(Args::parse_from(["portknockd", "-i", "lo, eth0"]).interface, ["lo", "eth0"]);
        for bad in ["", " ", "lo,", "lo, ,eth0"] {
            assert!(Args::try_parse_from(["portknockd", "-i", bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_option_may_be_repeated() {
        let args = Args::parse_from(["portknockd", "-v", "-v", "-DD", "-c", "/a", "-c", "/b", "-i", "a", "-i", "b"]);
        assert!(args.verbose && args.debug);
        assert_eq!((args.config, args.interface), ("/b".into(), vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn bad_usage_exits_with_2_and_the_version_has_one_form() {
        let error = Args::try_parse_from(["portknockd", "--nope"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let version = Args::try_parse_from(["portknockd", "-V"]).unwrap_err();
        assert_eq!(version.to_string(), concat!("portknockd ", env!("CARGO_PKG_VERSION"), "\n"));
    }

    #[test]
    fn the_manual_and_the_completions_are_up_to_date() {
        portknock_packaging::assert_up_to_date("portknockd.8", Args::command());
    }
}
