"""Stores, ways in which their files can be damaged, and trying these one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from random import Random

import mmsb
from mmsb._core.log import HEADER_BYTES
from mmsb.testing.model import picture_of
from tests.rel.children import Verdict, try_each
from tests.rel.programme import Run
from tests.rel.scenarios import ByHand

Contents = dict[str, bytes]
Changes = dict[str, bytes | None]
Judge = Callable[[Changes], Verdict]


# ---- stores


def whole(state):
    """Everything that a reader can see."""
    state.stale_reads = True
    commits = [
        (c.seq, c.time_ns, c.source, c.label, c.intent, [(d.page_id, d.ranges(), d.values) for d in c.deltas])
        for c in state.log()
    ]
    return state.seq, state.first_seq, state.digest(), picture_of(state), commits


class Truth:
    """All that a store has ever held: commits and digests by seq, and what a reader sees of it now."""

    def __init__(self, state, forgotten=None):
        self.now = whole(state)
        self.commits = {**(forgotten.commits if forgotten else {}), **{commit[0]: commit for commit in self.now[4]}}
        self.digests = forgotten.digests.copy() if forgotten else {}
        self.digests.update({seq: state.at(seq).digest() for seq in range(state.first_seq, state.seq + 1)})

    def same(self, state):
        """Whether a reader sees all that is kept. What was forgotten may come back, where what hid it is gone."""
        seen = whole(state)
        if (seen[0], seen[2], seen[3]) != (self.now[0], self.now[2], self.now[3]) or seen[1] > self.now[1]:
            return False
        commits = [self.commits.get(seq) for seq in range(seen[1] + 1, seen[0] + 1)]
        return seen[4] == commits and state.at(state.first_seq).digest() == self.digests[state.first_seq]


def closed(path, kind):
    """Makes a store of that kind, closed in order. Its Truth."""
    forgotten = CLOSED[kind](path)
    with mmsb.open(path, read_only=True) as state:
        return Truth(state, forgotten)


def small(path):
    """One segment, a checkpoint, names, metadata, labels."""
    with mmsb.open(path, segment_bytes=4096) as state:
        state.create_page(100, name="a", metadata={"k": "v"})
        steps(state, 12, 9)
        state.checkpoint()
        state.page("a").write(b"after the checkpoint")


def steps(state, count, size):
    """Commits that write to page a."""
    room = state.page("a").size - size + 1
    for n in range(count):
        with state.batch(label=f"step {n}", source=f"s{n % 3}", intent={"n": n}) as b:
            b.write("a", bytes([n % 255 + 1]) * size, at=n * 7 % room)


def long(path, **how):
    """Several segments, a chain of checkpoints, anchors in between."""
    with mmsb.open(path, segment_bytes=4096, checkpoint_bytes=None, **how) as state:
        state.create_page(300, name="a", metadata={"k": 1})
        for number in range(4):
            steps(state, 25, 30 + number)
            state.sync() if number % 2 else state.checkpoint()


def compacted(path):
    """A history that begins with a base in the middle of a segment."""
    long(path)
    with mmsb.open(path, segment_bytes=4096, checkpoint_bytes=None) as state:
        forgotten = Truth(state)
        state.compact(before=40)
        steps(state, 5, 12)
        state.checkpoint()
    return forgotten


def packed(path):
    """Sealed segments that are compressed."""
    long(path, compress=True)


def linked(path):
    """Links of native types and their waves, and a merge page."""
    from mmsb import links

    with mmsb.open(path, segment_bytes=4096) as state:
        for name in "abc":
            state.create_page(64, name=name)
        state.create_page(16, name="least", merge="min-plus", dtype="int64")
        state.depend("b", on="a", link=links.passthrough())
        state.depend("c", on=["a", "b"], link=links.semiring("plus-times", "int32", [3, -2]))
        steps(state, 8, 9)
        state.page("least").write((7).to_bytes(8, "little") * 2)


CLOSED = {"small": small, "long": long, "compacted": compacted, "packed": packed, "linked": linked}


def crash(path, aside, durability):
    """A store whose process died after commits that nothing calls durable; `aside`: where it lived."""
    state = mmsb.open(aside, segment_bytes=4096, durability=durability)
    state._log.flusher = ByHand()
    state.create_page(100, name="a")
    steps(state, 8, 9)
    state.sync()
    steps(state, 7, 10)
    shutil.copytree(aside, path)
    truth = Truth(state)
    state.close()
    return truth


# ---- damage


@dataclass(frozen=True)
class Damage:
    """`changes(contents)` gives the new bytes of the files that are damaged, None for one that is gone."""

    case: str
    changes: Callable[[Contents], Changes]


def contents_of(path: Path) -> Contents:
    """The bytes of every file of a store, by name. What a lock says is nobody's history."""
    return {
        str(each.relative_to(path)): each.read_bytes()
        for each in sorted(path.rglob("*"))
        if each.is_file() and each.name != "lock"
    }


