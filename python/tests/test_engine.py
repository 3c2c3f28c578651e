import ipaddress
import math
import random
import threading

import portknock
import pytest
from portknock import LINKTYPE_RAW, Close, Config, Engine, Extend, Fail, Open, Stage, Timeout
from support import DOOR, CLIENT, SERVER, ethernet, udp

START = 1_690_000_000
NS = 10**9


def knocks(times=((7000, 0), (8000, 1))):
    return [(START + after, udp(port)) for port, after in times]


def stages(second=0):
    return [
        Stage("ssh", CLIENT, 1, 2, time_ns=(START + second) * NS),
        Stage("ssh", CLIENT, 2, 2, time_ns=(START + second + 1) * NS),
    ]


def test_a_door_opens_is_extended_and_closes(config):
    engine = Engine(config)
    assert engine.next_timeout() is None
    assert engine.feed(ethernet(udp(7000)), START) == stages()[:1]
    assert (engine.next_timeout(), engine.next_timeout(ns=True)) == (START + 25.0, (START + 25) * NS)
    opened = Open("ssh", CLIENT, f"open {CLIENT}", closes_at_ns=(START + 11) * NS, time_ns=(START + 1) * NS)
    assert engine.feed(ethernet(udp(8000)), START + 1) == [stages()[1], opened]
    assert engine.next_timeout() == START + 11
    again = engine.feed_many([(START + 5 + after, udp(port)) for port, after in ((7000, 0), (8000, 1))], LINKTYPE_RAW)
    due = (START + 16) * NS
    commands = (f"open {CLIENT}", f"close {CLIENT}")
    assert again == [*stages(5), Extend("ssh", CLIENT, *commands, closes_at_ns=due, time_ns=(START + 6) * NS)]
    assert engine.advance(START + 15.999) == []
    assert engine.advance(START + 20) == [Close("ssh", CLIENT, commands[1], closes_at_ns=due, time_ns=due)]
    assert engine.next_timeout() is None


def test_ports_are_opened_without_a_command():
    engine = Engine(Config.parse("[ssh]\nsequence = 7000:udp\nopen = tcp/22,UDP/53\n"))
    events = [event for after in (0, 3) for event in engine.feed(udp(7000), START + after, LINKTYPE_RAW)]
    events += engine.advance(START + 13)
    ports = ["tcp/22", "udp/53"]
    first, second = (START + 10) * NS, (START + 13) * NS
    assert [event for event in events if not isinstance(event, Stage)] == [
        Open("ssh", CLIENT, ports=ports, closes_at_ns=first, time_ns=START * NS),
        Extend("ssh", CLIENT, ports=ports, closes_at_ns=second, time_ns=(START + 3) * NS),
        Close("ssh", CLIENT, ports=ports, closes_at_ns=second, time_ns=second),
    ]
    assert events[-1].as_dict()["command"] is None


def test_attempts_end_and_open_doors_are_closed(config):
    engine = Engine(config)
    engine.feed(udp(7000), START, LINKTYPE_RAW)
    assert engine.advance(START + 25) == [Timeout("ssh", CLIENT, 1, time_ns=(START + 25) * NS)]
    engine.feed_many(((START + 30 + i, udp(port)) for i, port in enumerate((7000, 8000, 7000))), LINKTYPE_RAW)
    [failed] = engine.reload(Config.parse(DOOR.replace("8000", "8001")), START + 33)
    assert failed == Fail("ssh", CLIENT, 1, "reload", time_ns=(START + 33) * NS)
    closed = Close("ssh", CLIENT, f"close {CLIENT}", closes_at_ns=(START + 41) * NS, time_ns=(START + 34) * NS)
    assert engine.close_all(START + 34) == [closed]


def test_feeding_many_frames_equals_feeding_each_of_them(config):
    frames = knocks() * 3 + [(START, udp(9)), (START, b""), (START, b"nonsense")] * 2000 + knocks()
    one_by_one = Engine(config)
    expected = [event for time, frame in frames for event in one_by_one.feed(frame, time, LINKTYPE_RAW)]
    assert len(expected) > 4
    for some in (
        frames,
        tuple(frames),
        iter(frames),
        (list(frames)),
        [(t, memoryview(f)) for t, f in frames],
        [(t, bytearray(f)) for t, f in frames],
    ):
        assert Engine(config).feed_many(some, LINKTYPE_RAW) == expected
    in_ns = [(time * NS, frame) for time, frame in frames]
    assert Engine(config).feed_many(in_ns, LINKTYPE_RAW, ns=True) == expected


