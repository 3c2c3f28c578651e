import contextlib
import gc
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import portknock
import pytest
from portknock import CaptureError, Close, Config, Extend, Listener, Open, Stage, knock
from support import DOOR, WAIT_TIMEOUT, descriptors

pytestmark = pytest.mark.usefixtures("sandbox")

KNOCKS = "7000:udp,8000:udp"
QUICK = Config.parse(DOOR.replace("cmd_timeout   = 10", "cmd_timeout = 1"))


def door(directory, options=""):
    """A door that records its openings and closings in a file."""
    out = directory / "out"
    text = f"""
[options]
    Interface = lo
    StateFile = {directory}/openings
    {options}
[ssh]
    sequence      = 7000:udp,8000:udp
    start_command = echo open %IP% >>{out}
    cmd_timeout   = 1
    stop_command  = echo close %IP% >>{out}
"""
    return Config.parse(text), out


def test_knocks_make_events():
    with Listener(QUICK, interface="lo") as listener:
        knock("127.0.0.1", KNOCKS)
        seen = [listener.next(WAIT_TIMEOUT) for _ in range(4)]
    assert [type(event) for event in seen] == [Stage, Stage, Open, Close]
    assert {(event.door, event.ip) for event in seen} == {("ssh", "127.0.0.1")}
    assert (seen[2].command, seen[3].command) == ("open 127.0.0.1", "close 127.0.0.1")
    assert abs(seen[0].time - time.time()) < WAIT_TIMEOUT
    assert seen[3].time_ns - seen[2].time_ns == 10**9


@pytest.mark.parametrize("interface", ["lo", ["lo"], ("lo", "nothing0"), None])
def test_interfaces_are_named_in_every_way(interface, tmp_path):
    config, _ = door(tmp_path)
    with Listener(config, interface) as listener:
        knock("127.0.0.1", KNOCKS)
        events = iter(listener)
        assert [type(next(events)) for _ in range(3)] == [Stage, Stage, Open]


def test_commands_run_on_request(tmp_path):
    config, out = door(tmp_path)
    lines = []
    with Listener(config, run_commands=True, on_notice=lines.append) as listener:
        assert (tmp_path / "openings").exists()
        knock("127.0.0.1", KNOCKS)
        while not isinstance(listener.next(WAIT_TIMEOUT), Open):
            pass
        listener.stop()
        assert [type(event) for event in listener] == [Close]
        assert listener.stopped and not listener.closed
    assert out.read_text() == "open 127.0.0.1\nclose 127.0.0.1\n"
    assert lines[0] == "starting up, listening on lo" and "ssh: running command: echo open 127.0.0.1" in "\n".join(
        lines
    )


def test_a_program_opens_the_ports_of_a_door_from_its_events_alone():
    """Without run_commands the program opens and closes the ports, here in a chain of nftables."""
    ports = Config.parse("[ssh]\nsequence = 7000:udp,8000:udp\nopen = tcp/2222\ncmd_timeout = 1\n")
    with closed_port_2222() as nft, Listener(ports, interface="lo") as listener:
        assert not can_connect()
        knock("127.0.0.1", KNOCKS)
        seen = [listener.next(WAIT_TIMEOUT) for _ in range(3)]
        assert [type(event) for event in seen] == [Stage, Stage, Open]
        for port in seen[2].ports:
            protocol, number = port.split("/")
            nft(f"add element inet test opened {{ {seen[2].ip} . {protocol} . {number} }}")
        assert can_connect()
        closing = listener.next(WAIT_TIMEOUT)
        assert type(closing) is Close and closing.closes_at_ns == seen[2].closes_at_ns == closing.time_ns
        for port in closing.ports:
            protocol, number = port.split("/")
            nft(f"delete element inet test opened {{ {closing.ip} . {protocol} . {number} }}")
        assert not can_connect()


@contextlib.contextmanager
def closed_port_2222():
    """A server at a port that a packet filter closes for every address that is not in the set `opened`."""

    def nft(text):
        subprocess.run(["nft", text], check=True)

    with socket.create_server(("127.0.0.1", 2222)):
        nft("add table inet test")
        try:
            nft("add set inet test opened { type ipv4_addr . inet_proto . inet_service; }")
            nft("add chain inet test in { type filter hook input priority 0; }")
            nft("add rule inet test in ip saddr . meta l4proto . th dport @opened accept")
            nft("add rule inet test in tcp dport 2222 reject with tcp reset")
            yield nft
        finally:
            nft("delete table inet test")


