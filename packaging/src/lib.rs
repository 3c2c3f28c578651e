//! Generates man pages and completions from the command lines. The tests of `cli` and `daemon` call
//! this, each for its own programs, and fail if the committed files differ from the generated ones.
//! `UPDATE_GOLDEN=1` writes the files again.
#![allow(clippy::missing_panics_doc, reason = "to panic is how a test reports")]

#[cfg(test)]
mod differences;
mod page;

use std::fs;
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate};
use portknock_golden::assert_golden;

/// Asserts that the page `man/PAGE` and the completions of the program are up to date with its
/// command line and with `man/PAGE.in`. With `UPDATE_GOLDEN` in the environment this function
/// writes them instead.
///
/// In the template, `@SYNOPSIS@` stands for the short form of the command line, `@OPTIONS@` for the
/// list of options and arguments, `@COMMANDS@` for the subcommands with their options and
/// arguments.
pub fn assert_up_to_date(page: &str, mut command: Command) {
    command.build();
    assert_page(page, |page, line| page::fill(page, line, &command));
    let name = command.get_name().to_owned();
    for (shell, file) in
        [(Shell::Bash, name.clone()), (Shell::Zsh, format!("_{name}")), (Shell::Fish, format!("{name}.fish"))]
    {
        let mut script = Vec::new();
        generate(shell, &mut command, &name, &mut script);
        let script = String::from_utf8(script).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_same(&format!("completions/{shell}/{file}"), &script);
    }
}

fn assert_page(name: &str, fill: impl FnMut(&mut String, &str) -> bool) {
    let template = format!("man/{name}.in");
    let text = fs::read_to_string(packaging().join(&template)).unwrap_or_else(|error| panic!("{template}: {error}"));
    assert_same(&format!("man/{name}"), &page::render(&text, fill));
}

fn packaging() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn assert_same(file: &str, made: &str) {
    assert_golden(&format!("packaging/{file}"), made);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_of_the_configuration_is_up_to_date() {
        let document = include_str!("../../docs/knockd-compat.md");
        assert_page("knockd.conf.5", |page, line| {
            let is_placeholder = line == "@DIFFERENCES@";
            if is_placeholder {
                differences::list(page, document);
            }
            is_placeholder
        });
    }
}
