import copy
import ipaddress
import pickle

import portknock
import pytest
from portknock import Close, Event, Extend, Fail, Open, Refused, Stage, Timeout

TIME = 1_690_000_000_123_456_789
DUE = TIME + 10**10
ALL = [
    Stage("ssh", "192.0.2.7", 1, 2, time_ns=TIME),
    Open("ssh", "192.0.2.7", "open", time_ns=TIME),
    Open("ssh", "192.0.2.7", time_ns=TIME),
    Extend("ssh", "192.0.2.7", closes_at_ns=DUE, time_ns=TIME),
    Close("ssh", "2001:db8::1", "close 'it'", closes_at_ns=DUE, time_ns=TIME),
    Open("ssh", "192.0.2.7", "open", closes_at_ns=DUE, net="192.0.2.0/24", time_ns=TIME),
    Extend("ssh", "192.0.2.7", closes_at_ns=DUE, net="192.0.2.0/24", time_ns=TIME),
    Close("ssh", "2001:db8::1", "close 'it'", closes_at_ns=DUE, net="2001:db8::/56", time_ns=TIME),
    Timeout("ssh", "192.0.2.7", 1, time_ns=TIME),
    Fail("ssh", "192.0.2.7", 1, "wrong-port", time_ns=TIME),
    Open("ssh", "192.0.2.7", closes_at_ns=DUE, time_ns=TIME),
    Open("ssh", "192.0.2.7", ports=["tcp/22", "udp/53"], closes_at_ns=DUE, time_ns=TIME),
    Extend("ssh", "192.0.2.7", ports=("tcp/22", "udp/53"), closes_at_ns=DUE, time_ns=TIME),
    Close("ssh", "2001:db8::1", "close 'it'", ports=("tcp/22", "udp/53"), closes_at_ns=DUE, time_ns=TIME),
    Close("ssh", "2001:db8::1", "close 'it'", ports=("tcp/22", "udp/53"), closes_at_ns=DUE + 1, time_ns=TIME),
    Open("ssh", "192.0.2.7", "open", key="alice", time_ns=TIME),
    Extend("ssh", "192.0.2.7", closes_at_ns=DUE, key="alice", time_ns=TIME),
    Refused("ssh", "192.0.2.7", "alice", "replay", time_ns=TIME),
    Refused("ssh", "192.0.2.7", "bob", "replay", time_ns=TIME),
    Refused("ssh", "192.0.2.7", "alice", "clock", offset=-90, time_ns=TIME),
]


@pytest.mark.parametrize("event", ALL, ids=repr)
def test_an_event_is_a_value(event):
    assert isinstance(event, Event)
    for same in (
        eval(repr(event), vars(portknock)),
        copy.copy(event),
        copy.deepcopy(event),
        pickle.loads(pickle.dumps(event)),
    ):
        assert type(same) is type(event) and same == event and hash(same) == hash(event) and same is not event
    assert sum(event == other for other in ALL) == 1
    assert event != repr(event)
    assert event.time_ns == TIME and event.time == event.as_dict()["time"] == TIME / 1e9
    for name in ("time", "door", "stage", "ports", "other"):
        with pytest.raises(AttributeError):
            setattr(event, name, 1)


def test_logs_and_objects_are_those_of_the_command_line():
    assert [str(event) for event in ALL[:10]] == [
        "192.0.2.7: ssh: Stage 1",
        "192.0.2.7: ssh: OPEN SESAME",
        "192.0.2.7: ssh: OPEN SESAME",
        "192.0.2.7: ssh: still open, closing time extended",
        "2001:db8::1: ssh: command timeout",
        "192.0.2.7: ssh: OPEN SESAME",
        "192.0.2.7: ssh: still open, closing time extended",
        "2001:db8::1: ssh: command timeout",
        "192.0.2.7: ssh: sequence timeout (stage 1)",
        "192.0.2.7: ssh: attempt failed: wrong-port (stage 1)",
    ]
    head = {"time": 1690000000.123456789, "door": "ssh", "ip": "192.0.2.7"}
    assert ALL[0].as_dict() == {**head, "event": "stage", "stage": 1, "steps": 2}
    alone = {**head, "net": "192.0.2.7/32"}
    closing = {"ports": [], "closes_at": 1690000010.123456789}
    assert ALL[2].as_dict() == {**alone, "event": "open", "command": None, "ports": [], "closes_at": None}
    assert ALL[3].as_dict() == {**alone, "event": "extend", "stop_command": None, "command": None, **closing}
    again = Extend("ssh", "192.0.2.7", "open", "close", closes_at_ns=DUE, time_ns=TIME)
    assert (again.command, again.stop_command, str(again)) == ("open", "close", "192.0.2.7: ssh: OPEN SESAME")
    assert again.as_dict() == {**alone, "event": "extend", "stop_command": "close", "command": "open", **closing}
    failed = Close("ssh", "192.0.2.7", "close", "command", time_ns=TIME)
    assert (failed.reason, failed.as_dict()["reason"]) == ("command", "command")
    assert Close("ssh", "192.0.2.7").reason is None and failed != Close("ssh", "192.0.2.7", "close", time_ns=TIME)
    assert ALL[9].as_dict() == {**head, "event": "fail", "stage": 1, "reason": "wrong-port"}


