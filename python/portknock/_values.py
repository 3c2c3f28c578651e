"""Values that never change. The public names are those of `portknock`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

if TYPE_CHECKING:
    from portknock import Config

Address = Union[str, IPv4Address, IPv6Address]
"""How IP addresses are passed. They are given as `str`."""


@dataclass(frozen=True)
class Step:
    """One step of a sequence: a packet to a port. Its text is as in knockd.conf, `7000` or `7000:udp`.

    Raises ValueError for a port that is not from 1 to 65535, and for other protocols.
    """

    port: int
    """The destination port, 1 to 65535."""
    protocol: str = "tcp"
    """"tcp" or "udp"."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}, expected a number from 1 to 65535")
        if self.protocol not in ("tcp", "udp"):
            raise ValueError(f"protocol is {self.protocol!r}, expected 'tcp' or 'udp'")

    def __str__(self) -> str:
        return f"{self.port}:udp" if self.protocol == "udp" else str(self.port)


@dataclass(frozen=True)
class Fix:
    """A change that mends a finding: the bytes from `start` to `end` of the text become `replacement`."""

    start: int
    """The first byte to replace, counted from 0."""
    end: int
    """The byte behind the last one; equal to `start` for an insertion."""
    replacement: str
    """What takes their place."""


@dataclass(frozen=True)
class Diagnostic:
    """Something that was found in a configuration."""

    code: str
    """Its stable code, as in "PK012"."""
    severity: Literal["error", "warning"]
    """"error" where the configuration is refused, "warning" where it is used all the same."""
    message: str
    """What is wrong, on one line."""
    line: int
    """Where it begins: the line, counted from 1."""
    column: int
    """The column, counted from 1 in characters."""
    end_line: int
    """Where it ends: the line of the first character behind it."""
    end_column: int
    """The column of the first character behind it."""
    help: Optional[str]
    """What to do about it."""
    fix: Optional[Fix]
    """The change that mends it, where one reading is obvious. `Config.fix` applies all of them."""


@dataclass(frozen=True)
class Options:
    """The `[options]` of a configuration, with defaults filled in."""

    use_syslog: bool
    """Log through syslog."""
    log_file: Optional[str]
    """Log into this file."""
    pid_file: str
    """Where the daemon writes its process id."""
    interfaces: tuple[str, ...]
    """Where to listen; empty for knockd's default, eth0."""
    scan_guard: int
    """How many ports that no door uses an attempt survives, 1 to 255; 0 turns this off."""
    max_attempts: int
    max_openings: int
    """How many attempts may be alive at once, 1 to 16,777,216."""
    log_rate: int
    """How many stages, timeouts and failures the daemon logs a second, up to 1,000,000; 0 for no limit."""
    state_file: str
    """Where openings survive a crash."""
    control_socket: Optional[str]
    """Where the daemon answers `portknock status` and its like; None for nowhere."""
    on_stop: Literal["close", "keep"]
    """What happens to open doors at a stop, "close" or "keep"."""
    gate: str
    """Where the doors' `open` ports are opened: "own", or "set FAMILY TABLE SET4 SET6"."""
    gate_refuse: Literal["reject", "drop"]
    """How the own table refuses everybody else, "reject" or "drop"."""


@dataclass(frozen=True)
class OpenPrefix:
    """The prefixes of the networks that a door opens for."""

    ipv4: int
    """The length for IPv4; 32 is the address alone."""
    ipv6: int
    """The length for IPv6; 128 is the address alone."""


