//! What the daemon answers to those who ask it by the control socket.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use portknock_core::Printable;
use portknock_core::control::{Answer, Facts, Report, Request};
use portknock_core::sys::clock::boottime;

use super::{CONTROL, Daemon};
use crate::control::Control;

impl Daemon {
    /// Listens on the control socket at `path`. Where that is not possible, that is said, and everything else works.
    pub(crate) fn open_control(&mut self, path: Option<&Path>) {
        self.control_path = path.map(Path::to_owned);
        let Some(path) = path else { return };
        let opened = Control::open(path).and_then(|control| self.epoll.add(control.as_fd(), CONTROL).map(|()| control));
        match opened {
            Ok(control) => self.control = Some(control),
            Err(error) => self.say(&format!(
                "no control socket at {}: {error}; `portknock status` and its like do not work",
                Printable(&path.to_string_lossy())
            )),
        }
    }

    /// Answers what was asked since.
    pub(super) fn answer_requests(&mut self) {
        let requests = self.control.as_mut().map_or(Ok(Vec::new()), Control::take_requests);
        let requests = requests.unwrap_or_else(|error| {
            self.give_up_control(&error);
            Vec::new()
        });
        for (peer, request) in requests {
            let answer = match request {
                Request::Status => {
                    let facts = self.facts();
                    Some(Answer::Status(Box::new(Report::new(&mut self.service, facts))))
                }
                Request::Close { door, addresses } => Some(match self.service.close(&door, addresses) {
                    Ok(count) => Answer::Closed(count),
                    Err(error) => Answer::Error(error.to_string()),
                }),
                Request::Reload => Some(Answer::Reload(self.reload())),
                Request::Events => None,
            };
            let Some(control) = &mut self.control else { return };
            match answer {
                Some(answer) => control.answer(peer, &answer),
                None => control.follow(peer),
            }
        }
    }

    fn facts(&self) -> Facts {
        let now = boottime();
        Facts {
            config: self.config.to_string_lossy().into_owned(),
            config_age: now.saturating_sub(self.config_read).as_secs(),
            uptime: now.saturating_sub(self.started).as_secs(),
            followers: self.control.as_ref().map_or(0, Control::followers),
            suppressed: self.suppressed,
        }
    }

    /// Writes the answers and the events of this turn.
    pub(super) fn flush_control(&mut self) {
        if let Some(Err(error)) = self.control.as_mut().map(Control::flush) {
            self.give_up_control(&error);
        }
    }

    /// Goes on without: a door is worth more than its status.
    fn give_up_control(&mut self, error: &io::Error) {
        self.control = None;
        self.say(&format!("the control socket is closed: {error}"));
    }
}
