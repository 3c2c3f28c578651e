"""Port knocking: configurations, matching, live capture, knocking and probing.

    config = portknock.Config.load("/etc/knockd.conf")
    with portknock.Listener(config, interface="eth0") as listener:
        for event in listener:
            match event:
                case portknock.Open(door, ip, command): ...

Times are seconds since 1970. The resolution of a float is about a quarter of a microsecond. For
exact times, methods accept and return `int` nanoseconds with `ns=True`, and events have `time_ns`.

All objects can be used from any thread, also without the global interpreter lock. While a call
waits, other threads run, and Ctrl-C ends the call.
"""

import os
from types import TracebackType
from typing import Any, AnyStr, Callable, Final, Iterable, Literal, Optional, Sequence, Union, final, overload

from typing_extensions import Buffer, Self, disjoint_base

from portknock import aio as aio
from portknock._client import check as check
from portknock._client import check_text as check_text
from portknock._client import knock as knock
from portknock._client import packet as packet
from portknock._client import probe as probe
from portknock._client import sequence as sequence
from portknock._errors import CaptureError as CaptureError
from portknock._errors import ConfigError as ConfigError
from portknock._errors import KnockError as KnockError
from portknock._errors import PortknockError as PortknockError
from portknock._errors import ProbeError as ProbeError
from portknock._values import Address as Address
from portknock._values import CodeSequence as CodeSequence
from portknock._values import CodeStep as CodeStep
from portknock._values import Diagnostic as Diagnostic
from portknock._values import Door as Door
from portknock._values import Fix as Fix
from portknock._values import OpenPrefix as OpenPrefix
from portknock._values import Options as Options
from portknock._values import ProbeResult as ProbeResult
from portknock._values import Report as Report
from portknock._values import Step as Step
from portknock._values import TimeSequence as TimeSequence

__all__ = [
    "LINKTYPE_ETHERNET",
    "LINKTYPE_IPV4",
    "LINKTYPE_IPV6",
    "LINKTYPE_LINUX_SLL",
    "LINKTYPE_LINUX_SLL2",
    "LINKTYPE_LOOP",
    "LINKTYPE_NULL",
    "LINKTYPE_RAW",
    "Address",
    "AnyEvent",
    "CaptureError",
    "Close",
    "CodeSequence",
    "CodeStep",
    "Config",
    "ConfigError",
    "Diagnostic",
    "Door",
    "Engine",
    "Event",
    "Extend",
    "Fail",
    "Fix",
    "Key",
    "KnockError",
    "Listener",
    "Open",
    "OpenPrefix",
    "Options",
    "PortknockError",
    "ProbeError",
    "ProbeResult",
    "Refused",
    "Replay",
    "Report",
    "Stage",
    "Step",
    "TimeSequence",
    "Timeout",
    "__version__",
    "aio",
    "check",
    "check_text",
    "knock",
    "packet",
    "probe",
    "replay",
    "sequence",
]

__version__: Final[str]
"""Version of this package, for example "0.1.0"."""

# Link types, the formats of frames: the numbers of libpcap (https://www.tcpdump.org/linktypes.html).

LINKTYPE_NULL: Final[int]
"""BSD loopback: the address family in the byte order of the capturing host."""
LINKTYPE_ETHERNET: Final[int]
"""Ethernet, with any depth of VLAN tags."""
LINKTYPE_RAW: Final[int]
"""IPv4 or IPv6 packets without a link-layer header. The numbers 12 and 14, which libpcap uses
for the same format on some systems, are accepted too.
"""
LINKTYPE_LOOP: Final[int]
"""OpenBSD loopback: the address family in network byte order."""
LINKTYPE_LINUX_SLL: Final[int]
"""Linux "cooked" frames, version 1."""
LINKTYPE_IPV4: Final[int]
"""IPv4 packets."""
LINKTYPE_IPV6: Final[int]
"""IPv6 packets."""
LINKTYPE_LINUX_SLL2: Final[int]
"""Linux "cooked" frames, version 2, the format of captures on "any"."""

