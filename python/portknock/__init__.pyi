"""Port knocking: configurations, matching, live capture, knocking and probing.

    config = portknock.Config.load("/etc/knockd.conf")
    with portknock.Listener(config, interface="eth0") as listener:
        for event in listener:
            match event:
                case portknock.Open(door, ip, command): ...

Times are seconds since 1970. A float holds them to about a quarter of a microsecond; where that is not enough, methods
take and give `int` nanoseconds with `ns=True`, and events have `time_ns`.

Everything can be used from any thread, also without the global interpreter lock. Calls that wait let other threads run,
and Ctrl-C ends them.
"""

import os
from types import TracebackType
from typing import Any, AnyStr, Callable, Final, Iterable, Literal, Optional, Sequence, Union, final, overload

from typing_extensions import Buffer, Self, disjoint_base

from portknock import aio as aio
from portknock._client import check as check
from portknock._client import check_text as check_text
from portknock._client import knock as knock
from portknock._client import probe as probe
from portknock._errors import CaptureError as CaptureError
from portknock._errors import ConfigError as ConfigError
from portknock._errors import KnockError as KnockError
from portknock._errors import PortknockError as PortknockError
from portknock._errors import ProbeError as ProbeError
from portknock._values import Address as Address
from portknock._values import Diagnostic as Diagnostic
from portknock._values import Door as Door
from portknock._values import Fix as Fix
from portknock._values import OpenPrefix as OpenPrefix
from portknock._values import Options as Options
from portknock._values import ProbeResult as ProbeResult
from portknock._values import Report as Report
from portknock._values import Step as Step

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
    "Config",
    "ConfigError",
    "Diagnostic",
    "Door",
    "Engine",
    "Event",
    "Extend",
    "Fail",
    "Fix",
    "KnockError",
    "Listener",
    "Open",
    "OpenPrefix",
    "Options",
    "PortknockError",
    "ProbeError",
    "ProbeResult",
    "Replay",
    "Report",
    "Stage",
    "Step",
    "Timeout",
    "__version__",
    "aio",
    "check",
    "check_text",
    "knock",
    "probe",
    "replay",
]

__version__: Final[str]
"""The version of this package, as in "0.1.0"."""

# How frames begin: the numbers of libpcap (https://www.tcpdump.org/linktypes.html).

LINKTYPE_NULL: Final[int]
"""BSD loopback: the address family in the byte order of the capturing machine."""
LINKTYPE_ETHERNET: Final[int]
"""Ethernet, with any depth of VLAN tags."""
LINKTYPE_RAW: Final[int]
"""IPv4 or IPv6 packets without anything before them. libpcap also calls them 12 or 14, which are taken too."""
LINKTYPE_LOOP: Final[int]
"""OpenBSD loopback: the address family in network byte order."""
LINKTYPE_LINUX_SLL: Final[int]
"""Linux "cooked" frames, version 1."""
LINKTYPE_IPV4: Final[int]
"""IPv4 packets."""
LINKTYPE_IPV6: Final[int]
"""IPv6 packets."""
LINKTYPE_LINUX_SLL2: Final[int]
"""Linux "cooked" frames, version 2, which captures on "any" have."""

