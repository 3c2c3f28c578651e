//! A scenario, and how it is run.

use std::thread::sleep;
use std::time::Duration;

use super::plain;
use crate::both::{lines, openings, trace};
use crate::{Both, Daemon, Lab, WAIT_TIMEOUT, binary, wait_until};

/// The result of portknock, compared with the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected<T> {
    /// The same result as the original.
    Same,
    /// A deliberately different result.
    Differs {
        /// The result of portknock.
        ours: T,
        /// The reason, as in `docs/knockd-compat.md`.
        why: &'static str,
    },
}

/// An action that affects both daemons.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// One hand-made SYN from the client to each port.
    Segments(&'static [u16]),
    /// The program `pktgen` with these arguments.
    Pktgen(&'static str),
    /// The original client with these arguments.
    Knock(&'static str),
    /// Our client with these arguments.
    OurKnock(&'static str),
    /// A shell script on the client.
    Client(&'static str),
    /// A shell script on the server.
    Server(&'static str),
    /// A pause in milliseconds in which nothing is sent.
    Pause(u64),
    /// Waits until a second of the clock has just begun.
    Second,
    /// Waits until both daemons have processed all earlier packets.
    Fence,
    /// Each daemon reads this configuration.
    Reload(&'static str),
}

/// The compared result.
#[derive(Clone, Copy, Debug)]
enum Watched {
    /// The doors that opened and their addresses, in order. If both are expected to agree, each
    /// stage too.
    Openings,
    /// The lines of the log with this text, without their timestamps.
    Log(&'static str),
    /// The lines of a file in the daemon's directory, as commands write them.
    File(&'static str),
    /// `runs` or `has ended`.
    Life,
}

/// One row of the table: a configuration, the actions, and the result of each daemon.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The name of the scenario, as in `a_plain_sequence`.
    pub name: &'static str,
    /// The result of portknockd.
    pub expected: Expected<Vec<&'static str>>,
    knockd: Vec<&'static str>,
    config: String,
    args: &'static [&'static str],
    files: &'static [(&'static str, &'static str)],
    before: &'static str,
    acts: Vec<Act>,
    watched: Watched,
}

impl Scenario {
    /// Both have the same result.
    pub(super) fn same(name: &'static str, config: impl Into<String>, acts: &[Act], outcome: &[&'static str]) -> Self {
        Self {
            name,
            expected: Expected::Same,
            knockd: outcome.to_vec(),
            config: config.into(),
            args: &["-i", "eth0"],
            files: &[],
            before: "",
            acts: acts.to_vec(),
            watched: Watched::Openings,
        }
    }

    /// The previous result is knockd's; portknockd has this one, for this reason.
    pub(super) fn differs(self, ours: &[&'static str], why: &'static str) -> Self {
        Self { expected: Expected::Differs { ours: ours.to_vec(), why }, ..self }
    }

    /// Both run with these arguments instead of `-i eth0`.
    pub(super) fn with_args(self, args: &'static [&'static str]) -> Self {
        Self { args, ..self }
    }

    /// Both get these files, each a name and a text, in their directories.
    pub(super) fn with_files(self, files: &'static [(&'static str, &'static str)]) -> Self {
        Self { files, ..self }
    }

    /// This shell script runs on the server before the daemons start.
    pub(super) fn prepared_by(self, before: &'static str) -> Self {
        Self { before, ..self }
    }

    /// The result is the lines of the log with this text.
    pub(super) fn watching_log(self, text: &'static str) -> Self {
        Self { watched: Watched::Log(text), ..self }
    }

    /// The result is the lines of this file in the daemon's directory.
    pub(super) fn watching_file(self, name: &'static str) -> Self {
        Self { watched: Watched::File(name), ..self }
    }

    /// The result is whether the daemon runs.
    pub(super) fn watching_life(self) -> Self {
        Self { watched: Watched::Life, ..self }
    }

    /// The error in the row itself, if there is one.
    pub fn fault(&self) -> Option<String> {
        match &self.expected {
            Expected::Differs { ours, .. } if *ours == self.knockd => {
                Some(format!("{}: a difference that is none", self.name))
            }
            _ => None,
        }
    }

    /// Runs the scenario. Panics if one of the daemons does not have the result of the table.
    pub fn run(&self) {
        let lab = Lab::pair();
        lab.server.ok(self.before);
        let (mut both, started) = Both::attempt(lab, &self.config, self.args, self.files);
        for act in &self.acts {
            act.run(&both);
        }
        let theirs = self.outcome(&mut both, started, 1, &self.knockd);
        let ours = match &self.expected {
            Expected::Same => self.outcome(&mut both, started, 0, &self.knockd),
            Expected::Differs { ours, .. } => self.outcome(&mut both, started, 0, ours),
        };
        let report =
            |name: &str, daemon: &Daemon| format!("{}: {name}:\n{}{}", self.name, daemon.log(), daemon.output());
        assert_eq!(theirs, self.knockd, "{}", report("knockd", &both.theirs));
        match &self.expected {
            Expected::Differs { ours: expected, why } => {
                assert_eq!(&ours, expected, "(it differs because: {why}) {}", report("portknockd", &both.ours));
            }
            Expected::Same => {
                assert_eq!(ours, self.knockd, "{}", report("portknockd", &both.ours));
                if matches!(self.watched, Watched::Openings) && started == [true, true] {
                    assert_eq!(trace(&both.ours), trace(&both.theirs), "{}: portknockd and knockd", self.name);
                }
            }
        }
    }

    /// The result of one of the two daemons, after waiting for the expected result.
    fn outcome(&self, both: &mut Both, started: [bool; 2], which: usize, expected: &[&str]) -> Vec<String> {
        if !started[which] {
            let mut refusal = refusal(both.daemons()[which]);
            // The original has no codes.
            if self.expected == Expected::Same {
                refusal.truncate(1);
            }
            return refusal;
        }
        if !matches!(self.watched, Watched::Life) {
            both.fence_at(&[both.daemons()[which]]);
        }
        let mut outcome = Vec::new();
        wait_until(WAIT_TIMEOUT, || {
            let daemon = both.daemons()[which];
            outcome = match self.watched {
                Watched::Openings => openings(&trace(daemon)).into_iter().map(str::to_string).collect(),
                Watched::Log(text) => lines(daemon, |line| line.contains(text)),
                Watched::File(name) => daemon.read(name).lines().map(str::to_string).collect(),
                Watched::Life => {
                    let daemon = if which == 0 { &mut both.ours } else { &mut both.theirs };
                    let has_ended = daemon.exit_within(Duration::ZERO).is_some();
                    vec![if has_ended { "has ended" } else { "runs" }.to_string()]
                }
            };
            outcome == expected
        });
        outcome
    }
}

/// The refusal to start, with the codes of the errors if there are any.
fn refusal(daemon: &Daemon) -> Vec<String> {
    let output = daemon.output();
    let codes =
        output.split("error[").skip(1).filter_map(|rest| rest.split_once(']')).map(|(code, _)| code.to_string());
    std::iter::once("refuses to start".to_string()).chain(codes).collect()
}

impl Act {
    fn run(self, both: &Both) {
        match self {
            Self::Segments(ports) => both.segments(ports),
            Self::Pktgen(args) => both.pktgen(args),
            Self::Knock(args) => both.knock(args),
            Self::OurKnock(args) => drop(both.lab.client.ok(&format!("{} {args}", binary("knock").display()))),
            Self::Client(script) => drop(both.lab.client.ok(script)),
            Self::Server(script) => drop(both.lab.server.ok(script)),
            Self::Pause(millis) => sleep(Duration::from_millis(millis)),
            Self::Second => Both::second_begins(),
            Self::Fence => both.fence(),
            Self::Reload(config) => reload(both, config),
        }
    }
}

/// Lets both read this configuration, or the present one if it is empty.
fn reload(both: &Both, config: &str) {
    let config = if config.is_empty() { plain() } else { config.to_string() };
    for daemon in both.daemons() {
        daemon.rewrite(&format!("{config}{}", Both::FENCE));
        daemon.signal("HUP");
    }
    both.ours.wait_for("reloaded");
    both.theirs.wait_for("re-reading config file: ");
    // knockd does not log the end of its reload.
    sleep(Duration::from_millis(500));
}
