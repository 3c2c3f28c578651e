"""Ctrl-C: a real SIGINT ends every call that waits, and leaves no thread and no descriptor."""

import os
import signal
import subprocess
import sys
import time

import pytest
from support import DOOR, WAIT_TIMEOUT

pytestmark = pytest.mark.usefixtures("sandbox")

# The call is inserted between the first lines, which do not wait, and the last ones.
FRAME = """
import asyncio, os, sys, threading, time
import portknock
from portknock import aio
sys.path.insert(0, {tests!r})
import support

config = portknock.Config.parse({door!r})
bound, silent = support.silent_port()
closed = support.closed_port()
{before}
def left():
    return support.descriptors(), support.threads()
held = left()
try:
    print("ready", flush=True)
    {call}
    print("it ended by itself", flush=True)
except KeyboardInterrupt:
    print(time.monotonic(), left() == held, flush=True)
"""

# Frames without an end, from another process.
PIPE = """
import subprocess
os.mkfifo("pipe")
writer = subprocess.Popen([sys.executable, "-c", '''
import sys
sys.path.insert(0, sys.argv[1])
import support
with open("pipe", "wb") as pipe:
    pipe.write(support.capture_header())
    frames = support.capture([(1, support.udp(9))] * 1000)[24:]
    try:
        while True:
            pipe.write(frames)
    except BrokenPipeError:
        pass
''', {tests!r}])
replay = portknock.replay("pipe", config)
""".format(tests=os.path.dirname(__file__))

LISTEN = """
async def listen():
    async with aio.listen(config, "lo") as listener:
        await listener.__anext__()
"""

CALLS = {
    "listener": ("", "with portknock.Listener(config, 'lo') as it: list(it)"),
    "next": ("it = portknock.Listener(config, 'lo')", "it.next()"),
    "next with a timeout": ("it = portknock.Listener(config, 'lo')", "it.next(3600)"),
    "knock": ("", "portknock.knock('127.0.0.1', '9:udp,9:udp', delay=3600)"),
    "then": ("", "portknock.knock('127.0.0.1', '9:udp', then=closed, wait=3600)"),
    "probe": ("", "portknock.probe('127.0.0.1', silent, udp=True, timeout=3600)"),
    "replay": (PIPE, "list(replay)"),
    "replay, not opened": ("os.mkfifo('pipe')", "list(portknock.replay('pipe', config))"),
    "feed_many": ("e = portknock.Engine(config)", "e.feed_many((0, b'') for _ in iter(int, 1))"),
    "aio.knock": ("", "asyncio.run(aio.knock('127.0.0.1', '9:udp,9:udp', delay=3600))"),
    "aio.probe": ("", "asyncio.run(aio.probe('127.0.0.1', silent, udp=True, timeout=3600))"),
    "aio.listen": (LISTEN, "asyncio.run(listen())"),
}


def start(before, call, directory, command=()):
    code = FRAME.format(tests=os.path.dirname(__file__), door=DOOR, before=before, call=call)
    process = subprocess.Popen([*command, sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=directory)
    assert process.stdout.readline() == b"ready\n"
    return process


def interrupt(process):
    """Sends SIGINT when the process waits, or works. Returns the seconds until it noticed, and
    whether nothing is left."""
    until = time.monotonic() + 0.3
    # Most of these calls sleep, some never do: by then, both kinds have begun and not ended.
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=WAIT_TIMEOUT)
    finally:
        process.kill()
    noticed, clean = output.split()
    return float(noticed) - sent, clean == b"True"


@pytest.mark.parametrize("what", CALLS)
def test_ctrl_c_ends_it_and_leaves_nothing(what, tmp_path, record_property):
    before, call = CALLS[what]
    seconds, clean = interrupt(start(before, call, tmp_path))
    record_property("seconds", seconds)
    # The intended limit is a tenth of a second. A busy machine may take longer, but not as long as
    # the calls.
    assert seconds < 5 and clean


def test_ctrl_c_ends_the_wait_for_a_name_server(tmp_path):
    """The thread that resolves the name continues, but no descriptor of ours is left."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: dns\n")
    mount = (
        f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && "
        f'mount --bind {tmp_path}/nsswitch.conf /etc/nsswitch.conf && exec "$@"'
    )
    server = "import socket\nserver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nserver.bind(('127.0.0.1', 53))"
    for call in (
        "portknock.knock('a.test', '9')",
        "portknock.probe('a.test', '9')",
        "asyncio.run(aio.probe('a.test', 9))",
    ):
        process = start(server, call, tmp_path, ["unshare", "--mount", "sh", "-c", mount, "sh"])
        seconds, _ = interrupt(process)
        assert seconds < 5
