"""The pages that nodes lie in: which ones they are, and how they are read and written."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator

import mmsb
from mmsb.errors import PageNotFoundError
from myosotis import layout
from myosotis.errors import CorruptJournalError
from myosotis.graph import Node
from myosotis.mutations import SetField

RUNS_AT_FIRST = 8
PLACES_MOST = 1 << 16
# Nodes whose ids and pages go up together: first node id, first page id, how many.
Run = list[int]


class NodePages:
    """The nodes of a State, in runs. How many nodes the newest run has is not in the page of runs, but in the head."""

    def __init__(self, state: mmsb.State, open_nodes: int) -> None:
        """CorruptJournalError when the runs name pages that there cannot be."""
        self._state = state
        self._page_id = state.page(layout.NODES_PAGE).page_id
        runs = state.page(self._page_id).read()
        self._runs: list[Run] = [list(run) for run in layout.RUN.iter_unpack(runs) if any(run)]
        # Of nodes that were written: page, and where in it each field's value lies (layout.field_places).
        self._places: dict[int, tuple[int, dict[str, layout.Place]]] = {}
        self.set_open(open_nodes)

    @staticmethod
    def begin(batch: mmsb.Batch, nodes: Iterable[Node]) -> int:
        """Stages the page of runs and the pages of nodes. Returns how many nodes the newest run has."""
        page = batch.create_page(layout.RUN.size * RUNS_AT_FIRST, name=layout.NODES_PAGE)
        runs: list[Run] = []
        for node in nodes:
            _extend(runs, node.id, batch.create_page(data=layout.node_page(node)).page_id)
        data = _encode(runs)
        batch.resize(page, max(len(data), layout.RUN.size * RUNS_AT_FIRST))
        batch.write(page, data)
        return runs[-1][2] if runs else 0

    @property
    def runs(self) -> list[Run]:
        """The runs as they are."""
        return self._runs

    def set_open(self, count: int) -> None:
        """Sets how many nodes the newest run has. CorruptJournalError when there cannot be so many."""
        if self._runs:
            self._runs[-1][2] = count
        self._take(self._runs)
        if any(page + count > self._state.next_page_id for _, page, count in self._runs):
            path = self._state.path
            raise CorruptJournalError(
                f"The list of nodes in {path} names pages that do not exist. Recover the file.", path=path
            )

    def _take(self, runs: list[Run]) -> None:
        self._runs = runs
        self._sorted = sorted(runs)
        self._firsts = [run[0] for run in self._sorted]

    # ---- reading

    def page_of(self, node_id: int) -> int | None:
        """The page of a node, None when there is none."""
        place = bisect_right(self._firsts, node_id) - 1
        if place < 0:
            return None
        first, page, count = self._sorted[place]
        return page + node_id - first if node_id - first < count else None

    def ids(self) -> Iterator[int]:
        """The ids of all nodes, ascending, tombstones included."""
        for first, _, count in self._sorted:
            yield from range(first, first + count)

    def node(self, node_id: int, past: mmsb.PastState | None = None) -> Node | None:
        """A node as it is, or as it was; None when there is (or was) none. CorruptJournalError."""
        data = self.bytes_of(node_id, past)
        if data is None:
            return None
        node = layout.decode_node(data)
        if node.id != node_id:
            raise CorruptJournalError(
                f"The page of node {node_id} holds node {node.id}. Verify the file.", path=self._state.path
            )
        return node

    def bytes_of(self, node_id: int, past: mmsb.PastState | None = None) -> bytes | None:
        """The bytes of a node's page, None when there is (or was) no such node."""
        page_id = self.page_of(node_id)
        if page_id is None:
            return None
        try:
            return (self._state if past is None else past).page(page_id).read()
        except PageNotFoundError:
            return None

    def state_hash(self, past: mmsb.PastState | None = None) -> str:
        """The state hash of format v1, hexadecimal."""
        digest = hashlib.sha256()
        for node_id in self.ids():
            data = self.bytes_of(node_id, past)
            if data is not None:
                digest.update(layout.node_bytes(data))
        return digest.hexdigest()

    # ---- writing

    def stage(self, batch: mmsb.Batch, nodes: Iterable[Node]) -> list[Run]:
        """Stages the bytes of nodes that changed or are new. Returns the runs as they are after the batch."""
        runs = self._runs
        for node in nodes:
            page_id = self.page_of(node.id)
            if page_id is not None:
                self._stage_bytes(batch, page_id, node)
                continue
            if runs is self._runs:
                runs = [*runs[:-1], *(list(run) for run in runs[-1:])]
            _extend(runs, node.id, batch.create_page(data=layout.node_page(node)).page_id)
        if len(runs) != len(self._runs):
            self._stage_runs(batch, runs)
        return runs

    def _stage_bytes(self, batch: mmsb.Batch, page_id: int, node: Node) -> None:
        before = self._state.page(page_id).read()
        data = layout.node_page(node, len(before), before[0])
        if data == before:
            data = bytes((before[0] ^ 1,)) + before[1:]
        if len(data) != len(before):
            batch.resize(page_id, len(data))
        batch.write(page_id, data)
        if len(self._places) >= PLACES_MOST:
            self._places.clear()
        self._places[node.id] = page_id, layout.field_places(node)

    def _stage_runs(self, batch: mmsb.Batch, runs: list[Run]) -> None:
        """Stages the runs from the last one that was known on: those before it do not change any more."""
        first = max(len(self._runs) - 1, 0)
        needed = len(runs) * layout.RUN.size
        if needed > self._state.page(self._page_id).size:
            batch.resize(self._page_id, 2 * needed)
        batch.write(self._page_id, _encode(runs[first:]), first * layout.RUN.size)

    def place_of(self, change: SetField) -> tuple[int, layout.Place] | None:
        """The page, and the place in it, of the value that is about to change; None where that is not known."""
        known = self._places.get(change.id)
        if known is None:
            return None
        place = known[1].get(change.key)
        return None if place is None else (known[0], place)

    def committed(self, runs: list[Run]) -> None:
        """What stage() gave is so from now on."""
        if runs is not self._runs:
            self._take(runs)

    def failed(self) -> None:
        """What was staged did not come to be."""
        self._places.clear()

    def erase(self, batch: mmsb.Batch, node_ids: Collection[int]) -> int:
        """Stages that nodes are not there, now and at any time before. Returns how many the newest run has."""
        runs: list[Run] = []
        for first, page, count in self._runs:
            for place in range(count):
                if first + place not in node_ids:
                    _extend(runs, first + place, page + place)
        data = _encode(runs).ljust(layout.RUN.size, b"\0")
        batch.resize(self._page_id, len(data))
        batch.write(self._page_id, data)
        self._take(runs)
        return runs[-1][2] if runs else 0


def _encode(runs: Iterable[Run]) -> bytes:
    return b"".join(layout.RUN.pack(*run) for run in runs)


def _extend(runs: list[Run], node_id: int, page_id: int) -> None:
    """Adds a node to the newest run, or begins another one with it."""
    if runs and (node_id, page_id) == (runs[-1][0] + runs[-1][2], runs[-1][1] + runs[-1][2]):
        runs[-1][2] += 1
    else:
        runs.append([node_id, page_id, 1])
