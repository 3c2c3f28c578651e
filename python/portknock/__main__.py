"""``python -m portknock``: all commands of the program ``portknock``, as that does them."""

import signal
import sys

from portknock._native import _main


def main() -> int:
    # Python's handler waits for Python code to run next, and there is none until all is done.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _main(["python -m portknock", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
