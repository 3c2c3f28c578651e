//! portknockd and the original knockd side by side, on the same server and the same packets.

use std::cell::Cell;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Daemon, Lab, WAIT_TIMEOUT, binary, require};

/// Both daemons on the server of a lab.
#[derive(Debug)]
pub struct Both {
    /// The client knocks; the daemons run on the server.
    pub lab: Lab,
    /// portknockd.
    pub ours: Daemon,
    /// The original.
    pub theirs: Daemon,
    fences: Cell<usize>,
}

impl Both {
    /// A separate door that shows how far both daemons have come. It is part of every
    /// configuration.
    pub const FENCE: &str = "\n[fence]\n    sequence = 65001:udp\n";

    /// A configuration with a plain door.
    pub const DOOR: &str = "
[door]
    sequence    = 7000,8000,9000
    seq_timeout = 10
    tcpflags    = syn
    command     = true
";

    /// The opening that [`Both::agree`] expects when that door opens for the client.
    pub const OPENED: &str = "10.0.0.2: door";

    /// Starts both in a new lab, on `eth0`. For `%DIR%` in the configuration see
    /// [`Daemon::portknockd`].
    pub fn with(config: &str) -> Self {
        Self::with_args(Lab::pair(), config, &["-i", "eth0"])
    }

    /// Starts both with these arguments instead of `-i eth0`.
    pub fn with_args(lab: Lab, config: &str, args: &[&str]) -> Self {
        Self::with_configs(lab, [config, config], args)
    }

    /// Starts each with a separate configuration: portknockd's, then knockd's.
    pub fn with_configs(lab: Lab, configs: [&str; 2], args: &[&str]) -> Self {
        let [ours, theirs] = configs.map(|config| format!("{config}{}", Self::FENCE));
        let ours = Daemon::portknockd_with(&lab.server, &ours, args);
        let theirs = Daemon::knockd_with(&lab.server, &theirs, args);
        Self { lab, ours, theirs, fences: Cell::new(0) }
    }

    /// Starts both, each of which may refuse to start. Returns which of them have started. For the
    /// files see [`Daemon::attempt`].
    pub fn attempt(lab: Lab, config: &str, args: &[&str], files: &[(&str, &str)]) -> (Self, [bool; 2]) {
        require("knockd");
        let config = format!("{config}{}", Self::FENCE);
        let start = |original| Daemon::attempt(&lab.server, &config, args, files, original);
        let [(ours, ours_started), (theirs, theirs_started)] = [start(false), start(true)];
        (Self { lab, ours, theirs, fences: Cell::new(0) }, [ours_started, theirs_started])
    }

    /// Both daemons: portknockd, then knockd.
    pub fn daemons(&self) -> [&Daemon; 2] {
        [&self.ours, &self.theirs]
    }

    /// The original client knocks.
    pub fn knock(&self, args: &str) {
        self.lab.client.ok(&format!("knock {args}"));
    }

    /// Sends hand-made packets from the client, each a distinct segment, at most 200 a second; see
    /// the program `pktgen`.
    pub fn pktgen(&self, args: &str) {
        self.lab.client.ok(&format!("{} --interface eth0 --rate 200 {args}", binary("pktgen").display()));
    }

    /// Sends one hand-made segment to each of the ports, none a retransmission of another.
    pub fn segments(&self, ports: &[u16]) {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        self.pktgen(&format!("--ports {}", ports.join(",")));
    }

    /// Waits until a second of the clock has just begun, because knockd counts whole seconds.
    pub fn second_begins() {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        sleep(Duration::from_nanos(1_000_000_000 - u64::from(since.subsec_nanos())) + Duration::from_millis(20));
    }

    /// Waits until both have processed every packet that was sent before, by a knock at a separate
    /// door from a separate address. The knock would end an attempt of that address; attempts of
    /// other addresses continue.
    pub fn fence(&self) {
        self.fence_at(&self.daemons());
    }

    /// The same for these daemons only, if the other one does not run.
    pub fn fence_at(&self, daemons: &[&Daemon]) {
        self.fences.set(self.fences.get() + 1);
        self.lab.client.ok(&format!(
            "{} --interface eth0 --from 10.0.0.250 --udp --ports 65001 > /dev/null",
            binary("pktgen").display()
        ));
        for daemon in daemons {
            daemon.wait_for_count("10.0.0.250: fence: OPEN SESAME", self.fences.get(), WAIT_TIMEOUT);
        }
    }

    /// Asserts that both opened these doors for these addresses in this order (as in
    /// `10.0.0.2: door`), and that both went through the same stages.
    pub fn agree(&self, opened: &[&str]) {
        self.fence();
        let [ours, theirs] = self.daemons().map(trace);
        assert_eq!(openings(&theirs), opened, "knockd:\n{}", self.theirs.log());
        assert_eq!(ours, theirs, "portknockd and knockd");
    }

    /// Waits until both logs have `count` lines with `text`.
    pub fn wait_for_count(&self, text: &str, count: usize) {
        for daemon in self.daemons() {
            daemon.wait_for_count(text, count, WAIT_TIMEOUT);
        }
    }
}

/// Every stage and every opening in the daemon's log, in order.
pub(crate) fn trace(daemon: &Daemon) -> Vec<String> {
    lines(daemon, |text| text.contains(": Stage ") || text.ends_with(": OPEN SESAME"))
}

/// The texts of the log lines for which `wanted` holds, without timestamps, and without the lines
/// of the fence.
pub(crate) fn lines(daemon: &Daemon, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let log = daemon.log();
    let texts = log.lines().filter_map(|line| line.split_once("] ")).map(|(_, text)| text);
    texts.filter(|text| !text.contains(": fence: ") && wanted(text)).map(str::to_string).collect()
}

pub(crate) fn openings(trace: &[String]) -> Vec<&str> {
    trace.iter().filter_map(|line| line.strip_suffix(": OPEN SESAME")).collect()
}
