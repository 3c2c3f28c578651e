//! The progress bar on standard error.

use std::fmt::Write;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use portknock_core::probe::Progress;

/// Time before the bar appears; shorter work needs none.
const SHOW_DELAY: Duration = Duration::from_secs(1);

/// Number of steps of the bar: more than any terminal has columns.
const PARTS: u16 = 1000;

const TEMPLATE: &str = "[{wide_bar}] {percent:>3}% {msg}{left}";

/// A bar on standard error, shown after [`SHOW_DELAY`] if that is a terminal.
pub(crate) struct Bar {
    bar: ProgressBar,
    /// `None` once the bar is shown.
    shown_from: Option<Instant>,
}

impl Bar {
    pub(crate) fn new() -> Self {
        // The bar exists from the start, because it estimates the remaining time from the elapsed
        // time.
        let bar = ProgressBar::with_draw_target(Some(PARTS.into()), ProgressDrawTarget::hidden());
        // The template is valid, as a test verifies.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("=> ").with_key("left", write_left));
        }
        Self { bar, shown_from: Some(Instant::now() + SHOW_DELAY) }
    }

    /// Shows the progress of the work.
    pub(crate) fn show(&mut self, progress: Progress) {
        if self.shown_from.is_some_and(|from| Instant::now() >= from) {
            self.shown_from = None;
            // Draws nothing if standard error is not a terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_message(format!("{}/{} ports", progress.known, progress.ports));
        self.bar.set_position(part(progress.done));
    }

    /// Removes the bar from the terminal.
    pub(crate) fn clear(self) {
        self.bar.finish_and_clear();
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the number is between 0 and PARTS")]
fn part(done: f32) -> u64 {
    (done.clamp(0.0, 1.0) * f32::from(PARTS)) as u64
}

/// Writes the remaining time, if there is an estimate.
fn write_left(state: &ProgressState, text: &mut dyn Write) {
    if state.pos() > 0 {
        // An error only leaves the bar incomplete.
        let _ = write!(text, ", {:#} left", HumanDuration(state.eta()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }

    #[test]
    fn parts_stay_in_their_limits() {
        assert_eq!([-1.0, 0.0, 0.5, 1.0, 2.0, f32::NAN].map(part), [0, 0, 500, 1000, 1000, 0]);
    }
}
