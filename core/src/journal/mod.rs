//! Openings on disk, so that a door is closed after a crash, a kill -9 or a power cut.
//!
//! # How it is kept
//!
//! The state file is text: a first line with the version, then one record a line, each with a checksum. A record is
//! appended and synced *before* the start command runs, and struck off after the stop command has *ended*: a crash in
//! between runs a stop command twice rather than never. When most lines are struck off, the file is written anew beside
//! the old one and put in its place. The file belongs to this user only (0600), since its commands are run; one that
//! others could have written is refused, as is a second process.
//!
//! # Which clock counts
//!
//! A record has the closing time by `CLOCK_BOOTTIME` and by the wall clock. Within the same boot the first decides, so
//! setting the clock neither opens nor closes anything. After a reboot every opening is overdue: its stop command runs
//! once. Where the system does not tell boots apart the wall clock decides; the remaining time is kept between zero and
//! what it was when the record was written.
//!
//! # When it cannot be written
//!
//! A full or read-only disk must not lock an administrator out, so doors go on opening and closing; only a crash would
//! leave them open. That is told once, saving is tried again at least every [`RETRY_AFTER`], and when it works again
//! that is told too.

mod disk;
mod file;
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
pub use notice::{StateError, StateNotice};
pub use record::OpeningId;
use record::{HEADER, Record, Saved, VERSION};
use times::{closes_at, times};

use crate::event::{Action, CommandRequest};
use crate::network::is_address;
use crate::openings::Opening;
use crate::time::Timestamp;

/// How long after a failed write the next try comes where nothing changes in between.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Struck-off lines that are not worth a new file: less than a megabyte. Few in tests, so that new files are common there.
const GARBAGE: usize = if cfg!(test) { 4 } else { 10_000 };
/// Where a file has a number beyond this one, which none has counted to, its openings get new numbers.
const MAX_ID: u64 = u64::MAX / 2;
/// Unwritten bytes beyond which only writing the whole file anew is tried.
const MAX_PENDING: usize = 1 << 20;

/// What was open when the file was last written to.
#[derive(Debug, Default)]
pub struct Restored {
    /// Openings, overdue ones among them.
    pub openings: Vec<Opening>,
    /// Stop commands that were due but are not known to have ended, of doors that have been opened again since.
    pub unfinished: Vec<(OpeningId, CommandRequest)>,
}

/// What makes an opening the one that it is: door, network and stop command.
type Key = (Arc<str>, IpNet, String);

/// For a network the command is without the address: an opening by another address of it takes the place of the one before,
/// whose stop command may not have ended yet.
fn key_of(door: &Arc<str>, ip: IpAddr, net: IpNet, stop_command: &str) -> Key {
    let command = if is_address(net) { stop_command.to_owned() } else { stop_command.replace(&ip.to_string(), "%IP%") };
    (door.clone(), net, command)
}

/// A file of openings. See the module for what it promises.
///
/// Record changes with [`StateFile::opened`], [`StateFile::closing`] and [`StateFile::closed`], then call
/// [`StateFile::commit`] before anything is done about them; drain [`StateFile::poll_notice`] after each.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    boot_id: Arc<str>,
    /// Held as long as this lives.
    lock: Option<File>,
    /// `None` where the file could not be opened to write.
    file: Option<File>,
    /// Where the next record goes.
    end: u64,
    /// How many records the file has.
    records: usize,
    /// What has not been struck off.
    live: BTreeMap<OpeningId, Saved>,
    /// Of those, the ones that are still open.
    current: HashMap<Key, OpeningId>,
    next_id: u64,
    /// Records that are not in the file yet, and whether they have to be synced.
    pending: Vec<u8>,
    pending_records: usize,
    sync: bool,
    /// Something was recorded since the last commit.
    changed: bool,
    /// Appending is not enough, the whole file has to be written.
    rewrite: bool,
    /// Set while writing fails: when to try again.
    retry_at: Option<Timestamp>,
    notices: VecDeque<StateNotice>,
}

