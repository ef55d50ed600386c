"""What SQLite, LMDB and ZODB make of the same damage and of the same power losses: `python -m tests.rel.anchors`.

Bits are flipped, one at a time, in the files of a database that was closed in order. Each is then read as any program
reads it, in a process of its own, and once more with the database's own check where it has one. What may come of it:

found     an error says so
harmless  everything is there as it was
prefix    an older state is shown, and nothing says so
wrong     a state is shown that never was
killed    the reader ends by a signal, or does not end

Of a power loss (as root, on ext4, see blocks.py) everything that was acknowledged must be there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import random
import resource
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

import mmsb
from tests.rel import blocks
from tests.rel.children import in_child

COMMITS = 150
KEYS = 40
OUTCOMES = ("found", "harmless", "prefix", "wrong", "killed")
BROKEN = ("lost", "phantom", "refused")
MEMORY_BYTES, SECONDS = 4 << 30, 20
REQUIREMENTS = {"lmdb": "lmdb", "ZODB": "ZODB"}
Content = dict[str, bytes]


def change(number: int) -> tuple[str, bytes]:
    """What commit `number` writes: a key and its new value."""
    dice = random.Random(number)
    return f"key {number * 7 % KEYS}", dice.randbytes(dice.randrange(50, 300))


def contents() -> list[Content]:
    """What is there after each commit."""
    states: list[Content] = [{}]
    for number in range(1, COMMITS + 1):
        states.append({**states[-1], **dict([change(number)])})
    return states


class Database(ABC):
    """One system under test, with its files in a directory."""

    needs = ""  # a module
    checks = False  # whether it has a check of its own
    differs = True  # whether its files are others than those of the one before

    @abstractmethod
    def write(self, root: Path, told: Callable[[int], None]) -> None:
        """Commits them all, durably, calls `told` after each, and closes."""

    @abstractmethod
    def read(self, root: Path, check: bool) -> Content:
        """What a program sees; with `check`, an error when the database's own check finds something."""

    def files(self, root: Path) -> list[Path]:
        """Those that hold data."""
        return sorted(path for path in root.rglob("*") if path.is_file() and path.name not in ("lock", "lock.mdb"))


class Mmsb(Database):
    """A page for each key."""

    checks = True

    def write(self, root: Path, told: Callable[[int], None]) -> None:
        with mmsb.open(root / "s", durability="power", segment_bytes=16384, checkpoint_bytes=None) as state:
            for number in range(1, COMMITS + 1):
                key, value = change(number)
                with state.batch() as batch:
                    if key in state:
                        batch.resize(key, len(value))
                        batch.write(key, value)
                    else:
                        batch.create_page(name=key, data=value)
                told(number)
            state.checkpoint()

    def read(self, root: Path, check: bool) -> Content:
        with mmsb.open(root / "s", read_only=not (root / "crashed").exists()) as state:
            if state.recovered.damage is not None:
                raise state.recovered.damage
            if check and state.verify().findings:
                raise ValueError("verify")
            return {str(page.name): page.read() for page in state.pages()}


class Sqlite(Database):
    """One table, one transaction for each commit. FULL is the default of `synchronous`; EXTRA also syncs the directory
    from which a rollback journal was deleted.
    """

    checks = True

    def __init__(self, mode: str, synchronous: str = "full") -> None:
        self.mode, self.synchronous = mode, synchronous
        self.differs = synchronous == "full"

    def write(self, root: Path, told: Callable[[int], None]) -> None:
        database = sqlite3.connect(root / "d", isolation_level=None)
        database.execute(f"pragma journal_mode={self.mode}")
        database.execute(f"pragma synchronous={self.synchronous}")
        database.execute("pragma wal_autocheckpoint=0")
        database.execute("create table if not exists t (k text primary key, v blob)")
        for number in range(1, COMMITS + 1):
            database.execute("insert or replace into t values (?, ?)", change(number))
            told(number)
        if self.mode == "delete":
            database.close()
        else:  # closing would empty the log; a process that ends does not
            for path in list(root.glob("d*")):
                shutil.copy(path, root / f"copy-{path.name}")
            database.close()
            for path in root.glob("copy-*"):
                path.rename(root / path.name.removeprefix("copy-"))

    def read(self, root: Path, check: bool) -> Content:
        with closing(sqlite3.connect(root / "d")) as database:
            if check and database.execute("pragma integrity_check").fetchall() != [("ok",)]:
                raise ValueError("integrity_check")
            return dict(database.execute("select k, v from t"))

    def files(self, root: Path) -> list[Path]:
        return [root / ("d" if self.mode == "delete" else "d-wal")]


