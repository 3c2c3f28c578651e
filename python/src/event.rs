//! Events at doors.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use portknock_core::fwknop::WeakReason;
use portknock_core::{
    DoorId, EventKind, FailReason, IpNet, OpenPort, Opening, Protocol, RefusalReason, Timestamp, json, parse_network,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arguments::address;
use crate::json::loads;

/// An event at a door: one of `Stage`, `Open`, `Extend`, `Close`, `Timeout`, `Fail` and `Refused`.
///
/// Events never change. Two events are equal if all their visible values are equal. Events can be
/// hashed, copied and pickled. `repr` is the expression that creates the event. `str` is its line
/// for a log, in knockd's wording, without control characters.
#[pyclass(frozen, subclass, eq, hash, module = "portknock")]
pub(crate) struct Event(portknock_core::Event);

/// A step of the sequence matched. `Open` or `Extend` follows the last step.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Stage;

/// The whole sequence matched and the door opens.
///
/// Unless a listener runs the commands, the program runs `command` and opens `ports` for `net`.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Open;

/// A complete knock while the door is open: it closes later, and its commands open it again.
///
/// Unless a listener runs the commands, the program runs `stop_command` and `command`, and keeps
/// `ports` open for `net`.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Extend;

/// The door closes because its time is over, or early.
///
/// Unless a listener runs the commands, the program runs `command` and closes `ports` for `net`.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Close;

/// The attempt took longer than seq_timeout.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Timeout;

/// The attempt failed.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Fail;

/// A knock that a key authenticated opens nothing.
#[pyclass(frozen, extends = Event, module = "portknock")]
pub(crate) struct Refused;

/// Converts an event to an object of its class.
pub(crate) fn to_python(py: Python<'_>, event: portknock_core::Event) -> PyResult<Py<PyAny>> {
    type Make = fn(Python<'_>, PyClassInitializer<Event>) -> PyResult<Py<PyAny>>;
    let make: Make = match &event.kind {
        EventKind::Stage { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Stage))?.into_any()),
        EventKind::Open { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Open))?.into_any()),
        EventKind::Extend { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Extend))?.into_any()),
        EventKind::Close { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Close))?.into_any()),
        EventKind::Timeout { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Timeout))?.into_any()),
        EventKind::Fail { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Fail))?.into_any()),
        EventKind::Refused { .. } => |py, base| Ok(Py::new(py, base.add_subclass(Refused))?.into_any()),
        // A kind that has no class here.
        _ => |py, base| Ok(Py::new(py, base)?.into_any()),
    };
    make(py, Event(event).into())
}

/// Converts a time to the nearest number of seconds, as `json.loads` does for a line of the command
/// line.
pub(crate) fn seconds(time: Timestamp) -> f64 {
    // `Display` of a time writes a number.
    time.to_string().parse().unwrap_or(f64::NAN)
}

impl Event {
    /// Returns all visible values, without those that only the service needs.
    fn shown(&self) -> impl PartialEq + Hash + '_ {
        let portknock_core::Event { time, door, ip, kind } = &self.0;
        let (stage, steps, command, reason) = parts(kind);
        let opening = (stop_command(kind), self.0.ports(), self.0.closes_at(), self.0.net());
        (time, door, ip, kind.as_str(), (stage, steps, command, reason), opening, (kind.key(), refusal(kind)))
    }

    /// Returns the ports as texts, as in `tcp/22`.
    fn ports<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.ports().iter().map(ToString::to_string))
    }

    fn closes_at_ns(&self) -> Option<u64> {
        self.0.closes_at().map(Timestamp::as_nanos)
    }

    fn stage(&self) -> u8 {
        parts(&self.0.kind).0.unwrap_or(0)
    }

    /// Returns the network of the event, if it is not the address alone.
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

