//! The generated parts of a man page, in mdoc(7). Their source are clap's help texts. The template
//! contains only the rest of the page.

use clap::builder::ValueRange;
use clap::{Arg, ArgAction, Command};

/// Returns the page: the template with its placeholders filled by `fill`, which returns true if a
/// line is a placeholder.
pub(crate) fn render(template: &str, mut fill: impl FnMut(&mut String, &str) -> bool) -> String {
    let mut page =
        String::from(".\\\" Generated from the file with this name and the suffix .in. Edit that file instead.\n");
    for line in template.lines() {
        if !fill(&mut page, line) {
            page.push_str(line);
            page.push('\n');
        }
    }
    page
}

/// Fills a placeholder with the texts of the command line.
pub(crate) fn fill(page: &mut String, line: &str, command: &Command) -> bool {
    match line {
        "@SYNOPSIS@" => synopsis(page, command),
        "@OPTIONS@" => list(page, command),
        "@COMMANDS@" => commands(page, command),
        _ => return false,
    }
    true
}

fn commands(page: &mut String, command: &Command) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        page.push_str(&format!(".Ss {} {}\n", command.get_name(), sub.get_name()));
        text(page, &sub.get_about().map(ToString::to_string).unwrap_or_default());
        page.push_str(".Pp\n");
        let mut words = vec![format!(".Nm {}", command.get_name()), format!(".Cm {}", sub.get_name())];
        words.extend(arguments(sub).filter_map(usage));
        page.push_str(&words.join("\n"));
        page.push('\n');
        list(page, sub);
        let after = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
        for paragraph in after.split('\n').filter(|paragraph| !paragraph.is_empty()) {
            page.push_str(".Pp\n");
            text(page, paragraph);
        }
    }
}

fn synopsis(page: &mut String, command: &Command) {
    page.push_str(".Nm\n");
    for usage in arguments(command).filter_map(usage) {
        page.push_str(&usage);
        page.push('\n');
    }
}

/// Options in the order of the help, then positional arguments.
fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let options = command.get_arguments().filter(|arg| !arg.is_positional());
    options.chain(command.get_positionals()).filter(|arg| !arg.is_hide_set())
}

/// The argument in the short form of the command line, which omits help and version.
fn usage(arg: &Arg) -> Option<String> {
    if matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version) {
        return None;
    }
    if arg.is_positional() {
        let dots = if is_repeatable(arg) { " ..." } else { "" };
        return Some(format!(".{}Ar {}{dots}", if arg.is_required_set() { "" } else { "Op " }, value(arg)));
    }
    let name = arg.get_short().map_or_else(|| long(arg), |short| format!("Fl {short}"));
    let optional = if arg.is_required_set() { "" } else { "Op " };
    Some(format!(".{optional}{name}{}", value_after(arg)))
}

fn is_repeatable(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|range: ValueRange| range.max_values() > 1)
        || matches!(arg.get_action(), ArgAction::Append)
}

fn long(arg: &Arg) -> String {
    // In mdoc, Fl adds one dash.
    arg.get_long().map(|long| format!("Fl \\-{}", long.replace('-', "\\-"))).unwrap_or_default()
}

fn value(arg: &Arg) -> String {
    arg.get_value_names().unwrap_or_default().iter().map(|name| escape(name)).collect::<Vec<_>>().join(" ")
}

fn value_after(arg: &Arg) -> String {
    if arg.get_action().takes_values() { format!(" Ar {}", value(arg)) } else { String::new() }
}

fn list(page: &mut String, command: &Command) {
    page.push_str(".Bl -tag -width Ds\n");
    for arg in arguments(command) {
        let names: Vec<String> = if arg.is_positional() {
            vec![format!("Ar {}", value(arg))]
        } else {
            let short = arg.get_short().map(|short| format!("Fl {short}"));
            short.into_iter().chain(Some(long(arg)).filter(|long| !long.is_empty())).collect()
        };
        let value = if arg.is_positional() { String::new() } else { value_after(arg) };
        page.push_str(&format!(".It {}{value}\n", names.join(" , ")));
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        text(page, &sentence(&help));
        let possible: Vec<_> =
            arg.get_possible_values().into_iter().filter(|_| arg.get_action().takes_values()).collect();
        if !possible.is_empty() {
            page.push_str(".Bl -tag -width Ds -compact\n");
            for value in possible {
                page.push_str(&format!(".It Cm {}\n", escape(value.get_name())));
                text(page, &sentence(&value.get_help().map(ToString::to_string).unwrap_or_default()));
            }
            page.push_str(".El\n");
        }
        let defaults: Vec<String> =
            arg.get_default_values().iter().map(|value| escape(&value.to_string_lossy())).collect();
        if arg.get_action().takes_values() && !defaults.is_empty() {
            let defaults = defaults.join(",");
            // mdoc(7) reads an argument that is a period as punctuation.
            let literal = if defaults == "." { "\\&" } else { "" };
            page.push_str(&format!("The default is\n.Cm {literal}{defaults} .\n"));
        }
    }
    page.push_str(".El\n");
}

/// Adds the full stop that clap's texts lack, because other sentences can follow in a page.
fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.is_empty() || text.ends_with(['.', ']', ')']) { text.to_owned() } else { format!("{text}.") }
}

/// Writes plain text in lines of limited length, with each sentence on a new line.
pub(crate) fn text(page: &mut String, plain: &str) {
    let mut line = String::new();
    for word in plain.split_whitespace().map(escape) {
        if !line.is_empty() && line.len() + word.len() >= 75 {
            flush(page, &mut line);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
        if word.ends_with(['.', '?', '!']) {
            flush(page, &mut line);
        }
    }
    flush(page, &mut line);
}

fn flush(page: &mut String, line: &mut String) {
    if !line.is_empty() {
        // A line that begins with a dot or an apostrophe would be a request.
        if line.starts_with(['.', '\'']) {
            page.push_str("\\&");
        }
        page.push_str(line);
        page.push('\n');
        line.clear();
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('`', "")
}
