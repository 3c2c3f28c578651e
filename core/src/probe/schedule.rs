//! The order and times of the probes, in passes through the ports that have not answered.
//!
//! A pass sends one probe to each port without an answer and then waits for the answers. The next
//! pass repeats the unanswered probes.
//!
//! The number of passes depends on the loss. Each answer to a repeated probe shows that the earlier
//! ones were lost. From the share of lost probes follows how many of the silent ports would
//! probably still answer.
//!
//! The schedule reads no clock and sends nothing.

use std::num::NonZeroU32;
use std::time::Duration;

use super::rate_control::RateControl;
use super::rtt::RoundTrip;
use super::state::{PortState, Reason};
use crate::packet::Protocol;
use crate::port_list::PortList;

/// Maximum number of tries per port, if no number is given.
const MAX_TRIES: u16 = 10;
/// Number of probes per pass that measure the loss by probing again a port that has answered.
const CHECKS_PER_PASS: u16 = 32;
/// Number of passes after the first that contain such checks.
const CHECKED_PASSES: u16 = 3;
/// Number of tries per port before the answers show the loss on the path.
const DEFAULT_TRIES: u16 = 4;
/// Number of silent ports above which [`CHECKS_PER_PASS`] probes are worthwhile to find out how
/// many tries the ports need.
const CHECK_THRESHOLD: usize = 1_000;
/// Expected number of ports wrongly taken for silent below which the passes end.
const MISSED_THRESHOLD: f64 = 0.001;
/// Share of lost probes above which the rate is halved.
const HEAVY_LOSS_THRESHOLD: f64 = 0.5;
/// Minimum duration of a pass if the host limits its ICMP errors. After an initial burst, Linux
/// sends one ICMP error per second to a peer, so a pass of this duration meets one.
const MIN_ICMP_LIMITED_PASS: Duration = Duration::from_millis(1_200);
/// Interval between probes to a host that limits its ICMP errors.
const ICMP_LIMITED_INTERVAL: Duration = Duration::from_millis(10);
/// Time after which a server retransmits a lost SYN/ACK. A SYN/ACK that arrives no sooner may be a
/// retransmission.
const SYN_ACK_RETRANSMISSION: Duration = Duration::from_secs(1);
/// Number of consecutive passes without an answer after which UDP ports that may be subject to a
/// limit of ICMP errors count as silent.
const QUIET_UDP_PASSES: u32 = 2;

/// The options of a schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) protocol: Protocol,
    /// See [`super::ProbePlan::timeout`].
    pub(super) timeout: Duration,
    /// See [`super::ProbePlan::retries`].
    pub(super) retries: Option<u8>,
    /// See [`super::ProbePlan::rate`].
    pub(super) rate: Option<NonZeroU32>,
    /// Seed for the random order of the ports.
    pub(super) seed: u64,
}

/// The next action of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send this probe now.
    Send(Probe),
    /// Send nothing until this time or the next answer.
    Wait(Duration),
    /// Every port has a result.
    Done,
}

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) port: u16,
    /// The number of the pass, from 0. From [`Schedule::tries`] on, the number of a check at a port
    /// that has already answered.
    pub(super) number: u16,
}

/// The result of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) state: PortState,
    pub(super) reason: Reason,
    pub(super) rtt: Option<Duration>,
}

/// The state of one port.
#[derive(Clone, Copy, Debug)]
struct Slot {
    port: u16,
    observation: Option<Observation>,
    /// Time at which its latest probe was sent.
    sent_at: Duration,
    /// This machine's firewall blocked its latest probe.
    blocked: bool,
}

/// The phase of a pass.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Sending,
    /// All probes of the pass are sent; their answers are outstanding.
    Waiting,
    Done,
}

/// The passes through the ports of one address. All times are relative to the start of the run.
#[derive(Debug)]
pub(super) struct Schedule {
    options: Options,
    slots: Vec<Slot>,
    /// The index of each port in `slots`.
    slot_of: Vec<u16>,
    known: usize,
    rate_control: RateControl,
    rtt: RoundTrip,
    phase: Phase,
    pass: Pass,
    path: Path,
    /// Time spent waiting for answers in the completed passes.
    waited: Duration,
    /// Number of consecutive passes without a new result.
    quiet_passes: u32,
    /// True after closed UDP ports answered only a few at a time.
    icmp_limited: bool,
}

/// The current pass.
#[derive(Debug)]
struct Pass {
    /// Its number, from 0.
    number: u16,
    /// The slots without a result when the pass began, in probing order.
    slots: Vec<u16>,
    /// Number of these slots that were handled.
    position: usize,
    /// Number of probes that left this machine, and the time of the last one.
    sent: usize,
    last_sent: Duration,
    /// Number of ports with a result when the pass began.
    known_before: usize,
    /// Number of planned checks, and the send time of each check that has no answer yet.
    checks: usize,
    checks_sent: Vec<Option<Duration>>,
}

