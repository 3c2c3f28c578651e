//! Which port is probed when: in passes over the ports that have not answered.
//!
//! A pass sends one probe to each port without an answer and then waits for the answers. The next pass repeats what
//! nothing came back from. How many passes there are depends on what gets lost: each answer to a later try tells of the
//! tries that were lost before it, so that the share of lost tries is known, and with it how many ports that would
//! answer are still among the silent ones. It reads no clock and sends nothing.

use std::num::NonZeroU32;
use std::time::Duration;

use super::pace::Pace;
use super::rtt::RoundTrip;
use super::state::{PortState, Reason};
use crate::packet::Protocol;
use crate::port_list::PortList;

/// The most tries, where their number is not given.
const MAX_TRIES: u16 = 10;
/// So many probes a pass check on the path by asking again a port that has answered.
const CHECKS: u16 = 32;
/// The passes behind the first one that do.
const CHECKED_PASSES: u16 = 3;
/// The tries that a port gets when nothing is known about the path.
const USUAL_TRIES: u16 = 4;
/// More silent ports than these are worth [`CHECKS`] to learn how many tries they need.
const MANY: usize = 1_000;
/// Passes go on until fewer ports than this are likely to be taken for silent by accident.
const MISSED: f64 = 0.001;
/// A path that loses more than this is given less to carry.
const HEAVY_LOSS: f64 = 0.5;
/// Linux sends one ICMP error a second to a peer, when a first few are used up. A pass of this duration meets one.
const ICMP_INTERVAL: Duration = Duration::from_millis(1_200);
/// The time for each probe to a host that limits its ICMP errors.
const ICMP_LIMITED_PAUSE: Duration = Duration::from_millis(10);
/// A server repeats a SYN/ACK that got lost after so long. One that comes no sooner may be that.
const SYN_ACK_REPETITION: Duration = Duration::from_secs(1);
/// UDP ports that may have met the limit have been asked again in so many passes without one answer.
const QUIET_UDP_PASSES: u32 = 2;

/// How the passes are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) protocol: Protocol,
    /// See [`super::ProbePlan::timeout`].
    pub(super) timeout: Duration,
    /// See [`super::ProbePlan::retries`].
    pub(super) retries: Option<u8>,
    /// See [`super::ProbePlan::rate`].
    pub(super) rate: Option<NonZeroU32>,
    /// Puts the ports in order.
    pub(super) seed: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send this probe now.
    Send(Try),
    /// Nothing until this time, or an answer.
    Wait(Duration),
    /// All is known.
    Done,
}

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Try {
    pub(super) port: u16,
    /// The number of the pass, from 0; from [`Schedule::tries`] on, a check on the path at a port that has answered.
    pub(super) number: u16,
}

/// What is known of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) state: PortState,
    pub(super) reason: Reason,
    pub(super) rtt: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    port: u16,
    found: Option<Found>,
    /// When its latest probe was sent.
    sent_at: Duration,
    /// Its latest probe did not get past this machine's firewall.
    denied: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Sending,
    /// For answers to the last probes.
    Waiting,
    Done,
}

/// The passes over the ports of one address. All times are counted from one start.
#[derive(Debug)]
pub(super) struct Schedule {
    options: Options,
    slots: Vec<Slot>,
    /// The place of a port in `slots`.
    slot_of: Vec<u16>,
    known: usize,
    pace: Pace,
    rtt: RoundTrip,
    phase: Phase,
    pass: Pass,
    path: Path,
    /// How long it has waited for answers in the passes that are over.
    waited: Duration,
    /// So many passes in a row have brought nothing.
    quiet: u32,
    /// Closed UDP ports answer a few at a time.
    icmp_limited: bool,
}

/// The pass under way.
#[derive(Debug)]
struct Pass {
    /// Its number, from 0.
    number: u16,
    /// The slots without an answer when it began, in the order in which they are probed.
    slots: Vec<u16>,
    /// How many of them have been.
    position: usize,
    /// How many probes left this machine, and when the last one did.
    sent: usize,
    last_sent: Duration,
    /// How many ports were known when it began.
    known_before: usize,
    /// How many checks on the path are planned, and when each was sent, as long as it has no answer.
    checks: usize,
    checks_sent: Vec<Option<Duration>>,
}

