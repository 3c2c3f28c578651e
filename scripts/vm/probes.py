"""Connects to ports of the machine from outside, many times a second, in a separate process."""

import collections
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

RATE = 200  # attempts a second at each address
CONNECT_TIMEOUT = 1.0  # seconds


class Probes:
    """Connection attempts that run until `stop` is called."""

    def __init__(self, targets, source=None):
        """Each target is an address and a port; `source` is the source address of the attempts."""
        command = [sys.executable, os.path.abspath(__file__), json.dumps({"targets": targets, "source": source})]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def stop(self):
        """Returns the number of attempts for each target and result (open, closed, none), and the times of the results
        `open` in seconds."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=30)
        return json.loads(output)


def attempt(address, port, source):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # Close connections by a reset, so that thousands of attempts leave no state behind.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    if source:
        one.bind((source, 0))
    try:
        one.connect((address, port))
    except BlockingIOError:
        return one, None
    except OSError as error:
        one.close()
        return None, error.errno
    return one, 0


def main():
    options = json.loads(sys.argv[1])
    counts = {f"{address} {port}": collections.Counter() for address, port in options["targets"]}
    opened = []
    waiting = collections.OrderedDict()
    poll = select.epoll()
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    print("ready", flush=True)
    start = due = time.monotonic()

    def note(target, error):
        result = {0: "open", errno.ECONNREFUSED: "closed"}.get(error, "none")
        counts[target][result] += 1
        if result == "open":
            opened.append(round(time.monotonic() - start, 3))

    while not stopped:
        now = time.monotonic()
        if now >= due:
            # If the loop is late, it skips attempts and does not catch up.
            due = max(due + 1 / RATE, now)
            for address, port in options["targets"]:
                one, error = attempt(address, port, options["source"])
                target = f"{address} {port}"
                if one is None or error is not None:
                    note(target, error)
                else:
                    waiting[one.fileno()] = (one, target, now)
                    poll.register(one, select.EPOLLOUT)
        while waiting:
            number, (one, target, begun) = next(iter(waiting.items()))
            if now - begun < CONNECT_TIMEOUT:
                break
            del waiting[number]
            poll.unregister(one)
            one.close()
            note(target, errno.ETIMEDOUT)
        for number, _ in poll.poll(max(0, due - time.monotonic())):
            one, target, _ = waiting.pop(number)
            poll.unregister(one)
            note(target, one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            one.close()
    print(json.dumps({"counts": counts, "opened": opened}))


if __name__ == "__main__":
    main()
