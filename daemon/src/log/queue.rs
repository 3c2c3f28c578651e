//! Queues of lines for sinks that can stall.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::timestamp_now;

/// Maximum number of bytes in a queue; its writer holds at most as many again.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// A bounded queue between the daemon, which never waits, and the thread that writes to a sink. `T`
/// is the sink's type of target.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Wakes the writer when there is work.
    work: Condvar,
    /// Wakes the daemon when the writer is idle.
    idle: Condvar,
    has_timestamps: bool,
}

#[derive(Debug)]
struct State<T> {
    lines: String,
    /// Number of lines after `lines` that did not fit.
    lost: u64,
    /// The next target of the sink, and the number of bytes of `lines` that go to the old one.
    switch: Option<(usize, T)>,
    /// The writer waits for work.
    is_idle: bool,
}

/// The next task of a writer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work<T> {
    /// Write the lines.
    Write,
    /// Write all later lines to another target.
    Switch(T),
}

impl<T> Queue<T> {
    /// An empty queue. `has_timestamps` is for a sink whose lines begin with the time.
    pub(super) fn new(has_timestamps: bool) -> Self {
        let state = State { lines: String::new(), lost: 0, switch: None, is_idle: false };
        Self { state: Mutex::new(state), work: Condvar::new(), idle: Condvar::new(), has_timestamps }
    }

    /// Appends whole lines. Lines that do not fit are counted, and so are all later lines until the
    /// writer reports the number.
    pub(super) fn push(&self, lines: &str) {
        if lines.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let room = if state.lost > 0 { 0 } else { MAX_BYTES.saturating_sub(state.lines.len()) };
        let end = if lines.len() <= room {
            lines.len()
        } else {
            lines.as_bytes()[..room].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
        };
        state.lines.push_str(&lines[..end]);
        state.lost += count_lines(&lines[end..]);
        state.is_idle = false;
        self.work.notify_one();
    }

    /// Switches the sink to another target after the lines that are in the queue now. Replaces the
    /// target of a switch that is still in the queue, which keeps its position.
    pub(super) fn switch(&self, target: T) {
        let mut state = self.state.lock();
        let after = state.switch.as_ref().map_or(state.lines.len(), |(after, _)| *after);
        state.switch = Some((after, target));
        state.is_idle = false;
        self.work.notify_one();
    }

    /// True if a switch is in the queue.
    pub(super) fn has_switch(&self) -> bool {
        self.state.lock().switch.is_some()
    }

    /// Waits for work. Lines to write are put into `batch`, which must be empty.
    pub(super) fn take(&self, batch: &mut String) -> Work<T> {
        let mut state = self.state.lock();
        loop {
            match state.switch.take() {
                Some((0, target)) => return Work::Switch(target),
                Some((after, target)) => {
                    batch.push_str(&state.lines[..after]);
                    state.lines.drain(..after);
                    state.switch = Some((0, target));
                    return Work::Write;
                }
                None => {}
            }
            if state.lost > 0 || !state.lines.is_empty() {
                std::mem::swap(&mut state.lines, batch);
                let lost = std::mem::take(&mut state.lost);
                if lost > 0 {
                    batch.push_str(&lost_line(lost, self.has_timestamps));
                }
                return Work::Write;
            }
            state.is_idle = true;
            self.idle.notify_all();
            self.work.wait(&mut state);
        }
    }

    /// Waits until everything in the queue is written or `deadline` has come.
    pub(super) fn wait_until_idle(&self, deadline: Instant) {
        let mut state = self.state.lock();
        while !state.is_idle {
            if self.idle.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }
}

/// The line that reports `count` lost lines.
pub(super) fn lost_line(count: u64, has_timestamp: bool) -> String {
    let timestamp = if has_timestamp { timestamp_now() } else { String::new() };
    format!("{timestamp}{count} lines were not logged\n")
}

/// Number of complete lines.
pub(super) fn count_lines(lines: &str) -> u64 {
    lines.bytes().filter(|&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &Queue<u8>) -> (Work<u8>, String) {
        let mut batch = String::new();
        (queue.take(&mut batch), batch)
    }

    #[test]
    fn lines_that_do_not_fit_are_counted_in_order() {
        let queue = Queue::<u8>::new(false);
        let line = format!("{}\n", "ä".repeat(511));
        let fit = MAX_BYTES / line.len();
        for _ in 0..fit + 2 {
            queue.push(&line);
        }
        // This line would fit, but comes after lines that did not.
        queue.push("x\n");
        queue.push("y\nz\n");
        let (work, batch) = take(&queue);
        assert_eq!(work, Work::Write);
        assert_eq!(count_lines(&batch), fit as u64 + 1);
        assert!(batch.ends_with("ä\n5 lines were not logged\n"));
        queue.push("and on\n");
        assert_eq!(take(&queue), (Work::Write, "and on\n".to_owned()));
    }

    #[test]
    fn a_block_of_lines_is_accepted_as_far_as_it_fits() {
        let queue = Queue::<u8>::new(true);
        let block = "0123456789abcde\n".repeat(MAX_BYTES / 16 + 3);
        queue.push(&block);
        let (_, batch) = take(&queue);
        assert!(batch.starts_with(&block[..MAX_BYTES]));
        assert!(
            batch[MAX_BYTES..].starts_with('[') && batch.ends_with("] 3 lines were not logged\n"),
            "{}",
            &batch[MAX_BYTES..]
        );
    }

    #[test]
    fn a_switch_comes_between_the_lines_before_and_after_it_and_only_the_last_one_counts() {
        let queue = Queue::new(false);
        queue.push("old\n");
        queue.switch(1);
        queue.push("new\n");
        queue.switch(2);
        queue.push("newer\n");
        assert!(queue.has_switch());
        assert_eq!(take(&queue), (Work::Write, "old\n".to_owned()));
        assert_eq!(take(&queue), (Work::Switch(2), String::new()));
        assert_eq!(take(&queue), (Work::Write, "new\nnewer\n".to_owned()));
        assert!(!queue.has_switch());
    }
}
