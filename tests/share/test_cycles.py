"""Clients that come and go ten thousand times, and threads that share one view: nothing is left, on either side."""

import os
import threading

import pytest

import mmsb
from tests.share.common import until

OWNER = """
state = mmsb.open(name="cycles")
state.create_page(4096, name="a")
state.create_page(8, name="total", merge="plus-times", dtype="int64")
state.serve()
tell("ready")
for line in sys.stdin:
    while state.stats()["sharing"]["clients"]:
        time.sleep(0.001)
    tell(state.seq, len(state._server.commands.slots), len(state._server.failures), state.stats()["sharing"]["drops"])
"""

CLIENT = """
import gc
one = (1).to_bytes(8, "little")
for line in sys.stdin:
    for n in range(int(line)):
        with mmsb.attach("cycles", ring_bytes=4096) as view:
            assert view.page("a")[0:1] == b"\\0"
            done = view.page("total").write(one)
            assert view.wait(done.seq) and next(view.follow(since=done.seq)).seq == done.seq == view.snapshot().seq
    gc.collect()
    tell("done")
"""


def facts(pid):
    """What a process holds: descriptors, memory maps, threads; and bytes resident."""
    with open(f"/proc/{pid}/statm") as statm, open(f"/proc/{pid}/maps") as maps:
        resident, mapped = int(statm.read().split()[1]) * 4096, sum(1 for _ in maps)
    return {"fds": len(os.listdir(f"/proc/{pid}/fd")), "maps": mapped, "threads": threads(pid)}, resident


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.parametrize("times", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_cycles_leave_nothing(process, times):
    """Each attaches, reads, changes, follows and detaches."""
    owner = process(OWNER)
    assert owner.hear() == "ready"
    client = process(CLIENT)

    def cycle(count):
        client.say(str(count))
        assert client.hear() == "done"
        owner.say()
        return owner.hear(), [facts(one.pid) for one in (owner, client)]

    _, before = cycle(100)
    (seq, slots, failures, drops), _ = cycle(times)
    assert (seq, slots, failures, drops) == (2 + 100 + times, 0, 0, 0)
    for one, (most, resident_before), grows in zip((owner, client), before, (1, 0), strict=True):
        # The socket of a client that is no longer counted is closed a little later.
        until(lambda one=one, most=most: all(facts(one.pid)[0][what] <= most[what] for what in ("fds", "threads")))
        held, resident = facts(one.pid)
        # Memory of the allocator comes in a few maps more or less.
        assert held["maps"] <= most["maps"] + 8
        # The owner keeps the history: less than 200 bytes for such a commit.
        assert resident - resident_before < (4 << 20) + grows * times * 200


def test_threads_share_one_view():
    """They read, change, follow and look for names at once, and each is acknowledged what it did."""
    rounds, everyone = 150, 4
    with mmsb.open(name="threads", segment_bytes=4096) as state:
        state.create_page(1024, name="whole")
        state.create_page(8 * everyone, name="numbers")
        state.serve()
        with mmsb.attach("threads") as view:
            failures = []

            def work(me):
                last = 0
                for n in range(1, rounds + 1):
                    if n % 3:
                        done = view.page("numbers").write(n.to_bytes(8, "little"), me * 8)
                    else:
                        with view.batch() as done:
                            done.write("numbers", n.to_bytes(8, "little"), me * 8)
                            done.write("whole", bytes([me * 60 + n % 60]) * 1024)
                    assert done.seq > last and view.seq >= done.seq
                    last = done.seq
                    snapshot = view.snapshot(["numbers", "whole"])
                    whole, numbers = snapshot[view.page("whole")], snapshot[view.page("numbers")]
                    assert whole == whole[:1] * 1024, "torn"
                    assert numbers[me * 8 : me * 8 + 8] == n.to_bytes(8, "little"), "what is acknowledged is seen"
                    if n % 30 == 0:
                        assert view.create_page(8, name=f"{me}-{n}") == view.page(f"{me}-{n}")
                        assert next(view.follow(since=done.seq)).seq == done.seq

            def run(me):
                try:
                    work(me)
                except BaseException as error:
                    failures.append(error)

            workers = [threading.Thread(target=run, args=(me,)) for me in range(everyone)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(60)
            assert not failures and not any(worker.is_alive() for worker in workers)
            assert state.page("numbers").read() == rounds.to_bytes(8, "little") * everyone
            assert view.seq == state.seq == 2 + everyone * (rounds + rounds // 30)
            assert [commit.seq for commit in view.log()] == list(range(1, state.seq + 1))
