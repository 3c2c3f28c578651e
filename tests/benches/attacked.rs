//! Honest knocks during an attack: portknockd compared with the original knockd and, if the attack
//! concerns it, with fwknopd.
//!
//! Run by `make bench`, which prints the figures as a table and writes them to
//! `target/bench/attacked.json`. Twenty honest knocks are sent during the attack, each from a
//! different address. A knock succeeds if its command has run within two seconds. An honest knock
//! for fwknopd is a packet of fwknop's own client.
//!
//! - `median ms` and `worst ms`: from the end of the knock to the command's effect, for the knocks
//!   that succeed.
//! - `memory MiB`: growth of the daemon's memory from before the attack to its end.
//! - `log MiB/s`: growth of the log file per second of the attack.
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
    command     = touch %DIR%/opened-%IP%
[leaked]
    sequence    = 5000,5100,5200
    seq_timeout = 25
    tcpflags    = syn
    command     = true
";
/// Access rules of fwknopd for an honest packet. The client has the keys on its command line.
const ACCESS: &str = "SOURCE ANY
KEY_BASE64 %KEY%
HMAC_KEY_BASE64 %HMAC%
CMD_CYCLE_OPEN touch %DIR%/opened-$SRC
CMD_CYCLE_CLOSE NONE
";
/// Keys of 32 and 64 bytes, as `fwknop --key-gen` makes them.
const KEYS: [(&str, &str); 2] = [
    ("%KEY%", "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="),
    ("%HMAC%", "aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaA=="),
];
const KNOCKS: u8 = 20;
/// Seconds after which a knock no longer counts as successful.
const LIMIT: Duration = Duration::from_secs(2);
/// Time from one honest knock to the next.
const BETWEEN_KNOCKS: Duration = Duration::from_millis(250);
/// Time for the daemon to start, and time of the attack before the first honest knock.
const SETTLING: Duration = Duration::from_secs(1);

const FIRST_KNOCKS: &str = "%PKTGEN% --from 172.16.0.0 --sources 1000000 --count 100000000 --ports 7000 --rate 100000";
const LEAKED: &str =
    "%PKTGEN% --from 172.16.0.0 --sources 200000 --count 100000000 --ports 5000,5100,5200 --rate 100000";
const DATAGRAMS: &str =
    "%PKTGEN% --udp --from 172.16.0.0 --sources 1000000 --count 100000000 --ports 62201 --rate 100000";
const SCAN: &str = "while :; do nmap -n -Pn -r -p 1-65535 -T5 --max-retries 0 --min-rate 50000 10.0.0.1; done";

fn main() {
    for tool in ["nmap", "knockd", "fwknopd", "fwknop", "iptables"] {
        require(tool);
    }
    let mut table = Table::new("attacked", &["in of 20", "median ms", "worst ms", "memory MiB", "log MiB/s"]);
    for (what, attack, sink) in [
        ("no attack", "sleep 3600", Sink::File),
        ("first knocks of spoofed sources, 100,000/s", FIRST_KNOCKS, Sink::File),
        ("a scan of all ports again and again", SCAN, Sink::File),
        ("complete sequences of another door from spoofed sources, 100,000 packets/s", LEAKED, Sink::File),
        ("first knocks, standard output without a reader", FIRST_KNOCKS, Sink::UnreadPipe),
        ("first knocks, a syslog without a reader", FIRST_KNOCKS, Sink::UnreadSyslog),
    ] {
        for program in [Program::Portknockd, Program::Knockd] {
            table.row(what, program.name(), &Target::start(program, sink).attacked(attack));
        }
        // For fwknopd a datagram at its port corresponds to a first knock. fwknopd logs to syslog
        // only.
        let attack = match (attack, sink) {
            (FIRST_KNOCKS, Sink::File | Sink::UnreadSyslog) => DATAGRAMS,
            (attack, Sink::File) if attack != LEAKED => attack,
            _ => continue,
        };
        table.row(what, "fwknopd", &Target::start(Program::Fwknopd, sink).attacked(attack));
    }
    table.save();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Portknockd,
    Knockd,
    Fwknopd,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Portknockd => "portknockd",
            Self::Knockd => "knockd",
            Self::Fwknopd => "fwknopd",
        }
    }

    fn path(self) -> PathBuf {
        if self == Self::Portknockd { binary("portknockd") } else { PathBuf::from(self.name()) }
    }
}

/// The file that the daemon logs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    File,
    UnreadPipe,
    UnreadSyslog,
}

/// The daemon under attack.
struct Target {
    program: Program,
    lab: Lab,
    directory: TempDir,
    daemon: Child,
    /// The socket that syslog clients connect to.
    _syslog: UnixDatagram,
}