/// Returns stage, steps, command and reason, if an event of this kind has them.
fn parts(kind: &EventKind) -> Parts<'_> {
    match kind {
        EventKind::Stage { stage, steps } => (Some(*stage), Some(*steps), None, None),
        EventKind::Open { command, .. } => (None, None, command.as_deref(), None),
        EventKind::Extend { command, .. } => (None, None, command.as_deref(), None),
        EventKind::Close { opening, reason } => (None, None, opening.stop_command.as_deref(), *reason),
        EventKind::Timeout { stage } => (Some(*stage), None, None, None),
        EventKind::Fail { stage, reason } => (Some(*stage), None, None, Some(*reason)),
        _ => (None, None, None, None),
    }
}

/// Returns the reason of a refusal.
fn refusal(kind: &EventKind) -> Option<RefusalReason> {
    match kind {
        EventKind::Refused { reason, .. } => Some(*reason),
        _ => None,
    }
}

/// Returns the name of the key of an event.
fn key_of(event: &Event) -> Option<&str> {
    event.0.kind.key().map(|key| &**key)
}

/// Returns the number of seconds by which the clock of a refused client is ahead.
fn offset_of(event: &Event) -> Option<i64> {
    match refusal(&event.0.kind) {
        Some(RefusalReason::Clock(offset)) => Some(offset),
        _ => None,
    }
}

/// Returns the stop command that runs before the start command.
fn stop_command(kind: &EventKind) -> Option<&str> {
    match kind {
        EventKind::Extend { command: Some(_), opening, .. } => opening.stop_command.as_deref(),
        _ => None,
    }
}

#[pymethods]
impl Event {
    /// Time in seconds since 1970: the time of the packet, or the due time of a timeout or a
    /// closing.
    #[getter]
    fn time(&self) -> f64 {
        seconds(self.0.time)
    }

    /// `time` in nanoseconds, exactly.
    #[getter]
    fn time_ns(&self) -> u64 {
        self.0.time.as_nanos()
    }

    /// Name of the door.
    #[getter]
    fn door(&self) -> &str {
        &self.0.door
    }

    /// Address of the client, IPv4 or IPv6.
    #[getter]
    fn ip(&self) -> String {
        self.0.ip.to_string()
    }

    /// Return the JSON object of `portknock replay --format json`.
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
        for (name, value) in named(slf)? {
            shown.push(format!("{name}={}", value.repr()?));
        }
        Ok(format!("{}({})", slf.get_type().name()?, shown.join(", ")))
    }

    /// Returns the arguments from which a copy or an unpickled event is created.
    fn __getnewargs_ex__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let keywords = PyDict::new(slf.py());
        for (name, value) in named(slf)? {
            keywords.set_item(name, value)?;
        }
        Ok((PyTuple::new(slf.py(), fields(slf)?)?, keywords))
    }
}

/// Returns the keyword arguments.
fn named<'py>(event: &Bound<'py, Event>) -> PyResult<Vec<(&'static str, Bound<'py, PyAny>)>> {
    let has_opening =
        matches!(event.get().0.kind, EventKind::Open { .. } | EventKind::Extend { .. } | EventKind::Close { .. });
    let mut names = if has_opening { vec!["ports", "closes_at_ns"] } else { Vec::new() };
    if event.get().opened_network().is_some() {
        names.push("net");
    }
    if has_opening && event.get().0.kind.key().is_some() {
        names.push("key");
    }
    if offset_of(event.get()).is_some() {
        names.push("offset");
    }
    names.push("time_ns");
    names.into_iter().map(|name| Ok((name, event.getattr(name)?))).collect()
}

/// Returns the values of the positional arguments.
fn fields<'py>(event: &Bound<'py, Event>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let names = event.getattr("__match_args__")?;
    names.try_iter()?.map(|name| event.getattr(name?.cast_into::<pyo3::types::PyString>()?)).collect()
}

/// Creates an event from the arguments of Python code.
fn create(
    door: &str,
    ip: &Bound<'_, PyAny>,
    time_ns: u64,
    kind: impl FnOnce(&Arc<str>, IpAddr) -> EventKind,
) -> PyResult<PyClassInitializer<Event>> {
    let (door, ip, time) = (Arc::from(door), address(ip, "ip")?, Timestamp::from_nanos(time_ns));
    let kind = kind(&door, ip);
    Ok(Event(portknock_core::Event { time, door, ip, kind }).into())
}