@final
class Config:
    """A knockd.conf: its options and doors. It never changes.

    `str` is its canonical text: options that differ from the defaults, then the doors. Two
    configurations are equal if their options and doors mean the same. The name, comments and
    warnings do not matter.

    It can be copied and pickled. `pickle` stores the text. Unpickling reads it again, as `parse`
    does, and so also reads the one_time_sequences files and the `keys` files that it names.
    """

    @staticmethod
    def load(path: Union[str, os.PathLike[str]]) -> Config:
        """Read a file, the first unused sequence of each one_time_sequences file that it names, and the
        keys of each `keys` file.

        Raises ConfigError if the configuration has errors, and OSError if the file cannot be read:
        it is missing, is not a regular file, or is larger than 16 MiB.
        """

    @staticmethod
    def parse(text: Union[str, Buffer], name: str = "<text>") -> Config:
        """Read a text. Bytes need not be UTF-8. Otherwise the same as `load`.

        name: stands for the file name in errors.

        Raises ConfigError if the configuration has errors.
        """

    @staticmethod
    def fix(text: AnyStr) -> AnyStr:
        """Return the text with every fix of its diagnostics applied, as `portknock check --fix`
        writes it.

        Problems without a fix remain: use `parse` or `check_text` on the result to find them.
        """

    @property
    def doors(self) -> tuple[Door, ...]:
        """Doors, in the order of the file."""

    @property
    def options(self) -> Options:
        """Options."""

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Findings, in the order of the text. They are warnings, because a `Config` has no
        errors.
        """

    @property
    def report(self) -> str:
        """Diagnostics as `portknock check` prints them, each with its line of the text; "" if there
        is none.
        """

    def as_dict(self) -> dict[str, Any]:
        """Return the object `config` of `portknock check --format json`: a new dict each time."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Callable[[bytes, str], Config], tuple[bytes, str]]: ...
    def __copy__(self) -> Config: ...
    def __deepcopy__(self, memo: object, /) -> Config: ...

