"""Threads take turns: what one has looked at holds until it has done what it wanted, and nobody waits for himself."""

import sys
import threading
import time

import pytest

import mmsb

LARGE = 1 << 18  # a write of so many bytes lets other threads run


def test_nobody_commits_between_the_check_of_a_batch_and_its_commit(monkeypatch):
    with mmsb.open() as state:
        large, small = state.create_page(LARGE), state.create_page(8)
        waited = []

        def check(*_):
            thread = threading.Thread(target=large.write, args=(b"x" * LARGE,))
            thread.start()
            thread.join(0.2)
            waited.append((thread, thread.is_alive()))

        batch = state.batch()
        batch.resize(small, 16)
        monkeypatch.setattr(mmsb.State, "_check_resize", check)
        batch.commit()
        ((thread, was_waiting),) = waited
        thread.join()
        assert was_waiting and state.seq == 4 and not state.verify().findings


def test_new_sources_of_several_threads():
    """A source gets its number in the commit that takes it, and gives it back when there is none."""
    with mmsb.open() as state:
        pages = [state.create_page(LARGE if number % 2 else 8) for number in range(4)]
        said = {}

        def write(page):
            for number in range(200):
                source = f"{page.page_id} {number}"
                delta = page.write(bytes([number // 2]) * page.size, source=source)
                if delta is not None:
                    said[delta.seq] = source
                with pytest.raises(mmsb.PageRangeError):
                    page.write(b"x", page.size, source=source + " refused")

        threads = [threading.Thread(target=write, args=(page,)) for page in pages]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for thread in threads:
                thread.start()
        finally:
            for thread in threads:
                thread.join()
            sys.setswitchinterval(interval)
        assert {commit.seq: commit.source for commit in state.log(since=5)} == said and len(said) == 4 * 99
        assert not state.verify().findings


def test_resizing_beside_large_writes():
    with mmsb.open() as state:
        large, small = state.create_page(LARGE), state.create_page(8)
        done = threading.Event()

        def write():
            number = 0
            while not done.is_set():
                number += 1
                large.write(bytes([number & 255]) * LARGE)

        threads = [threading.Thread(target=write) for _ in range(2)]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for thread in threads:
                thread.start()
            for number in range(2000):
                small.resize(8 + number % 50)
        finally:
            sys.setswitchinterval(interval)
            done.set()
            for thread in threads:
                thread.join()
        assert state._check() is None and not state.verify().findings


def write_until_closed(page, size, told):
    number = 0
    try:
        while True:
            number += 1
            page.write(bytes([number & 255]) * size)
    except mmsb.MMSBError as error:
        told.append(error)


@pytest.mark.parametrize(("durability", "size"), [("power", 8), ("process", LARGE)])
def test_who_waits_for_its_turn_does_not_commit_after_close(tmp_path, durability, size):
    for attempt in range(6):
        state, told = mmsb.open(tmp_path / str(attempt), durability=durability), []
        pages = [state.create_page(LARGE) for _ in range(4)]
        threads = [threading.Thread(target=write_until_closed, args=(page, size, told)) for page in pages]
        for thread in threads:
            thread.start()
        time.sleep(0.01)
        state.close()
        for thread in threads:
            thread.join()
        assert [type(error) for error in told] == [mmsb.StateClosedError] * 4


def test_a_stale_page_is_computed_by_who_had_to_wait():
    """The wave keeps others out, and so does the reader that sets it off: once more, in the same thread."""
    with mmsb.open(policy="lazy") as state:
        parent, child = state.create_page(8), state.create_page(8)
        state.depend(child, on=parent, link=mmsb.links.passthrough())
        child.read()
        parent.write(b"changed!")
        inside, read = threading.Event(), []

        def keep_out():
            with state._exclusive():
                inside.set()
                time.sleep(0.2)

        holder = threading.Thread(target=keep_out)
        reader = threading.Thread(target=lambda: read.append(child.read()), daemon=True)
        holder.start()
        inside.wait()
        reader.start()
        reader.join(10)
        assert read == [b"changed!"]
        holder.join()
