//! What happened at a door.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use portknock_core::{DoorId, EventKind, FailReason, IpNet, Opening, Timestamp, json, parse_network};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arguments::address;
use crate::json::loads;

/// Something that happened at a door: one of `Stage`, `Open`, `Extend`, `Close`, `Timeout` and `Fail`.
///
/// Events never change. They are equal where all that they show is equal, can be hashed, copied and pickled, and their
/// `repr` is what makes them. `str` gives the line for a log, in knockd's words, without control characters.
#[pyclass(frozen, subclass, eq, hash, module = "portknock")]
pub(crate) struct Event(portknock_core::Event);

/// A step of the sequence matched. The last one is followed by `Open` or `Extend`.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Stage;

/// The whole sequence matched and the door opens.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Open;

/// A complete knock while the door is open: it closes later, and its commands open it again.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Extend;

/// The door's time is over, or it closes early.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Close;

/// The attempt took longer than seq_timeout.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Timeout;

/// The attempt failed.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Fail;

/// The event as an object of its class.
pub(crate) fn to_python(py: Python<'_>, event: portknock_core::Event) -> PyResult<Py<PyAny>> {
    type Make = fn(Python<'_>, PyClassInitializer<Event>) -> PyResult<Py<PyAny>>;
    let make: Make = match &event.kind {
        EventKind::Stage { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Stage))?.into_any()),
        EventKind::Open { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Open))?.into_any()),
        EventKind::Extend { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Extend))?.into_any()),
        EventKind::Close { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Close))?.into_any()),
        EventKind::Timeout { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Timeout))?.into_any()),
        EventKind::Fail { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Fail))?.into_any()),
    };
    make(py, Event(event).into())
}

/// The number of seconds that is nearest to a time, as `json.loads` reads it out of a line of the command line.
pub(crate) fn seconds(time: Timestamp) -> f64 {
    // What the display of a time writes is a number.
    time.to_string().parse().unwrap_or(f64::NAN)
}

impl Event {
    /// All that it shows; what only the service needs is left out.
    fn shown(&self) -> impl PartialEq + Hash + '_ {
        let portknock_core::Event { time, door, ip, kind } = &self.0;
        let (stage, steps, command, reason) = parts(kind);
        (time, door, ip, kind.as_str(), (stage, steps, command, reason), stop_command(kind), self.0.net())
    }

    fn stage(&self) -> u8 {
        parts(&self.0.kind).0.unwrap_or(0)
    }

    /// The network of the event, if it is not the address alone.
    fn opened_network(&self) -> Option<IpNet> {
        self.0.net().filter(|net| *net != self.0.ip.into())
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.shown() == other.shown()
    }
}

impl Hash for Event {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shown().hash(state);
    }
}

type Parts<'a> = (Option<u8>, Option<u8>, Option<&'a str>, Option<FailReason>);

/// Stage, steps, command and reason, where an event of this kind has them.
fn parts(kind: &EventKind) -> Parts<'_> {
    match kind {
        EventKind::Stage { stage, steps } => (Some(*stage), Some(*steps), None, None),
        EventKind::Open { command, .. } => (None, None, command.as_deref(), None),
        EventKind::Extend { command, .. } => (None, None, command.as_deref(), None),
        EventKind::Close { opening, reason } => (None, None, opening.stop_command.as_deref(), *reason),
        EventKind::Timeout { stage } => (Some(*stage), None, None, None),
        EventKind::Fail { stage, reason } => (Some(*stage), None, None, Some(*reason)),
    }
}

/// The stop command that runs before the start command.
fn stop_command(kind: &EventKind) -> Option<&str> {
    match kind {
        EventKind::Extend { command: Some(_), opening, .. } => opening.stop_command.as_deref(),
        _ => None,
    }
}

#[pymethods]
impl Event {
    /// When, in seconds since 1970: the packet's time, or the due time of a timeout or a closing.
    #[getter]
    fn time(&self) -> f64 {
        seconds(self.0.time)
    }

    /// The same in nanoseconds, exactly.
    #[getter]
    fn time_ns(&self) -> u64 {
        self.0.time.as_nanos()
    }

    /// The door's name.
    #[getter]
    fn door(&self) -> &str {
        &self.0.door
    }

    /// The address that it is about, of IPv4 or IPv6.
    #[getter]
    fn ip(&self) -> String {
        self.0.ip.to_string()
    }

    /// The JSON object of `portknock replay --format json`.
    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let line = json::event_line(&self.0).map_err(|error| PyValueError::new_err(error.to_string()))?;
        loads(py, &line)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let mut shown = Vec::new();
        for value in fields(slf)? {
            shown.push(value.repr()?.to_string());
        }
        if let Some(net) = slf.get().opened_network() {
            shown.push(format!("net='{net}'"));
        }
        shown.push(format!("time_ns={}", slf.get().time_ns()));
        Ok(format!("{}({})", slf.get_type().name()?, shown.join(", ")))
    }

    /// What copies and pickles are made of.
    fn __getnewargs_ex__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let named = PyDict::new(slf.py());
        if let Some(net) = slf.get().opened_network() {
            named.set_item("net", net.to_string())?;
        }
        named.set_item("time_ns", slf.get().time_ns())?;
        Ok((PyTuple::new(slf.py(), fields(slf)?)?, named))
    }
}