def test_frames_before_an_invalid_frame_are_not_lost(config):
    engine = Engine(config)
    for wrong in ((START, "text"), (START,), (float("nan"), b""), None, ("now", b"")):
        with pytest.raises((TypeError, ValueError)):
            engine.feed_many([*knocks(), wrong, *knocks()], LINKTYPE_RAW)
    assert len(engine.advance(START + 1)) == 15

    def broken():
        yield from knocks()
        raise KeyError("mine")

    with pytest.raises(KeyError):
        engine.feed_many(broken(), LINKTYPE_RAW)
    assert len(engine.advance(START + 1)) == 3


def test_the_iterable_may_use_the_engine(config):
    engine = Engine(config)
    seen = []

    def frames():
        for time, frame in knocks():
            seen.extend(engine.advance(time))
            yield time, frame

    seen.extend(engine.feed_many(frames(), LINKTYPE_RAW))
    assert [type(event) for event in seen] == [Stage, Stage, Open]


@pytest.mark.parametrize(
    "local, count",
    [
        (None, 1),
        ([SERVER], 1),
        ([ipaddress.ip_address(SERVER), "::1"], 1),
        (["192.0.2.99"], 0),
        ([], 0),
    ],
)
def test_only_local_addresses_count(config, local, count):
    engine = Engine(config, local)
    assert len(engine.feed(udp(7000), START, LINKTYPE_RAW)) == count
    engine = Engine(config, local_addresses=[])
    engine.set_local_addresses(local)
    assert len(engine.feed(udp(7000), START, LINKTYPE_RAW)) == count


def test_addresses_are_checked(config):
    with pytest.raises(ValueError, match="'nowhere' is not an IP address"):
        Engine(config, ["nowhere"])
    with pytest.raises(TypeError):
        Engine(config, SERVER)
    with pytest.raises(TypeError):
        Engine("config")


@pytest.mark.parametrize("wrong", [-1, -0.5, math.nan, math.inf, -math.inf, 1e30, 2**64, 18446744073, -(10**30)])
def test_times_are_checked(config, wrong):
    engine = Engine(config)
    for use in (
        engine.advance,
        engine.close_all,
        lambda time: engine.feed(b"", time),
        lambda time: engine.feed_many([(time, b"")]),
        lambda time: engine.reload(config, time),
    ):
        with pytest.raises(ValueError, match="is not a time"):
            use(wrong)


def test_nanoseconds_are_whole(config):
    engine = Engine(config)
    for wrong in (-1, 2**64, 10**30):
        with pytest.raises(ValueError, match="is not a time"):
            engine.advance(wrong, ns=True)
    with pytest.raises(TypeError):
        engine.advance(1.5, ns=True)
    for wrong in ("now", None):
        with pytest.raises(TypeError):
            engine.advance(wrong)
    engine.advance(2**64 - 1, ns=True)


def test_no_digit_of_a_time_is_lost(config):
    rng = random.Random(1)
    for _ in range(500):
        seconds = rng.choice([rng.random(), rng.random() * 100, START + rng.random(), rng.random() * 1.8e10])
        time_ns = rng.randrange(2**64)
        [event] = Engine(config).feed(udp(7000), seconds, LINKTYPE_RAW)
        assert abs(event.time - seconds) <= 5.1e-10
        if seconds > 2**23:
            assert event.time == seconds
        [event] = Engine(config).feed(udp(7000), time_ns, LINKTYPE_RAW, ns=True)
        assert event.time_ns == time_ns
        assert event.time == event.as_dict()["time"]
    [event] = Engine(config).feed(udp(7000), 0.1, LINKTYPE_RAW)
    assert (event.time, event.time_ns) == (0.1, 100_000_000)


def test_link_types_are_all_that_can_be_read(config):
    engine = Engine(config)
    named = {getattr(portknock, name) for name in portknock.__all__ if name.startswith("LINKTYPE_")}
    readable = set()
    for number in range(-1, 400):
        try:
            engine.feed(b"", 0, number)
            readable.add(number)
        except ValueError as error:
            assert f"link type {number}" in str(error)
    assert readable - {12, 14} == named
    with pytest.raises(ValueError):
        engine.feed_many([], 5)


def test_an_engine_serves_many_threads(config):
    engine = Engine(config)
    events = []

    def feed(number):
        source = f"192.0.2.{number}"
        frames = [(START, udp(port, source)) for port in (7000, 9, 8000)] * 200
        for i in range(0, len(frames), 7):
            events.extend(engine.feed_many(frames[i : i + 7], LINKTYPE_RAW))

    threads = [threading.Thread(target=feed, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(event, Open) for event in events) == 8
    assert sum(isinstance(event, Extend) for event in events) == 8 * 199
