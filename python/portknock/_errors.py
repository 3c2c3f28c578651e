"""Why calls fail. The public names are those of `portknock`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Optional

if TYPE_CHECKING:
    from portknock._values import Diagnostic, ProbeResult


class PortknockError(Exception):
    """What all errors of this package are.

    Raised as such where a state file or a file of one-time sequences cannot be used,
    or the ports of `open` cannot be opened.
    Wrong arguments are a plain `ValueError` or `TypeError`, and a configuration file
    that cannot be read is the `OSError` that `open` would raise.
    """

    __module__ = "portknock"


class ConfigError(PortknockError, ValueError):
    """A configuration has errors.

    Its text is the whole report, with each line of the file that something is wrong in.
    """

    __module__ = "portknock"

    diagnostics: tuple[Diagnostic, ...]
    """All findings, errors and warnings, in the order of the text."""

    def __init__(self, message: str, diagnostics: tuple[Diagnostic, ...] = ()) -> None:
        super().__init__(message)
        self.diagnostics = diagnostics


class CaptureError(PortknockError, OSError):
    """Packets cannot be captured, or a capture file cannot be read.

    `errno` is what the system said (`EPERM` without the right to capture); None where
    it said nothing.
    """

    __module__ = "portknock"


class ProbeError(PortknockError):
    """Ports could not be probed, or not all of them."""

    __module__ = "portknock"

    errno: Optional[int]
    """What the system said, as in module `errno`; None where it said nothing."""

    results: list[ProbeResult]
    """What was found before; mostly nothing."""

    def __init__(self, message: str, errno: Optional[int] = None, results: Optional[list[ProbeResult]] = None) -> None:
        super().__init__(message)
        self.errno = errno
        self.results = results or []


class KnockError(PortknockError):
    """Knocks could not be sent, or did not open the port that should have opened."""

    __module__ = "portknock"

    errno: Optional[int]
    """What the system said, as in module `errno`; None where it said nothing."""

    state: Optional[Literal["closed", "filtered"]]
    """How the port looked last, "closed" or "filtered", where all knocks were sent and it did not open; else None."""

    def __init__(
        self, message: str, errno: Optional[int] = None, state: Optional[Literal["closed", "filtered"]] = None
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.state = state