/// What is known about the path and the host.
#[derive(Debug, Default)]
struct Path {
    /// The first ports that answered by their own protocol, for checks.
    responsive: Vec<u16>,
    /// How many did.
    responsive_ports: u32,
    /// The tries that they answered, and those that they did not.
    answered: u32,
    lost: u32,
    /// How many ports an ICMP error told of.
    errors: u32,
}

impl Path {
    /// The share of tries that get lost; one in ten where nothing is known, as if five had been seen.
    fn loss(&self) -> f64 {
        (f64::from(self.lost) + 0.5) / (f64::from(self.lost + self.answered) + 5.0)
    }

    /// How many ports that would answer are likely to be still silent after so many tries.
    fn missed(&self, tries: u16) -> f64 {
        let silent = self.loss().powi(tries.into());
        f64::from(self.responsive_ports) * silent / (1.0 - silent)
    }
}

const NO_SLOT: u16 = u16::MAX;

impl Schedule {
    pub(super) fn new(ports: &PortList, options: Options) -> Self {
        let mut slots: Vec<Slot> = ports
            .iter()
            .map(|port| Slot { port: port.get(), found: None, sent_at: Duration::ZERO, denied: false })
            .collect();
        fastrand::Rng::with_seed(options.seed).shuffle(&mut slots);
        let mut slot_of = vec![NO_SLOT; 1 << 16];
        let order: Vec<u16> = (0..NO_SLOT).take(slots.len()).collect();
        for (slot, &index) in slots.iter().zip(&order) {
            slot_of[usize::from(slot.port)] = index;
        }
        Self {
            pace: Pace::new(options.rate),
            options,
            slots,
            slot_of,
            known: 0,
            rtt: RoundTrip::default(),
            phase: Phase::Sending,
            pass: Pass::new(0, order, 0),
            path: Path::default(),
            waited: Duration::ZERO,
            quiet: 0,
            icmp_limited: false,
        }
    }

    /// The most tries at a port; the numbers from here on are those of checks.
    pub(super) fn tries(&self) -> u16 {
        self.options.retries.map_or(MAX_TRIES, |retries| u16::from(retries) + 1)
    }

    /// How many numbers tries and checks can have.
    pub(super) fn numbers(&self) -> u16 {
        self.tries() + if self.checks_path(self.slots.len()) { CHECKED_PASSES * CHECKS } else { 0 }
    }

