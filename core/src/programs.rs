//! Detects missing programs in a command line, as far as that is possible without a shell.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Directories to search after those of `PATH`, because `PATH` differs between a user's shell and
/// the daemon.
const DIRECTORIES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Commands that are built into the shell.
const BUILTINS: &[&str] = &[
    ".", ":", "[", "alias", "bg", "cd", "command", "echo", "eval", "exec", "exit", "export", "false", "fg", "getopts",
    "hash", "jobs", "kill", "printf", "pwd", "read", "readonly", "return", "set", "shift", "source", "test", "times",
    "trap", "true", "type", "ulimit", "umask", "unalias", "unset", "wait",
];
/// Reserved words, after which only a shell can parse the command.
const KEYWORDS: &[&str] =
    &["!", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then", "time", "until", "while"];

/// Returns the first program of the command that does not exist or is not executable. The search
/// ends at the first part that only a shell can interpret.
pub(crate) fn missing_program(command: &str) -> Option<&str> {
    // Quotes, variables, substitutions, groups, comments, patterns and continued lines.
    let plain = command.split(|c| "'\"`$(){}\\#*?[]~".contains(c)).next().unwrap_or_default();
    let ends_there = plain.len() < command.len();
    let parts: Vec<&str> = plain.split([';', '&', '|', '\n']).collect();
    let last = parts.len() - 1;
    for (i, part) in parts.into_iter().enumerate() {
        let mut words = part.split_whitespace().skip_while(|word| is_assignment(word)).peekable();
        let Some(word) = words.next() else { continue };
        // The word in which the search ended is incomplete.
        let is_cut = i == last && ends_there && words.peek().is_none() && !part.ends_with([' ', '\t']);
        if is_cut || KEYWORDS.contains(&word) || word.contains(['<', '>', '%']) {
            return None;
        }
        if !BUILTINS.contains(&word) && is_missing(word) {
            return Some(word);
        }
    }
    None
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map(|(name, _)| name);
    name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

fn is_missing(program: &str) -> bool {
    if program.starts_with('/') {
        return !may_run(Path::new(program));
    }
    // Relative to a directory that is not known yet.
    if program.contains('/') {
        return false;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(env::split_paths(DIRECTORIES)).collect::<Vec<PathBuf>>();
    !directories.iter().any(|directory| directory.is_absolute() && may_run(&directory.join(program)))
}

/// Returns true if the file is executable, or if that cannot be determined.
fn may_run(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => metadata.is_file() && metadata.permissions().mode() & 0o111 != 0,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_are_found_anywhere_in_a_command() {
        let missing = "/sbin/no-iptables-here -I INPUT -s %IP% -p tcp -j ACCEPT && /usr/sbin/no-iptables -D INPUT";
        assert_eq!(missing_program(missing), Some("/sbin/no-iptables-here"));
        for command in [
            "no-such-program",
            "/bin/sh -c x; no-such-program x",
            "echo x | no-such-program",
            "A=b C= no-such-program 'x'",
            "sleep 1 & no-such-program",
        ] {
            assert_eq!(missing_program(command), Some("no-such-program"), "{command}");
        }
        // The file exists, but is not a program.
        assert_eq!(missing_program("/etc/passwd"), Some("/etc/passwd"));
        assert_eq!(missing_program("/etc"), Some("/etc"));
    }

    #[test]
    fn existing_programs_and_shell_syntax_are_not_missing() {
        for command in [
            "",
            ";",
            "/bin/sh",
            "sh -c 'no-such-program'",
            "echo x >> /no/such/file; true",
            "if no-such-program; then no-such-program; fi",
            "$PROGRAM x; no-such-program",
            "(no-such-program)",
            "no-such-'program'",
            "bin/relative",
            "\"no such program\"",
            "# no-such-program",
            "no-such-%IP%",
            "A=b",
            "! no-such-program",
        ] {
            assert_eq!(missing_program(command), None, "{command}");
        }
    }
}
