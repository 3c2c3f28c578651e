"""The programs ``portknock``, also as ``python -m portknock``, and ``knock``, as the programs of these names do it."""

import signal
import sys
from typing import Callable

from portknock._native import _knock, _main


def portknock() -> int:
    """The program ``portknock``."""
    return _run(_main, sys.argv[0])


def knock() -> int:
    """The program ``knock``."""
    return _run(_knock, sys.argv[0])


def main() -> int:
    return _run(_main, "python -m portknock")


def _run(program: Callable[[list[str]], int], name: str) -> int:
    # Python's handler waits for Python code to run next, and there is none until all is done.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return program([name, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
