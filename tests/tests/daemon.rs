//! portknockd as a program: its options, signals, exit statuses, files, and its messages when it
//! cannot work.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portknock_tests::{Daemon, Disk, Host, Lab, Output, Process, WAIT_TIMEOUT, binary, require, wait_until};
use tempfile::TempDir;

const DOOR: &str = "
[door]
    sequence    = 1000,5000,3000
    seq_timeout = 30
    tcpflags    = syn
    command     = echo %IP% >> %DIR%/opened
";

/// A directory with a configuration, for daemons that are started in other ways than [`Daemon`]
/// does. The configuration begins inside of the options.
struct Directory(TempDir);

impl Directory {
    fn with(config: &str) -> Self {
        let directory = Self(TempDir::new().expect("a temporary directory"));
        let dir = directory.dir();
        let state = if config.contains("StateFile") { "" } else { "StateFile = %DIR%/openings\n" };
        let text = format!("[options]\nControlSocket = %DIR%/control\n{state}{config}").replace("%DIR%", dir);
        fs::write(directory.path("knockd.conf"), text).expect("the directory can be written");
        directory
    }

    fn dir(&self) -> &str {
        self.0.path().to_str().expect("a temporary directory has a plain name")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// portknockd with this directory's configuration, and `%DIR%` in its arguments replaced.
    fn portknockd(&self, host: &Host, args: &str) -> Command {
        let mut command = host.command(binary("portknockd"));
        command.arg("-c").arg(self.path("knockd.conf"));
        command.args(args.replace("%DIR%", self.dir()).split_whitespace());
        command
    }

    /// portknockd as the last command of a shell script, which may change its surroundings.
    fn portknockd_after(&self, host: &Host, script: &str, args: &str) -> Process {
        let dir = self.dir();
        let script = format!("set -e\n{script}\nexec {} -c %DIR%/knockd.conf {args}", binary("portknockd").display());
        Process::spawn(host.command("sh").args(["-c", &script.replace("%DIR%", dir)]))
    }

    fn wait_for(&self, file: &str, text: &str) {
        let seen = wait_until(WAIT_TIMEOUT, || self.read(file).contains(text));
        assert!(seen, "{file} does not contain `{text}`:\n{}", self.read(file));
    }
}

/// A daemon in the background that is not a child of the test; killed when this is dropped.
struct Detached(String);

impl Detached {
    fn from(pid_file: &Path) -> Self {
        Self(fs::read_to_string(pid_file).expect("there is a pid file").trim().to_owned())
    }

    fn runs(&self) -> bool {
        Path::new("/proc").join(&self.0).exists()
    }

    fn signal(&self, name: &str) -> bool {
        Output::of(Command::new("kill").args([&format!("-{name}"), &self.0])).code == Some(0)
    }

