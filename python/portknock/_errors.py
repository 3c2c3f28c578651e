"""Exceptions. Their public names are those in `portknock`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Optional

if TYPE_CHECKING:
    from portknock._values import Diagnostic, ProbeResult


class PortknockError(Exception):
    """Base class of the exceptions of this package.

    Raised itself if a state file, a file of one-time sequences or a key file cannot be used, or the
    ports of `open` cannot be opened. Invalid arguments raise `ValueError` or `TypeError`. A
    configuration file that cannot be read raises the `OSError` that `open` would raise.
    """

    __module__ = "portknock"


class ConfigError(PortknockError, ValueError):
    """A configuration has errors.

    Its text is the whole report, with each line of the file that has a problem.
    """

    __module__ = "portknock"

    diagnostics: tuple[Diagnostic, ...]
    """All findings, errors and warnings, in the order of the text."""

    def __init__(self, message: str, diagnostics: tuple[Diagnostic, ...] = ()) -> None:
        super().__init__(message)
        self.diagnostics = diagnostics


class CaptureError(PortknockError, OSError):
    """Packets cannot be captured, or a capture file cannot be read.

    `errno` is the error number of the system (`EPERM` without the privilege to capture). It is None
    if the system reported none.
    """

    __module__ = "portknock"


class ProbeError(PortknockError):
    """Ports could not be probed, or not all of them."""

    __module__ = "portknock"

    errno: Optional[int]
    """Error number of the system, as in module `errno`; None if the system reported none."""

    results: list[ProbeResult]
    """Results from before the error; mostly none."""

    def __init__(self, message: str, errno: Optional[int] = None, results: Optional[list[ProbeResult]] = None) -> None:
        super().__init__(message)
        self.errno = errno
        self.results = results or []


class KnockError(PortknockError):
    """Knocks could not be sent, or did not open the port that should have opened."""

    __module__ = "portknock"

    errno: Optional[int]
    """Error number of the system, as in module `errno`; None if the system reported none."""

    state: Optional[Literal["closed", "filtered"]]
    """Last state of the port, "closed" or "filtered", if all knocks were sent and it did not open;
    otherwise None.
    """

    def __init__(
        self, message: str, errno: Optional[int] = None, state: Optional[Literal["closed", "filtered"]] = None
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.state = state
