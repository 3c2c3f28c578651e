//! The journal: openings on disk, so that doors close after a crash, a `kill -9` or a power cut, and
//! accepted replay-proof knocks, so that no start accepts one of them again.
//!
//! # Format and order of writes
//!
//! The state file is text: a first line with the version, then one record per line, each with a
//! checksum. An `open` record is appended and synced *before* the start command runs, and a `close`
//! record is appended after the stop command has *ended*. A crash in between therefore runs a stop
//! command twice rather than never. When most records are closed, a new file atomically replaces the
//! old one.
//!
//! Because the commands in the file are run, only this user can read and write it (mode 0600). A file
//! that another user could have written is refused, and so is a file that another process uses.
//!
//! # Clocks
//!
//! A record has the closing time by `CLOCK_BOOTTIME` and by the wall clock. Within the same boot the
//! first applies, so setting the clock neither opens nor closes anything. After a reboot every opening
//! is overdue: its stop command runs once. If the system does not identify its boots, the wall clock
//! applies; the remaining time is then limited to the range from zero to the time that remained when
//! the record was written.
//!
//! # Accepted knocks
//!
//! A `use` record is appended and synced before anything opens. Doors open although the disk fails, so
//! the file alone does not show whether it contains every accepted knock. A start trusts it only if
//! every line is intact and
//!
//! - the marker (see `marker.rs`) shows that the processes of this boot saved everything, or
//! - there is no marker of this boot, and the last line is `end`: the last process stopped in order.
//!
//! Otherwise, and if it cannot write the file, the start distrusts the memory: every knock that is
//! acceptable at the start is refused, so an honest client waits two clock skews at most. This is
//! recorded (`incomplete`), because another start can follow soon. A new, lost or removed file and a
//! file of the version without these records are distrusted, too. Each start removes `end` and syncs
//! that before a knock can be accepted.
//!
//! An accepted knock can be accepted again only in these cases:
//!
//! - A process stops in order. A later process can write neither the file nor a marker, or its marker is
//!   lost because the system boots; it accepts a knock. A third process can write the file, all within
//!   two clock skews.
//! - The disk fails, the marker can be neither emptied nor removed, and the process dies. A later
//!   process can use the disk within two clock skews.
//! - Knocks were lost, and the wall clock is slow at the start that distrusts the memory. Call
//!   [`StateFile::distrust`] again if the clock is then set forward.
//! - Knocks were lost, and the start that distrusts the memory has a smaller `ClockSkew` than the
//!   process that accepted them.
//! - An older copy replaces the file, or another file is used and then this one again. Processes with
//!   different state files do not share the knocks of a key.
//!
//! # Write errors
//!
//! A full or read-only disk must not lock an administrator out, so doors continue to open and close.
//! Only a crash would leave them open. The state file reports the error once, tries to save again at
//! least every [`RETRY_AFTER`], and reports the first success.

mod disk;
mod file;
mod marker;
mod notice;
mod record;
mod times;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use crate::clock::Clocks;
use marker::{Mark, Marker};
pub use notice::{StateError, StateNotice};
pub use record::OpeningId;
use record::{HEADER, Record, SavedOpening, VERSION, VERSION_OF_OPENINGS};
use times::{closes_at, times};

use crate::config::Options;
use crate::event::{Action, CommandRequest};
use crate::network::is_address;
use crate::openings::Opening;
use crate::replay_memory::{Incomplete, KnockUse, ReplayMemory};
use crate::time::Timestamp;

/// Time between a failed write and the next attempt if nothing changes in between.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Number of superfluous records that a rewrite tolerates: less than a megabyte. Small in tests, so
/// that rewrites are common there.
const GARBAGE: usize = if cfg!(test) { 4 } else { 10_000 };
/// Maximum number of an opening. If a file has a higher one, which no daemon can have reached by
/// counting, its openings get new numbers.
const MAX_ID: u64 = u64::MAX / 2;
/// Maximum size of the unwritten records, in bytes. With more, the file is only written as a whole.
const MAX_PENDING: usize = 1 << 20;

/// The openings in a state file when it was opened.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Restored {
    /// The openings, including overdue ones.
    pub openings: Vec<Opening>,
    /// Stop commands that were due and may not have ended, of doors that have been opened again since.
    pub unfinished: Vec<(OpeningId, CommandRequest)>,
    /// The replay-proof knocks that earlier processes accepted.
    pub(crate) replay: ReplayMemory,
}

/// The identity of an opening: door, network and stop command.
type Key = (Arc<str>, IpNet, String);

