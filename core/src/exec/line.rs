//! The line in which commands wait: stop commands before start commands, and each (door, address) in order.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::CommandId;
use crate::event::{Action, CommandRequest};

/// A command in line.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: CommandId,
    pub(super) request: CommandRequest,
    /// The error of the failed start that was reported last, so that each kind is reported once.
    pub(super) reported: Option<i32>,
}

impl Job {
    pub(super) fn key(&self) -> Key {
        (self.request.door.clone(), self.request.ip)
    }
}

/// What commands are kept in order by.
pub(super) type Key = (Arc<str>, IpAddr);

/// The commands of one key, in order. A lane with nothing in it and nothing under way does not exist.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Job>,
    /// A command of this lane has been taken and [`Line::done`] has not been called for it.
    busy: bool,
}

/// All waiting commands. Each operation takes constant time.
#[derive(Debug, Default)]
pub(super) struct Line {
    lanes: HashMap<Key, Lane>,
    /// The keys whose lane is not busy and has a stop command in front.
    closes: VecDeque<Key>,
    /// The keys whose lane is not busy and has a start command in front.
    opens: VecDeque<Key>,
    waiting: usize,
}

impl Line {
    /// How many commands wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Makes a lane that is empty busy, as with a command taken from it: until [`Line::done`].
    pub(super) fn hold(&mut self, key: Key) {
        self.lanes.entry(key).or_default().busy = true;
    }

    /// Puts a command at the end of its lane.
    pub(super) fn push(&mut self, job: Job) {
        let (key, action) = (job.key(), job.request.action);
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.waiting.push_back(job);
        self.waiting += 1;
        if !lane.busy && lane.waiting.len() == 1 {
            self.ready(action).push_back(key);
        }
    }

    /// Takes the command with this action that waits longest of those whose turn it is. Its lane is busy until
    /// [`Line::done`] or [`Line::put_back`].
    pub(super) fn take(&mut self, action: Action) -> Option<Job> {
        let key = self.ready(action).pop_front()?;
        let lane = self.lanes.get_mut(&key)?;
        let job = lane.waiting.pop_front()?;
        lane.busy = true;
        self.waiting -= 1;
        Some(job)
    }

    /// Puts a command that was taken in front of all others of its action.
    pub(super) fn put_back(&mut self, job: Job) {
        let (key, action) = (job.key(), job.request.action);
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.busy = false;
        lane.waiting.push_front(job);
        self.waiting += 1;
        self.ready(action).push_front(key);
    }

    /// A command that was taken needs its lane no longer: the next one's turn.
    pub(super) fn done(&mut self, key: Key) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.busy = false;
        match lane.waiting.front().map(|job| job.request.action) {
            Some(action) => self.ready(action).push_back(key),
            None => drop(self.lanes.remove(&key)),
        }
    }

    fn ready(&mut self, action: Action) -> &mut VecDeque<Key> {
        match action {
            Action::Open => &mut self.opens,
            Action::Close => &mut self.closes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: u64, host: u8, action: Action) -> Job {
        let request =
            CommandRequest { door: "d".into(), ip: IpAddr::from([10, 0, 0, host]), action, command: String::new() };
        Job { id: CommandId(id), request, reported: None }
    }

    fn take(line: &mut Line, action: Action) -> Option<u64> {
        line.take(action).map(|job| job.id.0)
    }

    #[test]
    fn one_key_is_served_in_order_and_others_pass_by() {
        let mut line = Line::default();
        line.push(job(1, 1, Action::Open));
        line.push(job(2, 1, Action::Close));
        line.push(job(3, 2, Action::Close));
        assert_eq!(take(&mut line, Action::Close), Some(3));
        assert_eq!(take(&mut line, Action::Close), None, "the close of host 1 waits for its open");
        let first = line.take(Action::Open).unwrap();
        assert_eq!(take(&mut line, Action::Close), None);
        line.done(first.key());
        assert_eq!(take(&mut line, Action::Close), Some(2));
        assert_eq!(line.waiting(), 0);
    }

    #[test]
    fn a_command_put_back_keeps_its_place() {
        let mut line = Line::default();
        line.push(job(1, 1, Action::Open));
        line.push(job(2, 2, Action::Open));
        line.push(job(3, 1, Action::Open));
        let first = line.take(Action::Open).unwrap();
        line.put_back(first);
        assert_eq!(line.waiting(), 3);
        assert_eq!(take(&mut line, Action::Open), Some(1));
        assert_eq!(take(&mut line, Action::Open), Some(2));
        assert_eq!(take(&mut line, Action::Open), None);
    }

    #[test]
    fn finished_lanes_leave_nothing_behind() {
        let mut line = Line::default();
        for id in 0..100 {
            line.push(job(id, u8::try_from(id).unwrap(), Action::Open));
            let job = line.take(Action::Open).unwrap();
            line.done(job.key());
        }
        assert!(line.lanes.is_empty() && line.opens.is_empty());
    }
}
