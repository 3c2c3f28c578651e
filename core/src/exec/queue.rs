//! The queue of waiting commands. It releases one command at a time for each door and address, or
//! network if the door opens for one; stop commands before start commands, and the doors in turn.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use ipnet::IpNet;

use super::{CommandId, MAX_PROCESSES, SLOTS};
use crate::event::{Action, CommandRequest};

/// A waiting command.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: CommandId,
    pub(super) request: CommandRequest,
    /// The error of the failed start that was reported last, so that each kind is reported once.
    pub(super) reported: Option<i32>,
}

impl Job {
    pub(super) fn key(&self) -> Key {
        (self.request.door.clone(), self.request.net)
    }
}

/// The key of a command: door and network. Commands of one key run one after another.
pub(super) type Key = (Arc<str>, IpNet);

/// The waiting commands of one key, in order for each [`Action`]. Stop commands go first.
#[derive(Debug, Default)]
struct KeyQueue {
    waiting: [VecDeque<Job>; 2],
    /// A command of this key was taken and is not done yet.
    busy: bool,
}

impl KeyQueue {
    /// Returns the command that can be taken now.
    fn ready(&self) -> Option<(Action, CommandId)> {
        let front = |action| Some((action, self.waiting[action as usize].front()?.id));
        if self.busy { None } else { front(Action::Close).or_else(|| front(Action::Open)) }
    }

    fn counts(&self) -> [usize; 2] {
        [self.waiting[0].len(), self.waiting[1].len()]
    }
}

/// The waiting and running commands of one door. Arrays have an element for each [`Action`].
#[derive(Debug, Default)]
struct DoorQueue {
    /// The networks with a command that can be taken now, by the command's number: the oldest first.
    ready: [BTreeMap<CommandId, IpNet>; 2],
    /// The door's place among those that have a command ready.
    turn: [Option<u64>; 2],
    waiting: [usize; 2],
    /// Running commands that hold a slot.
    slots: [usize; 2],
    /// Running commands, slow ones included.
    processes: usize,
}

/// All waiting commands, and the slots of the running ones. Each operation needs logarithmic time;
/// [`CommandQueue::take`] also checks the doors whose commands must wait.
#[derive(Debug, Default)]
pub(super) struct CommandQueue {
    keys: HashMap<Key, KeyQueue>,
    /// The doors with a waiting or running command.
    doors: HashMap<Arc<str>, DoorQueue>,
    /// The doors with a command that can be taken, in turn.
    turns: [BTreeMap<u64, Arc<str>>; 2],
    next_turn: u64,
    waiting: usize,
    slots: [usize; 2],
    processes: usize,
}

impl CommandQueue {
    /// Number of waiting commands.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Makes a key without commands busy, as if a command had been taken, until
    /// [`CommandQueue::done`].
    pub(super) fn hold(&mut self, key: Key) {
        self.change(&key, |key_queue| key_queue.busy = true);
    }

    /// Returns the waiting start commands of this key.
    pub(super) fn waiting_starts(&self, key: &Key) -> &VecDeque<Job> {
        const NONE: &VecDeque<Job> = &VecDeque::new();
        self.keys.get(key).map_or(NONE, |key_queue| &key_queue.waiting[Action::Open as usize])
    }

    /// Adds a command.
    pub(super) fn push(&mut self, job: Job) {
        self.change(&job.key(), |key_queue| key_queue.waiting[job.request.action as usize].push_back(job));
    }

    /// Removes a start command of this key, which then never runs.
    pub(super) fn withdraw(&mut self, key: &Key, id: CommandId) -> Option<Job> {
        let index = self.waiting_starts(key).iter().position(|job| job.id == id)?;
        self.change(key, |key_queue| key_queue.waiting[Action::Open as usize].remove(index))
    }

    /// Removes the start command that waits longest at a door with more than `limit` of them. Commands
    /// that wait for another command of their key stay.
    pub(super) fn take_start_beyond(&mut self, door: &str, limit: usize) -> Option<Job> {
        let (name, queue) = self.doors.get_key_value(door)?;
        if queue.waiting[Action::Open as usize] <= limit {
            return None;
        }
        let (&id, &net) = queue.ready[Action::Open as usize].iter().next()?;
        self.withdraw(&(name.clone(), net), id)
    }