class Lmdb(Database):
    """One unnamed database, with its default of syncing."""

    needs = "lmdb"

    def write(self, root: Path, told: Callable[[int], None]) -> None:
        import lmdb

        with lmdb.open(str(root / "l"), map_size=1 << 20) as environment:
            for number in range(1, COMMITS + 1):
                key, value = change(number)
                with environment.begin(write=True) as transaction:
                    transaction.put(key.encode(), value)
                told(number)

    def read(self, root: Path, check: bool) -> Content:
        import lmdb

        with lmdb.open(str(root / "l"), map_size=1 << 20) as environment, environment.begin() as transaction:
            return {key.decode(): value for key, value in transaction.cursor()}


class Zodb(Database):
    """A FileStorage, with a persistent object for each key: damage is met where it is."""

    needs = "ZODB"

    def write(self, root: Path, told: Callable[[int], None]) -> None:
        import transaction
        import ZODB
        from persistent.mapping import PersistentMapping

        database = ZODB.DB(str(root / "Data.fs"))
        with closing(database.open()) as connection:
            for number in range(1, COMMITS + 1):
                key, value = change(number)
                connection.root().setdefault(key, PersistentMapping())["value"] = value
                transaction.commit()
                told(number)
        database.close()

    def read(self, root: Path, check: bool) -> Content:
        import ZODB

        with closing(ZODB.DB(str(root / "Data.fs"))) as database, closing(database.open()) as connection:
            return {key: bytes(entry["value"]) for key, entry in connection.root().items()}

    def files(self, root: Path) -> list[Path]:
        return [root / "Data.fs"]


DATABASES: dict[str, Database] = {
    "mmsb": Mmsb(),
    "SQLite": Sqlite("delete"),
    "SQLite EXTRA": Sqlite("delete", "extra"),
    "SQLite WAL": Sqlite("wal"),
    "LMDB": Lmdb(),
    "ZODB": Zodb(),
}


