"""Keys of clients: their time sequences, their packets and their knocks, and doors that judge them."""

import asyncio
import base64
import hashlib
import ipaddress
import json
import os
import pickle
import struct
from pathlib import Path

import portknock
import pytest
from portknock import LINKTYPE_RAW, Config, Engine, Key, KnockError, Open, PortknockError, Refused, Step
from support import REPOSITORY, capture, json_lines, run, silent_port, udp

SECRET = bytes(range(32))
TIME = 1_796_030_418
# Next to the workspace; they are not part of this project.
VECTORS = Path(os.environ.get("PORTKNOCK_CORPUS", REPOSITORY.parent / "shared/corpus"), "spa/own-format.json")


def key_text(secret=SECRET):
    checked = secret + hashlib.sha256(secret).digest()[:2]
    return "pk1:" + base64.urlsafe_b64encode(checked).decode().rstrip("=")


def client(**settings):
    lines = {"name": "alice", "key": key_text(), **settings}
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


PACKET = client(form="packet", door="ssh")


def private(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def server(tmp_path):
    """Returns the configuration of a door with this line, and with the key of alice."""
    keys = private(tmp_path / "server.keys", f"alice {key_text()}\n")
    return lambda line: Config.parse(f"[ssh]\n{line}\nkeys = {keys}\ncommand = open %IP%\n")


def datagram(payload, source="192.0.2.7", port=62201):
    packet = udp(port, source)
    head = packet[:2] + struct.pack(">H", 28 + len(payload)) + packet[4:24]
    return head + struct.pack(">HH", 8 + len(payload), 0) + payload


def text_of(steps):
    return ",".join(map(str, steps))


def vectors():
    if not VECTORS.exists():
        pytest.skip(f"there are no vectors at {VECTORS}")
    return json.loads(VECTORS.read_text())


def test_a_key_is_what_its_file_states(tmp_path):
    key = Key.parse(PACKET)
    assert (key.name, key.form, key.server, key.door, key.port) == ("alice", "packet", None, "ssh", 62201)
    assert repr(key) == "<Key 'alice', form: packet>"
    path = private(tmp_path / "alice.key", client(server="web1.example", port=4000))
    key = Key.load(path)
    assert (key.form, key.server, key.door, key.port) == ("time", "web1.example", None, 4000)
    assert Key.parse(b"name = bob\nkey = " + key_text().encode()).name == "bob"


def test_the_secret_is_never_shown(tmp_path):
    key = Key.parse(client())
    for shown in (repr(key), str(key), str([getattr(key, name) for name in dir(key)])):
        assert key_text()[4:12] not in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)
    for wrong in (client(key=key_text() + "x"), client(key=key_text()[:-1] + "_"), "key = " + key_text()):
        with pytest.raises(ValueError) as caught:
            Key.parse(wrong, "alice.key")
        assert "alice.key" in str(caught.value) and key_text()[4:12] not in str(caught.value)


def test_a_file_that_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        Key.load(tmp_path / "none")
    assert caught.value.filename == str(tmp_path / "none")
    with pytest.raises(PortknockError, match="other users can read it; run chmod 600 "):
        Key.load(private(tmp_path / "open.key", client(), 0o644))
    with pytest.raises(ValueError, match="wrong.key:3: there is no such setting"):
        Key.load(private(tmp_path / "wrong.key", client(colour="red")))
    for wrong in (None, 1, Key):
        with pytest.raises(TypeError):
            portknock.sequence(wrong)


def test_sequences_are_those_of_the_vectors():
    count = 0
    for vector in vectors()["sequence"]:
        settings = {}
        if "steps" in vector:
            settings["time_steps"] = vector["steps"]
        if vector.get("both"):
            settings["time_protocols"] = "both"
        if "low" in vector:
            settings["time_ports"] = f"{vector['low']}-{vector['high']}"
        if "step" in vector:
            settings["time_step"] = vector["step"]
        key = Key.parse(client(**settings))
        assert text_of(portknock.sequence(key, vector["unix"])) == vector["ports"], vector
        count += 1
    assert count >= 30