/// The parts of an opening that events show, as Python code passes them.
struct Shown {
    closes_at: Timestamp,
    stop_command: Option<String>,
    open: Arc<[OpenPort]>,
    net: Option<IpNet>,
}

impl Shown {
    fn new(ports: &[String], closes_at_ns: u64, stop_command: Option<String>, net: Option<IpNet>) -> PyResult<Self> {
        let open = ports.iter().map(|port| open_port(port)).collect::<PyResult<_>>()?;
        Ok(Self { closes_at: Timestamp::from_nanos(closes_at_ns), stop_command, open, net })
    }

    fn at(self, door: &Arc<str>, ip: IpAddr) -> Box<Opening> {
        let Self { closes_at, stop_command, open, net } = self;
        Box::new(Opening { door: door.clone(), ip, closes_at, stop_command, open, net: net.unwrap_or(ip.into()) })
    }
}

/// Reads a port as in `tcp/22`.
fn open_port(text: &str) -> PyResult<OpenPort> {
    let port = match text.split_once('/') {
        Some(("tcp", port)) => Some((Protocol::Tcp, port)),
        Some(("udp", port)) => Some((Protocol::Udp, port)),
        _ => None,
    };
    let port = port.and_then(|(protocol, port)| Some(OpenPort { protocol, port: port.parse().ok()? }));
    port.ok_or_else(|| PyValueError::new_err(format!("{text:?} is not a port with its protocol, as in \"tcp/22\"")))
}

/// Reads a network; `None` means the address alone.
fn network(text: Option<&str>) -> PyResult<Option<IpNet>> {
    let parse = |text: &str| {
        parse_network(text).ok_or_else(|| PyValueError::new_err(format!("net is not a network: {text:?}")))
    };
    text.map(parse).transpose()
}

/// Returns the network of an event that opens or closes.
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
        Ok(create(door, ip, time_ns, |_, _| EventKind::Stage { stage, steps })?.add_subclass(Self))
    }

    /// Number of steps that are done, 1 to 32.
    #[getter]
    fn stage(slf: PyRef<'_, Self>) -> u8 {
        slf.as_super().stage()
    }

    /// Number of steps in the sequence.
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
    #[pyo3(
        signature = (
            door, ip, command = None, *,
            ports = Vec::new(), closes_at_ns = None, net = None, key = None, time_ns = 0
        ),
        text_signature = "(door, ip, command=None, *, ports=(), closes_at_ns=None, net=None, key=None, time_ns=0)"
    )]
    #[allow(clippy::too_many_arguments, reason = "Python code passes them by name")]
    fn new(
        door: &str,
        ip: &Bound<'_, PyAny>,
        command: Option<String>,
        ports: Vec<String>,
        closes_at_ns: Option<u64>,
        net: Option<&str>,
        key: Option<&str>,
        time_ns: u64,
    ) -> PyResult<PyClassInitializer<Self>> {
        if closes_at_ns.is_none() && !ports.is_empty() {
            return Err(PyValueError::new_err("a door with ports closes by itself: closes_at_ns is missing"));
        }
        let net = network(net)?;
        let opening = closes_at_ns.map(|closes_at_ns| Shown::new(&ports, closes_at_ns, None, net)).transpose()?;
        let kind = |door: &Arc<str>, ip: IpAddr| EventKind::Open {
            door_id: DoorId(0),
            command,
            opening: opening.map(|opening| opening.at(door, ip)),
            net: net.unwrap_or(ip.into()),
            key: key.map(Arc::from),
        };
        Ok(create(door, ip, time_ns, kind)?.add_subclass(Self))
    }

    /// Network that the door opens for, as in "203.0.113.0/24".
    ///
    /// Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
    #[getter]
    fn net(slf: PyRef<'_, Self>) -> String {
        net_of(slf.as_super())
    }

    /// Command for /bin/sh that opens the door, with the address filled in. None if the door has
    /// no command.
    #[getter]
    fn command(slf: PyRef<'_, Self>) -> Option<String> {
        parts(&slf.as_super().0.kind).2.map(str::to_owned)
    }

    /// Name of the key that authenticated the knock; None for a door without keys.
    #[getter]
    fn key(slf: PyRef<'_, Self>) -> Option<String> {
        key_of(slf.as_super()).map(str::to_owned)
    }

    /// Ports that the door opens without a command (`open`), as in ("tcp/22", "udp/53").
    ///
    /// Empty for a door without `open`.
    #[getter]
    fn ports(slf: PyRef<'_, Self>) -> PyResult<Bound<'_, PyTuple>> {
        slf.as_super().ports(slf.py())
    }

    /// Time at which the door closes, in seconds since 1970. None if it never closes by
    /// itself.
    #[getter]
    fn closes_at(slf: PyRef<'_, Self>) -> Option<f64> {
        slf.as_super().0.closes_at().map(seconds)
    }

    /// `closes_at` in nanoseconds, exactly.
    #[getter]
    fn closes_at_ns(slf: PyRef<'_, Self>) -> Option<u64> {
        slf.as_super().closes_at_ns()
    }
}