    /// Removes all start commands and returns their number.
    pub(super) fn withdraw_all(&mut self) -> usize {
        let starts =
            |(key, key_queue): (&Key, &KeyQueue)| (key_queue.counts()[Action::Open as usize] > 0).then(|| key.clone());
        let keys: Vec<Key> = self.keys.iter().filter_map(starts).collect();
        let mut take =
            |key| self.change(key, |key_queue| std::mem::take(&mut key_queue.waiting[Action::Open as usize]).len());
        keys.iter().map(&mut take).sum()
    }

    /// Takes the next command with this action whose door may run one more. Its key is busy until
    /// [`CommandQueue::done`] or [`CommandQueue::put_back`]. Start commands of a door wait while
    /// `limit` of its stop commands wait.
    pub(super) fn take(&mut self, action: Action, limit: usize) -> Option<Job> {
        let may_start =
            |door: &&Arc<str>| self.doors.get(&**door).is_some_and(|queue| self.may_start(queue, action, limit));
        let door = self.turns[action as usize].values().find(may_start)?.clone();
        let queue = self.doors.get_mut(&door)?;
        // If the door has more commands, its next turn comes after those of the other doors.
        if let Some(turn) = queue.turn[action as usize].take() {
            self.turns[action as usize].remove(&turn);
        }
        let net = *queue.ready[action as usize].values().next()?;
        self.change(&(door, net), |key_queue| {
            key_queue.busy = true;
            key_queue.waiting[action as usize].pop_front()
        })
    }

    /// True if a door may run one more command. A door without a running command does not wait for the
    /// slots of other doors. Of the processes for start commands, a door gets at most as many as it
    /// leaves free.
    fn may_start(&self, queue: &DoorQueue, action: Action, limit: usize) -> bool {
        let has_slot = self.slots[action as usize] < SLOTS || queue.slots[action as usize] == 0;
        has_slot
            && match action {
                Action::Close => self.processes < MAX_PROCESSES,
                Action::Open => {
                    self.processes + queue.processes < MAX_PROCESSES - SLOTS
                        && queue.waiting[Action::Close as usize] < limit
                }
            }
    }

    /// Puts a taken command back to the front of its queue.
    pub(super) fn put_back(&mut self, job: Job) {
        self.change(&job.key(), |key_queue| {
            key_queue.busy = false;
            key_queue.waiting[job.request.action as usize].push_front(job);
        });
    }

    /// Counts a taken command as waiting until [`CommandQueue::resume`]. Its key stays busy.
    pub(super) fn postpone(&mut self, job: &Job) {
        self.waiting += 1;
        self.change_door(&job.request.door, |queue| queue.waiting[job.request.action as usize] += 1);
    }

    /// Puts a postponed command back to the front of its queue.
    pub(super) fn resume(&mut self, job: Job) {
        self.waiting -= 1;
        self.change_door(&job.request.door, |queue| queue.waiting[job.request.action as usize] -= 1);
        self.put_back(job);
    }

    /// Ends the turn of a taken command, so that the next command of its key can be taken.
    pub(super) fn done(&mut self, key: &Key) {
        if self.keys.contains_key(key) {
            self.change(key, |key_queue| key_queue.busy = false);
        }
    }

    /// Counts a taken command as running, with a slot.
    pub(super) fn started(&mut self, door: &Arc<str>, action: Action) {
        self.slots[action as usize] += 1;
        self.processes += 1;
        let queue = self.doors.entry(door.clone()).or_default();
        queue.slots[action as usize] += 1;
        queue.processes += 1;
    }

    /// Frees the slot of a running command.
    pub(super) fn release(&mut self, door: &Arc<str>, action: Action) {
        self.slots[action as usize] -= 1;
        self.change_door(door, |queue| queue.slots[action as usize] -= 1);
    }

    /// Counts the end of a running command without a slot.
    pub(super) fn ended(&mut self, door: &Arc<str>) {
        self.processes -= 1;
        self.change_door(door, |queue| queue.processes -= 1);
    }

    /// Changes the queue of a key, and then all counters and lists that depend on it.
    fn change<T>(&mut self, key: &Key, act: impl FnOnce(&mut KeyQueue) -> T) -> T {
        let (door, net) = key;
        let key_queue = self.keys.entry(key.clone()).or_default();
        let (ready_before, before) = (key_queue.ready(), key_queue.counts());
        let result = act(key_queue);
        let (ready, after) = (key_queue.ready(), key_queue.counts());
        if !key_queue.busy && after == [0, 0] {
            self.keys.remove(key);
        }
        self.waiting = self.waiting + after.iter().sum::<usize>() - before.iter().sum::<usize>();
        self.change_door(door, |queue| {
            for action in [Action::Open as usize, Action::Close as usize] {
                queue.waiting[action] = queue.waiting[action] + after[action] - before[action];
            }
            if let Some((action, id)) = ready_before {
                queue.ready[action as usize].remove(&id);
            }
            if let Some((action, id)) = ready {
                queue.ready[action as usize].insert(id, *net);
            }
        });
        result
    }