@final
class Config:
    """A knockd.conf: its options and doors. It never changes.

    `str` gives its canonical text: options that differ from the defaults, then the doors. Configurations are equal
    where these mean the same; names, comments and warnings do not matter.

    It can be copied and pickled. `pickle` keeps the text; whoever unpickles it reads it again, and with it the files of
    one_time_sequences that it names, as `parse` does.
    """

    @staticmethod
    def load(path: Union[str, os.PathLike[str]]) -> Config:
        """Read a file, and the first unused sequence of each one_time_sequences file that it names.

        Raises ConfigError where it has errors, and OSError where it cannot be read: it is missing, no regular file, or
        larger than 16 MiB.
        """

    @staticmethod
    def parse(text: Union[str, Buffer], name: str = "<text>") -> Config:
        """The same for a text. `name` is what errors call it. Bytes need not be UTF-8.

        Raises ConfigError where it has errors.
        """

    @staticmethod
    def fix(text: AnyStr) -> AnyStr:
        """The text with every fix applied that diagnostics offer, as `portknock check --fix` writes it.

        What has no fix stays as it is: `parse` or `check_text` the result to see it.
        """

    @property
    def doors(self) -> tuple[Door, ...]:
        """The doors, in the order of the file."""

    @property
    def options(self) -> Options:
        """The options."""

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """What was found in it: warnings, since there are no errors, in the order of the text."""

    @property
    def report(self) -> str:
        """The diagnostics as `portknock check` shows them, each with its line of the text; "" where there is none."""

    def as_dict(self) -> dict[str, Any]:
        """The object `config` of `portknock check --format json`: a new one each time."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Callable[[bytes, str], Config], tuple[bytes, str]]: ...
    def __copy__(self) -> Config: ...
    def __deepcopy__(self, memo: object, /) -> Config: ...

@disjoint_base
class Event:
    """Something that happened at a door: one of `Stage`, `Open`, `Extend`, `Close`, `Timeout` and `Fail`.

    Events never change. They are equal where all that they show is equal, can be hashed, copied and pickled, and their
    `repr` is what makes them. `str` gives the line for a log, in knockd's words, without control characters.
    """

    @property
    def time(self) -> float:
        """When, in seconds since 1970: the packet's time, or the due time of a timeout or a closing."""

    @property
    def time_ns(self) -> int:
        """The same in nanoseconds, exactly."""

    @property
    def door(self) -> str:
        """The door's name."""

    @property
    def ip(self) -> str:
        """The address that it is about, of IPv4 or IPv6."""

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `portknock replay --format json`."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]: ...

