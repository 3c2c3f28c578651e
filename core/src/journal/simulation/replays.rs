//! Accepted knocks over many processes and boots, with a simulated clock and a simulated disk.
//!
//! An attacker records every knock and sends all of them after each start and at other times. No
//! accepted knock is accepted again, whatever happened in between. A new knock is accepted at the
//! latest two clock skews after a start, and immediately if the process before it stopped in order, or
//! died in the same boot while the disk worked.

use std::collections::VecDeque;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;

use super::disk::{self, Died, Moment, Trouble};
use super::world::Loss;
use super::{SEED, any_loss, seeds};
use crate::clock::Clocks;
use crate::event::{Action, CommandRequest};
use crate::journal::{GARBAGE, StateFile};
use crate::keys::Fingerprint;
use crate::openings::Opening;
use crate::replay_memory::{Form, KnockUse, ReplayMemory};
use crate::time::Timestamp;

/// Seeds of scripts that failed once. Every run plays them first. Add the seed of each failure that is
/// fixed.
const FAILED_SEEDS: [u64; 0] = [];
/// The maximum difference of the clocks, in seconds. Small, so that a script lasts for many of them.
const SKEW: u64 = 4;
/// The length of the windows of time sequences, in seconds.
const WINDOW: u64 = 3;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// New knocks, for which the file is written once.
    Knocks(u8),
    /// The attacker sends every knock again.
    Replay,
    /// Openings by other doors.
    Openings(u8),
    Wait(u64),
    /// The process stops in order, and the system may boot before the next start.
    Stop {
        boots: bool,
    },
    Die(Loss),
    /// The process dies, and the file is damaged in some way.
    Damage,
    /// The wall clock is set back, and the process starts again.
    SetBack(u64),
}

/// The events of scripts in addition to knocks and orderly stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Deaths, losses of power, and damaged files.
    Misfortunes,
    /// Deaths, and a clock that is set back.
    SetBacks,
}

fn script(rng: &mut Rng, kind: Kind) -> VecDeque<Event> {
    let event = |rng: &mut Rng| match (rng.u8(..24), kind) {
        (0..8, _) => Event::Knocks(rng.u8(1..4)),
        (8..11, _) => Event::Replay,
        (11..13, _) => Event::Openings(rng.u8(1..3)),
        (13..18, _) => Event::Wait(rng.u64(1..4)),
        (18, _) => Event::Wait(rng.u64(2 * SKEW..3 * SKEW)),
        (19, Kind::Misfortunes) => Event::Stop { boots: rng.bool() },
        (20, Kind::Misfortunes) => Event::Die(any_loss(rng)),
        (21, Kind::Misfortunes) => Event::Damage,
        (19, Kind::SetBacks) => Event::Stop { boots: false },
        (20, Kind::SetBacks) => Event::SetBack(rng.u64(1..4 * SKEW)),
        _ => Event::Die(Loss::Process),
    };
    (0..rng.usize(8..24)).map(|_| event(rng)).collect()
}

struct World {
    path: PathBuf,
    /// The directory that a boot clears.
    markers: PathBuf,
    rng: Rng,
    /// By the wall clock, in seconds since the epoch.
    time: u64,
    boot: u64,
    running: Option<(StateFile, ReplayMemory)>,
    sent: Vec<KnockUse>,
    accepted: Vec<KnockUse>,
    /// Number of accepted knocks when a process started that has not been able to write the file.
    unwritten_from: Option<usize>,
    /// The next start has to accept new knocks immediately, unless an earlier start still waits.
    is_healthy: bool,
    /// The time of the latest start that may refuse new knocks for two clock skews.
    waits_from: u64,
    /// A sync failed, and the process died before it could write the marker. The next process does not
    /// notice that the disk lacks a part of the file, until a boot makes it read the disk.
    is_lossy: bool,
    /// The clock was set back.
    was_set_back: bool,
    prints: bool,
}