    fn stop(&self) {
        assert!(self.signal("TERM"));
        assert!(wait_until(WAIT_TIMEOUT, || !self.runs()), "SIGTERM does not end the daemon");
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if self.runs() {
            self.signal("KILL");
        }
    }
}

fn knock(lab: &Lab) {
    lab.knock_from("10.0.0.2", "10.0.0.1", "1000 5000 3000");
}

#[test]
fn version_help_and_bad_usage() {
    let run = |args: &[&str]| Output::of(Command::new(binary("portknockd")).args(args));
    for args in [["-V"], ["--version"]] {
        let output = run(&args);
        assert_eq!((output.code, &*output.stdout), (Some(0), &*format!("portknockd {}\n", env!("CARGO_PKG_VERSION"))));
    }
    for args in [["-h"], ["--help"]] {
        let output = run(&args);
        assert_eq!(output.code, Some(0));
        for option in "-i, -c, -d, -D, -v, -l, -p, -g, -4, -V, -h, --check --dry-run".split(' ') {
            assert!(output.stdout.contains(option), "`{option}` in\n{}", output.stdout);
        }
    }
    for args in [&["--nonsense"][..], &["-x"], &["extra"], &["-i"], &["-i", ""], &["-c"]] {
        let output = run(args);
        assert_eq!((output.code, &*output.stdout), (Some(2), ""), "{args:?}");
        assert!(output.stderr.starts_with("error: "), "{args:?}: {}", output.stderr);
    }
}

#[test]
fn check_reports_everything_and_opens_nothing() {
    let host = Host::new("lonely");
    let check_with = |config: &str, options: &str| {
        let directory = Directory::with(config);
        let output = Output::of(&mut directory.portknockd(&host, &format!("--check {options}")));
        assert!(!directory.path("openings").exists() && output.stderr.is_empty());
        output
    };
    let check = |config: &str| check_with(config, "-i lo");
    let missing = check_with(DOOR, "-i lo,eht0");
    assert_eq!(missing.code, Some(0));
    let expected = "knockd.conf: warning: there is no interface `eht0`; interfaces here: lo\n";
    assert!(
        missing.stdout.contains(expected) && missing.stdout.ends_with("knockd.conf: 1 door, 0 errors, 1 warning\n"),
        "{}",
        missing.stdout
    );
    let default = check_with(DOOR, "");
    assert!(default.stdout.contains("no interface is set, and there is no eth0, the default"), "{}", default.stdout);
    let good = check(DOOR);
    assert_eq!(good.code, Some(0));
    assert!(good.stdout.ends_with("knockd.conf: 1 door, 0 errors, 0 warnings\n"), "{}", good.stdout);
    assert_eq!(good.stdout.lines().count(), 1, "{}", good.stdout);
    let weak = check("[door]\nsequence = 1000\n");
    assert_eq!(weak.code, Some(0));
    assert!(weak.stdout.contains("knockd.conf:5:12: warning[PK047]"), "{}", weak.stdout);
    let bad = check("[a]\nsequence = 0,5,3\n[b]\nseq_timeout = 1m\n");
    assert_eq!(bad.code, Some(1));
    for line in ["conf:5:12: error[PK028]", "conf:6:1: error[PK023]", "conf:7:15: error[PK037]", "3 errors"] {
        assert!(bad.stdout.contains(line), "`{line}` in\n{}", bad.stdout);
    }
    let missing = Output::of(host.command(binary("portknockd")).args(["--check", "-c", "/nonexistent"]));
    assert_eq!((missing.code, &*missing.stdout), (Some(1), "/nonexistent: No such file or directory (os error 2)\n"));
}

#[test]
fn a_bad_or_missing_configuration_ends_the_start_with_all_errors() {
    let lab = Lab::pair();
    for detach in ["", "-d"] {
        let directory = Directory::with("[a]\nsequence = 0,5,3\n[b]\nseq_timeout = 1m\n");
        let output = Output::of(&mut directory.portknockd(&lab.server, &format!("{detach} -p %DIR%/pid -g %DIR%/log")));
        assert_eq!((output.code, &*output.stdout), (Some(1), ""));
        for line in ["conf:5:12: error[PK028]", "conf:6:1: error[PK023]", "conf:7:15: error[PK037]"] {
            assert!(output.stderr.contains(line), "`{line}` in\n{}", output.stderr);
        }
        fs::remove_file(directory.path("knockd.conf")).unwrap();
        let output = Output::of(&mut directory.portknockd(&lab.server, &format!("{detach} -p %DIR%/pid -g %DIR%/log")));
        assert_eq!(output.code, Some(1));
        assert!(output.stderr.contains("knockd.conf: No such file or directory"), "{}", output.stderr);
        let left = fs::read_dir(directory.0.path()).unwrap().count();
        assert_eq!(left, 0, "a failed start leaves files");
    }
}

#[test]
fn without_the_capability_to_capture_the_error_names_it() {
    require("setpriv");
    let lab = Lab::pair();
    let directory = Directory::with(DOOR);
    for detach in ["", "-d -p %DIR%/pid"] {
        let without = format!(
            "setpriv --bounding-set=-all --inh-caps=-all {} -c %DIR%/knockd.conf {detach}",
            binary("portknockd").display()
        );
        let output = lab.server.run(&without.replace("%DIR%", directory.dir()));
        assert_eq!((output.code, &*output.stdout), (Some(1), ""));
        assert!(output.stderr.contains("no permission to capture packets"), "{}", output.stderr);
        assert!(output.stderr.contains("CAP_NET_RAW"), "{}", output.stderr);
        assert!(!directory.path("pid").exists());
    }
}

#[test]
fn it_becomes_a_daemon_once_it_works() {
    let lab = Lab::pair();
    let once = "[once]\none_time_sequences = once\nseq_timeout = 30\ncommand = true\n";
    let directory = Directory::with(&format!("PidFile = pid\nLogFile = log\nStateFile = openings\n{DOOR}{once}"));
    fs::write(directory.path("pid"), "4194304\n").unwrap();
    fs::write(directory.path("once"), " 1100,5100,3100\n").unwrap();
    // The command line and the configuration may name files relative to the working directory, also
    // at a reload.
    let dir = directory.dir();
    let called =
        lab.server.run(&format!("cd {dir} && exec {} -d -i eth0 -c knockd.conf", binary("portknockd").display()));
    assert_eq!((called.code, &*called.stdout, &*called.stderr), (Some(0), "", ""));
    let daemon = Detached::from(&directory.path("pid"));
    let proc = Path::new("/proc").join(&daemon.0);
    assert_eq!(fs::read_link(proc.join("exe")).unwrap(), binary("portknockd"));
    assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/"));
    for stream in ["0", "1", "2"] {
        assert_eq!(fs::read_link(proc.join("fd").join(stream)).unwrap(), Path::new("/dev/null"));
    }
    let stat = fs::read_to_string(proc.join("stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_eq!((fields[3], fields[4]), (&*daemon.0, "0"), "a session of its own, no terminal: {stat}");
    // portknockd is listening when the call returns.
    knock(&lab);
    directory.wait_for("log", "10.0.0.2: door: OPEN SESAME");
    directory.wait_for("opened", "10.0.0.2");
    assert!(daemon.signal("HUP"));
    directory.wait_for("log", "the configuration is reloaded");
    lab.knock_from("10.0.0.2", "10.0.0.1", "1100 5100 3100");
    directory.wait_for("log", "10.0.0.2: once: OPEN SESAME");
    assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/"));
    daemon.stop();
    assert!(directory.read("log").ends_with("shutting down\n"), "{}", directory.read("log"));
    assert!(directory.path("openings").exists());
    assert!(!directory.path("pid").exists());
}

#[test]
fn relative_names_on_the_command_line_start_at_the_working_directory() {
    let lab = Lab::pair();
    let directory = Directory::with(DOOR);
    let dir = directory.dir();
    lab.server.ok(&format!("cd {dir}; {} -d -i eth0 -c knockd.conf -g log -p pid", binary("portknockd").display()));
    let daemon = Detached::from(&directory.path("pid"));
    assert!(daemon.signal("HUP"));
    directory.wait_for("log", "the configuration is reloaded");
    daemon.stop();
}

#[test]
fn a_pid_file_that_is_a_link_or_cannot_be_written_ends_the_start() {
    let lab = Lab::pair();
    let directory = Directory::with(DOOR);
    fs::write(directory.path("precious"), "precious\n").unwrap();
    symlink(directory.path("precious"), directory.path("link")).unwrap();
    for file in ["link", "no/such/directory/pid"] {
        let output =
            Output::of(&mut directory.portknockd(&lab.server, &format!("-d -i eth0 -g %DIR%/log -p %DIR%/{file}")));
        assert_eq!(output.code, Some(1));
        let message = format!("portknockd: cannot write the pid file {}: ", directory.path(file).display());
        assert!(output.stderr.starts_with(&message), "{}", output.stderr);
    }
    assert_eq!(directory.read("precious"), "precious\n");
    // In the foreground there is no pid file.
    let process = Process::spawn(&mut directory.portknockd(&lab.server, "-i eth0 -p %DIR%/pid"));
    process.wait_for("starting up");
    assert!(!directory.path("pid").exists());
}

#[test]
fn a_second_daemon_is_refused_and_the_first_continues() {
    let lab = Lab::pair();
    let directory = Directory::with(&format!("{DOOR}stop_command = true\ncmd_timeout = 60\n"));
    let args = "-d -i eth0 -g %DIR%/log -p %DIR%/pid";
    assert_eq!(Output::of(&mut directory.portknockd(&lab.server, args)).code, Some(0));
    let first = Detached::from(&directory.path("pid"));
    let second = Output::of(&mut directory.portknockd(&lab.server, args));
    assert_eq!(second.code, Some(1));
    assert!(
        second.stderr.contains("is in use by another portknockd; one daemon listens on several"),
        "{}",
        second.stderr
    );
    assert_eq!(directory.read("pid").trim(), first.0);
    knock(&lab);
    directory.wait_for("log", "OPEN SESAME");
    first.stop();
    assert_eq!(Output::of(&mut directory.portknockd(&lab.server, args)).code, Some(0));
    drop(Detached::from(&directory.path("pid")));
}

#[test]
fn daemons_with_nothing_to_store_run_side_by_side_until_one_has() {
    let lab = Lab::pair();
    let directory = Directory::with(DOOR);
    let [lo, eth0] = ["lo", "eth0"].map(|interface| {
        let args = format!("-i {interface} -g %DIR%/{interface}");
        let process = Process::spawn(&mut directory.portknockd(&lab.server, &args));
        directory.wait_for(interface, &format!("starting up, listening on {interface}"));
        process
    });
    knock(&lab);
    directory.wait_for("eth0", "OPEN SESAME");
    assert!(!directory.read("lo").contains("OPEN SESAME"));
    // From now on there is something to store: one of them gets the file.
    let config = fs::read_to_string(directory.path("knockd.conf")).unwrap() + "stop_command = true\ncmd_timeout = 60\n";
    fs::write(directory.path("knockd.conf"), config).unwrap();
    lo.signal("HUP");
    directory.wait_for("lo", "the configuration is reloaded");
    eth0.signal("HUP");
    directory.wait_for("eth0", "the configuration is not reloaded, the old one stays in use: the state file");
    let third = Output::of(&mut directory.portknockd(&lab.server, "-i eth0"));
    assert_eq!(third.code, Some(1));
    assert!(third.stderr.contains("one daemon listens on several interfaces (-i eth0,lo)"), "{}", third.stderr);
}

#[test]
fn without_another_destination_the_log_is_written_to_standard_output_immediately() {
    let lab = Lab::pair();
    let directory = Directory::with(DOOR);
    let process = Process::spawn(&mut directory.portknockd(&lab.server, "-i eth0"));
    process.wait_for("starting up, listening on eth0\n");
    lab.knock_from("10.0.0.2", "10.0.0.1", "1000");
    process.wait_for("10.0.0.2: door: Stage 1\n");

    // With a log file it prints nothing, unless an option asks for it.
    let directory = Directory::with(DOOR);
    let process = Process::spawn(&mut directory.portknockd(&lab.server, "-i eth0 -g %DIR%/log"));
    directory.wait_for("log", "] starting up, listening on eth0\n");
    knock(&lab);
    directory.wait_for("log", "OPEN SESAME");
    assert_eq!(process.output(), "");
    assert_eq!(fs::metadata(directory.path("log")).unwrap().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn debug_shows_each_knock() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd_with(&lab.server, DOOR, &["-i", "eth0", "-D"]);
    lab.knock_from("10.0.0.2", "10.0.0.1", "1000 5000:udp");
    daemon.wait_for("] tcp: 10.0.0.2:");
    daemon.wait_for(" -> 10.0.0.1:1000");
    assert_eq!(daemon.count("-> 10.0.0.1:5000"), 0, "no door uses 5000/udp:\n{}", daemon.log());
    lab.knock_from("fd00::2", "fd00::1", "1000");
    daemon.wait_for("] tcp: [fd00::2]:");
    daemon.wait_for(" -> [fd00::1]:1000");
}

#[test]
fn debug_shows_segments_that_the_flags_of_doors_exclude() {
    let lab = Lab::pair();
    let door = DOOR.replace("= syn", "= fin");
    let daemon = Daemon::portknockd_with(&lab.server, &door, &["-i", "eth0", "-D"]);
    lab.knock_from("10.0.0.2", "10.0.0.1", "1000");
    daemon.wait_for(" -> 10.0.0.1:1000 turned away: no door takes its flags (syn)");
    assert_eq!(daemon.count("Stage"), 0, "{}", daemon.log());
}

#[test]
fn ipv4_only_ignores_ipv6() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd_with(&lab.server, DOOR, &["-i", "eth0", "-4"]);
    lab.knock_from("fd00::2", "fd00::1", "1000 5000 3000");
    knock(&lab);
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
    assert_eq!(daemon.count("fd00"), 0, "{}", daemon.log());
}

#[test]
fn lookup_shows_names_and_delays_no_knock() {
    let lab = Lab::pair();
    lab.client.add_address("eth0", "10.0.0.3/24");
    let directory = Directory::with(DOOR);
    fs::write(directory.path("hosts"), "10.0.0.2 client.example\n").unwrap();
    // A name server that never answers.
    fs::write(directory.path("resolv.conf"), "nameserver 10.0.0.99\n").unwrap();
    fs::write(directory.path("nsswitch.conf"), "hosts: files dns\n").unwrap();
    let files = "for file in hosts resolv.conf nsswitch.conf; do mount --bind %DIR%/$file /etc/$file; done";
    let process = directory.portknockd_after(&lab.server, files, "-i eth0 -l");
    process.wait_for("starting up");
    knock(&lab);
    process.wait_for("10.0.0.2 (client.example): door: OPEN SESAME");
    process.wait_for("door: running command: echo 10.0.0.2");
    let start = Instant::now();
    lab.knock_from("10.0.0.3", "10.0.0.1", "1000 5000 3000");
    directory.wait_for("opened", "10.0.0.3");
    assert!(start.elapsed() < Duration::from_secs(1), "the command waits for a name");
    process.wait_for("10.0.0.3: door: OPEN SESAME");
    assert!(start.elapsed() < Duration::from_secs(4), "the log waits for a name");
}

#[test]
fn syslog_gets_the_lines_of_knockd() {
    let lab = Lab::pair();
    let directory = Directory::with(&format!("UseSyslog\n{DOOR}"));
    let listen = || {
        let socket = UnixDatagram::bind(directory.path("syslog")).unwrap();
        socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        socket
    };
    let next = |socket: &UnixDatagram| {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).expect("a line arrives");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let socket = listen();
    // A separate /dev, which has only the necessary files.
    let dev =
        "mkdir %DIR%/dev; touch %DIR%/dev/null; mount --bind /dev/null %DIR%/dev/null; ln -s %DIR%/syslog %DIR%/dev/log
         mount --rbind %DIR%/dev /dev";
    let process = directory.portknockd_after(&lab.server, dev, "-i eth0");
    let line = next(&socket);
    let own = format!("portknockd[{}]: starting up, listening on eth0", process.id());
    // 29: facility daemon (3), severity notice (5).
    assert!(line.starts_with("<29>") && line.ends_with(&own), "{line}");
    knock(&lab);
    for text in
        ["10.0.0.2: door: Stage 1", "Stage 2", "Stage 3", "10.0.0.2: door: OPEN SESAME", "door: running command: echo"]
    {
        let line = next(&socket);
        assert!(line.contains("]: ") && line.contains(text), "`{text}` in {line}");
    }
    assert_eq!(process.output(), "");
    // The log daemon is started again.
    drop(socket);
    fs::remove_file(directory.path("syslog")).unwrap();
    lab.knock_from("10.0.0.2", "10.0.0.1", "1000");
    sleep(Duration::from_millis(200));
    let socket = listen();
    lab.knock_from("10.0.0.2", "10.0.0.1", "5000");
    assert!(next(&socket).contains("10.0.0.2: door: Stage 2"));
}

#[test]
fn a_status_has_the_numbers() {
    let lab = Lab::pair();
    lab.client.add_address("eth0", "10.0.0.3/24");
    let config = format!(
        "{DOOR}    stop_command = true\n    cmd_timeout = 60\n[other]\nsequence = 1100,1,2\ncommand = sleep 5\n"
    );
    let daemon = Daemon::portknockd(&lab.server, &config);
    knock(&lab);
    lab.knock_from("10.0.0.3", "10.0.0.1", "1000");
    daemon.wait_for("10.0.0.3: door: Stage 1");
    // The command has ended when its mark is there and a moment has passed.
    assert!(wait_until(WAIT_TIMEOUT, || daemon.path("opened").exists()));
    sleep(Duration::from_millis(200));
    daemon.signal("USR1");
    // Packets that arrived before the filter was attached may be among the packets.
    daemon.wait_for("status: doors 2, attempts 1 (0 evicted, 0 refused), openings 1, packets ");
    daemon.wait_for(", knocks 4, drops 0, commands 0 running 0 waiting");
}

#[test]
fn sigterm_and_sigint_cause_an_orderly_stop() {
    let lab = Lab::pair();
    for signal in ["TERM", "INT"] {
        let config = format!("{DOOR}    stop_command = sleep 0.3; echo closed >> %DIR%/opened\n    cmd_timeout = 60\n");
        let mut daemon = Daemon::portknockd(&lab.server, &config);
        knock(&lab);
        daemon.wait_for("OPEN SESAME");
        daemon.signal(signal);
        let status = daemon.exit_within(WAIT_TIMEOUT).expect("the daemon ends");
        assert_eq!(status.code(), Some(0));
        assert_eq!(fs::read_to_string(daemon.path("opened")).unwrap(), "10.0.0.2\nclosed\n");
        assert_eq!(daemon.count("shutting down"), 1);
    }
}

#[test]
fn a_second_sigterm_ends_the_daemon_immediately() {
    let lab = Lab::pair();
    let config = format!("{DOOR}    stop_command = sleep 30\n    cmd_timeout = 60\n");
    let mut daemon = Daemon::portknockd(&lab.server, &config);
    knock(&lab);
    daemon.wait_for("OPEN SESAME");
    daemon.signal("TERM");
    daemon.wait_for("door: running command: sleep 30");
    // No knock counts any more, and a reload has no effect.
    knock(&lab);
    daemon.signal("HUP");
    sleep(Duration::from_millis(300));
    assert_eq!(daemon.count("Stage"), 3, "{}", daemon.log());
    assert_eq!(daemon.count("reloaded"), 0, "{}", daemon.log());
    assert!(daemon.exit_within(Duration::ZERO).is_none());
    daemon.signal("TERM");
    let status = daemon.exit_within(Duration::from_secs(2)).expect("the daemon exits immediately");
    assert_eq!(status.code(), Some(0));
    daemon.wait_for("stopped immediately by a second signal; commands may still be running");
}

#[test]
fn commands_inherit_no_descriptor() {
    let lab = Lab::pair();
    let config = DOOR.replace("echo %IP% >> %DIR%/opened", "ls -l /proc/self/fd > %DIR%/fds; echo done > %DIR%/opened");
    let daemon = Daemon::portknockd_with(&lab.server, &config, &["-i", "eth0", "-l", "-v"]);
    // A capture that was opened later must not differ.
    lab.server.set_up("eth0", false);
    daemon.wait_for("no longer listening on eth0");
    lab.server.set_up("eth0", true);
    daemon.wait_for("] listening on eth0");
    knock(&lab);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.path("opened").exists()), "{}", daemon.log());
    let numbers = |list: &str| -> Vec<String> {
        let numbers = list.lines().filter_map(|line| line.split_once(" -> ")?.0.split_whitespace().last());
        numbers.map(str::to_owned).collect()
    };
    let fds = fs::read_to_string(daemon.path("fds")).unwrap();
    assert!(fds.contains(" 0 -> /dev/null"), "{fds}");
    // The last descriptor is that of `ls` for the directory, after the one that the shell keeps for
    // its own standard output.
    let own = ["0", "1", "10", "2", "3"];
    assert!(numbers(&fds).iter().all(|number| own.contains(&&**number)), "{fds}");
}

#[test]
fn an_unwritable_log_file_is_reported_and_tried_again() {
    let lab = Lab::pair();
    let directory = Directory::with(DOOR);
    let process = Process::spawn(&mut directory.portknockd(&lab.server, "-i eth0 -g %DIR%/later/log"));
    let path = directory.path("later/log");
    process.wait_for(&format!("portknockd: cannot write to the log file {}: No such file", path.display()));
    knock(&lab);
    directory.wait_for("opened", "10.0.0.2");
    fs::create_dir(directory.path("later")).unwrap();
    knock(&lab);
    directory.wait_for("later/log", "10.0.0.2: door: OPEN SESAME");
    assert_eq!(process.output().matches("cannot write").count(), 1, "{}", process.output());
}

#[test]
fn a_log_file_on_a_full_disk_stops_nothing_and_missing_lines_are_counted() {
    let lab = Lab::pair();
    let directory = Directory::with(DOOR);
    let disk = Disk::new();
    disk.fill();
    let log = disk.path("log");
    let process = Process::spawn(&mut directory.portknockd(&lab.server, &format!("-i eth0 -g {}", log.display())));
    process.wait_for(&format!("portknockd: cannot write to the log file {}: No space left on device", log.display()));
    knock(&lab);
    directory.wait_for("opened", "10.0.0.2");
    disk.free();
    lab.knock_from("10.0.0.2", "10.0.0.1", "1000");
    let text = || fs::read_to_string(&log).unwrap_or_default();
    assert!(wait_until(WAIT_TIMEOUT, || text().ends_with("] 10.0.0.2: door: Stage 1\n")), "{}", text());
    assert!(text().lines().next().is_some_and(|line| line.ends_with("] 6 lines were not logged")), "{}", text());
}

#[test]
fn a_configuration_that_others_can_write_is_warned_of() {
    let lab = Lab::pair();
    let directory = Directory::with(DOOR);
    let file = directory.path("knockd.conf");
    let warning = "any user can write to this file, and portknockd runs the commands in it";
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let process = Process::spawn(&mut directory.portknockd(&lab.server, "-i eth0"));
    process.wait_for("starting up");
    process.wait_for(&format!("{}: warning: {warning}", file.display()));
    let check = Output::of(&mut directory.portknockd(&lab.server, "--check"));
    assert!(check.code == Some(0) && check.stdout.contains(warning), "{}", check.stdout);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let check = Output::of(&mut directory.portknockd(&lab.server, "--check"));
    assert!(check.code == Some(0) && !check.stdout.contains(warning), "{}", check.stdout);
}
