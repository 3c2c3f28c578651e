"""The environment of the checks: the machine, and the network namespace outside of it, from which the clients knock."""

import contextlib
import os
import re
import shlex
import subprocess
import time

from machine import MAC, TAP, with_load
from probes import Probes

SERVER = "10.0.0.1"
ADDRESSES = [SERVER, "fd00::1"]
STRANGERS = ["10.0.0.3", "fd00::3"]
SSH_KNOCK = "7391 2284:udp 48213"
WEB_KNOCK = "31807 5520:udp 9043"


class Failure(Exception):
    """The failure of a check."""


def sh(command, **options):
    return subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def make_network(programs):
    """Creates the client side of the network. Static neighbour entries let packets go out while the machine is down."""
    commands = f"""
        ip tuntap add {TAP} mode tap && ip link set {TAP} up
        ip addr add 10.0.0.2/24 dev {TAP} && ip addr add 10.0.0.3/24 dev {TAP}
        ip addr add fd00::2/64 dev {TAP} nodad && ip addr add fd00::3/64 dev {TAP} nodad preferred_lft 0
        for address in {" ".join(ADDRESSES)}; do ip neigh add $address lladdr {MAC} dev {TAP} nud permanent; done
        printf '127.0.0.1 localhost\\n{SERVER} server.example\\n' >/run/hosts && mount --bind /run/hosts /etc/hosts
    """
    result = sh("set -e\n" + commands)
    if result.returncode:
        raise RuntimeError(result.stdout)
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"


def until(what, condition, seconds=120):
    """Waits until the condition is true, for a time that is long enough with software emulation, too; returns its value."""
    seconds = with_load(seconds)
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"not true within {seconds:.0f} s: {what}")
        time.sleep(0.1)
    return value


class Lab:
    def __init__(self, machine, root):
        self.machine = machine
        with open(os.path.join(root, "docs/installation.md")) as manual:
            self.installation = manual.read()
        with open(os.path.join(root, "docs/migrating-from-knockd.md")) as manual:
            self.migrating = manual.read()

    def server(self, command, status=0, **options):
        """Runs a command in the machine. Fails if its exit status is not `status`; None allows any."""
        result = self.machine.run(command, **options)
        if status is not None and result.status != status:
            raise Failure(f"exit status {result.status} of: {command}\n{result.output}")
        return result.output

    def client(self, command, status=0):
        result = sh(command, timeout=with_load(60))
        if status is not None and result.returncode != status:
            raise Failure(f"exit status {result.returncode} of: {command}\n{result.stdout}")
        return result.stdout

    def follow(self, document, heading, number=None):
        """Runs all commands of a document under this heading, or one of them."""
        section = re.search(rf"^##+ {re.escape(heading)}$(.*?)(?=^##|\Z)", document, re.M | re.S)
        blocks = re.findall(r"^```(?:console)?\n(.*?)^```", section.group(1), re.M | re.S) if section else []
        commands = [line for block in blocks for line in block.splitlines() if line]
        if not commands:
            raise Failure(f"the document has no commands under: {heading}")
        for line in commands if number is None else [commands[number - 1]]:
            if line.startswith("$ "):
                self.client(line[2:])
            else:
                self.server(line.removeprefix("# "))

    def provide_packages(self, version):
        self.server(f"rm -f /root/*.deb; cp /share/{version}/*.deb /root")

    def configure(self, text):
        self.server(f"cat >/etc/knockd.conf <<'END-OF-FILE'\n{text}\nEND-OF-FILE")

    def the_manual_door(self, seconds):
        """The configuration of docs/installation.md, with doors that close after this number of seconds."""
        block = re.search(r"^```conf\n(.*?)^```", self.installation, re.M | re.S).group(1)
        return re.sub(r"(cmd_timeout +=) \d+", rf"\1 {seconds}", block)

    def state(self, address, port, source=None):
        source = f"--source {source} " if source else ""
        output = self.client(f"portknock probe --method connect --format json {source}{address} {port}", status=None)
        found = re.search(r'"state":"([^"]*)"', output)
        if not found:
            raise Failure(f"the probe printed: {output}")
        return found.group(1)

    def expect(self, states, port=22, source=None):
        """Waits until the port has this state at both addresses, or at the one address that has a source."""
        for address in [SERVER] if source else ADDRESSES:
            until(f"port {port} of {address} is {states}", lambda: self.state(address, port, source) == states)

    def knock(self, sequence=SSH_KNOCK, address=SERVER):
        self.client(f"portknock knock --delay 20 {address} {sequence}")

    def opens(self, port=22, sequence=SSH_KNOCK):
        """Checks that a knock opens the port for this client, over IPv4 and IPv6."""
        for address in ADDRESSES:
            self.knock(sequence, address)
        self.expect("open", port)

    def strangers_see(self, states, port=22):
        for address, source in zip(ADDRESSES, STRANGERS):
            # An answer may come too late for a probe, but a port that is open is a failure immediately.
            wanted = (states, "open")
            found = until(f"port {port} of {address} is {states} for a stranger",
                          lambda: (state := self.state(address, port, source)) in wanted and state)  # fmt: skip
            if found != states:
                raise Failure(f"port {port} of {address} is {found} for a stranger, expected {states}")

    @contextlib.contextmanager
    def never_open(self, port=22):
        """Checks that the port is open to no stranger during the block, 200 times a second over IPv4 and IPv6."""
        probes = [Probes([[address, port]], source) for address, source in zip(ADDRESSES, STRANGERS)]
        try:
            yield
        finally:
            results = [one.stop() for one in probes]
        for result in results:
            for target, counts in result["counts"].items():
                print(f"     {target}: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
                if counts.get("open"):
                    raise Failure(f"{target} was open {counts['open']} times, at {result['opened'][:20]} s")
                if not counts.get("closed"):
                    raise Failure(f"{target} was never refused, so the attempts prove nothing")

    def daemons(self, name):
        """The process ids of the daemons of this name, without their children."""
        output = self.server(f"ps -eo pid=,ppid=,comm= | grep -E ' {shlex.quote(name)}$' || true")
        rows = [line.split() for line in output.splitlines()]
        own = {row[0] for row in rows}
        return [row[0] for row in rows if row[1] not in own]

    def listening(self):
        """Waits until the daemon runs and its reader listens, and returns its process id."""
        until("portknock status", lambda: self.machine.run("portknock status").status == 0)
        return self.server("systemctl show --property MainPID --value portknockd").strip()
