"""R15: tampering by somebody who knows the formats. What docs/understand/durability.md promises is found, always; what
it does not promise is tried as well, and counted as such.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import mmsb
from tests.rel.children import Case, Verdict, try_each
from tests.rel.forger import ANCHOR, COMMIT, Segment
from tests.rel.programme import Measure, Part, Run

KEY = bytes(range(32))
COMMITS = 40


def make(path, value: int, **how) -> bytes:
    """A closed store of one segment: COMMITS commits of two sources, an anchor after each ten. Its newest anchor."""
    with mmsb.open(path, segment_bytes=1 << 16, **how) as state:
        state.create_page(500, name="a")
        for n in range(COMMITS - 1):
            with state.batch(source=f"s{n % 2}", label=f"step {n}") as batch:
                batch.write("a", bytes([value + n]) * 20, at=n * 9)
            if n % 10 == 9:
                state.sync()
        state.sync()
        return state.anchor


# ---- what is done to it: (segment, place of a commit, another store's segment)


def edit(segment: Segment, place: int, other: Segment) -> None:
    """Other bytes in one commit."""
    record = segment.records[place]
    changes = bytearray(record.changes)
    at = len(changes.rstrip(b"\0")) - 1
    changes[at] ^= 1 if changes[at] != 1 else 2
    segment.records[place] = replace(record, changes=bytes(changes))


def delete(segment: Segment, place: int, other: Segment) -> None:
    """One commit less. A source that it defined is defined by the next one."""
    definition, begin = segment.records[place].definition()
    gone = segment.records.pop(place)
    for at in segment.commits():
        record = segment.records[at]
        if definition is not None and at >= place and record.source == gone.source:
            segment.records[at] = replace(record, changes=gone.changes[:begin] + record.changes)
            break
    segment.renumber()


def duplicate(segment: Segment, place: int, other: Segment) -> None:
    """One commit twice."""
    segment.records.insert(place, segment.records[place])
    segment.renumber()


def swap(segment: Segment, place: int, other: Segment) -> None:
    """Two neighbours in the other order; with each the definition of the other's source, so that both stay defined."""
    two = next((at for at in segment.commits() if at > place), None)
    if two is None:
        place, two = segment.commits()[-2:]
    one_record, two_record = segment.records[place], segment.records[two]
    definitions = [record.changes[: record.definition()[1]] for record in (one_record, two_record)]
    bodies = [record.changes[record.definition()[1] :] for record in (one_record, two_record)]
    segment.records[place] = replace(one_record, changes=definitions[0] + bodies[1])
    segment.records[two] = replace(two_record, changes=definitions[1] + bodies[0])
    segment.renumber()


def splice(segment: Segment, place: int, other: Segment) -> None:
    """A commit of another store in the place of this one's."""
    mine, foreign = segment.records[place], other.records[place]
    definition = mine.changes[: mine.definition()[1]]
    segment.records[place] = replace(mine, changes=definition + foreign.content)


def drop_tail(segment: Segment, place: int, other: Segment) -> None:
    """The end is gone, back to an anchor."""
    anchors = [at for at, record in enumerate(segment.records) if record.kind == ANCHOR]
    end = max((at for at in anchors[:-1] if at < place), default=anchors[0])
    del segment.records[end + 1 :]


def rewrite(segment: Segment, place: int, other: Segment) -> None:
    """Every commit from one on is another one."""
    for at in segment.commits():
        if at >= place:
            splice(segment, at, other)


def strip(segment: Segment, place: int, other: Segment) -> None:
    """A commit is changed, and every anchor from there on is taken away."""
    edit(segment, place, other)
    segment.records = [record for at, record in enumerate(segment.records) if at < place or record.kind == COMMIT]


ATTACKS: tuple[Callable[[Segment, int, Segment], None], ...] = (
    edit, delete, duplicate, swap, splice, drop_tail, rewrite, strip
)  # fmt: skip
LEVELS = ("checksums", "anchors")  # what is made right again
DEFENCES = ("plain", "head", "key")


def promised(attack: str, level: str, defence: str) -> bool:
    """Whether the documentation says that it is found."""
    if defence == "head":
        return True
    if attack in ("drop_tail", "strip"):
        return False
    return level == "checksums" or defence == "key"


def attempt(run: Run, stores, heads, attack, level: str, defence: str, place: int) -> Verdict:
    """One attack on a copy of a store, and what its owner sees."""
    path, how = run.work / "copy", {"anchor_key": KEY} if defence == "key" else {}
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(stores["key" if defence == "key" else "plain"], path)
    segment = Segment(path)
    attack(segment, segment.commits()[place], Segment(stores["other"]))
    if level == "anchors":
        segment.reanchor()
    segment.write()
    name = attack.__name__
    try:
        with mmsb.open(path, read_only=True, **how) as state:
            if state.recovered.damage is not None:
                return "wrong", f"{name} did not come out right: {state.recovered.damage}"
            findings = state.verify(head=heads["plain"] if defence == "head" else None).findings
    except (mmsb.MMSBError, OSError) as error:
        return "wrong", f"{name} did not come out right: {error}"
    if [finding for finding in findings if finding.kind not in ("anchor", "kept anchor")]:
        return "wrong", f"{name} did not come out right: {findings[0].sentence}"
    if findings:
        return f"{name}: found"
    return ("wrong", f"{name}, with {level} made right, was not found") if promised(name, level, defence) else (
        f"{name}: not found, as documented"
    )  # fmt: skip


def tampering(defence: str, run: Run) -> None:
    """Every attack at every commit but the first."""
    stores = {name: run.work / name for name in ("plain", "key", "other")}
    heads = {
        "plain": make(stores["plain"], 1),
        "key": make(stores["key"], 1, anchor_key=KEY),
        "other": make(stores["other"], 101),
    }
    cases: list[Case] = []
    for attack in ATTACKS:
        for level in LEVELS:
            for place in range(2, COMMITS, run.amount(4, 1)):
                case = f"{attack.__name__}:{level}:{place}"
                cases.append((case, partial(attempt, run, stores, heads, attack, level, defence, place)))
    try_each(run, cases)


def forger_is_right(run: Run) -> None:
    """Written again unchanged and anchored again with the right key, a store is the same: the formats are known."""
    for keyed in (False, True):
        path, how = run.work / f"s{keyed}", {"anchor_key": KEY} if keyed else {}
        head = make(path, 1, **how)
        segment = Segment(path)
        segment.renumber()
        segment.reanchor(KEY if keyed else None)
        segment.write()
        run.tally.injected += 1
        with mmsb.open(path, read_only=True, **how) as state:
            if state.anchor != head or state.verify(head=head).findings:
                run.fail("wrong", "forger", "a store that was only written again is another one")


MEASURE = Measure(
    "R15",
    "tampering",
    (
        Part("forger", forger_is_right),
        *(Part(name, partial(tampering, name), at_least=(160, 600)) for name in DEFENCES),
    ),
    files=("tests/rel/forger.py", "tests/rel/children.py"),
)
