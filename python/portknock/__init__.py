"""Port knocking: configurations, matching, live capture, knocking and probing."""

from typing import Union as _Union

from portknock._client import check, check_text, knock, probe
from portknock._errors import CaptureError, ConfigError, KnockError, PortknockError, ProbeError
from portknock._native import (
    LINKTYPE_ETHERNET,
    LINKTYPE_IPV4,
    LINKTYPE_IPV6,
    LINKTYPE_LINUX_SLL,
    LINKTYPE_LINUX_SLL2,
    LINKTYPE_LOOP,
    LINKTYPE_NULL,
    LINKTYPE_RAW,
    Close,
    Config,
    Engine,
    Event,
    Extend,
    Fail,
    Listener,
    Open,
    Replay,
    Stage,
    Timeout,
    __version__,
    replay,
)
from portknock._values import (
    Address,
    Diagnostic,
    Door,
    Fix,
    OpenPrefix,
    Options,
    ProbeResult,
    Report,
    Step,
    TimeSequence,
)

AnyEvent = _Union[Stage, Open, Extend, Close, Timeout, Fail]

# The module needs the names above.
from portknock import aio

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
    "TimeSequence",
    "Timeout",
    "__version__",
    "aio",
    "check",
    "check_text",
    "knock",
    "probe",
    "replay",
]
