"""Configurations, and captures of knocks at their door."""

import struct

CONFIG = """\
[options]
    logfile = /var/log/knockd.log
[ssh]
    sequence = 7001,3000:udp,9001
    seq_timeout = 5
    start_command = open %IP%
    stop_command = shut %IP%
    cmd_timeout = 5
"""
# The same with mistakes.
BROKEN = """\
[options]
    logfile = knockd.log
[ssh]
    sequence = 7001,70000
    seq_timeout = five
    tcpflags = syn
    comand = open %IP%
"""
# The steps of the door above: the protocol's number, and the port.
STEPS = [(6, 7001), (17, 3000), (6, 9001)]


def frame(protocol, port):
    """An Ethernet frame from 10.0.0.2 to 10.0.0.1: a SYN, or an empty datagram."""
    if protocol == 6:
        segment = struct.pack("!HHIIBBHHH", 40_000, port, 1, 0, 5 << 4, 2, 1024, 0, 0)
    else:
        segment = struct.pack("!HHHH", 40_000, port, 8, 0)
    addresses = bytes([10, 0, 0, 2, 10, 0, 0, 1])
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0, 64, protocol, 0) + addresses
    return bytes(12) + b"\x08\x00" + ip + segment


def capture(steps=STEPS):
    """A capture file (see pcap-savefile(5)) of one knock a second."""
    packets = [frame(*step) for step in steps]
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
    records = [
        struct.pack("<IIII", 1_690_000_000 + second, 0, len(packet), len(packet)) + packet
        for second, packet in enumerate(packets)
    ]
    return header + b"".join(records)