/// Statistics about the path and the host, derived from the answers.
#[derive(Debug, Default)]
struct Path {
    /// The first ports that answered by their own protocol, as targets of the checks.
    responsive: Vec<u16>,
    /// Number of ports that answered by their own protocol.
    responsive_ports: u32,
    /// Number of tries that these ports answered, and that were lost.
    answered: u32,
    lost: u32,
    /// Number of ports with an ICMP error.
    errors: u32,
}

impl Path {
    /// Returns the share of lost tries: one in ten before any answer, as if five tries had been
    /// observed.
    fn loss(&self) -> f64 {
        (f64::from(self.lost) + 0.5) / (f64::from(self.lost + self.answered) + 5.0)
    }

    /// Returns the expected number of ports that would answer but are still silent after this many
    /// tries.
    fn missed(&self, tries: u16) -> f64 {
        let silent = self.loss().powi(tries.into());
        f64::from(self.responsive_ports) * silent / (1.0 - silent)
    }
}

/// Index of ports that are not probed.
const NO_SLOT: u16 = u16::MAX;

impl Schedule {
    pub(super) fn new(ports: &PortList, options: Options) -> Self {
        let mut slots: Vec<Slot> = ports
            .iter()
            .map(|port| Slot { port: port.get(), observation: None, sent_at: Duration::ZERO, blocked: false })
            .collect();
        fastrand::Rng::with_seed(options.seed).shuffle(&mut slots);
        let mut slot_of = vec![NO_SLOT; 1 << 16];
        let order: Vec<u16> = (0..NO_SLOT).take(slots.len()).collect();
        for (slot, &index) in slots.iter().zip(&order) {
            slot_of[usize::from(slot.port)] = index;
        }
        Self {
            rate_control: RateControl::new(options.rate),
            options,
            slots,
            slot_of,
            known: 0,
            rtt: RoundTrip::default(),
            phase: Phase::Sending,
            pass: Pass::new(0, order, 0),
            path: Path::default(),
            waited: Duration::ZERO,
            quiet_passes: 0,
            icmp_limited: false,
        }
    }

    /// Returns the maximum number of tries per port. Numbers from here on are those of checks.
    pub(super) fn tries(&self) -> u16 {
        self.options.retries.map_or(MAX_TRIES, |retries| u16::from(retries) + 1)
    }

    /// Returns the number of distinct numbers of tries and checks.
    pub(super) fn numbers(&self) -> u16 {
        self.tries() + if self.checks_path(self.slots.len()) { CHECKED_PASSES * CHECKS_PER_PASS } else { 0 }
    }

    /// Returns the next action. It is valid until the time it contains, or until the next answer.
    pub(super) fn poll(&mut self, now: Duration) -> Next {
        loop {
            match self.phase {
                Phase::Done => return Next::Done,
                _ if self.known == self.slots.len() => self.phase = Phase::Done,
                Phase::Sending => {
                    self.rate_control.judge(now, self.rtt.timeout().unwrap_or(self.unit()));
                    let Some(probe) = self.next_probe() else {
                        self.phase = Phase::Waiting;
                        continue;
                    };
                    if self.rate_control.next() > now {
                        return Next::Wait(self.rate_control.next());
                    }
                    self.send(probe, now);
                    return Next::Send(probe);
                }
                Phase::Waiting => {
                    let until = if self.pass.sent == 0 { now } else { self.pass.last_sent + self.wait() };
                    if now < until {
                        return Next::Wait(until);
                    }
                    self.end_pass();
                }
            }
        }
    }

    /// Records the state of a port that an answer to this probe shows.
    pub(super) fn record(&mut self, probe: Probe, state: PortState, reason: Reason, now: Duration) {
        let tries = self.tries();
        let Some(slot) = self.slots.get_mut(usize::from(self.slot_of[usize::from(probe.port)])) else { return };
        let by_port = matches!(reason, Reason::SynAck | Reason::Reset | Reason::UdpResponse);
        if probe.number >= tries && self.options.protocol == Protocol::Tcp {
            let check = probe.number.checked_sub(self.first_check()).map(usize::from);
            let check = check.and_then(|check| self.pass.checks_sent.get_mut(check));
            if let Some(sent_at) = check.filter(|_| by_port).and_then(Option::take) {
                self.count_answer(Some(now.saturating_sub(sent_at)));
            }
            return;
        }
        if let Some(observation) = &mut slot.observation {
            // An answer of the port itself takes precedence over an ICMP error, and open over
            // closed: a rule that resets connections may apply only to some of them.
            if rank(state) > rank(observation.state) {
                (observation.state, observation.reason) = (state, reason);
            }
            return;
        }
        let rtt = (probe.number == self.pass.number).then(|| now.saturating_sub(slot.sent_at));
        let certain = rtt.filter(|rtt| reason != Reason::SynAck || *rtt < SYN_ACK_RETRANSMISSION);
        slot.observation = Some(Observation { state, reason, rtt: certain });
        self.known += 1;
        let from_host = by_port || state == PortState::Closed;
        if let Some(rtt) = rtt.filter(|_| from_host) {
            self.rtt.sample(rtt);
            self.rate_control.answered(slot.sent_at);
        }
        if by_port {
            self.path.responsive_ports += 1;
            self.path.lost += u32::from(probe.number);
            self.count_answer(rtt);
            if self.path.responsive.len() < usize::from(CHECKS_PER_PASS) {
                self.path.responsive.push(probe.port);
            }
        } else {
            self.path.errors += 1;
        }
    }