impl World {
    fn new(path: &Path, rng: Rng, prints: bool) -> Self {
        let markers = path.parent().unwrap().with_file_name("markers");
        let _ = fs::remove_dir_all(&markers);
        Self {
            path: path.to_owned(),
            markers,
            rng,
            time: 10_000,
            boot: 1,
            running: None,
            sent: Vec::new(),
            accepted: Vec::new(),
            unwritten_from: None,
            is_healthy: false,
            waits_from: 0,
            is_lossy: false,
            was_set_back: false,
            prints,
        }
    }

    fn print(&self, step: &dyn std::fmt::Debug) {
        if self.prints {
            println!("{}: {step:?}", self.time);
        }
    }

    fn play(&mut self, event: Event) {
        self.print(&event);
        match event {
            Event::Knocks(count) => {
                let knocks: Vec<_> = (0..count).map(|_| self.new_knock()).collect();
                self.send(&knocks, true);
            }
            Event::Replay => self.replay(),
            Event::Openings(count) => self.open_doors(count),
            Event::Wait(secs) => {
                self.time += secs;
                self.commit();
            }
            Event::Stop { boots } => {
                let now = self.now();
                let (mut state, _) = self.running.take().unwrap();
                state.finish(now);
                // Records whose write failed before are saved by now.
                self.is_healthy = state.is_saving();
                disk::has_failed();
                drop(state);
                if boots {
                    self.lose_power();
                }
                self.start();
            }
            Event::Die(loss) => {
                self.is_healthy = self.running.as_ref().unwrap().0.is_saving();
                disk::has_failed();
                self.die(loss);
                self.start();
            }
            Event::Damage => {
                self.die(Loss::Process);
                self.damage();
                self.start();
            }
            Event::SetBack(secs) => {
                self.die(Loss::Process);
                self.time -= secs;
                self.was_set_back = true;
                self.start();
            }
        }
    }

    fn start(&mut self) {
        if !self.is_healthy {
            self.waits_from = self.time;
        }
        let (now, markers) = (self.now(), self.markers.clone());
        let clocks = Clocks { now, wall: now, boot: Duration::from_secs(self.time - 9_000) };
        let boot_id = format!("boot-{}", self.boot);
        let (state, restored) =
            StateFile::open_marked(&self.path, &boot_id, Some(&markers), Duration::from_secs(SKEW), clocks).unwrap();
        self.print(&restored.replay);
        if disk::has_failed() {
            self.waits_from = self.time;
        }
        if !state.is_saving() {
            self.unwritten_from.get_or_insert(self.accepted.len());
        }
        // A process that dies from now on has a complete file, unless the disk fails.
        self.is_healthy = state.is_saving();
        self.running = Some((state, restored.replay));
        self.replay();
        let knock = self.new_knock();
        self.send(&[knock], true);
    }

    fn die(&mut self, loss: Loss) {
        self.print(&("dies", loss));
        // A start that died has the same file as the process before it.
        let has_failed = disk::has_failed();
        self.is_lossy |= has_failed;
        self.is_healthy &= !has_failed && loss == Loss::Process;
        self.running = None;
        if loss == Loss::Power {
            self.lose_power();
        }
        self.time += self.rng.u64(..3);
    }

    fn lose_power(&mut self) {
        self.is_healthy &= !self.is_lossy;
        // Neither the file nor the marker shows that there were knocks: the documented limit.
        if let Some(count) = self.unwritten_from.take() {
            self.accepted.truncate(count);
        }
        disk::lose_power(&mut self.rng);
        let _ = fs::remove_dir_all(&self.markers);
        self.boot += 1;
    }

