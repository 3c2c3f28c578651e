//! A simulated disk: at any change that a test selects the process dies or the disk fails, and the
//! disk can lose power.
//!
//! The files are real files in a temporary directory. The simulation also keeps the synced contents of
//! each file and the changes since. After a loss of power the file has the synced contents, and any
//! part of the later changes. Threads that set up no simulated disk use the real one.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use super::super::disk;

/// The payload of the unwinding that simulates the death of the process.
pub(super) struct Died;

/// The moment of a change at which the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    Amid,
    After,
}

/// The faults of the disk. Changes are counted from 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    pub(super) dies_at: Option<(usize, Moment)>,
    /// The changes that fail, and the error number with which they fail.
    pub(super) fails_at: Option<(Range<usize>, i32)>,
}

#[derive(Debug, Default)]
struct Disk {
    trouble: Trouble,
    changes: usize,
    has_failed: bool,
    names: BTreeMap<PathBuf, u64>,
    /// The names at the last sync, and after each change since.
    names_since_sync: Vec<BTreeMap<PathBuf, u64>>,
    /// By inode number.
    files: HashMap<u64, Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    synced: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(Vec<u8>, u64),
    Length(u64),
}

#[derive(Clone, Copy)]
enum Fate {
    Done,
    Dies(Moment),
    Fails(i32),
}

thread_local! {
    static DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

/// Sets up an empty disk for this thread in the directory of `path`.
pub(super) fn set_up(path: &Path, trouble: Trouble) {
    let _ = fs::remove_dir_all(path.parent().unwrap());
    let names_since_sync = vec![BTreeMap::new()];
    DISK.set(Some(Disk { trouble, names_since_sync, ..Disk::default() }));
}

/// Sets the faults from now on, and returns the number of changes since the last call.
pub(super) fn expect(trouble: Trouble) -> usize {
    with(|disk| {
        disk.trouble = trouble;
        std::mem::take(&mut disk.changes)
    })
    .unwrap_or_default()
}

/// Returns whether a change failed since the last call.
pub(super) fn has_failed() -> bool {
    with(|disk| std::mem::take(&mut disk.has_failed)).unwrap_or_default()
}

/// Removes a file, as another program does it, or replaces it by one with these bytes.
pub(super) fn tamper(path: &Path, bytes: Option<&[u8]>) {
    with(|disk| {
        fs::remove_file(path).unwrap();
        disk.names.remove(path);
        if let Some(bytes) = bytes {
            let inode = restore(path, bytes);
            disk.names.insert(path.to_owned(), inode);
            disk.files.insert(inode, Contents { synced: bytes.to_vec(), since: Vec::new() });
        }
        disk.names_since_sync = vec![disk.names.clone()];
    });
}

/// Creates a file with these bytes. Returns its inode number.
fn restore(path: &Path, bytes: &[u8]) -> u64 {
    let mut private = OpenOptions::new();
    let file = disk::create(path, private.write(true).mode(0o600)).unwrap();
    disk::write(&file, bytes).unwrap();
    file.metadata().unwrap().ino()
}

/// Simulates a loss of power: keeps the synced contents and a random part of the later changes.
pub(super) fn lose_power(rng: &mut fastrand::Rng) {
    with(|disk| {
        for path in disk.names.keys() {
            fs::remove_file(path).unwrap();
        }
        disk.names = disk.names_since_sync[rng.usize(..disk.names_since_sync.len())].clone();
        disk.names_since_sync = vec![disk.names.clone()];
        let mut files = HashMap::new();
        for (path, inode) in &mut disk.names {
            let Contents { synced, since } = &disk.files[inode];
            let mut bytes = synced.clone();
            let kept = rng.usize(..=since.len());
            since[..kept].iter().for_each(|change| change.apply_to(&mut bytes));
            if let Some(Change::Write(next, offset)) = since.get(kept) {
                let part = next[..rng.usize(..=next.len())].to_vec();
                // The disk may have written the length without the bytes.
                let part = if rng.u8(..4) == 0 { vec![0; part.len()] } else { part };
                Change::Write(part, *offset).apply_to(&mut bytes);
            }
            *inode = restore(path, &bytes);
            files.insert(*inode, Contents { synced: bytes, since: Vec::new() });
        }
        disk.names_since_sync = vec![disk.names.clone()];
        disk.files = files;
    });
}

impl Change {
    fn apply_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(new, offset) => {
                let (start, end) = (usize::try_from(*offset).unwrap(), usize::try_from(*offset).unwrap() + new.len());
                bytes.resize(bytes.len().max(end), 0);
                bytes[start..end].copy_from_slice(new);
            }
            Self::Length(len) => bytes.resize(usize::try_from(*len).unwrap(), 0),
        }
    }
}

fn with<T>(act: impl FnOnce(&mut Disk) -> T) -> Option<T> {
    DISK.with_borrow_mut(|disk| disk.as_mut().map(act))
}