@dataclass(frozen=True)
class Door:
    """A door of a configuration, with defaults filled in."""

    name: str
    """Its name; several doors can have the same."""
    sequence: Optional[tuple[Step, ...]]
    """The steps that open it now; None where its one-time sequences are used up."""
    one_time_sequences: Optional[str]
    """The file that its sequences are taken from, one after another."""
    seq_timeout: int
    """How many seconds an attempt may take."""
    tcpflags: tuple[str, ...]
    """The TCP flags that matter, "syn" for one that must be set, "!ack" for one that must be clear."""
    target: Optional[str]
    """The destination address that knocks must have; None for any of the machine's."""
    start_command: Optional[str]
    """What opens the door, with %IP% for the address and %NET% for the network that it opens for."""
    stop_command: Optional[str]
    """What closes it."""
    start_command_6: Optional[str]
    """What opens it for IPv6, where that differs; "" does nothing."""
    stop_command_6: Optional[str]
    """What closes it for IPv6, where that differs; "" does nothing."""
    cmd_timeout: int
    """How many seconds it stays open, where a command closes it or it has `open`."""
    open: tuple[Step, ...]
    """The ports that are opened without a command."""
    allow: tuple[str, ...]
    """The networks that may knock; empty for all."""
    seq_cooldown: Optional[int]
    """How many seconds after an opening the door ignores that address."""
    open_prefix: Optional[OpenPrefix] = None
    """The networks that it opens for; None for the address alone."""


@dataclass(frozen=True)
class Report:
    """What `check` found. Its text is what `portknock check` shows, or "" where nothing was found."""

    file: str
    """What was checked."""
    diagnostics: tuple[Diagnostic, ...]
    """All findings, in the order of the text."""
    config: Optional[Config]
    """The configuration; None where there are errors."""
    text: str
    """The findings as people read them, each with its line of the file."""

    @property
    def errors(self) -> int:
        """How many errors there are."""
        return sum(found.severity == "error" for found in self.diagnostics)

    @property
    def warnings(self) -> int:
        """How many warnings there are."""
        return sum(found.severity == "warning" for found in self.diagnostics)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `portknock check --format json`."""
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
    """What was found at one port of one address, in nmap's words."""

    host: str
    """The host as it was given."""
    address: str
    """Its address; one that is only valid on one link is followed by the number of its zone, as in "fe80::1%2"."""
    port: int
    """The port, 1 to 65535."""
    protocol: Literal["tcp", "udp"]
    """"tcp" or "udp"."""
    state: Literal["open", "closed", "filtered", "open|filtered"]
    """"open", "closed" or "filtered"; for UDP also "open|filtered", where nothing answered."""
    reason: str
    """What that was concluded from, as in "syn-ack", "reset", "conn-refused" or "no-response"."""
    rtt: Optional[float] = None
    """The seconds from the probe to its answer; None without an answer, or where it is not certain which probe was
    answered."""

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `portknock probe --format json`."""
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


# What the native module makes of core's JSON.


def diagnostics(found: list[dict[str, Any]]) -> tuple[Diagnostic, ...]:
    return tuple(Diagnostic(**{**one, "fix": one["fix"] and Fix(**one["fix"])}) for one in found)


def options(found: dict[str, Any]) -> Options:
    return Options(**{**found, "interfaces": tuple(found["interfaces"])})


def doors(found: list[dict[str, Any]]) -> tuple[Door, ...]:
    return tuple(_door(**one) for one in found)


def _door(
    sequence: Optional[list[dict[str, Any]]],
    tcpflags: dict[str, bool],
    open: list[dict[str, Any]],
    open_prefix: Optional[dict[str, int]],
    allow: list[str],
    **others: Any,
) -> Door:
    steps = None if sequence is None else tuple(Step(**step) for step in sequence)
    flags = tuple(name if is_set else f"!{name}" for name, is_set in tcpflags.items())
    opened = tuple(Step(**port) for port in open)
    prefix = None if open_prefix is None else OpenPrefix(**open_prefix)
    return Door(sequence=steps, tcpflags=flags, open=opened, open_prefix=prefix, allow=tuple(allow), **others)


def probe_result(found: dict[str, Any], rtt: Optional[float]) -> ProbeResult:
    del found["rtt_ms"]  # which is rounded
    return ProbeResult(**found, rtt=rtt)
