"""Makes golden files of a format version, each once: python tests/golden/make.py v1

What is there is never made again; a new case joins the folder. A release that writes another format gets a folder of
its own, and reads these for ever.
"""

from __future__ import annotations

import json
import shutil
import sys
from itertools import count
from pathlib import Path

import mmsb
from mmsb import links
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


def halved(out: memoryview, parent: memoryview) -> None:
    """A function that fails when it meets 13."""
    if parent[0] == 13:
        raise ValueError("unlucky")
    out[:] = bytes(value // 2 for value in parent)


halved.__module__ = "golden"  # the log keeps the name, whichever way this file is run


def write_graph(state: mmsb.State) -> None:
    """Every kind of edge, every type of link, every way in which a wave can end."""
    state.create_page(64, name="idle")
    a, b = (state.create_page(data=bytes(range(first, first + 32)), name=name) for first, name in ((1, "a"), (40, "b")))
    names = "copy", "ranges", "sum", "most", "total", "product", "call", "watched", "gone"
    pages = {name: state.create_page(8 if name == "total" else 32, name=name) for name in names}
    starts, columns = (0, 2, 2, 3, 3), (0, 3, 1)
    matrix = [
        state.create_page(data=b"".join(number.to_bytes(width, "little") for number in numbers))
        for width, numbers in ((8, starts), (4, columns), (8, (5, 7, 11)))
    ]
    state.depend(pages["copy"], on=a, link=links.passthrough())
    state.depend(pages["ranges"], on=[a, b], link=links.copy([(0, 0, 4, 9), (1, 3, 20, 2)]))
    state.depend(pages["sum"], on=[a, b], link=links.semiring("plus-times", "int32", [3, -2]), source="maker")
    state.depend(pages["most"], on=["copy", "b"], link=links.semiring("max-plus", "float64", accumulate=True))
    state.depend(pages["total"], on=[a, b], link=links.reduce("max-plus", "int64"))
    state.depend(pages["product"], on=[a, *matrix], link=links.matrix("plus-times", "int64", 4, 4))
    state.depend(pages["call"], on="sum", fn=halved)
    state.depend("watched", on=[a, b], kind="control")
    state.depend("watched", on="call", kind="device")
    state.depend("watched", on=["call", "idle"], kind="compiler")
    state.depend_many([a.page_id], [pages["gone"].page_id], [2], semiring="max-times", dtype="uint8")
    a.write(b"\x63", at=1, source="writer")
    with state.deferred(), state.batch(label="both") as batch:
        batch.write(a, b"\x0d\0\0\0", at=0)
        batch.write(b, b"\x0d\0\0\0", at=0)  # the sum begins with 13: the function fails
    state.undepend("watched", on="b", kind="control")
    state.undepend("watched", kind="device")
    state.undepend("ranges")
    state.delete_page("gone", detach=True)
    state.checkpoint()
    a.write(b"\1", at=0)  # it works again
    state.policy = "lazy"
    b.write(b"\2", at=0)
    state.page("total").read()  # a wave over this page alone; the others stay stale
    state.page("watched").write(b"seen")


def write_every(state: mmsb.State) -> None:
    """Every kind of change and every kind of page in one store."""
    write_history(state)
    x = state.create_page(data=bytes(range(16)), name="x")
    state.create_page(16, name="y")
    least = state.create_page(16, name="least", merge="min-plus", dtype="int64")
    state.depend("y", on=x, link=links.passthrough(), source="maker")
    for lanes in ((5, 9), (7, 3)):
        least.write(b"".join(lane.to_bytes(8, "little") for lane in lanes), source="merger")
    state.depend("y", on=least, kind="control")
    x.write(b"\xff", at=3)
    state.checkpoint()
    state.undepend("y", on=least, kind="control")
    x.write(b"\xee", at=4)


def facts(state: mmsb.State) -> dict[str, object]:
    """What a reader of the store must find."""
    state.stale_reads = True
    found = content_facts(state)
    if len(state.graph):
        found["graph"] = [[edge.parent, edge.child, edge.kind] for edge in state.graph.edges()]
        found["waves"] = [[commit.seq, commit.cause] for commit in state.log(kind="wave")]
    return found


def content_facts(state: mmsb.State) -> dict[str, object]:
    """Those of a store without edges."""
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


def make_graph(path: Path) -> dict[str, object]:
    """Links, waves, and a checkpoint that holds links and stale pages."""
    with open_store(path, 7) as state:
        write_graph(state)
        return facts(state)


def make_every(path: Path) -> dict[str, object]:
    """All that the format has, in one store."""
    with open_store(path, 9) as state:
        write_every(state)
        return facts(state)


STORES = {
    "plain": make_plain,
    "compacted": make_compacted,
    "keyed": make_keyed,
    "graph": make_graph,
    "every": make_every,
}


def make(folder: Path) -> list[str]:
    """Writes the golden files that are not there yet. Their names."""
    folder.mkdir(exist_ok=True)
    FileLog.wake = lambda self, state: None  # type: ignore[method-assign]
    made = []
    for name, maker in STORES.items():
        if (folder / name).exists():
            continue
        try:
            expected = maker(folder / name)
        except BaseException:
            shutil.rmtree(folder / name, ignore_errors=True)
            raise
        (folder / name / "lock").unlink()  # names a process of the maker
        (folder / f"{name}.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
        made.append(name)
    if not (folder / "one-file.ckpt").exists():
        with mmsb.open(folder / "plain", read_only=True) as state:
            state.stop(checkpoint_path=folder / "one-file.ckpt")
        made.append("one-file.ckpt")
    if not (folder / "metadata.bin").exists():
        (folder / "metadata.bin").write_bytes(encode(METADATA))
        made.append("metadata.bin")
    return made


if __name__ == "__main__":
    target = HERE / sys.argv[1]
    made = make(target)
    if not made:
        sys.exit(f"{target} has everything. Golden files are never made again; choose a new version.")
    print("made", *made)