def test_the_key_of_a_server_is_that_of_the_vectors():
    own = bytes.fromhex(vectors()["server_key(web1.example)"])
    derived, direct = Key.parse(client(server="web1.example")), Key.parse(client(key=key_text(own)))
    assert portknock.sequence(derived, TIME) == portknock.sequence(direct, TIME)


def test_a_sequence_has_steps(tmp_path):
    path = private(tmp_path / "alice.key", client(time_protocols="both"))
    steps = portknock.sequence(path, at=59)
    assert steps == (Step(16082), Step(22333), Step(13614), Step(17533, "udp"), Step(45696, "udp"))
    assert portknock.sequence(str(path), 59.9) == steps != portknock.sequence(path, 60)
    assert len(portknock.sequence(path)) == 5
    shown = run("portknock", "sequence", "--key", str(path), "--at", "59")
    assert shown.split() == [str(step) for step in steps]
    for wrong in (-1, 2**64, float("nan")):
        with pytest.raises(ValueError, match="is not a time"):
            portknock.sequence(path, wrong)


def test_a_packet_opens_its_door_once(server):
    engine, key = Engine(server("packet = portknock"), now=TIME), Key.parse(PACKET)
    packet = portknock.packet(key, at=TIME)
    assert (type(packet), len(packet)) == (bytes, 96)
    assert packet[:8].hex() == "f5508a0dfc2b94bb"
    [event] = engine.feed(datagram(packet), TIME, LINKTYPE_RAW)
    assert event == Open("ssh", "192.0.2.7", "open 192.0.2.7", key="alice", time_ns=TIME * 10**9)
    again = engine.feed(datagram(packet, "192.0.2.8"), TIME + 1, LINKTYPE_RAW)
    assert again == [Refused("ssh", "192.0.2.8", "alice", "replay", time_ns=(TIME + 1) * 10**9)]
    assert again[0].as_dict() == {
        "time": TIME + 1,
        "event": "refused",
        "door": "ssh",
        "ip": "192.0.2.8",
        "key": "alice",
        "reason": "replay",
    }
    assert str(again[0]) == "192.0.2.8: ssh: knock of key alice refused: it may have been accepted before"
    packet = portknock.packet(key, address=ipaddress.ip_address("2001:db8::7"), at=TIME + 2)
    [event] = engine.feed(datagram(packet), TIME + 2, LINKTYPE_RAW)
    assert (event.ip, event.key, event.command) == ("2001:db8::7", "alice", "open 2001:db8::7")


def test_packets_are_judged_by_the_wall_clock(server):
    engine, key = Engine(server("packet = portknock")), Key.parse(PACKET)
    assert engine.set_wall_clock(TIME, 1000) == []
    [event] = engine.feed(datagram(portknock.packet(key, at=TIME + 1)), 1001, LINKTYPE_RAW)
    assert isinstance(event, Open) and event.time == 1001
    # The clock of this client is 70 s slow.
    assert engine.set_wall_clock((TIME + 100) * 10**9, 1002 * 10**9, ns=True) == []
    [event] = engine.feed(datagram(portknock.packet(key, at=TIME + 31)), 1003, LINKTYPE_RAW)
    assert isinstance(event, Refused)
    assert (event.reason, event.offset, event.key) == ("clock", -70, "alice")
    assert event.as_dict()["offset"] == -70


def test_a_packet_needs_a_door_and_valid_arguments():
    with pytest.raises(ValueError, match="packets need the name of a door"):
        portknock.packet(Key.parse(client()))
    key = Key.parse(PACKET)
    for options in ({"address": "here"}, {"seconds": -1}, {"seconds": 2**32}, {"at": -1}):
        with pytest.raises(ValueError) as caught:
            portknock.packet(key, **options)
        assert next(iter(options)) in str(caught.value) or "is not a time" in str(caught.value)
    assert portknock.packet(key) != portknock.packet(key)