    /// Counts an answered try, with its round-trip time if that is known. A late answer implies a
    /// lost one: a server retransmits its SYN/ACK after a second.
    fn count_answer(&mut self, rtt: Option<Duration>) {
        let is_late = rtt.zip(self.rtt.timeout()).is_some_and(|(rtt, timeout)| rtt > 2 * timeout);
        self.path.answered += 1;
        self.path.lost += u32::from(is_late);
    }

    /// Records that this machine's own firewall blocked the probe.
    pub(super) fn blocked(&mut self, probe: Probe) {
        if let Some(slot) = self.slots.get_mut(usize::from(self.slot_of[usize::from(probe.port)])) {
            slot.blocked = true;
            self.pass.sent = self.pass.sent.saturating_sub(1);
        }
    }

    /// Returns the results so far, in no particular order. After [`Next::Done`] every port has one.
    pub(super) fn results(&self) -> impl Iterator<Item = (u16, Observation)> + '_ {
        self.slots.iter().filter_map(|slot| slot.observation.map(|observation| (slot.port, observation)))
    }

    /// Returns the number of ports with a result.
    pub(super) fn known(&self) -> usize {
        self.known
    }

    /// Returns the approximate share of the work that is done, from 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "there are no more than 65,535 ports")]
    pub(super) fn done(&self) -> f32 {
        let (all, known) = (self.slots.len() as f32, self.known as f32);
        let passes = f32::from(self.planned_tries().max(self.pass.number + 2));
        let probed = self.pass.position as f32 / self.pass.slots.len().max(1) as f32;
        (known + (all - known) * (f32::from(self.pass.number) + probed) / passes) / all
    }

    /// Returns the next probe of this pass; `None` at its end.
    fn next_probe(&mut self) -> Option<Probe> {
        let pass = &mut self.pass;
        while let Some(&slot) = pass.slots.get(pass.position)
            && self.slots[usize::from(slot)].observation.is_some()
        {
            pass.position += 1;
        }
        let checks = pass.checks_sent.len();
        if checks < pass.checks && pass.position * pass.checks >= checks * pass.slots.len() {
            let port = self.path.responsive[checks % self.path.responsive.len()];
            let number = self.first_check() + u16::try_from(checks).unwrap_or(CHECKS_PER_PASS);
            return Some(Probe { port, number });
        }
        let slot = *pass.slots.get(pass.position)?;
        Some(Probe { port: self.slots[usize::from(slot)].port, number: pass.number })
    }

    /// Returns the number of this pass' first check. Each number is used only once, because it
    /// stands for a source port.
    fn first_check(&self) -> u16 {
        self.tries() + self.pass.number.saturating_sub(1) * CHECKS_PER_PASS
    }

    /// Records that this probe, the next one, is sent now.
    fn send(&mut self, probe: Probe, now: Duration) {
        if probe.number == self.pass.number {
            let slot = &mut self.slots[usize::from(self.pass.slots[self.pass.position])];
            (slot.sent_at, slot.blocked) = (now, false);
            self.pass.position += 1;
        } else {
            self.pass.checks_sent.push(Some(now));
        }
        self.pass.sent += 1;
        self.pass.last_sent = now;
        self.rate_control.sent(now, self.rtt.smoothed());
    }

    /// Ends the pass, and begins another one if the silent ports are worth it.
    fn end_pass(&mut self) {
        if self.pass.sent > 0 {
            self.waited += self.wait();
        }
        self.path.lost += self.pass.checks_sent.iter().map(|unanswered| u32::from(unanswered.is_some())).sum::<u32>();
        let has_new_results = self.known > self.pass.known_before;
        self.quiet_passes = if has_new_results { 0 } else { self.quiet_passes + 1 };
        let mut silent = std::mem::take(&mut self.pass.slots);
        silent.retain(|&slot| self.slots[usize::from(slot)].observation.is_none());
        if self.is_done_with(silent.len()) {
            self.give_up(&silent);
            return;
        }
        self.icmp_limited |= has_new_results && self.pass.number > 0 && self.meets_icmp_limits();
        let mut pass = Pass::new(self.pass.number.saturating_add(1), silent, self.known);
        self.rate_control.new_ports();
        if self.meets_icmp_limits() {
            let mut over = MIN_ICMP_LIMITED_PASS;
            if self.icmp_limited {
                over =
                    over.max(ICMP_LIMITED_INTERVAL.saturating_mul(u32::try_from(pass.slots.len()).unwrap_or(u32::MAX)));
            }
            self.rate_control.spread(pass.slots.len(), over);
        } else if self.path.answered + self.path.lost >= 10 && self.path.loss() > HEAVY_LOSS_THRESHOLD {
            self.rate_control.halve();
        }
        if pass.number <= CHECKED_PASSES && self.checks_path(pass.slots.len()) && !self.path.responsive.is_empty() {
            pass.checks = usize::from(CHECKS_PER_PASS);
        }
        self.pass = pass;
        self.phase = Phase::Sending;
    }

    /// Returns true if further tries at the silent ports are not worthwhile.
    fn is_done_with(&self, silent: usize) -> bool {
        let tries = self.pass.number + 1;
        if self.options.retries.is_some() {
            return tries >= self.tries();
        }
        if self.meets_icmp_limits() {
            return self.quiet_passes >= QUIET_UDP_PASSES;
        }
        if tries >= MAX_TRIES || self.waited >= self.options.timeout {
            return true;
        }
        if self.path.responsive_ports == 0 {
            return tries >= if silent > CHECK_THRESHOLD { 2 } else { DEFAULT_TRIES };
        }
        let nothing_lost = tries >= DEFAULT_TRIES && self.path.lost == 0;
        nothing_lost || tries >= 2 && self.path.missed(tries) < MISSED_THRESHOLD
    }

    /// Gives the silent ports their final state.
    fn give_up(&mut self, silent: &[u16]) {
        let state = match self.options.protocol {
            Protocol::Tcp => PortState::Filtered,
            Protocol::Udp => PortState::OpenFiltered,
        };
        for &slot in silent {
            let slot = &mut self.slots[usize::from(slot)];
            slot.observation = Some(if slot.blocked {
                Observation { state: PortState::Filtered, reason: Reason::PermDenied, rtt: None }
            } else {
                Observation { state, reason: Reason::NoResponse, rtt: None }
            });
        }
        self.known = self.slots.len();
        self.phase = Phase::Done;
    }

    /// Returns the time to wait for answers after the last probe of this pass.
    fn wait(&self) -> Duration {
        let planned = self.unit() * weight(self.pass.number, self.planned_tries());
        self.rtt.timeout().map_or(planned, |timeout| planned.min(timeout * (1 << self.quiet_passes.min(6))))
    }

    /// Returns the wait after the first pass if there is no round-trip time yet, such that the
    /// waits of all passes add up to the timeout.
    fn unit(&self) -> Duration {
        let tries = self.planned_tries();
        self.options.timeout / (0..tries).map(|number| weight(number, tries)).sum()
    }

    fn planned_tries(&self) -> u16 {
        self.options.retries.map_or(DEFAULT_TRIES, |retries| u16::from(retries) + 1)
    }

    /// Returns true if silent ports may be closed ones whose ICMP errors the host limits.
    fn meets_icmp_limits(&self) -> bool {
        self.options.protocol == Protocol::Udp && self.options.retries.is_none() && self.path.errors > 0
    }

    /// Returns true if the number of tries for this many silent ports depends on checks.
    fn checks_path(&self, silent: usize) -> bool {
        silent > CHECK_THRESHOLD && self.options.retries.is_none() && self.options.protocol == Protocol::Tcp
    }
}

impl Pass {
    fn new(number: u16, slots: Vec<u16>, known_before: usize) -> Self {
        Self {
            number,
            slots,
            position: 0,
            sent: 0,
            last_sent: Duration::ZERO,
            known_before,
            checks: 0,
            checks_sent: Vec::new(),
        }
    }
}

/// Returns the wait after a try in units. Each wait is twice the previous one, except the last.
fn weight(number: u16, tries: u16) -> u32 {
    1 << number.min(tries.saturating_sub(2)).min(6)
}

/// Returns the precedence of a state: of two observations, the one with the higher value counts.
fn rank(state: PortState) -> u8 {
    match state {
        PortState::Open => 2,
        PortState::Closed => 1,
        PortState::Filtered | PortState::OpenFiltered => 0,
    }
}
