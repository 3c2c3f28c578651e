import os
import signal
import sys

import portknock
import pytest
import support

collect_ignore = [] if sys.version_info >= (3, 10) else ["test_match.py"]


# A shell makes background processes ignore SIGINT, and the programs that tests start would inherit
# that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def sandbox():
    """For tests that capture or send: only in a separate network namespace, with its own loopback
    interface."""
    if os.environ.get("PORTKNOCK_SANDBOX") != "1":
        pytest.fail("needs a network of its own: run it by scripts/sandbox")


@pytest.fixture
def config():
    return portknock.Config.parse(support.DOOR)


@pytest.fixture
def capture_file(tmp_path):
    """A capture of an opening and a closing, a timeout, and a failure."""
    second = 10**9
    start = 1_690_000_000 * second + 123_456_789
    other = "192.0.2.8"
    packets = [
        (start, support.udp(7000)),
        (start + second, support.udp(8000)),
        (start + 2 * second, support.udp(7000)),
        (start + 3 * second, support.udp(8000)),
        (start + 20 * second, support.udp(7000, other)),
        *((start + 21 * second, support.udp(port, other)) for port in range(1, 10)),
        (start + 22 * second, support.udp(7000, other)),
        (start + 90 * second, support.udp(9)),
    ]
    path = tmp_path / "capture.pcap"
    path.write_bytes(support.capture(packets))
    return path


def pytest_collection_modifyitems(items):
    for item in items:
        if "sandbox" in item.fixturenames:
            item.add_marker("live")
