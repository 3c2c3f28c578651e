"""portknock for asyncio: coroutines for the functions and the listener of `portknock`.

They need no separate runtime. `listen` waits by the `add_reader` of the event loop, without a
thread. `knock` and `probe` each work on one thread, which wakes the loop when it ends. The loop
must have `add_reader`, as all loops on Linux do.
"""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Any, Callable, Iterable, Literal, Optional, Union

from portknock import AnyEvent, Config, Key, Listener, ProbeResult, Step, _native
from portknock._client import DEFAULT_TIMEOUT, DEFAULT_WAIT, knock_plan, probe_plan
from portknock._values import Address

__all__ = ["AsyncListener", "knock", "listen", "probe"]


async def knock(
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
    """Knock at a host, as `portknock.knock` does.

    If the task is cancelled, no further knock is sent, and the thread ends before the task. The
    exception is a thread that waits for the name service, which cannot be stopped: it sends nothing
    any more.
    """
    plan = knock_plan(
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
    )
    after: Optional[float] = await _end_of(plan.start())
    return after


async def probe(
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
    """Probe a host, as `portknock.probe` does.

    If the task is cancelled, no further probe is sent, and the thread ends before the task. The
    exception is a thread that waits for the name service, which cannot be stopped: it sends nothing
    any more.
    """
    plan = probe_plan(
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
    )
    results: list[ProbeResult] = await _end_of(plan.start())
    return results


def listen(
    config: Config,
    interface: Union[None, str, Iterable[str]] = None,
    *,
    run_commands: bool = False,
    ipv4_only: bool = False,
    on_notice: Optional[Callable[[str], object]] = None,
) -> AsyncListener:
    """Start to listen, as `portknock.Listener` does; return the events for `async for`.

        async for event in portknock.aio.listen(config, interface="eth0"):
            ...

    Leaving the loop closes the listener, unless another reference to it exists. To be certain, use
    it by `async with`.
    """
    return AsyncListener(
        Listener(config, interface, run_commands=run_commands, ipv4_only=ipv4_only, on_notice=on_notice)
    )


class AsyncListener:
    """The events of a `Listener`, for one task at a time.

    It belongs to the event loop in which it is first awaited.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._waiting: Optional[asyncio.Future[None]] = None
        self._closed = False

    def __aiter__(self) -> AsyncListener:
        return self

    async def __anext__(self) -> AnyEvent:
        """Return the next event. The iteration ends when the listener is closed, or has stopped
        after `stop`.

        Raises RuntimeError if another task already waits for the listener.
        """
        if self._waiting is not None:
            raise RuntimeError("another task already waits for this listener")
        # A flood of knocks must not keep the loop from its other tasks.
        await asyncio.sleep(0)
        while not self._closed:
            event = self._listener.next(0)
            if event is not None:
                return event
            # `on_notice` may have closed the listener.
            if self._closed or self._listener.stopped:
                break
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await _readable(self._listener.fileno(), self._waiting)
            finally:
                self._waiting = None
        raise StopAsyncIteration

    def reload(self, config: Config) -> None:
        """Replace the configuration, as `Listener.reload` does."""
        self._listener.reload(config)

    def stop(self) -> None:
        """Start to stop, as `Listener.stop` does. Continue to take events until the iteration
        ends.
        """
        self._listener.stop()

    async def aclose(self) -> None:
        """Close the listener, as `Listener.close` does. The iteration of a task that waits for it
        ends.
        """
        self._closed = True
        while self._waiting is not None:
            # The loop must stop watching the descriptor before it is closed.
            if not self._waiting.done():
                self._waiting.set_result(None)
            await asyncio.sleep(0)
        self._listener.close()

    async def __aenter__(self) -> AsyncListener:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.aclose()


async def _readable(descriptor: int, came: asyncio.Future[None]) -> None:
    """Wait until the descriptor is readable, or until `came` is done for another reason."""
    loop = asyncio.get_running_loop()

    def finish() -> None:
        if not came.done():
            came.set_result(None)

    loop.add_reader(descriptor, finish)
    try:
        await came
    finally:
        loop.remove_reader(descriptor)


async def _end_of(job: _native.Job) -> Any:
    """Return the result of a job. If the task is cancelled, the job ends before the task."""
    loop = asyncio.get_running_loop()
    try:
        await _readable(job.fileno(), loop.create_future())
    except BaseException:
        if job.cancel():
            # The thread ends within a tenth of a second.
            await _readable(job.fileno(), loop.create_future())
            job.join()
        raise
    else:
        return job.result()
    finally:
        # An exception refers to this frame, which refers to the job with its descriptor.
        del job
