import errno
import math
import os
import socket
import threading

import portknock
import pytest
from portknock import KnockError, ProbeError, ProbeResult, Step, knock, probe
from support import closed_port, json_lines, run, silent_port

pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.fixture
def server():
    """A TCP port that is open on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def received(bound, count):
    bound.settimeout(30)
    return [bound.recv(10) for _ in range(count)]


@pytest.mark.parametrize(
    "ports",
    [
        lambda port: f"{port}:udp,{port}:UDP",
        lambda port: [Step(port, "udp"), Step(port, "udp")],
        lambda port: (text for text in [f"{port}:udp", f"{port}:udp"]),
        lambda port: [f"{port}:udp,{port}:udp"],
    ],
)
def test_knocks_arrive_in_every_way_to_write_them(ports):
    bound, port = silent_port()
    with bound:
        assert knock("127.0.0.1", ports(port)) is None
        assert received(bound, 2) == [b"\0", b"\0"]


def test_options_of_a_knock_count():
    bound, port = silent_port()
    with bound:
        knock("localhost", [port, port], udp=True, source="127.0.0.2", family=4, all_addresses=True, delay=0.01)
        received(bound, 1)
        assert bound.recvfrom(10)[1][0] == "127.0.0.2"
        knock("127.0.0.1", f"{port}:udp,{closed_port()}", raw=True)
        received(bound, 1)


def test_a_port_is_waited_for(server):
    assert 0 <= knock("127.0.0.1", [Step(closed_port(), "udp")], then=server) < 30
    port = closed_port()
    with pytest.raises(KnockError, match=f"port {port} of 127.0.0.1 did not open within 0.05 s") as caught:
        knock("127.0.0.1", "9:udp", then=port, wait=0.05, retries=1)
    assert (caught.value.state, caught.value.errno) == ("closed", None)


def test_a_knock_that_cannot_be_sent_raises_the_reason():
    with pytest.raises(KnockError) as caught:
        knock("127.0.0.1", "9:udp", source="192.0.2.1")
    assert (caught.value.errno, caught.value.state) == (errno.EADDRNOTAVAIL, None)
    with pytest.raises(KnockError, match="no IPv6 address"):
        knock("127.0.0.1", "9", family=6)
    with pytest.raises(KnockError, match="cannot find the host"):
        knock("no host", "9")


NUMBERS = [-1, -0.001, math.nan, math.inf, -math.inf, 1e300]


@pytest.mark.parametrize(
    "options",
    [
        *({"delay": number} for number in NUMBERS),
        *({"wait": number, "then": 1} for number in NUMBERS),
        *({"then": number} for number in (0, -1, 65536, 10**30)),
        *({"retries": number} for number in (-1, 2**32, 10**30)),
        {"family": 5},
        {"source": "localhost"},
        {"source": ""},
    ],
)
def test_numbers_of_a_knock_are_checked(options):
    with pytest.raises(ValueError) as caught:
        knock("127.0.0.1", "9:udp", **options)
    assert next(iter(options)) in str(caught.value)


@pytest.mark.parametrize("call", [knock, probe])
@pytest.mark.parametrize(
    "ports", ["", "0", "65536", "x!", [], [0], [-5], [65536], [10**30], ["7", ""], [True, 0], "1,,2"]
)
def test_ports_are_checked(call, ports):
    with pytest.raises(ValueError, match="ports"):
        call("127.0.0.1", ports)


@pytest.mark.parametrize("ports", [b"22", [2.5], None, [None], 2.5])
def test_ports_have_their_types(ports):
    for call in (knock, probe):
        with pytest.raises(TypeError):
            call("127.0.0.1", ports)


def test_ports_are_open_closed_or_silent(server):
    closed = closed_port()
    results = probe("127.0.0.1", [server, closed])
    assert sorted((result.port, result.state, result.reason) for result in results) == sorted(
        [
            (server, "open", "syn-ack"),
            (closed, "closed", "reset"),
        ]
    )
    assert all(result.rtt > 0 and result.protocol == "tcp" for result in results)
    [result] = probe("localhost", closed, method="connect", family=4, retries=0, rate=1000, source="127.0.0.2")
    assert (result.host, result.address, result.reason) == ("localhost", "127.0.0.1", "conn-refused")
    bound, silent = silent_port()
    with bound:
        [result] = probe("127.0.0.1", [silent], udp=True, timeout=0.05)
    assert result == ProbeResult("127.0.0.1", "127.0.0.1", silent, "udp", "open|filtered", "no-response", None)


def test_ports_are_written_as_for_nmap():
    assert [result.port for result in probe("127.0.0.1", "5-7,3,6")] == [3, 5, 6, 7]
    assert [result.port for result in probe("127.0.0.1", ["5-7", 3, "ssh"])] == [3, 5, 6, 7, 22]


def test_results_are_those_of_the_command_line(server):
    arguments = ["probe", "--method", "connect", "--format", "json", "127.0.0.1", f"{server},{closed_port()}"]
    lines = json_lines(run("portknock", *arguments))
    results = [result.as_dict() for result in probe("127.0.0.1", arguments[-1], method="connect")]
    for one in (*lines, *results):
        rtt = one.pop("rtt_ms")
        assert rtt == round(rtt, 3) > 0
    assert lines == results


def test_a_result_is_a_value():
    result = ProbeResult("host", "192.0.2.1", 22, "tcp", "open", "syn-ack", 0.0012345)
    assert str(result) == "192.0.2.1 port 22/tcp is open (syn-ack)"
    assert result.as_dict()["rtt_ms"] == 1.235
    assert eval(repr(result), vars(portknock)) == result and len({result, eval(repr(result), vars(portknock))}) == 1
    with pytest.raises(AttributeError):
        result.port = 23


@pytest.mark.parametrize(
    "options",
    [
        *({"timeout": number} for number in (0, *NUMBERS)),
        *({"retries": number} for number in (-1, 256, 10**30)),
        *({"rate": number} for number in (-1, 0, 2**32, 10**30)),
        {"method": "xmas"},
        {"method": ""},
        {"family": -4},
        {"source": "here"},
    ],
)
def test_numbers_of_a_probe_are_checked(options):
    with pytest.raises(ValueError) as caught:
        probe("127.0.0.1", "9", **options)
    assert next(iter(options)) in str(caught.value)


def test_a_probe_that_cannot_be_made_raises_the_reason():
    with pytest.raises(ProbeError, match="cannot find the host"):
        probe("no host", "9")
    with pytest.raises(ProbeError) as caught:
        probe("192.0.2.1", "9")
    assert (caught.value.errno, caught.value.results) == (errno.ENETUNREACH, [])
    assert isinstance(caught.value, portknock.PortknockError) and os.strerror(errno.ENETUNREACH) in str(caught.value)


def test_other_threads_run_meanwhile():
    bound, silent = silent_port()
    with bound:
        over = threading.Event()
        counted = []

        def count():
            while not over.is_set():
                counted.append(len(counted))

        counter = threading.Thread(target=count)
        counter.start()
        probe("127.0.0.1", silent, udp=True, timeout=0.2)
        knock("127.0.0.1", "9:udp,9:udp", delay=0.2)
        during = len(counted)
        over.set()
        counter.join()
    assert during > 1000
