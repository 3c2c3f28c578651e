//! Engine, journal and commands with a simulated clock and a simulated disk.
//!
//! The process dies before, during and after every change of the disk, and the disk fails at every
//! change. In each case, every door that a start command may have opened is closed at its due time or
//! by the next start, not earlier and not a second time.
//!
//! The steps have the same order as in the service's turn.

pub(super) mod disk;
mod replays;
mod world;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use disk::{Died, Moment, Trouble};
use fastrand::Rng;
use world::{Loss, World};

use super::StateFile;
use crate::event::CommandRequest;
use crate::openings::Opening;

/// Seeds of scripts that failed once. Every run plays them first. Add the seed of each failure that is
/// fixed.
const FAILED_SEEDS: [u64; 0] = [];
/// Seeds of the scripts that every run of the tests plays; `PORTKNOCK_SEED` selects one, as in `7`, or
/// a range of others, as in `0..3000`.
const SEEDS: RangeInclusive<u64> = 1..=20;
const SEED: &str = "PORTKNOCK_SEED";

#[derive(Clone, Copy, Debug)]
enum Action {
    Knock { network: u8 },
    Wait { secs: u64 },
    Restart { keep: bool },
}

fn script(rng: &mut Rng) -> Vec<Action> {
    let action = |rng: &mut Rng| match rng.u8(..20) {
        0..9 => Action::Knock { network: rng.u8(1..=2) },
        9..19 => Action::Wait { secs: rng.u64(1..5) },
        _ => Action::Restart { keep: rng.bool() },
    };
    (0..rng.usize(8..24)).map(|_| action(rng)).collect()
}

/// The script and the faults of one run.
#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    trouble: Trouble,
    /// The faults after the first death.
    later: Trouble,
    /// The losses at the first and the second death.
    losses: [Loss; 2],
}

impl Plan {
    /// Plays the script of the seed, with another start after each death. Returns the number of changes
    /// of the disk until the first death.
    fn play(&self, path: &Path, prints: bool) -> usize {
        let mut rng = Rng::with_seed(self.seed);
        let mut actions = script(&mut rng).into_iter();
        let mut world = World::new(path, rng, prints);
        let mut changes = None;
        disk::set_up(path, self.trouble.clone());
        loop {
            let life = catch_unwind(AssertUnwindSafe(|| {
                world.start();
                for action in actions.by_ref() {
                    world.print(&action);
                    match action {
                        Action::Knock { network } => world.knock(network),
                        Action::Wait { secs } => world.wait(secs),
                        Action::Restart { keep } => world.restart(keep),
                    }
                }
            }));
            match life {
                Err(cause) if cause.is::<Died>() => {
                    let is_first = changes.is_none();
                    let so_far = disk::expect(if is_first { self.later.clone() } else { Trouble::default() });
                    changes.get_or_insert(so_far);
                    world.die(self.losses[usize::from(!is_first)]);
                }
                Err(panic) => resume_unwind(panic),
                Ok(()) => {
                    let so_far = disk::expect(Trouble::default());
                    world.settle();
                    return changes.unwrap_or(so_far);
                }
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

fn any_loss(rng: &mut Rng) -> Loss {
    if rng.bool() { Loss::Process } else { Loss::Power }
}

fn seeds(failed: &[u64]) -> Vec<u64> {
    match std::env::var(SEED) {
        Ok(text) => match text.split_once("..") {
            Some((first, end)) => (first.parse().unwrap()..end.parse().unwrap()).collect(),
            None => vec![text.parse().unwrap()],
        },
        Err(_) => failed.iter().copied().chain(SEEDS).collect(),
    }
}

/// Plays each seed without faults, then the plans that `plans` returns for the seed and the number of
/// changes of the disk.
fn play_all(plans: impl Fn(&mut Rng, u64, usize) -> Vec<Plan>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/openings");
    for seed in seeds(&FAILED_SEEDS) {
        let [trouble, later] = Default::default();
        let plan = Plan { seed, trouble, later, losses: [Loss::Process; 2] };
        let changes = plan.play_or_print(&path);
        for plan in plans(&mut Rng::with_seed(seed), seed, changes) {
            plan.play_or_print(&path);
        }
    }
}

#[test]
fn a_death_at_any_change_of_the_disk_leaves_nothing_open_and_closes_nothing_early_or_twice() {
    play_all(|rng, seed, changes| {
        let mut plans = Vec::new();
        for at in 0..changes {
            for moment in [Moment::Before, Moment::Amid, Moment::After] {
                for loss in [Loss::Process, Loss::Power] {
                    // In half of the plans a later start dies, too.
                    let again = rng.bool().then(|| (rng.usize(..12), moment));
                    let trouble = Trouble { dies_at: Some((at, moment)), ..Trouble::default() };
                    let later = Trouble { dies_at: again, ..Trouble::default() };
                    plans.push(Plan { seed, trouble, later, losses: [loss, any_loss(rng)] });
                }
            }
        }
        plans
    });
}

#[test]
fn a_disk_that_fails_at_any_change_keeps_no_door_closed_or_open_and_is_used_again() {
    play_all(|rng, seed, changes| {
        let mut plans = Vec::new();
        for first in 0..changes {
            for error in [libc::ENOSPC, libc::EROFS, libc::EIO] {
                let fails_at = Some((first..first + rng.usize(1..20), error));
                // In half of the plans the process dies some time after the fault.
                let dies_at = rng.bool().then(|| (first + rng.usize(..40), Moment::Before));
                let trouble = Trouble { dies_at, fails_at };
                plans.push(Plan { seed, trouble, later: Trouble::default(), losses: [any_loss(rng); 2] });
            }
        }
        plans
    });
}

#[test]
fn a_change_of_the_disk_that_fails_once_loses_no_opening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/openings");
    let clocks = |secs| world::clocks(secs, 0);
    let opening = |host| Opening {
        door: "door".into(),
        ip: [10, 0, 0, host].into(),
        closes_at: clocks(100).now,
        stop_command: Some("close".into()),
        open: [].into(),
        net: IpAddr::from([10, 0, 0, host]).into(),
    };
    const STAY: [u8; 2] = [1, 19];
    let mut rng = Rng::with_seed(1);
    let losses = [Loss::Process, Loss::Power, Loss::Power, Loss::Power, Loss::Power];
    for (at, loss) in (0..100).flat_map(|at| losses.map(|loss| (at, loss))) {
        disk::set_up(&path, Trouble { fails_at: Some((at..at + 1, libc::EIO)), ..Trouble::default() });
        let (mut state, _) = StateFile::open(&path, "boot", clocks(0)).unwrap();
        for host in 1..20 {
            state.opened(&opening(host), clocks(host.into()));
            state.commit(clocks(host.into()).now);
            if !STAY.contains(&host) {
                let Opening { door, ip, stop_command, net, .. } = opening(host);
                let (action, command) = (crate::event::Action::Close, stop_command.unwrap());
                let request = CommandRequest { door, ip, action, command, net, key: None };
                state.closing(&request).map(|id| state.closed(id)).unwrap();
                state.commit(clocks(host.into()).now);
            }
        }
        state.commit(clocks(50).now);
        assert!(state.is_saving());
        drop(state);
        if loss == Loss::Power {
            disk::lose_power(&mut rng);
        }
        let (_, mut restored) = StateFile::open(&path, "boot", clocks(0)).unwrap();
        // A loss of power can lose the records of closings, so other openings may come back.
        let stays = STAY.map(opening);
        restored.openings.retain(|opening| loss == Loss::Process || stays.contains(opening));
        assert_eq!(restored.openings, stays, "change {at} fails, {loss:?}");
    }
}
