//! Places that log lines go to and that stall: doors open, the daemon answers and ends all the same.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portknock_tests::{Daemon, Lab, Output, PATIENCE, binary, other_users, wait_until};
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
/// How soon a door opens after its last knock, and how soon a request is answered, with two processors for a flood and all
/// else.
const ON_TIME: Duration = Duration::from_secs(2);
/// How soon it ends after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// portknockd with standard output and standard error that nobody reads.
struct Unread {
    lab: Lab,
    folder: TempDir,
    child: Child,
}

impl Unread {
    /// Starts it with these options and arguments, after `script` in a mount namespace of its own; `%DIR%` stands for its
    /// folder everywhere.
    fn start(folder: TempDir, options: &str, script: &str, args: &str) -> Self {
        let lab = Lab::pair();
        lab.client.add_address("eth0", "10.0.0.3/24");
        let dir = folder.path().to_str().expect("a plain name");
        let in_folder = |text: &str| text.replace("%DIR%", dir);
        fs::write(folder.path().join("conf"), in_folder(&format!("{CONFIG}{options}{DOOR}")))
            .expect("a folder of ours");
        let start = format!("set -e\n{script}\nexec {} -i eth0 -c %DIR%/conf {args}", binary("portknockd").display());
        let mut command = lab.server.command("sh");
        command.args(["-c", &in_folder(&start)]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("sh can be started");
        let daemon = Self { lab, folder, child };
        assert!(wait_until(PATIENCE, || daemon.ask("status").code == Some(0)), "it does not start");
        daemon
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&self, what: &str) -> Output {
        Output::of(Command::new(binary("portknock")).arg(what).arg("--socket").arg(self.path("control")))
    }

    fn opened(&self) -> usize {
        fs::read_to_string(self.path("opened")).unwrap_or_default().lines().count()
    }

    /// Knocks honestly while first knocks from forged sources come at 100,000 a second, asks, and stops it.
    fn works_under_a_flood_and_ends(&mut self) {
        let mut flood = self.lab.client.command(binary("blast"));
        flood.args("--interface eth0 --from 172.16.0.0 --sources 1000000 --ports 7000 --rate 100000".split(' '));
        let mut flood = flood.stdout(Stdio::null()).spawn().expect("blast starts");
        for knocks in 1..=20 {
            self.lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000 9000");
            assert!(wait_until(ON_TIME, || self.opened() == knocks), "knock {knocks} opens nothing");
            if knocks % 5 == 0 {
                let asked = Instant::now();
                assert_eq!(self.ask("status").code, Some(0));
                assert!(asked.elapsed() < ON_TIME, "the answer took {:?}", asked.elapsed());
            }
        }
        assert!(flood.try_wait().expect("a child of ours").is_none(), "the flood ended before the knocks did");
        self.ends();
        flood.kill().expect("a child of ours");
        flood.wait().expect("a child of ours");
    }

    fn ends(&mut self) {
        let begin = Instant::now();
        let killed = Output::of(Command::new("kill").arg(self.child.id().to_string()));
        assert_eq!(killed.code, Some(0), "{}", killed.stderr);
        let ended = wait_until(STOP_TIMEOUT, || self.child.try_wait().expect("a child of ours").is_some());
        assert!(ended, "it goes on {:?} after SIGTERM", begin.elapsed());
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

fn mkfifo(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("fifo");
    assert_eq!(Output::of(Command::new("mkfifo").arg(&path)).code, Some(0));
    path
}

/// The reading end of a FIFO, opened without waiting for a writer.
fn reader(fifo: &PathBuf) -> File {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(fifo).expect("a FIFO of ours")
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_nothing() {
    Unread::start(folder(), "", "", "-v").works_under_a_flood_and_ends();
}

#[test]
fn a_syslog_that_nobody_reads_holds_up_nothing() {
    let folder = folder();
    let _socket = UnixDatagram::bind(folder.path().join("syslog")).expect("a socket");
    let dev =
        "mkdir %DIR%/dev; touch %DIR%/dev/null; mount --bind /dev/null %DIR%/dev/null; ln -s %DIR%/syslog %DIR%/dev/log
         mount --rbind %DIR%/dev /dev";
    Unread::start(folder, "UseSyslog\n", dev, "").works_under_a_flood_and_ends();
}

#[test]
fn a_fifo_that_stalls_holds_up_nothing_and_what_is_missing_is_counted() {
    let folder = folder();
    let mut fifo = reader(&mkfifo(&folder));
    let mut daemon = Unread::start(folder, "LogFile = %DIR%/fifo\n", "", "-v");
    daemon.lab.blast("--from 172.16.0.0 --sources 100000 --ports 7000 --rate 50000");
    daemon.lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000 9000");
    assert!(wait_until(PATIENCE, || daemon.opened() == 1), "the knock opens nothing");
    let mut text = String::new();
    let mut read = || {
        // It would block where nothing is left for now.
        let _ = fifo.read_to_string(&mut text);
        text.contains("lines were not logged")
    };
    assert!(wait_until(PATIENCE, &mut read), "nothing is said of what is missing");
    daemon.lab.knock_from("10.0.0.3", "10.0.0.1", "7000");
    let mut last = String::new();
    assert!(wait_until(PATIENCE, || {
        let _ = fifo.read_to_string(&mut last);
        last.contains("10.0.0.3: ssh: Stage 1")
    }));
    text += &last;
    let of_source = |line: &str| line.split_once("] ").is_some_and(|(_, line)| line.starts_with("172.16."));
    let logged = text.lines().filter(|line| of_source(line)).count();
    let missing: Vec<_> = text.lines().filter(|line| line.ends_with(" lines were not logged")).collect();
    let [missing] = missing[..] else { panic!("{missing:?}") };
    let number: usize = missing.split_once("] ").and_then(|(_, line)| line.split(' ').next()?.parse().ok()).unwrap();
    // The honest knock and its command have left lines of their own among them.
    assert!((100_000..=100_010).contains(&(logged + number)), "{logged} logged, {number} missing");
    daemon.ends();
}

#[test]
fn a_fifo_without_a_reader_holds_up_neither_the_start_nor_a_reload() {
    let folder = folder();
    let fifo = mkfifo(&folder);
    let mut daemon = Unread::start(folder, "LogFile = %DIR%/fifo\n", "", "");
    assert_eq!(daemon.ask("reload").code, Some(0));
    daemon.lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000 9000");
    assert!(wait_until(PATIENCE, || daemon.opened() == 1), "the knock opens nothing");
    // A stalled FIFO is left for another file.
    let _reader = reader(&fifo);
    daemon.lab.blast("--from 172.16.0.0 --sources 50000 --ports 7000 --rate 50000");
    let conf = fs::read_to_string(daemon.path("conf")).unwrap().replace("/fifo", "/file");
    fs::write(daemon.path("conf"), conf).unwrap();
    assert_eq!(daemon.ask("reload").code, Some(0));
    // A flood of first stages leaves the lines of later ones.
    daemon.lab.knock_from("10.0.0.3", "10.0.0.1", "7000 8000");
    let file = daemon.path("file");
    let came =
        wait_until(PATIENCE, || fs::read_to_string(&file).is_ok_and(|text| text.contains("10.0.0.3: ssh: Stage 2")));
    assert!(came, "the new log file stays empty");
    daemon.ends();
}

#[test]
fn all_sinks_together_hold_up_nothing() {
    let folder = folder();
    let _socket = UnixDatagram::bind(folder.path().join("syslog")).expect("a socket");
    let _fifo = reader(&mkfifo(&folder));
    let dev =
        "mkdir %DIR%/dev; touch %DIR%/dev/null; mount --bind /dev/null %DIR%/dev/null; ln -s %DIR%/syslog %DIR%/dev/log
         mount --rbind %DIR%/dev /dev";
    // Standard output and error take nothing from the first line on, which is a warning about the door.
    let full = format!("head -c 65536 /dev/zero; head -c 65536 /dev/zero >&2\n{dev}");
    Unread::start(folder, "UseSyslog\nLogFile = %DIR%/fifo\n", &full, "-v").works_under_a_flood_and_ends();
}

#[test]
fn a_link_of_another_user_does_not_lead_the_log_file_away() {
    if !other_users() {
        return;
    }
    let folder = folder();
    let dir = folder.path().to_str().expect("a plain name").to_owned();
    let lab = Lab::pair();
    // Somebody's directory with a link in place of the log, and one in place of a directory on the way.
    lab.server.ok(&format!(
        "chmod 755 {dir}; mkdir -p {dir}/own {dir}/secret; chown 54321:54321 {dir}/own
         setpriv --reuid=54321 --regid=54321 --clear-groups ln -s {dir}/secret/made {dir}/own/log
         setpriv --reuid=54321 --regid=54321 --clear-groups ln -s {dir}/secret {dir}/own/logs
         ln -s {dir}/real {dir}/ours"
    ));
    for (path, is_followed) in [("own/log", false), ("own/logs/log", false), ("ours", true)] {
        let config = format!("[options]\nLogFile = {dir}/{path}\n{}", DOOR.replace("%DIR%", &dir));
        let conf = folder.path().join("conf");
        fs::write(&conf, format!("{}{config}", CONFIG.replace("%DIR%", &dir))).unwrap();
        let mut command = lab.server.command(binary("portknockd"));
        let mut daemon = portknock_tests::Process::spawn(command.args(["-v", "-i", "eth0", "-c"]).arg(&conf));
        daemon.wait_for("starting up");
        assert!(daemon.stop().success());
        let complaint = "belongs to user 54321; the daemon follows only links of root and of the user that it runs as";
        assert_eq!(daemon.output().contains(complaint), !is_followed, "{path}: {}", daemon.output());
        assert_eq!(fs::read_dir(folder.path().join("secret")).unwrap().count(), 0, "{path}");
    }
    assert!(fs::read_to_string(folder.path().join("real")).unwrap().contains("starting up"));
}

/// The numbers of the lines that count what was not logged, by what is counted, as in `stage 1`.
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
    lab.blast("--from 172.16.0.0 --sources 100000 --ports 7000 --rate 50000");
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000 9000");
    daemon.wait_for("10.0.0.2: ssh: OPEN SESAME");
    let stages = || daemon.count(": ssh: Stage 1");
    let timeouts = || daemon.count("sequence timeout");
    let all = || {
        let log = daemon.log();
        let known = not_logged(&log, "stage 1") + stages();
        (100_000..=100_001).contains(&known) && not_logged(&log, "timeouts") + timeouts() == 100_000
    };
    assert!(wait_until(PATIENCE, all), "{} stages, {} timeouts, {}", stages(), timeouts(), daemon.log());
    // Two seconds of each, and what may come at once.
    assert!(stages() < 1_500 && timeouts() < 1_500, "{} stages, {} timeouts", stages(), timeouts());
    for line in ["Stage 2", "Stage 3", "OPEN SESAME"] {
        assert_eq!(daemon.count(&format!("10.0.0.2: ssh: {line}")), 1, "{line}");
    }
    events.wait_for(r#""event":"suppressed","door":"ssh","first_stages":"#);
    let suppressed = not_logged(&daemon.log(), "stage 1") + not_logged(&daemon.log(), "timeouts");
    assert_eq!(daemon.status_json()["suppressed"], suppressed);
}
