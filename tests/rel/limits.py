"""The limits of mmsb, each with what tries it: for R20, and for the table in docs/reference/limits.md."""

from __future__ import annotations

import dataclasses
import itertools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mmsb
from mmsb import arguments, checkpoint, checkpoints, groups, messages, metadata, opening, policies
from mmsb._core import batch, delta
from mmsb._core.files import Files
from mmsb._core.sharing import CLIENTS_MAX
from mmsb.builtin.policies import Parallel

PAGE_BYTES = 4096
SEMIRINGS_MOST = 255
METADATA_TRIES = 100, *(metadata.METADATA_BYTES_MOST + n for n in (-1, 0, 1))
RANGE_END_OF_LAST_WRITE = 1 << 62


@dataclass(frozen=True)
class Limit:
    """What may be `least` to `most`; `attempt(state, n)` uses n of it, with a fresh State of one page, and raises
    `error` when that is refused. `values`: what to try beside the usual neighbours, or instead of them. `told`: whether
    the error says the bound.
    """

    what: str
    unit: str
    least: int
    most: int
    error: type[Exception]
    attempt: Callable[[mmsb.State, int], object]
    values: tuple[int, ...] = ()
    instead: bool = False
    told: bool = True

    def tries(self) -> list[int]:
        """What to try, ascending."""
        usual = {self.least - 1, self.least, self.most - 1, self.most, self.most + 1}
        return sorted(set(self.values) if self.instead else {n for n in usual if n >= -1} | set(self.values))

    def allows(self, n: int) -> bool:
        """Whether that is within the limit."""
        return self.least <= n <= self.most


# ---- pages and commits


def page_of(state: mmsb.State, n: int) -> None:
    """A page of n bytes, to the last of them."""
    page = state.create_page(n)
    page.write(b"x", at=n - 1)
    assert page[n - 1] == ord("x") and page.size == n
    page.resize(1)  # so that nobody reads all of it


def resized(state: mmsb.State, n: int) -> None:
    """The same by resizing."""
    page = state.create_page(1)
    try:
        page.resize(n)
    except mmsb.PageSizeError:
        page.delete()
        raise
    assert page.size == n and (n == 1 or page[n - 1] == 0)


def encoded_metadata(n: int) -> dict[str, bytes]:
    """Metadata whose encoding has n bytes."""
    about = min(n, 1 << 22)  # whose length takes as many bytes as that of n
    return {"k": bytes(n + about - len(metadata.encode({"k": bytes(about)})))}


def command_of(state: mmsb.State, n: int) -> None:
    """A command of n bytes through the smallest ring, which takes half of its own size."""
    state.serve()
    with mmsb.attach("limits", ring_bytes=messages.RING_BYTES_LEAST) as view:
        head = 0
        try:
            view.page("a").write(bytes(PAGE_BYTES))
        except mmsb.CommandSizeError as error:
            head = error.size - PAGE_BYTES
        view.page("a").write(os.urandom(n - head))


def clients(state: mmsb.State, n: int) -> None:
    """n clients at once, where three are served."""
    state.serve(clients=3)
    views: list[mmsb.View] = []
    try:
        for _ in range(n):
            views.append(mmsb.attach("limits"))
    finally:
        for view in views:
            view.close()


def range_end(state: mmsb.State, n: int) -> None:
    """A delta whose last byte is byte n - 1: one of no page."""
    delta_of = mmsb.Delta.from_ranges(1, [(n - 1, 1)], b"x")
    try:
        state.apply(delta_of)
    except mmsb.InvalidDeltaError as error:
        assert f"has {PAGE_BYTES} bytes" in str(error)  # it fits a delta, and not this page


def semirings(state: mmsb.State, n: int) -> None:
    """Merge pages of n semirings in one State."""
    made = [mmsb.UfuncSemiring(f"s{i}", "i8", np.maximum, np.add, zero=-1 << 63, one=0) for i in range(n)]
    with mmsb.open(semirings=made) as other:
        for one in made:
            page, seq = None, other.seq
            try:
                page = other.create_page(8, merge=one.name, dtype="int64")
            finally:
                assert other.seq == seq + (page is not None) and len(other.pages()) == other.seq


# ---- options and files


def option(name: str) -> Limit:
    """An option of open() that is a number of bytes."""
    least, most = opening.BOUNDS[name]

    def attempt(state: mmsb.State, n: int) -> None:
        with mmsb.open(**{name: n}) as other:
            try:
                other.create_page(1)
            except mmsb.ArenaFullError:
                assert name == "max_bytes" and n < 1 << 20 and other.seq == 0

    if name != "segment_bytes":
        return Limit(f"`{name}=` of `mmsb.open`", "bytes", least, most, ValueError, attempt)
    values = 0, least - 1, least, 2 * least, most - 4096, most, most + 4096
    unit = "bytes, a multiple of 4,096"
    return Limit(f"`{name}=` of `mmsb.open`", unit, least, most, ValueError, attempt, values=values, instead=True)


