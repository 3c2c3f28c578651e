import gc
import socket

import portknock
import pytest
from portknock import LINKTYPE_RAW, Config, Engine, Listener
from support import DOOR, descriptors, silent_port, threads, udp


def resident():
    """The memory that this process has, in bytes."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def stays(work, rounds):
    """Asserts that after some rounds of work further rounds take no memory."""
    for _ in range(rounds // 10):
        work()
    before = resident(), descriptors(), threads()
    for _ in range(rounds):
        work()
    after = resident(), descriptors(), threads()
    assert after[1:] == before[1:]
    # A single byte a round would be a tenth of this for the shortest test.
    assert after[0] - before[0] < 1_000_000, (before[0], after[0])


def test_feeding_keeps_nothing(config):
    engine = Engine(config)
    frames = [udp(7000), udp(8000), udp(9)]
    time = iter(range(10**9))

    def work():
        for frame in frames:
            for event in engine.feed(frame, next(time), LINKTYPE_RAW):
                str(event), repr(event), event.as_dict(), hash(event)
        engine.advance(next(time) + 11)

    stays(work, 33_334)


def test_feeding_many_keeps_nothing(config):
    engine = Engine(config)
    time = iter(range(10**9))
    stays(lambda: engine.feed_many([(next(time), udp(7000)), (next(time), bytearray(udp(8000)))], LINKTYPE_RAW), 20_000)


def test_configurations_keep_nothing(capture_file):
    def work():
        config = Config.parse(DOOR)
        assert config.doors and config.options and config.diagnostics and config.as_dict()
        with pytest.raises(portknock.ConfigError):
            Config.parse("[a]\nsequence = 0\n")
        for _ in portknock.replay(capture_file, config):
            pass

    stays(work, 2_000)


def test_calls_keep_nothing(config, sandbox):
    bound, silent = silent_port()
    with bound, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def work():
            portknock.knock("127.0.0.1", [silent], udp=True)
            portknock.probe("127.0.0.1", port)
            with pytest.raises(portknock.KnockError):
                portknock.knock("127.0.0.1", "9:udp", source="192.0.2.1")

        stays(work, 300)


def test_listeners_keep_nothing(config, sandbox):
    def work():
        with Listener(config, "lo") as listener:
            listener.next(0)
        Listener(config, "lo")

    stays(work, 30)