@final
class Stage(Event):
    """A step of the sequence matched. The last one is followed by `Open` or `Extend`."""

    __match_args__ = ("door", "ip", "stage", "steps")

    def __new__(cls, door: str, ip: Address, stage: int, steps: int, *, time_ns: int = 0) -> Self: ...
    @property
    def stage(self) -> int:
        """How many steps are done, 1 to 32."""

    @property
    def steps(self) -> int:
        """How many steps the sequence has."""

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
        time_ns: int = 0,
    ) -> Self: ...
    @property
    def net(self) -> str:
        """The network that the door opens for, as in "203.0.113.0/24".

        Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
        """

    @property
    def command(self) -> Optional[str]:
        """What opens it: a command for /bin/sh, with the address in it. None where the door has no command."""

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports that the door opens without a command (`open`), as in ("tcp/22", "udp/53").

        Empty for a door without `open`.
        """

    @property
    def closes_at(self) -> Optional[float]:
        """When it closes, in seconds since 1970. None if it never closes by itself."""

    @property
    def closes_at_ns(self) -> Optional[int]:
        """The same in nanoseconds, exactly."""

@final
class Extend(Event):
    """A complete knock while the door is open: it closes later, and its commands open it again.

    Unless a listener runs the commands, the program runs `stop_command` and `command`, and keeps `ports` open for `net`.
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
        time_ns: int = 0,
    ) -> Self: ...
    @property
    def net(self) -> str:
        """The network that the door is open for, as in "203.0.113.0/24".

        Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
        """

    @property
    def command(self) -> Optional[str]:
        """What opens it again: a command for /bin/sh, with the address in it. None if nothing runs."""

    @property
    def stop_command(self) -> Optional[str]:
        """What runs before `command`: the command that closes the door. None if it has none, or if nothing runs."""

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports that the door opens without a command (`open`), as in ("tcp/22", "udp/53").

        Empty for a door without `open`.
        """

    @property
    def closes_at(self) -> float:
        """When it closes, in seconds since 1970."""

    @property
    def closes_at_ns(self) -> int:
        """The same in nanoseconds, exactly."""

@final
class Close(Event):
    """The door's time is over, or it closes early.

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
        """The network that the door was open for, as in "203.0.113.0/24".

        Without `open_prefix` it is the address alone, as in "203.0.113.7/32".
        """

    @property
    def reason(self) -> Optional[Literal["full", "command"]]:
        """Why it closes early.

        `full`: the door had `MaxOpenings` openings, and this was the oldest. `command`: the start command failed. None:
        its time is over, or it was closed by hand or at the end.
        """

    @property
    def command(self) -> Optional[str]:
        """What closes it: a command for /bin/sh, with the address in it; None if the door has no command."""

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports that the door opens without a command (`open`), as in ("tcp/22", "udp/53").

        Empty for a door without `open`.
        """

    @property
    def closes_at(self) -> float:
        """When it was due to close, in seconds since 1970: later than `time` if it closes early."""

    @property
    def closes_at_ns(self) -> int:
        """The same in nanoseconds, exactly."""

@final
class Timeout(Event):
    """The attempt took longer than seq_timeout."""

    __match_args__ = ("door", "ip", "stage")

    def __new__(cls, door: str, ip: Address, stage: int, *, time_ns: int = 0) -> Self: ...
    @property
    def stage(self) -> int:
        """How many steps were done."""

@final
class Fail(Event):
    """The attempt failed."""

    __match_args__ = ("door", "ip", "stage", "reason")

    def __new__(cls, door: str, ip: Address, stage: int, reason: str, *, time_ns: int = 0) -> Self: ...
    @property
    def stage(self) -> int:
        """How many steps were done."""

    @property
    def reason(self) -> Literal["wrong-port", "scan", "full", "reload"]:
        """Why.

        "wrong-port": a port that some door uses, but not as this door's next step. "scan": more ports that no door uses
        than ScanGuard allows. "full": the table of attempts was full, and this one made room for another. "reload": the
        door changed or went away, or its one-time sequence was used by someone else.
        """

AnyEvent = Union[Stage, Open, Extend, Close, Timeout, Fail]
"""Every kind of event: what has a branch for each of them is complete."""

@final
class Engine:
    """The matching alone: no socket, clock or thread is behind it.

    Feed it with frames and times; each call returns the events that came of it, and what they ask for is yours to do.
    After a call wait for the next packet, but not longer than `next_timeout` says, and when that time has come call
    `advance`. Time never runs backwards: an earlier time than the one before counts as the same.

    Doors with one_time_sequences take one knock here; `replay` and `Listener` go on with their files.

    Calls on one engine wait for each other.

    All times are seconds since 1970 up to 18446744072.99, as float or int, or with `ns=True` int nanoseconds. Others
    raise ValueError.
    """

    def __new__(cls, config: Config, local_addresses: Optional[Iterable[Address]] = None) -> Self:
        """An engine for a configuration.

        local_addresses: the addresses that count as this machine's for doors without a `target`, as texts or objects of
        `ipaddress`. None: any destination counts.
        """

    def set_local_addresses(self, addresses: Optional[Iterable[Address]]) -> None:
        """Say which addresses count as this machine's from now on; None for any."""

    def feed(self, frame: Buffer, timestamp: float, linktype: int = ..., *, ns: bool = False) -> list[AnyEvent]:
        """Take a captured frame. What is no knock, whatever its bytes, only moves time on.

        timestamp: when it was captured.
        linktype: how it begins, one of LINKTYPE_…; by default Ethernet. Raises ValueError for another number.
        """

    def feed_many(
        self, frames: Iterable[tuple[float, Buffer]], linktype: int = ..., *, ns: bool = False
    ) -> list[AnyEvent]:
        """Take many frames, each as a tuple (timestamp, frame): what `feed` does, at a third of the cost.

        `bytes` are read where they are, other bytes-like objects are copied. Where a tuple is wrong, the frames
        before it were taken, and their events come with the next call.
        """

    def advance(self, now: float, *, ns: bool = False) -> list[AnyEvent]:
        """Move time on: what is due by then happens."""

    @overload
    def next_timeout(self, *, ns: Literal[False] = False) -> Optional[float]:
        """When `advance` is due next; None where nothing runs. May change with every call that takes a time."""

    @overload
    def next_timeout(self, *, ns: Literal[True]) -> Optional[int]: ...
    def reload(self, config: Config, now: float, *, ns: bool = False) -> list[AnyEvent]:
        """Take up another configuration. Attempts at doors that did not change go on, others fail; doors that stand
        open stay so until their time is over."""

    def close_all(self, now: float, *, ns: bool = False) -> list[AnyEvent]:
        """Close every open door, each with its event."""