impl StateFile {
    /// Opens the file or makes it, and reads what was open. A file that cannot be read or written is told by
    /// [`StateFile::poll_notice`] and is no error. A relative path is taken from the current directory as it is now.
    /// `boot_id` tells one boot from another (see [`crate::clock::boot_id`]).
    ///
    /// # Errors
    /// See [`StateError`]: another process has it, others could have written it, or its version is unknown.
    pub fn open(path: &Path, boot_id: &str, clocks: Clocks) -> Result<(Self, Restored), StateError> {
        // Without a current directory the path is used as it is.
        let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut state = Self {
            path: path.to_owned(),
            boot_id: boot_id.into(),
            lock: None,
            file: None,
            end: 0,
            records: 0,
            live: BTreeMap::new(),
            current: HashMap::new(),
            next_id: 0,
            pending: Vec::new(),
            pending_records: 0,
            sync: false,
            changed: false,
            rewrite: true,
            retry_at: None,
            notices: VecDeque::new(),
        };
        // Failing to make it shows in what follows.
        let _ = file::make_directory(path);
        match file::lock(path) {
            Ok(None) => return Err(StateError::InUse(path.to_owned())),
            Ok(lock) => state.lock = lock,
            // Without the directory there is nothing to lock; the failing write below tells about it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => state.tell(StateNotice::NotLocked(path.to_owned(), error)),
        }
        match file::open(path) {
            Ok((file, writable)) => state.read(file, writable)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(StateError::Untrusted(path.to_owned(), "it is a symbolic link"));
            }
            Err(error) => state.not_read(error),
        }
        let restored = state.restore(clocks);
        state.commit(clocks.now);
        Ok((state, restored))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True where everything recorded so far was written.
    pub fn is_saving(&self) -> bool {
        self.retry_at.is_none()
    }

    /// Records that a door opens, or that its closing time moved. One that no command closes needs no record: its ports
    /// are shut by the kernel.
    pub fn opened(&mut self, opening: &Opening, clocks: Clocks) {
        let Some(stop_command) = &opening.stop_command else { return };
        let key = key_of(&opening.door, opening.ip, opening.net, stop_command);
        let id = *self.current.entry(key).or_insert_with(|| {
            self.next_id += 1;
            OpeningId(self.next_id - 1)
        });
        let saved = Saved {
            door: opening.door.clone(),
            ip: opening.ip,
            stop_command: stop_command.clone(),
            times: times(opening.closes_at, clocks, self.boot_id.clone()),
            net: opening.net,
        };
        self.record_open(id, saved);
    }

    /// Says that a door's stop command is going to run: a further opening of the same door is another one. Nothing is
    /// written until [`StateFile::closed`] is called for what this returns; `None` where no such opening is known.
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

    /// Writes what was recorded since, openings with one sync for all. Closings alone are not synced: if they are lost,
    /// stop commands run once more.
    pub fn commit(&mut self, now: Timestamp) {
        let changed = std::mem::take(&mut self.changed);
        let wanted = match self.retry_at {
            None => changed || self.rewrite,
            Some(due) => due <= now || (changed && !self.rewrite),
        };
        if !wanted {
            return;
        }
        let sparse = self.records + self.pending_records > 2 * self.live.len() + GARBAGE;
        let written = match &self.file {
            Some(file) if !self.rewrite => file::append(file, self.end, &self.pending, self.sync),
            _ => self.write_all(),
        };
        match written {
            Ok(()) => {
                self.end += self.pending.len() as u64;
                self.records += self.pending_records;
                self.forget_pending();
                if self.retry_at.take().is_some() {
                    self.tell(StateNotice::SavedAgain(self.path.clone()));
                }
                if sparse {
                    // Where this fails the old file goes on to serve, or the next commit tries again.
                    let _ = self.write_all();
                }
            }
            Err(error) => {
                let written_badly = error.raw_os_error() == Some(libc::EIO);
                if self.retry_at.replace(now.saturating_add(RETRY_AFTER)).is_none() {
                    self.tell(StateNotice::NotSaved(self.path.clone(), error));
                }
                // After an I/O error a second sync can succeed without the data being there.
                self.rewrite |= written_badly || self.pending.len() > MAX_PENDING;
                if self.rewrite {
                    self.forget_pending();
                }
            }
        }
    }

    /// When [`StateFile::commit`] is due even where nothing was recorded.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// What there is to tell.
    pub fn poll_notice(&mut self) -> Option<StateNotice> {
        self.notices.pop_front()
    }

