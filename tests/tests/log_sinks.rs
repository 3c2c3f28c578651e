//! Destinations of log lines that stall: doors open, and the daemon answers and exits nevertheless.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portknock_tests::{Daemon, Lab, Output, WAIT_TIMEOUT, binary, other_users, wait_until};
use tempfile::TempDir;

/// Every event has its line, so that a sink stalls soon.
const CONFIG: &str = "
[options]
    LogRate       = 0
    StateFile     = %DIR%/openings
    ControlSocket = %DIR%/control
";
const DOOR: &str = "
[ssh]
    sequence    = 7000,8000,9000
    seq_timeout = 30
    tcpflags    = syn
    command     = echo %IP% >> %DIR%/opened
";
/// Maximum time from the last knock to the opening, and from a request to its answer, with two
/// processors for a flood and everything else.
const ON_TIME: Duration = Duration::from_secs(2);
/// Maximum time from SIGTERM to the exit.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// portknockd with standard output and standard error that no process reads.
struct Unread {
    lab: Lab,
    directory: TempDir,
    child: Child,
}

impl Unread {
    /// Starts it with these options and arguments, after `script` in a separate mount namespace.
    /// `%DIR%` stands for its directory everywhere.
    fn start(directory: TempDir, options: &str, script: &str, args: &str) -> Self {
        let lab = Lab::pair();
        lab.client.add_address("eth0", "10.0.0.3/24");
        let dir = directory.path().to_str().expect("a plain name");
        let in_directory = |text: &str| text.replace("%DIR%", dir);
        fs::write(directory.path().join("conf"), in_directory(&format!("{CONFIG}{options}{DOOR}")))
            .expect("a test directory");
        let start = format!("set -e\n{script}\nexec {} -i eth0 -c %DIR%/conf {args}", binary("portknockd").display());
        let mut command = lab.server.command("sh");
        command.args(["-c", &in_directory(&start)]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("sh can be started");
        let daemon = Self { lab, directory, child };
        assert!(wait_until(WAIT_TIMEOUT, || daemon.ask("status").code == Some(0)), "it does not start");
        daemon
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ask(&self, what: &str) -> Output {
        Output::of(Command::new(binary("portknock")).arg(what).arg("--socket").arg(self.path("control")))
    }

    fn opened(&self) -> usize {
        fs::read_to_string(self.path("opened")).unwrap_or_default().lines().count()
    }

    /// Knocks honestly while first knocks from spoofed sources arrive at 100,000 a second, sends a
    /// request, and stops it.
    fn works_under_a_flood_and_ends(&mut self) {
        let mut flood = self.lab.client.command(binary("pktgen"));
        flood.args("--interface eth0 --from 172.16.0.0 --sources 1000000 --ports 7000 --rate 100000".split(' '));
        let mut flood = flood.stdout(Stdio::null()).spawn().expect("pktgen starts");
        for knocks in 1..=20 {
            self.lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000 9000");
            assert!(wait_until(ON_TIME, || self.opened() == knocks), "knock {knocks} opens nothing");
            if knocks % 5 == 0 {
                let asked = Instant::now();
                assert_eq!(self.ask("status").code, Some(0));
                assert!(asked.elapsed() < ON_TIME, "the answer took {:?}", asked.elapsed());
            }
        }
        assert!(flood.try_wait().expect("the child process").is_none(), "the flood ended before the knocks did");
        self.ends();
        flood.kill().expect("the child process");
        flood.wait().expect("the child process");
    }

    fn ends(&mut self) {
        let begin = Instant::now();
        let killed = Output::of(Command::new("kill").arg(self.child.id().to_string()));
        assert_eq!(killed.code, Some(0), "{}", killed.stderr);
        let ended = wait_until(STOP_TIMEOUT, || self.child.try_wait().expect("the child process").is_some());
        assert!(ended, "it still runs {:?} after SIGTERM", begin.elapsed());
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn mkfifo(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("fifo");
    assert_eq!(Output::of(Command::new("mkfifo").arg(&path)).code, Some(0));
    path
}

/// The reading end of a FIFO, opened without waiting for a writer.
fn reader(fifo: &PathBuf) -> File {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(fifo).expect("a test FIFO")
}

#[test]
fn a_pipe_without_a_reader_blocks_nothing() {
    Unread::start(directory(), "", "", "-v").works_under_a_flood_and_ends();
}

#[test]
fn a_syslog_without_a_reader_blocks_nothing() {
    let directory = directory();
    let _socket = UnixDatagram::bind(directory.path().join("syslog")).expect("a socket");
    let dev =
        "mkdir %DIR%/dev; touch %DIR%/dev/null; mount --bind /dev/null %DIR%/dev/null; ln -s %DIR%/syslog %DIR%/dev/log
         mount --rbind %DIR%/dev /dev";
    Unread::start(directory, "UseSyslog\n", dev, "").works_under_a_flood_and_ends();
}

#[test]
fn a_stalled_fifo_blocks_nothing_and_missing_lines_are_counted() {
    let directory = directory();
    let mut fifo = reader(&mkfifo(&directory));
    let mut daemon = Unread::start(directory, "LogFile = %DIR%/fifo\n", "", "-v");
    daemon.lab.pktgen("--from 172.16.0.0 --sources 100000 --ports 7000 --rate 50000");
    daemon.lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000 9000");
    assert!(wait_until(WAIT_TIMEOUT, || daemon.opened() == 1), "the knock opens nothing");
    let mut text = String::new();
    let mut read = || {
        // Reading would block when the FIFO is empty.
        let _ = fifo.read_to_string(&mut text);
        text.contains("lines were not logged")
    };
    assert!(wait_until(WAIT_TIMEOUT, &mut read), "missing lines are not reported");
    daemon.lab.knock_from("10.0.0.3", "10.0.0.1", "7000");
    let mut last = String::new();
    assert!(wait_until(WAIT_TIMEOUT, || {
        let _ = fifo.read_to_string(&mut last);
        last.contains("10.0.0.3: ssh: Stage 1")
    }));
    text += &last;
    let of_source = |line: &str| line.split_once("] ").is_some_and(|(_, line)| line.starts_with("172.16."));
    let logged = text.lines().filter(|line| of_source(line)).count();
    let missing: Vec<_> = text.lines().filter(|line| line.ends_with(" lines were not logged")).collect();
    let [missing] = missing[..] else { panic!("{missing:?}") };
    let number: usize = missing.split_once("] ").and_then(|(_, line)| line.split(' ').next()?.parse().ok()).unwrap();
    // The honest knock and its command have separate lines among them.
    assert!((100_000..=100_010).contains(&(logged + number)), "{logged} logged, {number} missing");
    daemon.ends();
}

#[test]
fn a_fifo_without_a_reader_blocks_neither_the_start_nor_a_reload() {
    let directory = directory();
    let fifo = mkfifo(&directory);
    let mut daemon = Unread::start(directory, "LogFile = %DIR%/fifo\n", "", "");
    assert_eq!(daemon.ask("reload").code, Some(0));
    daemon.lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000 9000");
    assert!(wait_until(WAIT_TIMEOUT, || daemon.opened() == 1), "the knock opens nothing");
    // The daemon replaces a stalled FIFO by another file.
    let _reader = reader(&fifo);
    daemon.lab.pktgen("--from 172.16.0.0 --sources 50000 --ports 7000 --rate 50000");
    let conf = fs::read_to_string(daemon.path("conf")).unwrap().replace("/fifo", "/file");
    fs::write(daemon.path("conf"), conf).unwrap();
    assert_eq!(daemon.ask("reload").code, Some(0));
    // A flood of first stages leaves the lines of later ones.
    daemon.lab.knock_from("10.0.0.3", "10.0.0.1", "7000 8000");
    let file = daemon.path("file");
    let came = wait_until(WAIT_TIMEOUT, || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains("10.0.0.3: ssh: Stage 2"))
    });
    assert!(came, "the new log file stays empty");
    daemon.ends();
}

#[test]
fn all_sinks_together_block_nothing() {
    let directory = directory();
    let _socket = UnixDatagram::bind(directory.path().join("syslog")).expect("a socket");
    let _fifo = reader(&mkfifo(&directory));
    let dev =
        "mkdir %DIR%/dev; touch %DIR%/dev/null; mount --bind /dev/null %DIR%/dev/null; ln -s %DIR%/syslog %DIR%/dev/log
         mount --rbind %DIR%/dev /dev";
    // Standard output and error accept nothing from the first line on, which is a warning about the
    // door.
    let full = format!("head -c 65536 /dev/zero; head -c 65536 /dev/zero >&2\n{dev}");
    Unread::start(directory, "UseSyslog\nLogFile = %DIR%/fifo\n", &full, "-v").works_under_a_flood_and_ends();
}

#[test]
fn a_link_of_another_user_does_not_redirect_the_log_file() {
    if !other_users() {
        return;
    }
    let directory = directory();
    let dir = directory.path().to_str().expect("a plain name").to_owned();
    let lab = Lab::pair();
    // A directory of another user with a link instead of the log, and one instead of a directory on
    // the way.
    lab.server.ok(&format!(
        "chmod 755 {dir}; mkdir -p {dir}/own {dir}/secret; chown 54321:54321 {dir}/own
         setpriv --reuid=54321 --regid=54321 --clear-groups ln -s {dir}/secret/made {dir}/own/log
         setpriv --reuid=54321 --regid=54321 --clear-groups ln -s {dir}/secret {dir}/own/logs
         ln -s {dir}/real {dir}/ours"
    ));
    for (path, is_followed) in [("own/log", false), ("own/logs/log", false), ("ours", true)] {
        let config = format!("[options]\nLogFile = {dir}/{path}\n{}", DOOR.replace("%DIR%", &dir));
        let conf = directory.path().join("conf");
        fs::write(&conf, format!("{}{config}", CONFIG.replace("%DIR%", &dir))).unwrap();
        let mut command = lab.server.command(binary("portknockd"));
        let mut daemon = portknock_tests::Process::spawn(command.args(["-v", "-i", "eth0", "-c"]).arg(&conf));
        daemon.wait_for("starting up");
        assert!(daemon.stop().success());
        let complaint = "belongs to user 54321; the daemon follows only links of root and of the user that it runs as";
        assert_eq!(daemon.output().contains(complaint), !is_followed, "{path}: {}", daemon.output());
        assert_eq!(fs::read_dir(directory.path().join("secret")).unwrap().count(), 0, "{path}");
    }
    assert!(fs::read_to_string(directory.path().join("real")).unwrap().contains("starting up"));
}

/// The numbers in the lines that count omitted lines, by event, as in `stage 1`.
fn not_logged(log: &str, what: &str) -> usize {
    let lines = log.lines().filter_map(|line| line.split_once("not logged in the last second: ssh: "));
    let parts = lines.flat_map(|(_, counts)| counts.split(", "));
    parts.filter_map(|part| part.strip_suffix(what)?.trim_end().parse::<usize>().ok()).sum()
}

#[test]
fn a_flood_is_logged_at_a_bounded_rate_and_the_rest_is_counted() {
    let lab = Lab::pair();
    let door = DOOR.replace("seq_timeout = 30", "seq_timeout = 3");
    let daemon = Daemon::portknockd(&lab.server, &format!("[options]\nLogRate = 400\n{door}"));
    let events = daemon.follow();
    lab.pktgen("--from 172.16.0.0 --sources 100000 --ports 7000 --rate 50000");
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000 9000");
    daemon.wait_for("10.0.0.2: ssh: OPEN SESAME");
    let stages = || daemon.count(": ssh: Stage 1");
    let timeouts = || daemon.count("sequence timeout");
    let all = || {
        let log = daemon.log();
        let known = not_logged(&log, "stage 1") + stages();
        (100_000..=100_001).contains(&known) && not_logged(&log, "timeouts") + timeouts() == 100_000
    };
    assert!(wait_until(WAIT_TIMEOUT, all), "{} stages, {} timeouts, {}", stages(), timeouts(), daemon.log());
    // Two seconds at the rate of each, plus the initial burst.
    assert!(stages() < 1_500 && timeouts() < 1_500, "{} stages, {} timeouts", stages(), timeouts());
    for line in ["Stage 2", "Stage 3", "OPEN SESAME"] {
        assert_eq!(daemon.count(&format!("10.0.0.2: ssh: {line}")), 1, "{line}");
    }
    events.wait_for(r#""event":"suppressed","door":"ssh","first_stages":"#);
    let suppressed = not_logged(&daemon.log(), "stage 1") + not_logged(&daemon.log(), "timeouts");
    assert_eq!(daemon.status_json()["suppressed"], suppressed);
}
