"""The files that example programs and command lines find in their directory."""

import support

BROKEN = """\
[options]
    logfile = knockd.log
[ssh]
    sequence = 7001,70000
    seq_timeout = five
    tcpflags = syn,!ack
    comand = open %IP%
"""


def write(directory):
    """Writes the configurations knockd.conf and broken.conf, and knocks.pcap, a capture of one
    knock at the first one's door."""
    (directory / "knockd.conf").write_text(support.DOOR)
    (directory / "broken.conf").write_text(BROKEN)
    times = 1_690_000_000_000_000_000, 1_690_000_001_000_000_000
    (directory / "knocks.pcap").write_bytes(support.capture(zip(times, [support.udp(7000), support.udp(8000)])))