def forged(**facts: Any) -> mmsb.State:
    """A State from a one-file checkpoint that says what no real one says."""
    with tempfile.TemporaryDirectory(dir=os.environ["XDG_RUNTIME_DIR"]) as folder:
        path = Path(folder) / "forged.ckpt"
        with mmsb.open() as state:
            state.create_page(8, name="a")
            state.stop(checkpoint_path=path)
        image = dataclasses.replace(checkpoints.read_image(Files(), str(path)), **facts)
        path.write_bytes(checkpoint.encode_image(image, image.pages))
        return mmsb.open(path)


def commit_number(state: mmsb.State, n: int) -> None:
    """The commit whose seq is n."""
    with forged(seq=n - 1) as other:
        before = other.seq, other.digest()
        try:
            other.page("a").write(b"x")
        finally:
            after = (n, other.at(n).digest()) if other.seq == n else before
            assert (other.seq, other.digest()) == after and [commit.seq for commit in other.log()] in ([n], [])


def checkpoint_of(state: mmsb.State, n: int) -> None:
    """A checkpoint of commit n."""
    with forged(seq=n) as other:
        assert other.seq == n and other.page("a").read() == bytes(8) and not other.verify().findings


def branches(state: mmsb.State, n: int) -> None:
    """The n-th fork in a row."""
    with forged(branch=n - 1) as other, other.fork() as fork:
        assert fork.branch == n and fork.digest() == other.digest()


def clock(state: mmsb.State, n: int) -> None:
    """Commits at n ns since 1970."""
    with mmsb.open(clock=lambda: n) as other:
        other.create_page(8)
        assert [commit.time_ns for commit in other.log()] == [n or 1] and not other.verify().findings


def anchor_key(state: mmsb.State, n: int) -> None:
    """A key of n bytes."""
    with tempfile.TemporaryDirectory(dir=os.environ["XDG_RUNTIME_DIR"]) as folder:
        mmsb.open(Path(folder) / "s", anchor_key=bytes(n)).close()


def ring_of(state: mmsb.State, n: int) -> None:
    """A client whose ring has n bytes."""
    state.serve()
    with mmsb.attach("limits", ring_bytes=n) as view:
        assert view.page("a").write(b"ring").seq == state.seq


def labelled(state: mmsb.State, n: int) -> None:
    """A label of n bytes that is found again."""
    with state.batch(label="l" * n) as found:
        pass
    assert state.at("l" * n).seq == found.seq


def named(state: mmsb.State, n: int) -> None:
    """A State whose name has n bytes, and that is found by it."""
    with mmsb.open(name="n" * n) as other:
        other.serve()
        mmsb.attach("n" * n).close()


counter = itertools.count()

