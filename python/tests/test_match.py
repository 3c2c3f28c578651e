"""The match statement, which Python has from 3.10 on."""

from portknock import Close, Event, Extend, Fail, Open, Refused, Stage, Timeout


def name(event: Event) -> str:
    match event:
        case Stage(door, ip, stage, steps):
            return f"{door} {ip} {stage}/{steps}"
        case Open(door, ip, None):
            return f"{door} opens for {ip}"
        case Open(command=command) | Close(command=command):
            return f"run {command}"
        case Extend(door):
            return f"{door} stays open"
        case Timeout(_, _, stage) | Fail(_, _, stage, "scan"):
            return f"over at {stage}"
        case Fail(reason=reason):
            return reason
        case Refused(_, _, key, "replay"):
            return f"{key} again"
        case Refused(offset=int(offset)):
            return f"{offset} s"
        case _:
            return "?"


def test_events_match_their_classes():
    ip = "192.0.2.7"
    assert name(Stage("a", ip, 1, 2)) == "a 192.0.2.7 1/2"
    assert name(Open("a", ip)) == "a opens for 192.0.2.7"
    assert name(Open("a", ip, "x")) == name(Close("a", ip, "x")) == "run x"
    assert name(Extend("a", ip)) == "a stays open"
    assert name(Timeout("a", ip, 3)) == name(Fail("a", ip, 3, "scan")) == "over at 3"
    assert name(Fail("a", ip, 3, "full")) == "full"
    assert name(Refused("a", ip, "alice", "replay")) == "alice again"
    assert name(Refused("a", ip, "alice", "clock", offset=-90)) == "-90 s"