/// Returns the identity of an opening. For a network the command is used without the address: an
/// opening by another address of the network replaces the earlier opening, whose stop command may not
/// have ended yet.
fn key_of(door: &Arc<str>, ip: IpAddr, net: IpNet, stop_command: &str) -> Key {
    let command = if is_address(net) { stop_command.to_owned() } else { stop_command.replace(&ip.to_string(), "%IP%") };
    (door.clone(), net, command)
}

/// A file of openings. The documentation of the module describes its guarantees.
///
/// Record changes with [`StateFile::opened`], [`StateFile::closing`], [`StateFile::closed`] and
/// `StateFile::used`, then call [`StateFile::commit`] before you act on them. After each call, read all notices with
/// [`StateFile::poll_notice`].
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    boot_id: Arc<str>,
    /// The locked file; the lock ends with this value.
    lock: Option<File>,
    /// `None` if the file could not be opened for writing.
    file: Option<File>,
    /// The offset of the next record.
    end: u64,
    /// Number of records in the file.
    records: usize,
    /// The openings without a `close` record.
    live: BTreeMap<OpeningId, SavedOpening>,
    /// Those of `live` whose stop command has not been requested.
    current: HashMap<Key, OpeningId>,
    next_id: u64,
    /// The accepted knocks in the file and in the pending records.
    replay: ReplayMemory,
    marker: Marker,
    /// The marker must be written after the next successful write.
    marks: bool,
    /// This process stops in order.
    ended: bool,
    /// The records that are not in the file yet.
    pending: Vec<u8>,
    pending_records: usize,
    /// The next write must be synced.
    sync: bool,
    /// There are new records since the last commit.
    changed: bool,
    /// The whole file must be written, because appending is not enough.
    rewrite: bool,
    /// Set while writing fails: the time of the next attempt.
    retry_at: Option<Timestamp>,
    notices: VecDeque<StateNotice>,
}

/// The properties of a file that was read.
struct ReadFile {
    /// The file, if records can be appended to it.
    file: Option<File>,
    /// Every complete line can be read, and may be a line of accepted knocks.
    is_intact: bool,
    /// Number of bytes of the complete lines.
    whole: u64,
    /// The last line is `end`.
    ended: bool,
}

impl ReadFile {
    /// True if the file contains every knock that earlier processes accepted.
    fn is_complete(&self, mark: Mark) -> bool {
        let has_all = match mark {
            Mark::Saved(len) => len <= self.whole,
            Mark::Absent => self.ended,
            Mark::Unsaved => false,
        };
        has_all && self.is_intact
    }
}

impl StateFile {
    /// Opens or creates the file and reads its openings. A file that cannot be read or written is no
    /// error; [`StateFile::poll_notice`] reports it. A relative path starts at the present current
    /// directory. `boot_id` identifies the present boot of the system (see `clock.rs`);
    /// it is empty if the system does not identify its boots.
    ///
    /// # Errors
    /// See [`StateError`]: another process uses the file, another user could have written it, or its
    /// version is unknown.
    pub fn open(path: &Path, boot_id: &str, clocks: Clocks) -> Result<(Self, Restored), StateError> {
        Self::open_marked(path, boot_id, None, Options::default().clock_skew, clocks)
    }

