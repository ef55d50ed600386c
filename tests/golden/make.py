"""Makes golden files of a format version, once: python tests/golden/make.py v1

They are never made again. A release that writes another format gets a folder of its own, and reads these for ever.
"""

from __future__ import annotations

import json
import shutil
import sys
from itertools import count
from pathlib import Path

import mmsb
from mmsb.log import FileLog
from mmsb.metadata import encode
from mmsb.store import Identity

HERE = Path(__file__).parent
KEY = bytes(range(32))
METADATA = {
    "bool": True,
    "bytes": b"\x00\xff",
    "float": -0.0,
    "int": -(2**70),
    "int small": 128,
    "nan": float("nan"),
    "text": "Grüße",
}


def identity(number: int, keyed: bool = False) -> Identity:
    """A fixed identity."""
    return Identity(bytes([number] * 16), bytes([number + 1] * 16), 10**18, keyed=keyed)


def write_history(state: mmsb.State) -> None:
    """Every kind of change, every delta encoding."""
    state.create_page(256, name="a", metadata={"k": 1}, data=b"begin", source="maker")
    state.create_pages(3, 64)
    state.page("a").write(bytes(range(100)), at=50, source="writer")
    with state.batch(label="scattered", source="writer", intent={"why": "runs"}) as b:
        content = bytearray(state.page("a").read())
        for at in range(0, 250, 27):
            content[at] ^= 0xFF
        b.write("a", bytes(content))
    bitmap = bytearray(state.page("a").read())
    for at in range(10, 200, 2):
        bitmap[at] ^= 0x55
    state.page("a").write(bytes(bitmap), source="Grüße")
    state.page("a").resize(300)
    state.page("a").rename("renamed")
    state.set_metadata("renamed", {"k": 2.5, "b": b"x", "t": "ü", "flag": True})
    state.delete_page(3)
    with state.batch(label="empty"):
        pass
    with state.batch(label="many") as b:
        page = b.create_page(32, name="late", data=b"in a batch")
        b.write(page, b"again", at=20)
        b.write(2, b"two")
        b.delete_page(4)


def facts(state: mmsb.State) -> dict[str, object]:
    """What a reader of the store must find."""
    return {
        "seq": state.seq,
        "first_seq": state.first_seq,
        "branch": state.branch,
        "next_page_id": state.next_page_id,
        "digests": {str(seq): state.at(seq).digest().hex() for seq in range(state.first_seq, state.seq + 1)},
        "pages": [
            [page.page_id, page.name, page.size, page.epoch, encode(page.metadata).hex(), page.read().hex()]
            for page in state.pages()
        ],
        "log": [
            [c.seq, c.time_ns, c.source, c.label, [[d.page_id, d.ranges(), d.values.hex()] for d in c.deltas]]
            for c in state.log()
        ],
    }


def open_store(path: Path, number: int, **options: object) -> mmsb.State:
    """A store that depends on nothing but this file: fixed identity and clock, no background thread."""
    ticks = count(10**18, 1000)
    keyed = "anchor_key" in options
    return mmsb.open(
        path,
        clock=lambda: next(ticks),
        segment_bytes=4096,
        checkpoint_bytes=None,
        _identity=identity(number, keyed),
        **options,
    )


def make_plain(path: Path) -> dict[str, object]:
    """Segments, anchors, a full and an incremental checkpoint."""
    with open_store(path, 1) as state:
        write_history(state)
        state.create_page(2000, data=bytes(range(200)) * 10)
        state.checkpoint()
        for n in range(60):
            state.page("renamed").write(bytes([n + 1] * 60), at=n * 4, source="loop")
            if n == 30:
                state.checkpoint()
        return facts(state)


def make_compacted(path: Path) -> dict[str, object]:
    """A history that begins with a base in the middle of a segment, kept labels, compressed segments."""
    with open_store(path, 3, compress=True) as state:
        write_history(state)
        for n in range(140):
            with state.batch(label=f"step {n}") as b:
                b.write("renamed", bytes([n + 1] * 60), at=n)
        state.sync()
        state.compact(before="step 50")
        return facts(state)


def make_keyed(path: Path) -> dict[str, object]:
    """Keyed anchors."""
    with open_store(path, 5, anchor_key=KEY) as state:
        write_history(state)
        return facts(state)


STORES = {"plain": make_plain, "compacted": make_compacted, "keyed": make_keyed}


def make(folder: Path) -> None:
    """Writes every golden file into a new folder."""
    folder.mkdir()
    FileLog.wake = lambda self, state: None  # type: ignore[method-assign]
    for name, maker in STORES.items():
        expected = maker(folder / name)
        (folder / name / "lock").unlink()  # names a process of the maker
        (folder / f"{name}.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
    with mmsb.open(folder / "plain", read_only=True) as state:
        state.stop(checkpoint_path=folder / "one-file.ckpt")
    (folder / "metadata.bin").write_bytes(encode(METADATA))


if __name__ == "__main__":
    target = HERE / sys.argv[1]
    if target.exists():
        sys.exit(f"{target} exists. Golden files are never made again; choose a new version.")
    try:
        make(target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