def can_connect():
    try:
        socket.create_connection(("127.0.0.1", 2222), timeout=WAIT_TIMEOUT).close()
    except ConnectionRefusedError:
        return False
    return True


def in_child(work):
    """The exception or the result of `work` in a forked child, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = f"returned {work()!r}"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return said


FORKED = "PortknockError: the listener belongs to the process that opened it; a forked child cannot use it"


def test_a_forked_child_cannot_use_a_listener_and_consumes_no_event():
    with Listener(QUICK, interface="lo") as listener:
        knock("127.0.0.1", KNOCKS)
        for work in (
            lambda: listener.next(0),
            lambda: next(iter(listener)),
            lambda: listener.reload(QUICK),
            listener.stop,
            listener.interrupt,
            listener.fileno,
            lambda: listener.stopped,
        ):
            assert in_child(work) == FORKED
        assert in_child(lambda: (listener.closed, listener.close(), listener.closed)) == "returned (False, None, True)"
        assert [type(listener.next(WAIT_TIMEOUT)) for _ in range(4)] == [Stage, Stage, Open, Close]


def use(listener, answers):
    try:
        answers.put(repr(listener.next(0)))
    except portknock.PortknockError as error:
        answers.put(f"{type(error).__name__}: {error}")


def test_a_child_of_multiprocessing_cannot_use_a_listener_while_threads_wait():
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with Listener(QUICK, interface="lo") as listener:
        seen = []
        thread = threading.Thread(target=lambda: seen.extend(event for event in listener))
        thread.start()
        for _ in range(5):
            child = context.Process(target=use, args=(listener, answers))
            child.start()
            assert answers.get() == FORKED
            child.join(WAIT_TIMEOUT)
            assert child.exitcode == 0
        knock("127.0.0.1", KNOCKS)
        while len(seen) < 4 and thread.is_alive():
            time.sleep(0.01)
        listener.close()
        thread.join(WAIT_TIMEOUT)
    assert [type(event) for event in seen] == [Stage, Stage, Open, Close]


def test_no_command_runs_by_default(tmp_path):
    config, out = door(tmp_path)
    lines = []
    with Listener(config, on_notice=lines.append) as listener:
        knock("127.0.0.1", KNOCKS)
        while not isinstance(listener.next(WAIT_TIMEOUT), Close):
            pass
        assert listener.next(0) is None
    assert not out.exists() and not (tmp_path / "openings").exists()
    assert any("would run command: echo close" in line for line in lines)


def test_an_exception_of_a_callback_is_raised():
    def refuse(line):
        raise KeyError(line)

    with Listener(QUICK, "lo", on_notice=refuse) as listener:
        with pytest.raises(KeyError, match="starting up"):
            listener.next(WAIT_TIMEOUT)
        knock("127.0.0.1", "7000:udp")
        assert isinstance(listener.next(WAIT_TIMEOUT), Stage)
    with pytest.raises(TypeError):
        Listener(QUICK, "lo", on_notice="print")


def test_time_runs_out():
    with Listener(QUICK, "lo") as listener:
        start = time.monotonic()
        assert listener.next(0) is None
        assert listener.next(0.2) is None
        assert time.monotonic() - start >= 0.2
        for wrong in (-1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="timeout"):
                listener.next(wrong)


def test_the_callers_loop_waits_for_the_descriptor():
    with Listener(QUICK, "lo") as listener:
        while listener.next(0) is not None:
            pass
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        seen = []
        knock("127.0.0.1", KNOCKS)
        while not any(isinstance(event, Close) for event in seen):
            assert poll.poll(WAIT_TIMEOUT * 1000)
            seen.extend(iter(lambda: listener.next(0), None))
    assert [type(event) for event in seen] == [Stage, Stage, Open, Close]


def test_a_reloaded_configuration_is_in_force():
    with Listener(QUICK, "lo") as listener:
        listener.reload(Config.parse(DOOR.replace("[ssh]", "[new]").replace("7000", "7001")))
        knock("127.0.0.1", "7001:udp")
        event = listener.next(WAIT_TIMEOUT)
        assert (type(event), event.door) == (Stage, "new")


def waiting(count, work):
    """Threads that wait in `work`; returns them when they do."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        until = time.monotonic() + WAIT_TIMEOUT
        path = Path(f"/proc/self/task/{thread.native_id}/syscall")
        while path.read_text().split()[0] not in POLLS:
            assert time.monotonic() < until
    return threads