def replay(
    path: Union[str, os.PathLike[str]],
    config: Config,
    local_addresses: Optional[Iterable[Address]] = None,
) -> Replay:
    """Run a capture file, pcap or pcapng, through an engine: an iterator of the events that the packets would have
    made.

    "-" is standard input. Nothing is run and nothing is written. One-time doors go on with the lines of their files
    that follow. At the end of the file nothing more is told: what is still running stays unmentioned.

    local_addresses: as for `Engine`.

    Raises CaptureError where the file cannot be read or has an unknown link type, and while iterating where it is
    damaged, after the events of the frames before.
    """

@final
class Replay:
    """What `replay` returns: an iterator, for one thread or several that share its events."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> AnyEvent: ...

@final
class Listener:
    """Everything that portknockd does, for a program of your own: packets are captured, doors open and close, and their
    commands run where you ask for it. What happens is told by events.

        with portknock.Listener(config, interface="eth0") as listener:
            for event in listener:
                print(event)

    Or wait for `fileno()` in a loop of your own and, when it is readable, call `next(0)` until it gives None. Nothing
    happens without these calls. See `portknock.aio.listen` for asyncio.

    A thread that waits keeps no other one from using the listener.

    A listener belongs to the process that opened it: in a forked child (`os.fork`, multiprocessing with "fork") every
    method but `close` raises PortknockError and takes nothing from the parent; `close` closes the child's copy alone.
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
        """Begin to listen.

        interface: one interface or several, "any" for all. None: those of the configuration. What does not exist
        (yet) is waited for.
        run_commands: run the doors' commands (with the umask of this process), open their ports, keep openings in the state file, mark one-time sequences as used. Else
        nothing outside of the process changes; the program runs the commands and opens the ports that the events have,
        and one-time sequences open again and again.
        ipv4_only: pass over IPv6 packets.
        on_notice: is called, by whoever waits, with each other line that a log should have: interfaces that come and
        go, commands that run and fail. What it raises comes out of `next`.

        Raises CaptureError without CAP_NET_RAW (errno EPERM) and where the system refuses something; ValueError for
        names that no interface can have; PortknockError where the state file is in use by someone else or cannot be
        trusted, where a file of one-time sequences cannot be used, and, with run_commands, where the ports of `open`
        cannot be opened (CAP_NET_ADMIN, the sets of `Gate`).
        """

    def fileno(self) -> int:
        """A descriptor that is readable when `next` has something to do or to tell. It belongs to the listener: wait
        for it, and do nothing else with it. Raises ValueError after `close`."""

    def next(self, timeout: Optional[float] = None) -> Optional[AnyEvent]:
        """Do what there is to do and take the next event, waiting for one at most `timeout` seconds; None waits for
        ever.

        None: the time is over, `interrupt` or `close` was called, or all is done after `stop`.

        Raises CaptureError where the capture has broken down for good, and ValueError after `close`.
        """

    def interrupt(self) -> None:
        """End one wait, now or at its beginning: `next` gives None, a loop over the listener ends. From any thread."""

    def reload(self, config: Config) -> None:
        """Take up another configuration. Doors that did not change keep their attempts, open doors stay open.

        Raises what the constructor raises; then everything goes on as before.
        """

    def stop(self) -> None:
        """Begin to stop: no packet counts any more, and open doors are closed unless the configuration has OnStop =
        keep.

        Go on taking events until there is none: commands are waited for, up to a minute. Again it changes nothing.
        """

    @property
    def stopped(self) -> bool:
        """True when everything that `stop` began is done and its events are taken. Raises ValueError after `close`."""

    def close(self) -> None:
        """End listening at once, as leaving a `with` block does; whoever waits finds the end.

        Commands that run are left alone; with run_commands, open doors are left to the next listener or daemon with the
        same state file. To close them first, call `stop` and take the events that are left. From any thread; again it
        changes nothing.
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
