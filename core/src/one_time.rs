//! One-time sequences: a file with one sequence a line, each of which opens the door once.
//!
//! As in knockd, a used line is marked by a `#` in its first column, in place, so that the file
//! keeps its owner, its mode and its other lines. The `#` replaces a leading space. If the line has
//! none, the `#` is inserted: the rest of the file moves by one byte, in the same write, after the
//! file has grown by that byte. If the disk is too full for the byte, the `#` overwrites the first
//! digit as knockd does: the line is a comment from then on. Lines that are empty or begin with `#`
//! (spaces in front do not matter) are skipped.
//!
//! A line is marked and synced *before* its command runs. If that fails (a read-only or broken
//! disk), the command must not run, because an observer of the packets could send them again: the
//! door stays closed until the configuration is loaded again. As in knockd's manual, administrators
//! should not edit the file while it is in use. Each operation nevertheless reads the file again,
//! and never overwrites an edit.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::config::{Sequence, SequenceLine, unused_lines};
use crate::printable::shown_path;

/// A file of one-time sequences, and its current line.
#[derive(Debug)]
pub struct OneTimeFile {
    path: PathBuf,
    current: Option<UnusedLine>,
}

/// A line that has not been used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct UnusedLine {
    /// The number of the line, counted from 1.
    number: usize,
    /// The offset of its first byte in the file.
    offset: u64,
    /// All of its bytes except the newline.
    text: Vec<u8>,
    sequence: Sequence,
}

/// An error of a file of one-time sequences.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OneTimeError {
    /// The file cannot be read.
    #[error("cannot read the one-time sequences in {path}: {1}", path = shown_path(.0))]
    Unreadable(PathBuf, #[source] io::Error),
    /// A line is not a sequence: the number of the line, counted from 1, and a description of the
    /// error.
    #[error("{path}:{1}: {2}", path = shown_path(.0))]
    BadLine(PathBuf, usize, String),
    /// The current line cannot be marked.
    #[error("cannot mark line {1} of {path} as used: {2}; its command does not run, and the door stays closed until a reload", path = shown_path(.0))]
    NotMarked(PathBuf, usize, #[source] io::Error),
    /// The current line was removed or changed; the number is its former number.
    #[error("line {1} of {path} was changed after it was read; the knock with its sequence is ignored", path = shown_path(.0))]
    Edited(PathBuf, usize),
}

impl OneTimeFile {
    /// Reads the file. The first unused line becomes the current line. A relative path is resolved
    /// against the current directory once, now.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if any unused line is not a sequence. A file without an
    /// unused line is valid.
    pub fn open(path: &Path) -> Result<Self, OneTimeError> {
        let unreadable = |error| OneTimeError::Unreadable(path.to_owned(), error);
        let path = std::path::absolute(path).map_err(unreadable)?;
        let bytes = read(&path)?;
        let mut lines = unused(&path, &bytes);
        let current = lines.next().transpose()?;
        lines.try_for_each(|line| line.map(drop))?;
        drop(lines);
        Ok(Self { path, current })
    }

    /// Returns the absolute path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the sequence of the current line; `None` if no unused line is left.
    pub fn current(&self) -> Option<&Sequence> {
        self.current.as_ref().map(|line| &line.sequence)
    }

    /// Marks the current line as used, on disk. Its command may run only after that.
    ///
    /// # Errors
    /// Returns [`OneTimeError::NotMarked`] if the file cannot be written, and
    /// [`OneTimeError::Edited`] if the first unused line is no longer the current line. In each
    /// case the command must not run.
    pub fn mark_used(&mut self) -> Result<(), OneTimeError> {
        let Some(line) = self.current.take() else { return Ok(()) };
        let not_marked = |error| OneTimeError::NotMarked(self.path.clone(), line.number, error);
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path).map_err(not_marked)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(not_marked)?;
        // An edit can have added or removed lines before it.
        let found = match unused(&self.path, &bytes).next() {
            Some(Ok(now)) if now.sequence == line.sequence && now.text == line.text => now,
            _ => return Err(OneTimeError::Edited(self.path.clone(), line.number)),
        };
        let rest = usize::try_from(found.offset).map_or(&[][..], |at| bytes.get(at..).unwrap_or_default());
        let mut mark = b"#".to_vec();
        let inserts = rest.first().is_some_and(|first| !first.is_ascii_whitespace());
        // The file grows first, by an empty line, so that the write below needs no space on the
        // disk.
        if inserts && file.write_all_at(b"\n", bytes.len() as u64).is_ok() {
            mark.extend(rest);
        }
        file.write_all_at(&mark, found.offset).and_then(|()| file.sync_data()).map_err(not_marked)
    }

    /// Makes the first unused line the current line, and returns its sequence; `None` if there is
    /// no unused line.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if that line is not a sequence.
    pub fn advance(&mut self) -> Result<Option<&Sequence>, OneTimeError> {
        let bytes = read(&self.path)?;
        self.current = unused(&self.path, &bytes).next().transpose()?;
        Ok(self.current())
    }
}

