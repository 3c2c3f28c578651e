"""Compares what `portknock rules --check` predicts for a door with what a knock at that door does."""

import re

from lab import ADDRESSES, SSH_KNOCK, Failure, until

EVERYBODY = "it is open to everyone, without a knock"
OPENS = "a knock opens it"
STAYS_CLOSED = "a knock does not open it"
UNKNOWN = "unknown"

DOOR = """[options]
    Interface = eth0
    LogFile   = /var/log/knockd.log
[ssh]
    sequence    = 7391,2284:udp,48213
    seq_timeout = 10
    tcpflags    = syn,!ack
"""


def door(command, command_6=None):
    """A configuration with one door. The file shows when a command of the door has ended."""
    text = f"{DOOR}    start_command = {command}; touch /run/ended\n"
    return text + (f"    start_command_6 = {command_6}; touch /run/ended\n" if command_6 else "")


def predicted(lab):
    """The predictions for port 22 over IPv4 and IPv6."""
    output = lab.server("portknock rules --check", status=None)
    found = [re.search(rf"^tcp/22 over {version}: (.*)$", output, re.M) for version in ("IPv4", "IPv6")]
    if None in found:
        raise Failure(f"portknock rules --check printed: {output}")
    return [one.group(1) for one in found], output


def observed(lab, address, before):
    """The effect of a knock at this address on port 22 there, which was in this state before all knocks."""
    if before == "open":
        return EVERYBODY
    lab.server("rm -f /run/ended")
    lab.knock(SSH_KNOCK, address)
    until("the command of the door ends", lambda: lab.machine.run("test -e /run/ended").status == 0, 300)
    return OPENS if lab.state(address, 22) == "open" else STAYS_CLOSED


def compare(lab, firewall, config, expected):
    """With these rules of the firewall and this door, the predictions are the expected ones, and knocks confirm them."""
    lab.server(firewall)
    lab.configure(config)
    lab.server("systemctl restart portknockd")
    lab.listening()
    predictions, output = predicted(lab)
    print(f"     {firewall!r}, {config.splitlines()[7:]}:\n       predicted: {predictions}", flush=True)
    states = [lab.state(address, 22) for address in ADDRESSES]
    results = [observed(lab, address, before) for address, before in zip(ADDRESSES, states)]
    print(f"       observed:  {results}", flush=True)
    for prediction, result, expectation in zip(predictions, results, expected):
        if prediction != expectation or prediction not in (result, UNKNOWN):
            rules = lab.server("nft list ruleset", status=None)
            raise Failure(f"predicted: {output}\nobserved: {results}\nexpected: {expected}\nrules: {rules}")
