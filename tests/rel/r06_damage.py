"""R6: damage in a small, cleanly closed store. Every flipped bit is found, or changes nothing that a reader can see."""

from __future__ import annotations

import mmsb
from mmsb.testing.model import picture_of
from tests.rel.programme import Measure, Part, Run


def small_store(path):
    """A store with every kind of file: segments, a checkpoint, names, metadata. What `whole` gives of it."""
    with mmsb.open(path, segment_bytes=4096) as state:
        state.create_page(100, name="a", metadata={"k": "v"})
        for n in range(12):
            with state.batch(label=f"step {n}", source="s", intent={"n": n}) as b:
                b.write("a", bytes([n + 1]) * 9, at=n * 7)
        state.checkpoint()
        state.page("a").write(b"after the checkpoint")
        return whole(state)


def whole(state):
    """Everything that a reader can see."""
    commits = [
        (c.seq, c.time_ns, c.source, c.label, c.intent, [(d.page_id, d.ranges(), d.values) for d in c.deltas])
        for c in state.log()
    ]
    return state.seq, state.digest(), picture_of(state), commits


def outcome(path, before):
    """What a reader of the damaged store sees: "found", "harmless", or how it is deceived."""
    try:
        with mmsb.open(path, read_only=True) as state:
            if state.verify().findings:
                return "found"
            seen = whole(state)
    except (mmsb.MMSBError, OSError):
        return "found"
    if seen == before:
        return "harmless"
    return "a silent prefix" if seen[3] == before[3][: len(seen[3])] else "a wrong state"


def flipped_bits(run: Run) -> None:
    """Each bit of each file in full; one bit of each fifth byte in quick."""
    before = small_store(run.work / "s")
    dice, counts = run.dice("bits"), {"found": 0, "harmless": 0}
    files = sorted(path for path in (run.work / "s").rglob("*") if path.is_file())
    total, done = sum(path.stat().st_size for path in files), 0
    for path in files:
        data = bytearray(path.read_bytes())
        for offset in range(0, len(data), run.amount(5, 1)):
            run.progress(done + offset, total)
            for bit in range(8) if run.size == "full" else [dice.randrange(8)]:
                case = f"{path.name}:{offset}:{bit}"
                if not run.wants(case):
                    continue
                data[offset] ^= 1 << bit
                path.write_bytes(data)
                seen = outcome(run.work / "s", before)
                data[offset] ^= 1 << bit
                run.tally.injected += 1
                if seen in counts:
                    counts[seen] += 1
                else:
                    run.fail("wrong", case, f"bit {bit} of byte {offset} of {path.name}: {seen}")
        path.write_bytes(data)
        done += len(data)
    run.tally.figures = counts


MEASURE = Measure(
    "R6",
    "damage in a closed store",
    (Part("bits", flipped_bits, at_least=(600, 40_000)),),
)