    /// Changes the queue of a door. Gives the door a turn if it has a command that can be taken, and
    /// removes it if it has no commands.
    fn change_door(&mut self, door: &Arc<str>, act: impl FnOnce(&mut DoorQueue)) {
        let queue = self.doors.entry(door.clone()).or_default();
        act(queue);
        for action in [Action::Open as usize, Action::Close as usize] {
            match (queue.ready[action].is_empty(), queue.turn[action]) {
                (false, None) => {
                    queue.turn[action] = Some(self.next_turn);
                    self.turns[action].insert(self.next_turn, door.clone());
                    self.next_turn += 1;
                }
                (true, Some(turn)) => {
                    queue.turn[action] = None;
                    self.turns[action].remove(&turn);
                }
                (false, Some(_)) | (true, None) => {}
            }
        }
        if queue.waiting == [0, 0] && queue.processes == 0 {
            self.doors.remove(door);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn job_of(door: &str, id: u64, host: u8, action: Action) -> Job {
        let ip = IpAddr::from([10, 0, 0, host]);
        let request =
            CommandRequest { door: door.into(), ip, action, command: String::new(), net: ip.into(), key: None };
        Job { id: CommandId(id), request, reported: None }
    }

    fn job(id: u64, host: u8, action: Action) -> Job {
        job_of("d", id, host, action)
    }

    fn take(queue: &mut CommandQueue, action: Action) -> Option<u64> {
        queue.take(action, 100).map(|job| job.id.0)
    }

    #[test]
    fn commands_of_one_key_are_taken_in_order_and_others_do_not_wait() {
        let mut queue = CommandQueue::default();
        queue.push(job(1, 1, Action::Open));
        let first = queue.take(Action::Open, 100).unwrap();
        queue.push(job(2, 1, Action::Close));
        queue.push(job(3, 2, Action::Close));
        assert_eq!(take(&mut queue, Action::Close), Some(3));
        assert_eq!(take(&mut queue, Action::Close), None, "the close of host 1 waits for its open");
        queue.done(&first.key());
        assert_eq!(take(&mut queue, Action::Close), Some(2));
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn a_stop_command_runs_before_a_start_command_that_waits() {
        let mut queue = CommandQueue::default();
        queue.push(job(3, 1, Action::Open));
        assert_eq!(queue.waiting_starts(&job(0, 1, Action::Open).key()).len(), 1);
        queue.push(job(4, 1, Action::Close));
        assert_eq!((take(&mut queue, Action::Open), take(&mut queue, Action::Close)), (None, Some(4)));
        queue.done(&job(0, 1, Action::Open).key());
        assert_eq!(take(&mut queue, Action::Open), Some(3));
    }

    #[test]
    fn doors_take_turns_however_many_commands_one_of_them_has() {
        let mut queue = CommandQueue::default();
        for host in 0..200 {
            queue.push(job_of("flooded", host.into(), host, Action::Open));
        }
        queue.push(job_of("other", 200, 1, Action::Open));
        queue.push(job_of("other", 201, 2, Action::Open));
        let order: Vec<_> = (0..5).map(|_| take(&mut queue, Action::Open).unwrap()).collect();
        assert_eq!(order, [0, 200, 1, 201, 2]);
    }

    #[test]
    fn a_door_that_runs_nothing_waits_for_no_other_doors_slots_or_processes() {
        let mut queue = CommandQueue::default();
        let all = MAX_PROCESSES;
        for id in 0..all {
            let [.., high, low] = id.to_be_bytes();
            let mut job = job_of("flooded", id as u64, low, Action::Open);
            job.request.net = IpAddr::from([10, 0, high, low]).into();
            queue.push(job);
        }
        let start = |queue: &mut CommandQueue, id| {
            let taken = queue.take(Action::Open, usize::MAX).filter(|job| job.id.0 >= id);
            taken.inspect(|job| queue.started(&job.request.door, Action::Open)).is_some()
        };
        let slots = (0..all).take_while(|_| start(&mut queue, 0)).count();
        assert_eq!(slots, SLOTS);
        queue.push(job_of("other", 1000, 1, Action::Open));
        assert!(start(&mut queue, 1000), "each door gets at least one slot");
        // All of them are slow: the flooded door gets more slots, until it has half of the processes.
        for _ in 0..SLOTS {
            queue.release(&"flooded".into(), Action::Open);
        }
        let mut more = 0;
        while start(&mut queue, 0) {
            queue.release(&"flooded".into(), Action::Open);
            more += 1;
        }
        assert_eq!(SLOTS + more, (MAX_PROCESSES - SLOTS) / 2);
        queue.push(job_of("third", 1001, 1, Action::Open));
        assert!(start(&mut queue, 1001));
    }

    #[test]
    fn start_commands_wait_while_too_many_stop_commands_of_their_door_wait() {
        let mut queue = CommandQueue::default();
        queue.push(job(1, 1, Action::Close));
        queue.push(job(2, 2, Action::Close));
        queue.push(job(3, 3, Action::Open));
        assert!(queue.take(Action::Open, 2).is_none());
        queue.push(job_of("other", 4, 3, Action::Open));
        assert_eq!(queue.take(Action::Open, 2).unwrap().id, CommandId(4));
        assert_eq!(take(&mut queue, Action::Close), Some(1));
        assert_eq!(queue.take(Action::Open, 2).unwrap().id, CommandId(3));
    }

    #[test]
    fn beyond_the_limit_of_a_door_its_oldest_start_command_is_dropped() {
        let mut queue = CommandQueue::default();
        queue.push(job_of("other", 0, 1, Action::Open));
        for host in 1..=3 {
            queue.push(job(host.into(), host, Action::Open));
        }
        assert!(queue.take_start_beyond("d", 3).is_none() && queue.take_start_beyond("none", 0).is_none());
        assert_eq!(queue.take_start_beyond("d", 2).unwrap().id, CommandId(1));
        assert!(queue.take_start_beyond("d", 2).is_none());
        assert!(queue.withdraw(&job(0, 3, Action::Open).key(), CommandId(2)).is_none());
        assert_eq!(queue.withdraw(&job(0, 2, Action::Open).key(), CommandId(2)).unwrap().id, CommandId(2));
        queue.push(job(4, 4, Action::Close));
        assert_eq!((queue.withdraw_all(), queue.waiting()), (2, 1));
    }

    #[test]
    fn a_command_put_back_keeps_its_place() {
        let mut queue = CommandQueue::default();
        queue.push(job(1, 1, Action::Open));
        queue.push(job(2, 2, Action::Open));
        let first = queue.take(Action::Open, 100).unwrap();
        queue.put_back(first);
        assert_eq!(queue.waiting(), 2);
        assert_eq!(take(&mut queue, Action::Open), Some(1));
        assert_eq!(take(&mut queue, Action::Open), Some(2));
        assert_eq!(take(&mut queue, Action::Open), None);
    }

    #[test]
    fn a_postponed_command_waits_and_blocks_its_key() {
        let mut queue = CommandQueue::default();
        queue.push(job(1, 1, Action::Close));
        queue.push(job(2, 1, Action::Open));
        let first = queue.take(Action::Close, 100).unwrap();
        queue.postpone(&first);
        assert_eq!((queue.waiting(), take(&mut queue, Action::Open)), (2, None));
        queue.resume(first);
        assert_eq!((queue.waiting(), take(&mut queue, Action::Close)), (2, Some(1)));
    }

    #[test]
    fn finished_commands_leave_the_queue_empty() {
        let mut queue = CommandQueue::default();
        for id in 0..100 {
            queue.push(job(id, u8::try_from(id).unwrap(), Action::Open));
            let job = queue.take(Action::Open, 100).unwrap();
            queue.started(&job.request.door, Action::Open);
            queue.release(&job.request.door, Action::Open);
            queue.done(&job.key());
            queue.ended(&job.request.door);
        }
        queue.push(job(100, 1, Action::Open));
        queue.withdraw(&job(0, 1, Action::Open).key(), CommandId(100));
        assert!(queue.keys.is_empty() && queue.doors.is_empty());
        assert!(queue.turns.iter().all(BTreeMap::is_empty));
        assert_eq!((queue.slots, queue.processes, queue.waiting), ([0, 0], 0, 0));
    }
}