/// Returns the unused sequences of a file, in order. Does not change the file.
///
/// # Errors
/// Fails if the file cannot be read, or if any unused line is not a sequence.
pub fn unused_sequences(path: &Path) -> Result<Vec<Sequence>, OneTimeError> {
    let bytes = read(path)?;
    unused(path, &bytes).map(|line| line.map(|line| line.sequence)).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, OneTimeError> {
    fs::read(path).map_err(|error| OneTimeError::Unreadable(path.to_owned(), error))
}

/// Returns the unused lines, or an error for each invalid line.
fn unused<'a>(path: &'a Path, bytes: &'a [u8]) -> impl Iterator<Item = Result<UnusedLine, OneTimeError>> + 'a {
    unused_lines(bytes).map(|SequenceLine { number, offset, bytes, sequence }| {
        let sequence = sequence.map_err(|why| OneTimeError::BadLine(path.to_owned(), number, why))?;
        Ok(UnusedLine { number, offset: offset as u64, text: bytes.to_owned(), sequence })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    struct Setup {
        _dir: tempfile::TempDir,
        path: PathBuf,
    }

    fn setup(text: &str) -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sequences");
        fs::write(&path, text).unwrap();
        Setup { _dir: dir, path }
    }

    impl Setup {
        fn open(&self) -> OneTimeFile {
            OneTimeFile::open(&self.path).unwrap()
        }

        fn text(&self) -> String {
            fs::read_to_string(&self.path).unwrap()
        }
    }

    fn current(file: &OneTimeFile) -> Option<String> {
        file.current().map(Sequence::to_string)
    }

    fn step(file: &mut OneTimeFile) -> Option<String> {
        file.mark_used().unwrap();
        file.advance().unwrap().map(Sequence::to_string)
    }

    #[test]
    fn lines_are_used_one_after_another_and_marked_in_place() {
        let setup = setup("# mine\n\n 1,2,3\r\n#9,9,9\n4,5:udp,6\n\t7,8 # last");
        let mut file = setup.open();
        assert_eq!(current(&file).as_deref(), Some("1,2,3"));
        assert_eq!(step(&mut file).as_deref(), Some("4,5:udp,6"));
        assert_eq!(setup.text(), "# mine\n\n#1,2,3\r\n#9,9,9\n4,5:udp,6\n\t7,8 # last");
        assert_eq!(step(&mut file).as_deref(), Some("7,8"));
        assert_eq!(setup.text(), "# mine\n\n#1,2,3\r\n#9,9,9\n#4,5:udp,6\n\t7,8 # last");
        assert_eq!(current(&setup.open()).as_deref(), Some("7,8"), "a restart goes on with the same line");
        assert_eq!(step(&mut file), None);
        assert_eq!(setup.text(), "# mine\n\n#1,2,3\r\n#9,9,9\n#4,5:udp,6\n#7,8 # last");
        assert_eq!(current(&setup.open()), None);
        file.mark_used().unwrap();
    }

    #[test]
    fn a_line_without_a_leading_space_keeps_its_digits() {
        let setup = setup("7264,3981\n5410:udp,99\n1,2");
        let mut file = setup.open();
        assert_eq!(step(&mut file).as_deref(), Some("5410:udp,99"));
        assert_eq!(setup.text(), "#7264,3981\n5410:udp,99\n1,2");
        assert_eq!(step(&mut file).as_deref(), Some("1,2"));
        assert_eq!(step(&mut file), None);
        assert_eq!(setup.text(), "#7264,3981\n#5410:udp,99\n#1,2");
    }

    #[test]
    fn every_line_is_checked_at_the_start() {
        let setup = setup(" 1,2\n 3,70000\n");
        let error = OneTimeFile::open(&setup.path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:2: ", setup.path.display())), "{error}");
        fs::write(&setup.path, b" 1,2\n\xff\n").unwrap();
        let error = OneTimeFile::open(&setup.path).unwrap_err().to_string();
        assert!(error.ends_with("sequences:2: the line is not UTF-8"), "{error}");
        fs::remove_file(&setup.path).unwrap();
        let error = OneTimeFile::open(&setup.path).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the one-time sequences in /"), "{error}");
    }

    #[test]
    fn a_line_that_is_still_first_after_an_edit_is_marked() {
        let setup = setup(" 1,2\n 3,4\n");
        let mut file = setup.open();
        fs::write(&setup.path, "# a comment above\n 1,2\n 5,6\n").unwrap();
        assert_eq!(step(&mut file).as_deref(), Some("5,6"));
        assert_eq!(setup.text(), "# a comment above\n#1,2\n 5,6\n");
    }

    #[test]
    fn an_edit_that_removes_the_line_is_an_error_and_the_file_stays_unchanged() {
        let setup = setup(" 1,2\n 3,4\n");
        for edited in [" 1,3\n 3,4\n", "#1,2\n 3,4\n", " 3,4\n 1,2\n", "", " x\n 1,2\n", " 1,20\n"] {
            fs::write(&setup.path, " 1,2\n 3,4\n").unwrap();
            let mut file = setup.open();
            fs::write(&setup.path, edited).unwrap();
            let error = file.mark_used().unwrap_err();
            assert!(matches!(error, OneTimeError::Edited(_, 1)), "{edited:?}: {error}");
            assert_eq!((setup.text().as_str(), file.current()), (edited, None));
        }
        let mut file = OneTimeFile { path: setup.path.clone(), current: None };
        fs::write(&setup.path, " x\n 1,2\n").unwrap();
        assert!(matches!(file.advance().unwrap_err(), OneTimeError::BadLine(_, 1, _)));
        fs::write(&setup.path, " 8,9\n").unwrap();
        assert_eq!(file.advance().unwrap().map(Sequence::to_string).as_deref(), Some("8,9"));
    }

    #[test]
    fn a_line_that_cannot_be_marked_stays_unused() {
        if std::env::var_os("PORTKNOCK_TEST_DISK").is_none() {
            let setup = setup(" 1,2\n");
            let script = "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && exec \"$0\" --exact \
                          one_time::tests::a_line_that_cannot_be_marked_stays_unused";
            let output = Command::new("unshare")
                .args(["--map-root-user", "--mount", "sh", "-c", script])
                .arg(std::env::current_exe().unwrap())
                .arg(&setup.path)
                .env("PORTKNOCK_TEST_DISK", &setup.path)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(setup.text(), " 1,2\n");
            return;
        }
        let path = PathBuf::from(std::env::var_os("PORTKNOCK_TEST_DISK").unwrap());
        let mut file = OneTimeFile::open(&path).unwrap();
        let error = file.mark_used().unwrap_err();
        assert!(error.to_string().contains("cannot mark line 1 of /"), "{error}");
        assert!(error.to_string().contains("Read-only file system"), "{error}");
        assert_eq!(file.current(), None);
    }
}