def look(database: Database, root: Path, check: bool, states: list[Content]) -> int:
    """In a child: reads, and judges what it sees. The index of an outcome, and 1 more: 0 is that of a child that ended
    without saying anything.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.alarm(SECONDS)
    try:
        seen = database.read(root, check)
    except Exception:
        return 1 + OUTCOMES.index("found")
    if seen == states[-1]:
        return 1 + OUTCOMES.index("harmless")
    return 1 + OUTCOMES.index("prefix" if seen in states else "wrong")


def damage(database: Database, flips: int, seed: int, work: Path) -> dict[str, dict[str, int]]:
    """How often which outcome follows a flipped bit: when the data are just read, and when they are checked."""
    states, whole, copy = contents(), work / "whole", work / "copy"
    whole.mkdir()
    database.write(whole, lambda number: None)
    sizes = [(path.relative_to(whole), path.stat().st_size) for path in database.files(whole)]
    counts = {way: dict.fromkeys(OUTCOMES, 0) for way in ("read", "checked")[: 1 + database.checks]}
    dice = random.Random(seed)
    for _ in range(flips):
        (name,) = dice.choices([name for name, _ in sizes], [size for _, size in sizes])
        bit = dice.randrange(dict(sizes)[name] * 8)
        for way in counts:
            shutil.copytree(whole, copy)
            data = bytearray((copy / name).read_bytes())
            data[bit // 8] ^= 1 << bit % 8
            (copy / name).write_bytes(data)
            status = in_child(look, database, copy, way == "checked", states)
            ended = os.waitstatus_to_exitcode(status)
            counts[way][OUTCOMES[ended - 1] if ended > 0 else "killed"] += 1
            shutil.rmtree(copy)
    return counts


def judge(database: Database, root: Path, floor: int, most: int, states: list[Content]) -> int:
    """In a child: whether a state that a power loss left is one of those that may be there. 0, or a place of BROKEN
    and 1 more.
    """
    signal.alarm(SECONDS)
    try:
        seen = database.read(root, False)
    except Exception:
        return 1 + BROKEN.index("refused")
    if seen in states[floor : most + 1]:
        return 0
    return 1 + BROKEN.index("lost" if seen in states else "phantom")


def power_loss(database: Database, count: int, seed: int, work: Path) -> dict[str, int]:
    """How many of `count` power losses on an ext4 lost, invented or refused something."""
    states, counts, mark = contents(), {"states": 0, **dict.fromkeys(BROKEN, 0)}, struct.Struct("<Q")
    empty, image, crashed = (work / name for name in ("empty", "image", "crashed"))
    blocks.make_file_system("ext4", empty)
    blocks.copy_sparse(empty, image)
    with blocks.Recorder(work, image) as recorder, blocks.loop_device(recorder.disk) as device:
        with blocks.mounted(device, work / "mnt", "ext4") as root:
            fd = os.open(recorder.root / "mark", os.O_WRONLY)
            status = in_child(database.write, root, lambda number: os.write(fd, mark.pack(number)))
            os.close(fd)
    if status:
        raise OSError(f"the writer ended with status {status}")
    entries = blocks.read_log(recorder.log)
    loss, dice, floor, floors = blocks.PowerLoss(entries, empty), random.Random(seed), 0, []
    for entry in entries:
        floor = mark.unpack(entry.data)[0] if entry.kind == blocks.MARK else floor
        floors.append(floor)
    # Not before there is a database, which not everybody makes in one step.
    points = [point for point in loss.points() if floors[point] > 0]
    for point in sorted(dice.choices(points, k=count)):
        loss.make(loss.choose(point, dice), crashed)
        with blocks.loop_device(crashed) as device, blocks.mounted(device, work / "mnt", "ext4") as root:
            (root / "crashed").touch()
            ended = os.waitstatus_to_exitcode(in_child(judge, database, root, floors[point], floors[point] + 1, states))
        counts["states"] += 1
        if ended:
            counts[BROKEN[ended - 1] if ended > 0 else "refused"] += 1
    return counts


def main() -> int:
    """Prints what was found. What is not installed is left out, with a line that says so."""
    parser = argparse.ArgumentParser(prog="python -m tests.rel.anchors", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(DATABASES)} (default: all)")
    parser.add_argument("--flips", type=int, default=3000, help="bits to flip, one at a time (default 3000)")
    parser.add_argument("--power", type=int, default=500, help="power losses on ext4 (default 500)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.names) - set(DATABASES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(DATABASES)}")
    cannot = blocks.missing("ext4", fuse=True) if options.power else "not asked for"
    if not cannot:
        blocks.keep_private()
    logging.disable()  # ZODB's
    result: dict[str, dict] = {}
    for name in options.names or DATABASES:
        database = DATABASES[name]
        if database.needs and importlib.util.find_spec(database.needs) is None:
            print(f"{name} is left out: pip install {REQUIREMENTS[database.needs]}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(prefix="mmsb-rel-", dir="/dev/shm") as work:
            wanted = options.flips and database.differs
            result[name] = damage(database, options.flips, options.seed, Path(work)) if wanted else {}
            if not cannot:
                result[name]["power loss"] = power_loss(database, options.power, options.seed, Path(work))
    if options.json:
        print(json.dumps({"seed": options.seed, "flips": options.flips, "databases": result}, indent=1))
        return 0
    flips, losses = Table("flipped bits", *OUTCOMES), Table("power losses", "states", *BROKEN)
    for name, found in result.items():
        for way, counts in found.items():
            if way == "power loss":
                losses.add_row(name, *(f"{number:,}" for number in counts.values()))
            else:
                shares = (f"{counts[outcome] / options.flips:.1%}" for outcome in OUTCOMES)
                flips.add_row(f"{name}, {way}", *shares)
    console = Console()
    console.print(f"seed {options.seed}, {options.flips:,} flips each", flips)
    console.print(losses if not cannot else f"No power losses: {cannot}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