def test_a_time_sequence_opens_its_door_once(server):
    engine = Engine(server("sequence = time\ntime_protocols = udp"), now=TIME)
    assert engine.next_timeout() is not None
    steps = portknock.sequence(Key.parse(client(time_protocols="udp")), TIME)
    frames = [(TIME + 0.1, udp(step.port)) for step in steps]
    opened = [event for event in engine.feed_many(frames, LINKTYPE_RAW) if isinstance(event, Open)]
    assert [event.key for event in opened] == ["alice"]
    again = [(TIME + 0.2, udp(step.port, "192.0.2.8")) for step in steps]
    assert not [event for event in engine.feed_many(again, LINKTYPE_RAW) if isinstance(event, Open)]


def test_a_replay_judges_packets_as_the_command_line_does(server, tmp_path):
    config, key = server("packet = portknock"), Key.parse(PACKET)
    packet = portknock.packet(key, at=TIME)
    late = portknock.packet(key, at=TIME - 75)
    frames = [(TIME, packet), (TIME + 1, packet), (TIME + 2, late)]
    path = tmp_path / "capture.pcap"
    path.write_bytes(capture((time * 10**9, datagram(payload)) for time, payload in frames))
    events = list(portknock.replay(path, config))
    assert [(type(event), getattr(event, "reason", None)) for event in events] == [
        (Open, None),
        (Refused, "replay"),
        (Refused, "clock"),
    ]
    conf = private(tmp_path / "knockd.conf", str(config))
    lines = json_lines(run("portknock", "replay", "-c", str(conf), "--format", "json", str(path)))
    assert [event.as_dict() for event in events] == lines


@pytest.mark.usefixtures("sandbox")
def test_knocks_by_a_key_are_sent(tmp_path):
    bound, port = silent_port()
    with bound:
        bound.settimeout(30)
        path = private(tmp_path / "alice.key", client(form="packet", door="ssh", port=port, server="127.0.0.1"))
        assert portknock.knock(key=path) is None
        packets = [bound.recv(200)]
        portknock.knock("127.0.0.1", key=Key.load(path), address="192.0.2.7", seconds=30)
        packets.append(bound.recv(200))
        asyncio.run(portknock.aio.knock(key=path))
        packets.append(bound.recv(200))
        assert [len(packet) for packet in packets] == [96] * 3 and len(set(packets)) == 3
        with pytest.raises(KnockError, match="did not open"):
            portknock.knock(key=path, then=1, wait=0.05)
    assert portknock.knock("127.0.0.1", key=Key.parse(client())) is None


def test_a_key_determines_the_knocks():
    key = Key.parse(client())
    with pytest.raises(TypeError):
        portknock.knock("127.0.0.1")
    for options in ({"ports": "7000"}, {"udp": True}):
        with pytest.raises(ValueError, match="omit ports and udp"):
            portknock.knock("127.0.0.1", key=key, **options)
    with pytest.raises(ValueError, match="names no server"):
        portknock.knock(key=key)
    for options in ({"address": "192.0.2.7"}, {"seconds": 1}):
        with pytest.raises(ValueError, match="are for packets"):
            portknock.knock("127.0.0.1", key=key, **options)
        with pytest.raises(ValueError, match="need a key"):
            portknock.knock("127.0.0.1", "7000", **options)


def test_errors_of_a_servers_key_file_are_those_of_the_configuration(tmp_path):
    keys = private(tmp_path / "server.keys", f"alice {key_text()}x\n")
    with pytest.raises(portknock.ConfigError, match="server.keys:1: ") as caught:
        Config.parse(f"[ssh]\nsequence = time\nkeys = {keys}\ncommand = x\n")
    assert key_text()[4:12] not in str(caught.value)