@disjoint_base
class Event:
    """An event at a door: one of `Stage`, `Open`, `Extend`, `Close`, `Timeout`, `Fail` and `Refused`.

    Events never change. Two events are equal if all their visible values are equal. Events can be
    hashed, copied and pickled. `repr` is the expression that creates the event. `str` is its line
    for a log, in knockd's wording, without control characters.
    """

    @property
    def time(self) -> float:
        """Time in seconds since 1970: the time of the packet, or the due time of a timeout or a
        closing.
        """

    @property
    def time_ns(self) -> int:
        """`time` in nanoseconds, exactly."""

    @property
    def door(self) -> str:
        """Name of the door."""

    @property
    def ip(self) -> str:
        """Address of the client, IPv4 or IPv6."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of `portknock replay --format json`."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]: ...

@final
class Stage(Event):
    """A step of the sequence matched. `Open` or `Extend` follows the last step."""

    __match_args__ = ("door", "ip", "stage", "steps")

    def __new__(cls, door: str, ip: Address, stage: int, steps: int, *, time_ns: int = 0) -> Self: ...
    @property
    def stage(self) -> int:
        """Number of steps that are done, 1 to 32."""

    @property
    def steps(self) -> int:
        """Number of steps in the sequence."""

@final
class Open(Event):
    """The whole sequence matched and the door opens.

    Unless a listener runs the commands, the program runs `command` and opens `ports` for `net`.
    """

    __match_args__ = ("door", "ip", "command")

    def __new__(
        cls,
        door: str,
        ip: Address,
        command: Optional[str] = None,
        *,
        ports: Sequence[str] = (),
        closes_at_ns: Optional[int] = None,
        net: Optional[str] = None,
        key: Optional[str] = None,
        time_ns: int = 0,
    ) -> Self: ...
    @property
    def net(self) -> str:
        """Network that the door opens for, as in "203.0.113.0/24".

        Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
        """

    @property
    def command(self) -> Optional[str]:
        """Command for /bin/sh that opens the door, with the address filled in. None if the door has
        no command.
        """

    @property
    def key(self) -> Optional[str]:
        """Name of the key that authenticated the knock; None for a door without keys."""

    @property
    def ports(self) -> tuple[str, ...]:
        """Ports that the door opens without a command (`open`), as in ("tcp/22", "udp/53").

        Empty for a door without `open`.
        """

    @property
    def closes_at(self) -> Optional[float]:
        """Time at which the door closes, in seconds since 1970. None if it never closes by
        itself.
        """

    @property
    def closes_at_ns(self) -> Optional[int]:
        """`closes_at` in nanoseconds, exactly."""

@final
class Extend(Event):
    """A complete knock while the door is open: it closes later, and its commands open it again.

    Unless a listener runs the commands, the program runs `stop_command` and `command`, and keeps
    `ports` open for `net`.
    """

    __match_args__ = ("door", "ip", "command", "stop_command")

    def __new__(
        cls,
        door: str,
        ip: Address,
        command: Optional[str] = None,
        stop_command: Optional[str] = None,
        *,
        ports: Sequence[str] = (),
        closes_at_ns: int = 0,
        net: Optional[str] = None,
        key: Optional[str] = None,
        time_ns: int = 0,
    ) -> Self: ...
    @property
    def net(self) -> str:
        """Network that the door is open for, as in "203.0.113.0/24".

        Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
        """

    @property
    def command(self) -> Optional[str]:
        """Command for /bin/sh that opens the door again, with the address filled in. None if no
        command runs.
        """

    @property
    def stop_command(self) -> Optional[str]:
        """Command for /bin/sh that closes the door and runs before `command`. None if the door has
        none, or if no command runs.
        """

    @property
    def key(self) -> Optional[str]:
        """Name of the key that authenticated the knock; None for a door without keys."""

    @property
    def ports(self) -> tuple[str, ...]:
        """Ports that the door opens without a command (`open`), as in ("tcp/22", "udp/53").

        Empty for a door without `open`.
        """

    @property
    def closes_at(self) -> float:
        """Time at which the door closes, in seconds since 1970."""

    @property
    def closes_at_ns(self) -> int:
        """`closes_at` in nanoseconds, exactly."""

@final
class Close(Event):
    """The door closes because its time is over, or early.

    Unless a listener runs the commands, the program runs `command` and closes `ports` for `net`.
    """

    __match_args__ = ("door", "ip", "command", "reason")

    def __new__(
        cls,
        door: str,
        ip: Address,
        command: Optional[str] = None,
        reason: Optional[str] = None,
        *,
        ports: Sequence[str] = (),
        closes_at_ns: int = 0,
        net: Optional[str] = None,
        time_ns: int = 0,
    ) -> Self: ...
    @property
    def net(self) -> str:
        """Network that the door was open for, as in "203.0.113.0/24".

        Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
        """

    @property
    def reason(self) -> Optional[Literal["full", "command"]]:
        """Reason why the door closes early.

        `full`: the door had `MaxOpenings` openings, and this was the oldest. `command`: the start
        command failed. None: its time is over, or it was closed by hand or at the end.
        """

    @property
    def command(self) -> Optional[str]:
        """Command for /bin/sh that closes the door, with the address filled in. None if the door
        has no command.
        """

    @property
    def ports(self) -> tuple[str, ...]:
        """Ports that the door opens without a command (`open`), as in ("tcp/22", "udp/53").

        Empty for a door without `open`.
        """

    @property
    def closes_at(self) -> float:
        """Time at which the door was due to close, in seconds since 1970: later than `time` if it
        closes early.
        """

    @property
    def closes_at_ns(self) -> int:
        """`closes_at` in nanoseconds, exactly."""

@final
class Timeout(Event):
    """The attempt took longer than seq_timeout."""

    __match_args__ = ("door", "ip", "stage")

    def __new__(cls, door: str, ip: Address, stage: int, *, time_ns: int = 0) -> Self: ...
    @property
    def stage(self) -> int:
        """Number of steps that were done."""

@final
class Fail(Event):
    """The attempt failed."""

    __match_args__ = ("door", "ip", "stage", "reason")

    def __new__(cls, door: str, ip: Address, stage: int, reason: str, *, time_ns: int = 0) -> Self: ...
    @property
    def stage(self) -> int:
        """Number of steps that were done."""

    @property
    def reason(self) -> Literal["wrong-port", "scan", "full", "reload", "silenced", "door-silenced"]:
        """Reason of the failure.

        "wrong-port": a packet to a port that some door uses, but not as this door's next step.
        "scan": more ports that no door uses than ScanGuard allows. "full": the table of attempts
        was full, and a new attempt replaced this one. "reload": the door was changed or removed, or
        another client consumed its one-time sequence. "silenced": the third wrong code of the
        address, which the door ignores until the window ends. "door-silenced": the tenth wrong code,
        after which the door ignores every address until the window ends.
        """

@final
class Refused(Event):
    """A knock that a key authenticated opens nothing."""

    __match_args__ = ("door", "ip", "key", "reason")

    def __new__(
        cls, door: str, ip: Address, key: str, reason: str, *, offset: Optional[int] = None, time_ns: int = 0
    ) -> Self: ...
    @property
    def key(self) -> str:
        """Name of the key that authenticated the knock."""

    @property
    def reason(
        self,
    ) -> Literal[
        "replay",
        "clock",
        "unknown-door",
        "cooldown",
        "address",
        "ports",
        "command",
        "nat",
        "weak",
        "user",
        "malformed",
    ]:
        """Reason of the refusal.

        "replay": the same knock was accepted before, or it may have been, because a listener's
        record of accepted knocks from before its start is incomplete. "clock": the clock of the
        client differs from the clock of this host by more than ClockSkew, see `offset`.
        "unknown-door": the packet asks for a door that does not exist or that the key does not
        open. "cooldown": the door ignores the address until its seq_cooldown is over. "address":
        the packet asks for an address that the door's `allow` or packet_address excludes, or that no
        host can have.

        Only packets of fwknop's format have the following reasons. "ports": the packet asks for
        ports that the key does not open. "command": it contains a command. "nat": it asks for network
        address translation. "weak": it lacks a protection that is required, such as an HMAC. "user":
        it names a user other than that of the key. "malformed": its HMAC is valid, and its encryption
        key is not that of the key file or its content is invalid.
        """

    @property
    def offset(self) -> Optional[int]:
        """For "clock": clock of the client minus clock of this host, in seconds. Otherwise None."""

AnyEvent = Union[Stage, Open, Extend, Close, Timeout, Fail, Refused]
"""Union of all event classes: a `match` statement with a case for each of them is complete."""

@final
class Engine:
    """The matching without input and output: an engine has no socket, clock or thread.

    Feed it with frames and times. Each call returns the events that it caused, and the program
    carries out the actions that they ask for. After each call wait for the next packet until the
    time of `next_timeout` at the latest, and call `advance` at that time. Time never runs
    backwards: a time earlier than the previous one counts as the previous one.

    Doors with one_time_sequences accept one knock here; `replay` and `Listener` continue with the
    next sequences of their files. Doors with keys accept each knock once. A new engine does not
    remember the knocks that an earlier one has accepted; a `Listener` with run_commands does.

    Calls on one engine wait for each other.

    All times are seconds since 1970 up to 18446744072.99, as float or int, or with `ns=True` int
    nanoseconds. Other values raise ValueError.
    """

    def __new__(
        cls,
        config: Config,
        local_addresses: Optional[Iterable[Address]] = None,
        *,
        now: Optional[float] = None,
        ns: bool = False,
    ) -> Self:
        """Create an engine for a configuration.

        local_addresses: addresses that count as this host's for doors without a `target`, as texts
            or objects of `ipaddress`. None: any destination counts.
        now: time at which the engine starts. None: the time of its first call.
        """

    def set_local_addresses(self, addresses: Optional[Iterable[Address]]) -> None:
        """Set the addresses that count as this host's from now on; None for any."""

    def set_wall_clock(self, wall: float, now: float, *, ns: bool = False) -> list[AnyEvent]:
        """Set the time of the wall clock at `now`, the time by the engine's clock.

        Time sequences change by the wall clock, and the times of packets are judged by it. Until
        the first call, the times that the engine receives are those of the wall clock. Only a
        program whose times come from another clock, such as CLOCK_BOOTTIME, needs this method: at
        the start, and after each change of the wall clock.
        """

    def feed(self, frame: Buffer, timestamp: float, linktype: int = ..., *, ns: bool = False) -> list[AnyEvent]:
        """Process a captured frame and return its events.

        A frame that is not a knock only advances the time; its bytes may be anything.

        timestamp: time of capture.
        linktype: format of the frame, one of LINKTYPE_…; by default Ethernet. Raises ValueError for
            another number.
        """

    def feed_many(
        self, frames: Iterable[tuple[float, Buffer]], linktype: int = ..., *, ns: bool = False
    ) -> list[AnyEvent]:
        """Process many frames, each a tuple (timestamp, frame), at a third of the cost of `feed`.

        `bytes` are read in place, other bytes-like objects are copied. If a tuple is invalid, the
        frames before it have been processed, and the next call returns their events.
        """

    def advance(self, now: float, *, ns: bool = False) -> list[AnyEvent]:
        """Advance the time: everything due by then happens."""

    @overload
    def next_timeout(self, *, ns: Literal[False] = False) -> Optional[float]:
        """Return the time at which `advance` is due next; None if no attempt and no opening is
        running.

        It can change with every call that has a time argument.
        """

    @overload
    def next_timeout(self, *, ns: Literal[True]) -> Optional[int]: ...
    def reload(self, config: Config, now: float, *, ns: bool = False) -> list[AnyEvent]:
        """Replace the configuration.

        Attempts at unchanged doors continue, other attempts fail. Open doors stay open until their
        time is over.
        """

    def close_all(self, now: float, *, ns: bool = False) -> list[AnyEvent]:
        """Close every open door; each causes an event."""

