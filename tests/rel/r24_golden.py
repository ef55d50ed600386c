"""R24: stores of each format version are read for ever, written on, and salvaged; those of a newer one are refused."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import blake3

import mmsb
from mmsb._core.log import crc32c
from mmsb.digest import core_digest
from tests.formats.test_golden import GOLDEN, OPTIONS, make, plain
from tests.rel.children import Case, Verdict, try_each
from tests.rel.programme import Measure, Part, Run

KINDS = {
    "create",
    "delete",
    "resize",
    "rename",
    "metadata",
    "label",
    "intent",
    "source",
    "link",
    "unlink",
    "wave",
    "delta",
}


def folders() -> list[Path]:
    """Of the format versions."""
    return sorted(path for path in GOLDEN.iterdir() if path.name.startswith("v"))


def is_read(store: Path) -> Verdict:
    """Everything that was there is there, at every seq, also when it is replayed from the log alone."""
    expected = json.loads(store.with_suffix(".json").read_text())
    with mmsb.open(store, read_only=True, **OPTIONS[store.name]) as state:
        if findings := state.verify().findings:
            return "wrong", findings[0].sentence
        if plain(make.facts(state)) != expected:
            return "wrong", "a reader finds something else than there was"
        for seq, digest in expected["digests"].items():
            if core_digest(state.replay(int(seq))).hex() != digest:
                return "wrong", f"the replay to {seq} gives another state"
    return "read"


def is_written_on(run: Run, store: Path) -> Verdict:
    """A writer of today goes on, and what was there before stays."""
    path, expected = run.work / "copy", json.loads(store.with_suffix(".json").read_text())
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(store, path)
    for turn in range(2):
        with mmsb.open(path, **OPTIONS[store.name]) as state:
            state.page(1).write(bytes([turn + 200]) * 30)
            state.checkpoint()
    with mmsb.open(path, **OPTIONS[store.name]) as state:
        if state.verify().findings or state.seq != expected["seq"] + 2:
            return "wrong", f"it goes on to {state.seq}: {state.verify().findings}"
        if any(state.at(int(seq)).digest().hex() != digest for seq, digest in expected["digests"].items()):
            return "wrong", "a past state is another one"
    return "written on"


def is_salvaged(run: Run, store: Path) -> Verdict:
    """All of it comes out."""
    path = run.work / "out"
    shutil.rmtree(path, ignore_errors=True)
    report = mmsb.salvage(store, path, **OPTIONS[store.name])
    with mmsb.open(path, read_only=True, **OPTIONS[store.name]) as state:
        same = plain(make.facts(state)) == json.loads(store.with_suffix(".json").read_text())
    return "salvaged" if report.complete and same else ("wrong", "not all of it comes out of salvage")


def has_every_kind(store: Path) -> Verdict:
    """The golden store of that name holds every kind of change, delta encoding and page."""
    kinds, encodings, pages = set(), set(), set()
    with mmsb.open(store, read_only=True) as state:
        for commit in state.log():
            for change in commit.changes:
                kinds.add(change.kind)
                if change.kind == "delta":
                    encodings.add(change.delta.encoding)
                if change.kind == "create":
                    pages.add(change.page_kind)
    if kinds != KINDS or len(encodings) != 3 or pages != {0, 1}:
        return "wrong", f"kinds {KINDS - kinds} or others are missing: {encodings}, {pages}"
    return "every kind"


def resealed(data: bytearray, name: str) -> bytes:
    """A file whose checksums fit what it holds."""
    end = {"seg": 128, "ckpt": 256}.get(name.rsplit(".")[-1], 512 if name == "horizon" else 256)
    for begin in (0, 4096) if name == "horizon" else (0,):
        struct.pack_into("<I", data, begin + end - 4, crc32c(bytes(data[begin : begin + end - 4])))
    return bytes(data) if not name.endswith(".ckpt") else bytes(data[:-32]) + blake3.blake3(data[:-32]).digest()


def is_refused(run: Run, store: Path, name: str) -> Verdict:
    """A file of the next version, whole as it is, is refused with that version, and nothing is touched."""
    path = run.work / "newer"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(store, path)
    data = bytearray((path / name).read_bytes())
    for begin in (0, 4096) if name == "horizon" else (0,):
        struct.pack_into("<I", data, begin + 8, 2)
    (path / name).write_bytes(resealed(data, name))
    before = {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}
    for read_only in (False, True):
        try:
            with mmsb.open(path, read_only=read_only) as state:
                # A checkpoint that cannot be used costs time, and a reader shows what is before damage.
                if name.endswith(".ckpt") or state.recovered.damage is not None:
                    continue
            return "wrong", f"{name} of a newer version is opened"
        except (mmsb.FormatVersionError, mmsb.CorruptLogError) as error:
            if name != "horizon" and not (isinstance(error, mmsb.FormatVersionError) and error.version == 2):
                return "wrong", f"{name} of a newer version is refused as {error!r}"
    after = {each: each.read_bytes() for each in before if each.exists() and each.name != "lock"}
    if any(before[each] != data for each, data in after.items()) or len(after) < len(before) - 1:
        return "wrong", f"{name} of a newer version was refused, and something changed"
    return "refused"


def golden(run: Run) -> None:
    """Every store of every version."""
    cases: list[Case] = []
    for folder in folders():
        for name in OPTIONS:
            store = folder / name
            cases += [
                (f"{folder.name}/{name} read", lambda store=store: is_read(store)),
                (f"{folder.name}/{name} on", lambda store=store: is_written_on(run, store)),
                (f"{folder.name}/{name} salvage", lambda store=store: is_salvaged(run, store)),
            ]
        every = folder / "every"
        cases.append((f"{folder.name} kinds", lambda every=every: has_every_kind(every)))
    for name in ("store", "horizon", "log/00000001.seg", *checkpoints_of(folders()[-1] / "every")):
        cases.append((f"newer {name}", lambda name=name: is_refused(run, folders()[-1] / "every", name)))
    try_each(run, cases)


def checkpoints_of(store: Path) -> list[str]:
    """Names of the checkpoint files."""
    return [f"checkpoints/{path.name}" for path in sorted((store / "checkpoints").iterdir())]


MEASURE = Measure(
    "R24",
    "golden stores",
    (Part("golden", golden, at_least=(20, 20)),),
    files=("tests/golden/**/*", "tests/formats/test_golden.py", "tests/rel/children.py"),
)
