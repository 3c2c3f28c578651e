//! portknockd, or the original knockd, running on a host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use crate::cost;
use crate::{Host, Output, Process, WAIT_TIMEOUT, binary, require, wait_until};

/// The text that both daemons log when they listen.
const STARTED: &str = "starting up, listening on";
/// The text that portknockd logs when a new configuration is in force.
const RELOADED: &str = "the configuration is reloaded";
/// The text that it logs when a new configuration is refused.
const NOT_RELOADED: &str = "the configuration is not reloaded, the old one stays in use";

/// The beginning of portknockd's status line.
const STATUS: &str = "] status: doors ";

/// Timeout of a daemon's start: the original needs minutes for its filter with three thousand
/// doors. A daemon that exits is noticed immediately.
const START_TIMEOUT: Duration = Duration::from_secs(600);

/// A daemon with its configuration, log and state in its own directory. It is killed when this is
/// dropped.
#[derive(Debug)]
pub struct Daemon {
    directory: TempDir,
    process: Process,
    original: bool,
}

impl Daemon {
    /// Starts portknockd on `eth0` with this configuration and waits until it listens. `%DIR%` in
    /// the configuration stands for the daemon's directory, which also contains the state file
    /// unless the configuration names another.
    pub fn portknockd(host: &Host, config: &str) -> Self {
        Self::portknockd_with(host, config, &["-i", "eth0"])
    }

    /// The same with these arguments instead of `-i eth0`.
    pub fn portknockd_with(host: &Host, config: &str, args: &[&str]) -> Self {
        Self::start(host, config, args, false)
    }

    /// portknockd started by another program, which must become it as `prlimit` and `setpriv` do.
    /// `%DIR%` stands for the daemon's directory here too.
    pub fn portknockd_under(host: &Host, starter: &[&str], config: &str) -> Self {
        Self::start_under(host, starter, config, false)
    }

    /// The original knockd started in this way.
    pub fn knockd_under(host: &Host, starter: &[&str], config: &str) -> Self {
        require("knockd");
        Self::start_under(host, starter, config, true)
    }

