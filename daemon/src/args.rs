//! The command line: the options of knockd, and additional ones.

use std::path::PathBuf;

use clap::Parser;

/// Listens for knocks on network interfaces, and opens the door whose sequence is complete.
///
/// Accepts the configuration and the options of knockd. On SIGHUP the daemon reads the
/// configuration and opens the log file again, on SIGUSR1 it logs a status, on SIGTERM and SIGINT
/// it stops; a second signal stops it immediately.
#[derive(Debug, Parser)]
// As with getopt, the last of a repeated option takes precedence, and a repeated flag has no
// further effect.
#[command(name = "portknockd", version, disable_help_subcommand = true, args_override_self = true)]
pub(crate) struct Args {
    /// Listen on these interfaces, or on `any`, instead of the interfaces in the configuration
    /// [default: eth0]
    #[arg(short, long, value_name = "IF", value_delimiter = ',', value_parser = interface)]
    pub(crate) interface: Vec<String>,
    /// Read this configuration file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/knockd.conf")]
    pub(crate) config: PathBuf,
    /// Run in the background
    #[arg(short, long)]
    pub(crate) daemon: bool,
    /// Log each packet that can be a knock, and log to standard output, too
    #[arg(short = 'D', long)]
    pub(crate) debug: bool,
    /// Log to standard output, too; this is the default without a log file and syslog
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Log host names next to addresses. An observer of the name server's traffic then learns which
    /// addresses knock
    #[arg(short, long)]
    pub(crate) lookup: bool,
    /// Write the process id of the daemon to this file instead of PidFile in the configuration
    #[arg(short, long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,
    /// Log to this file instead of LogFile in the configuration
    #[arg(short = 'g', long, value_name = "FILE")]
    pub(crate) logfile: Option<PathBuf>,
    /// Ignore IPv6
    #[arg(short = '4', long)]
    pub(crate) only_ip_v4: bool,
    /// Read the configuration, print its errors and warnings, and exit: 0 without errors, otherwise
    /// 1
    #[arg(long)]
    pub(crate) check: bool,
    /// Create the nftables table that protects the ports of doors with `open`, without starting to
    /// listen, then exit. Does nothing if no door needs the table
    #[arg(long)]
    pub(crate) make_table: bool,
    /// Remove the nftables table that protects the ports of doors with `open` and that a stopped
    /// daemon leaves in place, then exit. Succeeds if there is no such table
    #[arg(long, alias = "ungate")]
    pub(crate) remove_table: bool,
    /// Match and log, but run no command, open no port, write no state and consume no one-time
    /// sequence
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Read packets for the daemon at the other end of standard input; only portknockd itself uses
    /// this
    #[arg(long, hide = true)]
    pub(crate) reader: bool,
}

/// Returns a name of the list without the spaces around it.
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
    fn an_option_can_be_repeated() {
        let args = Args::parse_from(["portknockd", "-v", "-v", "-DD", "-c", "/a", "-c", "/b", "-i", "a", "-i", "b"]);
        assert!(args.verbose && args.debug);
        assert_eq!((args.config, args.interface), ("/b".into(), vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn remove_table_has_its_old_name_as_an_alias() {
        for name in ["--remove-table", "--ungate"] {
            assert!(Args::parse_from(["portknockd", name]).remove_table, "{name}");
        }
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