    /// What to do now. It holds until the time it names, or the next answer.
    pub(super) fn poll(&mut self, now: Duration) -> Next {
        loop {
            match self.phase {
                Phase::Done => return Next::Done,
                _ if self.known == self.slots.len() => self.phase = Phase::Done,
                Phase::Sending => {
                    self.pace.judge(now, self.rtt.timeout().unwrap_or(self.unit()));
                    let Some(probe) = self.next_probe() else {
                        self.phase = Phase::Waiting;
                        continue;
                    };
                    if self.pace.next() > now {
                        return Next::Wait(self.pace.next());
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

    /// What a port was found to be by an answer to this try.
    pub(super) fn found(&mut self, probe: Try, state: PortState, reason: Reason, now: Duration) {
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
        if let Some(found) = &mut slot.found {
            // What the port itself says goes before an ICMP error, and open before closed: a rule that resets
            // connections may strike only now and then.
            if rank(state) > rank(found.state) {
                (found.state, found.reason) = (state, reason);
            }
            return;
        }
        let rtt = (probe.number == self.pass.number).then(|| now.saturating_sub(slot.sent_at));
        let certain = rtt.filter(|rtt| reason != Reason::SynAck || *rtt < SYN_ACK_REPETITION);
        slot.found = Some(Found { state, reason, rtt: certain });
        self.known += 1;
        let from_host = by_port || state == PortState::Closed;
        if let Some(rtt) = rtt.filter(|_| from_host) {
            self.rtt.sample(rtt);
            self.pace.answered(slot.sent_at);
        }
        if by_port {
            self.path.responsive_ports += 1;
            self.path.lost += u32::from(probe.number);
            self.count_answer(rtt);
            if self.path.responsive.len() < usize::from(CHECKS) {
                self.path.responsive.push(probe.port);
            }
        } else {
            self.path.errors += 1;
        }
    }

    /// Counts a try that was answered after this time, where that is known. A late answer is the repetition of one that
    /// got lost: a server repeats its SYN/ACK after a second.
    fn count_answer(&mut self, rtt: Option<Duration>) {
        let is_late = rtt.zip(self.rtt.timeout()).is_some_and(|(rtt, timeout)| rtt > 2 * timeout);
        self.path.answered += 1;
        self.path.lost += u32::from(is_late);
    }

    /// This machine's own firewall did not let the probe out.
    pub(super) fn denied(&mut self, probe: Try) {
        if let Some(slot) = self.slots.get_mut(usize::from(self.slot_of[usize::from(probe.port)])) {
            slot.denied = true;
            self.pass.sent = self.pass.sent.saturating_sub(1);
        }
    }

    /// What is known by now, in no order. When all is done, that is every port.
    pub(super) fn results(&self) -> impl Iterator<Item = (u16, Found)> + '_ {
        self.slots.iter().filter_map(|slot| slot.found.map(|found| (slot.port, found)))
    }

    /// How many ports are known.
    pub(super) fn known(&self) -> usize {
        self.known
    }

    /// About how much of the work is done, from 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "there are no more than 65,535 ports")]
    pub(super) fn done(&self) -> f32 {
        let (all, known) = (self.slots.len() as f32, self.known as f32);
        let passes = f32::from(self.usual_tries().max(self.pass.number + 2));
        let probed = self.pass.position as f32 / self.pass.slots.len().max(1) as f32;
        (known + (all - known) * (f32::from(self.pass.number) + probed) / passes) / all
    }

    /// The next probe of this pass; `None` when there is none.
    fn next_probe(&mut self) -> Option<Try> {
        let pass = &mut self.pass;
        while let Some(&slot) = pass.slots.get(pass.position)
            && self.slots[usize::from(slot)].found.is_some()
        {
            pass.position += 1;
        }
        let checks = pass.checks_sent.len();
        if checks < pass.checks && pass.position * pass.checks >= checks * pass.slots.len() {
            let port = self.path.responsive[checks % self.path.responsive.len()];
            let number = self.first_check() + u16::try_from(checks).unwrap_or(CHECKS);
            return Some(Try { port, number });
        }
        let slot = *pass.slots.get(pass.position)?;
        Some(Try { port: self.slots[usize::from(slot)].port, number: pass.number })
    }

    /// The number of this pass' first check. None is used twice, since it stands for a source port.
    fn first_check(&self) -> u16 {
        self.tries() + self.pass.number.saturating_sub(1) * CHECKS
    }

    /// Takes note that this probe, the next one, is sent now.
    fn send(&mut self, probe: Try, now: Duration) {
        if probe.number == self.pass.number {
            let slot = &mut self.slots[usize::from(self.pass.slots[self.pass.position])];
            (slot.sent_at, slot.denied) = (now, false);
            self.pass.position += 1;
        } else {
            self.pass.checks_sent.push(Some(now));
        }
        self.pass.sent += 1;
        self.pass.last_sent = now;
        self.pace.sent(now, self.rtt.smoothed());
    }

    /// Ends the pass, and begins another one or all is done.
    fn end_pass(&mut self) {
        if self.pass.sent > 0 {
            self.waited += self.wait();
        }
        self.path.lost += self.pass.checks_sent.iter().map(|unanswered| u32::from(unanswered.is_some())).sum::<u32>();
        let brought = self.known > self.pass.known_before;
        self.quiet = if brought { 0 } else { self.quiet + 1 };
        let mut silent = std::mem::take(&mut self.pass.slots);
        silent.retain(|&slot| self.slots[usize::from(slot)].found.is_none());
        if self.is_enough(silent.len()) {
            self.give_up(&silent);
            return;
        }
        self.icmp_limited |= brought && self.pass.number > 0 && self.meets_icmp_limits();
        let mut pass = Pass::new(self.pass.number.saturating_add(1), silent, self.known);
        self.pace.new_ports();
        if self.meets_icmp_limits() {
            let mut over = ICMP_INTERVAL;
            if self.icmp_limited {
                over = over.max(ICMP_LIMITED_PAUSE.saturating_mul(u32::try_from(pass.slots.len()).unwrap_or(u32::MAX)));
            }
            self.pace.spread(pass.slots.len(), over);
        } else if self.path.answered + self.path.lost >= 10 && self.path.loss() > HEAVY_LOSS {
            self.pace.halve();
        }
        if pass.number <= CHECKED_PASSES && self.checks_path(pass.slots.len()) && !self.path.responsive.is_empty() {
            pass.checks = usize::from(CHECKS);
        }
        self.pass = pass;
        self.phase = Phase::Sending;
    }

    /// True where further tries at the silent ports are not worth it.
    fn is_enough(&self, silent: usize) -> bool {
        let tries = self.pass.number + 1;
        if self.options.retries.is_some() {
            return tries >= self.tries();
        }
        if self.meets_icmp_limits() {
            return self.quiet >= QUIET_UDP_PASSES;
        }
        if tries >= MAX_TRIES || self.waited >= self.options.timeout {
            return true;
        }
        if self.path.responsive_ports == 0 {
            return tries >= if silent > MANY { 2 } else { USUAL_TRIES };
        }
        let nothing_lost = tries >= USUAL_TRIES && self.path.lost == 0;
        nothing_lost || tries >= 2 && self.path.missed(tries) < MISSED
    }

    /// What has not answered by now never will.
    fn give_up(&mut self, silent: &[u16]) {
        let state = match self.options.protocol {
            Protocol::Tcp => PortState::Filtered,
            Protocol::Udp => PortState::OpenFiltered,
        };
        for &slot in silent {
            let slot = &mut self.slots[usize::from(slot)];
            slot.found = Some(if slot.denied {
                Found { state: PortState::Filtered, reason: Reason::PermDenied, rtt: None }
            } else {
                Found { state, reason: Reason::NoResponse, rtt: None }
            });
        }
        self.known = self.slots.len();
        self.phase = Phase::Done;
    }

    /// How long the answers to this pass are waited for.
    fn wait(&self) -> Duration {
        let planned = self.unit() * weight(self.pass.number, self.usual_tries());
        self.rtt.timeout().map_or(planned, |timeout| planned.min(timeout * (1 << self.quiet.min(6))))
    }

    /// The wait after the first pass where nothing is known: such that all of them together take the timeout.
    fn unit(&self) -> Duration {
        let tries = self.usual_tries();
        self.options.timeout / (0..tries).map(|number| weight(number, tries)).sum()
    }

    fn usual_tries(&self) -> u16 {
        self.options.retries.map_or(USUAL_TRIES, |retries| u16::from(retries) + 1)
    }

    /// True where silent ports may be closed ones whose ICMP errors the host limits.
    fn meets_icmp_limits(&self) -> bool {
        self.options.protocol == Protocol::Udp && self.options.retries.is_none() && self.path.errors > 0
    }

    /// True where the tries for so many silent ports depend on checks.
    fn checks_path(&self, silent: usize) -> bool {
        silent > MANY && self.options.retries.is_none() && self.options.protocol == Protocol::Tcp
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

/// How long the wait after a try is, in units: twice the one before, but for the last one.
fn weight(number: u16, tries: u16) -> u32 {
    1 << number.min(tries.saturating_sub(2)).min(6)
}

/// Which of two findings is the better one.
fn rank(state: PortState) -> u8 {
    match state {
        PortState::Open => 2,
        PortState::Closed => 1,
        PortState::Filtered | PortState::OpenFiltered => 0,
    }
}