@final
class Key:
    """The key of a client, and how the client knocks: the content of the file that `portknock keygen`
    writes.

    It never changes. `repr` shows no part of the secret, and a key cannot be pickled.
    """

    @staticmethod
    def load(path: Union[str, os.PathLike[str]]) -> Key:
        """Read a client's file.

        Raises OSError if the file cannot be read, PortknockError if other users can read or write
        it, and ValueError if it has errors.
        """

    @staticmethod
    def parse(text: Union[str, Buffer], name: str = "<text>") -> Key:
        """Read the text of a client's file.

        name: stands for the file name in errors.

        Raises ValueError if the text has errors.
        """

    @property
    def name(self) -> str:
        """Name of the client in the server's key file and in events."""

    @property
    def form(self) -> Literal["time", "packet"]:
        """Form of the client's knocks: "time" for time sequences or "packet" for packets."""

    @property
    def server(self) -> Optional[str]:
        """Server that the key is for, and that `knock` knocks at by default; None if the file names
        none.
        """

    @property
    def door(self) -> Optional[str]:
        """Name of the door that packets ask for; None if the file names none."""

    @property
    def port(self) -> int:
        """UDP port of the server that packets are sent to."""

def replay(
    path: Union[str, os.PathLike[str]],
    config: Config,
    local_addresses: Optional[Iterable[Address]] = None,
) -> Replay:
    """Process a capture file, pcap or pcapng, by an engine; return an iterator of its events.

    The packets cause the same events as they would live. "-" means standard input. The replay runs
    no command and writes no file. Doors with one_time_sequences continue with the next sequences of
    their files. For doors with keys, the times of the packets are the wall clock, and no knock was
    accepted before. At the end of the file, attempts and openings that are still running cause no
    event.

    local_addresses: as for `Engine`.

    Raises CaptureError if the file cannot be read or has an unknown link type. The iterator raises
    CaptureError if the file is damaged, after the events of the frames before the damage.
    """