impl Target {
    fn start(program: Program, sink: Sink) -> Self {
        let lab = Lab::pair();
        lab.ignore_at_the_server();
        for knock in 1..=KNOCKS {
            lab.client.add_address("eth0", &format!("{}/24", address(knock)));
        }
        let directory = TempDir::new().expect("a temporary directory");
        let dir = directory.path().to_str().expect("a plain name").to_owned();
        let syslog = UnixDatagram::bind(directory.path().join("syslog")).expect("a socket");
        let own =
            if program == Program::Portknockd { "StateFile = %DIR%/openings\nControlSocket = none\n" } else { "" };
        let (option, arguments) = match sink {
            Sink::File => ("LogFile = %DIR%/log\n", ""),
            Sink::UnreadPipe => ("", "-v"),
            Sink::UnreadSyslog => ("UseSyslog\n", ""),
        };
        let file = |name: &str, text: &str| {
            let text = KEYS.iter().fold(text.replace("%DIR%", &dir), |text, (name, key)| text.replace(name, key));
            fs::write(directory.path().join(name), text).expect("a test directory");
        };
        let arguments = if program == Program::Fwknopd {
            file("conf", "PCAP_INTF eth0;\nENABLE_PCAP_PROMISC N;\n");
            file("access", ACCESS);
            format!("-f -a {dir}/access -r {dir} -p {dir}/pid -d {dir}/digests")
        } else {
            file("conf", &format!("[options]\n{own}{option}{DOORS}"));
            arguments.to_owned()
        };
        let script = format!(
            "set -e; mkdir {dir}/dev; touch {dir}/dev/null; mount --bind /dev/null {dir}/dev/null
             ln -s {dir}/syslog {dir}/dev/log; mount --rbind {dir}/dev /dev
             exec {} -i eth0 -c {dir}/conf {arguments}",
            program.path().display()
        );
        let mut command = lab.server.command("sh");
        let command = command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let daemon = command.stderr(Stdio::null()).spawn().expect("sh can be started");
        sleep(SETTLING);
        Self { program, lab, directory, daemon, _syslog: syslog }
    }

    /// The figures of a row.
    fn attacked(mut self, attack: &str) -> [Option<f64>; 5] {
        let memory = cost::resident_mib(self.daemon.id());
        let log = self.log_bytes();
        let pktgen = format!("{} --interface eth0", binary("pktgen").display());
        let mut attacker = self.lab.client.command("sh");
        // In a separate process group, so that the programs that the script starts end with it.
        attacker.args(["-c", &attack.replace("%PKTGEN%", &pktgen)]).stdout(Stdio::null()).process_group(0);
        let mut attacker = attacker.spawn().expect("sh can be started");
        let begin = Instant::now();
        sleep(SETTLING);
        let latencies: Vec<f64> = (1..=KNOCKS).filter_map(|knock| self.knock(knock)).collect();
        let took = begin.elapsed().as_secs_f64();
        let grown = cost::resident_mib(self.daemon.id()) - memory;
        let logged = (self.log_bytes() - log) as f64 / (1024.0 * 1024.0) / took;
        end_group(&mut attacker);
        self.daemon.kill().expect("the child process");
        self.daemon.wait().expect("the child process");
        let is_in = Some(latencies.len() as f64);
        [is_in, percentile(&latencies, 50), percentile(&latencies, 100), Some(grown), Some(logged)]
    }

    /// Milliseconds from the end of an honest knock to its effect; `None` if there is no effect in
    /// time.
    fn knock(&self, knock: u8) -> Option<f64> {
        let begin = Instant::now();
        let address = address(knock);
        if self.program == Program::Fwknopd {
            let [(_, key), (_, hmac)] = KEYS;
            self.lab.client.ok(&format!(
                "fwknop -A tcp/22 -a {address} -D 10.0.0.1 --no-rc-file --use-hmac --key-base64-rijndael {key} \
                 --key-base64-hmac {hmac}"
            ));
        } else {
            self.lab.knock_from(&address, "10.0.0.1", "7000 8000 9000");
        }
        let knocked = Instant::now();
        let path = self.directory.path().join(format!("opened-{address}"));
        let is_open = wait_until(LIMIT, || path.exists());
        let latency = knocked.elapsed();
        sleep(BETWEEN_KNOCKS.saturating_sub(begin.elapsed()));
        is_open.then_some(latency.as_secs_f64() * 1e3)
    }

    fn log_bytes(&self) -> u64 {
        fs::metadata(self.directory.path().join("log")).map_or(0, |meta| meta.len())
    }
}

/// The source address of an honest knock.
fn address(knock: u8) -> String {
    format!("10.0.0.{}", 100 + knock)
}

/// Kills a process that leads its group, and all others in the group.
fn end_group(leader: &mut Child) {
    let killed = Command::new("kill").arg("--").arg(format!("-{}", leader.id())).status();
    assert!(killed.is_ok_and(|status| status.success()), "the attack continues");
    leader.wait().expect("the child process");
}
