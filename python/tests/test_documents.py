"""The examples of the documents work; documents.py describes how they are marked."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import example_files
import hosts
import pytest
import support
from documents import examples

ROOT = support.REPOSITORY
DOCUMENTS = [path for path in (ROOT / "README.md", ROOT / "docs/python.md", ROOT / "python/README.md") if path.exists()]
EXAMPLES = [(path, example) for path in DOCUMENTS for example in examples(path.read_text())]
PROGRAMS = Path(os.environ["PORTKNOCK_BIN"])
# Every name that the block resolves leads to the server.
WITH_NAMES = ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" /etc/hosts && shift && exec "$@"', "sh"]
DOOR = """
[ssh]
    sequence = 7000:udp,8000:udp
    start_command = iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
"""


def program_of(path, example, directory):
    program = directory / path.name.replace(".md", ".py")
    program.write_text(example.program())
    return program


def run(path, example, directory, *start):
    program = program_of(path, example, directory)
    ended = subprocess.run([*start, sys.executable, program], cwd=directory, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, f"{path}, the block at line {example.line}:\n{ended.stdout}{ended.stderr}"


@contextlib.contextmanager
def running(*command, **options):
    """A program that runs at the same time."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def knocking():
    """Two hosts; the client knocks at the server again and again."""
    again = 'while "$@"; do sleep 0.2; done'
    knock = ["sh", "-c", again, "sh", PROGRAMS / "knock", hosts.ADDRESSES["server"], "7000:udp", "8000:udp"]
    with hosts.two_hosts(), running(*hosts.on("client"), *knock):
        yield


def knocked(path, example, directory):
    with knocking():
        run(path, example, directory, *hosts.on("server"))


RECEIVER = """
import http.server, sys

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(204)
        self.end_headers()

server = http.server.HTTPServer(("127.0.0.1", 8080), Receiver)
print("ready", flush=True)
server.serve_forever()
"""


def webhook(path, example, directory):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    program = program_of(path, example, directory)
    with knocking(), running(*hosts.on("server"), sys.executable, "-c", RECEIVER, **pipes) as receiver:
        assert receiver.stdout.readline() == "ready\n"
        with running(*hosts.on("server"), sys.executable, program, cwd=directory, **pipes) as watcher:
            # If the example fails, the receiver waits for ever, so the first of the two to end
            # decides.
            posted = (json.loads(line) for line in receiver.stdout)
            ended = threading.Thread(target=lambda: watcher.wait() and receiver.kill())
            ended.start()
            events = {event["event"] for event in itertools.islice(posted, 1)}
            watcher.send_signal(signal.SIGINT)
            out, err = watcher.communicate(timeout=60)
            ended.join()
    assert events == {"open"}, f"{path}, the block at line {example.line}:\n{out}{err}"
    assert watcher.returncode == -signal.SIGINT, err


def server(path, example, directory):
    (directory / "hosts").write_text(f"127.0.0.1 localhost\n{hosts.ADDRESSES['server']} server.example\n")
    (directory / "server.conf").write_text(f"[options]\n    logfile = {directory}/knockd.log\n{DOOR}")
    listen = "import socket, time; listener = socket.create_server(('', 22)); print(flush=True); time.sleep(600)"
    daemon = [PROGRAMS / "portknockd", "-i", "eth0", "-c", directory / "server.conf"]
    with hosts.two_hosts():
        closed = ["iptables", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP"]
        subprocess.run([*hosts.on("server"), *closed], check=True)
        with running(*hosts.on("server"), sys.executable, "-c", listen, stdout=subprocess.PIPE) as ssh:
            ssh.stdout.readline()
            with running(*hosts.on("server"), *daemon) as portknockd:
                wait_for_log(directory / "knockd.log", portknockd)
                run(path, example, directory, *hosts.on("client"), *WITH_NAMES, directory / "hosts")


def wait_for_log(log, process):
    """Waits until the daemon has written its first line, which means that it listens."""
    deadline = time.monotonic() + 60
    while not (log.exists() and log.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


PLACES = {None: run, "knocked": knocked, "webhook": webhook, "server": server}


def parameters():
    for path, example in EXAMPLES:
        marks = [pytest.mark.live] if example.place in ("knocked", "webhook", "server") else []
        yield pytest.param(path, example, id=f"{path.relative_to(ROOT)}:{example.line}", marks=marks)


@pytest.mark.parametrize(("path", "example"), list(parameters()))
def test_example(path, example, tmp_path):
    example_files.write(tmp_path)
    if example.place == "compile":
        if sys.version_info >= (3, 10):
            compile(example.program(), path, "exec")
    else:
        PLACES[example.place](path, example, tmp_path)


# The examples above show that correct ones pass. These show that wrong ones fail, and that each
# place is as documented.

def only(code, place=None):
    marker = f"<!-- test: {place} -->\n" if place else ""
    [example] = examples(f"# Title\n\n{marker}```python\n{code}\n```\n")
    return example


def test_a_failing_example_is_reported_with_its_line(tmp_path):
    with pytest.raises(AssertionError, match=r"(?s)a\.md, the block at line 3:.*a\.py\", line 5.*ZeroDivisionError"):
        run(Path("a.md"), only("x = 0\n1 / x"), tmp_path)


def test_blocks_of_other_languages_are_left_alone():
    text = "```\nx\n```\n\n```python\na\n```\n- item\n  ```python\n  if b:\n      c\n  ```\n```sh\nd\n```\n"
    assert [(example.code, example.line) for example in examples(text)] == [("a\n", 5), ("if b:\n    c\n", 9)]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- test: nowhere -->\n```python\n```\n",
        "<!-- test: server -->\ntext\n```python\n```\n",
        "<!-- test: server -->\n```sh\n```\n",
        "<!-- test: server -->\n",
        "```python\n",
    ],
)
def test_markers_that_mark_nothing_are_refused(text):
    with pytest.raises(ValueError, match="line|ends"):
        examples(text)


@pytest.mark.live
def test_the_place_with_a_client(tmp_path):
    example_files.write(tmp_path)
    code = """
import portknock
with portknock.Listener(portknock.Config.load("knockd.conf"), interface="eth0") as listener:
    for event in listener:
        if isinstance(event, portknock.Open):
            assert event.ip == "10.0.0.2"
            break
"""
    knocked(Path("a.md"), only(code, "knocked"), tmp_path)


@pytest.mark.live
def test_the_place_with_a_server(tmp_path):
    code = """
import portknock
assert [result.state for result in portknock.probe("server.example", 22, timeout=0.3)] == ["filtered"]
assert portknock.knock("server.example", "7000:udp,8000:udp", then=22, retries=9) is not None
"""
    server(Path("a.md"), only(code, "server"), tmp_path)