/// The values of the positional arguments.
fn fields<'py>(event: &Bound<'py, Event>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let names = event.getattr("__match_args__")?;
    names.try_iter()?.map(|name| event.getattr(name?.cast_into::<pyo3::types::PyString>()?)).collect()
}

/// What Python code makes.
fn made(
    door: &str,
    ip: &Bound<'_, PyAny>,
    time_ns: u64,
    kind: impl FnOnce(&Arc<str>, IpAddr, Timestamp) -> EventKind,
) -> PyResult<PyClassInitializer<Event>> {
    let (door, ip, time) = (Arc::from(door), address(ip, "ip")?, Timestamp::from_nanos(time_ns));
    let kind = kind(&door, ip, time);
    Ok(Event(portknock_core::Event { time, door, ip, kind }).into())
}

/// The opening behind what Python code makes, of which events show the stop command alone.
fn opening(
    door: &Arc<str>,
    ip: IpAddr,
    closes_at: Timestamp,
    stop_command: Option<String>,
    net: Option<IpNet>,
) -> Box<Opening> {
    let net = net.unwrap_or(ip.into());
    Box::new(Opening { door: door.clone(), ip, closes_at, stop_command, open: [].into(), net })
}

/// The network of an argument; None is the address alone.
fn network(text: Option<&str>) -> PyResult<Option<IpNet>> {
    let parse = |text: &str| {
        parse_network(text).ok_or_else(|| PyValueError::new_err(format!("net is not a network: {text:?}")))
    };
    text.map(parse).transpose()
}

/// The network of an event that opens or closes.
fn net_of(event: &Event) -> String {
    event.0.net().map_or_else(String::new, |net| net.to_string())
}

#[pymethods]
impl Stage {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str, &'static str) = ("door", "ip", "stage", "steps");

    #[new]
    #[pyo3(signature = (door, ip, stage, steps, *, time_ns = 0))]
    fn new(
        door: &str,
        ip: &Bound<'_, PyAny>,
        stage: u8,
        steps: u8,
        time_ns: u64,
    ) -> PyResult<PyClassInitializer<Self>> {
        Ok(made(door, ip, time_ns, |_, _, _| EventKind::Stage { stage, steps })?.add_subclass(Self))
    }

    /// How many steps are done, 1 to 32.
    #[getter]
    fn stage(slf: PyRef<'_, Self>) -> u8 {
        slf.as_super().stage()
    }

    /// How many steps the sequence has.
    #[getter]
    fn steps(slf: PyRef<'_, Self>) -> u8 {
        parts(&slf.as_super().0.kind).1.unwrap_or(0)
    }
}

#[pymethods]
impl Open {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("door", "ip", "command");

    #[new]
    #[pyo3(signature = (door, ip, command = None, *, net = None, time_ns = 0))]
    fn new(
        door: &str,
        ip: &Bound<'_, PyAny>,
        command: Option<String>,
        net: Option<&str>,
        time_ns: u64,
    ) -> PyResult<PyClassInitializer<Self>> {
        let net = network(net)?;
        let kind = |_: &Arc<str>, ip: IpAddr, _| EventKind::Open {
            door_id: DoorId(0),
            command,
            opening: None,
            net: net.unwrap_or(ip.into()),
        };
        Ok(made(door, ip, time_ns, kind)?.add_subclass(Self))
    }

    /// The network that the door opens for, as in "203.0.113.0/24".
    ///
    /// Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
    #[getter]
    fn net(slf: PyRef<'_, Self>) -> String {
        net_of(slf.as_super())
    }

    /// What opens it: a command for /bin/sh, with the address in it. None where the door has no command.
    #[getter]
    fn command(slf: PyRef<'_, Self>) -> Option<String> {
        parts(&slf.as_super().0.kind).2.map(str::to_owned)
    }
}

#[pymethods]
impl Extend {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str, &'static str) =
        ("door", "ip", "command", "stop_command");

    #[new]
    #[pyo3(signature = (door, ip, command = None, stop_command = None, *, net = None, time_ns = 0))]
    fn new(
        door: &str,
        ip: &Bound<'_, PyAny>,
        command: Option<String>,
        stop_command: Option<String>,
        net: Option<&str>,
        time_ns: u64,
    ) -> PyResult<PyClassInitializer<Self>> {
        let net = network(net)?;
        let kind = |door: &Arc<str>, ip, time| EventKind::Extend {
            door_id: DoorId(0),
            command,
            opening: opening(door, ip, time, stop_command, net),
        };
        Ok(made(door, ip, time_ns, kind)?.add_subclass(Self))
    }

