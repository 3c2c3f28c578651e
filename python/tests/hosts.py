"""Two hosts in network namespaces with a link between them, inside of scripts/sandbox."""

import contextlib
import os
import subprocess

ADDRESSES = {"server": "10.0.0.1", "client": "10.0.0.2"}


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def on(host):
    """The beginning of a command that runs on a host."""
    return ["ip", "netns", "exec", host]


@contextlib.contextmanager
def two_hosts():
    """`server` and `client`, each with an eth0."""
    assert os.environ.get("PORTKNOCK_SANDBOX"), "run it as: scripts/sandbox python -m pytest"
    with contextlib.ExitStack() as made:
        for host in ADDRESSES:
            ip("netns", "add", host)
            made.callback(ip, "netns", "del", host)
        ip("link", "add", "eth0", "netns", "server", "type", "veth", "peer", "name", "eth0", "netns", "client")
        for host, address in ADDRESSES.items():
            ip("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "lo", "up")
            ip("-n", host, "link", "set", "eth0", "up")
        yield
