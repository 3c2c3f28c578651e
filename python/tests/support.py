"""Frames, captures, programs and observations that the tests share."""

import json
import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = sorted((REPOSITORY / "examples" / "conf").glob("*.conf"))

# Timeout in seconds, longer than any expected wait of these tests.
WAIT_TIMEOUT = 30

CLIENT = "192.0.2.7"
SERVER = "192.0.2.1"

DOOR = """
[ssh]
    sequence      = 7000:udp,8000:udp
    start_command = open %IP%
    cmd_timeout   = 10
    stop_command  = close %IP%
"""


def udp(port, source=CLIENT, destination=SERVER):
    """An IPv4 packet with a UDP datagram."""
    header = struct.pack(">BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    return header + addresses + struct.pack(">HHHH", 40000, port, 8, 0)


def ethernet(packet):
    """The same in an Ethernet frame."""
    return bytes(12) + b"\x08\x00" + packet


def capture(packets, linktype=101):
    """A capture file with nanoseconds, of pairs (nanoseconds, packet)."""
    parts = [capture_header(linktype)]
    for time_ns, packet in packets:
        parts.append(struct.pack("<IIII", *divmod(time_ns, 10**9), len(packet), len(packet)))
        parts.append(packet)
    return b"".join(parts)


def capture_header(linktype=101):
    return struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, linktype)


def run(name, *arguments):
    """The output of one of our programs."""
    directory = os.environ.get("PORTKNOCK_BIN")
    if not directory:
        pytest.fail("PORTKNOCK_BIN is not set: cargo build --bins && export PORTKNOCK_BIN=$PWD/target/debug")
    command = [Path(directory) / name, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=WAIT_TIMEOUT, check=False)
    return done.stdout.decode()


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def descriptors():
    """The descriptors that this process has, except the one that lists them."""
    return sorted(os.listdir("/proc/self/fd"))


def threads():
    """Number of threads of this process, Python's and others."""
    return len(os.listdir("/proc/self/task"))


def silent_port():
    """A UDP socket on loopback that never answers, and its port."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    return bound, bound.getsockname()[1]


def closed_port():
    """A TCP port on loopback without a listener."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]
