"""R20: each limit of tests/rel/limits.py below it, at it and beyond it: it works, it works, and it is refused by the
error of the table, which names the limit, with nothing changed.
"""

from __future__ import annotations

import os

import mmsb
from mmsb.testing.model import picture_of
from tests.rel.limits import LIMITS, PAGE_BYTES, Limit
from tests.rel.programme import Measure, Part, Run


def trial(limit: Limit, n: int) -> str:
    """How trying n of it is not as documented; empty when it is."""
    with mmsb.open(name="limits") as state:
        page = state.create_page(PAGE_BYTES, name="a")
        before = picture_of(state)
        try:
            limit.attempt(state, n)
        except limit.error as error:
            if limit.allows(n):
                return f"refused: {type(error).__name__}: {error}"
            if n > limit.most and limit.told and not {str(limit.most), f"{limit.most:,}"} & set(words(str(error))):
                return f"the error does not name the limit: {error}"
            if picture_of(state) != before:
                return "something changed although it was refused"
            page.write(b"goes on")
            return "" if page[0:7] == b"goes on" and not state.verify().findings else "it does not go on"
        return "" if limit.allows(n) else "it is beyond the limit and was allowed"


def words(text: str) -> list[str]:
    """The words of a message, without what punctuation is around them."""
    return [word.strip("().,;:") for word in text.split()]


def boundaries(run: Run) -> None:
    """Every limit, each value."""
    os.environ["XDG_RUNTIME_DIR"] = str(run.work)
    for place, limit in enumerate(LIMITS):
        run.progress(place, len(LIMITS))
        for n in limit.tries():
            case = f"{limit.what}: {n}"
            if not run.wants(case):
                continue
            run.tally.injected += 1
            try:
                wrong = trial(limit, n)
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            if wrong:
                run.fail("wrong", case, f"{n} of {limit.what}: {wrong}")
    run.tally.figures = {"limits": len(LIMITS)}


def moments(run: Run) -> None:
    """The bounds that history and memory set: the oldest commit kept, the newest there is, the last byte that fits."""
    with mmsb.open(history=1 << 16, segment_bytes=4096) as state:
        page = state.create_page(64, name="a")
        while state.first_seq < 100:
            page.write(os.urandom(64))
        first, last = state.first_seq, state.seq
        for seq in (0, first - 1, first, first + 1, last - 1, last, last + 1):
            expected = mmsb.RetentionError if seq < first else mmsb.UnknownMomentError if seq > last else None
            expect(run, f"seq {seq - first}", lambda seq=seq: state.at(seq).page("a").read(), expected, str(first))
    with mmsb.open() as state:
        state.create_page(64)
        held = state.stats()["arena"]["bytes_held"]
    for least in (held - 1, held, held + 1):
        expected = mmsb.ArenaFullError if least < held else None
        with mmsb.open(max_bytes=least) as state:
            expect(run, f"max_bytes {least - held}", lambda: state.create_page(64), expected, str(least))
            if (state.seq, len(state.pages())) != ((0, 0) if expected else (1, 1)):
                run.fail("wrong", f"max_bytes {least - held}", "something changed although it was refused")
    with mmsb.open() as state:
        page = state.create_page(PAGE_BYTES)
        for at in (PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1, 1 << 62, 1 << 64):
            expected = mmsb.PageRangeError if at >= PAGE_BYTES else None
            expect(run, f"write at {at}", lambda at=at: page.write(b"x", at=at), expected, "1")
            expect(run, f"read at {at}", lambda at=at: page.read(at, 1), expected, "1")


def expect(run: Run, case: str, call, expected: type[Exception] | None, names: str) -> None:
    """Counts one call, and what is wrong with how it ended."""
    if not run.wants(case):
        return
    run.tally.injected += 1
    error: Exception | None = None
    try:
        call()
    except Exception as raised:
        error = raised
    if type(error) is not (expected or type(None)) or (error is not None and names not in str(error)):
        run.fail("wrong", case, f"{case}: {type(error).__name__} {error}")


def depths(run: Run) -> None:
    """What has no limit but memory: a chain of pages, a fan, a batch, the ranges of one delta."""
    count = run.amount(2_000, 100_000)
    link = mmsb.links.passthrough()
    with mmsb.open() as state:
        pages = list(state.create_pages(count, 8))
        with state.batch() as batch:
            for parent, child in zip(pages, pages[1:], strict=False):
                batch.depend(child, on=[parent], link=link)
        state.page(pages[0]).write(b"through!")
        expect(run, "chain", lambda: check(state.page(pages[-1]).read() == b"through!"), None, "")
    with mmsb.open() as state:
        root, *fan = state.create_pages(count // 10, 8)
        with state.batch() as batch:
            for child in fan:
                batch.depend(child, on=[root], link=link)
        state.page(root).write(b"spreads!")
        expect(run, "fan", lambda: check(all(state.page(one).read() == b"spreads!" for one in fan)), None, "")
    with mmsb.open() as state:
        page = state.create_page(2 * count)
        ranges = [(2 * n, 1) for n in range(count)]
        state.apply(mmsb.Delta.from_ranges(page.page_id, ranges, b"x" * count))
        expect(run, "ranges", lambda: check(page.read() == b"x\0" * count), None, "")
        with state.batch() as batch:
            for at in range(count):
                batch.write(page, b"y", at=2 * at)
        expect(run, "batch", lambda: check(page.read() == b"y\0" * count and page.epoch == 1 + count), None, "")
        expect(run, "verify", lambda: check(not state.verify().findings), None, "")


def check(condition: bool) -> None:
    """AssertionError unless it holds."""
    assert condition


MEASURE = Measure(
    "R20",
    "limits",
    (
        Part("boundaries", boundaries, at_least=(110, 110)),
        Part("moments", moments, at_least=(20, 20)),
        Part("depths", depths, at_least=(5, 5)),
    ),
    files=("tests/rel/limits.py",),
)
