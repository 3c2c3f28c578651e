//! What an attack leaves of honest knocks: portknockd beside the original knockd.
//!
//! Run by `make bench`, which prints this as a table and writes it to `target/bench/attacked.json`. While the attack goes on, twenty
//! honest knocks come, each from an address of its own. A knock is in if its command has run within two seconds.
//!
//! - `median ms` and `worst ms`: from the end of the knock to the command's effect, for the knocks that are in.
//! - `memory MiB`: how much more the daemon has in memory at the end of the attack than before it.
//! - `log MiB/s`: what the log file gains in a second of the attack.
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use portknock_tests::{Lab, Table, binary, cost, percentile, require, wait_until};
use tempfile::TempDir;

const DOORS: &str = "
[honest]
    sequence    = 7000,8000,9000
    seq_timeout = 25
    tcpflags    = syn
    command     = echo %IP% >> %DIR%/opened
[leaked]
    sequence    = 5000,5100,5200
    seq_timeout = 25
    tcpflags    = syn
    command     = true
";
const KNOCKS: u8 = 20;
/// A knock that opens later does not count.
const LIMIT: Duration = Duration::from_secs(2);
/// Time from one honest knock to the next.
const BETWEEN_KNOCKS: Duration = Duration::from_millis(250);
/// How long the daemon has to start, and how long the attack goes on before the first honest knock.
const SETTLING: Duration = Duration::from_secs(1);

const FIRST_KNOCKS: &str = "%BLAST% --from 172.16.0.0 --sources 1000000 --count 100000000 --ports 7000 --rate 100000";
const LEAKED: &str =
    "%BLAST% --from 172.16.0.0 --sources 200000 --count 100000000 --ports 5000,5100,5200 --rate 100000";
const SCAN: &str = "while :; do nmap -n -Pn -r -p 1-65535 -T5 --max-retries 0 --min-rate 50000 10.0.0.1; done";

fn main() {
    for tool in ["nmap", "knockd", "iptables"] {
        require(tool);
    }
    let mut table = Table::new("attacked", &["in of 20", "median ms", "worst ms", "memory MiB", "log MiB/s"]);
    for (what, attack, sink) in [
        ("no attack", "sleep 3600", Sink::File),
        ("first knocks of forged sources, 100,000/s", FIRST_KNOCKS, Sink::File),
        ("a scan of all ports again and again", SCAN, Sink::File),
        ("forged whole sequences of another door, 100,000 packets/s", LEAKED, Sink::File),
        ("first knocks, standard output that nobody reads", FIRST_KNOCKS, Sink::UnreadPipe),
        ("first knocks, a syslog that nobody reads", FIRST_KNOCKS, Sink::UnreadSyslog),
    ] {
        for is_ours in [true, false] {
            let who = if is_ours { "portknockd" } else { "knockd" };
            table.row(what, who, &Target::start(is_ours, sink).attacked(attack));
        }
    }
    table.save();
}

/// Where the daemon logs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    File,
    UnreadPipe,
    UnreadSyslog,
}

/// The daemon under attack.
struct Target {
    lab: Lab,
    folder: TempDir,
    daemon: Child,
    /// What syslog connects to.
    _syslog: UnixDatagram,
}

impl Target {
    fn start(is_ours: bool, sink: Sink) -> Self {
        let lab = Lab::pair();
        lab.ignore_at_the_server();
        for knock in 1..=KNOCKS {
            lab.client.add_address("eth0", &format!("{}/24", address(knock)));
        }
        let folder = TempDir::new().expect("a temporary folder");
        let dir = folder.path().to_str().expect("a plain name").to_owned();
        let syslog = UnixDatagram::bind(folder.path().join("syslog")).expect("a socket");
        let own = if is_ours { "StateFile = %DIR%/openings\nControlSocket = none\n" } else { "" };
        let (option, arguments) = match sink {
            Sink::File => ("LogFile = %DIR%/log\n", ""),
            Sink::UnreadPipe => ("", "-v"),
            Sink::UnreadSyslog => ("UseSyslog\n", ""),
        };
        let config = format!("[options]\n{own}{option}{DOORS}").replace("%DIR%", &dir);
        fs::write(folder.path().join("conf"), config).expect("a folder of ours");
        let program = if is_ours { binary("portknockd") } else { PathBuf::from("knockd") };
        let script = format!(
            "set -e; mkdir {dir}/dev; touch {dir}/dev/null; mount --bind /dev/null {dir}/dev/null
             ln -s {dir}/syslog {dir}/dev/log; mount --rbind {dir}/dev /dev
             exec {} -i eth0 -c {dir}/conf {arguments}",
            program.display()
        );
        let mut command = lab.server.command("sh");
        let command = command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let daemon = command.stderr(Stdio::null()).spawn().expect("sh can be started");
        sleep(SETTLING);
        Self { lab, folder, daemon, _syslog: syslog }
    }

    /// The figures of a row.
    fn attacked(mut self, attack: &str) -> [Option<f64>; 5] {
        let memory = cost::resident_mib(self.daemon.id());
        let log = self.log_bytes();
        let blast = format!("{} --interface eth0", binary("blast").display());
        let mut attacker = self.lab.client.command("sh");
        // In a process group of its own, so that what the script starts ends with it.
        attacker.args(["-c", &attack.replace("%BLAST%", &blast)]).stdout(Stdio::null()).process_group(0);
        let mut attacker = attacker.spawn().expect("sh can be started");
        let begin = Instant::now();
        sleep(SETTLING);
        let latencies: Vec<f64> = (1..=KNOCKS).filter_map(|knock| self.knock(knock)).collect();
        let took = begin.elapsed().as_secs_f64();
        let grown = cost::resident_mib(self.daemon.id()) - memory;
        let logged = (self.log_bytes() - log) as f64 / (1024.0 * 1024.0) / took;
        end_group(&mut attacker);
        self.daemon.kill().expect("a child of ours");
        self.daemon.wait().expect("a child of ours");
        let is_in = Some(latencies.len() as f64);
        [is_in, percentile(&latencies, 50), percentile(&latencies, 100), Some(grown), Some(logged)]
    }

    /// Milliseconds from the end of an honest knock to its effect; `None` if that does not come in time.
    fn knock(&self, knock: u8) -> Option<f64> {
        let begin = Instant::now();
        let address = address(knock);
        self.lab.knock_from(&address, "10.0.0.1", "7000 8000 9000");
        let knocked = Instant::now();
        let path = self.folder.path().join("opened");
        let is_in = || fs::read_to_string(&path).is_ok_and(|text| text.lines().any(|line| line == address));
        let is_open = wait_until(LIMIT, is_in);
        let latency = knocked.elapsed();
        sleep(BETWEEN_KNOCKS.saturating_sub(begin.elapsed()));
        is_open.then_some(latency.as_secs_f64() * 1e3)
    }

    fn log_bytes(&self) -> u64 {
        fs::metadata(self.folder.path().join("log")).map_or(0, |meta| meta.len())
    }
}

/// The address of an honest knock.
fn address(knock: u8) -> String {
    format!("10.0.0.{}", 100 + knock)
}

/// Ends a process that leads its group, and all others in it.
fn end_group(leader: &mut Child) {
    let killed = Command::new("kill").arg("--").arg(format!("-{}", leader.id())).status();
    assert!(killed.is_ok_and(|status| status.success()), "the attack goes on");
    leader.wait().expect("a child of ours");
}
