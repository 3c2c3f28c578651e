"""Values that never change. Their public names are those in `portknock`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

if TYPE_CHECKING:
    from portknock import Config

Address = Union[str, IPv4Address, IPv6Address]
"""Types of IP addresses in arguments. Results contain addresses as `str`."""


@dataclass(frozen=True)
class Step:
    """One step of a sequence: a packet to a port. `str` is its form in knockd.conf, `7000` or
    `7000:udp`.

    Raises ValueError for a port that is not from 1 to 65535, and for other protocols.
    """

    port: int
    """Destination port, 1 to 65535."""
    protocol: str = "tcp"
    """Protocol: "tcp" or "udp"."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}, expected a number from 1 to 65535")
        if self.protocol not in ("tcp", "udp"):
            raise ValueError(f"protocol is {self.protocol!r}, expected 'tcp' or 'udp'")

    def __str__(self) -> str:
        return f"{self.port}:udp" if self.protocol == "udp" else str(self.port)


@dataclass(frozen=True)
class Fix:
    """A change that fixes a problem: the bytes from `start` to before `end` become
    `replacement`.
    """

    start: int
    """First byte to replace, counted from 0."""
    end: int
    """Byte after the last one to replace, counted from 0; equal to `start` for an insertion."""
    replacement: str
    """Text that replaces the bytes."""


@dataclass(frozen=True)
class Diagnostic:
    """One finding about the text of a configuration."""

    code: str
    """Stable code, as in "PK012": "PK" and three digits."""
    severity: Literal["error", "warning"]
    """"error" if the configuration is refused, "warning" if it is usable nevertheless."""
    message: str
    """Description of the problem, on one line."""
    line: int
    """Line of its first character, counted from 1."""
    column: int
    """Column of its first character, counted from 1 in characters."""
    end_line: int
    """Line of the first character after it, counted from 1."""
    end_column: int
    """Column of the first character after it, counted from 1 in characters."""
    help: Optional[str]
    """Advice on how to resolve it, or None."""
    fix: Optional[Fix]
    """Change that fixes the problem; None if there is no obvious fix. `Config.fix` applies all
    fixes.
    """


@dataclass(frozen=True)
class Options:
    """The `[options]` of a configuration, with defaults filled in."""

    use_syslog: bool
    """Whether to log through syslog."""
    log_file: Optional[str]
    """Path of the log file; None for no file."""
    pid_file: str
    """Path of the file to which the daemon writes its process id."""
    interfaces: tuple[str, ...]
    """Names of the interfaces to listen on; empty for knockd's default, eth0."""
    scan_guard: int
    """Number of ports that no door uses which an attempt survives, 1 to 255; 0 turns the
    guard off.
    """
    max_attempts: int
    """Maximum number of unfinished attempts, 1 to 16,777,216."""
    max_openings: int
    """Maximum number of addresses for which one door is open at the same time, 1 to 1,048,576."""
    log_rate: int
    """Maximum number of stages, timeouts and failed attempts that the daemon logs per second, up to
    1,000,000; 0 for no limit.
    """
    state_file: str
    """Path of the file in which openings survive a crash."""
    control_socket: Optional[str]
    """Path of the socket on which the daemon answers commands such as `portknock status`; None for
    no socket.
    """
    on_stop: Literal["close", "keep"]
    """Treatment of open doors when the daemon stops: "close" or "keep" them."""
    gate: str
    """Place where the ports of `open` are opened: "own" for the managed table, or "set FAMILY TABLE
    SET4 SET6" for sets of another table.
    """
    gate_refuse: Literal["reject", "drop"]
    """Treatment of other clients' packets by the managed table: "reject" or "drop" them."""
    packet_ports: tuple[tuple[int, int], ...]
    """UDP ports on which doors with `packet` receive packets: the first and the last port of each
    range, in ascending order.
    """
    clock_skew: int
    """Maximum difference between the clocks of a client that sends a packet and of this host, in
    seconds.
    """


@dataclass(frozen=True)
class OpenPrefix:
    """Prefix lengths of the networks that a door opens for."""

    ipv4: int
    """Prefix length for IPv4, in bits; 32 is the address alone."""
    ipv6: int
    """Prefix length for IPv6, in bits; 128 is the address alone."""


