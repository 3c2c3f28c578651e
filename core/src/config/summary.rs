//! The last lines of the output of a check.

use std::fmt;

use super::load::Loaded;
use super::model::Door;
use crate::printable::Printable;

/// The numbers of doors and findings in a checked configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckSummary {
    /// The number of doors; `None` if there are errors.
    pub doors: Option<usize>,
    /// The number of errors.
    pub errors: usize,
    /// The number of warnings.
    pub warnings: usize,
}

impl Loaded {
    /// Returns the numbers of doors and findings.
    pub fn summary(&self) -> CheckSummary {
        CheckSummary {
            doors: self.config.as_ref().map(|config| config.doors.len()),
            errors: self.report.errors(),
            warnings: self.report.warnings(),
        }
    }

    /// Returns a line for each door with `keys`, as in `ssh: time sequence of 5 steps, 2 keys`.
    pub fn keyed_doors(&self) -> impl Iterator<Item = String> {
        self.config.iter().flat_map(|config| &config.doors).filter_map(keyed_door)
    }
}

fn keyed_door(door: &Door) -> Option<String> {
    if let Some(code) = &door.code {
        let fixed = Count(code.fixed().len(), "fixed step");
        return Some(format!("{}: code of {} digits after {fixed}", Printable(&door.name), code.digits()));
    }
    let form = match (&door.time_sequence, door.packet) {
        (Some(time), _) => format!("time sequence of {}", Count(time.steps.into(), "step")),
        (None, Some(format)) => format!("packet of the format {format}"),
        (None, None) => return None,
    };
    let keys = door.keys.len() + door.fwknop_keys.len();
    Some(format!("{}: {form}, {}", Printable(&door.name), Count(keys, "key")))
}

/// As in `1 door, 0 errors, 2 warnings`.
impl fmt::Display for CheckSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(doors) = self.doors {
            write!(f, "{}, ", Count(doors, "door"))?;
        }
        write!(f, "{}, {}", Count(self.errors, "error"), Count(self.warnings, "warning"))
    }
}

/// A number with its noun, in the singular or plural.
struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, noun) = self;
        write!(f, "{number} {noun}{}", if *number == 1 { "" } else { "s" })
    }
}
