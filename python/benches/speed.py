"""Cost of a packet from Python: `speed.py CONFIG CAPTURE` prints, as one JSON object, nanoseconds per packet through
Engine.feed, Engine.feed_many, replay, and scapy in the same role on the same capture. The fastest of several runs."""

import json
import struct
import sys
import time
from pathlib import Path

import portknock
from scapy.layers.inet import IP, TCP
from scapy.utils import PcapReader

RUNS = 15
# scapy takes a thousand times as long.
SCAPY_PACKETS = 20_000


def frames(path):
    """The frames of a pcap file in this machine's byte order with nanoseconds (see
    pcap-savefile(5)), with their times."""
    data = path.read_bytes()
    magic, _, _, _, _, _, link_type = struct.unpack_from("=IHHiIII", data)
    assert (magic, link_type) == (0xA1B23C4D, portknock.LINKTYPE_ETHERNET)
    at = 24
    while at < len(data):
        seconds, nanoseconds, length, _ = struct.unpack_from("=IIII", data, at)
        at += 16 + length
        yield seconds + nanoseconds / 1e9, data[at - length:at]


def fastest(packets, work):
    """Nanoseconds per packet, and the result."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter_ns()
        result = work()
        times.append(time.perf_counter_ns() - begin)
    return min(times) / packets, result


def by_feed(config, packets):
    engine = portknock.Engine(config)
    return sum(isinstance(event, portknock.Open) for at, frame in packets for event in engine.feed(frame, at))


def by_feed_many(config, packets):
    return sum(isinstance(event, portknock.Open) for event in portknock.Engine(config).feed_many(packets))


def by_replay(config, path):
    return sum(isinstance(event, portknock.Open) for event in portknock.replay(path, config))


def by_scapy(config, path):
    """The same door, as people program it with scapy."""
    [door] = config.doors
    steps = [step.port for step in door.sequence]
    attempts = {}
    openings = 0
    with PcapReader(str(path)) as reader:
        for packet in reader.read_all(SCAPY_PACKETS):
            if TCP not in packet or not packet[TCP].flags.S:
                continue
            source, port = packet[IP].src, packet[TCP].dport
            stage, begin = attempts.get(source, (0, packet.time))
            if stage > 0 and packet.time - begin >= door.seq_timeout:
                stage, begin = 0, packet.time
            if port == steps[stage]:
                attempts[source] = stage + 1, begin
                if stage + 1 == len(steps):
                    del attempts[source]
                    openings += 1
            elif stage > 0 and port in steps and port != steps[stage - 1]:
                del attempts[source]
    return openings


def main():
    config, path = portknock.Config.load(sys.argv[1]), Path(sys.argv[2])
    packets = list(frames(path))
    figures, openings = {}, set()
    for name, work in [
        ("feed", lambda: by_feed(config, packets)),
        ("feed_many", lambda: by_feed_many(config, packets)),
        ("replay", lambda: by_replay(config, path)),
    ]:
        figures[name], count = fastest(len(packets), work)
        openings.add(count)
    # Once, because it takes long enough.
    begin = time.perf_counter_ns()
    by_scapy(config, path)
    figures["scapy"] = (time.perf_counter_ns() - begin) / min(SCAPY_PACKETS, len(packets))
    assert len(openings) == 1, openings
    print(json.dumps({**figures, "openings": openings.pop()}))


main()
