"""`python -m portknock` and the program `portknock` have the same output, errors and exit status."""

import array
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path

import example_files
import pytest
import support

PROGRAM = [str(Path(os.environ["PORTKNOCK_BIN"], "portknock"))]
MODULE = [sys.executable, "-m", "portknock"]
# Timeout in seconds of each wait for another process.
PATIENCE = 60

CHECKS = [
    ["check", "knockd.conf"],
    ["check", "--format", "json", "knockd.conf"],
    ["check", "--fix", "knockd.conf"],
    ["check", "broken.conf"],
    ["check", "--format", "json", "broken.conf"],
    ["check", "--fix", "broken.conf"],
    ["check", "missing.conf"],
    ["check", "missing-\udcff-\u00e9.conf"],
    ["check", "-"],
]
REPLAYS = [
    ["replay", "-c", "knockd.conf", "knocks.pcap"],
    ["replay", "-c", "knockd.conf", "--format", "json", "knocks.pcap"],
    ["replay", "-c", "knockd.conf", "--local", "192.0.2.9", "knocks.pcap"],
    ["replay", "-c", "knockd.conf", "cut.pcap"],
    ["replay", "-c", "knockd.conf", "missing.pcap"],
    ["replay", "-c", "broken.conf", "knocks.pcap"],
]
USAGE = [
    [],
    ["--help"],
    ["--version"],
    ["--verson"],
    ["open"],
    ["check"],
    ["check", "--help"],
    ["check", "--fix", "--format", "json", "knockd.conf"],
    ["replay", "--local", "nowhere", "-c", "knockd.conf", "knocks.pcap"],
    ["help", "probe"],
    ["knock", "localhost"],
    ["knock", "localhost", "7000:icmp"],
    ["probe", "--timeout", "0", "localhost", "22"],
]
# The number is replaced by a closed port.
LOOPBACK = [
    ["knock", "-v", "127.0.0.1", "{port}", "{port}:udp"],
    ["knock", "--then", "{port}", "--wait", "0.1", "127.0.0.1", "{port}:udp"],
    ["probe", "127.0.0.1", "{port}"],
    ["probe", "--format", "json", "--method", "connect", "127.0.0.1", "{port}"],
    ["probe", "--udp", "127.0.0.1", "{port}"],
]


@pytest.fixture
def folder(tmp_path):
    example_files.write(tmp_path)
    (tmp_path / "cut.pcap").write_bytes((tmp_path / "knocks.pcap").read_bytes()[:-7])
    return tmp_path


@pytest.fixture
def closed_port():
    """A port of 127.0.0.1 that is in use, by TCP and by UDP, but does not listen."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        port = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        # A connected socket accepts packets of its peer only: for all others the port is closed.
        udp.connect(("127.0.0.1", 9))
        yield port


def run(command, folder):
    with open(folder / "knockd.conf", "rb") as standard_input:
        return subprocess.run(command, cwd=folder, stdin=standard_input, capture_output=True, timeout=PATIENCE)


def timeless(output):
    """The output without the times that packets took."""
    return re.sub(rb'\d+\.\d+ ms|"rtt_ms":[\d.]+', b"TIME", output)


def both_agree(arguments, folder):
    program, module = (run(start + arguments, folder) for start in (PROGRAM, MODULE))
    for theirs, ours in (program.stdout, module.stdout), (program.stderr, module.stderr):
        assert timeless(ours) == timeless(theirs).replace(b"Usage: portknock", b"Usage: python -m portknock")
    assert module.returncode == program.returncode
    return module


@pytest.mark.parametrize("arguments", CHECKS + REPLAYS, ids=" ".join)
def test_files(arguments, folder):
    both_agree(arguments, folder)


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_usage(arguments, folder):
    both_agree(arguments, folder)


@pytest.mark.parametrize("arguments", LOOPBACK, ids=" ".join)
def test_loopback(arguments, folder, closed_port):
    both_agree([argument.format(port=closed_port) for argument in arguments], folder)


def test_it_does_something(folder):
    """The table above would pass for two programs that do nothing."""
    assert "ssh: OPEN SESAME" in run([*MODULE, *REPLAYS[0]], folder).stdout.decode()
    assert run([*MODULE, "check", "broken.conf"], folder).returncode == 1
    usage = run([*MODULE, "check"], folder)
    assert usage.returncode == 2
    assert "Usage: python -m portknock check" in usage.stderr.decode()


@pytest.mark.parametrize("start", [PROGRAM, MODULE], ids=["program", "module"])
def test_nobody_reads(start, folder):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [*start, "check", "knockd.conf"], cwd=folder, stdout=writer, stderr=subprocess.PIPE, timeout=PATIENCE
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize("start", [PROGRAM, MODULE], ids=["program", "module"])
def test_no_room(start, folder):
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*start, "check", "knockd.conf"], cwd=folder, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"portknock: cannot write to standard output: No space left on device")


@pytest.mark.parametrize("start", [PROGRAM, MODULE], ids=["program", "module"])
def test_ctrl_c_ends_what_waits_for_input(start, folder):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*start, "check", "-"], cwd=folder, **pipes) as reading:
        reading.stdin.write(b"[options]\n")
        reading.stdin.flush()
        wait_until(lambda: waiting(reading.stdin) == 0)
        reading.send_signal(signal.SIGINT)
        output = reading.communicate(timeout=PATIENCE)
    assert (reading.returncode, *output) == (-signal.SIGINT, b"", b"")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("start", [PROGRAM, MODULE], ids=["program", "module"])
def test_ctrl_c_prints_what_a_probe_knows(start, number, status, folder):
    # A port that receives the probe and does not answer.
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(PATIENCE)
        probe = [*start, "probe", "--udp", "--timeout", str(PATIENCE), "127.0.0.1", str(silent.getsockname()[1])]
        with subprocess.Popen(probe, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as probing:
            silent.recv(65_535)
            probing.send_signal(number)
            output, errors = probing.communicate(timeout=PATIENCE)
    assert (probing.returncode, errors) == (status, b"")
    assert output == b"Probe of 127.0.0.1 by UDP\nNot known yet: 1 port\n"


def test_an_ignored_interrupt_stays_ignored(folder):
    """As a shell starts background processes."""
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *MODULE, "check", "-"]
    with subprocess.Popen(ignoring, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reading:
        reading.stdin.write(support.DOOR.encode())
        reading.stdin.flush()
        wait_until(lambda: waiting(reading.stdin) == 0)
        reading.send_signal(signal.SIGINT)
        output, _ = reading.communicate(timeout=PATIENCE)
    assert reading.returncode == 0
    assert b"0 errors" in output


def waiting(pipe):
    """Number of bytes in a pipe that are not read yet."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("program", ["portknock", "knock"])
def test_the_package_installs_the_programs(program):
    installed = Path(sys.executable).with_name(program)
    expected = subprocess.run([str(Path(os.environ["PORTKNOCK_BIN"], program)), "--version"], capture_output=True)
    assert expected.returncode == 0
    result = subprocess.run([str(installed), "--version"], capture_output=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, expected.stdout, b"")
    assert subprocess.run([str(installed), "--nonsense"], capture_output=True).returncode == 2