# poll(2) and ppoll(2), by their numbers on x86-64 and elsewhere.
POLLS = {"7", "271", "73"}


@pytest.mark.parametrize("count", [1, 5])
def test_closing_ends_every_wait(count):
    before = descriptors()
    listener = Listener(QUICK, "lo")
    ended = []
    threads = waiting(count, lambda: ended.append(list(listener)))
    listener.close()
    for thread in threads:
        thread.join(WAIT_TIMEOUT)
    assert ended == [[]] * count
    assert descriptors() == before
    listener.close()
    assert listener.closed and list(listener) == []
    for use in (listener.fileno, listener.next, listener.stop, listener.interrupt, lambda: listener.reload(QUICK)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_an_interruption_ends_one_wait():
    with Listener(QUICK, "lo") as listener:
        ended = []
        [thread] = waiting(1, lambda: ended.append(listener.next()))
        listener.interrupt()
        thread.join(WAIT_TIMEOUT)
        assert ended == [None]
        listener.interrupt()
        assert list(listener) == []
        knock("127.0.0.1", "7000:udp")
        assert isinstance(listener.next(WAIT_TIMEOUT), Stage)


def test_a_signal_handler_may_close_it():
    with Listener(QUICK, "lo") as listener:
        before = signal.signal(signal.SIGALRM, lambda *_: listener.close())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            assert list(listener) == []
        finally:
            signal.signal(signal.SIGALRM, before)


def test_a_listener_without_references_is_closed():
    class Program:
        def __init__(self):
            self.listener = Listener(QUICK, "lo", on_notice=self.tell)

        def tell(self, line):
            pass

    gc.collect()
    before = descriptors()
    Listener(QUICK, "lo")
    assert descriptors() == before
    Program()
    assert descriptors() != before
    gc.collect()
    assert descriptors() == before


def test_stopping_ends_the_waits_of_others():
    with Listener(QUICK, "lo") as listener:
        ended = []
        threads = waiting(2, lambda: ended.append(list(listener)))
        listener.stop()
        for thread in threads:
            thread.join(WAIT_TIMEOUT)
        assert ended == [[], []] and listener.stopped


def test_events_arrive_in_any_thread():
    with Listener(Config.parse(DOOR), "lo") as listener:
        seen = []
        threads = waiting(3, lambda: seen.extend(listener))
        for _ in range(20):
            knock("127.0.0.1", KNOCKS)
        until = time.monotonic() + WAIT_TIMEOUT
        while len(seen) < 60 and time.monotonic() < until:
            time.sleep(0.01)
        listener.close()
        for thread in threads:
            thread.join(WAIT_TIMEOUT)
    assert len(seen) == 60 and sum(isinstance(event, Extend) for event in seen) == 19


@pytest.mark.parametrize("interface", ["", "much-too-long-for-one", "a b", ["lo", "a/b"], []])
def test_names_that_no_interface_has_are_refused(interface):
    with pytest.raises(ValueError, match="interface"):
        Listener(QUICK, interface)


def test_without_the_capability_the_error_names_it():
    before = descriptors()
    code = (
        "import portknock, sys\n"
        "try: portknock.Listener(portknock.Config.parse(sys.argv[1]), 'lo')\n"
        "except portknock.CaptureError as error: assert isinstance(error, OSError); print(error.errno, error)\n"
    )
    # Without its capabilities root has no privileges.
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", code, DOOR]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=WAIT_TIMEOUT, check=True)
    assert done.stdout.decode().startswith("1 [Errno 1] no permission to capture packets: run as root")
    assert descriptors() == before


def test_a_state_file_in_use_is_an_error(tmp_path):
    config, _ = door(tmp_path)
    with Listener(config, run_commands=True):
        with pytest.raises(portknock.PortknockError, match="in use") as caught:
            Listener(config, run_commands=True)
        assert not isinstance(caught.value, CaptureError)


def test_ipv6_can_be_ignored():
    with Listener(QUICK, "lo", ipv4_only=True) as listener:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", ("::1", 7000))
        knock("127.0.0.1", "7000:udp")
        assert listener.next(WAIT_TIMEOUT).ip == "127.0.0.1"