    /// Removes the file, cuts it off, or changes a byte of it.
    fn damage(&mut self) {
        let mut bytes = fs::read(&self.path).unwrap_or_default();
        if bytes.is_empty() {
            return;
        }
        self.is_healthy = false;
        let at = self.rng.usize(..bytes.len());
        let kind = self.rng.u8(..4);
        match kind {
            0 => return disk::tamper(&self.path, None),
            1 => bytes.truncate(at),
            // At the end of a line. If that changes nothing, nothing is damaged.
            2 => bytes.truncate(bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1)),
            _ => bytes[at] ^= 0x80,
        }
        self.print(&("damages", kind, at));
        disk::tamper(&self.path, Some(&bytes));
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.time)
    }

    /// A knock of a client whose clock is right within the skew.
    fn new_knock(&mut self) -> KnockUse {
        let key = Fingerprint([self.rng.u8(..3); 16]);
        if self.rng.bool() {
            let time = Timestamp::from_secs(self.time + self.rng.u64(..=2 * SKEW) - SKEW);
            KnockUse { key, form: Form::Packet, time, token: std::array::from_fn(|_| self.rng.u8(..)) }
        } else {
            let start = (self.time / WINDOW + self.rng.u64(..3) - 1) * WINDOW;
            let form = Form::Time(WINDOW.try_into().unwrap());
            KnockUse { key, form, time: Timestamp::from_secs(start), token: [0; 12] }
        }
    }

    fn replay(&mut self) {
        let mut knocks = self.sent.clone();
        self.rng.shuffle(&mut knocks);
        self.send(&knocks, false);
    }

    /// Sends knocks to the running process. A door opens for a knock after the file is written.
    fn send(&mut self, knocks: &[KnockUse], are_new: bool) {
        let (now, skew) = (self.now(), Duration::from_secs(SKEW));
        let Self { running: Some((state, memory)), sent, accepted, .. } = self else { panic!() };
        let mut opens = Vec::new();
        for knock in knocks {
            let is_accepted = memory.accept(knock, now, skew).is_ok();
            if is_accepted {
                assert!(!accepted.contains(knock), "accepted again: {knock:?}, {memory:?}");
                state.used(knock);
                opens.push(*knock);
            } else if are_new && !self.was_set_back && !sent.contains(knock) {
                let waits_until = self.waits_from + 2 * SKEW;
                assert!(self.time <= waits_until, "refused at {}: {knock:?}, {memory:?}", self.time);
            }
            if are_new {
                sent.push(*knock);
            }
        }
        self.commit();
        self.accepted.extend(opens);
    }

    fn commit(&mut self) {
        let now = self.now();
        let (state, memory) = self.running.as_mut().unwrap();
        state.commit(now);
        self.is_healthy = state.is_saving();
        if self.is_healthy {
            self.unwritten_from = None;
        }
        let lines = fs::read(&self.path).map_or(0, |bytes| bytes.split(|byte| *byte == b'\n').count());
        assert!(lines <= 2 * (memory.len() + 8) + GARBAGE + 80, "{lines} lines");
    }

    /// Opens a door and closes it again.
    fn open_doors(&mut self, count: u8) {
        let now = self.now();
        let clocks = Clocks { now, wall: now, boot: Duration::from_secs(self.time - 9_000) };
        for host in 0..count {
            let (ip, state) = ([10, 0, 0, host].into(), &mut self.running.as_mut().unwrap().0);
            let (door, command): (std::sync::Arc<str>, String) = ("door".into(), "close".into());
            let (closes_at, stop_command) = (now, Some(command.clone()));
            let net = std::net::IpAddr::into(ip);
            state.opened(&Opening { door: door.clone(), ip, closes_at, stop_command, open: [].into(), net }, clocks);
            state.commit(now);
            let request = CommandRequest { door, ip, action: Action::Close, command, net, key: None };
            let id = state.closing(&request).unwrap();
            state.closed(id);
        }
        self.commit();
    }
}

/// The script and the faults of one run.
#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    kind: Kind,
    trouble: Trouble,
    /// The faults after the first death that they cause.
    later: Trouble,
    losses: [Loss; 2],
}