@final
class Replay:
    """The iterator that `replay` returns. Several threads can share it and its events."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> AnyEvent: ...

@final
class Listener:
    """The complete work of portknockd for the program's own event loop.

    Packets are captured, doors open and close, and their commands run if the program asks for it.
    Events report everything that happens.

        with portknock.Listener(config, interface="eth0") as listener:
            for event in listener:
                print(event)

    Alternatively wait for `fileno()` in another event loop and, when it is readable, call `next(0)`
    until it returns None. Nothing happens without these calls. See `portknock.aio.listen` for
    asyncio.

    A thread that waits does not keep other threads from using the listener.

    A listener belongs to the process that opened it. In a forked child (`os.fork`, multiprocessing
    with "fork") every method except `close` raises PortknockError and does not affect the parent;
    `close` closes only the child's copy.
    """

    def __new__(
        cls,
        config: Config,
        interface: Union[None, str, Iterable[str]] = None,
        *,
        run_commands: bool = False,
        ipv4_only: bool = False,
        on_notice: Optional[Callable[[str], object]] = None,
    ) -> Self:
        """Start to listen.

        interface: one interface or several, "any" for all. None: those of the configuration. The
            listener waits for interfaces that do not exist (yet).
        run_commands: run commands (with the umask of this process), open ports, keep openings in
            the state file, and mark one-time sequences as used. Otherwise nothing outside of the
            process changes. The program runs the commands and opens the ports that the events
            contain. One-time sequences open again and again.
        ipv4_only: ignore IPv6 packets.
        on_notice: function that receives further lines for a log: interfaces that come and go,
            commands that run and fail. The thread that waits in `next` calls it. `next` passes on
            its exceptions.

        Raises CaptureError without CAP_NET_RAW (errno EPERM) and if a system call fails. Raises
        ValueError for names that no interface can have. Raises PortknockError if a file of one-time
        sequences cannot be used. With run_commands, raises PortknockError also if another program
        uses the state file, if the state file cannot be trusted, or if the ports of `open` cannot
        be opened (CAP_NET_ADMIN, the sets of `Gate`).
        """

    def fileno(self) -> int:
        """Return a descriptor that is readable when `next` has work to do or an event to return.

        It belongs to the listener: wait for it, and do nothing else with it. Raises ValueError
        after `close`.
        """

    def next(self, timeout: Optional[float] = None) -> Optional[AnyEvent]:
        """Do the work that is due and take the next event.

        timeout: maximum time to wait for an event, in seconds; None waits without limit.

        Returns None if the time is over, if `interrupt` or `close` was called, or if all is done
        after `stop`.

        Raises CaptureError if the capture has failed permanently, and ValueError after `close`.
        """

    def interrupt(self) -> None:
        """End one wait, the current or the next one: `next` returns None, a loop over the listener
        ends.

        Can be called from any thread.
        """

    def reload(self, config: Config) -> None:
        """Replace the configuration. Unchanged doors keep their attempts, and open doors stay open.

        Raises the exceptions of the constructor; then the listener continues with the old
        configuration.
        """

    def stop(self) -> None:
        """Start to stop: packets are not processed any more, and open doors are closed unless
        OnStop = keep.

        Continue to take events until there is none: the listener waits up to a minute for running
        commands. A second call changes nothing.
        """

    @property
    def stopped(self) -> bool:
        """True when everything that `stop` started is done and its events are taken.

        Raises ValueError after `close`.
        """

    def close(self) -> None:
        """Stop listening immediately, as the end of a `with` block does. Threads that wait return.

        Running commands are left alone. With run_commands, open doors stay open for the next
        listener or daemon with the same state file. To close them, call `stop` before and take the
        remaining events. Can be called from any thread. A second call changes nothing.
        """

    @property
    def closed(self) -> bool:
        """True after `close`."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: Optional[type[BaseException]] = ...,
        error: Optional[BaseException] = ...,
        traceback: Optional[TracebackType] = ...,
        /,
    ) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> AnyEvent: ...