#[pymethods]
impl Extend {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str, &'static str) =
        ("door", "ip", "command", "stop_command");

    #[new]
    #[allow(clippy::too_many_arguments, reason = "Python code passes them by name")]
    #[pyo3(
        signature = (
            door, ip, command = None, stop_command = None, *,
            ports = Vec::new(), closes_at_ns = 0, net = None, key = None, time_ns = 0
        ),
        text_signature = "(door, ip, command=None, stop_command=None, *, ports=(), closes_at_ns=0, net=None, key=None, \
                          time_ns=0)"
    )]
    fn new(
        door: &str,
        ip: &Bound<'_, PyAny>,
        command: Option<String>,
        stop_command: Option<String>,
        ports: Vec<String>,
        closes_at_ns: u64,
        net: Option<&str>,
        key: Option<&str>,
        time_ns: u64,
    ) -> PyResult<PyClassInitializer<Self>> {
        let opening = Shown::new(&ports, closes_at_ns, stop_command, network(net)?)?;
        let kind = |door: &Arc<str>, ip| EventKind::Extend {
            door_id: DoorId(0),
            command,
            opening: opening.at(door, ip),
            key: key.map(Arc::from),
        };
        Ok(create(door, ip, time_ns, kind)?.add_subclass(Self))
    }

    /// Network that the door is open for, as in "203.0.113.0/24".
    ///
    /// Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
    #[getter]
    fn net(slf: PyRef<'_, Self>) -> String {
        net_of(slf.as_super())
    }

    /// Command for /bin/sh that opens the door again, with the address filled in. None if no
    /// command runs.
    #[getter]
    fn command(slf: PyRef<'_, Self>) -> Option<String> {
        parts(&slf.as_super().0.kind).2.map(str::to_owned)
    }

    /// Command for /bin/sh that closes the door and runs before `command`. None if the door has
    /// none, or if no command runs.
    #[getter]
    fn stop_command(slf: PyRef<'_, Self>) -> Option<String> {
        stop_command(&slf.as_super().0.kind).map(str::to_owned)
    }

    /// Name of the key that authenticated the knock; None for a door without keys.
    #[getter]
    fn key(slf: PyRef<'_, Self>) -> Option<String> {
        key_of(slf.as_super()).map(str::to_owned)
    }

    /// Ports that the door opens without a command (`open`), as in ("tcp/22", "udp/53").
    ///
    /// Empty for a door without `open`.
    #[getter]
    fn ports(slf: PyRef<'_, Self>) -> PyResult<Bound<'_, PyTuple>> {
        slf.as_super().ports(slf.py())
    }

    /// Time at which the door closes, in seconds since 1970.
    #[getter]
    fn closes_at(slf: PyRef<'_, Self>) -> Option<f64> {
        slf.as_super().0.closes_at().map(seconds)
    }

    /// `closes_at` in nanoseconds, exactly.
    #[getter]
    fn closes_at_ns(slf: PyRef<'_, Self>) -> Option<u64> {
        slf.as_super().closes_at_ns()
    }
}

