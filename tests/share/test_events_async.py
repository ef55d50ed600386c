"""Events of another process on asyncio loops: waking, cancelling, closing, and one thread for all of it."""

import asyncio
import gc
import random
import threading
import time

import pytest

import mmsb
from tests.share import common
from tests.share.common import fds

SERVED = "told", {"a": 8, "b": 8}


def run(main, seconds=30):
    return asyncio.run(asyncio.wait_for(main, seconds))


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


async def first_of(told):
    return await anext(told)


def test_many_subscribers_and_one_thread(served, view):
    heard = {number: [] for number in range(20)}

    async def listen(number):
        wish = [{}, {"pages": "a"}, {"pages": "b"}, {"source": "me"}][number % 4]
        async for event in view.subscribe("page_changed", **wish):
            heard[number].append(event.seq)
            if event.seq == last:
                return

    async def main():
        tasks = [asyncio.create_task(listen(number)) for number in range(20)]
        await asyncio.sleep(0.01)
        threads = {thread.name for thread in set(threading.enumerate()) - before}
        for n in range(100):
            served.page("ab"[n % 2]).write(bytes([n + 1]), source=("me", None, None)[n % 3])
            if n % 10 == 0:
                await asyncio.sleep(0.002)
        with served.batch(source="me") as batch:
            batch.write("a", b"end")
            batch.write("b", b"end")
        await asyncio.gather(*tasks)
        return threads

    last, before = served.seq + 101, set(threading.enumerate())
    assert run(main()) == {"mmsb waker"}
    [waker] = [thread for thread in set(threading.enumerate()) - before if thread.name == "mmsb waker"]
    everything = list(range(3, last + 1))
    assert heard[0] == heard[4] == sorted([*everything, last])[:-1]
    assert heard[1] == [*everything[:-1:2], last] and heard[2] == [*everything[1:-1:2], last]
    assert heard[3] == [*everything[:-1:3], last]
    view.close()
    assert not waker.is_alive()


def test_no_wake_up_is_lost(served, view, monkeypatch):
    """Commits come at any instant of going to sleep, each once the last was heard. Nobody looks up in time."""
    for module in ("waiting", "following"):
        monkeypatch.setattr(f"mmsb.{module}.SLICE_SECONDS", 60.0)
    dice = random.Random(5)
    rounds = 2000
    heard = threading.Event()
    lost = []

    def write():
        for n in range(rounds):
            heard.clear()
            served.page("a").write((n + 1).to_bytes(8, "little"))
            if not heard.wait(20):
                lost.append(n)
            for _ in range(dice.randrange(200)):
                pass

    async def main():
        told, other = view.subscribe("page_changed"), view.follow()
        thread = threading.Thread(target=write)
        thread.start()
        for n in range(rounds):
            event = await anext(told)
            commit = await anext(other)
            assert event.seq == commit.seq == n + 3
            heard.set()
        await asyncio.to_thread(thread.join)

    run(main(), 120)
    assert lost == []


def test_cancelling(served, view):
    async def listen(told, heard):
        async for event in told:
            heard.append(event.seq)

    async def main():
        await asyncio.sleep(0)
        before = fds()
        heard = []
        told = view.subscribe("page_changed")
        for n in range(20):
            task = asyncio.create_task(listen(told, heard))
            await asyncio.sleep(0.001)
            served.page("a").write(bytes([n + 1]))
            if n % 2:
                await until(lambda: heard and heard[-1] == served.seq)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await listen(told, heard)
        assert heard == list(range(3, 23)), "nothing is lost between two tasks"
        await until(lambda: fds() <= before)

    run(main())


def test_timeout_and_closing(served, view):
    async def collect(told):
        return [event async for event in told]

    async def main():
        begun = time.monotonic()
        assert await collect(view.subscribe("page_changed", timeout=0.05)) == []
        assert [commit.seq async for commit in view.follow(since=1, timeout=0.01)] == [1, 2]
        assert 0.05 < time.monotonic() - begun < 10
        one, two, three = (view.subscribe("page_changed") for _ in range(3))
        tasks = [asyncio.create_task(collect(told)) for told in (one, two, three)]
        await asyncio.sleep(0.02)
        begun = time.monotonic()
        one.close()
        assert await tasks[0] == [] and one.closed
        await asyncio.to_thread(two.close)
        assert await tasks[1] == []
        assert not tasks[2].done()
        view.close()
        assert await tasks[2] == [] and time.monotonic() - begun < 10
        with pytest.raises(StopAsyncIteration):
            await anext(three)

    run(main())


def test_a_loop_that_is_closed_in_the_middle(served, view):
    told = view.subscribe("page_changed")
    before = fds()
    loop = asyncio.new_event_loop()
    task = loop.create_task(first_of(told))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    task._log_destroy_pending = False
    del task, loop
    gc.collect()
    served.page("a").write(b"x")
    common.until(lambda: fds() <= before)
    assert run(first_of(told)).seq == served.seq


def test_two_loops(served, view):
    """Each with its own subscriptions, in threads of their own."""
    heard = [[], []]

    async def listen(number):
        async for event in view.subscribe("page_changed", since=3):
            heard[number].append(event.seq)
            if event.seq == 52:
                return

    threads = [threading.Thread(target=run, args=(listen(number),)) for number in range(2)]
    for thread in threads:
        thread.start()
    for n in range(50):
        served.page("a").write(bytes([n + 1]))
        time.sleep(0.001)
    for thread in threads:
        thread.join(20)
    assert heard == [list(range(3, 53))] * 2


def test_others_get_their_turn_while_it_never_waits(served, view):
    for n in range(1000):
        served.page("a").write((n + 1).to_bytes(8, "little"))

    async def main():
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(count())
        heard = [event.seq async for event in view.subscribe("page_changed", since=1, timeout=0)]
        task.cancel()
        assert heard == list(range(3, 1003)) and turns > 10

    run(main())


def test_a_slow_handler_keeps_no_task_waiting(served, view):
    entered, leave = threading.Event(), threading.Event()

    def slow(event):
        entered.set()
        assert leave.wait(20)

    async def main():
        view.subscribe("page_changed", slow)
        told = view.subscribe("page_changed")
        served.page("a").write(b"x")
        await asyncio.to_thread(entered.wait, 20)
        assert (await anext(told)).seq == 3
        task = asyncio.create_task(first_of(told))
        await asyncio.sleep(0.01)
        served.page("a").write(b"y")
        begun = time.monotonic()
        assert (await task).seq == 4 and time.monotonic() - begun < 10
        view.close()
        leave.set()

    run(main())


def test_fork_while_a_task_waits(process):
    """The child leaves the loop, which it shares with its parent, as it is."""
    with mmsb.open(name="told") as state:
        state.create_page(8, name="a")
        state.serve()
        client = process("""
            import asyncio
            view = mmsb.attach("told")
            async def main():
                told = view.subscribe("page_changed")
                task = asyncio.ensure_future(told.__anext__())
                await asyncio.sleep(0.05)
                pid = os.fork()
                if pid == 0:
                    task.get_coro().close()
                    os._exit(0)
                tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                begun = time.monotonic()
                tell((await asyncio.wait_for(task, 20)).seq)
            asyncio.run(main())
        """)
        assert client.hear() == 0
        time.sleep(0.05)
        begun = time.monotonic()
        state.page("a").write(b"x")
        assert client.hear() == 2 and time.monotonic() - begun < 10
