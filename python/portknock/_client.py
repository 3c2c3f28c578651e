"""The functions. Their public names are those of `portknock`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Iterable, Literal, Optional, Union

from portknock import _native
from portknock._values import Address, ProbeResult, Report, Step, diagnostics

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEFAULT_WAIT = 5.0
DEFAULT_TIMEOUT = 3.3


def check(path: Union[str, os.PathLike[str]]) -> Report:
    """Read a configuration and say what is wrong with it, without an exception for errors in it.

    Raises OSError where the file cannot be read. One-time sequences are read too, as by `Config.load`.
    """
    return _report(*_native.check(path))


def check_text(text: Union[str, Buffer], name: str = "<text>") -> Report:
    """The same for a text. `name` is what the report calls it."""
    return _report(*_native.check_text(text, name))


def _report(found: str, text: str, config: Optional[_native.Config]) -> Report:
    parsed = json.loads(found)
    return Report(parsed["file"], diagnostics(parsed["diagnostics"]), config, text)


def knock(
    host: str,
    ports: Union[str, Iterable[Union[int, str, Step]]],
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
) -> Optional[float]:
    """Knock at a host: send one packet to each port, in order.

    host: a name, an IPv4 address, or an IPv6 address with or without a zone ("fe80::1%eth0").
    ports: as in knockd.conf, "7000,8000:udp,9000", also names of services; or several of numbers, such texts and
    `Step`s.
    udp: send all knocks by UDP, whatever `ports` says.
    delay: seconds between one knock and the next. Without a pause packets can overtake each other on their way.
    source: the address of this machine that the knocks come from, a text or an object of `ipaddress`. None: what the
        route says.
    raw: send TCP knocks as bare SYNs through a raw socket, which needs root or CAP_NET_RAW. Else by ordinary
        connections, which need no right and are given up at once.
    family: 4 or 6 for addresses of that IP version alone, 0 for both.
    all_addresses: knock at every address of the host, not only at the first.
    then: a TCP port that should be open after the knocks, 1 to 65535. The call waits until it is. To look whether it is
        open is to knock there, where it is one of `ports`.
    wait: how many seconds that may take after each time of knocking.
    retries: how often to knock again where it does not open in time.

    When it returns, every packet was handed to the network, in order, and the port `then` is open. Returns the seconds
    from the last knock until it was found open; None without `then`.

    Raises KnockError where the host is not found, a knock cannot be sent or the port does not open (see
    `KnockError.state`), and ValueError for a wrong argument. Ctrl-C ends it at once. Other threads run meanwhile.
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
    ).run()


def knock_plan(host: str, ports: Union[str, Iterable[Union[int, str, Step]]], **options: Any) -> _native.KnockPlan:
    return _native.KnockPlan(host, _listed(ports), **options)


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

    host: a name, an IPv4 address, or an IPv6 address with or without a zone ("fe80::1%eth0").
    ports: as nmap has them, "22,80,8000-8100", "-" for all, also names of services; or one number, or several of
        numbers and such texts.
    timeout: how many seconds a port without an answer takes, above 0 and at most a day.
    udp: probe UDP ports. Those that do not answer are "open|filtered".
    method: "syn" probes TCP ports by bare SYNs, which needs root or CAP_NET_RAW; "connect" by ordinary connections,
        which need no right; "auto" by SYNs where that is allowed.
    retries: how often a probe without an answer is repeated, 0 to 255. None: as often as the path's losses ask for.
    rate: at most so many probes in a second. None: what the path carries.
    source: the address of this machine that the probes come from, a text or an object of `ipaddress`. None: what the
        route says.
    family: 4 or 6 for addresses of that IP version alone, 0 for both.
    all_addresses: probe every address of the host, not only the first.

    Returns one result for each address and port: in the order of the addresses, for each by rising ports.

    Raises ProbeError where the host is not found or cannot be probed to the end (see `ProbeError.results`), and
    ValueError for a wrong argument. Ctrl-C ends it at once. Other threads run meanwhile.
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
    """The ports as core reads them."""
    if isinstance(ports, str):
        return ports
    if isinstance(ports, (bytes, bytearray)):
        raise TypeError("ports is a str or several ports, not bytes")
    ports = list(ports)
    for port in ports:
        # A negative number would be read as a range that ends there.
        if isinstance(port, int) and port < 1:
            raise ValueError(f"ports: {port} is not a port: expected a number from 1 to 65535")
        if not isinstance(port, (int, str, Step)):
            raise TypeError(f"ports: {port!r} is not a port")
    if not ports:
        raise ValueError("ports: there is none")
    return ",".join(map(str, ports))
