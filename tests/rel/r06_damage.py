"""R6: damage in a store. It is found, or changes nothing that a reader can see; a writer never takes it for the tail
that a crash tore; and what salvage saves is true.
"""

from __future__ import annotations

import shutil

import mmsb
from mmsb.horizon import read_slots
from tests.rel import damage
from tests.rel.damage import attempt, contents_of, whole
from tests.rel.programme import Measure, Part, Run

SAFE = (mmsb.MMSBError, OSError)


def found_or_harmless(path, truth):
    """A judge: what a reader of a cleanly closed store must see when something in it was damaged."""

    def judge(_):
        try:
            with mmsb.open(path, read_only=True) as state:
                if state.verify().findings:
                    return "found"
                if truth.same(state):
                    return "harmless"
                seen = whole(state)
        except SAFE:
            return "found"
        is_prefix = all(truth.commits.get(commit[0]) == commit for commit in seen[4])
        return "wrong", f"a silent prefix, up to {seen[0]}" if is_prefix else "a wrong state"

    return judge


def refused_or_whole(path, truth):
    """A judge: a writer of a cleanly closed store has all of it, or says that it has not."""

    def judge(_):
        copy = path.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path, copy)
        try:
            with mmsb.open(copy, segment_bytes=4096) as state:
                try:
                    same = truth.same(state)
                except mmsb.CorruptLogError:
                    return "read in part"
            return "whole" if same else ("lost", "it was opened for writing, and is not what it was")
        except SAFE:
            return "refused"

    return judge


def durable_at_least(path, truth, every_commit):
    """A judge: of a store whose writer died, a reader sees a prefix that reaches what is durable, or an error.

    `every_commit`: each was synced, so that the next one tells of it.
    """

    def judge(changes):
        contents = contents_of(path)
        slots = read_slots(contents.get("horizon", b""), contents.get("store", b"")[16:32])
        durable = max((mark.durable_seq for _, mark in filter(None, slots)), default=0)
        if every_commit and any("/" in name for name in changes):
            durable = truth.now[0] - 1
        try:
            with mmsb.open(path, read_only=True) as state:
                if state.verify().findings:
                    return "found"
                seen = whole(state)
        except SAFE:
            return "found"
        if seen[4] != truth.now[4][: seen[0]] or seen[2] != truth.digests[seen[0]]:
            return "phantom", f"a reader sees {seen[0]} commits that never were"
        if seen[0] < durable:
            return "lost", f"a reader sees commits up to {seen[0]}, and {durable} was durable"
        return "harmless" if seen == truth.now else "a shorter tail"

    return judge