    /// Opens or creates the file as [`StateFile::open`] does. `markers` is a directory that is cleared
    /// when the system boots, and only then. Pass the same directory at every start. Without it, every
    /// start after one that did not stop in order distrusts the memory of accepted knocks. `skew` is the
    /// permitted difference between the clocks of clients and of this machine.
    pub(crate) fn open_marked(
        path: &Path,
        boot_id: &str,
        markers: Option<&Path>,
        skew: Duration,
        clocks: Clocks,
    ) -> Result<(Self, Restored), StateError> {
        // Without a current directory the path is used unchanged.
        let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let boot_id: Arc<str> = boot_id.into();
        let mut state = Self {
            path: path.to_owned(),
            marker: Marker::new(markers, path, boot_id.clone()),
            boot_id,
            lock: None,
            file: None,
            end: 0,
            records: 0,
            live: BTreeMap::new(),
            current: HashMap::new(),
            next_id: 0,
            replay: ReplayMemory::default(),
            marks: false,
            ended: false,
            pending: Vec::new(),
            pending_records: 0,
            sync: false,
            changed: false,
            rewrite: true,
            retry_at: None,
            notices: VecDeque::new(),
        };
        // If this fails, the following steps fail, too.
        let _ = file::make_directory(path);
        match file::lock(path) {
            Ok(None) => return Err(StateError::InUse(path.to_owned())),
            Ok(lock) => state.lock = lock,
            // Without the directory there is nothing to lock. The write below fails and reports it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => state.notify(StateNotice::NotLocked(path.to_owned(), error)),
        }
        let found = match file::open(path) {
            Ok((file, writable)) => state.read(file, writable)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(StateError::Untrusted(path.to_owned(), "it is a symbolic link"));
            }
            Err(error) => {
                state.not_read(error);
                None
            }
        };
        let mark = state.marker.read();
        if found.as_ref().is_some_and(|found| found.is_complete(mark)) {
            state.marker.save(state.end);
        } else {
            state.distrust(Incomplete::new(clocks.wall, skew));
        }
        // After a failed sync, a later one can succeed although the disk does not have what was read.
        if let Some(file) = found.and_then(|found| found.file)
            && mark != Mark::Unsaved
        {
            state.append_to(file);
        }
        let mut restored = state.restore(clocks);
        state.commit(clocks.now);
        if state.is_saving() {
            state.marker.save(state.end);
        } else {
            // The file may still be as an earlier process left it when a later start can write it.
            state.replay.distrust(Incomplete::new(clocks.wall, skew));
        }
        restored.replay = state.replay.clone();
        Ok((state, restored))
    }

    /// Uses an existing file, without `end` and any incomplete line, if it can be written and synced.
    fn append_to(&mut self, file: File) {
        // An earlier process may have written records without a sync. A power cut could lose them, and
        // with them all later records.
        let written = file::append(&file, self.end, &self.pending);
        if written.and_then(|()| file::sync_with_name(&file, &self.path)).is_ok() {
            self.rewrite = false;
            self.file = Some(file);
            self.end += self.pending.len() as u64;
            self.records += self.pending_records;
            self.forget_pending();
            self.changed = false;
        }
    }

    /// The absolute path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// True if the latest write succeeded, so that no recorded change waits for another attempt.
    pub(crate) fn is_saving(&self) -> bool {
        self.retry_at.is_none()
    }

    /// Records that a door opens, or that its closing time changed. An opening without a stop command
    /// needs no record, because the kernel closes its ports.
    pub fn opened(&mut self, opening: &Opening, clocks: Clocks) {
        let Some(stop_command) = &opening.stop_command else { return };
        let key = key_of(&opening.door, opening.ip, opening.net, stop_command);
        let id = *self.current.entry(key).or_insert_with(|| {
            self.next_id += 1;
            OpeningId(self.next_id - 1)
        });
        let saved = SavedOpening {
            door: opening.door.clone(),
            ip: opening.ip,
            stop_command: stop_command.clone(),
            times: times(opening.closes_at, clocks, self.boot_id.clone()),
            net: opening.net,
        };
        self.record_open(id, saved);
    }

    /// Notes that the stop command of an opening is going to run, so that a later opening of the same
    /// door is a new one. Returns the number to pass to [`StateFile::closed`], which records the end;
    /// this method records nothing. `None` if there is no such opening.
    pub fn closing(&mut self, request: &CommandRequest) -> Option<OpeningId> {
        let key = key_of(&request.door, request.ip, request.net, &request.command);
        self.current.remove(&key)
    }

    /// Records that the stop command of an opening has ended.
    pub fn closed(&mut self, id: OpeningId) {
        if self.live.remove(&id).is_some() {
            record::write_close(&mut self.pending, id);
            self.pending_records += 1;
            self.changed = true;
        }
    }

    /// Records that a replay-proof knock was accepted. Nothing may open before the next
    /// [`StateFile::commit`].
    pub(crate) fn used(&mut self, knock: &KnockUse) {
        debug_assert!(!self.ended, "nothing is recorded after the end");
        record::write_use(&mut self.pending, knock);
        self.pending_records += 1;
        self.record_memory();
        self.replay.restore(knock);
    }

    /// Records that knocks which were acceptable in these times may have been accepted without a record.
    pub(crate) fn distrust(&mut self, times: Incomplete) {
        // The marker is written again when the file contains this.
        self.marker.clear();
        record::write_incomplete(&mut self.pending, times);
        self.pending_records += 1;
        self.record_memory();
        self.replay.distrust(times);
    }

    fn record_memory(&mut self) {
        (self.sync, self.changed, self.marks) = (true, true, true);
    }

    /// Records that this process stops in order, and writes and syncs all changes. This is the last
    /// call.
    pub(crate) fn finish(&mut self, now: Timestamp) {
        record::write_end(&mut self.pending);
        self.pending_records += 1;
        (self.sync, self.changed, self.ended) = (true, true, true);
        // Does not wait for the time of the next attempt.
        self.retry_at = self.retry_at.map(|_| now);
        self.commit(now);
    }

    /// Writes the changes since the last call, with one sync for all openings and knocks. Closings alone are
    /// not synced: if they are lost, their stop commands run once more.
    pub fn commit(&mut self, now: Timestamp) {
        let changed = std::mem::take(&mut self.changed);
        let wanted = match self.retry_at {
            None => changed || self.rewrite,
            Some(due) => due <= now || (changed && !self.rewrite),
        };
        if !wanted {
            return;
        }
        let sparse = self.records + self.pending_records > 2 * (self.live.len() + self.replay.len()) + GARBAGE;
        let written = match &self.file {
            Some(file) if !self.rewrite => {
                let appended = file::append(file, self.end, &self.pending);
                if appended.is_ok() && self.sync {
                    let synced = file::sync(file);
                    // A second sync can succeed without having written the data.
                    self.rewrite = synced.is_err();
                    synced
                } else {
                    appended
                }
            }
            _ => self.write_all(),
        };
        match written {
            Ok(()) => {
                self.end += self.pending.len() as u64;
                self.records += self.pending_records;
                self.forget_pending();
                if self.retry_at.take().is_some() {
                    self.notify(StateNotice::SavedAgain(self.path.clone()));
                }
                if sparse {
                    // If this fails, the old file stays in use, or the next commit tries again.
                    let _ = self.write_all();
                }
                if std::mem::take(&mut self.marks) {
                    self.marker.save(self.end);
                }
            }
            Err(error) => {
                self.marker.clear();
                self.marks = true;
                let written_badly = error.raw_os_error() == Some(libc::EIO);
                if self.retry_at.replace(now.saturating_add(RETRY_AFTER)).is_none() {
                    self.notify(StateNotice::NotSaved(self.path.clone(), error));
                }
                self.rewrite |= written_badly || self.pending.len() > MAX_PENDING;
                if self.rewrite {
                    self.forget_pending();
                }
            }
        }
    }

    /// Returns the time at which [`StateFile::commit`] is due even if nothing was recorded.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// Returns the next notice.
    pub fn poll_notice(&mut self) -> Option<StateNotice> {
        self.notices.pop_front()
    }

    /// Moves all openings from another file to this one, after a reload with another path, and copies
    /// the accepted knocks. Returns the new number of each opening by its old number. A later start with
    /// the other file distrusts its memory, because it does not have the knocks from now on.
    pub(crate) fn move_from(&mut self, other: &mut Self, now: Timestamp) -> HashMap<OpeningId, OpeningId> {
        other.marker.abandon();
        self.pending_records += record::write_memory(&mut self.pending, &other.replay);
        self.record_memory();
        self.replay.merge(&other.replay);
        let mut numbers = HashMap::new();
        for (&id, saved) in &other.live {
            let new = OpeningId(self.next_id);
            self.next_id += 1;
            self.record_open(new, saved.clone());
            numbers.insert(id, new);
        }
        for (key, id) in other.current.drain() {
            let same = numbers.get(&id).and_then(|&new| self.current.insert(key, new));
            if let Some(same) = same {
                self.closed(same);
            }
        }
        self.commit(now);
        if self.is_saving() {
            for id in numbers.keys() {
                other.closed(*id);
            }
            other.commit(now);
        }
        numbers
    }

    fn notify(&mut self, notice: StateNotice) {
        self.notices.push_back(notice);
    }

    fn record_open(&mut self, id: OpeningId, saved: SavedOpening) {
        record::write_open(&mut self.pending, id, &saved);
        self.pending_records += 1;
        self.sync = true;
        self.changed = true;
        self.live.insert(id, saved);
    }

    fn forget_pending(&mut self) {
        self.pending.clear();
        self.pending_records = 0;
        self.sync = false;
    }

    /// Replaces the file by one with the live openings and the accepted knocks, which include the
    /// pending records.
    fn write_all(&mut self) -> io::Result<()> {
        file::make_directory(&self.path)?;
        if self.lock.is_none() {
            match file::lock(&self.path) {
                Ok(None) => return Err(io::Error::other("another portknockd uses it")),
                Ok(lock) => self.lock = lock,
                // This was reported at the start, or the write below fails, too.
                Err(_) => {}
            }
        }
        let mut bytes = record::header().into_bytes();
        for (id, saved) in &self.live {
            record::write_open(&mut bytes, *id, saved);
        }
        let mut records = self.live.len() + record::write_memory(&mut bytes, &self.replay);
        if self.ended {
            record::write_end(&mut bytes);
            records += 1;
        }
        self.marker.shorten(bytes.len() as u64);
        let file = self.file.insert(file::replace(&self.path, &bytes)?);
        self.end = bytes.len() as u64;
        self.records = records;
        // If the name cannot be synced, neither file can be used: the old one has no name any more.
        self.rewrite = true;
        file::sync_with_name(file, &self.path)?;
        self.forget_pending();
        self.rewrite = false;
        Ok(())
    }

    /// Renames an existing file that cannot be read, because a new file replaces it.
    fn not_read(&mut self, error: io::Error) {
        let _ = std::fs::rename(&self.path, file::with_suffix(&self.path, ".corrupt"));
        self.notify(StateNotice::NotRead(self.path.clone(), error));
    }

    /// Reads an existing file into `live` and `replay`. `None` if it cannot be read or contains no
    /// complete line.
    fn read(&mut self, file: File, writable: bool) -> Result<Option<ReadFile>, StateError> {
        let distrust = |why| StateError::Untrusted(self.path.clone(), why);
        let bytes = match file::distrust(&file) {
            Ok(Some(why)) => return Err(distrust(why)),
            Ok(None) => file::read_all(&file),
            Err(error) => Err(error),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                self.not_read(error);
                return Ok(None);
            }
        };
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        if whole < bytes.len() {
            self.notify(StateNotice::Torn(self.path.clone()));
        }
        let mut lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n').map(|line| &line[..line.len() - 1]);
        let Some(first) = lines.next() else { return Ok(None) };
        let mut damaged = 0;
        let mut is_current = false;
        match first.strip_prefix(HEADER.as_bytes()) {
            Some(version) if version == VERSION.as_bytes() => is_current = true,
            Some(version) if version == VERSION_OF_OPENINGS.as_bytes() => {}
            Some(version) if !version.is_empty() && version.iter().all(u8::is_ascii_digit) => {
                let version = String::from_utf8_lossy(version).into_owned();
                return Err(StateError::Version(self.path.clone(), version));
            }
            _ => damaged += 1,
        }
        let (mut ends, mut ended) = (0, false);
        for line in lines {
            self.records += 1;
            ended = false;
            match record::parse(line) {
                Some(Record::Open(id, saved)) => {
                    self.next_id = self.next_id.max(id.0.saturating_add(1));
                    self.live.insert(id, saved);
                }
                Some(Record::Close(id)) => drop(self.live.remove(&id)),
                Some(Record::Use(knock)) => self.replay.restore(&knock),
                Some(Record::Floor(key, form, floor)) => self.replay.restore_floor(key, form, floor),
                Some(Record::Incomplete(times)) => self.replay.distrust(times),
                Some(Record::End) => {
                    ends += 1;
                    ended = whole == bytes.len();
                    self.end = (whole - line.len() - 1) as u64;
                }
                None => damaged += 1,
            }
        }
        let renumbered = self.next_id > MAX_ID;
        if renumbered {
            self.live = (0..).map(OpeningId).zip(std::mem::take(&mut self.live).into_values()).collect();
            self.next_id = self.live.len() as u64;
        }
        if damaged > 0 {
            let not_kept = file::create(&file::with_suffix(&self.path, ".corrupt"), &bytes).err();
            self.notify(StateNotice::Damaged { path: self.path.clone(), lines: damaged, not_kept });
        }
        let can_append = writable && is_current && damaged == 0 && !renumbered && ends == usize::from(ended);
        if !ended {
            self.end = whole as u64;
        }
        Ok(Some(ReadFile {
            file: can_append.then_some(file),
            is_intact: is_current && damaged == 0,
            whole: whole as u64,
            ended,
        }))
    }

    fn restore(&mut self, clocks: Clocks) -> Restored {
        let (mut restored, mut unfinished) = (Restored::default(), HashSet::new());
        // Of two openings with the same key, the door was opened again while its stop command was
        // due. The later opening is the current one.
        for (&id, saved) in &self.live {
            let key = key_of(&saved.door, saved.ip, saved.net, &saved.stop_command);
            if let Some(before) = self.current.insert(key, id)
                && let Some(saved) = self.live.get(&before)
            {
                let SavedOpening { door, ip, stop_command: command, net, .. } = saved.clone();
                unfinished.insert(before);
                restored
                    .unfinished
                    .push((before, CommandRequest { door, ip, action: Action::Close, command, net, key: None }));
            }
        }
        for (id, saved) in &self.live {
            if !unfinished.contains(id) {
                restored.openings.push(Opening {
                    door: saved.door.clone(),
                    ip: saved.ip,
                    closes_at: closes_at(&saved.times, clocks, &self.boot_id),
                    stop_command: Some(saved.stop_command.clone()),
                    open: Arc::new([]),
                    net: saved.net,
                });
            }
        }
        restored
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
