//! The difference between two texts, line by line.

use std::fmt::Write;

/// Number of equal lines that are shown before and after a change.
const CONTEXT: usize = 2;

/// Maximum product of the numbers of lines that are compared; longer texts are shown as replaced.
const MAX_CELLS: usize = 16_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Kept,
    Removed,
    Added,
}

/// The lines that differ, marked by `-` and `+`, among the equal lines next to them.
pub(crate) fn lines(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let before = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let after = old[before..].iter().rev().zip(new[before..].iter().rev()).take_while(|(old, new)| old == new).count();
    let mut script: Vec<(Change, &str)> = old[..before].iter().map(|line| (Change::Kept, *line)).collect();
    script.extend(changes(&old[before..old.len() - after], &new[before..new.len() - after]));
    script.extend(old[old.len() - after..].iter().map(|line| (Change::Kept, *line)));

    let mut text = String::new();
    let mut shown_to = 0;
    let mut line_number = 0;
    for (index, (change, line)) in script.iter().enumerate() {
        line_number += usize::from(*change != Change::Added);
        let nearby = &script[index.saturating_sub(CONTEXT)..script.len().min(index + CONTEXT + 1)];
        if nearby.iter().all(|(change, _)| *change == Change::Kept) {
            continue;
        }
        if shown_to != index || index == 0 {
            let _ = writeln!(text, "@@ line {line_number}");
        }
        shown_to = index + 1;
        let mark = match change {
            Change::Kept => ' ',
            Change::Removed => '-',
            Change::Added => '+',
        };
        let _ = writeln!(text, "{mark}{line}");
    }
    text
}

/// The shortest way from one list to the other, by a table of the longest common subsequences.
fn changes<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Change, &'a str)> {
    let removed = |line: &&'a str| (Change::Removed, *line);
    let added = |line: &&'a str| (Change::Added, *line);
    if old.len() * new.len() > MAX_CELLS {
        return old.iter().map(removed).chain(new.iter().map(added)).collect();
    }
    // `common[i][j]`: the number of common lines from `old[i]` and `new[j]` on.
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] =
                if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut script = Vec::new();
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            script.push((Change::Kept, old[i]));
            (i, j) = (i + 1, j + 1);
        } else if common[i + 1][j] >= common[i][j + 1] {
            script.push(removed(&old[i]));
            i += 1;
        } else {
            script.push(added(&new[j]));
            j += 1;
        }
    }
    script.extend(old[i..].iter().map(removed));
    script.extend(new[j..].iter().map(added));
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_are_shown_with_their_context() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n";
        let new = "a\nb\nc\nD\ne\nf\ng\nh\ni\nj\nk\n";
        assert_eq!(lines(old, new), "@@ line 2\n b\n c\n-d\n+D\n e\n f\n@@ line 9\n i\n j\n+k\n");
        assert_eq!(lines(old, old), "");
        assert_eq!(lines("", "a\n"), "@@ line 0\n+a\n");
        assert_eq!(lines("a\nb\n", ""), "@@ line 1\n-a\n-b\n");
    }

    #[test]
    fn lines_that_moved_are_removed_and_added() {
        assert_eq!(lines("1\n2\n3\n", "2\n3\n1\n"), "@@ line 1\n-1\n 2\n 3\n+1\n");
    }
}