def salvaged_truly(path, truth):
    """A judge: what salvage saves is a part of the true history, and what it does not save it lists."""

    def judge(_):
        folder = path.with_name("out")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            report = mmsb.salvage(path, folder / "out")
        except SAFE:
            return "refused"
        told = {seq for gap in report.missing for seq in range(gap.first, gap.last + 1)}
        for saved in report.saved:
            with mmsb.open(saved.path, read_only=True) as state:
                if findings := state.verify().findings:
                    return "wrong", f"what was saved does not verify: {findings[0].sentence}"
                state.stale_reads = True
                for seq in {state.first_seq, (state.first_seq + state.seq) // 2, state.seq}:
                    if state.at(seq).digest() != truth.digests.get(seq):
                        return "phantom", f"the state saved at {seq} never was"
                for commit in whole(state)[4]:
                    if commit != truth.commits.get(commit[0]):
                        return "phantom", f"commit {commit[0]} was saved as another"
                    told.add(commit[0])
        kept = {commit[0] for commit in truth.now[4]}
        if report.complete and (len(report.saved) != 1 or report.saved[0].seq != truth.now[0]):
            return "lost", f"said to be complete, and {report.saved} is there"
        if report.end_known and not told >= kept:
            return "lost", f"neither saved nor listed: {sorted(kept - told)}"
        return "complete" if report.complete else "in part" if report.saved else "nothing saved"

    return judge


def every_bit(run: Run) -> None:
    """Each bit of each file of the small store; in quick one bit of each fifth byte."""
    path = run.work / "small"
    truth = damage.closed(path, "small")
    how = {"every": 5, "of_each": 1} if run.size == "quick" else {}
    flips = list(damage.bits(contents_of(path), run.dice("bits"), **how))
    attempt(run, "small", path, flips, found_or_harmless(path, truth))


def every_cut(run: Run) -> None:
    """Each length that each file of the small store can be cut to; in quick each thirteenth."""
    path = run.work / "small"
    truth = damage.closed(path, "small")
    shorter = list(damage.cuts(contents_of(path), run.dice("cuts"), run.amount(13, 1)))
    attempt(run, "small", path, shorter, found_or_harmless(path, truth))


def every_block(run: Run) -> None:
    """Sectors of zeros, runs of 0xFF, blocks that stand twice or elsewhere, files that are gone or exchanged."""
    path = run.work / "small"
    truth = damage.closed(path, "small")
    dice, contents = run.dice("blocks"), contents_of(path)
    found = list(damage.blocks(contents, dice, run.amount(1, 20)))
    found = dice.sample(found, run.amount(min(500, len(found)), len(found)))
    found += [*damage.files(contents, dice), *damage.frames(contents, dice)]
    attempt(run, "small", path, found, found_or_harmless(path, truth))


def larger_stores(run: Run) -> None:
    """The same damage, sampled, of stores of many files: segments, compressed ones, a base, links."""
    for name in ("long", "compacted", "packed", "linked"):
        path = run.work / name
        truth = damage.closed(path, name)
        found = damage.some(contents_of(path), run.dice(name), run.amount(40, 5000))
        attempt(run, name, path, found, found_or_harmless(path, truth))


def writers(run: Run) -> None:
    """Opening for writing never loses a closed history."""
    for name in damage.CLOSED:
        path = run.work / name
        truth = damage.closed(path, name)
        found = damage.some(contents_of(path), run.dice("writers", name), run.amount(15, 1000))
        attempt(run, name, path, found, refused_or_whole(path, truth))


def salvage(run: Run) -> None:
    """What salvage makes of any of it; of the small store, also in quick, all that can become of its files."""
    for name in damage.CLOSED:
        path = run.work / name
        truth = damage.closed(path, name)
        contents, dice = contents_of(path), run.dice("salvage", name)
        found = damage.some(contents, dice, run.amount(8, 700))
        if name == "small":
            known = {each.case for each in found}
            found += [each for each in damage.files(contents, dice) if each.case not in known]
        attempt(run, name, path, found, salvaged_truly(path, truth))


def after_a_crash(run: Run) -> None:
    """A store that was not closed: silent only about what nothing calls durable."""
    for durability in ("process", "power"):
        path = run.work / durability
        truth = damage.crash(path, run.work / "live", durability)
        shutil.rmtree(run.work / "live")
        dice, contents = run.dice(durability), contents_of(path)
        flips = list(damage.bits(contents, dice, run.amount(25, 1), run.amount(1, 8)))
        judge = durable_at_least(path, truth, durability == "power")
        attempt(run, durability, path, flips, judge)
        others = [each for way in (damage.cuts, damage.blocks, damage.files) for each in way(contents, dice)]
        others = dice.sample(others, run.amount(150, len(others)))
        attempt(run, durability, path, others, durable_at_least(path, truth, False))
        attempt(run, durability, path, list(damage.frames(contents, dice)), judge)


MEASURE = Measure(
    "R6",
    "damage in a store",
    (
        Part("bits", every_bit, at_least=(1_500, 70_000)),
        Part("cuts", every_cut, at_least=(700, 9_000)),
        Part("blocks", every_block, at_least=(500, 3_500)),
        Part("larger", larger_stores, at_least=(500, 45_000)),
        Part("writers", writers, at_least=(250, 15_000)),
        Part("salvage", salvage, at_least=(140, 10_000)),
        Part("crashed", after_a_crash, at_least=(1_000, 100_000)),
    ),
    files=("tests/rel/damage.py", "tests/rel/children.py"),
)