/// Counts a change and returns its fate.
fn next_fate() -> Fate {
    let fate = with(|disk| {
        let number = disk.changes;
        disk.changes += 1;
        match (&disk.trouble.dies_at, &disk.trouble.fails_at) {
            (Some((at, moment)), _) if *at == number => Fate::Dies(*moment),
            (_, Some((range, error))) if range.contains(&number) => {
                disk.has_failed = true;
                Fate::Fails(*error)
            }
            _ => Fate::Done,
        }
    });
    fate.unwrap_or(Fate::Done)
}

/// Makes one change. `whole` makes it completely, `part` makes some of it and receives the fate of the
/// change.
fn change<T>(part: impl FnOnce(Fate), whole: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let fate = next_fate();
    match fate {
        Fate::Done => return whole(),
        Fate::Fails(error) => {
            part(fate);
            return Err(io::Error::from_raw_os_error(error));
        }
        Fate::Dies(Moment::Before) => {}
        Fate::Dies(Moment::Amid) => part(fate),
        Fate::Dies(Moment::After) => drop(whole()),
    }
    resume_unwind(Box::new(Died))
}

/// Records a change of a file's contents, which is not synced yet.
fn note(file: &File, change: Change) {
    with(|disk| disk.files.entry(file.metadata().unwrap().ino()).or_default().since.push(change));
}

fn note_names(act: impl FnOnce(&mut BTreeMap<PathBuf, u64>)) {
    with(|disk| {
        act(&mut disk.names);
        disk.names_since_sync.push(disk.names.clone());
    });
}

fn sync(file: &File, really: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    // After a failed sync, no later sync writes the same pages: the changes since the last successful
    // sync are lost.
    let lost = |fate| {
        let inode = file.metadata().unwrap().ino();
        with(|disk| {
            if let (Fate::Fails(_), Some(contents)) = (fate, disk.files.get_mut(&inode)) {
                contents.since.clear();
            }
        });
    };
    change(lost, || {
        let simulated = with(|disk| {
            let Contents { synced, since } = disk.files.entry(file.metadata().unwrap().ino()).or_default();
            since.drain(..).for_each(|change| change.apply_to(synced));
        });
        if simulated.is_some() { Ok(()) } else { really(file) }
    })
}

pub(in crate::journal) fn create(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    change(
        |_| (),
        || {
            let file = disk::create(path, options)?;
            let inode = file.metadata()?.ino();
            with(|disk| disk.files.insert(inode, Contents::default()));
            note_names(|names| _ = names.insert(path.to_owned(), inode));
            Ok(file)
        },
    )
}

pub(in crate::journal) fn write(file: &File, bytes: &[u8]) -> io::Result<()> {
    let put = |bytes: &[u8]| {
        note(file, Change::Write(bytes.to_vec(), 0));
        disk::write(file, bytes)
    };
    change(|_| put(&bytes[..bytes.len() / 2]).unwrap(), || put(bytes))
}

pub(in crate::journal) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let put = |bytes: &[u8]| {
        note(file, Change::Write(bytes.to_vec(), offset));
        disk::write_at(file, bytes, offset)
    };
    change(|_| put(&bytes[..bytes.len() / 2]).unwrap(), || put(bytes))
}

pub(in crate::journal) fn set_len(file: &File, len: u64) -> io::Result<()> {
    change(
        |_| (),
        || {
            note(file, Change::Length(len));
            disk::set_len(file, len)
        },
    )
}

pub(in crate::journal) fn sync_data(file: &File) -> io::Result<()> {
    sync(file, disk::sync_data)
}

pub(in crate::journal) fn sync_all(file: &File) -> io::Result<()> {
    sync(file, disk::sync_all)
}

pub(in crate::journal) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    change(
        |_| (),
        || {
            note_names(|names| {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.to_owned(), inode);
                }
            });
            disk::rename(from, to)
        },
    )
}

pub(in crate::journal) fn remove(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return disk::remove(path);
    }
    change(
        |_| (),
        || {
            note_names(|names| _ = names.remove(path));
            disk::remove(path)
        },
    )
}

pub(in crate::journal) fn sync_names(directory: &Path) -> io::Result<()> {
    change(
        |_| (),
        || {
            let simulated = with(|disk| disk.names_since_sync = vec![disk.names.clone()]);
            if simulated.is_some() { Ok(()) } else { disk::sync_names(directory) }
        },
    )
}

pub(in crate::journal) fn write_marker(path: &Path, text: &str) -> io::Result<()> {
    change_marker(|| disk::write_marker(path, text))
}

pub(in crate::journal) fn rename_marker(from: &Path, to: &Path) -> io::Result<()> {
    change_marker(|| disk::rename_marker(from, to))
}

pub(in crate::journal) fn remove_marker(path: &Path) -> io::Result<()> {
    change_marker(|| disk::remove_marker(path))
}

/// Makes one change of a marker, before or after which the process can die. Markers are on another
/// medium, which does not fail.
fn change_marker(make: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match next_fate() {
        Fate::Done | Fate::Fails(_) => return make(),
        Fate::Dies(Moment::Before) => {}
        Fate::Dies(_) => make()?,
    }
    resume_unwind(Box::new(Died))
}
