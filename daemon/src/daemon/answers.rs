//! Answers to the requests on the control socket.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use portknock_core::Printable;
use portknock_core::control::{Answer, Facts, Report, Request};
use portknock_core::sys::clock::boottime;

use super::{CONTROL, Daemon};
use crate::control::Control;

impl Daemon {
    /// Listens on the control socket at `path`. If that fails, the daemon logs the error and works
    /// without the socket.
    pub(crate) fn open_control(&mut self, path: Option<&Path>) {
        self.control_path = path.map(Path::to_owned);
        let Some(path) = path else { return };
        let opened = Control::open(path).and_then(|control| self.epoll.add(control.as_fd(), CONTROL).map(|()| control));
        match opened {
            Ok(control) => self.control = Some(control),
            Err(error) => self.log_line(&format!(
                "no control socket at {}: {error}; `portknock status`, `close`, `reload` and `events` do not work",
                Printable(&path.to_string_lossy())
            )),
        }
    }

    /// Answers the requests that have arrived.
    pub(super) fn answer_requests(&mut self) {
        let requests = self.control.as_mut().map_or(Ok(Vec::new()), Control::take_requests);
        let requests = requests.unwrap_or_else(|error| {
            self.close_control(&error);
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

    /// Writes the answers and the events of this iteration of the loop.
    pub(super) fn flush_control(&mut self) {
        if let Some(Err(error)) = self.control.as_mut().map(Control::flush) {
            self.close_control(&error);
        }
    }

    /// Closes the control socket after an error. The daemon continues without it.
    fn close_control(&mut self, error: &io::Error) {
        self.control = None;
        self.log_line(&format!("the control socket is closed: {error}"));
    }
}