#[pymethods]
impl Close {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str, &'static str) = ("door", "ip", "command", "reason");

    #[new]
    #[allow(clippy::too_many_arguments, reason = "Python code passes them by name")]
    #[pyo3(
        signature = (
            door, ip, command = None, reason = None, *,
            ports = Vec::new(), closes_at_ns = 0, net = None, time_ns = 0
        ),
        text_signature = "(door, ip, command=None, reason=None, *, ports=(), closes_at_ns=0, net=None, time_ns=0)"
    )]
    fn new(
        door: &str,
        ip: &Bound<'_, PyAny>,
        command: Option<String>,
        reason: Option<&str>,
        ports: Vec<String>,
        closes_at_ns: u64,
        net: Option<&str>,
        time_ns: u64,
    ) -> PyResult<PyClassInitializer<Self>> {
        let reason = reason.map(|word| reason_of(word, &[FailReason::Full, FailReason::Command])).transpose()?;
        let opening = Shown::new(&ports, closes_at_ns, command, network(net)?)?;
        let kind = |door: &Arc<str>, ip| EventKind::Close { opening: opening.at(door, ip), reason };
        Ok(create(door, ip, time_ns, kind)?.add_subclass(Self))
    }

    /// Network that the door was open for, as in "203.0.113.0/24".
    ///
    /// Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
    #[getter]
    fn net(slf: PyRef<'_, Self>) -> String {
        net_of(slf.as_super())
    }

    /// Reason why the door closes early.
    ///
    /// `full`: the door had `MaxOpenings` openings, and this was the oldest. `command`: the start
    /// command failed. None: its time is over, or it was closed by hand or at the end.
    #[getter]
    fn reason(slf: PyRef<'_, Self>) -> Option<&'static str> {
        parts(&slf.as_super().0.kind).3.map(FailReason::as_str)
    }

    /// Command for /bin/sh that closes the door, with the address filled in. None if the door
    /// has no command.
    #[getter]
    fn command(slf: PyRef<'_, Self>) -> Option<String> {
        parts(&slf.as_super().0.kind).2.map(str::to_owned)
    }

    /// Ports that the door opens without a command (`open`), as in ("tcp/22", "udp/53").
    ///
    /// Empty for a door without `open`.
    #[getter]
    fn ports(slf: PyRef<'_, Self>) -> PyResult<Bound<'_, PyTuple>> {
        slf.as_super().ports(slf.py())
    }

    /// Time at which the door was due to close, in seconds since 1970: later than `time` if it
    /// closes early.
    #[getter]
    fn closes_at(slf: PyRef<'_, Self>) -> Option<f64> {
        slf.as_super().0.closes_at().map(seconds)
    }

    /// `closes_at` in nanoseconds, exactly.
    #[getter]
    fn closes_at_ns(slf: PyRef<'_, Self>) -> Option<u64> {
        slf.as_super().closes_at_ns()
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
        Ok(create(door, ip, time_ns, |_, _| EventKind::Timeout { stage })?.add_subclass(Self))
    }

    /// Number of steps that were done.
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
        use FailReason::{DoorSilenced, Full, Reload, Scan, Silenced, WrongPort};
        let reason = reason_of(reason, &[WrongPort, Scan, Full, Reload, Silenced, DoorSilenced])?;
        Ok(create(door, ip, time_ns, |_, _| EventKind::Fail { stage, reason })?.add_subclass(Self))
    }

    /// Number of steps that were done.
    #[getter]
    fn stage(slf: PyRef<'_, Self>) -> u8 {
        slf.as_super().stage()
    }

    /// Reason of the failure.
    ///
    /// "wrong-port": a packet to a port that some door uses, but not as this door's next step.
    /// "scan": more ports that no door uses than ScanGuard allows. "full": the table of attempts
    /// was full, and a new attempt replaced this one. "reload": the door was changed or removed, or
    /// another client consumed its one-time sequence. "silenced": the third wrong code of the
    /// address, which the door ignores until the window ends. "door-silenced": the tenth wrong code,
    /// after which the door ignores every address until the window ends.
    #[getter]
    fn reason(slf: PyRef<'_, Self>) -> Option<&'static str> {
        parts(&slf.as_super().0.kind).3.map(FailReason::as_str)
    }
}

#[pymethods]
impl Refused {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str, &'static str) = ("door", "ip", "key", "reason");

    #[new]
    #[pyo3(signature = (door, ip, key, reason, *, offset = None, time_ns = 0))]
    fn new(
        door: &str,
        ip: &Bound<'_, PyAny>,
        key: &str,
        reason: &str,
        offset: Option<i64>,
        time_ns: u64,
    ) -> PyResult<PyClassInitializer<Self>> {
        let reason = refusal_of(reason, offset)?;
        Ok(create(door, ip, time_ns, |_, _| EventKind::Refused { key: key.into(), reason })?.add_subclass(Self))
    }

    /// Name of the key that authenticated the knock.
    #[getter]
    fn key(slf: PyRef<'_, Self>) -> String {
        key_of(slf.as_super()).unwrap_or_default().to_owned()
    }

    /// Reason of the refusal.
    ///
    /// "replay": the same knock was accepted before, or it may have been, because a listener's
    /// record of accepted knocks from before its start is incomplete. "clock": the clock of the
    /// client differs from the clock of this host by more than ClockSkew, see `offset`.
    /// "unknown-door": the packet asks for a door that does not exist or that the key does not
    /// open. "cooldown": the door ignores the address until its seq_cooldown is over. "address":
    /// the packet asks for an address that the door's `allow` or packet_address excludes, or that no
    /// host can have.
    ///
    /// Only packets of fwknop's format have the following reasons. "ports": the packet asks for
    /// ports that the key does not open. "command": it contains a command. "nat": it asks for network
    /// address translation. "weak": it lacks a protection that is required, such as an HMAC. "user":
    /// it names a user other than that of the key. "malformed": its HMAC is valid, and its encryption
    /// key is not that of the key file or its content is invalid.
    #[getter]
    fn reason(slf: PyRef<'_, Self>) -> Option<&'static str> {
        refusal(&slf.as_super().0.kind).map(RefusalReason::as_str)
    }

    /// For "clock": clock of the client minus clock of this host, in seconds. Otherwise None.
    #[getter]
    fn offset(slf: PyRef<'_, Self>) -> Option<i64> {
        offset_of(slf.as_super())
    }
}

fn refusal_of(word: &str, offset: Option<i64>) -> PyResult<RefusalReason> {
    use RefusalReason::{Address, Clock, Command, Cooldown, Malformed, Nat, Ports, Replay, UnknownDoor, User, Weak};
    let known = [
        Replay,
        Clock(offset.unwrap_or(0)),
        UnknownDoor,
        Cooldown,
        Address,
        Ports,
        Command,
        Nat,
        Weak(WeakReason::NoHmac),
        User,
        Malformed,
    ];
    let reason = known.into_iter().find(|reason| reason.as_str() == word).ok_or_else(|| {
        let words = known.map(RefusalReason::as_str).join(", ");
        PyValueError::new_err(format!("there is no reason {word:?}; the reasons are {words}"))
    })?;
    if offset.is_some() == matches!(reason, Clock(_)) {
        Ok(reason)
    } else {
        Err(PyValueError::new_err("the reason \"clock\" has an offset, and no other reason has one"))
    }
}

fn reason_of(word: &str, known: &[FailReason]) -> PyResult<FailReason> {
    known.iter().copied().find(|reason| reason.as_str() == word).ok_or_else(|| {
        let words = known.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ");
        PyValueError::new_err(format!("there is no reason {word:?}; the reasons are {words}"))
    })
}