@dataclass(frozen=True)
class TimeSequence:
    """How the sequence of a door follows from a key and the time."""

    steps: int
    """Number of steps, 1 to 8."""
    ports: tuple[int, int]
    """First and last port of the range of the steps' ports."""
    protocols: Literal["tcp", "udp", "both"]
    """Protocols of the steps."""
    window: int
    """Time from one sequence to the next, in seconds."""


@dataclass(frozen=True)
class CodeStep:
    """One step of a sequence that contains digits of the code of an authenticator app."""

    ports: tuple[int, int]
    """First and last port that the step can have."""
    protocol: Literal["tcp", "udp"]
    """Protocol of the packet."""
    digits: int
    """Number of digits of the code in the port, 1 to 4."""


@dataclass(frozen=True)
class CodeSequence:
    """Sequence that ends with the code of an authenticator app."""

    fixed: tuple[Step, ...]
    """Steps before the code."""
    steps: tuple[CodeStep, ...]
    """Steps with the digits of the code, which has 6 or 8 digits."""


@dataclass(frozen=True)
class Door:
    """A door of a configuration, with defaults filled in."""

    name: str
    """Name; several doors can have the same name."""
    sequence: Optional[tuple[Step, ...]]
    """Steps that currently open the door; None if its one-time sequences are consumed, or if it has
    `time_sequence`, `code` or `packet`.
    """
    one_time_sequences: Optional[str]
    """Path of the file that its sequences are read from, one after another; None without one."""
    seq_timeout: int
    """Maximum duration of an attempt, in seconds."""
    tcpflags: tuple[str, ...]
    """TCP flags that matter: "syn" for a flag that is required to be set, "!ack" for a flag that is
    required to be clear.
    """
    target: Optional[str]
    """Destination address of its knocks; None for any address of this host."""
    start_command: Optional[str]
    """Command that opens the door, with %IP% for the address and %NET% for the network that it
    opens for. None without one.
    """
    stop_command: Optional[str]
    """Command that closes the door; None without one."""
    start_command_6: Optional[str]
    """Command that opens the door for IPv6, if it differs; "" runs no command."""
    stop_command_6: Optional[str]
    """Command that closes the door for IPv6, if it differs; "" runs no command."""
    cmd_timeout: int
    """Time until an open door closes, in seconds, if a command closes it or it has `open`."""
    open: tuple[Step, ...]
    """Ports that are opened without a command."""
    allow: tuple[str, ...]
    """Networks that are allowed to knock; empty for all."""
    seq_cooldown: Optional[int]
    """Time after an opening during which the door ignores knocks of the same address, in seconds;
    None for no such time.
    """
    open_prefix: Optional[OpenPrefix] = None
    """Prefix lengths of the networks that the door opens for; None for the address alone."""
    time_sequence: Optional[TimeSequence] = None
    """How its sequence follows from a key and the time; None for a door without
    `sequence = time`.
    """
    code: Optional[CodeSequence] = None
    """Sequence with the code of an authenticator app; None for a door without one."""
    totp_secret: Optional[str] = None
    """Path of the file of the secret for `code`; None without one."""
    packet: Optional[Literal["portknock", "fwknop"]] = None
    """Format of the packet that opens the door; None for a door without `packet`."""
    packet_address: Optional[Literal["any", "required", "source"]] = None
    """Address for which a packet of fwknop's format opens the door; None for other doors. "any": the
    address in the packet, or the source if the packet contains 0.0.0.0. "required": the address in
    the packet, which must contain one. "source": both, which must be equal.
    """
    keys: Optional[str] = None
    """Path of the file of keys for `time_sequence` or `packet`; None without one."""


