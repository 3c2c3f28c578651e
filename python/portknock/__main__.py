"""Entry points of the programs `portknock`, also as `python -m portknock`, and `knock`."""

import signal
import sys
from typing import Callable

from portknock._native import _knock, _main


def portknock() -> int:
    """Run the program `portknock` and return its exit status."""
    return _run(_main, sys.argv[0])


def knock() -> int:
    """Run the program `knock` and return its exit status."""
    return _run(_knock, sys.argv[0])


def main() -> int:
    return _run(_main, "python -m portknock")


def _run(program: Callable[[list[str]], int], name: str) -> int:
    # Python calls its handler between two steps of Python code, and the program runs none until its end.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return program([name, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
