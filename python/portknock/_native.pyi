"""The native module. Its public parts are documented in `portknock`."""

import os
from typing import Any, Optional, Union, final

from typing_extensions import Buffer, Self

from portknock import (
    LINKTYPE_ETHERNET as LINKTYPE_ETHERNET,
)
from portknock import (
    LINKTYPE_IPV4 as LINKTYPE_IPV4,
)
from portknock import (
    LINKTYPE_IPV6 as LINKTYPE_IPV6,
)
from portknock import (
    LINKTYPE_LINUX_SLL as LINKTYPE_LINUX_SLL,
)
from portknock import (
    LINKTYPE_LINUX_SLL2 as LINKTYPE_LINUX_SLL2,
)
from portknock import (
    LINKTYPE_LOOP as LINKTYPE_LOOP,
)
from portknock import (
    LINKTYPE_NULL as LINKTYPE_NULL,
)
from portknock import (
    LINKTYPE_RAW as LINKTYPE_RAW,
)
from portknock import (
    Close as Close,
)
from portknock import (
    Config as Config,
)
from portknock import (
    Engine as Engine,
)
from portknock import (
    Event as Event,
)
from portknock import (
    Extend as Extend,
)
from portknock import (
    Fail as Fail,
)
from portknock import (
    Key as Key,
)
from portknock import (
    Listener as Listener,
)
from portknock import (
    Open as Open,
)
from portknock import (
    Refused as Refused,
)
from portknock import (
    Replay as Replay,
)
from portknock import (
    Stage as Stage,
)
from portknock import (
    Timeout as Timeout,
)
from portknock import (
    __version__ as __version__,
)
from portknock import (
    replay as replay,
)
from portknock._values import Address, ProbeResult

__all__ = [
    "Close",
    "Config",
    "Engine",
    "Event",
    "Extend",
    "Fail",
    "Job",
    "Key",
    "KnockPlan",
    "LINKTYPE_ETHERNET",
    "LINKTYPE_IPV4",
    "LINKTYPE_IPV6",
    "LINKTYPE_LINUX_SLL",
    "LINKTYPE_LINUX_SLL2",
    "LINKTYPE_LOOP",
    "LINKTYPE_NULL",
    "LINKTYPE_RAW",
    "Listener",
    "Open",
    "ProbePlan",
    "Refused",
    "Replay",
    "Stage",
    "Timeout",
    "__version__",
    "check",
    "check_text",
    "packet",
    "replay",
    "steps",
]

def _main(argv: list[str]) -> int: ...
def _knock(argv: list[str]) -> int: ...
def check(path: Union[str, os.PathLike[str]]) -> tuple[str, str, Optional[Config]]: ...
def check_text(text: Union[str, Buffer], name: str) -> tuple[str, str, Optional[Config]]: ...
def steps(key: Key, at: Optional[float]) -> list[tuple[int, str]]: ...
def packet(key: Key, address: Optional[Address], seconds: int, at: Optional[float]) -> bytes: ...

@final
class KnockPlan:
    def __new__(
        cls,
        host: str,
        ports: str,
        *,
        udp: bool,
        delay: float,
        source: Optional[Address],
        raw: bool,
        family: int,
        all_addresses: bool,
        then: Optional[int],
        wait: float,
        retries: int,
        key: Optional[Key],
        address: Optional[Address],
        seconds: int,
    ) -> Self: ...
    def run(self) -> Optional[float]: ...
    def start(self) -> Job: ...

@final
class ProbePlan:
    def __new__(
        cls,
        host: str,
        ports: str,
        *,
        timeout: float,
        udp: bool,
        method: str,
        retries: Optional[int],
        rate: Optional[int],
        source: Optional[Address],
        family: int,
        all_addresses: bool,
    ) -> Self: ...
    def run(self) -> list[ProbeResult]: ...
    def start(self) -> Job: ...

@final
class Job:
    def fileno(self) -> int: ...
    def cancel(self) -> bool: ...
    def join(self) -> None: ...
    def result(self) -> Any: ...
