"""Functions of the package. Their public names are those in `portknock`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Iterable, Literal, Optional, Union

from portknock import _native
from portknock._native import Key
from portknock._values import Address, ProbeResult, Report, Step, diagnostics

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEFAULT_WAIT = 5.0
DEFAULT_TIMEOUT = 3.3


def check(path: Union[str, os.PathLike[str]]) -> Report:
    """Read a configuration file and report its problems; errors in it raise no exception.

    One-time sequences are read too, as by `Config.load`. Raises OSError if the file cannot be read.
    """
    return _report(*_native.check(path))


def check_text(text: Union[str, Buffer], name: str = "<text>") -> Report:
    """Check a configuration in a text as `check` does; `name` stands for the file name in the
    report.
    """
    return _report(*_native.check_text(text, name))


def _report(found: str, text: str, config: Optional[_native.Config]) -> Report:
    parsed = json.loads(found)
    return Report(parsed["file"], diagnostics(parsed["diagnostics"]), config, text)


def knock(
    host: Optional[str] = None,
    ports: Optional[Union[str, Iterable[Union[int, str, Step]]]] = None,
    *,
    udp: bool = False,
    delay: float = 0.0,
    source: Optional[Address] = None,
    raw: bool = False,
    family: Literal[0, 4, 6] = 0,
    all_addresses: bool = False,
    then: Optional[int] = None,
    wait: float = DEFAULT_WAIT,
    retries: int = 0,
    key: Optional[Union[Key, str, os.PathLike[str]]] = None,
    address: Optional[Address] = None,
    seconds: int = 0,
) -> Optional[float]:
    """Knock at a host: send one packet to each port, in order; or knock by a key.

    host: name, IPv4 address, or IPv6 address with or without a zone ("fe80::1%eth0"). Can be
        omitted with a key that names its server.
    ports: in the syntax of knockd.conf, "7000,8000:udp,9000", with port numbers or names of
        services; or an iterable of numbers, such texts and `Step`s. Must be omitted with a key.
    udp: send all knocks by UDP, regardless of the protocols in `ports`.
    delay: pause between two knocks, in seconds. Without a pause packets can overtake each other on
        their way.
    source: address of this host that the knocks are sent from, a text or an object of `ipaddress`.
        None: chosen by the route.
    raw: send TCP knocks as bare SYNs through a raw socket, which needs root or CAP_NET_RAW.
        Otherwise knocks are ordinary connections, which need no privilege and are abandoned
        immediately.
    family: 4 or 6 for addresses of that IP version alone, 0 for both.
    all_addresses: knock at every address of the host, not only at the first.
    then: TCP port that should be open after the knocks, 1 to 65535. The call waits until it is
        open. Each check whether it is open is a knock at this port, if `ports` contains it.
    wait: maximum time to wait for `then` after each round of knocks, in seconds.
    retries: number of further rounds of knocks if the port does not open in time.
    key: `Key` of the client, or the path of its file. It determines the knocks: the time sequence of
        the present time, or one packet. Each round of knocks is a new one. A knock that an attacker
        records opens nothing when it is sent again. The clock of this host must agree with the
        clock of the server.
    address: for packets, the address to open for, a text or an object of `ipaddress`. None: the
        address that the packet is sent from.
    seconds: for packets, the time to open for, which can only be shorter than the door's
        cmd_timeout. 0: the door's cmd_timeout.

    When the call returns, every packet was handed to the network in order, and the port `then` is
    open. Returns the seconds from the last knock until the port was found open; None without
    `then`.

    Raises KnockError if the host is not found, a knock cannot be sent or the port does not open
    (see `KnockError.state`), and ValueError for an invalid argument. With the path of a client's
    file, raises the exceptions of `Key.load` too. Ctrl-C ends the call immediately. Other threads
    run meanwhile.
    """
    return knock_plan(
        host,
        ports,
        udp=udp,
        delay=delay,
        source=source,
        raw=raw,
        family=family,
        all_addresses=all_addresses,
        then=then,
        wait=wait,
        retries=retries,
        key=key,
        address=address,
        seconds=seconds,
    ).run()


def knock_plan(
    host: Optional[str],
    ports: Optional[Union[str, Iterable[Union[int, str, Step]]]],
    *,
    key: Optional[Union[Key, str, os.PathLike[str]]],
    udp: bool,
    **options: Any,
) -> _native.KnockPlan:
    if key is None:
        if host is None or ports is None:
            raise TypeError("host and ports are needed, or a key")
        return _native.KnockPlan(host, _listed(ports), udp=udp, key=None, **options)
    if ports is not None or udp:
        raise ValueError("the key determines the knocks: omit ports and udp")
    key = _loaded(key)
    host = key.server if host is None else host
    if host is None:
        raise ValueError("host is missing, and the key names no server")
    return _native.KnockPlan(host, "", udp=False, key=key, **options)


def sequence(key: Union[Key, str, os.PathLike[str]], at: Optional[float] = None) -> tuple[Step, ...]:
    """Return the time sequence of a client.

    A door with `sequence = time` and this client's key opens for it during the window that contains
    the time, and during the windows before and after that one. It opens once for each window.

    key: `Key` of the client, or the path of its file.
    at: time by the wall clock, in seconds since 1970. None: the present time.

    Raises ValueError for an invalid time. With the path of a client's file, raises the exceptions of
    `Key.load` too.
    """
    return tuple(Step(port, protocol) for port, protocol in _native.steps(_loaded(key), at))


def packet(
    key: Union[Key, str, os.PathLike[str]],
    *,
    address: Optional[Address] = None,
    seconds: int = 0,
    at: Optional[float] = None,
) -> bytes:
    """Return a new authenticated packet of a client: 96 bytes, to be sent as one UDP datagram.

    A door with `packet = portknock` and this client's key opens for it once, if the time in the
    packet differs from the server's clock by at most ClockSkew. Each call returns another packet. To
    make and send a packet in one call, use `knock`.

    key: `Key` of the client, or the path of its file. It names the door.
    address: address to open for, a text or an object of `ipaddress`. None: the source address of the
        datagram, which a translation of addresses on the path can change.
    seconds: time to open for, which can only be shorter than the door's cmd_timeout. 0: the door's
        cmd_timeout.
    at: time by the wall clock, in seconds since 1970. None: the present time.

    Raises ValueError for an invalid argument and if the key names no door. With the path of a
    client's file, raises the exceptions of `Key.load` too.
    """
    return _native.packet(_loaded(key), address, seconds, at)


def _loaded(key: Union[Key, str, os.PathLike[str]]) -> Key:
    return key if isinstance(key, Key) else Key.load(key)


def probe(
    host: str,
    ports: Union[str, int, Iterable[Union[int, str]]],
    *,
    timeout: float = DEFAULT_TIMEOUT,
    udp: bool = False,
    method: Literal["auto", "syn", "connect"] = "auto",
    retries: Optional[int] = None,
    rate: Optional[int] = None,
    source: Optional[Address] = None,
    family: Literal[0, 4, 6] = 0,
    all_addresses: bool = False,
) -> list[ProbeResult]:
    """Find out which ports of a host are open, closed or filtered.

    host: name, IPv4 address, or IPv6 address with or without a zone ("fe80::1%eth0").
    ports: in the syntax of nmap, "22,80,8000-8100", "-" for all, with port numbers or names of
        services; or one number, or an iterable of numbers and such texts.
    timeout: maximum time for a port that does not respond, in seconds: above 0 and at most a day.
    udp: probe UDP ports. Ports that do not respond are "open|filtered".
    method: "syn" probes TCP ports by bare SYNs, which needs root or CAP_NET_RAW; "connect" by
        ordinary connections, which need no privilege; "auto" by SYNs if that is allowed.
    retries: number of repetitions of a probe without a response, 0 to 255. None: adapted to the
        losses of the path.
    rate: maximum number of probes per second. None: adapted to the capacity of the path.
    source: address of this host that the probes are sent from, a text or an object of `ipaddress`.
        None: chosen by the route.
    family: 4 or 6 for addresses of that IP version alone, 0 for both.
    all_addresses: probe every address of the host, not only the first.

    Returns one result for each address and port: in the order of the addresses, and for each
    address in the order of the port numbers.

    Raises ProbeError if the host is not found or the probe fails before its end (see
    `ProbeError.results`), and ValueError for an invalid argument. Ctrl-C ends the call immediately.
    Other threads run meanwhile.
    """
    return probe_plan(
        host,
        ports,
        timeout=timeout,
        udp=udp,
        method=method,
        retries=retries,
        rate=rate,
        source=source,
        family=family,
        all_addresses=all_addresses,
    ).run()


def probe_plan(host: str, ports: Union[str, int, Iterable[Union[int, str]]], **options: Any) -> _native.ProbePlan:
    return _native.ProbePlan(host, _listed([ports] if isinstance(ports, int) else ports), **options)


def _listed(ports: Union[str, Iterable[Union[int, str, Step]]]) -> str:
    """Join the ports to a text in the syntax that core reads."""
    if isinstance(ports, str):
        return ports
    if isinstance(ports, (bytes, bytearray)):
        raise TypeError("ports is a str or several ports, not bytes")
    ports = list(ports)
    for port in ports:
        # Core would read a negative number as a range that ends at it.
        if isinstance(port, int) and port < 1:
            raise ValueError(f"ports: {port} is not a port: expected a number from 1 to 65535")
        if not isinstance(port, (int, str, Step)):
            raise TypeError(f"ports: {port!r} is not a port")
    if not ports:
        raise ValueError("ports is empty")
    return ",".join(map(str, ports))
