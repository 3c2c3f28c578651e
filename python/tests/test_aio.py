import asyncio
import socket
import time

import portknock
import pytest
from portknock import Close, Config, KnockError, Open, Stage, aio
from support import DOOR, WAIT_TIMEOUT, closed_port, descriptors, silent_port, threads

pytestmark = pytest.mark.usefixtures("sandbox")

KNOCKS = "7000:udp,8000:udp"
QUICK = Config.parse(DOOR.replace("cmd_timeout   = 10", "cmd_timeout = 1"))


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = descriptors(), threads()
    yield
    assert (descriptors(), threads()) == before


def run(task):
    return asyncio.run(asyncio.wait_for(task, WAIT_TIMEOUT))


def test_events_arrive_without_a_thread():
    async def main():
        seen = []
        async with aio.listen(QUICK, interface="lo") as listener:
            await aio.knock("127.0.0.1", KNOCKS)
            alone = threads()
            async for event in listener:
                seen.append(event)
                if isinstance(event, Close):
                    break
            assert threads() == alone
        return seen

    assert [type(event) for event in run(main())] == [Stage, Stage, Open, Close]


def test_leaving_the_loop_closes_the_listener():
    async def main():
        before = descriptors()
        await aio.knock("127.0.0.1", "9:udp")
        async for event in aio.listen(QUICK, "lo", on_notice=Knocker()):
            assert isinstance(event, Stage)
            break
        assert descriptors() == before

    run(main())


class Knocker:
    """Knocks when the listener has started."""

    def __call__(self, line):
        if line.startswith("starting up"):
            portknock.knock("127.0.0.1", "7000:udp")


def test_a_waiting_loop_can_be_cancelled():
    async def main():
        before = descriptors()
        listener = aio.listen(QUICK, "lo")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(listener.__anext__(), 0.05)
        await aio.knock("127.0.0.1", "7000:udp")
        assert isinstance(await listener.__anext__(), Stage)
        await listener.aclose()
        await listener.aclose()
        with pytest.raises(StopAsyncIteration):
            await listener.__anext__()
        assert descriptors() == before

    run(main())


def test_closing_and_stopping_end_a_waiting_loop():
    async def events(listener):
        return [event async for event in listener]

    async def main():
        listener = aio.listen(QUICK, "lo")
        task = asyncio.ensure_future(events(listener))
        await asyncio.sleep(0.05)
        with pytest.raises(RuntimeError, match="another task"):
            await listener.__anext__()
        await listener.aclose()
        assert await task == []
        listener = aio.listen(QUICK, "lo")
        task = asyncio.ensure_future(events(listener))
        await asyncio.sleep(0.05)
        listener.reload(Config.parse(DOOR))
        listener.stop()
        assert await task == []
        await listener.aclose()

    run(main())


def test_knock_and_probe_are_the_same_awaited():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, closed = server.getsockname()[1], closed_port()

        async def main():
            results, after, nothing = await asyncio.gather(
                aio.probe("127.0.0.1", [port, closed], method="connect"),
                aio.knock("localhost", [port], udp=True, then=port, family=4),
                aio.knock("127.0.0.1", "9:udp"),
            )
            assert {(result.port, result.state) for result in results} == {(port, "open"), (closed, "closed")}
            assert after >= 0 and nothing is None
            with pytest.raises(KnockError, match="did not open"):
                await aio.knock("127.0.0.1", "9:udp", then=closed, wait=0)
            with pytest.raises(portknock.ProbeError, match="cannot find"):
                await aio.probe("no host", 9)
            with pytest.raises(ValueError, match="delay"):
                await aio.knock("127.0.0.1", "9:udp", delay=-1)

        run(main())


def slow(silent):
    return {
        "delay": lambda: aio.knock("127.0.0.1", "9:udp,9:udp", delay=3600),
        "then": lambda: aio.knock("127.0.0.1", "9:udp", then=closed_port(), wait=3600),
        "probe": lambda: aio.probe("127.0.0.1", silent, udp=True, timeout=3600),
    }


@pytest.mark.parametrize("what", ["delay", "then", "probe"])
def test_a_cancelled_task_leaves_nothing(what):
    bound, silent = silent_port()
    with bound:

        async def main():
            before = descriptors(), threads()
            start = time.monotonic()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(slow(silent)[what](), 0.1)
            task = asyncio.ensure_future(slow(silent)[what]())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (descriptors(), threads()) == before
            return time.monotonic() - start

        # An interval of an hour would be wrong.
        assert run(main()) < WAIT_TIMEOUT


def test_the_loop_continues_meanwhile():
    bound, silent = silent_port()
    with bound:

        async def main():
            ticks = 0
            task = asyncio.ensure_future(aio.probe("127.0.0.1", silent, udp=True, timeout=0.3))
            while not task.done():
                ticks += 1
                await asyncio.sleep(0)
            [result] = await task
            return ticks, result.state

        ticks, state = run(main())
    assert ticks > 100 and state == "open|filtered"