impl Plan {
    /// Plays the script of the seed, with another start after each death. Returns the number of changes
    /// of the disk until the first death.
    fn play(&self, path: &Path, prints: bool) -> usize {
        let mut rng = Rng::with_seed(self.seed);
        let mut events = script(&mut rng, self.kind);
        let mut world = World::new(path, rng, prints);
        let mut changes = None;
        disk::set_up(path, self.trouble.clone());
        loop {
            let life = catch_unwind(AssertUnwindSafe(|| {
                world.start();
                while let Some(event) = events.pop_front() {
                    world.play(event);
                }
                // The disk works again, at the latest.
                world.time += super::super::RETRY_AFTER.as_secs();
                let so_far = disk::expect(Trouble::default());
                world.play(Event::Wait(2 * SKEW));
                world.play(Event::Stop { boots: false });
                world.play(Event::Stop { boots: true });
                world.play(Event::Die(Loss::Process));
                world.play(Event::Die(Loss::Power));
                world.play(Event::Wait(2 * SKEW + 1));
                world.play(Event::Knocks(3));
                so_far
            }));
            match life {
                Err(cause) if cause.is::<Died>() => {
                    let is_first = changes.is_none();
                    let so_far = disk::expect(if is_first { self.later.clone() } else { Trouble::default() });
                    changes.get_or_insert(so_far);
                    world.die(self.losses[usize::from(!is_first)]);
                }
                Err(panic) => resume_unwind(panic),
                Ok(so_far) => return changes.unwrap_or(so_far),
            }
        }
    }

    /// Plays the plan. If it fails, plays it once more and prints each step.
    fn play_or_print(&self, path: &Path) -> usize {
        catch_unwind(|| self.play(path, false)).unwrap_or_else(|_| {
            println!("{self:?} fails, {SEED}={} replays the seed alone; step by step:", self.seed);
            self.play(path, true)
        })
    }
}

/// Plays each seed without faults, then the plans that `plans` returns for the seed and the number of
/// changes of the disk.
fn play_all(kind: Kind, plans: impl Fn(&mut Rng, &Plan, usize) -> Vec<Plan>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/openings");
    for seed in seeds(&FAILED_SEEDS) {
        let [trouble, later] = Default::default();
        let plan = Plan { seed, kind, trouble, later, losses: [Loss::Process; 2] };
        let changes = plan.play_or_print(&path);
        for plan in plans(&mut Rng::with_seed(seed), &plan, changes) {
            plan.play_or_print(&path);
        }
    }
}

/// Plans in which the process dies before, during or after each change of the disk.
fn deaths(rng: &mut Rng, plan: &Plan, changes: usize, losses: &[Loss]) -> Vec<Plan> {
    let plan = |at| {
        let moment = |rng: &mut Rng| [Moment::Before, Moment::Amid, Moment::After][rng.usize(..3)];
        let dies_at = Some((at, moment(rng)));
        // In half of the plans a later start dies, too.
        let again = rng.bool().then(|| (rng.usize(..12), moment(rng)));
        let trouble = Trouble { dies_at, ..Trouble::default() };
        let later = Trouble { dies_at: again, ..Trouble::default() };
        let losses = [(); 2].map(|()| losses[rng.usize(..losses.len())]);
        Plan { trouble, later, losses, ..plan.clone() }
    };
    (0..changes).map(plan).collect()
}

#[test]
fn no_knock_is_accepted_again_after_a_death_at_any_change_of_the_disk() {
    play_all(Kind::Misfortunes, |rng, plan, changes| deaths(rng, plan, changes, &[Loss::Process, Loss::Power]));
}

#[test]
fn no_knock_is_accepted_again_after_the_clock_was_set_back() {
    play_all(Kind::SetBacks, |rng, plan, changes| deaths(rng, plan, changes, &[Loss::Process]));
}

#[test]
fn no_knock_is_accepted_again_after_the_disk_failed_at_any_change() {
    play_all(Kind::Misfortunes, |rng, plan, changes| {
        let plan = |first| {
            let error = [libc::ENOSPC, libc::EROFS, libc::EIO][rng.usize(..3)];
            let end = if rng.bool() { usize::MAX } else { first + rng.usize(1..20) };
            // In half of the plans the process dies some time after the fault, and the disk may fail
            // again after that.
            let dies_at = rng.bool().then(|| (first + rng.usize(..40), Moment::Before));
            let trouble = Trouble { dies_at, fails_at: Some((first..end, error)) };
            let fails_at = rng.bool().then(|| (0..rng.usize(1..20), error));
            let later = Trouble { dies_at: None, fails_at };
            Plan { trouble, later, losses: [any_loss(rng), any_loss(rng)], ..plan.clone() }
        };
        (0..changes).map(plan).collect()
    });
}