    fn start_under(host: &Host, starter: &[&str], config: &str, original: bool) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        // For starters that become another user, who creates the control socket there.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).expect("a test directory");
        write_config(directory.path(), config, original);
        let program = program(original);
        let words = starter.iter().copied().chain([utf8(&program)]);
        let words: Vec<_> = words.map(|word| word.replace("%DIR%", utf8(directory.path()))).collect();
        let mut command = host.command(&words[0]);
        command.args(&words[1..]);
        let process = spawn(command, directory.path(), &["-i", "eth0"]);
        let mut daemon = Self { directory, process, original };
        daemon.wait_for_start(1);
        daemon
    }

    /// Starts the original knockd on `eth0` and waits until it listens.
    pub fn knockd(host: &Host, config: &str) -> Self {
        Self::knockd_with(host, config, &["-i", "eth0"])
    }

    /// The same with these arguments instead of `-i eth0`.
    pub fn knockd_with(host: &Host, config: &str, args: &[&str]) -> Self {
        require("knockd");
        Self::start(host, config, args, true)
    }

    /// Runs portknockd with a configuration that it must refuse, or with `--check`, and returns its
    /// output.
    pub fn run_portknockd(host: &Host, config: &str, args: &[&str]) -> Output {
        Self::run(host, config, args, false)
    }

    /// Runs the original knockd, which must exit by itself, and returns its output.
    pub fn run_knockd(host: &Host, config: &str, args: &[&str]) -> Output {
        require("knockd");
        Self::run(host, config, args, true)
    }

    fn run(host: &Host, config: &str, args: &[&str], original: bool) -> Output {
        let directory = TempDir::new().expect("a temporary directory");
        write_config(directory.path(), config, original);
        Output::of(host.command(program(original)).arg("-c").arg(directory.path().join("knockd.conf")).args(args))
    }

    fn start(host: &Host, config: &str, args: &[&str], original: bool) -> Self {
        let (daemon, has_started) = Self::attempt(host, config, args, &[], original);
        daemon.assert_started(has_started);
        daemon
    }

    /// Starts portknockd or the original with these additional files, each a name and a text, in
    /// its directory. Returns whether it listens; if not, it has exited.
    pub fn attempt(host: &Host, config: &str, args: &[&str], files: &[(&str, &str)], original: bool) -> (Self, bool) {
        let directory = TempDir::new().expect("a temporary directory");
        write_config(directory.path(), config, original);
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("the daemon's directory can be written");
        }
        let process = launch(host, directory.path(), args, original);
        let mut daemon = Self { directory, process, original };
        let has_started = daemon.starts(1);
        (daemon, has_started)
    }

    /// Starts it with a configuration that it must refuse, in the same directory, and returns its
    /// output.
    pub fn refuses_to_start(&self, host: &Host) -> Output {
        let mut command = host.command(binary("portknockd"));
        let output = Output::of(command.arg("-c").arg(self.path("knockd.conf")).args(["-i", "eth0"]));
        assert_eq!(output.code, Some(1), "{output:?}");
        output
    }

    /// Starts it again in the same directory, after [`Daemon::kill`] or [`Daemon::stop`], and waits
    /// until it listens.
    pub fn restart(&mut self, host: &Host, args: &[&str]) {
        let before = self.count(STARTED);
        self.process = launch(host, self.directory.path(), args, self.original);
        self.wait_for_start(before + 1);
    }

    fn wait_for_start(&mut self, count: usize) {
        let has_started = self.starts(count);
        self.assert_started(has_started);
    }

    /// Waits until it has started for the `count`th time, or has exited. Returns true if it has
    /// started.
    fn starts(&mut self, count: usize) -> bool {
        wait_until(START_TIMEOUT, || self.count(STARTED) >= count || self.exit_within(Duration::ZERO).is_some());
        self.count(STARTED) >= count
    }

    fn assert_started(&self, has_started: bool) {
        assert!(has_started, "the daemon does not start:\n{}", self.everything());
    }

    /// A path in the daemon's directory: `knockd.conf`, `log`, `openings`, or a file that the
    /// configuration names by `%DIR%`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the configuration file; `signal("HUP")` makes the daemon read it.
    pub fn rewrite(&self, config: &str) {
        write_config(self.directory.path(), config, self.original);
    }

    /// Lets it read this configuration, and waits until it is in force.
    pub fn reload(&self, config: &str) {
        let before = self.count(RELOADED);
        self.rewrite(config);
        self.signal("HUP");
        self.wait_for_count(RELOADED, before + 1, WAIT_TIMEOUT);
    }

    /// Lets it read the present file, and waits until it has refused it.
    pub fn refuse_reload(&self) {
        let before = self.count(NOT_RELOADED);
        self.signal("HUP");
        self.wait_for_count(NOT_RELOADED, before + 1, WAIT_TIMEOUT);
    }

    /// The text of its log file.
    pub fn log(&self) -> String {
        self.read("log")
    }

    /// Its standard output and standard error so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Number of lines of the log that contain `text`.
    pub fn count(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until a line of the log contains `text`. Panics if that takes too long.
    pub fn wait_for(&self, text: &str) {
        self.wait_for_count(text, 1, WAIT_TIMEOUT);
    }

    /// Waits until `count` lines of the log contain `text`.
    pub fn wait_for_count(&self, text: &str, count: usize, timeout: Duration) {
        let seen = wait_until(timeout, || self.count(text) >= count);
        assert!(seen, "the log does not have `{text}` {count} times:\n{}", self.everything());
    }

    /// The number after this word, as in `packets`, in portknockd's status line, which it writes
    /// now.
    pub fn status(&self, what: &str) -> u64 {
        let before = self.count(STATUS);
        self.signal("USR1");
        self.wait_for_count(STATUS, before + 1, WAIT_TIMEOUT);
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains(STATUS)).unwrap_or_default();
        let mut words = line.split([' ', ',']);
        let number = words.find(|word| *word == what).and_then(|_| words.next()?.parse().ok());
        number.unwrap_or_else(|| panic!("the status does not contain `{what}`: {line}"))
    }

    /// The text of a file in its directory, empty if there is no such file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The processes that it has started for commands and that have not ended.
    pub fn commands(&self) -> Vec<u32> {
        cost::commands(self.id())
    }

    /// Its reader process.
    pub fn reader(&self) -> u32 {
        cost::reader(self.id()).expect("portknockd has a reader")
    }

    /// Number of its file descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).expect("the daemon runs").count()
    }

    /// Sends a signal, as in `signal("HUP")`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Kills it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        self.process.signal("KILL");
        assert!(self.process.exit_within(WAIT_TIMEOUT).is_some(), "SIGKILL ends a process");
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.stop()
    }

    /// Its exit status, if it exits within `timeout`.
    pub fn exit_within(&mut self, timeout: Duration) -> Option<ExitStatus> {
        self.process.exit_within(timeout)
    }

    fn everything(&self) -> String {
        format!("{}--- output:\n{}", self.log(), self.output())
    }
}

fn launch(host: &Host, directory: &Path, args: &[&str], original: bool) -> Process {
    spawn(host.command(program(original)), directory, args)
}

fn spawn(mut command: Command, directory: &Path, args: &[&str]) -> Process {
    command.arg("-c").arg(directory.join("knockd.conf")).arg("-g").arg(directory.join("log"));
    Process::spawn(command.arg("-v").args(args))
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("the tests' paths have plain names")
}

fn program(original: bool) -> PathBuf {
    if original { PathBuf::from("knockd") } else { binary("portknockd") }
}

/// Writes the file in one step, so that a reload never reads half of it.
fn write_config(directory: &Path, config: &str, original: bool) {
    let config = config.replace("%DIR%", utf8(directory));
    // Sections repeat and the last value counts, so a configuration can still name other paths.
    let own = [("StateFile", "openings"), ("ControlSocket", "control")].map(|(key, name)| {
        let is_needed = !original && !config.contains(key);
        if is_needed { format!("{key} = {}\n", directory.join(name).display()) } else { String::new() }
    });
    let own = own.concat();
    let text = if own.is_empty() { config } else { format!("[options]\n{own}{config}") };
    let new = directory.join("knockd.conf.new");
    fs::write(&new, text).expect("the daemon's directory can be written");
    fs::rename(&new, directory.join("knockd.conf")).expect("the daemon's directory can be written");
}
