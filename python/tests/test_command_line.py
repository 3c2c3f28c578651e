"""`python -m portknock` and the program `portknock` have the same output, errors and exit
status."""

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
WAIT_TIMEOUT = 60

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
def directory(tmp_path):
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


def run(command, directory):
    with open(directory / "knockd.conf", "rb") as standard_input:
        return subprocess.run(command, cwd=directory, stdin=standard_input, capture_output=True, timeout=WAIT_TIMEOUT)


def timeless(output):
    """The output without the times that packets took."""
    return re.sub(rb'\d+\.\d+ ms|"rtt_ms":[\d.]+', b"TIME", output)


def both_agree(arguments, directory):
    program, module = (run(start + arguments, directory) for start in (PROGRAM, MODULE))
    for theirs, ours in (program.stdout, module.stdout), (program.stderr, module.stderr):
        assert timeless(ours) == timeless(theirs).replace(b"Usage: portknock", b"Usage: python -m portknock")
    assert module.returncode == program.returncode
    return module


@pytest.mark.parametrize("arguments", CHECKS + REPLAYS, ids=" ".join)
def test_files(arguments, directory):
    both_agree(arguments, directory)


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_usage(arguments, directory):
    both_agree(arguments, directory)


@pytest.mark.parametrize("arguments", LOOPBACK, ids=" ".join)
def test_loopback(arguments, directory, closed_port):
    both_agree([argument.format(port=closed_port) for argument in arguments], directory)


def test_the_programs_print_something(directory):
    """The table above would pass for two programs that do nothing."""
    assert "ssh: OPEN SESAME" in run([*MODULE, *REPLAYS[0]], directory).stdout.decode()
    assert run([*MODULE, "check", "broken.conf"], directory).returncode == 1
    usage = run([*MODULE, "check"], directory)
    assert usage.returncode == 2
    assert "Usage: python -m portknock check" in usage.stderr.decode()


@pytest.mark.parametrize("start", [PROGRAM, MODULE], ids=["program", "module"])
def test_output_without_a_reader(start, directory):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [*start, "check", "knockd.conf"], cwd=directory, stdout=writer, stderr=subprocess.PIPE, timeout=WAIT_TIMEOUT
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize("start", [PROGRAM, MODULE], ids=["program", "module"])
def test_output_to_a_full_disk(start, directory):
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*start, "check", "knockd.conf"], cwd=directory, stdout=full, stderr=subprocess.PIPE, timeout=WAIT_TIMEOUT
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"portknock: cannot write to standard output: No space left on device")


@pytest.mark.parametrize("start", [PROGRAM, MODULE], ids=["program", "module"])
def test_ctrl_c_ends_a_wait_for_input(start, directory):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*start, "check", "-"], cwd=directory, **pipes) as reading:
        reading.stdin.write(b"[options]\n")
        reading.stdin.flush()
        wait_until(lambda: waiting(reading.stdin) == 0)
        reading.send_signal(signal.SIGINT)
        output = reading.communicate(timeout=WAIT_TIMEOUT)
    assert (reading.returncode, *output) == (-signal.SIGINT, b"", b"")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("start", [PROGRAM, MODULE], ids=["program", "module"])
def test_ctrl_c_prints_the_results_of_a_probe_so_far(start, number, status, directory):
    # A port that receives the probe and does not answer.
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(WAIT_TIMEOUT)
        probe = [*start, "probe", "--udp", "--timeout", str(WAIT_TIMEOUT), "127.0.0.1", str(silent.getsockname()[1])]
        with subprocess.Popen(probe, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as probing:
            silent.recv(65_535)
            probing.send_signal(number)
            output, errors = probing.communicate(timeout=WAIT_TIMEOUT)
    assert (probing.returncode, errors) == (status, b"")
    assert output == b"Probe of 127.0.0.1 by UDP\nNot known yet: 1 port\n"


def test_an_ignored_interrupt_stays_ignored(directory):
    """As a shell starts background processes."""
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *MODULE, "check", "-"]
    with subprocess.Popen(ignoring, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reading:
        reading.stdin.write(support.DOOR.encode())
        reading.stdin.flush()
        wait_until(lambda: waiting(reading.stdin) == 0)
        reading.send_signal(signal.SIGINT)
        output, _ = reading.communicate(timeout=WAIT_TIMEOUT)
    assert reading.returncode == 0
    assert b"0 errors" in output


def waiting(pipe):
    """Number of bytes in a pipe that are not read yet."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def wait_until(condition):
    deadline = time.monotonic() + WAIT_TIMEOUT
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