def test_openings_have_their_network():
    assert [event.net for event in ALL[:10] if isinstance(event, (Open, Extend, Close))] == [
        *["192.0.2.7/32"] * 3,
        "2001:db8::1/128",
        *["192.0.2.0/24"] * 2,
        "2001:db8::/56",
    ]
    assert ALL[5].as_dict()["net"] == "192.0.2.0/24" and not hasattr(ALL[0], "net")
    with pytest.raises(ValueError):
        Open("ssh", "192.0.2.7", net="192.0.2.7/24")


def test_openings_and_closings_have_the_ports_and_the_closing_time():
    for event in ALL[11:14]:
        assert (event.ports, event.closes_at_ns) == (("tcp/22", "udp/53"), DUE)
        assert event.closes_at == event.as_dict()["closes_at"] == DUE / 1e9
        assert event.as_dict()["ports"] == list(event.ports)
        assert repr(event).endswith(f"ports=('tcp/22', 'udp/53'), closes_at_ns={DUE}, time_ns={TIME})")
    assert (ALL[10].ports, ALL[10].closes_at_ns) == ((), DUE)
    assert (ALL[2].ports, ALL[2].closes_at, ALL[2].closes_at_ns) == ((), None, None)


def test_events_have_the_name_of_the_key():
    assert [event.key for event in ALL[15:20]] == ["alice", "alice", "alice", "bob", "alice"]
    assert [event.as_dict()["key"] for event in ALL[15:20]] == [event.key for event in ALL[15:20]]
    assert (ALL[1].key, "key" in ALL[1].as_dict(), hasattr(ALL[0], "key")) == (None, False, False)
    assert [(event.reason, event.offset) for event in ALL[17:20]] == [("replay", None), ("replay", None), ("clock", -90)]
    assert repr(ALL[19]) == f"Refused('ssh', '192.0.2.7', 'alice', 'clock', offset=-90, time_ns={TIME})"
    assert str(ALL[19]) == "192.0.2.7: ssh: knock of key alice refused: its clock is 90 s behind"


def test_impossible_values_are_refused():
    with pytest.raises(TypeError):
        Event()
    for make in (
        lambda: Open("a", "no address"),
        lambda: Fail("a", "192.0.2.7", 1, "no reason"),
        lambda: Fail("a", "192.0.2.7", 1, "command"),
        lambda: Close("a", "192.0.2.7", None, "scan"),
        lambda: Extend("a", "192.0.2.7", time_ns=-1),
        lambda: Timeout("a", "192.0.2.7", 256),
        lambda: Open("a", "192.0.2.7", ports=["tcp/22"]),
        lambda: Open("a", "192.0.2.7", ports=["tcp/0"], closes_at_ns=1),
        lambda: Close("a", "192.0.2.7", ports=["22"]),
        lambda: Extend("a", "192.0.2.7", ports=["sctp/22"]),
        lambda: Refused("a", "192.0.2.7", "alice", "scan"),
        lambda: Refused("a", "192.0.2.7", "alice", "clock"),
        lambda: Refused("a", "192.0.2.7", "alice", "replay", offset=1),
    ):
        with pytest.raises((ValueError, OverflowError)):
            make()
    assert Open("a", ipaddress.ip_address("::1")).ip == "::1"


def test_events_cannot_be_subclassed():
    with pytest.raises(TypeError):
        type("Mine", (Open,), {})