@dataclass(frozen=True)
class Report:
    """Result of `check`. `str` is the report as `portknock check` prints it, "" if there is no
    finding.
    """

    file: str
    """Name of the checked file or text."""
    diagnostics: tuple[Diagnostic, ...]
    """All findings, in the order of the text."""
    config: Optional[Config]
    """Configuration; None if it has errors."""
    text: str
    """Report as `portknock check` prints it, each finding with its line of the file."""

    @property
    def errors(self) -> int:
        """Number of errors."""
        return sum(found.severity == "error" for found in self.diagnostics)

    @property
    def warnings(self) -> int:
        """Number of warnings."""
        return sum(found.severity == "warning" for found in self.diagnostics)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of `portknock check --format json`."""
        return {
            "file": self.file,
            "errors": self.errors,
            "warnings": self.warnings,
            "diagnostics": [asdict(found) for found in self.diagnostics],
            "config": self.config and self.config.as_dict(),
        }

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class ProbeResult:
    """Result for one port of one address, in the terms of nmap."""

    host: str
    """Host as it was passed."""
    address: str
    """Address. The number of its zone follows an address that is only valid on one link, as in
    "fe80::1%2".
    """
    port: int
    """Port, 1 to 65535."""
    protocol: Literal["tcp", "udp"]
    """Protocol: "tcp" or "udp"."""
    state: Literal["open", "closed", "filtered", "open|filtered"]
    """State: "open", "closed" or "filtered"; for UDP also "open|filtered" if there was no
    response.
    """
    reason: str
    """Reason for the state, as in "syn-ack", "reset", "conn-refused" or "no-response"."""
    rtt: Optional[float] = None
    """Time from the probe to its response, in seconds. None without a response, and if it is not
    certain which probe the response belongs to.
    """

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of `portknock probe --format json`."""
        return {
            "host": self.host,
            "address": self.address,
            "port": self.port,
            "protocol": self.protocol,
            "state": self.state,
            "reason": self.reason,
            "rtt_ms": None if self.rtt is None else math.floor(self.rtt * 1e6 + 0.5) / 1e3,
        }

    def __str__(self) -> str:
        return f"{self.address} port {self.port}/{self.protocol} is {self.state} ({self.reason})"


# Functions by which the native module converts core's JSON.


def diagnostics(found: list[dict[str, Any]]) -> tuple[Diagnostic, ...]:
    return tuple(Diagnostic(**{**one, "fix": one["fix"] and Fix(**one["fix"])}) for one in found)


def options(found: dict[str, Any]) -> Options:
    ports = tuple(_range(ports) for ports in found["packet_ports"])
    return Options(**{**found, "interfaces": tuple(found["interfaces"]), "packet_ports": ports})


def doors(found: list[dict[str, Any]]) -> tuple[Door, ...]:
    return tuple(_door(**one) for one in found)


def _door(
    sequence: Optional[list[dict[str, Any]]],
    tcpflags: dict[str, bool],
    open: list[dict[str, Any]],
    open_prefix: Optional[dict[str, int]],
    allow: list[str],
    time_sequence: Optional[dict[str, Any]],
    code: Optional[dict[str, Any]],
    **others: Any,
) -> Door:
    steps = None if sequence is None else _steps(sequence)
    flags = tuple(name if is_set else f"!{name}" for name, is_set in tcpflags.items())
    opened = _steps(open)
    prefix = None if open_prefix is None else OpenPrefix(**open_prefix)
    time = None
    if time_sequence is not None:
        time = TimeSequence(**{**time_sequence, "ports": _range(time_sequence["ports"])})
    return Door(
        sequence=steps,
        tcpflags=flags,
        open=opened,
        open_prefix=prefix,
        allow=tuple(allow),
        time_sequence=time,
        code=None if code is None else _code(**code),
        **others,
    )


def _code(fixed: list[dict[str, Any]], steps: list[dict[str, Any]]) -> CodeSequence:
    with_digits = (CodeStep(**{**step, "ports": _range(step["ports"])}) for step in steps)
    return CodeSequence(fixed=_steps(fixed), steps=tuple(with_digits))


def _steps(found: list[dict[str, Any]]) -> tuple[Step, ...]:
    return tuple(Step(**step) for step in found)


def _range(ports: dict[str, int]) -> tuple[int, int]:
    return ports["first"], ports["last"]


def probe_result(found: dict[str, Any], rtt: Optional[float]) -> ProbeResult:
    del found["rtt_ms"]  # a rounded value
    return ProbeResult(**found, rtt=rtt)