    /// The network that the door is open for, as in "203.0.113.0/24".
    ///
    /// Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
    #[getter]
    fn net(slf: PyRef<'_, Self>) -> String {
        net_of(slf.as_super())
    }

    /// What opens it again: a command for /bin/sh, with the address in it. None if nothing runs.
    #[getter]
    fn command(slf: PyRef<'_, Self>) -> Option<String> {
        parts(&slf.as_super().0.kind).2.map(str::to_owned)
    }

    /// What runs before `command`: the command that closes the door. None if it has none, or if nothing runs.
    #[getter]
    fn stop_command(slf: PyRef<'_, Self>) -> Option<String> {
        stop_command(&slf.as_super().0.kind).map(str::to_owned)
    }
}

#[pymethods]
impl Close {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str, &'static str) = ("door", "ip", "command", "reason");

    #[new]
    #[pyo3(signature = (door, ip, command = None, reason = None, *, net = None, time_ns = 0))]
    fn new(
        door: &str,
        ip: &Bound<'_, PyAny>,
        command: Option<String>,
        reason: Option<&str>,
        net: Option<&str>,
        time_ns: u64,
    ) -> PyResult<PyClassInitializer<Self>> {
        let net = network(net)?;
        let reason = reason.map(|word| reason_of(word, &[FailReason::Full, FailReason::Command])).transpose()?;
        let kind =
            |door: &Arc<str>, ip, time| EventKind::Close { opening: opening(door, ip, time, command, net), reason };
        Ok(made(door, ip, time_ns, kind)?.add_subclass(Self))
    }

    /// The network that the door was open for, as in "203.0.113.0/24".
    ///
    /// Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
    #[getter]
    fn net(slf: PyRef<'_, Self>) -> String {
        net_of(slf.as_super())
    }

    /// Why it closes early.
    ///
    /// `full`: the door had `MaxOpenings` openings, and this was the oldest. `command`: the start command failed. None:
    /// its time is over, or it was closed by hand or at the end.
    #[getter]
    fn reason(slf: PyRef<'_, Self>) -> Option<&'static str> {
        parts(&slf.as_super().0.kind).3.map(FailReason::as_str)
    }

    /// What closes it: a command for /bin/sh, with the address in it; None where the kernel shuts its ports.
    #[getter]
    fn command(slf: PyRef<'_, Self>) -> Option<String> {
        parts(&slf.as_super().0.kind).2.map(str::to_owned)
    }
}

#[pymethods]
impl Timeout {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("door", "ip", "stage");

    #[new]
    #[pyo3(signature = (door, ip, stage, *, time_ns = 0))]
    fn new(door: &str, ip: &Bound<'_, PyAny>, stage: u8, time_ns: u64) -> PyResult<PyClassInitializer<Self>> {
        Ok(made(door, ip, time_ns, |_, _, _| EventKind::Timeout { stage })?.add_subclass(Self))
    }

    /// How many steps were done.
    #[getter]
    fn stage(slf: PyRef<'_, Self>) -> u8 {
        slf.as_super().stage()
    }
}

#[pymethods]
impl Fail {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str, &'static str) = ("door", "ip", "stage", "reason");

    #[new]
    #[pyo3(signature = (door, ip, stage, reason, *, time_ns = 0))]
    fn new(
        door: &str,
        ip: &Bound<'_, PyAny>,
        stage: u8,
        reason: &str,
        time_ns: u64,
    ) -> PyResult<PyClassInitializer<Self>> {
        use FailReason::{Full, Reload, Scan, WrongPort};
        let reason = reason_of(reason, &[WrongPort, Scan, Full, Reload])?;
        Ok(made(door, ip, time_ns, |_, _, _| EventKind::Fail { stage, reason })?.add_subclass(Self))
    }

    /// How many steps were done.
    #[getter]
    fn stage(slf: PyRef<'_, Self>) -> u8 {
        slf.as_super().stage()
    }

    /// Why.
    ///
    /// "wrong-port": a port that some door uses, but not as this door's next step. "scan": more ports that no door uses
    /// than ScanGuard allows. "full": the table of attempts was full, and this one made room for another. "reload": the
    /// door changed or went away, or its one-time sequence was used by someone else.
    #[getter]
    fn reason(slf: PyRef<'_, Self>) -> Option<&'static str> {
        parts(&slf.as_super().0.kind).3.map(FailReason::as_str)
    }
}

fn reason_of(word: &str, known: &[FailReason]) -> PyResult<FailReason> {
    known.iter().copied().find(|reason| reason.as_str() == word).ok_or_else(|| {
        let words = known.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ");
        PyValueError::new_err(format!("there is no reason {word:?}; the reasons are {words}"))
    })
}