LIMITS = (
    Limit("size of a page", "bytes", 1, arguments.PAGE_BYTES_MAX, mmsb.PageSizeError, page_of),
    Limit("size of a page, resized", "bytes", 1, arguments.PAGE_BYTES_MAX, mmsb.PageSizeError, resized),
    Limit(
        "pages of one `create_pages`",
        "pages; memory for their headers, 32 bytes each, is the nearer bound",
        1,
        batch.PAGES_AT_ONCE_MOST,
        mmsb.PageSizeError,
        lambda state, n: state.create_pages(n, 1),
        values=(0, 1, 100_000, batch.PAGES_AT_ONCE_MOST + 1, 1 << 64),
        instead=True,
    ),
    Limit(
        "name of a page",
        "bytes of UTF-8",
        1,
        arguments.NAME_BYTES_MOST,
        ValueError,
        lambda state, n: state.page(state.create_page(8, name="n" * n).page_id).rename("m" * n),
    ),
    Limit("label of a commit", "bytes of UTF-8", 1, arguments.NAME_BYTES_MOST, ValueError, labelled),
    Limit(
        "source of a commit",
        "bytes of UTF-8",
        1,
        arguments.SOURCE_BYTES_MOST,
        ValueError,
        lambda state, n: state.page("a").write(b"source", source="s" * n),
    ),
    Limit(
        "metadata of a page",
        "bytes, encoded",
        0,
        metadata.METADATA_BYTES_MOST,
        mmsb.MetadataError,
        lambda state, n: state.create_page(8, metadata=encoded_metadata(n)),
        values=METADATA_TRIES,
        instead=True,
    ),
    Limit(
        "intent of a commit",
        "bytes, encoded",
        0,
        metadata.METADATA_BYTES_MOST,
        mmsb.MetadataError,
        lambda state, n: state.page("a").write(b"intent", intent=encoded_metadata(n)),
        values=METADATA_TRIES,
        instead=True,
    ),
    Limit("end of a range of a delta", "bytes", 1, delta.RANGE_END_MOST, mmsb.InvalidDeltaError, range_end, told=True),
    Limit(
        "end of a range of `last_write`",
        "bytes",
        1,
        RANGE_END_OF_LAST_WRITE,
        mmsb.PageRangeError,
        lambda state, n: state.last_write("a", at=n - 1, length=1),
        told=False,
    ),
    Limit(
        "semirings of the merge pages of a State",
        "semirings",
        1,
        SEMIRINGS_MOST,
        mmsb.SemiringError,
        semirings,
        values=(1, 254, 255, 256),
        instead=True,
    ),
    Limit(
        "seq of a commit",
        "",
        1,
        checkpoint.SEQ_MOST,
        mmsb.StoreFullError,
        commit_number,
        values=(2, *(checkpoint.SEQ_MOST + n for n in (-1, 0, 1))),
        instead=True,
        told=False,
    ),
    Limit(
        "seq of a checkpoint",
        "",
        1,
        checkpoint.SEQ_MOST,
        mmsb.CorruptCheckpointError,
        checkpoint_of,
        values=(checkpoint.SEQ_MOST + 2, (1 << 64) - 1, checkpoint.SEQ_MOST - 1, checkpoint.SEQ_MOST),
        instead=True,
        told=False,
    ),
    Limit(
        "forks in a row",
        "",
        1,
        checkpoint.BRANCH_MOST,
        ValueError,
        branches,
        instead=True,
        values=(1, checkpoint.BRANCH_MOST - 1, checkpoint.BRANCH_MOST, checkpoint.BRANCH_MOST + 1),
    ),
    Limit("time of a commit", "ns since 1970; 0 counts as 1", 0, (1 << 64) - 1, ValueError, clock),
    *map(option, opening.BOUNDS),
    Limit("`anchor_key=` of `mmsb.open`", "bytes", 32, 32, ValueError, anchor_key),
    Limit(
        "threads of a policy",
        "threads",
        1,
        policies.THREADS_MOST,
        TypeError,
        lambda state, n: mmsb.open(policy=Parallel(threads=n)).close(),
    ),
    Limit("name of a State", "bytes of UTF-8", 1, arguments.STATE_NAME_BYTES_MOST, (ValueError, TypeError), named),
    Limit(
        "number of a group of users",
        "",
        0,
        groups.GID_MOST,
        ValueError,
        lambda state, n: mmsb.open(f"{os.environ['XDG_RUNTIME_DIR']}/group {next(counter)}", group=n).close(),
        values=(-1, groups.GID_MOST + 1, os.getgid()),
        instead=os.getuid() != 0,
        told=False,
    ),
    Limit(
        "`clients=` of `state.serve`",
        "clients",
        1,
        CLIENTS_MAX,
        ValueError,
        lambda state, n: state.serve(clients=n),
    ),
    Limit("clients where `clients=3`", "clients", 0, 3, mmsb.BusyError, clients, values=(0, 1, 2, 3, 4), instead=True),
    Limit(
        "`ring_bytes=` of `mmsb.attach`",
        "bytes, a power of two",
        messages.RING_BYTES_LEAST,
        messages.RING_BYTES_MOST,
        ValueError,
        ring_of,
        values=(
            0,
            2048,
            4096,
            8192,
            messages.RING_BYTES_MOST // 2,
            messages.RING_BYTES_MOST,
            messages.RING_BYTES_MOST * 2,
        ),
        instead=True,
    ),
    Limit(
        "a command through a ring of 4,096 bytes",
        "bytes, half of the ring",
        100,
        messages.RING_BYTES_LEAST // 2,
        mmsb.CommandSizeError,
        command_of,
        values=(100, 2047, 2048, 2049, 2050),
        instead=True,
    ),
)


def table() -> str:
    """The lines of docs/reference/limits.md."""
    lines = ["| what | least | most | unit | beyond it |", "| --- | --- | --- | --- | --- |"]
    for limit in LIMITS:
        errors = limit.error if isinstance(limit.error, tuple) else (limit.error,)
        names = ", ".join(f"`{error.__name__}`" for error in errors)
        lines.append(f"| {limit.what} | {limit.least:,} | {limit.most:,} | {limit.unit} | {names} |")
    return "\n".join(lines) + "\n"