    /// Moves everything that is not struck off from another file to this one: for a configuration with another path.
    /// Returns the new numbers of the openings.
    pub fn take_over(&mut self, other: &mut Self, now: Timestamp) -> HashMap<OpeningId, OpeningId> {
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

    fn tell(&mut self, notice: StateNotice) {
        self.notices.push_back(notice);
    }

    fn record_open(&mut self, id: OpeningId, saved: Saved) {
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

    /// Writes the file anew with what is live; pending records are in it then.
    fn write_all(&mut self) -> io::Result<()> {
        file::make_directory(&self.path)?;
        if self.lock.is_none() {
            match file::lock(&self.path) {
                Ok(None) => return Err(io::Error::other("another portknockd uses it")),
                Ok(lock) => self.lock = lock,
                // Was told at the start, or the write below fails too.
                Err(_) => {}
            }
        }
        let mut bytes = record::header().into_bytes();
        for (id, saved) in &self.live {
            record::write_open(&mut bytes, *id, saved);
        }
        let file = self.file.insert(file::replace(&self.path, &bytes)?);
        self.end = bytes.len() as u64;
        self.records = self.live.len();
        // Where the name does not last neither file can go on to serve: the old one has no name any more.
        self.rewrite = true;
        file::make_last(file, &self.path)?;
        self.forget_pending();
        self.rewrite = false;
        Ok(())
    }

    /// Keeps a file aside that is there but cannot be read, since it is written anew.
    fn not_read(&mut self, error: io::Error) {
        let _ = std::fs::rename(&self.path, file::beside(&self.path, ".corrupt"));
        self.tell(StateNotice::NotRead(self.path.clone(), error));
    }

    /// Reads an existing file into `live`.
    fn read(&mut self, file: File, writable: bool) -> Result<(), StateError> {
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
                return Ok(());
            }
        };
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        if whole < bytes.len() {
            self.tell(StateNotice::Torn(self.path.clone()));
        }
        let mut lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n').map(|line| &line[..line.len() - 1]);
        let Some(first) = lines.next() else { return Ok(()) };
        let mut damaged = 0;
        match first.strip_prefix(HEADER.as_bytes()) {
            Some(version) if version == VERSION.as_bytes() => {}
            Some(version) if !version.is_empty() && version.iter().all(u8::is_ascii_digit) => {
                let version = String::from_utf8_lossy(version).into_owned();
                return Err(StateError::Version(self.path.clone(), version));
            }
            _ => damaged += 1,
        }
        for line in lines {
            self.records += 1;
            match record::parse(line) {
                Some(Record::Open(id, saved)) => {
                    self.next_id = self.next_id.max(id.0.saturating_add(1));
                    self.live.insert(id, saved);
                }
                Some(Record::Close(id)) => drop(self.live.remove(&id)),
                None => damaged += 1,
            }
        }
        let renumbered = self.next_id > MAX_ID;
        if renumbered {
            self.live = (0..).map(OpeningId).zip(std::mem::take(&mut self.live).into_values()).collect();
            self.next_id = self.live.len() as u64;
        }
        if damaged > 0 {
            let not_kept = file::create(&file::beside(&self.path, ".corrupt"), &bytes).err();
            self.tell(StateNotice::Damaged { path: self.path.clone(), lines: damaged, not_kept });
        } else if writable && !renumbered
            // A process that died may have written it just before, and a power cut would take that away with all that
            // is written from now on.
            && file::make_last(&file, &self.path).is_ok()
        {
            self.rewrite = false;
            self.file = Some(file);
            self.end = whole as u64;
        }
        Ok(())
    }

    fn restore(&mut self, clocks: Clocks) -> Restored {
        let (mut restored, mut unfinished) = (Restored::default(), HashSet::new());
        // The later of two openings of one door stands where it was opened again while its stop command was due.
        for (&id, saved) in &self.live {
            let key = key_of(&saved.door, saved.ip, saved.net, &saved.stop_command);
            if let Some(before) = self.current.insert(key, id)
                && let Some(saved) = self.live.get(&before)
            {
                let Saved { door, ip, stop_command: command, net, .. } = saved.clone();
                unfinished.insert(before);
                restored.unfinished.push((before, CommandRequest { door, ip, action: Action::Close, command, net }));
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
