"""The examples in Markdown documents: fenced blocks that begin with ```python.

Each is a separate program. It runs in a directory that has

    knockd.conf   a configuration whose door `ssh` has the sequence 7000:udp, 8000:udp
    broken.conf   a configuration with errors
    knocks.pcap   a capture of one knock at that door, from 192.0.2.7

and must end with status 0 within a minute. A comment right above the block, which readers do not see, names the place
where it runs.

    <!-- test: compile -->  The block does not run: it must be valid Python, of 3.10 or later.
    <!-- test: knocked -->  The host 10.0.0.1 with the interface eth0. 10.0.0.2 knocks at that door repeatedly while
                            the block runs.
    <!-- test: webhook -->  The same, until a message to http://127.0.0.1:8080 reports an opening; then Ctrl-C ends
                            the block.
    <!-- test: server -->   The host 10.0.0.2, for which `server.example` is 10.0.0.1. Port 22 is filtered there until
                            that knock makes portknockd open it.
"""

import re

MARKER = re.compile(r"<!--\s*test:\s*(\S+)\s*-->")
PLACES = ("compile", "knocked", "webhook", "server")
FENCE = re.compile(r"( *)(`{3,}|~{3,})\s*(\S*)")


class Example:
    """A block: its code, the line of the document before it, and its place: one of PLACES, or
    None."""

    def __init__(self, code, line, place):
        self.code = code
        self.line = line
        self.place = place

    def program(self):
        """The code with its line numbers in the document."""
        return "\n" * self.line + self.code


def examples(text):
    """The examples of a document."""
    found = []
    place = fence = None
    for number, line in enumerate(text.splitlines(), 1):
        if fence is None:
            marker = MARKER.search(line)
            opened = FENCE.match(line)
            if marker:
                place = marker[1]
                if place not in PLACES:
                    raise ValueError(f"line {number}: there is no place {place!r} for tests; there are {PLACES}")
            elif opened:
                fence, code, begin = opened, [], number
            elif line.strip():
                # A marker is in the line right above its block.
                if place:
                    raise ValueError(f"line {number}: between a marker and its block")
        elif line.strip() == fence[2]:
            if fence[3] == "python":
                found.append(Example("\n".join(code) + "\n", begin, place))
            elif place:
                raise ValueError(f"line {begin}: a marker above what is no Python")
            fence = place = None
        else:
            code.append(line[len(fence[1]):] if line.startswith(fence[1]) else line.lstrip())
    if fence or place:
        raise ValueError("the document ends in a block, or after a marker")
    return found