def bits(contents: Contents, dice: Random, every: int = 1, of_each: int = 8) -> Iterator[Damage]:
    """`of_each` bits of each `every`th byte."""
    for name, data in contents.items():
        for offset in range(dice.randrange(every), len(data), every):
            for bit in range(8) if of_each == 8 else dice.sample(range(8), of_each):

                def flip(files: Contents, name: str = name, offset: int = offset, bit: int = bit) -> Contents:
                    data = bytearray(files[name])
                    data[offset] ^= 1 << bit
                    return {name: bytes(data)}

                yield Damage(f"bit {name}:{offset}:{bit}", flip)


def cuts(contents: Contents, dice: Random, every: int = 1) -> Iterator[Damage]:
    """Each `every`th length that a file can be cut to."""
    for name, data in contents.items():
        for length in range(dice.randrange(every), len(data), every):
            yield Damage(f"cut {name}:{length}", lambda files, name=name, length=length: {name: files[name][:length]})


def overwritten(name: str, offset: int, new: bytes) -> Callable[[Contents], Contents]:
    """Puts bytes where others were."""
    return lambda files: {name: (files[name][:offset] + new + files[name][offset + len(new) :])[: len(files[name])]}


def blocks(contents: Contents, dice: Random, copies: int = 4) -> Iterator[Damage]:
    """Sectors of zeros, runs of 0xFF, blocks of 64 bytes that stand where another one was, and twice."""
    for name, data in contents.items():
        for offset in range(0, len(data), 512):
            yield Damage(f"zeros {name}:{offset}", overwritten(name, offset, bytes(512)))
        for offset in range(0, len(data), 64):
            for count in (1, 8, 64, 512):
                yield Damage(f"ones {name}:{offset}:{count}", overwritten(name, offset, b"\xff" * count))
            block = data[offset : offset + 64]
            for to in dice.sample(range(0, len(data), 8), min(copies, len(data) // 8)):
                yield Damage(f"copy {name}:{offset}:{to}", overwritten(name, to, block))
            yield Damage(
                f"twice {name}:{offset}",
                lambda files, name=name, offset=offset, block=block: {
                    name: (files[name][:offset] + block + files[name][offset:])[: len(files[name])]
                },
            )


def files(contents: Contents, dice: Random) -> Iterator[Damage]:
    """Files that are gone, empty, filled with noise, or stand where another one was."""
    for name, data in contents.items():
        yield Damage(f"gone {name}", lambda files, name=name: {name: None})
        yield Damage(f"empty {name}", lambda files, name=name: {name: b""})
        noise = dice.randbytes(len(data))
        yield Damage(f"noise {name}", lambda files, name=name, noise=noise: {name: noise})
    for one, two in combinations(contents, 2):
        yield Damage(f"swap {one}:{two}", lambda files, one=one, two=two: {one: files[two], two: files[one]})
        yield Damage(f"over {one}:{two}", lambda files, one=one, two=two: {two: files[one]})


def frames(contents: Contents, dice: Random) -> Iterator[Damage]:
    """Whole frames that are gone, there twice, or in another order, so that all that is left is intact."""
    for name, data in contents.items():
        if not name.endswith(".seg"):
            continue
        places, at = [], HEADER_BYTES
        while units := int.from_bytes(data[at : at + 4], "little"):
            places.append((at, at := at + 8 + units * 8))
        for place, (begin, end) in enumerate(places):
            after = places[place + 1][1] if place + 1 < len(places) else end
            for how, new in (
                ("gone", data[end:]),
                ("twice", data[begin:end] + data[begin:]),
                ("swapped", data[end:after] + data[begin:end] + data[after:]),
            ):
                whole = (data[:begin] + new)[: len(data)].ljust(len(data), b"\0")
                yield Damage(f"frame {how} {name}:{begin}", lambda files, name=name, whole=whole: {name: whole})


ALL = (bits, cuts, blocks, files, frames)


def some(contents: Contents, dice: Random, count: int) -> list[Damage]:
    """`count` of each way."""
    found = []
    for way in ALL:
        made = list(way(contents, dice))
        found += dice.sample(made, min(count, len(made)))
    return found


# ---- trying


def put(path: Path, changes: Changes) -> None:
    """Writes these contents; None takes a file away."""
    for name, data in changes.items():
        if data is None:
            (path / name).unlink()
        else:
            (path / name).write_bytes(data)


def attempt(run: Run, name: str, path: Path, damages: list[Damage], judge: Judge) -> None:
    """Damages the store at `path` in each way, one after the other, and has it judged. `name`: of the store."""
    contents = contents_of(path)

    def one(damage: Damage) -> Verdict:
        changes = damage.changes(contents)
        put(path, changes)
        try:
            return judge(changes)
        finally:
            put(path, {name: contents[name] for name in changes})

    cases = [(f"{name} {damage.case}", partial(one, damage)) for damage in damages]
    try_each(run, cases, after_death=lambda: put(path, contents))
