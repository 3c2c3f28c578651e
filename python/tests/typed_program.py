"""Code of programs that use portknock with types. mypy and pyright, both strict, check it; it is
never run."""

import ipaddress
from pathlib import Path
from typing import Optional

import portknock
from typing_extensions import assert_never, assert_type


def configurations(path: Path) -> portknock.Config:
    try:
        config = portknock.Config.load(path)
    except portknock.ConfigError as error:
        for diagnostic in error.diagnostics:
            assert_type(diagnostic, portknock.Diagnostic)
        raise ValueError from error
    assert_type(portknock.Config.parse(b"[options]\n"), portknock.Config)
    assert_type(portknock.Config.fix("[options]\n"), str)
    assert_type(portknock.Config.fix(b"[options]\n"), bytes)
    for door in config.doors:
        assert_type(door.name, str)
    return config


def matching(config: portknock.Config, frame: memoryview) -> None:
    engine = portknock.Engine(config, local_addresses=["10.0.0.1", ipaddress.ip_address("::1")], now=1.5)
    assert_type(engine.set_wall_clock(2.5, 1.5), list[portknock.AnyEvent])
    events = engine.feed(frame, 1_690_000_000.5, linktype=portknock.LINKTYPE_ETHERNET)
    assert_type(events, list[portknock.AnyEvent])
    assert_type(engine.feed_many([(1.0, b"")]), list[portknock.AnyEvent])
    assert_type(engine.next_timeout(), Optional[float])
    assert_type(engine.next_timeout(ns=True), Optional[int])


def told(event: portknock.Event) -> str:
    if isinstance(event, portknock.Open):
        assert_type(event.command, Optional[str])
        assert_type(event.ports, tuple[str, ...])
        assert_type(event.closes_at, Optional[float])
        return f"{event.ip} at {event.time}"
    if isinstance(event, portknock.Close):
        assert_type(event.command, Optional[str])
        return event.command or ""
    return str(event)


def kind(event: portknock.AnyEvent) -> str:
    if isinstance(event, (portknock.Stage, portknock.Timeout, portknock.Fail)):
        return f"stage {event.stage}"
    if isinstance(event, (portknock.Open, portknock.Close)):
        return event.command or ""
    if isinstance(event, portknock.Extend):
        return event.key or "later"
    if isinstance(event, portknock.Refused):
        assert_type(event.offset, Optional[int])
        return event.key
    assert_never(event)


def why(event: portknock.Fail) -> str:
    reason = event.reason
    if reason == "wrong-port" or reason == "scan":
        return "an attack, perhaps"
    if reason == "silenced" or reason == "door-silenced":
        return "an attack by someone who knows the fixed steps"
    if reason == "full" or reason == "reload":
        return "nobody's fault"
    assert_never(reason)


def clients(path: Path) -> None:
    key = portknock.Key.load(path)
    assert_type(key, portknock.Key)
    assert_type(portknock.sequence(key), tuple[portknock.Step, ...])
    assert_type(portknock.packet(path, address=ipaddress.ip_address("::1"), seconds=30, at=1.5), bytes)
    assert_type(portknock.knock(key=key, then=22), Optional[float])
    assert_type(portknock.knock("host", key="alice.key"), Optional[float])


def replaying(config: portknock.Config) -> list[str]:
    return [told(event) for event in portknock.replay("capture.pcap", config)]


def listening(config: portknock.Config, notices: list[str]) -> None:
    with portknock.Listener(config, interface="eth0", run_commands=False, on_notice=notices.append) as listener:
        assert_type(listener, portknock.Listener)
        assert_type(listener.fileno(), int)
        assert_type(listener.next(0.5), Optional[portknock.AnyEvent])
        for event in listener:
            assert_type(event, portknock.AnyEvent)


async def listening_in_a_loop(config: portknock.Config) -> None:
    async for event in portknock.aio.listen(config, interface=["eth0", "eth1"]):
        assert_type(event, portknock.AnyEvent)
    await portknock.aio.knock(key="alice.key")
    await portknock.aio.knock("host", [7000, "8000:udp", 9000])
    assert_type(await portknock.aio.probe("host", "22,80"), list[portknock.ProbeResult])


def knocking() -> None:
    try:
        portknock.knock("host", "7000,8000:udp,9000", delay=0.1)
        after = portknock.knock("host", [7000], then=22, retries=2)
        assert_type(after, Optional[float])
    except portknock.KnockError as error:
        print(error)


def probing() -> None:
    for result in portknock.probe("host", [22, 80], timeout=1.0):
        assert_type(result, portknock.ProbeResult)
        assert_type(result.port, int)
        assert_type(result.rtt, Optional[float])
        if result.state == "open":
            print(result.reason)
